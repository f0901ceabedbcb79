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
static const struct core_drain w0 = {.owner = "scaler", .allocs = allocs, .n = 1, .ttl_ms = MINUTE_MS, .vertical = RIG_VERTICAL};

/* Marks the first n of w0, w1, w2, counted from the one that is named first. */
static int
drain(struct rig *r, const char *owner, size_t first, size_t n, bool condemn, struct core_drain_state *out)
{
	const struct core_drain d = {.owner = owner, .allocs = &allocs[first], .n = n, .ttl_ms = MINUTE_MS, .vertical = RIG_VERTICAL};
	struct err e = {0};
	int rc = 0;

	if (condemn) {
		core_condemn(r->core, r->now, ++r->caller, &d);
		rig_pump(r);
		rc = rig_code(r, r->caller);
		if (out != NULL)
			core_drain_states(r->core, d.allocs, n, out);
		return rc;
	}
	rc = core_drain(r->core, r->now, &d, out, &e);
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

/* Whoever condemned acts on it elsewhere, and may do so when another dispatcher leads already. */
static void
a_condemned_worker_stays_so_over_a_restart(void **state)
{
	struct rig *r = rig_new(true, 0);
	struct core_drain_state s;
	uint64_t poll;

	(void)state;
	warm(r, 0, 1);
	assert_int_equal(drain(r, "scaler", 0, 1, true, &s), 0);
	assert_true(s.durable && r->n_marks == 1);
	rig_submit(r, A, 0);
	rig_advance(r, MINUTE_MS - 1);
	rig_restart(r);
	warm(r, 0, 1);
	poll = rig_poll_held(r, "w0", 1, "", NULL, 0);
	rig_advance(r, MINUTE_MS - 1);
	assert_null(rig_answer(r, poll));
	rig_advance(r, 1);
	assert_int_equal(rig_answer(r, poll)->n_leases, 1);
	assert_int_equal(r->n_marks, 0);
	rig_free(r);
}

static void
nobody_is_condemned_before_it_is_durable(void **state)
{
	struct rig *r = rig_new(false, 0);
	struct core_drain_state s;
	uint64_t poll, asked;

	(void)state;
	warm(r, 0, 1);
	r->ledger = RIG_HOLDS;
	core_condemn(r->core, r->now, asked = ++r->caller, &w0);
	rig_pump(r);
	assert_null(rig_answer(r, asked));
	/* Nothing is given away while it is being written, however long that takes. */
	poll = rig_poll_held(r, "w0", 1, "", NULL, 0);
	r->ledger = RIG_WRITES;
	rig_submit(r, A, 0);
	rig_advance(r, 2 * MINUTE_MS);
	assert_null(rig_answer(r, poll));
	r->ledger = RIG_HOLDS;
	rig_settle(r, false);
	assert_int_equal(rig_code(r, asked), ERR_RETRY);
	rig_advance(r, 1000);
	assert_int_equal(rig_answer(r, poll)->n_leases, 1);
	rig_report(r, A, RUN_COMPLETED, FAIL_NONE);
	core_drain_states(r->core, allocs, 1, &s);
	assert_true(s.mark == DRAIN_NONE && r->n_marks == 0);
	core_ledger_health(r->core, r->now, false);
	assert_int_equal(drain(r, "scaler", 0, 1, true, &s), ERR_RETRY);
	assert_int_equal(s.mark, DRAIN_NONE);
	rig_free(r);
}

/* The row of a mark whose time is over is being removed while the worker is condemned again: in whatever order that is told. */
static void
condemning_again_while_the_mark_is_forgotten(void **state)
{
	struct rig *r = rig_new(false, 0);
	struct core_drain_state s;

	(void)state;
	warm(r, 0, 1);
	assert_int_equal(drain(r, "scaler", 0, 1, true, &s), 0);
	r->ledger = RIG_UNKNOWN;
	rig_advance(r, MINUTE_MS);
	assert_int_equal(r->n_held, 1);
	r->ledger = RIG_WRITES;
	r->n_marks = 0; /* it was removed, and nobody knows yet */
	core_ledger_health(r->core, r->now, true);
	core_condemn(r->core, r->now, ++r->caller, &w0);
	rig_pump(r);
	assert_int_equal(rig_code(r, r->caller), 0);
	assert_int_equal(r->n_marks, 1);
	core_read_back(r->core, r->now, r->held[0].txn, true, NULL, 0);
	core_effect_release(&r->held[--r->n_held]);
	rig_pump(r);
	core_drain_states(r->core, allocs, 1, &s);
	assert_true(s.mark == DRAIN_CONDEMNED && s.durable);
	rig_advance(r, MINUTE_MS - 1);
	core_drain_states(r->core, allocs, 1, &s);
	assert_int_equal(s.mark, DRAIN_CONDEMNED);
	/* A removal that fails is tried again; the mark holds as long. */
	r->ledger = RIG_FAILS;
	rig_advance(r, 5000);
	core_drain_states(r->core, allocs, 1, &s);
	assert_int_equal(s.mark, DRAIN_CONDEMNED);
	r->ledger = RIG_WRITES;
	rig_advance(r, 5000);
	core_drain_states(r->core, allocs, 1, &s);
	assert_true(s.mark == DRAIN_NONE && r->n_marks == 0);
	rig_free(r);
}

/* The scale call hits whoever has the index when it comes, until the group is known to be beyond the version that it is for. */
static void
who_takes_the_place_of_a_condemned_one_is_condemned(void **state)
{
	static const int indexes[] = {2};
	struct core_drain d = {.owner = "scaler", .allocs = &allocs[2], .n = 1, .ttl_ms = MINUTE_MS, .vertical = RIG_VERTICAL,
		.indexes = indexes, .version = 7};
	struct core_worker other = {.id = "other", .vertical = RIG_VERTICAL, .child = "group", .alloc = "another", .slots = 1,
	    .alloc_index = 2};
	struct rig *r = rig_new(true, 0);
	uint64_t poll;

	(void)state;
	core_condemn(r->core, r->now, ++r->caller, &d);
	rig_pump(r);
	rig_submit(r, A, 0);
	rig_restart(r);
	core_register(r->core, r->now, ++r->caller, &other);
	rig_pump(r);
	poll = rig_poll_held(r, "other", 1, "", NULL, 0);
	d.n = 0;
	d.version = 6; /* told late, of an earlier condemnation */
	core_condemn(r->core, r->now, ++r->caller, &d);
	rig_pump(r);
	assert_null(rig_answer(r, poll));
	d.version = 7;
	core_condemn(r->core, r->now, ++r->caller, &d);
	rig_pump(r);
	assert_int_equal(rig_code(r, r->caller), 0);
	assert_int_equal(rig_answer(r, poll)->n_leases, 1);
	warm(r, 2, 1);
	poll = rig_poll_held(r, "w2", 1, "", NULL, 0);
	rig_submit(r, B, 0);
	assert_null(rig_answer(r, poll));
	rig_free(r);
}

static void
more_than_one_commit_holds_is_not_condemned(void **state)
{
	static char many[CORE_CONDEMN_MAX + 1][CORE_ALLOC_MAX];
	struct core_drain d = {.owner = "scaler", .allocs = (const char (*)[CORE_ALLOC_MAX])many, .n = CORE_CONDEMN_MAX + 1,
	    .ttl_ms = MINUTE_MS,
		.vertical = RIG_VERTICAL};
	struct rig *r = rig_new(false, 0);

	(void)state;
	for (size_t i = 0; i < d.n; i++)
		snprintf(many[i], sizeof(many[i]), "alloc-%zu", i);
	core_condemn(r->core, r->now, ++r->caller, &d);
	rig_pump(r);
	assert_int_equal(rig_code(r, r->caller), ERR_TOOBIG);
	d.n = 0;
	core_condemn(r->core, r->now, ++r->caller, &d);
	rig_pump(r);
	assert_int_equal(rig_code(r, r->caller), 0);
	assert_int_equal(r->commits, 0);
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

static size_t
warm_ready(struct rig *r)
{
	struct core_scale s;

	assert_int_equal(core_scales(r->core, r->now, &s, 1), 1);
	return s.warm_ready;
}

/* What could not be leased if there were a worker calls for none. */
static void
what_is_held_back_calls_for_no_workers(void **state)
{
	const struct pause_row pause = {.kind = PAUSE_TENANT, .name = "red"};
	struct run_needs keyed = {.key = "k", .key_limit = 1};
	struct rig *r = rig_new(true, 0);
	struct core_scale s;
	char id[RUN_ID_MAX];

	(void)state;
	rig_submit_as(r, "scan-0000000000000001", keyed, 0, "");
	rig_submit_as(r, "scan-0000000000000002", keyed, 0, "");
	rig_submit_as(r, "scan-0000000000000003", (struct run_needs){0}, r->now.real_ms + MINUTE_MS, "");
	assert_int_equal(warm_ready(r), 1);
	core_pause(r->core, r->now, ++r->caller, &pause, true);
	rig_pump(r);
	assert_int_equal(warm_ready(r), 0);
	core_pause(r->core, r->now, ++r->caller, &pause, false);
	rig_pump(r);
	core_dependency(r->core, r->now, "s3", false, "connection refused");
	rig_pump(r);
	rig_submit(r, A, 0);
	assert_int_equal(warm_ready(r), 0);
	core_scales(r->core, r->now, &s, 1);
	assert_true(s.ready == 2 && s.arrivals_total == 1 && s.oldest_ms == 0); /* A came when nobody could serve it */
	core_dependency(r->core, r->now, "s3", true, "");
	rig_pump(r);
	rig_advance(r, MINUTE_MS);
	assert_int_equal(warm_ready(r), 3);
	warm(r, 0, 4);
	for (size_t i = 0; i < 3; i++) {
		assert_non_null(rig_take(r, "w0"));
		if (i == 0)
			assert_int_equal(warm_ready(r), 2);
	}
	core_scales(r->core, r->now, &s, 1);
	assert_int_equal(s.arrivals_total, 3);
	rig_free(r);

	/* A breaker that is open lets nobody through, then one. */
	r = rig_new(false, 0);
	warm(r, 0, 8);
	for (int i = 0; i < BREAKER_FAILURES; i++) {
		snprintf(id, sizeof(id), "scan-%016x", i + 16);
		rig_submit(r, id, 0);
		assert_non_null(rig_take(r, "w0"));
		rig_report(r, id, RUN_FAILED, FAIL_INFRA);
	}
	core_leave(r->core, r->now, "w0");
	rig_submit(r, A, 100);
	rig_submit(r, B, 100);
	assert_int_equal(warm_ready(r), 0);
	rig_advance(r, BREAKER_BASE_MS);
	assert_int_equal(warm_ready(r), 1);
	warm(r, 0, 8);
	assert_non_null(rig_take(r, "w0"));
	assert_int_equal(warm_ready(r), 0);
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

/* Within one tick of the clock: that is known, and not the same as nothing. */
static void
attempts_that_took_no_time_are_known(void **state)
{
	struct service s = {0};

	(void)state;
	for (int i = 0; i < 1000; i++) {
		service_add(&s, i, 0, SERVICE_WHOLE);
		assert_int_equal(service_mean_ms(&s), 1);
		assert_int_equal(service_part_ms(&s, 0.9), 1);
	}
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
		cmocka_unit_test(only_who_holds_nothing_is_condemned),
		cmocka_unit_test(an_allocation_that_comes_later_falls_under_its_mark),
		cmocka_unit_test(nobody_is_condemned_before_all_holders_are_known),
		cmocka_unit_test(a_condemned_worker_stays_so_over_a_restart),
		cmocka_unit_test(nobody_is_condemned_before_it_is_durable),
		cmocka_unit_test(condemning_again_while_the_mark_is_forgotten),
		cmocka_unit_test(more_than_one_commit_holds_is_not_condemned),
		cmocka_unit_test(who_takes_the_place_of_a_condemned_one_is_condemned),
		cmocka_unit_test(the_lowest_allocation_index_is_served_first),
		cmocka_unit_test(the_scale_view_counts_what_looping_workers_are_for),
		cmocka_unit_test(what_is_held_back_calls_for_no_workers), cmocka_unit_test(starting_slots_are_waited_for),
		cmocka_unit_test(a_warm_vertical_asks_for_no_one_shots), cmocka_unit_test(a_child_that_comes_late_is_not_forgotten),
		cmocka_unit_test(the_mean_and_the_tail_are_those_of_what_was_learnt),
		cmocka_unit_test(attempts_that_took_no_time_are_known),
		cmocka_unit_test(what_is_cut_short_does_not_make_times_look_short), cmocka_unit_test(what_is_old_fades),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
