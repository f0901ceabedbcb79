/* capacity.c - feeds the plan with what is there, and turns its answer into requests. */
#include <stdio.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_worker.h"
#include "dispatcher/core/plan.h"

static void
count_warm(struct core *c, struct now now, struct vertical *v, struct plan_input *in)
{
	list_each(&c->workers, l, after) {
		const struct worker *w = container_of(l, struct worker, all);
		size_t idle = w->lane != NULL && w->lane->vertical == v ? worker_idle(c, w, now) : 0;

		if (idle == 0)
			continue;
		in->lanes[w->lane->class].idle_warm += idle;
		/* Between two polls it counts for a moment only: if it does not come back, the plan is made anew. */
		if (w->poll.caller == 0)
			vertical_wake(c, v, w->seen_mono + FRESH_MS + 1);
	}
}

static void
gather(struct core *c, struct now now, struct vertical *v, struct plan_input *in)
{
	in->window = v->window;
	in->in_nomad = v->requests;
	for (size_t k = 0; k < RUN_CLASSES; k++) {
		const struct lane *lane = &v->lanes[k];

		in->lanes[k].ready_any = queue_len(&lane->ready, QUEUE_BIT(QUEUE_ANY)) + lane->arriving;
		/* Free slots beside other runs are no use to a suspect, and an empty worker would have taken it. */
		in->lanes[k].ready_job = queue_len(&lane->ready, QUEUE_BIT(QUEUE_JOB) | QUEUE_BIT(QUEUE_JOB_SUSPECT) |
		    QUEUE_BIT(QUEUE_ANY_SUSPECT)) + lane->arriving_job;
	}
	list_each(&c->requests, l, after) {
		const struct request *r = container_of(l, struct request, all);

		if (r->vertical == v && request_coming(r))
			in->lanes[r->row.class].coming++;
	}
	count_warm(c, now, v, in);
	in->lanes[CLASS_NORMAL].starting = v->starting_slots;
}

static void
ask(struct core *c, struct now now, struct txn *t, struct lane *lane)
{
	struct queue_entry *best = queue_best(&lane->ready, QUEUE_ALL);
	struct request_row row = {
		.seq = c->next_seq++,
		.class = lane->class,
		.state = REQ_WANTED,
		.priority = best != NULL ? container_of(best, struct run, entry)->priority : t->n_runs > 0 ? t->runs[0].next.needs.priority : 0,
		.created_real_ms = now.real_ms,
	};

	snprintf(row.vertical, sizeof(row.vertical), "%s", lane->vertical->name);
	txn_add_request(t, request_new(c, &row), &row, true);
}

static bool
may_ask(struct core *c, struct now now, struct vertical *v)
{
	if (!vertical_one_shots(c, v) || !c->started || !c->nomad || v->requests >= v->window)
		return false;
	if (!ledger_ready(c, now)) {
		vertical_wake_ledger(c, v);
		return false;
	}
	if (!gate_open(c, now, v))
		return false;
	if (now.mono_ms < v->hold_mono) {
		vertical_wake(c, v, v->hold_mono);
		return false;
	}
	return true;
}

void
plan_run(struct core *c, struct now now, struct vertical *v, struct txn *t)
{
	struct txn *into = t;
	struct plan_input in = {0};
	struct plan_output out;

	if (!may_ask(c, now, v))
		return;
	gather(c, now, v, &in);
	/* For the probe one is enough, and nothing is asked for while one is on its way. */
	if (v->breaker.state == BREAKER_HALF_OPEN)
		in.window = v->requests == 0 ? 1 : 0;
	out = plan_one_shots(&in);
	for (size_t k = 0; k < RUN_CLASSES; k++) {
		for (size_t n = 0; n < out.ask[k]; n++) {
			if (into != NULL && !txn_has_room(into, 1)) {
				if (into != t)
					txn_commit(c, into);
				into = NULL;
			}
			if (into == NULL)
				into = txn_new(c, 0, ANS_SUBMIT);
			ask(c, now, into, &v->lanes[k]);
		}
	}
	if (into != NULL && into != t)
		txn_commit(c, into);
}
