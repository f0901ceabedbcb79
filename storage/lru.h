/* lru.h - how much of a cache has to go. Pure: no clock, no files. Who goes first is the index's order (cache_index.h). */
#ifndef STORAGE_LRU_H
#define STORAGE_LRU_H

#include <stdbool.h>
#include <stdint.h>

#define LRU_HIGH_PERCENT 95 /* of max_bytes: above it eviction starts … */
#define LRU_LOW_PERCENT 85  /* … and ends here */

struct lru_state {
	int64_t total_bytes, max_bytes;       /* what is charged, reservations included; CACHE_MAX_SIZE */
	int64_t free_bytes, min_free_bytes;   /* of the file system; what is to stay free */
	int64_t free_inodes, min_free_inodes; /* INT64_MAX free: the file system does not count them */
};

struct lru_lack { /* what has to go; never negative */
	int64_t bytes, inodes;
};

/* What must be evicted before need_bytes and need_inodes more may come (0: only the marks and floors). What is larger than the
 * whole cache does not push others out for its size, only for the floors. hard: the disk was found full in spite of what it says
 * of itself: down to the low mark, and at least by what is needed. */
struct lru_lack lru_lack(const struct lru_state *s, int64_t need_bytes, int64_t need_inodes, bool hard);

#endif
