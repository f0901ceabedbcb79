/* queue.h - the order in which ready runs of one vertical and class are taken: priority first, then age. Pure.
 *
 * Entries are kept apart by kind, so that a worker that may not take some kinds still finds its best run in O(log n).
 * Ageing and fair share between tenants belong into queue_before alone.
 */
#ifndef DISPATCHER_CORE_QUEUE_H
#define DISPATCHER_CORE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/heap.h"

enum queue_kind { /* who may take the run; a suspect was inside a worker that crashed and runs alone */
	QUEUE_ANY, QUEUE_WARM, QUEUE_JOB, QUEUE_ANY_SUSPECT, QUEUE_WARM_SUSPECT, QUEUE_JOB_SUSPECT, QUEUE_KINDS
};
#define QUEUE_BIT(kind) (1u << (kind))
#define QUEUE_ALL ((1u << QUEUE_KINDS) - 1)
#define QUEUE_SUSPECTS (QUEUE_BIT(QUEUE_ANY_SUSPECT) | QUEUE_BIT(QUEUE_WARM_SUSPECT) | QUEUE_BIT(QUEUE_JOB_SUSPECT))

struct queue_entry { /* embedded in a run; the first three are set before queue_add and stay */
	int priority;
	int64_t created_real_ms;
	uint64_t order;  /* breaks ties; unique */
	size_t pos;      /* HEAP_NOWHERE: in no queue */
	enum queue_kind kind;
};

struct queue {
	struct heap heaps[QUEUE_KINDS];
};

/* An empty queue; queue_release frees what it allocated, not the entries. */
void queue_init(struct queue *q);
void queue_release(struct queue *q);

/* Adds an entry that is in no queue, under its kind; removes one that is in q. */
void queue_add(struct queue *q, struct queue_entry *e);
void queue_remove(struct queue *q, struct queue_entry *e);

/* The entry to be taken next among the kinds of mask, or NULL; it stays in the queue. */
struct queue_entry *queue_best(const struct queue *q, unsigned mask);

/* Number of entries of the kinds of mask. */
size_t queue_len(const struct queue *q, unsigned mask);

/* 1 for the entry that is next of all kinds, and so on. O(n): for one question, not for listings. */
size_t queue_rank(const struct queue *q, const struct queue_entry *e);

/* Whether a is taken before b: a strict order. */
bool queue_before(const struct queue_entry *a, const struct queue_entry *b);

#endif
