/* reports.c - how an attempt ends by its worker's word, and cancels; both wait while a commit of their run is in flight. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

#define BY_OPERATOR "stopped in Nomad by an operator"

/* --- what waits behind a commit --- */

void
run_defer(struct run *run, enum deferred_kind kind, uint64_t caller, const char *who, const struct core_report *report)
{
	struct deferred *d = xcalloc(1, sizeof(*d));

	d->kind = kind;
	d->caller = caller;
	snprintf(d->who, sizeof(d->who), "%s", who);
	d->report = report == NULL ? NULL : xmemdup(report, sizeof(*report));
	*run->deferred_end = d;
	run->deferred_end = &d->next;
}

/* --- reports --- */

/* Holds a hand-back until Nomad has said whether an operator stopped the child. Returns false if nobody can be asked. */
static bool
inquire(struct core *c, struct now now, struct run *run, uint64_t caller, const struct core_report *report)
{
	struct grant *g = run->grant;

	if (!c->nomad || g->request == NULL || g->request->row.child[0] == '\0')
		return false;
	g->asked = xmemdup(report, sizeof(*report));
	g->asked_caller = caller;
	g->asked_in = c->listing ? c->listings : 0;
	g->verdict.at_mono = now.mono_ms + INQUIRY_MS;
	run_arm(c, run);
	request_inquire(c, g->request);
	return true;
}

static void
report_move(struct core *c, struct now now, struct run *run, uint64_t caller, const struct core_report *report, bool by_operator)
{
	struct run_cause cause = {.event = EV_LOSE, .fail = report->fail, .reason = report->reason, .reported = true};

	run_event_of_report(report->outcome, &cause.event);
	if (by_operator) {
		cause.event = EV_STOPPED;
		cause.reason = BY_OPERATOR;
	} else if (run->state == RUN_CANCELING && run->reason != NULL) {
		cause.reason = run->reason; /* who canceled says more than how the worker ended */
	}
	run_move(c, now, run, &cause, caller, ANS_REPORT);
}

void
report_decide(struct core *c, struct now now, struct run *run, bool by_operator)
{
	struct grant *g = run->grant;
	struct core_report *report = g->asked;

	g->asked = NULL;
	g->verdict.at_mono = NEVER;
	report_move(c, now, run, g->asked_caller, report, by_operator);
	free(report);
}

void
report_take(struct core *c, struct now now, uint64_t caller, const struct core_report *report)
{
	struct run *run = run_get(c, report->held.run);
	bool stopped;

	if (run == NULL) {
		core_answer_err(c, caller, ANS_REPORT, report->held.run, ERR_NOTFOUND, "no such run is going on");
	} else if (report->held.fence.seq != 0 && fence_equal(run->accepted, report->held.fence)) {
		core_answer_state(c, caller, ANS_REPORT, run->id, (enum run_state)run->state); /* its answer got lost */
	} else if (run_busy(run)) {
		run_defer(run, DEFER_REPORT, caller, "", report);
	} else if (run->grant == NULL || !fence_equal(run->fence, report->held.fence)) {
		core_answer_err(c, caller, ANS_REPORT, run->id, ERR_CONFLICT, "the lease of this attempt has ended; its result is ignored");
	} else {
		stopped = run->grant->verdict.at_mono != NEVER && run->grant->verdict.event == EV_STOPPED && report->outcome == RUN_QUEUED;
		if (stopped || !report->inquire || report->outcome != RUN_QUEUED || run->state != RUN_RUNNING ||
		    !inquire(c, now, run, caller, report))
			report_move(c, now, run, caller, report, stopped);
	}
}

void
core_report(struct core *c, struct now now, uint64_t caller, const struct core_report *report)
{
	struct worker *w = worker_get(c, report->worker);
	enum run_event event;

	caller_open(c, caller, NULL);
	if (w != NULL) {
		worker_seen(c, now, w);
		w->leaving = w->leaving || report->leaving;
	}
	if (!run_event_of_report(report->outcome, &event) || (unsigned)report->fail >= FAIL_CLASSES)
		core_answer_err(c, caller, ANS_REPORT, report->held.run, ERR_INVALID, "a run cannot end like that");
	else
		report_take(c, now, caller, report);
	core_settle(c, now);
}

/* --- cancels --- */

void
cancel_ask(struct core *c, struct now now, struct run *run, uint64_t caller, const char *who)
{
	char reason[REASON_MAX];
	struct run_cause cause = {.event = EV_CANCEL, .reason = reason};

	if (run_busy(run)) {
		run_defer(run, DEFER_CANCEL, caller, who, NULL);
		return;
	}
	if (!run_may((enum run_state)run->state, EV_CANCEL)) {
		core_answer_state(c, caller, ANS_CANCEL, run->id, (enum run_state)run->state);
		return;
	}
	snprintf(reason, sizeof(reason), "canceled by %.200s", who);
	run_move(c, now, run, &cause, caller, ANS_CANCEL);
}

static void
cancel_by_id(struct core *c, struct now now, uint64_t caller, const char *id, const char *who)
{
	struct run *run = run_get(c, id);

	if (run == NULL)
		core_answer_err(c, caller, ANS_CANCEL, id, ERR_NOTFOUND, "no such run is going on");
	else
		cancel_ask(c, now, run, caller, who);
}

void
core_cancel(struct core *c, struct now now, uint64_t caller, const char *id, const char *who)
{
	caller_open(c, caller, NULL);
	cancel_by_id(c, now, caller, id, who);
	core_settle(c, now);
}

void
run_replay(struct core *c, struct now now, const char *id, struct deferred *list)
{
	while (list != NULL) {
		struct deferred *d = list;

		list = d->next;
		if (d->kind == DEFER_CANCEL)
			cancel_by_id(c, now, d->caller, id, d->who);
		else if (d->kind == DEFER_REPORT)
			report_take(c, now, d->caller, d->report);
		else
			submit_again(c, d->caller, id);
		free(d->report);
		free(d);
	}
}
