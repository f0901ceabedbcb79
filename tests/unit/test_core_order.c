/* What keeps a run from being ready though it is its turn: keys, times, pauses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/core_rig.h"

#define A "scan-000000000000000a"
#define B "scan-000000000000000b"
#define C "scan-000000000000000c"
#define D "scan-000000000000000d"
#define CHILD "drover-run-python/dispatch-1"

static uint64_t
submit_key(struct rig *r, const char *id, unsigned limit, enum key_mode mode)
{
	struct run_needs needs = {.key_limit = limit, .key_mode = mode, .key = "repo"};

	return rig_submit_as(r, id, needs, 0, "");
}

static enum run_state
state_of(struct rig *r, const char *id)
{
	return rig_run(r, id)->state;
}

/* The worker polls for one more; whether it got this run, or NULL: nothing. */
static void
takes(struct rig *r, const char *worker, const char *id)
{
	const struct lease *l = rig_take(r, worker);

	if (id == NULL)
		assert_null(l);
	else if (l == NULL)
		fail_msg("%s got nothing, not %s", worker, id);
	else
		assert_string_equal(l->run, id);
}

/* --- concurrency keys --- */

static void
a_key_has_as_many_leases_as_its_limit(void **state)
{
	struct rig *r = rig_new(false, 0);

	(void)state;
	rig_register(r, "w", 4, "", 0);
	submit_key(r, A, 2, KEY_QUEUE);
	submit_key(r, B, 2, KEY_QUEUE);
	submit_key(r, C, 2, KEY_QUEUE);
	takes(r, "w", A);
	takes(r, "w", B);
	takes(r, "w", NULL);
	rig_submit(r, D, 0); /* has no key */
	assert_int_equal(state_of(r, D), RUN_RUNNING);
	rig_report(r, A, RUN_FAILED, FAIL_TOOL);
	takes(r, "w", C);
	rig_free(r);
}

/* However a lease ends, its slot ends with it: by its deadline, by a crash, by a cancel, and over a restart. */
static void
slots_of_a_key_heal(void **state)
{
	struct rig *r = rig_new(false, 0);

	(void)state;
	rig_register(r, "w", 4, "", 0);
	submit_key(r, A, 1, KEY_QUEUE);
	takes(r, "w", A);
	submit_key(r, B, 1, KEY_QUEUE);
	rig_restart(r);
	rig_register(r, "v", 4, "", 0);
	takes(r, "v", NULL);
	rig_advance(r, RIG_TTL_MS + 10); /* A is lost, and tried again after a while; meanwhile B has the slot */
	assert_int_equal(state_of(r, A), RUN_QUEUED);
	assert_int_equal(state_of(r, B), RUN_RUNNING); /* v's poll waited */
	rig_crash(r, "v");
	assert_int_equal(state_of(r, B), RUN_QUEUED);
	rig_advance(r, 5000);
	core_cancel(r->core, r->now, ++r->caller, B, "me");
	rig_pump(r);
	rig_register(r, "u", 4, "", 0);
	takes(r, "u", A);
	rig_free(r);
}

static void
the_slot_of_a_failed_commit_is_free_again(void **state)
{
	struct rig *r = rig_new(false, 0);

	(void)state;
	rig_register(r, "w", 1, "", 0);
	submit_key(r, A, 1, KEY_QUEUE);
	r->ledger = RIG_FAILS;
	takes(r, "w", NULL);
	r->ledger = RIG_WRITES;
	rig_advance(r, 2000);
	takes(r, "w", A);
	rig_free(r);
}

/* Ready is not running: the slot goes to who is first in line. */
static void
the_slot_goes_to_the_first_in_line(void **state)
{
	struct rig *r = rig_new(false, 0);
	struct run_needs urgent = {.key_limit = 1, .key = "repo", .priority = 50};

	(void)state;
	submit_key(r, A, 1, KEY_QUEUE);
	rig_submit_as(r, B, urgent, 0, "");
	rig_register(r, "w", 2, "", 0);
	takes(r, "w", B);
	takes(r, "w", NULL);
	rig_free(r);
}

static void
a_taken_key_refuses_who_does_not_want_to_wait(void **state)
{
	struct rig *r = rig_new(false, 0);

	(void)state;
	submit_key(r, A, 1, KEY_QUEUE);
	assert_int_equal(rig_code(r, submit_key(r, B, 1, KEY_FAIL)), ERR_CONFLICT);
	assert_non_null(strstr(rig_answer(r, r->caller)->err.msg, A));
	assert_null(rig_run(r, B));
	assert_int_equal(rig_code(r, submit_key(r, C, 2, KEY_FAIL)), 0);
	core_cancel(r->core, r->now, ++r->caller, A, "me");
	core_cancel(r->core, r->now, ++r->caller, C, "me");
	rig_pump(r);
	assert_int_equal(rig_code(r, submit_key(r, B, 1, KEY_FAIL)), 0);
	rig_free(r);
}

static void
a_newer_run_replaces_the_older_ones(void **state)
{
	struct rig *r = rig_new(false, 0);

	(void)state;
	rig_register(r, "w", 4, "", 0);
	submit_key(r, A, 1, KEY_QUEUE);
	takes(r, "w", A);
	submit_key(r, B, 1, KEY_QUEUE);
	r->ledger = RIG_HOLDS;
	submit_key(r, C, 1, KEY_REPLACE);
	assert_int_equal(state_of(r, A), RUN_RUNNING); /* nobody makes way for what is not durable */
	rig_settle(r, true);
	assert_int_equal(state_of(r, A), RUN_CANCELING);
	assert_int_equal(state_of(r, B), RUN_CANCELED);
	assert_non_null(strstr(rig_run(r, B)->reason, C));
	takes(r, "w", NULL);
	rig_report(r, A, RUN_CANCELED, FAIL_NONE);
	assert_int_equal(state_of(r, C), RUN_RUNNING); /* the poll waited */
	submit_key(r, D, 2, KEY_REPLACE); /* there is room for both */
	assert_int_equal(state_of(r, C), RUN_RUNNING);
	rig_free(r);
}

/* --- times --- */

static void
who_waits_for_too_long_fails(void **state)
{
	struct rig *r = rig_new(false, 0);

	(void)state;
	rig_submit_as(r, A, (struct run_needs){.max_wait_ms = 5000}, 0, "");
	rig_submit_as(r, B, (struct run_needs){.max_wait_ms = 5000}, r->now.real_ms + 4000, ""); /* does not wait before its time */
	rig_advance(r, 4999);
	assert_int_equal(state_of(r, A), RUN_QUEUED);
	rig_restart(r);
	rig_advance(r, 1);
	assert_int_equal(state_of(r, A), RUN_FAILED);
	assert_non_null(strstr(rig_run(r, A)->reason, "maximum wait of 5 s"));
	rig_advance(r, 3990);
	assert_int_equal(state_of(r, B), RUN_QUEUED);
	r->ledger = RIG_FAILS;
	rig_advance(r, 100);
	assert_int_equal(state_of(r, B), RUN_QUEUED);
	r->ledger = RIG_WRITES;
	rig_advance(r, 2000);
	assert_int_equal(state_of(r, B), RUN_FAILED);
	rig_free(r);
}

static void
a_lease_ends_the_wait(void **state)
{
	struct rig *r = rig_new(false, 0);

	(void)state;
	rig_submit_as(r, A, (struct run_needs){.max_wait_ms = 5000}, 0, "");
	rig_register(r, "w", 1, "", 0);
	takes(r, "w", A);
	rig_advance(r, 10000);
	assert_int_equal(state_of(r, A), RUN_RUNNING);
	rig_report(r, A, RUN_QUEUED, FAIL_HANDED_BACK);
	rig_advance(r, 4000);
	assert_int_equal(state_of(r, A), RUN_QUEUED); /* waits anew */
	rig_advance(r, 2000);
	assert_int_equal(state_of(r, A), RUN_FAILED);
	rig_free(r);
}

/* --- pauses --- */

static int
pause_it(struct rig *r, enum pause_kind kind, const char *name, bool paused)
{
	struct pause_row row = {.kind = kind, .who = "me"};

	snprintf(row.name, sizeof(row.name), "%s", name);
	core_pause(r->core, r->now, ++r->caller, &row, paused);
	rig_pump(r);
	return rig_code(r, r->caller);
}

static void
what_is_paused_gets_no_leases(void **state)
{
	static const struct {
		enum pause_kind kind;
		const char *name;
	} cases[] = {{PAUSE_VERTICAL, RIG_VERTICAL}, {PAUSE_TENANT, "red"}};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct rig *r = rig_new(true, 4);

		rig_register(r, "w", 4, "", 0);
		rig_submit(r, A, 0);
		takes(r, "w", A);
		rig_submit(r, B, 0);
		assert_int_equal(pause_it(r, cases[i].kind, cases[i].name, true), 0);
		rig_submit(r, C, 0);
		takes(r, "w", NULL);
		rig_advance(r, 5000);
		rig_effect(r, EFF_DISPATCH); /* for B, before */
		assert_null(rig_effect(r, EFF_DISPATCH));
		rig_waits(r, C, "paused", "me");
		rig_restart(r);
		rig_register(r, "w", 4, "", 0);
		takes(r, "w", NULL);
		assert_int_equal(rig_code(r, rig_report(r, A, RUN_COMPLETED, FAIL_NONE)), 0); /* what runs goes on */
		assert_int_equal(pause_it(r, cases[i].kind, "other", false), ERR_NOTFOUND);
		assert_int_equal(pause_it(r, cases[i].kind, cases[i].name, false), 0);
		assert_int_equal(state_of(r, B), RUN_RUNNING); /* the poll waited */
		rig_free(r);
	}
}

/* It goes before all others, and not through what holds everything back. */
static void
a_dispatch_by_hand_waits_as_others_do(void **state)
{
	static const char hand[] = "drover-run-python/dispatch-hand";
	struct rig *r = rig_new(true, 4);
	uint64_t poll;

	(void)state;
	rig_submit_as(r, A, (struct run_needs){0}, 0, hand);
	assert_int_equal(pause_it(r, PAUSE_TENANT, "red", true), 0);
	assert_int_equal(pause_it(r, PAUSE_VERTICAL, RIG_VERTICAL, true), 0);
	rig_register(r, "o", 1, hand, 0);
	poll = rig_poll_held(r, "o", 1, A, NULL, 0);
	assert_null(rig_answer(r, poll));
	rig_waits(r, A, "paused", "me");
	assert_int_equal(pause_it(r, PAUSE_VERTICAL, RIG_VERTICAL, false), 0);
	assert_null(rig_answer(r, poll));
	core_dependency(r->core, r->now, "s3", false, "connection refused");
	rig_pump(r);
	assert_int_equal(pause_it(r, PAUSE_TENANT, "red", false), 0);
	assert_null(rig_answer(r, poll));
	rig_waits(r, A, "breaker", "connection refused");
	core_dependency(r->core, r->now, "s3", true, "");
	rig_pump(r);
	assert_int_equal(rig_answer(r, poll)->n_leases, 1);
	rig_free(r);
}

/* --- who takes it --- */

/* Looping workers could not be drained while it runs. */
static void
what_may_take_hours_goes_to_a_one_shot(void **state)
{
	struct rig *r = rig_new(true, 1);

	(void)state;
	rig_register(r, "w", 4, "", 0);
	rig_submit_as(r, A, (struct run_needs){.timeout_ms = 3600001}, 0, "");
	takes(r, "w", NULL);
	rig_register(r, "o", 1, CHILD, rig_dispatched(r, CHILD));
	takes(r, "o", A);
	rig_free(r);

	/* As soon as it is known that there are one-shots, and no longer than there are. */
	r = rig_new(true, 0);
	rig_submit_as(r, A, (struct run_needs){.timeout_ms = 3600001}, 0, "");
	core_set_vertical(r->core, r->now, &(struct core_vertical){.name = RIG_VERTICAL, .window = 1});
	rig_pump(r);
	rig_register(r, "w", 4, "", 0);
	takes(r, "w", NULL);
	core_set_vertical(r->core, r->now, &(struct core_vertical){.name = RIG_VERTICAL});
	rig_pump(r);
	assert_int_equal(state_of(r, A), RUN_RUNNING);
	rig_free(r);
}

/* Each of them is tried again alone; nobody is sent to the larger class for what another one ate. */
static void
out_of_memory_in_company_accuses_everybody(void **state)
{
	struct rig *r = rig_new(true, 0);
	struct core_child fact = {.state = CHILD_ENDED, .oom = true, .crash = true, .partial = true, .alloc = "alloc-w"};

	(void)state;
	rig_register(r, "w", 2, "", 0);
	rig_submit(r, A, 0);
	rig_submit(r, B, 0);
	takes(r, "w", A);
	takes(r, "w", B);
	rig_child(r, fact, "group");
	rig_advance(r, 0);
	assert_true(rig_run(r, A)->suspect && rig_run(r, B)->suspect && rig_run(r, A)->crashes == 0);
	assert_true(rig_run(r, A)->needs.class == CLASS_NORMAL && rig_run(r, A)->fail == FAIL_LOST);
	rig_advance(r, 5000);
	rig_register(r, "w", 2, "", 0);
	takes(r, "w", A);
	takes(r, "w", NULL);
	rig_child(r, fact, "group");
	rig_advance(r, 0);
	assert_true(rig_run(r, A)->needs.class == CLASS_LARGE && rig_run(r, A)->fail == FAIL_OOM);
	rig_free(r);
}

static void
sized(struct rig *r, const char *id, unsigned slots, int64_t memory_bytes)
{
	struct core_worker w = {.slots = slots, .alloc_index = -1, .memory_bytes = memory_bytes, .cpu_millis = 4000};

	snprintf(w.id, sizeof(w.id), "%s", id);
	snprintf(w.vertical, sizeof(w.vertical), "%s", RIG_VERTICAL);
	core_register(r->core, r->now, ++r->caller, &w);
	rig_pump(r);
}

static void
runs_are_weighed_beside_slots(void **state)
{
	struct rig *r = rig_new(false, 0);

	(void)state;
	sized(r, "w", 4, 1000);
	rig_submit_as(r, A, (struct run_needs){.memory_bytes = 600, .cpu_millis = 1000}, 0, "");
	rig_submit_as(r, B, (struct run_needs){.memory_bytes = 500, .cpu_millis = 1000}, 0, "");
	rig_submit_as(r, C, (struct run_needs){.memory_bytes = 5000, .cpu_millis = 9000}, 0, "");
	takes(r, "w", A);
	takes(r, "w", NULL); /* B does not fit, and nothing passes it by */
	rig_report(r, A, RUN_COMPLETED, FAIL_NONE);
	assert_int_equal(state_of(r, B), RUN_RUNNING);
	takes(r, "w", NULL);
	rig_report(r, B, RUN_COMPLETED, FAIL_NONE);
	assert_int_equal(state_of(r, C), RUN_RUNNING); /* alone everything fits */
	rig_submit(r, D, 0);
	takes(r, "w", NULL);
	sized(r, "v", 2, 0); /* of unknown memory: slots and cpu alone count */
	takes(r, "v", D);
	rig_submit_as(r, "scan-000000000000000e", (struct run_needs){.memory_bytes = 5000, .cpu_millis = 4001}, 0, "");
	takes(r, "v", NULL);
	rig_report(r, D, RUN_COMPLETED, FAIL_NONE);
	assert_int_equal(state_of(r, "scan-000000000000000e"), RUN_RUNNING);
	rig_free(r);
}

static void
a_worker_that_has_the_target_is_preferred(void **state)
{
	struct rig *r = rig_new(false, 0);
	const uint64_t keys[] = {9, 7};
	uint64_t poll_v, poll_w;

	(void)state;
	rig_register(r, "v", 2, "", 0);
	rig_register(r, "w", 2, "", 0);
	core_worker_holds(r->core, r->now, "w", keys, 2);
	poll_v = rig_poll_held(r, "v", 1, "", NULL, 0);
	poll_w = rig_poll_held(r, "w", 1, "", NULL, 0);
	rig_submit_as(r, A, (struct run_needs){.target_key = 7}, 0, "");
	assert_true(rig_answer(r, poll_v) == NULL && rig_answer(r, poll_w)->n_leases == 1);
	rig_submit_as(r, B, (struct run_needs){.target_key = 7}, 0, ""); /* nobody waits for w */
	assert_int_equal(rig_answer(r, poll_v)->n_leases, 1);

	/* Among equals w takes what it has; who came much earlier is not passed by. */
	rig_submit_as(r, C, (struct run_needs){.target_key = 1}, 0, "");
	rig_advance(r, 4000);
	rig_submit_as(r, D, (struct run_needs){.target_key = 9}, 0, "");
	takes(r, "w", D);
	rig_report(r, D, RUN_COMPLETED, FAIL_NONE);
	rig_advance(r, 2000);
	rig_submit_as(r, "scan-000000000000000e", (struct run_needs){.target_key = 9}, 0, "");
	takes(r, "w", C);
	rig_free(r);
}

/* Holding something is no claim: what counts is this run's target, whoever asked first. */
static void
a_worker_that_has_another_target_is_not(void **state)
{
	struct rig *r = rig_new(false, 0);
	const uint64_t other = 5, wanted = 7;
	uint64_t poll_v, poll_w;

	(void)state;
	rig_register(r, "v", 1, "", 0);
	rig_register(r, "w", 1, "", 0);
	core_worker_holds(r->core, r->now, "v", &other, 1);
	core_worker_holds(r->core, r->now, "w", &wanted, 1);
	poll_v = rig_poll_held(r, "v", 1, "", NULL, 0);
	poll_w = rig_poll_held(r, "w", 1, "", NULL, 0);
	rig_submit_as(r, A, (struct run_needs){.target_key = wanted}, 0, "");
	assert_true(rig_answer(r, poll_v) == NULL && rig_answer(r, poll_w)->n_leases == 1);
	rig_free(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_has_as_many_leases_as_its_limit), cmocka_unit_test(slots_of_a_key_heal),
		cmocka_unit_test(the_slot_of_a_failed_commit_is_free_again), cmocka_unit_test(the_slot_goes_to_the_first_in_line),
		cmocka_unit_test(a_taken_key_refuses_who_does_not_want_to_wait), cmocka_unit_test(a_newer_run_replaces_the_older_ones),
		cmocka_unit_test(who_waits_for_too_long_fails), cmocka_unit_test(a_lease_ends_the_wait),
		cmocka_unit_test(what_is_paused_gets_no_leases), cmocka_unit_test(a_dispatch_by_hand_waits_as_others_do),
		cmocka_unit_test(what_may_take_hours_goes_to_a_one_shot),
		cmocka_unit_test(out_of_memory_in_company_accuses_everybody), cmocka_unit_test(runs_are_weighed_beside_slots),
		cmocka_unit_test(a_worker_that_has_the_target_is_preferred), cmocka_unit_test(a_worker_that_has_another_target_is_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
