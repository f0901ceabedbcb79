#include "autoscale/strategy.h"

#include <math.h>

#define EPSILON 1e-9 /* sums of fractions that are whole numbers stay whole */

static int64_t
round_up(double v)
{
	if (!(v > 0)) /* also NaN */
		return 0;
	return v >= POLICY_COUNT_MAX ? POLICY_COUNT_MAX : (int64_t)ceil(v - EPSILON);
}

double
strategy_metric(enum policy_metric m, const struct policy_facts *f, int64_t slots)
{
	double demand = (double)(f->ready + f->running), workers = f->count > 0 ? (double)f->count : 1.0;

	switch (m) {
	case METRIC_READY:
		return (double)f->ready;
	case METRIC_RUNNING:
		return (double)f->running;
	case METRIC_DEMAND:
		return demand;
	case METRIC_READY_PER_WORKER:
		return (double)f->ready / workers;
	case METRIC_DEMAND_PER_WORKER:
		return demand / workers;
	case METRIC_OLDEST_SECONDS:
		return (double)f->oldest_ms / 1000.0;
	case METRIC_WORKERS_NEEDED:
		return (double)round_up(demand / (double)slots);
	case METRICS:
		break;
	}
	return 0;
}

int64_t
strategy_target_value(int64_t count, double metric, double target, double threshold)
{
	double factor = target != 0 ? metric / target : metric;

	if (count == 0)
		return round_up(factor);
	if (factor >= 1 - threshold && factor <= 1 + threshold)
		return count;
	return round_up((double)count * factor);
}

static int64_t
ceil_div(int64_t a, int64_t b)
{
	return (a + b - 1) / b;
}

/* Slots of one worker: as those that are there tell, else as the policy says, else one. While runs wait and nobody can take one,
 * workers are full with what they hold, however many slots they have: runs declare cpu and memory, too. */
static int64_t
slots_per_worker(const struct policy_check *c, const struct policy_facts *f)
{
	int64_t slots = c->slots > 0 ? c->slots : 1;

	if (f->workers > 0 && f->slots > 0)
		slots = ceil_div(f->slots, f->workers);
	if (f->ready > f->one_shots && f->idle == 0 && f->held > 0 && ceil_div(f->held, f->taking) < slots)
		slots = ceil_div(f->held, f->taking);
	return slots;
}

/* Little's law for what comes in, and the backlog spread over the drain objective. What runs needs its slots whatever the rate
 * says, and a waiting run never has use for more than one. */
static double
drover_slots(const struct policy_check *c, const struct policy_facts *f, double rate, int64_t service_ms, int64_t backlog)
{
	double service_s = (double)service_ms / 1000.0, busy = (double)f->running, steady = rate * service_s;
	double share = (double)service_ms / (double)c->drain_ms;

	return (steady > busy ? steady : busy) + (double)backlog * (share < 1 ? share : 1);
}

struct proposal
strategy_propose(const struct policy_check *c, const struct policy_facts *f, double rate)
{
	struct proposal p = {.slots = slots_per_worker(c, f), .service_ms = f->service_ms > 0 ? f->service_ms : c->service_ms};
	double metric;

	p.backlog = f->ready > f->one_shots ? f->ready - f->one_shots : 0;
	if (c->strategy == STRATEGY_DROVER) {
		p.raw = drover_slots(c, f, rate, p.service_ms, p.backlog) / (double)p.slots;
		/* Fewer would do, but while runs wait for a slot those that are there work it off first: what is known of a run's
		 * length while a burst is on comes from the shortest ones. */
		if (p.raw < (double)f->count && p.backlog > f->idle)
			p.raw = (double)f->count;
		p.count = round_up(p.raw);
		p.in_band = f->count > 0 && p.count > 0 && fabs(p.raw / (double)f->count - 1) <= c->threshold;
		return p;
	}
	metric = strategy_metric(c->metric, f, p.slots);
	if (c->strategy == STRATEGY_PASS_THROUGH) {
		p.raw = metric > 0 ? metric : 0;
		p.count = round_up(metric);
		return p;
	}
	p.count = strategy_target_value(f->count, metric, c->target, c->threshold);
	p.raw = (double)p.count;
	p.in_band = f->count > 0 && p.count == f->count;
	return p;
}
