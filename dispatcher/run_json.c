#include "dispatcher/run_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "dispatcher/fleet.h"
#include "dispatcher/query.h"
#include "dispatcher/retention.h"
#include "proto/json_out.h"

json_t *
wait_json(const struct core_wait *w)
{
	json_t *o = json_pack("{s:s, s:o, s:I, s:I, s:I, s:f, s:s}", "code", w->code, "text", json_text(w->text),
	    "position", (json_int_t)w->position, "ahead_own", (json_int_t)w->ahead_own, "ahead_others", (json_int_t)w->ahead_others, "share", w->share, "basis", w->basis);

	json_object_set_new(o, "estimate_ms", w->estimate_ms >= 0 ? json_integer(w->estimate_ms) : json_null());
	json_object_set_new(o, "expires_ms", w->expires_ms >= 0 ? json_integer(w->expires_ms) : json_null());
	return o;
}

/* The core knows of a worker that is unfit only that it has no free slot. Why, where that is so of all there are, the worker said. */
static void
say_unfit(struct dispatcher *d, const struct run_row *row, struct core_wait *w)
{
	size_t n, fit = 0;
	struct core_worker_view *views = query_workers(d->core, &n);
	const char *why = "";

	for (size_t i = 0; i < n; i++) {
		const struct core_worker *v = &views[i].worker;
		const struct fleet_worker *known = fleet_worker(d->fleet, v->id);

		if (v->once || v->class != row->needs.class || strcmp(v->vertical, row->needs.vertical) != 0)
			continue;
		if (known == NULL || known->health[0] == '\0')
			fit++;
		else
			why = known->health;
	}
	if (fit == 0 && why[0] != '\0') {
		snprintf(w->text, sizeof(w->text), "no worker of its vertical takes runs: %.280s", why);
		w->estimate_ms = -1; /* when that is mended nobody knows */
		w->basis[0] = '\0';
	}
	free(views);
}

bool
run_wait(struct dispatcher *d, const struct run_row *row, struct core_wait *ret)
{
	if (row->state != RUN_QUEUED || !core_why(d->core, clock_now(), row->id, ret))
		return false;
	if (strcmp(ret->code, "no_worker") == 0)
		say_unfit(d, row, ret);
	return true;
}

static void
waiting_out(struct buf *b, struct dispatcher *d, const struct run_row *row)
{
	struct core_wait w;
	json_t *o = run_wait(d, row, &w) ? wait_json(&w) : NULL;

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

/* A member of a text of ours as it stands there, else what `instead` says. */
static void
part_out(struct buf *b, const char *key, const struct json_part *part, const char *instead)
{
	bool there = part->value != NULL;

	json_out_raw(b, key, there ? part->value : instead, there ? part->len : strlen(instead));
}

/* The run's own time for its results, 0: none. */
static int64_t
retention_in(const struct json_part *part)
{
	char digits[24];
	int64_t ms = 0;

	if (part->value != NULL && part->len < sizeof(digits)) {
		memcpy(digits, part->value, part->len);
		digits[part->len] = '\0';
		(void)num_int(digits, 0, INT64_MAX, &ms, NULL);
	}
	return ms;
}

enum { SPEC_VERSION, SPEC_RETENTION, SPEC_BUNDLE, SPEC_TARGET, SPEC_LABELS, SPEC_REQUEUED, SPEC_PARAMS, SPEC_PARTS };
enum { DETAIL_FINDINGS, DETAIL_PARTIAL, DETAIL_SANDBOX, DETAIL_STEPS, DETAIL_PARTS };

static void
spec_out(struct buf *b, struct dispatcher *d, const struct ledger_run *r, const struct json_part spec[SPEC_PARTS])
{
	int64_t retention_ms = retention_in(&spec[SPEC_RETENTION]);
	struct json_part digest = {.key = "sha256"};

	if (spec[SPEC_BUNDLE].value != NULL)
		json_members(spec[SPEC_BUNDLE].value, &digest, 1);
	part_out(b, "workflow_version", &spec[SPEC_VERSION], "\"\"");
	json_out_int(b, "retention_ms", retention_ms > 0 ? retention_ms : retention_default_ms(d->config));
	time_out(b, "results_until", r->results_gone ? 0 : retention_results_until(d->config, &r->row, retention_ms));
	part_out(b, "bundle", &digest, "\"\"");
	part_out(b, "target", &spec[SPEC_TARGET], "null");
	part_out(b, "labels", &spec[SPEC_LABELS], "null");
	part_out(b, "requeued_from", &spec[SPEC_REQUEUED], "\"\"");
}

/* Reports without steps say null. */
static void
steps_out(struct buf *b, const struct json_part *steps)
{
	bool some = steps->value != NULL && steps->value[0] == '[';

	json_out_raw(b, "steps", some ? steps->value : "[]", some ? steps->len : 2);
}

void
run_out(struct buf *b, const char *key, struct dispatcher *d, const struct ledger_run *r, enum run_shape shape, const json_t *history)
{
	bool running = r->row.state == RUN_RUNNING || r->row.state == RUN_CANCELING;
	const struct fleet_run *live = running ? fleet_run(d->fleet, r->row.id) : NULL;
	struct json_part spec[SPEC_PARTS] = {{.key = "workflow_version"}, {.key = "retention_ms"}, {.key = "bundle"}, {.key = "target"},
		{.key = "labels"}, {.key = "requeued_from"}, {.key = "params"}};
	struct json_part detail[DETAIL_PARTS] = {{.key = "findings"}, {.key = "partial"}, {.key = "sandbox"}, {.key = "steps"}};

	if (r->spec != NULL)
		json_members(r->spec, spec, SPEC_PARTS);
	if (r->detail != NULL)
		json_members(r->detail, detail, DETAIL_PARTS);
	if (live != NULL && !fence_equal(live->fence, r->row.fence))
		live = NULL; /* what an earlier attempt told */
	json_out_open(b, key, '{');
	row_out(b, r);
	spec_out(b, d, r, spec);
	part_out(b, "findings", &detail[DETAIL_FINDINGS], "null");
	part_out(b, "partial", &detail[DETAIL_PARTIAL], "false");
	json_out_value(b, "progress", live == NULL ? NULL : live->progress);
	part_out(b, "sandbox", &detail[DETAIL_SANDBOX], "null");
	if (shape != RUN_BRIEF) {
		if (live != NULL && live->steps != NULL)
			json_out_value(b, "steps", live->steps);
		else
			steps_out(b, &detail[DETAIL_STEPS]);
		part_out(b, "params", &spec[SPEC_PARAMS], "null");
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
