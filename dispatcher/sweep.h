/* sweep.h - a walk through the buckets and the rows, in pieces: objects that no row stands for, rows whose object is gone, uploads that
 * nobody finishes. A piece is bounded in keys and time, and the next one goes on where it ended; after a restart a walk begins anew,
 * which is harmless, because every removal stands for itself. Blocks; one thread at a time. */
#ifndef DISPATCHER_SWEEP_H
#define DISPATCHER_SWEEP_H

#include <stdatomic.h>

#include "dispatcher/buckets.h"

struct sweep_bucket {
	int64_t objects, bytes;  /* all that was seen */
	int64_t foreign;         /* of them, not of our making: never touched */
	int64_t orphans, orphan_bytes; /* without a row, and older than the grace */
	int64_t removed;
	struct stale_uploads uploads;
	struct bucket_claim claim;
};

struct sweep_totals { /* of one whole walk */
	struct sweep_bucket buckets[BUCKETS];
	int64_t rows;            /* of targets, looked at */
	bool whole;              /* nothing was left out */
};

struct sweep_limits {
	size_t keys;             /* of objects in one piece; rows cost a request each and count as 20 */
	int64_t deadline_mono_ms;
	bool dry;                /* remove nothing */
	const atomic_bool *stop; /* may be NULL */
	/* A target's row whose object is not there, older than the grace: told in the sweeping thread. */
	void (*missing)(void *arg, const struct ledger_target *t);
	void *arg;
};

struct sweep;

/* At the beginning of a walk. */
struct sweep *sweep_new(struct dispatcher *d);

/* NULL is allowed. */
void sweep_free(struct sweep *s);

/* The next piece. *ret_over: the walk has come to its end, *ret_totals is filled, and the next piece begins a new one. Returns 0,
 * ERR_CANCELED, or as the store; what was done stays done. */
int sweep_piece(struct sweep *s, const struct sweep_limits *l, bool *ret_over, struct sweep_totals *ret_totals, struct err *e);

/* What there is so far of a walk that is not over. */
void sweep_so_far(const struct sweep *s, struct sweep_totals *ret_totals);

#endif
