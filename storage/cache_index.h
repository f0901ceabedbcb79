/* cache_index.h - the account of a cache directory: which entries there are, what each is charged, and who was used last.
 * Only the files cache*.c include it.
 *
 * CACHE_DIR/index is a file of fixed records, shared by all processes: a header, hash buckets, and slots that are linked in the
 * order of use. Every operation takes the file's lock, does a bounded number of reads and writes, and lets it go, so that
 * evicting one entry costs the same among a thousand and among a hundred thousand.
 *
 * The directory is the truth and the index is made from it again whenever it cannot be trusted:
 *   - the header's checksum, version or size do not fit (missing, truncated, written over);
 *   - it is marked dirty: a process died in the middle of a change (the mark is written before, taken away after it);
 *   - it is of another boot: what a power loss left of it means nothing.
 * Invariants while it is clean: bytes and inodes of the header are the sums over its slots (those marked CACHE_TRANSIENT apart);
 * each used slot is in one bucket's chain and in the list of use, once; an entry has its slot before its first byte is written,
 * and loses it only after it has left objects/. So an entry without a slot exists only while the index is being made, and a
 * slot without an entry is a fill under way or what a dead one left, which whoever gets its lock takes back.
 */
#ifndef STORAGE_CACHE_INDEX_H
#define STORAGE_CACHE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct cache;

#define CACHE_ENTRY_LEN 72 /* "<64 hex digits>.blob" or ".tree", NUL */

enum { /* of a slot */
	CACHE_FILLING = 1,   /* reserved; not published yet */
	CACHE_TRANSIENT = 2, /* beyond what the cache may hold: goes when its last user is gone */
};

struct index_item { /* a slot as others see it */
	char name[CACHE_ENTRY_LEN];
	uint32_t no; /* of the slot */
	unsigned flags;
	int64_t bytes, inodes, used_real_ms;
};

struct index_counts { /* since the index was made */
	int64_t hits, misses, evictions, evicted_bytes, damaged;
};

struct index_limits { /* of the worker that opened it last: for tools that have no settings of their own */
	int64_t max_bytes, ttl_ms, min_free_bytes, min_free_inodes;
};

struct index_sums {
	int64_t entries, bytes, inodes;
	int64_t filling; /* slots with CACHE_FILLING */
	int64_t transient_bytes, transient_inodes;
	struct index_counts counts;
	struct index_limits limits;
	int64_t swept_real_ms; /* last sweep of any process; 0: none */
	uint64_t generation;   /* another number after each change of membership or order */
};

/* Opens the index, making it where it is not to be trusted; limits (NULL: leave them) are noted in it. ERR_IO, ERR_RETRY (no
 * space). index_close takes half-open ones. */
int index_open(struct cache *c, const struct index_limits *limits, struct err *e);
void index_close(struct cache *c);

/* Makes it from the directory again, now. ERR_IO, ERR_RETRY. */
int index_rebuild(struct cache *c, struct err *e);

/* The header's numbers. ERR_IO, ERR_RETRY. */
int index_sums(struct cache *c, struct index_sums *ret, struct err *e);

/* Charges an entry, as its most recent use: a new slot, or other numbers for its slot (whose time of use stays if `keep_place`).
 * A transient one goes to the old end. ERR_IO, ERR_RETRY. */
int index_charge(struct cache *c, const char *name, int64_t bytes, int64_t inodes, unsigned flags, bool keep_place, struct err *e);

/* Forgets an entry; one that has no slot is fine. evict (may be NULL) takes its files away and makes it count as an eviction: it
 * is called in the middle of the change, so that whoever dies there leaves an index that is made again. Its errors are ours. */
int index_drop(struct cache *c, const char *name, int (*evict)(struct cache *c, const char *name, struct err *e), struct err *e);

/* One slot by name: ERR_NOTFOUND without one. */
int index_find(struct cache *c, const char *name, struct index_item *ret, struct err *e);

/* Notes a use: counts a hit or a miss (INDEX_TOUCH: neither), and moves the slot to the young end if its last use is a minute away
 * (INDEX_IN_USE: always). *ret_moved (may be NULL): the entry's own clock should be set as well. ERR_NOTFOUND without a slot. */
enum index_use { INDEX_HIT, INDEX_MISS, INDEX_TOUCH, INDEX_IN_USE };
int index_used(struct cache *c, const char *name, enum index_use use, bool *ret_moved, struct err *e);

/* The slot after `after` towards younger ones (0: the oldest). ERR_NOTFOUND at the end, or if `after` is no slot any more. */
int index_younger(struct cache *c, uint32_t after, struct index_item *ret, struct err *e);

/* Up to n slots, the youngest first; returns how many, or ERR_*. */
long index_youngest(struct cache *c, struct index_item *items, size_t n, struct err *e);

/* Notes damage that was found, or that a sweep was done. */
void index_note_damage(struct cache *c);
void index_note_sweep(struct cache *c, int64_t now_real_ms);

#endif
