/* lifecycle.h - when what is stored has to go, and what is kept alive: decisions only.
 *
 * Two clocks are at work: our own rows, which say to the millisecond until when something is promised, and the bucket's rule, which
 * is the net below and counts whole days. The rule must never be shorter than a promise, and what a run needs must be dated anew
 * before the rule fires. Pure; any thread.
 */
#ifndef STORAGE_LIFECYCLE_H
#define STORAGE_LIFECYCLE_H

#include <stdbool.h>
#include <stdint.h>

#define LIFECYCLE_DAY_MS (24 * 3600 * INT64_C(1000))

enum lifecycle_fate {
	LIFECYCLE_KEEP,  /* its time is not over */
	LIFECYCLE_RENEW, /* needed, and its time ends soon: the object is copied onto itself, and counts from now */
	LIFECYCLE_END,   /* its time is over and nobody needs it */
};

/* What to do now with something that is promised until expires_real_ms. It is renewed a day ahead, or by half of its whole time
 * where that is shorter, so that a dispatcher which was away for a night comes in time. */
enum lifecycle_fate lifecycle_fate(int64_t now_real_ms, int64_t expires_real_ms, int64_t retention_ms, bool needed);

/* Days of the bucket's rule for what is promised for promised_ms: whole ones, and one more, because our clock decides first. */
unsigned lifecycle_rule_days(int64_t promised_ms);

/* When a rule removes an object at the soonest, as S3 counts: `days` whole days after its date, then the next midnight UTC. */
int64_t lifecycle_rule_fires_real_ms(int64_t modified_real_ms, unsigned days);

/* Whether something without a row may go: it is older than the grace, within which its row may still come. A date in the future is
 * never old. */
bool lifecycle_orphaned(int64_t now_real_ms, int64_t modified_real_ms, int64_t grace_ms);

#endif
