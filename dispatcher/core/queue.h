/* queue.h - the order in which ready runs of one vertical and class are taken. Pure.
 *
 * Between tenants: who has used the vertical least lately comes first (share.h). Within a tenant: by rank, which is the time from
 * which a run has waited, moved back for its priority. Waiting so makes up for priority at a fixed rate, the order of two runs
 * never changes while they wait, and every run is overtaken by those of a limited time only. So that no tenant's runs starve,
 * whatever others do, one lease in QUEUE_OLDEST_TURN goes to the lowest rank of all tenants.
 *
 * Runs are kept apart by kind, so that a worker that may not take some kinds still finds its best run in O(log n).
 */
#ifndef DISPATCHER_CORE_QUEUE_H
#define DISPATCHER_CORE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/heap.h"

#define QUEUE_OLDEST_TURN 32 /* shares are kept within 1/32 */
#define QUEUE_LOOK_AHEAD 64  /* runs looked at for one whose target a worker has */

enum queue_kind { /* who may take the run; a suspect was inside a worker that crashed and runs alone */
	QUEUE_ANY, QUEUE_WARM, QUEUE_JOB, QUEUE_ANY_SUSPECT, QUEUE_WARM_SUSPECT, QUEUE_JOB_SUSPECT, QUEUE_KINDS
};
#define QUEUE_BIT(kind) (1u << (kind))
#define QUEUE_ALL ((1u << QUEUE_KINDS) - 1)
#define QUEUE_SUSPECTS (QUEUE_BIT(QUEUE_ANY_SUSPECT) | QUEUE_BIT(QUEUE_WARM_SUSPECT) | QUEUE_BIT(QUEUE_JOB_SUSPECT))

struct queue_tenant;

struct queue_entry { /* embedded in a run; tenant and order stay, rank and kind are set before queue_add */
	struct queue_tenant *tenant;
	int64_t rank_ms;
	uint64_t order;  /* breaks ties; unique */
	size_t pos;      /* HEAP_NOWHERE: in no queue */
	uint8_t kind;
};

struct queue_line { /* one tenant's runs of one kind */
	struct queue_tenant *tenant;
	struct heap runs;
	size_t pos;      /* among the lines of the kind that have runs */
};

struct queue_tenant { /* one tenant's runs in one queue */
	const double *use;   /* what it has used, as share.h keeps it: less comes first */
	uint64_t order;      /* breaks ties; unique */
	struct queue_line lines[QUEUE_KINDS];
};

struct queue {
	struct heap lines[QUEUE_KINDS];
	size_t len[QUEUE_KINDS];
};

/* An empty queue; queue_release frees what it allocated, not entries or tenants. */
void queue_init(struct queue *q);
void queue_release(struct queue *q);

/* A tenant without runs; it must not move in memory. Released when it has none any more. */
void queue_tenant_init(struct queue_tenant *t, const double *use, uint64_t order);
void queue_tenant_release(struct queue_tenant *t);

/* The tenant's use has changed. */
void queue_tenant_moved(struct queue *q, struct queue_tenant *t);

/* Every tenant's use may have changed. */
void queue_resort(struct queue *q);

/* Rank of a run that waits since then; age_ms of waiting make up for one point of priority. */
int64_t queue_rank_ms(int64_t since_real_ms, int priority, int64_t age_ms);

/* Adds an entry that is in no queue, under its kind; removes one that is in q. */
void queue_add(struct queue *q, struct queue_entry *e);
void queue_remove(struct queue *q, struct queue_entry *e);

/* The entry to be taken next among the kinds of mask, by share / the lowest rank of all; NULL: none. It stays in the queue. */
struct queue_entry *queue_best(const struct queue *q, unsigned mask);
struct queue_entry *queue_oldest(const struct queue *q, unsigned mask);

/* One of the same tenant and kind as best, of a rank at most slack_ms higher, that wanted says yes to, among the first
 * QUEUE_LOOK_AHEAD or so; NULL: none. */
struct queue_entry *queue_beside(const struct queue_entry *best, int64_t slack_ms,
    bool (*wanted)(const void *arg, const struct queue_entry *e), const void *arg);

/* Number of entries of the kinds of mask. */
size_t queue_len(const struct queue *q, unsigned mask);

/* About how many leases until e is taken, 1: it is next, if each lease adds `charge` to its tenant's use. O(n): for one question,
 * not for listings. *ret_own: how many of them are its tenant's own. */
size_t queue_position(const struct queue *q, const struct queue_entry *e, double charge, size_t *ret_own);

/* Whether a has a lower rank than b: a strict order. */
bool queue_before(const struct queue_entry *a, const struct queue_entry *b);

#endif
