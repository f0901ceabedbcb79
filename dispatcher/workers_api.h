/* workers_api.h - the worker protocol's routes. Loop thread. */
#ifndef DISPATCHER_WORKERS_API_H
#define DISPATCHER_WORKERS_API_H

#include "dispatcher/call.h"

/* Every request of a worker begins with this as its data; `body` owns the texts. */
struct worker_call {
	json_t *body;
	const char *worker;
};
void worker_call_release(void *data);

/* Reads the body into the call's data; on failure the call has been answered: false. */
bool worker_call_take(struct call *c, const struct field *fields, size_t n);

/* A lease as a worker names it; ERR_INVALID. */
int worker_held_parse(const char *run, const char *fence, struct held *ret, struct err *e);

struct held_list {
	struct held held[CORE_LEASES_MAX];
	size_t n;
};

/* A JSON list of them; NULL is empty. ERR_INVALID. */
int worker_held_list(const json_t *list, struct held_list *ret, struct err *e);

/* Writes what an ANS_LEASE tells the worker, refused or not: members `leases`, `exit` and `drain`. */
void worker_leases_out(struct buf *b, struct dispatcher *d, const struct answer *a);

/* Takes a report (body: borrowed) that came with others in one request: over is called once, at once or later, with e->code 0
 * and the run's state once it is durable, or with why it was not taken. run is valid during the call. */
void report_part(const struct call *whole, json_t *body, void (*over)(void *arg, const char *run, const struct err *e, enum run_state state),
    void *arg);

/* Looks whether an attempt that counts as lost had published everything, and tells the core (EFF_MANIFEST). */
void report_salvage(struct dispatcher *d, const struct run_row *row);

/* Routes: POST /v1/worker/register, …/lease, …/beat, …/report, …/exchange, …/leave, …/adopt, …/logs. */
void worker_register(struct http_req *r, void *ctx);
void worker_lease(struct http_req *r, void *ctx);
void worker_beat(struct http_req *r, void *ctx);
void worker_report(struct http_req *r, void *ctx);
void worker_exchange(struct http_req *r, void *ctx);
void worker_leave(struct http_req *r, void *ctx);
void worker_adopt(struct http_req *r, void *ctx);
void worker_logs(struct http_req *r, void *ctx);

#endif
