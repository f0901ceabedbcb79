/* scale.c - what an autoscaler reads. */
#include <stdio.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

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
	size_t ready = queue_len(&lane->ready, warm), room = gate_room(c, now, v);

	*s = (struct core_scale){
		.warm_ready = ready < room ? ready : room,
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
			out[count] = (struct core_scale_worker){.alloc_index = w->who.alloc_index, .slots = w->who.slots,
			    .leases = w->n_grants, .committing = w->committing, .mark = w->mark};
			snprintf(out[count].worker, sizeof(out[count].worker), "%s", w->who.id);
			snprintf(out[count].alloc, sizeof(out[count].alloc), "%s", w->who.alloc);
		}
		count++;
	}
	return count;
}
