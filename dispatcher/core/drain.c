/* drain.c - marks on the allocations of looping workers that are to be taken away, and what an autoscaler reads.
 *
 * Marks belong to owners and end by themselves: an owner that dies leaves nothing behind. A worker carries the strictest mark on
 * its allocation.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

struct drain {
	struct link all;
	char owner[CORE_OWNER_MAX], alloc[CORE_ALLOC_MAX];
	enum drain_mark mark;
	int64_t until_mono;
};

enum drain_mark
drain_of(const struct core *c, const char *alloc)
{
	enum drain_mark mark = DRAIN_NONE;

	list_each(&c->drains, l, after) {
		const struct drain *d = container_of(l, struct drain, all);

		if (d->mark > mark && strcmp(d->alloc, alloc) == 0)
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

		first_mono = d->until_mono < first_mono ? d->until_mono : first_mono;
	}
	timer_set(c, &c->drain_timer, first_mono);
	list_each(&c->workers, l, after) {
		struct worker *w = container_of(l, struct worker, all);
		enum drain_mark mark = w->who.once || w->who.alloc[0] == '\0' ? DRAIN_NONE : drain_of(c, w->who.alloc);

		if (mark == w->mark)
			continue;
		w->mark = mark;
		if (w->lane != NULL)
			w->lane->dirty = true;
	}
}

void
drain_timer(struct core *c, struct now now)
{
	list_each(&c->drains, l, after) {
		struct drain *d = container_of(l, struct drain, all);

		if (d->until_mono <= now.mono_ms)
			drop(c, d);
	}
	apply(c);
}

static void
state_of(const struct core *c, const char *alloc, struct core_drain_state *ret)
{
	*ret = (struct core_drain_state){.mark = drain_of(c, alloc)};
	snprintf(ret->alloc, sizeof(ret->alloc), "%s", alloc);
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
may_condemn(const struct core *c, const struct core_drain *d, struct err *e)
{
	struct core_drain_state s;

	for (size_t i = 0; i < d->n; i++) {
		state_of(c, d->allocs[i], &s);
		if (s.leases + s.committing > 0)
			return err_set(e, ERR_CONFLICT, "the worker in allocation %.36s is busy: %zu leases, %zu being given", s.alloc, s.leases,
			    s.committing);
		if (s.worker[0] == '\0' && someone_unknown(c))
			return err_set(e, ERR_RETRY, "a worker that holds leases from before the dispatcher's start has not said yet where it runs");
	}
	return 0;
}

/* The owner's mark on the allocation, or NULL. */
static struct drain *
find(const struct core *c, const char *owner, const char *alloc)
{
	list_each(&c->drains, l, after) {
		struct drain *d = container_of(l, struct drain, all);

		if (strcmp(d->owner, owner) == 0 && strcmp(d->alloc, alloc) == 0)
			return d;
	}
	return NULL;
}

static void
mark(struct core *c, struct now now, const struct core_drain *wanted, const char *alloc)
{
	struct drain *d = find(c, wanted->owner, alloc);

	if (d == NULL) {
		d = xcalloc(1, sizeof(*d));
		snprintf(d->owner, sizeof(d->owner), "%s", wanted->owner);
		snprintf(d->alloc, sizeof(d->alloc), "%s", alloc);
		list_add(&c->drains, &d->all);
		c->n_drains++;
	}
	if (d->mark == DRAIN_CONDEMNED && !wanted->condemn)
		return;
	d->mark = wanted->condemn ? DRAIN_CONDEMNED : DRAIN_DRAINING;
	d->until_mono = now.mono_ms + wanted->ttl_ms;
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

int
core_drain(struct core *c, struct now now, const struct core_drain *wanted, struct core_drain_state *out, struct err *e)
{
	int rc = wanted->condemn ? may_condemn(c, wanted, e) : 0;

	if (rc == 0 && c->n_drains + wanted->n > CORE_DRAINS_MAX)
		rc = err_set(e, ERR_TOOBIG, "at most %d drain marks at a time", CORE_DRAINS_MAX);
	if (rc != 0)
		goto out;
	list_each(&c->drains, l, after) {
		struct drain *d = container_of(l, struct drain, all);

		if (d->mark == DRAIN_DRAINING && strcmp(d->owner, wanted->owner) == 0 && !listed(wanted, d->alloc))
			drop(c, d);
	}
	for (size_t i = 0; i < wanted->n; i++) {
		if (wanted->allocs[i][0] != '\0')
			mark(c, now, wanted, wanted->allocs[i]);
	}
	apply(c);
out:
	for (size_t i = 0; i < wanted->n && out != NULL; i++)
		state_of(c, wanted->allocs[i], &out[i]);
	core_settle(c, now);
	return rc;
}

/* --- what an autoscaler reads --- */

static void
scale_workers(const struct core *c, struct now now, const struct lane *lane, struct core_scale *s)
{
	list_each(&c->workers, l, after) {
		const struct worker *w = container_of(l, struct worker, all);

		if (!w->known || w->lane != lane || w->who.once || w->over || w->leaving || w->mark != DRAIN_NONE)
			continue;
		s->workers++;
		s->slots += w->who.slots;
		s->idle_slots += worker_idle(c, w, now);
	}
}

static void
scale_of(const struct core *c, struct now now, const struct vertical *v, struct core_scale *s)
{
	const struct lane *lane = &v->lanes[CLASS_NORMAL];
	const struct run *oldest = heap_peek(&lane->by_age);
	unsigned warm = QUEUE_ALL & ~(vertical_one_shots(c, v) ? QUEUE_BIT(QUEUE_JOB) | QUEUE_BIT(QUEUE_JOB_SUSPECT) : 0);

	*s = (struct core_scale){
		.warm_ready = queue_len(&lane->ready, warm),
		.running = lane->running,
		.arrivals_total = v->arrivals,
		.served_total = v->served,
		.service_ms_mean = service_mean_ms(&v->service),
		.service_ms_p90 = service_part_ms(&v->service, 0.9),
	};
	snprintf(s->vertical, sizeof(s->vertical), "%s", v->name);
	for (size_t k = 0; k < RUN_CLASSES; k++)
		s->ready += queue_len(&v->lanes[k].ready, QUEUE_ALL);
	if (oldest != NULL && s->warm_ready > 0 && now.real_ms > oldest->since_real_ms)
		s->oldest_ms = now.real_ms - oldest->since_real_ms;
	list_each(&c->requests, l, after) {
		const struct request *r = container_of(l, struct request, all);

		s->one_shots_live += r->vertical == v && r->row.class == CLASS_NORMAL && !r->row.adopted;
	}
	scale_workers(c, now, lane, s);
}

size_t
core_scales(const struct core *c, struct now now, struct core_scale *out, size_t n)
{
	size_t count = 0;

	list_each(&c->verticals, l, after) {
		if (count < n)
			scale_of(c, now, container_of(l, struct vertical, all), &out[count]);
		count++;
	}
	return count;
}

size_t
core_scale_workers(const struct core *c, const char *vertical, struct core_scale_worker *out, size_t n)
{
	size_t count = 0;

	list_each(&c->workers, l, after) {
		const struct worker *w = container_of(l, struct worker, all);

		if (!w->known || w->who.once || w->over || strcmp(w->who.vertical, vertical) != 0)
			continue;
		if (count < n) {
			out[count] = (struct core_scale_worker){.alloc_index = w->who.alloc_index, .slots = w->who.slots, .leases = w->n_grants,
			    .committing = w->committing, .mark = w->mark};
			snprintf(out[count].worker, sizeof(out[count].worker), "%s", w->who.id);
			snprintf(out[count].alloc, sizeof(out[count].alloc), "%s", w->who.alloc);
		}
		count++;
	}
	return count;
}
