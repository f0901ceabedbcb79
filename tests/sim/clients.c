/* clients.c - those who submit and cancel; they repeat what was not answered, as people do. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static void
submit_arrives(struct world *w, struct arg *arg)
{
	struct client_run *c = &w->clients[arg->a];
	struct core_submission s = {.needs = c->needs};
	struct call *k;
	uint64_t caller;

	if (w->d.gen == 0)
		return;
	k = shell_arrived(w, arg->u);
	caller = (uint64_t)(k - w->calls) + 1;
	/* The real shell looks into the ledger for the id (or the idempotency key) before it asks the core. */
	if (ledger_find(w, c->id) != NULL) {
		k->answered = true;
		if (k->who >= 0) {
			c->acknowledged = true;
			c->caller = 0;
		}
		return;
	}
	snprintf(s.id, sizeof(s.id), "%s", c->id);
	snprintf(s.tenant, sizeof(s.tenant), "t%d", arg->a % 3);
	snprintf(s.workflow, sizeof(s.workflow), "scan");
	s.spec = xasprintf("spec of %s", c->id);
	if (c->adopted)
		snprintf(s.adopted_child, sizeof(s.adopted_child), "%s", w->children[c->child].name);
	if (arg->a % 7 == 3 && !c->adopted)
		s.not_before_real_ms = sim_now(w).real_ms + 20000;
	core_submit(w->d.core, sim_now(w), caller, &s);
	shell_drain(w);
}

static void
cancel_arrives(struct world *w, struct arg *arg)
{
	struct call *k = shell_arrived(w, arg->u);

	if (k == NULL)
		return;
	core_cancel(w->d.core, sim_now(w), (uint64_t)(k - w->calls) + 1, w->clients[arg->a].id, "someone");
	shell_drain(w);
}

static void
send_call(struct world *w, int run, uint64_t caller, event_fn *arrives)
{
	int copies = sim_fault(w, w->mix.lose) ? 0 : sim_fault(w, w->mix.dup) ? 2 : 1;

	for (int i = 0; i < copies; i++)
		sim_at(w, sim_between(w, 0, sim_fault(w, 50) ? 15000 : 4), arrives, (struct arg){.a = run, .u = caller});
}

static void
submit_again(struct world *w, struct arg *arg)
{
	struct client_run *c = &w->clients[arg->a];

	if (c->acknowledged || c->caller != arg->u)
		return;
	if (c->caller != 0)
		shell_gone(w, c->caller);
	c->caller = 0;
	if (!c->adopted)
		client_submit(w, &(struct arg){.a = arg->a});
}

void
client_submit(struct world *w, struct arg *arg)
{
	struct client_run *c = &w->clients[arg->a];

	c->caller = shell_call(w, CALL_SUBMIT, arg->a);
	sim_log(w, "client: submits %s", c->id);
	send_call(w, arg->a, c->caller, submit_arrives);
	sim_at(w, RPC_MS + 1000, submit_again, (struct arg){.a = arg->a, .u = c->caller});
}

static void
cancel(struct world *w, struct arg *arg)
{
	struct client_run *c = &w->clients[arg->a];

	if (c->cancel_done)
		return;
	if (c->cancel_caller != 0)
		shell_gone(w, c->cancel_caller);
	c->cancel_caller = shell_call(w, CALL_CANCEL, arg->a);
	sim_log(w, "client: cancels %s", c->id);
	send_call(w, arg->a, c->cancel_caller, cancel_arrives);
	sim_at(w, RPC_MS + 500, cancel, *arg);
}

void
client_answer(struct world *w, uint64_t caller, const struct answer *a)
{
	const struct call *k = &w->calls[caller - 1];
	struct client_run *c = &w->clients[k->who];

	if (k->kind == CALL_SUBMIT && caller == c->caller) {
		if (a->err.code == 0)
			c->acknowledged = true;
		/* ERR_RETRY and ERR_CONFLICT (a copy was first): again a little later, by the timer. */
	} else if (k->kind == CALL_CANCEL && caller == c->cancel_caller) {
		c->cancel_done = a->err.code == 0 || (a->err.code == ERR_NOTFOUND && (c->acknowledged || !w->faults));
		c->cancel_acknowledged = a->err.code == 0;
	}
}

struct client_run *
client_of(struct world *w, const char *run)
{
	size_t i = 0;

	while (strcmp(w->clients[i].id, run) != 0)
		i++;
	return &w->clients[i];
}

static void
dispatch_by_hand(struct world *w, struct arg *arg)
{
	char name[64];
	const char *vertical = w->clients[arg->a].needs.vertical;

	snprintf(name, sizeof(name), "drover-run-%s/dispatch-hand%d-%x", vertical, arg->a, (unsigned)w->n_children);
	w->clients[arg->a].child = nomad_child(w, name, 0, sim_vertical_of(vertical), CLASS_NORMAL, arg->a);
}

/* What some runs want beside a worker. */
static void
wishes(struct world *w, struct client_run *c)
{
	static const enum key_mode modes[] = {KEY_QUEUE, KEY_QUEUE, KEY_FAIL, KEY_REPLACE};
	int key = (int)sim_between(w, 0, KEYS - 1);

	if (c->adopted)
		return;
	if (sim_chance(w, w->key_share)) {
		snprintf(c->needs.key, sizeof(c->needs.key), "k%d", key);
		c->needs.key_limit = (unsigned)key % 2 + 1;
		c->needs.key_mode = modes[sim_random(w) % 4];
	}
	if (sim_chance(w, 80))
		c->needs.max_wait_ms = sim_between(w, 5, 120) * 1000;
	if (sim_chance(w, 500))
		c->needs.target_key = (uint64_t)sim_between(w, 1, TARGETS);
	if (sim_chance(w, 500))
		c->needs.memory_bytes = sim_between(w, 1, MEMORY * 11 / 10);
	if (sim_chance(w, 30))
		c->needs.timeout_ms = 4000000; /* for one-shots */
	c->poison = sim_chance(w, 30);
}

/* An operator pauses and resumes verticals and tenants; when all is well again, everything is resumed. */
static void
operate(struct world *w, struct arg *arg)
{
	struct pause_row row = {.kind = sim_chance(w, 500) ? PAUSE_TENANT : PAUSE_VERTICAL, .who = "operator"};
	bool paused = sim_chance(w, w->mix.pause);

	sim_at(w, sim_between(w, 1000, 10000), operate, *arg);
	if (row.kind == PAUSE_TENANT)
		snprintf(row.name, sizeof(row.name), "t%d", (int)sim_between(w, 0, 2));
	else
		snprintf(row.name, sizeof(row.name), "%s", sim_vertical((int)sim_between(w, 0, w->verticals - 1)));
	if (w->d.gen == 0)
		return;
	if (!w->faults && w->n_pauses > 0)
		row = w->pauses[0];
	if ((w->faults && paused) || w->n_pauses > 0)
		core_pause(w->d.core, sim_now(w), 0, &row, w->faults && paused);
	shell_drain(w);
}

/* The object store goes away and comes back; the dispatcher looks now and then. */
static void
watch_store(struct world *w, struct arg *arg)
{
	bool away;

	if (w->mono_ms >= w->s3_until_ms && sim_fault(w, w->mix.s3_away))
		w->s3_until_ms = w->mono_ms + sim_between(w, 1, 120) * 1000;
	away = w->mono_ms < w->s3_until_ms;
	sim_at(w, sim_between(w, 1000, 8000), watch_store, *arg);
	if (w->d.gen == 0 || sim_fault(w, w->mix.lose))
		return;
	if (!away)
		w->s3_told_ms = 0;
	else if (w->s3_told_ms == 0)
		w->s3_told_ms = w->mono_ms;
	core_dependency(w->d.core, sim_now(w), "s3", !away, "connection refused");
	shell_drain(w);
}

void
clients_start(struct world *w)
{
	static const enum execution executions[] = {EXEC_ANY, EXEC_ANY, EXEC_ANY, EXEC_WARM, EXEC_JOB};

	sim_at(w, 1000, operate, (struct arg){0});
	sim_at(w, 1000, watch_store, (struct arg){0});
	w->n_clients = (size_t)sim_between(w, 3, MAX_RUNS - 8);
	for (size_t i = 0; i < w->n_clients; i++) {
		struct client_run *c = &w->clients[i];
		int64_t at_ms = sim_between(w, 0, w->fault_end_ms * 11 / 10); /* some come when all is well again */

		snprintf(c->id, sizeof(c->id), "scan-%016zx", i);
		c->needs = (struct run_needs){.execution = executions[sim_random(w) % 5], .priority = (int)sim_between(w, 0, 100),
		    .timeout_ms = 60000, .tool_retries = (unsigned)sim_between(w, 0, 1), .class = sim_chance(w, 250) ? CLASS_LARGE : CLASS_NORMAL};
		snprintf(c->needs.vertical, sizeof(c->needs.vertical), "%s", sim_vertical((int)sim_between(w, 0, w->verticals - 1)));
		c->adopted = !w->embedded && sim_chance(w, 120);
		if (c->adopted) {
			c->needs.class = CLASS_NORMAL;
			c->needs.execution = EXEC_ANY;
		}
		if (c->needs.class == CLASS_LARGE && !w->embedded)
			c->needs.execution = EXEC_ANY; /* the group has normal workers only */
		wishes(w, c);
		c->cancel_wanted = sim_chance(w, 150);
		sim_at(w, at_ms, c->adopted ? dispatch_by_hand : client_submit, (struct arg){.a = (int)i});
		if (c->cancel_wanted)
			sim_at(w, at_ms + sim_between(w, 0, 60000), cancel, (struct arg){.a = (int)i});
	}
}
