/* shell.c - the simulated dispatcher: performs effects, checks them against the ledger, dies between any two of them. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

uint64_t
shell_call(struct world *w, enum caller_kind kind, int who)
{
	if (w->n_calls == w->cap_calls) {
		w->cap_calls = w->cap_calls * 2 + 256;
		w->calls = xrealloc(w->calls, w->cap_calls * sizeof(*w->calls));
	}
	w->calls[w->n_calls] = (struct call){.kind = kind, .who = who};
	return ++w->n_calls;
}

struct call *
shell_arrived(struct world *w, uint64_t caller)
{
	struct call *k = &w->calls[caller - 1];

	if (w->d.gen == 0)
		return NULL;
	if (k->gen == w->d.gen || (k->gen != 0 && k->gen == w->old.gen) || k->answered || k->gone) { /* a copy: a connection of its own, whose answer nobody reads */
		enum caller_kind kind = k->kind;

		caller = shell_call(w, kind, -1);
		k = &w->calls[caller - 1];
	}
	k->gen = w->d.gen;
	return k;
}

void
shell_gone(struct world *w, uint64_t caller)
{
	struct call *k = &w->calls[caller - 1];

	if (k->gone || k->answered)
		return;
	k->gone = true;
	if (w->d.gen != 0 && k->gen == w->d.gen) {
		core_caller_gone(w->d.core, sim_now(w), caller);
		shell_drain(w);
	}
}

/* --- what an answer says must be in the ledger by then --- */

static void
check_lease(struct world *w, const struct lease *l)
{
	const struct ledger_run *r = ledger_find(w, l->run);

	if (r == NULL || r->row.state != RUN_RUNNING || !fence_equal(r->row.fence, l->fence) || r->row.attempt != l->attempt)
		sim_fail(w, "lease of %s told that the ledger does not hold", l->run);
	if (l->spec == NULL || strcmp(l->spec, r->spec) != 0)
		sim_fail(w, "lease of %s with another run's spec", l->run);
}

static bool
was_accepted(const struct ledger_run *r, struct fence fence)
{
	for (size_t i = 0; i < r->n_accepted && i < ACCEPTED_KEPT; i++)
		if (fence_equal(r->accepted[i], fence))
			return true;
	return false;
}

/* An acknowledged report has ended its attempt; the outcome is the reported one or a cancel that came first. */
static void
check_report(struct world *w, const struct call *k, const struct answer *a)
{
	const struct ledger_run *r = ledger_find(w, k->held.run);

	if (r != NULL && a->err.code == ERR_CONFLICT && fence_equal(r->row.accepted, k->held.fence))
		sim_fail(w, "a report of %s was accepted, and is refused when it is repeated", k->held.run);
	if (r != NULL && a->err.code == 0 && fence_equal(r->row.fence, k->held.fence) && !fence_equal(r->row.accepted, k->held.fence))
		sim_fail(w, "a report of %s is acknowledged, and the ledger does not say so", k->held.run);
	/* Whoever reported for an attempt that had ended otherwise must not hear that it counted. */
	if (r != NULL && a->err.code == 0 && !was_accepted(r, k->held.fence))
		sim_fail(w, "a report of %s is acknowledged under a fence that was never accepted", k->held.run);
	if (a->err.code != 0 || k->who < 0 || r == NULL || !fence_equal(r->row.fence, k->held.fence))
		return;
	if (r->row.state == RUN_RUNNING || r->row.state == RUN_CANCELING)
		sim_fail(w, "report of %s acknowledged, but the ledger says %s", k->held.run, run_state_word(r->row.state));
	if (k->outcome == RUN_COMPLETED && r->row.state != RUN_COMPLETED && r->row.state != RUN_CANCELED)
		sim_fail(w, "%s reported completed under the current fence, recorded %s", k->held.run, run_state_word(r->row.state));
}

static void
check_beat(struct world *w, const struct answer *a)
{
	for (size_t i = 0; i < a->n_cancel; i++) {
		const struct ledger_run *r = ledger_find(w, a->cancel[i]);

		if (r == NULL || (r->row.state != RUN_CANCELING && r->row.state != RUN_CANCELED))
			sim_fail(w, "cancel of %s told that the ledger does not hold", a->cancel[i]);
	}
}

/* A poll that was open for its whole time and got nothing: the worker must hold all that the ledger says it holds. */
static void
check_offered(struct world *w, const struct call *k, const struct answer *a)
{
	const struct proc *p = k->who < 0 ? NULL : &w->procs[k->who];
	bool ledger_fine = w->mix.disk_full + w->mix.commit_fail + w->mix.commit_unknown == 0;

	if (p == NULL || !p->alive || p->stop_ms != 0 || a->err.code != 0 || a->n_leases > 0 || w->mono_ms - k->arrived_ms < POLL_MS || !ledger_fine)
		return;
	for (size_t i = 0; i < w->n_runs; i++) {
		const struct ledger_run *r = &w->runs[i];
		bool listed = false;

		if (r->row.state != RUN_RUNNING || strcmp(r->row.worker, p->id) != 0 || r->written_ms >= k->arrived_ms)
			continue;
		for (size_t h = 0; h < k->n_listed; h++)
			listed = listed || fence_equal(k->listed[h].fence, r->row.fence);
		if (!listed)
			sim_fail(w, "%s polled, and its lease of %s was not offered again", p->id, r->row.id);
	}
}

static void
check_answer(struct world *w, const struct call *k, const struct answer *a)
{
	const struct ledger_run *r;

	for (size_t i = 0; i < a->n_leases; i++)
		check_lease(w, &a->leases[i]);
	if (a->kind == ANS_LEASE)
		check_offered(w, k, a);
	if (a->kind == ANS_REPORT)
		check_report(w, k, a);
	if (a->kind == ANS_BEAT)
		check_beat(w, a);
	if (a->kind == ANS_CONDEMN)
		scaler_check_answer(w, (uint64_t)(k - w->calls) + 1, a);
	if ((a->kind != ANS_SUBMIT && a->kind != ANS_CANCEL) || a->err.code != 0)
		return;
	r = ledger_find(w, a->run);
	if (r == NULL)
		sim_fail(w, "%s acknowledged, but it is not in the ledger", a->run);
	if (a->kind == ANS_CANCEL && r->row.state != RUN_CANCELING && r->row.state != RUN_CANCELED)
		sim_fail(w, "cancel of %s acknowledged, but the ledger says %s", a->run, run_state_word(r->row.state));
}

/* --- answers on their way --- */

struct message {
	uint64_t caller;
	struct answer answer;
	struct lease leases[CORE_LEASES_MAX];
	char names[2][MAX_HELD][RUN_ID_MAX];
};

static void
answer_arrives(struct world *w, struct arg *arg)
{
	struct message *m = arg->p;
	enum caller_kind kind = w->calls[m->caller - 1].kind;

	m->answer.leases = m->leases;
	m->answer.cancel = m->names[0];
	m->answer.lost = m->names[1];
	if (kind == CALL_SUBMIT || kind == CALL_CANCEL)
		client_answer(w, m->caller, &m->answer);
	else if (kind == CALL_CONDEMN)
		scaler_answer(w, m->caller, &m->answer);
	else
		worker_answer(w, m->caller, &m->answer);
	free(m);
}

static void
perform_answer(struct world *w, const struct effect *e)
{
	struct call *k = &w->calls[e->caller - 1];
	struct message *m;

	if (e->caller > w->n_calls || k->gen != w->d.gen)
		sim_fail(w, "answer to caller %llu, who did not call", (unsigned long long)e->caller);
	if (k->gone && w->old_acts)
		return; /* it was paused when the connection broke */
	if (k->answered || k->gone)
		sim_fail(w, "caller %llu answered %s", (unsigned long long)e->caller, k->gone ? "after it had gone" : "twice");
	k->answered = true;
	check_answer(w, k, e->answer);
	if (k->who < 0 || sim_fault(w, w->mix.lose))
		return;
	m = xcalloc(1, sizeof(*m));
	m->caller = e->caller;
	m->answer = *e->answer;
	for (size_t i = 0; i < e->answer->n_leases; i++)
		m->leases[i] = e->answer->leases[i];
	for (size_t i = 0; i < e->answer->n_cancel; i++)
		memcpy(m->names[0][i], e->answer->cancel[i], RUN_ID_MAX);
	for (size_t i = 0; i < e->answer->n_lost; i++)
		memcpy(m->names[1][i], e->answer->lost[i], RUN_ID_MAX);
	sim_at(w, sim_between(w, 0, sim_fault(w, 50) ? 6000 : 5), answer_arrives, (struct arg){.p = m});
}

/* --- manifests: what a worker had published before it was lost --- */

struct look {
	struct core_report found;
	bool complete;
};

static void
manifest_known(struct world *w, struct arg *arg)
{
	struct look *l = arg->p;

	if (w->d.gen != 0 && w->d.gen == arg->a) {
		core_manifest(w->d.core, sim_now(w), &l->found.held, l->complete ? &l->found : NULL);
		shell_drain(w);
	}
	free(l);
}

/* A tool that ran to its end has published; what becomes of its worker after that is no matter. */
static void
manifest_look(struct world *w, const struct run_row *row)
{
	struct look *l = xcalloc(1, sizeof(*l));

	snprintf(l->found.held.run, sizeof(l->found.held.run), "%s", row->id);
	snprintf(l->found.worker, sizeof(l->found.worker), "%s", row->worker);
	l->found.held.fence = row->fence;
	for (size_t i = 0; i < w->n_procs; i++) {
		for (size_t h = 0; h < w->procs[i].n_held; h++) {
			const struct held_run *held = &w->procs[i].held[h];

			if (!fence_equal(held->held.fence, row->fence) || !held->ended || held->canceled || !run_state_final(held->outcome))
				continue;
			l->complete = true;
			l->found.outcome = held->outcome;
			l->found.fail = held->fail;
		}
	}
	sim_log(w, "dispatcher: looks for the manifest of %s attempt %u: %s", row->id, row->attempt, l->complete ? "complete" : "none");
	sim_at(w, sim_between(w, 1, sim_fault(w, 200) ? 20000 : 300), manifest_known, (struct arg){.a = w->d.gen, .p = l});
}

static void
perform(struct world *w, struct effect *e)
{
	const struct ledger_run *r;

	if (e->kind == EFF_COMMIT) {
		ledger_commit(w, e);
	} else if (e->kind == EFF_ANSWER) {
		perform_answer(w, e);
	} else if (e->kind == EFF_MANIFEST) {
		manifest_look(w, &e->run);
	} else if (e->kind == EFF_EVENT) {
		r = ledger_find(w, e->run.id);
		if (r == NULL || r->row.state != e->run.state)
			sim_fail(w, "event of %s told before it was in the ledger", e->run.id);
	} else if (e->kind == EFF_TROUBLE) {
		sim_log(w, "dispatcher: a one-shot of %s came to nothing: %s", e->req.vertical, e->why);
	} else {
		nomad_effect(w, e);
	}
}

static void
tick(struct world *w, struct arg *arg)
{
	if (w->d.gen == 0 || w->d.gen != arg->a || w->d.wake_ms != w->mono_ms)
		return;
	w->d.wake_ms = INT64_MAX;
	core_tick(w->d.core, sim_now(w));
	shell_drain(w);
}

void
shell_rearm(struct world *w)
{
	int64_t at = core_next_wake(w->d.core);

	if (at == INT64_MAX)
		return;
	if (at < w->mono_ms)
		at = w->mono_ms;
	if (w->d.wake_ms <= at && w->d.wake_ms >= w->mono_ms)
		return;
	w->d.wake_ms = at;
	sim_at(w, at - w->mono_ms, tick, (struct arg){.a = w->d.gen});
}

void
shell_drain(struct world *w)
{
	struct effect e;
	size_t n = 0;

	while (w->d.gen != 0 && core_take(w->d.core, &e)) {
		if (++n > MAX_EFFECTS)
			sim_fail(w, "one event has more than %d effects: the core spins", MAX_EFFECTS);
		if (sim_fault(w, w->mix.crash)) {
			core_effect_release(&e);
			shell_crash(w);
			return;
		}
		perform(w, &e);
		core_effect_release(&e);
	}
	if (w->d.gen != 0) {
		core_check(w->d.core);
		shell_rearm(w);
	}
}

/* --- life --- */

static void
restart(struct world *w, struct arg *arg)
{
	if (w->mono_ms < w->disk_full_until_ms) /* raising the epoch is a write */
		sim_at(w, w->disk_full_until_ms - w->mono_ms, restart, *arg);
	else
		shell_start(w);
}

void
shell_crash(struct world *w)
{
	w->crashes++;
	sim_log(w, "dispatcher: dies%s", w->old_acts ? " (the old one)" : "");
	core_free(w->d.core);
	w->d.core = NULL;
	w->d.gen = 0;
	if (w->old_acts)
		return;
	sim_at(w, sim_between(w, 100, 40000), restart, (struct arg){0});
}

/* --- a dispatcher that was paused while another took over: what it does next is done with what it knew --- */

void
shell_trade_places(struct world *w)
{
	struct dispatcher d = w->d;

	w->d = w->old;
	w->old = d;
	w->old_acts = !w->old_acts;
}

void
shell_old_ends(struct world *w)
{
	core_free(w->old.core);
	w->old = (struct dispatcher){0};
}

/* It answers whoever is still connected, makes calls that were due, and writes: which ends it, once it hears the answer. */
static void
old_acts(struct world *w, struct arg *arg)
{
	if (w->old.gen == 0 || w->old.gen != arg->a)
		return;
	if (w->old_refused) {
		sim_log(w, "dispatcher: the old one learns that it was deposed");
		shell_old_ends(w);
		return;
	}
	sim_at(w, sim_between(w, 1, 5000), old_acts, *arg);
	if (w->d.gen == 0)
		return;
	shell_trade_places(w);
	core_tick(w->d.core, sim_now(w));
	shell_drain(w);
	shell_trade_places(w);
}

void
shell_depose(struct world *w)
{
	sim_log(w, "dispatcher: pauses, and is deposed");
	w->deposed++;
	shell_old_ends(w);
	w->old = w->d;
	w->old_refused = false;
	w->d = (struct dispatcher){0};
	sim_at(w, sim_between(w, 1, sim_chance(w, 300) ? 50 : 5000), restart, (struct arg){0});
	sim_at(w, sim_between(w, 1, 60000), old_acts, (struct arg){.a = w->old.gen});
}

void
shell_start(struct world *w)
{
	w->epoch++;
	w->d.gen = ++w->gens;
	w->d.wake_ms = INT64_MAX;
	w->d.nomad_ok = true;
	w->d.config = (struct core_config){
		.seed = sim_random(w), .epoch = w->epoch, .next_seq = w->max_seq + 1, .cluster = !w->embedded, .manifests = w->manifests, .lease_ttl_ms = 30000,
		.request_ttl_ms = 120000, .max_queued = 30, .max_lost = 5, .max_crashes = 3, .max_infra = 8,
		.backoff_base_ms = 1000, .backoff_cap_ms = 30000, .unplaceable_ms = w->unplaceable_ms,
	};
	sim_log(w, "dispatcher: starts, epoch %llu", (unsigned long long)w->epoch);
	w->d.core = core_new(&w->d.config);
	w->s3_told_ms = 0;
	for (int i = 0; i < w->verticals; i++) {
		struct core_vertical v = {.window = w->window};

		snprintf(v.name, sizeof(v.name), "%s", sim_vertical(i));
		core_set_vertical(w->d.core, sim_now(w), &v);
	}
	for (size_t i = 0; i < w->n_pauses; i++)
		core_restore_pause(w->d.core, &w->pauses[i]);
	for (size_t i = 0; i < w->n_marks; i++)
		core_restore_mark(w->d.core, &w->marks[i]);
	for (size_t i = 0; i < w->n_runs; i++) {
		if (!run_state_final(w->runs[i].row.state))
			core_restore_run(w->d.core, &w->runs[i].row);
	}
	for (size_t i = 0; i < w->n_requests; i++) {
		if (w->requests[i].state != REQ_DONE)
			core_restore_request(w->d.core, &w->requests[i]);
	}
	core_start(w->d.core, sim_now(w));
	sim_at(w, 1, nomad_listing, (struct arg){.a = w->d.gen});
	shell_drain(w);
}
