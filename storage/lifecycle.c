#include "storage/lifecycle.h"

enum lifecycle_fate
lifecycle_fate(int64_t now_real_ms, int64_t expires_real_ms, int64_t retention_ms, bool needed)
{
	int64_t ahead_ms = retention_ms / 2 < LIFECYCLE_DAY_MS ? retention_ms / 2 : LIFECYCLE_DAY_MS;

	if (needed)
		return expires_real_ms - now_real_ms < ahead_ms ? LIFECYCLE_RENEW : LIFECYCLE_KEEP;
	return expires_real_ms < now_real_ms ? LIFECYCLE_END : LIFECYCLE_KEEP;
}

unsigned
lifecycle_rule_days(int64_t promised_ms)
{
	return (unsigned)((promised_ms + LIFECYCLE_DAY_MS - 1) / LIFECYCLE_DAY_MS) + 1;
}

int64_t
lifecycle_rule_fires_real_ms(int64_t modified_real_ms, unsigned days)
{
	int64_t after_ms = modified_real_ms + ((int64_t)days + 1) * LIFECYCLE_DAY_MS;

	return after_ms - after_ms % LIFECYCLE_DAY_MS;
}

bool
lifecycle_orphaned(int64_t now_real_ms, int64_t modified_real_ms, int64_t grace_ms)
{
	return now_real_ms - modified_real_ms >= grace_ms;
}
