#include "dispatcher/sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "dispatcher/meters.h"
#include "storage/lifecycle.h"

#define ROW_COST 20 /* a row costs a request, a listed key a thousandth of one and a look into the ledger */
#define ROWS_AT_ONCE 100
#define ENOUGH 1    /* ends a listing: the rest is for the next piece */

struct sweep {
	struct dispatcher *d;
	struct sweep_totals totals;
	enum bucket_role at;            /* BUCKETS: at the rows */
	char after[STORE_KEY_MAX];      /* last key that was judged */
	char after_row[TARGET_ID_MAX];
	bool began;                     /* the bucket's uploads have been looked at */
	struct map *bundles;            /* sha256 -> itself; while in the toolbox */
	char owner[RUN_ID_MAX];         /* whose results were judged last, and how: keys come sorted */
	bool owner_lives;
	/* of the piece */
	const struct sweep_limits *l;
	size_t left;
	int64_t now_real_ms;
	struct err *e;
};

struct sweep *
sweep_new(struct dispatcher *d)
{
	struct sweep *s = xcalloc(1, sizeof(*s));

	s->d = d;
	return s;
}

void
sweep_free(struct sweep *s)
{
	if (s == NULL)
		return;
	map_free(s->bundles);
	free(s);
}

/* --- what a key stands for --- */

static bool
target_lives(struct sweep *s, const char *key)
{
	struct ledger_target t;
	char id[TARGET_ID_MAX];
	struct err e;

	bucket_key_owner(key, id, sizeof(id));
	return ledger_target_find(s->d->ledger, id, NULL, &t, &e) != ERR_NOTFOUND;
}

/* Results without their run, and those that came when they had been removed already. In doubt they stay. */
static bool
result_lives(struct sweep *s, const char *key)
{
	struct ledger_run run = {.spec = NULL};
	char id[RUN_ID_MAX];
	struct err e;
	int rc;

	bucket_key_owner(key, id, sizeof(id));
	if (strcmp(id, s->owner) == 0)
		return s->owner_lives;
	rc = ledger_run_find(s->d->ledger, id, NULL, &run, &e);
	snprintf(s->owner, sizeof(s->owner), "%s", id);
	s->owner_lives = rc == 0 ? strcmp(run.row.id, id) == 0 && !run.results_gone : rc != ERR_NOTFOUND;
	ledger_run_release(&run);
	return s->owner_lives;
}

static int
note_bundle(void *arg, const struct ledger_bundle *b, bool used)
{
	(void)used;
	map_put(arg, b->sha256, arg);
	return 0;
}

static bool
bundle_lives(struct sweep *s, const char *key)
{
	char sha256[SHA256_HEX_LEN], expect[1200];

	snprintf(sha256, sizeof(sha256), "%.64s", key + strlen("bundles/"));
	return strcmp(key_bundle(sha256, expect, sizeof(expect)), key) != 0 || map_get(s->bundles, sha256) != NULL;
}

static bool
lives(struct sweep *s, const char *key)
{
	static bool (*const by_role[BUCKETS])(struct sweep *s, const char *key) = {target_lives, result_lives, bundle_lives};

	if (strncmp(key, BUCKET_OWN_PREFIX, strlen(BUCKET_OWN_PREFIX)) == 0)
		return strncmp(key, BUCKET_OWN_PREFIX "probe/", strlen(BUCKET_OWN_PREFIX "probe/")) != 0;
	if (s->at == BUCKET_TARGETS && strncmp(key, BUCKET_STAGING_PREFIX, strlen(BUCKET_STAGING_PREFIX)) == 0)
		return false;
	return by_role[s->at](s, key);
}

/* --- objects --- */

static int
remove_orphan(struct sweep *s, const char *key, int64_t modified_real_ms, bool *ret_gone)
{
	char id[TARGET_ID_MAX];

	*ret_gone = true;
	if (s->at != BUCKET_TARGETS || strncmp(key, BUCKET_OWN_PREFIX, strlen(BUCKET_OWN_PREFIX)) == 0)
		return buckets_remove_old(s->d->buckets, s->at, key, modified_real_ms + 1, s->e);
	if (strncmp(key, BUCKET_STAGING_PREFIX, strlen(BUCKET_STAGING_PREFIX)) == 0)
		return buckets_remove_staging(s->d->buckets, key, ret_gone, s->e);
	bucket_key_owner(key, id, sizeof(id));
	return buckets_remove_target(s->d->buckets, id, ret_gone, s->e);
}

/* The bucket is claimed where something of ours is, in it or in the rows; an empty one is left empty. */
static int
claimed(struct sweep *s, enum bucket_role role, bool *ret_may_remove)
{
	struct bucket_claim *claim = &s->totals.buckets[role].claim;
	int rc = claim->since_real_ms != 0 ? 0 : buckets_claim(s->d->buckets, role, claim, s->e);

	*ret_may_remove = rc == 0 && !s->l->dry && buckets_claim_holds(s->d->buckets, claim, s->now_real_ms);
	return rc;
}

static int
judge(struct sweep *s, const char *key, const struct object_info *info)
{
	struct sweep_bucket *b = &s->totals.buckets[s->at];
	bool gone, may_remove;
	int rc;

	b->objects++;
	b->bytes += info->size_bytes;
	if (!bucket_key_ours(s->at, key)) {
		b->foreign++;
		return 0;
	}
	if ((rc = claimed(s, s->at, &may_remove)) != 0)
		return rc;
	if (!lifecycle_orphaned(s->now_real_ms, info->modified_real_ms, s->d->config->orphan_grace_ms) || lives(s, key))
		return 0;
	b->orphans++;
	b->orphan_bytes += info->size_bytes;
	if (!may_remove)
		return 0;
	fault_point("sweep.remove");
	rc = remove_orphan(s, key, info->modified_real_ms, &gone);
	if (rc == 0 && gone) {
		b->removed++;
		b->objects--;
		b->bytes -= info->size_bytes;
		metrics_add(METER_STORE_REMOVED, "orphan", 1);
	}
	return rc;
}

static bool
stopped(const struct sweep *s)
{
	return s->l->stop != NULL && atomic_load(s->l->stop);
}

static int
object_each(void *arg, const char *key, const struct object_info *info)
{
	struct sweep *s = arg;
	int rc;

	if (stopped(s))
		return err_set(s->e, ERR_CANCELED, "stopped");
	if (s->left == 0 || clock_mono_ms() >= s->l->deadline_mono_ms)
		return ENOUGH;
	rc = judge(s, key, info);
	if (rc == 0) {
		snprintf(s->after, sizeof(s->after), "%s", key);
		s->left--;
	}
	return rc;
}

static int
bucket_begin(struct sweep *s)
{
	struct sweep_bucket *b = &s->totals.buckets[s->at];
	int rc;

	s->owner[0] = '\0';
	if (s->at == BUCKET_TOOLBOX) {
		map_free(s->bundles);
		s->bundles = map_new();
		if ((rc = ledger_bundles(s->d->ledger, false, note_bundle, s->bundles, s->e)) != 0)
			return rc;
	}
	rc = buckets_stale_uploads(s->d->buckets, s->at, s->now_real_ms, s->l->dry, s->l->stop, &b->uploads, s->e);
	s->began = rc == 0;
	return rc;
}

static void
bucket_end(struct sweep *s)
{
	const struct sweep_bucket *b = &s->totals.buckets[s->at];

	if (b->removed > 0)
		log_info(buckets_name(s->d->buckets, s->at), "%lld objects that no row stands for were removed", (long long)b->removed);
	s->at++;
	s->after[0] = '\0';
	s->began = false;
}

/* --- rows --- */

struct row_page {
	struct ledger_target rows[ROWS_AT_ONCE];
	size_t n;
};

static int
row_each(void *arg, const struct ledger_target *t)
{
	struct row_page *p = arg;

	p->rows[p->n++] = *t;
	return p->n == ROWS_AT_ONCE ? ENOUGH : 0;
}

static int
row_judge(struct sweep *s, const struct ledger_target *t)
{
	struct object_info info;
	char key[1200];
	bool may_remove;
	int rc = claimed(s, BUCKET_TARGETS, &may_remove);

	s->totals.rows++;
	if (rc != 0 || !lifecycle_orphaned(s->now_real_ms, t->dated_real_ms, s->d->config->orphan_grace_ms) ||
	    !(s->l->dry || may_remove))
		return rc;
	rc = store_head(s->d->brief, buckets_name(s->d->buckets, BUCKET_TARGETS), key_target(t->id, key, sizeof(key)), &info, s->e);
	if (rc == ERR_NOTFOUND)
		s->l->missing(s->l->arg, t);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

/* *ret_over: there are no more. */
static int
rows_piece(struct sweep *s, bool *ret_over)
{
	struct row_page *p = xcalloc(1, sizeof(*p));
	int rc = 0;

	*ret_over = false;
	while (rc == 0 && !*ret_over && s->left >= ROW_COST && clock_mono_ms() < s->l->deadline_mono_ms) {
		p->n = 0;
		rc = ledger_targets(s->d->ledger, NULL, s->after_row, ROWS_AT_ONCE, row_each, p, s->e);
		rc = rc == ENOUGH ? 0 : rc;
		*ret_over = rc == 0 && p->n < ROWS_AT_ONCE;
		for (size_t i = 0; rc == 0 && i < p->n; i++) {
			if (stopped(s)) {
				rc = err_set(s->e, ERR_CANCELED, "stopped");
			} else if (s->left < ROW_COST) {
				*ret_over = false;
				break;
			} else if ((rc = row_judge(s, &p->rows[i])) == 0) {
				s->left -= ROW_COST;
				snprintf(s->after_row, sizeof(s->after_row), "%s", p->rows[i].id);
			}
		}
	}
	free(p);
	return rc;
}

/* --- pieces --- */

static int
piece(struct sweep *s, bool *ret_over)
{
	int rc = 0;

	*ret_over = false;
	while (rc == 0 && s->at < BUCKETS) {
		if (!s->began && (rc = bucket_begin(s)) != 0)
			return rc;
		rc = store_list_after(s->d->brief, buckets_name(s->d->buckets, s->at), "", s->after, object_each, s, s->e);
		if (rc == 0)
			bucket_end(s);
	}
	return rc != 0 ? rc : rows_piece(s, ret_over);
}

void
sweep_so_far(const struct sweep *s, struct sweep_totals *ret_totals)
{
	*ret_totals = s->totals;
}

int
sweep_piece(struct sweep *s, const struct sweep_limits *l, bool *ret_over, struct sweep_totals *ret_totals, struct err *e)
{
	int rc;

	s->l = l;
	s->left = l->keys;
	s->now_real_ms = clock_real_ms();
	s->e = e;
	rc = piece(s, ret_over);
	if (rc == 0 && *ret_over) {
		s->totals.whole = true;
		*ret_totals = s->totals;
		s->totals = (struct sweep_totals){.whole = false};
		s->at = BUCKET_TARGETS;
		s->after_row[0] = '\0';
	}
	return rc == ENOUGH ? 0 : rc;
}
