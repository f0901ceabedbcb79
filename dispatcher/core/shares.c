/* shares.c - what each tenant has used of a vertical lately: charged when a lease is given, corrected as it goes on and ends. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

struct share *
share_get(struct core *c, struct vertical *v, const char *tenant)
{
	struct share *s = map_get(v->share_by_tenant, tenant);

	if (s != NULL)
		return s;
	s = xcalloc(1, sizeof(*s));
	s->tenant = core_intern(c, tenant);
	s->paused = tenant_paused(c, tenant);
	for (size_t k = 0; k < RUN_CLASSES; k++)
		queue_tenant_init(&s->ready[k], &s->use, c->next_order++);
	list_add(&v->shares, &s->all);
	map_put(v->share_by_tenant, s->tenant, s);
	return s;
}

void
shares_free(struct vertical *v)
{
	list_each(&v->shares, l, after) {
		struct share *s = container_of(l, struct share, all);

		for (size_t k = 0; k < RUN_CLASSES; k++)
			queue_tenant_release(&s->ready[k]);
		free(s);
	}
	map_free(v->share_by_tenant);
}

/* Puts another charge in place of the run's. */
static void
recharge(struct run *run, double charge)
{
	struct share *s = run->share;

	s->running += charge > 0 && run->charge <= 0;
	s->running -= charge <= 0 && run->charge > 0;
	s->use += charge - run->charge;
	run->charge = charge;
	for (size_t k = 0; k < RUN_CLASSES; k++)
		queue_tenant_moved(&run->vertical->lanes[k].ready, &s->ready[k]);
}

/* Before numbers become too large: every use and every charge in the terms of a unit of 1. */
static void
scale_down(struct core *c, struct vertical *v)
{
	double unit = v->share_clock.unit;

	list_each(&v->shares, l, after)
		container_of(l, struct share, all)->use /= unit;
	list_each(&c->runs, l, after) {
		struct run *run = container_of(l, struct run, all);

		if (run->vertical == v)
			run->charge /= unit;
	}
	v->share_clock.unit = 1;
	for (size_t k = 0; k < RUN_CLASSES; k++)
		queue_resort(&v->lanes[k].ready);
}

static void
clock_to(struct core *c, struct now now, struct vertical *v)
{
	if (share_unit(&v->share_clock, now.mono_ms) > SHARE_UNIT_MAX)
		scale_down(c, v);
}

static int64_t
expected_ms(const struct vertical *v)
{
	int64_t mean_ms = service_mean_ms(&v->service);

	return mean_ms > 0 ? mean_ms : SERVICE_GUESS_MS;
}

double
share_next_charge(const struct core *c, const struct vertical *v)
{
	(void)c;
	return v->share_clock.unit > 0 ? share_weight(&v->share_clock, expected_ms(v)) : 0;
}

void
share_charge(struct core *c, struct now now, struct run *run)
{
	struct vertical *v = run->vertical;

	clock_to(c, now, v);
	recharge(run, share_weight(&v->share_clock, expected_ms(v)));
}

void
share_refund(struct core *c, struct run *run)
{
	(void)c;
	recharge(run, 0);
}

/* Charges what was really used, and leaves that with the tenant. */
void
share_settle(struct core *c, struct now now, struct run *run)
{
	struct vertical *v = run->vertical;

	clock_to(c, now, v);
	recharge(run, share_weight(&v->share_clock, now.mono_ms - run->grant->since_mono));
	run->share->running -= run->charge > 0;
	run->charge = 0;
}

void
shares_correct(struct core *c, struct now now, struct vertical *v)
{
	if (now.mono_ms - v->shared_mono < SHARE_STEP_MS)
		return;
	v->shared_mono = now.mono_ms;
	clock_to(c, now, v);
	list_each(&c->workers, l, after) {
		struct worker *w = container_of(l, struct worker, all);

		list_each(&w->grants, g, after_g) {
			const struct grant *grant = container_of(g, struct grant, of_worker);
			double used = share_weight(&v->share_clock, now.mono_ms - grant->since_mono);

			if (grant->run->vertical == v && used > grant->run->charge)
				recharge(grant->run, used);
		}
	}
}
