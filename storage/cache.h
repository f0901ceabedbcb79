/* cache.h - a node's cache of target and bundle objects, keyed by the SHA-256 of their bytes, shared by all worker processes
 * that use the same directory.
 *
 *   CACHE_DIR/objects/<aa>/<sha256>.blob/data    the bytes as stored
 *   CACHE_DIR/objects/<aa>/<sha256>.tree/data/   the same unpacked (targets of kind tree, bundles)
 *   CACHE_DIR/locks/  tmp/  trash/  index        see cache_parts.h and cache_index.h
 *
 * Fill: exclusive lock on the entry's fill lock (it never waits for users of the entry), charge the entry and make room,
 * download into tmp/, verify the digest, fsync, rename, fsync the directories: one download per node even with many processes;
 * who waits for it waits for as long as the one who downloads lives, and takes over its error. A crash leaves nothing but tmp/,
 * which the next start takes back. Use: a shared lock (the pin) held through an open descriptor for the run; it dies with the
 * process. Evict: least recently used first, only what can be locked exclusively without waiting; renamed to trash/, deleted
 * after all locks are released. What does not fit is let through: an entry beyond the size of the cache, or beside entries that
 * are all in use, is filled as long as the disk keeps its floors, and goes with its last user. Bytes are served only if they were
 * verified in this boot: after a reboot, blobs are verified at their first use and trees made again.
 * All calls block; any thread; several processes.
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
	int64_t max_bytes;       /* CACHE_MAX_SIZE; eviction from 95 % down to 85 % */
	int64_t ttl_ms;          /* CACHE_TTL: unused for longer: evicted by the sweep */
	int64_t min_free_bytes;  /* CACHE_MIN_FREE of the file system: evict, then refuse (ERR_RETRY) below it */
	int64_t min_free_inodes; /* CACHE_MIN_FREE_INODES likewise */
	uint32_t uid, gid;       /* owner of extracted trees when we are root */
	struct extract_limits limits;
};

struct cache_want {
	struct object_store *store;
	const char *bucket, *key;
	const char *sha256;   /* 64 hex digits */
	int64_t size_bytes;   /* reserved before the download; what comes must have it */
	bool tree;            /* the unpacked tree in place of the bytes */
};

/* Opens (creating, 0700) and takes back what a crash left. NULL with *e if the directory cannot be used: ERR_INVALID, ERR_DENIED
 * (parts of it belong to someone else), ERR_IO, ERR_RETRY (no space). NULL-safe free. */
struct cache *cache_open(const struct cache_config *c, struct err *e);
void cache_close(struct cache *c);

/* The same for tools: nothing is made (ERR_NOTFOUND where there is no cache), and limits are those that the worker which
 * opened it last noted there. As root it goes on as the directory's owner, in this process and for good; else only the owner is
 * let in (ERR_DENIED). */
struct cache *cache_open_existing(const char *dir, struct err *e);

/* Pins the entry, filling it first where needed (waiting for another process that fills it). Returns 0 and *ret_pin; ERR_INVALID
 * (digest or size differs from what was promised after one fresh download, or the archive is refused), ERR_TOOBIG (over a limit
 * of extraction), ERR_RETRY (store away, disk full: another host may be able), ERR_NOTFOUND (no such object), ERR_DENIED,
 * ERR_TIMEOUT, ERR_CANCELED, ERR_IO. */
int cache_get(struct cache *c, const struct cache_want *w, const atomic_bool *stop, struct cache_pin **ret_pin, struct err *e);

/* Absolute path of the pinned entry: its bytes (NULL if the tree was asked for), its unpacked tree (NULL if not). Valid until
 * released. */
const char *cache_pin_blob(const struct cache_pin *p);
const char *cache_pin_tree(const struct cache_pin *p);

/* Whether cache_get had to download. */
bool cache_pin_was_miss(const struct cache_pin *p);

/* The pin's descriptor (shared lock), for a process that must keep the entry alive longer than we live. */
int cache_pin_fd(const struct cache_pin *p);

/* Lets the entry go; one that the cache has no room for is removed with its last user. NULL is allowed. */
void cache_release(struct cache_pin *p);

struct cache_stats {
	int64_t bytes, entries;            /* of the directory, all processes; reservations included */
	int64_t transient_bytes;           /* beyond it: let through, gone with their users */
	int64_t hits, misses, evictions, evicted_bytes, damaged; /* all processes, since the index was made */
	int64_t max_bytes, ttl_ms, min_free_bytes, min_free_inodes;
	int64_t free_bytes, free_inodes;   /* of the file system */
	int64_t pinned, pinned_bytes;      /* pins of this process, and what they hold (twice what two hold) */
	int64_t swept_real_ms;             /* 0: never */
	uint64_t generation;               /* another number when entries or their order changed */
	char id[40];                       /* of the directory, the same for all processes of the machine */
};

/* Evicts what is over TTL or over size or below a floor, empties the trash, drops what nobody needs. */
int cache_sweep(struct cache *c, struct err *e);

/* Empties the trash and sweeps if the last sweep, by whatever process, is older than every_ms. */
int cache_sweep_if_due(struct cache *c, int64_t every_ms, struct err *e);

/* The process is about to end: deleting stops after the next entry, here and in other threads, for good. */
void cache_hurry(struct cache *c);

/* The numbers as they are now, zero where they cannot be read. Cheap. */
void cache_stats(struct cache *c, struct cache_stats *ret_stats);

/* The first 16 hex digits of up to n different entries, the most recently used first; returns how many. */
size_t cache_holds(struct cache *c, uint64_t *keys, size_t n);

/* --- for tools --- */

struct cache_entry {
	char sha256[65];
	bool tree;
	int64_t bytes, inodes, used_real_ms;
	bool in_use, filling, transient;
	bool verified; /* in this boot */
};

/* Calls each for every entry, the most recently used first, until it returns non-zero, which is returned. */
int cache_list(struct cache *c, int (*each)(void *arg, const struct cache_entry *entry), void *arg, struct err *e);

/* Removes the entries whose digest begins with prefix (both kinds). Returns how many, ERR_NOTFOUND (none), ERR_INVALID (no hex,
 * shorter than 6, or of several digests), ERR_CONFLICT (in use: nothing more was removed), ERR_IO. */
int cache_remove(struct cache *c, const char *prefix, struct err *e);

enum cache_verdict {
	CACHE_SOUND,     /* the bytes have their digest; a tree still has the files and bytes that were unpacked */
	CACHE_DAMAGED,   /* they have not: removed, or in use and refused from now on */
	CACHE_SKIPPED,   /* it is being filled, or of an earlier boot and made again at its next use */
	CACHE_FOREIGN,   /* a file below objects/ that is none of ours: left alone */
};

/* Reads everything and makes the index anew. each gets the name ("<sha256>.blob") and the verdict. Returns the number of damaged
 * entries, or ERR_IO, ERR_CANCELED. */
int cache_verify(struct cache *c, void (*each)(void *arg, const char *name, enum cache_verdict verdict), void *arg,
    const atomic_bool *stop, struct err *e);

#endif
