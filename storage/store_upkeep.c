#include "storage/store_upkeep.h"

#include <stdio.h>
#include <string.h>

#include "base/digest.h"

#define PROBE_TEXT "drover"

/* --- calls: a backend without the thing has a plain answer --- */

struct skip {
	const char *after;
	int (*each)(void *arg, const char *key, const struct object_info *info);
	void *arg;
};

static int
skip_each(void *arg, const char *key, const struct object_info *info)
{
	struct skip *s = arg;

	return strcmp(key, s->after) <= 0 ? 0 : s->each(s->arg, key, info);
}

int
store_list_after(struct object_store *s, const char *bucket, const char *prefix, const char *after,
    int (*each)(void *arg, const char *key, const struct object_info *info), void *arg, struct err *e)
{
	struct skip skip = {after, each, arg};

	if (after[0] == '\0')
		return store_list(s, bucket, prefix, each, arg, e);
	if (s->ops->upkeep == NULL || s->ops->upkeep->list_after == NULL)
		return store_list(s, bucket, prefix, skip_each, &skip, e);
	return s->ops->upkeep->list_after(s, bucket, prefix, after, each, arg, e);
}

int
store_uploads(struct object_store *s, const char *bucket, int (*each)(void *arg, const struct store_upload *u), void *arg,
    struct err *e)
{
	return s->ops->upkeep == NULL || s->ops->upkeep->uploads == NULL ? 0 : s->ops->upkeep->uploads(s, bucket, each, arg, e);
}

int
store_abort_upload(struct object_store *s, const char *bucket, const struct store_upload *u, int64_t before_real_ms, struct err *e)
{
	return s->ops->upkeep == NULL || s->ops->upkeep->abort_upload == NULL ? 0 :
	    s->ops->upkeep->abort_upload(s, bucket, u, before_real_ms, e);
}

int
store_versioned(struct object_store *s, const char *bucket, bool *ret, struct err *e)
{
	*ret = false;
	return s->ops->upkeep == NULL || s->ops->upkeep->versioned == NULL ? 0 : s->ops->upkeep->versioned(s, bucket, ret, e);
}

int
store_remove_versions(struct object_store *s, const char *bucket, const char *key, struct err *e)
{
	if (s->ops->upkeep == NULL || s->ops->upkeep->remove_versions == NULL)
		return store_remove(s, bucket, key, e);
	return s->ops->upkeep->remove_versions(s, bucket, key, e);
}

int
store_lifecycle_view(struct object_store *s, const char *bucket, const struct lifecycle_rule *rules, size_t n,
    struct lifecycle_view *ret, struct err *e)
{
	*ret = (struct lifecycle_view){.same = false};
	if (s->ops->upkeep == NULL || s->ops->upkeep->lifecycle_view == NULL)
		return err_set(e, ERR_NOTFOUND, "this store does not expire objects by itself");
	return s->ops->upkeep->lifecycle_view(s, bucket, rules, n, ret, e);
}

/* --- probing --- */

static int
first_key(void *arg, const char *key, const struct object_info *info)
{
	(void)arg, (void)key, (void)info;
	return 1;
}

static void
note(struct store_probe *p, enum store_right right, int rc, const struct err *e)
{
	p->rights[right].rc = rc;
	snprintf(p->rights[right].why, sizeof(p->rights[right].why), "%.199s", rc == 0 ? "" : e->msg);
}

static void
probe_rules(struct object_store *s, const char *bucket, struct store_probe *p)
{
	struct lifecycle_view view;
	struct err e = {0};
	int rc = store_lifecycle_view(s, bucket, NULL, 0, &view, &e);

	p->lifecycle = rc == 0;
	note(p, STORE_MAY_SEE_RULES, rc == ERR_NOTFOUND ? 0 : rc, &e);
}

/* The object that was written is there for the other questions, and goes at the end. */
static int
probe_object(struct object_store *s, const char *bucket, const char *key, struct store_probe *p, struct err *ret_e)
{
	const struct put_options absent = {.if_absent = true};
	struct buf back = buf_make(64);
	struct err e = {0};
	int rc = store_put_bytes(s, bucket, key, PROBE_TEXT, strlen(PROBE_TEXT), NULL, NULL, &e);

	note(p, STORE_MAY_WRITE, rc, &e);
	if (rc == 0) {
		rc = store_get_bytes(s, bucket, key, &back, &e);
		if (rc == 0 && strcmp(buf_str(&back), PROBE_TEXT) != 0)
			rc = err_set(&e, ERR_IO, "other bytes come back than were written");
		note(p, STORE_MAY_READ, rc, &e);
		p->conditional_put = store_put_bytes(s, bucket, key, PROBE_TEXT, strlen(PROBE_TEXT), &absent, NULL, &e) == ERR_CONFLICT;
		rc = 0;
		if (s->ops->upkeep != NULL && s->ops->upkeep->probe != NULL)
			rc = s->ops->upkeep->probe(s, bucket, key, p, ret_e);
		note(p, STORE_MAY_REMOVE, p->versioned ? store_remove_versions(s, bucket, key, &e) : store_remove(s, bucket, key, &e), &e);
	}
	buf_release(&back);
	return rc == ERR_RETRY ? rc : 0;
}

int
store_probe(struct object_store *s, const char *bucket, struct store_probe *ret, struct err *e)
{
	char key[64] = "drover/probe/";
	struct err lost = {0};
	int rc = store_check(s, e);

	*ret = (struct store_probe){.free_bytes = -1};
	if (rc != 0)
		return rc;
	uuid_text(key + strlen(key));
	rc = store_list(s, bucket, "drover/", first_key, NULL, &lost);
	note(ret, STORE_MAY_LIST, rc == 1 ? 0 : rc, &lost);
	probe_rules(s, bucket, ret);
	if (store_versioned(s, bucket, &ret->versioned, &lost) != 0)
		ret->versioned = false;
	return probe_object(s, bucket, key, ret, e);
}
