#include "worker/cache_keeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/threads.h"

#define LOOK_MS 10000
#define HOLDS_MAX 256

struct figures {
	struct cache_stats stats;
	uint64_t holds[HOLDS_MAX];
	size_t n_holds;
};

struct cache_keeper {
	struct cache *cache;
	const char *worker, *workspace_method;
	int64_t sweep_every_ms;
	pthread_t thread;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t wake;
	bool ending, changed;
	struct figures figures;
};

/* Free space moves all the time: alone it is no news, unless it moves by a tenth. */
static bool
differ(const struct cache_stats *a, const struct cache_stats *b)
{
	int64_t moved = a->free_bytes > b->free_bytes ? a->free_bytes - b->free_bytes : b->free_bytes - a->free_bytes;

	return a->generation != b->generation || a->pinned_bytes != b->pinned_bytes || a->hits != b->hits || a->misses != b->misses ||
	    a->damaged != b->damaged || moved > a->free_bytes / 10;
}

static void
look(struct cache_keeper *k)
{
	struct figures *now = xcalloc(1, sizeof(*now));

	cache_stats(k->cache, &now->stats);
	now->n_holds = cache_holds(k->cache, now->holds, HOLDS_MAX);
	pthread_mutex_lock(&k->lock);
	k->changed = k->changed || differ(&now->stats, &k->figures.stats);
	k->figures = *now;
	pthread_mutex_unlock(&k->lock);
	free(now);
}

static void *
keep(void *arg)
{
	struct cache_keeper *k = arg;
	bool complained = false;

	for (;;) {
		struct err e = {0};
		bool ending;

		if (cache_sweep_if_due(k->cache, k->sweep_every_ms, &e) != 0 && !complained)
			log_warn(k->worker, "cache: %s%s%s", e.msg, e.hint[0] != '\0' ? " - " : "", e.hint);
		complained = e.code != 0;
		look(k);
		pthread_mutex_lock(&k->lock);
		if (!k->ending)
			cond_wait_until(&k->wake, &k->lock, clock_mono_ms() + LOOK_MS);
		ending = k->ending;
		pthread_mutex_unlock(&k->lock);
		if (ending)
			return NULL;
	}
}

struct cache_keeper *
cache_keeper_new(struct cache *c, const char *worker, const char *workspace_method, int64_t sweep_every_ms)
{
	struct cache_keeper *k = xcalloc(1, sizeof(*k));

	k->cache = c;
	k->worker = worker;
	k->workspace_method = workspace_method;
	k->sweep_every_ms = sweep_every_ms;
	pthread_mutex_init(&k->lock, NULL);
	cond_init_mono(&k->wake);
	look(k); /* the registration tells it */
	thread_start(&k->thread, "cache", keep, k);
	return k;
}

void
cache_keeper_free(struct cache_keeper *k)
{
	if (k == NULL)
		return;
	cache_hurry(k->cache);
	pthread_mutex_lock(&k->lock);
	k->ending = true;
	pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->lock);
	pthread_join(k->thread, NULL);
	pthread_cond_destroy(&k->wake);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

json_t *
cache_keeper_figures(struct cache_keeper *k, bool news)
{
	struct figures *f = xcalloc(1, sizeof(*f));
	const struct cache_stats *s = &f->stats;
	json_t *holds, *o = NULL;
	bool wanted;

	pthread_mutex_lock(&k->lock);
	wanted = !news || k->changed;
	if (wanted) {
		*f = k->figures;
		k->changed = false;
	}
	pthread_mutex_unlock(&k->lock);
	if (wanted) {
		holds = json_array();
		for (size_t i = 0; i < f->n_holds; i++) {
			char key[17];

			(void)snprintf(key, sizeof(key), "%016llx", (unsigned long long)f->holds[i]);
			json_array_append_new(holds, json_string(key));
		}
		o = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:o}", "id", s->id, "bytes",
		    (json_int_t)(s->bytes + s->transient_bytes), "max_bytes", (json_int_t)s->max_bytes, "entries", (json_int_t)s->entries,
		    "pinned_bytes", (json_int_t)s->pinned_bytes, "hits", (json_int_t)s->hits, "misses", (json_int_t)s->misses, "evictions",
		    (json_int_t)s->evictions, "damaged", (json_int_t)s->damaged, "free_bytes", (json_int_t)s->free_bytes, "workspace_method",
		    k->workspace_method, "holds", holds);
	}
	free(f);
	return o;
}

void
cache_keeper_again(struct cache_keeper *k)
{
	pthread_mutex_lock(&k->lock);
	k->changed = true;
	pthread_mutex_unlock(&k->lock);
}
