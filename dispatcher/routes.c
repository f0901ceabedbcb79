#include "dispatcher/routes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "dispatcher/bulk.h"
#include "dispatcher/bundle.h"
#include "dispatcher/doctor.h"
#include "dispatcher/explain.h"
#include "dispatcher/health.h"
#include "dispatcher/meters.h"
#include "dispatcher/pauses.h"
#include "dispatcher/query.h"
#include "dispatcher/results.h"
#include "dispatcher/scale_api.h"
#include "dispatcher/submit.h"
#include "dispatcher/targets.h"
#include "dispatcher/workers_api.h"

#define KIB 1024u

#define GET(path, handler, scope) {"GET", path, handler, 0, scope, 0}
#define POST(path, handler, max, scope) {"POST", path, handler, max, scope, 0}

static const struct http_route routes[] = {
	GET("/v1/agent/health", health_show, 0),
	GET("/metrics", metrics_show, SCOPE_READ),

	POST("/v1/targets/lookup", target_lookup, 4 * KIB, SCOPE_SUBMIT),
	{"PUT", "/v1/targets", target_upload, 1, SCOPE_SUBMIT, HTTP_STREAM_BODY},
	GET("/v1/targets", target_list, SCOPE_READ),
	GET("/v1/target/:id", target_show, SCOPE_READ),
	{"DELETE", "/v1/target/:id", target_delete, 0, SCOPE_SUBMIT, 0},

	POST("/v1/runs", submit_run, 256 * KIB, SCOPE_SUBMIT),
	GET("/v1/runs", runs_list, SCOPE_READ),
	GET("/v1/run/:id", run_show, SCOPE_READ),
	POST("/v1/run/:id/cancel", run_cancel, 4 * KIB, SCOPE_SUBMIT),
	POST("/v1/run/:id/requeue", run_requeue, 4 * KIB, SCOPE_SUBMIT),
	{"DELETE", "/v1/run/:id", run_purge, 0, SCOPE_SUBMIT, 0},
	POST("/v1/runs/cancel", runs_cancel, 4 * KIB, SCOPE_SUBMIT),
	POST("/v1/runs/requeue", runs_requeue, 4 * KIB, SCOPE_SUBMIT),
	POST("/v1/runs/purge", runs_purge, 4 * KIB, SCOPE_SUBMIT),
	GET("/v1/run/:id/explain", run_explain, SCOPE_READ),
	GET("/v1/run/:id/logs", run_logs, SCOPE_READ),
	GET("/v1/run/:id/findings", run_findings, SCOPE_READ),
	GET("/v1/run/:id/artifacts", run_artifacts, SCOPE_READ),
	GET("/v1/run/:id/artifact/*name", run_artifact, SCOPE_READ),
	GET("/v1/run/:id/events", run_events, SCOPE_READ),
	GET("/v1/events", all_events, SCOPE_READ),

	GET("/v1/workflows", workflows_list, SCOPE_READ),
	GET("/v1/workflow/:name", workflow_show, SCOPE_READ),
	{"PUT", "/v1/workflow/:name", workflow_push, BUNDLE_MAX_BYTES, SCOPE_MANAGE, 0},

	GET("/v1/storage", storage_show, SCOPE_MANAGE),
	GET("/v1/storage/doctor", doctor_look, SCOPE_MANAGE),
	POST("/v1/storage/doctor", doctor_repair, 4 * KIB, SCOPE_MANAGE),

	GET("/v1/breakers", breakers_list, SCOPE_READ),
	GET("/v1/pauses", pauses_list, SCOPE_READ),
	{"PUT", "/v1/pause/:kind/:name", pause_put, 4 * KIB, SCOPE_MANAGE, 0},
	{"DELETE", "/v1/pause/:kind/:name", pause_remove, 0, SCOPE_MANAGE, 0},

	GET("/v1/workers", workers_list, SCOPE_READ),
	GET("/v1/queue", queue_show, SCOPE_READ),

	GET("/v1/scale", scale_show, SCOPE_READ | SCOPE_MANAGE),
	POST("/v1/scale/:vertical/drain", scale_drain, 128 * KIB, SCOPE_MANAGE),
	GET("/v1/history", scale_history, SCOPE_MANAGE),
	GET("/api/v1/query", scale_query, SCOPE_READ),
	GET("/api/v1/query_range", scale_query_range, SCOPE_READ),

	POST("/v1/worker/register", worker_register, 64 * KIB, SCOPE_WORKER),
	POST("/v1/worker/lease", worker_lease, 64 * KIB, SCOPE_WORKER),
	POST("/v1/worker/beat", worker_beat, 512 * KIB, SCOPE_WORKER),
	POST("/v1/worker/report", worker_report, 256 * KIB, SCOPE_WORKER),
	POST("/v1/worker/exchange", worker_exchange, 1024 * KIB, SCOPE_WORKER),
	POST("/v1/worker/leave", worker_leave, 4 * KIB, SCOPE_WORKER),
	POST("/v1/worker/adopt", worker_adopt, 256 * KIB, SCOPE_WORKER),
	POST("/v1/worker/logs", worker_logs, 256 * KIB, SCOPE_WORKER),
};

static void
identity_free(void *identity)
{
	free(identity);
}

static int
authorise(struct http_req *r, unsigned scope, bool *ret_challenge, void *ctx, struct err *e)
{
	struct dispatcher *d = ctx;
	struct identity who;
	int rc;

	if (scope == 0)
		return 0;
	rc = auth_identify(d->auth, http_header(r, "Authorization"), http_header(r, "X-Drover-Token"), &who, e);
	*ret_challenge = rc != 0;
	if (rc != 0)
		return rc;
	if ((who.scopes & scope) == 0) {
		rc = err_set(e, ERR_DENIED, "token '%s' has no right to do this", who.name);
		err_hint(e, "ask the operator for a token with a larger scope");
		return rc;
	}
	http_set_identity(r, xmemdup(&who, sizeof(who)), identity_free);
	return 0;
}

static void
served(const struct http_req *r, const struct http_route *route, int status, int64_t took_ms, void *ctx)
{
	char class[16];
	bool polls = route != NULL && (http_query(r, "wait") != NULL || route->scope == SCOPE_WORKER);

	(void)ctx;
	snprintf(class, sizeof(class), "%dxx", status / 100);
	metrics_add(METER_REQUESTS, class, 1);
	if (!polls)
		metrics_observe_ms(METER_REQUEST_SECONDS, NULL, took_ms);
	if (status >= 500)
		log_warn(http_path(r), "%s answered %d after %lld ms", http_method(r), status, (long long)took_ms);
	else
		log_debug(http_path(r), "%s answered %d after %lld ms", http_method(r), status, (long long)took_ms);
}

void
routes_set(struct http_server_config *c, struct dispatcher *d)
{
	c->routes = routes;
	c->n_routes = sizeof(routes) / sizeof(routes[0]);
	c->ctx = d;
	c->authorise = authorise;
	c->served = served;
}
