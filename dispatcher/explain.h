/* explain.h - one answer to "why does this run not run?", or not any more: what the queue, its lane, the workers, Nomad, pauses and
 * its own past have to say. Loop thread. */
#ifndef DISPATCHER_EXPLAIN_H
#define DISPATCHER_EXPLAIN_H

#include "dispatcher/call.h"

/* Route: GET /v1/run/:id/explain. */
void run_explain(struct http_req *r, void *ctx);

#endif
