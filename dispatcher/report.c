/* How an attempt ended: by its worker's report, or by the manifest that it left behind. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "dispatcher/fleet.h"
#include "dispatcher/results.h"
#include "dispatcher/workers_api.h"
#include "proto/json_out.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define DETAIL_MAX_BYTES (6 * MANIFEST_MAX_BYTES + 4096) /* the largest report or manifest, every byte escaped */

struct reporting {
	struct worker_call base;
	const char *run, *fence, *outcome, *fail_class, *reason, *manifest;
	json_t *findings, *steps, *sandbox;
	bool leaving, partial;
	struct core_report report;
	struct ledger_run existing;
	/* One of several in an exchange: hears the end in place of a client. NULL: it came alone. */
	void (*over)(void *arg, const char *run, const struct err *e, enum run_state state);
	void *arg;
};

#define P(field) offsetof(struct reporting, field)
static const struct field report_fields[] = {
	{"worker", FIELD_TEXT, P(base.worker), true, 1, WORKER_ID_MAX - 1},
	{"run", FIELD_TEXT, P(run), true, 1, RUN_ID_MAX - 1},
	{"fence", FIELD_TEXT, P(fence), true, 1, FENCE_TEXT_MAX - 1},
	{"outcome", FIELD_TEXT, P(outcome), true, 1, 32},
	{"fail_class", FIELD_TEXT, P(fail_class), false, 0, 32},
	{"reason", FIELD_TEXT, P(reason), false, 0, 4096},
	{"leaving", FIELD_BOOL, P(leaving), false, 0, 0},
	{"findings", FIELD_OBJECT, P(findings), false, 0, 0},
	{"partial", FIELD_BOOL, P(partial), false, 0, 0},
	{"steps", FIELD_ARRAY, P(steps), false, 0, 0},
	{"manifest_sha256", FIELD_TEXT, P(manifest), false, 0, SHA256_HEX_LEN - 1},
	{"sandbox", FIELD_OBJECT, P(sandbox), false, 0, 0},
};

static void
reporting_release(void *data)
{
	struct reporting *p = data;

	worker_call_release(data);
	ledger_run_release(&p->existing);
}

static const struct {
	const char *word;
	enum run_state state;
} outcomes[] = {{"completed", RUN_COMPLETED}, {"failed", RUN_FAILED}, {"timed_out", RUN_TIMED_OUT}, {"canceled", RUN_CANCELED},
	{"handed_back", RUN_QUEUED}};

/* Cuts a text to fit without leaving half a UTF-8 sequence at its end. */
static void
copy_cut(char *out, size_t len, const char *text)
{
	size_t n = strlen(text);

	if (n >= len) {
		n = len - 1;
		while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
			n--;
	}
	memcpy(out, text, n);
	out[n] = '\0';
}

static int
check_report(struct reporting *p, struct err *e)
{
	struct core_report *o = &p->report;
	size_t i = 0;
	int rc;

	if ((rc = worker_held_parse(p->run, p->fence, &o->held, e)) != 0)
		return rc;
	while (i < COUNT(outcomes) && strcmp(outcomes[i].word, p->outcome) != 0)
		i++;
	if (i == COUNT(outcomes))
		return err_set(e, ERR_INVALID, "outcome: '%.32s' is not one", p->outcome);
	o->outcome = outcomes[i].state;
	if (p->fail_class != NULL && !fail_class_parse(p->fail_class, &o->fail))
		return err_set(e, ERR_INVALID, "fail_class: '%.32s' is not one", p->fail_class);
	if (p->manifest != NULL && p->manifest[0] != '\0' && !sha256_text_valid(p->manifest))
		return err_set(e, ERR_INVALID, "manifest_sha256: 64 hex digits");
	snprintf(o->worker, sizeof(o->worker), "%s", p->base.worker);
	copy_cut(o->reason, sizeof(o->reason), p->reason == NULL ? "" : p->reason);
	o->leaving = p->leaving;
	return 0;
}

static char *
detail_text(const struct reporting *p)
{
	struct buf b = buf_make(DETAIL_MAX_BYTES);

	json_out_open(&b, NULL, '{');
	json_out_value(&b, "findings", p->findings);
	json_out_bool(&b, "partial", p->partial);
	json_out_value(&b, "steps", p->steps);
	json_out_value(&b, "sandbox", p->sandbox);
	json_out_text(&b, "manifest_sha256", p->manifest == NULL ? "" : p->manifest);
	json_out_close(&b, '}');
	return buf_take(&b);
}

/* Keeps what a report says beside its outcome until the core has decided on it: it is written with the row. */
static void
note_detail(struct dispatcher *d, const struct reporting *p)
{
	const struct run_row *row = core_find(d->core, p->report.held.run);
	struct fleet_run *live;

	if (row == NULL || !fence_equal(row->fence, p->report.held.fence))
		return;
	live = fleet_run_make(d->fleet, row->id, row->fence);
	free(live->detail);
	live->detail = detail_text(p);
	live->outcome = p->report.outcome;
	live->fail = p->report.fail;
}

/* --- the route --- */

static int
reread(struct dispatcher *d, void *data, struct err *e)
{
	struct reporting *p = data;

	return ledger_run_find(d->ledger, p->run, NULL, &p->existing, e);
}

/* The end of the call: e->code 0 with the run's state, or why its report was not taken. */
static void
report_over(struct call *c, const struct err *e, enum run_state state)
{
	struct reporting *p = c->data;

	if (p->over != NULL) {
		p->over(p->arg, p->run != NULL ? p->run : "", e, state);
		call_end(c);
	} else if (e->code != 0) {
		call_reply_err(c, e);
	} else {
		call_reply(c, 200, json_pack("{s:s}", "state", run_state_word(state)));
	}
}

static void
report_reread(struct call *c)
{
	struct reporting *p = c->data;
	const struct run_row *row = &p->existing.row;

	if (c->rc == 0 && !fence_equal(row->accepted, p->report.held.fence))
		c->rc = err_set(&c->err, ERR_CONFLICT, "the lease of this attempt has ended; its result is ignored");
	report_over(c, &c->err, row->state);
}

static void
report_answered(struct call *c, const struct answer *a)
{
	/* The core forgets final runs: whether this is a repeated report is in the ledger. */
	if (a->err.code == ERR_NOTFOUND)
		call_work(c, c->d->reads, reread, report_reread);
	else
		report_over(c, &a->err, a->state);
}

/* Everything after the fields have been read. */
static void
report_go(struct call *c)
{
	struct reporting *p = c->data;
	const struct fleet_worker *w;
	struct err e = {0};

	if (check_report(p, &e) != 0) {
		report_over(c, &e, RUN_QUEUED);
		return;
	}
	w = fleet_worker(c->d->fleet, p->base.worker);
	p->report.inquire = p->report.outcome == RUN_QUEUED && w != NULL && w->job_id[0] != '\0' && c->d->cluster != NULL;
	note_detail(c->d, p);
	core_report(c->d->core, clock_now(), call_core(c, report_answered), &p->report);
}

void
report_part(const struct call *whole, json_t *body, void (*over)(void *arg, const char *run, const struct err *e, enum run_state state),
    void *arg)
{
	struct call *c = call_part(whole, sizeof(struct reporting), reporting_release);
	struct reporting *p = c->data;
	struct err e = {0};

	p->over = over;
	p->arg = arg;
	p->base.body = json_incref(body);
	if (fields_read(body, report_fields, COUNT(report_fields), p, &e) != 0)
		report_over(c, &e, RUN_QUEUED);
	else
		report_go(c);
}

void
worker_report(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct reporting), reporting_release);

	if (worker_call_take(c, report_fields, COUNT(report_fields)))
		report_go(c);
}

/* --- a report that never came: what the attempt had published says the same --- */

struct salvage {
	struct dispatcher *d;
	struct run_row row;
	struct buf text;
	json_t *manifest; /* NULL: there is none */
	int rc;
	struct err err;
};

static void
salvage_run(void *arg)
{
	struct salvage *s = arg;

	s->rc = manifest_get(s->d, &s->row, &s->text, &s->manifest, &s->err);
}

/* The manifest as the report that its worker would have made; false when it is of another lease or says nothing final. */
static bool
read_manifest(const struct salvage *s, struct reporting *p)
{
	json_t *o = s->manifest;
	uint8_t hash[SHA256_LEN];
	char hex[SHA256_HEX_LEN], fence[FENCE_TEXT_MAX];
	struct err e = {0};

	sha256_of(buf_str(&s->text), s->text.len, hash);
	hex_encode(hash, sizeof(hash), hex);
	*p = (struct reporting){.manifest = hex, .partial = json_is_true(json_object_get(o, "partial")),
		.base.worker = s->row.worker, .findings = json_object_get(o, "findings"), .steps = json_object_get(o, "steps"),
		.sandbox = json_object_get(o, "sandbox")};
	if (json_unpack(o, "{s:s, s:s, s:s, s?s, s?s}", "run", &p->run, "fence", &p->fence, "outcome", &p->outcome, "fail_class",
	        &p->fail_class, "reason", &p->reason) != 0 || check_report(p, &e) != 0)
		return false;
	if (strcmp(p->run, s->row.id) != 0 || strcmp(p->fence, fence_text(s->row.fence, fence)) != 0)
		return false;
	/* A tool that was killed because its worker was cut off is no outcome. */
	if (p->report.outcome == RUN_QUEUED || p->report.outcome == RUN_CANCELED)
		return false;
	note_detail(s->d, p);
	return true;
}

static void
salvage_done(void *arg, bool began)
{
	struct salvage *s = arg;
	struct dispatcher *d = s->d;
	struct held attempt = {.fence = s->row.fence};
	struct reporting p;
	bool found = s->manifest != NULL && read_manifest(s, &p);

	if (found)
		log_info(s->row.id, "the worker of attempt %u is gone, but all of its results are there", s->row.attempt);
	else if (began && s->rc != 0 && s->rc != ERR_NOTFOUND)
		log_warn(s->row.id, "cannot look for the results of a lost attempt: %s", s->err.msg);
	memcpy(attempt.run, s->row.id, sizeof(attempt.run));
	core_manifest(d->core, clock_now(), &attempt, found ? &p.report : NULL);
	json_decref(s->manifest);
	buf_release(&s->text);
	free(s);
}

void
report_salvage(struct dispatcher *d, const struct run_row *row)
{
	struct salvage *s = xcalloc(1, sizeof(*s));

	s->d = d;
	s->row = *row;
	s->text = buf_make(MANIFEST_MAX_BYTES);
	work_submit(d->stores, salvage_run, salvage_done, s);
}
