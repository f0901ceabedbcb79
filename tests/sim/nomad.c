/* nomad.c - the simulated Nomad: children, their allocations, calls that get lost or come twice, a lossy event stream, and chaos. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static bool
terminal(const struct child *ch)
{
	return ch->state == CHILD_ENDED || ch->purged;
}

static void
tell_arrives(struct world *w, struct arg *arg)
{
	struct core_child *ch = arg->p;

	if (w->d.gen != 0 && w->d.gen == arg->a) {
		core_child(w->d.core, sim_now(w), ch);
		shell_drain(w);
	}
	free(ch);
}

static struct core_child *
describe(const struct child *c, bool partial)
{
	struct core_child *ch = xcalloc(1, sizeof(*ch));

	ch->seq = c->seq;
	ch->state = c->purged ? CHILD_GONE : c->state;
	ch->stopped = c->stopped && !partial;
	ch->partial = partial;
	ch->crash = c->crash;
	ch->oom = c->oom;
	ch->alloc_stopped = c->state == CHILD_ENDED && (c->alloc_stopped || (partial && c->stopped));
	snprintf(ch->child, sizeof(ch->child), "%s", c->name);
	if (c->state >= CHILD_STARTING)
		snprintf(ch->alloc, sizeof(ch->alloc), "%.28s-%d", strrchr(c->name, '-') + 1, c->alloc);
	ch->never = c->blocked && c->seq % 2 == 0 && c->state == CHILD_PENDING && !c->purged;
	if (c->blocked)
		snprintf(ch->why, sizeof(ch->why), "memory exhausted on 1 node");
	return ch;
}

void
nomad_tell(struct world *w, int child, bool partial)
{
	int copies = sim_fault(w, w->mix.lose_event) ? 0 : sim_fault(w, w->mix.dup) ? 2 : 1;

	for (int i = 0; i < copies; i++)
		sim_at(w, sim_between(w, 1, sim_fault(w, 100) ? 15000 : 300), tell_arrives,
		    (struct arg){.a = w->d.gen, .p = describe(&w->children[child], partial)});
}

void
nomad_tell_fact(struct world *w, struct core_child *fact)
{
	if (sim_fault(w, w->mix.lose_event))
		free(fact);
	else
		sim_at(w, sim_between(w, 1, 300), tell_arrives, (struct arg){.a = w->d.gen, .p = fact});
}

static void
child_state(struct world *w, int child, enum child_state state)
{
	struct child *ch = &w->children[child];

	sim_log(w, "nomad: child %s state %d -> %d%s%s%s", ch->name, ch->state, state, ch->stopped ? " stopped" : "",
	    ch->alloc_stopped ? " alloc_stopped" : "", ch->crash ? " crash" : "");
	ch->state = state;
	nomad_tell(w, child, sim_chance(w, 500));
}

static void
start_task(struct world *w, struct arg *arg)
{
	struct child *ch = &w->children[arg->a];

	if (ch->state != CHILD_STARTING || ch->stopped || ch->purged || ch->alloc != arg->b)
		return;
	ch->proc = worker_start(w, arg->a, -1);
	child_state(w, arg->a, CHILD_RUNNING);
}

static void
place(struct world *w, struct arg *arg)
{
	struct child *ch = &w->children[arg->a];

	if (ch->state != CHILD_PENDING || ch->stopped || ch->purged)
		return;
	if (ch->blocked && w->faults) {
		nomad_tell(w, arg->a, false);
		sim_at(w, 10000, place, *arg);
		return;
	}
	ch->alloc = arg->b;
	ch->blocked = false;
	child_state(w, arg->a, CHILD_STARTING);
	if (sim_fault(w, 30)) { /* the driver fails */
		ch->crash = true;
		child_state(w, arg->a, CHILD_ENDED);
		return;
	}
	sim_at(w, sim_between(w, 50, sim_fault(w, 100) ? 60000 : 800), start_task, *arg);
}

int
nomad_child(struct world *w, const char *name, uint64_t seq, int vertical, enum run_class class, int run)
{
	int i = (int)w->n_children++;
	struct child *ch = &w->children[i];

	if (w->n_children > MAX_CHILDREN)
		sim_fail(w, "more than %d children: something spins", MAX_CHILDREN);
	*ch = (struct child){.seq = seq, .vertical = vertical, .class = class, .proc = -1, .run = run, .blocked = sim_fault(w, w->mix.blocked)};
	snprintf(ch->name, sizeof(ch->name), "%s", name);
	sim_log(w, "nomad: child %s made for %llu", name, (unsigned long long)seq);
	sim_at(w, sim_between(w, 5, 200), place, (struct arg){.a = i, .b = 1});
	return i;
}

/* --- calls of the dispatcher --- */

struct nomad_call {
	struct request_row req;
	enum effect_kind kind;
	bool copy;             /* a late copy, or the answer is lost: nobody is told */
	enum dispatch_result result;
	char child[CORE_CHILD_MAX];
	bool ok;
};

static int
child_find(struct world *w, const struct request_row *req)
{
	for (size_t i = 0; i < w->n_children; i++) {
		const struct child *ch = &w->children[i];

		if (!ch->purged && (req->child[0] != '\0' ? strcmp(ch->name, req->child) == 0 : ch->seq == req->seq))
			return (int)i;
	}
	return -1;
}

static void
call_answered(struct world *w, struct arg *arg)
{
	struct nomad_call *k = arg->p;

	if (w->d.gen != 0 && w->d.gen == arg->a) {
		if (k->kind == EFF_DISPATCH)
			core_dispatched(w->d.core, sim_now(w), k->req.seq, k->result, k->child, "the call failed");
		else if (k->kind == EFF_PURGE)
			core_purged(w->d.core, sim_now(w), k->req.seq, k->ok);
		else if (k->kind == EFF_INQUIRE)
			core_inquiry_failed(w->d.core, sim_now(w), k->req.child);
		shell_drain(w);
	}
	free(k);
}

static size_t
in_window(struct world *w, int vertical)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n_children; i++)
		n += w->children[i].vertical == vertical && w->children[i].seq != 0 && !w->children[i].late && !terminal(&w->children[i]);
	return n;
}

static void
dispatch_arrives(struct world *w, struct nomad_call *k)
{
	const struct request_row *row = ledger_request(w, k->req.seq);
	int i = child_find(w, &(struct request_row){.seq = k->req.seq});
	char name[64];

	if (row == NULL)
		sim_fail(w, "dispatch for request %llu, which is not in the ledger", (unsigned long long)k->req.seq);
	if (i < 0 && k->result == DISPATCH_REFUSED)
		return;
	if (i < 0) {
		int vertical = sim_vertical_of(k->req.vertical);

		snprintf(name, sizeof(name), "drover-run-%s/dispatch-%llu-%x", k->req.vertical, (unsigned long long)k->req.seq,
		    (unsigned)w->n_children);
		i = nomad_child(w, name, k->req.seq, vertical, k->req.class, -1);
		w->children[i].late = row->state == REQ_DONE || row->child[0] != '\0';
		if (in_window(w, vertical) > w->window)
			sim_fail(w, "%zu one-shots of a vertical in Nomad, the window is %u", in_window(w, vertical), w->window);
	}
	if (k->result == DISPATCH_OK)
		snprintf(k->child, sizeof(k->child), "%s", w->children[i].name);
}

static void
stop_arrives(struct world *w, int i)
{
	struct child *ch = &w->children[i];

	if (ch->stopped)
		return;
	ch->stopped = true;
	if (ch->state == CHILD_PENDING || ch->state == CHILD_STARTING)
		child_state(w, i, CHILD_ENDED);
	else if (ch->state == CHILD_RUNNING)
		worker_stop(w, ch->proc);
	nomad_tell(w, i, false);
}

static void
purge_arrives(struct world *w, struct nomad_call *k)
{
	int i = child_find(w, &k->req);
	struct child *ch = i < 0 ? NULL : &w->children[i];

	k->ok = true;
	if (ch == NULL)
		return;
	/* A stopped child on a lost node may be purged; the node may return in that very moment. */
	if (ch->state != CHILD_ENDED && !(ch->stopped && ch->was_lost))
		sim_fail(w, "purge of child %s, which has not ended", ch->name);
	for (size_t n = 0; n < w->n_runs; n++) {
		const struct run_row *row = &w->runs[n].row;

		if (row->request == k->req.seq && (row->state == RUN_RUNNING || row->state == RUN_CANCELING))
			sim_fail(w, "purge of child %s before the outcome of %s", ch->name, row->id);
	}
	sim_log(w, "nomad: child %s purged", ch->name);
	ch->purged = true;
	nomad_tell(w, i, false);
}

static void
call_arrives(struct world *w, struct arg *arg)
{
	struct nomad_call *k = arg->p;
	int i;

	if (k->kind == EFF_DISPATCH)
		dispatch_arrives(w, k);
	else if (k->kind == EFF_PURGE)
		purge_arrives(w, k);
	i = k->kind == EFF_STOP || k->kind == EFF_INQUIRE ? child_find(w, &k->req) : -1;
	if (k->kind == EFF_STOP && i >= 0)
		stop_arrives(w, i);
	if (k->copy || k->kind == EFF_STOP) {
		free(k);
		return;
	}
	if (k->kind == EFF_INQUIRE && i >= 0) {
		sim_at(w, sim_between(w, 1, 200), tell_arrives, (struct arg){.a = arg->a, .p = describe(&w->children[i], false)});
		free(k);
		return;
	}
	sim_at(w, sim_between(w, 1, 50), call_answered, *arg);
}

void
nomad_effect(struct world *w, const struct effect *e)
{
	struct nomad_call *k = xcalloc(1, sizeof(*k));
	struct nomad_call *late;

	if (w->embedded)
		sim_fail(w, "Nomad is asked for something, and there is none");
	if (e->req.adopted && e->kind != EFF_INQUIRE)
		sim_fail(w, "hand-made child %s is dispatched, stopped or purged", e->req.child);
	k->req = e->req;
	k->kind = e->kind;
	k->result = sim_fault(w, w->mix.refused) ? DISPATCH_REFUSED : DISPATCH_OK;
	sim_log(w, "dispatcher: %s request %llu %s",
	    e->kind == EFF_DISPATCH ? "dispatch" : e->kind == EFF_STOP ? "stop" : e->kind == EFF_PURGE ? "purge" : "inquire",
	    (unsigned long long)e->req.seq, e->req.child);
	/* A copy of a stop or a purge that a proxy kept and sends much later. */
	if ((k->kind == EFF_STOP || k->kind == EFF_PURGE) && sim_fault(w, w->mix.dup)) {
		late = xmemdup(k, sizeof(*k));
		late->copy = true;
		sim_at(w, sim_between(w, 1, 90000), call_arrives, (struct arg){.a = w->d.gen, .p = late});
	}
	if (!sim_fault(w, w->mix.lose)) {
		sim_at(w, sim_between(w, 1, 30), call_arrives, (struct arg){.a = w->d.gen, .p = k});
		return;
	}
	/* The call or its answer is lost: the dispatcher hears of a failure, Nomad may still act, now or much later. */
	if (k->kind != EFF_INQUIRE && sim_chance(w, 600)) {
		late = xmemdup(k, sizeof(*k));
		late->copy = true;
		sim_at(w, sim_between(w, 1, sim_chance(w, 200) ? 60000 : 200), call_arrives, (struct arg){.a = w->d.gen, .p = late});
	}
	k->result = DISPATCH_RETRY;
	sim_at(w, sim_between(w, 50, 3000), call_answered, (struct arg){.a = w->d.gen, .p = k});
}

/* --- listings --- */

struct snapshot {
	size_t n;
	struct core_child *children[MAX_CHILDREN];
};

static void
snapshot_free(void *arg)
{
	struct snapshot *s = arg;

	for (size_t i = 0; i < s->n; i++)
		free(s->children[i]);
	free(s);
}

static void
listing_arrives(struct world *w, struct arg *arg)
{
	struct snapshot *s = arg->p;

	for (size_t i = 0; i < s->n; i++) {
		if (w->d.gen != 0 && w->d.gen == arg->a) {
			core_child(w->d.core, sim_now(w), s->children[i]);
			shell_drain(w);
		}
	}
	if (w->d.gen != 0 && w->d.gen == arg->a) {
		core_listing_end(w->d.core, sim_now(w));
		shell_drain(w);
	}
	snapshot_free(s);
	if (w->d.gen != 0 && w->d.gen == arg->a)
		sim_at(w, sim_between(w, 5000, 30000), nomad_listing, (struct arg){.a = arg->a});
}

static void
listing_taken(struct world *w, struct arg *arg)
{
	struct snapshot *s = xcalloc(1, sizeof(*s));

	for (size_t i = 0; i < w->n_children; i++) {
		if (!w->children[i].purged)
			s->children[s->n++] = describe(&w->children[i], false);
	}
	sim_at(w, sim_between(w, 1, 100), listing_arrives, (struct arg){.a = arg->a, .p = s, .release = snapshot_free});
}

void
nomad_listing(struct world *w, struct arg *arg)
{
	if (w->d.gen == 0 || w->d.gen != arg->a || w->embedded)
		return;
	if (!w->d.nomad_ok) {
		sim_at(w, 5000, nomad_listing, *arg);
		return;
	}
	core_listing_begin(w->d.core, sim_now(w));
	sim_at(w, sim_between(w, 1, 100), listing_taken, *arg);
}

/* --- what happens to children --- */

static void
replace(struct world *w, struct arg *arg)
{
	struct child *ch = &w->children[arg->a];

	if (ch->stopped || ch->purged || ch->state != CHILD_ENDED || ch->alloc != arg->b - 1)
		return;
	ch->state = CHILD_PENDING;
	ch->crash = ch->oom = ch->alloc_stopped = false;
	ch->replaced = true;
	place(w, arg);
}

void
nomad_proc_ended(struct world *w, int proc, bool crash, bool oom)
{
	int i = w->procs[proc].child;
	struct child *ch = i < 0 ? NULL : &w->children[i];

	if (i < 0) {
		group_proc_ended(w, proc, crash, oom);
		return;
	}
	ch->crash = crash;
	ch->oom = oom;
	if (ch->node_lost) {
		ch->before_loss = CHILD_ENDED;
		return;
	}
	if (!ch->purged)
		child_state(w, i, CHILD_ENDED);
	if (ch->alloc_stopped && !ch->stopped)
		sim_at(w, sim_between(w, 10, 400), replace, (struct arg){.a = i, .b = ch->alloc + 1});
}

static void
node_returns(struct world *w, struct arg *arg)
{
	struct child *ch = &w->children[arg->a];

	if (!ch->node_lost)
		return;
	ch->node_lost = false;
	if (ch->proc >= 0)
		w->procs[ch->proc].cut_until_ms = 0;
	if (ch->purged) {
		if (ch->proc >= 0 && w->procs[ch->proc].alive)
			w->procs[ch->proc].alive = false;
		return;
	}
	child_state(w, arg->a, ch->before_loss);
	if (ch->stopped && ch->before_loss == CHILD_RUNNING)
		worker_stop(w, ch->proc);
	else if (ch->stopped && ch->before_loss != CHILD_ENDED)
		child_state(w, arg->a, CHILD_ENDED);
}

static void
node_lost(struct world *w, int i)
{
	struct child *ch = &w->children[i];

	ch->node_lost = ch->was_lost = true;
	ch->before_loss = ch->state;
	w->procs[ch->proc].cut_until_ms = INT64_MAX;
	child_state(w, i, CHILD_UNKNOWN);
	sim_at(w, sim_between(w, 5, 400) * 1000, node_returns, (struct arg){.a = i});
}

static void
torment_child(struct world *w, int i)
{
	struct child *ch = &w->children[i];

	if (ch->purged || ch->node_lost)
		return;
	if (ch->state == CHILD_ENDED) {
		if (sim_chance(w, w->mix.purge_by_hand)) {
			ch->purged = true;
			nomad_tell(w, i, false);
		}
		return;
	}
	if (sim_chance(w, w->mix.operator_stop)) {
		sim_log(w, "operator: nomad job stop %s", ch->name);
		ch->by_operator = !ch->stopped && !ch->alloc_stopped && !ch->replaced;
		stop_arrives(w, i);
	} else if (ch->state == CHILD_RUNNING && !ch->stopped && sim_chance(w, w->mix.alloc_stop)) {
		sim_log(w, "operator: nomad alloc stop in %s", ch->name);
		ch->alloc_stopped = true;
		worker_stop(w, ch->proc);
	} else if (ch->state == CHILD_RUNNING && sim_chance(w, w->mix.node_loss)) {
		node_lost(w, i);
	}
}

static void
torment_proc(struct world *w, int i)
{
	struct proc *p = &w->procs[i];

	if (!p->alive)
		return;
	if (sim_chance(w, w->mix.worker_crash))
		worker_die(w, i, sim_chance(w, 300));
	else if (p->cut_until_ms < w->mono_ms && sim_chance(w, w->mix.cut))
		p->cut_until_ms = w->mono_ms + sim_between(w, 1, sim_chance(w, 300) ? 200 : 40) * 1000;
}

static void
health_returns(struct world *w, struct arg *arg)
{
	if (w->d.gen == 0 || w->d.gen != arg->a)
		return;
	w->d.nomad_ok = true;
	core_nomad_health(w->d.core, sim_now(w), true, "");
	if (w->mono_ms >= w->disk_full_until_ms)
		core_ledger_health(w->d.core, sim_now(w), true);
	else
		sim_at(w, w->disk_full_until_ms - w->mono_ms, health_returns, *arg);
	shell_drain(w);
}

static void
torment_dispatcher(struct world *w)
{
	if (w->d.gen == 0)
		return;
	if (!w->embedded && sim_chance(w, w->mix.nomad_away)) {
		w->d.nomad_ok = false;
		core_nomad_health(w->d.core, sim_now(w), false, "connection refused");
	}
	if (sim_chance(w, w->mix.disk_full)) {
		w->disk_full_until_ms = w->mono_ms + sim_between(w, 1, 60) * 1000;
		sim_log(w, "ledger: the disk is full");
	}
	sim_at(w, sim_between(w, 1, 60) * 1000, health_returns, (struct arg){.a = w->d.gen});
	shell_drain(w);
	if (w->d.gen != 0 && sim_chance(w, w->mix.depose))
		shell_depose(w);
	if (w->d.gen != 0 && sim_chance(w, w->mix.crash * 5))
		shell_crash(w);
}

/* Every few seconds something is picked and may suffer. */
void
nomad_chaos(struct world *w, struct arg *arg)
{
	if (!w->faults)
		return;
	if (w->n_children > 0) {
		torment_child(w, (int)(sim_random(w) % w->n_children));
		torment_child(w, (int)w->n_children - 1);
	}
	torment_proc(w, (int)(sim_random(w) % w->n_procs));
	torment_proc(w, (int)w->n_procs - 1);
	torment_dispatcher(w);
	group_torment(w);
	if (sim_chance(w, w->mix.clock_jump))
		w->real_offset_ms += sim_between(w, -900, 900) * 1000;
	sim_at(w, sim_between(w, 500, 6000), nomad_chaos, *arg);
}

void
nomad_heal(struct world *w)
{
	for (size_t i = 0; i < w->n_children; i++)
		node_returns(w, &(struct arg){.a = (int)i});
}
