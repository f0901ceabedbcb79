/* sim_policies.c - the policies that the simulator compares: others' as their documents and sources describe them, and ours,
 * which is the very code of the agent (policy.c). */
#include <math.h>
#include <string.h>

#include "autoscale/policy.h"
#include "autoscale/sim.h"
#include "autoscale/strategy.h"

static int64_t
clamp(int64_t v, int64_t low, int64_t high)
{
	return v < low ? low : v > high ? high : v;
}

/* --- the Nomad Autoscaler, target-value: evaluations on a clock, one cooldown after every change, and the count that it reckons
 * with is that of running allocations. The metric is runs (waiting and running) per worker, the target a worker's slots. --- */

struct stock {
	bool scaled;
	int64_t scaled_ms;
};

static int64_t
stock_decide(struct stock *s, const struct sim_view *v, int64_t cooldown_ms)
{
	double demand = (double)(v->ready + v->running), workers = v->up > 0 ? (double)v->up : 1;
	int64_t to = strategy_target_value(v->up, demand / workers, (double)v->cluster->slots, 0.01);

	to = clamp(to, v->cluster->min, v->cluster->max);
	if (to == v->up || (s->scaled && v->now_ms < s->scaled_ms + cooldown_ms))
		return v->desired;
	/* It asks again while workers start; only a count that differs is a change. */
	if (to != v->desired) {
		s->scaled = true;
		s->scaled_ms = v->now_ms;
	}
	return to;
}

static int64_t
target_value(void *state, const struct sim_view *v)
{
	return stock_decide(state, v, 300000);
}

static int64_t
target_value_fast(void *state, const struct sim_view *v)
{
	return stock_decide(state, v, 30000);
}

/* --- KEDA's ScaledJob: how many jobs to add. Jobs end by themselves. M: most, R: not ended, P: not ready yet of these,
 * S = min(M, ceil(queue ÷ target)). --- */

static int64_t
keda_s(const struct sim_view *v)
{
	int64_t s = (v->ready + v->cluster->slots - 1) / v->cluster->slots;

	return s < v->cluster->max ? s : v->cluster->max;
}

static int64_t
keda(const struct sim_view *v, int64_t add)
{
	return v->alive + clamp(add, 0, v->cluster->max - v->alive);
}

static int64_t
keda_default(void *state, const struct sim_view *v)
{
	(void)state;
	return keda(v, keda_s(v) - v->alive);
}

static int64_t
keda_accurate(void *state, const struct sim_view *v)
{
	int64_t s = keda_s(v), r = v->alive, p = v->alive - v->up, m = v->cluster->max;

	(void)state;
	return keda(v, s + r - p > m ? m - r : s - p);
}

static int64_t
keda_eager(void *state, const struct sim_view *v)
{
	int64_t s = keda_s(v), room = v->cluster->max - v->alive - (v->alive - v->up);

	(void)state;
	return keda(v, room < s ? room : s);
}

/* --- AssemblyLine's leaky integrator: pressure by the root of the backlog and by how busy the workers are; one worker more or
 * less when it has grown far enough. Constants as shipped (100, 60, 30). --- */

struct integrator {
	double pressure;
};

static int64_t
assemblyline(void *state, const struct sim_view *v)
{
	const double dt = 5, backlog = 100, growth = 60, shrink = 30;
	struct integrator *s = state;
	double slots = (double)(v->up * v->cluster->slots), duty = slots > 0 ? (double)v->running / slots : 0;

	s->pressure += dt * sqrt((double)v->ready / backlog);
	if (duty > 0.7)
		s->pressure += dt * (duty - 0.7) / 0.7;
	if (slots > 0 && duty < 0.5)
		s->pressure -= dt * (0.5 - duty) / 0.5;
	/* It leaks toward 0. */
	s->pressure -= fmin(fabs(s->pressure), 0.1 * dt) * (s->pressure > 0 ? 1 : -1);
	if (v->desired <= v->cluster->min && s->pressure < 0)
		s->pressure = 0;
	if (s->pressure >= growth) {
		s->pressure = 0;
		return v->desired + 1;
	}
	if (s->pressure <= -shrink) {
		s->pressure = 0;
		return v->desired - 1;
	}
	return v->desired;
}

/* --- ours --- */

struct drover {
	bool begun;
	struct policy policy;
	struct policy_state state;
};

static int64_t
drover(void *state, const struct sim_view *v)
{
	struct drover *s = state;
	struct policy_facts f = {.queue_known = true, .ready = v->ready, .running = v->running, .oldest_ms = v->oldest_ms,
		.arrivals_total = v->arrivals_total, .service_ms = v->service_ms, .workers = v->up, .slots = v->up * v->cluster->slots,
		.taking = v->up, .held = v->running, .idle = v->up * v->cluster->slots - v->running, .count = v->desired,
		.starting = v->alive - v->up};
	struct policy_decision d;

	if (!s->begun) {
		s->begun = true;
		s->policy = policy_default();
		s->policy.min = v->cluster->min;
		s->policy.max = v->cluster->max;
		s->policy.checks[0] = policy_check_default(STRATEGY_DROVER);
		s->policy.checks[0].slots = v->cluster->slots;
		s->policy.n_checks = 1;
	}
	/* A scale-in takes effect over a while, in steps of its own: they are not a stranger's. */
	policy_unsure(&s->state);
	policy_decide(&s->policy, &s->state, &f, v->now_ms, &d);
	return d.action == ACTION_HOLD ? v->desired : d.to;
}

static const struct sim_policy policies[] = {
	{"target-value", "Nomad Autoscaler as shipped: every 10 s, cooldown 5 m", 10000, false, false, sizeof(struct stock), target_value},
	{"target-value-1s", "Nomad Autoscaler, every 1 s, cooldown 30 s", 1000, false, false, sizeof(struct stock), target_value_fast},
	{"keda-default", "KEDA ScaledJob, every 30 s", 30000, false, true, 0, keda_default},
	{"keda-accurate", "KEDA ScaledJob, strategy accurate", 30000, false, true, 0, keda_accurate},
	{"keda-eager", "KEDA ScaledJob, strategy eager", 30000, false, true, 0, keda_eager},
	{"assemblyline", "AssemblyLine's leaky integrator, every 5 s", 5000, false, false, sizeof(struct integrator), assemblyline},
	{"drover", "ours: drain objective 60 s, scale-in after 60 s, workers drained first", 1000, true, false, sizeof(struct drover), drover},
};

size_t
sim_policies(const struct sim_policy **ret)
{
	*ret = policies;
	return sizeof(policies) / sizeof(policies[0]);
}
