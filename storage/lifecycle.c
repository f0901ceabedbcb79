#include "storage/lifecycle.h"

#include <string.h>

#define DAY_MS (24 * 3600 * (int64_t)1000)

struct sweep {
	struct object_store *store;
	const char *bucket;
	const struct lifecycle_rule *rules;
	size_t n;
	int64_t now_real_ms;
	const struct lifecycle_sweep_options *o;
	int64_t removed;
	struct err *e;
};

bool
lifecycle_expired(const struct lifecycle_rule *rules, size_t n, const char *key, int64_t modified_real_ms,
    int64_t now_real_ms)
{
	for (size_t i = 0; i < n; i++)
		if (strncmp(key, rules[i].prefix, strlen(rules[i].prefix)) == 0 &&
		    now_real_ms - modified_real_ms >= (int64_t)rules[i].expire_days * DAY_MS)
			return true;
	return false;
}

static int
sweep_one(void *arg, const char *key, const struct object_info *info)
{
	struct sweep *w = arg;
	struct object_info fresh;
	int rc;

	if (w->o->stop != NULL && atomic_load(w->o->stop))
		return err_set(w->e, ERR_CANCELED, "sweep of %s stopped", w->bucket);
	if (!lifecycle_expired(w->rules, w->n, key, info->modified_real_ms, w->now_real_ms) ||
	    (w->o->keep != NULL && w->o->keep(w->o->arg, key)))
		return 0;
	/* A list may be minutes old, and someone may have dated the object anew because he needs it. */
	rc = store_head(w->store, w->bucket, key, &fresh, w->e);
	if (rc == ERR_NOTFOUND || (rc == 0 &&
	    !lifecycle_expired(w->rules, w->n, key, fresh.modified_real_ms, w->now_real_ms)))
		return 0;
	if (rc == 0)
		rc = store_remove(w->store, w->bucket, key, w->e);
	w->removed += rc == 0;
	return rc;
}

int
lifecycle_sweep(struct object_store *s, const char *bucket, const struct lifecycle_rule *rules, size_t n,
    int64_t now_real_ms, const struct lifecycle_sweep_options *o, int64_t *ret_removed, struct err *e)
{
	static const struct lifecycle_sweep_options none;
	struct sweep w = {.store = s, .bucket = bucket, .rules = rules, .n = n, .now_real_ms = now_real_ms,
	    .o = o != NULL ? o : &none, .e = e};
	int rc = store_list(s, bucket, "", sweep_one, &w, e);

	if (ret_removed != NULL)
		*ret_removed = w.removed;
	return rc;
}
