#include "dispatcher/run_json.h"

#include <stdlib.h>
#include <string.h>

#include "dispatcher/call.h"
#include "dispatcher/fleet.h"
#include "dispatcher/retention.h"

static const char *
text_in(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s == NULL ? "" : s;
}

static json_t *
or_null(json_t *v)
{
	return v == NULL ? json_null() : json_incref(v);
}

static json_t *
or_empty(json_t *v)
{
	return v == NULL ? json_array() : json_incref(v);
}

json_t *
wait_json(const struct core_wait *w)
{
	json_t *o = json_pack("{s:s, s:o, s:I, s:I, s:I, s:f, s:s}", "code", w->code, "text", json_text(w->text), "position", (json_int_t)w->position,
	    "ahead_own", (json_int_t)w->ahead_own, "ahead_others", (json_int_t)w->ahead_others, "share", w->share, "basis", w->basis);

	json_object_set_new(o, "estimate_ms", w->estimate_ms >= 0 ? json_integer(w->estimate_ms) : json_null());
	json_object_set_new(o, "expires_ms", w->expires_ms >= 0 ? json_integer(w->expires_ms) : json_null());
	return o;
}

static json_t *
waiting_json(struct dispatcher *d, const struct run_row *row)
{
	struct core_wait w;

	if (row->state != RUN_QUEUED || !core_why(d->core, clock_now(), row->id, &w))
		return json_null();
	return wait_json(&w);
}

static json_t *
concurrency_json(const struct run_needs *n)
{
	static const char *const modes[] = {[KEY_QUEUE] = "queue", [KEY_FAIL] = "fail", [KEY_REPLACE] = "replace"};

	if (n->key[0] == '\0')
		return json_null();
	return json_pack("{s:s, s:i, s:s}", "key", n->key, "limit", (int)n->key_limit, "mode", modes[n->key_mode]);
}

static void
add_row(json_t *o, const struct ledger_run *r)
{
	const struct run_row *row = &r->row;

	json_object_set_new(o, "id", json_string(row->id));
	json_object_set_new(o, "workflow", json_string(row->workflow));
	json_object_set_new(o, "vertical", json_string(row->needs.vertical));
	json_object_set_new(o, "class", json_string(run_class_word(row->needs.class)));
	json_object_set_new(o, "tenant", json_string(row->tenant));
	json_object_set_new(o, "state", json_string(run_state_word(row->state)));
	json_object_set_new(o, "attempt", json_integer(row->attempt));
	json_object_set_new(o, "dead", json_boolean(row->dead));
	json_object_set_new(o, "adopted", json_boolean(row->adopted));
	json_object_set_new(o, "fail_class", json_string(fail_class_word(row->fail)));
	json_object_set_new(o, "reason", json_text(row->reason));
	json_object_set_new(o, "priority", json_integer(row->needs.priority));
	json_object_set_new(o, "timeout_ms", json_integer(row->needs.timeout_ms));
	json_object_set_new(o, "max_wait_ms", row->needs.max_wait_ms > 0 ? json_integer(row->needs.max_wait_ms) : json_null());
	json_object_set_new(o, "concurrency", concurrency_json(&row->needs));
	json_object_set_new(o, "created_at", json_time(row->created_real_ms));
	json_object_set_new(o, "not_before", json_time(row->not_before_real_ms));
	json_object_set_new(o, "started_at", json_time(row->started_real_ms));
	json_object_set_new(o, "finished_at", json_time(row->finished_real_ms));
	json_object_set_new(o, "worker", json_string(row->worker));
	json_object_set_new(o, "node", json_string(r->node));
	json_object_set_new(o, "alloc_id", json_string(r->alloc_id));
	json_object_set_new(o, "job_id", json_string(r->job_id));
}

json_t *
run_json_parts(struct dispatcher *d, const struct ledger_run *r, json_t *spec, bool brief)
{
	bool running = r->row.state == RUN_RUNNING || r->row.state == RUN_CANCELING;
	const struct fleet_run *live = running ? fleet_run(d->fleet, r->row.id) : NULL;
	json_t *detail = r->detail == NULL ? NULL : json_loads(r->detail, 0, NULL), *o = json_object(), *steps;
	int64_t retention_ms;

	if (live != NULL && !fence_equal(live->fence, r->row.fence))
		live = NULL; /* what an earlier attempt told */
	add_row(o, r);
	json_object_set_new(o, "workflow_version", json_string(text_in(spec, "workflow_version")));
	retention_ms = json_integer_value(json_object_get(spec, "retention_ms"));
	json_object_set_new(o, "retention_ms", json_integer(retention_ms > 0 ? retention_ms : retention_default_ms(d->config)));
	json_object_set_new(o, "results_until",
	    r->results_gone ? json_null() : json_time(retention_results_until(d->config, &r->row, retention_ms)));
	json_object_set_new(o, "bundle", json_string(text_in(json_object_get(spec, "bundle"), "sha256")));
	json_object_set_new(o, "target", or_null(json_object_get(spec, "target")));
	json_object_set_new(o, "labels", or_null(json_object_get(spec, "labels")));
	json_object_set_new(o, "requeued_from", json_string(text_in(spec, "requeued_from")));
	json_object_set_new(o, "findings", or_null(json_object_get(detail, "findings")));
	json_object_set_new(o, "partial", json_boolean(json_is_true(json_object_get(detail, "partial"))));
	json_object_set_new(o, "progress", or_null(live == NULL ? NULL : live->progress));
	json_object_set_new(o, "sandbox", or_null(json_object_get(detail, "sandbox")));
	if (!brief) {
		steps = live != NULL && live->steps != NULL ? live->steps : json_object_get(detail, "steps");
		json_object_set_new(o, "steps", or_empty(steps));
		json_object_set_new(o, "params", or_null(json_object_get(spec, "params")));
		json_object_set_new(o, "waiting", json_null());
	}
	json_decref(detail);
	return o;
}

json_t *
run_json(struct dispatcher *d, const struct ledger_run *r, bool brief)
{
	json_t *spec = json_loads(r->spec, 0, NULL), *o = run_json_parts(d, r, spec, brief);

	if (!brief)
		json_object_set_new(o, "waiting", waiting_json(d, &r->row));
	json_decref(spec);
	return o;
}

json_t *
target_json(const struct ledger_target *t)
{
	return json_pack("{s:s, s:s, s:I, s:s, s:o, s:o}", "id", t->id, "sha256", t->sha256, "size_bytes",
	    (json_int_t)t->size_bytes, "filename", t->filename, "created_at", json_time(t->created_real_ms), "expires_at",
	    json_time(t->expires_real_ms));
}
