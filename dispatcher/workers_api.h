/* workers_api.h - the worker protocol's routes. Loop thread. */
#ifndef DISPATCHER_WORKERS_API_H
#define DISPATCHER_WORKERS_API_H

#include "dispatcher/call.h"

/* Routes: POST /v1/worker/register, …/lease, …/beat, …/report, …/leave, …/adopt, …/logs. */
void worker_register(struct http_req *r, void *ctx);
void worker_lease(struct http_req *r, void *ctx);
void worker_beat(struct http_req *r, void *ctx);
void worker_report(struct http_req *r, void *ctx);
void worker_leave(struct http_req *r, void *ctx);
void worker_adopt(struct http_req *r, void *ctx);
void worker_logs(struct http_req *r, void *ctx);

#endif
