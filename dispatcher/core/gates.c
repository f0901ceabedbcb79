/* gates.c - the core's circuit breakers: of a vertical whose runs fail for want of something around them, of dependencies that the
 * shell watches, and of dispatch calls to Nomad. */
#include <stdio.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

static struct dependency *
dependency_named(struct core *c, const char *name)
{
	for (size_t i = 0; i < c->n_dependencies; i++) {
		if (strcmp(c->dependencies[i].name, name) == 0)
			return &c->dependencies[i];
	}
	return NULL;
}

const struct dependency *
dependency_away(const struct core *c)
{
	for (size_t i = 0; i < c->n_dependencies; i++) {
		if (!c->dependencies[i].ok)
			return &c->dependencies[i];
	}
	return NULL;
}

void
core_dependency(struct core *c, struct now now, const char *name, bool ok, const char *why)
{
	struct dependency *d = dependency_named(c, name);
	bool back;

	if (d == NULL && c->n_dependencies == DEPENDENCIES_MAX)
		return;
	if (d == NULL) {
		d = &c->dependencies[c->n_dependencies++];
		snprintf(d->name, sizeof(d->name), "%s", name);
		d->ok = true;
	}
	back = ok && !d->ok;
	d->ok = ok;
	snprintf(d->why, sizeof(d->why), "%s", ok || why == NULL ? "" : why);
	if (back)
		verticals_dirty(c);
	core_settle(c, now);
}

bool
gate_open(struct core *c, struct now now, struct vertical *v)
{
	if (dependency_away(c) != NULL)
		return false;
	if (breaker_allows(&v->breaker, now.mono_ms))
		return true;
	if (v->breaker.state == BREAKER_OPEN)
		vertical_wake(c, v, v->breaker.until_mono);
	return false;
}

size_t
gate_room(const struct core *c, struct now now, const struct vertical *v)
{
	const struct breaker *b = &v->breaker;

	if (dependency_away(c) != NULL || (b->state == BREAKER_OPEN && b->until_mono > now.mono_ms))
		return 0;
	if (b->state == BREAKER_CLOSED)
		return SIZE_MAX;
	return b->state == BREAKER_OPEN || b->probe == 0 ? 1 : 0;
}

/* Runs that fail for want of something around them speak against their vertical; everything else that ends by itself, for it. */
void
gate_attempt_ended(struct core *c, struct now now, const struct run *run, const struct run_row *next, enum run_event event)
{
	struct breaker *b = &run->vertical->breaker;
	bool more = false;

	if (event == EV_FAIL && next->fail == FAIL_INFRA)
		breaker_fail(b, run->entry.order, now.mono_ms, core_random(c), run->share->tenant, next->reason);
	else if (event == EV_COMPLETE || event == EV_FAIL || event == EV_TIMEOUT)
		more = breaker_ok(b, run->entry.order);
	gate_drop(c, run);
	if (more)
		vertical_all_dirty(run->vertical);
}

void
gate_drop(struct core *c, const struct run *run)
{
	(void)c;
	if (breaker_drop(&run->vertical->breaker, run->entry.order))
		vertical_all_dirty(run->vertical);
}

void
core_breakers(const struct core *c, struct now now, void (*each)(void *arg, const struct core_breaker *b), void *arg)
{
	struct core_breaker nomad = {.kind = "dependency", .name = "Nomad", .state = c->dispatching.state, .failures = c->dispatching.failures};

	if (!c->nomad)
		nomad.state = BREAKER_OPEN;
	else if (nomad.state == BREAKER_OPEN && c->dispatching.until_mono > now.mono_ms)
		nomad.until_ms = c->dispatching.until_mono - now.mono_ms;
	snprintf(nomad.why, sizeof(nomad.why), "%s", c->nomad ? c->dispatching.why : c->nomad_why);
	if (c->config.cluster)
		each(arg, &nomad);
	for (size_t i = 0; i < c->n_dependencies; i++) {
		const struct dependency *d = &c->dependencies[i];
		struct core_breaker b = {.kind = "dependency", .state = d->ok ? BREAKER_CLOSED : BREAKER_OPEN};

		snprintf(b.name, sizeof(b.name), "%s", d->name);
		snprintf(b.why, sizeof(b.why), "%s", d->why);
		each(arg, &b);
	}
	list_each(&c->verticals, l, after) {
		const struct vertical *v = container_of(l, struct vertical, all);
		struct core_breaker b = {.kind = "vertical", .state = v->breaker.state, .failures = v->breaker.failures,
			.tenant = v->breaker.tenant};

		snprintf(b.name, sizeof(b.name), "%s", v->name);
		snprintf(b.why, sizeof(b.why), "%s", v->breaker.why);
		if (v->breaker.state == BREAKER_OPEN && v->breaker.until_mono > now.mono_ms)
			b.until_ms = v->breaker.until_mono - now.mono_ms;
		each(arg, &b);
	}
}
