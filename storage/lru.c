#include "storage/lru.h"

static int64_t
at_least(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* How much is missing of a floor. INT64_MAX free: nobody counts; need is below 0 where an entry becomes smaller. */
static int64_t
below_floor(int64_t free, int64_t floor, int64_t need)
{
	return free == INT64_MAX ? 0 : at_least(0, floor - free + need);
}

struct lru_lack
lru_lack(const struct lru_state *s, int64_t need_bytes, int64_t need_inodes, bool hard)
{
	int64_t high = s->max_bytes / 100 * LRU_HIGH_PERCENT, low = s->max_bytes / 100 * LRU_LOW_PERCENT;
	int64_t counted = need_bytes > s->max_bytes ? 0 : need_bytes;
	struct lru_lack lack = {0};

	if (hard || s->total_bytes + counted > high)
		lack.bytes = at_least(0, s->total_bytes + counted - low);
	if (hard)
		lack.bytes = at_least(lack.bytes, need_bytes);
	lack.bytes = at_least(lack.bytes, below_floor(s->free_bytes, s->min_free_bytes, need_bytes));
	lack.inodes = below_floor(s->free_inodes, s->min_free_inodes, need_inodes);
	return lack;
}
