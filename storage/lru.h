/* lru.h - which entries of a cache go first. Pure: no clock, no files. */
#ifndef STORAGE_LRU_H
#define STORAGE_LRU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lru_item {
	char id[65];
	int64_t bytes;
	int64_t used_real_ms; /* last use */
};

struct lru_goal {
	int64_t total_bytes;           /* of everything, at the start */
	int64_t target_bytes;          /* stop when the total is at or below it */
	int64_t expired_before_real_ms; /* older ones go in any case */
};

/* Sorts items by last use (ties by id) and offers them to evict, oldest first, while the goal is not reached; evict says whether
 * it let the item go (one in use stays). Returns the bytes that were let go. */
int64_t lru_evict(struct lru_item *items, size_t n, const struct lru_goal *goal,
    bool (*evict)(void *arg, const struct lru_item *item), void *arg);

#endif
