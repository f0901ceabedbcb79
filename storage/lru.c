#include "storage/lru.h"

#include <stdlib.h>
#include <string.h>

static int
by_use(const void *a, const void *b)
{
	const struct lru_item *x = a, *y = b;

	if (x->used_real_ms != y->used_real_ms)
		return x->used_real_ms < y->used_real_ms ? -1 : 1;
	return strcmp(x->id, y->id);
}

int64_t
lru_evict(struct lru_item *items, size_t n, const struct lru_goal *goal,
    bool (*evict)(void *arg, const struct lru_item *item), void *arg)
{
	int64_t freed = 0;

	if (n > 0)
		qsort(items, n, sizeof(*items), by_use);
	for (size_t i = 0; i < n; i++) {
		if (goal->total_bytes - freed <= goal->target_bytes && items[i].used_real_ms >= goal->expired_before_real_ms)
			break;
		if (evict(arg, &items[i]))
			freed += items[i].bytes;
	}
	return freed;
}
