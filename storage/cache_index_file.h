/* cache_index_file.h - the records of CACHE_DIR/index, native byte order: it never leaves its machine, and is made again after a
 * reboot. To change a record, change INDEX_MAGIC: an index of another format is made again as well. */
#ifndef STORAGE_CACHE_INDEX_FILE_H
#define STORAGE_CACHE_INDEX_FILE_H

#include "storage/cache_index.h"

#define INDEX_MAGIC "DRVIDX1"
#define INDEX_HEADER_BYTES 512
#define INDEX_CAP_MIN 1024u
#define INDEX_CAP_MAX (1u << 22) /* 4 million entries, 336 MiB */

struct index_header {
	char magic[8];
	uint32_t dirty, cap, n; /* slots that there are, and that are used */
	uint32_t free, oldest, newest; /* numbers of slots, from 1; 0: none */
	char boot_id[40];
	uint64_t generation;
	int64_t bytes, inodes, transient_bytes, transient_inodes, filling;
	struct index_counts counts;
	struct index_limits limits;
	int64_t swept_real_ms;
	uint64_t checksum; /* of all before it */
};

_Static_assert(sizeof(struct index_header) <= INDEX_HEADER_BYTES, "the header has its place");

struct index_slot {
	uint8_t sha[32];
	uint8_t used, tree, flags, spare;
	uint32_t next; /* in its bucket, or in the list of free slots */
	uint32_t older, newer;
	int64_t bytes, inodes, used_real_ms;
};

struct index_found { /* a slot, and where it hangs */
	uint32_t no, before; /* before: in the bucket's chain; 0: the bucket itself */
	struct index_slot slot;
};

/* What follows is called under the file's lock. Errors: ERR_IO, ERR_RETRY (no space), and ERR_PROTO: the file is broken, and has
 * to be made anew. */

/* "WHAT CACHE_DIR/index: errno's text". Returns ERR_RETRY for a full disk, else ERR_IO. */
int index_io_error(struct cache *c, const char *what, struct err *e);

/* Reads the header; false if the file cannot be trusted: broken, dirty, of another boot, too short. *h has what was read. */
bool index_header_load(struct cache *c, struct index_header *h, int64_t file_bytes);
int index_header_store(struct cache *c, struct index_header *h, struct err *e);

/* Whether its numbers are what was once written. */
bool index_header_sound(const struct index_header *h);

/* Around the writes of one change, so that who dies in between leaves a file that is not trusted. */
int index_change_begin(struct cache *c, struct index_header *h, struct err *e);
int index_change_end(struct cache *c, struct index_header *h, struct err *e);

/* Lays n items (oldest first) out anew in a file of cap slots; the header's counts and limits stay. */
int index_write_all(struct cache *c, struct index_header *h, const struct index_item *items, uint32_t n, uint32_t cap, struct err *e);

/* All slots from the oldest on, as items; there is room for h->n. */
int index_load_all(struct cache *c, const struct index_header *h, struct index_item *items, uint32_t *ret_n, struct err *e);

/* One slot by its number; as others see it. */
int index_slot_load(struct cache *c, const struct index_header *h, uint32_t no, struct index_slot *s, struct err *e);
int index_slot_store(struct cache *c, const struct index_header *h, uint32_t no, const struct index_slot *s, struct err *e);
void index_slot_describe(struct index_item *item, uint32_t no, const struct index_slot *s);

/* One slot by name. ERR_NOTFOUND leaves f->slot with the key alone, for index_slot_take. */
int index_slot_find(struct cache *c, const struct index_header *h, const char *name, struct index_found *f, struct err *e);

/* Takes a free slot (h->free is not 0) into its name's chain; f->slot is still to be stored. And the way back, out of the list of
 * use as well. */
int index_slot_take(struct cache *c, struct index_header *h, struct index_found *f, struct err *e);
int index_slot_free(struct cache *c, struct index_header *h, const struct index_found *f, struct err *e);

/* Adds (sign 1) or takes away (-1) what the slot is charged. */
void index_slot_count(struct index_header *h, const struct index_slot *s, int sign);

/* Out of the list of use, and into it at the young or old end; s is still to be stored. */
int index_use_unlink(struct cache *c, struct index_header *h, const struct index_slot *s, struct err *e);
int index_use_link(struct cache *c, struct index_header *h, uint32_t no, struct index_slot *s, bool young, struct err *e);

/* --- cache_scan.c --- */

/* Walks the directory: all entries and fills under way, the longest unused first; the caller frees *ret_items. ERR_IO. */
int index_scan(struct cache *c, struct index_item **ret_items, size_t *ret_n, struct err *e);

#endif
