/* pump.c - the core's calls to Nomad: dispatch, stop, purge, and the question how a child stands.
 *
 * A dispatch may be repeated at will: its row was committed first, and its token makes Nomad answer with the same child.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "dispatcher/cluster_priv.h"

struct call {
	struct task task;
	enum call_kind kind;
	struct request_row req;
	char token[TOKEN_MAX];
	char parent[JOB_ID_MAX];
	char child[CORE_CHILD_MAX];
	bool duplicate;
	struct look look;
};

static struct call *
call_new(struct cluster *c, const struct request_row *req)
{
	struct call *k = xcalloc(1, sizeof(*k));

	k->req = *req;
	k->task.c = c;
	snprintf(k->token, sizeof(k->token), "%s-%" PRIu64, c->cfg.ledger_uuid, req->seq);
	snprintf(k->child, sizeof(k->child), "%s", req->child);
	return k;
}

static void dispatch_run(struct task *t, struct nomad *n), dispatch_done(struct task *t);
static void stop_run(struct task *t, struct nomad *n), stop_done(struct task *t);
static void purge_run(struct task *t, struct nomad *n), purge_done(struct task *t);
static void inquire_run(struct task *t, struct nomad *n), inquire_done(struct task *t);

static const struct {
	void (*run)(struct task *t, struct nomad *n);
	void (*done)(struct task *t);
} ways[CALL_KINDS] = {
	[CALL_DISPATCH] = {dispatch_run, dispatch_done}, [CALL_STOP] = {stop_run, stop_done},
	[CALL_PURGE] = {purge_run, purge_done}, [CALL_INQUIRE] = {inquire_run, inquire_done},
};

/* A right that is missing is a person's to mend: it stays on show until a call of its kind is allowed again. */
static void
call_done(struct task *t)
{
	const struct call *k = (const struct call *)t;
	char *denied = t->c->denied[k->kind];

	if (t->rc == ERR_DENIED)
		snprintf(denied, sizeof(t->c->denied[0]), "%s", t->err.msg);
	else if (t->rc == 0)
		denied[0] = '\0';
	ways[k->kind].done(t);
}

static void
call_submit(struct call *k, enum call_kind kind)
{
	k->kind = kind;
	k->task.run = ways[kind].run;
	k->task.done = call_done;
	task_submit(k->task.c, &k->task);
}

/* --- dispatch --- */

static void
dispatch_run(struct task *t, struct nomad *n)
{
	struct call *k = (struct call *)t;
	json_t *meta = json_pack("{s:s}", "request", k->token), *job = NULL;
	int priority = k->req.priority < 1 ? 1 : k->req.priority;

	fault_point("pump.before_dispatch");
	t->rc = nomad_dispatch(n, k->parent, k->token, meta, priority, k->child, sizeof(k->child), &k->duplicate, &t->err);
	fault_point("pump.after_dispatch");
	/* Of two racing calls with one token Nomad may answer the loser with the id of a child that was never made. */
	if (t->rc == 0 && k->duplicate) {
		t->rc = nomad_job(n, k->child, &job, &t->err);
		if (t->rc == ERR_NOTFOUND)
			t->rc = err_set(&t->err, ERR_RETRY, "Nomad named a child that it does not have");
	}
	json_decref(job);
	json_decref(meta);
}

/* What the core should do about an error: only what can never work as asked is refused. */
static enum dispatch_result
dispatch_verdict(int rc)
{
	return rc == 0 ? DISPATCH_OK
	    : rc == ERR_INVALID || rc == ERR_DENIED || rc == ERR_TOOBIG ? DISPATCH_REFUSED : DISPATCH_RETRY;
}

static void
dispatch_done(struct task *t)
{
	struct call *k = (struct call *)t;
	struct cluster *c = t->c;

	if (t->rc != 0) {
		log_warn(k->token, "dispatch of %s: %s", k->parent, t->err.msg);
		/* Stopped or purged since we looked? */
		if (t->rc == ERR_INVALID || t->rc == ERR_NOTFOUND)
			jobs_touched(c, k->parent);
	} else {
		log_debug(k->token, "dispatched as %s%s", k->child, k->duplicate ? " (again)" : "");
	}
	core_dispatched(c->cfg.core, clock_now(), k->req.seq, dispatch_verdict(t->rc), t->rc == 0 ? k->child : "", t->err.msg);
	/* What happened to it before we knew of it no event will tell any more. */
	if (t->rc == 0 && k->duplicate)
		pump_inquire(c, k->child);
}

static void
dispatch_to(void *arg, const char *id, bool permanent, const char *why)
{
	struct call *k = arg;
	struct cluster *c = k->task.c;

	if (id == NULL) {
		if (!atomic_load(&c->stop))
			core_dispatched(c->cfg.core, clock_now(), k->req.seq, permanent ? DISPATCH_REFUSED : DISPATCH_RETRY, "", why);
		free(k);
		return;
	}
	snprintf(k->parent, sizeof(k->parent), "%s", id);
	call_submit(k, CALL_DISPATCH);
}

static void
perform_dispatch(struct cluster *c, const struct request_row *req)
{
	jobs_when_ready(c, req->vertical, req->class, dispatch_to, call_new(c, req));
}

/* --- stop and purge --- */

static void
stop_run(struct task *t, struct nomad *n)
{
	struct call *k = (struct call *)t;

	fault_point("pump.before_stop");
	t->rc = nomad_stop(n, k->child, false, &t->err);
}

/* A stop has no answer: the core repeats it until the child is seen to have ended. */
static void
stop_done(struct task *t)
{
	struct call *k = (struct call *)t;

	if (t->rc != 0)
		log_warn(k->child, "stop: %s", t->err.msg);
}

static void
perform_stop(struct cluster *c, const struct request_row *req)
{
	call_submit(call_new(c, req), CALL_STOP);
}

static void
purge_run(struct task *t, struct nomad *n)
{
	struct call *k = (struct call *)t;

	fault_point("pump.before_purge");
	t->rc = nomad_stop(n, k->child, true, &t->err);
	fault_point("pump.after_purge");
}

static void
purge_done(struct task *t)
{
	struct call *k = (struct call *)t;
	struct cluster *c = t->c;

	if (t->rc != 0)
		log_warn(k->child, "purge: %s", t->err.msg);
	else
		free(map_remove(c->children, k->child));
	core_purged(c->cfg.core, clock_now(), k->req.seq, t->rc == 0);
}

static void
perform_purge(struct cluster *c, const struct request_row *req)
{
	call_submit(call_new(c, req), CALL_PURGE);
}

/* --- inquire --- */

static void
inquire_run(struct task *t, struct nomad *n)
{
	struct call *k = (struct call *)t;
	json_t *job = NULL;

	t->rc = nomad_job(n, k->child, &job, &t->err);
	if (t->rc == 0 && !job_fact_read(job, &k->look.job))
		t->rc = err_set(&t->err, ERR_PROTO, "Nomad's job %s cannot be read", k->child);
	if (t->rc == 0)
		t->rc = look_allocs(t->c, n, &k->look, &t->err);
	json_decref(job);
}

static void
inquire_done(struct task *t)
{
	struct call *k = (struct call *)t;
	struct cluster *c = t->c;

	if (t->rc == 0) {
		reconcile_looked(c, &k->look);
	} else if (t->rc == ERR_NOTFOUND) {
		reconcile_gone(c, k->child);
	} else {
		log_warn(k->child, "inquiry: %s", t->err.msg);
		core_inquiry_failed(c->cfg.core, clock_now(), k->child);
	}
}

static void
perform_inquire(struct cluster *c, const struct request_row *req)
{
	call_submit(call_new(c, req), CALL_INQUIRE);
}

void
pump_inquire(struct cluster *c, const char *child)
{
	struct request_row req = {.seq = 0};

	snprintf(req.child, sizeof(req.child), "%s", child);
	perform_inquire(c, &req);
}

void
cluster_perform(struct cluster *c, const struct effect *e)
{
	static void (*const table[])(struct cluster *, const struct request_row *) = {
		[EFF_DISPATCH] = perform_dispatch, [EFF_STOP] = perform_stop, [EFF_PURGE] = perform_purge, [EFF_INQUIRE] = perform_inquire,
	};

	table[e->kind](c, &e->req);
}
