/* The doctor's checks: the server, the buckets, what is in them, and what live runs need. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "dispatcher/doctor_priv.h"
#include "storage/lifecycle.h"

#define CLOCK_BEARABLE_MS (60 * 1000) /* servers refuse at 15 minutes, and expiry is counted in days */
#define FREE_LOW_BYTES (INT64_C(1) << 30)
#define NEEDED_MAX 500
#define PIECE_KEYS 10000
#define ENOUGH 1 /* ends a listing */
#define REPAIR_HINT "drover storage doctor -repair"

static bool
late(const struct doctor *h)
{
	return clock_mono_ms() >= h->deadline_mono_ms || atomic_load(h->stop);
}

/* --- the server and its buckets --- */

static void
tell_server(struct dispatcher *d, struct doctor *h, const struct store_probe *p)
{
	const struct {
		const char *name;
		bool has;
	} features[] = {{"lifecycle", p->lifecycle}, {"versioning", p->versioned}, {"conditional_put", p->conditional_put},
		{"multipart_copy", p->multipart_copy}, {"checks_digests", p->checks_digests}};
	json_t *list = json_object();

	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++)
		json_object_set_new(list, features[i].name, json_boolean(features[i].has));
	json_object_set_new(h->server, "kind", json_string(d->brief->kind));
	json_object_set_new(h->server, "name", json_string(p->server));
	json_object_set_new(h->server, "clock_ahead_ms", p->clock_known ? json_integer(p->clock_ahead_ms) : json_null());
	json_object_set_new(h->server, "free_bytes", p->free_bytes >= 0 ? json_integer(p->free_bytes) : json_null());
	json_object_set_new(h->server, "features", list);
	if (p->clock_known && (p->clock_ahead_ms > CLOCK_BEARABLE_MS || p->clock_ahead_ms < -CLOCK_BEARABLE_MS))
		doctor_say(h, "clock", "", DOCTOR_FINDING, "run NTP on both machines", "the store's clock is %lld s %s ours",
		    (long long)(p->clock_ahead_ms < 0 ? -p->clock_ahead_ms : p->clock_ahead_ms) / 1000,
		    p->clock_ahead_ms < 0 ? "behind" : "ahead of");
	else if (p->clock_known)
		doctor_say(h, "clock", "", DOCTOR_OK, NULL, "within a minute of ours");
	if (p->free_bytes >= 0 && p->free_bytes < FREE_LOW_BYTES)
		doctor_say(h, "space", "", DOCTOR_FINDING, "make room, or shorten the retention", "less than 1 GiB is free");
}

static void
check_rights(struct doctor *h, const char *bucket, const struct store_probe *p)
{
	static const char *const words[STORE_RIGHTS] = {"list", "write", "read", "delete", "see lifecycle rules"};
	bool fine = true;

	for (size_t i = 0; i < STORE_RIGHTS; i++) {
		if (p->rights[i].rc == 0)
			continue;
		fine = false;
		doctor_say(h, "rights", bucket, DOCTOR_FINDING, "docs/STORAGE.md lists what the credentials must be allowed", "cannot %s: %s",
		    words[i], p->rights[i].why);
	}
	if (fine)
		doctor_say(h, "rights", bucket, DOCTOR_OK, NULL, "list, write, read, delete, see lifecycle rules");
}

static int
first_key(void *arg, const char *key, const struct object_info *info)
{
	(void)arg, (void)key, (void)info;
	return ENOUGH;
}

/* A bucket that somebody has removed is not made again by itself: what was in it is gone. False: it is not there. */
static bool
check_there(struct dispatcher *d, struct doctor *h, const char *bucket)
{
	struct err e = {0};

	if (store_list(d->brief, bucket, "", first_key, NULL, &e) != ERR_NOTFOUND)
		return true;
	if (!h->repair)
		doctor_say(h, "bucket", bucket, DOCTOR_FINDING, REPAIR_HINT, "it is not there, nor what was in it");
	else if (store_ensure_bucket(d->brief, bucket, &e) != 0)
		doctor_say(h, "bucket", bucket, DOCTOR_FINDING, NULL, "it is not there, and cannot be made: %s", e.msg);
	else
		doctor_say(h, "bucket", bucket, DOCTOR_REPAIRED, NULL, "it was not there; what was in it is gone");
	return h->repair;
}

static void
check_buckets(struct dispatcher *d, struct doctor *h)
{
	struct store_probe p;
	struct err e = {0};

	for (enum bucket_role i = 0; i < BUCKETS && !late(h); i++) {
		const char *bucket = buckets_name(d->buckets, i);

		if (!check_there(d, h, bucket))
			continue;
		if (store_probe(d->brief, bucket, &p, &e) != 0) {
			doctor_say(h, "bucket", bucket, DOCTOR_FINDING, NULL, "%s", e.msg);
			continue;
		}
		check_rights(h, bucket, &p);
		if (i == BUCKET_TARGETS)
			tell_server(d, h, &p);
	}
}

/* --- rules --- */

static void
check_rule(struct dispatcher *d, struct doctor *h, enum bucket_role role)
{
	const char *bucket = buckets_name(d->buckets, role);
	struct lifecycle_rule rule;
	struct lifecycle_view view;
	struct err e = {0};
	int rc;

	if (!buckets_rule(d->buckets, role, &rule, &e))
		return;
	rc = store_lifecycle_view(d->brief, bucket, &rule, 1, &view, &e);
	if (rc == 0 && !view.same && h->repair) {
		rc = store_lifecycle_merge(d->brief, bucket, &rule, 1, &e);
		if (rc == 0)
			doctor_say(h, "rule", bucket, DOCTOR_REPAIRED, NULL, "set anew: %s after %u days", rule.id, rule.expire_days);
	} else if (rc == 0 && !view.same) {
		doctor_say(h, "rule", bucket, DOCTOR_FINDING, REPAIR_HINT, "%s is not there as it shall be (%u days)", rule.id,
		    rule.expire_days);
	} else if (rc == 0) {
		doctor_say(h, "rule", bucket, DOCTOR_OK, NULL, "%s after %u days", rule.id, rule.expire_days);
	}
	if (rc == ERR_NOTFOUND)
		doctor_say(h, "rule", bucket, DOCTOR_OK, NULL, "the server has no lifecycle: the dispatcher removes what is old");
	else if (rc != 0)
		doctor_say(h, "rule", bucket, DOCTOR_FINDING, NULL, "%s", e.msg);
	if (rc == 0 && view.foreign_days > 0 && view.foreign_days < rule.expire_days)
		doctor_say(h, "rule", bucket, DOCTOR_FINDING, "remove that rule, or give Drover buckets of its own",
		    "rule '%s' of somebody else removes objects after %u days, which are kept for %u", view.foreign_id, view.foreign_days,
		    rule.expire_days);
}

static void
check_rules(struct dispatcher *d, struct doctor *h)
{
	for (enum bucket_role i = 0; i < BUCKETS && !late(h); i++)
		check_rule(d, h, i);
}

/* --- what is in the buckets --- */

static void
row_missing(void *arg, const struct ledger_target *t)
{
	struct doctor *h = arg;

	h->rows_seen++;
	if (h->n_rows == DOCTOR_ROWS_MAX)
		return;
	h->rows = xrealloc(h->rows, (h->n_rows + 1) * sizeof(h->rows[0]));
	h->rows[h->n_rows++] = *t;
}

static void
tell_claim(struct dispatcher *d, struct doctor *h, const char *bucket, const struct bucket_claim *c)
{
	char age[32];

	if (c->other[0] != '\0')
		doctor_say(h, "owner", bucket, DOCTOR_FINDING, "give each dispatcher buckets of its own; until then nothing is removed for want of a row",
		    "ledger %s uses it too (%s ago)", c->other, num_format_duration(clock_real_ms() - c->other_real_ms, age, sizeof(age)));
	else if (c->since_real_ms != 0 && !buckets_claim_holds(d->buckets, c, clock_real_ms()))
		doctor_say(h, "owner", bucket, DOCTOR_OK, NULL, "new to this ledger: objects without a row are left alone for now (ORPHAN_GRACE)");
}

static void
tell_bucket(struct dispatcher *d, struct doctor *h, enum bucket_role role, const struct sweep_bucket *b)
{
	const char *bucket = buckets_name(d->buckets, role);
	int64_t left = b->orphans - b->removed, stale = b->uploads.found - b->uploads.aborted;
	char size[32];

	tell_claim(d, h, bucket, &b->claim);
	if (b->removed > 0)
		doctor_say(h, "orphans", bucket, DOCTOR_REPAIRED, NULL, "%lld objects that no row stands for were removed", (long long)b->removed);
	if (left > 0)
		doctor_say(h, "orphans", bucket, DOCTOR_FINDING, REPAIR_HINT, "%lld objects that no row stands for (%s)", (long long)left,
		    num_format_size(b->orphan_bytes, size, sizeof(size)));
	if (b->uploads.aborted > 0)
		doctor_say(h, "uploads", bucket, DOCTOR_REPAIRED, NULL, "%lld uploads that nobody finished were dropped",
		    (long long)b->uploads.aborted);
	if (stale > 0)
		doctor_say(h, "uploads", bucket, DOCTOR_FINDING, REPAIR_HINT, "%lld uploads that nobody finishes", (long long)stale);
	if (b->foreign > 0)
		doctor_say(h, "foreign", bucket, DOCTOR_FINDING, "Drover's buckets are for Drover alone: the expiry rule spares nobody",
		    "%lld objects that are not Drover's", (long long)b->foreign);
	if (left == 0 && b->removed == 0)
		doctor_say(h, "objects", bucket, DOCTOR_OK, NULL, "%lld, %s", (long long)b->objects, num_format_size(b->bytes, size, sizeof(size)));
}

static void
check_contents(struct dispatcher *d, struct doctor *h)
{
	struct sweep_limits l = {.keys = PIECE_KEYS, .deadline_mono_ms = h->deadline_mono_ms, .dry = !h->repair, .stop = h->stop,
		.missing = row_missing, .arg = h};
	struct sweep *s = sweep_new(d);
	struct sweep_totals t;
	struct err e = {0};
	bool over = false;
	int rc = 0;

	while (rc == 0 && !over && !late(h))
		rc = sweep_piece(s, &l, &over, &t, &e);
	if (!over)
		sweep_so_far(s, &t);
	for (enum bucket_role i = 0; i < BUCKETS; i++)
		tell_bucket(d, h, i, &t.buckets[i]);
	if (rc != 0)
		doctor_say(h, "contents", "", DOCTOR_FINDING, NULL, "%s", e.msg);
	else if (!over)
		doctor_say(h, "contents", "", DOCTOR_SKIPPED, "-limit gives more time", "the time was over before all was seen");
	if (h->rows_seen > 0)
		doctor_say(h, "rows", buckets_name(d->buckets, BUCKET_TARGETS), h->repair ? DOCTOR_REPAIRED : DOCTOR_FINDING,
		    h->repair ? NULL : REPAIR_HINT, "%zu targets in the ledger have no object%s", h->rows_seen,
		    h->repair ? ": those that no run needs are forgotten" : "");
	sweep_free(s);
}

/* --- what live runs need --- */

struct needed {
	struct ledger_target *items;
	size_t n;
};

static int
needed_each(void *arg, const struct ledger_target *t, bool is_needed)
{
	struct needed *n = arg;

	if (is_needed)
		n->items[n->n++] = *t;
	return is_needed ? 0 : 1; /* they come first */
}

static void
check_one_needed(struct dispatcher *d, struct doctor *h, const struct ledger_target *t, unsigned rule_days)
{
	const char *bucket = buckets_name(d->buckets, BUCKET_TARGETS);
	struct object_info info;
	struct err e = {0};
	char key[1200];
	int rc = store_head(d->brief, bucket, key_target(t->id, key, sizeof(key)), &info, &e);

	if (rc == ERR_NOTFOUND)
		doctor_say(h, "needed", bucket, DOCTOR_FINDING, "store the same content again: its runs go on with it",
		    "target %s, which a live run needs, has no object", t->id);
	else if (rc != 0)
		doctor_say(h, "needed", bucket, DOCTOR_FINDING, NULL, "target %s: %s", t->id, e.msg);
	else if (info.size_bytes != t->size_bytes)
		doctor_say(h, "needed", bucket, DOCTOR_FINDING, "remove it and store it again", "target %s has %lld bytes, not %lld", t->id,
		    (long long)info.size_bytes, (long long)t->size_bytes);
	else if (lifecycle_rule_fires_real_ms(info.modified_real_ms, rule_days) - clock_real_ms() >= LIFECYCLE_DAY_MS)
		return;
	else if (h->repair && buckets_redate_target(d->buckets, t->id, &e) == 0)
		doctor_say(h, "needed", bucket, DOCTOR_REPAIRED, NULL, "target %s was dated anew", t->id);
	else
		doctor_say(h, "needed", bucket, DOCTOR_FINDING, REPAIR_HINT, "target %s, which a live run needs, would be removed within a day",
		    t->id);
}

static void
check_needed(struct dispatcher *d, struct doctor *h)
{
	struct needed n = {xcalloc(NEEDED_MAX, sizeof(n.items[0])), 0};
	struct lifecycle_rule rule = {.expire_days = UINT32_MAX / 2};
	struct err e = {0};
	int64_t before = h->findings;
	size_t i = 0;
	int rc = ledger_targets_due(d->ledger, INT64_MAX, NEEDED_MAX, needed_each, &n, &e);

	buckets_rule(d->buckets, BUCKET_TARGETS, &rule, &e);
	for (; rc >= 0 && i < n.n && !late(h); i++)
		check_one_needed(d, h, &n.items[i], rule.expire_days);
	if (i < n.n)
		doctor_say(h, "needed", "", DOCTOR_SKIPPED, "-limit gives more time", "%zu of %zu targets of live runs were looked at", i, n.n);
	else if (h->findings == before)
		doctor_say(h, "needed", "", DOCTOR_OK, NULL, "%zu targets of live runs are there", n.n);
	free(n.items);
}

/* --- digests --- */

static int
take_digest(void *arg, const void *data, size_t len)
{
	sha256_add(*(struct sha256 **)arg, data, len);
	return 0;
}

static int
take_one(void *arg, const struct ledger_target *t)
{
	*(struct ledger_target *)arg = *t;
	return 1;
}

/* A target from anywhere: ids are as good as random. False: there is none. */
static bool
pick_target(struct dispatcher *d, struct ledger_target *ret)
{
	char from[37];
	struct err e;

	uuid_text(from);
	return ledger_targets(d->ledger, NULL, from, 1, take_one, ret, &e) == 1 ||
	    ledger_targets(d->ledger, NULL, "", 1, take_one, ret, &e) == 1;
}

static void
verify_one(struct dispatcher *d, struct doctor *h, const struct ledger_target *t)
{
	const char *bucket = buckets_name(d->buckets, BUCKET_TARGETS);
	struct sha256 *sha = sha256_new();
	uint8_t hash[SHA256_LEN];
	char hex[SHA256_HEX_LEN], key[1200];
	struct err e = {0};
	int rc = store_get(d->brief, bucket, key_target(t->id, key, sizeof(key)), 0, -1, NULL, take_digest, &sha, NULL, h->stop, &e);

	sha256_end(sha, hash);
	hex_encode(hash, sizeof(hash), hex);
	if (rc != 0)
		doctor_say(h, "digest", bucket, DOCTOR_FINDING, NULL, "target %s cannot be read: %s", t->id, e.msg);
	else if (strcmp(hex, t->sha256) != 0)
		doctor_say(h, "digest", bucket, DOCTOR_FINDING, "remove it and store it again: workers refuse it",
		    "target %s has other bytes than were stored", t->id);
}

static void
check_digests(struct dispatcher *d, struct doctor *h)
{
	int64_t before = h->findings, n = 0;
	struct ledger_target t;

	if (h->verify == 0)
		return;
	for (; n < h->verify && !late(h) && pick_target(d, &t); n++)
		verify_one(d, h, &t);
	if (n < h->verify && late(h))
		doctor_say(h, "digest", "", DOCTOR_SKIPPED, "-limit gives more time", "%lld of %lld targets were read", (long long)n,
		    (long long)h->verify);
	else if (h->findings == before)
		doctor_say(h, "digest", "", DOCTOR_OK, NULL, "%lld targets, picked at random, have their bytes", (long long)n);
}

int
doctor_run(struct dispatcher *d, void *data, struct err *e)
{
	static void (*const checks[])(struct dispatcher *d, struct doctor *h) = {check_buckets, check_rules, check_needed, check_digests,
		check_contents};
	struct doctor *h = data;

	h->stop = &d->ends;
	h->began_mono_ms = clock_mono_ms();
	h->deadline_mono_ms = h->began_mono_ms + h->limit_ms;
	if (store_check(d->brief, e) != 0) {
		doctor_say(h, "store", "", DOCTOR_FINDING, e->hint[0] != '\0' ? e->hint : NULL, "cannot be used: %s", e->msg);
		return 0;
	}
	doctor_say(h, "store", "", DOCTOR_OK, NULL, "answers");
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		if (late(h))
			h->incomplete = true;
		else
			checks[i](d, h);
	}
	return 0;
}
