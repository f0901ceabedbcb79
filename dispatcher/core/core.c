/* core.c - the core's life, its queue of effects, its callers and its timers. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"
#include "base/retry.h"

#define PRIORITY_AGE_MS 60000 /* where the shell says nothing */
#define SHARE_HALF_MS 600000

static bool
timer_less(const void *a, const void *b)
{
	const struct timer *x = a, *y = b;

	return x->at_mono != y->at_mono ? x->at_mono < y->at_mono : x->order < y->order;
}

static void
timer_set_pos(void *t, size_t pos)
{
	((struct timer *)t)->pos = pos;
}

struct core *
core_new(const struct core_config *config)
{
	struct core *c = xcalloc(1, sizeof(*c));
	struct link *heads[] = {&c->runs, &c->verticals, &c->workers, &c->requests, &c->txns, &c->drains, &c->pauses, &c->dirty_keys};
	struct map **maps[] = {&c->run_by_id, &c->worker_by_id, &c->request_by_seq, &c->request_by_child, &c->callers, &c->interned, &c->keys};

	c->config = *config;
	if (c->config.priority_age_ms <= 0)
		c->config.priority_age_ms = PRIORITY_AGE_MS;
	if (c->config.share_half_ms <= 0)
		c->config.share_half_ms = SHARE_HALF_MS;
	c->limits = (struct run_limits){
		.max_lost = config->max_lost,
		.max_crashes = config->max_crashes,
		.max_infra = config->max_infra,
		.backoff_base_ms = config->backoff_base_ms,
		.backoff_cap_ms = config->backoff_cap_ms,
	};
	c->rng = config->seed;
	c->next_txn = c->next_order = 1;
	c->next_seq = config->next_seq;
	c->writable = c->nomad = true;
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		list_init(heads[i]);
	for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++)
		*maps[i] = map_new();
	c->timers = heap_make(timer_less, timer_set_pos);
	timer_init(&c->drain_timer, TIMER_DRAIN);
	c->effects_end = &c->effects;
	c->scratch = xcalloc(1, sizeof(*c->scratch));
	return c;
}

static void
map_free_values(struct map *m)
{
	size_t cursor = 0;
	void *value;

	while (map_next(m, &cursor, NULL, &value))
		free(value);
	map_free(m);
}

/* One that no run, worker or request refers to any more. */
static void
free_vertical(struct vertical *v)
{
	for (size_t k = 0; k < RUN_CLASSES; k++) {
		queue_release(&v->lanes[k].ready);
		heap_release(&v->lanes[k].by_age);
	}
	shares_free(v);
	free(v);
}

void
core_free(struct core *c)
{
	struct effect e;

	if (c == NULL)
		return;
	list_each(&c->txns, l, after) {
		struct txn *t = container_of(l, struct txn, all);

		txn_free(c, t);
	}
	list_each(&c->runs, l, after) {
		struct run *run = container_of(l, struct run, all);

		if (run->grant != NULL)
			grant_detach(c, (struct now){0}, run);
		run_free(c, run);
	}
	list_each(&c->workers, l, after)
		worker_free(c, container_of(l, struct worker, all));
	list_each(&c->requests, l, after) {
		struct request *r = container_of(l, struct request, all);

		r->grants = 0; /* leases whose commit is in flight go with the core */
		request_free(c, r);
	}
	list_each(&c->verticals, l, after)
		free_vertical(container_of(l, struct vertical, all));
	while (core_take(c, &e))
		core_effect_release(&e);
	drain_free(c);
	pauses_free(c);
	map_free(c->keys);
	map_free(c->run_by_id);
	map_free(c->worker_by_id);
	map_free(c->request_by_seq);
	map_free(c->request_by_child);
	map_free_values(c->callers);
	map_free_values(c->interned);
	heap_release(&c->timers);
	free(c->scratch);
	free(c);
}

/* --- effects --- */

/* Commits and answers are most of all effects, and small: they come without the rows of the others. */
static size_t
effect_size(enum effect_kind kind)
{
	return kind == EFF_COMMIT || kind == EFF_ANSWER ? offsetof(struct effect, run) : sizeof(struct effect);
}

struct effect *
core_emit(struct core *c, enum effect_kind kind)
{
	struct effect_node *n = xcalloc(1, offsetof(struct effect_node, effect) + effect_size(kind));

	n->effect.kind = kind;
	*c->effects_end = n;
	c->effects_end = &n->next;
	return &n->effect;
}

bool
core_take(struct core *c, struct effect *ret)
{
	struct effect_node *n = c->effects;

	if (n == NULL)
		return false;
	memcpy(ret, &n->effect, effect_size(n->effect.kind));
	c->effects = n->next;
	if (c->effects == NULL)
		c->effects_end = &c->effects;
	free(n);
	return true;
}

void
core_effect_release(struct effect *e)
{
	for (size_t i = 0; i < e->n_ops; i++)
		free(e->ops[i].spec);
	free(e->ops);
	if (e->answer != NULL) {
		for (size_t i = 0; i < e->answer->n_leases; i++)
			free(e->answer->leases[i].spec);
		free(e->answer->leases);
		free(e->answer->cancel);
		free(e->answer->lost);
		free(e->answer);
	}
	e->n_ops = 0;
	e->ops = NULL;
	e->answer = NULL;
}

/* --- callers --- */

const char *
number_key(uint64_t n, char out[NUMBER_KEY_LEN])
{
	char *at = out + NUMBER_KEY_LEN - 1;

	*at = '\0';
	do {
		*--at = "0123456789abcdef"[n % 16];
		n /= 16;
	} while (n != 0);
	return at;
}

void
caller_open(struct core *c, uint64_t caller, struct worker *worker)
{
	struct caller *k;
	char key[NUMBER_KEY_LEN];

	if (caller == 0)
		return;
	k = xcalloc(1, sizeof(*k));
	k->id = caller;
	k->worker = worker;
	k = map_put(c->callers, number_key(caller, key), k);
	assert(k == NULL);
}

bool
caller_is_open(const struct core *c, uint64_t caller)
{
	char key[NUMBER_KEY_LEN];

	return caller != 0 && map_get(c->callers, number_key(caller, key)) != NULL;
}

void
caller_part(struct core *c, uint64_t caller)
{
	char key[NUMBER_KEY_LEN];
	struct caller *k = map_get(c->callers, number_key(caller, key));

	if (k != NULL)
		k->worker = NULL;
}

void
core_answer(struct core *c, uint64_t caller, struct answer *a)
{
	struct effect *e;
	struct caller *k = NULL;
	char key[NUMBER_KEY_LEN];

	if (caller != 0)
		k = map_remove(c->callers, number_key(caller, key));
	if (k == NULL) {
		struct effect unsent = {.kind = EFF_ANSWER, .answer = a};

		core_effect_release(&unsent);
		return;
	}
	free(k);
	e = core_emit(c, EFF_ANSWER);
	e->caller = caller;
	e->answer = a;
}

void
core_answer_err(struct core *c, uint64_t caller, enum answer_kind kind, const char *run, int code, const char *text)
{
	struct answer *a = xcalloc(1, sizeof(*a));

	a->kind = kind;
	text_copy(a->run, sizeof(a->run), run);
	err_set(&a->err, code, "%s", text);
	core_answer(c, caller, a);
}

void
core_answer_state(struct core *c, uint64_t caller, enum answer_kind kind, const char *run, enum run_state state)
{
	struct answer *a = xcalloc(1, sizeof(*a));

	a->kind = kind;
	a->state = state;
	text_copy(a->run, sizeof(a->run), run);
	core_answer(c, caller, a);
}

void
core_caller_gone(struct core *c, struct now now, uint64_t caller)
{
	char key[NUMBER_KEY_LEN];
	struct caller *k = map_remove(c->callers, number_key(caller, key));

	if (k != NULL && k->worker != NULL) {
		if (k->worker->poll.caller == caller)
			poll_close(c, k->worker);
		if (k->worker->beat.caller == caller)
			beat_close(c, k->worker);
	}
	free(k);
	core_settle(c, now);
}

/* --- timers --- */

void
timer_init(struct timer *t, enum timer_kind kind)
{
	t->pos = HEAP_NOWHERE;
	t->kind = kind;
	t->at_mono = NEVER;
}

void
timer_set(struct core *c, struct timer *t, int64_t at_mono)
{
	if (t->pos != HEAP_NOWHERE) {
		if (t->at_mono == at_mono)
			return;
		heap_remove(&c->timers, t->pos);
	}
	t->at_mono = at_mono;
	if (at_mono == NEVER)
		return;
	t->order = c->next_order++;
	heap_push(&c->timers, t);
}

int64_t
core_next_wake(const struct core *c)
{
	const struct timer *t = heap_peek(&c->timers);

	return t == NULL ? NEVER : t->at_mono;
}

static void
timer_fire(struct core *c, struct now now, struct timer *t)
{
	switch (t->kind) {
	case TIMER_RUN:
		run_timer(c, now, container_of(t, struct run, timer));
		break;
	case TIMER_POLL:
		poll_timer(c, now, container_of(t, struct worker, poll.timer));
		break;
	case TIMER_BEAT:
		beat_timer(c, now, container_of(t, struct worker, beat.timer));
		break;
	case TIMER_WORKER:
		worker_timer(c, now, container_of(t, struct worker, timer));
		break;
	case TIMER_REQUEST:
		request_step(c, now, container_of(t, struct request, timer));
		break;
	case TIMER_VERTICAL:
		vertical_all_dirty(container_of(t, struct vertical, timer));
		break;
	case TIMER_DRAIN:
		drain_timer(c, now);
		break;
	case TIMER_KINDS:
		break;
	}
}

void
core_tick(struct core *c, struct now now)
{
	struct timer *t;

	while ((t = heap_peek(&c->timers)) != NULL && t->at_mono <= now.mono_ms) {
		heap_pop(&c->timers);
		timer_fire(c, now, t);
	}
	core_settle(c, now);
}

/* --- small things --- */

/* splitmix64 (Steele, Lea, Flood 2014): one word of state, every seed is fine. */
uint64_t
core_random(struct core *c)
{
	uint64_t z = (c->rng += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

int64_t
core_backoff(struct core *c, unsigned n, int64_t least_ms)
{
	struct retry_policy p = {
		.max_attempts = RETRY_MAX_ATTEMPTS,
		.base_ms = (uint32_t)c->config.backoff_base_ms,
		.cap_ms = (uint32_t)c->config.backoff_cap_ms,
	};
	unsigned attempt = n < 1 ? 1 : n < RETRY_MAX_ATTEMPTS ? n : RETRY_MAX_ATTEMPTS - 1;
	int64_t ms = retry_next(&p, attempt, 0, core_random(c));

	return ms > least_ms ? ms : least_ms;
}

bool
ledger_ready(const struct core *c, struct now now)
{
	return c->writable && now.mono_ms >= c->ledger_hold_mono;
}

const char *
core_intern(struct core *c, const char *name)
{
	char *copy = map_get(c->interned, name);

	if (copy == NULL) {
		copy = xstrdup(name);
		map_put(c->interned, copy, copy);
	}
	return copy;
}
