#include "dispatcher/core/queue.h"

#include <assert.h>
#include <math.h>

bool
queue_before(const struct queue_entry *a, const struct queue_entry *b)
{
	return a->rank_ms != b->rank_ms ? a->rank_ms < b->rank_ms : a->order < b->order;
}

int64_t
queue_rank_ms(int64_t since_real_ms, int priority, int64_t age_ms)
{
	return since_real_ms - priority * age_ms;
}

static bool
entry_less(const void *a, const void *b)
{
	return queue_before(a, b);
}

static void
entry_set_pos(void *e, size_t pos)
{
	((struct queue_entry *)e)->pos = pos;
}

static bool
tenant_before(const struct queue_tenant *a, const struct queue_tenant *b)
{
	return *a->use < *b->use || (*a->use <= *b->use && a->order < b->order);
}

static bool
line_less(const void *a, const void *b)
{
	return tenant_before(((const struct queue_line *)a)->tenant, ((const struct queue_line *)b)->tenant);
}

static void
line_set_pos(void *line, size_t pos)
{
	((struct queue_line *)line)->pos = pos;
}

void
queue_init(struct queue *q)
{
	*q = (struct queue){0};
	for (size_t i = 0; i < QUEUE_KINDS; i++)
		q->lines[i] = heap_make(line_less, line_set_pos);
}

void
queue_release(struct queue *q)
{
	for (size_t i = 0; i < QUEUE_KINDS; i++)
		heap_release(&q->lines[i]);
}

void
queue_tenant_init(struct queue_tenant *t, const double *use, uint64_t order)
{
	t->use = use;
	t->order = order;
	for (size_t i = 0; i < QUEUE_KINDS; i++)
		t->lines[i] = (struct queue_line){.tenant = t, .runs = heap_make(entry_less, entry_set_pos), .pos = HEAP_NOWHERE};
}

void
queue_tenant_release(struct queue_tenant *t)
{
	for (size_t i = 0; i < QUEUE_KINDS; i++)
		heap_release(&t->lines[i].runs);
}

void
queue_tenant_moved(struct queue *q, struct queue_tenant *t)
{
	for (size_t i = 0; i < QUEUE_KINDS; i++) {
		if (t->lines[i].pos != HEAP_NOWHERE)
			heap_fix(&q->lines[i], t->lines[i].pos);
	}
}

void
queue_resort(struct queue *q)
{
	for (size_t i = 0; i < QUEUE_KINDS; i++) {
		struct heap old = q->lines[i];

		q->lines[i] = heap_make(line_less, line_set_pos);
		for (size_t k = 0; k < old.len; k++)
			heap_push(&q->lines[i], old.items[k]);
		heap_release(&old);
	}
}

void
queue_add(struct queue *q, struct queue_entry *e)
{
	struct queue_line *line = &e->tenant->lines[e->kind];

	assert(e->pos == HEAP_NOWHERE && e->kind < QUEUE_KINDS);
	heap_push(&line->runs, e);
	q->len[e->kind]++;
	if (line->pos == HEAP_NOWHERE)
		heap_push(&q->lines[e->kind], line);
}

void
queue_remove(struct queue *q, struct queue_entry *e)
{
	struct queue_line *line = &e->tenant->lines[e->kind];

	assert(e->pos != HEAP_NOWHERE);
	heap_remove(&line->runs, e->pos);
	q->len[e->kind]--;
	if (line->runs.len == 0)
		heap_remove(&q->lines[e->kind], line->pos);
}

struct queue_entry *
queue_best(const struct queue *q, unsigned mask)
{
	const struct queue_tenant *tenant = NULL;
	struct queue_entry *best = NULL;

	for (size_t i = 0; i < QUEUE_KINDS; i++) {
		const struct queue_line *line = mask & QUEUE_BIT(i) ? heap_peek(&q->lines[i]) : NULL;

		if (line != NULL && (tenant == NULL || tenant_before(line->tenant, tenant)))
			tenant = line->tenant;
	}
	for (size_t i = 0; tenant != NULL && i < QUEUE_KINDS; i++) {
		struct queue_entry *e = mask & QUEUE_BIT(i) ? heap_peek(&tenant->lines[i].runs) : NULL;

		if (e != NULL && (best == NULL || queue_before(e, best)))
			best = e;
	}
	return best;
}

struct queue_entry *
queue_oldest(const struct queue *q, unsigned mask)
{
	struct queue_entry *oldest = NULL;

	for (size_t i = 0; i < QUEUE_KINDS; i++) {
		for (size_t k = 0; mask & QUEUE_BIT(i) && k < q->lines[i].len; k++) {
			struct queue_entry *e = heap_peek(&((const struct queue_line *)q->lines[i].items[k])->runs);

			if (oldest == NULL || queue_before(e, oldest))
				oldest = e;
		}
	}
	return oldest;
}

struct queue_entry *
queue_beside(const struct queue_entry *best, int64_t slack_ms, bool (*wanted)(const void *arg, const struct queue_entry *e),
    const void *arg)
{
	const struct heap *runs = &best->tenant->lines[best->kind].runs;
	struct queue_entry *found = NULL;

	/* A heap's first items are not sorted, but the lowest ranks are among them. */
	for (size_t i = 0; i < runs->len && i < QUEUE_LOOK_AHEAD; i++) {
		struct queue_entry *e = runs->items[i];

		if (e->rank_ms <= best->rank_ms + slack_ms && (found == NULL || queue_before(e, found)) && wanted(arg, e))
			found = e;
	}
	return found;
}

size_t
queue_len(const struct queue *q, unsigned mask)
{
	size_t n = 0;

	for (size_t i = 0; i < QUEUE_KINDS; i++)
		n += mask & QUEUE_BIT(i) ? q->len[i] : 0;
	return n;
}

/* Runs of another tenant that are taken before the nth of this one is. */
static size_t
others_before(const struct queue_tenant *other, const struct queue_tenant *own, size_t nth, double charge)
{
	double ahead = charge > 0 ? ceil((*own->use - *other->use) / charge) + (double)nth - 1 : *other->use < *own->use ? INFINITY : 0;
	size_t n = 0;

	for (size_t i = 0; i < QUEUE_KINDS; i++)
		n += other->lines[i].runs.len;
	return ahead <= 0 ? 0 : ahead < (double)n ? (size_t)ahead : n;
}

size_t
queue_position(const struct queue *q, const struct queue_entry *e, double charge, size_t *ret_own)
{
	size_t own = 1, others = 0;

	for (size_t i = 0; i < QUEUE_KINDS; i++) {
		const struct heap *runs = &e->tenant->lines[i].runs;

		for (size_t k = 0; k < runs->len; k++)
			own += queue_before(runs->items[k], e);
	}
	/* A tenant counts once, with the first of its kinds that has runs. */
	for (size_t i = 0; i < QUEUE_KINDS; i++) {
		for (size_t k = 0; k < q->lines[i].len; k++) {
			const struct queue_tenant *t = ((const struct queue_line *)q->lines[i].items[k])->tenant;
			size_t first = 0;

			while (t->lines[first].runs.len == 0)
				first++;
			if (t != e->tenant && first == i)
				others += others_before(t, e->tenant, own, charge);
		}
	}
	*ret_own = own - 1;
	return own + others;
}
