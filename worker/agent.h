/* agent.h - what the worker's loop does: it registers, asks for leases, sends beats, starts and stops jobs, and drains.
 *
 * All state is the loop thread's. Calls to the dispatcher run in threads of their own: one for register and lease (a long poll),
 * one for beats (another one), so that a beat never waits behind a poll. Everything here is for the loop thread.
 */
#ifndef WORKER_AGENT_H
#define WORKER_AGENT_H

#include "net/loop.h"
#include "worker/worker.h"

struct agent;

/* Begins to register; loop_stop is called when the worker has nothing more to do. NULL with *e where threads cannot be started. */
struct agent *agent_new(struct worker *w, struct loop *l, struct err *e);

/* A signal asked us to end: no further leases; runs may finish until DRAIN_TIMEOUT and are handed back then; at once when called a
 * second time. */
void agent_drain(struct agent *a);

/* The exit status: 0 unless a worker for one request ended without ever reaching the dispatcher, or what was
 * dispatched by hand was refused. */
int agent_status(const struct agent *a);

/* After the loop. NULL is allowed. */
void agent_free(struct agent *a);

#endif
