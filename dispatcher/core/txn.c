/* txn.c - transactions: changes are prepared, committed by the shell, then applied in memory; answers come last. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

#define LEDGER_FAILED "the ledger could not write; nothing was changed, try again"

struct txn *
txn_new(struct core *c, uint64_t caller, enum answer_kind answer)
{
	struct txn *t = xcalloc(1, sizeof(*t));

	t->id = c->next_txn++;
	t->caller = caller;
	t->answer = answer;
	list_add(&c->txns, &t->all);
	return t;
}

void
txn_free(struct core *c, struct txn *t)
{
	(void)c;
	list_remove(&t->all);
	for (size_t i = 0; i < t->n_ops && t->ops != NULL; i++)
		free(t->ops[i].spec);
	free(t->ops);
	free(t->runs);
	free(t->requests);
	free(t->pause);
	free(t->marks);
	free(t);
}

bool
txn_has_room(const struct txn *t, size_t ops)
{
	return t->n_ops + ops <= CORE_OPS_MAX;
}

/* Room for one more in a list that has n and grows by doubling: it is full when n is a power of two. */
static void *
more_room(void *list, size_t n, size_t size)
{
	return (n & (n - 1)) == 0 ? xrealloc(list, (n == 0 ? 1 : 2 * n) * size) : list;
}

struct op *
txn_op(struct txn *t, enum op_kind kind)
{
	struct op *op;

	assert(txn_has_room(t, 1));
	t->ops = more_room(t->ops, t->n_ops, sizeof(*t->ops));
	op = &t->ops[t->n_ops++];
	memset(op, 0, sizeof(*op));
	op->kind = kind;
	return op;
}

void
txn_add_run(struct core *c, struct now now, struct txn *t, struct run *run, const struct run_row *next, enum run_event event)
{
	struct op *op;

	assert(run->txn == NULL);
	run_unindex(c, run);
	run->txn = t;
	t->runs = more_room(t->runs, t->n_runs, sizeof(*t->runs));
	t->runs[t->n_runs++] = (struct run_change){.run = run, .next = *next, .event = event};
	op = txn_op(t, event == EV_SUBMIT ? OP_RUN_INSERT : OP_RUN_UPDATE);
	op->run = *next;
	op->want_spec = event == EV_LEASE || event == EV_OFFER;
	op->moment_real_ms = event != EV_OFFER ? now.real_ms : 0;
}

void
txn_add_request(struct txn *t, struct request *r, const struct request_row *next, bool insert)
{
	assert(r->txn == NULL && !r->stray);
	r->txn = t;
	t->requests = more_room(t->requests, t->n_requests, sizeof(*t->requests));
	t->requests[t->n_requests++] = (struct request_change){.request = r, .next = *next, .insert = insert};
	txn_op(t, insert ? OP_REQ_INSERT : OP_REQ_UPDATE)->req = *next;
}

void
txn_commit(struct core *c, struct txn *t)
{
	struct effect *e = core_emit(c, EFF_COMMIT);

	assert(t->n_ops > 0);
	e->txn = t->id;
	e->n_ops = t->n_ops;
	e->ops = t->ops;
	t->ops = NULL;
}

/* An attempt that was cut short says only that it takes at least so long; one over its time has taken that time. */
static void
attempt_ended(struct core *c, struct now now, const struct run *run, const struct run_change *change)
{
	enum run_event event = change->event;
	bool whole = event == EV_COMPLETE || event == EV_FAIL || event == EV_TIMEOUT;

	gate_attempt_ended(c, now, run, &change->next, run->state == RUN_RUNNING ? event : EV_CANCELED);
	if (!run_warm(c, run))
		return;
	run->vertical->served++;
	service_add(&run->vertical->service, now.mono_ms, now.mono_ms - run->grant->since_mono,
	    whole && run->state == RUN_RUNNING ? SERVICE_WHOLE : SERVICE_CUT);
}

/* The run moves, or stays what it was. Returns false if it does not exist any more. */
static bool
apply_run(struct core *c, struct now now, struct txn *t, const struct run_change *change, bool ok)
{
	struct run *run = change->run;
	struct lane *lane = run_lane(c, run);
	bool held = run->grant != NULL, holds = change->next.state == RUN_RUNNING || change->next.state == RUN_CANCELING;

	run->txn = NULL;
	if (change->event == EV_SUBMIT) {
		lane->arriving -= run->counted == COUNTED_ANY;
		lane->arriving_job -= run->counted == COUNTED_JOB;
		run->counted = COUNTED_NOT;
	}
	if (!ok) {
		if (change->event == EV_SUBMIT)
			return false;
		if (change->event == EV_LEASE) {
			share_refund(c, run);
			gate_drop(c, run);
		}
		if (run->key != NULL)
			key_leased(c, run, false);
		if (change->event == EV_LEASE)
			request_unlease(c, now, change->next.request);
		run_index(c, now, run);
		return true;
	}
	core_emit(c, EFF_EVENT)->run = change->next;
	if (held && !holds)
		attempt_ended(c, now, run, change);
	if (!held && holds)
		run->arrived = false;
	run_load(c, now, run, &change->next);
	if (held && !holds)
		grant_detach(c, now, run);
	if (!held && holds)
		grant_attach(c, now, run, t->worker);
	if (change->event == EV_OFFER) { /* its worker is there: whether the attempt left a manifest is no question any more */
		run->grant->deadline_mono = now.mono_ms + c->config.lease_ttl_ms;
		run->grant->seek = SEEK_NONE;
	}
	if (run->state == RUN_CANCELING) {
		if (run->grant->verdict.event == EV_CANCEL)
			run->grant->verdict.at_mono = NEVER;
		beat_wake(c, run->grant->worker);
	}
	if (run_state_final(run->state))
		return false;
	if (run->key != NULL)
		key_touch(c, run); /* a new one may be there to replace others */
	run_index(c, now, run);
	return true;
}

static void
answer(struct core *c, const struct txn *t, bool ok)
{
	const struct run_change *first = t->n_runs > 0 ? &t->runs[0] : NULL;

	if (t->caller == 0 || first == NULL)
		return;
	if (!ok)
		core_answer_err(c, t->caller, t->answer, first->next.id, ERR_RETRY, LEDGER_FAILED);
	else
		core_answer_state(c, t->caller, t->answer, first->next.id, first->next.state);
}

static void
finish(struct core *c, struct now now, struct txn *t, bool ok, char **specs, size_t n_specs)
{
	struct deferred **waiting = xcalloc(t->n_runs + 1, sizeof(struct deferred *));

	if (!ok && !t->refused)
		c->ledger_hold_mono = now.mono_ms + LEDGER_PAUSE_MS;
	for (size_t i = 0; i < t->n_requests; i++)
		request_done(c, now, t->requests[i].request, &t->requests[i].next, t->requests[i].insert, ok);
	for (size_t i = 0; i < t->n_runs; i++) {
		struct run *run = t->runs[i].run;

		waiting[i] = run->deferred;
		run->deferred = NULL;
		run->deferred_end = &run->deferred;
		if (!apply_run(c, now, t, &t->runs[i], ok))
			run_free(c, run);
	}
	if (t->pause != NULL)
		pause_done(c, now, t, ok);
	else if (t->marks != NULL)
		drain_done(c, now, t, ok);
	else if (t->answer == ANS_LEASE)
		lease_done(c, now, t, ok, specs, n_specs);
	else
		answer(c, t, ok);
	for (size_t i = 0; i < t->n_runs; i++)
		run_replay(c, now, t->runs[i].next.id, waiting[i]);
	free(waiting);
	txn_free(c, t);
}

static struct txn *
txn_find(struct core *c, uint64_t id)
{
	list_each(&c->txns, l, after) {
		struct txn *t = container_of(l, struct txn, all);

		if (t->id == id)
			return t;
	}
	return NULL;
}

/* Ends the transaction and frees what is left of the specs. */
static void
conclude(struct core *c, struct now now, struct txn *t, bool ok, char **specs, size_t n_specs)
{
	if (t != NULL)
		finish(c, now, t, ok, specs, n_specs);
	for (size_t i = 0; i < n_specs; i++)
		free(specs[i]);
	core_settle(c, now);
}

void
core_committed(struct core *c, struct now now, uint64_t txn, enum commit_result r, char **specs, size_t n_specs)
{
	struct txn *t = txn_find(c, txn);

	if (t != NULL && r == COMMIT_UNKNOWN) {
		t->unknown = true;
		t = NULL;
	}
	if (t != NULL)
		t->refused = r == COMMIT_REFUSED;
	conclude(c, now, t, r == COMMIT_OK, specs, n_specs);
}

void
core_read_back(struct core *c, struct now now, uint64_t txn, bool present, char **specs, size_t n_specs)
{
	struct txn *t = txn_find(c, txn);

	assert(t == NULL || t->unknown);
	conclude(c, now, t, present, specs, n_specs);
}
