/* runs.h - the life of a run: the state table, and what a failed attempt leads to. Pure.
 *
 * run_next is the only way in which a run's state changes. A run that is being canceled ends canceled whatever its worker
 * reports: the cancel was committed first, and what it published is kept as partial results.
 */
#ifndef DISPATCHER_CORE_RUNS_H
#define DISPATCHER_CORE_RUNS_H

#include <stdbool.h>

#include "dispatcher/core/core.h"

enum run_event {
	EV_SUBMIT,     /* the row comes to be */
	EV_LEASE,      /* given to a worker */
	EV_OFFER,      /* the same lease offered again: its answer got lost */
	EV_COMPLETE,   /* reported: all steps ran */
	EV_FAIL,       /* reported: failed, with a class */
	EV_TIMEOUT,    /* reported: over its time */
	EV_HAND_BACK,  /* drained, or its allocation was stopped: again at once, off the budget */
	EV_LOSE,       /* nobody reported and the worker is gone */
	EV_CANCEL,     /* asked by a client, or by an operator who stops the child */
	EV_CANCELED,   /* reported: ended because of a cancel */
	EV_STOPPED,    /* its child was stopped by an operator and has ended */
	EV_EXPIRE,     /* waited for longer than it wanted to */
	RUN_EVENTS
};

struct run_cause { /* what run_next needs to know beside the event */
	enum run_event event;
	enum fail_class fail;   /* EV_FAIL, EV_LOSE */
	bool crash;             /* EV_LOSE: the worker died with the run inside */
	bool solo;              /* … and held no other run */
	bool larger;            /* a larger class exists */
	bool reported;          /* the worker said so itself: its report is accepted with the change */
	const char *reason;     /* for people, "" for none */
	const char *worker;     /* EV_LEASE */
	uint64_t request;       /* EV_LEASE: of the one-shot, else 0 */
	struct fence fence;     /* EV_LEASE */
	uint64_t random;        /* fresh; back-off is drawn from it */
};

struct run_limits { /* retry budget, from core_config */
	unsigned max_lost, max_crashes, max_infra;
	int64_t backoff_base_ms, backoff_cap_ms;
};

/* Whether the event may happen to a run in this state; otherwise it is stale. */
bool run_may(enum run_state from, enum run_event event);

/* The row after the event, which must be allowed. real_ms stamps it. */
struct run_row run_next(const struct run_row *row, const struct run_cause *cause, const struct run_limits *limits, int64_t real_ms);

/* The event that a report of this outcome means; false if a worker may not report it. */
bool run_event_of_report(enum run_state outcome, enum run_event *ret);

/* Word of an event for logs and tests. */
const char *run_event_word(enum run_event e);

#endif
