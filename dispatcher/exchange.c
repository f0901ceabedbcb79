/* exchange.c - several reports of one worker and its next poll for leases in one request: a busy worker needs no other. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "dispatcher/workers_api.h"
#include "proto/json_out.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define WAIT_MAX_MS 60000
#define RESULTS_MAX_BYTES (256 * 1024) /* CORE_LEASES_MAX results, every byte of id and message escaped */

struct exchange {
	struct worker_call base;
	json_t *reports_in, *lease_in;
	struct buf results;     /* of the reports, as they come: JSON that opens an array */
	size_t open;            /* reports without a result; one more while they are being handed over */
	int64_t free, wait_ms;  /* of the poll */
	json_t *held_in;
	struct held_list held;
	bool polls;
};

#define X(field) offsetof(struct exchange, field)
static const struct field exchange_fields[] = {
	{"worker", FIELD_TEXT, X(base.worker), true, 1, WORKER_ID_MAX - 1},
	{"reports", FIELD_ARRAY, X(reports_in), false, 0, 0},
	{"lease", FIELD_OBJECT, X(lease_in), false, 0, 0},
};
static const struct field poll_fields[] = {
	{"free", FIELD_INT, X(free), true, 0, CORE_LEASES_MAX},
	{"wait_ms", FIELD_INT, X(wait_ms), false, 0, WAIT_MAX_MS},
	{"held", FIELD_ARRAY, X(held_in), false, 0, 0},
};

static void
exchange_release(void *data)
{
	struct exchange *x = data;

	buf_release(&x->results);
	worker_call_release(data);
}

/* --- the poll, after the reports --- */

static void
reply(struct call *c, const struct answer *a)
{
	struct exchange *x = c->data;
	struct buf *b = call_answer(c);

	json_out_close(&x->results, ']');
	json_out_open(b, NULL, '{');
	/* What became of the reports is told in any case: a poll that was refused is repeated, they are not. */
	json_out_raw(b, "reports", x->results.data, x->results.len);
	worker_leases_out(b, c->d, a);
	json_out_text(b, "refused", a->err.code == 0 ? "" : a->err.code == ERR_NOTFOUND ? "register" : "again");
	json_out_close(b, '}');
	call_reply_written(c, 200, false);
}

static void
poll_now(struct call *c)
{
	static const struct answer none;
	struct exchange *x = c->data;

	if (c->r == NULL)
		call_end(c);
	else if (!x->polls)
		reply(c, &none);
	else
		core_lease(c->d->core, clock_now(), call_core(c, reply), x->base.worker, (unsigned)x->free, "", x->held.held, x->held.n,
		    c->d->stopping ? 0 : x->wait_ms);
}

/* --- the reports --- */

static void
one_less(struct call *c)
{
	struct exchange *x = c->data;

	if (--x->open > 0)
		return;
	c->held = false;
	poll_now(c);
}

static void
reported(void *arg, const char *run, const struct err *e, enum run_state state)
{
	struct call *c = arg;
	struct exchange *x = c->data;
	static const struct {
		int code;
		const char *word;
	} words[] = {{ERR_CONFLICT, "conflict"}, {ERR_NOTFOUND, "not_found"}, {ERR_INVALID, "invalid"}};
	const char *word = e->code == 0 ? "ok" : "again";

	for (size_t i = 0; e->code != 0 && i < COUNT(words); i++) {
		if (words[i].code == e->code)
			word = words[i].word;
	}
	json_out_open(&x->results, NULL, '{');
	json_out_text(&x->results, "run", run);
	json_out_text(&x->results, "result", word);
	json_out_text(&x->results, "state", e->code == 0 ? run_state_word(state) : "");
	json_out_text(&x->results, "message", e->code == 0 ? "" : e->msg);
	json_out_close(&x->results, '}');
	one_less(c);
}

static int
check(struct exchange *x, struct err *e)
{
	size_t i;
	json_t *report;
	int rc;

	if (json_array_size(x->reports_in) > CORE_LEASES_MAX)
		return err_set(e, ERR_INVALID, "reports: at most %d", CORE_LEASES_MAX);
	json_array_foreach(x->reports_in, i, report)
	{
		if (!json_is_object(report))
			return err_set(e, ERR_INVALID, "reports: a list of objects");
		json_object_set_new(report, "worker", json_string(x->base.worker));
	}
	x->polls = x->lease_in != NULL;
	if (!x->polls)
		return 0;
	rc = fields_read(x->lease_in, poll_fields, COUNT(poll_fields), x, e);
	/* What became of the reports does not wait for work to come. */
	if (json_array_size(x->reports_in) > 0)
		x->wait_ms = 0;
	return rc != 0 ? rc : worker_held_list(x->held_in, &x->held, e);
}

void
worker_exchange(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct exchange), exchange_release);
	struct exchange *x = c->data;
	struct err e = {0};
	size_t i;
	json_t *report;

	if (!worker_call_take(c, exchange_fields, COUNT(exchange_fields)))
		return;
	if (check(x, &e) != 0) {
		call_reply_err(c, &e);
		return;
	}
	x->results = buf_make(RESULTS_MAX_BYTES);
	json_out_open(&x->results, NULL, '[');
	x->open = json_array_size(x->reports_in) + 1;
	c->held = true; /* reports that have been taken are seen to their end without their client */
	json_array_foreach(x->reports_in, i, report)
		report_part(c, report, reported, c);
	one_less(c);
}
