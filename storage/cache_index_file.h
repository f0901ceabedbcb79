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

/* Walks the directory: all entries and fills under way, the longest unused first; the caller frees *ret_items. ERR_IO. */
int index_scan(struct cache *c, struct index_item **ret_items, size_t *ret_n, struct err *e);

#endif
