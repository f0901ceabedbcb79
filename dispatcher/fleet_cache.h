/* fleet_cache.h - what workers tell about their node's cache: read once, kept with the worker, summed up for metrics. */
#ifndef DISPATCHER_FLEET_CACHE_H
#define DISPATCHER_FLEET_CACHE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define FLEET_HOLDS_MAX 256

struct fleet_cache {
	char id[40]; /* of the directory on its node; "" where the worker did not say */
	int64_t bytes, max_bytes, entries, pinned_bytes, hits, misses, evictions, damaged, free_bytes;
	char workspace_method[24];
	uint64_t holds[FLEET_HOLDS_MAX]; /* first 16 hex digits of digests, the most recently used first */
	size_t n_holds;
};

/* Reads the object "cache" of a registration or beat. ERR_INVALID names the member that is wrong. */
int fleet_cache_parse(const json_t *o, struct fleet_cache *ret, struct err *e);

/* The same for GET /v1/workers, with the number of what it holds in place of the list. */
json_t *fleet_cache_json(const struct fleet_cache *c);

#endif
