/* The simulator: the same seed plays the same, nothing is lost, ours kills nothing, recorded histories are read with care. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "autoscale/sim.h"
#include "autoscale/sim_load.h"
#include "autoscale/sim_plot.h"
#include "base/mem.h"

static const struct sim_cluster cluster = {.max = 20, .slots = 5, .start_ms = 5000};

static const struct sim_policy *
policy(const char *name)
{
	const struct sim_policy *all;
	size_t n = sim_policies(&all);

	for (size_t i = 0; i < n; i++)
		if (strcmp(all[i].name, name) == 0)
			return &all[i];
	fail_msg("no policy %s", name);
	return NULL;
}

static void
every_run_ends_under_every_policy(void **state)
{
	const struct sim_policy *all;
	size_t n = sim_policies(&all);

	(void)state;
	for (size_t i = 0; i < sim_load_kinds(); i++) {
		struct sim_load l = sim_load_make(i, 7);

		for (size_t k = 0; k < n; k++) {
			struct sim_result r = sim_play(&l, &all[k], &cluster);

			/* The integrator leaks as much as one waiting run adds: it may forget that one at 0 workers. */
			if (strcmp(all[k].name, "assemblyline") != 0)
				assert_int_equal(r.finished, l.n);
			assert_true(r.wait_p50_s >= 0 && r.wait_p50_s <= r.wait_p95_s && r.wait_p95_s <= r.wait_p99_s);
			assert_true(r.workers_max <= cluster.max && r.worker_hours > 0 && r.actions > 0);
			if (all[k].drains || all[k].leaves)
				assert_int_equal(r.killed, 0);
		}
		sim_load_release(&l);
	}
}

static void
the_same_seed_plays_the_same(void **state)
{
	struct sim_load a = sim_load_make(0, 3), b = sim_load_make(0, 3), c = sim_load_make(0, 4);
	struct sim_result x = sim_play(&a, policy("drover"), &cluster), y = sim_play(&b, policy("drover"), &cluster);

	(void)state;
	assert_int_equal(a.n, b.n);
	assert_memory_equal(a.runs, b.runs, a.n * sizeof(*a.runs));
	assert_memory_equal(&x, &y, sizeof(x));
	assert_true(a.n != c.n || memcmp(a.runs, c.runs, a.n * sizeof(*a.runs)) != 0);
	sim_load_release(&a);
	sim_load_release(&b);
	sim_load_release(&c);
}

/* Ten runs of ten seconds at once, two slots a worker, one worker at most: five waves. */
static void
waits_are_counted_from_arrival_to_start(void **state)
{
	const struct sim_cluster one = {.min = 1, .max = 1, .slots = 2};
	struct sim_load l = {.n = 10, .length_ms = 100000};
	struct sim_result r;

	(void)state;
	l.runs = xcalloc(10, sizeof(*l.runs));
	for (size_t i = 0; i < 10; i++)
		l.runs[i] = (struct sim_run){.at_ms = 0, .service_ms = 10000};
	r = sim_play(&l, policy("drover"), &one);
	assert_true(r.wait_p50_s == 20 && r.wait_p99_s == 40);
	assert_int_equal(r.killed, 0);
	sim_load_release(&l);
}

/* A count that is lowered under work kills it where nobody drains. */
static int64_t
two_then_none(void *state, const struct sim_view *v)
{
	(void)state;
	return v->now_ms < 5000 || v->now_ms > 20000 ? 2 : 0;
}

static void
lowering_without_drain_kills_and_starts_anew(void **state)
{
	static const struct sim_policy rude = {"rude", "", 200, false, false, 0, two_then_none};
	static const struct sim_policy polite = {"polite", "", 200, true, false, 0, two_then_none};
	const struct sim_cluster c = {.max = 2, .slots = 1};
	struct sim_run runs[] = {{0, 10000}, {0, 10000}};
	struct sim_load l = {.n = 2, .length_ms = 30000, .runs = runs};
	struct sim_result r = sim_play(&l, &rude, &c), p = sim_play(&l, &polite, &c);

	(void)state;
	assert_int_equal(r.killed, 2);
	assert_true(r.wait_p50_s >= 20);
	assert_int_equal(p.killed, 0);
	assert_true(p.wait_p99_s < 1);
	assert_int_equal(p.finished, 2);
}

/* What the policy called so wants, of a group of that many workers, with its state as an earlier call left it. */
static int64_t
wants(const char *name, void *state, int64_t now_ms, int64_t ready, int64_t running, int64_t desired, int64_t alive, int64_t up)
{
	const struct sim_view v = {.now_ms = now_ms, .cluster = &cluster, .ready = ready, .running = running, .desired = desired,
		.alive = alive, .up = up};

	return policy(name)->decide(state, &v);
}

/* M 20 workers at most, five runs each. S: what the queue asks for, R: not ended, P: of these not ready. */
static void
keda_adds_what_its_documents_say(void **state)
{
	(void)state;
	assert_int_equal(wants("keda-default", NULL, 1, 34, 5, 3, 3, 1), 3 + 4);    /* S - R */
	assert_int_equal(wants("keda-default", NULL, 1, 0, 5, 3, 3, 1), 3);         /* jobs are not taken back */
	assert_int_equal(wants("keda-default", NULL, 1, 1000, 5, 3, 3, 1), 20);     /* S is M at most */
	assert_int_equal(wants("keda-accurate", NULL, 1, 34, 5, 3, 3, 1), 3 + 5);   /* S - P */
	assert_int_equal(wants("keda-accurate", NULL, 1, 90, 5, 3, 3, 1), 3 + 16);  /* S + R - P is M less one */
	assert_int_equal(wants("keda-accurate", NULL, 1, 100, 5, 3, 3, 1), 20);     /* more than M: M - R */
	assert_int_equal(wants("keda-eager", NULL, 1, 34, 5, 3, 3, 1), 3 + 7);      /* S, */
	assert_int_equal(wants("keda-eager", NULL, 1, 90, 5, 3, 3, 1), 3 + 15);     /* within M - R - P */
}

/* The count that it reckons with is that of running allocations; after a change it rests, whichever way that went. */
static void
target_value_counts_what_runs_and_rests(void **state)
{
	static const struct {
		const char *name;
		int64_t cooldown_ms;
	} both[] = {{"target-value", 300000}, {"target-value-1s", 30000}};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		void *s = xcalloc(1, policy(both[i].name)->state_size), *fresh = xcalloc(1, policy(both[i].name)->state_size);
		int64_t end_ms = 1000 + both[i].cooldown_ms;

		assert_int_equal(wants(both[i].name, s, 1000, 23, 0, 0, 0, 0), 5);
		assert_int_equal(wants(both[i].name, fresh, 1000, 15, 10, 5, 5, 2), 5); /* 25 runs on two: 2.5 times as many as these two */
		assert_int_equal(wants(both[i].name, s, end_ms - 1, 60, 25, 5, 5, 5), 5);
		assert_int_equal(wants(both[i].name, s, end_ms, 60, 25, 5, 5, 5), 17);
		assert_int_equal(wants(both[i].name, s, end_ms + both[i].cooldown_ms - 1, 0, 0, 17, 17, 17), 17);
		assert_int_equal(wants(both[i].name, s, end_ms + both[i].cooldown_ms, 0, 0, 17, 17, 17), 0);
		free(s);
		free(fresh);
	}
}

/* Five seconds a step: 5 × √(ready ÷ 100), 5 × (duty - 0.7) ÷ 0.7 where it is above, less 5 × (0.5 - duty) ÷ 0.5 where below, and a
 * leak of 0.5 toward nothing; 60 is one worker more, -30 one less. */
static void
the_integrator_leaks(void **state)
{
	void *s = xcalloc(1, policy("assemblyline")->state_size);
	int64_t now = 5000;

	(void)state;
	for (int i = 0; i < 5; i++, now += 5000) /* 10 + 2.14 - 0.5 each: 58.2 after five */
		assert_int_equal(wants("assemblyline", s, now, 400, 5, 1, 1, 1), 1);
	assert_int_equal(wants("assemblyline", s, now += 5000, 400, 5, 1, 1, 1), 2);
	for (int i = 0; i < 6; i++, now += 5000) /* -5 + 0.5 each: -27 after six */
		assert_int_equal(wants("assemblyline", s, now, 0, 0, 2, 2, 2), 2);
	assert_int_equal(wants("assemblyline", s, now += 5000, 0, 0, 2, 2, 2), 1);
	for (int i = 0; i < 20; i++, now += 5000) /* nobody is left to be taken away */
		assert_int_equal(wants("assemblyline", s, now, 0, 0, 0, 0, 0), 0);
	free(s);
}

static int
read_text(const char *text, const char *vertical, struct sim_load *l, struct err *e)
{
	char path[] = "/tmp/drover-sim-XXXXXX";
	int fd = mkstemp(path), rc;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	rc = sim_load_read(path, vertical, l, e);
	unlink(path);
	return rc;
}

static void
histories_are_sorted_and_checked(void **state)
{
	struct sim_load l;
	struct err e;

	(void)state;
	assert_int_equal(read_text("{\"runs\":[{\"vertical\":\"a\",\"created_ms\":5000,\"started_ms\":5100,\"finished_ms\":6100}]}\n"
	    "{\"runs\":[{\"vertical\":\"b\",\"created_ms\":1,\"started_ms\":2,\"finished_ms\":3},"
	    "{\"vertical\":\"a\",\"created_ms\":2000,\"started_ms\":2000,\"finished_ms\":2500}]}\n", "a", &l, &e), 0);
	assert_int_equal(l.n, 2);
	assert_int_equal(l.runs[0].at_ms, 0);
	assert_int_equal(l.runs[0].service_ms, 500);
	assert_int_equal(l.runs[1].at_ms, 3000);
	assert_int_equal(l.runs[1].service_ms, 1000);
	sim_load_release(&l);
	assert_int_equal(read_text("{\"runs\":[]}", "", &l, &e), ERR_INVALID);
	assert_int_equal(read_text("{\"runs\":[{\"created_ms\":9,\"started_ms\":2,\"finished_ms\":3}]}", "", &l, &e), ERR_INVALID);
	assert_int_equal(read_text("{\"runs\":[", "", &l, &e), ERR_INVALID);
	assert_int_equal(read_text("[1]", "", &l, &e), ERR_INVALID);
	assert_int_equal(sim_load_read("/nonexistent/x", "", &l, &e), ERR_IO);
}

static void
names_cannot_break_the_picture(void **state)
{
	struct sim_run run = {0, 1000};
	struct sim_load l = {.n = 1, .length_ms = 10000, .runs = &run, .text = ""};
	const struct sim_policy *p = policy("drover");
	struct sim_result r = sim_play(&l, p, &cluster);
	struct buf b = buf_make(SIM_PLOT_MAX_BYTES);

	(void)state;
	(void)snprintf(l.name, sizeof(l.name), "<script>&");
	sim_plot(&b, &l, 1, p, 1, &r);
	assert_null(strstr(buf_str(&b), "<script"));
	assert_non_null(strstr(buf_str(&b), "</svg>"));
	assert_null(strstr(buf_str(&b), "nan"));
	buf_release(&b);
}

static void
the_time_axis_suits_the_length(void **state)
{
	static const struct {
		int64_t length_ms;
		const char *end;
	} rows[] = {{500, ">0.5 s<"}, {119000, ">119 s<"}, {1800000, ">30 min<"}, {21600000, ">6 h<"}};
	struct sim_run run = {0, 100};
	const struct sim_policy *p = policy("drover");

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sim_load l = {.n = 1, .length_ms = rows[i].length_ms, .runs = &run, .text = ""};
		struct sim_result r = sim_play(&l, p, &cluster);
		struct buf b = buf_make(SIM_PLOT_MAX_BYTES);

		sim_plot(&b, &l, 1, p, 1, &r);
		assert_non_null(strstr(buf_str(&b), rows[i].end));
		buf_release(&b);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_run_ends_under_every_policy),
		cmocka_unit_test(the_same_seed_plays_the_same),
		cmocka_unit_test(waits_are_counted_from_arrival_to_start),
		cmocka_unit_test(lowering_without_drain_kills_and_starts_anew),
		cmocka_unit_test(keda_adds_what_its_documents_say),
		cmocka_unit_test(target_value_counts_what_runs_and_rests),
		cmocka_unit_test(the_integrator_leaks),
		cmocka_unit_test(histories_are_sorted_and_checked),
		cmocka_unit_test(names_cannot_break_the_picture),
		cmocka_unit_test(the_time_axis_suits_the_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
