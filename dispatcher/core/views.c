/* views.c - reading the core: status, queue, workers. */
#include <stdio.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

const struct run_row *
core_find(const struct core *c, const char *id)
{
	const struct run *run = run_get(c, id);

	/* A first commit in flight is nothing to speak of yet. */
	if (run == NULL || (run->txn != NULL && run->txn->answer == ANS_SUBMIT && run->attempt == 0 && run->state == RUN_QUEUED))
		return NULL;
	run_row_of(run, c->scratch);
	return c->scratch;
}

static void
depth_workers(const struct core *c, struct now now, const struct lane *lane, struct core_depth *d)
{
	list_each(&c->workers, l, after) {
		const struct worker *w = container_of(l, struct worker, all);

		if (w->known && w->lane == lane) {
			d->workers++;
			d->slots_free += worker_idle(c, w, now);
		}
	}
}

static void
depth_of(const struct core *c, struct now now, const struct lane *lane, struct core_depth *d)
{
	const struct run *oldest = heap_peek(&lane->by_age);

	*d = (struct core_depth){
		.class = lane->class,
		.queued = lane->queued,
		.ready = queue_len(&lane->ready, QUEUE_ALL),
		.running = lane->running,
		.window = lane->vertical->window,
	};
	snprintf(d->vertical, sizeof(d->vertical), "%s", lane->vertical->name);
	if (oldest != NULL && now.real_ms > oldest->since_real_ms)
		d->oldest_ms = now.real_ms - oldest->since_real_ms;
	list_each(&c->requests, l, after) {
		const struct request *r = container_of(l, struct request, all);

		d->requests += r->vertical == lane->vertical && r->row.class == lane->class && !r->row.adopted;
	}
	depth_workers(c, now, lane, d);
}

size_t
core_depths(const struct core *c, struct now now, struct core_depth *out, size_t n)
{
	size_t count = 0;

	list_each(&c->verticals, l, after) {
		const struct vertical *v = container_of(l, struct vertical, all);

		for (size_t k = 0; k < RUN_CLASSES; k++, count++) {
			if (count < n)
				depth_of(c, now, &v->lanes[k], &out[count]);
		}
	}
	return count;
}

size_t
core_workers(const struct core *c, struct now now, struct core_worker_view *out, size_t n)
{
	size_t count = 0;

	list_each(&c->workers, l, after) {
		const struct worker *w = container_of(l, struct worker, all);
		const struct request *r = worker_request(c, w);

		if (!w->known)
			continue;
		if (count < n)
			out[count] = (struct core_worker_view){
				.worker = w->who,
				.leases = w->n_grants,
				.committing = w->committing,
				.mark = w->mark,
				.seen_ms_ago = now.mono_ms - w->seen_mono,
				.draining = w->leaving || w->over || w->mark != DRAIN_NONE || (r != NULL && r->withdraw),
				.waiting = w->poll.caller != 0,
			};
		count++;
	}
	return count;
}

void
core_requests(const struct core *c, void (*each)(void *arg, const struct request_row *row), void *arg)
{
	list_each(&c->requests, l, after) {
		const struct request *r = container_of(l, struct request, all);

		if (!r->stray)
			each(arg, &r->row);
	}
}
