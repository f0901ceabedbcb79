/* Drains, the order of warm workers, and what an autoscaler reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/core_rig.h"

#include "dispatcher/core/service.h"

#define A "scan-000000000000000a"
#define B "scan-000000000000000b"
#define MINUTE_MS 60000

static const char allocs[3][CORE_ALLOC_MAX] = {"alloc-w0", "alloc-w1", "alloc-w2"};

/* Marks the first n of w0, w1, w2, counted from the one that is named first. */
static int
drain(struct rig *r, const char *owner, size_t first, size_t n, bool condemn, struct core_drain_state *out)
{
	const struct core_drain d = {.owner = owner, .allocs = &allocs[first], .n = n, .ttl_ms = MINUTE_MS, .condemn = condemn};
	struct err e = {0};
	int rc = core_drain(r->core, r->now, &d, out, &e);

	assert_true(rc == 0 || e.msg[0] != '\0');
	rig_pump(r);
	return rc;
}

static void
warm(struct rig *r, int index, unsigned slots)
{
	struct core_worker w = {.slots = slots, .alloc_index = index};

	snprintf(w.id, sizeof(w.id), "w%d", index);
	snprintf(w.vertical, sizeof(w.vertical), "%s", RIG_VERTICAL);
	snprintf(w.child, sizeof(w.child), "group");
	snprintf(w.alloc, sizeof(w.alloc), "alloc-w%d", index);
	core_register(r->core, r->now, ++r->caller, &w);
	rig_pump(r);
}

static void
a_drained_worker_gets_nothing_until_it_is_taken_back(void **state)
{
	struct rig *r = rig_new(false, 0);
	struct core_drain_state s;
	uint64_t poll;

	(void)state;
	warm(r, 0, 1);
	poll = rig_poll_held(r, "w0", 1, "", NULL, 0);
	assert_int_equal(drain(r, "scaler", 0, 1, false, &s), 0);
	assert_true(s.mark == DRAIN_DRAINING && s.leases == 0);
	assert_string_equal(s.worker, "w0");
	rig_submit(r, A, 0);
	assert_null(rig_answer(r, poll));
	rig_waits(r, A, "drain", "are being taken away");
	assert_int_equal(drain(r, "another", 0, 0, false, NULL), 0);
	assert_null(rig_answer(r, poll));
	assert_int_equal(drain(r, "scaler", 0, 0, false, NULL), 0);
	assert_int_equal(rig_answer(r, poll)->n_leases, 1);
	rig_free(r);
}

static void
a_mark_ends_by_itself(void **state)
{
	struct rig *r = rig_new(false, 0);
	uint64_t poll;

	(void)state;
	warm(r, 0, 1);
	poll = rig_poll_held(r, "w0", 1, "", NULL, 0);
	drain(r, "scaler", 0, 1, false, NULL);
	rig_advance(r, MINUTE_MS / 2);
	drain(r, "roll", 0, 1, false, NULL);
	rig_submit(r, A, 0);
	rig_advance(r, MINUTE_MS - 1);
	assert_null(rig_answer(r, poll));
	rig_advance(r, 1);
	assert_int_equal(rig_answer(r, poll)->n_leases, 1);
	rig_free(r);
}

static void
only_who_holds_nothing_is_condemned(void **state)
{
	struct rig *r = rig_new(false, 0);
	struct core_drain_state s[2];
	uint64_t poll;

	(void)state;
	warm(r, 0, 2);
	warm(r, 1, 2);
	rig_submit(r, A, 0);
	r->ledger = RIG_HOLDS;
	poll = rig_poll_held(r, "w1", 1, "", NULL, 0);
	assert_int_equal(drain(r, "scaler", 0, 2, true, s), ERR_CONFLICT);
	assert_true(s[1].committing == 1 && s[1].leases == 0 && s[1].mark == DRAIN_NONE);
	rig_settle(r, true);
	assert_int_equal(drain(r, "scaler", 0, 2, true, s), ERR_CONFLICT);
	assert_true(s[1].committing == 0 && s[1].leases == 1 && s[0].mark == DRAIN_NONE);
	assert_int_equal(rig_answer(r, poll)->n_leases, 1);
	rig_report(r, A, RUN_COMPLETED, FAIL_NONE);
	assert_int_equal(drain(r, "scaler", 0, 2, true, s), 0);
	assert_true(s[0].mark == DRAIN_CONDEMNED && s[1].mark == DRAIN_CONDEMNED);

	/* Not taken back by anybody, and a process that is started again in the allocation is no better. */
	drain(r, "scaler", 0, 0, false, NULL);
	core_leave(r->core, r->now, "w1");
	rig_advance(r, 10);
	warm(r, 1, 2);
	poll = rig_poll_held(r, "w1", 1, "", NULL, 0);
	rig_submit(r, B, 0);
	assert_null(rig_answer(r, poll));
	rig_advance(r, MINUTE_MS);
	assert_int_equal(rig_answer(r, poll)->n_leases, 1);
	rig_free(r);
}

static void
an_allocation_that_comes_later_falls_under_its_mark(void **state)
{
	struct rig *r = rig_new(false, 0);
	struct core_drain_state s;
	uint64_t poll;

	(void)state;
	assert_int_equal(drain(r, "scaler", 2, 1, true, &s), 0);
	assert_string_equal(s.worker, "");
	warm(r, 2, 1);
	poll = rig_poll_held(r, "w2", 1, "", NULL, 0);
	rig_submit(r, A, 0);
	assert_null(rig_answer(r, poll));
	rig_free(r);
}

/* A worker that holds a lease from before the restart could be the one in that allocation. */
static void
nobody_is_condemned_before_all_holders_are_known(void **state)
{
	struct rig *r = rig_new(true, 0);
	struct core_drain_state s;

	(void)state;
	warm(r, 0, 1);
	rig_submit(r, A, 0);
	assert_non_null(rig_take(r, "w0"));
	rig_restart(r);
	assert_int_equal(drain(r, "scaler", 0, 1, true, &s), ERR_RETRY);
	warm(r, 0, 1);
	assert_int_equal(drain(r, "scaler", 0, 1, true, &s), ERR_CONFLICT);
	assert_int_equal(s.leases, 1);
	rig_free(r);
}

/* A scale call that was prepared with the dispatcher before may still be on its way. */
static void
after_a_start_workers_in_allocations_wait(void **state)
{
	struct rig *r = rig_new(true, 0);
	uint64_t poll;

	(void)state;
	r->config.scale_hold_ms = 2000;
	rig_submit(r, A, 0);
	rig_restart(r);
	warm(r, 0, 1);
	poll = rig_poll_held(r, "w0", 1, "", NULL, 0);
	rig_advance(r, 1999);
	assert_null(rig_answer(r, poll));
	rig_advance(r, 1);
	assert_int_equal(rig_answer(r, poll)->n_leases, 1);
	rig_free(r);
}

static void
the_lowest_allocation_index_is_served_first(void **state)
{
	struct rig *r = rig_new(false, 0);
	uint64_t polls[3];

	(void)state;
	for (int i = 2; i >= 0; i--) {
		warm(r, i, 1);
		polls[i] = rig_poll_held(r, i == 2 ? "w2" : i == 1 ? "w1" : "w0", 1, "", NULL, 0);
	}
	rig_submit(r, A, 0);
	assert_true(rig_answer(r, polls[0]) != NULL && rig_answer(r, polls[1]) == NULL && rig_answer(r, polls[2]) == NULL);
	rig_submit(r, B, 0);
	assert_true(rig_answer(r, polls[1]) != NULL && rig_answer(r, polls[2]) == NULL);
	rig_free(r);
}

static void
the_scale_view_counts_what_looping_workers_are_for(void **state)
{
	struct rig *r = rig_new(true, 2);
	struct core_scale s;
	struct core_scale_worker w[2];

	(void)state;
	warm(r, 0, 2);
	warm(r, 1, 2);
	rig_submit(r, A, 0);
	assert_non_null(rig_take(r, "w0"));
	rig_submit_as(r, B, (struct run_needs){.execution = EXEC_JOB}, 0, "");
	drain(r, "scaler", 1, 1, false, NULL);
	rig_poll_held(r, "w0", 1, "", &(struct held){A, rig_run(r, A)->fence}, 1);
	assert_int_equal(core_scales(r->core, r->now, &s, 1), 1);
	assert_true(s.ready == 1 && s.warm_ready == 0 && s.running == 1 && s.workers == 1 && s.slots == 2 && s.idle_slots == 1);
	assert_true(s.arrivals_total == 1 && s.served_total == 0 && s.one_shots_live == 1 && s.service_ms_mean == 0 && s.oldest_ms == 0);
	assert_int_equal(core_scale_workers(r->core, RIG_VERTICAL, w, 2), 2);
	assert_true(w[0].leases == 1 && w[0].mark == DRAIN_NONE && w[1].alloc_index == 1 && w[1].mark == DRAIN_DRAINING);
	rig_advance(r, 7000);
	rig_report(r, A, RUN_FAILED, FAIL_INFRA);
	core_scales(r->core, r->now, &s, 1);
	assert_true(s.served_total == 1 && s.service_ms_mean == 7000 && s.arrivals_total == 1);
	rig_advance(r, 5000);
	core_scales(r->core, r->now, &s, 1);
	assert_true(s.arrivals_total == 2); /* tried again */
	rig_free(r);
}

static void
starting_slots_are_waited_for(void **state)
{
	struct rig *r = rig_new(true, 4);
	struct core_warm fact = {.starting_slots = 1, .group = true};

	(void)state;
	snprintf(fact.vertical, sizeof(fact.vertical), "%s", RIG_VERTICAL);
	core_warm(r->core, r->now, &fact);
	rig_submit(r, A, 0);
	assert_null(rig_effect(r, EFF_DISPATCH));
	rig_waits(r, A, "starting", "warm worker");
	rig_submit(r, B, 0);
	assert_non_null(rig_effect(r, EFF_DISPATCH)); /* one more than will start */
	assert_null(rig_effect(r, EFF_DISPATCH));
	fact.starting_slots = 0;
	snprintf(fact.why, sizeof(fact.why), "image not found");
	core_warm(r->core, r->now, &fact);
	rig_pump(r);
	assert_non_null(rig_effect(r, EFF_DISPATCH));
	rig_free(r);
}

/* Where there are no one-shots at all, large runs go to the workers that exist, and it says why they do not come. */
static void
a_warm_vertical_asks_for_no_one_shots(void **state)
{
	struct rig *r = rig_new(true, 4);
	struct core_vertical v = {.name = RIG_VERTICAL, .window = 4, .warm_only = true};
	struct core_warm fact = {.group = true, .why = "image not found"};
	struct core_depth d[2];

	(void)state;
	snprintf(fact.vertical, sizeof(fact.vertical), "%s", RIG_VERTICAL);
	r->window = 0;
	core_set_vertical(r->core, r->now, &(struct core_vertical){.name = RIG_VERTICAL});
	rig_submit_as(r, A, (struct run_needs){.class = CLASS_LARGE, .execution = EXEC_JOB}, 0, "");
	core_set_vertical(r->core, r->now, &v);
	core_warm(r->core, r->now, &fact);
	rig_pump(r);
	core_depths(r->core, r->now, d, 2);
	assert_true(d[0].ready == 1 && d[1].ready == 0);
	assert_null(rig_effect(r, EFF_DISPATCH));
	rig_waits(r, A, "warm_start", "image not found");
	core_set_vertical(r->core, r->now, &(struct core_vertical){.name = RIG_VERTICAL});
	rig_pump(r);
	core_depths(r->core, r->now, d, 2);
	assert_true(d[0].ready == 0 && d[1].ready == 1);
	core_set_vertical(r->core, r->now, &v);
	warm(r, 0, 1);
	assert_non_null(rig_take(r, "w0"));
	rig_free(r);
}

/* Nomad refused the second call, a listing had nothing of the first: before that could be written, a late copy of it arrived. */
static void
a_child_that_comes_late_is_not_forgotten(void **state)
{
	struct rig *r = rig_new(true, 1);
	struct core_child fact = {.state = CHILD_RUNNING};
	const struct effect *e;

	(void)state;
	rig_submit(r, A, 0);
	e = rig_effect(r, EFF_DISPATCH);
	core_dispatched(r->core, r->now, e->req.seq, DISPATCH_RETRY, "", "timeout");
	rig_advance(r, 5000);
	e = rig_effect(r, EFF_DISPATCH);
	assert_non_null(e);
	core_dispatched(r->core, r->now, e->req.seq, DISPATCH_REFUSED, "", "no such job");
	r->ledger = RIG_FAILS;
	core_listing_begin(r->core, r->now);
	core_listing_end(r->core, r->now);
	rig_pump(r);
	fact.seq = e->req.seq;
	rig_child(r, fact, "drover-run-python/dispatch-1");
	r->ledger = RIG_WRITES;
	rig_advance(r, 3000);
	assert_int_equal(rig_request(r, fact.seq)->state, REQ_DISPATCHED);
	assert_string_equal(rig_request(r, fact.seq)->child, "drover-run-python/dispatch-1");
	rig_free(r);
}

/* --- learnt times --- */

static void
the_mean_and_the_tail_are_those_of_what_was_learnt(void **state)
{
	struct service s = {0};

	(void)state;
	assert_int_equal(service_mean_ms(&s), 0);
	assert_int_equal(service_part_ms(&s, 0.9), 0);
	for (int i = 0; i < 100; i++)
		service_add(&s, 1000, i % 10 == 0 ? 50000 : 1000, SERVICE_WHOLE);
	assert_in_range(service_mean_ms(&s), 5700, 6100); /* later ones weigh a little more */
	assert_int_equal(service_part_ms(&s, 0.5), 1000);
	assert_int_equal(service_part_ms(&s, 0.95), 50000);
}

/* Half of what would take 1 or 9 seconds is cut short after 2: the long half must not fall out of the mean. */
static void
what_is_cut_short_does_not_make_times_look_short(void **state)
{
	struct service s = {0};

	(void)state;
	for (int i = 0; i < 40; i++) {
		service_add(&s, 0, 1000, SERVICE_WHOLE);
		service_add(&s, 0, 9000, SERVICE_WHOLE);
		service_add(&s, 0, 1000, SERVICE_WHOLE);
		service_add(&s, 0, 2000, SERVICE_CUT);
	}
	assert_in_range(service_mean_ms(&s), 4800, 5200); /* 3,667 with the cut ones left out, 3,250 as whole ones */
}

static void
what_is_old_fades(void **state)
{
	struct service s = {0};

	(void)state;
	for (int i = 0; i < 1000; i++)
		service_add(&s, 0, 60000, SERVICE_WHOLE);
	service_add(&s, (int64_t)24 * 3600 * 1000, 1000, SERVICE_WHOLE);
	assert_in_range(service_mean_ms(&s), 1000, 1100);
	for (int i = 0; i < 300000; i++) /* weights that grow for ever do not overflow */
		service_add(&s, (int64_t)24 * 3600 * 1000, 3000, SERVICE_WHOLE);
	assert_int_equal(service_mean_ms(&s), 3000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_drained_worker_gets_nothing_until_it_is_taken_back), cmocka_unit_test(a_mark_ends_by_itself),
		cmocka_unit_test(only_who_holds_nothing_is_condemned), cmocka_unit_test(an_allocation_that_comes_later_falls_under_its_mark),
		cmocka_unit_test(nobody_is_condemned_before_all_holders_are_known),
		cmocka_unit_test(after_a_start_workers_in_allocations_wait), cmocka_unit_test(the_lowest_allocation_index_is_served_first),
		cmocka_unit_test(the_scale_view_counts_what_looping_workers_are_for),
		cmocka_unit_test(starting_slots_are_waited_for), cmocka_unit_test(a_warm_vertical_asks_for_no_one_shots),
		cmocka_unit_test(a_child_that_comes_late_is_not_forgotten),
		cmocka_unit_test(the_mean_and_the_tail_are_those_of_what_was_learnt),
		cmocka_unit_test(what_is_cut_short_does_not_make_times_look_short), cmocka_unit_test(what_is_old_fades),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
