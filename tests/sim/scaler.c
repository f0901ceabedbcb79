/* scaler.c - the autoscaler: the product's own rounds (autoscale/round.c and all that decides below it: policy, strategies,
 * facts, the prediction of victims, the steps of a scale-in) in virtual time.
 *
 * A round blocks where it asks others. So the rounds of each group run on a stack of their own, which is left while an answer is
 * on its way. What a round calls to reach Nomad, the dispatcher, the lock and the clock is bound by the linker (--wrap, see
 * Makefile) to the functions at the end of this file: their messages are slow, get lost, and arrive after the round has given up
 * on them.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "autoscale/round.h"
#include "base/mem.h"

#define STACK_BYTES (256 * 1024)
#define DISPATCHER_MS 5000   /* the autoscaler gives up on the dispatcher, */
#define NOMAD_MS 30000       /* … and on Nomad */
#define SLOW_SCALE_MS 65000  /* a call that was given up may still have its effect */

struct scaler {
	struct world *w;
	int vertical;
	bool busy, dead;         /* in a round; killed: the round runs to its end and reaches nobody */
	ucontext_t inside, outside;
	struct group group;
	struct round round;
	struct backlog_vertical queue;
	bool queue_known;
	int64_t read_ms;
	uint64_t ask;            /* what it waits for, 0: nothing */
	int rc;
	uint64_t caller;         /* of the dispatcher, last; condemning */
	struct core_drain_state states[GROUP_MAX];
	size_t n_asked;
	char asked[GROUP_MAX][CORE_ALLOC_MAX];
	int condemned_by;        /* generation of the dispatcher */
};

static struct scaler scalers[VERTICALS];
static unsigned char stacks[VERTICALS][STACK_BYTES] __attribute__((aligned(64)));
static struct scaler *self;  /* whose round runs */
static struct policy policy; /* of the world's groups */
static struct config config;
static uint64_t asks;

/* --- leaving a round, and going on with it --- */

static void step(struct world *w, struct arg *arg);

static void
whole_round(void)
{
	round_run(&self->round);
	self->busy = false;
}

static void
go_on(struct scaler *s)
{
	self = s;
	swapcontext(&s->outside, &s->inside);
	self = NULL;
	if (s->busy)
		return;
	free(s->round.queue.workers);
	if (!s->dead)
		sim_at(s->w, s->round.result == ROUND_QUIET ? sim_between(s->w, 300, 3000) : 250, step, (struct arg){.a = s->vertical});
}

struct reply {
	int vertical, rc;
	uint64_t ask;
	size_t n;
	struct core_drain_state states[GROUP_MAX];
};

static void
reply_arrives(struct world *w, struct arg *arg)
{
	struct reply *r = arg->p;
	struct scaler *s = &scalers[r->vertical];

	(void)w;
	if (s->ask == r->ask) {
		s->ask = 0;
		s->rc = r->rc;
		memcpy(s->states, r->states, sizeof(s->states));
		go_on(s);
	}
	free(r);
}

static void
reply_in(struct world *w, int64_t delay_ms, struct reply r)
{
	sim_at(w, delay_ms, reply_arrives, (struct arg){.p = xmemdup(&r, sizeof(r))});
}

/* Leaves the round until the answer is there, or was waited for in vain. */
static int
wait_for(struct scaler *s, uint64_t ask, int64_t at_most_ms, struct err *e)
{
	if (!s->dead) {
		s->ask = ask;
		reply_in(s->w, at_most_ms, (struct reply){.vertical = s->vertical, .rc = ERR_RETRY, .ask = ask});
		swapcontext(&s->inside, &s->outside);
	}
	if (s->dead)
		return err_set(e, ERR_CANCELED, "the autoscaler is dead");
	return s->rc == 0 ? 0 : err_set(e, s->rc, "simulated");
}

/* --- rounds --- */

/* What the blocking read of the queue has told last. */
static void
read_queue(struct world *w, struct scaler *s)
{
	struct core_scale q[VERTICALS];
	struct core_scale_worker workers[64];
	size_t n = w->d.gen == 0 || sim_fault(w, w->mix.lose) ? 0 : core_scales(w->d.core, sim_now(w), q, VERTICALS);

	for (size_t i = 0; i < n; i++) {
		size_t n_workers;

		if (sim_vertical_of(q[i].vertical) != s->vertical)
			continue;
		free(s->queue.workers);
		s->queue = (struct backlog_vertical){.ready = (int64_t)q[i].warm_ready, .one_shots = (int64_t)q[i].one_shots_live,
		    .oldest_ms = q[i].oldest_ms, .arrivals_total = (int64_t)q[i].arrivals_total, .service_ms = q[i].service_ms_mean,
		    .idle_slots = (int64_t)q[i].idle_slots, .workers = xcalloc(64, sizeof(struct backlog_worker))};
		n_workers = core_scale_workers(w->d.core, q[i].vertical, workers, 64);
		for (size_t k = 0; k < n_workers && k < 64; k++) {
			struct backlog_worker *one = &s->queue.workers[s->queue.n_workers++];

			*one = (struct backlog_worker){.slots = workers[k].slots, .leases = (int64_t)workers[k].leases,
			    .committing = (int64_t)workers[k].committing, .drained = workers[k].mark != DRAIN_NONE};
			snprintf(one->alloc, sizeof(one->alloc), "%s", workers[k].alloc);
			s->queue.running += one->leases + one->committing;
			s->queue.slots += one->slots;
		}
		s->queue_known = true;
		s->read_ms = w->mono_ms;
	}
}

static void
begin(struct world *w, struct scaler *s)
{
	read_queue(w, s);
	s->round = (struct round){.config = &config, .group = &s->group, .queue = s->queue, .queue_known = s->queue_known,
	    .queue_read_mono_ms = s->read_ms};
	s->round.queue.workers = xmemdup(s->queue.workers, s->queue.n_workers * sizeof(*s->queue.workers));
	s->busy = true;
	getcontext(&s->inside);
	s->inside.uc_stack.ss_sp = stacks[s->vertical];
	s->inside.uc_stack.ss_size = STACK_BYTES;
	s->inside.uc_link = &s->outside;
	makecontext(&s->inside, whole_round, 0);
	go_on(s);
}

static void
born(struct world *w, struct scaler *s, int vertical)
{
	*s = (struct scaler){.w = w, .vertical = vertical};
	snprintf(s->group.job, sizeof(s->group.job), "drover-workers-%s", sim_vertical(vertical));
	snprintf(s->group.vertical, sizeof(s->group.vertical), "%s", sim_vertical(vertical));
}

/* kill -9: what it had sent is on its way, what it knew is gone. */
static void
killed(struct scaler *s)
{
	s->dead = true;
	s->ask = 0;
	if (s->busy)
		go_on(s);
	group_release(&s->group);
	free(s->queue.workers);
}

static void
step(struct world *w, struct arg *arg)
{
	struct scaler *s = &scalers[arg->a];

	if (s->busy)
		return;
	if (w->d.gen != 0) {
		group_tell(w, arg->a);
		shell_drain(w);
	}
	begin(w, s);
}

static void
torment(struct world *w, struct arg *arg)
{
	struct scaler *s = &scalers[arg->a];

	sim_at(w, sim_between(w, 300, 3000), torment, *arg);
	if (!sim_fault(w, w->mix.scaler_crash))
		return;
	sim_log(w, "autoscaler: dies and comes again");
	killed(s);
	born(w, s, arg->a);
	sim_at(w, sim_between(w, 1, 3000), step, *arg);
}

void
scalers_start(struct world *w)
{
	static const enum policy_strategy strategies[] = {STRATEGY_DROVER, STRATEGY_DROVER, STRATEGY_TARGET_VALUE, STRATEGY_PASS_THROUGH};
	struct policy_check *check = &policy.checks[0];

	w->group_min = sim_chance(w, 500);
	policy = policy_default();
	policy.min = w->group_min;
	policy.max = GROUP_MAX;
	policy.stabilise_down_ms = sim_between(w, 0, 30000);
	policy.foreign_hold_ms = sim_between(w, 1000, 60000);
	policy.cooldown_ms = sim_chance(w, 200) ? 20000 : 0;
	policy.n_checks = 1;
	*check = policy_check_default(strategies[sim_random(w) % 4]);
	check->target = (double)sim_between(w, 1, 4);
	check->drain_ms = sim_between(w, 2, 60) * 1000;
	check->service_ms = sim_between(w, 1, 60) * 1000;
	check->slots = w->slots;
	check->max_down = sim_chance(w, 300) ? 1 : 0;
	config = (struct config){.drain_ttl_ms = sim_between(w, 2, 30) * 1000, .drain_patience_ms = sim_between(w, 0, 5000)};
	for (int v = 0; v < w->verticals; v++) {
		born(w, &scalers[v], v);
		sim_at(w, sim_between(w, 1, 5000), step, (struct arg){.a = v});
		sim_at(w, 1000, torment, (struct arg){.a = v});
	}
}

void
scalers_end(struct world *w)
{
	for (int v = 0; v < w->verticals && w->scaled_groups; v++)
		killed(&scalers[v]);
}

/* --- condemning --- */

void
scaler_check_answer(struct world *w, uint64_t caller, const struct answer *a)
{
	for (int v = 0; v < w->verticals && a->err.code == 0; v++) {
		const struct scaler *s = &scalers[v];

		for (size_t i = 0; i < s->n_asked && s->caller == caller; i++) {
			if (ledger_mark(w, s->asked[i]) == NULL)
				sim_fail(w, "%s is told to be condemned, and the ledger does not say so", s->asked[i]);
		}
	}
}

void
scaler_answer(struct world *w, uint64_t caller, const struct answer *a)
{
	struct scaler *s = &scalers[w->calls[caller - 1].who];

	if (s->caller != caller || s->ask == 0)
		return;
	w->condemned += a->err.code == 0 && s->n_asked > 0;
	s->condemned_by = w->d.gen;
	if (a->err.code == 0 && w->d.gen != 0 && sim_fault(w, w->mix.depose * 4))
		shell_depose(w);
	else if (a->err.code == 0 && w->d.gen != 0 && sim_fault(w, w->mix.crash * 30))
		shell_crash(w);
	s->ask = 0;
	s->rc = a->err.code;
	go_on(s);
}

struct drain_msg {
	int vertical, indexes[GROUP_MAX];
	uint64_t ask, caller, version;
	int64_t ttl_ms;
	size_t n;
	char allocs[GROUP_MAX][CORE_ALLOC_MAX];
};

/* The one that is asked may have been deposed without knowing it. */
static void
condemn_arrives(struct world *w, struct arg *arg)
{
	struct drain_msg *m = arg->p;
	struct core_drain d = {.allocs = (const char(*)[CORE_ALLOC_MAX])m->allocs, .n = m->n, .ttl_ms = m->ttl_ms,
	    .vertical = sim_vertical(m->vertical), .indexes = m->indexes, .version = m->version};
	char owner[CORE_OWNER_MAX];
	bool old = w->d.gen != 0 && w->old.gen != 0 && sim_chance(w, 500);
	struct call *k;

	snprintf(owner, sizeof(owner), "condemn/%s", sim_vertical(m->vertical));
	d.owner = owner;
	if (old)
		shell_trade_places(w);
	k = shell_arrived(w, m->caller);
	if (k != NULL) {
		core_condemn(w->d.core, sim_now(w), (uint64_t)(k - w->calls) + 1, &d);
		shell_drain(w);
	}
	if (old)
		shell_trade_places(w);
	free(m);
}

static void
drain_arrives(struct world *w, struct arg *arg)
{
	struct drain_msg *m = arg->p;
	struct core_drain d = {.owner = sim_vertical(m->vertical), .allocs = (const char(*)[CORE_ALLOC_MAX])m->allocs, .n = m->n,
	    .ttl_ms = m->ttl_ms};
	struct reply r = {.vertical = m->vertical, .ask = m->ask, .n = m->n};
	struct err e;

	if (w->d.gen != 0) {
		r.rc = core_drain(w->d.core, sim_now(w), &d, r.states, &e);
		shell_drain(w);
		if (!sim_fault(w, w->mix.lose))
			reply_in(w, sim_between(w, 0, sim_fault(w, 50) ? 6000 : 5), r);
	}
	free(m);
}

/* --- what the rounds call --- */

int64_t __real_clock_mono_ms(void);
int64_t __real_clock_real_ms(void);
int64_t __wrap_clock_mono_ms(void);
int64_t __wrap_clock_real_ms(void);
bool __wrap_leader_held(const struct leader *l);
int __wrap_view_read(struct nomad *n, const char *job, struct view *ret, struct err *e);
int __wrap_nomad_draining_nodes(struct nomad *n, json_t **ret_ids, struct err *e);
int __wrap_nomad_scale_note(struct nomad *n, const char *job, const char *group, bool error, const char *message, const json_t *meta,
    struct err *e);
int __wrap_nomad_scale(struct nomad *n, const char *job, const char *group, int64_t count, uint64_t modify_index, const char *message,
    const json_t *meta, struct err *e);
int __wrap_backlog_drain(struct backlog *q, const char *vertical, char (*allocs)[40], size_t n, int64_t ttl_s,
    struct drain_state *states, struct err *e);
int __wrap_backlog_condemn(struct backlog *q, const char *vertical, char (*allocs)[40], const int64_t *indexes, size_t n,
    uint64_t version, int64_t ttl_s, struct err *e);

int64_t
__wrap_clock_mono_ms(void)
{
	return self != NULL ? self->w->mono_ms : __real_clock_mono_ms();
}

int64_t
__wrap_clock_real_ms(void)
{
	return self != NULL ? sim_now(self->w).real_ms : __real_clock_real_ms();
}

bool
__wrap_leader_held(const struct leader *l)
{
	(void)l;
	return !self->dead && !sim_fault(self->w, self->w->mix.scaler_crash);
}

/* The group as Nomad has it at this moment. */
static void
view_make(struct scaler *s, struct view *v)
{
	const struct world *w = s->w;
	const struct warm_group *g = &w->groups[s->vertical];

	*v = (struct view){.stanza = {.ours = true, .count = g->count, .policy = policy}, .modify_index = (uint64_t)g->version,
	    .allocs = xcalloc(3 * GROUP_MAX, sizeof(*v->allocs))};
	snprintf(v->stanza.group, sizeof(v->stanza.group), "workers");
	for (int i = 0; i < GROUP_MAX; i++) {
		const struct member *m = &g->members[i];
		struct group_alloc *a = &v->allocs[v->n];

		if (!m->there)
			continue;
		*a = (struct group_alloc){.index = i, .desired_run = true, .migrating = m->stopping,
		    .status = m->proc >= 0 && w->procs[m->proc].alive ? ALLOC_RUNNING : ALLOC_PENDING};
		group_alloc(s->vertical * GROUP_MAX + i, m->serial, a->id);
		v->n++;
	}
	for (size_t i = 0; i < g->n_going && i < 2 * GROUP_MAX; i++) {
		const struct proc *p = &w->procs[g->going[i]];
		struct group_alloc *a = &v->allocs[v->n++];

		*a = (struct group_alloc){.index = p->slot % GROUP_MAX, .status = p->alive ? ALLOC_RUNNING : ALLOC_ENDED};
		snprintf(a->id, sizeof(a->id), "%.39s", p->alloc);
	}
}

static int64_t
nomad_takes_ms(struct world *w)
{
	return sim_between(w, 1, sim_fault(w, 30) ? 20000 : 50);
}

/* What Nomad tells is of the time when it was asked, when it answered, or between. */
int
__wrap_view_read(struct nomad *n, const char *job, struct view *ret, struct err *e)
{
	struct scaler *s = self;
	uint64_t ask = ++asks;
	bool fails = sim_fault(s->w, s->w->mix.nomad_away), early = sim_chance(s->w, 500);
	int rc;

	(void)n;
	(void)job;
	*ret = (struct view){0};
	if (early)
		view_make(s, ret);
	if (!s->dead)
		reply_in(s->w, nomad_takes_ms(s->w), (struct reply){.vertical = s->vertical, .ask = ask, .rc = fails ? ERR_RETRY : 0});
	rc = wait_for(s, ask, NOMAD_MS, e);
	if (rc == 0 && !early)
		view_make(s, ret);
	if (rc != 0)
		view_release(ret);
	return rc;
}

int
__wrap_nomad_draining_nodes(struct nomad *n, json_t **ret_ids, struct err *e)
{
	(void)n;
	(void)e;
	*ret_ids = json_array();
	return 0;
}

int
__wrap_nomad_scale_note(struct nomad *n, const char *job, const char *group, bool error, const char *message, const json_t *meta,
    struct err *e)
{
	(void)n, (void)job, (void)group, (void)error, (void)message, (void)meta, (void)e;
	return 0;
}

struct scale_msg {
	int vertical, to, version, condemned_by;
	uint64_t ask;
};

static void
scale_arrives(struct world *w, struct arg *arg)
{
	struct scale_msg *m = arg->p;
	struct warm_group *g = &w->groups[m->vertical];
	struct reply r = {.vertical = m->vertical, .ask = m->ask, .rc = g->version == m->version ? 0 : ERR_CONFLICT};

	if (r.rc == 0) {
		w->between += m->to < g->count && m->condemned_by != 0 && w->d.gen != m->condemned_by;
		group_scale(w, m->vertical, m->to, true);
	}
	if (!sim_fault(w, w->mix.lose))
		reply_in(w, sim_between(w, 0, 50), r);
	free(m);
}

int
__wrap_nomad_scale(struct nomad *n, const char *job, const char *group, int64_t count, uint64_t modify_index, const char *message,
    const json_t *meta, struct err *e)
{
	struct scaler *s = self;
	struct world *w = s->w;
	struct scale_msg m = {.vertical = s->vertical, .to = (int)count, .version = (int)modify_index, .ask = ++asks,
	    .condemned_by = s->condemned_by};

	(void)n, (void)job, (void)group, (void)message, (void)meta;
	for (int copies = s->dead || sim_fault(w, w->mix.lose) ? 0 : sim_fault(w, w->mix.dup) ? 2 : 1; copies > 0; copies--)
		sim_at(w, sim_between(w, 1, sim_fault(w, 100) ? SLOW_SCALE_MS : 300), scale_arrives, (struct arg){.p = xmemdup(&m, sizeof(m))});
	return wait_for(s, m.ask, NOMAD_MS, e);
}

/* Sends it, sometimes late or never, and waits for what is answered. */
static int
ask_dispatcher(struct scaler *s, struct drain_msg *m, event_fn *arrives, char (*allocs)[40], struct err *e)
{
	struct world *w = s->w;

	m->vertical = s->vertical;
	m->ask = ++asks;
	for (size_t i = 0; i < m->n; i++)
		snprintf(m->allocs[i], sizeof(m->allocs[i]), "%s", allocs[i]);
	if (!s->dead && !sim_fault(w, w->mix.lose))
		sim_at(w, sim_between(w, 0, sim_fault(w, 50) ? 10000 : 5), arrives, (struct arg){.p = xmemdup(m, sizeof(*m))});
	return wait_for(s, m->ask, DISPATCHER_MS, e);
}

int
__wrap_backlog_drain(struct backlog *q, const char *vertical, char (*allocs)[40], size_t n, int64_t ttl_s,
    struct drain_state *states, struct err *e)
{
	struct scaler *s = self;
	struct drain_msg m = {.ttl_ms = ttl_s * 1000, .n = n};
	int rc;

	(void)q, (void)vertical;
	rc = ask_dispatcher(s, &m, drain_arrives, allocs, e);
	for (size_t i = 0; i < n && states != NULL && rc == 0; i++) {
		snprintf(states[i].alloc, sizeof(states[i].alloc), "%s", allocs[i]);
		states[i].busy = s->states[i].leases + s->states[i].committing > 0;
	}
	return rc;
}

int
__wrap_backlog_condemn(struct backlog *q, const char *vertical, char (*allocs)[40], const int64_t *indexes, size_t n,
    uint64_t version, int64_t ttl_s, struct err *e)
{
	struct scaler *s = self;
	struct drain_msg m = {.ttl_ms = ttl_s * 1000, .n = n, .version = version};
	int rc;

	(void)q, (void)vertical;
	for (size_t i = 0; i < n; i++)
		m.indexes[i] = (int)indexes[i];
	if (!s->dead) {
		s->caller = m.caller = shell_call(s->w, CALL_CONDEMN, s->vertical);
		s->n_asked = n;
		for (size_t i = 0; i < n; i++)
			snprintf(s->asked[i], sizeof(s->asked[i]), "%s", allocs[i]);
	}
	rc = ask_dispatcher(s, &m, condemn_arrives, allocs, e);
	if (rc == ERR_RETRY && m.caller != 0)
		shell_gone(s->w, m.caller);
	return rc;
}
