#include "dispatcher/buckets.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "storage/lifecycle.h"

#define DAY_MS (24 * 3600 * INT64_C(1000))

struct buckets {
	struct dispatcher *d;
	pthread_mutex_t mutex;      /* whoever makes the buckets; the others wait */
	bool made;
	bool ruled;                 /* by the one thread that cleans up */
	bool own_targets, own_results; /* … the store has no rules of its own */
};

struct buckets *
buckets_new(struct dispatcher *d)
{
	struct buckets *b = xcalloc(1, sizeof(*b));

	b->d = d;
	pthread_mutex_init(&b->mutex, NULL);
	return b;
}

void
buckets_free(struct buckets *b)
{
	if (b == NULL)
		return;
	pthread_mutex_destroy(&b->mutex);
	free(b);
}

int
buckets_make(struct buckets *b, struct err *e)
{
	const struct config *c = b->d->config;
	const char *const names[] = {c->store.targets, c->store.results, c->store.toolbox};
	int rc = 0;

	pthread_mutex_lock(&b->mutex);
	for (size_t i = 0; !b->made && rc == 0 && i < sizeof(names) / sizeof(names[0]); i++)
		rc = store_ensure_bucket(b->d->brief, names[i], e);
	b->made = rc == 0;
	pthread_mutex_unlock(&b->mutex);
	return rc;
}

/* --- rules --- */

static unsigned
days(int64_t ms)
{
	return (unsigned)((ms + DAY_MS - 1) / DAY_MS);
}

/* One day more than is promised for targets: our own clock decides first, the rule is the net below. */
static struct lifecycle_rule
target_rule(const struct config *c)
{
	return (struct lifecycle_rule){"drover-targets", "", days(c->target_retention_ms) + 1};
}

static struct lifecycle_rule
result_rule(const struct config *c)
{
	return (struct lifecycle_rule){"drover-results", "", days(c->result_retention_ms)};
}

int
buckets_set_rules(struct buckets *b, struct err *e)
{
	const struct config *c = b->d->config;
	struct lifecycle_rule targets = target_rule(c), results = result_rule(c);
	int rc;

	if (b->ruled)
		return 0;
	rc = store_lifecycle_merge(b->d->brief, c->store.targets, &targets, 1, e);
	b->own_targets = rc == ERR_NOTFOUND;
	if (rc == 0 || b->own_targets)
		rc = store_lifecycle_merge(b->d->brief, c->store.results, &results, 1, e);
	b->own_results = rc == ERR_NOTFOUND;
	rc = b->own_results ? 0 : rc;
	b->ruled = rc == 0;
	return rc;
}

/* --- removing --- */

/* The first folder of a key: the target's id, or the run's. */
static void
owner_of(const char *key, char *out, size_t len)
{
	size_t n = strcspn(key, "/");

	snprintf(out, len, "%.*s", n < len ? (int)n : 0, key);
}

/* A row decides over its object: the janitor removes both. In doubt an object stays. */
static bool
keep_target(void *arg, const char *key)
{
	struct buckets *b = arg;
	struct ledger_target t;
	char id[TARGET_ID_MAX];
	struct err e;

	owner_of(key, id, sizeof(id));
	return target_id_valid(id) && ledger_target_find(b->d->ledger, id, NULL, &t, &e) != ERR_NOTFOUND;
}

static bool
keep_result(void *arg, const char *key)
{
	struct buckets *b = arg;
	struct ledger_run run = {.spec = NULL};
	char id[RUN_ID_MAX];
	struct err e;
	bool keep;
	int rc;

	owner_of(key, id, sizeof(id));
	if (!run_id_valid(id))
		return false;
	rc = ledger_run_find(b->d->ledger, id, NULL, &run, &e);
	keep = rc == 0 ? !run_state_final(run.row.state) : rc != ERR_NOTFOUND;
	ledger_run_release(&run);
	return keep;
}

int
buckets_sweep(struct buckets *b, int64_t now_real_ms, const atomic_bool *stop, struct err *e)
{
	const struct config *c = b->d->config;
	const struct {
		bool own;
		const char *bucket;
		struct lifecycle_rule rule;
		bool (*keep)(void *arg, const char *key);
	} sweeps[] = {{b->own_targets, c->store.targets, target_rule(c), keep_target},
		{b->own_results, c->store.results, result_rule(c), keep_result}};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof(sweeps) / sizeof(sweeps[0]); i++) {
		struct lifecycle_sweep_options o = {.keep = sweeps[i].keep, .arg = b, .stop = stop};
		int64_t removed = 0;

		if (!sweeps[i].own)
			continue;
		rc = lifecycle_sweep(b->d->brief, sweeps[i].bucket, &sweeps[i].rule, 1, now_real_ms, &o, &removed, e);
		if (removed > 0)
			log_info(sweeps[i].bucket, "%lld old objects were removed", (long long)removed);
	}
	return rc;
}

int
buckets_remove_old(struct buckets *b, const char *bucket, const char *key, int64_t before_real_ms, struct err *e)
{
	struct object_info info;
	int rc = store_head(b->d->brief, bucket, key, &info, e);

	if (rc == ERR_NOTFOUND || (rc == 0 && info.modified_real_ms >= before_real_ms))
		return 0;
	return rc == 0 ? store_remove(b->d->brief, bucket, key, e) : rc;
}

struct results {
	struct buckets *b;
	struct err *e;
};

static int
remove_result(void *arg, const char *key, const struct object_info *info)
{
	struct results *r = arg;

	(void)info;
	return store_remove(r->b->d->brief, r->b->d->config->store.results, key, r->e);
}

int
buckets_remove_results(struct buckets *b, const char *run, struct err *e)
{
	struct results r = {b, e};
	char prefix[RUN_ID_MAX + 1];

	snprintf(prefix, sizeof(prefix), "%s/", run);
	return store_list(b->d->brief, b->d->config->store.results, prefix, remove_result, &r, e);
}
