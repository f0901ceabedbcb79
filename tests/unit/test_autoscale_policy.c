/* The scaling policy: each strategy's arithmetic, each hold, and what must be true whatever the facts are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "autoscale/policy.h"
#include "autoscale/strategy.h"

#define T0 1000000

static struct policy
policy_of(enum policy_strategy s)
{
	struct policy p = policy_default();

	p.max = 20;
	p.n_checks = 1;
	p.checks[0] = policy_check_default(s);
	p.checks[0].slots = 5;
	p.stabilise_down_ms = 0;
	return p;
}

static struct policy_facts
facts_of(int64_t count, int64_t ready, int64_t running)
{
	return (struct policy_facts){.queue_known = true, .ready = ready, .running = running, .count = count, .workers = count,
		.slots = 5 * count, .taking = count, .held = running, .idle = 5 * count - running};
}

static struct policy_decision
decide(const struct policy *p, struct policy_state *s, const struct policy_facts *f, int64_t now)
{
	struct policy_decision d;

	policy_decide(p, s, f, now, &d);
	return d;
}

static struct policy_decision
decide_once(const struct policy *p, const struct policy_facts *f)
{
	struct policy_state s = {0};

	return decide(p, &s, f, T0);
}

/* --- arithmetic --- */

static void
target_value_is_that_of_the_nomad_autoscaler(void **state)
{
	(void)state;
	assert_int_equal(strategy_target_value(0, 0, 10, 0.01), 0);
	assert_int_equal(strategy_target_value(0, 25, 10, 0.01), 3);
	assert_int_equal(strategy_target_value(4, 12.075, 10, 0.01), 5); /* 4.83 */
	assert_int_equal(strategy_target_value(4, 10.05, 10, 0.01), 4);
	assert_int_equal(strategy_target_value(4, 0, 10, 0.01), 0);
	assert_int_equal(strategy_target_value(3, 7, 0, 0.01), 21); /* target 0: the metric is the factor */
	assert_int_equal(strategy_target_value(10, 9.8, 10, 0.01), 10); /* ceil(9.8) */
	assert_int_equal(strategy_target_value(1, 1e300, 1, 0.01), POLICY_COUNT_MAX);
}

static void
drover_spreads_the_backlog_over_its_objective(void **state)
{
	struct policy p = policy_of(STRATEGY_DROVER);
	struct policy_facts f = facts_of(0, 100, 0);

	(void)state;
	f.service_ms = 30000; /* 100 × 30 s ÷ 60 s = 50 slots */
	assert_int_equal(decide_once(&p, &f).to, 10);
	f.one_shots = 40; /* these take some of it */
	assert_int_equal(decide_once(&p, &f).to, 6);
	f.service_ms = 3600000; /* a run never uses more than one slot */
	assert_int_equal(decide_once(&p, &f).to, 12);
	f.one_shots = 1000;
	assert_int_equal(decide_once(&p, &f).to, 0);
}

static void
drover_takes_nobody_away_while_runs_wait_for_a_slot(void **state)
{
	struct policy p = policy_of(STRATEGY_DROVER);
	struct policy_facts f = facts_of(8, 20, 5);

	(void)state;
	f.service_ms = 1000; /* 5 + 20 × 1 ÷ 60: two workers would do */
	f.slots = 5; /* the others are starting */
	f.workers = f.taking = 1;
	f.idle = 0;
	assert_int_equal(decide_once(&p, &f).action, ACTION_HOLD);
	f.slots = 40; /* there is room for all that wait: it is only being given out */
	f.workers = f.taking = 8;
	f.idle = 35;
	assert_int_equal(decide_once(&p, &f).to, 2);
	f.idle = 19; /* slots are free, but not for all of them: runs declare cpu and memory */
	assert_int_equal(decide_once(&p, &f).action, ACTION_HOLD);
}

static void
drover_learns_how_many_runs_fill_a_worker(void **state)
{
	struct policy p = policy_of(STRATEGY_DROVER);
	struct policy_facts f = facts_of(4, 100, 8);

	(void)state;
	f.service_ms = 30000; /* (8 + 100 × 30 ÷ 60) ÷ 5 */
	assert_int_equal(decide_once(&p, &f).to, 12);
	f.idle = 0; /* eight runs are all that these four can take at once */
	p.max = 100;
	assert_int_equal(decide_once(&p, &f).to, 29);
	f.taking = 1; /* three more are drained and hold one each */
	f.held = 5;
	assert_int_equal(decide_once(&p, &f).to, 12);
	f.taking = 4; /* nothing waits: what is held says nothing of what would fit */
	f.held = 8;
	f.ready = 0;
	assert_int_equal(decide_once(&p, &f).to, 2);
	f.ready = 100; /* nobody holds anything yet */
	f.held = f.running = 0;
	assert_int_equal(decide_once(&p, &f).to, 10);
}

static void
drover_keeps_the_slots_of_what_runs(void **state)
{
	struct policy p = policy_of(STRATEGY_DROVER);
	struct policy_facts f = facts_of(8, 0, 11);

	(void)state;
	assert_int_equal(decide_once(&p, &f).to, 3);
}

static void
drover_counts_a_steady_stream_but_no_burst(void **state)
{
	struct policy p = policy_of(STRATEGY_DROVER);
	struct policy_state steady = {0}, burst = {0};
	struct policy_decision d, b;
	int64_t now = T0;

	(void)state;
	for (int64_t i = 0; i <= 120; i++, now += 1000) {
		struct policy_facts f = facts_of(1, 0, 0);

		f.service_ms = 10000;
		f.arrivals_total = 2 * i; /* two a second */
		d = decide(&p, &steady, &f, now);
		f.arrivals_total = i >= 60 ? 500 : 0;
		b = decide(&p, &burst, &f, now);
	}
	assert_true(d.rate > 1.9 && d.rate < 2.1);
	assert_int_equal(d.wanted, 4); /* 2/s × 10 s ÷ 5 */
	assert_true(b.rate == 0);
}

static void
arrivals_that_are_counted_anew_are_no_arrivals(void **state)
{
	struct policy p = policy_of(STRATEGY_DROVER);
	struct policy_state s = {0};
	struct policy_facts f = facts_of(1, 0, 0);
	int64_t now = T0;

	(void)state;
	for (int i = 0; i < 100; i++, now += 1000) {
		f.arrivals_total = i < 50 ? 100000 + i : i;
		assert_true(decide(&p, &s, &f, now).rate < 2);
	}
	f.arrivals_total = 1000000; /* after a day of silence */
	assert_true(decide(&p, &s, &f, now + 86400000).rate < 2);
}

static void
pass_through_takes_the_metric(void **state)
{
	struct policy p = policy_of(STRATEGY_PASS_THROUGH);
	struct policy_facts f = facts_of(1, 9, 3);

	(void)state;
	assert_int_equal(decide_once(&p, &f).to, 3); /* 12 runs ÷ 5 slots */
	p.checks[0].metric = METRIC_READY;
	assert_int_equal(decide_once(&p, &f).to, 9);
	p.checks[0].metric = METRIC_OLDEST_SECONDS;
	f.oldest_ms = 4200; /* a piece of a worker is a worker */
	assert_int_equal(decide_once(&p, &f).to, 5);
}

static void
the_highest_check_wins(void **state)
{
	struct policy p = policy_of(STRATEGY_PASS_THROUGH);
	struct policy_facts f = facts_of(9, 4, 0);
	struct policy_decision d;

	(void)state;
	p.checks[1] = p.checks[0];
	p.checks[1].metric = METRIC_READY;
	p.n_checks = 2;
	d = decide_once(&p, &f);
	assert_int_equal(d.to, 4);
	assert_int_equal(d.check, 1);
}

/* --- limits --- */

static void
bounds_and_steps(void **state)
{
	struct policy p = policy_of(STRATEGY_PASS_THROUGH);
	struct policy_facts f = facts_of(2, 1000, 0);

	(void)state;
	p.checks[0].metric = METRIC_READY;
	assert_int_equal(decide_once(&p, &f).to, 20);
	p.checks[0].max_up = 3;
	assert_int_equal(decide_once(&p, &f).to, 5);
	p.min = 1;
	p.checks[0].max_down = 4;
	f = facts_of(10, 0, 0);
	assert_int_equal(decide_once(&p, &f).to, 6);
	f = facts_of(2, 0, 0);
	assert_int_equal(decide_once(&p, &f).to, 1);
	/* Someone made the bounds narrower. */
	f = facts_of(30, 1000, 0);
	assert_int_equal(decide_once(&p, &f).action, ACTION_DOWN);
	f = facts_of(0, 0, 0);
	assert_int_equal(decide_once(&p, &f).to, 1);
}

static void
dead_band_holds_small_differences(void **state)
{
	struct policy p = policy_of(STRATEGY_DROVER);
	struct policy_facts f = facts_of(10, 0, 53);

	(void)state;
	f.slots = 50;
	assert_int_equal(decide_once(&p, &f).hold, HOLD_DEAD_BAND);
	f.running = 58;
	assert_int_equal(decide_once(&p, &f).to, 12);
	p.max = 9; /* its bounds bring it in, however little that is */
	f.running = 50;
	assert_int_equal(decide_once(&p, &f).to, 9);
	p.max = 20;
	f = facts_of(1, 1, 0); /* one waiting run is never too small to start with */
	f.count = f.workers = f.slots = 0;
	assert_int_equal(decide_once(&p, &f).to, 1);
}

static void
scale_in_takes_the_highest_of_its_window(void **state)
{
	struct policy p = policy_of(STRATEGY_PASS_THROUGH);
	struct policy_state s = {0};
	struct policy_facts f = facts_of(8, 0, 0);
	int64_t now = T0;

	(void)state;
	p.checks[0].metric = METRIC_READY;
	p.stabilise_down_ms = 60000;
	/* Not before it has looked for that long. */
	f.ready = 8;
	assert_int_equal(decide(&p, &s, &f, now).hold, HOLD_STEADY);
	for (f.ready = 3, now += 1000; now < T0 + 60000; now += 1000)
		assert_int_equal(decide(&p, &s, &f, now).hold, HOLD_STABILISE);
	f.ready = 5;
	decide(&p, &s, &f, now += 2000);
	f.ready = 0;
	assert_int_equal(decide(&p, &s, &f, now += 1000).to, 5);
	assert_int_equal(decide(&p, &s, &f, now + 65000).to, 0);
	/* Who has just begun to look has seen nothing yet. */
	s = (struct policy_state){0};
	assert_int_equal(decide(&p, &s, &f, now).hold, HOLD_STABILISE);
	assert_int_equal(decide(&p, &s, &f, now + 59999).hold, HOLD_STABILISE);
	assert_int_equal(decide(&p, &s, &f, now + 60000).to, 0);
}

static void
scale_up_takes_the_lowest_of_its_window(void **state)
{
	struct policy p = policy_of(STRATEGY_PASS_THROUGH);
	struct policy_state s = {0};
	struct policy_facts f = facts_of(2, 9, 0);

	(void)state;
	p.checks[0].metric = METRIC_READY;
	p.stabilise_up_ms = 10000;
	assert_int_equal(decide(&p, &s, &f, T0).hold, HOLD_STABILISE);
	f.ready = 6;
	decide(&p, &s, &f, T0 + 5000);
	f.ready = 9;
	assert_int_equal(decide(&p, &s, &f, T0 + 11000).to, 6);
}

static void
cooldowns_are_told_apart(void **state)
{
	struct policy p = policy_of(STRATEGY_PASS_THROUGH);
	struct policy_state s = {0};
	struct policy_facts f = facts_of(0, 4, 0);

	(void)state;
	p.checks[0].metric = METRIC_READY;
	p.cooldown_ms = 30000;
	p.cooldown_up_ms = 5000;
	assert_int_equal(decide(&p, &s, &f, T0).to, 4);
	policy_scaled(&s, 0, 4, T0);
	f = facts_of(4, 6, 0);
	assert_int_equal(decide(&p, &s, &f, T0 + 4999).hold, HOLD_COOLDOWN);
	assert_int_equal(decide(&p, &s, &f, T0 + 5000).to, 6);
	f.ready = 1;
	assert_int_equal(decide(&p, &s, &f, T0 + 29999).hold, HOLD_COOLDOWN);
	assert_int_equal(decide(&p, &s, &f, T0 + 30000).to, 1);
}

/* --- holds --- */

static void
nothing_happens_on_old_or_missing_figures(void **state)
{
	struct policy p = policy_of(STRATEGY_DROVER);
	struct policy_facts f = facts_of(5, 0, 0);

	(void)state;
	f.queue_known = false;
	assert_int_equal(decide_once(&p, &f).hold, HOLD_STALE);
	f.queue_known = true;
	f.queue_age_ms = p.stale_ms + 1;
	assert_int_equal(decide_once(&p, &f).hold, HOLD_STALE);
	f.queue_age_ms = p.stale_ms;
	assert_int_equal(decide_once(&p, &f).action, ACTION_DOWN);
}

static void
jobs_that_must_not_be_scaled_are_not(void **state)
{
	struct policy p = policy_of(STRATEGY_DROVER);
	struct policy_facts f = facts_of(0, 100, 0);

	(void)state;
	f.deployment = true;
	assert_int_equal(decide_once(&p, &f).hold, HOLD_DEPLOYMENT);
	f.stopped = true;
	assert_int_equal(decide_once(&p, &f).hold, HOLD_STOPPED);
	p.enabled = false;
	assert_int_equal(decide_once(&p, &f).hold, HOLD_DISABLED);
}

static void
an_operators_count_is_left_alone_for_a_while(void **state)
{
	struct policy p = policy_of(STRATEGY_DROVER);
	struct policy_state s = {0};
	struct policy_facts f = facts_of(2, 0, 0);

	(void)state;
	assert_int_equal(decide(&p, &s, &f, T0).to, 0);
	policy_scaled(&s, 2, 1, T0);
	f = facts_of(7, 0, 0);
	assert_int_equal(decide(&p, &s, &f, T0 + 1000).hold, HOLD_FOREIGN);
	assert_int_equal(decide(&p, &s, &f, T0 + p.foreign_hold_ms).hold, HOLD_FOREIGN);
	assert_int_equal(decide(&p, &s, &f, T0 + 1000 + p.foreign_hold_ms).action, ACTION_DOWN);
	/* What we may have done ourselves is nobody else's. */
	policy_unsure(&s);
	f = facts_of(3, 0, 0);
	assert_int_equal(decide(&p, &s, &f, T0 + 2000 + p.foreign_hold_ms).action, ACTION_DOWN);
	/* Not outside of the bounds, which are the operator's word as well. */
	f = facts_of(25, 100, 0);
	assert_int_equal(decide(&p, &s, &f, T0 + 2500 + p.foreign_hold_ms).action, ACTION_DOWN);
}

static void
failed_starts_pause_and_are_tried_one_by_one(void **state)
{
	struct policy p = policy_of(STRATEGY_DROVER);
	struct policy_state s = {0};
	struct policy_facts f = facts_of(1, 100, 0);
	int64_t pause = p.start_pause_ms;

	(void)state;
	f.failed_starts = 2;
	assert_int_equal(decide(&p, &s, &f, T0).action, ACTION_UP);
	f.failed_starts = 3;
	assert_int_equal(decide(&p, &s, &f, T0 + 1).hold, HOLD_STARTS);
	assert_int_equal(decide(&p, &s, &f, T0 + pause).hold, HOLD_STARTS);
	assert_int_equal(decide(&p, &s, &f, T0 + 1 + pause).to, 2);
	f.failed_starts = 4; /* that one failed, too: twice as long */
	assert_int_equal(decide(&p, &s, &f, T0 + 2 + pause).hold, HOLD_STARTS);
	assert_int_equal(decide(&p, &s, &f, T0 + 2 + 3 * pause - 1).hold, HOLD_STARTS);
	assert_int_equal(decide(&p, &s, &f, T0 + 2 + 3 * pause).to, 2);
	f.failed_starts = 0; /* one works */
	assert_int_equal(decide(&p, &s, &f, T0 + 3 + 3 * pause).to, 10);
	/* A scale-in is never held by them. */
	f = facts_of(5, 0, 0);
	f.failed_starts = 9;
	policy_unsure(&s);
	assert_int_equal(decide(&p, &s, &f, T0 + 4 + 3 * pause).action, ACTION_DOWN);
}

/* --- properties --- */

static uint64_t
draw(uint64_t *r)
{
	*r = *r * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return *r >> 33;
}

static struct policy
any_policy(uint64_t *r)
{
	struct policy p = policy_of((enum policy_strategy)(draw(r) % STRATEGIES));
	struct policy_check *c = &p.checks[0];

	p.min = (int64_t)(draw(r) % 4);
	p.max = p.min + (int64_t)(draw(r) % 30);
	p.stabilise_down_ms = (int64_t)(draw(r) % 3) * 20000;
	p.stabilise_up_ms = (int64_t)(draw(r) % 3) * 5000;
	p.cooldown_ms = (int64_t)(draw(r) % 3) * 10000;
	p.foreign_hold_ms = (int64_t)(draw(r) % 2) * 30000;
	c->metric = (enum policy_metric)(draw(r) % METRICS);
	c->target = (double)(draw(r) % 20);
	c->max_up = (int64_t)(draw(r) % 4);
	c->max_down = (int64_t)(draw(r) % 4);
	return p;
}

static void
whatever_the_facts_are(void **state)
{
	uint64_t r = 42;

	(void)state;
	for (int game = 0; game < 400; game++) {
		struct policy p = any_policy(&r);
		struct policy_state s = {0};
		int64_t now = T0, count = (int64_t)(draw(&r) % 30), arrivals = 0;

		for (int turn = 0; turn < 200; turn++, now += 1 + (int64_t)(draw(&r) % 3000)) {
			struct policy_facts f = facts_of(count, (int64_t)(draw(&r) % 200), (int64_t)(draw(&r) % 60));
			bool inside = count >= p.min && count <= p.max;
			struct policy_decision d;

			f.arrivals_total = arrivals += (int64_t)(draw(&r) % 20);
			f.service_ms = (int64_t)(draw(&r) % 100000);
			f.one_shots = (int64_t)(draw(&r) % 20);
			f.queue_age_ms = draw(&r) % 10 == 0 ? 1000000 : 0;
			f.deployment = draw(&r) % 20 == 0;
			f.failed_starts = (int64_t)(draw(&r) % 5);
			d = decide(&p, &s, &f, now);
			assert_int_equal(d.count, count);
			assert_true((d.action == ACTION_HOLD) == (d.to == count)); /* never a no-op scale */
			assert_true((d.action == ACTION_HOLD) == (d.hold != HOLD_NONE));
			assert_true(d.reason[0] != '\0');
			if (d.action == ACTION_HOLD)
				continue;
			assert_true(d.to >= p.min && d.to <= p.max);
			assert_true(f.queue_age_ms <= p.stale_ms && !f.deployment);
			assert_true((d.action == ACTION_UP) == (d.to > count));
			if (inside && p.checks[0].max_up > 0)
				assert_true(d.to - count <= p.checks[0].max_up);
			if (inside && p.checks[0].max_down > 0)
				assert_true(count - d.to <= p.checks[0].max_down);
			if (draw(&r) % 4 != 0) {
				policy_scaled(&s, count, d.to, now);
				count = d.to;
			}
		}
	}
}

static void
every_word_can_be_read_back(void **state)
{
	(void)state;
	for (int i = 0; i < STRATEGIES; i++)
		assert_int_equal(policy_strategy_parse(policy_strategy_word((enum policy_strategy)i)), i);
	for (int i = 0; i < METRICS; i++)
		assert_int_equal(policy_metric_parse(policy_metric_word((enum policy_metric)i)), i);
	for (int i = 0; i < HOLDS; i++)
		assert_non_null(policy_hold_word((enum policy_hold)i));
	assert_int_equal(policy_strategy_parse("threshold"), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(target_value_is_that_of_the_nomad_autoscaler),
		cmocka_unit_test(drover_spreads_the_backlog_over_its_objective),
		cmocka_unit_test(drover_takes_nobody_away_while_runs_wait_for_a_slot),
		cmocka_unit_test(drover_learns_how_many_runs_fill_a_worker),
		cmocka_unit_test(drover_keeps_the_slots_of_what_runs),
		cmocka_unit_test(drover_counts_a_steady_stream_but_no_burst),
		cmocka_unit_test(arrivals_that_are_counted_anew_are_no_arrivals),
		cmocka_unit_test(pass_through_takes_the_metric),
		cmocka_unit_test(the_highest_check_wins),
		cmocka_unit_test(bounds_and_steps),
		cmocka_unit_test(dead_band_holds_small_differences),
		cmocka_unit_test(scale_in_takes_the_highest_of_its_window),
		cmocka_unit_test(scale_up_takes_the_lowest_of_its_window),
		cmocka_unit_test(cooldowns_are_told_apart),
		cmocka_unit_test(nothing_happens_on_old_or_missing_figures),
		cmocka_unit_test(jobs_that_must_not_be_scaled_are_not),
		cmocka_unit_test(an_operators_count_is_left_alone_for_a_while),
		cmocka_unit_test(failed_starts_pause_and_are_tried_one_by_one),
		cmocka_unit_test(whatever_the_facts_are),
		cmocka_unit_test(every_word_can_be_read_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
