/* workers.c - workers: who they are, their polls and their beats. */
#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

#define UNKNOWN_WORKER "this dispatcher does not know the worker: register first"

struct worker *
worker_get(const struct core *c, const char *id)
{
	return map_get(c->worker_by_id, id);
}

struct worker *
worker_new(struct core *c, const char *id)
{
	struct worker *w = xcalloc(1, sizeof(*w));

	snprintf(w->who.id, sizeof(w->who.id), "%s", id);
	w->verdict.at_mono = NEVER;
	list_init(&w->waiting);
	list_init(&w->grants);
	timer_init(&w->poll.timer, TIMER_POLL);
	timer_init(&w->beat.timer, TIMER_BEAT);
	timer_init(&w->timer, TIMER_WORKER);
	list_add(&c->workers, &w->all);
	map_put(c->worker_by_id, id, w);
	return w;
}

void
worker_free(struct core *c, struct worker *w)
{
	assert(w->n_grants == 0);
	poll_close(c, w);
	beat_close(c, w);
	timer_set(c, &w->timer, NEVER);
	list_remove(&w->all);
	map_remove(c->worker_by_id, w->who.id);
	free(w->holds);
	free(w);
}

/* The request whose one-shot the worker is: by number, or by child if the dispatch was made by hand. */
struct request *
worker_request(const struct core *c, const struct worker *w)
{
	if (!w->who.once)
		return NULL;
	return w->who.request != 0 ? request_get(c, w->who.request) : request_of_child(c, w->who.child);
}

void
worker_seen(struct core *c, struct now now, struct worker *w)
{
	w->seen_mono = now.mono_ms;
	timer_set(c, &w->timer, now.mono_ms + c->config.lease_ttl_ms + 1);
}

/* Silent for long: forgotten once it holds nothing. Its leases end by their own deadlines. */
void
worker_timer(struct core *c, struct now now, struct worker *w)
{
	struct request *r = worker_request(c, w);

	if (w->n_grants > 0 || w->committing > 0 || w->poll.caller != 0 || w->beat.caller != 0) {
		timer_set(c, &w->timer, now.mono_ms + c->config.lease_ttl_ms);
		return;
	}
	worker_free(c, w);
	if (r != NULL) {
		r->ttl_mono = now.mono_ms;
		request_step(c, now, r);
	}
}

void
core_register(struct core *c, struct now now, uint64_t caller, const struct core_worker *who)
{
	struct worker *w = worker_get(c, who->id);
	struct request *r;

	caller_open(c, caller, NULL);
	if (who->slots < 1 || who->slots > CORE_LEASES_MAX || who->id[0] == '\0') {
		core_answer_err(c, caller, ANS_REGISTER, "", ERR_INVALID, "slots must be 1..32 and the worker must have an id");
		return;
	}
	if (w == NULL)
		w = worker_new(c, who->id);
	if (w->poll.caller != 0)
		poll_answer_empty(c, w, false, 0, "");
	w->who = *who;
	w->known = true;
	w->leaving = w->over = w->drain_told = false;
	w->verdict.at_mono = NEVER;
	w->mark = drain_of(c, who);
	w->lane = vertical_get(c, who->vertical)->lanes;
	worker_enter_lane(c, w);
	worker_seen(c, now, w);
	r = worker_request(c, w);
	if (r != NULL) {
		r->registered = true;
		if (r->row.child[0] == '\0')
			request_set_child(c, r, who->child);
		request_step(c, now, r);
	}
	core_answer_state(c, caller, ANS_REGISTER, "", RUN_QUEUED);
	core_settle(c, now);
}

void
core_leave(struct core *c, struct now now, const char *id)
{
	struct worker *w = worker_get(c, id);

	if (w == NULL)
		return;
	w->over = true;
	w->verdict = (struct verdict){.at_mono = now.mono_ms, .event = EV_HAND_BACK, .why = "its worker left"};
	list_each(&w->grants, l, after)
		grant_judge(c, container_of(l, struct grant, of_worker)->run, &w->verdict);
	if (w->poll.caller != 0)
		poll_answer_empty(c, w, true, 0, "");
	if (w->beat.caller != 0)
		beat_timer(c, now, w);
	timer_set(c, &w->timer, now.mono_ms + 1);
	core_settle(c, now);
}

static int
by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

bool
worker_holds(const struct worker *w, uint64_t target_key)
{
	return target_key != 0 && w->n_holds > 0 && bsearch(&target_key, w->holds, w->n_holds, sizeof(target_key), by_number) != NULL;
}

void
core_worker_holds(struct core *c, struct now now, const char *id, const uint64_t *keys, size_t n)
{
	struct worker *w = worker_get(c, id);

	(void)now;
	if (w == NULL)
		return;
	free(w->holds);
	w->n_holds = n < CORE_HOLDS_MAX ? n : CORE_HOLDS_MAX;
	w->holds = w->n_holds > 0 ? xmemdup(keys, w->n_holds * sizeof(*keys)) : NULL;
	if (w->n_holds > 0)
		qsort(w->holds, w->n_holds, sizeof(*keys), by_number);
}

/* --- what polls and beats share --- */

static void
wait_open(struct core *c, struct now now, struct worker *w, struct poll *p, uint64_t caller, const struct held *held, size_t n_held,
    int64_t wait_ms)
{
	caller_open(c, caller, w);
	p->caller = caller;
	p->held = n_held > 0 ? xmemdup(held, n_held * sizeof(*held)) : NULL;
	p->n_held = n_held;
	timer_set(c, &p->timer, now.mono_ms + wait_ms);
}

static void
wait_close(struct core *c, struct poll *p)
{
	if (p->caller != 0)
		caller_part(c, p->caller);
	p->caller = 0;
	free(p->held);
	p->held = NULL;
	p->n_held = 0;
	timer_set(c, &p->timer, NEVER);
}

/* The lease in force that h stands for, or NULL. */
static struct run *
held_run(const struct core *c, const struct held *h)
{
	struct run *run = run_get(c, h->run);

	return run != NULL && run->grant != NULL && fence_equal(run->fence, h->fence) ? run : NULL;
}

/* A lease that its worker lists lives on. What is being ended stays so if that commit succeeds. */
static void
renew(struct core *c, struct now now, struct worker *w, const struct held *held, size_t n_held)
{
	worker_seen(c, now, w);
	for (size_t i = 0; i < n_held; i++) {
		struct run *run = held_run(c, &held[i]);

		if (run == NULL || run->grant->worker != w)
			continue;
		run->grant->deadline_mono = now.mono_ms + c->config.lease_ttl_ms;
		if (run->grant->verdict.at_mono == NEVER)
			run->grant->seek = SEEK_NONE;
		run_arm(c, run);
	}
}

/* --- polls --- */

void
poll_close(struct core *c, struct worker *w)
{
	wait_close(c, &w->poll);
	list_remove(&w->waiting);
}

void
poll_answer_empty(struct core *c, struct worker *w, bool leave, int code, const char *why)
{
	struct answer *a = xcalloc(1, sizeof(*a));
	uint64_t caller = w->poll.caller;

	a->kind = ANS_LEASE;
	a->exit = leave;
	if (code != 0)
		err_set(&a->err, code, "%s", why);
	poll_close(c, w);
	core_answer(c, caller, a);
}

void
poll_timer(struct core *c, struct now now, struct worker *w)
{
	(void)now;
	poll_answer_empty(c, w, false, 0, "");
}

/* One-shots first, then by allocation index, so that the top of the group is idle when it shrinks; equals in the order of coming. */
static int
line_key(const struct worker *w)
{
	if (w->who.once)
		return -1;
	return w->who.alloc_index < 0 ? INT_MAX : w->who.alloc_index;
}

static void
wait_in_line(struct worker *w)
{
	struct link *at = w->lane->waiting.prev;

	while (at != &w->lane->waiting && line_key(container_of(at, struct worker, waiting)) > line_key(w))
		at = at->prev;
	list_add(at->next, &w->waiting);
}

void
worker_enter_lane(const struct core *c, struct worker *w)
{
	struct vertical *v = w->lane->vertical;

	w->lane = &v->lanes[vertical_one_shots(c, v) ? w->who.class : CLASS_NORMAL];
	if (w->poll.caller != 0) {
		list_remove(&w->waiting);
		wait_in_line(w);
	}
}

void
core_lease(struct core *c, struct now now, uint64_t caller, const char *id, unsigned free_slots, const char *only,
    const struct held *held, size_t n_held, int64_t wait_ms)
{
	struct worker *w = worker_get(c, id);

	if (w == NULL || !w->known) {
		caller_open(c, caller, NULL);
		core_answer_err(c, caller, ANS_LEASE, "", ERR_NOTFOUND, UNKNOWN_WORKER);
		return;
	}
	if (w->poll.caller != 0)
		poll_answer_empty(c, w, false, 0, "");
	wait_open(c, now, w, &w->poll, caller, held, n_held, wait_ms);
	w->poll.free = free_slots;
	snprintf(w->poll.only, sizeof(w->poll.only), "%s", only == NULL ? "" : only);
	renew(c, now, w, held, n_held);
	lease_listed(w);
	wait_in_line(w);
	lease_serve(c, now, w);
	core_settle(c, now);
}

/* --- beats --- */

void
beat_close(struct core *c, struct worker *w)
{
	wait_close(c, &w->beat);
}

static bool
must_drain(const struct core *c, const struct worker *w)
{
	const struct request *r = worker_request(c, w);

	return r != NULL && (r->withdraw || r->row.state == REQ_STOPPING);
}

/* Sorts what the worker holds: kept, to be canceled, lost. *ret_news: it holds something that the worker was not told. */
static struct answer *
beat_answer(const struct core *c, const struct worker *w, bool *ret_news)
{
	const struct poll *p = &w->beat;
	struct answer *a = xcalloc(1, sizeof(*a));

	a->kind = ANS_BEAT;
	a->drain = must_drain(c, w);
	*ret_news = a->drain && !w->drain_told;
	a->cancel = xcalloc(p->n_held, sizeof(*a->cancel));
	a->lost = xcalloc(p->n_held, sizeof(*a->lost));
	for (size_t i = 0; i < p->n_held; i++) {
		const struct run *run = held_run(c, &p->held[i]);

		if (run == NULL)
			memcpy(a->lost[a->n_lost++], p->held[i].run, RUN_ID_MAX);
		else if (run->state == RUN_CANCELING)
			memcpy(a->cancel[a->n_cancel++], p->held[i].run, RUN_ID_MAX);
		*ret_news = *ret_news || run == NULL || (run->state == RUN_CANCELING && !run->grant->cancel_told);
	}
	return a;
}

/* A worker that is still killing what it was told to cancel must not be answered at once again and again. */
static void
beat_send(struct core *c, struct worker *w, struct answer *a)
{
	uint64_t caller = w->beat.caller;

	for (size_t i = 0; i < w->beat.n_held; i++) {
		struct run *run = held_run(c, &w->beat.held[i]);

		if (run != NULL && run->state == RUN_CANCELING)
			run->grant->cancel_told = true;
	}
	w->drain_told = a->drain;
	beat_close(c, w);
	core_answer(c, caller, a);
}

void
beat_timer(struct core *c, struct now now, struct worker *w)
{
	bool news;

	(void)now;
	beat_send(c, w, beat_answer(c, w, &news));
}

void
beat_wake(struct core *c, struct worker *w)
{
	struct answer *a;
	bool news;

	if (w->beat.caller == 0)
		return;
	a = beat_answer(c, w, &news);
	if (news)
		beat_send(c, w, a);
	else
		core_answer(c, 0, a); /* nobody is told: the beat waits on */
}

void
core_beat(struct core *c, struct now now, uint64_t caller, const char *id, const struct held *held, size_t n_held, int64_t wait_ms)
{
	struct worker *w = worker_get(c, id);

	if (w == NULL || !w->known) {
		caller_open(c, caller, NULL);
		core_answer_err(c, caller, ANS_BEAT, "", ERR_NOTFOUND, UNKNOWN_WORKER);
		return;
	}
	if (w->beat.caller != 0)
		beat_timer(c, now, w);
	wait_open(c, now, w, &w->beat, caller, held, n_held, wait_ms);
	renew(c, now, w, held, n_held);
	if (wait_ms <= 0)
		beat_timer(c, now, w);
	else
		beat_wake(c, w);
	core_settle(c, now);
}
