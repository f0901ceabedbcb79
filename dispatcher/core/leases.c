/* leases.c - who gets which run: offered leases first, then the best ready runs that the worker may take. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

/* Kinds of runs that the worker may take. Without a cluster there are no one-shots to insist on. */
unsigned
queue_mask(const struct core *c, const struct worker *w)
{
	if (!vertical_one_shots(c, w->lane->vertical))
		return QUEUE_ALL;
	if (w->who.once)
		return QUEUE_ALL & ~(QUEUE_BIT(QUEUE_WARM) | QUEUE_BIT(QUEUE_WARM_SUSPECT));
	return QUEUE_ALL & ~(QUEUE_BIT(QUEUE_JOB) | QUEUE_BIT(QUEUE_JOB_SUSPECT));
}

/* Slots that the worker may fill, by its word and by what the core knows of it. A suspect runs alone. */
static size_t
slots_free(const struct worker *w, size_t told)
{
	size_t taken = w->n_grants + w->committing, slots = w->who.slots > taken ? w->who.slots - taken : 0;

	for (const struct link *l = w->grants.next; l != &w->grants; l = l->next) {
		if (container_of(l, struct grant, of_worker)->run->suspect)
			return 0;
	}
	return told < slots ? told : slots;
}

/* The looping worker of the lane with the fewest runs, NULL if there is none. */
static const struct worker *
least_loaded(const struct core *c, const struct lane *lane)
{
	const struct worker *best = NULL;

	list_each(&c->workers, l, after) {
		const struct worker *w = container_of(l, struct worker, all);

		if (w->lane != lane || !w->known || w->who.once || w->over || w->leaving || w->mark != DRAIN_NONE)
			continue;
		if (best == NULL || w->n_grants + w->committing < best->n_grants + best->committing)
			best = w;
	}
	return best;
}

/* The suspect that has waited for too long for a worker to fall empty by itself, NULL: none. */
static struct run *
overdue_suspect(const struct core *c, struct now now, const struct worker *w)
{
	struct queue_entry *e = queue_oldest(&w->lane->ready, queue_mask(c, w) & QUEUE_SUSPECTS);
	struct run *run = e == NULL ? NULL : container_of(e, struct run, entry);

	return run != NULL && now.mono_ms - run->due_mono >= SUSPECT_WAIT_MS ? run : NULL;
}

/* Whether the worker must take nothing beside what it has, because a suspect needs it for itself: the one with the fewest runs is
 * kept free. While the suspect waits that least number never rises, whoever has it, and every run ends: so it comes to zero, and
 * then the suspect is taken first. */
static bool
kept_free(const struct core *c, struct now now, const struct worker *w)
{
	return overdue_suspect(c, now, w) != NULL && least_loaded(c, w->lane) == w;
}

/* Whether the worker may be given runs at all: no mark stands on it. */
static bool
worker_takes(const struct worker *w)
{
	return w->who.once || w->mark == DRAIN_NONE;
}

/* What the runs of a worker declare together. */
struct load {
	int64_t cpu_millis, memory_bytes;
	size_t runs;
};

static void
load_add(struct load *l, const struct run *run)
{
	l->cpu_millis += run->cpu_millis;
	l->memory_bytes += run->memory_bytes;
	l->runs++;
}

static struct load
load_of(const struct worker *w)
{
	struct load l = {0};

	for (const struct link *at = w->grants.next; at != &w->grants; at = at->next)
		load_add(&l, container_of((struct link *)at, struct grant, of_worker)->run);
	return l;
}

/* Whether the run fits beside the others. What is larger than the worker runs there alone. */
static bool
fits(const struct worker *w, const struct load *l, const struct run *run)
{
	if (l->runs == 0)
		return true;
	return (w->who.cpu_millis == 0 || l->cpu_millis + run->cpu_millis <= w->who.cpu_millis) &&
	    (w->who.memory_bytes == 0 || l->memory_bytes + run->memory_bytes <= w->who.memory_bytes);
}

/* Free slots are of no use if the next run does not fit. */
static bool
next_fits(const struct core *c, const struct worker *w)
{
	const struct load l = load_of(w);
	struct queue_entry *e = l.runs == 0 ? NULL : queue_best(&w->lane->ready, queue_mask(c, w) & ~QUEUE_SUSPECTS);

	return e == NULL || fits(w, &l, container_of(e, struct run, entry));
}

size_t
worker_idle(const struct core *c, const struct worker *w, struct now now)
{
	if (w->who.once || !w->known || w->over || w->leaving || w->mark != DRAIN_NONE || (w->n_grants > 0 && kept_free(c, now, w)) ||
	    !next_fits(c, w))
		return 0;
	if (w->poll.caller != 0)
		return slots_free(w, w->poll.free);
	return now.mono_ms - w->seen_mono <= FRESH_MS ? slots_free(w, CORE_LEASES_MAX) : 0;
}

/* One-shots whose request is over, or was never ours, get nothing. */
static bool
unwanted(const struct core *c, const struct worker *w)
{
	const struct request *r = worker_request(c, w);

	if (w->over || w->leaving)
		return true;
	if (r == NULL)
		return w->who.once && w->who.request != 0;
	return r->stray || r->withdraw || r->ended || r->gone || r->row.state == REQ_STOPPING;
}

static bool
holds(const struct poll *p, const struct run *run)
{
	for (size_t i = 0; i < p->n_held; i++) {
		if (fence_equal(p->held[i].fence, run->fence) && strcmp(p->held[i].run, run->id) == 0)
			return true;
	}
	return false;
}

/* A lease that the worker does not list never reached it: once more, under the same fence. */
static void
offer_again(struct core *c, struct now now, struct txn *t, struct worker *w)
{
	static const struct run_cause again = {.event = EV_OFFER, .reason = ""};

	list_each(&w->grants, l, after) {
		struct grant *g = container_of(l, struct grant, of_worker);

		if (!run_busy(g->run) && g->run->state == RUN_RUNNING && g->verdict.at_mono == NEVER && !holds(&w->poll, g->run))
			run_move_in(c, now, t, g->run, &again);
	}
}

static void
lease(struct core *c, struct now now, struct txn *t, struct worker *w, struct run *run)
{
	struct request *r = worker_request(c, w);
	struct run_cause cause = {
		.event = EV_LEASE,
		.reason = "",
		.worker = w->who.id,
		.request = r == NULL ? 0 : r->row.seq,
		.fence = {.epoch = c->config.epoch, .seq = c->next_seq++},
	};

	/* Counted from here on: the child is not cleared away under a lease whose commit is in flight. */
	if (r != NULL) {
		r->used = true;
		r->grants++;
	}
	breaker_try(&run->vertical->breaker, run->entry.order);
	run_arrive(c, run);
	share_charge(c, now, run);
	run_move_in(c, now, t, run, &cause);
	if (run->key != NULL)
		key_lease(run);
}

struct wish { /* for a run whose target is there */
	const struct worker *worker;
	const struct load *load;
};

static bool
wished(const void *arg, const struct queue_entry *e)
{
	const struct wish *wish = arg;
	const struct run *run = container_of((struct queue_entry *)e, struct run, entry);

	return worker_holds(wish->worker, run->target_key) && fits(wish->worker, wish->load, run);
}

/* The run that the worker should take next, of the kinds of mask: one whose target it has, if such a one stands equal to the first. */
static struct run *
choose(struct core *c, struct now now, const struct worker *w, unsigned mask, const struct load *load)
{
	const struct wish wish = {w, load};
	struct lane *lane = w->lane;
	struct queue_entry *e, *beside;

	if ((mask & QUEUE_SUSPECTS) != 0 && !w->who.once && kept_free(c, now, w))
		return overdue_suspect(c, now, w);
	if (lane->turn == QUEUE_OLDEST_TURN - 1) {
		e = queue_oldest(&lane->ready, mask);
		return e == NULL ? NULL : container_of(e, struct run, entry);
	}
	e = queue_best(&lane->ready, mask);
	if (e == NULL)
		return NULL;
	if (w->n_holds > 0 && (QUEUE_BIT(e->kind) & QUEUE_SUSPECTS) == 0 && !wished(&wish, e) &&
	    (beside = queue_beside(e, AFFINITY_SLACK_MS, wished, &wish)) != NULL)
		e = beside;
	return container_of(e, struct run, entry);
}

/* Takes the best runs while the worker has slots. A run that does not fit is not passed over, or it would never be taken: the
 * worker takes nothing until it has room, or another one has taken that run. here_only: only runs whose target is there. */
static void
take_ready(struct core *c, struct now now, struct txn *t, struct worker *w, bool here_only)
{
	size_t room = slots_free(w, w->poll.free);
	unsigned mask = queue_mask(c, w);
	struct load load = load_of(w);

	for (; room > 0 && t->n_runs < CORE_LEASES_MAX && txn_has_room(t, 1); room--) {
		bool company = load.runs > 0;
		struct run *run = choose(c, now, w, company ? mask & ~QUEUE_SUSPECTS : mask, &load);

		if (run == NULL || (company && kept_free(c, now, w)) || !fits(w, &load, run))
			return;
		if (here_only && !worker_holds(w, run->target_key))
			return;
		if (!gate_open(c, now, w->lane->vertical))
			return;
		w->lane->turn = (w->lane->turn + 1) % QUEUE_OLDEST_TURN;
		load_add(&load, run);
		lease(c, now, t, w, run);
		if (run->suspect)
			return;
	}
}

/* The one run that the worker asks for: a dispatch by hand goes before others, and not through what holds all back. Returns
 * false if it will never be this worker's. */
static bool
take_only(struct core *c, struct now now, struct txn *t, struct worker *w)
{
	struct run *run = run_get(c, w->poll.only);

	if (run == NULL || (run->reserved != NULL && strcmp(run->reserved->row.child, w->who.child) != 0))
		return false;
	if (run->state != RUN_QUEUED)
		return run->grant != NULL && run->grant->worker == w;
	if (run_busy(run) || slots_free(w, w->poll.free) == 0 || run->vertical->paused || run->share->paused ||
	    !gate_open(c, now, run->vertical))
		return true;
	if (run->reserved != NULL || (run->entry.pos != HEAP_NOWHERE && worker_takes(w)))
		lease(c, now, t, w, run);
	return true;
}

static void
serve(struct core *c, struct now now, struct worker *w, bool here_only)
{
	bool plain = !w->who.once && w->poll.only[0] == '\0' && !w->poll.missing && !w->over && !w->leaving;
	struct request *r = worker_request(c, w);
	bool hopeless = false;
	struct txn *t;

	if (w->poll.caller == 0 || w->committing > 0 || (plain && queue_len(&w->lane->ready, QUEUE_ALL) == 0))
		return;
	if (unwanted(c, w)) {
		poll_answer_empty(c, w, true, 0, "");
		return;
	}
	if (!ledger_ready(c, now)) {
		vertical_wake_ledger(c, w->lane->vertical);
		return;
	}
	t = txn_new(c, w->poll.caller, ANS_LEASE);
	t->worker = w;
	offer_again(c, now, t, w);
	if (w->poll.only[0] != '\0')
		hopeless = !take_only(c, now, t, w);
	else if (worker_takes(w))
		take_ready(c, now, t, w, here_only);
	if (t->n_runs > 0) {
		w->committing = t->n_runs;
		poll_close(c, w);
		txn_commit(c, t);
		return;
	}
	txn_free(c, t);
	if (w->who.once && w->n_grants == 0 && (hopeless || w->poll.only[0] == '\0')) {
		if (r != NULL)
			r->dismissed = true;
		poll_answer_empty(c, w, true, 0, "");
	}
}

void
lease_listed(struct worker *w)
{
	w->poll.missing = false;
	list_each(&w->grants, l, after)
		w->poll.missing = w->poll.missing || !holds(&w->poll, container_of(l, struct grant, of_worker)->run);
}

void
lease_serve(struct core *c, struct now now, struct worker *w)
{
	serve(c, now, w, false);
}

/* Those who have the next run's target go before those who would be served first otherwise. */
static void
match_targets(struct core *c, struct now now, struct lane *lane)
{
	list_each(&lane->waiting, l, after) {
		struct worker *w = container_of(l, struct worker, waiting);
		struct queue_entry *e = queue_best(&lane->ready, QUEUE_ALL & ~QUEUE_SUSPECTS);

		if (e == NULL || container_of(e, struct run, entry)->target_key == 0)
			return;
		if (!w->who.once && w->n_holds > 0)
			serve(c, now, w, true);
	}
}

void
lane_match(struct core *c, struct now now, struct lane *lane)
{
	if (lane->waiting.next != lane->waiting.prev)
		match_targets(c, now, lane);
	list_each(&lane->waiting, l, after)
		lease_serve(c, now, container_of(l, struct worker, waiting));
}

void
lease_done(struct core *c, struct now now, struct txn *t, bool ok, char **specs, size_t n_specs)
{
	struct worker *w = t->worker;
	struct answer *a;

	w->committing = 0;
	w->lane->dirty = true;
	if (!ok) {
		vertical_wake_ledger(c, w->lane->vertical);
		core_answer_err(c, t->caller, ANS_LEASE, "", ERR_RETRY, "the ledger could not write the lease; ask again");
		return;
	}
	(void)now;
	a = xcalloc(1, sizeof(*a));
	a->kind = ANS_LEASE;
	a->leases = xcalloc(t->n_runs, sizeof(a->leases[0]));
	for (size_t i = 0; i < t->n_runs; i++) {
		struct lease *lease_out = &a->leases[a->n_leases++];

		memcpy(lease_out->run, t->runs[i].next.id, sizeof(lease_out->run));
		lease_out->fence = t->runs[i].next.fence;
		lease_out->attempt = t->runs[i].next.attempt;
		if (i < n_specs) {
			lease_out->spec = specs[i];
			specs[i] = NULL;
		}
	}
	core_answer(c, t->caller, a);
}

void
grant_judge(struct core *c, struct run *run, const struct verdict *v)
{
	struct verdict *have = &run->grant->verdict;
	int64_t at_mono = v->at_mono;

	if (run->grant->asked != NULL)
		return;
	/* That it is lost is known, and its manifest looked for. */
	if (run->grant->seek == SEEK_ASKED && (v->event == EV_LOSE || v->event == EV_HAND_BACK))
		return;
	/* What an operator did stays the reason, and hearing of it again does not put it off. */
	if (have->at_mono != NEVER && have->event != EV_CANCEL) {
		if (have->event == EV_STOPPED)
			return;
		at_mono = have->at_mono < at_mono ? have->at_mono : at_mono;
	}
	*have = *v;
	have->at_mono = at_mono;
	run_arm(c, run);
}
