#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core_rig.h"

#define A "scan-000000000000000a"
#define B "scan-000000000000000b"
#define C "scan-000000000000000c"
#define D "scan-000000000000000d"
#define CHILD "drover-run-python/dispatch-1-a"
#define HAND "drover-run-python/dispatch-2-b"

static int
embedded(void **state)
{
	*state = rig_new(false, 0);
	return 0;
}

static int
cluster(void **state)
{
	*state = rig_new(true, 2);
	return 0;
}

static int
end(void **state)
{
	rig_free(*state);
	return 0;
}

static enum run_state
state_of(struct rig *r, const char *run)
{
	assert_non_null(rig_run(r, run));
	return rig_run(r, run)->state;
}

static void
takes(struct rig *r, const char *worker, const char *run)
{
	const struct lease *l = rig_take(r, worker);

	if (run == NULL) {
		assert_null(l);
		return;
	}
	assert_non_null(l);
	assert_string_equal(l->run, run);
}

/* Run A is at work on worker w, the only one; its lease. */
static struct fence
begun(struct rig *r)
{
	rig_submit(r, A, 0);
	rig_register(r, "w", 1, "", 0);
	takes(r, "w", A);
	return rig_run(r, A)->fence;
}

/* --- the queue --- */

static void
priority_comes_first_then_age(void **state)
{
	struct rig *r = *state;

	assert_int_equal(rig_code(r, rig_submit(r, A, 10)), 0);
	rig_advance(r, 1);
	rig_submit(r, B, 90);
	rig_advance(r, 1);
	rig_submit(r, C, 10);
	rig_register(r, "w", 4, "", 0);
	takes(r, "w", B);
	takes(r, "w", A);
	takes(r, "w", C);
	takes(r, "w", NULL);
}

static void
nothing_is_leased_before_its_time(void **state)
{
	struct rig *r = *state;
	uint64_t poll;

	rig_submit_as(r, A, (struct run_needs){0}, r->now.real_ms + 5000, "");
	rig_register(r, "w", 1, "", 0);
	poll = rig_poll_held(r, "w", 1, "", NULL, 0);
	rig_waits(r, A, "backoff", "not before its time");
	rig_advance(r, 4999);
	assert_null(rig_answer(r, poll));
	rig_advance(r, 1);
	assert_int_equal(rig_answer(r, poll)->n_leases, 1);
}

static void
a_full_queue_refuses_until_it_is_shorter(void **state)
{
	struct rig *r = *state;
	char id[32];
	uint64_t refused;

	for (size_t i = 0; i < r->config.max_queued; i++) {
		snprintf(id, sizeof(id), "scan-%016zx", i);
		assert_int_equal(rig_code(r, rig_submit(r, id, 0)), 0);
	}
	refused = rig_submit(r, D, 100);
	assert_int_equal(rig_code(r, refused), ERR_RETRY);
	assert_null(rig_run(r, D));
	rig_register(r, "w", 1, "", 0);
	assert_non_null(rig_take(r, "w"));
	assert_int_equal(rig_code(r, rig_submit(r, D, 100)), 0);
}

/* --- the ledger --- */

static void
without_a_ledger_nothing_is_accepted_or_leased(void **state)
{
	struct rig *r = *state;
	size_t commits;
	uint64_t poll;

	rig_submit(r, A, 0);
	core_ledger_health(r->core, r->now, false);
	commits = r->commits;
	assert_int_equal(rig_code(r, rig_submit(r, B, 0)), ERR_RETRY);
	rig_register(r, "w", 1, "", 0);
	poll = rig_poll_held(r, "w", 1, "", NULL, 0);
	rig_advance(r, 20000);
	assert_null(rig_answer(r, poll));
	rig_waits(r, A, "ledger", "cannot write");
	assert_int_equal(r->commits, commits);
	core_ledger_health(r->core, r->now, true);
	rig_pump(r);
	assert_string_equal(rig_answer(r, poll)->leases[0].run, A);
}

static void
a_failed_commit_leaves_nothing_behind(void **state)
{
	struct rig *r = *state;

	r->ledger = RIG_FAILS;
	assert_int_equal(rig_code(r, rig_submit(r, A, 0)), ERR_RETRY);
	assert_null(core_find(r->core, A));
	r->ledger = RIG_WRITES;
	assert_int_equal(rig_code(r, rig_submit(r, A, 0)), 0);
	assert_non_null(core_find(r->core, A));
}

static void
nothing_is_said_before_an_unknown_commit_was_read_back(void **state)
{
	struct rig *r = *state;

	for (int written = 0; written < 2; written++) {
		const char *id = written != 0 ? A : B;
		uint64_t submit, cancel;

		r->ledger = RIG_UNKNOWN;
		submit = rig_submit(r, id, 0);
		core_cancel(r->core, r->now, ++r->caller, id, "someone");
		cancel = r->caller;
		rig_advance(r, 60000);
		assert_null(rig_answer(r, submit));
		assert_null(rig_answer(r, cancel));
		assert_null(core_find(r->core, id));
		rig_settle(r, written != 0);
		assert_int_equal(rig_code(r, submit), written != 0 ? 0 : ERR_RETRY);
		assert_int_equal(rig_code(r, cancel), written != 0 ? 0 : ERR_NOTFOUND); /* it waited behind the submission */
	}
	assert_int_equal(state_of(r, A), RUN_CANCELED);
	assert_null(rig_run(r, B));
}

/* --- leases --- */

/* However long the ledger takes: a run's history and the run itself tell the same times. */
static void
history_has_the_times_of_the_run(void **state)
{
	struct rig *r = *state;
	const struct run_row *row;

	r->ledger = RIG_HOLDS;
	rig_submit(r, A, 0);
	rig_advance(r, 60);
	rig_settle(r, true);
	row = rig_run(r, A);
	assert_int_equal(r->noted_real_ms, row->created_real_ms);
	rig_register(r, "w", 1, "", 0);
	r->ledger = RIG_HOLDS;
	rig_poll_held(r, "w", 1, "", NULL, 0);
	rig_advance(r, 60);
	rig_settle(r, true);
	assert_int_equal(row->state, RUN_RUNNING);
	assert_int_equal(r->noted_real_ms, row->started_real_ms);
	r->ledger = RIG_HOLDS;
	rig_report_as(r, "w", A, row->fence, RUN_COMPLETED, FAIL_NONE);
	rig_advance(r, 60);
	rig_settle(r, true);
	assert_int_equal(row->state, RUN_COMPLETED);
	assert_int_equal(r->noted_real_ms, row->finished_real_ms);
}

static void
a_lease_whose_answer_got_lost_is_offered_again(void **state)
{
	struct rig *r = *state;
	struct held held = {.run = A};
	const struct answer *first, *again;

	rig_submit(r, A, 0);
	rig_register(r, "w", 2, "", 0);
	first = rig_answer(r, rig_poll_held(r, "w", 2, "", NULL, 0));
	again = rig_answer(r, rig_poll_held(r, "w", 2, "", NULL, 0));
	assert_int_equal(again->n_leases, 1);
	assert_true(fence_equal(again->leases[0].fence, first->leases[0].fence));
	assert_int_equal(again->leases[0].attempt, 1);
	assert_string_equal(again->leases[0].spec, "spec of " A);
	held.fence = first->leases[0].fence;
	assert_null(rig_answer(r, rig_poll_held(r, "w", 1, "", &held, 1)));
	assert_int_equal(rig_run(r, A)->attempt, 1);
}

static void
a_silent_worker_loses_its_lease_and_the_stale_report_is_refused(void **state)
{
	struct rig *r = *state;
	struct fence old;

	old = begun(r);
	rig_advance(r, RIG_TTL_MS - 1);
	assert_int_equal(state_of(r, A), RUN_RUNNING);
	rig_advance(r, 1);
	assert_int_equal(state_of(r, A), RUN_QUEUED);
	assert_int_equal(rig_run(r, A)->fail, FAIL_LOST);
	assert_int_equal(rig_code(r, rig_report_as(r, "w", A, old, RUN_COMPLETED, FAIL_NONE)), ERR_CONFLICT);
	assert_int_equal(state_of(r, A), RUN_QUEUED);
}

/* Also while somebody else is at it: the outcome is that of the attempt which holds the lease. */
static void
a_stale_report_does_not_end_another_attempt(void **state)
{
	struct rig *r = *state;
	struct fence old;

	old = begun(r);
	rig_advance(r, RIG_TTL_MS);
	rig_register(r, "v", 1, "", 0);
	rig_advance(r, r->config.backoff_cap_ms);
	takes(r, "v", A);
	assert_int_equal(rig_code(r, rig_report_as(r, "w", A, old, RUN_FAILED, FAIL_TOOL)), ERR_CONFLICT);
	assert_int_equal(rig_code(r, rig_report_as(r, "v", A, old, RUN_COMPLETED, FAIL_NONE)), ERR_CONFLICT);
	assert_int_equal(state_of(r, A), RUN_RUNNING);
	assert_int_equal(rig_code(r, rig_report(r, A, RUN_COMPLETED, FAIL_NONE)), 0);
	assert_int_equal(state_of(r, A), RUN_COMPLETED);
}

static void
a_cancel_reaches_the_worker_by_its_beat(void **state)
{
	struct rig *r = *state;
	struct held held = {.run = A};
	uint64_t beat;

	held.fence = begun(r);
	core_beat(r->core, r->now, ++r->caller, "w", &held, 1, RIG_WAIT_MS);
	rig_pump(r);
	beat = r->caller;
	assert_null(rig_answer(r, beat));
	core_cancel(r->core, r->now, ++r->caller, A, "ann");
	rig_pump(r);
	assert_int_equal(rig_answer(r, r->caller)->state, RUN_CANCELING);
	assert_int_equal(rig_answer(r, beat)->n_cancel, 1);
	assert_int_equal(rig_code(r, rig_report(r, A, RUN_COMPLETED, FAIL_NONE)), 0);
	assert_int_equal(state_of(r, A), RUN_CANCELED);
	assert_string_equal(rig_run(r, A)->reason, "canceled by ann");
}

/* --- repeated reports --- */

static void
a_repeated_report_is_accepted_even_after_a_restart(void **state)
{
	struct rig *r = *state;
	struct fence first, second;

	first = begun(r);
	rig_report(r, A, RUN_QUEUED, FAIL_HANDED_BACK);
	for (int restarts = 0; restarts < 2; restarts++) {
		assert_int_equal(rig_code(r, rig_report_as(r, "w", A, first, RUN_QUEUED, FAIL_HANDED_BACK)), 0);
		rig_restart(r);
	}
	rig_register(r, "w", 1, "", 0);
	takes(r, "w", A);
	second = rig_run(r, A)->fence;
	assert_int_equal(rig_code(r, rig_report_as(r, "w", A, first, RUN_QUEUED, FAIL_HANDED_BACK)), 0);
	assert_int_equal(state_of(r, A), RUN_RUNNING); /* the old word says nothing about the new attempt */
	assert_int_equal(rig_code(r, rig_report_as(r, "w", A, second, RUN_COMPLETED, FAIL_NONE)), 0);
	assert_int_equal(rig_code(r, rig_report_as(r, "w", A, second, RUN_COMPLETED, FAIL_NONE)), ERR_NOTFOUND);
	assert_true(fence_equal(rig_run(r, A)->accepted, second)); /* by which the shell answers */
}

static void
an_attempt_that_was_lost_was_not_accepted(void **state)
{
	struct rig *r = *state;
	struct fence lost;

	lost = begun(r);
	rig_advance(r, RIG_TTL_MS);
	rig_restart(r);
	assert_int_equal(rig_code(r, rig_report_as(r, "w", A, lost, RUN_COMPLETED, FAIL_NONE)), ERR_CONFLICT);
	assert_int_equal(rig_code(r, rig_report_as(r, "w", A, (struct fence){0}, RUN_COMPLETED, FAIL_NONE)), ERR_CONFLICT);
}

/* --- suspects --- */

static void
what_was_inside_a_crash_runs_alone(void **state)
{
	struct rig *r = *state;

	rig_submit(r, A, 50);
	rig_submit(r, B, 50);
	rig_submit(r, C, 0);
	rig_register(r, "w", 2, "", 0);
	takes(r, "w", A);
	takes(r, "w", B);
	rig_crash(r, "w");
	assert_true(rig_run(r, A)->suspect && rig_run(r, B)->suspect);
	assert_int_equal(rig_run(r, A)->crashes, 0); /* in company: nobody is proved guilty */
	rig_advance(r, 2000);
	rig_restart(r);
	rig_register(r, "v", 3, "", 0);
	takes(r, "v", A);
	takes(r, "v", NULL); /* nobody beside it, not even what is no suspect */
	rig_report(r, A, RUN_COMPLETED, FAIL_NONE);
	assert_int_equal(state_of(r, B), RUN_RUNNING); /* the waiting poll took the next */
	assert_int_equal(state_of(r, C), RUN_QUEUED);
}

static void
three_crashes_alone_are_poison(void **state)
{
	struct rig *r = *state;
	char worker[16];

	rig_submit(r, A, 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(state_of(r, A), RUN_QUEUED);
		snprintf(worker, sizeof(worker), "w%d", i);
		rig_register(r, worker, 2, "", 0);
		takes(r, worker, A);
		rig_crash(r, worker);
		rig_advance(r, r->config.backoff_cap_ms);
	}
	assert_int_equal(state_of(r, A), RUN_FAILED);
	assert_true(rig_run(r, A)->dead);
}

static size_t
running(const struct rig *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n_runs; i++)
		n += r->runs[i].state == RUN_RUNNING;
	return n;
}

/* Two looping workers that always find other runs: one of them must fall empty for the suspect. */
static void
a_suspect_does_not_wait_for_ever_behind_busy_workers(void **state)
{
	struct rig *r = *state;
	char id[2][32];
	int next = 0;

	rig_submit(r, A, 50);
	rig_register(r, "x", 2, "", 0);
	takes(r, "x", A);
	rig_register(r, "v", 2, "", 0);
	rig_register(r, "w", 2, "", 0);
	for (int i = 0; i < 4; i++) {
		snprintf(id[0], sizeof(id[0]), "scan-%016x", next++);
		rig_submit(r, id[0], 50);
		takes(r, i % 2 == 0 ? "v" : "w", id[0]);
	}
	rig_crash(r, "x");
	rig_advance(r, 2000);
	for (int round = 0; round < 40 && state_of(r, A) == RUN_QUEUED; round++) {
		const char *worker = round % 2 == 0 ? "v" : "w";

		snprintf(id[0], sizeof(id[0]), "scan-%016x", next++);
		rig_submit(r, id[0], 50);
		for (size_t i = 0; i < r->n_runs; i++) {
			if (r->runs[i].state == RUN_RUNNING && strcmp(r->runs[i].worker, worker) == 0) {
				snprintf(id[1], sizeof(id[1]), "%s", r->runs[i].id);
				rig_report(r, id[1], RUN_COMPLETED, FAIL_NONE);
				break;
			}
		}
		rig_take(r, worker);
		assert_true(state_of(r, A) != RUN_QUEUED || running(r) >= 3); /* one worker at most is held back */
		rig_advance(r, 1000);
		if (round == 2)
			rig_waits(r, A, "alone", "runs nothing else");
	}
	assert_int_equal(state_of(r, A), RUN_RUNNING);
	for (size_t i = 0; i < r->n_runs; i++) {
		bool beside = strcmp(r->runs[i].id, A) != 0 && strcmp(r->runs[i].worker, rig_run(r, A)->worker) == 0;

		assert_false(beside && r->runs[i].state == RUN_RUNNING);
	}
}

/* The worker that is kept free for a suspect takes other runs as soon as the suspect is gone. */
static void
nobody_waits_for_a_suspect_that_was_canceled(void **state)
{
	struct rig *r = *state;

	rig_register(r, "x", 1, "", 0);
	rig_submit(r, A, 50);
	takes(r, "x", A);
	rig_register(r, "v", 2, "", 0);
	rig_submit(r, B, 50);
	takes(r, "v", B);
	rig_crash(r, "x");
	rig_advance(r, 15000);
	takes(r, "v", NULL);
	rig_submit(r, C, 10);
	assert_int_equal(state_of(r, C), RUN_QUEUED);
	core_cancel(r->core, r->now, ++r->caller, A, "ann");
	rig_pump(r);
	assert_int_equal(state_of(r, C), RUN_RUNNING);
}

/* --- one-shots --- */

static void
a_request_that_is_not_placed_is_withdrawn_and_the_reason_kept(void **state)
{
	struct rig *r = *state;
	const struct effect *e;
	uint64_t seq;

	rig_submit(r, A, 0);
	seq = rig_dispatched(r, CHILD);
	rig_child(r, (struct core_child){.seq = seq, .state = CHILD_PENDING, .why = "memory exhausted on 3 nodes"}, CHILD);
	rig_waits(r, A, "placement", "memory exhausted");
	rig_advance(r, RIG_REQUEST_TTL_MS - 1);
	assert_null(rig_effect(r, EFF_STOP));
	rig_advance(r, 1);
	assert_int_equal(rig_request(r, seq)->state, REQ_STOPPING);
	e = rig_effect(r, EFF_STOP);
	assert_true(e != NULL && e->req.seq == seq);
	rig_waits(r, A, "starting", "memory exhausted");
	rig_child(r, (struct core_child){.seq = seq, .state = CHILD_ENDED, .stopped = true}, CHILD);
	assert_non_null(rig_effect(r, EFF_PURGE));
	core_purged(r->core, r->now, seq, true);
	rig_pump(r);
	assert_int_equal(rig_request(r, seq)->state, REQ_DONE);
	assert_int_equal(state_of(r, A), RUN_QUEUED); /* our own stop cancels nobody */
	rig_advance(r, r->config.backoff_cap_ms);
	assert_non_null(rig_effect(r, EFF_DISPATCH)); /* and the next is asked for */
}

static void
a_one_shot_that_crashes_costs_its_run_an_attempt(void **state)
{
	struct rig *r = *state;
	uint64_t seq;

	rig_submit(r, A, 0);
	seq = rig_dispatched(r, CHILD);
	rig_register(r, "o", 1, CHILD, seq);
	takes(r, "o", A);
	assert_int_equal(rig_run(r, A)->request, seq);
	rig_child(r, (struct core_child){.seq = seq, .state = CHILD_ENDED, .crash = true, .alloc = "alloc-o"}, CHILD);
	rig_advance(r, 0);
	assert_int_equal(state_of(r, A), RUN_QUEUED);
	assert_int_equal(rig_run(r, A)->crashes, 1);
	assert_non_null(rig_effect(r, EFF_PURGE));
}

static void
an_adopted_run_lives_in_its_own_child(void **state)
{
	struct rig *r = *state;
	uint64_t poll, seq;

	assert_int_equal(rig_code(r, rig_submit_as(r, A, (struct run_needs){0}, 0, HAND)), 0);
	assert_int_equal(rig_code(r, rig_submit_as(r, A, (struct run_needs){0}, 0, HAND)), 0); /* announced again */
	assert_null(rig_effect(r, EFF_DISPATCH));                                             /* its child is there already */
	seq = rig_run(r, A)->request;
	assert_true(rig_request(r, seq)->adopted);
	rig_waits(r, A, "starting", "its own Nomad job");
	rig_register(r, "warm", 1, "", 0);
	takes(r, "warm", NULL);
	rig_register(r, "o", 1, HAND, 0);
	poll = rig_poll_held(r, "o", 1, A, NULL, 0);
	assert_string_equal(rig_answer(r, poll)->leases[0].run, A);
	assert_int_equal(rig_code(r, rig_report(r, A, RUN_COMPLETED, FAIL_NONE)), 0);
	assert_int_equal(state_of(r, A), RUN_COMPLETED);
	rig_child(r, (struct core_child){.state = CHILD_ENDED, .alloc = "alloc-o"}, HAND);
	rig_child(r, (struct core_child){.state = CHILD_GONE}, HAND);
	assert_int_equal(rig_request(r, seq)->state, REQ_DONE);
	assert_null(rig_effect(r, EFF_PURGE)); /* not ours to purge, nor to stop */
	assert_null(rig_effect(r, EFF_STOP));
}

static void
an_adopted_run_without_its_worker(void **state)
{
	static const struct {
		struct core_child fact;
		enum run_state want;
	} cases[] = {
		{{.state = CHILD_ENDED, .stopped = true}, RUN_CANCELED}, /* an operator stopped it */
		{{.state = CHILD_ENDED, .crash = true}, RUN_QUEUED},     /* it failed to start: anyone may take the run */
		{{.state = CHILD_GONE}, RUN_QUEUED},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig *r = rig_new(true, 2);

		rig_submit_as(r, A, (struct run_needs){0}, 0, HAND);
		rig_child(r, cases[i].fact, HAND);
		rig_advance(r, 1000);
		assert_int_equal(state_of(r, A), cases[i].want);
		assert_int_equal(rig_effect(r, EFF_DISPATCH) != NULL, cases[i].want == RUN_QUEUED);
		rig_free(r);
	}
}

/* --- handing back inside a child: whether an operator stopped it decides --- */

enum word { SAYS_STOPPED, SAYS_RUNNING, SAYS_FAILED, SAYS_NOTHING };

static void
a_hand_back_waits_for_nomads_word_but_not_long(void **state)
{
	static const struct {
		enum word word;
		enum run_state want;
	} cases[] = {{SAYS_STOPPED, RUN_CANCELED}, {SAYS_RUNNING, RUN_QUEUED}, {SAYS_FAILED, RUN_QUEUED}, {SAYS_NOTHING, RUN_QUEUED}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig *r = rig_new(true, 2);
		struct core_child fact = {.state = CHILD_RUNNING, .stopped = cases[i].word == SAYS_STOPPED};
		uint64_t report;

		rig_submit(r, A, 0);
		fact.seq = rig_dispatched(r, CHILD);
		rig_register(r, "o", 1, CHILD, fact.seq);
		takes(r, "o", A);
		report = rig_report(r, A, RUN_QUEUED, FAIL_HANDED_BACK);
		assert_non_null(rig_effect(r, EFF_INQUIRE));
		assert_null(rig_answer(r, report));
		rig_advance(r, 2000);
		assert_null(rig_answer(r, report));
		if (cases[i].word == SAYS_FAILED)
			core_inquiry_failed(r->core, r->now, CHILD);
		else if (cases[i].word != SAYS_NOTHING)
			rig_child(r, fact, CHILD);
		rig_pump(r);
		if (cases[i].word == SAYS_NOTHING)
			rig_advance(r, 1000);
		assert_int_equal(rig_code(r, report), 0);
		assert_int_equal(state_of(r, A), cases[i].want);
		assert_true(fence_equal(rig_run(r, A)->accepted, rig_run(r, A)->fence));
		fact.stopped = true;
		rig_child(r, fact, CHILD); /* a word that comes late changes nothing */
		assert_int_equal(state_of(r, A), cases[i].want);
		rig_free(r);
	}
}

/* A lane that no node can serve, for a minute and a half of a limit of one. */
static struct rig *
unplaceable(void)
{
	struct rig *r = rig_new(true, 8);

	r->config.unplaceable_ms = 60000;
	rig_restart(r);
	rig_submit(r, A, 0);
	rig_submit_as(r, B, (struct run_needs){.execution = EXEC_WARM}, 0, "");
	rig_child(r, (struct core_child){.seq = rig_dispatched(r, CHILD), .state = CHILD_PENDING, .never = true,
	    .why = "2 nodes: no docker"}, CHILD);
	rig_waits(r, A, "unplaceable", "no docker");
	rig_advance(r, 59999);
	assert_int_equal(state_of(r, A), RUN_QUEUED);
	return r;
}

static void
runs_that_no_node_can_serve_fail_where_that_is_wanted(void **state)
{
	struct rig *r = unplaceable();

	(void)state;
	rig_advance(r, 1);
	assert_int_equal(state_of(r, A), RUN_FAILED);
	assert_int_equal(rig_run(r, A)->fail, FAIL_INVALID);
	assert_non_null(strstr(rig_run(r, A)->reason, "no node can serve it: 2 nodes: no docker"));
	assert_int_equal(state_of(r, B), RUN_QUEUED); /* a looping worker may come */
	rig_free(r);
}

/* A listing between two evaluations says nothing: neither the words nor their meaning change, and the limit goes on. */
static void
a_fact_without_a_reason_leaves_what_is_known(void **state)
{
	struct rig *r = unplaceable();
	struct core_child fact = {.seq = r->requests[0].seq, .state = CHILD_PENDING};

	(void)state;
	rig_child(r, fact, CHILD);
	rig_waits(r, A, "unplaceable", "no docker");
	rig_advance(r, 1);
	assert_int_equal(state_of(r, A), RUN_FAILED);
	rig_free(r);
	r = unplaceable();
	fact.state = CHILD_STARTING; /* a node has come: what was said is over with its state */
	rig_child(r, fact, CHILD);
	rig_waits(r, A, "starting", "its allocation is starting");
	fact.state = CHILD_PENDING;
	rig_child(r, fact, CHILD);
	rig_waits(r, A, "capacity_requested", "has not placed it yet");
	rig_advance(r, 60000);
	assert_int_equal(state_of(r, A), RUN_QUEUED);
	rig_free(r);
}

/* No node takes a looping worker: what insists on one is given up, what one-shots may take is not. */
static void
runs_whose_looping_workers_fit_no_node_fail_as_well(void **state)
{
	struct rig *r = rig_new(true, 8);
	struct core_warm fact = {.group = true, .never = true, .why = "no node has 9 MB of memory; the largest has 4"};

	(void)state;
	snprintf(fact.vertical, sizeof(fact.vertical), "%s", RIG_VERTICAL);
	r->config.unplaceable_ms = 60000;
	rig_restart(r);
	rig_submit(r, A, 0);
	rig_submit_as(r, B, (struct run_needs){.execution = EXEC_WARM}, 0, "");
	core_warm(r->core, r->now, &fact);
	rig_waits(r, B, "unplaceable", "the largest has 4");
	rig_advance(r, 30000);
	core_warm(r->core, r->now, &fact); /* said again: it is no new fact */
	rig_advance(r, 29999);
	assert_int_equal(state_of(r, B), RUN_QUEUED);
	rig_advance(r, 1);
	assert_int_equal(state_of(r, B), RUN_FAILED);
	assert_non_null(strstr(rig_run(r, B)->reason, "no node can serve it: no node has 9 MB"));
	assert_int_equal(state_of(r, A), RUN_QUEUED);
	fact.never = false;
	core_warm(r->core, r->now, &fact);
	rig_submit_as(r, C, (struct run_needs){.execution = EXEC_WARM}, 0, "");
	rig_advance(r, 60000);
	rig_waits(r, C, "warm_start", "no node has");
	rig_free(r);
}

static void
a_worker_or_room_that_comes_ends_that_wait(void **state)
{
	struct rig *r = unplaceable();

	(void)state;
	rig_register(r, "w1", 1, "", 0);
	rig_advance(r, 60000);
	assert_int_equal(state_of(r, A), RUN_QUEUED);
	rig_free(r);
	r = unplaceable();
	rig_child(r, (struct core_child){.seq = r->requests[0].seq, .state = CHILD_PENDING, .why = "memory exhausted"}, CHILD);
	rig_advance(r, 30000);
	assert_int_equal(state_of(r, A), RUN_QUEUED);
	rig_free(r);
}

/* While the store is asked for the manifest of a lease that ran out, its worker polls and is offered it again: it lives on. */
static void
an_offer_ends_the_search_for_a_manifest(void **state)
{
	struct rig *r = rig_new(false, 0);
	struct held attempt = {.run = A};
	uint64_t poll;

	(void)state;
	r->config.manifests = true;
	rig_restart(r);
	rig_submit(r, A, 0);
	rig_register(r, "w", 1, "", 0);
	rig_poll_held(r, "w", 1, "", NULL, 0);
	attempt.fence = rig_run(r, A)->fence;
	rig_advance(r, RIG_TTL_MS);
	assert_non_null(rig_effect(r, EFF_MANIFEST));
	poll = rig_poll_held(r, "w", 1, "", NULL, 0);
	assert_int_equal(rig_answer(r, poll)->n_leases, 1);
	core_manifest(r->core, r->now, &attempt, NULL);
	rig_advance(r, RIG_TTL_MS / 2);
	assert_int_equal(state_of(r, A), RUN_RUNNING);
	rig_free(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(priority_comes_first_then_age, embedded, end),
		cmocka_unit_test_setup_teardown(nothing_is_leased_before_its_time, embedded, end),
		cmocka_unit_test_setup_teardown(a_full_queue_refuses_until_it_is_shorter, embedded, end),
		cmocka_unit_test_setup_teardown(without_a_ledger_nothing_is_accepted_or_leased, embedded, end),
		cmocka_unit_test_setup_teardown(a_failed_commit_leaves_nothing_behind, embedded, end),
		cmocka_unit_test_setup_teardown(nothing_is_said_before_an_unknown_commit_was_read_back, embedded, end),
		cmocka_unit_test_setup_teardown(history_has_the_times_of_the_run, embedded, end),
		cmocka_unit_test_setup_teardown(a_lease_whose_answer_got_lost_is_offered_again, embedded, end),
		cmocka_unit_test_setup_teardown(a_silent_worker_loses_its_lease_and_the_stale_report_is_refused, embedded, end),
		cmocka_unit_test_setup_teardown(a_stale_report_does_not_end_another_attempt, embedded, end),
		cmocka_unit_test_setup_teardown(a_cancel_reaches_the_worker_by_its_beat, embedded, end),
		cmocka_unit_test_setup_teardown(a_repeated_report_is_accepted_even_after_a_restart, embedded, end),
		cmocka_unit_test_setup_teardown(an_attempt_that_was_lost_was_not_accepted, embedded, end),
		cmocka_unit_test_setup_teardown(what_was_inside_a_crash_runs_alone, embedded, end),
		cmocka_unit_test_setup_teardown(three_crashes_alone_are_poison, embedded, end),
		cmocka_unit_test_setup_teardown(a_suspect_does_not_wait_for_ever_behind_busy_workers, embedded, end),
		cmocka_unit_test_setup_teardown(nobody_waits_for_a_suspect_that_was_canceled, embedded, end),
		cmocka_unit_test_setup_teardown(a_request_that_is_not_placed_is_withdrawn_and_the_reason_kept, cluster, end),
		cmocka_unit_test_setup_teardown(a_one_shot_that_crashes_costs_its_run_an_attempt, cluster, end),
		cmocka_unit_test_setup_teardown(an_adopted_run_lives_in_its_own_child, cluster, end),
		cmocka_unit_test(an_adopted_run_without_its_worker),
		cmocka_unit_test(a_hand_back_waits_for_nomads_word_but_not_long),
		cmocka_unit_test(runs_that_no_node_can_serve_fail_where_that_is_wanted),
		cmocka_unit_test(a_fact_without_a_reason_leaves_what_is_known),
		cmocka_unit_test(runs_whose_looping_workers_fit_no_node_fail_as_well),
		cmocka_unit_test(a_worker_or_room_that_comes_ends_that_wait), cmocka_unit_test(an_offer_ends_the_search_for_a_manifest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
