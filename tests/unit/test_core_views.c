#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core_rig.h"

#define A "scan-000000000000000a"
#define B "scan-000000000000000b"
#define C "scan-000000000000000c"
#define CHILD "drover-run-python/dispatch-1-a"

/* --- why a run waits: one way into each word --- */

static void
wanted(struct rig *r)
{
	rig_submit(r, A, 0);
}

static void
retried(struct rig *r)
{
	rig_submit(r, A, 0);
	core_dispatched(r->core, r->now, rig_effect(r, EFF_DISPATCH)->req.seq, DISPATCH_RETRY, "", "500 no leader");
	rig_pump(r);
}

static void
refused(struct rig *r)
{
	rig_submit(r, A, 0);
	core_dispatched(r->core, r->now, rig_effect(r, EFF_DISPATCH)->req.seq, DISPATCH_REFUSED, "", "job not found");
	rig_pump(r);
}

static void
accepted(struct rig *r)
{
	rig_submit(r, A, 0);
	rig_dispatched(r, CHILD);
}

static void
unplaced(struct rig *r)
{
	rig_submit(r, A, 0);
	rig_child(r, (struct core_child){.seq = rig_dispatched(r, CHILD), .state = CHILD_PENDING, .why = "no node has docker"}, CHILD);
}

static void
pulling(struct rig *r)
{
	rig_submit(r, A, 0);
	rig_child(r, (struct core_child){.seq = rig_dispatched(r, CHILD), .state = CHILD_STARTING, .why = "pulling the image"}, CHILD);
}

static void
windowed(struct rig *r)
{
	uint64_t seq;

	rig_submit(r, B, 0);
	seq = rig_dispatched(r, CHILD);
	rig_register(r, "o", 1, CHILD, seq);
	assert_non_null(rig_take(r, "o"));
	rig_submit(r, A, 0);
}

static void
closed(struct rig *r)
{
	core_set_vertical(r->core, r->now, &(struct core_vertical){.name = RIG_VERTICAL});
	rig_submit(r, A, 0);
}

static void
insists_on_warm(struct rig *r)
{
	rig_submit_as(r, A, (struct run_needs){.execution = EXEC_WARM}, 0, "");
}

static void
between_two_polls(struct rig *r)
{
	rig_register(r, "w", 1, "", 0);
	rig_submit(r, A, 0);
}

static void
cut_off(struct rig *r)
{
	core_nomad_health(r->core, r->now, false, "connection refused");
	rig_submit(r, A, 0);
}

static void
disk_full(struct rig *r)
{
	rig_submit(r, A, 0);
	core_ledger_health(r->core, r->now, false);
}

static void
delayed(struct rig *r)
{
	rig_submit_as(r, A, (struct run_needs){0}, r->now.real_ms + 60000, "");
}

static void
handmade(struct rig *r)
{
	rig_submit_as(r, A, (struct run_needs){0}, 0, CHILD);
}

static void
key_taken_by_another(struct rig *r)
{
	rig_register(r, "w", 2, "", 0);
	rig_submit_as(r, B, (struct run_needs){.key = "repo", .key_limit = 1}, 0, "");
	assert_non_null(rig_take(r, "w"));
	rig_submit_as(r, A, (struct run_needs){.key = "repo", .key_limit = 1}, 0, "");
}

static void
taken_away(struct rig *r)
{
	const char allocs[][CORE_ALLOC_MAX] = {"alloc-w"};
	const struct core_drain d = {.owner = "test", .allocs = allocs, .n = 1, .ttl_ms = 60000, .vertical = RIG_VERTICAL};

	rig_register(r, "w", 2, "", 0);
	rig_submit_as(r, A, (struct run_needs){.execution = EXEC_WARM}, 0, "");
	assert_int_equal(core_drain(r->core, r->now, &d, NULL, NULL), 0);
}

static void
after_a_crash(struct rig *r)
{
	rig_register(r, "w", 1, "", 0);
	rig_register(r, "v", 2, "", 0);
	rig_submit_as(r, A, (struct run_needs){.execution = EXEC_WARM}, 0, "");
	assert_non_null(rig_take(r, "w"));
	rig_submit_as(r, B, (struct run_needs){.execution = EXEC_WARM}, 0, "");
	assert_non_null(rig_take(r, "v"));
	rig_crash(r, "w");
	rig_advance(r, 2000);
	assert_null(rig_take(r, "v")); /* a slot is free there, but beside another run */
}

static void
each_reason_has_its_word(void **state)
{
	static const struct {
		void (*make)(struct rig *r);
		const char *code, *text;
	} cases[] = {
		{wanted, "capacity_requested", "is being asked"},
		{retried, "capacity_requested", "500 no leader"},
		{accepted, "capacity_requested", "has not placed it"},
		{refused, "placement", "job not found"},
		{unplaced, "placement", "no node has docker"},
		{pulling, "starting", "pulling the image"},
		{handmade, "starting", "its own Nomad job"},
		{windowed, "window", "are busy"},
		{closed, "no_worker", "no one-shot jobs"},
		{insists_on_warm, "no_worker", "has a free slot"},
		{between_two_polls, "ready", "next in line"},
		{cut_off, "nomad_away", "connection refused"},
		{disk_full, "ledger", "cannot write"},
		{delayed, "backoff", "not before"},
		{after_a_crash, "alone", "runs nothing else"},
		{key_taken_by_another, "key", "\"repo\" has 1 of 1 slots taken (by " B "), 0 runs of the key are before it"},
		{taken_away, "drain", "are being taken away"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig *r = rig_new(true, 1);

		cases[i].make(r);
		rig_waits(r, A, cases[i].code, cases[i].text);
		rig_free(r);
	}
}

/* Ends the one-shot that is asked for, as Nomad tells it; whether the core told people, and of what (NULL: it knew already). */
static void
dies(struct rig *r, const char *child, const char *why, const char *want)
{
	struct core_child fact = {.seq = rig_dispatched(r, child), .state = CHILD_ENDED, .crash = true};
	const struct effect *e;

	snprintf(fact.why, sizeof(fact.why), "%s", why);
	rig_child(r, fact, child);
	e = rig_effect(r, EFF_TROUBLE);
	assert_int_equal(e != NULL, want != NULL);
	if (e != NULL) {
		assert_string_equal(e->why, want);
		assert_string_equal(e->req.vertical, RIG_VERTICAL);
	}
	core_purged(r->core, r->now, fact.seq, true);
	rig_pump(r);
	rig_advance(r, 400000);
}

static void
one_shots_that_die_explain_themselves(void **state)
{
	struct rig *r = rig_new(true, 1);
	uint64_t seq;

	(void)state;
	rig_submit(r, A, 0);
	dies(r, CHILD "1", "exit code 2", "exit code 2");
	rig_waits(r, A, "capacity_requested", "is being asked of Nomad; the last one failed: exit code 2");
	dies(r, CHILD "2", "exit code 2", NULL);
	dies(r, CHILD "3", "no image", "no image");
	seq = rig_dispatched(r, CHILD);
	rig_child(r, (struct core_child){.seq = seq, .state = CHILD_STARTING}, CHILD);
	rig_waits(r, A, "starting", "its allocation is starting; the last one failed: no image");
	rig_register(r, "o", 1, CHILD, seq);
	assert_non_null(rig_take(r, "o"));
	rig_submit(r, B, 0);
	rig_waits(r, B, "window", "are busy"); /* the streak is over */
	rig_free(r);
}

static void
only_what_is_queued_waits(void **state)
{
	struct rig *r = rig_new(false, 0);
	struct core_wait w;

	(void)state;
	assert_false(core_why(r->core, r->now, A, &w));
	rig_submit(r, A, 0);
	rig_register(r, "w", 1, "", 0);
	assert_non_null(rig_take(r, "w"));
	assert_false(core_why(r->core, r->now, A, &w));
	rig_free(r);
}

static void
positions_follow_the_order(void **state)
{
	static const struct {
		const char *id;
		int priority;
		size_t want;
	} runs[] = {{"scan-0000000000000001", 5, 3}, {"scan-0000000000000002", 50, 1}, {"scan-0000000000000003", 5, 4},
		{"scan-0000000000000004", 9, 2}};
	struct rig *r = rig_new(false, 0);
	struct core_wait w;

	(void)state;
	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
		rig_submit(r, runs[i].id, runs[i].priority);
		rig_advance(r, 1);
	}
	rig_submit_as(r, A, (struct run_needs){.priority = 100}, r->now.real_ms + 1000, "");
	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
		assert_true(core_why(r->core, r->now, runs[i].id, &w));
		assert_int_equal(w.position, runs[i].want);
	}
	assert_true(core_why(r->core, r->now, A, &w));
	assert_int_equal(w.position, 0); /* not in line before its time */
	rig_free(r);
}

static void
submit_for(struct rig *r, const char *tenant, const char *id)
{
	struct core_submission s = {.needs = {.vertical = RIG_VERTICAL, .timeout_ms = 1000, .max_wait_ms = 90000}, .spec = xstrdup("{}")};

	snprintf(s.tenant, sizeof(s.tenant), "%s", tenant);
	snprintf(s.id, sizeof(s.id), "%s", id);
	core_submit(r->core, r->now, ++r->caller, &s);
	rig_pump(r);
}

/* Another tenant's runs count as far as they will be taken before, and the estimate says what it is made of. */
static void
what_is_ahead_is_told_apart_and_reckoned_up(void **state)
{
	struct rig *r = rig_new(false, 0);
	struct core_wait w;
	char id[RUN_ID_MAX];

	(void)state;
	rig_register(r, "w", 1, "", 0);
	rig_submit(r, B, 0);
	assert_non_null(rig_take(r, "w"));
	rig_submit(r, A, 0);
	assert_true(core_why(r->core, r->now, A, &w));
	assert_true(w.estimate_ms == -1 && w.expires_ms == -1); /* nobody knows how long a run takes */
	rig_advance(r, 10000);
	rig_report(r, B, RUN_COMPLETED, FAIL_NONE);
	assert_non_null(rig_take(r, "w"));
	for (int i = 0; i < 6; i++) {
		snprintf(id, sizeof(id), "scan-%016x", i);
		submit_for(r, i < 3 ? "red" : "blue", id);
	}
	snprintf(id, sizeof(id), "scan-%016x", 2);
	assert_true(core_why(r->core, r->now, id, &w));
	assert_true(w.ahead_own == 2 && w.ahead_others == 3 && w.position == 6); /* blue has used nothing yet */
	assert_true(w.share > 0.99 && w.expires_ms == 90000);
	assert_int_equal(w.estimate_ms, 55000);
	assert_string_equal(w.basis, "5 ahead, 1 running, 1 at once, 10.0 s per run");
	snprintf(id, sizeof(id), "scan-%016x", 3);
	assert_true(core_why(r->core, r->now, id, &w));
	assert_true(w.position == 1 && w.ahead_own == 0 && w.ahead_others == 0 && w.share < 0.01);
	rig_free(r);
}

/* A run that ends within a tick of the clock has used something all the same, or its tenant would go first without end. */
static void
runs_that_took_no_time_count(void **state)
{
	struct rig *r = rig_new(false, 0);
	const struct lease *l;

	(void)state;
	rig_register(r, "w", 1, "", 0);
	submit_for(r, "red", A);
	submit_for(r, "red", B);
	assert_non_null(rig_take(r, "w"));
	rig_report(r, A, RUN_COMPLETED, FAIL_NONE);
	submit_for(r, "blue", C);
	l = rig_take(r, "w");
	assert_non_null(l);
	assert_string_equal(l->run, C);
	rig_free(r);
}

/* Only what may really serve a run is counted as what goes on at once. */
static void
capacity_is_what_may_serve_it(void **state)
{
	static const struct {
		enum execution execution;
		bool drained;
		const char *basis;
	} cases[] = {
		{EXEC_ANY, false, "0 ahead, 0 running, 5 at once, 10.0 s per run"}, /* two slots, and three one-shots that the window allows */
		{EXEC_WARM, false, "0 ahead, 0 running, 2 at once, 10.0 s per run"},
		{EXEC_JOB, false, "0 ahead, 0 running, 3 at once, 10.0 s per run"},
		{EXEC_ANY, true, "0 ahead, 0 running, 3 at once, 10.0 s per run"},
		{EXEC_WARM, true, ""},
	};
	const char allocs[][CORE_ALLOC_MAX] = {"alloc-w"};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct core_drain d = {.owner = "test", .allocs = allocs, .n = 1, .ttl_ms = 600000, .vertical = RIG_VERTICAL};
		struct rig *r = rig_new(true, 3);
		struct core_wait w;

		rig_register(r, "w", 2, "", 0);
		rig_submit_as(r, B, (struct run_needs){.execution = EXEC_WARM}, 0, "");
		assert_non_null(rig_take(r, "w"));
		rig_advance(r, 10000);
		rig_report(r, B, RUN_COMPLETED, FAIL_NONE);
		if (cases[i].drained)
			assert_int_equal(core_drain(r->core, r->now, &d, NULL, NULL), 0);
		rig_submit_as(r, A, (struct run_needs){.execution = cases[i].execution}, 0, "");
		assert_true(core_why(r->core, r->now, A, &w));
		assert_string_equal(w.basis, cases[i].basis);
		assert_int_equal(w.estimate_ms, cases[i].basis[0] == '\0' ? -1 : 0);
		rig_free(r);
	}
}

/* --- depths and workers --- */

static void
depths_count_what_is_there(void **state)
{
	struct rig *r = rig_new(true, 3);
	struct core_depth d[4];

	(void)state;
	rig_submit(r, A, 0);
	rig_dispatched(r, CHILD);
	rig_advance(r, 5000);
	rig_submit_as(r, B, (struct run_needs){0}, r->now.real_ms + 60000, "");
	rig_submit_as(r, "scan-000000000000000c", (struct run_needs){.class = CLASS_LARGE}, 0, "");
	assert_int_equal(core_depths(r->core, r->now, d, 0), 2);
	assert_int_equal(core_depths(r->core, r->now, d, 4), 2);
	assert_string_equal(d[0].vertical, RIG_VERTICAL);
	assert_true(d[0].class == CLASS_NORMAL && d[1].class == CLASS_LARGE);
	assert_true(d[0].queued == 2 && d[0].ready == 1 && d[0].running == 0 && d[0].requests == 1 && d[0].window == 3);
	assert_int_equal(d[0].oldest_ms, 5000);
	assert_true(d[1].queued == 1 && d[1].ready == 1 && d[1].requests == 1);
	rig_register(r, "w", 3, "", 0);
	assert_non_null(rig_take(r, "w"));
	core_depths(r->core, r->now, d, 4);
	assert_true(d[0].queued == 1 && d[0].ready == 0 && d[0].running == 1 && d[0].workers == 1 && d[0].slots_free == 2);
	assert_true(d[1].workers == 0 && d[1].slots_free == 0);
	rig_free(r);
}

static void
workers_show_what_they_do(void **state)
{
	struct rig *r = rig_new(false, 0);
	struct core_worker_view v[2];

	(void)state;
	assert_int_equal(core_workers(r->core, r->now, v, 2), 0);
	rig_submit(r, A, 0);
	rig_register(r, "w", 2, "", 0);
	assert_non_null(rig_take(r, "w"));
	rig_advance(r, 700);
	assert_int_equal(core_workers(r->core, r->now, v, 2), 1);
	assert_string_equal(v[0].worker.id, "w");
	assert_true(v[0].leases == 1 && v[0].seen_ms_ago == 700 && !v[0].waiting && !v[0].draining);
	assert_null(rig_take(r, "w"));
	core_workers(r->core, r->now, v, 2);
	assert_true(v[0].waiting && v[0].seen_ms_ago == 0);
	core_leave(r->core, r->now, "w");
	rig_pump(r);
	core_workers(r->core, r->now, v, 2);
	assert_true(v[0].draining);
	rig_advance(r, 1); /* its lease is handed back by then */
	assert_int_equal(rig_run(r, A)->state, RUN_QUEUED);
	rig_advance(r, 2 * RIG_TTL_MS);
	assert_int_equal(core_workers(r->core, r->now, v, 2), 0);
	rig_free(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_reason_has_its_word),   cmocka_unit_test(one_shots_that_die_explain_themselves),
		cmocka_unit_test(only_what_is_queued_waits),  cmocka_unit_test(what_is_ahead_is_told_apart_and_reckoned_up),
		cmocka_unit_test(runs_that_took_no_time_count),
		cmocka_unit_test(capacity_is_what_may_serve_it), cmocka_unit_test(positions_follow_the_order),
		cmocka_unit_test(depths_count_what_is_there), cmocka_unit_test(workers_show_what_they_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
