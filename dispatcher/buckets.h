/* buckets.h - the three buckets of the object store: made when they are first needed, with rules for what is old.
 * Everything here blocks and is for worker threads; several may call at once. */
#ifndef DISPATCHER_BUCKETS_H
#define DISPATCHER_BUCKETS_H

#include <stdatomic.h>

#include "dispatcher/dispatcher.h"

struct buckets;

/* Talks to nobody yet. */
struct buckets *buckets_new(struct dispatcher *d);

/* No thread may use it any more. NULL is allowed. */
void buckets_free(struct buckets *b);

/* Makes the buckets that are not there; returns at once when that was done before. What store_ensure_bucket returns: within its
 * bounds a caller waits for a store that is just coming up. */
int buckets_make(struct buckets *b, struct err *e);

/* Sees to it that the store removes old objects by itself, a day after ours were due; returns at once when that was done before. */
int buckets_set_rules(struct buckets *b, struct err *e);

/* Removes old objects of targets and results where the store has no rules of its own: those that no row stands for (what a crash
 * left), and results whose time is over. What runs that are not over need stays. Returns 0, ERR_CANCELED, or as the store. */
int buckets_sweep(struct buckets *b, int64_t now_real_ms, const atomic_bool *stop, struct err *e);

/* Removes an object unless it was stored or dated anew since before_real_ms. Returns 0, also where it stays, or as the store. */
int buckets_remove_old(struct buckets *b, const char *bucket, const char *key, int64_t before_real_ms, struct err *e);

/* Removes all results of a run. */
int buckets_remove_results(struct buckets *b, const char *run, struct err *e);

#endif
