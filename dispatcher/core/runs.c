#include "dispatcher/core/runs.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/retry.h"

/* Where an event leads from a state; JUDGE: queued again or failed, by the retry rules below; NO: it cannot happen. */
enum { NO = -1, JUDGE = -2 };

static const struct event_rule {
	const char *word;
	int to[RUN_CANCELING + 1]; /* from queued, running, canceling; the others are final */
} rules[RUN_EVENTS] = {
	/*                             queued        running        canceling */
	[EV_SUBMIT]    = {"submit",    {RUN_QUEUED,   NO,            NO}},
	[EV_LEASE]     = {"lease",     {RUN_RUNNING,  NO,            NO}},
	[EV_OFFER]     = {"offer",     {NO,           RUN_RUNNING,   NO}},
	[EV_COMPLETE]  = {"complete",  {NO,           RUN_COMPLETED, RUN_CANCELED}},
	[EV_FAIL]      = {"fail",      {NO,           JUDGE,         RUN_CANCELED}},
	[EV_TIMEOUT]   = {"timeout",   {NO,           RUN_TIMED_OUT, RUN_CANCELED}},
	[EV_HAND_BACK] = {"hand_back", {NO,           RUN_QUEUED,    RUN_CANCELED}},
	[EV_LOSE]      = {"lose",      {NO,           JUDGE,         RUN_CANCELED}},
	[EV_CANCEL]    = {"cancel",    {RUN_CANCELED, RUN_CANCELING, NO}},
	[EV_CANCELED]  = {"canceled",  {NO,           RUN_CANCELED,  RUN_CANCELED}},
	[EV_STOPPED]   = {"stopped",   {RUN_CANCELED, RUN_CANCELED,  RUN_CANCELED}},
	[EV_EXPIRE]    = {"expire",    {RUN_FAILED,   NO,            NO}},
};

/* What a failure of each class leads to. */
enum retry_how { RETRY_NEVER, RETRY_TOOL, RETRY_LOST, RETRY_INFRA, RETRY_LARGER, RETRY_FREE };

static const enum retry_how retry_rules[FAIL_CLASSES] = {
	[FAIL_NONE] = RETRY_NEVER,    [FAIL_TOOL] = RETRY_TOOL,       [FAIL_LOST] = RETRY_LOST,
	[FAIL_OOM] = RETRY_LARGER,    [FAIL_INFRA] = RETRY_INFRA,     [FAIL_INVALID] = RETRY_NEVER,
	[FAIL_HANDED_BACK] = RETRY_FREE, [FAIL_TIMEOUT] = RETRY_NEVER,
};

bool
run_may(enum run_state from, enum run_event event)
{
	assert((unsigned)event < RUN_EVENTS);
	return from <= RUN_CANCELING && rules[event].to[from] != NO;
}

bool
run_event_of_report(enum run_state outcome, enum run_event *ret)
{
	static const struct {
		enum run_state outcome;
		enum run_event event;
	} reports[] = {
		{RUN_COMPLETED, EV_COMPLETE}, {RUN_FAILED, EV_FAIL},      {RUN_TIMED_OUT, EV_TIMEOUT},
		{RUN_CANCELED, EV_CANCELED},  {RUN_QUEUED, EV_HAND_BACK},
	};

	for (size_t i = 0; i < sizeof(reports) / sizeof(reports[0]); i++) {
		if (reports[i].outcome == outcome) {
			*ret = reports[i].event;
			return true;
		}
	}
	return false;
}

const char *
run_event_word(enum run_event e)
{
	assert((unsigned)e < RUN_EVENTS);
	return rules[e].word;
}

/* Most failures that count before the run is dead; 0: not at all again. */
static unsigned
budget(enum retry_how how, const struct run_row *row, const struct run_limits *limits)
{
	switch (how) {
	case RETRY_TOOL:
		return row->needs.tool_retries + 1;
	case RETRY_LOST:
		return limits->max_lost;
	case RETRY_INFRA:
		return limits->max_infra;
	case RETRY_NEVER:
	case RETRY_LARGER:
	case RETRY_FREE:
		break;
	}
	return 0;
}

/* Decides whether the failed attempt is followed by another; counts it in next. */
static bool
judge(struct run_row *next, const struct run_cause *cause, const struct run_limits *limits)
{
	enum retry_how how = retry_rules[cause->fail];

	if (how == RETRY_FREE)
		return true;
	next->failures++;
	/* A crash in company accuses everyone inside: each is tried again alone, and only what crashes alone is poison. */
	if (cause->crash && cause->solo)
		next->crashes++;
	next->suspect = cause->crash;
	if (next->crashes >= limits->max_crashes)
		return false;
	if (how == RETRY_LARGER) {
		if (next->needs.class == CLASS_LARGE || !cause->larger)
			return false;
		next->needs.class = CLASS_LARGE;
		return true;
	}
	return next->failures < budget(how, next, limits);
}

static int64_t
backoff_ms(const struct run_row *row, const struct run_limits *limits, uint64_t random)
{
	struct retry_policy p = {
		.max_attempts = RETRY_MAX_ATTEMPTS,
		.base_ms = (uint32_t)limits->backoff_base_ms,
		.cap_ms = (uint32_t)limits->backoff_cap_ms,
	};
	unsigned n = row->failures < RETRY_MAX_ATTEMPTS ? row->failures : RETRY_MAX_ATTEMPTS - 1;

	return retry_next(&p, n > 0 ? n : 1, 0, random);
}

/* A run that goes back to the queue belongs to nobody. */
static void
release(struct run_row *next)
{
	next->worker[0] = '\0';
	next->request = 0;
}

static void
fail(struct run_row *next, const struct run_cause *cause, const struct run_limits *limits, int64_t real_ms)
{
	enum retry_how how = retry_rules[cause->fail];

	next->fail = cause->fail;
	if (judge(next, cause, limits)) {
		next->state = RUN_QUEUED;
		next->not_before_real_ms = how == RETRY_FREE ? 0 : real_ms + backoff_ms(next, limits, cause->random);
		release(next);
		return;
	}
	next->state = RUN_FAILED;
	next->finished_real_ms = real_ms;
	/* Dead-lettered is what a retry might have saved; a tool that fails without a retry budget has simply failed. */
	next->dead = how == RETRY_LOST || how == RETRY_INFRA || how == RETRY_LARGER || (how == RETRY_TOOL && next->needs.tool_retries > 0);
}

static void
lease(struct run_row *next, const struct run_cause *cause, int64_t real_ms)
{
	next->attempt++;
	next->fence = cause->fence;
	snprintf(next->worker, sizeof(next->worker), "%s", cause->worker);
	next->request = cause->request;
	next->not_before_real_ms = 0;
	next->started_real_ms = real_ms;
}

struct run_row
run_next(const struct run_row *row, const struct run_cause *cause, const struct run_limits *limits, int64_t real_ms)
{
	struct run_row next = *row;
	int to = rules[cause->event].to[row->state];

	assert(run_may(row->state, cause->event));
	if (cause->event != EV_OFFER && cause->event != EV_SUBMIT)
		snprintf(next.reason, sizeof(next.reason), "%s", cause->reason);
	if (cause->reported)
		next.accepted = row->fence;
	if (to == JUDGE) {
		fail(&next, cause, limits, real_ms);
		return next;
	}
	next.state = (enum run_state)to;
	if (cause->event == EV_LEASE)
		lease(&next, cause, real_ms);
	if (cause->event == EV_HAND_BACK && to == RUN_QUEUED) {
		next.fail = FAIL_HANDED_BACK;
		next.not_before_real_ms = 0;
		release(&next);
	}
	if (cause->event == EV_TIMEOUT && to == RUN_TIMED_OUT)
		next.fail = FAIL_TIMEOUT;
	if (cause->event == EV_EXPIRE)
		next.fail = cause->fail == FAIL_NONE ? FAIL_TIMEOUT : cause->fail;
	if (run_state_final(next.state))
		next.finished_real_ms = real_ms;
	return next;
}
