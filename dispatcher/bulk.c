#include "dispatcher/bulk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "base/num.h"
#include "dispatcher/meters.h"
#include "dispatcher/query.h"
#include "dispatcher/run_filter.h"
#include "dispatcher/run_json.h"
#include "dispatcher/shell_write.h"
#include "dispatcher/submit.h"

#define IN_FLIGHT 64      /* at once: enough for the ledger to commit them in groups */
#define REFUSALS_SHOWN 20
#define ENOUGH 1          /* ends a walk: the rest is for the next page */

#define STOPPABLE (1u << RUN_QUEUED | 1u << RUN_RUNNING)
#define LIVE (STOPPABLE | 1u << RUN_CANCELING)
#define UNDONE (1u << RUN_FAILED | 1u << RUN_TIMED_OUT | 1u << RUN_CANCELED)

struct bulk;
struct item;

struct action {
	const char *name;
	unsigned states;         /* that it is about; a filter narrows it down */
	const char *otherwise;   /* why a run in another state is refused */
	const char *hint;        /* what to do about it, "" nothing */
	void (*begin)(struct item *i, const struct ledger_run *run);
	bool specs;              /* it wants the runs' specs */
};

struct bulk { /* data of the client's call */
	struct run_lookup lookup; /* first: the data of a lookup; of a single run */
	struct call *call;
	const struct action *action;
	json_t *body;
	struct run_filter_texts texts;
	const char *reason, *next_in;
	int64_t limit;
	bool dry_run, single, advancing, full; /* full: the page ended early */
	struct run_filter filter;
	struct ledger_run *runs;
	size_t n, next, in_flight, done, refused, bytes;
	bool existed;             /* single: it had been requeued before */
	json_t *refusals;
	char result[RUN_ID_MAX];  /* single: the run that came of it */
	struct err err;           /* single: why not */
};

struct item { /* data of a part's call */
	struct submission submission; /* first: what submission_go expects */
	struct bulk *bulk;
	struct call *call;
	char run[RUN_ID_MAX];
};

static void advance(struct bulk *b);

static void
bulk_release(void *data)
{
	struct bulk *b = data;

	run_lookup_release(&b->lookup);
	for (size_t i = 0; i < b->n; i++)
		ledger_run_release(&b->runs[i]);
	free(b->runs);
	run_filter_release(&b->filter);
	json_decref(b->refusals);
	json_decref(b->body);
}

/* --- one run --- */

/* Its part is over: e is NULL where it was done. */
static void
item_over(struct item *i, const struct err *e)
{
	struct bulk *b = i->bulk;

	b->in_flight--;
	if (e == NULL) {
		b->done++;
	} else {
		if (b->refused++ < REFUSALS_SHOWN)
			json_array_append_new(b->refusals, json_pack("{s:s, s:o}", "run", i->run, "message", json_text(e->msg)));
		b->err = *e;
	}
	call_end(i->call);
	advance(b);
}

static void
canceled(struct call *c, const struct answer *a)
{
	struct err e = a->err;

	if (e.code == ERR_NOTFOUND)
		err_set(&e, ERR_CONFLICT, "it has ended already");
	item_over(c->data, e.code == 0 ? NULL : &e);
}

static void
cancel_begin(struct item *i, const struct ledger_run *run)
{
	struct call *c = i->call;
	char who[REASON_MAX];

	cancel_words(c, i->bulk->reason, who);
	core_cancel(c->d->core, clock_now(), call_core(c, canceled), run->row.id, who);
}

static void
purged(struct call *c, const struct ledger_txn *t)
{
	struct err e = t->err;

	if (t->result == LEDGER_IN_USE)
		err_set(&e, ERR_CONFLICT, "it has not ended");
	else if (t->result != LEDGER_OK && e.code == 0)
		err_set(&e, ERR_RETRY, "the ledger did not say whether it was purged: ask again");
	item_over(c->data, t->result == LEDGER_OK ? NULL : &e);
}

static void
purge_begin(struct item *i, const struct ledger_run *run)
{
	shell_write(i->call->d, &(struct ledger_op){.kind = LEDGER_RUN_REMOVE, .run = run->row.id}, i->call, purged);
}

static void
settled(struct call *c, const struct ledger_txn *t)
{
	(void)t; /* it stays in the list of the dead at worst; asking again gives the same run and clears it */
	item_over(c->data, NULL);
}

static void
requeued(struct call *c, const struct answer *a)
{
	struct item *i = c->data;
	struct submission *s = &i->submission;
	bool existed = c->duplicate || s->joined;
	struct err e = a->err;

	submission_over(c);
	if (e.code != 0 && c->missing) {
		err_set(&e, ERR_NOTFOUND, "its target has expired or was deleted");
		err_hint(&e, "upload it again and submit anew");
	}
	if (e.code != 0 && !c->duplicate) {
		item_over(i, &e);
		return;
	}
	if (!existed)
		metrics_add(METER_SUBMITTED, s->workflow, 1);
	i->bulk->existed = existed;
	snprintf(i->bulk->result, sizeof(i->bulk->result), "%s", s->id);
	shell_write(c->d, &(struct ledger_op){.kind = LEDGER_RUN_SETTLE, .run = i->run}, c, settled);
}

/* The id of the run that follows this one: the same whoever asks, and however often. */
static void
next_id(const struct run_row *row, char out[RUN_ID_MAX])
{
	char text[RUN_ID_MAX + 16];
	uint8_t hash[SHA256_LEN];
	int n = snprintf(text, sizeof(text), "requeue\n%s", row->id);

	sha256_of(text, (size_t)n, hash);
	run_id_make(row->workflow, hash, out);
}

static void
requeue_begin(struct item *i, const struct ledger_run *run)
{
	struct submission *s = &i->submission;
	const json_t *target;

	s->spec = json_loads(run->spec, 0, NULL);
	target = json_object_get(s->spec, "target");
	s->workflow = run->row.workflow;
	s->needs = run->row.needs;
	s->want.kind = json_string_value(json_object_get(target, "kind"));
	s->want.name = json_string_value(json_object_get(target, "name"));
	snprintf(s->tenant, sizeof(s->tenant), "%s", run->row.tenant);
	snprintf(s->target.id, sizeof(s->target.id), "%s", json_string_value(json_object_get(target, "id")));
	snprintf(s->target.sha256, sizeof(s->target.sha256), "%s", json_string_value(json_object_get(target, "sha256")));
	s->target.size_bytes = json_integer_value(json_object_get(target, "size_bytes"));
	(void)json_object_del(s->spec, "idem");
	json_object_set_new(s->spec, "requeued_from", json_string(run->row.id));
	next_id(&run->row, s->id);
	s->again = true;
	submission_go(i->call, requeued);
}

static const struct action cancel_action = {"cancel", STOPPABLE, "it has ended already", "", cancel_begin, false};
static const struct action requeue_action = {"requeue", UNDONE, "only what failed, timed out or was canceled is run again",
	"submit it anew, or wait for its end", requeue_begin, true};
static const struct action purge_action = {"purge", ~LIVE, "it has not ended", "cancel it first", purge_begin, false};

/* --- all of them --- */

static void
item_release(void *data)
{
	struct item *i = data;

	submission_release(&i->submission);
}

static void
item_start(struct bulk *b, const struct ledger_run *run)
{
	struct call *c = call_part(b->call, sizeof(struct item), item_release);
	struct item *i = c->data;
	struct err e = {0};

	i->bulk = b;
	i->call = c;
	snprintf(i->run, sizeof(i->run), "%s", run->row.id);
	b->in_flight++;
	if (b->call->d->stopping)
		err_set(&e, ERR_RETRY, "the dispatcher is stopping");
	else if (((1u << run->row.state) & b->action->states) == 0)
		err_set(&e, ERR_CONFLICT, "run %s is %s: %s", run->row.id, run_state_word(run->row.state), b->action->otherwise);
	if (e.code == ERR_CONFLICT && b->action->hint[0] != '\0')
		err_hint(&e, "%s", b->action->hint);
	if (e.code != 0)
		item_over(i, &e);
	else
		b->action->begin(i, run);
}

static int
read_result(struct dispatcher *d, void *data, struct err *e)
{
	struct bulk *b = data;

	ledger_run_release(&b->lookup.run);
	return ledger_run_find(d->ledger, b->result, NULL, &b->lookup.run, e);
}

static void
result_read(struct call *c)
{
	struct bulk *b = c->data;

	if (c->rc != 0)
		call_reply_err(c, &c->err);
	else
		call_reply_run(c, b->existed ? 200 : 201, &b->lookup.run, RUN_WHOLE, NULL);
}

static json_t *
outcome_of(const struct bulk *b)
{
	json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:O, s:b}", "action", b->action->name, "matched", (json_int_t)b->n, "done",
	    (json_int_t)b->done, "refused", (json_int_t)b->refused, "refusals", b->refusals, "dry_run", b->dry_run);
	char next[24];

	if (b->n > 0 && (b->full || b->n == (size_t)b->limit)) {
		snprintf(next, sizeof(next), "%llu", (unsigned long long)b->runs[b->n - 1].n);
		json_object_set_new(o, "next_token", json_string(next));
	}
	return o;
}

static void
finish(struct bulk *b)
{
	struct call *c = b->call;

	c->held = false;
	if (c->r == NULL)
		call_end(c);
	else if (!b->single)
		call_reply_indexed(c, 200, outcome_of(b));
	else if (b->done == 0)
		call_reply_err(c, &b->err);
	else if (b->result[0] != '\0')
		call_work(c, c->d->reads, read_result, result_read);
	else
		call_reply_indexed(c, 200, json_object());
}

/* Starts as many as may be under way, and ends the request after the last. */
static void
advance(struct bulk *b)
{
	if (b->advancing)
		return; /* an item was over before its start returned */
	b->advancing = true;
	while (b->next < b->n && b->in_flight < IN_FLIGHT)
		item_start(b, &b->runs[b->next++]);
	b->advancing = false;
	if (b->next == b->n && b->in_flight == 0)
		finish(b);
}

static void
begin(struct call *c)
{
	struct bulk *b = c->data;

	b->call = c;
	b->refusals = json_array();
	c->held = true; /* what was begun goes on without its client */
	if (b->dry_run) {
		finish(b);
		return;
	}
	advance(b);
}

/* --- the routes --- */

static int
add_run(void *arg, const struct ledger_run *run)
{
	struct bulk *b = arg;

	b->runs[b->n] = *run;
	b->runs[b->n].spec = b->action->specs ? xstrdup(run->spec) : NULL;
	b->runs[b->n++].detail = NULL;
	b->bytes += b->action->specs ? strlen(run->spec) : 0;
	b->full = b->bytes > RUNS_PAGE_BYTES;
	return b->full ? ENOUGH : 0;
}

static int
read_runs(struct dispatcher *d, void *data, struct err *e)
{
	struct bulk *b = data;
	int rc;

	b->runs = xcalloc((size_t)b->limit, sizeof(b->runs[0]));
	rc = ledger_runs(d->ledger, &b->filter.filter, add_run, b, e);
	return rc == ENOUGH ? 0 : rc;
}

static void
runs_read(struct call *c)
{
	if (c->rc != 0 || c->r == NULL)
		call_reply_err(c, &c->err);
	else
		begin(c);
}

#define B(field) offsetof(struct bulk, field)
#define FILTER(name) {#name, FIELD_TEXT, B(texts.name), false, 0, 256}

static void
by_filter(struct http_req *r, void *ctx, const struct action *action)
{
	static const struct field fields[] = {FILTER(state), FILTER(workflow), FILTER(vertical), FILTER(target), FILTER(tenant),
		FILTER(label), FILTER(since), FILTER(until), FILTER(dead), {"reason", FIELD_TEXT, B(reason), false, 0, REASON_MAX - 1},
		{"next_token", FIELD_TEXT, B(next_in), false, 1, 20},
		{"limit", FIELD_INT, B(limit), false, 1, BULK_MAX}, {"dry_run", FIELD_BOOL, B(dry_run), false, 0, 0}};
	struct call *c = call_new(ctx, r, sizeof(struct bulk), bulk_release);
	struct bulk *b = c->data;
	struct err e = {0};
	int64_t before = 0;
	int rc;

	b->action = action;
	b->limit = BULK_MAX;
	rc = call_body(c, fields, sizeof(fields) / sizeof(fields[0]), b, &b->body, &e);
	if (rc == 0 && run_filter_is_all(&b->texts)) {
		rc = err_set(&e, ERR_INVALID, "a filter is needed: this would be all runs");
		err_hint(&e, "state, workflow, vertical, target, tenant, label, since, until, dead");
	}
	if (rc == 0 && b->next_in != NULL && (rc = num_int(b->next_in, 1, INT64_MAX, &before, &e)) != 0)
		err_prefix(&e, rc, "next_token");
	if (rc == 0)
		rc = run_filter_set(&b->filter, &b->texts, call_tenant(c), &e);
	if (rc != 0) {
		call_reply_err(c, &e);
		return;
	}
	b->filter.filter.states = b->filter.filter.states == 0 ? action->states : b->filter.filter.states & action->states;
	b->filter.filter.limit = (size_t)b->limit;
	b->filter.filter.before = (uint64_t)before;
	if (b->filter.nothing || b->filter.filter.states == 0) { /* the filter names none that the action is about */
		begin(c);
		return;
	}
	call_work(c, c->d->reads, read_runs, runs_read);
}

static void
one_found(struct call *c)
{
	struct bulk *b = c->data;

	b->runs = xcalloc(1, sizeof(b->runs[0]));
	b->runs[0] = b->lookup.run;
	b->lookup.run.spec = b->lookup.run.detail = NULL;
	b->n = 1;
	b->single = true;
	begin(c);
}

static void
by_id(struct http_req *r, void *ctx, const struct action *action)
{
	struct call *c = call_new(ctx, r, sizeof(struct bulk), bulk_release);

	((struct bulk *)c->data)->action = action;
	query_run(c, one_found);
}

void
run_requeue(struct http_req *r, void *ctx)
{
	by_id(r, ctx, &requeue_action);
}

void
run_purge(struct http_req *r, void *ctx)
{
	by_id(r, ctx, &purge_action);
}

void
runs_cancel(struct http_req *r, void *ctx)
{
	by_filter(r, ctx, &cancel_action);
}

void
runs_requeue(struct http_req *r, void *ctx)
{
	by_filter(r, ctx, &requeue_action);
}

void
runs_purge(struct http_req *r, void *ctx)
{
	by_filter(r, ctx, &purge_action);
}
