#include "dispatcher/janitor.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "dispatcher/buckets.h"
#include "dispatcher/log_spool.h"
#include "dispatcher/meters.h"
#include "dispatcher/shell_write.h"
#include "dispatcher/targets.h"
#include "dispatcher/toolbox.h"

#define CHECK_MS 15000        /* between looks at the store's health */
#define CHECK_DOWN_MS 2000    /* … while it is away */
#define BATCH 500
#define SWEEP_ROUNDS 12       /* between walks through whole buckets */
#define LOG_KEEP_MS (10 * 60 * 1000) /* a log tail after its last change, once its run is over */
#define BUNDLE_KEEP_MS (60 * 60 * 1000)
#define DAY_MS (24 * 3600 * INT64_C(1000))

struct doomed { /* found by the thread, judged and removed by the loop */
	char name[RUN_ID_MAX];
	struct ledger_target target;
	bool needed; /* a live run's target: it is kept */
};

struct found {
	struct doomed *items;
	size_t n;
};

struct janitor {
	struct dispatcher *d;
	struct loop_timer round_timer, check_timer;
	bool busy, checking;
	atomic_bool stop;
	unsigned rounds;
	/* results of the thread */
	int rc;
	struct err err;
	int64_t now_real_ms;     /* of the round */
	struct found targets, bundles, logs;
	size_t n_runs;           /* whose results are gone */
	int store_rc;
	struct err store_err;
};

static struct doomed *
note(struct found *f)
{
	f->items = xrealloc(f->items, (f->n + 1) * sizeof(*f->items));
	f->items[f->n] = (struct doomed){.needed = false};
	return &f->items[f->n++];
}

static void
found_clear(struct found *f)
{
	free(f->items);
	*f = (struct found){NULL, 0};
}

/* --- thread: what is due --- */

/* Keeps the object of a target that a live run needs: a copy onto itself is new for the bucket's rule. */
static bool
redate(struct janitor *j, const struct ledger_target *t)
{
	char key[1200];
	struct err e;

	key_target(t->id, key, sizeof(key));
	if (store_copy(j->d->brief, j->d->config->store.targets, key, key, NULL, 0, &e) == 0)
		return true;
	log_warn(t->id, "a run needs this target, but it cannot be kept: %s", e.msg);
	return false;
}

static int
target_due(void *arg, const struct ledger_target *t, bool needed)
{
	struct janitor *j = arg;
	struct doomed *x;

	if (!needed && t->expires_real_ms >= j->now_real_ms)
		return 0;
	x = note(&j->targets);
	x->target = *t;
	x->needed = needed;
	return 0;
}

static int
bundle_due(void *arg, const struct ledger_bundle *b, bool used)
{
	struct janitor *j = arg;

	if (!used && !b->pushed && b->created_real_ms < j->now_real_ms - BUNDLE_KEEP_MS)
		snprintf(note(&j->bundles)->name, RUN_ID_MAX, "%s", b->sha256);
	return 0;
}

static void
log_due(void *arg, const char *run, int64_t changed_real_ms)
{
	struct janitor *j = arg;

	if (changed_real_ms < j->now_real_ms - LOG_KEEP_MS)
		snprintf(note(&j->logs)->name, RUN_ID_MAX, "%s", run);
}

/* A day ahead, so that what is needed is renewed well before the bucket's rule fires. */
static int
look_for_targets(struct janitor *j)
{
	int rc = ledger_targets_due(j->d->ledger, j->now_real_ms + DAY_MS, BATCH, target_due, j, &j->err);
	size_t kept = 0;

	for (size_t i = 0; i < j->targets.n; i++)
		if (!j->targets.items[i].needed || redate(j, &j->targets.items[i].target))
			j->targets.items[kept++] = j->targets.items[i];
	j->targets.n = kept;
	return rc;
}

static int
run_due(void *arg, const char *id)
{
	snprintf(note(arg)->name, RUN_ID_MAX, "%s", id);
	return 0;
}

/* The results go first: as long as the row is there, somebody comes back for them. */
static int
remove_results(struct janitor *j)
{
	struct found runs = {NULL, 0};
	int rc = ledger_runs_due(j->d->ledger, j->now_real_ms - j->d->config->run_retention_ms, BATCH, run_due, &runs, &j->err);

	for (size_t i = 0; rc == 0 && i < runs.n && !atomic_load(&j->stop); i++)
		if ((rc = buckets_remove_results(j->d->buckets, runs.items[i].name, &j->err)) == 0)
			j->n_runs++;
	found_clear(&runs);
	return rc;
}

static int
sweep_buckets(struct janitor *j)
{
	return j->rounds % SWEEP_ROUNDS != 0 ? 0 : buckets_sweep(j->d->buckets, j->now_real_ms, &j->stop, &j->err);
}

static int
look_for_others(struct janitor *j)
{
	int rc = ledger_bundles(j->d->ledger, false, bundle_due, j, &j->err);

	return rc == 0 ? log_spool_each(j->d->spool, log_due, j, &j->err) : rc;
}

static void
round_run(void *arg)
{
	static int (*const steps[])(struct janitor *j) = {look_for_targets, look_for_others, remove_results, sweep_buckets};
	struct janitor *j = arg;

	j->now_real_ms = clock_real_ms();
	if ((j->rc = buckets_make(j->d->buckets, &j->err)) != 0 || (j->rc = buckets_set_rules(j->d->buckets, &j->err)) != 0)
		return;
	for (size_t i = 0; j->rc == 0 && i < sizeof(steps) / sizeof(steps[0]) && !atomic_load(&j->stop); i++)
		j->rc = steps[i](j);
}

/* --- loop: rows first, then what they stood for --- */

struct removal { /* a row, then its object; without a bucket the log tail of run `key` */
	struct ledger_write write;
	struct ledger_op op;
	struct ledger_target target;
	struct ledger_bundle bundle;
	struct dispatcher *d;
	const char *bucket;
	int64_t before_real_ms; /* an object that was dated anew since stays */
	char key[1200];
};

static void
removal_run(void *arg)
{
	struct removal *r = arg;
	struct err e;
	int rc = r->bucket == NULL ? log_spool_remove(r->d->spool, r->key, &e)
	                           : buckets_remove_old(r->d->buckets, r->bucket, r->key, r->before_real_ms, &e);

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
row_removed(struct ledger_write *w, void *arg)
{
	struct removal *r = arg;
	struct dispatcher *d = r->d;
	bool gone = w->txn.result == LEDGER_OK;

	if (gone && r->op.target != NULL)
		target_cache_drop(d->target_cache, r->target.id);
	if (gone && !d->stopping && !(r->op.bundle != NULL && toolbox_uses(d->toolbox, r->bundle.sha256)))
		work_submit(d->stores, removal_run, removal_done, r);
	else
		free(r);
}

static struct removal *
removal_new(struct dispatcher *d, enum ledger_op_kind kind, const char *bucket)
{
	struct removal *r = xcalloc(1, sizeof(*r));

	r->d = d;
	r->bucket = bucket;
	r->op.kind = kind;
	r->write.txn.ops = &r->op;
	r->write.txn.n_ops = 1;
	r->write.done = row_removed;
	r->write.arg = r;
	return r;
}

static void
end_target(struct janitor *j, const struct ledger_target *t)
{
	struct removal *r = removal_new(j->d, LEDGER_TARGET_REMOVE, j->d->config->store.targets);

	r->target = *t;
	r->op.target = &r->target;
	r->op.before_real_ms = j->now_real_ms;
	/* Nothing that was stored within half of its time can have expired: it is of an upload that came meanwhile. */
	r->before_real_ms = j->now_real_ms - j->d->config->target_retention_ms / 2;
	key_target(t->id, r->key, sizeof(r->key));
	ledger_queue_push(j->d->writes, &r->write);
}

static void
renew_target(struct janitor *j, struct ledger_target *t)
{
	struct ledger_op op = {.kind = LEDGER_TARGET_PUT, .target = t};

	t->expires_real_ms = target_expiry(j->d->config, j->now_real_ms);
	shell_write(j->d, &op, NULL, NULL);
}

static void
end_bundle(struct janitor *j, const char *sha256)
{
	struct removal *r = removal_new(j->d, LEDGER_BUNDLE_REMOVE, j->d->config->store.toolbox);

	snprintf(r->bundle.sha256, sizeof(r->bundle.sha256), "%.64s", sha256);
	r->op.bundle = &r->bundle;
	r->before_real_ms = j->now_real_ms - BUNDLE_KEEP_MS;
	key_bundle(r->bundle.sha256, r->key, sizeof(r->key));
	ledger_queue_push(j->d->writes, &r->write);
}

static void
end_log(struct janitor *j, const char *run)
{
	struct removal *r = removal_new(j->d, LEDGER_OPS, NULL);

	snprintf(r->key, sizeof(r->key), "%s", run);
	work_submit(j->d->logs, removal_run, removal_done, r);
}

static void
prune(struct janitor *j)
{
	int64_t before = j->now_real_ms - j->d->config->run_retention_ms;
	struct ledger_op runs = {.kind = LEDGER_PRUNE_RUNS, .before_real_ms = before, .limit = j->n_runs};
	struct ledger_op requests = {.kind = LEDGER_PRUNE_REQUESTS, .before_real_ms = before, .limit = BATCH};

	if (j->n_runs > 0)
		shell_write(j->d, &runs, NULL, NULL);
	shell_write(j->d, &requests, NULL, NULL);
}

static void
clean(struct janitor *j)
{
	struct dispatcher *d = j->d;

	for (size_t i = 0; i < j->targets.n; i++) {
		if (j->targets.items[i].needed)
			renew_target(j, &j->targets.items[i].target);
		else
			end_target(j, &j->targets.items[i].target);
	}
	for (size_t i = 0; i < j->logs.n; i++)
		if (core_find(d->core, j->logs.items[i].name) == NULL)
			end_log(j, j->logs.items[i].name);
	for (size_t i = 0; i < j->bundles.n; i++)
		if (!toolbox_uses(d->toolbox, j->bundles.items[i].name))
			end_bundle(j, j->bundles.items[i].name);
	prune(j);
}

static void
janitor_round(void *arg);

static void
round_done(void *arg, bool began)
{
	struct janitor *j = arg;
	bool fine = began && j->rc == 0, more = fine && (j->n_runs == BATCH || j->targets.n == BATCH);
	int64_t pause_ms = j->d->config->janitor_ms;

	j->busy = false;
	if (began && j->rc != 0)
		log_warn("janitor", "%s", j->err.msg);
	if (began && !j->d->stopping)
		clean(j);
	found_clear(&j->targets);
	found_clear(&j->bundles);
	found_clear(&j->logs);
	j->n_runs = 0;
	j->rounds += fine;
	if (!fine || more)
		pause_ms = pause_ms < CHECK_DOWN_MS ? pause_ms : CHECK_DOWN_MS;
	loop_timer_set(j->d->loop, &j->round_timer, clock_mono_ms() + pause_ms, janitor_round, j);
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

/* --- the store's health --- */

static void
check_run(void *arg)
{
	struct janitor *j = arg;

	j->store_rc = store_check(j->d->brief, &j->store_err);
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
	loop_timer_set(d->loop, &j->check_timer, clock_mono_ms() + (d->store_up ? CHECK_MS : CHECK_DOWN_MS), janitor_check, j);
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
janitor_stop(struct janitor *j)
{
	if (j != NULL)
		atomic_store(&j->stop, true);
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
