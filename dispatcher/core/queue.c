#include "dispatcher/core/queue.h"

#include <assert.h>

bool
queue_before(const struct queue_entry *a, const struct queue_entry *b)
{
	if (a->priority != b->priority)
		return a->priority > b->priority;
	if (a->created_real_ms != b->created_real_ms)
		return a->created_real_ms < b->created_real_ms;
	return a->order < b->order;
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

void
queue_init(struct queue *q)
{
	for (size_t i = 0; i < QUEUE_KINDS; i++)
		q->heaps[i] = heap_make(entry_less, entry_set_pos);
}

void
queue_release(struct queue *q)
{
	for (size_t i = 0; i < QUEUE_KINDS; i++)
		heap_release(&q->heaps[i]);
}

void
queue_add(struct queue *q, struct queue_entry *e)
{
	assert(e->pos == HEAP_NOWHERE && e->kind < QUEUE_KINDS);
	heap_push(&q->heaps[e->kind], e);
}

void
queue_remove(struct queue *q, struct queue_entry *e)
{
	assert(e->pos != HEAP_NOWHERE);
	heap_remove(&q->heaps[e->kind], e->pos);
}

struct queue_entry *
queue_best(const struct queue *q, unsigned mask)
{
	struct queue_entry *best = NULL;

	for (size_t i = 0; i < QUEUE_KINDS; i++) {
		struct queue_entry *e = mask & QUEUE_BIT(i) ? heap_peek(&q->heaps[i]) : NULL;

		if (e != NULL && (best == NULL || queue_before(e, best)))
			best = e;
	}
	return best;
}

size_t
queue_len(const struct queue *q, unsigned mask)
{
	size_t n = 0;

	for (size_t i = 0; i < QUEUE_KINDS; i++)
		n += mask & QUEUE_BIT(i) ? q->heaps[i].len : 0;
	return n;
}

size_t
queue_rank(const struct queue *q, const struct queue_entry *e)
{
	size_t rank = 1;

	for (size_t i = 0; i < QUEUE_KINDS; i++) {
		for (size_t k = 0; k < q->heaps[i].len; k++)
			rank += queue_before(q->heaps[i].items[k], e);
	}
	return rank;
}
