/* admit.c - runs come in: submitted by a client, announced for a hand-made dispatch, or restored from the ledger. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

/* The same run once more: it exists, or the first time came to nothing. */
void
submit_again(struct core *c, uint64_t caller, const char *id)
{
	struct run *run = run_get(c, id);

	if (run == NULL)
		core_answer_err(c, caller, ANS_SUBMIT, id, ERR_RETRY, "the run could not be written; submit it again");
	else
		core_answer_state(c, caller, ANS_SUBMIT, id, (enum run_state)run->state);
}

static void
duplicate(struct core *c, uint64_t caller, struct run *run, const struct core_submission *s)
{
	if (s->adopted_child[0] != '\0' ? !run->adopted : !s->again)
		core_answer_err(c, caller, ANS_SUBMIT, s->id, ERR_CONFLICT, "a run with this id exists");
	else if (run_busy(run))
		run_defer(run, DEFER_SUBMIT, caller, "", NULL);
	else
		submit_again(c, caller, s->id);
}

static void
row_of(struct now now, const struct core_submission *s, struct run_row *ret)
{
	*ret = (struct run_row){
		.needs = s->needs,
		.state = RUN_QUEUED,
		.adopted = s->adopted_child[0] != '\0',
		.created_real_ms = now.real_ms,
		.not_before_real_ms = s->not_before_real_ms,
	};
	snprintf(ret->id, sizeof(ret->id), "%s", s->id);
	snprintf(ret->tenant, sizeof(ret->tenant), "%s", s->tenant);
	snprintf(ret->workflow, sizeof(ret->workflow), "%s", s->workflow);
}

/* A hand-made child is capacity that is there already: a request that is active from the start, kept for its run. */
static struct request *
adopt(struct core *c, struct now now, struct txn *t, struct run_row *row, const char *child)
{
	struct request_row req = {
		.seq = c->next_seq++,
		.class = row->needs.class,
		.state = REQ_ACTIVE,
		.priority = row->needs.priority,
		.adopted = true,
		.created_real_ms = now.real_ms,
	};
	struct request *r = request_of_child(c, child);

	if (r != NULL)
		return r->row.adopted && r->reserved == NULL && !r->used && r->txn == NULL && !r->ended && !r->gone ? r : NULL;
	snprintf(req.vertical, sizeof(req.vertical), "%s", row->needs.vertical);
	snprintf(req.child, sizeof(req.child), "%s", child);
	r = request_new(c, &req);
	r->registered = true;
	r->ttl_mono = now.mono_ms + c->config.request_ttl_ms;
	txn_add_request(t, r, &req, true);
	return r;
}

/* What the plan should count it as, before its first commit is done: only what will be ready then. */
static uint8_t
count_as(const struct core *c, struct now now, const struct run *run, const struct run_row *row)
{
	static const uint8_t as[] = {[EXEC_ANY] = COUNTED_ANY, [EXEC_JOB] = COUNTED_JOB, [EXEC_WARM] = COUNTED_WARM};

	if (run->reserved != NULL || row->not_before_real_ms > now.real_ms || run->vertical->paused || run->share->paused || run->key != NULL)
		return COUNTED_NOT;
	return as[run_execution(c, run)];
}

static void
insert(struct core *c, struct now now, uint64_t caller, struct core_submission *s)
{
	struct txn *t = txn_new(c, caller, ANS_SUBMIT);
	struct request *r = NULL;
	struct run_row row;
	struct lane *lane;
	struct run *run;

	row_of(now, s, &row);
	if (row.adopted)
		r = adopt(c, now, t, &row, s->adopted_child);
	row.request = r == NULL ? 0 : r->row.seq;
	run = run_new(c, now, &row);
	if (r != NULL) {
		run->reserved = r;
		r->reserved = run;
	}
	lane = run_lane(c, run);
	run->counted = count_as(c, now, run, &row);
	lane->arriving += run->counted == COUNTED_ANY;
	lane->arriving_job += run->counted == COUNTED_JOB;
	txn_add_run(c, now, t, run, &row, EV_SUBMIT);
	t->ops[t->n_requests].spec = s->spec;
	s->spec = NULL;
	/* Capacity that the run needs is asked for in its own commit: one write to the disk less before the dispatch. */
	if (run->counted != COUNTED_NOT)
		plan_run(c, now, run->vertical, t);
	txn_commit(c, t);
}

static const char *
taken_text(const struct run *run, char text[REASON_MAX])
{
	snprintf(text, REASON_MAX, "its concurrency key is taken by %s", run->id);
	return text;
}

void
core_submit(struct core *c, struct now now, uint64_t caller, struct core_submission *s)
{
	struct run *run = run_get(c, s->id);
	const struct run *taken;
	char text[REASON_MAX];

	caller_open(c, caller, NULL);
	if (run != NULL)
		duplicate(c, caller, run, s);
	else if (!c->writable)
		core_answer_err(c, caller, ANS_SUBMIT, s->id, ERR_RETRY, "the ledger cannot write now; nothing was accepted");
	else if (c->queued >= c->config.max_queued)
		core_answer_err(c, caller, ANS_SUBMIT, s->id, ERR_RETRY, "the queue is full; try again when it is shorter");
	else if (s->needs.key_mode == KEY_FAIL && (taken = key_taken(c, s->tenant, s->needs.key, s->needs.key_limit)) != NULL)
		core_answer_err(c, caller, ANS_SUBMIT, s->id, ERR_CONFLICT, taken_text(taken, text));
	else
		insert(c, now, caller, s);
	free(s->spec);
	s->spec = NULL;
	core_settle(c, now);
}

/* --- restart --- */

void
core_restore_run(struct core *c, const struct run_row *row)
{
	struct run *run = run_new(c, (struct now){0}, row);
	struct worker *w;

	if (row->state == RUN_QUEUED)
		return;
	w = worker_get(c, row->worker);
	if (w == NULL) {
		w = worker_new(c, row->worker);
		w->lane = run_lane(c, run);
		w->who.once = row->request != 0;
		w->who.request = row->request;
		w->who.slots = 1;
	}
	grant_attach(c, (struct now){0}, run, w);
}

void
core_restore_request(struct core *c, const struct request_row *row)
{
	struct request *r = request_new(c, row);

	r->used = r->registered = row->state == REQ_ACTIVE;
	r->ambiguous = row->state == REQ_WANTED; /* the call may have been made before */
}

/* An adopted run that was never leased is kept for its child's worker while the child is there. */
static void
reserve_again(struct core *c, struct now now, struct run *run)
{
	struct request *r = request_get(c, run->request);

	if (run->adopted && run->attempt == 0 && r != NULL && r->row.adopted && r->reserved == NULL) {
		run->reserved = r;
		r->reserved = run;
		r->used = false;
		r->ttl_mono = now.mono_ms + c->config.request_ttl_ms;
	}
}

static void
resume_run(struct core *c, struct now now, struct run *run)
{
	struct grant *g = run->grant;
	struct run_row row;

	if (g != NULL) {
		g->deadline_mono = now.mono_ms + c->config.lease_ttl_ms;
		g->since_mono = run->started_real_ms < now.real_ms ? now.mono_ms - (now.real_ms - run->started_real_ms) : now.mono_ms;
		g->request = request_get(c, run->request);
		if (g->request != NULL) {
			g->request->grants++;
			g->request->used = true;
			snprintf(g->worker->who.child, sizeof(g->worker->who.child), "%s", g->request->row.child);
		}
	} else {
		reserve_again(c, now, run);
	}
	run->arrived = true; /* in another life of the dispatcher */
	run_row_of(run, &row);
	run_load(c, now, run, &row);
	run_index(c, now, run);
}

void
core_start(struct core *c, struct now now)
{
	c->started = true;
	drain_start(c, now);
	list_each(&c->runs, l, after)
		resume_run(c, now, container_of(l, struct run, all));
	list_each(&c->workers, l, after)
		worker_seen(c, now, container_of(l, struct worker, all));
	list_each(&c->requests, l, after) {
		struct request *r = container_of(l, struct request, all);

		r->ttl_mono = now.mono_ms + c->config.request_ttl_ms;
		request_step(c, now, r);
	}
	list_each(&c->verticals, l, after)
		container_of(l, struct vertical, all)->dirty = true;
	core_settle(c, now);
}
