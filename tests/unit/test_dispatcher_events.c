#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "dispatcher/events.h"

static void
add(struct events *ev, const char *run, enum run_state state)
{
	struct run_row row = {.state = state};

	snprintf(row.id, sizeof(row.id), "%s", run);
	events_add(ev, &row, 1);
}

static void
indexes_rise_over_epochs(void **state)
{
	struct events *first = events_new(1, 4), *second = events_new(2, 4);

	(void)state;
	for (int i = 0; i < 100; i++)
		add(first, "a", RUN_QUEUED);
	assert_true(events_index(second) > events_index(first));
	assert_null(events_after(second, events_index(second), NULL));
	events_free(first);
	events_free(second);
}

static void
readers_go_on_where_they_stopped(void **state)
{
	struct events *ev = events_new(1, 4);
	uint64_t start = events_index(ev);
	bool gap = true;

	(void)state;
	add(ev, "a", RUN_QUEUED);
	add(ev, "b", RUN_RUNNING);
	assert_string_equal(events_after(ev, start, &gap)->run, "a");
	assert_false(gap);
	assert_string_equal(events_after(ev, start + 1, &gap)->run, "b");
	assert_null(events_after(ev, start + 2, &gap));
	events_free(ev);
}

static void
a_gap_is_told(void **state)
{
	struct events *ev = events_new(1, 4);
	uint64_t start = events_index(ev);
	bool gap = false;

	(void)state;
	for (int i = 0; i < 6; i++)
		add(ev, i < 3 ? "a" : "b", RUN_QUEUED);
	assert_int_equal(events_after(ev, start, &gap)->index, start + 3);
	assert_true(gap);
	events_after(ev, start + 2, &gap);
	assert_false(gap);
	events_free(ev);
}

static void
changes_of_a_run_are_found(void **state)
{
	struct events *ev = events_new(1, 4);
	uint64_t start = events_index(ev);

	(void)state;
	add(ev, "echo-1", RUN_QUEUED);
	add(ev, "echo-2", RUN_QUEUED);
	assert_true(events_changed(ev, start, "echo-1"));
	assert_false(events_changed(ev, start + 1, "echo-1"));
	assert_true(events_changed(ev, start + 1, "echo"));
	for (int i = 0; i < 4; i++)
		add(ev, "echo-3", RUN_QUEUED);
	assert_true(events_changed(ev, start, "echo-9")); /* may have: the ring does not reach back */
	events_free(ev);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(indexes_rise_over_epochs),
		cmocka_unit_test(readers_go_on_where_they_stopped), cmocka_unit_test(a_gap_is_told),
		cmocka_unit_test(changes_of_a_run_are_found)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
