#include "dispatcher/fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "dispatcher/meters.h"

struct fleet {
	struct map *workers, *runs;
};

struct fleet *
fleet_new(void)
{
	struct fleet *f = xcalloc(1, sizeof(*f));

	f->workers = map_new();
	f->runs = map_new();
	return f;
}

static void
worker_free(struct fleet_worker *w)
{
	if (w == NULL)
		return;
	json_decref(w->tools);
	json_decref(w->missing);
	json_decref(w->sandbox);
	free(w->cache);
	free(w);
}

static void
run_release(struct fleet_run *r)
{
	json_decref(r->progress);
	json_decref(r->steps);
	free(r->detail);
	memset(r, 0, sizeof(*r));
}

void
fleet_free(struct fleet *f)
{
	size_t cursor = 0;
	void *value;

	if (f == NULL)
		return;
	while (map_next(f->workers, &cursor, NULL, &value))
		worker_free(value);
	cursor = 0;
	while (map_next(f->runs, &cursor, NULL, &value)) {
		run_release(value);
		free(value);
	}
	map_free(f->workers);
	map_free(f->runs);
	free(f);
}

void
fleet_put_worker(struct fleet *f, const char *id, const struct fleet_worker *w)
{
	worker_free(map_put(f->workers, id, xmemdup(w, sizeof(*w))));
}

const struct fleet_worker *
fleet_worker(const struct fleet *f, const char *id)
{
	return map_get(f->workers, id);
}

/* Two workers of one node may share a cache, or not. */
static bool
same_cache(const struct fleet_worker *w, const char *node, const char *id)
{
	return w->cache != NULL && strcmp(w->node, node) == 0 && strcmp(w->cache->id, id) == 0;
}

/* Counters of a cache only rise; a smaller one was begun anew. */
static void
count_up(enum meter row, int64_t before, int64_t now)
{
	if (now > before)
		metrics_add(row, NULL, now - before);
}

void
fleet_note_cache(struct fleet *f, const char *id, const struct fleet_cache *c)
{
	struct fleet_worker *w = map_get(f->workers, id);
	const struct fleet_cache *last = NULL;
	size_t cursor = 0;
	void *value;

	if (w == NULL)
		return;
	while (map_next(f->workers, &cursor, NULL, &value)) {
		const struct fleet_worker *other = value;

		if (same_cache(other, w->node, c->id) &&
		    (last == NULL || other->cache->hits + other->cache->misses > last->hits + last->misses))
			last = other->cache;
	}
	if (last != NULL) {
		count_up(METER_CACHE_HITS, last->hits, c->hits);
		count_up(METER_CACHE_MISSES, last->misses, c->misses);
		count_up(METER_CACHE_EVICTIONS, last->evictions, c->evictions);
	}
	free(w->cache);
	w->cache = xmemdup(c, sizeof(*c));
}

void
fleet_set_gauges(const struct fleet *f)
{
	static const char *const methods[] = {"overlay", "overlay-userns", "reflink", "copy", "direct"};
	struct map *seen = map_new();
	int64_t bytes = 0, max_bytes = 0, entries = 0, workers[sizeof(methods) / sizeof(methods[0])] = {0};
	size_t cursor = 0;
	void *value;

	while (map_next(f->workers, &cursor, NULL, &value)) {
		struct fleet_worker *w = value;
		char key[sizeof(w->node) + sizeof(w->cache->id) + 1];

		if (w->cache == NULL)
			continue;
		for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
			workers[i] += strcmp(w->cache->workspace_method, methods[i]) == 0;
		snprintf(key, sizeof(key), "%s/%s", w->node, w->cache->id);
		if (map_put(seen, key, w) != NULL)
			continue;
		bytes += w->cache->bytes;
		max_bytes += w->cache->max_bytes;
		entries += w->cache->entries;
	}
	map_free(seen);
	metrics_set(METER_CACHE_BYTES, NULL, bytes);
	metrics_set(METER_CACHE_MAX_BYTES, NULL, max_bytes);
	metrics_set(METER_CACHE_ENTRIES, NULL, entries);
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		metrics_set(METER_WORKSPACES, methods[i], workers[i]);
}

void
fleet_forget_worker(struct fleet *f, const char *id)
{
	worker_free(map_remove(f->workers, id));
}

bool
fleet_note_health(struct fleet *f, const char *id, const char *health)
{
	struct fleet_worker *w = map_get(f->workers, id);

	if (w == NULL || strcmp(w->health, health) == 0)
		return false;
	(void)snprintf(w->health, sizeof(w->health), "%s", health);
	return true;
}

const struct fleet_worker *
fleet_in_alloc(const struct fleet *f, const char *alloc, int64_t began_real_ms)
{
	const struct fleet_worker *best = NULL;
	size_t cursor = 0;
	void *value;

	while (map_next(f->workers, &cursor, NULL, &value)) {
		const struct fleet_worker *w = value;

		if (strcmp(w->alloc_id, alloc) == 0 && w->started_real_ms > began_real_ms &&
		    (best == NULL || w->started_real_ms > best->started_real_ms))
			best = w;
	}
	return best;
}

void
fleet_of_job(const struct fleet *f, const char *job, void (*each)(void *arg, const struct fleet_worker *w), void *arg)
{
	size_t cursor = 0;
	void *value;

	while (map_next(f->workers, &cursor, NULL, &value)) {
		const struct fleet_worker *w = value;

		if (!w->once && strcmp(w->job_id, job) == 0)
			each(arg, w);
	}
}

void
fleet_sweep(struct fleet *f, const struct core *core, struct now now)
{
	size_t n = core_workers(core, now, NULL, 0), cursor = 0;
	struct core_worker_view *views = xcalloc(n + 1, sizeof(*views));
	struct map *known = map_new();
	const char *id;
	void *value;

	n = core_workers(core, now, views, n);
	for (size_t i = 0; i < n; i++)
		map_put(known, views[i].worker.id, &views[i]);
	while (map_next(f->workers, &cursor, &id, &value))
		if (map_get(known, id) == NULL)
			fleet_forget_worker(f, id);
	map_free(known);
	free(views);
}

struct fleet_run *
fleet_run(struct fleet *f, const char *run)
{
	return map_get(f->runs, run);
}

struct fleet_run *
fleet_run_make(struct fleet *f, const char *run, struct fence fence)
{
	struct fleet_run *r = map_get(f->runs, run);

	if (r == NULL) {
		r = xcalloc(1, sizeof(*r));
		map_put(f->runs, run, r);
	} else if (!fence_equal(r->fence, fence)) {
		run_release(r);
	}
	r->fence = fence;
	return r;
}

void
fleet_forget_run(struct fleet *f, const char *run)
{
	struct fleet_run *r = map_remove(f->runs, run);

	if (r != NULL)
		run_release(r);
	free(r);
}
