/* drain.c - marks on the allocations of looping workers that are to be taken away.
 *
 * Marks belong to owners and end by themselves: an owner that dies leaves nothing behind. A worker carries the strictest mark on
 * its allocation.
 *
 * Condemning promises something to someone who then acts elsewhere, so a condemned mark is in the ledger before that is answered:
 * a dispatcher that was deposed cannot write it, and one that comes later finds it. Its time begins anew with each start, which
 * makes it longer and never shorter. While its row is being written or removed the mark holds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

struct drain {
	struct link all;
	struct mark_row row;
	enum drain_mark mark;
	int64_t until_mono;      /* NEVER: until its row is written */
	unsigned writing;        /* commits about it in flight */
	uint64_t put;            /* the last of them that puts its row */
	bool durable;            /* its row is in the ledger, or may be */
};

static bool
stands_on(const struct drain *d, const struct core_worker *who)
{
	if (strcmp(d->row.alloc, who->alloc) == 0)
		return true;
	return d->mark == DRAIN_CONDEMNED && d->row.index >= 0 && d->row.index == who->alloc_index &&
	    strcmp(d->row.vertical, who->vertical) == 0;
}

enum drain_mark
drain_of(const struct core *c, const struct core_worker *who)
{
	enum drain_mark mark = DRAIN_NONE;

	if (who->once || who->alloc[0] == '\0')
		return DRAIN_NONE;
	list_each(&c->drains, l, after) {
		const struct drain *d = container_of(l, struct drain, all);

		if (d->mark > mark && stands_on(d, who))
			mark = d->mark;
	}
	return mark;
}

static void
drop(struct core *c, struct drain *d)
{
	list_remove(&d->all);
	c->n_drains--;
	free(d);
}

void
drain_free(struct core *c)
{
	list_each(&c->drains, l, after)
		drop(c, container_of(l, struct drain, all));
}

/* Every worker carries what its allocation says now; one that is free again may take what waits. */
static void
apply(struct core *c)
{
	int64_t first_mono = NEVER;

	list_each(&c->drains, l, after) {
		const struct drain *d = container_of(l, struct drain, all);

		if (d->writing == 0 && d->until_mono < first_mono)
			first_mono = d->until_mono;
	}
	timer_set(c, &c->drain_timer, first_mono);
	list_each(&c->workers, l, after) {
		struct worker *w = container_of(l, struct worker, all);
		enum drain_mark mark = drain_of(c, &w->who);

		if (mark == w->mark)
			continue;
		w->mark = mark;
		if (w->lane != NULL)
			w->lane->dirty = true;
	}
}

/* Notes in t what becomes of the mark's row. */
static void
write_mark(struct txn *t, struct drain *d, enum op_kind kind)
{
	txn_op(t, kind)->mark = d->row;
	t->marks = xrealloc(t->marks, (t->n_marks + 1) * sizeof(struct drain *));
	t->marks[t->n_marks++] = d;
	d->writing++;
}

/* Rows of marks whose time is over are removed; what does not fit into one commit, or cannot be written now, has its turn later. */
static void
forget_rows(struct core *c, struct now now)
{
	bool ready = ledger_ready(c, now);
	struct txn *t = NULL;

	list_each(&c->drains, l, after) {
		struct drain *d = container_of(l, struct drain, all);

		if (!d->durable || d->writing > 0 || d->until_mono > now.mono_ms)
			continue;
		if (ready && t == NULL)
			t = txn_new(c, 0, ANS_CONDEMN);
		if (ready && txn_has_room(t, 1))
			write_mark(t, d, OP_MARK_REMOVE);
		else
			d->until_mono = now.mono_ms + LEDGER_PAUSE_MS;
	}
	if (t == NULL)
		return;
	t->resume = true;
	txn_commit(c, t);
}

void
drain_timer(struct core *c, struct now now)
{
	forget_rows(c, now);
	list_each(&c->drains, l, after) {
		struct drain *d = container_of(l, struct drain, all);

		if (d->writing == 0 && d->until_mono <= now.mono_ms)
			drop(c, d);
	}
	apply(c);
}

/* A row that was put again while its removal was in flight may be there, in whatever order the results come. */
static void
row_written(struct drain *d, struct now now, const struct txn *t, bool ok)
{
	if (t->resume && ok) {
		d->durable = d->put > t->id;
	} else if (t->resume && d->put < t->id) {
		d->until_mono = now.mono_ms + LEDGER_PAUSE_MS;
	} else if (!t->resume && ok) {
		d->durable = true;
		d->until_mono = now.mono_ms + d->row.ttl_ms;
	}
}

void
drain_done(struct core *c, struct now now, struct txn *t, bool ok)
{
	for (size_t i = 0; i < t->n_marks; i++) {
		struct drain *d = t->marks[i];

		d->writing--;
		row_written(d, now, t, ok);
		if (d->writing == 0 && !d->durable)
			drop(c, d);
	}
	apply(c);
	if (ok)
		core_answer_state(c, t->caller, ANS_CONDEMN, "", RUN_QUEUED);
	else
		core_answer_err(c, t->caller, ANS_CONDEMN, "", ERR_RETRY, "the ledger could not write; nobody was condemned, try again");
}

static void
state_of(const struct core *c, const char *alloc, struct core_drain_state *ret)
{
	*ret = (struct core_drain_state){.mark = DRAIN_NONE};
	snprintf(ret->alloc, sizeof(ret->alloc), "%s", alloc);
	list_each(&c->drains, l, after) {
		const struct drain *d = container_of(l, struct drain, all);

		if (strcmp(d->row.alloc, alloc) != 0)
			continue;
		ret->mark = d->mark > ret->mark ? d->mark : ret->mark;
		ret->durable = ret->durable || d->durable;
	}
	/* A worker that was started again in its allocation is another one; what the first held may still be in force. */
	list_each(&c->workers, l, after) {
		const struct worker *w = container_of(l, struct worker, all);

		if (w->who.once || strcmp(w->who.alloc, alloc) != 0)
			continue;
		ret->leases += w->n_grants;
		ret->committing += w->committing;
		snprintf(ret->worker, sizeof(ret->worker), "%s", w->who.id);
	}
}

void
core_drain_states(const struct core *c, const char (*allocs)[CORE_ALLOC_MAX], size_t n, struct core_drain_state *out)
{
	for (size_t i = 0; i < n; i++)
		state_of(c, allocs[i], &out[i]);
}

/* Whether a looping worker holds leases from before a restart, and has not registered since. */
static bool
someone_unknown(const struct core *c)
{
	list_each(&c->workers, l, after) {
		const struct worker *w = container_of(l, struct worker, all);

		if (!w->known && !w->who.once && w->n_grants + w->committing > 0)
			return true;
	}
	return false;
}

static int
may_condemn(const struct core *c, struct now now, const struct core_drain *d, struct err *e)
{
	struct core_drain_state s;

	if (d->n > CORE_CONDEMN_MAX)
		return err_set(e, ERR_TOOBIG, "at most %d allocations can be condemned at once", CORE_CONDEMN_MAX);
	for (size_t i = 0; i < d->n; i++) {
		state_of(c, d->allocs[i], &s);
		if (s.leases + s.committing > 0)
			return err_set(e, ERR_CONFLICT, "the worker in allocation %.36s is busy: %zu leases, %zu being given", s.alloc, s.leases,
			    s.committing);
		if (s.worker[0] == '\0' && someone_unknown(c))
			return err_set(e, ERR_RETRY, "a worker that holds leases from before the dispatcher's start has not said yet where it runs");
	}
	if (d->n > 0 && !ledger_ready(c, now))
		return err_set(e, ERR_RETRY, "the ledger cannot write now; nobody was condemned");
	return 0;
}

/* The owner's mark of that kind on the allocation, made where there is none. */
static struct drain *
mark_get(struct core *c, const char *owner, const char *alloc, enum drain_mark mark)
{
	struct drain *d;

	list_each(&c->drains, l, after) {
		d = container_of(l, struct drain, all);
		if (d->mark == mark && strcmp(d->row.owner, owner) == 0 && strcmp(d->row.alloc, alloc) == 0)
			return d;
	}
	d = xcalloc(1, sizeof(*d));
	d->mark = mark;
	d->row.index = -1;
	snprintf(d->row.owner, sizeof(d->row.owner), "%s", owner);
	snprintf(d->row.alloc, sizeof(d->row.alloc), "%s", alloc);
	list_add(&c->drains, &d->all);
	c->n_drains++;
	return d;
}

static bool
listed(const struct core_drain *d, const char *alloc)
{
	for (size_t i = 0; i < d->n; i++) {
		if (strcmp(d->allocs[i], alloc) == 0)
			return true;
	}
	return false;
}

static int
room_for(const struct core *c, const struct core_drain *wanted, struct err *e)
{
	if (c->n_drains + wanted->n <= CORE_DRAINS_MAX)
		return 0;
	return err_set(e, ERR_TOOBIG, "at most %d drain marks at a time", CORE_DRAINS_MAX);
}

int
core_drain(struct core *c, struct now now, const struct core_drain *wanted, struct core_drain_state *out, struct err *e)
{
	int rc = room_for(c, wanted, e);

	if (rc != 0)
		goto out;
	list_each(&c->drains, l, after) {
		struct drain *d = container_of(l, struct drain, all);

		if (d->mark == DRAIN_DRAINING && strcmp(d->row.owner, wanted->owner) == 0 && !listed(wanted, d->row.alloc))
			drop(c, d);
	}
	for (size_t i = 0; i < wanted->n; i++) {
		if (wanted->allocs[i][0] != '\0')
			mark_get(c, wanted->owner, wanted->allocs[i], DRAIN_DRAINING)->until_mono = now.mono_ms + wanted->ttl_ms;
	}
	apply(c);
out:
	if (out != NULL)
		core_drain_states(c, wanted->allocs, wanted->n, out);
	core_settle(c, now);
	return rc;
}

/* Those who come to the indexes of the owner's marks up to that version are free. */
static void
free_indexes(struct core *c, const struct core_drain *wanted)
{
	list_each(&c->drains, l, after) {
		struct drain *d = container_of(l, struct drain, all);

		if (d->mark == DRAIN_CONDEMNED && strcmp(d->row.owner, wanted->owner) == 0 && d->row.version <= wanted->version)
			d->row.index = -1;
	}
	apply(c);
}

static void
condemn(struct core *c, const struct core_drain *wanted, uint64_t caller)
{
	struct txn *t = txn_new(c, caller, ANS_CONDEMN);

	for (size_t i = 0; i < wanted->n; i++) {
		struct drain *d = mark_get(c, wanted->owner, wanted->allocs[i], DRAIN_CONDEMNED);

		if (!d->durable)
			d->until_mono = NEVER;
		d->row.ttl_ms = wanted->ttl_ms;
		d->row.index = wanted->indexes != NULL ? wanted->indexes[i] : -1;
		d->row.version = wanted->version;
		snprintf(d->row.vertical, sizeof(d->row.vertical), "%s", wanted->vertical);
		d->put = t->id;
		write_mark(t, d, OP_MARK_PUT);
	}
	txn_commit(c, t);
	apply(c);
}

void
core_condemn(struct core *c, struct now now, uint64_t caller, const struct core_drain *wanted)
{
	struct err e;
	int rc = may_condemn(c, now, wanted, &e);

	caller_open(c, caller, NULL);
	if (rc == 0)
		rc = room_for(c, wanted, &e);
	if (rc != 0) {
		core_answer_err(c, caller, ANS_CONDEMN, "", rc, e.msg);
	} else if (wanted->n == 0) {
		free_indexes(c, wanted);
		core_answer_state(c, caller, ANS_CONDEMN, "", RUN_QUEUED);
	} else {
		condemn(c, wanted, caller);
	}
	core_settle(c, now);
}

void
core_restore_mark(struct core *c, const struct mark_row *row)
{
	struct drain *d = mark_get(c, row->owner, row->alloc, DRAIN_CONDEMNED);

	d->row = *row;
	d->durable = true;
	d->until_mono = NEVER;
}

void
drain_start(struct core *c, struct now now)
{
	list_each(&c->drains, l, after) {
		struct drain *d = container_of(l, struct drain, all);

		d->until_mono = now.mono_ms + d->row.ttl_ms;
	}
	apply(c);
}
