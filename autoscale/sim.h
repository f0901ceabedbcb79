/* sim.h - a worker group on Nomad in virtual time: what each policy would have done with a load. Pure and deterministic.
 *
 * Time goes in steps of SIM_STEP_MS. Workers have slots and need a while to start; the run that waited longest goes to the lowest
 * index with a free slot. A count that is lowered takes the highest indexes away: at once, with what runs there (which then
 * begins anew), or, for a policy that drains, when they are idle.
 */
#ifndef AUTOSCALE_SIM_H
#define AUTOSCALE_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autoscale/sim_load.h"

#define SIM_STEP_MS 200
#define SIM_POINTS 240   /* of a curve */
#define SIM_WORKERS_MAX 1000

struct sim_cluster {
	int64_t min, max, slots, start_ms;
};

struct sim_view { /* what a policy sees */
	int64_t now_ms;           /* > 0 */
	const struct sim_cluster *cluster;
	int64_t ready, running, oldest_ms, arrivals_total, service_ms; /* service_ms: mean of what has ended, 0 none */
	int64_t desired, alive, up; /* workers: asked for, there, ready of these */
};

struct sim_policy {
	const char *name, *text;
	int64_t interval_ms;      /* between two decisions */
	bool drains;              /* victims finish first */
	bool leaves;              /* workers are jobs that end by themselves when nothing waits; the count is only ever raised */
	size_t state_size;
	int64_t (*decide)(void *state, const struct sim_view *v); /* state: zeroed at first. Returns the desired count */
};

struct sim_result {
	double wait_p50_s, wait_p95_s, wait_p99_s, worker_hours;
	int64_t actions, killed, finished, workers_max;
	float workers[SIM_POINTS], queue[SIM_POINTS]; /* means over time, for plots */
};

/* All policies that are compared: ours last. */
size_t sim_policies(const struct sim_policy **ret);

/* Plays a load to its end (all runs finished, or six times its length). */
struct sim_result sim_play(const struct sim_load *l, const struct sim_policy *p, const struct sim_cluster *c);

#endif
