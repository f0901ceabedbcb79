#include "dispatcher/submit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "base/num.h"
#include "dispatcher/meters.h"
#include "dispatcher/retention.h"
#include "dispatcher/run_json.h"
#include "dispatcher/targets.h"
#include "proto/json_out.h"
#include "proto/key_template.h"

/* What is allowed of params and labels fits, also escaped. */
#define SPEC_MAX_BYTES (2 * 1024 * 1024)

static const struct field body_fields[] = {
	{"workflow", FIELD_TEXT, offsetof(struct submission, workflow), true, 1, WORKFLOW_NAME_MAX - 1},
	{"target", FIELD_OBJECT, offsetof(struct submission, target_in), true, 0, 0},
	{"params", FIELD_OBJECT, offsetof(struct submission, params_in), false, 0, 0},
	{"priority", FIELD_INT, offsetof(struct submission, priority), false, 0, 100},
	{"timeout_ms", FIELD_INT, offsetof(struct submission, timeout_ms), false, 1000, INT64_C(1) << 50},
	{"retention_ms", FIELD_INT, offsetof(struct submission, retention_ms), false, RETENTION_MIN_MS, INT64_C(1) << 50},
	{"not_before", FIELD_TIME, offsetof(struct submission, not_before_real_ms), false, 0, 64},
	{"idempotency_key", FIELD_TEXT, offsetof(struct submission, key), false, 1, IDEMPOTENCY_KEY_MAX},
	{"labels", FIELD_OBJECT, offsetof(struct submission, labels), false, 0, 0},
	{"max_wait_ms", FIELD_INT, offsetof(struct submission, max_wait_ms), false, 1000, INT64_C(1) << 50},
	{"concurrency", FIELD_OBJECT, offsetof(struct submission, concurrency_in), false, 0, 0},
	{"reuse", FIELD_TEXT, offsetof(struct submission, reuse_in), false, 1, 16},
	{"reuse_max_age_ms", FIELD_INT, offsetof(struct submission, reuse_max_age_ms), false, 1000, INT64_C(1) << 50},
	{"dry_run", FIELD_BOOL, offsetof(struct submission, dry_run), false, 0, 0},
};

static const struct field target_fields[] = { /* the id comes first: a dry run needs none */
	{"id", FIELD_TEXT, offsetof(struct submission, want.id), true, 4, TARGET_ID_MAX - 1},
	{"name", FIELD_TEXT, offsetof(struct submission, want.name), false, 0, LEDGER_FILENAME_MAX - 1},
	{"kind", FIELD_TEXT, offsetof(struct submission, want.kind), true, 4, 4},
};

void
submission_release(void *data)
{
	struct submission *s = data;

	json_decref(s->body);
	json_decref(s->spec);
	ledger_run_release(&s->existing);
	free(s->key_template);
	free(s->spec_text);
}

/* --- to the core --- */

/* The target's name as the run sees it. */
static const char *
name_of(const struct submission *s)
{
	return s->want.name != NULL && s->want.name[0] != '\0' ? s->want.name : s->target.filename;
}

/* What the core decides on that follows from the target. */
static void
fill_needs(struct submission *s)
{
	const struct key_values values = {.target = s->target.id, .workflow = s->workflow, .params = json_object_get(s->spec, "params")};
	uint8_t digest[SHA256_LEN];

	if (hex_decode(s->target.sha256, sizeof(digest), digest))
		for (size_t i = 0; i < sizeof(s->needs.target_key); i++)
			s->needs.target_key = s->needs.target_key << 8 | digest[i];
	if (s->slots.key != NULL)
		text_copy(s->needs.key, sizeof(s->needs.key), s->slots.key);
	else if (s->key_template != NULL)
		key_template_render(s->key_template, &values, s->needs.key, sizeof(s->needs.key));
}

void
submission_over(struct call *c)
{
	const struct submission *s = c->data;

	if (map_get(c->d->submissions, s->id) == c)
		map_remove(c->d->submissions, s->id);
	c->held = false;
}

void
submission_go(struct call *c, void (*answered)(struct call *c, const struct answer *a))
{
	struct submission *s = c->data;
	struct core_submission sub = {.not_before_real_ms = s->not_before_real_ms};
	struct answer stopping = {.kind = ANS_SUBMIT};
	struct buf text = buf_make(SPEC_MAX_BYTES);

	if (c->d->stopping) { /* by the same way as every other end: it may hold gates, or be a part of something */
		err_set(&stopping.err, ERR_RETRY, "the dispatcher is stopping");
		answered(c, &stopping);
		return;
	}
	json_object_set_new(s->spec, "target", json_pack("{s:s, s:s, s:s, s:s, s:I}", "id", s->target.id, "name", name_of(s),
	    "kind", s->want.kind, "sha256", s->target.sha256, "size_bytes", (json_int_t)s->target.size_bytes));
	if (s->id[0] == '\0') {
		uint8_t random[8];

		random_bytes(random, sizeof(random));
		run_id_make(s->workflow, random, s->id);
	}
	fill_needs(s);
	sub.needs = s->needs;
	text_copy(sub.id, sizeof(sub.id), s->id);
	text_copy(sub.tenant, sizeof(sub.tenant), s->tenant);
	text_copy(sub.workflow, sizeof(sub.workflow), s->workflow);
	text_copy(sub.adopted_child, sizeof(sub.adopted_child), s->child);
	json_out_value(&text, NULL, s->spec);
	free(s->spec_text);
	s->spec_text = buf_take(&text);
	sub.spec = xstrdup(s->spec_text);
	sub.again = s->again;
	s->joined = map_get(c->d->submissions, s->id) != NULL || core_find(c->d->core, s->id) != NULL;
	if (!s->joined)
		map_put(c->d->submissions, s->id, c);
	c->held = true; /* a client that leaves now does not take its submission back */
	core_submit(c->d->core, clock_now(), call_core(c, answered), &sub);
}

/* --- the route: body → target and key from the ledger → runs that are alike → core → answer --- */

static void begin(struct call *c);
static void target_ready(struct call *c);
static int look_up(struct dispatcher *d, void *data, struct err *e);
static void looked_up(struct call *c);

/* Takes a gate (which it may hold already); false: it waits there, and begins again when the one before it is through. */
static bool
gate_take(struct call *c, enum gate gate, const char *name)
{
	struct submission *s = c->data, *l;
	struct call *leader;

	if (s->gates[gate][0] != '\0')
		return true;
	if ((leader = map_get(c->d->keys, name)) == NULL) {
		text_copy(s->gates[gate], sizeof(s->gates[gate]), name);
		map_put(c->d->keys, name, c);
		return true;
	}
	l = leader->data;
	c->held = true;
	s->next_waiting = l->waiting[gate];
	l->waiting[gate] = c;
	return false;
}

/* The submission is over: those that came behind it look again, the first of them leading. */
static void
gates_release(struct call *c)
{
	struct submission *s = c->data;
	struct call *waiting[GATES];

	memcpy(waiting, s->waiting, sizeof(waiting));
	for (int i = 0; i < GATES; i++) {
		if (s->gates[i][0] != '\0')
			map_remove(c->d->keys, s->gates[i]);
		s->gates[i][0] = '\0';
		s->waiting[i] = NULL;
	}
	for (int i = 0; i < GATES; i++)
		for (struct call *w = waiting[i], *next; w != NULL; w = next) {
			struct submission *behind = w->data;

			next = behind->next_waiting;
			behind->next_waiting = NULL;
			w->held = false;
			begin(w);
		}
}

static void
finish_err(struct call *c, const struct err *e)
{
	gates_release(c);
	call_reply_err(c, e);
}

static void
reply_existing(struct call *c)
{
	struct submission *s = c->data;
	struct err e = {0};

	if (strcmp(s->key_digest, s->digest) != 0) {
		err_set(&e, ERR_CONFLICT, "the idempotency key was used for another submission (run %s)", s->existing.row.id);
		err_hint(&e, "use a new key for a new submission");
		finish_err(c, &e);
		return;
	}
	gates_release(c);
	call_reply_run(c, 200, &s->existing, RUN_WHOLE, NULL);
}

/* Whether the key stands for a run already was left to the ledger. Now that the run was refused, that comes first: a repeated
 * submission has its answer also where no new one is taken. */
static void
looked_up_late(struct call *c)
{
	struct submission *s = c->data;

	if (c->rc == 0 && s->key_used && c->r != NULL)
		reply_existing(c);
	else
		finish_err(c, &s->refusal);
}

static void
refused(struct call *c, const struct answer *a)
{
	struct submission *s = c->data;
	struct err e = a->err;

	if (c->duplicate && s->key != NULL) { /* committed by an earlier submission */
		s->id[0] = '\0';
		call_work(c, c->d->reads, look_up, looked_up);
		return;
	}
	if (c->missing) {
		target_cache_drop(c->d->target_cache, s->target.id);
		err_set(&e, ERR_NOTFOUND, "target %s was deleted meanwhile", s->target.id);
		err_hint(&e, "upload it again");
	}
	if (e.code == ERR_RETRY && !c->d->ledger_writable)
		err_hint(&e, "nothing that was answered before is lost; GET /v1/agent/health tells why, and when it can be tried again");
	s->refusal = e;
	if (s->key != NULL && s->unasked)
		call_work(c, c->d->reads, look_up, looked_up_late);
	else
		finish_err(c, &e);
}

static void
answered(struct call *c, const struct answer *a)
{
	struct submission *s = c->data;
	struct ledger_run run = {.spec = NULL};
	const struct run_row *row;

	submission_over(c);
	if (a->err.code != 0) {
		refused(c, a);
		return;
	}
	metrics_add(METER_SUBMITTED, s->workflow, 1);
	if ((row = core_find(c->d->core, s->id)) != NULL)
		run.row = *row;
	gates_release(c);
	run.spec = s->spec_text;
	call_reply_run(c, 201, &run, RUN_SUBMITTED, NULL);
}

static int
look_up(struct dispatcher *d, void *data, struct err *e)
{
	struct submission *s = data;
	int rc;

	s->key_used = false;
	if (s->key != NULL) {
		rc = ledger_run_by_key(d->ledger, s->tenant, s->key, s->id, s->key_digest, e);
		if (rc == 0) {
			s->key_used = true;
			return ledger_run_find(d->ledger, s->id, s->tenant, &s->existing, e);
		}
		if (rc != ERR_NOTFOUND)
			return rc;
	}
	return s->target_known ? 0 : ledger_target_find(d->ledger, s->want.id, s->tenant, &s->target, e);
}

static void
looked_up(struct call *c)
{
	struct submission *s = c->data;

	if (c->rc != 0 || c->r == NULL) {
		if (c->rc == ERR_NOTFOUND)
			err_hint(&c->err, "upload it with PUT /v1/targets first");
		finish_err(c, &c->err);
		return;
	}
	if (s->key_used) {
		reply_existing(c);
		return;
	}
	if (!s->target_known)
		target_cache_put(c->d->target_cache, &s->target);
	target_ready(c);
}

static struct reuse_want
reuse_want_of(const struct submission *s, int64_t keep_ms)
{
	return (struct reuse_want){.how = s->reuse, .tenant = s->tenant, .workflow = s->workflow, .target = &s->target,
		.kind = s->want.kind, .name = name_of(s), .spec = s->spec,
		.since_real_ms = s->reuse_max_age_ms > 0 ? clock_real_ms() - s->reuse_max_age_ms : 0, .default_keep_ms = keep_ms};
}

static int
look_alike(struct dispatcher *d, void *data, struct err *e)
{
	struct submission *s = data;
	struct reuse_want want = reuse_want_of(s, retention_default_ms(d->config));

	return reuse_find(d->ledger, &want, &s->existing, e);
}

static void
reply_reused(struct call *c)
{
	struct submission *s = c->data;
	struct buf *b = call_answer(c);

	json_out_open(b, NULL, '{');
	run_out(b, "run", c->d, &s->existing, RUN_WHOLE, NULL);
	json_out_bool(b, "reused", true);
	json_out_close(b, '}');
	call_reply_written(c, 200, true);
}

static void
looked_alike(struct call *c)
{
	struct submission *s = c->data;

	if (c->rc == ERR_NOTFOUND && c->r != NULL) {
		submission_go(c, answered);
	} else if (c->rc != 0 || c->r == NULL) {
		finish_err(c, &c->err);
	} else {
		metrics_add(METER_REUSED, s->workflow, 1);
		gates_release(c);
		reply_reused(c);
	}
}

static void
target_ready(struct call *c)
{
	struct submission *s = c->data;
	struct reuse_want want = reuse_want_of(s, retention_default_ms(c->d->config));
	char digest[SHA256_HEX_LEN], name[GATE_NAME_MAX];

	if (s->reuse == REUSE_NEVER) {
		submission_go(c, answered);
		return;
	}
	reuse_identity(&want, digest);
	snprintf(name, sizeof(name), "alike\n%s", digest);
	if (gate_take(c, GATE_ALIKE, name))
		call_work(c, c->d->reads, look_alike, looked_alike);
}

static void
begin(struct call *c)
{
	struct submission *s = c->data;
	const struct ledger_target *known = target_cache_get(c->d->target_cache, s->want.id);
	char name[GATE_NAME_MAX];

	if (s->key != NULL) {
		snprintf(name, sizeof(name), "key\n%s\n%s", s->tenant, s->key);
		if (!gate_take(c, GATE_KEY, name))
			return;
	}
	s->target_known = known != NULL && strcmp(known->tenant, s->tenant) == 0;
	if (s->target_known)
		s->target = *known;
	/* Nearly every key is new: whether it is, the ledger says when it writes, and needs not be asked before. */
	s->unasked = s->key != NULL && s->target_known && s->reuse == REUSE_NEVER;
	if (s->target_known && (s->key == NULL || s->unasked))
		target_ready(c);
	else
		call_work(c, c->d->reads, look_up, looked_up);
}

static void
digest_of(const json_t *body, char out[SHA256_HEX_LEN])
{
	char *text = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
	uint8_t hash[SHA256_LEN];

	sha256_of(text, strlen(text), hash);
	hex_encode(hash, sizeof(hash), out);
	free(text);
}

/* The body, and the target that it names. */
static int
read_submission(struct call *c, struct submission *s, struct err *e)
{
	size_t skip, n = sizeof(target_fields) / sizeof(target_fields[0]);
	int rc = call_body(c, body_fields, sizeof(body_fields) / sizeof(body_fields[0]), s, &s->body, e);

	if (rc != 0)
		return rc;
	skip = s->dry_run && json_object_get(s->target_in, "id") == NULL ? 1 : 0;
	if ((rc = fields_read(s->target_in, target_fields + skip, n - skip, s, e)) != 0)
		err_prefix(e, rc, "target");
	return rc;
}

void
submit_run(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct submission), submission_release);
	struct submission *s = c->data;
	struct err e = {0};
	int rc;

	s->priority = PRIORITY_DEFAULT;
	text_copy(s->tenant, sizeof(s->tenant), c->who.tenant);
	rc = read_submission(c, s, &e);
	if (rc == 0 && s->key != NULL)
		digest_of(s->body, s->digest);
	if (rc == 0)
		rc = submission_check(c->d, s, &e);
	if (rc != 0)
		call_reply_err(c, &e);
	else if (s->dry_run)
		call_reply(c, 200, json_pack("{s:b}", "dry_run", true));
	else
		begin(c);
}
