#include "autoscale/policy.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "autoscale/strategy.h"

#define MINUTE_MS INT64_C(60000)
#define PAUSE_FACTOR_MAX 16

static const char *const action_words[] = {[ACTION_HOLD] = "hold", [ACTION_UP] = "up", [ACTION_DOWN] = "down"};
static const char *const hold_words[HOLDS] = {[HOLD_NONE] = "", [HOLD_STEADY] = "steady", [HOLD_DISABLED] = "disabled",
	[HOLD_STOPPED] = "stopped", [HOLD_STALE] = "stale", [HOLD_DEPLOYMENT] = "deployment", [HOLD_FOREIGN] = "foreign_change",
	[HOLD_STARTS] = "failed_starts", [HOLD_DEAD_BAND] = "dead_band", [HOLD_STABILISE] = "stabilization",
	[HOLD_COOLDOWN] = "cooldown", [HOLD_SCALE_IN] = "scale_in"};
static const char *const strategy_words[STRATEGIES] = {[STRATEGY_DROVER] = "drover", [STRATEGY_TARGET_VALUE] = "target-value",
	[STRATEGY_PASS_THROUGH] = "pass-through"};
static const char *const metric_words[METRICS] = {[METRIC_READY] = "ready", [METRIC_RUNNING] = "running",
	[METRIC_DEMAND] = "demand", [METRIC_READY_PER_WORKER] = "ready_per_worker", [METRIC_DEMAND_PER_WORKER] = "demand_per_worker",
	[METRIC_OLDEST_SECONDS] = "oldest_s", [METRIC_WORKERS_NEEDED] = "workers_needed"};

const char *
policy_action_word(enum policy_action a)
{
	return action_words[a];
}

const char *
policy_hold_word(enum policy_hold h)
{
	return hold_words[h];
}

const char *
policy_strategy_word(enum policy_strategy s)
{
	return strategy_words[s];
}

const char *
policy_metric_word(enum policy_metric m)
{
	return metric_words[m];
}

static int
word_index(const char *const *words, size_t n, const char *word)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(words[i], word) == 0)
			return (int)i;
	return -1;
}

int
policy_strategy_parse(const char *word)
{
	return word_index(strategy_words, STRATEGIES, word);
}

int
policy_metric_parse(const char *word)
{
	return word_index(metric_words, METRICS, word);
}

struct policy
policy_default(void)
{
	return (struct policy){.enabled = true, .max = 1, .evaluation_ms = 10000, .stabilise_down_ms = MINUTE_MS, .stale_ms = 15000,
		.foreign_hold_ms = 2 * MINUTE_MS, .start_failures = 3, .start_pause_ms = MINUTE_MS};
}

struct policy_check
policy_check_default(enum policy_strategy s)
{
	static const struct policy_check of[STRATEGIES] = {
		[STRATEGY_DROVER] = {.threshold = 0.1},
		[STRATEGY_TARGET_VALUE] = {.metric = METRIC_READY_PER_WORKER, .threshold = 0.01},
		[STRATEGY_PASS_THROUGH] = {.metric = METRIC_WORKERS_NEEDED},
	};
	struct policy_check c = of[s];

	c.strategy = s;
	c.drain_ms = MINUTE_MS;
	c.service_ms = MINUTE_MS / 2;
	return c;
}

/* --- the memory --- */

/* Counts arrivals into slices. The rate leaves out the two fullest: a burst is a backlog, not a rate. */
static double
arrival_rate(struct policy_state *s, int64_t total, int64_t now)
{
	int64_t sum = 0, first = 0, second = 0;
	size_t n = s->n_slices;

	if (!s->arrivals_seen || total < s->arrivals_last) {
		s->arrivals_seen = true;
		s->arrivals_last = total;
		s->slice_mono_ms = now;
		s->n_slices = 0;
		s->slices[0] = 0;
		return 0;
	}
	/* slices[0] is the open one. A gap longer than all of them leaves nothing of before. */
	for (int64_t steps = 0; now - s->slice_mono_ms >= POLICY_SLICE_MS; steps++) {
		if (steps > POLICY_RATE_SLICES)
			s->slice_mono_ms = now - (now - s->slice_mono_ms) % POLICY_SLICE_MS - POLICY_SLICE_MS;
		memmove(&s->slices[1], &s->slices[0], sizeof(s->slices[0]) * (POLICY_RATE_SLICES - 1));
		s->slices[0] = 0;
		s->slice_mono_ms += POLICY_SLICE_MS;
		if (s->n_slices < POLICY_RATE_SLICES - 1)
			s->n_slices++;
	}
	s->slices[0] += total - s->arrivals_last;
	s->arrivals_last = total;
	n = s->n_slices;
	if (n < 4)
		return 0;
	for (size_t i = 1; i <= n; i++) {
		int64_t v = s->slices[i];

		sum += v;
		if (v > first) {
			second = first;
			first = v;
		} else if (v > second) {
			second = v;
		}
	}
	return (double)(sum - first - second) * 1000.0 / (double)((int64_t)(n - 2) * POLICY_SLICE_MS);
}

/* Adds a proposal to a window of that length; what is close together shares a slice. */
static void
window_add(struct policy_window *w, int64_t window_ms, int64_t value, int64_t now)
{
	size_t last = (w->next + POLICY_SAMPLES - 1) % POLICY_SAMPLES;

	if (w->first_mono_ms == 0)
		w->first_mono_ms = now;
	if (w->n > 0 && now - w->began_mono_ms[last] < window_ms / (POLICY_SAMPLES - 2)) {
		w->low[last] = value < w->low[last] ? value : w->low[last];
		w->high[last] = value > w->high[last] ? value : w->high[last];
		return;
	}
	w->began_mono_ms[w->next] = now;
	w->low[w->next] = w->high[w->next] = value;
	w->next = (w->next + 1) % POLICY_SAMPLES;
	if (w->n < POLICY_SAMPLES)
		w->n++;
}

/* The lowest or highest proposal of the window. Slices that reach into it count whole. */
static int64_t
window_extreme(const struct policy_window *w, int64_t window_ms, int64_t now, bool highest)
{
	int64_t from = now - window_ms - window_ms / (POLICY_SAMPLES - 2);
	size_t last = (w->next + POLICY_SAMPLES - 1) % POLICY_SAMPLES;
	int64_t v = highest ? w->high[last] : w->low[last];

	for (size_t i = 0; i < w->n; i++) {
		if (w->began_mono_ms[i] < from)
			continue;
		if (highest ? w->high[i] > v : w->low[i] < v)
			v = highest ? w->high[i] : w->low[i];
	}
	return v;
}

void
policy_scaled(struct policy_state *s, int64_t from, int64_t to, int64_t now)
{
	assert(from != to); /* a no-op scale is not free: it must never be sent */
	s->seen = true;
	s->count_known = to;
	*(to > from ? &s->up_mono_ms : &s->down_mono_ms) = now;
}

void
policy_unsure(struct policy_state *s)
{
	s->seen = false;
}

/* --- deciding --- */

__attribute__((format(printf, 4, 5))) static void
hold(struct policy_decision *d, enum policy_hold why, int64_t until, const char *fmt, ...)
{
	va_list ap;

	d->action = ACTION_HOLD;
	d->hold = why;
	d->to = d->count;
	d->until_mono_ms = until;
	va_start(ap, fmt);
	(void)vsnprintf(d->reason, sizeof(d->reason), fmt, ap);
	va_end(ap);
}

static long long
seconds(int64_t ms)
{
	return (ms + 999) / 1000;
}

/* Holds that do not depend on what is wanted. */
static bool
held_by_facts(const struct policy *p, const struct policy_state *s, const struct policy_facts *f, int64_t now,
    struct policy_decision *d)
{
	int64_t until = s->foreign_mono_ms + p->foreign_hold_ms;

	if (!p->enabled)
		hold(d, HOLD_DISABLED, 0, "scaling is disabled in the job");
	else if (f->stopped)
		hold(d, HOLD_STOPPED, 0, "the job is stopped");
	else if (!f->queue_known)
		hold(d, HOLD_STALE, 0, "the queue has not been read yet");
	else if (f->queue_age_ms > p->stale_ms)
		hold(d, HOLD_STALE, 0, "the queue's figures are %lld s old, more than %lld s", seconds(f->queue_age_ms),
		    seconds(p->stale_ms));
	else if (f->deployment)
		hold(d, HOLD_DEPLOYMENT, 0, "a deployment is active");
	else if (s->foreign_mono_ms != 0 && now < until && f->count >= p->min && f->count <= p->max)
		hold(d, HOLD_FOREIGN, until, "someone else set the count to %lld; left alone for %lld s more", (long long)f->count,
		    seconds(until - now));
	return d->hold != HOLD_NONE;
}

/* Notes counts that are not ours. */
static void
watch_count(struct policy_state *s, const struct policy_facts *f, int64_t now)
{
	if (s->seen && f->count != s->count_known)
		s->foreign_mono_ms = now;
	s->seen = true;
	s->count_known = f->count;
}

/* Starts that fail again and again: each further one doubles the pause, one that works ends it. */
static void
watch_starts(const struct policy *p, struct policy_state *s, const struct policy_facts *f, int64_t now)
{
	if (f->failed_starts < p->start_failures) {
		s->pause_until_mono_ms = s->pause_ms = s->failures_paused = 0;
		return;
	}
	if (f->failed_starts == s->failures_paused)
		return;
	s->failures_paused = f->failed_starts;
	if (s->pause_ms == 0)
		s->pause_ms = p->start_pause_ms;
	else if (now >= s->pause_until_mono_ms && s->pause_ms < PAUSE_FACTOR_MAX * p->start_pause_ms)
		s->pause_ms *= 2;
	s->pause_until_mono_ms = now + s->pause_ms;
}

static void
propose(const struct policy *p, const struct policy_facts *f, struct policy_decision *d, bool *in_band)
{
	*in_band = false;
	for (size_t i = 0; i < p->n_checks; i++) {
		struct proposal one = strategy_propose(&p->checks[i], f, d->rate);

		if (i > 0 && one.count <= d->wanted)
			continue;
		d->wanted = one.count;
		d->raw = one.raw;
		d->service_ms = one.service_ms;
		d->backlog = one.backlog;
		d->slots = one.slots;
		d->check = i;
		*in_band = one.in_band;
	}
}

static int64_t
clamp(int64_t v, int64_t low, int64_t high)
{
	return v < low ? low : v > high ? high : v;
}

/* Up: after the pause for failed starts one worker at a time is tried. */
static void
decide_up(const struct policy *p, const struct policy_state *s, const struct policy_facts *f, int64_t now, int64_t target,
    struct policy_decision *d)
{
	int64_t cap = p->checks[d->check].max_up;

	if (s->up_mono_ms != 0 && now < s->up_mono_ms + p->cooldown_up_ms) {
		hold(d, HOLD_COOLDOWN, s->up_mono_ms + p->cooldown_up_ms,
		    "%lld wanted; the last scale-up was %lld s ago, less than %lld s", (long long)target,
		    seconds(now - s->up_mono_ms), seconds(p->cooldown_up_ms));
		return;
	}
	if (s->pause_ms > 0) {
		if (now < s->pause_until_mono_ms) {
			hold(d, HOLD_STARTS, s->pause_until_mono_ms, "%lld wanted; %lld starts in a row failed, paused for %lld s more",
			    (long long)target, (long long)f->failed_starts, seconds(s->pause_until_mono_ms - now));
			return;
		}
		cap = 1;
	}
	if (cap > 0 && target > f->count + cap)
		target = f->count + cap;
	d->action = ACTION_UP;
	d->to = target;
}

static void
decide_down(const struct policy *p, const struct policy_state *s, const struct policy_facts *f, int64_t now, int64_t target,
    struct policy_decision *d)
{
	int64_t cap = p->checks[d->check].max_down, last = s->up_mono_ms > s->down_mono_ms ? s->up_mono_ms : s->down_mono_ms;

	if (last != 0 && now < last + p->cooldown_ms) {
		hold(d, HOLD_COOLDOWN, last + p->cooldown_ms, "%lld wanted; the last change was %lld s ago, less than %lld s",
		    (long long)target, seconds(now - last), seconds(p->cooldown_ms));
		return;
	}
	if (cap > 0 && target < f->count - cap)
		target = f->count - cap;
	d->action = ACTION_DOWN;
	d->to = target;
}

/* The target after stabilisation: the lowest of the up window if that is more than there is, the highest of the down window if
 * that is less. */
static int64_t
stabilised(const struct policy *p, const struct policy_state *s, int64_t count, int64_t now)
{
	int64_t low = window_extreme(&s->up, p->stabilise_up_ms, now, false);
	int64_t high = window_extreme(&s->down, p->stabilise_down_ms, now, true);

	if (low > count && now - s->up.first_mono_ms >= p->stabilise_up_ms)
		return low;
	if (high < count && now - s->down.first_mono_ms >= p->stabilise_down_ms)
		return high;
	return count;
}

static void
explain(const struct policy *p, const struct policy_facts *f, struct policy_decision *d)
{
	const struct policy_check *c = &p->checks[d->check];
	size_t len;

	if (c->strategy == STRATEGY_DROVER)
		(void)snprintf(d->reason, sizeof(d->reason),
		    "%lld ready, %lld running, %lld one-shots coming, %.2f arrivals/s × %.1f s, %lld s to drain, %lld slots: %lld wanted",
		    (long long)f->ready, (long long)f->running, (long long)f->one_shots, d->rate, (double)d->service_ms / 1000.0,
		    seconds(c->drain_ms), (long long)d->slots, (long long)d->wanted);
	else
		(void)snprintf(d->reason, sizeof(d->reason), "%s %s = %.2f (target %.2f): %lld wanted", strategy_words[c->strategy],
		    metric_words[c->metric], strategy_metric(c->metric, f, d->slots), c->target, (long long)d->wanted);
	len = strlen(d->reason);
	if (d->wanted != d->to)
		(void)snprintf(d->reason + len, sizeof(d->reason) - len, ", %lld after limits %lld..%lld and steps", (long long)d->to,
		    (long long)p->min, (long long)p->max);
}

void
policy_decide(const struct policy *p, struct policy_state *s, const struct policy_facts *f, int64_t now,
    struct policy_decision *d)
{
	bool in_band;
	int64_t target;

	assert(now > 0 && p->n_checks > 0 && p->n_checks <= POLICY_CHECKS_MAX);
	*d = (struct policy_decision){.count = f->count, .to = f->count};
	watch_count(s, f, now);
	watch_starts(p, s, f, now);
	if (f->queue_known)
		d->rate = arrival_rate(s, f->arrivals_total, now);
	propose(p, f, d, &in_band);
	if (held_by_facts(p, s, f, now, d))
		return;
	window_add(&s->up, p->stabilise_up_ms, d->wanted, now);
	window_add(&s->down, p->stabilise_down_ms, d->wanted, now);
	target = stabilised(p, s, f->count, now);
	/* Bounds come before all that follows: a count outside of them is brought in whatever the queue says. */
	target = clamp(target, p->min, p->max);
	if (target == f->count) {
		bool other = clamp(d->wanted, p->min, p->max) != f->count;

		hold(d, other ? HOLD_STABILISE : HOLD_STEADY, 0, other ? "%lld wanted, not long enough yet" : "%lld wanted",
		    (long long)d->wanted);
		return;
	}
	if (in_band && f->count >= p->min && f->count <= p->max) {
		hold(d, HOLD_DEAD_BAND, 0, "%.2f wanted, within %.0f %% of %lld", d->raw, p->checks[d->check].threshold * 100,
		    (long long)f->count);
		return;
	}
	(target > f->count ? decide_up : decide_down)(p, s, f, now, target, d);
	if (d->action == ACTION_HOLD)
		return;
	/* A step cap must not keep the count outside of its bounds: Nomad would refuse it. */
	d->to = clamp(d->to, p->min, p->max);
	assert(d->to != f->count);
	explain(p, f, d);
}
