#include "autoscale/backlog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "net/http_client.h"

#define ANSWER_MAX (16 * 1024 * 1024)
#define PICK_WAIT_MS 2000
#define CONNECT_MS 3000
#define CALL_MS 5000
#define OWNER_DRAIN "autoscale"
#define OWNER_CONDEMN "autoscale-condemn" /* its own list: what is only drained stays so */
#define URL_MAX 512

struct backlog {
	const struct config *config;
	struct discover *discover;
	const atomic_bool *stop;
	struct http_tls tls;
	struct http_client *http;
	char base[256]; /* "" until picked, and after a failure */
	char *authorization;
};

struct backlog *
backlog_new(const struct config *c, struct discover *d, const atomic_bool *stop)
{
	struct backlog *q = xcalloc(1, sizeof(*q));

	q->config = c;
	q->discover = d;
	q->stop = stop;
	q->tls = (struct http_tls){.ca_cert = c->ca_cert};
	q->http = http_client_new(&q->tls);
	if (c->token[0] != '\0')
		q->authorization = xasprintf("Authorization: Bearer %s", c->token);
	return q;
}

void
backlog_free(struct backlog *q)
{
	if (q == NULL)
		return;
	http_client_free(q->http);
	if (q->authorization != NULL)
		mem_wipe(q->authorization, strlen(q->authorization));
	free(q->authorization);
	free(q);
}

/* One call; the JSON answer in *ret, X-Drover-Index in *ret_index (may be NULL). */
static int
call(struct backlog *q, const char *method, const char *path, const json_t *body, int64_t timeout_ms, json_t **ret,
    uint64_t *ret_index, struct err *e)
{
	char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL, url[URL_MAX];
	const char *headers[] = {"Content-Type: application/json", q->authorization, NULL};
	struct buf out = buf_make(ANSWER_MAX);
	struct http_call c = {.method = method, .headers = headers, .body = text, .body_len = text != NULL ? strlen(text) : 0,
		.out = &out, .connect_timeout_ms = CONNECT_MS, .timeout_ms = timeout_ms, .stall_ms = timeout_ms, .stop = q->stop,
		.n_want = 1, .want = {{.name = "X-Drover-Index"}}};
	int64_t index = 0;
	int rc = 0;

	if (q->base[0] == '\0')
		rc = discover_pick(q->discover, PICK_WAIT_MS, q->base, sizeof(q->base), e);
	if (rc == 0) {
		(void)snprintf(url, sizeof(url), "%s%s", q->base, path);
		c.url = url;
		rc = http_perform(q->http, &c, e);
		if (rc != 0 && rc != ERR_CANCELED) {
			discover_failed(q->discover, q->base);
			q->base[0] = '\0';
			err_prefix(e, rc, "dispatcher");
		}
	}
	if (rc == 0)
		rc = http_status_err(&c, e);
	if (rc == 0 && (*ret = json_loadb(buf_str(&out), out.len, JSON_REJECT_DUPLICATES, NULL)) == NULL)
		rc = err_set(e, ERR_PROTO, "the dispatcher's answer is not JSON");
	if (rc == 0 && ret_index != NULL && num_int(c.want[0].value, 0, INT64_MAX, &index, NULL) == 0)
		*ret_index = (uint64_t)index;
	buf_release(&out);
	free(text);
	return rc;
}

static int64_t
number(const json_t *o, const char *key)
{
	return (int64_t)json_number_value(json_object_get(o, key));
}

static bool
copy_text(const json_t *o, const char *key, char *out, size_t len)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL && snprintf(out, len, "%s", s) < (int)len;
}

static bool
is_drained(const json_t *worker)
{
	const char *mark = json_string_value(json_object_get(worker, "drain"));

	return mark != NULL && strcmp(mark, "none") != 0;
}

/* What runs and how many slots there are is counted over the workers: those that are drained count, too. */
static int
parse_vertical(const json_t *o, struct backlog_vertical *v, struct err *e)
{
	const json_t *workers = json_object_get(o, "workers");
	json_t *w;
	size_t i;

	*v = (struct backlog_vertical){.ready = number(o, "warm_ready"), .one_shots = number(o, "one_shots_live"),
		.oldest_ms = number(o, "oldest_ms"), .arrivals_total = number(o, "arrivals_total"),
		.service_ms = number(o, "service_ms_mean"), .idle_slots = number(o, "idle_slots")};
	if (!copy_text(o, "vertical", v->vertical, sizeof(v->vertical)))
		return err_set(e, ERR_PROTO, "the dispatcher's answer names no vertical");
	v->workers = xcalloc(json_array_size(workers) + 1, sizeof(*v->workers));
	json_array_foreach (workers, i, w) {
		struct backlog_worker *one = &v->workers[v->n_workers];

		if (!copy_text(w, "alloc", one->alloc, sizeof(one->alloc)))
			continue;
		one->slots = number(w, "slots");
		one->leases = number(w, "leases");
		one->committing = number(w, "committing");
		one->drained = is_drained(w);
		v->running += one->leases + one->committing;
		v->slots += one->slots;
		v->n_workers++;
	}
	return 0;
}

int
backlog_parse(const json_t *o, struct backlog_snapshot *ret, struct err *e)
{
	const json_t *list = json_object_get(o, "verticals");
	json_t *v;
	size_t i;
	int rc = json_is_array(list) ? 0 : err_set(e, ERR_PROTO, "the dispatcher's answer has no verticals");

	*ret = (struct backlog_snapshot){.verticals = xcalloc(json_array_size(list) + 1, sizeof(*ret->verticals))};
	json_array_foreach (list, i, v) {
		if (rc == 0)
			rc = parse_vertical(v, &ret->verticals[ret->n++], e);
	}
	if (rc != 0)
		backlog_snapshot_release(ret);
	return rc;
}

int
backlog_read(struct backlog *q, uint64_t index, int64_t wait_ms, struct backlog_snapshot *ret, struct err *e)
{
	char path[96];
	json_t *o = NULL;
	uint64_t seen = 0;
	int rc;

	(void)snprintf(path, sizeof(path), "/v1/scale?index=%llu&wait=%lldms", (unsigned long long)index, (long long)wait_ms);
	rc = call(q, "GET", index > 0 ? path : "/v1/scale", NULL, wait_ms + CALL_MS, &o, &seen, e);
	if (rc == 0 && (rc = backlog_parse(o, ret, e)) == 0)
		ret->index = seen;
	json_decref(o);
	return rc;
}

void
backlog_vertical_release(struct backlog_vertical *v)
{
	free(v->workers);
	v->workers = NULL;
	v->n_workers = 0;
}

void
backlog_snapshot_release(struct backlog_snapshot *s)
{
	for (size_t i = 0; i < s->n; i++)
		backlog_vertical_release(&s->verticals[i]);
	free(s->verticals);
	*s = (struct backlog_snapshot){0};
}

const struct backlog_vertical *
backlog_find(const struct backlog_snapshot *s, const char *vertical)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->verticals[i].vertical, vertical) == 0)
			return &s->verticals[i];
	return NULL;
}

struct backlog_vertical
backlog_vertical_copy(const struct backlog_vertical *v)
{
	struct backlog_vertical copy = *v;

	copy.workers = xmemdup(v->workers, v->n_workers * sizeof(*v->workers));
	return copy;
}

/* POST …/drain: body is consumed. */
static int
post_drain(struct backlog *q, const char *vertical, json_t *body, json_t **ret, struct err *e)
{
	struct buf path = buf_make(URL_MAX);
	int rc;

	buf_adds(&path, "/v1/scale/");
	http_encode(&path, vertical, false);
	buf_adds(&path, "/drain");
	rc = call(q, "POST", buf_str(&path), body, CALL_MS, ret, NULL, e);
	json_decref(body);
	buf_release(&path);
	return rc;
}

static json_t *
alloc_list(char (*allocs)[40], size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_string(allocs[i]));
	return list;
}

int
backlog_drain(struct backlog *q, const char *vertical, char (*allocs)[40], size_t n, int64_t ttl_s, struct drain_state *states,
    struct err *e)
{
	json_t *o = NULL, *w;
	size_t i;
	int rc = post_drain(q, vertical, json_pack("{s:s, s:o, s:I}", "owner", OWNER_DRAIN, "allocs", alloc_list(allocs, n), "ttl_s",
	    (json_int_t)ttl_s), &o, e);

	for (i = 0; i < n && states != NULL; i++)
		(void)snprintf(states[i].alloc, sizeof(states[i].alloc), "%s", allocs[i]);
	json_array_foreach (json_object_get(o, "workers"), i, w) {
		const char *alloc = json_string_value(json_object_get(w, "alloc"));

		for (size_t k = 0; k < n && states != NULL && alloc != NULL; k++)
			if (strcmp(states[k].alloc, alloc) == 0)
				states[k].busy = number(w, "leases") + number(w, "committing") > 0;
	}
	json_decref(o);
	return rc;
}

int
backlog_condemn(struct backlog *q, const char *vertical, char (*allocs)[40], const int64_t *indexes, size_t n, uint64_t version,
    int64_t ttl_s, struct err *e)
{
	json_t *o = NULL, *places = json_array();
	int rc;

	for (size_t i = 0; i < n; i++)
		json_array_append_new(places, json_integer(indexes[i]));
	rc = post_drain(q, vertical, json_pack("{s:s, s:o, s:o, s:I, s:I, s:b}", "owner", OWNER_CONDEMN,
	    "allocs", alloc_list(allocs, n), "indexes", places, "version", (json_int_t)version, "ttl_s", (json_int_t)ttl_s,
	    "condemn", 1), &o, e);
	json_decref(o);
	return rc;
}
