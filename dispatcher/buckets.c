#include "dispatcher/buckets_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "dispatcher/meters.h"

#define KEY_TEXT_MAX 1200

struct buckets *
buckets_new(struct dispatcher *d)
{
	struct buckets *b = xcalloc(1, sizeof(*b));

	b->d = d;
	pthread_mutex_init(&b->making, NULL);
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->removed, NULL);
	b->held = map_new();
	b->removing = map_new();
	return b;
}

void
buckets_free(struct buckets *b)
{
	size_t cursor = 0;
	void *count;

	if (b == NULL)
		return;
	while (map_next(b->held, &cursor, NULL, &count))
		free(count);
	map_free(b->held);
	map_free(b->removing);
	pthread_cond_destroy(&b->removed);
	pthread_mutex_destroy(&b->lock);
	pthread_mutex_destroy(&b->making);
	free(b);
}

const char *
buckets_name(const struct buckets *b, enum bucket_role role)
{
	const struct store_settings *s = &b->d->config->store;
	const char *const names[BUCKETS] = {[BUCKET_TARGETS] = s->targets, [BUCKET_RESULTS] = s->results, [BUCKET_TOOLBOX] = s->toolbox};

	return names[role];
}

const char *
bucket_role_word(enum bucket_role role)
{
	static const char *const words[BUCKETS] = {"targets", "results", "toolbox"};

	return words[role];
}

int
buckets_make(struct buckets *b, struct err *e)
{
	int rc = 0;

	pthread_mutex_lock(&b->making);
	for (enum bucket_role i = 0; !b->made && rc == 0 && i < BUCKETS; i++)
		rc = store_ensure_bucket(b->d->brief, buckets_name(b, i), e);
	b->made = rc == 0;
	pthread_mutex_unlock(&b->making);
	return rc;
}

/* --- keys --- */

void
bucket_key_owner(const char *key, char *out, size_t len)
{
	size_t n = strcspn(key, "/");

	snprintf(out, len, "%.*s", n < len ? (int)n : 0, key);
}

bool
bucket_key_ours(enum bucket_role role, const char *key)
{
	static const char bundles[] = "bundles/";
	char owner[RUN_ID_MAX];

	if (strncmp(key, BUCKET_OWN_PREFIX, strlen(BUCKET_OWN_PREFIX)) == 0)
		return true;
	bucket_key_owner(key, owner, sizeof(owner));
	switch (role) {
	case BUCKET_TARGETS:
		return strncmp(key, BUCKET_STAGING_PREFIX, strlen(BUCKET_STAGING_PREFIX)) == 0 ||
		    (target_id_valid(owner) && strcmp(key + strlen(owner), "/target") == 0);
	case BUCKET_RESULTS:
		return run_id_valid(owner) && key[strlen(owner)] == '/';
	case BUCKET_TOOLBOX:
		return strncmp(key, bundles, sizeof(bundles) - 1) == 0;
	default:
		return false;
	}
}

/* --- objects under way --- */

void
buckets_hold(struct buckets *b, const char *name)
{
	size_t *count;

	pthread_mutex_lock(&b->lock);
	while (map_get(b->removing, name) != NULL)
		pthread_cond_wait(&b->removed, &b->lock);
	if ((count = map_get(b->held, name)) == NULL) {
		count = xcalloc(1, sizeof(*count));
		map_put(b->held, name, count);
	}
	++*count;
	pthread_mutex_unlock(&b->lock);
}

void
buckets_let_go(struct buckets *b, const char *name)
{
	size_t *count;

	pthread_mutex_lock(&b->lock);
	count = map_get(b->held, name);
	if (count != NULL && --*count == 0)
		free(map_remove(b->held, name));
	pthread_mutex_unlock(&b->lock);
}

/* False: it is held, or somebody else removes it. */
static bool
removal_begin(struct buckets *b, const char *name)
{
	bool mine;

	pthread_mutex_lock(&b->lock);
	mine = map_get(b->held, name) == NULL && map_get(b->removing, name) == NULL;
	if (mine)
		map_put(b->removing, name, b);
	pthread_mutex_unlock(&b->lock);
	return mine;
}

static void
removal_end(struct buckets *b, const char *name)
{
	pthread_mutex_lock(&b->lock);
	map_remove(b->removing, name);
	pthread_cond_broadcast(&b->removed);
	pthread_mutex_unlock(&b->lock);
}

/* --- removing --- */

int
buckets_remove(struct buckets *b, enum bucket_role role, const char *key, struct err *e)
{
	const char *bucket = buckets_name(b, role);
	bool versioned, told;
	int rc;

	pthread_mutex_lock(&b->lock);
	versioned = b->versioned[role] && !b->versions_stay[role];
	pthread_mutex_unlock(&b->lock);
	fault_point("buckets.remove");
	if (!versioned)
		return store_remove(b->d->brief, bucket, key, e);
	rc = store_remove_versions(b->d->brief, bucket, key, e);
	if (rc != ERR_DENIED)
		return rc;
	pthread_mutex_lock(&b->lock);
	told = b->versions_stay[role];
	b->versions_stay[role] = true;
	pthread_mutex_unlock(&b->lock);
	if (!told)
		log_warn(bucket, "old versions of removed objects stay: %s", e->msg);
	return store_remove(b->d->brief, bucket, key, e);
}

int
buckets_remove_target(struct buckets *b, const char *id, bool *ret_gone, struct err *e)
{
	struct ledger_target t;
	char key[KEY_TEXT_MAX];
	int rc;

	if (ret_gone != NULL)
		*ret_gone = false;
	if (!removal_begin(b, id))
		return 0;
	rc = ledger_target_find(b->d->ledger, id, NULL, &t, e);
	if (rc == ERR_NOTFOUND) {
		rc = buckets_remove(b, BUCKET_TARGETS, key_target(id, key, sizeof(key)), e);
		if (ret_gone != NULL)
			*ret_gone = rc == 0;
	}
	removal_end(b, id);
	return rc;
}

int
buckets_remove_staging(struct buckets *b, const char *key, bool *ret_gone, struct err *e)
{
	int rc;

	*ret_gone = false;
	if (!removal_begin(b, key))
		return 0;
	rc = buckets_remove(b, BUCKET_TARGETS, key, e);
	*ret_gone = rc == 0;
	removal_end(b, key);
	return rc;
}

int
buckets_remove_old(struct buckets *b, enum bucket_role role, const char *key, int64_t before_real_ms, struct err *e)
{
	struct object_info info;
	int rc = store_head(b->d->brief, buckets_name(b, role), key, &info, e);

	if (rc == ERR_NOTFOUND || (rc == 0 && info.modified_real_ms >= before_real_ms))
		return 0;
	return rc == 0 ? buckets_remove(b, role, key, e) : rc;
}

struct results {
	struct buckets *b;
	struct err *e;
};

static int
remove_result(void *arg, const char *key, const struct object_info *info)
{
	struct results *r = arg;

	(void)info;
	return buckets_remove(r->b, BUCKET_RESULTS, key, r->e);
}

int
buckets_remove_results(struct buckets *b, const char *run, struct err *e)
{
	struct results r = {b, e};
	char prefix[RUN_ID_MAX + 1];

	snprintf(prefix, sizeof(prefix), "%s/", run);
	return store_list(b->d->brief, buckets_name(b, BUCKET_RESULTS), prefix, remove_result, &r, e);
}

/* --- dating anew --- */

int
buckets_redate_target(struct buckets *b, const char *id, struct err *e)
{
	char key[KEY_TEXT_MAX];
	int rc;

	key_target(id, key, sizeof(key));
	buckets_hold(b, id);
	rc = store_copy(b->d->brief, buckets_name(b, BUCKET_TARGETS), key, key, NULL, 0, e);
	buckets_let_go(b, id);
	return rc;
}

/* --- uploads that nobody finishes --- */

struct stale {
	struct buckets *b;
	enum bucket_role role;
	int64_t before_real_ms;
	bool dry;
	const atomic_bool *stop;
	struct stale_uploads *ret;
	struct err *e;
};

static int
stale_one(void *arg, const struct store_upload *u)
{
	struct stale *s = arg;
	int rc = 0;

	if (s->stop != NULL && atomic_load(s->stop))
		return err_set(s->e, ERR_CANCELED, "stopped");
	if (!bucket_key_ours(s->role, u->key) || u->begun_real_ms >= s->before_real_ms)
		return 0;
	s->ret->found++;
	if (s->dry)
		return 0;
	rc = store_abort_upload(s->b->d->brief, buckets_name(s->b, s->role), u, s->before_real_ms, s->e);
	if (rc == ERR_CONFLICT) {
		s->ret->found--;
		s->ret->flying++;
		return 0;
	}
	if (rc == 0) {
		s->ret->aborted++;
		metrics_add(METER_STORE_REMOVED, "upload", 1);
	}
	return rc;
}

int
buckets_stale_uploads(struct buckets *b, enum bucket_role role, int64_t now_real_ms, bool dry, const atomic_bool *stop,
    struct stale_uploads *ret, struct err *e)
{
	struct stale s = {b, role, now_real_ms - b->d->config->stale_uploads_ms, dry, stop, ret, e};
	int rc;

	*ret = (struct stale_uploads){0};
	rc = store_uploads(b->d->brief, buckets_name(b, role), stale_one, &s, e);
	if (ret->aborted > 0)
		log_info(buckets_name(b, role), "%lld uploads that nobody finished were dropped", (long long)ret->aborted);
	return rc;
}
