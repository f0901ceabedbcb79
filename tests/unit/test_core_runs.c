#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "dispatcher/core/runs.h"

static const struct run_limits limits = {.max_lost = 5, .max_crashes = 3, .max_infra = 8, .backoff_base_ms = 1000, .backoff_cap_ms = 60000};

static struct run_row
row_in(enum run_state state)
{
	return (struct run_row){.id = "a-0123456789abcdef", .state = state, .attempt = 1, .fence = {1, 7}, .worker = "w1", .request = 4};
}

/* The table as DESIGN words it, in letters: . cannot happen, q queued, r running, c canceling, C completed, T timed out, X canceled,
 * j judged by the retry rules. */
static void
the_table_is_the_designs(void **state)
{
	static const char *const want[] = {
		/* submit lease offer complete fail timeout hand_back lose cancel canceled stopped expire */
		[RUN_QUEUED] = "qr......X.Xj", [RUN_RUNNING] = "..rCjTqjcXX.", [RUN_CANCELING] = "...XXXXX.XX.",
		[RUN_COMPLETED] = "............", [RUN_FAILED] = "............", [RUN_TIMED_OUT] = "............",
		[RUN_CANCELED] = "............",
	};
	static const char letters[] = "qrcCFTX";

	(void)state;
	for (int from = 0; from < RUN_STATES; from++) {
		for (int ev = 0; ev < RUN_EVENTS; ev++) {
			struct run_row row = row_in((enum run_state)from);
			struct run_cause cause = {.event = (enum run_event)ev, .fail = FAIL_INVALID, .reason = "", .worker = "w2",
			    .fence = {1, 8}};
			char got = '.';

			if (run_may((enum run_state)from, (enum run_event)ev))
				got = letters[run_next(&row, &cause, &limits, 1000).state];
			if (got == 'F')
				got = 'j';
			if (got != want[from][ev])
				fail_msg("%s and %s: %c", run_state_word((enum run_state)from), run_event_word((enum run_event)ev), got);
		}
	}
}

static void
failures_are_judged_by_class(void **state)
{
	static const struct {
		enum fail_class fail;
		unsigned failures, crashes, tool_retries;
		bool crash, solo, large, larger;
		enum run_state want;
		bool dead, suspect;
	} cases[] = {
		{.fail = FAIL_TOOL, .want = RUN_FAILED},
		{.fail = FAIL_TOOL, .tool_retries = 1, .want = RUN_QUEUED},
		{.fail = FAIL_TOOL, .tool_retries = 1, .failures = 1, .want = RUN_FAILED, .dead = true},
		{.fail = FAIL_LOST, .failures = 3, .want = RUN_QUEUED},
		{.fail = FAIL_LOST, .failures = 4, .want = RUN_FAILED, .dead = true},
		{.fail = FAIL_LOST, .crash = true, .solo = true, .crashes = 1, .want = RUN_QUEUED, .suspect = true},
		{.fail = FAIL_LOST, .crash = true, .solo = true, .crashes = 2, .want = RUN_FAILED, .dead = true, .suspect = true},
		{.fail = FAIL_LOST, .crash = true, .crashes = 2, .want = RUN_QUEUED, .suspect = true}, /* in company it proves nothing */
		{.fail = FAIL_INFRA, .failures = 6, .want = RUN_QUEUED},
		{.fail = FAIL_INFRA, .failures = 7, .want = RUN_FAILED, .dead = true},
		{.fail = FAIL_OOM, .larger = true, .want = RUN_QUEUED},
		{.fail = FAIL_OOM, .larger = true, .large = true, .want = RUN_FAILED, .dead = true},
		{.fail = FAIL_OOM, .want = RUN_FAILED, .dead = true},
		{.fail = FAIL_INVALID, .larger = true, .want = RUN_FAILED},
		{.fail = FAIL_HANDED_BACK, .failures = 99, .want = RUN_QUEUED},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct run_row row = row_in(RUN_RUNNING), next;
		struct run_cause cause = {.event = EV_FAIL, .fail = cases[i].fail, .crash = cases[i].crash, .solo = cases[i].solo,
		    .larger = cases[i].larger, .reason = "why", .random = 12345};

		row.failures = cases[i].failures;
		row.crashes = cases[i].crashes;
		row.needs.tool_retries = cases[i].tool_retries;
		row.needs.class = cases[i].large ? CLASS_LARGE : CLASS_NORMAL;
		next = run_next(&row, &cause, &limits, 1000);
		if (next.state != cases[i].want || next.dead != cases[i].dead || next.suspect != cases[i].suspect)
			fail_msg("case %zu: %s dead %d suspect %d", i, run_state_word(next.state), next.dead, next.suspect);
		assert_string_equal(next.reason, "why");
		assert_true(next.state != RUN_QUEUED || (next.worker[0] == '\0' && next.request == 0));
		assert_true((next.finished_real_ms == 1000) == (next.state == RUN_FAILED));
	}
}

static void
backoff_grows_to_the_cap_and_handing_back_is_free(void **state)
{
	struct run_row row = row_in(RUN_RUNNING), next;
	struct run_cause cause = {.event = EV_FAIL, .fail = FAIL_INFRA, .reason = "", .random = 2000};

	(void)state;
	row.failures = 0; /* full jitter: 0..1000 after the first failure, 0..2000 after the second */
	assert_int_equal(run_next(&row, &cause, &limits, 5000).not_before_real_ms, 5000 + 2000 % 1001);
	row.failures = 1;
	assert_int_equal(run_next(&row, &cause, &limits, 5000).not_before_real_ms, 5000 + 2000);
	cause = (struct run_cause){.event = EV_HAND_BACK, .reason = "drained"};
	next = run_next(&row, &cause, &limits, 5000);
	assert_int_equal(next.not_before_real_ms, 0);
	assert_int_equal(next.failures, 1);
	assert_int_equal(next.fail, FAIL_HANDED_BACK);
}

static void
a_lease_is_a_new_attempt_and_an_offer_is_not(void **state)
{
	struct run_row row = row_in(RUN_QUEUED), leased, again;
	struct run_cause cause = {.event = EV_LEASE, .reason = "", .worker = "w9", .request = 11, .fence = {2, 30}};

	(void)state;
	leased = run_next(&row, &cause, &limits, 777);
	assert_int_equal(leased.attempt, 2);
	assert_true(fence_equal(leased.fence, cause.fence));
	assert_string_equal(leased.worker, "w9");
	assert_true(leased.request == 11 && leased.started_real_ms == 777);
	cause = (struct run_cause){.event = EV_OFFER, .reason = ""};
	again = run_next(&leased, &cause, &limits, 999);
	assert_memory_equal(&again, &leased, sizeof(again));
}

static void
only_outcomes_can_be_reported(void **state)
{
	enum run_event ev = RUN_EVENTS;

	(void)state;
	assert_true(run_event_of_report(RUN_COMPLETED, &ev) && ev == EV_COMPLETE);
	assert_true(run_event_of_report(RUN_QUEUED, &ev) && ev == EV_HAND_BACK);
	assert_true(run_event_of_report(RUN_TIMED_OUT, &ev) && ev == EV_TIMEOUT);
	assert_false(run_event_of_report(RUN_RUNNING, &ev) || run_event_of_report(RUN_CANCELING, &ev));
	assert_false(run_event_of_report((enum run_state)77, &ev));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_is_the_designs),
		cmocka_unit_test(failures_are_judged_by_class),
		cmocka_unit_test(backoff_grows_to_the_cap_and_handing_back_is_free),
		cmocka_unit_test(a_lease_is_a_new_attempt_and_an_offer_is_not),
		cmocka_unit_test(only_outcomes_can_be_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
