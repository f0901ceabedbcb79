#include "dispatcher/run_json.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "dispatcher/fleet.h"
#include "dispatcher/retention.h"
#include "proto/json_out.h"

json_t *
wait_json(const struct core_wait *w)
{
	json_t *o = json_pack("{s:s, s:o, s:I, s:I, s:I, s:f, s:s}", "code", w->code, "text", json_text(w->text), "position", (json_int_t)w->position,
	    "ahead_own", (json_int_t)w->ahead_own, "ahead_others", (json_int_t)w->ahead_others, "share", w->share, "basis", w->basis);

	json_object_set_new(o, "estimate_ms", w->estimate_ms >= 0 ? json_integer(w->estimate_ms) : json_null());
	json_object_set_new(o, "expires_ms", w->expires_ms >= 0 ? json_integer(w->expires_ms) : json_null());
	return o;
}

static void
waiting_out(struct buf *b, struct dispatcher *d, const struct run_row *row)
{
	struct core_wait w;
	json_t *o = row->state == RUN_QUEUED && core_why(d->core, clock_now(), row->id, &w) ? wait_json(&w) : NULL;

	json_out_value(b, "waiting", o);
	json_decref(o);
}

static void
concurrency_out(struct buf *b, const struct run_needs *n)
{
	static const char *const modes[] = {[KEY_QUEUE] = "queue", [KEY_FAIL] = "fail", [KEY_REPLACE] = "replace"};

	if (n->key[0] == '\0') {
		json_out_value(b, "concurrency", NULL);
		return;
	}
	json_out_open(b, "concurrency", '{');
	json_out_text(b, "key", n->key);
	json_out_int(b, "limit", n->key_limit);
	json_out_text(b, "mode", modes[n->key_mode]);
	json_out_close(b, '}');
}

static void
time_out(struct buf *b, const char *key, int64_t real_ms)
{
	char text[CLOCK_TEXT_LEN];

	json_out_text(b, key, real_ms == 0 ? NULL : clock_text(real_ms, text));
}

static void
row_out(struct buf *b, const struct ledger_run *r)
{
	const struct run_row *row = &r->row;

	json_out_text(b, "id", row->id);
	json_out_text(b, "workflow", row->workflow);
	json_out_text(b, "vertical", row->needs.vertical);
	json_out_text(b, "class", run_class_word(row->needs.class));
	json_out_text(b, "tenant", row->tenant);
	json_out_text(b, "state", run_state_word(row->state));
	json_out_int(b, "attempt", row->attempt);
	json_out_bool(b, "dead", row->dead);
	json_out_bool(b, "adopted", row->adopted);
	json_out_text(b, "fail_class", fail_class_word(row->fail));
	json_out_text(b, "reason", row->reason);
	json_out_int(b, "priority", row->needs.priority);
	json_out_int(b, "timeout_ms", row->needs.timeout_ms);
	if (row->needs.max_wait_ms > 0)
		json_out_int(b, "max_wait_ms", row->needs.max_wait_ms);
	else
		json_out_value(b, "max_wait_ms", NULL);
	concurrency_out(b, &row->needs);
	time_out(b, "created_at", row->created_real_ms);
	time_out(b, "not_before", row->not_before_real_ms);
	time_out(b, "started_at", row->started_real_ms);
	time_out(b, "finished_at", row->finished_real_ms);
	json_out_text(b, "worker", row->worker);
	json_out_text(b, "node", r->node);
	json_out_text(b, "alloc_id", r->alloc_id);
	json_out_text(b, "job_id", r->job_id);
}

/* The member of a text of ours as it stands there, else what `instead` says. */
static void
copied_out(struct buf *b, const char *key, const char *json, const char *member, const char *instead)
{
	size_t len = 0;
	const char *value = json == NULL ? NULL : json_member(json, member, &len);

	json_out_raw(b, key, value == NULL ? instead : value, value == NULL ? strlen(instead) : len);
}

/* The run's own time for its results, 0: none. */
static int64_t
retention_in(const char *spec)
{
	size_t len = 0;
	const char *value = spec == NULL ? NULL : json_member(spec, "retention_ms", &len);
	char digits[24];
	int64_t ms = 0;

	if (value != NULL && len < sizeof(digits)) {
		memcpy(digits, value, len);
		digits[len] = '\0';
		(void)num_int(digits, 0, INT64_MAX, &ms, NULL);
	}
	return ms;
}

static void
spec_out(struct buf *b, struct dispatcher *d, const struct ledger_run *r, const char *spec)
{
	int64_t retention_ms = retention_in(spec);
	size_t len = 0;

	copied_out(b, "workflow_version", spec, "workflow_version", "\"\"");
	json_out_int(b, "retention_ms", retention_ms > 0 ? retention_ms : retention_default_ms(d->config));
	time_out(b, "results_until", r->results_gone ? 0 : retention_results_until(d->config, &r->row, retention_ms));
	copied_out(b, "bundle", spec == NULL ? NULL : json_member(spec, "bundle", &len), "sha256", "\"\"");
	copied_out(b, "target", spec, "target", "null");
	copied_out(b, "labels", spec, "labels", "null");
	copied_out(b, "requeued_from", spec, "requeued_from", "\"\"");
}

/* Reports without steps say null. */
static void
steps_out(struct buf *b, const char *detail)
{
	size_t len = 0;
	const char *steps = detail == NULL ? NULL : json_member(detail, "steps", &len);
	bool some = steps != NULL && steps[0] == '[';

	json_out_raw(b, "steps", some ? steps : "[]", some ? len : 2);
}

void
run_out(struct buf *b, const char *key, struct dispatcher *d, const struct ledger_run *r, enum run_shape shape, const json_t *history)
{
	bool running = r->row.state == RUN_RUNNING || r->row.state == RUN_CANCELING;
	const struct fleet_run *live = running ? fleet_run(d->fleet, r->row.id) : NULL;

	if (live != NULL && !fence_equal(live->fence, r->row.fence))
		live = NULL; /* what an earlier attempt told */
	json_out_open(b, key, '{');
	row_out(b, r);
	spec_out(b, d, r, r->spec);
	copied_out(b, "findings", r->detail, "findings", "null");
	copied_out(b, "partial", r->detail, "partial", "false");
	json_out_value(b, "progress", live == NULL ? NULL : live->progress);
	copied_out(b, "sandbox", r->detail, "sandbox", "null");
	if (shape != RUN_BRIEF) {
		if (live != NULL && live->steps != NULL)
			json_out_value(b, "steps", live->steps);
		else
			steps_out(b, r->detail);
		copied_out(b, "params", r->spec, "params", "null");
		if (shape == RUN_WHOLE)
			waiting_out(b, d, &r->row);
		else
			json_out_value(b, "waiting", NULL);
	}
	if (history != NULL)
		json_out_value(b, "history", history);
	json_out_close(b, '}');
}

void
call_reply_run(struct call *c, int status, const struct ledger_run *r, enum run_shape shape, const json_t *history)
{
	struct buf *b = call_answer(c);

	json_out_open(b, NULL, '{');
	run_out(b, "run", c->d, r, shape, history);
	json_out_close(b, '}');
	call_reply_written(c, status, true);
}

json_t *
target_json(const struct ledger_target *t)
{
	return json_pack("{s:s, s:s, s:I, s:s, s:o, s:o}", "id", t->id, "sha256", t->sha256, "size_bytes",
	    (json_int_t)t->size_bytes, "filename", t->filename, "created_at", json_time(t->created_real_ms), "expires_at",
	    json_time(t->expires_real_ms));
}
