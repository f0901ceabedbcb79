#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "dispatcher/log_spool.h"
#include "dispatcher/query.h"
#include "dispatcher/results.h"
#include "dispatcher/workers_api.h"

#define PIECE_BYTES (64 * 1024)
#define FOLLOW_MS 250 /* between looks for more: chunks come about once a second */

/* --- workers append --- */

struct chunk {
	char run[RUN_ID_MAX];
	unsigned attempt;
	int64_t offset, next;
	size_t len;
	void *bytes;
};

static void
chunk_release(void *data)
{
	free(((struct chunk *)data)->bytes);
}

static int
chunk_append(struct dispatcher *d, void *data, struct err *e)
{
	struct chunk *k = data;

	return log_spool_append(d->spool, k->run, k->attempt, k->offset, k->bytes, k->len, &k->next, e);
}

static void
chunk_appended(struct call *c)
{
	struct chunk *k = c->data;

	if (c->rc != 0)
		call_reply_err(c, &c->err);
	else
		call_reply(c, 200, json_pack("{s:I}", "next", (json_int_t)k->next));
}

static int
check_chunk(struct call *c, struct chunk *k, struct err *e)
{
	const char *run = http_query(c->r, "run"), *fence = http_query(c->r, "fence"), *worker = http_query(c->r, "worker");
	const struct run_row *row;
	struct fence f;
	int rc;

	if (run == NULL || worker == NULL || fence == NULL || !run_id_valid(run) || !fence_parse(fence, &f))
		return err_set(e, ERR_INVALID, "worker, run and fence must be given");
	if ((rc = call_query_int(c, "offset", 0, 0, INT64_C(1) << 50, &k->offset, e)) != 0)
		return rc;
	row = core_find(c->d->core, run);
	if (row == NULL || !fence_equal(row->fence, f) || strcmp(row->worker, worker) != 0)
		return err_set(e, ERR_CONFLICT, "run %s is not held under this fence", run);
	snprintf(k->run, sizeof(k->run), "%s", run);
	k->attempt = row->attempt;
	return 0;
}

void
worker_logs(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct chunk), chunk_release);
	struct chunk *k = c->data;
	struct err e = {0};
	const char *body;

	if (check_chunk(c, k, &e) != 0) {
		call_reply_err(c, &e);
		return;
	}
	body = http_body(r, &k->len);
	k->bytes = xmemdup(body, k->len);
	call_work(c, c->d->logs, chunk_append, chunk_appended);
}

/* --- clients read --- */

struct reading {
	struct dispatcher *d;
	struct http_req *r;      /* NULL: the client is gone */
	char run[RUN_ID_MAX];
	unsigned attempt;
	int64_t offset;
	bool follow, begun, busy; /* busy: the log thread works for it */
	bool last;               /* the run was over before the look that is under way began */
	char *piece;
	size_t len;              /* bytes of piece that wait for room */
	int rc;
	struct err err;
	struct loop_timer timer;
};

static void look(void *arg);

static void
reading_free(struct reading *k)
{
	loop_timer_clear(k->d->loop, &k->timer);
	free(k->piece);
	free(k);
}

static void
reading_end(struct reading *k)
{
	http_on_gone(k->r, NULL, NULL);
	http_stream_end(k->r);
	reading_free(k);
}

static void
reading_gone(void *arg)
{
	struct reading *k = arg;

	k->r = NULL;
	if (!k->busy)
		reading_free(k);
}

static void
reading_room(struct http_req *r, void *arg)
{
	struct reading *k = arg;

	(void)r;
	if (!k->busy && k->len > 0 && http_stream_write(k->r, k->piece, k->len) == 0) {
		k->len = 0;
		look(k);
	}
}

static void
look_run(void *arg)
{
	struct reading *k = arg;

	k->rc = log_spool_read(k->d->spool, k->run, k->attempt, &k->offset, k->piece, PIECE_BYTES, &k->len, &k->err);
}

static void
begin_answer(struct reading *k)
{
	char offset[24];
	const char *const headers[] = {"X-Drover-Log-Offset", offset, NULL};

	snprintf(offset, sizeof(offset), "%lld", (long long)k->offset);
	k->begun = true;
	http_stream_begin(k->r, 200, "text/plain; charset=utf-8", -1, headers, reading_room, k);
}

static void
look_done(void *arg, bool began)
{
	struct reading *k = arg;

	k->busy = false;
	if (k->r == NULL) {
		reading_free(k);
		return;
	}
	if (!k->begun)
		begin_answer(k);
	if (!began || (k->rc != 0 && k->rc != ERR_NOTFOUND)) {
		reading_end(k);
	} else if (k->len > 0) {
		k->offset += (int64_t)k->len;
		if (http_stream_write(k->r, k->piece, k->len) == 0) {
			k->len = 0;
			look(k);
		}
	} else if (k->last || !k->follow || k->d->stopping) {
		reading_end(k);
	} else {
		loop_timer_set(k->d->loop, &k->timer, clock_mono_ms() + FOLLOW_MS, look, k);
	}
}

static void
look(void *arg)
{
	struct reading *k = arg;
	const struct run_row *row = core_find(k->d->core, k->run);

	k->busy = true;
	k->last = row == NULL || row->attempt > k->attempt;
	work_submit(k->d->logs, look_run, look_done, k);
}

struct log_call {
	struct run_lookup lookup; /* first: the data of a lookup */
	int64_t offset, attempt;
	bool follow, spooled;
};

static void
log_call_release(void *data)
{
	run_lookup_release(data);
}

static void
start_reading(struct call *c)
{
	struct log_call *l = c->data;
	struct reading *k = xcalloc(1, sizeof(*k));

	k->d = c->d;
	k->r = c->r;
	snprintf(k->run, sizeof(k->run), "%s", l->lookup.run.row.id);
	/* Before the first attempt a follower waits for it. */
	k->attempt = l->attempt > 0 ? (unsigned)l->attempt : 1;
	k->offset = l->offset;
	k->follow = l->follow;
	k->piece = xmalloc(PIECE_BYTES);
	call_end(c);
	http_on_gone(k->r, reading_gone, k);
	look(k);
}

static int
probe(struct dispatcher *d, void *data, struct err *e)
{
	struct log_call *l = data;
	int64_t offset = 0;
	size_t len;
	char byte;

	l->spooled = log_spool_read(d->spool, l->lookup.run.row.id, (unsigned)l->attempt, &offset, &byte, 1, &len, e) == 0 && len > 0;
	/* A tail that lost its beginning: the full log may be in the store. */
	if (offset > l->offset && run_state_final(l->lookup.run.row.state))
		l->spooled = false;
	return 0;
}

static void
reply_no_attempt(struct call *c, unsigned attempts)
{
	struct log_call *l = c->data;
	struct err e = {0};

	err_set(&e, ERR_NOTFOUND, "there is no attempt %lld", (long long)l->attempt);
	if (attempts == 0)
		err_hint(&e, "the run has not started yet");
	else
		err_hint(&e, "the run has had %u so far", attempts);
	call_reply_err(c, &e);
}

static void
probed(struct call *c)
{
	struct log_call *l = c->data;
	const struct run_row *row = &l->lookup.run.row;
	char key[1200];

	if (c->r == NULL)
		call_end(c);
	else if (l->attempt > row->attempt)
		reply_no_attempt(c, row->attempt);
	else if (l->spooled || !run_state_final(row->state) || row->attempt == 0)
		start_reading(c);
	else
		results_stream(c, c->d->config->store.results, key_result(row->id, (unsigned)l->attempt, RESULT_LOG, key, sizeof(key)),
		    "text/plain; charset=utf-8", l->offset, "the log is not kept any more");
}

static void
logs_found(struct call *c)
{
	struct log_call *l = c->data;

	if (l->attempt == 0)
		l->attempt = l->lookup.run.row.attempt;
	call_work(c, c->d->logs, probe, probed);
}

void
run_logs(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct log_call), log_call_release);
	struct log_call *l = c->data;
	const char *follow = http_query(r, "follow");
	struct err e = {0};

	l->follow = follow != NULL && (strcmp(follow, "true") == 0 || strcmp(follow, "1") == 0);
	if (call_query_int(c, "offset", 0, 0, INT64_C(1) << 50, &l->offset, &e) != 0 ||
	    call_query_int(c, "attempt", 0, 1, 1000000, &l->attempt, &e) != 0)
		call_reply_err(c, &e);
	else
		query_run(c, logs_found);
}
