/* Circuit breakers: pure, and around verticals and dependencies in the core. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/core_rig.h"

#define A "scan-000000000000000a"

static void
it_opens_after_failures_in_a_row_of_different_ones(void **state)
{
	struct breaker b = {0};

	(void)state;
	for (uint64_t i = 1; i < 20; i++)
		breaker_fail(&b, 7, 1000, 0, NULL, "same again");
	assert_int_equal(b.state, BREAKER_CLOSED);
	breaker_ok(&b, 7);
	for (uint64_t i = 1; i < BREAKER_FAILURES; i++)
		breaker_fail(&b, i, 1000, 0, NULL, "down");
	breaker_ok(&b, 99);
	for (uint64_t i = 1; i < BREAKER_FAILURES; i++)
		breaker_fail(&b, i, 1000, 0, NULL, "down");
	assert_true(breaker_allows(&b, 1000));
	breaker_fail(&b, 50, 1000, 0, NULL, "down");
	assert_int_equal(b.state, BREAKER_OPEN);
	assert_string_equal(b.why, "down");
	assert_false(breaker_allows(&b, 1000 + BREAKER_BASE_MS - 1));
	assert_true(breaker_allows(&b, 1000 + BREAKER_BASE_MS));
	assert_int_equal(b.state, BREAKER_HALF_OPEN);
}

static void
one_probe_at_a_time_decides(void **state)
{
	struct breaker b = {.state = BREAKER_OPEN, .opened = 1, .until_mono = 100};

	(void)state;
	assert_true(breaker_allows(&b, 100));
	breaker_try(&b, 5);
	assert_false(breaker_allows(&b, 100));
	breaker_try(&b, 6);
	breaker_fail(&b, 6, 100, 0, NULL, "of before"); /* not the probe: tells nothing */
	assert_false(breaker_ok(&b, 6) && b.state == BREAKER_CLOSED);
	assert_true(breaker_drop(&b, 5));
	assert_true(breaker_allows(&b, 100));
	breaker_try(&b, 8);
	breaker_fail(&b, 8, 100, 0, NULL, "still");
	assert_true(b.state == BREAKER_OPEN && b.until_mono == 100 + 2 * BREAKER_BASE_MS); /* longer each time */
	assert_true(breaker_allows(&b, b.until_mono));
	breaker_try(&b, 9);
	assert_true(breaker_ok(&b, 9));
	assert_true(b.state == BREAKER_CLOSED && b.opened == 0);
	b.state = BREAKER_HALF_OPEN;
	b.probe = 1;
	breaker_fail(&b, 1, 0, BREAKER_BASE_MS / 2 - 1, NULL, "again"); /* up to half is left to chance: those that broke together come back apart */
	assert_int_equal(b.until_mono, BREAKER_BASE_MS / 2 + 1);
	for (unsigned i = 0; i < 40; i++) { /* bounded, jitter included */
		b.state = BREAKER_HALF_OPEN;
		b.probe = 1;
		breaker_fail(&b, 1, 0, UINT64_MAX, NULL, "still");
	}
	assert_in_range(b.until_mono, BREAKER_CAP_MS / 2, BREAKER_CAP_MS);
}

static void
each(void *arg, const struct core_breaker *b)
{
	if (((struct core_breaker *)arg)->state == BREAKER_CLOSED) /* the first that is not */
		*(struct core_breaker *)arg = *b;
}

static struct core_breaker
breaker_of(struct rig *r)
{
	struct core_breaker b = {0};

	core_breakers(r->core, r->now, each, &b);
	return b;
}

/* Runs of a vertical fail one after the other: no more are spent on it, but one at a time, until one ends well. */
static void
a_vertical_that_fails_is_tried_with_one_run_at_a_time(void **state)
{
	struct rig *r = rig_new(false, 0);
	char id[RUN_ID_MAX];
	size_t leased = 0;

	(void)state;
	rig_register(r, "w", 8, "", 0);
	for (int i = 0; i < BREAKER_FAILURES; i++) {
		snprintf(id, sizeof(id), "scan-%016x", i);
		rig_submit(r, id, 0);
		assert_non_null(rig_take(r, "w"));
		rig_report(r, id, RUN_FAILED, FAIL_INFRA);
	}
	assert_int_equal(breaker_of(r).state, BREAKER_OPEN);
	rig_submit(r, A, 100);
	assert_null(rig_take(r, "w"));
	rig_waits(r, A, "breaker", "next try in");
	for (int i = 0; i < 20 && leased == 0; i++) { /* the poll waits, and is answered when it is half open */
		rig_advance(r, 1000);
		for (size_t n = 0; n < r->n_runs; n++)
			leased += r->runs[n].state == RUN_RUNNING;
	}
	assert_int_equal(leased, 1);
	assert_int_equal(rig_run(r, A)->state, RUN_RUNNING);
	assert_null(rig_take(r, "w"));
	assert_int_equal(breaker_of(r).state, BREAKER_HALF_OPEN);
	rig_report(r, A, RUN_FAILED, FAIL_TOOL); /* the tool failed: nothing around it */
	assert_int_equal(breaker_of(r).state, BREAKER_CLOSED);
	leased = 0;
	for (size_t n = 0; n < r->n_runs; n++)
		leased += r->runs[n].state == RUN_RUNNING;
	assert_int_equal(leased, 1); /* the poll wanted one */
	rig_free(r);
}

/* A probe that is lost, or canceled, leaves its place. */
static void
a_probe_that_tells_nothing_is_followed_by_another(void **state)
{
	struct rig *r = rig_new(false, 0);
	char id[RUN_ID_MAX];

	(void)state;
	rig_register(r, "w", 8, "", 0);
	for (int i = 0; i < BREAKER_FAILURES; i++) {
		snprintf(id, sizeof(id), "scan-%016x", i);
		rig_submit(r, id, 0);
		rig_take(r, "w");
		rig_report(r, id, RUN_FAILED, FAIL_INFRA);
	}
	rig_submit(r, A, 100);
	rig_advance(r, BREAKER_BASE_MS);
	r->ledger = RIG_FAILS;
	assert_null(rig_take(r, "w"));
	r->ledger = RIG_WRITES;
	rig_advance(r, 2000);
	assert_non_null(rig_take(r, "w"));
	assert_int_equal(rig_run(r, A)->state, RUN_RUNNING);
	rig_report(r, A, RUN_QUEUED, FAIL_HANDED_BACK);
	assert_int_equal(breaker_of(r).state, BREAKER_HALF_OPEN);
	assert_non_null(rig_take(r, "w"));
	rig_free(r);
}

static void
nothing_is_leased_while_a_dependency_is_away(void **state)
{
	struct rig *r = rig_new(true, 4);
	struct core_wait w;
	uint64_t poll;

	(void)state;
	rig_register(r, "w", 2, "", 0);
	poll = rig_poll_held(r, "w", 1, "", NULL, 0);
	core_dependency(r->core, r->now, "s3", false, "connection refused");
	rig_pump(r);
	rig_submit(r, A, 0);
	assert_null(rig_answer(r, poll));
	assert_null(rig_effect(r, EFF_DISPATCH));
	rig_waits(r, A, "breaker", "s3 cannot be reached: connection refused");
	assert_true(core_why(r->core, r->now, A, &w));
	assert_true(w.position == 1 && w.estimate_ms == -1 && w.basis[0] == '\0'); /* when it is back nobody knows */
	assert_int_equal(breaker_of(r).state, BREAKER_OPEN);
	core_dependency(r->core, r->now, "s3", true, "");
	rig_pump(r);
	assert_int_equal(rig_answer(r, poll)->n_leases, 1);
	rig_free(r);
}

/* Calls to Nomad that fail one after the other are not made by every request: one asks, the others wait for what it hears. */
static void
failing_dispatch_calls_are_made_one_at_a_time(void **state)
{
	struct rig *r = rig_new(true, 7);
	const struct effect *e;
	char id[RUN_ID_MAX];
	size_t calls = 0;

	(void)state;
	for (int i = 0; i < 7; i++) {
		snprintf(id, sizeof(id), "scan-%016x", i);
		rig_submit(r, id, 0);
	}
	while ((e = rig_effect(r, EFF_DISPATCH)) != NULL && ++calls <= 20) {
		core_dispatched(r->core, r->now, e->req.seq, DISPATCH_RETRY, "", "leader is missing");
		rig_pump(r);
	}
	assert_int_equal(calls, 7);
	rig_waits(r, id, "nomad_away", "leader is missing");
	assert_true(breaker_of(r).state == BREAKER_OPEN && breaker_of(r).until_ms > 0);
	rig_advance(r, 2000);
	assert_null(rig_effect(r, EFF_DISPATCH));
	rig_advance(r, BREAKER_BASE_MS);
	e = rig_effect(r, EFF_DISPATCH);
	assert_non_null(e);
	assert_null(rig_effect(r, EFF_DISPATCH));
	core_dispatched(r->core, r->now, e->req.seq, DISPATCH_OK, "child-1", "");
	rig_pump(r);
	for (int i = 0; i < 60; i++)
		rig_advance(r, 1000);
	for (calls = 0; rig_effect(r, EFF_DISPATCH) != NULL;)
		calls++;
	assert_int_equal(calls, 6);
	rig_free(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_opens_after_failures_in_a_row_of_different_ones), cmocka_unit_test(one_probe_at_a_time_decides),
		cmocka_unit_test(a_vertical_that_fails_is_tried_with_one_run_at_a_time),
		cmocka_unit_test(a_probe_that_tells_nothing_is_followed_by_another),
		cmocka_unit_test(nothing_is_leased_while_a_dependency_is_away),
		cmocka_unit_test(failing_dispatch_calls_are_made_one_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
