/* bulk.h - cancelling, requeueing and purging: of one run, or of all that a filter names. Loop thread.
 *
 * Requeue makes a new run with what the old one asked for (bundle, target, parameters, labels, priority), under an id derived from
 * the old one's, so that asking again gives the same run; its spec says "requeued_from", and the old run is not dead-lettered
 * any more. Purge forgets an ended run; its results go when the janitor finds objects without a run.
 *
 * A filter works on at most BULK_MAX runs in one request, newest first (fewer where their specs are large); next_token of the
 * answer goes on where it stopped.
 */
#ifndef DISPATCHER_BULK_H
#define DISPATCHER_BULK_H

#include "dispatcher/call.h"

#define BULK_MAX 1000

/* Routes: POST /v1/run/:id/requeue; DELETE /v1/run/:id. */
void run_requeue(struct http_req *r, void *ctx);
void run_purge(struct http_req *r, void *ctx);

/* Routes: POST /v1/runs/cancel, /v1/runs/requeue, /v1/runs/purge. */
void runs_cancel(struct http_req *r, void *ctx);
void runs_requeue(struct http_req *r, void *ctx);
void runs_purge(struct http_req *r, void *ctx);

#endif
