/* breaker.h - a circuit breaker: after some failures in a row nothing is tried for a while, then one probe at a time decides. Pure.
 *
 * What is tried has a token (> 0, unique). A probe is held by its token until it ends: with a verdict, or dropped without one.
 */
#ifndef DISPATCHER_CORE_BREAKER_H
#define DISPATCHER_CORE_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/run.h"

#define BREAKER_FAILURES 5        /* in a row, of different runs or requests, until it opens */
#define BREAKER_BASE_MS 5000      /* open for so long at first, twice as long after each probe that fails, … */
#define BREAKER_CAP_MS 300000     /* … and so long at most; jitter takes off up to half of it */

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN, BREAKER_STATES };

struct breaker { /* all zero: closed */
	enum breaker_state state;
	unsigned failures, opened;  /* in a row */
	int64_t until_mono;         /* while it is open */
	uint64_t probe, last;       /* who probes; who failed last */
	char why[REASON_MAX];       /* of the last failure */
	const char *tenant;         /* whose it was, of the core's lifetime; NULL: nobody's */
};

/* Whether something may be tried now; an open one whose time is over is half open from here on. */
bool breaker_allows(struct breaker *b, int64_t now_mono);

/* It is tried: while the breaker is half open that is the probe. */
void breaker_try(struct breaker *b, uint64_t token);

/* It went well, as far as this breaker is concerned / failed for its reason, which may be its tenant's secret / ended without
 * telling. random: fresh. Return whether the breaker allows more than before. */
bool breaker_ok(struct breaker *b, uint64_t token);
void breaker_fail(struct breaker *b, uint64_t token, int64_t now_mono, uint64_t random, const char *tenant, const char *why);
bool breaker_drop(struct breaker *b, uint64_t token);

/* "closed", "open", "half_open". */
const char *breaker_state_word(enum breaker_state s);

#endif
