/* strategy.h - what one check of a policy proposes. Pure. */
#ifndef AUTOSCALE_STRATEGY_H
#define AUTOSCALE_STRATEGY_H

#include "autoscale/policy.h"

struct proposal {
	double raw;      /* workers, before rounding up; never negative */
	int64_t count;
	bool in_band;    /* within the dead band: it proposes to stay */
	int64_t service_ms, backlog, slots; /* what it was made of */
};

/* The proposal of a check. rate: arrivals per second. */
struct proposal strategy_propose(const struct policy_check *c, const struct policy_facts *f, double rate);

/* Value of a metric. */
double strategy_metric(enum policy_metric m, const struct policy_facts *f, int64_t slots);

/* The Nomad Autoscaler's target-value arithmetic (0.5.0), without caps: factor = metric ÷ target (target 0: the metric itself); from
 * 0, ceil(factor); inside 1 ± threshold, count; else ceil(count × factor). */
int64_t strategy_target_value(int64_t count, double metric, double target, double threshold);

#endif
