#include "dispatcher/query.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "dispatcher/run_filter.h"
#include "dispatcher/run_json.h"
#include "proto/json_out.h"
#include "dispatcher/toolbox.h"
#include "dispatcher/watch.h"

#define PAGE_DEFAULT 100
#define PAGE_MAX 1000
#define ENOUGH 1 /* ends a walk: the rest is for the next page */

/* --- one run by its id --- */

void
run_lookup_release(void *data)
{
	struct run_lookup *l = data;

	ledger_run_release(&l->run);
	json_decref(l->history);
}

static int
add_moment(void *arg, const struct ledger_moment *m)
{
	char at[CLOCK_TEXT_LEN];

	json_array_append_new(arg, json_pack("{s:s, s:s, s:i, s:o}", "at", clock_text(m->at_real_ms, at), "state",
	    run_state_word(m->state), "attempt", (int)m->attempt, "reason", json_text(m->reason)));
	return 0;
}

static int
lookup(struct dispatcher *d, void *data, struct err *e)
{
	struct run_lookup *l = data;
	int rc = ledger_run_find(d->ledger, l->id, l->tenant[0] == '\0' ? NULL : l->tenant, &l->run, e);

	if (rc == 0 && l->with_history) {
		l->history = json_array();
		rc = ledger_history(d->ledger, l->run.row.id, add_moment, l->history, e);
	}
	return rc;
}

static void
looked_up(struct call *c)
{
	struct run_lookup *l = c->data;

	if (c->rc != 0 || c->r == NULL)
		call_reply_err(c, &c->err);
	else
		l->then(c);
}

void
query_run(struct call *c, void (*then)(struct call *c))
{
	struct run_lookup *l = c->data;
	const char *id;
	struct err e = {0};

	if (call_id(c, "id", &id, &e) != 0) {
		call_reply_err(c, &e);
		return;
	}
	snprintf(l->id, sizeof(l->id), "%s", id);
	snprintf(l->tenant, sizeof(l->tenant), "%s", call_tenant(c) == NULL ? "" : call_tenant(c));
	l->then = then;
	call_work(c, c->d->reads, lookup, looked_up);
}

static void
show_found(struct call *c)
{
	struct run_lookup *l = c->data;

	call_reply_run(c, 200, &l->run, RUN_WHOLE, l->history);
}

static void
show_again(struct call *c)
{
	run_lookup_release(c->data);
	((struct run_lookup *)c->data)->history = NULL;
	query_run(c, show_found);
}

/* Waits for a run only once it was found among those that the client may see: how long an answer takes would tell of others'. */
static void
show_wait(struct call *c)
{
	struct run_lookup *l = c->data;
	struct err e = {0};
	bool parked;

	if (watch_park(c, l->run.row.id, show_again, &parked, &e) != 0)
		call_reply_err(c, &e);
	else if (!parked)
		show_found(c);
}

void
run_show(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct run_lookup), run_lookup_release);

	((struct run_lookup *)c->data)->with_history = true;
	query_run(c, show_wait);
}

static void
events_found(struct call *c)
{
	struct run_lookup *l = c->data;
	struct run_row row = l->run.row;

	watch_stream(c, &row);
}

void
run_events(struct http_req *r, void *ctx)
{
	query_run(call_new(ctx, r, sizeof(struct run_lookup), run_lookup_release), events_found);
}

void
all_events(struct http_req *r, void *ctx)
{
	watch_stream(call_new(ctx, r, 0, NULL), NULL);
}

/* --- the list --- */

struct list {
	struct run_filter filter;
	struct ledger_run *runs;
	size_t n, bytes;
	bool full;             /* the page ended early */
};

static void
list_release(void *data)
{
	struct list *l = data;

	for (size_t i = 0; i < l->n; i++)
		ledger_run_release(&l->runs[i]);
	free(l->runs);
	run_filter_release(&l->filter);
}

static int
list_filter(struct call *c, struct list *l, struct err *e)
{
	const struct run_filter_texts texts = {.state = http_query(c->r, "state"), .workflow = http_query(c->r, "workflow"),
		.vertical = http_query(c->r, "vertical"), .target = http_query(c->r, "target"), .tenant = http_query(c->r, "tenant"),
		.label = http_query(c->r, "label"), .since = http_query(c->r, "since"), .until = http_query(c->r, "until"),
		.dead = http_query(c->r, "dead")};
	int64_t limit = 0, before = 0;
	int rc;

	if ((rc = call_query_int(c, "limit", PAGE_DEFAULT, 1, PAGE_MAX, &limit, e)) != 0 ||
	    (rc = call_query_int(c, "next_token", 0, 1, INT64_MAX, &before, e)) != 0 ||
	    (rc = run_filter_set(&l->filter, &texts, call_tenant(c), e)) != 0)
		return rc;
	l->filter.filter.limit = (size_t)limit + 1; /* one more tells whether there is a next page */
	l->filter.filter.before = (uint64_t)before;
	return 0;
}

static int
list_add(void *arg, const struct ledger_run *run)
{
	struct list *l = arg;

	l->runs[l->n] = *run;
	l->runs[l->n].spec = xstrdup(run->spec);
	l->runs[l->n].detail = xstrdup(run->detail);
	l->n++;
	l->bytes += strlen(run->spec) + (run->detail == NULL ? 0 : strlen(run->detail));
	l->full = l->bytes > RUNS_PAGE_BYTES;
	return l->full ? ENOUGH : 0;
}

static int
list_read(struct dispatcher *d, void *data, struct err *e)
{
	struct list *l = data;
	int rc = 0;

	if (l->filter.nothing)
		return 0;
	l->runs = xcalloc(l->filter.filter.limit, sizeof(l->runs[0]));
	rc = ledger_runs(d->ledger, &l->filter.filter, list_add, l, e);
	return rc == ENOUGH ? 0 : rc;
}

static void
list_done(struct call *c)
{
	struct list *l = c->data;
	size_t page = l->filter.filter.limit - 1, shown = l->n > page ? page : l->n;
	struct buf *b;
	char next[24];

	if (c->rc != 0 || c->r == NULL) {
		call_reply_err(c, &c->err);
		return;
	}
	b = call_answer(c);
	json_out_open(b, NULL, '{');
	json_out_open(b, "runs", '[');
	for (size_t i = 0; i < shown; i++)
		run_out(b, NULL, c->d, &l->runs[i], RUN_BRIEF, NULL);
	json_out_close(b, ']');
	if (l->n > page || l->full) {
		snprintf(next, sizeof(next), "%llu", (unsigned long long)l->runs[shown - 1].n);
		json_out_text(b, "next_token", next);
	}
	json_out_close(b, '}');
	call_reply_written(c, 200, true);
}

static void
list_resume(struct call *c)
{
	struct err e = {0};

	if (list_filter(c, c->data, &e) != 0)
		call_reply_err(c, &e);
	else
		call_work(c, c->d->reads, list_read, list_done);
}

void
runs_list(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct list), list_release);
	struct err e = {0};
	bool parked;

	if (watch_park(c, NULL, list_resume, &parked, &e) != 0)
		call_reply_err(c, &e);
	else if (!parked)
		list_resume(c);
}

/* --- cancel --- */

struct cancel {
	struct run_lookup lookup; /* first: the data of a lookup */
	json_t *body;
	const char *reason;
};

static void
cancel_release(void *data)
{
	struct cancel *k = data;

	run_lookup_release(&k->lookup);
	json_decref(k->body);
}

static void
cancel_reread(struct call *c)
{
	struct cancel *k = c->data;

	call_reply_run(c, 200, &k->lookup.run, RUN_WHOLE, NULL);
}

static void
cancel_answered(struct call *c, const struct answer *a)
{
	struct cancel *k = c->data;
	struct err e = a->err;

	if (e.code == ERR_NOTFOUND)
		err_set(&e, ERR_CONFLICT, "run %s is already final", k->lookup.run.row.id);
	if (e.code != 0) {
		call_reply_err(c, &e);
		return;
	}
	ledger_run_release(&k->lookup.run);
	query_run(c, cancel_reread);
}

void
cancel_words(const struct call *c, const char *reason, char out[REASON_MAX])
{
	snprintf(out, REASON_MAX, "%s%s%s", c->who.name, reason != NULL ? ": " : "", reason != NULL ? reason : "");
}

static void
cancel_found(struct call *c)
{
	struct cancel *k = c->data;
	char who[REASON_MAX];

	cancel_words(c, k->reason, who);
	core_cancel(c->d->core, clock_now(), call_core(c, cancel_answered), k->lookup.run.row.id, who);
}

void
run_cancel(struct http_req *r, void *ctx)
{
	static const struct field fields[] = {{"reason", FIELD_TEXT, offsetof(struct cancel, reason), false, 0, REASON_MAX - 1}};
	struct call *c = call_new(ctx, r, sizeof(struct cancel), cancel_release);
	struct cancel *k = c->data;
	struct err e = {0};

	if (call_body(c, fields, 1, k, &k->body, &e) != 0)
		call_reply_err(c, &e);
	else
		query_run(c, cancel_found);
}

/* --- workflows --- */

void
workflows_list(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, 0, NULL);

	call_reply(c, 200, toolbox_list_json(c->d->toolbox));
}

void
workflow_show(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, 0, NULL);
	const struct toolbox_workflow *w = toolbox_find(c->d->toolbox, http_param(r, "name"));
	struct err e = {0};

	if (w != NULL) {
		call_reply(c, 200, json_pack("{s:o}", "workflow", toolbox_workflow_json(w)));
		return;
	}
	toolbox_lacks(c->d->toolbox, http_param(r, "name"), &e);
	call_reply_err(c, &e);
}

void
workflow_push(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, 0, NULL);
	const char *name = http_param(r, "name");
	struct err e = {0};
	size_t len;
	const char *body = http_body(r, &len);

	if (!workflow_name_valid(name)) {
		err_set(&e, ERR_INVALID, "'%.64s' is not a workflow's name", name);
		call_reply_err(c, &e);
		return;
	}
	toolbox_push(c, name, body, len);
}
