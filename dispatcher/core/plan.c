#include "dispatcher/core/plan.h"

/* One-shots that the lane lacks. Runs that insist on a one-shot cannot be served by warm slots. */
static size_t
lane_lack(const struct plan_lane *l)
{
	size_t warm = l->idle_warm + l->starting, any = l->ready_any > warm ? l->ready_any - warm : 0;
	size_t want = any + l->ready_job;

	return want > l->coming ? want - l->coming : 0;
}

struct plan_output
plan_one_shots(const struct plan_input *in)
{
	struct plan_output out = {{0}};
	size_t room = in->window > in->in_nomad ? in->window - in->in_nomad : 0;
	size_t lack[RUN_CLASSES], left = 0;

	for (size_t k = 0; k < RUN_CLASSES; k++) {
		lack[k] = lane_lack(&in->lanes[k]);
		left += lack[k];
	}
	for (size_t k = 0; room > 0 && left > 0; k = (k + 1) % RUN_CLASSES) {
		if (out.ask[k] == lack[k])
			continue;
		out.ask[k]++;
		room--;
		left--;
	}
	return out;
}

int64_t
wait_estimate_ms(const struct wait_input *in)
{
	size_t before = in->place + in->busy > in->capacity ? in->place + in->busy - in->capacity : 0;
	double rounds = before == 0 ? 0 : (double)before / (double)in->capacity;

	/* Of the first round half is over already, on average. */
	if (rounds > 0)
		rounds = rounds < 1 ? rounds / 2 : rounds - 0.5;
	return in->delay_ms + (int64_t)(rounds * (double)in->service_ms);
}
