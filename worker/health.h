/* health.h - whether this worker is fit to take runs: store, disk, tools and sandbox, looked at again and again.
 *
 * A looping worker asks for no leases while it is not, and says why: to the dispatcher, and to whoever asks GET /v1/agent/health on
 * WORKER_HEALTH_LISTEN (200, or 503 with the reason; Consul's check reads it). It looks more often then, and takes runs again
 * once it is well. Loop thread; the looking is done in a thread of its own.
 */
#ifndef WORKER_HEALTH_H
#define WORKER_HEALTH_H

#include "net/loop.h"
#include "worker/worker.h"

struct health;

/* Looks once, goes on looking, and serves where WORKER_HEALTH_LISTEN is set; changed is called when health_why has another answer.
 * A worker for one request does not look: its run is there already, and says what is wrong by failing. ERR_* with *e when the
 * address cannot be had; then NULL. */
struct health *health_new(struct worker *w, struct loop *l, void (*changed)(void *arg), void *arg, struct err *e);

/* NULL is allowed. */
void health_free(struct health *h);

/* Why no runs are to be taken, "" when they are; valid until `changed` is called. */
const char *health_why(const struct health *h);

/* The worker is about to end: it is not ready any more for those who ask, whatever it finds. */
void health_leaving(struct health *h);

/* A tool that was missing is there: takes the new findings over into the worker. For the loop while no job runs; true: there was
 * something new, and the worker has to say it by registering again. */
bool health_adopt_tools(struct health *h);

#endif
