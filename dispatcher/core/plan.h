/* plan.h - how many one-shots to ask of Nomad now, for one vertical, and how long a run will wait. Pure.
 *
 * The backlog is divided in this order: idle warm slots, warm slots that are starting, one-shots that were asked for and have not
 * taken a run yet, then new one-shots inside the window. A surplus is never taken back here: a one-shot that comes late takes the next run or ends.
 */
#ifndef DISPATCHER_CORE_PLAN_H
#define DISPATCHER_CORE_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "proto/run.h"

struct plan_lane {         /* one class of the vertical */
	size_t ready_any;  /* ready runs that either kind of worker may take */
	size_t ready_job;  /* ready runs that insist on a one-shot, or must run alone */
	size_t idle_warm;  /* slots of warm workers that wait for a run */
	size_t starting;   /* … that will be there soon */
	size_t coming;     /* one-shots that were asked for and have not taken a run */
};

struct plan_input {
	struct plan_lane lanes[RUN_CLASSES];
	size_t in_nomad;   /* one-shots of the vertical that may exist, whatever they do */
	size_t window;     /* most of them */
};

struct plan_output {
	size_t ask[RUN_CLASSES]; /* new requests; sum <= window - in_nomad */
};

/* Divides. Where the window is short, the classes take turns, so that neither starves the other. */
struct plan_output plan_one_shots(const struct plan_input *in);

struct wait_input {        /* of one queued run */
	size_t place;      /* it is taken with the place-th lease from now, >= 1 */
	size_t busy;       /* attempts that are going on */
	size_t capacity;   /* attempts that may go on at once, >= 1 */
	int64_t service_ms; /* how long one takes; 0: unknown */
	int64_t delay_ms;  /* not before */
};

/* About how long until it begins: as many attempts must end before as there are too many, `capacity` of them in each service time,
 * and those that are going on are in the middle of theirs. */
int64_t wait_estimate_ms(const struct wait_input *in);

#endif
