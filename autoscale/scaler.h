/* scaler.h - the agent: reads the queue, looks at each worker group in rounds, and remembers what was decided. Loop thread.
 *
 * Three threads block for it: one reads the queue (a blocking read that is answered when something happens), one talks to
 * Nomad, one keeps the lock.
 */
#ifndef AUTOSCALE_SCALER_H
#define AUTOSCALE_SCALER_H

#include "autoscale/decisions.h"
#include "autoscale/leader.h"
#include "autoscale/round.h"
#include "cluster/discover.h"
#include "net/loop.h"

struct scaler;

/* Starts to work. The config is kept. NULL with *e. */
struct scaler *scaler_new(struct loop *l, const struct config *c, struct err *e);

/* Takes the drain marks back where that is quick, gives the lock back, ends all threads. NULL is allowed. */
void scaler_free(struct scaler *s);

/* What is known, for the API: {"leader","dry_run","queue","groups":[…],"decisions":[…]}, newest first, at most limit (new reference). */
json_t *scaler_show(const struct scaler *s, size_t limit);

/* Whether it is fit to act: 0, or ERR_RETRY with what is away. A standby is fit. */
int scaler_health(const struct scaler *s, bool *ret_leader, struct err *e);

#endif
