#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "dispatcher/fleet.h"
#include "dispatcher/pauses.h"
#include "dispatcher/query.h"

struct core_depth *
query_lanes(const struct core *core, size_t *ret_n)
{
	struct now now = clock_now();
	size_t n = core_depths(core, now, NULL, 0);
	struct core_depth *lanes = xcalloc(n + 1, sizeof(*lanes));

	*ret_n = core_depths(core, now, lanes, n);
	return lanes;
}

struct core_worker_view *
query_workers(const struct core *core, size_t *ret_n)
{
	struct now now = clock_now();
	size_t n = core_workers(core, now, NULL, 0);
	struct core_worker_view *views = xcalloc(n + 1, sizeof(*views));

	*ret_n = core_workers(core, now, views, n);
	return views;
}

static json_t *
worker_json(struct dispatcher *d, const struct core_worker_view *v)
{
	const struct fleet_worker *w = fleet_worker(d->fleet, v->worker.id);
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:I, s:b}", "id", v->worker.id, "vertical", v->worker.vertical, "class",
	    run_class_word(v->worker.class), "mode", v->worker.once ? "once" : "loop", "slots", (int)v->worker.slots, "leases",
	    (int)v->leases, "seen_ms", (json_int_t)v->seen_ms_ago, "draining", v->draining);

	json_object_set_new(o, "health", json_string(w == NULL ? "" : w->health));
	json_object_set_new(o, "node", json_string(w == NULL ? "" : w->node));
	json_object_set_new(o, "alloc_id", json_string(v->worker.alloc));
	json_object_set_new(o, "job_id", json_string(v->worker.child));
	json_object_set_new(o, "version", json_string(w == NULL ? "" : w->version));
	json_object_set_new(o, "tools", w == NULL ? json_object() : json_incref(w->tools));
	json_object_set_new(o, "missing", w == NULL ? json_array() : json_incref(w->missing));
	json_object_set_new(o, "sandbox", w == NULL ? json_null() : json_incref(w->sandbox));
	json_object_set_new(o, "cache", w == NULL || w->cache == NULL ? json_null() : fleet_cache_json(w->cache));
	return o;
}

void
workers_list(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, 0, NULL);
	size_t n;
	struct core_worker_view *views = query_workers(c->d->core, &n);
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, worker_json(c->d, &views[i]));
	free(views);
	call_reply_indexed(c, 200, json_pack("{s:o}", "workers", list));
}

json_t *
depth_json(const struct core_depth *q)
{
	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "vertical", q->vertical, "class",
	    run_class_word(q->class), "queued", (json_int_t)q->queued, "ready", (json_int_t)q->ready, "running",
	    (json_int_t)q->running, "requests", (json_int_t)q->requests, "window", (json_int_t)q->window, "oldest_ms",
	    (json_int_t)q->oldest_ms, "workers", (json_int_t)q->workers, "slots_free", (json_int_t)q->slots_free);
}

json_t *
request_json(const struct request_row *row)
{
	static const char *const words[REQ_STATES] = {"wanted", "dispatched", "active", "stopping", "done"};

	return json_pack("{s:I, s:s, s:s, s:s, s:s, s:I}", "seq", (json_int_t)row->seq, "vertical", row->vertical, "class",
	    run_class_word(row->class), "state", words[row->state], "job_id", row->child, "age_ms",
	    (json_int_t)(clock_real_ms() - row->created_real_ms));
}

static void
add_request(void *arg, const struct request_row *row)
{
	json_array_append_new(arg, request_json(row));
}

struct breaker_list {
	json_t *list;
	bool tripped;
	const char *tenant; /* who asks; NULL: sees all */
};

static void
add_breaker(void *arg, const struct core_breaker *b)
{
	struct breaker_list *l = arg;
	bool secret = l->tenant != NULL && b->tenant != NULL && strcmp(l->tenant, b->tenant) != 0;

	if (!l->tripped || b->state != BREAKER_CLOSED)
		json_array_append_new(l->list, json_pack("{s:s, s:s, s:s, s:i, s:I, s:o}", "kind", b->kind, "name", b->name, "state",
		    breaker_state_word(b->state), "failures", (int)b->failures, "until_ms", (json_int_t)b->until_ms, "why",
		    json_text(secret ? "a run of another tenant failed" : b->why)));
}

json_t *
breakers_json(const struct call *c, bool tripped)
{
	struct breaker_list l = {json_array(), tripped, call_tenant(c)};

	core_breakers(c->d->core, clock_now(), add_breaker, &l);
	return l.list;
}

void
breakers_list(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, 0, NULL);

	call_reply_indexed(c, 200, json_pack("{s:o}", "breakers", breakers_json(c, false)));
}

json_t *
nomad_json(const struct dispatcher *d)
{
	const char *state = d->cluster == NULL ? "off" : cluster_state(d->cluster);
	bool up = strcmp(state, "ok") == 0, off = d->cluster == NULL;

	return json_pack("{s:s, s:o}", "state", off || up ? state : "away", "reason", json_text(off || up ? "" : state));
}

void
queue_show(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, 0, NULL);
	struct dispatcher *d = c->d;
	size_t n;
	struct core_depth *depths = query_lanes(d->core, &n);
	json_t *list = json_array(), *requests = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, depth_json(&depths[i]));
	core_requests(d->core, add_request, requests);
	free(depths);
	call_reply_indexed(c, 200, json_pack("{s:o, s:o, s:o, s:o, s:o}", "verticals", list, "paused", pauses_json(c), "breakers",
	    breakers_json(c, true), "nomad", nomad_json(d), "requests", requests));
}
