/* cache_keeper.h - a worker's look at its node's cache: sweeps it when no other worker of the node has lately, and knows the
 * figures that the dispatcher is told. */
#ifndef WORKER_CACHE_KEEPER_H
#define WORKER_CACHE_KEEPER_H

#include <jansson.h>

#include "base/err.h"
#include "storage/cache.h"

struct cache_keeper;

/* Starts to look, in a thread of its own, every ten seconds. The texts and the cache stay the caller's and outlive it. */
struct cache_keeper *cache_keeper_new(struct cache *c, const char *worker, const char *workspace_method, int64_t sweep_every_ms);

/* Ends the thread, which may be deleting: what is left of that, the next one does. NULL is allowed. */
void cache_keeper_free(struct cache_keeper *k);

/* The figures as a new object, for "cache" in a registration or a beat. news: only if they changed since they were last taken (the
 * caller forgets it with cache_keeper_again if they did not arrive), else NULL. Any one thread. */
json_t *cache_keeper_figures(struct cache_keeper *k, bool news);
void cache_keeper_again(struct cache_keeper *k);

#endif
