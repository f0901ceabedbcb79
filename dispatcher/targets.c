#include "dispatcher/targets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "dispatcher/buckets.h"
#include "dispatcher/run_json.h"
#include "dispatcher/shell_write.h"

#define CACHED_MAX 4096 /* about 2 MiB */
#define PAGE_DEFAULT 100
#define PAGE_MAX 1000
#define RUNS_NAMED 3 /* of those that keep a target */

/* --- memory of targets --- */

struct target_cache {
	struct map *by_id;
};

struct target_cache *
target_cache_new(void)
{
	struct target_cache *t = xcalloc(1, sizeof(*t));

	t->by_id = map_new();
	return t;
}

static void
empty(struct target_cache *t)
{
	size_t cursor = 0;
	void *value;

	while (map_next(t->by_id, &cursor, NULL, &value))
		free(value);
	map_free(t->by_id);
}

void
target_cache_free(struct target_cache *t)
{
	if (t == NULL)
		return;
	empty(t);
	free(t);
}

void
target_cache_put(struct target_cache *t, const struct ledger_target *target)
{
	/* Starting over when full is cruder than LRU and good enough: a miss costs one read. */
	if (map_count(t->by_id) >= CACHED_MAX) {
		empty(t);
		t->by_id = map_new();
	}
	free(map_put(t->by_id, target->id, xmemdup(target, sizeof(*target))));
}

void
target_cache_drop(struct target_cache *t, const char *id)
{
	free(map_remove(t->by_id, id));
}

const struct ledger_target *
target_cache_get(const struct target_cache *t, const char *id)
{
	return map_get(t->by_id, id);
}

/* --- words --- */

void
target_id_of(const struct ledger *l, const char *tenant, const char *sha256, char out[TARGET_ID_MAX])
{
	char text[TENANT_NAME_MAX + SHA256_HEX_LEN + 1], hex[SHA256_HEX_LEN];
	uint8_t mac[SHA256_LEN];

	snprintf(text, sizeof(text), "%s\n%s", tenant, sha256);
	hmac_sha256(l->secret, sizeof(l->secret), text, strlen(text), mac);
	/* Version 8, the one for own schemes, and the RFC 9562 variant. */
	mac[6] = (mac[6] & 0x0f) | 0x80;
	mac[8] = (mac[8] & 0x3f) | 0x80;
	hex_encode(mac, sizeof(mac), hex);
	snprintf(out, TARGET_ID_MAX, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

int64_t
target_expiry(const struct config *c, int64_t now_real_ms)
{
	return now_real_ms + c->target_retention_ms;
}

/* --- routes --- */

struct target_call {
	json_t *body;
	const char *sha256;
	int64_t size_bytes, limit;
	char id[SHA256_HEX_LEN], tenant[TENANT_NAME_MAX];
	struct ledger_target found;
	json_t *list;
	char last[TARGET_ID_MAX];
	char names[RUNS_NAMED * (RUN_ID_MAX + 16)]; /* of runs that need it */
	size_t n, names_len;
};

static void
target_call_release(void *data)
{
	struct target_call *t = data;

	json_decref(t->body);
	json_decref(t->list);
}

static int
find(struct dispatcher *d, void *data, struct err *e)
{
	struct target_call *t = data;

	return ledger_target_find(d->ledger, t->id, t->tenant[0] == '\0' ? NULL : t->tenant, &t->found, e);
}

static void
lookup_found(struct call *c)
{
	struct target_call *t = c->data;

	/* What is about to be removed is better sent again than lost before it is used. */
	if (c->rc == 0 && (t->found.size_bytes != t->size_bytes ||
	                      t->found.expires_real_ms < clock_real_ms() + c->d->config->target_retention_ms / 4))
		c->rc = err_set(&c->err, ERR_NOTFOUND, "this content is not known");
	if (c->rc != 0 || c->r == NULL)
		call_reply_err(c, &c->err);
	else
		call_reply(c, 200, json_pack("{s:o}", "target", target_json(&t->found)));
}

void
target_lookup(struct http_req *r, void *ctx)
{
	static const struct field fields[] = {
		{"sha256", FIELD_TEXT, offsetof(struct target_call, sha256), true, 64, 64},
		{"size_bytes", FIELD_INT, offsetof(struct target_call, size_bytes), true, 0, INT64_MAX},
	};
	struct call *c = call_new(ctx, r, sizeof(struct target_call), target_call_release);
	struct target_call *t = c->data;
	struct err e = {0};
	int rc = call_body(c, fields, 2, t, &t->body, &e);

	if (rc == 0 && !sha256_text_valid(t->sha256))
		rc = err_set(&e, ERR_INVALID, "sha256: 64 lower-case hex digits");
	if (rc != 0) {
		call_reply_err(c, &e);
		return;
	}
	memcpy(t->id, t->sha256, sizeof(t->id));
	snprintf(t->tenant, sizeof(t->tenant), "%s", c->who.tenant);
	call_work(c, c->d->reads, find, lookup_found);
}

/* Looks the target of path parameter :id up, then calls then. */
static void
with_target(struct http_req *r, void *ctx, void (*then)(struct call *c))
{
	struct call *c = call_new(ctx, r, sizeof(struct target_call), target_call_release);
	struct target_call *t = c->data;
	const char *id;
	struct err e = {0};

	if (call_id(c, "id", &id, &e) != 0 || strlen(id) >= TARGET_ID_MAX) {
		err_set(&e, ERR_INVALID, "'%.40s' is not a target's id", http_param(r, "id"));
		call_reply_err(c, &e);
		return;
	}
	snprintf(t->id, sizeof(t->id), "%s", id);
	snprintf(t->tenant, sizeof(t->tenant), "%s", call_tenant(c) == NULL ? "" : call_tenant(c));
	call_work(c, c->d->reads, find, then);
}

static void
show_found(struct call *c)
{
	struct target_call *t = c->data;

	if (c->rc != 0)
		call_reply_err(c, &c->err);
	else
		call_reply(c, 200, json_pack("{s:o}", "target", target_json(&t->found)));
}

void
target_show(struct http_req *r, void *ctx)
{
	with_target(r, ctx, show_found);
}

static int
remove_object(struct dispatcher *d, void *data, struct err *e)
{
	struct target_call *t = data;

	return buckets_remove_target(d->buckets, t->found.id, NULL, e);
}

static void
object_removed(struct call *c)
{
	/* The row is gone: an object that cannot be removed now is found by the janitor, for want of its row. */
	call_reply(c, 200, json_pack("{s:s}", "object", c->rc == 0 ? "removed" : "later"));
}

static int
name_run(void *arg, const struct ledger_run *run)
{
	struct target_call *t = arg;

	if (t->n++ < RUNS_NAMED)
		t->names_len += (size_t)snprintf(t->names + t->names_len, sizeof(t->names) - t->names_len, "%s%s (%s)",
		    t->n > 1 ? ", " : "", run->row.id, run_state_word(run->row.state));
	return 0;
}

static int
who_needs(struct dispatcher *d, void *data, struct err *e)
{
	struct target_call *t = data;
	struct ledger_filter f = {.target = t->found.id, .limit = RUNS_NAMED + 1,
		.states = 1u << RUN_QUEUED | 1u << RUN_RUNNING | 1u << RUN_CANCELING};

	return ledger_runs(d->ledger, &f, name_run, t, e);
}

static void
needed(struct call *c)
{
	struct target_call *t = c->data;
	struct err e = {0};

	err_set(&e, ERR_CONFLICT, "target %s is needed by a run that is not over%s%.250s%s", t->found.id, t->n > 0 ? ": " : "", t->names,
	    t->n > RUNS_NAMED ? " and more" : "");
	err_hint(&e, "cancel the run, or wait for it");
	call_reply_err(c, &e);
}

static void
row_removed(struct call *c, const struct ledger_txn *txn)
{
	struct target_call *t = c->data;
	struct err e = txn->err;

	if (txn->result == LEDGER_IN_USE) {
		call_work(c, c->d->reads, who_needs, needed);
	} else if (txn->result != LEDGER_OK) {
		err_set(&e, ERR_RETRY, "the ledger cannot write now");
		call_reply_err(c, &e);
	} else {
		target_cache_drop(c->d->target_cache, t->found.id);
		call_work(c, c->d->stores, remove_object, object_removed);
	}
}

static void
delete_found(struct call *c)
{
	struct target_call *t = c->data;
	struct ledger_op op = {.kind = LEDGER_TARGET_REMOVE, .target = &t->found};

	if (c->rc != 0)
		call_reply_err(c, &c->err);
	else
		shell_write(c->d, &op, c, row_removed);
}

void
target_delete(struct http_req *r, void *ctx)
{
	with_target(r, ctx, delete_found);
}

static int
list_add(void *arg, const struct ledger_target *target)
{
	struct target_call *t = arg;

	if (t->n++ < (size_t)t->limit) {
		json_array_append_new(t->list, target_json(target));
		memcpy(t->last, target->id, sizeof(t->last));
	}
	return 0;
}

static int
list_read(struct dispatcher *d, void *data, struct err *e)
{
	struct target_call *t = data;

	t->list = json_array();
	return ledger_targets(d->ledger, t->tenant[0] == '\0' ? NULL : t->tenant, t->id, (size_t)t->limit + 1, list_add, t, e);
}

static void
list_done(struct call *c)
{
	struct target_call *t = c->data;
	json_t *body;

	if (c->rc != 0) {
		call_reply_err(c, &c->err);
		return;
	}
	body = json_pack("{s:O}", "targets", t->list);
	if (t->n > (size_t)t->limit)
		json_object_set_new(body, "next_token", json_string(t->last));
	call_reply(c, 200, body);
}

void
target_list(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct target_call), target_call_release);
	struct target_call *t = c->data;
	const char *after = http_query(r, "next_token");
	struct err e = {0};
	int rc = call_query_int(c, "limit", PAGE_DEFAULT, 1, PAGE_MAX, &t->limit, &e);

	if (rc == 0 && after != NULL && !target_id_valid(after))
		rc = err_set(&e, ERR_INVALID, "next_token: not one of ours");
	if (rc != 0) {
		call_reply_err(c, &e);
		return;
	}
	snprintf(t->id, sizeof(t->id), "%s", after == NULL ? "" : after);
	snprintf(t->tenant, sizeof(t->tenant), "%s", call_tenant(c) == NULL ? "" : call_tenant(c));
	call_work(c, c->d->reads, list_read, list_done);
}
