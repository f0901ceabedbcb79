/* groups.c - Nomad's groups of looping workers. Operators stop allocations and scale by hand; Nomad removes the highest indexes,
 * whatever they do, and a node may hear of it late.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define SLOW_NODE_MS 10000 /* until a worker is told that its allocation was stopped */
#define SLOW_EVAL_MS 10000 /* until Nomad has carried out a new count */

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

static void
told_to_stop(struct world *w, struct arg *arg)
{
	worker_stop(w, arg->a);
}

/* Whoever goes holds nothing. From here on nobody may give it work, whoever leads. */
static void
scaled_away(struct world *w, int proc)
{
	struct proc *p = &w->procs[proc];

	for (size_t n = 0; n < w->n_runs; n++) {
		const struct run_row *row = &w->runs[n].row;

		if ((row->state == RUN_RUNNING || row->state == RUN_CANCELING) && strcmp(row->worker, p->id) == 0)
			sim_fail(w, "%s is scaled away, and it holds %s", p->id, row->id);
	}
	p->scaled_away = true;
}

static void
goes(struct world *w, struct warm_group *g, int i)
{
	struct member *m = &g->members[i];
	struct proc *p = m->proc < 0 ? NULL : &w->procs[m->proc];

	m->there = m->stopping = false;
	if (p == NULL || !p->alive)
		return;
	if (i < g->by_hand)
		scaled_away(w, m->proc);
	g->going[g->n_going++ % (2 * GROUP_MAX)] = m->proc;
	if (sim_fault(w, 200))
		sim_at(w, sim_between(w, 1, SLOW_NODE_MS), told_to_stop, (struct arg){.a = m->proc});
	else
		worker_stop(w, m->proc);
}

/* Nomad carries out what the count says: the highest go, or the lowest that are missing come. */
static void
evaluate(struct world *w, struct arg *arg)
{
	struct warm_group *g = &w->groups[arg->a];

	for (int i = GROUP_MAX - 1; i >= g->count; i--) {
		if (g->members[i].there)
			goes(w, g, i);
	}
	for (int i = 0; i < g->count; i++) {
		if (!g->members[i].there)
			place(w, arg->a * GROUP_MAX + i);
	}
	g->by_hand = GROUP_MAX;
}

void
group_scale(struct world *w, int v, int to, bool by_scaler)
{
	struct warm_group *g = &w->groups[v];

	sim_log(w, "nomad: group %d scaled from %d to %d%s", v, g->count, to, by_scaler ? "" : " by hand");
	w->scaled += by_scaler;
	g->count = to;
	g->version++;
	if (!by_scaler && to < g->by_hand)
		g->by_hand = to;
	sim_at(w, sim_between(w, 1, sim_fault(w, 50) ? SLOW_EVAL_MS : 100), evaluate, (struct arg){.a = v});
}

/* What the dispatcher's listing of the group says. */
void
group_tell(struct world *w, int v)
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
		snprintf(text, sizeof(text), "group %d has %d workers, and %d are wanted", v, w->groups[v].count, w->group_min);
		if (w->scaled_groups && w->groups[v].count != w->group_min)
			return text;
	}
	snprintf(text, sizeof(text), "the mark on %.60s is still in the ledger", w->marks[0].alloc);
	return w->n_marks > 0 ? text : NULL;
}

void
groups_start(struct world *w)
{
	for (int v = 0; v < w->verticals; v++) {
		w->groups[v].count = GROUP_START;
		w->groups[v].by_hand = GROUP_MAX;
		for (int i = 0; i < GROUP_START; i++) {
			place(w, v * GROUP_MAX + i);
			process_starts(w, &(struct arg){.a = v * GROUP_MAX + i, .b = w->serials});
		}
	}
	if (w->scaled_groups)
		scalers_start(w);
}
