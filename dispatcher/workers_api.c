#include "dispatcher/workers_api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "dispatcher/fleet.h"
#include "dispatcher/run_json.h"
#include "dispatcher/watch.h"
#include "proto/json_out.h"

#define BEAT_WAIT_MS 5000
#define LEASE_WAIT_MAX_MS 60000
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

void
worker_call_release(void *data)
{
	json_decref(((struct worker_call *)data)->body);
}

bool
worker_call_take(struct call *c, const struct field *fields, size_t n)
{
	struct worker_call *w = c->data;
	struct err e = {0};

	if (call_body(c, fields, n, w, &w->body, &e) == 0)
		return true;
	call_reply_err(c, &e);
	return false;
}

/* --- register --- */

struct registering {
	struct worker_call base;
	const char *vertical, *class, *mode, *request, *job_id, *alloc_id, *node, *node_id, *version, *health;
	int64_t slots, alloc_index, cpu_millis, memory_bytes, started_ms;
	json_t *tools, *missing, *sandbox, *cache_in;
	struct fleet_cache cache;
	struct core_worker worker;
};

#define R(field) offsetof(struct registering, field)
static const struct field register_fields[] = {
	{"worker", FIELD_TEXT, R(base.worker), true, 1, WORKER_ID_MAX - 1},
	{"vertical", FIELD_TEXT, R(vertical), true, 1, VERTICAL_NAME_MAX - 1},
	{"class", FIELD_TEXT, R(class), true, 1, 16},
	{"mode", FIELD_TEXT, R(mode), true, 1, 16},
	{"request", FIELD_TEXT, R(request), false, 0, 80},
	{"slots", FIELD_INT, R(slots), true, 1, CORE_LEASES_MAX},
	{"job_id", FIELD_TEXT, R(job_id), false, 0, CORE_CHILD_MAX - 1},
	{"alloc_id", FIELD_TEXT, R(alloc_id), false, 0, 39},
	{"alloc_index", FIELD_INT, R(alloc_index), false, -1, 1000000},
	{"cpu_millis", FIELD_INT, R(cpu_millis), false, 0, INT32_MAX},
	{"memory_bytes", FIELD_INT, R(memory_bytes), false, 0, INT64_C(1) << 50},
	{"started_ms", FIELD_INT, R(started_ms), false, 0, INT64_C(1) << 53},
	{"health", FIELD_TEXT, R(health), false, 0, REASON_MAX - 1},
	{"node", FIELD_TEXT, R(node), false, 0, 63},
	{"node_id", FIELD_TEXT, R(node_id), false, 0, 63},
	{"version", FIELD_TEXT, R(version), false, 0, 63},
	{"tools", FIELD_OBJECT, R(tools), false, 0, 0},
	{"missing", FIELD_ARRAY, R(missing), false, 0, 0},
	{"sandbox", FIELD_OBJECT, R(sandbox), false, 0, 0},
	{"cache", FIELD_OBJECT, R(cache_in), false, 0, 0},
};

/* "<ledger uuid>-<sequence>" of --once; "" for a worker that nobody asked for. */
static int
parse_request(const struct dispatcher *d, const char *text, uint64_t *ret, struct err *e)
{
	size_t len = strlen(d->ledger->uuid);
	int64_t seq;

	*ret = 0;
	if (text == NULL || text[0] == '\0')
		return 0;
	if (strncmp(text, d->ledger->uuid, len) != 0 || text[len] != '-')
		return err_set(e, ERR_INVALID, "request %.80s is not of this ledger", text);
	if (num_int(text + len + 1, 1, INT64_MAX, &seq, e) != 0)
		return err_prefix(e, ERR_INVALID, "request");
	*ret = (uint64_t)seq;
	return 0;
}

static int
check_register(struct call *c, struct registering *g, struct err *e)
{
	struct core_worker *w = &g->worker;

	if (!vertical_name_valid(g->vertical) || !run_class_parse(g->class, &w->class))
		return err_set(e, ERR_INVALID, "vertical or class is not a name that exists");
	if (strcmp(g->mode, "once") != 0 && strcmp(g->mode, "loop") != 0)
		return err_set(e, ERR_INVALID, "mode: 'once' or 'loop'");
	w->once = strcmp(g->mode, "once") == 0;
	w->slots = (unsigned)g->slots;
	w->cpu_millis = g->cpu_millis;
	w->memory_bytes = g->memory_bytes;
	w->alloc_index = (int)g->alloc_index;
	snprintf(w->id, sizeof(w->id), "%s", g->base.worker);
	snprintf(w->vertical, sizeof(w->vertical), "%s", g->vertical);
	snprintf(w->child, sizeof(w->child), "%s", g->job_id == NULL ? "" : g->job_id);
	snprintf(w->alloc, sizeof(w->alloc), "%s", g->alloc_id == NULL ? "" : g->alloc_id);
	if (g->cache_in != NULL && fleet_cache_parse(g->cache_in, &g->cache, e) != 0)
		return e->code;
	return parse_request(c->d, g->request, &w->request, e);
}

static json_t *
kept(json_t *v, json_t *(*instead)(void))
{
	return v == NULL ? instead() : json_incref(v);
}

/* A worker said what its node's cache holds. */
static void
cache_noted(struct dispatcher *d, const char *worker, const struct fleet_cache *cache)
{
	fleet_note_cache(d->fleet, worker, cache);
	core_worker_holds(d->core, clock_now(), worker, cache->holds, cache->n_holds);
}

/* Who waits for workers of a group to come, or to be well. */
static void
workers_changed(struct dispatcher *d)
{
	if (d->cluster != NULL)
		cluster_workers_changed(d->cluster);
}

static void
register_answered(struct call *c, const struct answer *a)
{
	struct registering *g = c->data;
	struct fleet_worker w = {.once = g->worker.once, .started_real_ms = g->started_ms};

	if (a->err.code != 0) {
		call_reply_err(c, &a->err);
		return;
	}
	snprintf(w.node, sizeof(w.node), "%s", g->node == NULL ? "" : g->node);
	snprintf(w.node_id, sizeof(w.node_id), "%s", g->node_id == NULL ? "" : g->node_id);
	snprintf(w.version, sizeof(w.version), "%s", g->version == NULL ? "" : g->version);
	memcpy(w.alloc_id, g->worker.alloc, sizeof(w.alloc_id));
	memcpy(w.job_id, g->worker.child, sizeof(w.job_id));
	w.tools = kept(g->tools, json_object);
	w.missing = kept(g->missing, json_array);
	w.sandbox = kept(g->sandbox, json_object);
	snprintf(w.health, sizeof(w.health), "%s", g->health == NULL ? "" : g->health);
	fleet_put_worker(c->d->fleet, g->worker.id, &w);
	if (g->cache_in != NULL)
		cache_noted(c->d, g->worker.id, &g->cache);
	workers_changed(c->d);
	call_reply(c, 200, json_pack("{s:I, s:I, s:I, s:I}", "epoch", (json_int_t)c->d->ledger->epoch, "lease_ttl_ms",
	    (json_int_t)c->d->config->lease_ttl_ms, "beat_wait_ms", (json_int_t)BEAT_WAIT_MS, "orphan_ms",
	    (json_int_t)c->d->config->orphan_ms));
}

void
worker_register(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct registering), worker_call_release);
	struct registering *g = c->data;
	struct err e = {0};

	g->alloc_index = -1;
	if (!worker_call_take(c, register_fields, COUNT(register_fields)))
		return;
	if (check_register(c, g, &e) != 0) {
		call_reply_err(c, &e);
		return;
	}
	core_register(c->d->core, clock_now(), call_core(c, register_answered), &g->worker);
}

/* --- what a worker says it holds --- */

int
worker_held_parse(const char *run, const char *fence, struct held *ret, struct err *e)
{
	if (run == NULL || fence == NULL || !run_id_valid(run) || !fence_parse(fence, &ret->fence))
		return err_set(e, ERR_INVALID, "held: expected a run's id and its fence");
	snprintf(ret->run, sizeof(ret->run), "%s", run);
	return 0;
}

int
worker_held_list(const json_t *list, struct held_list *ret, struct err *e)
{
	size_t i;
	json_t *o;

	if (json_array_size(list) > CORE_LEASES_MAX)
		return err_set(e, ERR_INVALID, "held: at most %d runs", CORE_LEASES_MAX);
	json_array_foreach(list, i, o)
	{
		int rc = worker_held_parse(json_string_value(json_object_get(o, "run")), json_string_value(json_object_get(o, "fence")),
		    &ret->held[ret->n], e);

		if (rc != 0)
			return rc;
		ret->n++;
	}
	return 0;
}

/* --- lease --- */

struct leasing {
	struct worker_call base;
	int64_t free, wait_ms;
	const char *only;
	json_t *held_in;
	struct held_list held;
};

#define L(field) offsetof(struct leasing, field)
static const struct field lease_fields[] = {
	{"worker", FIELD_TEXT, L(base.worker), true, 1, WORKER_ID_MAX - 1},
	{"free", FIELD_INT, L(free), true, 0, CORE_LEASES_MAX},
	{"only", FIELD_TEXT, L(only), false, 0, RUN_ID_MAX - 1},
	{"wait_ms", FIELD_INT, L(wait_ms), false, 0, LEASE_WAIT_MAX_MS},
	{"held", FIELD_ARRAY, L(held_in), false, 0, 0},
};

/* The target, and where it is in the store. */
static void
lease_target_out(struct buf *b, const char *target, size_t len)
{
	char id[TARGET_ID_MAX] = "", key[1200];
	size_t id_len = 0;
	const char *text = json_member(target, "id", &id_len);

	if (text != NULL && id_len >= 2 && id_len - 2 < sizeof(id)) { /* ids need no escapes */
		memcpy(id, text + 1, id_len - 2);
		id[id_len - 2] = '\0';
	}
	json_out_raw(b, "target", target, len - 1);
	json_out_text(b, "key", key_target(id, key, sizeof(key)));
	json_out_close(b, '}');
}

/* L of the worker protocol. The members of the spec are copied as they stand in the ledger. A spec that cannot be read is a broken
 * ledger: the worker reports it as invalid. */
static void
lease_out(struct buf *b, struct dispatcher *d, const struct lease *l)
{
	struct json_part parts[] = {{.key = "target"}, {.key = "workflow_version"}, {.key = "bundle"}, {.key = "params"},
		{.key = "network"}, {.key = "isolation"}, {.key = "resources"}};
	const struct run_row *row = core_find(d->core, l->run);
	char fence[FENCE_TEXT_MAX];

	json_members(l->spec == NULL ? "{}" : l->spec, parts, COUNT(parts));
	json_out_open(b, NULL, '{');
	json_out_text(b, "run", l->run);
	json_out_text(b, "fence", fence_text(l->fence, fence));
	json_out_int(b, "attempt", l->attempt);
	json_out_text(b, "workflow", row == NULL ? "" : row->workflow);
	json_out_text(b, "vertical", row == NULL ? "" : row->needs.vertical);
	json_out_int(b, "timeout_ms", row == NULL ? 0 : row->needs.timeout_ms);
	if (parts[0].value != NULL && parts[0].value[0] == '{')
		lease_target_out(b, parts[0].value, parts[0].len);
	for (size_t i = 1; i < COUNT(parts); i++)
		if (parts[i].value != NULL)
			json_out_raw(b, parts[i].key, parts[i].value, parts[i].len);
	json_out_close(b, '}');
}

void
worker_leases_out(struct buf *b, struct dispatcher *d, const struct answer *a)
{
	json_out_open(b, "leases", '[');
	for (size_t i = 0; i < a->n_leases; i++)
		lease_out(b, d, &a->leases[i]);
	json_out_close(b, ']');
	json_out_bool(b, "exit", a->exit);
	json_out_bool(b, "drain", a->drain);
}

static void
lease_answered(struct call *c, const struct answer *a)
{
	struct buf *b;

	if (a->err.code != 0) {
		call_reply_err(c, &a->err);
		return;
	}
	b = call_answer(c);
	json_out_open(b, NULL, '{');
	worker_leases_out(b, c->d, a);
	json_out_close(b, '}');
	call_reply_written(c, 200, false);
}

void
worker_lease(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct leasing), worker_call_release);
	struct leasing *l = c->data;
	struct err e = {0};

	if (!worker_call_take(c, lease_fields, COUNT(lease_fields)))
		return;
	if (worker_held_list(l->held_in, &l->held, &e) != 0) {
		call_reply_err(c, &e);
		return;
	}
	core_lease(c->d->core, clock_now(), call_core(c, lease_answered), l->base.worker, (unsigned)l->free,
	    l->only == NULL ? "" : l->only, l->held.held, l->held.n, c->d->stopping ? 0 : l->wait_ms);
}

/* --- beat --- */

struct beating {
	struct worker_call base;
	int64_t wait_ms;
	const char *health;
	json_t *held_in, *cache_in;
	struct held_list held;
	struct fleet_cache cache;
};

#define B(field) offsetof(struct beating, field)
static const struct field beat_fields[] = {
	{"worker", FIELD_TEXT, B(base.worker), true, 1, WORKER_ID_MAX - 1},
	{"wait_ms", FIELD_INT, B(wait_ms), false, 0, LEASE_WAIT_MAX_MS},
	{"health", FIELD_TEXT, B(health), false, 0, REASON_MAX - 1},
	{"held", FIELD_ARRAY, B(held_in), true, 0, 0},
	{"cache", FIELD_OBJECT, B(cache_in), false, 0, 0},
};

static json_t *
names_json(char (*names)[RUN_ID_MAX], size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_string(names[i]));
	return list;
}

static void
beat_answered(struct call *c, const struct answer *a)
{
	if (a->err.code != 0) {
		call_reply_err(c, &a->err);
		return;
	}
	call_reply(c, 200, json_pack("{s:o, s:o, s:b}", "cancel", names_json(a->cancel, a->n_cancel), "lost",
	    names_json(a->lost, a->n_lost), "drain", a->drain));
}

/* Keeps what a beat says about a run that its sender really holds. */
static void
note_progress(struct dispatcher *d, const struct held *h, const char *worker, const json_t *said)
{
	const struct run_row *row = core_find(d->core, h->run);
	json_t *progress = json_object_get(said, "progress"), *steps = json_object_get(said, "steps");
	struct fleet_run *live;

	if (row == NULL || !fence_equal(row->fence, h->fence) || strcmp(row->worker, worker) != 0)
		return;
	live = fleet_run_make(d->fleet, h->run, h->fence);
	if (json_is_array(steps)) {
		json_decref(live->steps);
		live->steps = json_incref(steps);
	}
	if (json_is_object(progress) && !json_equal(progress, live->progress)) {
		json_decref(live->progress);
		live->progress = json_incref(progress);
		watch_progress(d, h->run, progress);
	}
}

void
worker_beat(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct beating), worker_call_release);
	struct beating *b = c->data;
	struct err e = {0};

	if (!worker_call_take(c, beat_fields, COUNT(beat_fields)))
		return;
	if (worker_held_list(b->held_in, &b->held, &e) != 0 ||
	    (b->cache_in != NULL && fleet_cache_parse(b->cache_in, &b->cache, &e) != 0)) {
		call_reply_err(c, &e);
		return;
	}
	if (b->cache_in != NULL)
		cache_noted(c->d, b->base.worker, &b->cache);
	if (fleet_note_health(c->d->fleet, b->base.worker, b->health == NULL ? "" : b->health))
		workers_changed(c->d);
	for (size_t i = 0; i < b->held.n; i++)
		note_progress(c->d, &b->held.held[i], b->base.worker, json_array_get(b->held_in, i));
	core_beat(c->d->core, clock_now(), call_core(c, beat_answered), b->base.worker, b->held.held, b->held.n,
	    c->d->stopping ? 0 : b->wait_ms);
}

/* --- leave --- */

void
worker_leave(struct http_req *r, void *ctx)
{
	static const struct field fields[] = {
		{"worker", FIELD_TEXT, offsetof(struct worker_call, worker), true, 1, WORKER_ID_MAX - 1}};
	struct call *c = call_new(ctx, r, sizeof(struct worker_call), worker_call_release);
	struct worker_call *w = c->data;

	if (!worker_call_take(c, fields, COUNT(fields)))
		return;
	core_leave(c->d->core, clock_now(), w->worker);
	fleet_forget_worker(c->d->fleet, w->worker);
	workers_changed(c->d);
	call_reply(c, 200, json_object());
}
