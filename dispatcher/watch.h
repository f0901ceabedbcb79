/* watch.h - who waits for something to happen to runs: blocking reads, and event streams. Loop thread. */
#ifndef DISPATCHER_WATCH_H
#define DISPATCHER_WATCH_H

#include "dispatcher/call.h"
#include "dispatcher/events.h"

/* Nobody waits yet. */
struct watchers *watchers_new(void);

/* Nobody may wait any more. NULL is allowed. */
void watchers_free(struct watchers *w);

/* If the request has ?index= and nothing happened since (to run, a prefix of an id; NULL: to any), parks the call and returns true: resume(call)
 * is called when it did, or the time is over. False: go on now. ERR_INVALID for bad values, with *ret_parked false. */
int watch_park(struct call *c, const char *run, void (*resume)(struct call *c), bool *ret_parked, struct err *e);

/* Starts an event stream of one run (full id; last: its row as the ledger has it) or of everything that the caller may see (NULL). The call is
 * over with it. */
void watch_stream(struct call *c, const struct run_row *last);

/* Tells everybody: after each events_add; and of a run's progress (borrowed). */
void watch_event(struct dispatcher *d, const struct event *ev);
void watch_progress(struct dispatcher *d, const char *run, const json_t *progress);

/* Ends all streams: the dispatcher stops. */
void watch_dismiss(struct dispatcher *d);

#endif
