/* cache.h - a node's cache of target and bundle objects, keyed by the SHA-256 of their bytes, shared by all worker processes
 * that use the same directory.
 *
 *   CACHE_DIR/objects/<aa>/<sha256>/blob       the bytes as stored
 *   CACHE_DIR/objects/<aa>/<sha256>/tree/      unpacked (targets of kind tree, bundles); complete when tree.ok is there
 *   CACHE_DIR/locks/<sha256>  tmp/  trash/     see below
 *
 * Fill: exclusive lock on the entry's fill lock (locks/<sha256>.fill; it never waits for users of the entry), download into
 * tmp/, verify the digest, fsync, rename, fsync the directory: one download per node even with several processes; a crash
 * leaves nothing but tmp/ that the next start sweeps. Use: a shared lock (the pin) held through an open descriptor for the
 * run; it dies with the process. Evict: only entries whose lock can be taken exclusively without waiting, least recently
 * touched first (mtime of the entry's `used` file), renamed to trash/, deleted after the lock is released. Trees are not
 * fsynced: they carry the boot id and are made again after another boot. All calls block; any thread; several processes.
 */
#ifndef STORAGE_CACHE_H
#define STORAGE_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "storage/extract.h"
#include "storage/object_store.h"

struct cache;
struct cache_pin;

struct cache_config { /* texts are copied */
	const char *dir;
	int64_t max_bytes;      /* CACHE_MAX_SIZE; eviction from 95 % down to 85 % */
	int64_t ttl_ms;         /* CACHE_TTL: unused for longer: evicted by the sweep */
	int64_t min_free_bytes; /* of the file system: evict, then refuse (ERR_RETRY) below it */
	uint32_t uid, gid;      /* owner of extracted trees when we are root */
	struct extract_limits limits;
};

struct cache_want {
	struct object_store *store;
	const char *bucket, *key;
	const char *sha256;   /* 64 hex digits */
	int64_t size_bytes;   /* reserved before the download; what comes must have it */
	bool tree;            /* also unpack */
};

/* Opens (creating, 0700) and sweeps what a crash left. NULL with *e if the directory cannot be used. NULL-safe free. */
struct cache *cache_open(const struct cache_config *c, struct err *e);
void cache_close(struct cache *c);

/* Pins the entry, filling it first where needed (waiting for another process that fills it). Returns 0 and *ret_pin; ERR_INVALID
 * (digest or size differs from what was promised after one fresh download, or the archive is refused), ERR_TOOBIG (larger
 * than the cache can hold), ERR_RETRY (store away, disk full), ERR_NOTFOUND (no such object), ERR_CANCELED, ERR_IO. */
int cache_get(struct cache *c, const struct cache_want *w, const atomic_bool *stop, struct cache_pin **ret_pin, struct err *e);

/* Absolute paths of the pinned entry: its bytes; its unpacked tree (NULL unless asked for). Valid until released. */
const char *cache_pin_blob(const struct cache_pin *p);
const char *cache_pin_tree(const struct cache_pin *p);

/* Whether cache_get had to download. */
bool cache_pin_was_miss(const struct cache_pin *p);

/* The pin's descriptor (shared lock), for a process that must keep the entry alive longer than we live. */
int cache_pin_fd(const struct cache_pin *p);

/* Lets the entry go. NULL is allowed. */
void cache_release(struct cache_pin *p);

struct cache_stats {
	int64_t bytes, entries;                    /* of the directory: all processes */
	int64_t pinned, hits, misses, evictions; /* of this process */
};

/* Evicts what is over TTL or over size, empties the trash. Also run inside cache_get when space is short. */
int cache_sweep(struct cache *c, struct err *e);
void cache_stats(struct cache *c, struct cache_stats *ret_stats);

#endif
