/* core_rig.h - a core with a tiny ledger in memory, driven by hand: what the scenario tests of the core share.
 *
 * Commits are carried out at once, or as rig.ledger says; all other effects are kept until a test takes them. Time stands still
 * between calls of rig_advance. Include after cmocka.h; every function fails the test itself when something is not as it must be.
 */
#ifndef TESTS_UNIT_CORE_RIG_H
#define TESTS_UNIT_CORE_RIG_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "dispatcher/core/core.h"

#define RIG_ROWS 64
#define RIG_EFFECTS 1024
#define RIG_WAIT_MS 600000
#define RIG_VERTICAL "python"
#define RIG_TTL_MS 30000          /* of leases */
#define RIG_REQUEST_TTL_MS 120000

enum rig_ledger { RIG_WRITES, RIG_FAILS, RIG_UNKNOWN, RIG_HOLDS /* says nothing until rig_settle */ };

struct rig {
	struct core *core;
	struct core_config config;
	struct now now;
	unsigned window;
	enum rig_ledger ledger;
	struct effect held[RIG_ROWS]; /* commits without a result */
	size_t n_held;
	struct run_row runs[RIG_ROWS];
	size_t n_runs;
	struct request_row requests[RIG_ROWS];
	size_t n_requests;
	struct pause_row pauses[8];
	size_t n_pauses;
	struct mark_row marks[8];
	size_t n_marks;
	struct effect effects[RIG_EFFECTS]; /* taken ones have kind -1, but stay valid until rig_free */
	size_t n_effects;
	size_t commits;
	int64_t noted_real_ms; /* the last moment of a run's history */
	uint64_t caller; /* last one used */
};

/* The row as the ledger has it, or NULL. */
static inline struct run_row *
rig_run(struct rig *r, const char *id)
{
	for (size_t i = 0; i < r->n_runs; i++) {
		if (strcmp(r->runs[i].id, id) == 0)
			return &r->runs[i];
	}
	return NULL;
}

static inline struct request_row *
rig_request(struct rig *r, uint64_t seq)
{
	for (size_t i = 0; i < r->n_requests; i++) {
		if (r->requests[i].seq == seq)
			return &r->requests[i];
	}
	return NULL;
}

static inline void
rig_pause_row(struct rig *r, const struct pause_row *row, bool put)
{
	size_t i = 0;

	while (i < r->n_pauses && (r->pauses[i].kind != row->kind || strcmp(r->pauses[i].name, row->name) != 0))
		i++;
	if (put)
		r->pauses[i] = *row;
	if (put && i == r->n_pauses)
		r->n_pauses++;
	else if (!put && i < r->n_pauses)
		r->pauses[i] = r->pauses[--r->n_pauses];
}

static inline void
rig_mark_row(struct rig *r, const struct mark_row *row, bool put)
{
	size_t i = 0;

	while (i < r->n_marks && (strcmp(r->marks[i].owner, row->owner) != 0 || strcmp(r->marks[i].alloc, row->alloc) != 0))
		i++;
	assert_true(i < r->n_marks || put);
	if (put)
		r->marks[i] = *row;
	if (put && i == r->n_marks)
		r->n_marks++;
	else if (!put)
		r->marks[i] = r->marks[--r->n_marks];
}

/* Writes the rows of a commit; returns how many specs it wants, made up in out. */
static inline size_t
rig_write(struct rig *r, const struct effect *e, char **out)
{
	size_t n = 0;

	for (size_t i = 0; i < e->n_ops; i++) {
		const struct op *op = &e->ops[i];

		if (op->kind == OP_RUN_INSERT)
			assert_null(rig_run(r, op->run.id));
		if (op->kind == OP_RUN_INSERT)
			r->runs[r->n_runs++] = op->run;
		else if (op->kind == OP_RUN_UPDATE)
			*rig_run(r, op->run.id) = op->run;
		else if (op->kind == OP_REQ_INSERT)
			r->requests[r->n_requests++] = op->req;
		else if (op->kind == OP_REQ_UPDATE)
			*rig_request(r, op->req.seq) = op->req;
		else if (op->kind == OP_PAUSE_PUT || op->kind == OP_PAUSE_REMOVE)
			rig_pause_row(r, &op->pause, op->kind == OP_PAUSE_PUT);
		else if (op->kind == OP_MARK_PUT || op->kind == OP_MARK_REMOVE)
			rig_mark_row(r, &op->mark, op->kind == OP_MARK_PUT);
		if ((op->kind == OP_RUN_INSERT || op->kind == OP_RUN_UPDATE) && op->moment_real_ms != 0)
			r->noted_real_ms = op->moment_real_ms;
		if (op->want_spec)
			out[n++] = xasprintf("spec of %s", op->run.id);
	}
	assert_true(r->n_runs < RIG_ROWS && r->n_requests < RIG_ROWS);
	return n;
}

/* Performs commits as r->ledger says and keeps the other effects. Every event of a test ends with it. */
static inline void
rig_pump(struct rig *r)
{
	char *specs[CORE_OPS_MAX];
	struct effect e;

	while (core_take(r->core, &e)) {
		if (e.kind != EFF_COMMIT) {
			assert_true(r->n_effects < RIG_EFFECTS);
			r->effects[r->n_effects++] = e;
			continue;
		}
		r->commits++;
		if (r->ledger == RIG_UNKNOWN || r->ledger == RIG_HOLDS) {
			assert_true(r->n_held < RIG_ROWS);
			r->held[r->n_held++] = e;
			if (r->ledger == RIG_UNKNOWN)
				core_committed(r->core, r->now, e.txn, COMMIT_UNKNOWN, NULL, 0);
			continue;
		}
		if (r->ledger == RIG_WRITES)
			core_committed(r->core, r->now, e.txn, COMMIT_OK, specs, rig_write(r, &e, specs));
		else
			core_committed(r->core, r->now, e.txn, COMMIT_FAILED, NULL, 0);
		core_effect_release(&e);
	}
	core_check(r->core);
}

/* The results of held commits come: of unknown ones by reading back. From here on the ledger writes. */
static inline void
rig_settle(struct rig *r, bool written)
{
	bool unknown = r->ledger == RIG_UNKNOWN;
	char *specs[CORE_OPS_MAX];
	size_t held = r->n_held;

	r->ledger = RIG_WRITES;
	r->n_held = 0;
	for (size_t i = 0; i < held; i++) {
		struct effect e = r->held[i];
		size_t n = written ? rig_write(r, &e, specs) : 0;

		if (unknown)
			core_read_back(r->core, r->now, e.txn, written, specs, n);
		else
			core_committed(r->core, r->now, e.txn, written ? COMMIT_OK : COMMIT_FAILED, specs, n);
		core_effect_release(&e);
	}
	rig_pump(r);
}

/* A dispatcher's start: a new epoch, everything that is not over restored from the ledger. */
static inline void
rig_start(struct rig *r)
{
	r->config.epoch++;
	r->config.next_seq += 1000;
	r->core = core_new(&r->config);
	core_set_vertical(r->core, r->now, &(struct core_vertical){.name = RIG_VERTICAL, .window = r->window});
	for (size_t i = 0; i < r->n_pauses; i++)
		core_restore_pause(r->core, &r->pauses[i]);
	for (size_t i = 0; i < r->n_marks; i++)
		core_restore_mark(r->core, &r->marks[i]);
	for (size_t i = 0; i < r->n_runs; i++) {
		if (!run_state_final(r->runs[i].state))
			core_restore_run(r->core, &r->runs[i]);
	}
	for (size_t i = 0; i < r->n_requests; i++) {
		if (r->requests[i].state != REQ_DONE)
			core_restore_request(r->core, &r->requests[i]);
	}
	core_start(r->core, r->now);
	rig_pump(r);
}

static inline void
rig_restart(struct rig *r)
{
	core_free(r->core);
	rig_start(r);
}

/* window: of the one vertical; a core without a cluster has no use for it. */
static inline struct rig *
rig_new(bool cluster, unsigned window)
{
	struct rig *r = xcalloc(1, sizeof(*r));

	r->window = window;
	r->now = (struct now){.mono_ms = 1000000, .real_ms = 1700000000000};
	r->config = (struct core_config){.seed = 1, .cluster = cluster, .lease_ttl_ms = RIG_TTL_MS, .request_ttl_ms = RIG_REQUEST_TTL_MS,
	    .max_queued = 8, .max_lost = 5, .max_crashes = 3, .max_infra = 8, .backoff_base_ms = 1000, .backoff_cap_ms = 30000};
	rig_start(r);
	return r;
}

static inline void
rig_free(struct rig *r)
{
	core_free(r->core);
	for (size_t i = 0; i < r->n_effects; i++)
		core_effect_release(&r->effects[i]);
	for (size_t i = 0; i < r->n_held; i++)
		core_effect_release(&r->held[i]);
	free(r);
}

/* Lets time pass, with every timer at its time. */
static inline void
rig_advance(struct rig *r, int64_t ms)
{
	int64_t end = r->now.mono_ms + ms;

	for (;;) {
		int64_t at = core_next_wake(r->core), to = at < end ? at : end;

		if (to > r->now.mono_ms) {
			r->now.real_ms += to - r->now.mono_ms;
			r->now.mono_ms = to;
		}
		core_tick(r->core, r->now);
		rig_pump(r);
		if (at > end)
			return;
	}
}

/* The oldest kept effect of the kind, taken; NULL if there is none. */
static inline const struct effect *
rig_effect(struct rig *r, enum effect_kind kind)
{
	for (size_t i = 0; i < r->n_effects; i++) {
		if ((int)r->effects[i].kind == (int)kind) {
			r->effects[i].kind = (enum effect_kind)-1;
			return &r->effects[i];
		}
	}
	return NULL;
}

/* What the caller was answered, NULL: nothing yet. */
static inline const struct answer *
rig_answer(struct rig *r, uint64_t caller)
{
	for (size_t i = 0; i < r->n_effects; i++) {
		if (r->effects[i].answer != NULL && r->effects[i].caller == caller)
			return r->effects[i].answer;
	}
	return NULL;
}

/* Code of the caller's answer, which must be there. */
static inline int
rig_code(struct rig *r, uint64_t caller)
{
	const struct answer *a = rig_answer(r, caller);

	assert_non_null(a);
	return a->err.code;
}

static inline uint64_t
rig_submit_as(struct rig *r, const char *id, struct run_needs needs, int64_t not_before_real_ms, const char *child)
{
	struct core_submission s = {.needs = needs, .not_before_real_ms = not_before_real_ms};

	snprintf(s.needs.vertical, sizeof(s.needs.vertical), "%s", RIG_VERTICAL);
	s.needs.timeout_ms = needs.timeout_ms != 0 ? needs.timeout_ms : 60000;
	snprintf(s.id, sizeof(s.id), "%s", id);
	snprintf(s.tenant, sizeof(s.tenant), "red");
	snprintf(s.workflow, sizeof(s.workflow), "scan");
	snprintf(s.adopted_child, sizeof(s.adopted_child), "%s", child);
	s.spec = xstrdup("{}");
	core_submit(r->core, r->now, ++r->caller, &s);
	rig_pump(r);
	return r->caller;
}

static inline uint64_t
rig_submit(struct rig *r, const char *id, int priority)
{
	return rig_submit_as(r, id, (struct run_needs){.priority = priority}, 0, "");
}

/* A worker registers. child "": a looping one; else the one-shot of that child, for request (0: hand-made). */
static inline void
rig_register(struct rig *r, const char *id, unsigned slots, const char *child, uint64_t request)
{
	struct core_worker w = {.slots = slots, .request = request, .once = child[0] != '\0', .alloc_index = -1};

	snprintf(w.id, sizeof(w.id), "%s", id);
	snprintf(w.vertical, sizeof(w.vertical), "%s", RIG_VERTICAL);
	snprintf(w.child, sizeof(w.child), "%s", child[0] != '\0' ? child : "group");
	snprintf(w.alloc, sizeof(w.alloc), "alloc-%.20s", id);
	core_register(r->core, r->now, ++r->caller, &w);
	rig_pump(r);
	assert_int_equal(rig_code(r, r->caller), 0);
}

/* A poll that lists nothing or what it is given; its answer is read with rig_answer. */
static inline uint64_t
rig_poll_held(struct rig *r, const char *worker, unsigned slots, const char *only, const struct held *held, size_t n)
{
	core_lease(r->core, r->now, ++r->caller, worker, slots, only, held, n, RIG_WAIT_MS);
	rig_pump(r);
	return r->caller;
}

/* Polls for one more run beside those that the worker holds; the lease, or NULL: the poll waits. */
static inline const struct lease *
rig_take(struct rig *r, const char *worker)
{
	struct held held[CORE_LEASES_MAX];
	const struct answer *a;
	uint64_t caller;
	size_t n = 0;

	for (size_t i = 0; i < r->n_runs; i++) {
		if (strcmp(r->runs[i].worker, worker) != 0 || run_state_final(r->runs[i].state))
			continue;
		memcpy(held[n].run, r->runs[i].id, sizeof(held[n].run));
		held[n++].fence = r->runs[i].fence;
	}
	caller = rig_poll_held(r, worker, 1, "", held, n);
	a = rig_answer(r, caller);
	return a != NULL && a->n_leases == 1 ? &a->leases[0] : NULL;
}

/* The worker that holds the run reports its end under the fence given. */
static inline uint64_t
rig_report_as(struct rig *r, const char *worker, const char *run, struct fence fence, enum run_state outcome, enum fail_class fail)
{
	struct core_report p = {.outcome = outcome, .fail = fail, .inquire = r->config.cluster && outcome == RUN_QUEUED};

	snprintf(p.worker, sizeof(p.worker), "%s", worker);
	snprintf(p.held.run, sizeof(p.held.run), "%s", run);
	p.held.fence = fence;
	core_report(r->core, r->now, ++r->caller, &p);
	rig_pump(r);
	return r->caller;
}

static inline uint64_t
rig_report(struct rig *r, const char *run, enum run_state outcome, enum fail_class fail)
{
	const struct run_row row = *rig_run(r, run);

	return rig_report_as(r, row.worker, run, row.fence, outcome, fail);
}

/* Nomad tells of a child. */
static inline void
rig_child(struct rig *r, struct core_child fact, const char *child)
{
	snprintf(fact.child, sizeof(fact.child), "%s", child);
	core_child(r->core, r->now, &fact);
	rig_pump(r);
}

/* The allocation of a looping worker dies with it. */
static inline void
rig_crash(struct rig *r, const char *worker)
{
	struct core_child fact = {.state = CHILD_ENDED, .crash = true, .partial = true};

	snprintf(fact.alloc, sizeof(fact.alloc), "alloc-%.20s", worker);
	rig_child(r, fact, "group");
	rig_advance(r, 0);
}

/* Nomad accepts the dispatch that is asked for; its number. */
static inline uint64_t
rig_dispatched(struct rig *r, const char *child)
{
	const struct effect *e = rig_effect(r, EFF_DISPATCH);

	assert_non_null(e);
	core_dispatched(r->core, r->now, e->req.seq, DISPATCH_OK, child, "");
	rig_pump(r);
	return e->req.seq;
}

/* Why the run waits: code and a part of the text. */
static inline void
rig_waits(struct rig *r, const char *run, const char *code, const char *text)
{
	struct core_wait w;

	assert_true(core_why(r->core, r->now, run, &w));
	assert_string_equal(w.code, code);
	if (strstr(w.text, text) == NULL)
		fail_msg("'%s' is not in '%s'", text, w.text);
}

#endif
