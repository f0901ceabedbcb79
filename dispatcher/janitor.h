/* janitor.h - what must go one day: expired targets, finished runs, log tails, bundles that nobody refers to; and the buckets' own
 * rules for it. Works in the background on a timer. Loop thread. */
#ifndef DISPATCHER_JANITOR_H
#define DISPATCHER_JANITOR_H

#include "dispatcher/dispatcher.h"

/* Begins with the buckets and their rules; then a round every JANITOR_INTERVAL. */
struct janitor *janitor_new(struct dispatcher *d);

/* Removes the row of a target whose object is gone, unless a live run needs it (then, with `counts`, it is counted as
 * missing) or it was stored again since. */
void janitor_drop_row(struct dispatcher *d, const struct ledger_target *t, bool counts);

/* Its work in d->stores must have ended. NULL is allowed. */
void janitor_free(struct janitor *j);

#endif
