#include "autoscale/meters.h"

#include "base/metrics.h"

static const struct metric table[SCALE_METERS] = {
	[SCALE_LEADER] = {"drover_autoscale_leader", METRIC_GAUGE, 0, "1 while this one acts."},
	[SCALE_ROUNDS] = {"drover_autoscale_rounds_total", METRIC_COUNTER, "result", "Looks at a group, by what came of them."},
	[SCALE_CALLS] = {"drover_autoscale_scale_calls_total", METRIC_COUNTER, "direction", "Changes of a count."},
	[SCALE_HOLDS] = {"drover_autoscale_holds_total", METRIC_COUNTER, "reason", "Looks at a group that changed nothing, by reason."},
	[SCALE_COUNT] = {"drover_autoscale_count", METRIC_GAUGE, "job", "Workers that the group shall have."},
	[SCALE_WANTED] = {"drover_autoscale_wanted", METRIC_GAUGE, "job", "Workers that the policy proposes, before its limits."},
	[SCALE_READY] = {"drover_autoscale_ready", METRIC_GAUGE, "job", "Runs that wait for a warm worker."},
	[SCALE_RUNNING] = {"drover_autoscale_running", METRIC_GAUGE, "job", "Runs on warm workers."},
	[SCALE_STARTING] = {"drover_autoscale_starting", METRIC_GAUGE, "job", "Allocations whose worker has not registered yet."},
	[SCALE_DRAINING] = {"drover_autoscale_draining", METRIC_GAUGE, "job", "Workers that are kept free for a scale-in."},
	[SCALE_STRANGERS] = {"drover_autoscale_other_stops_total", METRIC_COUNTER, 0, "Allocations that went with a scale-in without having been drained for it."},
	[SCALE_QUEUE_AGE] = {"drover_autoscale_queue_age_seconds", METRIC_GAUGE, 0, "Age of the queue's figures."},
	[SCALE_REACTION] = {"drover_autoscale_reaction_seconds", METRIC_SECONDS, 0, "From the answer about the queue to the scale call's end."},
	[SCALE_ROUND_SECONDS] = {"drover_autoscale_round_seconds", METRIC_SECONDS, 0, "Time of one look at a group."},
};

void
scale_meters_init(void)
{
	metrics_init(table, SCALE_METERS);
}
