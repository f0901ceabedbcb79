/* sim_plot.h - the simulator's results as an SVG picture. Pure. */
#ifndef AUTOSCALE_SIM_PLOT_H
#define AUTOSCALE_SIM_PLOT_H

#include "autoscale/sim.h"
#include "base/buf.h"

#define SIM_PLOT_MAX_BYTES (8 * 1024 * 1024)

/* Appends one picture: a row per load (n_loads), in it the workers over time of a few policies, and what each of all policies
 * (n_policies) cost and how long its runs waited. results: by load, then by policy. */
void sim_plot(struct buf *b, const struct sim_load *loads, size_t n_loads, const struct sim_policy *policies, size_t n_policies,
    const struct sim_result *results);

#endif
