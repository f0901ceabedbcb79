#include "dispatcher/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "dispatcher/doctor_priv.h"
#include "dispatcher/janitor.h"

#define LIMIT_DEFAULT_MS 20000
#define LIMIT_MAX_MS (10 * 60 * 1000)
#define VERIFY_MAX 10000
#define STAT_MS 20000
#define ENOUGH 1

/* --- the report --- */

void
doctor_say(struct doctor *h, const char *check, const char *bucket, enum doctor_state state, const char *hint, const char *fmt, ...)
{
	static const char *const words[] = {"ok", "finding", "repaired", "skipped"};
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	h->findings += state == DOCTOR_FINDING;
	h->repaired += state == DOCTOR_REPAIRED;
	h->incomplete |= state == DOCTOR_SKIPPED;
	json_array_append_new(h->checks, json_pack("{s:s, s:s, s:s, s:o, s:s}", "check", check, "bucket", bucket, "state", words[state],
	    "text", json_text(text), "hint", hint != NULL ? hint : ""));
}

static void
doctor_release(void *data)
{
	struct doctor *h = data;

	json_decref(h->checks);
	json_decref(h->server);
	free(h->rows);
}

static void
ran(struct call *c)
{
	struct doctor *h = c->data;

	c->d->doctor_busy = false;
	if (c->rc != 0) { /* it did not begin: nothing was found healthy */
		call_reply_err(c, &c->err);
		return;
	}
	/* A row is the ledger's: the loop removes it, unless a run needs it or its object came meanwhile. */
	for (size_t i = 0; h->repair && i < h->n_rows; i++)
		janitor_drop_row(c->d, &h->rows[i], false);
	call_reply(c, 200, json_pack("{s:b, s:b, s:I, s:I, s:I, s:O, s:O}", "healthy", h->findings == 0, "complete", !h->incomplete,
	    "findings", (json_int_t)h->findings, "repaired", (json_int_t)h->repaired, "took_ms",
	    (json_int_t)(clock_mono_ms() - h->began_mono_ms), "server", h->server, "checks", h->checks));
}

static void
begin(struct call *c)
{
	struct doctor *h = c->data;
	struct err e = {0};

	if (c->d->doctor_busy) {
		err_set(&e, ERR_RETRY, "another doctor is at work");
		call_reply_err(c, &e);
		return;
	}
	h->checks = json_array();
	h->server = json_object();
	c->d->doctor_busy = true;
	call_work(c, c->d->stores, doctor_run, ran);
}

void
doctor_look(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct doctor), doctor_release);
	struct doctor *h = c->data;
	struct err e = {0};

	if (call_query_int(c, "verify", 0, 0, VERIFY_MAX, &h->verify, &e) != 0 ||
	    call_query_duration(c, "limit", LIMIT_MAX_MS, &h->limit_ms, &e) != 0) {
		call_reply_err(c, &e);
		return;
	}
	h->limit_ms = h->limit_ms > 0 ? h->limit_ms : LIMIT_DEFAULT_MS;
	begin(c);
}

void
doctor_repair(struct http_req *r, void *ctx)
{
	static const struct field fields[] = {
		{"verify", FIELD_INT, offsetof(struct doctor, verify), false, 0, VERIFY_MAX},
		{"limit_ms", FIELD_INT, offsetof(struct doctor, limit_ms), false, 100, LIMIT_MAX_MS},
	};
	struct call *c = call_new(ctx, r, sizeof(struct doctor), doctor_release);
	struct doctor *h = c->data;
	json_t *body = NULL;
	struct err e = {0};

	h->limit_ms = LIMIT_DEFAULT_MS;
	h->repair = true;
	if (call_body(c, fields, sizeof(fields) / sizeof(fields[0]), h, &body, &e) != 0)
		call_reply_err(c, &e);
	else
		begin(c);
	json_decref(body);
}

/* --- what is in the store --- */

struct stat_call {
	json_t *buckets, *tenants;
	int64_t objects, bytes, foreign, deadline_mono_ms;
	const atomic_bool *stop;
	enum bucket_role role;
	bool incomplete;
};

static void
stat_release(void *data)
{
	struct stat_call *s = data;

	json_decref(s->buckets);
	json_decref(s->tenants);
}

static int
stat_object(void *arg, const char *key, const struct object_info *info)
{
	struct stat_call *s = arg;

	s->objects++;
	s->bytes += info->size_bytes;
	s->foreign += !bucket_key_ours(s->role, key);
	return clock_mono_ms() < s->deadline_mono_ms && !atomic_load(s->stop) ? 0 : ENOUGH;
}

static int
stat_tenant(void *arg, const struct ledger_usage *u)
{
	struct stat_call *s = arg;

	json_array_append_new(s->tenants, json_pack("{s:s, s:I, s:I, s:I}", "tenant", u->tenant, "targets", (json_int_t)u->targets,
	    "target_bytes", (json_int_t)u->bytes, "runs_with_results", (json_int_t)u->runs));
	return 0;
}

static int
stat_run(struct dispatcher *d, void *data, struct err *e)
{
	struct stat_call *s = data;
	int rc = 0;

	s->buckets = json_array();
	s->tenants = json_array();
	s->deadline_mono_ms = clock_mono_ms() + STAT_MS;
	s->stop = &d->ends;
	for (s->role = 0; rc == 0 && s->role < BUCKETS; s->role++) {
		struct lifecycle_rule rule = {.expire_days = 0};

		s->objects = s->bytes = s->foreign = 0;
		rc = store_list(d->brief, buckets_name(d->buckets, s->role), "", stat_object, s, e);
		s->incomplete |= rc == ENOUGH;
		if (rc != 0 && rc != ENOUGH)
			break;
		buckets_rule(d->buckets, s->role, &rule, e);
		json_array_append_new(s->buckets, json_pack("{s:s, s:s, s:I, s:I, s:I, s:i, s:b}", "role", bucket_role_word(s->role),
		    "bucket", buckets_name(d->buckets, s->role), "objects", (json_int_t)s->objects, "bytes", (json_int_t)s->bytes,
		    "foreign", (json_int_t)s->foreign, "expire_days", (int)rule.expire_days, "complete", rc == 0));
		rc = 0;
	}
	return rc != 0 ? rc : ledger_usage(d->ledger, stat_tenant, s, e);
}

static void
stat_done(struct call *c)
{
	struct stat_call *s = c->data;

	if (c->rc != 0)
		call_reply_err(c, &c->err);
	else
		call_reply(c, 200, json_pack("{s:O, s:O, s:b}", "buckets", s->buckets, "tenants", s->tenants, "complete", !s->incomplete));
}

void
storage_show(struct http_req *r, void *ctx)
{
	call_work(call_new(ctx, r, sizeof(struct stat_call), stat_release), ((struct dispatcher *)ctx)->stores, stat_run, stat_done);
}
