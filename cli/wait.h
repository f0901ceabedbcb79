/* wait.h - following a run to its end, through restarts of the dispatcher. */
#ifndef CLI_WAIT_H
#define CLI_WAIT_H

#include <jansson.h>

#include "base/err.h"
#include "cli/cli.h"

/* Shows what the run does (a live line on a terminal, else a line per change, on stderr) until it is final. A dispatcher that is
 * away is told and tried again with back-off, for ever. Returns 0 and the run in *ret (the caller decrefs), ERR_CANCELED after
 * a signal, or an error that will not pass. */
int wait_run(struct cli *c, const char *id, json_t **ret, struct err *e);

/* After a signal: asks on a terminal whether the run goes on, and cancels it if not; without one it goes on. Tells what became
 * of it. Returns EXIT_INTERRUPTED. */
int wait_interrupted(struct cli *c, const char *id);

/* Asks the server to cancel a run; *ret (may be NULL) takes the run. */
int wait_cancel(struct cli *c, const char *id, const char *reason, json_t **ret, struct err *e);

#endif
