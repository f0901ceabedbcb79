#include "dispatcher/scale_api.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "dispatcher/meters.h"
#include "dispatcher/watch.h"

#define ALLOCS_MAX 1024       /* drained at once; CORE_CONDEMN_MAX condemned */
#define TTL_MAX_S 3600
#define OWNER_MAX 24          /* of callers; the vertical goes behind it */
#define PAGE_DEFAULT 1000
#define PAGE_MAX 5000
#define SLOTS_DEFAULT 5       /* of a worker, while there is none that tells: MAX_CONCURRENT_ACTIVITIES' default */
#define QUERY_MAX 200

static const char *const mark_words[] = {[DRAIN_NONE] = "none", [DRAIN_DRAINING] = "draining", [DRAIN_CONDEMNED] = "condemned"};

/* --- figures --- */

/* All verticals; the caller frees. */
static struct core_scale *
figures(struct dispatcher *d, size_t *ret_n)
{
	struct now now = clock_now();
	size_t n = core_scales(d->core, now, NULL, 0);
	struct core_scale *s = xcalloc(n + 1, sizeof(*s));

	*ret_n = core_scales(d->core, now, s, n);
	return s;
}

static struct core_scale_worker *
workers_of(struct dispatcher *d, const char *vertical, size_t *ret_n)
{
	size_t n = core_scale_workers(d->core, vertical, NULL, 0);
	struct core_scale_worker *w = xcalloc(n + 1, sizeof(*w));

	*ret_n = core_scale_workers(d->core, vertical, w, n);
	return w;
}

static json_t *
workers_json(struct dispatcher *d, const char *vertical)
{
	size_t n;
	struct core_scale_worker *w = workers_of(d, vertical, &n);
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:i, s:I, s:I, s:s}", "worker", w[i].worker, "alloc", w[i].alloc,
		    "alloc_index", w[i].alloc_index, "slots", (int)w[i].slots, "leases", (json_int_t)w[i].leases, "committing",
		    (json_int_t)w[i].committing, "drain", mark_words[w[i].mark]));
	free(w);
	return list;
}

static json_t *
vertical_json(struct dispatcher *d, const struct core_scale *s)
{
	json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "vertical", s->vertical, "ready",
	    (json_int_t)s->ready, "warm_ready", (json_int_t)s->warm_ready, "running", (json_int_t)s->running, "oldest_ms",
	    (json_int_t)s->oldest_ms, "slots", (json_int_t)s->slots, "idle_slots", (json_int_t)s->idle_slots, "one_shots_live",
	    (json_int_t)s->one_shots_live, "arrivals_total", (json_int_t)s->arrivals_total, "served_total",
	    (json_int_t)s->served_total, "service_ms_mean", (json_int_t)s->service_ms_mean, "service_ms_p90",
	    (json_int_t)s->service_ms_p90);

	json_object_set_new(o, "workers", workers_json(d, s->vertical));
	return o;
}

static void
show(struct call *c)
{
	size_t n;
	struct core_scale *s = figures(c->d, &n);
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, vertical_json(c->d, &s[i]));
	free(s);
	call_reply_indexed(c, 200, json_pack("{s:o}", "verticals", list));
}

void
scale_show(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, 0, NULL);
	struct err e = {0};
	bool parked;

	if (watch_park(c, NULL, show, &parked, &e) != 0)
		call_reply_err(c, &e);
	else if (!parked)
		show(c);
}

/* --- drains --- */

struct drain_call {
	json_t *body;
	const char *owner_text;
	json_t *list, *index_list;
	int64_t ttl_s, version;
	bool condemn;
	char owner[CORE_OWNER_MAX];
	int indexes[CORE_CONDEMN_MAX];
	char (*allocs)[CORE_ALLOC_MAX]; /* owned */
	struct core_drain drain;        /* of the above */
};

static const struct field drain_fields[] = {
	{"owner", FIELD_TEXT, offsetof(struct drain_call, owner_text), true, 1, OWNER_MAX},
	{"allocs", FIELD_ARRAY, offsetof(struct drain_call, list), true, 0, 0},
	{"indexes", FIELD_ARRAY, offsetof(struct drain_call, index_list), false, 0, 0},
	{"version", FIELD_INT, offsetof(struct drain_call, version), false, 0, INT64_MAX},
	{"ttl_s", FIELD_INT, offsetof(struct drain_call, ttl_s), true, 1, TTL_MAX_S},
	{"condemn", FIELD_BOOL, offsetof(struct drain_call, condemn), false, 0, 0},
};

static void
drain_release(void *data)
{
	struct drain_call *q = data;

	json_decref(q->body);
	free(q->allocs);
}

/* Ids of allocations; *ret is freed by the caller. */
static int
read_allocs(const json_t *list, char (**ret)[CORE_ALLOC_MAX], struct err *e)
{
	size_t n = json_array_size(list);

	if (n > ALLOCS_MAX)
		return err_set(e, ERR_TOOBIG, "allocs: more than %d", ALLOCS_MAX);
	*ret = xcalloc(n + 1, sizeof(**ret));
	for (size_t i = 0; i < n; i++) {
		const char *id = json_string_value(json_array_get(list, i));

		if (id == NULL || id[0] == '\0' || strlen(id) >= CORE_ALLOC_MAX)
			return err_set(e, ERR_INVALID, "allocs: entry %zu is no id of an allocation", i + 1);
		(void)snprintf((*ret)[i], sizeof((*ret)[i]), "%s", id);
	}
	return 0;
}

/* Their indexes in the group: as many, or none are known. */
static int
read_indexes(struct drain_call *q, struct err *e)
{
	size_t n = json_array_size(q->index_list);

	if (n == 0)
		return 0;
	if (n != json_array_size(q->list) || !q->condemn)
		return err_set(e, ERR_INVALID, "indexes: one for each of allocs, which are condemned");
	if (n > CORE_CONDEMN_MAX)
		return err_set(e, ERR_TOOBIG, "allocs: more than %d cannot be condemned at once", CORE_CONDEMN_MAX);
	for (size_t i = 0; i < n; i++) {
		const json_t *index = json_array_get(q->index_list, i);

		if (!json_is_integer(index) || json_integer_value(index) < 0 || json_integer_value(index) > INT_MAX)
			return err_set(e, ERR_INVALID, "indexes: entry %zu is no index", i + 1);
		q->indexes[i] = (int)json_integer_value(index);
	}
	q->drain.indexes = q->indexes;
	return 0;
}

/* The marks of an owner in one vertical are a list of their own. */
static int
read_drain(struct call *c, struct drain_call *q, struct err *e)
{
	const char *vertical = http_param(c->r, "vertical");
	int rc = call_body(c, drain_fields, sizeof(drain_fields) / sizeof(drain_fields[0]), q, &q->body, e);

	if (rc == 0 && (size_t)snprintf(q->owner, sizeof(q->owner), "%s/%s", q->owner_text, vertical) >= sizeof(q->owner))
		rc = err_set(e, ERR_INVALID, "vertical: no vertical has such a long name");
	if (rc == 0)
		rc = read_allocs(q->list, &q->allocs, e);
	if (rc == 0)
		q->drain = (struct core_drain){.owner = q->owner, .allocs = (const char (*)[CORE_ALLOC_MAX])q->allocs,
			.n = json_array_size(q->list), .ttl_ms = q->ttl_s * 1000, .vertical = vertical,
			.version = (uint64_t)q->version};
	if (rc == 0)
		rc = read_indexes(q, e);
	return rc;
}

static void
reply_states(struct call *c, const struct drain_call *q)
{
	size_t n = q->drain.n;
	struct core_drain_state *s = xcalloc(n + 1, sizeof(*s));
	json_t *workers = json_array(), *unknown = json_array();

	core_drain_states(c->d->core, q->drain.allocs, n, s);
	for (size_t i = 0; i < n; i++) {
		if (s[i].worker[0] == '\0')
			json_array_append_new(unknown, json_string(s[i].alloc));
		else
			json_array_append_new(workers, json_pack("{s:s, s:s, s:I, s:I, s:s}", "alloc", s[i].alloc, "worker", s[i].worker, "leases",
			    (json_int_t)s[i].leases, "committing", (json_int_t)s[i].committing, "drain", mark_words[s[i].mark]));
	}
	free(s);
	call_reply(c, 200, json_pack("{s:o, s:o}", "workers", workers, "unknown", unknown));
}

static void
condemned(struct call *c, const struct answer *a)
{
	struct err e = a->err;

	if (e.code != 0)
		call_reply_err(c, &e);
	else
		reply_states(c, c->data);
}

void
scale_drain(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct drain_call), drain_release);
	struct dispatcher *d = c->d;
	struct drain_call *q = c->data;
	struct err e = {0};

	if (read_drain(c, q, &e) != 0)
		call_reply_err(c, &e);
	else if (q->condemn)
		core_condemn(d->core, clock_now(), call_core(c, condemned), &q->drain);
	else if (core_drain(d->core, clock_now(), &q->drain, NULL, &e) != 0)
		call_reply_err(c, &e);
	else
		reply_states(c, q);
}

/* --- history: what a simulator replays --- */

struct history {
	struct ledger_filter filter;
	char *vertical;
	json_t *runs;
	uint64_t last;
	size_t n;
};

static void
history_release(void *data)
{
	struct history *h = data;

	free(h->vertical);
	json_decref(h->runs);
}

static int
history_add(void *arg, const struct ledger_run *run)
{
	struct history *h = arg;
	const struct run_row *row = &run->row;

	h->last = run->n;
	h->n++;
	if (row->started_real_ms > 0 && row->finished_real_ms >= row->started_real_ms)
		json_array_append_new(h->runs, json_pack("{s:s, s:I, s:I, s:I}", "vertical", row->needs.vertical, "created_ms",
		    (json_int_t)row->created_real_ms, "started_ms", (json_int_t)row->started_real_ms, "finished_ms",
		    (json_int_t)row->finished_real_ms));
	return 0;
}

static int
history_read(struct dispatcher *d, void *data, struct err *e)
{
	struct history *h = data;

	h->runs = json_array();
	return ledger_runs(d->ledger, &h->filter, history_add, h, e);
}

static void
history_done(struct call *c)
{
	struct history *h = c->data;
	char next[24];
	json_t *body;

	if (c->rc != 0 || c->r == NULL) {
		call_reply_err(c, &c->err);
		return;
	}
	body = json_pack("{s:O}", "runs", h->runs);
	if (h->n == h->filter.limit) {
		(void)snprintf(next, sizeof(next), "%llu", (unsigned long long)h->last);
		json_object_set_new(body, "next_token", json_string(next));
	}
	call_reply(c, 200, body);
}

void
scale_history(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct history), history_release);
	struct history *h = c->data;
	int64_t limit = 0, before = 0;
	const char *vertical = http_query(r, "vertical");
	struct err e = {0};

	if (call_query_int(c, "limit", PAGE_DEFAULT, 1, PAGE_MAX, &limit, &e) != 0 ||
	    call_query_int(c, "next_token", 0, 1, INT64_MAX, &before, &e) != 0) {
		call_reply_err(c, &e);
		return;
	}
	h->vertical = vertical != NULL && vertical[0] != '\0' ? xstrdup(vertical) : NULL;
	h->filter = (struct ledger_filter){.tenant = NULL, .vertical = h->vertical, .limit = (size_t)limit, .before = (uint64_t)before,
		.states = 1u << RUN_COMPLETED | 1u << RUN_FAILED | 1u << RUN_TIMED_OUT | 1u << RUN_CANCELED};
	call_work(c, c->d->reads, history_read, history_done);
}

/* --- metrics, and Prometheus' query API --- */

/* Workers that what is ready and running would fill: for autoscalers that cannot reckon. While runs wait and nobody can take one,
 * workers are full with what they hold, however many slots they have: runs declare cpu and memory, too. */
static int64_t
workers_needed(const struct core_scale *s, int64_t busy, int64_t workers, int64_t slots)
{
	int64_t per_worker = workers > 0 && slots > 0 ? (slots + workers - 1) / workers : SLOTS_DEFAULT;
	int64_t backlog = s->warm_ready > s->one_shots_live ? (int64_t)(s->warm_ready - s->one_shots_live) : 0;

	if (backlog > 0 && busy > 0 && s->idle_slots == 0 && (busy + workers - 1) / workers < per_worker)
		per_worker = (busy + workers - 1) / workers;
	return (backlog + busy + per_worker - 1) / per_worker;
}

enum figure { FIG_READY, FIG_RUNNING, FIG_OLDEST, FIG_WORKERS, FIG_SLOTS, FIG_ONE_SHOTS, FIG_NEEDED, FIGURES };

static const struct {
	const char *name;
	enum meter meter;
} names[FIGURES] = {
	[FIG_READY] = {"drover_scale_ready", METER_SCALE_READY},
	[FIG_RUNNING] = {"drover_scale_running", METER_SCALE_RUNNING},
	[FIG_OLDEST] = {"drover_scale_oldest_seconds", METER_SCALE_OLDEST},
	[FIG_WORKERS] = {"drover_scale_workers", METER_SCALE_WORKERS},
	[FIG_SLOTS] = {"drover_scale_slots", METER_SCALE_SLOTS},
	[FIG_ONE_SHOTS] = {"drover_scale_one_shots", METER_SCALE_ONE_SHOTS},
	[FIG_NEEDED] = {"drover_scale_workers_needed", METER_SCALE_NEEDED},
};

/* Workers that are drained still count with what they hold. */
static void
values_of(struct dispatcher *d, const struct core_scale *s, int64_t values[FIGURES])
{
	size_t n;
	struct core_scale_worker *w = workers_of(d, s->vertical, &n);
	int64_t busy = 0, slots = 0;

	for (size_t i = 0; i < n; i++) {
		busy += (int64_t)(w[i].leases + w[i].committing);
		slots += w[i].slots;
	}
	values[FIG_READY] = (int64_t)s->warm_ready;
	values[FIG_RUNNING] = busy;
	values[FIG_OLDEST] = s->oldest_ms / 1000;
	values[FIG_WORKERS] = (int64_t)n;
	values[FIG_SLOTS] = slots;
	values[FIG_ONE_SHOTS] = (int64_t)s->one_shots_live;
	values[FIG_NEEDED] = workers_needed(s, busy, (int64_t)n, slots);
	free(w);
}

void
scale_set_gauges(struct dispatcher *d)
{
	size_t n;
	struct core_scale *s = figures(d, &n);
	int64_t values[FIGURES];

	for (size_t i = 0; i < n; i++) {
		values_of(d, &s[i], values);
		for (size_t k = 0; k < FIGURES; k++)
			metrics_set(names[k].meter, s[i].vertical, values[k]);
	}
	free(s);
}

/* Takes NAME or NAME{vertical="V"} apart; false for everything else. */
static bool
read_query(const char *query, enum figure *ret, char vertical[VERTICAL_NAME_MAX])
{
	static const char label[] = "{vertical=\"";
	size_t len = strcspn(query, "{"), end;

	vertical[0] = '\0';
	for (size_t k = 0; k < FIGURES; k++) {
		if (strlen(names[k].name) != len || strncmp(names[k].name, query, len) != 0)
			continue;
		*ret = (enum figure)k;
		query += len;
		if (query[0] == '\0')
			return true;
		if (strncmp(query, label, sizeof(label) - 1) != 0)
			return false;
		query += sizeof(label) - 1;
		end = strcspn(query, "\"");
		if (end == 0 || end >= VERTICAL_NAME_MAX || strcmp(query + end, "\"}") != 0)
			return false;
		(void)snprintf(vertical, VERTICAL_NAME_MAX, "%.*s", (int)end, query);
		return true;
	}
	return false;
}

/* Samples as an instant vector, or as a matrix of one sample each. */
static json_t *
samples(struct dispatcher *d, enum figure f, const char *vertical, bool range)
{
	size_t n;
	struct core_scale *s = figures(d, &n);
	json_t *list = json_array();
	double at = (double)clock_real_ms() / 1000.0;
	char text[24];

	for (size_t i = 0; i < n; i++) {
		int64_t values[FIGURES];
		json_t *one, *sample;

		if (vertical[0] != '\0' && strcmp(vertical, s[i].vertical) != 0)
			continue;
		values_of(d, &s[i], values);
		(void)snprintf(text, sizeof(text), "%lld", (long long)values[f]);
		sample = json_pack("[f, s]", at, text);
		one = json_pack("{s:{s:s, s:s}}", "metric", "__name__", names[f].name, "vertical", s[i].vertical);
		json_object_set_new(one, range ? "values" : "value", range ? json_pack("[o]", sample) : sample);
		json_array_append_new(list, one);
	}
	free(s);
	return list;
}

static void
query(struct http_req *r, void *ctx, bool range)
{
	struct call *c = call_new(ctx, r, 0, NULL);
	const char *text = http_query(r, "query");
	char vertical[VERTICAL_NAME_MAX];
	enum figure f;

	if (text == NULL || strlen(text) > QUERY_MAX || !read_query(text, &f, vertical)) {
		call_reply(c, 400, json_pack("{s:s, s:s, s:s}", "status", "error", "errorType", "bad_data", "error",
		    "only drover_scale_NAME and drover_scale_NAME{vertical=\"V\"} are answered here"));
		return;
	}
	call_reply(c, 200, json_pack("{s:s, s:{s:s, s:o}}", "status", "success", "data", "resultType", range ? "matrix" : "vector",
	    "result", samples(c->d, f, vertical, range)));
}

void
scale_query(struct http_req *r, void *ctx)
{
	query(r, ctx, false);
}

void
scale_query_range(struct http_req *r, void *ctx)
{
	query(r, ctx, true);
}
