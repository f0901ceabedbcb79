/* rest.c - what must be true at the end of every world. */
#include "sim.h"

#include <stdio.h>
#include <string.h>

void
check_always(struct world *w)
{
	for (size_t i = 0; i < w->n_clients; i++) {
		struct client_run *c = &w->clients[i];
		const struct ledger_run *r;

		if (!c->acknowledged && !c->cancel_acknowledged)
			continue;
		r = ledger_of_client(w, c);
		if (r == NULL)
			sim_fail(w, "%s was acknowledged and is lost", c->id);
		if (c->cancel_acknowledged && r->row.state != RUN_CANCELING && r->row.state != RUN_CANCELED)
			sim_fail(w, "%s was acknowledged as canceled and is %s", c->id, run_state_word(r->row.state));
	}
}

/* What is not at rest yet, or NULL. An adopted run whose child died before it could be announced never comes to be. */
static const char *
restless(struct world *w)
{
	static char text[160];

	for (size_t i = 0; i < w->n_clients; i++) {
		struct client_run *c = &w->clients[i];
		const struct ledger_run *r = ledger_of_client(w, c);

		snprintf(text, sizeof(text), "%s is %s", c->id, r == NULL ? "not submitted" : run_state_word(r->row.state));
		if (r == NULL ? !c->adopted : !run_state_final(r->row.state))
			return text;
		if (!c->adopted && !c->acknowledged)
			return text;
	}
	for (size_t i = 0; i < w->n_requests; i++) {
		snprintf(text, sizeof(text), "request %llu is in state %d", (unsigned long long)w->requests[i].seq, w->requests[i].state);
		if (w->requests[i].state != REQ_DONE)
			return text;
	}
	for (size_t i = 0; i < w->n_children; i++) {
		const struct child *ch = &w->children[i];

		snprintf(text, sizeof(text), "child %s is left in Nomad, state %d", ch->name, ch->state);
		if (ch->seq != 0 ? !ch->purged : ch->state != CHILD_ENDED && !ch->purged)
			return text;
	}
	for (size_t i = 0; i < w->n_calls; i++) {
		const struct call *k = &w->calls[i];

		snprintf(text, sizeof(text), "caller %zu of kind %d was never answered", i + 1, k->kind);
		if (k->gen == w->d.gen && w->d.gen != 0 && !k->answered && !k->gone && k->kind != CALL_POLL && k->kind != CALL_BEAT)
			return text;
	}
	return w->d.gen == 0 ? "the dispatcher is down" : group_restless(w);
}

/* What kills its worker ends for that; what does not is never taken for it, where nothing else kills workers. */
static void
check_poison(struct world *w)
{
	bool quiet = w->mix.worker_crash + w->mix.node_loss + w->mix.cut + w->mix.lose_event == 0;

	for (size_t i = 0; i < w->n_clients; i++) {
		const struct client_run *c = &w->clients[i];
		const struct ledger_run *r = ledger_of_client(w, &w->clients[i]);

		if (r == NULL)
			continue;
		if (r->row.crashes > w->d.config.max_crashes)
			sim_fail(w, "%s crashed %u times alone, and was tried again", c->id, r->row.crashes);
		if (c->poison && r->row.state == RUN_COMPLETED && !w->manifests && quiet)
			sim_fail(w, "%s is poison, and completed", c->id);
		if (!c->poison && quiet && r->row.dead && r->row.crashes >= w->d.config.max_crashes)
			sim_fail(w, "%s is dead for what others did", c->id);
	}
}

bool
at_rest(struct world *w)
{
	return w->events % 64 == 0 && restless(w) == NULL;
}

void
check_rest(struct world *w)
{
	const char *what = restless(w);

	check_poison(w);
	if (what == NULL)
		return;
	for (size_t i = 0; i < w->n_runs && w->d.gen != 0; i++) {
		struct core_wait why;

		if (core_why(w->d.core, sim_now(w), w->runs[i].row.id, &why))
			sim_log(w, "%s (%d, class %d) waits: %s, %s, position %zu", w->runs[i].row.id, w->runs[i].row.needs.execution,
			    w->runs[i].row.needs.class, why.code, why.text, why.position);
	}
	sim_fail(w, "no rest after the faults ended: %s", what);
}
