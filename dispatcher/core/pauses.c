/* pauses.c - verticals and tenants whose runs get no new leases until they are resumed. Durable. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

struct pause {
	struct link all;
	struct pause_row row;
};

static struct pause *
find(const struct core *c, enum pause_kind kind, const char *name)
{
	list_each(&c->pauses, l, after) {
		struct pause *p = container_of(l, struct pause, all);

		if (p->row.kind == kind && strcmp(p->row.name, name) == 0)
			return p;
	}
	return NULL;
}

bool
tenant_paused(const struct core *c, const char *tenant)
{
	return find(c, PAUSE_TENANT, tenant) != NULL;
}

void
pauses_free(struct core *c)
{
	list_each(&c->pauses, l, after) {
		struct pause *p = container_of(l, struct pause, all);

		list_remove(&p->all);
		free(p);
	}
}

static void
mark(struct core *c, const struct pause_row *row, bool paused)
{
	list_each(&c->verticals, l, after) {
		struct vertical *v = container_of(l, struct vertical, all);

		if (row->kind == PAUSE_VERTICAL && strcmp(v->name, row->name) == 0)
			v->paused = paused;
		list_each(&v->shares, k, after_k) {
			struct share *s = container_of(k, struct share, all);

			if (row->kind == PAUSE_TENANT && strcmp(s->tenant, row->name) == 0)
				s->paused = paused;
		}
	}
}

/* Takes effect: queued runs of it leave the line, or stand in it again. */
static void
apply(struct core *c, struct now now, const struct pause_row *row, bool paused)
{
	mark(c, row, paused);
	list_each(&c->runs, l, after) {
		struct run *run = container_of(l, struct run, all);
		const char *name = row->kind == PAUSE_VERTICAL ? run->vertical->name : run->share->tenant;

		if (run->state != RUN_QUEUED || run->txn != NULL || strcmp(name, row->name) != 0)
			continue;
		run_unindex(c, run);
		run_index(c, now, run);
	}
}

void
core_restore_pause(struct core *c, const struct pause_row *row)
{
	struct pause *p = xcalloc(1, sizeof(*p));

	p->row = *row;
	list_add(&c->pauses, &p->all);
	if (row->kind == PAUSE_VERTICAL)
		vertical_get(c, row->name);
	mark(c, row, true);
}

void
core_pause(struct core *c, struct now now, uint64_t caller, const struct pause_row *row, bool paused)
{
	struct txn *t;

	caller_open(c, caller, NULL);
	if (!paused && find(c, row->kind, row->name) == NULL) {
		core_answer_err(c, caller, ANS_PAUSE, "", ERR_NOTFOUND, "that is not paused");
		return;
	}
	if (!c->writable) {
		core_answer_err(c, caller, ANS_PAUSE, "", ERR_RETRY, "the ledger cannot write now; nothing was changed");
		return;
	}
	t = txn_new(c, caller, ANS_PAUSE);
	t->pause = xcalloc(1, sizeof(*t->pause));
	t->pause->row = *row;
	t->resume = !paused;
	list_init(&t->pause->all);
	txn_op(t, paused ? OP_PAUSE_PUT : OP_PAUSE_REMOVE)->pause = *row;
	txn_commit(c, t);
	core_settle(c, now);
}

/* Two changes of the same thing may be in flight: they take effect in the order in which they were written. */
void
pause_done(struct core *c, struct now now, struct txn *t, bool ok)
{
	struct pause *old = find(c, t->pause->row.kind, t->pause->row.name);

	if (!ok) {
		core_answer_err(c, t->caller, ANS_PAUSE, "", ERR_RETRY, "the ledger could not write; nothing was changed, try again");
		return;
	}
	if (old != NULL) {
		list_remove(&old->all);
		free(old);
	}
	if (!t->resume) {
		if (t->pause->row.kind == PAUSE_VERTICAL)
			vertical_get(c, t->pause->row.name);
		list_add(&c->pauses, &t->pause->all);
	}
	apply(c, now, &t->pause->row, !t->resume);
	if (!t->resume)
		t->pause = NULL;
	core_answer_state(c, t->caller, ANS_PAUSE, "", RUN_QUEUED);
}

void
core_pauses(const struct core *c, void (*each)(void *arg, const struct pause_row *row), void *arg)
{
	list_each(&c->pauses, l, after)
		each(arg, &container_of(l, struct pause, all)->row);
}
