/* ledger.c - the simulated ledger: one writer, conditional on the epoch; what it may never be told is checked at each write. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct commit {
	struct op *ops;
	size_t n;
	uint64_t txn, epoch;
	int gen;
	enum commit_result result;
	bool write, written;
};

struct ledger_run *
ledger_find(struct world *w, const char *id)
{
	for (size_t i = 0; i < w->n_runs; i++) {
		if (strcmp(w->runs[i].row.id, id) == 0)
			return &w->runs[i];
	}
	return NULL;
}

struct ledger_run *
ledger_of_client(struct world *w, struct client_run *c)
{
	struct ledger_run *r;

	if (c->row == 0) {
		r = ledger_find(w, c->id);
		c->row = r == NULL ? 0 : (size_t)(r - w->runs) + 1;
	}
	return c->row == 0 ? NULL : &w->runs[c->row - 1];
}

struct request_row *
ledger_request(struct world *w, uint64_t seq)
{
	for (size_t i = 0; i < w->n_requests; i++) {
		if (w->requests[i].seq == seq)
			return &w->requests[i];
	}
	return NULL;
}

static bool
newer(struct fence a, struct fence b)
{
	return a.epoch != b.epoch ? a.epoch > b.epoch : a.seq > b.seq;
}

/* Whether a beat answered then must have kept a lease from running out by now. The expiry may have been decided a few seconds
 * before it is written, and the beat may have been on its way for a few. */
static bool
kept_alive(const struct world *w, int64_t acked_ms)
{
	return acked_ms <= w->mono_ms - 4500 && acked_ms >= w->mono_ms - 12000;
}

/* A lease must not run out under a worker whose beats are answered. */
static void
check_lost(struct world *w, const struct run_row *have, const struct run_row *next)
{
	for (size_t i = 0; i < w->n_procs; i++) {
		const struct proc *p = &w->procs[i];

		if (!p->alive || strcmp(p->id, have->worker) != 0 || (!kept_alive(w, p->acked_ms) && !kept_alive(w, p->acked_before_ms)) ||
		    strstr(next->reason, "not heard of") == NULL)
			continue;
		for (size_t h = 0; h < p->n_held; h++) {
			if (fence_equal(p->held[h].held.fence, have->fence))
				sim_fail(w, "lease of %s ran out, but %s holds it and its beats were answered", have->id, p->id);
		}
	}
}

/* What an operator stopped is canceled, not run again; with a bad network or a blind dispatcher it may be taken for a drain. */
static void
check_handed_back(struct world *w, const struct run_row *have)
{
	if (w->mix.lose + w->mix.nomad_away + w->mix.crash + w->mix.lose_event > 0)
		return;
	for (size_t i = 0; i < w->n_children; i++) {
		if (have->request != 0 && w->children[i].seq == have->request && w->children[i].by_operator)
			sim_fail(w, "%s handed back, but an operator stopped its child", have->id);
	}
}

static const struct proc *
proc_of(const struct world *w, const char *worker)
{
	for (size_t i = 0; i < w->n_procs; i++) {
		if (strcmp(w->procs[i].id, worker) == 0)
			return &w->procs[i];
	}
	sim_fail((struct world *)w, "there is no worker %s", worker);
}

const struct mark_row *
ledger_mark(const struct world *w, const char *alloc)
{
	for (size_t i = 0; i < w->n_marks; i++) {
		if (strcmp(w->marks[i].alloc, alloc) == 0)
			return &w->marks[i];
	}
	return NULL;
}

/* Nobody is given work who is condemned, or whom the autoscaler has taken away, whichever dispatcher leads by now. */
static void
check_scaled(struct world *w, const struct run_row *leased)
{
	const struct proc *p = proc_of(w, leased->worker);

	if (p->scaled_away && p->alive)
		sim_fail(w, "%s leased to %s, which was scaled away", leased->id, leased->worker);
	if (!p->once && ledger_mark(w, p->alloc) != NULL)
		sim_fail(w, "%s leased to %s, which is condemned", leased->id, leased->worker);
}

/* Nobody is condemned who has work. */
static void
check_condemned(struct world *w, const struct mark_row *row)
{
	for (size_t i = 0; i < w->n_runs; i++) {
		const struct run_row *run = &w->runs[i].row;
		const struct proc *p;

		if (run->state != RUN_RUNNING && run->state != RUN_CANCELING)
			continue;
		p = proc_of(w, run->worker);
		if (p->alive && !p->once && strcmp(p->alloc, row->alloc) == 0)
			sim_fail(w, "%s is condemned, and it holds %s", p->id, run->id);
	}
}

/* A suspect shares its worker with nobody. */
static void
check_alone(struct world *w, const struct run_row *leased)
{
	for (size_t i = 0; i < w->n_runs; i++) {
		const struct run_row *other = &w->runs[i].row;

		if (other->state != RUN_RUNNING && other->state != RUN_CANCELING)
			continue;
		if (strcmp(other->id, leased->id) != 0 && strcmp(other->worker, leased->worker) == 0 && (other->suspect || leased->suspect))
			sim_fail(w, "%s leased to %s beside %s, and one of them is a suspect", leased->id, leased->worker, other->id);
	}
}

/* At most so many of a key at once, whatever happened in between. */
static void
check_key(struct world *w, const struct run_row *leased)
{
	unsigned n = 1;

	for (size_t i = 0; i < w->n_runs && leased->needs.key[0] != '\0'; i++) {
		const struct run_row *other = &w->runs[i].row;

		n += (other->state == RUN_RUNNING || other->state == RUN_CANCELING) && strcmp(other->needs.key, leased->needs.key) == 0 &&
		    strcmp(other->tenant, leased->tenant) == 0 && strcmp(other->id, leased->id) != 0;
	}
	if (leased->needs.key[0] != '\0' && n > leased->needs.key_limit)
		sim_fail(w, "%s is leased as number %u of key %s, whose limit is %u", leased->id, n, leased->needs.key, leased->needs.key_limit);
}

/* What runs on a looping worker fits together. */
static void
check_weight(struct world *w, const struct run_row *leased)
{
	int64_t sum = leased->needs.memory_bytes;
	size_t others = 0;

	for (size_t i = 0; i < w->n_runs; i++) {
		const struct run_row *other = &w->runs[i].row;

		if (strcmp(other->worker, leased->worker) != 0 || strcmp(other->id, leased->id) == 0 ||
		    (other->state != RUN_RUNNING && other->state != RUN_CANCELING))
			continue;
		others++;
		sum += other->needs.memory_bytes;
	}
	if (others > 0 && sum > MEMORY)
		sim_fail(w, "%s is leased to %s, whose runs declare %lld then", leased->id, leased->worker, (long long)sum);
}

/* A lease that was given while the pause was being written may come a little after it. */
static void
check_paused(struct world *w, const struct run_row *leased)
{
	for (size_t i = 0; i < w->n_pauses; i++) {
		const char *name = w->pauses[i].kind == PAUSE_VERTICAL ? leased->needs.vertical : leased->tenant;

		if (w->mono_ms - w->paused_ms[i] > 20000 && strcmp(name, w->pauses[i].name) == 0)
			sim_fail(w, "%s is leased, and %s is paused", leased->id, name);
	}
}

static void
check_store(struct world *w, const struct run_row *leased)
{
	if (w->s3_told_ms != 0 && w->mono_ms - w->s3_told_ms > 10000)
		sim_fail(w, "%s is leased, and the store is away", leased->id);
}

static void
write_pause(struct world *w, const struct pause_row *row, bool put)
{
	size_t i = 0;

	while (i < w->n_pauses && (w->pauses[i].kind != row->kind || strcmp(w->pauses[i].name, row->name) != 0))
		i++;
	sim_log(w, "ledger: %s is %s", row->name, put ? "paused" : "resumed");
	if (put && i == w->n_pauses) {
		w->pauses[w->n_pauses] = *row;
		w->paused_ms[w->n_pauses++] = w->mono_ms;
	} else if (!put && i < w->n_pauses) {
		w->pauses[i] = w->pauses[--w->n_pauses];
		w->paused_ms[i] = w->paused_ms[w->n_pauses];
	}
}

static void
write_mark(struct world *w, const struct mark_row *row, bool put)
{
	size_t i = 0;

	while (i < w->n_marks && (strcmp(w->marks[i].owner, row->owner) != 0 || strcmp(w->marks[i].alloc, row->alloc) != 0))
		i++;
	sim_log(w, "ledger: %s is %s", row->alloc, put ? "condemned" : "not condemned any more");
	if (put)
		check_condemned(w, row);
	if (put && i == sizeof(w->marks) / sizeof(w->marks[0]))
		sim_fail(w, "marks are never forgotten");
	if (put)
		w->marks[i] = *row;
	if (put && i == w->n_marks)
		w->n_marks++;
	else if (!put && i < w->n_marks)
		w->marks[i] = w->marks[--w->n_marks];
}

static void
write_run(struct world *w, const struct run_row *next)
{
	struct ledger_run *have = ledger_find(w, next->id);

	if (have == NULL)
		sim_fail(w, "update of %s, which is not in the ledger", next->id);
	if (run_state_final(have->row.state))
		sim_fail(w, "%s had its outcome %s, then %s", next->id, run_state_word(have->row.state), run_state_word(next->state));
	if (have->row.state == RUN_CANCELING && next->state != RUN_CANCELED)
		sim_fail(w, "%s was being canceled, then %s", next->id, run_state_word(next->state));
	if (next->attempt < have->row.attempt || next->attempt > have->row.attempt + 1)
		sim_fail(w, "%s: attempt %u after %u", next->id, next->attempt, have->row.attempt);
	if (next->attempt > have->row.attempt && (!newer(next->fence, have->row.fence) || have->row.state != RUN_QUEUED))
		sim_fail(w, "%s: attempt %u leased while %s", next->id, next->attempt, run_state_word(have->row.state));
	if (next->attempt > have->row.attempt) {
		check_alone(w, next);
		check_scaled(w, next);
		check_key(w, next);
		check_weight(w, next);
		check_paused(w, next);
		check_store(w, next);
	}
	if (strstr(next->reason, "no node can") != NULL && (w->unplaceable_ms == 0 || next->needs.execution == EXEC_WARM))
		sim_fail(w, "%s was given up, and may wait", next->id);
	if (next->attempt == have->row.attempt && !fence_equal(next->fence, have->row.fence))
		sim_fail(w, "%s: fence changed without an attempt", next->id);
	if (have->row.state == RUN_RUNNING && next->state == RUN_QUEUED)
		check_lost(w, &have->row, next);
	if (have->row.state == RUN_RUNNING && next->state == RUN_QUEUED && next->fail == FAIL_HANDED_BACK)
		check_handed_back(w, &have->row);
	if (next->fence.seq > w->max_seq)
		w->max_seq = next->fence.seq;
	if (!fence_equal(next->accepted, have->row.accepted))
		have->accepted[have->n_accepted++ % ACCEPTED_KEPT] = next->accepted;
	have->row = *next;
	have->written_ms = w->mono_ms;
	sim_log(w, "ledger: %s %s attempt %u fence %llu-%llu worker %s failures %u crashes %u: %s", next->id, run_state_word(next->state),
	    next->attempt, (unsigned long long)next->fence.epoch, (unsigned long long)next->fence.seq, next->worker, next->failures,
	    next->crashes, next->reason);
}

static void
insert_run(struct world *w, const struct op *op)
{
	struct ledger_run *r = &w->runs[w->n_runs++];

	if (ledger_find(w, op->run.id) != NULL && ledger_find(w, op->run.id) != r)
		sim_fail(w, "%s inserted twice", op->run.id);
	r->row = op->run;
	snprintf(r->spec, sizeof(r->spec), "%s", op->spec == NULL ? "" : op->spec);
	sim_log(w, "ledger: %s inserted", op->run.id);
}

static void
write_request(struct world *w, const struct request_row *next, bool insert)
{
	struct request_row *have = ledger_request(w, next->seq);
	size_t open = 0;

	if (insert == (have != NULL))
		sim_fail(w, "request %llu %s", (unsigned long long)next->seq, insert ? "inserted twice" : "unknown");
	if (!insert && (have->state == REQ_DONE || next->state <= have->state))
		sim_fail(w, "request %llu went from state %d to %d", (unsigned long long)next->seq, have->state, next->state);
	if (insert)
		have = &w->requests[w->n_requests++];
	*have = *next;
	if (next->seq > w->max_seq)
		w->max_seq = next->seq;
	for (size_t i = 0; i < w->n_requests; i++)
		open += w->requests[i].state != REQ_DONE && !w->requests[i].adopted && strcmp(w->requests[i].vertical, next->vertical) == 0;
	if (open > w->window)
		sim_fail(w, "%zu requests are open, the window is %u", open, w->window);
	sim_log(w, "ledger: request %llu state %d child %s", (unsigned long long)next->seq, next->state, next->child);
}

static void
write_all(struct world *w, struct commit *k)
{
	for (size_t i = 0; i < k->n; i++) {
		const struct op *op = &k->ops[i];

		if (op->kind == OP_RUN_INSERT)
			insert_run(w, op);
		else if (op->kind == OP_RUN_UPDATE)
			write_run(w, &op->run);
		else if (op->kind == OP_PAUSE_PUT || op->kind == OP_PAUSE_REMOVE)
			write_pause(w, &op->pause, op->kind == OP_PAUSE_PUT);
		else if (op->kind == OP_MARK_PUT || op->kind == OP_MARK_REMOVE)
			write_mark(w, &op->mark, op->kind == OP_MARK_PUT);
		else
			write_request(w, &op->req, op->kind == OP_REQ_INSERT);
	}
}

static char **
specs_of(struct world *w, const struct commit *k, size_t *ret_n)
{
	char **specs = xcalloc(k->n, sizeof(*specs));

	*ret_n = 0;
	for (size_t i = 0; i < k->n; i++) {
		if (k->ops[i].want_spec)
			specs[(*ret_n)++] = xstrdup(ledger_find(w, k->ops[i].run.id)->spec);
	}
	return specs;
}

static void
commit_free(void *arg)
{
	struct commit *k = arg;

	for (size_t i = 0; i < k->n; i++)
		free(k->ops[i].spec);
	free(k->ops);
	free(k);
}

static void
read_back(struct world *w, struct arg *arg)
{
	struct commit *k = arg->p;
	size_t n = 0;
	char **specs;

	if (w->d.gen == k->gen) {
		specs = k->written ? specs_of(w, k, &n) : NULL;
		core_read_back(w->d.core, sim_now(w), k->txn, k->written, specs, n);
		free(specs);
		shell_drain(w);
	}
	commit_free(k);
}

static void
tell_result(struct world *w, struct arg *arg)
{
	struct commit *k = arg->p;
	size_t n = 0;
	char **specs = NULL;

	if (w->d.gen != k->gen) {
		commit_free(k);
		return;
	}
	if (k->result == COMMIT_OK)
		specs = specs_of(w, k, &n);
	sim_log(w, "commit %llu: %s", (unsigned long long)k->txn, k->result == COMMIT_OK ? "ok" : k->result == COMMIT_FAILED ? "failed" : "unknown");
	core_committed(w->d.core, sim_now(w), k->txn, k->result, specs, n);
	free(specs);
	if (w->mono_ms < w->disk_full_until_ms)
		core_ledger_health(w->d.core, sim_now(w), false);
	shell_drain(w);
	if (k->result == COMMIT_UNKNOWN)
		sim_at(w, sim_between(w, 1, 3000), read_back, (struct arg){.p = k, .release = commit_free});
	else
		commit_free(k);
}

static void
do_write(struct world *w, struct arg *arg)
{
	struct commit *k = arg->p;

	/* The epoch is the guard against a dispatcher that was deposed or died, and whose writes come late. */
	if (k->epoch != w->epoch && k->gen == w->old.gen) {
		w->old_refused = true;
		w->refused++;
	}
	w->full += w->mono_ms < w->disk_full_until_ms;
	if (k->write && k->epoch == w->epoch && w->mono_ms >= w->disk_full_until_ms) {
		write_all(w, k);
		k->written = true;
	}
	if (!k->written && k->result == COMMIT_OK)
		k->result = COMMIT_FAILED;
	sim_at(w, sim_between(w, 0, 3), tell_result, *arg);
}

void
ledger_commit(struct world *w, struct effect *e)
{
	struct commit *k = xcalloc(1, sizeof(*k));

	k->ops = e->ops;
	k->n = e->n_ops;
	k->txn = e->txn;
	k->gen = w->d.gen;
	k->epoch = w->d.config.epoch;
	k->write = true;
	e->ops = NULL;
	e->n_ops = 0;
	if (sim_fault(w, w->mix.commit_fail)) {
		k->result = COMMIT_FAILED;
		k->write = false;
	} else if (sim_fault(w, w->mix.commit_unknown)) {
		k->result = COMMIT_UNKNOWN;
		k->write = sim_chance(w, 500);
	}
	if (w->ledger_free_ms < w->mono_ms)
		w->ledger_free_ms = w->mono_ms;
	w->ledger_free_ms += sim_between(w, 0, sim_fault(w, 20) ? 4000 : 4);
	sim_at(w, w->ledger_free_ms - w->mono_ms, do_write, (struct arg){.p = k, .release = commit_free});
}
