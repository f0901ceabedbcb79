#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/metrics.h"

enum { RUNS, BY_STATE, DEPTH, TOOK };

static const struct metric table[] = {
	[RUNS] = {"t_runs_total", METRIC_COUNTER, NULL, "Runs."},
	[BY_STATE] = {"t_states_total", METRIC_COUNTER, "state", "Runs by state."},
	[DEPTH] = {"t_depth", METRIC_GAUGE, NULL, "Depth."},
	[TOOK] = {"t_seconds", METRIC_SECONDS, "verb", "Time."},
};

static struct buf printed = {.max = 1 << 20};

static int
fresh(void **state)
{
	(void)state;
	metrics_init(table, sizeof(table) / sizeof(table[0]));
	return 0;
}

static int
done(void **state)
{
	(void)state;
	buf_release(&printed);
	metrics_init(table, 0);
	return 0;
}

/* True if the printed metrics have exactly this line. */
static bool
has_line(const char *line)
{
	char whole[256];

	buf_clear(&printed);
	buf_addc(&printed, '\n');
	metrics_print(&printed);
	assert_false(printed.overflow);
	snprintf(whole, sizeof(whole), "\n%s\n", line);
	return strstr(buf_str(&printed), whole) != NULL;
}

static void
counters_and_gauges(void **state)
{
	(void)state;
	assert_true(has_line("t_runs_total 0")); /* known before it happens */
	metrics_add(RUNS, NULL, 1);
	metrics_add(RUNS, NULL, 2);
	metrics_add(BY_STATE, "done", 5);
	metrics_set(DEPTH, NULL, 9);
	metrics_add(DEPTH, NULL, -2);
	assert_true(has_line("# HELP t_runs_total Runs."));
	assert_true(has_line("# TYPE t_runs_total counter"));
	assert_true(has_line("# TYPE t_depth gauge"));
	assert_true(has_line("# TYPE t_seconds histogram"));
	assert_true(has_line("t_runs_total 3"));
	assert_true(has_line("t_states_total{state=\"done\"} 5"));
	assert_true(has_line("t_depth 7"));
}

static void
histograms_are_cumulative(void **state)
{
	static const int64_t observed_ms[] = {-5, 0, 1, 2, 5, 6, 3600000, 3600001};

	(void)state;
	for (size_t i = 0; i < sizeof(observed_ms) / sizeof(observed_ms[0]); i++)
		metrics_observe_ms(TOOK, "get", observed_ms[i]);
	assert_true(has_line("t_seconds_bucket{verb=\"get\",le=\"0.001\"} 3")); /* bounds belong to their bucket */
	assert_true(has_line("t_seconds_bucket{verb=\"get\",le=\"0.005\"} 5"));
	assert_true(has_line("t_seconds_bucket{verb=\"get\",le=\"0.01\"} 6"));
	assert_true(has_line("t_seconds_bucket{verb=\"get\",le=\"3600\"} 7"));
	assert_true(has_line("t_seconds_bucket{verb=\"get\",le=\"+Inf\"} 8"));
	assert_true(has_line("t_seconds_count{verb=\"get\"} 8"));
	assert_true(has_line("t_seconds_sum{verb=\"get\"} 7200.015"));
}

static void
labels_cannot_break_a_line_or_grow_without_end(void **state)
{
	char label[32], long_label[200];
	size_t lines = 0;

	(void)state;
	metrics_add(BY_STATE, "a\"b\\c\nd\xff", 1);
	assert_true(has_line("t_states_total{state=\"a_b_c_d_\"} 1"));
	memset(long_label, 'l', sizeof(long_label) - 1);
	long_label[sizeof(long_label) - 1] = '\0';
	metrics_add(BY_STATE, long_label, 1);
	for (int i = 0; i < 1000; i++) {
		snprintf(label, sizeof(label), "label%d", i);
		metrics_add(BY_STATE, label, 1);
	}
	assert_true(has_line("t_states_total{state=\"label61\"} 1"));
	assert_false(has_line("t_states_total{state=\"label62\"} 1"));
	assert_true(has_line("t_states_total{state=\"other\"} 938"));
	for (const char *p = buf_str(&printed); (p = strstr(p, "\nt_states_total{")) != NULL; p++)
		lines++;
	assert_int_equal(lines, METRICS_LABELS_MAX + 1);
}

#define THREADS 4
#define FRESH_LABELS 60

static pthread_barrier_t together;

static void *
count_up(void *arg)
{
	(void)arg;
	for (int i = 0; i < FRESH_LABELS; i++) { /* all threads meet each new label at the same moment */
		char label[16];

		snprintf(label, sizeof(label), "l%d", i);
		pthread_barrier_wait(&together);
		for (int k = 0; k < 200; k++) {
			metrics_add(BY_STATE, label, 1);
			metrics_observe_ms(TOOK, label, k % 10);
		}
	}
	return NULL;
}

static void
threads_lose_no_count(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	pthread_barrier_init(&together, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_up, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&together);
	for (int i = 0; i < FRESH_LABELS; i++) {
		char line[64];

		snprintf(line, sizeof(line), "t_states_total{state=\"l%d\"} %d", i, THREADS * 200);
		assert_true(has_line(line));
		snprintf(line, sizeof(line), "t_seconds_count{verb=\"l%d\"} %d", i, THREADS * 200);
		assert_true(has_line(line));
	}
}

static void
the_process_tells_of_itself(void **state)
{
	long long resident = 0, start = 0;

	(void)state;
	metrics_set(DEPTH, NULL, 0);
	assert_true(has_line("t_depth 0"));
	assert_int_equal(sscanf(strstr(buf_str(&printed), "\nprocess_resident"), "\nprocess_resident_memory_bytes %lld", &resident), 1);
	assert_int_equal(sscanf(strstr(buf_str(&printed), "\nprocess_start"), "\nprocess_start_time_seconds %lld", &start), 1);
	assert_in_range(resident, 1 << 16, 1LL << 32);
	assert_true(start > 1700000000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(counters_and_gauges, fresh, done),
		cmocka_unit_test_setup_teardown(histograms_are_cumulative, fresh, done),
		cmocka_unit_test_setup_teardown(labels_cannot_break_a_line_or_grow_without_end, fresh, done),
		cmocka_unit_test_setup_teardown(threads_lose_no_count, fresh, done),
		cmocka_unit_test_setup_teardown(the_process_tells_of_itself, fresh, done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
