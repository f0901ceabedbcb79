#include "dispatcher/janitor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "dispatcher/buckets.h"
#include "dispatcher/log_spool.h"
#include "dispatcher/meters.h"
#include "dispatcher/retention.h"
#include "dispatcher/shell_write.h"
#include "dispatcher/sweep.h"
#include "dispatcher/targets.h"
#include "dispatcher/toolbox.h"
#include "storage/lifecycle.h"

#define CHECK_MS 15000        /* between looks at the store's health */
#define CHECK_DOWN_MS 2000    /* … while it is away */
#define BATCH 500
#define SWEEP_ROUNDS 12       /* between the end of a walk through the buckets and the next one */
#define SWEEP_KEYS 10000      /* in one round */
#define SWEEP_MS 20000
#define LOG_KEEP_MS (10 * 60 * 1000) /* a log tail after its last change, once its run is over */
#define BUNDLE_KEEP_MS (60 * 60 * 1000)

struct doomed { /* found by the thread, judged and removed by the loop */
	char name[RUN_ID_MAX];
	struct ledger_target target;
	enum lifecycle_fate fate;
	bool lost; /* a live run's target whose object is not there */
};

struct found {
	struct doomed *items;
	size_t n;
};

struct janitor {
	struct dispatcher *d;
	struct loop_timer round_timer, check_timer;
	struct ledger_write gate; /* a round begins with a write */
	struct ledger_op gate_op;
	bool busy, checking;
	struct sweep *sweep;
	unsigned rest;           /* rounds until the next walk */
	/* results of the thread */
	int rc;
	struct err err;
	int64_t now_real_ms;     /* of the round */
	struct found targets, bundles, logs, runs, rows;
	bool more_targets, more_runs, walked;
	struct sweep_totals totals; /* of the last whole walk */
	int64_t missing, missing_before; /* live runs' targets without an object: in this walk, in the last one */
	int store_rc;
	struct err store_err;
};

static struct doomed *
note(struct found *f)
{
	f->items = xrealloc(f->items, (f->n + 1) * sizeof(*f->items));
	f->items[f->n] = (struct doomed){.lost = false};
	return &f->items[f->n++];
}

static void
found_clear(struct found *f)
{
	free(f->items);
	*f = (struct found){NULL, 0};
}

/* --- thread: what is due --- */

/* Keeps the object of a target that a live run needs. */
static int
redate(struct janitor *j, struct doomed *x)
{
	int rc;

	fault_point("janitor.redate");
	rc = buckets_redate_target(j->d->buckets, x->target.id, &j->err);
	x->lost = rc == ERR_NOTFOUND;
	if (x->lost)
		log_warn(x->target.id, "a run needs this target, but its object is not in the store any more");
	return x->lost ? 0 : rc;
}

static int
target_due(void *arg, const struct ledger_target *t, bool needed)
{
	struct janitor *j = arg;
	enum lifecycle_fate fate = lifecycle_fate(j->now_real_ms, t->expires_real_ms, j->d->config->target_retention_ms, needed);
	struct doomed *x;

	if (fate == LIFECYCLE_KEEP)
		return 0;
	x = note(&j->targets);
	x->target = *t;
	x->fate = fate;
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

/* What cannot be dated anew now, with the store away, is tried again in the next round. */
static int
look_for_targets(struct janitor *j)
{
	int rc = ledger_targets_due(j->d->ledger, j->now_real_ms + LIFECYCLE_DAY_MS, BATCH, target_due, j, &j->err);
	size_t kept = 0;

	j->more_targets = j->targets.n == BATCH;
	for (size_t i = 0; i < j->targets.n; i++) {
		struct doomed *x = &j->targets.items[i];

		if (x->fate == LIFECYCLE_RENEW && (rc != 0 || atomic_load(&j->d->ends) || (rc = redate(j, x)) != 0))
			continue;
		j->targets.items[kept++] = *x;
	}
	j->targets.n = kept;
	return rc;
}

static int
run_due(void *arg, const char *id)
{
	snprintf(note(arg)->name, RUN_ID_MAX, "%s", id);
	return 0;
}

/* The results go first: until the row says that they are gone, somebody comes back for them. */
static int
remove_results(struct janitor *j)
{
	size_t done = 0;
	int rc = ledger_runs_due(j->d->ledger, j->now_real_ms, retention_default_ms(j->d->config), BATCH, run_due, &j->runs, &j->err);

	j->more_runs = j->runs.n == BATCH;
	while (rc == 0 && done < j->runs.n && !atomic_load(&j->d->ends)) {
		fault_point("janitor.results");
		if ((rc = buckets_remove_results(j->d->buckets, j->runs.items[done].name, &j->err)) == 0) {
			done++;
			metrics_add(METER_STORE_REMOVED, "results", 1);
		}
	}
	j->runs.n = done;
	return rc;
}

static void
row_missing(void *arg, const struct ledger_target *t)
{
	note(&((struct janitor *)arg)->rows)->target = *t;
}

static int
sweep_buckets(struct janitor *j)
{
	struct sweep_limits l = {.keys = SWEEP_KEYS, .deadline_mono_ms = clock_mono_ms() + SWEEP_MS, .stop = &j->d->ends,
		.missing = row_missing, .arg = j};

	if (j->rest > 0) {
		j->rest--;
		return 0;
	}
	return sweep_piece(j->sweep, &l, &j->walked, &j->totals, &j->err);
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
	for (size_t i = 0; j->rc == 0 && i < sizeof(steps) / sizeof(steps[0]) && !atomic_load(&j->d->ends); i++)
		j->rc = steps[i](j);
}

/* --- loop: rows first, then what they stood for --- */

struct removal { /* a row, then what it stood for */
	struct ledger_write write;
	struct ledger_op op;
	struct ledger_target target;
	struct ledger_bundle bundle;
	struct dispatcher *d;
	int (*act)(struct removal *r, struct err *e); /* in a thread, once the row is gone; NULL: nothing is left to do */
	bool counts;            /* a refusal means that a live run's target is lost */
	char name[RUN_ID_MAX];
};

static int
act_target(struct removal *r, struct err *e)
{
	bool gone;
	int rc = buckets_remove_target(r->d->buckets, r->target.id, &gone, e);

	if (gone)
		metrics_add(METER_STORE_REMOVED, "target", 1);
	return rc;
}

static int
act_bundle(struct removal *r, struct err *e)
{
	char key[1200];

	return buckets_remove_old(r->d->buckets, BUCKET_TOOLBOX, key_bundle(r->bundle.sha256, key, sizeof(key)),
	    clock_real_ms() - BUNDLE_KEEP_MS, e);
}

static int
act_log(struct removal *r, struct err *e)
{
	return log_spool_remove(r->d->spool, r->name, e);
}

static void
removal_run(void *arg)
{
	struct removal *r = arg;
	struct err e = {0};

	if (r->act(r, &e) != 0)
		log_warn(r->name, "cannot be removed now: %s", e.msg);
}

static void
removal_done(void *arg, bool began)
{
	(void)began;
	free(arg);
}

/* Told at once; that there are fewer shows at the end of the next walk. */
static void
count_missing(struct janitor *j, const char *id)
{
	log_warn(id, "a run needs this target, but the store does not have it");
	if (++j->missing > j->missing_before)
		metrics_set(METER_TARGETS_MISSING, NULL, j->missing);
}

static void
row_removed(struct ledger_write *w, void *arg)
{
	struct removal *r = arg;
	struct dispatcher *d = r->d;
	bool gone = w->txn.result == LEDGER_OK;

	if (w->txn.result == LEDGER_IN_USE && r->counts)
		count_missing(d->janitor, r->target.id);
	if (gone && r->op.target != NULL)
		target_cache_drop(d->target_cache, r->target.id);
	if (gone && r->act != NULL && !d->stopping && !(r->op.bundle != NULL && toolbox_uses(d->toolbox, r->bundle.sha256)))
		work_submit(d->stores, removal_run, removal_done, r);
	else
		free(r);
}

static struct removal *
removal_new(struct dispatcher *d, enum ledger_op_kind kind, const char *name, int (*act)(struct removal *r, struct err *e))
{
	struct removal *r = xcalloc(1, sizeof(*r));

	r->d = d;
	r->act = act;
	snprintf(r->name, sizeof(r->name), "%s", name);
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
	struct removal *r = removal_new(j->d, LEDGER_TARGET_REMOVE, t->id, act_target);

	r->target = *t;
	r->op.target = &r->target;
	r->op.before_real_ms = j->now_real_ms;
	ledger_queue_push(j->d->writes, &r->write);
}

/* Renewed; or, with its object lost, told less: then the same content counts as unknown, and is sent again by who has it. */
static void
renew_target(struct janitor *j, const struct doomed *x)
{
	struct ledger_target t = x->target;
	struct ledger_op op = {.kind = LEDGER_TARGET_PUT, .target = &t};

	if (x->lost) {
		t.expires_real_ms = j->now_real_ms + j->d->config->target_retention_ms / 4 - 1;
	} else {
		t.expires_real_ms = target_expiry(j->d->config, j->now_real_ms);
		t.dated_real_ms = j->now_real_ms;
	}
	target_cache_drop(j->d->target_cache, t.id);
	shell_write(j->d, &op, NULL, NULL);
}

void
janitor_drop_row(struct dispatcher *d, const struct ledger_target *t, bool counts)
{
	struct removal *r = removal_new(d, LEDGER_TARGET_REMOVE, t->id, NULL);

	r->target = *t;
	r->op.target = &r->target;
	r->op.before_real_ms = t->expires_real_ms + 1; /* one that was stored again since promises more */
	r->counts = counts;
	ledger_queue_push(d->writes, &r->write);
}

static void
end_bundle(struct janitor *j, const char *sha256)
{
	struct removal *r = removal_new(j->d, LEDGER_BUNDLE_REMOVE, sha256, act_bundle);

	snprintf(r->bundle.sha256, sizeof(r->bundle.sha256), "%.64s", sha256);
	r->op.bundle = &r->bundle;
	ledger_queue_push(j->d->writes, &r->write);
}

static void
end_log(struct janitor *j, const char *run)
{
	work_submit(j->d->logs, removal_run, removal_done, removal_new(j->d, LEDGER_OPS, run, act_log));
}

struct gone_results { /* one transaction: many runs' results are removed */
	struct ledger_write write;
	struct doomed *runs;
	struct ledger_op ops[];
};

static void
gone_told(struct ledger_write *w, void *arg)
{
	struct gone_results *g = arg;

	(void)w;
	free(g->runs);
	free(g);
}

static void
note_gone(struct janitor *j)
{
	struct gone_results *g;

	if (j->runs.n == 0)
		return;
	g = xcalloc(1, sizeof(*g) + j->runs.n * sizeof(g->ops[0]));
	g->runs = xmemdup(j->runs.items, j->runs.n * sizeof(j->runs.items[0]));
	for (size_t i = 0; i < j->runs.n; i++)
		g->ops[i] = (struct ledger_op){.kind = LEDGER_RESULTS_GONE, .run = g->runs[i].name};
	g->write = (struct ledger_write){.txn = {.ops = g->ops, .n_ops = j->runs.n}, .done = gone_told, .arg = g};
	ledger_queue_push(j->d->writes, &g->write);
}

static void
prune(struct janitor *j)
{
	struct ledger_op op = {.kind = LEDGER_PRUNE_RUNS, .before_real_ms = j->now_real_ms - j->d->config->run_retention_ms,
		.limit = 2 * BATCH};

	shell_write(j->d, &op, NULL, NULL);
}

static void
clean(struct janitor *j)
{
	struct dispatcher *d = j->d;

	for (size_t i = 0; i < j->targets.n; i++) {
		if (j->targets.items[i].fate == LIFECYCLE_RENEW)
			renew_target(j, &j->targets.items[i]);
		else
			end_target(j, &j->targets.items[i].target);
	}
	for (size_t i = 0; i < j->logs.n; i++)
		if (core_find(d->core, j->logs.items[i].name) == NULL)
			end_log(j, j->logs.items[i].name);
	for (size_t i = 0; i < j->bundles.n; i++)
		if (!toolbox_uses(d->toolbox, j->bundles.items[i].name))
			end_bundle(j, j->bundles.items[i].name);
	for (size_t i = 0; i < j->rows.n; i++)
		janitor_drop_row(d, &j->rows.items[i].target, true);
	note_gone(j);
	prune(j);
}

/* Rows of the last piece are still on their way to the ledger: what they find counts with the next walk as well. */
static void
walk_ended(struct janitor *j)
{
	j->rest = SWEEP_ROUNDS;
	j->missing_before = j->missing;
	j->missing = 0;
	metrics_set(METER_TARGETS_MISSING, NULL, j->missing_before);
	for (enum bucket_role i = 0; i < BUCKETS; i++) {
		metrics_set(METER_BUCKET_OBJECTS, bucket_role_word(i), j->totals.buckets[i].objects);
		metrics_set(METER_BUCKET_BYTES, bucket_role_word(i), j->totals.buckets[i].bytes);
	}
}

static void
janitor_round(void *arg);

static void
next_round(struct janitor *j, bool soon)
{
	int64_t pause_ms = j->d->config->janitor_ms;

	j->busy = false;
	if (soon && pause_ms > CHECK_DOWN_MS)
		pause_ms = CHECK_DOWN_MS;
	loop_timer_set(j->d->loop, &j->round_timer, clock_mono_ms() + pause_ms, janitor_round, j);
}

static void
round_done(void *arg, bool began)
{
	struct found *const all[] = {&((struct janitor *)arg)->targets, &((struct janitor *)arg)->bundles, &((struct janitor *)arg)->logs,
		&((struct janitor *)arg)->runs, &((struct janitor *)arg)->rows};
	struct janitor *j = arg;

	if (began && j->rc != 0)
		log_warn("janitor", "%s", j->err.msg);
	if (began && !j->d->stopping)
		clean(j);
	if (j->walked)
		walk_ended(j);
	j->walked = false;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		found_clear(all[i]);
	next_round(j, !began || j->rc != 0 || j->more_targets || j->more_runs);
}

/* Who cannot write does not lead, and must not remove anything either. */
static void
gate_passed(struct ledger_write *w, void *arg)
{
	struct janitor *j = arg;

	if (w->txn.result == LEDGER_OK && !j->d->stopping)
		work_submit(j->d->stores, round_run, round_done, j);
	else
		next_round(j, true);
}

static void
janitor_round(void *arg)
{
	struct janitor *j = arg;

	if (j->busy || j->d->stopping)
		return;
	j->busy = true;
	j->gate_op = (struct ledger_op){.kind = LEDGER_PRUNE_REQUESTS, .limit = BATCH,
		.before_real_ms = clock_real_ms() - j->d->config->run_retention_ms};
	j->gate = (struct ledger_write){.txn = {.ops = &j->gate_op, .n_ops = 1}, .done = gate_passed, .arg = j};
	ledger_queue_push(j->d->writes, &j->gate);
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
	/* Runs are held back from the second failed look on: a hiccup is none of their business. */
	if (j->store_rc == 0 || (!d->store_up && d->store_why[0] != '\0'))
		core_dependency(d->core, clock_now(), "the object store", j->store_rc == 0, j->store_err.msg);
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
	j->sweep = sweep_new(d);
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
	sweep_free(j->sweep);
	free(j);
}
