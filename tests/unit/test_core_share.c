/* Properties of the order over hours of virtual time: shares converge, nobody starves, whatever others do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "dispatcher/core/core.h"

#define SLOTS 12
#define STEP_MS 100
#define HOUR_MS (3600 * 1000)
#define TENANTS 4
#define VERTICAL "python"

struct slot {
	char run[RUN_ID_MAX];
	struct fence fence;
	int tenant;
	int64_t since_ms, end_ms;
};

struct load { /* what a tenant does */
	size_t keep_queued;        /* it submits as long as fewer than these wait */
	int64_t min_ms, max_ms;    /* its runs take; the longest are rare */
	int priority;
};

struct world {
	struct core *core;
	struct now now;
	uint64_t rng, caller, poll, serial;
	struct slot slots[SLOTS];
	struct load load[TENANTS];
	size_t queued[TENANTS], leased[TENANTS];
	double used_ms[TENANTS];
	const char *watched;       /* a run; when it was leased */
	int64_t watched_at_ms;
};

static uint64_t
chance(struct world *w)
{
	uint64_t x = w->rng;

	x ^= x << 13, x ^= x >> 7, x ^= x << 17; /* xorshift64, Marsaglia 2003 */
	return w->rng = x;
}

static void
take_lease(struct world *w, const struct lease *l)
{
	int tenant = l->run[5] - '0';
	const struct load *load = &w->load[tenant];
	int64_t span = load->max_ms - load->min_ms + 1, rare = (int64_t)(chance(w) % (uint64_t)span);

	for (size_t i = 0; i < SLOTS; i++) {
		struct slot *s = &w->slots[i];

		if (s->run[0] != '\0')
			continue;
		*s = (struct slot){.fence = l->fence, .tenant = tenant, .since_ms = w->now.mono_ms};
		memcpy(s->run, l->run, sizeof(s->run));
		s->end_ms = w->now.mono_ms + load->min_ms + (chance(w) % 8 == 0 ? rare : rare / 10);
		w->queued[tenant]--;
		w->leased[tenant]++;
		if (w->watched != NULL && strcmp(w->watched, l->run) == 0)
			w->watched_at_ms = w->now.mono_ms;
		return;
	}
	fail_msg("more leases than slots");
}

/* The ledger writes at once. */
static void
pump(struct world *w)
{
	struct effect e;

	while (core_take(w->core, &e)) {
		char *specs[CORE_OPS_MAX];
		size_t n = 0;

		for (size_t i = 0; i < e.n_ops; i++) {
			if (e.ops[i].want_spec)
				specs[n++] = xstrdup("{}");
		}
		if (e.kind == EFF_COMMIT)
			core_committed(w->core, w->now, e.txn, COMMIT_OK, specs, n);
		if (e.kind == EFF_ANSWER && e.caller == w->poll) {
			w->poll = 0;
			for (size_t i = 0; i < e.answer->n_leases; i++)
				take_lease(w, &e.answer->leases[i]);
		}
		core_effect_release(&e);
	}
}

static void
submit(struct world *w, int tenant, const char *name, const char *id)
{
	struct core_submission s = {.needs = {.vertical = VERTICAL, .timeout_ms = HOUR_MS, .priority = w->load[tenant].priority}};

	if (id != NULL)
		snprintf(s.id, sizeof(s.id), "%s", id);
	else
		snprintf(s.id, sizeof(s.id), "scan-%d%015llx", tenant, (unsigned long long)w->serial++);
	snprintf(s.tenant, sizeof(s.tenant), "%s", name);
	snprintf(s.workflow, sizeof(s.workflow), "scan");
	s.spec = xstrdup("{}");
	w->queued[tenant]++;
	core_submit(w->core, w->now, ++w->caller, &s);
	pump(w);
}

static void
report_ended(struct world *w)
{
	for (size_t i = 0; i < SLOTS; i++) {
		struct slot *s = &w->slots[i];
		struct core_report r = {.worker = "w", .outcome = RUN_COMPLETED, .held.fence = s->fence};

		if (s->run[0] == '\0' || s->end_ms > w->now.mono_ms)
			continue;
		memcpy(r.held.run, s->run, sizeof(r.held.run));
		w->used_ms[s->tenant] += (double)(w->now.mono_ms - s->since_ms);
		s->run[0] = '\0';
		core_report(w->core, w->now, ++w->caller, &r);
		pump(w);
	}
}

static void
poll(struct world *w)
{
	struct held held[SLOTS];
	size_t n = 0;

	for (size_t i = 0; i < SLOTS; i++) {
		if (w->slots[i].run[0] == '\0')
			continue;
		memcpy(held[n].run, w->slots[i].run, sizeof(held[n].run));
		held[n++].fence = w->slots[i].fence;
	}
	w->poll = ++w->caller;
	core_lease(w->core, w->now, w->poll, "w", (unsigned)(SLOTS - n), "", held, n, 5000);
	pump(w);
}

static void
step(struct world *w)
{
	w->now.mono_ms += STEP_MS;
	w->now.real_ms += STEP_MS;
	core_tick(w->core, w->now);
	pump(w);
	for (int t = 0; t < TENANTS; t++) {
		char name[8] = {'t', (char)('0' + t)};

		while (w->queued[t] < w->load[t].keep_queued)
			submit(w, t, name, NULL);
	}
	report_ended(w);
	if (w->poll == 0)
		poll(w);
}

static struct world *
begin(int64_t share_half_ms)
{
	struct world *w = xcalloc(1, sizeof(*w));
	struct core_config config = {.seed = 1, .epoch = 1, .next_seq = 1, .lease_ttl_ms = 30000, .request_ttl_ms = 60000,
	    .max_queued = 100000, .max_lost = 5, .max_crashes = 3, .max_infra = 8, .backoff_base_ms = 1000, .backoff_cap_ms = 30000,
	    .share_half_ms = share_half_ms};
	struct core_worker worker = {.id = "w", .vertical = VERTICAL, .slots = SLOTS, .alloc_index = -1};

	w->rng = 88172645463325252u;
	w->now = (struct now){.mono_ms = 5000000, .real_ms = 1700000000000};
	w->core = core_new(&config);
	core_start(w->core, w->now);
	core_register(w->core, w->now, ++w->caller, &worker);
	pump(w);
	return w;
}

static void
end(struct world *w)
{
	core_check(w->core);
	core_free(w->core);
	free(w);
}

/* Short runs in a long queue, long ones in a short queue, and a few very long ones: each tenant gets its third. */
static void
shares_converge_under_saturation(void **state)
{
	struct world *w = begin(0);
	double total = 0;

	(void)state;
	w->load[0] = (struct load){.keep_queued = 3000, .min_ms = 500, .max_ms = 1500, .priority = 90};
	w->load[1] = (struct load){.keep_queued = 20, .min_ms = 20000, .max_ms = 60000};
	w->load[2] = (struct load){.keep_queued = 40, .min_ms = 1000, .max_ms = 600000, .priority = 50};
	for (int64_t t = 0; t < 4 * (int64_t)HOUR_MS; t += STEP_MS) {
		if (t == HOUR_MS / 2)
			memset(w->used_ms, 0, sizeof(w->used_ms));
		step(w);
	}
	for (int i = 0; i < 3; i++)
		total += w->used_ms[i];
	for (int i = 0; i < 3; i++) {
		if (w->used_ms[i] / total < 1.0 / 3 - 0.05 || w->used_ms[i] / total > 1.0 / 3 + 0.05)
			fail_msg("tenant %d has %.3f of the slots", i, w->used_ms[i] / total);
	}
	end(w);
}

/* Somebody who used much before yields at first, and has its half again soon. */
static void
a_newcomer_catches_up_and_no_more(void **state)
{
	struct world *w = begin(0);
	double all;

	(void)state;
	w->load[0] = (struct load){.keep_queued = 100, .min_ms = 5000, .max_ms = 5000};
	for (int64_t t = 0; t < HOUR_MS; t += STEP_MS)
		step(w);
	w->load[1] = w->load[0];
	memset(w->used_ms, 0, sizeof(w->used_ms));
	for (int64_t t = 0; t < HOUR_MS / 12; t += STEP_MS)
		step(w);
	assert_true(w->used_ms[1] > 5 * w->used_ms[0] && w->used_ms[0] > 0); /* one turn in 32 is the oldest's all the time */
	for (int64_t t = 0; t < HOUR_MS; t += STEP_MS)
		step(w);
	memset(w->used_ms, 0, sizeof(w->used_ms));
	for (int64_t t = 0; t < HOUR_MS; t += STEP_MS)
		step(w);
	all = w->used_ms[0] + w->used_ms[1];
	assert_in_range((int)(100 * w->used_ms[1] / all), 45, 55);
	end(w);
}

/* What is leased counts at once, not only when it has ended. */
static void
slots_that_are_free_together_are_shared(void **state)
{
	struct world *w = begin(HOUR_MS);

	(void)state;
	w->load[0] = w->load[1] = (struct load){.min_ms = 60000, .max_ms = 60000};
	for (int t = 0; t < 2; t++) {
		char name[8] = {'t', (char)('0' + t)};

		for (int i = 0; i < 2 * SLOTS; i++)
			submit(w, t, name, NULL);
	}
	poll(w);
	assert_int_equal(w->leased[0] + w->leased[1], SLOTS);
	assert_int_equal(w->leased[0], SLOTS / 2);
	end(w);
}

/* What was used long ago is forgotten: nobody makes up for it. */
static void
old_use_fades(void **state)
{
	struct world *w = begin(HOUR_MS / 6);
	double before;

	(void)state;
	w->load[0] = (struct load){.keep_queued = 40, .min_ms = 2000, .max_ms = 2000};
	for (int64_t t = 0; t < HOUR_MS / 2; t += STEP_MS)
		step(w);
	w->load[0].keep_queued = 0;
	for (int64_t t = 0; t < 3 * HOUR_MS; t += STEP_MS)
		step(w);
	before = w->used_ms[0];
	w->load[0].keep_queued = 40;
	w->load[1] = w->load[0];
	for (int64_t t = 0; t < HOUR_MS / 6; t += STEP_MS)
		step(w);
	assert_true(w->used_ms[0] - before > 0.45 * (w->used_ms[0] - before + w->used_ms[1]));
	end(w);
}

/* One run of a tenant that has used much, against tenants that nobody has heard of before, all the time. */
static void
newcomers_without_end_starve_nobody(void **state)
{
	struct world *w = begin(24 * (int64_t)HOUR_MS);
	int64_t asked_ms;

	(void)state;
	w->load[0] = (struct load){.keep_queued = 50, .min_ms = 2000, .max_ms = 2000, .priority = 100};
	w->load[3] = (struct load){.min_ms = 2000, .max_ms = 2000, .priority = 100};
	for (int64_t t = 0; t < HOUR_MS / 4; t += STEP_MS)
		step(w);
	w->load[0] = (struct load){.min_ms = 2000, .max_ms = 2000};
	while (w->queued[0] > 0)
		step(w);
	while (w->queued[3] < 40)
		submit(w, 3, "others", NULL);
	step(w);
	w->watched = "scan-0ffffffffffffff";
	submit(w, 0, "t0", w->watched);
	asked_ms = w->now.mono_ms;
	for (int64_t t = 0; t < HOUR_MS * 3 && w->watched_at_ms == 0; t += STEP_MS) {
		char name[32];

		snprintf(name, sizeof(name), "new%lld", (long long)t);
		while (w->queued[3] < 20)
			submit(w, 3, name, NULL);
		step(w);
	}
	/* 100 points are worth 100 minutes; after that it is the oldest. */
	assert_in_range(w->watched_at_ms - asked_ms, 90 * 60000, 102 * 60000);
	end(w);
}

static void
the_least_priority_waits_as_long_as_it_is_worth(void **state)
{
	struct world *w = begin(0);
	int64_t asked_ms;

	(void)state;
	w->load[0] = (struct load){.keep_queued = 50, .min_ms = 3000, .max_ms = 3000, .priority = 0};
	w->watched = "scan-0ffffffffffffff";
	submit(w, 0, "t0", w->watched);
	asked_ms = w->now.mono_ms;
	w->load[0].priority = 30;
	for (int64_t t = 0; t < HOUR_MS && w->watched_at_ms == 0; t += STEP_MS)
		step(w);
	/* Those that came within half an hour after it go first, and what of them was still queued by then. */
	assert_true(w->watched_at_ms - asked_ms >= 29 * 60000 && w->watched_at_ms - asked_ms <= 32 * 60000);
	end(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares_converge_under_saturation), cmocka_unit_test(a_newcomer_catches_up_and_no_more),
		cmocka_unit_test(slots_that_are_free_together_are_shared), cmocka_unit_test(old_use_fades),
		cmocka_unit_test(newcomers_without_end_starve_nobody), cmocka_unit_test(the_least_priority_waits_as_long_as_it_is_worth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
