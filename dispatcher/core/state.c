/* state.c - runs in memory: rows in and out, and the place where each state keeps its runs. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

struct run *
run_get(const struct core *c, const char *id)
{
	return map_get(c->run_by_id, id);
}

bool
run_busy(const struct run *run)
{
	return run->txn != NULL || (run->grant != NULL && run->grant->asked != NULL);
}

/* Without a cluster there are no larger workers: everything is taken by those that exist. */
struct lane *
run_lane(const struct core *c, const struct run *run)
{
	return &run->vertical->lanes[vertical_one_shots(c, run->vertical) ? run->class : CLASS_NORMAL];
}

static void
count_state(struct core *c, const struct run *run, size_t n)
{
	if (run->state == RUN_QUEUED) {
		c->queued += n;
		run_lane(c, run)->queued += n;
	} else if (!run_state_final((enum run_state)run->state)) {
		run_lane(c, run)->running += n;
	}
}

/* When a queued run is due. A retry never waits longer than the cap, however the real clock jumps. */
static int64_t
due_mono(const struct core *c, struct now now, const struct run_row *row)
{
	int64_t wait = row->not_before_real_ms - now.real_ms;

	if (row->not_before_real_ms == 0 || wait <= 0)
		return now.mono_ms;
	if (row->attempt > 0 && wait > c->config.backoff_cap_ms)
		wait = c->config.backoff_cap_ms;
	return now.mono_ms + wait;
}

void
run_unreserve(struct run *run)
{
	if (run->reserved != NULL)
		run->reserved->reserved = NULL;
	run->reserved = NULL;
}

void
run_load(struct core *c, struct now now, struct run *run, const struct run_row *row)
{
	count_state(c, run, (size_t)-1);
	run->state = (uint8_t)row->state;
	run->class = (uint8_t)row->needs.class;
	run->fail = (uint8_t)row->fail;
	run->attempt = row->attempt;
	run->fence = row->fence;
	run->accepted = row->accepted;
	run->request = row->request;
	run->failures = row->failures;
	run->crashes = row->crashes;
	run->suspect = row->suspect;
	run->dead = row->dead;
	run->not_before_real_ms = row->not_before_real_ms;
	run->started_real_ms = row->started_real_ms;
	run->finished_real_ms = row->finished_real_ms;
	run->due_mono = due_mono(c, now, row);
	/* What is retried goes on waiting since it came; what was not wanted before its time begins to wait then. */
	run->since_real_ms = row->created_real_ms;
	if (row->attempt == 0 && row->not_before_real_ms > row->created_real_ms)
		run->since_real_ms = row->not_before_real_ms;
	run->expire_mono = NEVER;
	if (run->max_wait_ms > 0)
		run->expire_mono = run->max_wait_ms + (row->attempt > 0 ? run->due_mono : now.mono_ms + run->since_real_ms - now.real_ms);
	if (run->state != RUN_QUEUED)
		run_unreserve(run);
	free(run->reason);
	run->reason = row->reason[0] != '\0' ? xstrdup(row->reason) : NULL;
	count_state(c, run, 1);
}

struct run *
run_new(struct core *c, struct now now, const struct run_row *row)
{
	struct run *run = xcalloc(1, sizeof(*run));

	run->id = xstrdup(row->id);
	run->workflow = core_intern(c, row->workflow);
	run->vertical = vertical_get(c, row->needs.vertical);
	run->share = share_get(c, run->vertical, row->tenant);
	run->priority = (uint8_t)row->needs.priority;
	run->created_real_ms = row->created_real_ms;
	run->entry.order = c->next_order++;
	run->entry.pos = run->age_pos = HEAP_NOWHERE;
	run->execution = (uint8_t)row->needs.execution;
	run->cpu_millis = row->needs.cpu_millis;
	run->memory_bytes = row->needs.memory_bytes;
	run->max_wait_ms = row->needs.max_wait_ms;
	run->target_key = row->needs.target_key;
	run->timeout_ms = row->needs.timeout_ms;
	run->tool_retries = row->needs.tool_retries;
	run->adopted = row->adopted;
	run->deferred_end = &run->deferred;
	timer_init(&run->timer, TIMER_RUN);
	run->state = RUN_COMPLETED; /* in no count yet */
	list_add(&c->runs, &run->all);
	map_put(c->run_by_id, run->id, run);
	if (row->needs.key[0] != '\0')
		key_join(c, run, &row->needs);
	run_load(c, now, run, row);
	return run;
}

void
run_free(struct core *c, struct run *run)
{
	assert(run->grant == NULL);
	share_refund(c, run);
	gate_drop(c, run);
	run_unreserve(run);
	count_state(c, run, (size_t)-1);
	run_unindex(c, run);
	if (run->key != NULL)
		key_quit(c, run);
	list_remove(&run->all);
	map_remove(c->run_by_id, run->id);
	while (run->deferred != NULL) {
		struct deferred *d = run->deferred;

		run->deferred = d->next;
		free(d->report);
		free(d);
	}
	free(run->reason);
	free(run->id);
	free(run);
}

void
run_row_of(const struct run *run, struct run_row *ret)
{
	*ret = (struct run_row){
		.needs = {.class = (enum run_class)run->class, .execution = (enum execution)run->execution,
		    .priority = run->priority, .timeout_ms = run->timeout_ms, .tool_retries = run->tool_retries,
		    .cpu_millis = run->cpu_millis, .memory_bytes = run->memory_bytes, .max_wait_ms = run->max_wait_ms,
		    .target_key = run->target_key},
		.state = (enum run_state)run->state, .attempt = run->attempt, .fence = run->fence, .accepted = run->accepted,
		.request = run->request, .failures = run->failures, .crashes = run->crashes, .suspect = run->suspect, .dead = run->dead,
		.adopted = run->adopted, .fail = (enum fail_class)run->fail, .created_real_ms = run->created_real_ms,
		.not_before_real_ms = run->not_before_real_ms, .started_real_ms = run->started_real_ms,
		.finished_real_ms = run->finished_real_ms,
	};
	text_copy(ret->id, sizeof(ret->id), run->id);
	text_copy(ret->tenant, sizeof(ret->tenant), run->share->tenant);
	text_copy(ret->workflow, sizeof(ret->workflow), run->workflow);
	text_copy(ret->needs.vertical, sizeof(ret->needs.vertical), run->vertical->name);
	if (run->key != NULL) {
		text_copy(ret->needs.key, sizeof(ret->needs.key), key_name(run));
		ret->needs.key_limit = run->key->limit;
		ret->needs.key_mode = run->key->mode;
	}
	text_copy(ret->reason, sizeof(ret->reason), run->reason == NULL ? "" : run->reason);
	if (run->grant != NULL)
		text_copy(ret->worker, sizeof(ret->worker), run->grant->worker->who.id);
}

/* --- places --- */

void
run_unindex(struct core *c, struct run *run)
{
	struct lane *lane = run_lane(c, run);

	if (run->entry.pos != HEAP_NOWHERE) {
		queue_remove(&lane->ready, &run->entry);
		lane->dirty = lane->dirty || run->suspect; /* a worker may have been kept free of other runs for it */
	}
	if (run->age_pos != HEAP_NOWHERE)
		heap_remove(&lane->by_age, run->age_pos);
	if (run->key != NULL)
		key_leave(c, run);
	run->delayed = false;
	timer_set(c, &run->timer, NEVER);
}

void
run_arm(struct core *c, struct run *run)
{
	const struct grant *g = run->grant;
	int64_t at;

	if (run->txn != NULL || run->state > RUN_CANCELING)
		return;
	if (g == NULL) {
		at = c->writable && run->expire_mono != NEVER ? run->expire_mono : NEVER;
		at = at < c->ledger_hold_mono ? c->ledger_hold_mono : at;
		timer_set(c, &run->timer, run->delayed && run->due_mono < at ? run->due_mono : at);
		return;
	}
	/* A hand-back that waits for Nomad's word is a sign of life: the lease does not run out under it. */
	at = g->asked != NULL || g->verdict.at_mono < g->deadline_mono ? g->verdict.at_mono : g->deadline_mono;
	if (at < c->ledger_hold_mono)
		at = c->ledger_hold_mono;
	timer_set(c, &run->timer, c->writable || g->asked != NULL ? at : NEVER);
}

enum execution
run_execution(const struct core *c, const struct run *run)
{
	bool one_shots = vertical_one_shots(c, run->vertical) && run->vertical->window > 0;

	return run->execution == EXEC_ANY && run->timeout_ms > LONG_RUN_MS && one_shots ? EXEC_JOB : (enum execution)run->execution;
}

bool
run_warm(const struct core *c, const struct run *run)
{
	return !vertical_one_shots(c, run->vertical) || (run->class == CLASS_NORMAL && run_execution(c, run) != EXEC_JOB);
}

void
run_arrive(const struct core *c, struct run *run)
{
	if (!run->arrived && run_warm(c, run))
		run->vertical->arrivals++;
	run->arrived = true;
}

static void
make_ready(struct core *c, struct now now, struct run *run, struct lane *lane)
{
	run->entry.tenant = &run->share->ready[lane->class];
	run->entry.kind = (uint8_t)(run_execution(c, run) + (run->suspect ? QUEUE_ANY_SUSPECT : QUEUE_ANY));
	run->entry.rank_ms = queue_rank_ms(run->since_real_ms, run->priority, c->config.priority_age_ms);
	queue_add(&lane->ready, &run->entry);
	heap_push(&lane->by_age, run);
	if (gate_room(c, now, lane->vertical) > 0) /* else when it is leased: a rate that nobody serves calls for no workers */
		run_arrive(c, run);
}

void
run_index(struct core *c, struct now now, struct run *run)
{
	struct lane *lane = run_lane(c, run);

	if (run->state == RUN_QUEUED) {
		run->delayed = run->reserved == NULL && run->due_mono > now.mono_ms;
		if (run->reserved == NULL && !run->delayed && !run->vertical->paused && !run->share->paused &&
		    (run->key == NULL || key_admit(c, now, run)))
			make_ready(c, now, run, lane);
		if (run->reserved != NULL)
			timer_set(c, &run->reserved->timer, now.mono_ms); /* it may have waited for this commit to let go of the run */
		lane->dirty = true;
	}
	run_arm(c, run);
}

static void
count_arriving(const struct core *c, const struct run *run, size_t n)
{
	struct lane *lane = run_lane(c, run);

	if (run->counted == COUNTED_NOT || run->txn == NULL)
		return;
	lane->arriving += run->counted == COUNTED_ANY ? n : 0;
	lane->arriving_job += run->counted == COUNTED_JOB ? n : 0;
}

void
run_leave_lane(struct core *c, struct run *run)
{
	if (run->txn == NULL)
		run_unindex(c, run);
	count_arriving(c, run, (size_t)-1);
	count_state(c, run, (size_t)-1);
}

void
run_enter_lane(struct core *c, struct now now, struct run *run)
{
	count_state(c, run, 1);
	count_arriving(c, run, 1);
	if (run->txn == NULL && c->started)
		run_index(c, now, run);
}

/* Before an attempt is made again: the worker may have died, or been cut off, between its last file and its report. Returns true
 * while the answer is waited for. */
static bool
seek(struct core *c, struct now now, struct run *run, const struct verdict *v)
{
	struct grant *g = run->grant;
	int64_t until = now.mono_ms + MANIFEST_MS;

	if (!c->config.manifests || run->state != RUN_RUNNING || (v->event != EV_LOSE && v->event != EV_HAND_BACK) || g->seek != SEEK_NONE)
		return false;
	g->seek = SEEK_ASKED;
	if (v == &g->verdict)
		g->verdict.at_mono = until;
	g->deadline_mono = g->deadline_mono > until ? g->deadline_mono : until;
	run_row_of(run, &core_emit(c, EFF_MANIFEST)->run);
	run_arm(c, run);
	return true;
}

void
core_manifest(struct core *c, struct now now, const struct held *attempt, const struct core_report *found)
{
	struct run *run = run_get(c, attempt->run);
	struct grant *g = run == NULL ? NULL : run->grant;

	/* A worker that was heard of meanwhile reports itself. */
	if (g == NULL || !fence_equal(run->fence, attempt->fence) || g->seek != SEEK_ASKED)
		return;
	g->seek = SEEK_OVER;
	if (found != NULL) {
		report_take(c, now, 0, found);
	} else {
		if (g->verdict.at_mono != NEVER)
			g->verdict.at_mono = now.mono_ms;
		else
			g->deadline_mono = now.mono_ms;
		run_arm(c, run);
	}
	core_settle(c, now);
}

static void
expire(struct core *c, struct now now, struct run *run)
{
	char reason[REASON_MAX];
	const struct run_cause cause = {.event = EV_EXPIRE, .reason = reason};

	snprintf(reason, sizeof(reason), "no worker took it within its maximum wait of %lld s", (long long)(run->max_wait_ms / 1000));
	run_move(c, now, run, &cause, 0, ANS_REPORT);
}

void
run_timer(struct core *c, struct now now, struct run *run)
{
	static const struct verdict silent = {.event = EV_LOSE, .fail = FAIL_LOST, .why = "its worker was not heard of until the lease ended"};
	const struct verdict *v;
	struct run_cause cause;

	if (run->txn != NULL)
		return;
	if (run->grant == NULL) {
		if (run->expire_mono <= now.mono_ms && ledger_ready(c, now)) {
			expire(c, now, run);
			return;
		}
		run_unindex(c, run);
		run_index(c, now, run);
		return;
	}
	if (run->grant->asked != NULL) {
		report_decide(c, now, run, false);
		return;
	}
	v = run->grant->verdict.at_mono <= now.mono_ms ? &run->grant->verdict : &silent;
	if (v == &run->grant->verdict && !run_may((enum run_state)run->state, v->event)) {
		run->grant->verdict.at_mono = NEVER;
		run_arm(c, run);
		return;
	}
	if (!ledger_ready(c, now) || (v == &silent && run->grant->deadline_mono > now.mono_ms)) {
		run_arm(c, run);
		return;
	}
	if (seek(c, now, run, v))
		return;
	cause = (struct run_cause){.event = v->event, .fail = v->fail, .crash = v->crash, .solo = v->solo, .reason = v->why};
	run_move(c, now, run, &cause, 0, ANS_REPORT);
}

/* --- moves --- */

void
run_move_in(struct core *c, struct now now, struct txn *t, struct run *run, const struct run_cause *cause)
{
	struct run_cause full = *cause;
	struct run_row row, next;

	full.random = core_random(c);
	full.larger = vertical_one_shots(c, run->vertical) && run->execution != EXEC_WARM; /* worker groups have one size */
	run_row_of(run, &row);
	next = run_next(&row, &full, &c->limits, now.real_ms);
	txn_add_run(c, now, t, run, &next, cause->event);
}

void
run_move(struct core *c, struct now now, struct run *run, const struct run_cause *cause, uint64_t caller, enum answer_kind kind)
{
	struct txn *t = txn_new(c, caller, kind);

	run_move_in(c, now, t, run, cause);
	txn_commit(c, t);
}

struct grant *
grant_attach(struct core *c, struct now now, struct run *run, struct worker *w)
{
	struct grant *g = xcalloc(1, sizeof(*g));

	g->worker = w;
	g->request = request_get(c, run->request);
	g->since_mono = now.mono_ms;
	g->deadline_mono = now.mono_ms + c->config.lease_ttl_ms;
	g->verdict.at_mono = NEVER;
	if (w->over)
		g->verdict = w->verdict;
	list_add(&w->grants, &g->of_worker);
	w->n_grants++;
	if (g->request != NULL)
		request_useful(g->request);
	g->run = run;
	run->grant = g;
	if (run->charge <= 0)
		share_charge(c, now, run);
	if (run->key != NULL)
		key_leased(c, run, true);
	return g;
}

void
grant_detach(struct core *c, struct now now, struct run *run)
{
	struct grant *g = run->grant;

	share_settle(c, now, run);
	run->grant = NULL;
	if (run->key != NULL)
		key_leave(c, run);
	list_remove(&g->of_worker);
	g->worker->n_grants--;
	/* A waiting poll may have slots for what could not be given beside this run; a waiting beat learns of its loss. */
	g->worker->lane->dirty = true;
	beat_wake(c, g->worker);
	if (g->request != NULL) {
		g->request->grants--;
		timer_set(c, &g->request->timer, now.mono_ms);
	}
	free(g->asked);
	free(g);
}
