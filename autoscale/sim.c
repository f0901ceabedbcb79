#include "autoscale/sim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define LENGTHS_MAX 6

struct slot {
	int64_t end_ms; /* of what runs there */
	size_t run;
};

struct sim_worker {
	bool alive, draining;
	int64_t ready_ms;
	int64_t busy;
	struct slot *slots;
};

struct sim {
	const struct sim_load *load;
	const struct sim_policy *policy;
	const struct sim_cluster *cluster;
	void *state;
	int64_t now;
	size_t arrived;          /* runs of the load that have come */
	size_t *queue;           /* ring: waiting runs, oldest first */
	size_t head, waiting, cap;
	struct sim_worker *workers;
	int64_t desired, alive, running, next_decision;
	double service_sum_ms;
	double *waits;           /* seconds, of finished runs: until the start that was not cut short */
	struct sim_result result;
	double points_workers[SIM_POINTS], points_queue[SIM_POINTS];
	int64_t samples[SIM_POINTS];
};

/* --- the queue --- */

static void
enqueue(struct sim *s, size_t run, bool in_front)
{
	if (in_front) {
		s->head = (s->head + s->cap - 1) % s->cap;
		s->queue[s->head] = run;
	} else {
		s->queue[(s->head + s->waiting) % s->cap] = run;
	}
	s->waiting++;
}

static size_t
dequeue(struct sim *s)
{
	size_t run = s->queue[s->head];

	s->head = (s->head + 1) % s->cap;
	s->waiting--;
	return run;
}

/* --- workers --- */

static void
take_away(struct sim *s, struct sim_worker *w)
{
	for (int64_t i = 0; i < w->busy; i++)
		enqueue(s, w->slots[i].run, true);
	s->result.killed += w->busy;
	s->running -= w->busy;
	w->busy = 0;
	w->alive = w->draining = false;
	s->alive--;
}

static void
start_worker(struct sim *s)
{
	for (int64_t i = 0; i < s->cluster->max; i++) {
		struct sim_worker *w = &s->workers[i];

		if (w->alive)
			continue;
		w->alive = true;
		w->draining = false;
		w->ready_ms = s->now + s->cluster->start_ms;
		s->alive++;
		return;
	}
}

/* Highest indexes first. With drains: marked now, taken when idle from the highest down. */
static void
lower(struct sim *s, int64_t to)
{
	int64_t over = s->alive - to;

	for (int64_t i = s->cluster->max - 1; i >= 0 && over > 0; i--) {
		struct sim_worker *w = &s->workers[i];

		if (!w->alive)
			continue;
		over--;
		if (s->policy->drains)
			w->draining = true;
		else
			take_away(s, w);
	}
}

static void
undrain(struct sim *s)
{
	for (int64_t i = 0; i < s->cluster->max; i++)
		s->workers[i].draining = false;
}

/* What a scale-in that waits for idle workers may take: one scale call for all that have become idle at the top. */
static void
finish_drains(struct sim *s)
{
	int64_t taken = 0;

	for (int64_t i = s->cluster->max - 1; i >= 0; i--) {
		struct sim_worker *w = &s->workers[i];

		if (!w->alive)
			continue;
		if (!w->draining || w->busy > 0)
			break;
		take_away(s, w);
		taken++;
	}
	if (taken > 0) {
		s->desired = s->alive;
		s->result.actions++;
	}
}

/* Jobs that end by themselves. */
static void
leave_idle(struct sim *s)
{
	for (int64_t i = 0; i < s->cluster->max; i++) {
		struct sim_worker *w = &s->workers[i];

		if (w->alive && w->ready_ms <= s->now && w->busy == 0 && s->waiting == 0 && s->alive > s->cluster->min)
			take_away(s, w);
	}
	s->desired = s->alive;
}

/* --- a step --- */

static void
finish_runs(struct sim *s, struct sim_worker *w)
{
	for (int64_t i = 0; i < w->busy;) {
		const struct sim_run *run = &s->load->runs[w->slots[i].run];

		if (w->slots[i].end_ms > s->now) {
			i++;
			continue;
		}
		s->waits[s->result.finished++] = (double)(w->slots[i].end_ms - run->service_ms - run->at_ms) / 1000.0;
		s->service_sum_ms += (double)run->service_ms;
		w->slots[i] = w->slots[--w->busy];
		s->running--;
	}
}

static void
give_runs(struct sim *s, struct sim_worker *w)
{
	while (w->alive && !w->draining && w->ready_ms <= s->now && w->busy < s->cluster->slots && s->waiting > 0) {
		size_t run = dequeue(s);

		w->slots[w->busy++] = (struct slot){.run = run, .end_ms = s->now + s->load->runs[run].service_ms};
		s->running++;
	}
}

static struct sim_view
view_of(const struct sim *s)
{
	struct sim_view v = {.now_ms = s->now + 1, .cluster = s->cluster, .ready = (int64_t)s->waiting, .running = s->running,
		.arrivals_total = (int64_t)s->arrived, .desired = s->desired, .alive = s->alive,
		.service_ms = s->result.finished > 0 ? (int64_t)(s->service_sum_ms / (double)s->result.finished) : 0};

	if (s->waiting > 0)
		v.oldest_ms = s->now - s->load->runs[s->queue[s->head]].at_ms;
	for (int64_t i = 0; i < s->cluster->max; i++)
		v.up += s->workers[i].alive && s->workers[i].ready_ms <= s->now;
	return v;
}

static void
decide(struct sim *s)
{
	struct sim_view v = view_of(s);
	int64_t to = s->policy->decide(s->state, &v);

	to = to < s->cluster->min ? s->cluster->min : to > s->cluster->max ? s->cluster->max : to;
	s->next_decision = s->now + s->policy->interval_ms;
	if (s->policy->drains)
		undrain(s);
	if (to > s->alive) {
		while (s->alive < to)
			start_worker(s);
		s->result.actions++;
	} else if (to < s->alive && !s->policy->leaves) {
		lower(s, to);
		if (!s->policy->drains)
			s->result.actions++;
	}
	if (!s->policy->drains || to > s->desired)
		s->desired = to;
}

static void
sample(struct sim *s)
{
	size_t at = (size_t)(s->now * SIM_POINTS / s->load->length_ms);

	s->result.worker_hours += (double)s->alive * SIM_STEP_MS / 3600000.0;
	if (s->alive > s->result.workers_max)
		s->result.workers_max = s->alive;
	if (at >= SIM_POINTS)
		return;
	s->points_workers[at] += (double)s->alive;
	s->points_queue[at] += (double)s->waiting;
	s->samples[at]++;
}

static void
step(struct sim *s)
{
	while (s->arrived < s->load->n && s->load->runs[s->arrived].at_ms <= s->now)
		enqueue(s, s->arrived++, false);
	for (int64_t i = 0; i < s->cluster->max; i++)
		finish_runs(s, &s->workers[i]);
	if (s->now >= s->next_decision)
		decide(s);
	if (s->policy->drains)
		finish_drains(s);
	for (int64_t i = 0; i < s->cluster->max; i++)
		give_runs(s, &s->workers[i]);
	if (s->policy->leaves)
		leave_idle(s);
	sample(s);
	s->now += SIM_STEP_MS;
}

/* --- the end --- */

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
percentile(const double *sorted, int64_t n, double share)
{
	int64_t at = (int64_t)ceil((double)n * share) - 1;

	return n == 0 ? 0 : sorted[at < 0 ? 0 : at];
}

static void
sum_up(struct sim *s)
{
	struct sim_result *r = &s->result;
	int64_t n = r->finished;

	/* Runs that still wait at the end have waited, too: left out they would make a policy that forgets them look fast. */
	while (s->waiting > 0)
		s->waits[n++] = (double)(s->now - s->load->runs[dequeue(s)].at_ms) / 1000.0;
	qsort(s->waits, (size_t)n, sizeof(*s->waits), by_value);
	r->wait_p50_s = percentile(s->waits, n, 0.50);
	r->wait_p95_s = percentile(s->waits, n, 0.95);
	r->wait_p99_s = percentile(s->waits, n, 0.99);
	for (size_t i = 0; i < SIM_POINTS; i++) {
		double samples = s->samples[i] > 0 ? (double)s->samples[i] : 1;

		r->workers[i] = (float)(s->points_workers[i] / samples);
		r->queue[i] = (float)(s->points_queue[i] / samples);
	}
}

struct sim_result
sim_play(const struct sim_load *l, const struct sim_policy *p, const struct sim_cluster *c)
{
	struct sim *s = xcalloc(1, sizeof(*s));
	struct sim_result result;

	*s = (struct sim){.load = l, .policy = p, .cluster = c, .cap = l->n + 1};
	s->state = xcalloc(1, p->state_size + 1);
	s->queue = xcalloc(s->cap, sizeof(*s->queue));
	s->waits = xcalloc(l->n + 1, sizeof(*s->waits));
	s->workers = xcalloc((size_t)c->max, sizeof(*s->workers));
	for (int64_t i = 0; i < c->max; i++)
		s->workers[i].slots = xcalloc((size_t)c->slots, sizeof(struct slot));
	while (s->alive < c->min)
		start_worker(s);
	s->desired = s->alive;
	while ((s->now < l->length_ms || (size_t)s->result.finished < l->n) && s->now < LENGTHS_MAX * l->length_ms)
		step(s);
	sum_up(s);
	result = s->result;
	for (int64_t i = 0; i < c->max; i++)
		free(s->workers[i].slots);
	free(s->workers);
	free(s->waits);
	free(s->queue);
	free(s->state);
	free(s);
	return result;
}
