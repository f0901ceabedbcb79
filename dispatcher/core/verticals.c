/* verticals.c - verticals and their lanes, the health of ledger and Nomad, and what is looked at after every event. */
#include <stdio.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

static bool
age_less(const void *a, const void *b)
{
	const struct run *x = a, *y = b;

	if (x->since_real_ms != y->since_real_ms)
		return x->since_real_ms < y->since_real_ms;
	return x->entry.order < y->entry.order;
}

static void
age_set_pos(void *run, size_t pos)
{
	((struct run *)run)->age_pos = pos;
}

struct vertical *
vertical_get(struct core *c, const char *name)
{
	struct vertical *v;

	list_each(&c->verticals, l, after) {
		v = container_of(l, struct vertical, all);
		if (strcmp(v->name, name) == 0)
			return v;
	}
	v = xcalloc(1, sizeof(*v));
	snprintf(v->name, sizeof(v->name), "%s", name);
	timer_init(&v->timer, TIMER_VERTICAL);
	list_init(&v->shares);
	v->share_by_tenant = map_new();
	v->share_clock.half_ms = c->config.share_half_ms;
	for (size_t k = 0; k < RUN_CLASSES; k++) {
		struct lane *lane = &v->lanes[k];

		lane->vertical = v;
		lane->class = (enum run_class)k;
		queue_init(&lane->ready);
		lane->by_age = heap_make(age_less, age_set_pos);
		list_init(&lane->waiting);
	}
	list_add(&c->verticals, &v->all);
	return v;
}

void
vertical_wake(struct core *c, struct vertical *v, int64_t at_mono)
{
	if (v->timer.pos == HEAP_NOWHERE || v->timer.at_mono > at_mono)
		timer_set(c, &v->timer, at_mono);
}

void
vertical_wake_ledger(struct core *c, struct vertical *v)
{
	if (c->writable)
		vertical_wake(c, v, c->ledger_hold_mono);
}

void
vertical_all_dirty(struct vertical *v)
{
	v->dirty = true;
	for (size_t k = 0; k < RUN_CLASSES; k++)
		v->lanes[k].dirty = true;
}

void
verticals_dirty(struct core *c)
{
	list_each(&c->verticals, l, after)
		vertical_all_dirty(container_of(l, struct vertical, all));
}

bool
vertical_one_shots(const struct core *c, const struct vertical *v)
{
	return c->config.cluster && !v->warm_only;
}

/* Whose runs stand in which lane changes: everybody is taken out of the old place before, and put into the new one after it. */
static void
change_kind(struct core *c, struct now now, struct vertical *v, const struct core_vertical *declared)
{
	list_each(&c->runs, l, after) {
		struct run *run = container_of(l, struct run, all);

		if (run->vertical == v)
			run_leave_lane(c, run);
	}
	v->warm_only = declared->warm_only;
	v->window = declared->window;
	list_each(&c->runs, l, after) {
		struct run *run = container_of(l, struct run, all);

		if (run->vertical == v)
			run_enter_lane(c, now, run);
	}
	list_each(&c->workers, l, after) {
		struct worker *w = container_of(l, struct worker, all);

		if (w->lane != NULL && w->lane->vertical == v)
			worker_enter_lane(c, w);
	}
	vertical_all_dirty(v);
}

void
core_set_vertical(struct core *c, struct now now, const struct core_vertical *declared)
{
	struct vertical *v = vertical_get(c, declared->name);

	if (v->warm_only != declared->warm_only || (v->window == 0) != (declared->window == 0))
		change_kind(c, now, v, declared);
	v->window = declared->window;
	v->dirty = true;
	core_settle(c, now);
}

void
core_warm(struct core *c, struct now now, const struct core_warm *fact)
{
	struct vertical *v = vertical_get(c, fact->vertical);

	v->starting_slots = fact->starting_slots;
	v->warm_never_mono = !fact->never ? 0 : v->warm_never_mono != 0 ? v->warm_never_mono : now.mono_ms;
	snprintf(v->warm_why, sizeof(v->warm_why), "%s", fact->why);
	v->dirty = true;
	core_settle(c, now);
}

/* What was held back while the ledger or Nomad was away is looked at again. */
static void
everything_dirty(struct core *c, struct now now)
{
	verticals_dirty(c);
	list_each(&c->requests, l, after)
		request_step(c, now, container_of(l, struct request, all));
}

void
core_ledger_health(struct core *c, struct now now, bool writable)
{
	bool back = writable && !c->writable;

	c->writable = writable;
	if (back) {
		c->ledger_hold_mono = now.mono_ms;
		everything_dirty(c, now);
		list_each(&c->runs, l, after)
			run_arm(c, container_of(l, struct run, all));
	}
	core_settle(c, now);
}

void
core_nomad_health(struct core *c, struct now now, bool reachable, const char *why)
{
	bool back = reachable && !c->nomad;

	c->nomad = reachable;
	if (back)
		c->dispatching = (struct breaker){.state = BREAKER_CLOSED};
	snprintf(c->nomad_why, sizeof(c->nomad_why), "%s", reachable || why == NULL ? "" : why);
	if (back)
		everything_dirty(c, now);
	core_settle(c, now);
}

void
core_settle(struct core *c, struct now now)
{
	if (!c->started)
		return;
	keys_settle(c, now);
	list_each(&c->verticals, l, after) {
		struct vertical *v = container_of(l, struct vertical, all);

		for (size_t k = 0; k < RUN_CLASSES; k++) {
			struct lane *lane = &v->lanes[k];

			if (lane->dirty) {
				lane->dirty = false;
				shares_correct(c, now, v);
				lane_match(c, now, lane);
				v->dirty = true;
			}
		}
		if (v->dirty) {
			v->dirty = false;
			plan_run(c, now, v, NULL);
			placement_look(c, now, v);
		}
	}
}
