/* retention.h - how long results are kept: a run's own wish, its workflow's row in the settings, or the default. Pure. */
#ifndef DISPATCHER_RETENTION_H
#define DISPATCHER_RETENTION_H

#include "dispatcher/config.h"
#include "dispatcher/ledger.h"

#define RETENTION_MIN_MS (60 * 1000)

/* Whether WORKFLOW_RETENTION reads "workflow=time" with commas between, each time within a minute and RETENTION_MAX. ERR_INVALID. */
int retention_check(const struct config *c, struct err *e);

/* What a workflow's results get by that setting; 0: nothing said. */
int64_t retention_of_workflow(const struct config *c, const char *workflow);

/* How long the results of runs are kept that say nothing: not longer than their rows. */
int64_t retention_default_ms(const struct config *c);

/* When the results of a run that is over go, or went; 0 for a run that is not over. */
int64_t retention_results_until(const struct config *c, const struct run_row *row, int64_t retention_ms);

#endif
