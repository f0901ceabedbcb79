#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "dispatcher/call.h"
#include "dispatcher/dispatcher.h"
#include "dispatcher/events.h"
#include "dispatcher/fleet.h"
#include "dispatcher/meters.h"
#include "dispatcher/watch.h"
#include "dispatcher/workers_api.h"

/* --- EFF_COMMIT: rows to the ledger, and what came of it back to the core --- */

struct commit { /* a transaction of the core on its way */
	struct ledger_write write;
	struct dispatcher *d;
	struct effect effect; /* owns the operations */
	struct ledger_op ops[];
};

/* The submission whose run this transaction inserts, NULL when its client is gone. */
static struct call *
submission_of(struct dispatcher *d, const struct commit *k)
{
	for (size_t i = 0; i < k->effect.n_ops; i++)
		if (k->effect.ops[i].kind == OP_RUN_INSERT)
			return map_get(d->submissions, k->effect.ops[i].run.id);
	return NULL;
}

static void
commit_done(struct ledger_write *w, void *arg)
{
	struct commit *k = arg;
	struct dispatcher *d = k->d;
	struct ledger_txn *t = &w->txn;
	static const enum commit_result results[] = {[LEDGER_OK] = COMMIT_OK, [LEDGER_FAILED] = COMMIT_FAILED,
		[LEDGER_UNKNOWN] = COMMIT_UNKNOWN, [LEDGER_DUPLICATE] = COMMIT_REFUSED, [LEDGER_MISSING] = COMMIT_REFUSED,
		[LEDGER_IN_USE] = COMMIT_REFUSED};
	struct call *submission = t->result == LEDGER_OK ? NULL : submission_of(d, k);

	if (submission != NULL) {
		submission->duplicate = t->result == LEDGER_DUPLICATE;
		submission->missing = t->result == LEDGER_MISSING;
	}
	assert(t->result != LEDGER_UNKNOWN); /* the queue has settled it */
	core_committed(d->core, clock_now(), k->effect.txn, results[t->result], t->specs, t->n_specs);
	core_effect_release(&k->effect);
	free(k);
}

/* What a report said goes into the row in the same transaction as the outcome that it led to. */
static void
add_detail(struct dispatcher *d, struct ledger_op *o)
{
	const struct run_row *row = &o->core->run;
	const struct fleet_run *live = fleet_run(d->fleet, row->id);
	const struct fleet_worker *w = row->worker[0] != '\0' ? fleet_worker(d->fleet, row->worker) : NULL;

	if (row->state == RUN_RUNNING && w != NULL) {
		o->node = w->node;
		o->alloc_id = w->alloc_id;
		o->job_id = w->job_id;
	}
	if (live != NULL && live->detail != NULL && fence_equal(live->fence, row->fence) &&
	    (row->state == live->outcome || row->fail == live->fail))
		o->detail = live->detail;
}

/* Texts of an operation are read by the ledger's thread: what others own is copied into the operation's own memory. */
static void
own_texts(struct ledger_op *o)
{
	o->node = xstrdup(o->node);
	o->alloc_id = xstrdup(o->alloc_id);
	o->job_id = xstrdup(o->job_id);
	o->detail = xstrdup(o->detail);
}

static void
commit_release_texts(struct commit *k)
{
	for (size_t i = 0; i < k->effect.n_ops; i++) {
		free((char *)k->ops[i].node);
		free((char *)k->ops[i].alloc_id);
		free((char *)k->ops[i].job_id);
		free((char *)k->ops[i].detail);
	}
}

static void
commit_told(struct ledger_write *w, void *arg)
{
	commit_release_texts(arg);
	commit_done(w, arg);
}

static void
perform_commit(struct dispatcher *d, struct effect *e)
{
	struct commit *k = xcalloc(1, sizeof(*k) + e->n_ops * sizeof(k->ops[0]));

	k->d = d;
	k->effect = *e;
	for (size_t i = 0; i < e->n_ops; i++) {
		k->ops[i].kind = LEDGER_CORE;
		k->ops[i].core = &k->effect.ops[i];
		if (e->ops[i].kind == OP_RUN_UPDATE) {
			add_detail(d, &k->ops[i]);
			own_texts(&k->ops[i]);
		}
	}
	e->ops = NULL; /* passed on */
	e->n_ops = 0;
	k->write.txn.ops = k->ops;
	k->write.txn.n_ops = k->effect.n_ops;
	k->write.done = commit_told;
	k->write.arg = k;
	ledger_queue_push(d->writes, &k->write);
}

/* --- the others --- */

static void
perform_answer(struct dispatcher *d, struct effect *e)
{
	struct call *c = call_of_core(d, e->caller);

	if (c != NULL)
		c->answered(c, e->answer);
}

static void
perform_cluster(struct dispatcher *d, struct effect *e)
{
	assert(d->cluster != NULL); /* the core was told that there is none */
	cluster_perform(d->cluster, e);
}

static void
perform_event(struct dispatcher *d, struct effect *e)
{
	const struct event *ev = events_add(d->events, &e->run, clock_real_ms());

	log_info(ev->run, "%s%s%s", run_state_word(ev->state), ev->reason[0] != '\0' ? ": " : "", ev->reason);
	if (run_state_final(ev->state)) {
		metrics_add(METER_FINISHED, run_state_word(ev->state), 1);
		fleet_forget_run(d->fleet, ev->run);
	}
	watch_event(d, ev);
}

static void
perform_manifest(struct dispatcher *d, struct effect *e)
{
	report_salvage(d, &e->run);
}

static void
perform_trouble(struct dispatcher *d, struct effect *e)
{
	(void)d;
	log_warn(NULL, "a one-shot of %s came to nothing: %s", e->req.vertical, e->why);
}

static void (*const performers[])(struct dispatcher *d, struct effect *e) = {
	[EFF_COMMIT] = perform_commit, [EFF_ANSWER] = perform_answer, [EFF_DISPATCH] = perform_cluster,
	[EFF_STOP] = perform_cluster, [EFF_PURGE] = perform_cluster, [EFF_INQUIRE] = perform_cluster, [EFF_EVENT] = perform_event,
	[EFF_MANIFEST] = perform_manifest, [EFF_TROUBLE] = perform_trouble,
};

static void
wake(void *arg)
{
	struct dispatcher *d = arg;

	core_tick(d->core, clock_now());
}

void
effects_perform(void *dispatcher)
{
	struct dispatcher *d = dispatcher;
	struct effect e;
	int64_t next;

	while (core_take(d->core, &e)) {
		performers[e.kind](d, &e);
		core_effect_release(&e);
	}
	next = core_next_wake(d->core);
	if (next == INT64_MAX)
		loop_timer_clear(d->loop, &d->wake);
	else
		loop_timer_set(d->loop, &d->wake, next, wake, d);
}

void
effects_health(void *arg, bool writable, const char *why)
{
	struct dispatcher *d = arg;

	if (writable)
		log_info("ledger", "takes writes again");
	else
		log_error("ledger", "%s", why);
	d->ledger_writable = writable;
	snprintf(d->ledger_why, sizeof(d->ledger_why), "%s", why);
	metrics_set(METER_LEDGER_WRITABLE, NULL, writable);
	core_ledger_health(d->core, clock_now(), writable);
}

void
effects_deposed(void *arg)
{
	struct dispatcher *d = arg;

	log_error("ledger", "another dispatcher has taken the leadership; this one stops");
	d->failed = true;
	dispatcher_stop(d);
}
