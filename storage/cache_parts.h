/* cache_parts.h - what the files cache*.c share; nobody else includes it.
 *
 * Two locks an entry (flock on files, so they die with their holder): locks/<sha256> is held shared by every user, the one
 * who fills included, and taken exclusively only to evict; locks/<sha256>.fill is held by the one who fills. Nobody ever
 * changes a lock from shared to exclusive. A lock file is removed only by who holds it exclusively, and who got a lock looks
 * whether its file is still there.
 */
#ifndef STORAGE_CACHE_PARTS_H
#define STORAGE_CACHE_PARTS_H

#include "storage/cache.h"

#define CACHE_SHA_LEN 65
#define CACHE_NAME_LEN 96   /* of a path inside the cache directory */
#define CACHE_HIGH_PERCENT 95
#define CACHE_LOW_PERCENT 85
#define CACHE_BOOT_LEN 37

struct cache {
	char *dir;
	int dir_fd;
	struct cache_config config; /* dir is NULL here */
	char boot_id[CACHE_BOOT_LEN];
	atomic_llong hits, misses, evictions, pinned;
};

struct cache_pin {
	struct cache *cache;
	int lock_fd;
	bool miss;
	char *blob, *tree;
};

/* Takes the lock file `name` below locks/ (LOCK_SH or LOCK_EX). wait: looks again until it gets it or *stop. Returns the
 * descriptor, ERR_CONFLICT (not wait: held by someone else), ERR_CANCELED, ERR_IO. */
int cache_lock(struct cache *c, const char *name, int how, bool wait, const atomic_bool *stop, struct err *e);

/* Path of an entry's file below the cache directory; what may be "" for the entry's directory itself. Returns out. */
const char *cache_entry_path(const char *sha256, const char *what, char out[CACHE_NAME_LEN]);

/* Whether the entry's bytes, or its tree, are complete. */
bool cache_has_blob(struct cache *c, const char *sha256, int64_t size_bytes);
bool cache_has_tree(struct cache *c, const char *sha256);

/* Reads tree.ok: the boot in which the tree was made, and what it charges. False if there is none. */
bool cache_read_mark(struct cache *c, const char *sha256, char boot_id[CACHE_BOOT_LEN], int64_t *ret_bytes);

/* Makes what is missing of the entry; the caller holds its pin and its fill lock. As cache_get. */
int cache_fill(struct cache *c, const struct cache_want *w, const atomic_bool *stop, struct err *e);

/* Makes room for need_bytes more (size and free space of the disk), evicting as far as needed. hard: the disk was found full,
 * go down to the low mark. Returns 0, ERR_RETRY (what is left is in use), ERR_IO. */
int cache_make_room(struct cache *c, int64_t need_bytes, bool hard, struct err *e);

/* Opens tmp/<name> for need_bytes, all of them taken from the disk at once, so that the next one who makes room sees them.
 * Returns the descriptor or as cache_make_room. */
int cache_reserve(struct cache *c, const char *name, int64_t need_bytes, struct err *e);

/* Removes what dead processes left in tmp/, and the trash. */
int cache_sweep_tmp(struct cache *c, struct err *e);

#endif
