/* groups.c - Nomad's groups of looping workers, and an autoscaler that works with them as the real one does: it predicts whom Nomad
 * will stop, has exactly those drained, waits, condemns, looks once more, and scales. It crashes, its calls get lost, operators stop
 * allocations and scale by hand meanwhile. Nomad removes the highest indexes, whatever they do.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define DRAIN_TTL_MS 30000
#define DRAIN_MS 60000    /* the scaler gives up a scale-in that takes longer */
#define RELOOK_MS 1000    /* at most, from the answer to the condemn to the last look */
#define SCALE_MS 300      /* … and from there to Nomad: together within the dispatcher's hold after a start */

static struct member *
member_at(struct world *w, int slot)
{
	return &w->groups[slot / GROUP_MAX].members[slot % GROUP_MAX];
}

char *
group_alloc(int slot, int serial, char out[CORE_ALLOC_MAX])
{
	snprintf(out, CORE_ALLOC_MAX, "group-%d-%d", slot, serial);
	return out;
}

static void
process_starts(struct world *w, struct arg *arg)
{
	struct member *m = member_at(w, arg->a);

	if (m->there && m->serial == arg->b && (m->proc < 0 || !w->procs[m->proc].alive))
		m->proc = worker_start(w, -1, arg->a);
}

static void
place(struct world *w, int slot)
{
	struct member *m = member_at(w, slot);

	*m = (struct member){.there = true, .serial = ++w->serials, .proc = -1};
	sim_log(w, "nomad: allocation group-%d-%d placed", slot, m->serial);
	sim_at(w, sim_between(w, 1000, sim_fault(w, 100) ? 40000 : 5000), process_starts, (struct arg){.a = slot, .b = m->serial});
}

static void
group_fact(struct world *w, const struct proc *p, bool crash, bool oom)
{
	struct core_child *fact = xcalloc(1, sizeof(*fact));

	*fact = (struct core_child){.state = CHILD_ENDED, .crash = crash, .oom = oom, .partial = true, .alloc_stopped = p->stop_ms != 0};
	sim_group(p->vertical, fact->child);
	snprintf(fact->alloc, sizeof(fact->alloc), "%s", p->alloc);
	nomad_tell_fact(w, fact);
}

void
group_proc_ended(struct world *w, int proc, bool crash, bool oom)
{
	struct proc *p = &w->procs[proc];
	struct member *m = member_at(w, p->slot);

	group_fact(w, p, crash, oom);
	if (!m->there || m->serial != p->serial)
		return;
	if (m->stopping) /* by hand: Nomad puts another one in its place */
		place(w, p->slot);
	else
		sim_at(w, sim_between(w, 3000, 6000), process_starts, (struct arg){.a = p->slot, .b = m->serial});
}

/* The count changes: the highest go, or the lowest that are missing come. */
static void
group_scale(struct world *w, int v, int to, bool by_scaler)
{
	struct group *g = &w->groups[v];

	sim_log(w, "nomad: group %d scaled from %d to %d%s", v, g->count, to, by_scaler ? "" : " by hand");
	w->scaled += by_scaler;
	g->count = to;
	g->version++;
	for (int i = GROUP_MAX - 1; i >= to; i--) {
		struct member *m = &g->members[i];
		struct proc *p = m->proc < 0 ? NULL : &w->procs[m->proc];

		if (!m->there)
			continue;
		m->there = m->stopping = false;
		if (p == NULL || !p->alive)
			continue;
		for (size_t n = 0; n < w->n_runs && by_scaler; n++) {
			const struct run_row *row = &w->runs[n].row;

			if ((row->state == RUN_RUNNING || row->state == RUN_CANCELING) && strcmp(row->worker, p->id) == 0)
				sim_fail(w, "%s is scaled away, and it holds %s", p->id, row->id);
		}
		p->scaled_away = by_scaler ? w->scalers[v].gen : 0;
		worker_stop(w, m->proc);
	}
	for (int i = 0; i < to; i++) {
		if (!g->members[i].there)
			place(w, v * GROUP_MAX + i);
	}
}

/* --- the autoscaler --- */

static void
forget(struct scaler *s)
{
	*s = (struct scaler){.phase = SCALER_IDLE};
}

static void
undo(struct world *w, int v)
{
	struct core_drain d = {.owner = sim_vertical(v), .ttl_ms = DRAIN_TTL_MS};
	struct err e;

	forget(&w->scalers[v]);
	if (w->d.gen != 0 && !sim_fault(w, w->mix.lose))
		core_drain(w->d.core, sim_now(w), &d, NULL, &e);
}

/* Whom Nomad will stop: the allocations with the highest indexes. Returns how many, 0 if that cannot be told. */
static size_t
victims(const struct world *w, int v, int to, char allocs[GROUP_MAX][CORE_ALLOC_MAX])
{
	const struct group *g = &w->groups[v];
	size_t n = 0;

	for (int i = to; i < GROUP_MAX; i++) {
		if (g->members[i].stopping)
			return 0;
		if (g->members[i].there)
			group_alloc(v * GROUP_MAX + i, g->members[i].serial, allocs[n++]);
	}
	return n;
}

static bool
same_victims(const struct world *w, int v)
{
	const struct scaler *s = &w->scalers[v];
	char allocs[GROUP_MAX][CORE_ALLOC_MAX];
	size_t n = victims(w, v, s->to, allocs);

	for (size_t i = 0; i < n && n == s->n; i++) {
		if (strcmp(allocs[i], s->allocs[i]) != 0)
			return false;
	}
	return n > 0 && n == s->n && w->groups[v].version == s->version;
}

static void
scale_arrives(struct world *w, struct arg *arg)
{
	if (w->groups[arg->a].version == (int)arg->u) /* the job's modify index */
		group_scale(w, arg->a, arg->b, true);
	forget(&w->scalers[arg->a]);
}

static void
scale_call(struct world *w, int v, int to)
{
	if (sim_fault(w, w->mix.lose))
		forget(&w->scalers[v]);
	else
		sim_at(w, sim_between(w, 1, SCALE_MS), scale_arrives, (struct arg){.a = v, .b = to, .u = (uint64_t)w->groups[v].version});
}

static void
look_again(struct world *w, struct arg *arg)
{
	if (w->scalers[arg->a].phase != SCALER_CONDEMNED || w->scalers[arg->a].life != arg->b)
		return;
	if (same_victims(w, arg->a))
		scale_call(w, arg->a, w->scalers[arg->a].to);
	else
		undo(w, arg->a);
}

/* Drains, or condemns once they hold nothing. */
static void
press(struct world *w, int v)
{
	struct scaler *s = &w->scalers[v];
	struct core_drain d = {.owner = sim_vertical(v), .allocs = (const char(*)[CORE_ALLOC_MAX])s->allocs, .n = s->n, .ttl_ms = DRAIN_TTL_MS};
	struct core_drain_state states[GROUP_MAX];
	size_t busy = 0;
	struct err e;

	if (sim_fault(w, w->mix.lose) || core_drain(w->d.core, sim_now(w), &d, states, &e) != 0)
		return;
	for (size_t i = 0; i < s->n; i++)
		busy += states[i].leases + states[i].committing;
	if (busy > 0 && w->mono_ms - s->since_ms > DRAIN_MS) {
		undo(w, v);
		return;
	}
	d.condemn = true;
	/* Sometimes it tries with workers that are busy: it must be told so. */
	if ((busy > 0 && !sim_chance(w, 200)) || core_drain(w->d.core, sim_now(w), &d, states, &e) != 0 || sim_fault(w, w->mix.lose))
		return;
	if (busy > 0)
		sim_fail(w, "workers of group %d were condemned while they held %zu leases", v, busy);
	s->gen = w->d.gen;
	if (sim_fault(w, w->mix.depose * 4))
		shell_depose(w); /* just now: the next one knows nothing of it */
	s->phase = SCALER_CONDEMNED;
	s->life = ++w->serials;
	sim_at(w, sim_between(w, 1, RELOOK_MS), look_again, (struct arg){.a = v, .b = s->life});
}

static void
scaler_group(struct world *w, int v, const struct core_scale *q)
{
	struct scaler *s = &w->scalers[v];
	struct group *g = &w->groups[v];
	int want = (int)((q->warm_ready + q->running + w->slots - 1) / w->slots);

	if (sim_fault(w, 100))
		want = (int)sim_between(w, 0, GROUP_MAX);
	want = want > GROUP_MAX ? GROUP_MAX : want < 1 && !w->faults ? 1 : want;
	if (s->phase == SCALER_CONDEMNED)
		return;
	if (s->phase == SCALER_DRAINING && (want > s->to || s->version != g->version)) {
		undo(w, v);
	} else if (s->phase == SCALER_DRAINING) {
		press(w, v);
	} else if (want > g->count) {
		scale_call(w, v, want);
	} else if (want < g->count) {
		*s = (struct scaler){.phase = SCALER_DRAINING, .to = want, .version = g->version, .since_ms = w->mono_ms};
		s->n = victims(w, v, want, s->allocs);
		if (s->n == 0)
			forget(s);
		else
			press(w, v);
	}
}

/* What the dispatcher's listing of the group says. */
static void
tell_group(struct world *w, int v)
{
	struct core_warm fact = {.group = true};

	for (int i = 0; i < GROUP_MAX; i++) {
		const struct member *m = &w->groups[v].members[i];

		if (m->there && (m->proc < 0 || !w->procs[m->proc].registered) && w->groups[v].told_ms[i] == 0)
			w->groups[v].told_ms[i] = w->mono_ms;
		if (!m->there || (m->proc >= 0 && w->procs[m->proc].registered))
			w->groups[v].told_ms[i] = 0;
		fact.starting_slots += w->groups[v].told_ms[i] != 0 && w->mono_ms - w->groups[v].told_ms[i] < 90000 ? w->slots : 0;
	}
	snprintf(fact.vertical, sizeof(fact.vertical), "%s", sim_vertical(v));
	core_warm(w->d.core, sim_now(w), &fact);
}

static void
scaler_step(struct world *w, struct arg *arg)
{
	struct core_scale q[VERTICALS];
	size_t n;

	sim_at(w, sim_between(w, 300, 3000), scaler_step, *arg);
	for (int v = 0; v < w->verticals; v++) {
		if (sim_fault(w, w->mix.scaler_crash))
			forget(&w->scalers[v]); /* what it had drained stays so until the marks end */
	}
	if (w->d.gen == 0)
		return;
	n = core_scales(w->d.core, sim_now(w), q, VERTICALS);
	for (size_t i = 0; i < n && w->d.gen != 0; i++) {
		int v = sim_vertical_of(q[i].vertical);

		tell_group(w, v);
		scaler_group(w, v, &q[i]);
		shell_drain(w);
	}
}

/* --- what happens to groups --- */

static void
lost_process_dies(struct world *w, struct arg *arg)
{
	struct proc *p = &w->procs[arg->a];

	if (!p->alive)
		return;
	p->alive = false;
	group_fact(w, p, true, false);
}

void
group_torment(struct world *w)
{
	int v = (int)(sim_random(w) % (uint64_t)w->verticals), i = (int)(sim_random(w) % GROUP_MAX);
	struct member *m = &w->groups[v].members[i];
	struct proc *p = m->proc < 0 ? NULL : &w->procs[m->proc];

	if (!w->embedded && sim_chance(w, w->mix.hand_scale)) {
		group_scale(w, v, (int)sim_between(w, 0, GROUP_MAX), false);
		return;
	}
	if (!m->there || p == NULL || !p->alive || w->embedded)
		return;
	if (sim_chance(w, w->mix.alloc_stop) && !m->stopping) {
		sim_log(w, "operator: nomad alloc stop %s", p->alloc);
		m->stopping = true;
		worker_stop(w, m->proc);
	} else if (sim_chance(w, w->mix.node_loss)) {
		sim_log(w, "nomad: the node of %s is lost, another allocation takes its place", p->alloc);
		p->cut_until_ms = INT64_MAX;
		sim_at(w, sim_between(w, 10000, 100000), lost_process_dies, (struct arg){.a = m->proc});
		place(w, v * GROUP_MAX + i);
	}
}

void
groups_heal(struct world *w)
{
	for (int v = 0; v < w->verticals && !w->scaled_groups; v++) {
		if (w->groups[v].count == 0)
			group_scale(w, v, GROUP_START, false);
	}
}

const char *
group_restless(struct world *w)
{
	static char text[120];
	struct core_scale_worker workers[64];

	for (int v = 0; v < w->verticals; v++) {
		size_t n = w->d.gen == 0 ? 0 : core_scale_workers(w->d.core, sim_vertical(v), workers, 64);

		for (size_t i = 0; i < n && i < 64; i++) {
			snprintf(text, sizeof(text), "%.60s is still drained (%d)", workers[i].worker, workers[i].mark);
			if (workers[i].mark != DRAIN_NONE)
				return text;
		}
		snprintf(text, sizeof(text), "group %d has %d workers, and 1 is wanted", v, w->groups[v].count);
		if (w->scaled_groups && w->groups[v].count != 1)
			return text;
	}
	return NULL;
}

void
groups_start(struct world *w)
{
	for (int v = 0; v < w->verticals; v++) {
		w->groups[v].count = GROUP_START;
		for (int i = 0; i < GROUP_START; i++) {
			place(w, v * GROUP_MAX + i);
			process_starts(w, &(struct arg){.a = v * GROUP_MAX + i, .b = w->serials});
		}
	}
	if (w->scaled_groups)
		sim_at(w, sim_between(w, 1, 5000), scaler_step, (struct arg){0});
}
