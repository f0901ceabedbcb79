/* retry.h - when may a failed operation be tried again?
 *
 * A retry_policy bounds attempts in number and in time; retry_next() turns "attempt n failed now" into "try again in
 * d milliseconds" or "give up". Delays use full jitter: uniform in [0, min(cap, base * 2^(n-1))], which spreads the
 * herd better than equal or decorrelated jitter at the same total work.
 *   Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
 *
 * Pure: no clock, no allocation, no global state. Any thread.
 */
#ifndef NET_RETRY_H
#define NET_RETRY_H

#include <stdbool.h>
#include <stdint.h>

/* Limits within which the arithmetic below cannot overflow; settings are checked against them when they are read. */
#define RETRY_MAX_ATTEMPTS 1000u
#define RETRY_MAX_MS (7u * 24 * 3600 * 1000)

struct retry_policy {
	uint32_t max_attempts; /* 1..RETRY_MAX_ATTEMPTS, the first attempt included */
	uint32_t base_ms;      /* 1..RETRY_MAX_MS, upper bound of the first delay */
	uint32_t cap_ms;       /* base_ms..RETRY_MAX_MS, upper bound of every delay */
	uint32_t budget_ms;    /* 0 = none; no attempt starts later than this after the first one started */
};

/* True if every field is within its bounds. Callers check once, where the policy enters the program. */
bool retry_policy_valid(const struct retry_policy *p);

/* Delay before the next attempt, in milliseconds, or -1 to give up.
 *   p           valid policy, not kept
 *   attempt     number of the attempt that has just failed, from 1
 *   elapsed_ms  since the first attempt started, monotonic clock
 *   random      fresh 64-bit value; the caller owns the generator, so a seed replays exactly
 * Gives up when attempts are used up or when the delay drawn would pass the budget: a caller never sleeps in vain.
 */
int64_t retry_next(const struct retry_policy *p, uint32_t attempt, uint64_t elapsed_ms, uint64_t random);

#endif
