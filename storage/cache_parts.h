/* cache_parts.h - what the files cache*.c share; nobody else includes it.
 *
 * An entry is `<sha256>.blob` or `<sha256>.tree`, a directory below objects/ with
 *   data   the bytes, or the unpacked tree
 *   mark   "<boot id> <bytes> <inodes> <apparent bytes>": the boot in which data was verified or made, what it is charged, and
 *          for a tree what its files add up to. Its mtime is the time of the last use.
 * An entry is served only under a mark of this boot.
 *
 * Two locks an entry (flock on files, so they die with their holder): locks/<entry> is held shared by every user, the one
 * who fills included, and taken exclusively only to evict; locks/<entry>.fill is held by the one who fills. Nobody ever
 * changes a lock from shared to exclusive. A lock file is removed only by who holds the entry's lock exclusively, and who got a
 * lock looks whether its file is still there. Order: tree, tree.fill, blob, blob.fill, evict, index; each may be left out, none
 * taken backwards but by trying.
 */
#ifndef STORAGE_CACHE_PARTS_H
#define STORAGE_CACHE_PARTS_H

#include <pthread.h>

#include "storage/cache.h"
#include "storage/cache_index.h"

#define CACHE_SHA_LEN 65
#define CACHE_NAME_LEN 112 /* of a path inside the cache directory */
#define CACHE_BOOT_LEN 37
#define CACHE_ENTRY_INODES 3 /* its directory, data and mark */
#define CACHE_BLOCK_BYTES 4096

struct cache {
	char *dir;
	int dir_fd;
	struct cache_config config; /* dir is NULL here */
	char boot_id[CACHE_BOOT_LEN];
	atomic_llong pinned, pinned_bytes;
	atomic_bool hurry;
	int index_fd;
	pthread_mutex_t index_lock; /* among our threads; among processes it is flock on index_fd */
};

struct cache_pin {
	struct cache *cache;
	char name[CACHE_ENTRY_LEN];
	int lock_fd;
	int64_t bytes;
	bool miss;
	char *path;
};

struct cache_mark {
	char boot_id[CACHE_BOOT_LEN];
	int64_t bytes, inodes, apparent_bytes;
};

/* "<sha256>.blob" or "<sha256>.tree". Returns out. */
const char *cache_entry_name(const char *sha256, bool tree, char out[CACHE_ENTRY_LEN]);

/* Whether a name in a directory of the cache is an entry's; *ret_tree may be NULL. */
bool cache_entry_valid(const char *name, bool *ret_tree);

/* Path of an entry's file below the cache directory; what may be "" for the entry's directory itself. Returns out. */
const char *cache_entry_path(const char *name, const char *what, char out[CACHE_NAME_LEN]);

/* Path of what the entry is made of while it is filled. Returns out. */
const char *cache_tmp_path(const char *name, char out[CACHE_NAME_LEN]);

/* Takes the lock file `name` below locks/ (LOCK_SH or LOCK_EX). wait: looks again until it gets it or *stop. Returns the
 * descriptor, ERR_CONFLICT (not wait: held by someone else), ERR_CANCELED, ERR_RETRY (no space), ERR_IO. */
int cache_lock(struct cache *c, const char *name, int how, bool wait, const atomic_bool *stop, struct err *e);

/* The same, waiting; on a full disk one emergency eviction makes room for the lock's file. */
int cache_lock_entry(struct cache *c, const char *name, int how, const atomic_bool *stop, struct err *e);

/* 0 if the entry may be served as it is: a mark of this boot, and data of the right kind (and size, if >= 0); ERR_NOTFOUND if
 * not (*e untouched). Where that cannot be told, what cache_read_mark returns: others may be using it, so it must not be made
 * anew. */
int cache_complete(struct cache *c, const char *name, int64_t size_bytes, struct err *e);

/* Reads and writes the mark. ERR_NOTFOUND (*e untouched): there is none, or none that makes sense. Writing is not durable: a mark
 * that is lost is made again. ERR_RETRY (no space, no descriptor left), ERR_IO (writing). */
int cache_read_mark(struct cache *c, const char *name, struct cache_mark *ret, struct err *e);
int cache_write_mark(struct cache *c, const char *name, const struct cache_mark *m, struct err *e);

/* Adds up blocks and inodes below the cache's `path`, links once each; nothing there adds nothing. */
struct cache_measure {
	int64_t bytes, inodes, apparent_bytes;
};
void cache_measure(struct cache *c, const char *path, struct cache_measure *sum);

/* 0 if what can be read at fd is what a blob's name says. ERR_INVALID: it is not, or cannot be read; ERR_CANCELED. */
int cache_check_blob(int fd, const char *name, const atomic_bool *stop, struct err *e);

/* Calls each for every name in path (below the cache), "." and ".." left out. A directory that is gone has no names. */
int cache_each_name(struct cache *c, const char *path, int (*each)(struct cache *c, const char *name, void *arg), void *arg,
    struct err *e);

/* Makes what is missing of the entry; the caller holds its pin and its fill lock. *ret_miss: bytes were fetched. As cache_get. */
int cache_fill_blob(struct cache *c, const char *name, const struct cache_want *w, const atomic_bool *stop, bool *ret_miss,
    struct err *e);
int cache_fill_tree(struct cache *c, const char *name, const struct cache_want *w, const atomic_bool *stop, bool *ret_miss,
    struct err *e);

/* Pins an entry whatever its kind, filling it where needed. As cache_get. */
int cache_pin_entry(struct cache *c, const struct cache_want *w, bool tree, const atomic_bool *stop, struct cache_pin **ret_pin,
    struct err *e);

/* Charges the entry need_bytes and need_inodes altogether, making room first for what that is more than now. What does not fit
 * beside the entries in use becomes transient. Returns 0, ERR_RETRY (the disk has no room above the floors), ERR_IO. */
int cache_reserve(struct cache *c, const char *name, int64_t need_bytes, int64_t need_inodes, struct err *e);

/* The same, and opens tmp/<name> with need_bytes taken from the disk. Returns the descriptor, or as cache_reserve. */
int cache_reserve_file(struct cache *c, const char *name, int64_t need_bytes, struct err *e);

/* The disk was found full: evicts down to the low mark and by at least need_bytes, and empties the trash. */
int cache_emergency(struct cache *c, int64_t need_bytes, struct err *e);

/* Puts a file or tree of the entry (or of tmp/) aside under a name of its own in trash/. 0 also if it is not there. */
int cache_discard(struct cache *c, const char *path, struct err *e);

/* Gives up a fill: what is in tmp/ and, unless it is published, the entry's charge. */
void cache_abandon(struct cache *c, const char *name);

/* Takes the entry out of service if nobody uses it. 0, ERR_CONFLICT (in use), ERR_IO. */
int cache_evict(struct cache *c, const char *name, struct err *e);

/* Takes back what dead processes left in tmp/; deletes what is in trash/ (without any lock). */
int cache_sweep_tmp(struct cache *c, struct err *e);
int cache_empty_trash(struct cache *c, struct err *e);

#endif
