#include "dispatcher/janitor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "dispatcher/log_spool.h"
#include "dispatcher/meters.h"
#include "dispatcher/shell_write.h"
#include "dispatcher/targets.h"
#include "dispatcher/toolbox.h"

#define ROUND_MS (5 * 60 * 1000)
#define CHECK_MS 15000           /* between looks at the store's health */
#define BATCH 500
#define LOG_KEEP_MS (10 * 60 * 1000) /* a log tail after its last change, once its run is over */
#define BUNDLE_KEEP_MS (60 * 60 * 1000)
#define DAY_MS (24 * 3600 * INT64_C(1000))

struct doomed { /* found by a thread, judged and removed by the loop */
	char name[RUN_ID_MAX];
	struct ledger_target target;
	bool needed;
};

struct janitor {
	struct dispatcher *d;
	struct loop_timer round_timer, check_timer;
	bool busy, checking, buckets_ready;
	bool own_targets;        /* the store has no rules for expiry: targets are removed by us */
	/* results of the thread */
	int rc;
	struct err err;
	int store_rc;
	struct err store_err;
	struct doomed *targets, *bundles, *logs;
	size_t n_targets, n_bundles, n_logs;
};

static struct doomed *
note(struct doomed **list, size_t *n)
{
	*list = xrealloc(*list, (*n + 1) * sizeof(**list));
	(*list)[*n] = (struct doomed){.needed = false};
	return &(*list)[(*n)++];
}

/* --- thread: buckets --- */

static unsigned
days(int64_t ms)
{
	return (unsigned)((ms + DAY_MS - 1) / DAY_MS);
}

/* One day more than we promise: our own clock decides first, the bucket's rule is the net below. */
static int
prepare_buckets(struct janitor *j)
{
	const struct config *c = j->d->config;
	const struct lifecycle_rule targets[] = {{"drover-targets", "", days(c->target_retention_ms) + 1}};
	const struct lifecycle_rule results[] = {{"drover-results", "", days(c->result_retention_ms)}};
	const char *const buckets[] = {c->s3_targets, c->s3_results, c->s3_toolbox};
	int rc;

	for (size_t i = 0; i < 3; i++)
		if ((rc = store_ensure_bucket(j->d->store, buckets[i], &j->err)) != 0)
			return rc;
	if ((rc = store_lifecycle_merge(j->d->store, c->s3_targets, targets, 1, &j->err)) != 0 && rc != ERR_NOTFOUND)
		return rc;
	rc = store_lifecycle_merge(j->d->store, c->s3_results, results, 1, &j->err);
	j->own_targets = rc == ERR_NOTFOUND;
	return rc == ERR_NOTFOUND ? 0 : rc;
}

/* --- thread: what is due --- */

static int
target_due(void *arg, const struct ledger_target *t, bool needed)
{
	struct janitor *j = arg;
	struct doomed *x = note(&j->targets, &j->n_targets);

	x->target = *t;
	x->needed = needed;
	return 0;
}

static int
bundle_due(void *arg, const struct ledger_bundle *b, bool used)
{
	struct janitor *j = arg;

	if (!used && !b->pushed && b->created_real_ms < clock_real_ms() - BUNDLE_KEEP_MS)
		snprintf(note(&j->bundles, &j->n_bundles)->name, RUN_ID_MAX, "%s", b->sha256);
	return 0;
}

static void
log_due(void *arg, const char *run, int64_t changed_real_ms)
{
	struct janitor *j = arg;

	if (changed_real_ms < clock_real_ms() - LOG_KEEP_MS)
		snprintf(note(&j->logs, &j->n_logs)->name, RUN_ID_MAX, "%s", run);
}

/* Keeps the objects of targets that live runs need: a copy onto itself is new for the bucket's rule. */
static void
redate(struct janitor *j)
{
	for (size_t i = 0; i < j->n_targets; i++) {
		struct doomed *x = &j->targets[i];
		char key[1200];
		struct err e;

		key_target(x->target.id, key, sizeof(key));
		if (x->needed && store_copy(j->d->store, j->d->config->s3_targets, key, key, NULL, 0, &e) != 0)
			log_warn(x->target.id, "a run needs this target, but it cannot be kept: %s", e.msg);
	}
}

static void
round_run(void *arg)
{
	struct janitor *j = arg;
	struct dispatcher *d = j->d;

	j->rc = j->buckets_ready ? 0 : prepare_buckets(j);
	if (j->rc != 0)
		return;
	j->buckets_ready = true;
	/* A day ahead, so that what is needed is renewed well before the bucket's rule fires. */
	if ((j->rc = ledger_targets_due(d->ledger, clock_real_ms() + DAY_MS, BATCH, target_due, j, &j->err)) == 0 &&
	    (j->rc = ledger_bundles(d->ledger, false, bundle_due, j, &j->err)) == 0)
		j->rc = log_spool_each(d->spool, log_due, j, &j->err);
	redate(j);
}

/* --- loop --- */

static void
forget_target(struct janitor *j, struct doomed *x, int64_t now_real_ms)
{
	struct ledger_op op = {.target = &x->target};

	if (x->needed) {
		x->target.expires_real_ms = target_expiry(j->d->config, now_real_ms);
		op.kind = LEDGER_TARGET_PUT;
	} else if (x->target.expires_real_ms < now_real_ms) {
		target_cache_drop(j->d->target_cache, x->target.id);
		op.kind = LEDGER_TARGET_REMOVE;
	} else {
		return;
	}
	shell_write(j->d, &op, NULL, NULL);
}

struct removal { /* an object or a log tail that goes now */
	struct dispatcher *d;
	const char *bucket; /* NULL: the log tail of run `key` */
	char key[1200];
};

static void
removal_run(void *arg)
{
	struct removal *r = arg;
	struct err e;
	int rc = r->bucket != NULL ? store_remove(r->d->store, r->bucket, r->key, &e) : log_spool_remove(r->d->spool, r->key, &e);

	if (rc != 0)
		log_warn(r->key, "cannot be removed: %s", e.msg);
}

static void
removal_done(void *arg, bool began)
{
	(void)began;
	free(arg);
}

static void
remove_later(struct dispatcher *d, const char *bucket, const char *key)
{
	struct removal *r = xcalloc(1, sizeof(*r));

	r->d = d;
	r->bucket = bucket;
	snprintf(r->key, sizeof(r->key), "%s", key);
	work_submit(bucket != NULL ? d->stores : d->logs, removal_run, removal_done, r);
}

static void
sweep(struct janitor *j)
{
	struct dispatcher *d = j->d;
	int64_t now = clock_real_ms();
	struct ledger_op prune = {.kind = LEDGER_PRUNE, .before_real_ms = now - d->config->run_retention_ms, .limit = BATCH};
	char key[1200];

	for (size_t i = 0; i < j->n_targets; i++) {
		struct doomed *x = &j->targets[i];

		forget_target(j, x, now);
		if (!x->needed && x->target.expires_real_ms < now)
			remove_later(d, d->config->s3_targets, key_target(x->target.id, key, sizeof(key)));
	}
	for (size_t i = 0; i < j->n_logs; i++)
		if (core_find(d->core, j->logs[i].name) == NULL)
			remove_later(d, NULL, j->logs[i].name);
	for (size_t i = 0; i < j->n_bundles; i++) {
		struct ledger_bundle b = {.metadata = NULL};
		struct ledger_op op = {.kind = LEDGER_BUNDLE_REMOVE, .bundle = &b};

		if (toolbox_uses(d->toolbox, j->bundles[i].name))
			continue;
		snprintf(b.sha256, sizeof(b.sha256), "%.64s", j->bundles[i].name);
		shell_write(d, &op, NULL, NULL);
	}
	shell_write(d, &prune, NULL, NULL);
}

static void
janitor_round(void *arg);

static void
round_done(void *arg, bool began)
{
	struct janitor *j = arg;

	j->busy = false;
	if (began && j->rc != 0)
		log_warn("janitor", "%s", j->err.msg);
	if (began && !j->d->stopping)
		sweep(j);
	free(j->targets);
	free(j->bundles);
	free(j->logs);
	j->targets = j->bundles = j->logs = NULL;
	j->n_targets = j->n_bundles = j->n_logs = 0;
	loop_timer_set(j->d->loop, &j->round_timer, clock_mono_ms() + (j->buckets_ready ? ROUND_MS : CHECK_MS), janitor_round, j);
}

static void
janitor_round(void *arg)
{
	struct janitor *j = arg;

	if (j->busy || j->d->stopping)
		return;
	j->busy = true;
	work_submit(j->d->stores, round_run, round_done, j);
}

static void
check_run(void *arg)
{
	struct janitor *j = arg;

	j->store_rc = store_check(j->d->store, &j->store_err);
}

static void janitor_check(void *arg);

static void
check_done(void *arg, bool began)
{
	struct janitor *j = arg;
	struct dispatcher *d = j->d;

	j->checking = false;
	if (!began)
		return;
	if (d->store_up != (j->store_rc == 0))
		log_at(j->store_rc == 0 ? LOG_INFO : LOG_ERROR, "store", "%s", j->store_rc == 0 ? "answers" : j->store_err.msg);
	d->store_up = j->store_rc == 0;
	snprintf(d->store_why, sizeof(d->store_why), "%.255s", j->store_rc == 0 ? "" : j->store_err.msg);
	metrics_set(METER_STORE_UP, NULL, d->store_up);
	loop_timer_set(d->loop, &j->check_timer, clock_mono_ms() + CHECK_MS, janitor_check, j);
}

static void
janitor_check(void *arg)
{
	struct janitor *j = arg;

	if (j->checking || j->d->stopping)
		return;
	j->checking = true;
	work_submit(j->d->stores, check_run, check_done, j);
}

struct janitor *
janitor_new(struct dispatcher *d)
{
	struct janitor *j = xcalloc(1, sizeof(*j));

	j->d = d;
	janitor_round(j);
	janitor_check(j);
	return j;
}

void
janitor_free(struct janitor *j)
{
	if (j == NULL)
		return;
	loop_timer_clear(j->d->loop, &j->round_timer);
	loop_timer_clear(j->d->loop, &j->check_timer);
	free(j);
}
