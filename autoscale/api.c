#include "autoscale/api.h"

#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/num.h"

#define METRICS_TEXT_MAX (1024 * 1024)
#define CONNECTIONS_MAX 64
#define IDLE_MS 30000
#define HEADER_MAX 8192
#define QUEUE_MAX (4 * 1024 * 1024)
#define LIMIT 100
#define SCOPE_READ 1u

struct scale_api {
	const struct config *config;
	const struct scaler *scaler;
	struct http_server *http;
};

static void
reply(struct http_req *r, int status, json_t *body)
{
	char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;

	http_reply_json(r, text != NULL ? status : 500, text != NULL ? text : "{}");
	free(text);
	json_decref(body);
}

static void
health(struct http_req *r, void *ctx)
{
	const struct scale_api *a = ctx;
	struct err e = {0};
	bool leader;
	int rc = scaler_health(a->scaler, &leader, &e);

	reply(r, rc == 0 ? 200 : 503, json_pack("{s:s, s:s, s:b, s:s}", "status", rc == 0 ? "ok" : "degraded",
	    "version", DROVER_VERSION, "leader", leader, "reason", e.msg));
}

static void
metrics(struct http_req *r, void *ctx)
{
	struct buf b = buf_make(METRICS_TEXT_MAX);

	(void)ctx;
	metrics_print(&b);
	http_reply(r, 200, "text/plain; version=0.0.4", buf_str(&b), b.len, NULL);
	buf_release(&b);
}

static void
decisions(struct http_req *r, void *ctx)
{
	const struct scale_api *a = ctx;
	const char *text = http_query(r, "limit");
	int64_t limit = LIMIT;
	struct err e = {0};

	if (text != NULL && num_int(text, 1, DECISIONS_KEPT, &limit, &e) != 0) {
		http_reply_err(r, &e);
		return;
	}
	reply(r, 200, scaler_show(a->scaler, (size_t)limit));
}

static const struct http_route routes[] = {
	{"GET", "/v1/agent/health", health, 0, 0, 0},
	{"GET", "/metrics", metrics, 0, SCOPE_READ, 0},
	{"GET", "/v1/decisions", decisions, 0, SCOPE_READ, 0},
};

static bool
on_loopback(const char *listen)
{
	return strncmp(listen, "127.", 4) == 0 || strncmp(listen, "[::1]:", 6) == 0 || strncmp(listen, "localhost:", 10) == 0;
}

static int
authorise(struct http_req *r, unsigned scope, bool *ret_challenge, void *ctx, struct err *e)
{
	static const char bearer[] = "Bearer ";
	const struct scale_api *a = ctx;
	const char *given = http_header(r, "Authorization"), *wanted = a->config->api_token;

	if (scope == 0 || (wanted[0] == '\0' && on_loopback(a->config->listen)))
		return 0;
	if (wanted[0] == '\0') {
		err_set(e, ERR_DENIED, "without a token this is served on loopback addresses only");
		err_hint(e, "set AUTOSCALE_TOKEN");
		return ERR_DENIED;
	}
	if (given != NULL && strncmp(given, bearer, sizeof(bearer) - 1) == 0) {
		given += sizeof(bearer) - 1;
		if (strlen(given) == strlen(wanted) && secret_equal(given, wanted, strlen(wanted)))
			return 0;
	}
	*ret_challenge = true;
	return err_set(e, ERR_DENIED, "the token of AUTOSCALE_TOKEN is wanted");
}

struct scale_api *
scale_api_new(struct loop *l, const struct config *c, const struct scaler *s, struct err *e)
{
	struct scale_api *a = xcalloc(1, sizeof(*a));
	struct http_server_config h = {.listen = c->listen, .routes = routes, .n_routes = sizeof(routes) / sizeof(routes[0]),
		.ctx = a, .authorise = authorise, .max_connections = CONNECTIONS_MAX, .idle_timeout_ms = IDLE_MS,
		.header_max_bytes = HEADER_MAX, .write_queue_max_bytes = QUEUE_MAX};

	a->config = c;
	a->scaler = s;
	if ((a->http = http_server_new(l, &h, e)) == NULL) {
		free(a);
		return NULL;
	}
	return a;
}

const char *
scale_api_address(const struct scale_api *a)
{
	return http_server_address(a->http);
}

void
scale_api_free(struct scale_api *a)
{
	if (a == NULL)
		return;
	http_server_free(a->http);
	free(a);
}
