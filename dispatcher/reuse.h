/* reuse.h - a run that does what a submission asks for: under way, or done with its results still kept. Reading threads.
 *
 * Two runs are alike when tenant, workflow, bundle (thus its scripts), target, its kind, parameters with defaults filled in and,
 * of a single file, its name are the same. Priority, time-out and labels are the first one's. Only completed runs are given for
 * done: what failed is worth another try.
 */
#ifndef DISPATCHER_REUSE_H
#define DISPATCHER_REUSE_H

#include <jansson.h>

#include "dispatcher/ledger.h"

enum reuse { REUSE_NEVER, REUSE_LIVE, REUSE_COMPLETED };

/* "never", "live", "completed"; NULL is never. ERR_INVALID. */
int reuse_parse(const char *word, enum reuse *ret, struct err *e);

struct reuse_want {
	enum reuse how;
	const char *tenant, *workflow;
	const struct ledger_target *target;
	const char *kind, *name;     /* of the target, as the run would see it */
	const json_t *spec;          /* bundle and parameters */
	int64_t since_real_ms;       /* completed runs that were submitted before do not count; 0: all */
	int64_t default_keep_ms;     /* how long results are kept where nothing is said */
};

/* The newest run that is alike, live ones first. ERR_NOTFOUND, ERR_IO. Free its texts with ledger_run_release. */
int reuse_find(struct ledger *l, const struct reuse_want *w, struct ledger_run *ret, struct err *e);

/* What two submissions that are alike have in common, for those that come at the same time. */
void reuse_identity(const struct reuse_want *w, char out[SHA256_HEX_LEN]);

#endif
