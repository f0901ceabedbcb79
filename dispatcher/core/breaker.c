#include "dispatcher/core/breaker.h"

#include <assert.h>
#include <stdio.h>

bool
breaker_allows(struct breaker *b, int64_t now_mono)
{
	if (b->state == BREAKER_OPEN && now_mono >= b->until_mono) {
		b->state = BREAKER_HALF_OPEN;
		b->probe = 0;
	}
	return b->state == BREAKER_CLOSED || (b->state == BREAKER_HALF_OPEN && b->probe == 0);
}

void
breaker_try(struct breaker *b, uint64_t token)
{
	if (b->state == BREAKER_HALF_OPEN && b->probe == 0)
		b->probe = token;
}

static void
open_it(struct breaker *b, int64_t now_mono, uint64_t random)
{
	int64_t ms = BREAKER_BASE_MS;

	for (unsigned i = 0; i < b->opened && ms < BREAKER_CAP_MS; i++)
		ms *= 2;
	ms = ms > BREAKER_CAP_MS ? BREAKER_CAP_MS : ms;
	b->state = BREAKER_OPEN;
	b->opened++;
	b->probe = 0;
	b->until_mono = now_mono + ms - (int64_t)(random % (uint64_t)(ms / 2));
}

bool
breaker_ok(struct breaker *b, uint64_t token)
{
	bool was_closed = b->state == BREAKER_CLOSED;

	b->failures = 0;
	b->last = 0;
	if (b->state == BREAKER_HALF_OPEN && b->probe == token) {
		*b = (struct breaker){.state = BREAKER_CLOSED};
	} else if (b->state == BREAKER_OPEN) { /* of what was tried before it opened: worth a probe */
		b->state = BREAKER_HALF_OPEN;
		b->probe = 0;
	}
	return !was_closed;
}

void
breaker_fail(struct breaker *b, uint64_t token, int64_t now_mono, uint64_t random, const char *tenant, const char *why)
{
	if (b->state == BREAKER_OPEN || (b->state == BREAKER_HALF_OPEN && b->probe != token))
		return;
	snprintf(b->why, sizeof(b->why), "%s", why);
	b->tenant = tenant;
	b->failures += b->last != token; /* one that fails again and again tells of itself only */
	b->last = token;
	if (b->state == BREAKER_HALF_OPEN || b->failures >= BREAKER_FAILURES)
		open_it(b, now_mono, random);
}

bool
breaker_drop(struct breaker *b, uint64_t token)
{
	if (b->state != BREAKER_HALF_OPEN || b->probe != token)
		return false;
	b->probe = 0;
	return true;
}

const char *
breaker_state_word(enum breaker_state s)
{
	static const char *const words[BREAKER_STATES] = {"closed", "open", "half_open"};

	assert((unsigned)s < BREAKER_STATES);
	return words[s];
}
