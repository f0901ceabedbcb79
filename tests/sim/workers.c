/* workers.c - simulated workers, looping and one-shot: they register, poll, beat, run, report, hand back, and die. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static bool
cut(const struct world *w, const struct proc *p)
{
	return p->cut_until_ms > w->mono_ms;
}

static struct held_run *
held_find(struct proc *p, const char *run, struct fence f)
{
	for (size_t i = 0; i < p->n_held; i++) {
		if (strcmp(p->held[i].held.run, run) == 0 && fence_equal(p->held[i].held.fence, f))
			return &p->held[i];
	}
	return NULL;
}

static void
held_drop(struct proc *p, struct held_run *h)
{
	size_t i = (size_t)(h - p->held);

	memmove(h, h + 1, (p->n_held - i - 1) * sizeof(*h));
	p->n_held--;
}

/* --- messages to the dispatcher --- */

struct request_msg {
	uint64_t caller;
	int proc;
	struct core_worker who;
	struct held held[MAX_HELD];
	size_t n_held;
	unsigned free;
	char only[RUN_ID_MAX];
	struct core_report report;
};

static void
message_arrives(struct world *w, struct arg *arg)
{
	struct request_msg *m = arg->p;
	struct call *k = shell_arrived(w, m->caller);
	struct now now = sim_now(w);
	uint64_t caller = k == NULL ? 0 : (uint64_t)(k - w->calls) + 1;

	if (k != NULL) {
		k->held = m->report.held;
		k->outcome = m->report.outcome;
		k->arrived_ms = w->mono_ms;
		k->n_listed = m->n_held;
		memcpy(k->listed, m->held, sizeof(m->held));
		if (k->kind == CALL_REGISTER) {
			const uint64_t keys[] = {(uint64_t)m->proc % TARGETS + 1, (uint64_t)m->proc % 3 + 1};

			core_register(w->d.core, now, caller, &m->who);
			core_worker_holds(w->d.core, now, m->who.id, keys, 2);
		} else if (k->kind == CALL_POLL)
			core_lease(w->d.core, now, caller, m->who.id, m->free, m->only, m->held, m->n_held, POLL_MS);
		else if (k->kind == CALL_BEAT)
			core_beat(w->d.core, now, caller, m->who.id, m->held, m->n_held, POLL_MS);
		else
			core_report(w->d.core, now, caller, &m->report);
		shell_drain(w);
	}
	free(m);
}

static struct request_msg *
message_new(struct world *w, int proc, enum caller_kind kind)
{
	struct proc *p = &w->procs[proc];
	struct request_msg *m = xcalloc(1, sizeof(*m));
	char group[CORE_CHILD_MAX];

	m->caller = shell_call(w, kind, proc);
	m->proc = proc;
	sim_group(p->vertical, group);
	m->who = (struct core_worker){.once = p->once, .slots = p->slots, .request = p->request,
	    .memory_bytes = p->once ? 0 : MEMORY, .alloc_index = p->once ? -1 : p->slot % GROUP_MAX};
	if (p->child >= 0)
		m->who.class = w->children[p->child].class;
	snprintf(m->who.id, sizeof(m->who.id), "%s", p->id);
	snprintf(m->who.vertical, sizeof(m->who.vertical), "%s", sim_vertical(p->vertical));
	snprintf(m->who.child, sizeof(m->who.child), "%s", p->child >= 0 ? w->children[p->child].name : group);
	snprintf(m->who.alloc, sizeof(m->who.alloc), "%s", p->alloc);
	for (size_t i = 0; i < p->n_held; i++)
		m->held[m->n_held++] = p->held[i].held;
	m->free = p->slots - (unsigned)p->n_held;
	if (p->only >= 0)
		snprintf(m->only, sizeof(m->only), "%s", w->clients[p->only].id);
	return m;
}

static void
message_send(struct world *w, struct request_msg *m)
{
	int copies = sim_fault(w, w->mix.lose) || cut(w, &w->procs[m->proc]) ? 0 : sim_fault(w, w->mix.dup) ? 2 : 1;

	for (int i = 0; i < copies; i++)
		sim_at(w, sim_between(w, 0, sim_fault(w, 30) ? 20000 : 4), message_arrives, (struct arg){.p = xmemdup(m, sizeof(*m))});
	free(m);
}

static void
send_report(struct world *w, int proc, struct held_run *h)
{
	struct proc *p = &w->procs[proc];
	struct request_msg *m = message_new(w, proc, CALL_REPORT);

	h->report = m->caller;
	h->report_ms = w->mono_ms;
	m->report = (struct core_report){.held = h->held, .outcome = h->canceled ? RUN_CANCELED : h->outcome, .fail = h->fail,
	    .leaving = p->once || p->leaving, .inquire = h->outcome == RUN_QUEUED && p->once};
	snprintf(m->report.worker, sizeof(m->report.worker), "%s", p->id);
	w->calls[m->caller - 1].held = h->held;
	w->calls[m->caller - 1].outcome = m->report.outcome;
	sim_log(w, "%s: reports %s %s", p->id, h->held.run, run_state_word(m->report.outcome));
	message_send(w, m);
}

/* --- answers --- */

static void
take_leases(struct world *w, struct proc *p, const struct answer *a)
{
	static const struct {
		enum run_state outcome;
		enum fail_class fail;
	} ends[] = {{RUN_COMPLETED, FAIL_NONE}, {RUN_COMPLETED, FAIL_NONE}, {RUN_COMPLETED, FAIL_NONE}, {RUN_FAILED, FAIL_TOOL},
	    {RUN_FAILED, FAIL_INFRA}, {RUN_FAILED, FAIL_OOM}, {RUN_FAILED, FAIL_INVALID}, {RUN_TIMED_OUT, FAIL_TIMEOUT}};

	for (size_t i = 0; i < a->n_leases; i++) {
		const struct lease *l = &a->leases[i];
		size_t end = sim_random(w) % (sizeof(ends) / sizeof(ends[0]));
		struct held_run *h;

		if (held_find(p, l->run, l->fence) != NULL || p->n_held == p->slots)
			continue;
		h = &p->held[p->n_held++];
		*h = (struct held_run){.attempt = l->attempt, .outcome = ends[end].outcome, .fail = ends[end].fail};
		snprintf(h->held.run, sizeof(h->held.run), "%s", l->run);
		h->held.fence = l->fence;
		p->acked_ms = w->mono_ms;
		h->ends_ms = w->mono_ms + sim_between(w, 20, sim_chance(w, 200) ? 90000 : 8000);
		if (client_of(w, l->run)->poison) {
			h->kills_ms = w->mono_ms + sim_between(w, 20, 3000);
			h->ends_ms = h->kills_ms + 60000;
		}
		sim_log(w, "%s: runs %s attempt %u", p->id, l->run, l->attempt);
	}
}

static void
proc_exit(struct world *w, int proc)
{
	struct proc *p = &w->procs[proc];

	if (!p->alive)
		return;
	sim_log(w, "%s: exits", p->id);
	p->alive = false;
	nomad_proc_ended(w, proc, false, false);
}

static void
obey_beat(struct world *w, struct proc *p, const struct answer *a)
{
	p->acked_before_ms = p->acked_ms;
	p->acked_ms = w->mono_ms;
	for (size_t k = 0; k < a->n_cancel; k++) {
		for (size_t i = 0; i < p->n_held; i++) {
			if (strcmp(p->held[i].held.run, a->cancel[k]) == 0 && !p->held[i].ended) {
				p->held[i].canceled = true;
				p->held[i].ends_ms = w->mono_ms + sim_between(w, 1, 2000);
			}
		}
	}
	for (size_t k = 0; k < a->n_lost; k++) {
		for (size_t i = 0; i < p->n_held; i++) {
			if (strcmp(p->held[i].held.run, a->lost[k]) == 0 && p->held[i].report == 0) {
				held_drop(p, &p->held[i]);
				break;
			}
		}
	}
}

static void
obey_report(struct world *w, int proc, uint64_t caller, const struct answer *a)
{
	struct proc *p = &w->procs[proc];

	for (size_t i = 0; i < p->n_held; i++) {
		if (p->held[i].report != caller)
			continue;
		p->held[i].report = 0;
		if (a->err.code != ERR_RETRY) {
			held_drop(p, &p->held[i]);
			if (p->once || (p->leaving && p->n_held == 0))
				proc_exit(w, proc);
		}
		return;
	}
}

void
worker_answer(struct world *w, uint64_t caller, const struct answer *a)
{
	int proc = w->calls[caller - 1].who;
	struct proc *p = &w->procs[proc];

	if (!p->alive || cut(w, p))
		return;
	if (a->err.code == ERR_NOTFOUND && a->kind != ANS_REPORT)
		p->registered = false;
	if (caller == p->reg) {
		p->reg = 0;
		p->registered = a->err.code == 0;
	} else if (caller == p->poll) {
		p->poll = 0;
		if (a->exit && p->n_held == 0)
			proc_exit(w, proc);
		else if (!p->leaving)
			take_leases(w, p, a);
	} else if (caller == p->beat) {
		p->beat = 0;
		if (a->err.code == 0)
			obey_beat(w, p, a);
	} else if (a->kind == ANS_REPORT) {
		obey_report(w, proc, caller, a);
	}
}

/* --- life --- */

static void
give_up(struct world *w, uint64_t *caller, int64_t since_ms)
{
	if (*caller == 0 || w->mono_ms - since_ms < RPC_MS)
		return;
	shell_gone(w, *caller);
	*caller = 0;
}

static void
announce(struct world *w, int proc)
{
	struct client_run *c = &w->clients[w->procs[proc].only];

	if (!c->acknowledged && c->caller == 0)
		client_submit(w, &(struct arg){.a = w->procs[proc].only});
}

static bool
poisoned(struct world *w, const struct proc *p)
{
	for (size_t i = 0; i < p->n_held; i++) {
		if (p->held[i].kills_ms != 0 && p->held[i].kills_ms <= w->mono_ms && !p->held[i].canceled)
			return true;
	}
	return false;
}

static void
step_held(struct world *w, int proc)
{
	struct proc *p = &w->procs[proc];

	for (size_t i = 0; i < p->n_held; i++) {
		struct held_run *h = &p->held[i];

		if (!h->ended && w->mono_ms >= h->ends_ms && w->mono_ms < w->s3_until_ms && h->outcome != RUN_QUEUED) {
			h->outcome = RUN_FAILED;
			h->fail = FAIL_INFRA;
		}
		h->ended = h->ended || w->mono_ms >= h->ends_ms;
		give_up(w, &h->report, h->report_ms);
		if (h->ended && h->report == 0)
			send_report(w, proc, h);
	}
}

static void
ask(struct world *w, int proc, enum caller_kind kind, uint64_t *caller, int64_t *since_ms)
{
	struct request_msg *m;

	if (*caller != 0)
		return;
	m = message_new(w, proc, kind);
	*caller = m->caller;
	*since_ms = w->mono_ms;
	message_send(w, m);
}

static void
step(struct world *w, struct arg *arg)
{
	struct proc *p = &w->procs[arg->a];

	if (!p->alive)
		return;
	sim_at(w, sim_between(w, 200, 1000), step, *arg);
	give_up(w, &p->reg, p->reg_ms);
	give_up(w, &p->poll, p->poll_ms);
	give_up(w, &p->beat, p->beat_ms);
	if (p->n_held > 0 && w->mono_ms - p->acked_ms > ORPHAN_MS) {
		sim_log(w, "%s: orphaned, kills its tools", p->id);
		p->n_held = 0;
	}
	if (poisoned(w, p)) {
		worker_die(w, arg->a, false);
		return;
	}
	step_held(w, arg->a);
	if ((p->leaving && p->n_held == 0) || (p->stop_ms != 0 && w->mono_ms - p->stop_ms > 10000)) {
		proc_exit(w, arg->a);
		return;
	}
	if (!p->registered) {
		ask(w, arg->a, CALL_REGISTER, &p->reg, &p->reg_ms);
		return;
	}
	if (p->only >= 0 && !w->clients[p->only].acknowledged) {
		announce(w, arg->a);
		return;
	}
	if (p->n_held > 0)
		ask(w, arg->a, CALL_BEAT, &p->beat, &p->beat_ms);
	if (p->n_held < p->slots && !p->leaving)
		ask(w, arg->a, CALL_POLL, &p->poll, &p->poll_ms);
}

int
worker_start(struct world *w, int child, int slot)
{
	int i = (int)w->n_procs++;
	struct proc *p = &w->procs[i];

	if (w->n_procs > MAX_PROCS)
		sim_fail(w, "more than %d processes: something spins", MAX_PROCS);
	*p = (struct proc){.alive = true, .once = child >= 0, .child = child, .slot = slot, .slots = child >= 0 ? 1 : w->slots, .only = -1};
	p->vertical = child >= 0 ? w->children[child].vertical : slot / GROUP_MAX;
	p->acked_ms = w->mono_ms;
	snprintf(p->id, sizeof(p->id), "w%d", i);
	if (child >= 0) {
		p->request = w->children[child].seq;
		p->only = w->children[child].run;
		snprintf(p->alloc, sizeof(p->alloc), "%.28s-%d", strrchr(w->children[child].name, '-') + 1, w->children[child].alloc);
	} else {
		p->serial = w->groups[p->vertical].members[slot % GROUP_MAX].serial;
		group_alloc(slot, p->serial, p->alloc);
	}
	sim_log(w, "%s: starts in %s", p->id, child >= 0 ? w->children[child].name : p->alloc);
	sim_at(w, sim_between(w, 1, 50), step, (struct arg){.a = i});
	return i;
}

void
worker_stop(struct world *w, int proc)
{
	struct proc *p = &w->procs[proc];

	if (!p->alive || p->leaving)
		return;
	sim_log(w, "%s: SIGTERM", p->id);
	p->leaving = true;
	p->stop_ms = w->mono_ms;
	for (size_t i = 0; i < p->n_held; i++) {
		if (p->held[i].ended)
			continue;
		p->held[i].outcome = RUN_QUEUED;
		p->held[i].fail = FAIL_HANDED_BACK;
		p->held[i].ends_ms = w->mono_ms;
	}
}

void
worker_die(struct world *w, int proc, bool oom)
{
	sim_log(w, "%s: dies", w->procs[proc].id);
	w->procs[proc].alive = false;
	nomad_proc_ended(w, proc, true, oom);
}
