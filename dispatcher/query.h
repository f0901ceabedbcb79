/* query.h - routes that read runs, workers and the queue, and cancelling. Loop thread. */
#ifndef DISPATCHER_QUERY_H
#define DISPATCHER_QUERY_H

#include "dispatcher/call.h"

/* So much of specs and reports one page of runs holds in memory: it ends early, and next_token goes on. */
#define RUNS_PAGE_BYTES (8 * 1024 * 1024)

/* Calls done(c) with *ret = the run of path parameter :id as the ledger has it, in the data of the call (which begins with a
 * struct run_lookup), or answers the error. */
struct run_lookup {
	char id[RUN_ID_MAX];
	char tenant[TENANT_NAME_MAX];  /* "": any */
	bool with_history;
	struct ledger_run run;
	json_t *history;
	void (*then)(struct call *c);
};
void query_run(struct call *c, void (*then)(struct call *c));

/* Frees what a lookup owns (for data_free). */
void run_lookup_release(void *data);

/* All lanes and all workers as they are now; the caller frees. */
struct core_depth *query_lanes(const struct core *core, size_t *ret_n);
struct core_worker_view *query_workers(const struct core *core, size_t *ret_n);

/* A lane of the queue, and a request for capacity, as the API shows them. */
json_t *depth_json(const struct core_depth *q);
json_t *request_json(const struct request_row *row);

/* How it stands with Nomad: "ok", "off" (there is none), or "away" and why. */
json_t *nomad_json(const struct dispatcher *d);

/* The circuit breakers, or only those that are not closed. The reason of another tenant's run is left out. */
json_t *breakers_json(const struct call *c, bool tripped);

/* Who cancels, and for what reason (NULL: none given), as the run keeps it. */
void cancel_words(const struct call *c, const char *reason, char out[REASON_MAX]);

/* Routes. */
void runs_list(struct http_req *r, void *ctx);
void run_show(struct http_req *r, void *ctx);
void run_cancel(struct http_req *r, void *ctx);
void run_events(struct http_req *r, void *ctx);
void all_events(struct http_req *r, void *ctx);
void workers_list(struct http_req *r, void *ctx);
void queue_show(struct http_req *r, void *ctx);
void breakers_list(struct http_req *r, void *ctx);
void workflows_list(struct http_req *r, void *ctx);
void workflow_show(struct http_req *r, void *ctx);
void workflow_push(struct http_req *r, void *ctx);

#endif
