#include "base/retry.h"

#include <assert.h>

bool
retry_policy_valid(const struct retry_policy *p)
{
	return p->max_attempts >= 1 && p->max_attempts <= RETRY_MAX_ATTEMPTS &&
	    p->base_ms >= 1 && p->base_ms <= p->cap_ms &&
	    p->cap_ms <= RETRY_MAX_MS && p->budget_ms <= RETRY_MAX_MS;
}

/* min(cap, base * 2^(attempt-1)), doubling only while it stays below the cap. */
static uint32_t
ceiling_ms(const struct retry_policy *p, uint32_t attempt)
{
	uint64_t ms = p->base_ms;

	while (--attempt > 0 && ms < p->cap_ms)
		ms *= 2;
	return ms < p->cap_ms ? (uint32_t)ms : p->cap_ms;
}

int64_t
retry_next(const struct retry_policy *p, uint32_t attempt, uint64_t elapsed_ms, uint64_t random)
{
	uint64_t delay_ms;

	assert(retry_policy_valid(p));
	assert(attempt >= 1);

	if (attempt >= p->max_attempts)
		return -1;
	/* The modulo's bias is below 2^-32 for delays of at most a week. */
	delay_ms = random % ((uint64_t)ceiling_ms(p, attempt) + 1);
	if (p->budget_ms != 0 && (elapsed_ms > p->budget_ms || delay_ms > p->budget_ms - elapsed_ms))
		return -1;
	return (int64_t)delay_ms;
}
