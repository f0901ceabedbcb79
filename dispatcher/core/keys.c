/* keys.c - concurrency keys: at most so many attempts of a key at once.
 *
 * Who has a slot is no number but a list: of the runs that are ready, are being leased or are leased. A run is in it exactly as
 * long as one of these is true of it, so a slot cannot leak: it ends with the lease, whatever ended that. Runs that are due and
 * find no slot are parked outside the queue; the slots of ready ones go to those of the lowest rank.
 */
#undef NDEBUG /* keys_check is for tests */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

#define PRUNE_MAX 64     /* runs replaced in one go */

struct key {
	char *name;          /* tenant, newline, key */
	struct link runs, slots, dirty;
	struct heap parked;  /* struct run_key, by rank */
};

static bool
before(const struct run *a, const struct run *b)
{
	return a->entry.rank_ms != b->entry.rank_ms ? a->entry.rank_ms < b->entry.rank_ms : a->entry.order < b->entry.order;
}

static bool
parked_less(const void *a, const void *b)
{
	return before(((const struct run_key *)a)->run, ((const struct run_key *)b)->run);
}

static void
parked_set_pos(void *k, size_t pos)
{
	((struct run_key *)k)->parked_pos = pos;
}

static char *
full_name(char out[TENANT_NAME_MAX + CORE_KEY_MAX], const char *tenant, const char *key)
{
	snprintf(out, TENANT_NAME_MAX + CORE_KEY_MAX, "%s\n%s", tenant, key);
	return out;
}

const char *
key_name(const struct run *run)
{
	return strchr(run->key->key->name, '\n') + 1;
}

void
key_join(struct core *c, struct run *run, const struct run_needs *needs)
{
	char name[TENANT_NAME_MAX + CORE_KEY_MAX];
	struct key *key = map_get(c->keys, full_name(name, run->share->tenant, needs->key));
	struct run_key *k = xcalloc(1, sizeof(*k));

	if (key == NULL) {
		key = xcalloc(1, sizeof(*key));
		key->name = xstrdup(name);
		key->parked = heap_make(parked_less, parked_set_pos);
		list_init(&key->runs);
		list_init(&key->slots);
		list_init(&key->dirty);
		map_put(c->keys, name, key);
	}
	*k = (struct run_key){.key = key, .run = run, .parked_pos = HEAP_NOWHERE, .limit = needs->key_limit < 1 ? 1 : needs->key_limit,
	    .mode = needs->key_mode};
	list_init(&k->slot);
	list_add(&key->runs, &k->of_key);
	run->key = k;
}

static void
touch(struct core *c, struct key *key)
{
	if (list_empty(&key->dirty))
		list_add(&c->dirty_keys, &key->dirty);
}

void
key_touch(struct core *c, struct run *run)
{
	touch(c, run->key->key);
}

void
key_quit(struct core *c, struct run *run)
{
	struct key *key = run->key->key;

	run->key->leasing = false;
	key_leave(c, run);
	list_remove(&run->key->of_key);
	free(run->key);
	run->key = NULL;
	touch(c, key);
	if (!list_empty(&key->runs))
		return;
	list_remove(&key->dirty);
	map_remove(c->keys, key->name);
	heap_release(&key->parked);
	free(key->name);
	free(key);
}

const struct run *
key_taken(const struct core *c, const char *tenant, const char *key_text, unsigned limit)
{
	char name[TENANT_NAME_MAX + CORE_KEY_MAX];
	const struct key *key = key_text[0] == '\0' ? NULL : map_get(c->keys, full_name(name, tenant, key_text));
	unsigned n = 0;

	for (const struct link *l = key == NULL ? NULL : key->runs.next; key != NULL && l != &key->runs; l = l->next) {
		if (++n >= limit)
			return container_of((struct link *)l, struct run_key, of_key)->run;
	}
	return NULL;
}

static bool
has_slot(const struct run_key *k)
{
	return k->slot.next != &k->slot;
}

static unsigned
slots_taken(const struct key *key)
{
	unsigned n = 0;

	for (const struct link *l = key->slots.next; l != &key->slots; l = l->next)
		n++;
	return n;
}

/* The run that has a slot and is only ready, of the highest rank; NULL: none. */
static struct run *
last_ready(const struct key *key)
{
	struct run *last = NULL;

	list_each(&key->slots, l, after) {
		struct run *run = container_of(l, struct run_key, slot)->run;

		if (run->entry.pos != HEAP_NOWHERE && (last == NULL || before(last, run)))
			last = run;
	}
	return last;
}

bool
key_admit(struct core *c, struct now now, struct run *run)
{
	struct run_key *k = run->key;
	const struct run_key *first = heap_peek(&k->key->parked);
	struct run *last;

	run->entry.rank_ms = queue_rank_ms(run->since_real_ms, run->priority, c->config.priority_age_ms);
	if (first != NULL && before(first->run, run)) {
		heap_push(&k->key->parked, k);
		touch(c, k->key);
		return false;
	}
	if (slots_taken(k->key) >= k->limit) {
		last = last_ready(k->key);
		if (last == NULL || !before(run, last)) {
			heap_push(&k->key->parked, k);
			return false;
		}
		list_add(&k->key->slots, &k->slot);
		run_unindex(c, last);
		run_index(c, now, last);
		return true;
	}
	list_add(&k->key->slots, &k->slot);
	return true;
}

void
key_leave(struct core *c, struct run *run)
{
	struct run_key *k = run->key;

	if (k->parked_pos != HEAP_NOWHERE)
		heap_remove(&k->key->parked, k->parked_pos);
	if (!has_slot(k) || k->leasing || run->grant != NULL)
		return;
	list_remove(&k->slot);
	touch(c, k->key);
}

void
key_lease(struct run *run)
{
	run->key->leasing = true;
	if (!has_slot(run->key))
		list_add(&run->key->key->slots, &run->key->slot);
}

void
key_leased(struct core *c, struct run *run, bool ok)
{
	run->key->leasing = false;
	if (!ok) {
		run->key->replaced = false; /* that may be what was not written */
		touch(c, run->key->key);
		key_leave(c, run);
	} else if (!has_slot(run->key)) {
		list_add(&run->key->key->slots, &run->key->slot); /* restored */
	}
}

/* --- giving slots out --- */

/* The newest run that replaces others, and is durable. */
static const struct run_key *
replacer(const struct key *key)
{
	const struct run_key *newest = NULL;

	list_each(&key->runs, l, after) {
		const struct run_key *k = container_of(l, struct run_key, of_key);

		if (k->mode == KEY_REPLACE && !(k->run->txn != NULL && k->run->attempt == 0 && k->run->txn->answer == ANS_SUBMIT))
			newest = k;
	}
	return newest;
}

/* Cancels those that came before the newest replacer, the oldest first, until there is a slot for it. Returns false if it has to
 * go on later. */
static bool
prune(struct core *c, struct now now, struct key *key)
{
	const struct run_key *by = replacer(key);
	size_t older = 0, asked = 0;
	char who[REASON_MAX];

	if (by == NULL || by->limit < 1)
		return true;
	list_each(&key->runs, l, after) {
		if (container_of(l, struct run_key, of_key) == by)
			break;
		older++;
	}
	snprintf(who, sizeof(who), "%s, which replaces it", by->run->id);
	list_each(&key->runs, l, after) {
		struct run_key *k = container_of(l, struct run_key, of_key);

		if (k == by || older < by->limit)
			return true;
		older--;
		if (k->replaced || k->run->state == RUN_CANCELING)
			continue;
		if (asked == PRUNE_MAX || !ledger_ready(c, now)) {
			if (c->writable)
				vertical_wake(c, k->run->vertical, ledger_ready(c, now) ? now.mono_ms + 1 : c->ledger_hold_mono);
			return false;
		}
		asked++;
		k->replaced = true;
		cancel_ask(c, now, k->run, 0, who);
	}
	return true;
}

static void
give_slots(struct core *c, struct now now, struct key *key)
{
	struct run_key *k;

	while ((k = heap_peek(&key->parked)) != NULL && slots_taken(key) < k->limit) {
		heap_pop(&key->parked);
		run_index(c, now, k->run);
	}
}

void
keys_settle(struct core *c, struct now now)
{
	struct link todo;

	list_init(&todo);
	while (!list_empty(&c->dirty_keys)) {
		struct link *l = c->dirty_keys.next;

		list_remove(l);
		list_add(&todo, l);
	}
	while (!list_empty(&todo)) {
		struct key *key = container_of(todo.next, struct key, dirty);

		list_remove(&key->dirty);
		give_slots(c, now, key);
		if (!prune(c, now, key))
			touch(c, key);
	}
}

void
key_explain(const struct run *run, char *text, size_t len)
{
	const struct run_key *k = run->key;
	const struct run_key *holder = list_empty(&k->key->slots) ? NULL : container_of(k->key->slots.next, struct run_key, slot);
	size_t ahead = 0;

	for (size_t i = 0; i < k->key->parked.len; i++)
		ahead += before(((const struct run_key *)k->key->parked.items[i])->run, run);
	snprintf(text, len, "its concurrency key \"%s\" has %u of %u slots taken (by %s), %zu runs of the key are before it", key_name(run),
	    slots_taken(k->key), k->limit, holder == NULL ? "nobody" : holder->run->id, ahead);
}

/* --- for tests --- */

void
keys_check(const struct core *c)
{
	list_each(&c->runs, l, after) {
		const struct run *run = container_of(l, struct run, all);
		const struct run_key *k = run->key;
		bool slot;

		if (k == NULL)
			continue;
		slot = run->entry.pos != HEAP_NOWHERE || run->grant != NULL || k->leasing;
		assert(has_slot(k) == slot);
		assert(k->parked_pos == HEAP_NOWHERE || (!slot && k->key->parked.items[k->parked_pos] == k));
		assert(!k->leasing || run->txn != NULL);
		/* Nobody is parked beside a slot that he could have, and hand-made dispatches alone may be more than the limit. */
		if (c->started && k->parked_pos == 0 && list_empty(&k->key->dirty))
			assert(slots_taken(k->key) >= k->limit);
	}
}
