#include "storage/object_store.h"

#include <assert.h>
#include <string.h>

#include "base/utf8.h"

#define KEY_MAX_BYTES 1024

/* --- names --- */

bool
store_key_valid(const char *key)
{
	size_t len = strnlen(key, KEY_MAX_BYTES + 1);

	if (len == 0 || len > KEY_MAX_BYTES || !utf8_valid(key))
		return false;
	for (const char *seg = key;; seg++) {
		size_t n = strcspn(seg, "/");

		if (n == 0 || (n == 1 && seg[0] == '.') || (n == 2 && seg[0] == '.' && seg[1] == '.'))
			return false;
		seg += n;
		if (*seg == '\0')
			return true;
	}
}

/* What every provider takes: 3..63 of [a-z0-9.-], letter or digit at both ends, no two dots in a row. */
static bool
bucket_valid(const char *bucket)
{
	static const char inner[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";
	size_t len = strnlen(bucket, 64);

	return len >= 3 && len <= 63 && strspn(bucket, inner) == len && strchr(".-", bucket[0]) == NULL &&
	    strchr(".-", bucket[len - 1]) == NULL && strstr(bucket, "..") == NULL;
}

static int
names_check(const char *bucket, const char *key, struct err *e)
{
	int rc = 0;

	if (!bucket_valid(bucket)) {
		rc = err_set(e, ERR_INVALID, "not a bucket name: '%.64s'", bucket);
		err_hint(e, "use 3 to 63 of a-z, 0-9, '-' and '.', with a letter or digit at both ends");
	} else if (key != NULL && !store_key_valid(key)) {
		rc = err_set(e, ERR_INVALID, "not an object key: '%.128s'", key);
		err_hint(e, "keys are UTF-8 of at most %d bytes without empty, '.' or '..' segments", KEY_MAX_BYTES);
	}
	return rc;
}

static int
meta_check(const struct object_meta *meta, size_t n, struct err *e)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-";

	if (n > OBJECT_META_MAX)
		return err_set(e, ERR_INVALID, "more than %d metadata entries", OBJECT_META_MAX);
	for (size_t i = 0; i < n; i++) {
		size_t len = strnlen(meta[i].name, sizeof(meta[i].name));
		size_t value_len = strnlen(meta[i].value, sizeof(meta[i].value));

		if (len == 0 || len == sizeof(meta[i].name) || strspn(meta[i].name, allowed) != len)
			return err_set(e, ERR_INVALID, "not a metadata name: '%.40s'", meta[i].name);
		if (value_len == sizeof(meta[i].value))
			return err_set(e, ERR_INVALID, "metadata %s is too long", meta[i].name);
		for (size_t k = 0; k < value_len; k++)
			if (meta[i].value[k] < ' ' || meta[i].value[k] > '~')
				return err_set(e, ERR_INVALID, "metadata %s is not printable ASCII", meta[i].name);
		/* Blanks at the ends would not survive the trip through an HTTP header. */
		if (value_len > 0 && (meta[i].value[0] == ' ' || meta[i].value[value_len - 1] == ' '))
			return err_set(e, ERR_INVALID, "metadata %s begins or ends with a blank", meta[i].name);
	}
	return 0;
}

/* --- limits --- */

void
store_set_limits(struct object_store *s, const struct store_limits *l)
{
	/* Measured against MinIO on one machine: see docs/STORAGE.md. */
	static const struct store_limits defaults = {4, 8u << 20, 3, 5u << 20};

	s->limits = (struct store_limits){
		.fetch_parallel = l->fetch_parallel > 0 ? l->fetch_parallel : defaults.fetch_parallel,
		.fetch_range_bytes = l->fetch_range_bytes > 0 ? l->fetch_range_bytes : defaults.fetch_range_bytes,
		.put_parallel = l->put_parallel > 0 ? l->put_parallel : defaults.put_parallel,
		.put_part_bytes = l->put_part_bytes > 0 ? l->put_part_bytes : defaults.put_part_bytes,
	};
}

/* --- calls: input is checked here, once for all backends --- */

int
store_ensure_bucket(struct object_store *s, const char *bucket, struct err *e)
{
	int rc = names_check(bucket, NULL, e);

	return rc != 0 ? rc : s->ops->ensure_bucket(s, bucket, e);
}

int
store_put(struct object_store *s, const char *bucket, const char *key, struct object_source *src,
    const struct put_options *o, struct object_info *ret_info, const atomic_bool *stop, struct err *e)
{
	static const struct put_options defaults;
	int rc = names_check(bucket, key, e);

	if (o == NULL)
		o = &defaults;
	assert(src->read != NULL && src->size_bytes >= -1);
	if (rc == 0)
		rc = meta_check(o->meta, o->n_meta, e);
	if (rc == 0 && o->content_type != NULL && strpbrk(o->content_type, "\r\n") != NULL)
		rc = err_set(e, ERR_INVALID, "a content type of several lines");
	return rc != 0 ? rc : s->ops->put(s, bucket, key, src, o, ret_info, stop, e);
}

struct memory_source {
	const char *data;
	size_t len;
};

static long
memory_read(void *arg, void *out, size_t len, struct err *e)
{
	struct memory_source *m = arg;

	(void)e;
	if (len > m->len)
		len = m->len;
	if (len == 0)
		return 0;
	memcpy(out, m->data, len);
	m->data += len;
	m->len -= len;
	return (long)len;
}

int
store_put_bytes(struct object_store *s, const char *bucket, const char *key, const void *data, size_t len,
    const struct put_options *o, const atomic_bool *stop, struct err *e)
{
	struct memory_source m = {data, len};
	struct object_source src = {memory_read, &m, (int64_t)len};

	return store_put(s, bucket, key, &src, o, NULL, stop, e);
}

int
store_get(struct object_store *s, const char *bucket, const char *key, int64_t offset, int64_t len, const char *if_match,
    int (*write)(void *arg, const void *data, size_t len), void *arg, struct object_info *ret_info,
    const atomic_bool *stop, struct err *e)
{
	int rc = names_check(bucket, key, e);

	if (rc == 0 && (offset < 0 || len < -1 || (len > 0 && offset > INT64_MAX - len)))
		rc = err_set(e, ERR_INVALID, "not a range: %lld bytes from %lld", (long long)len, (long long)offset);
	if (if_match != NULL && if_match[0] == '\0')
		if_match = NULL;
	return rc != 0 ? rc : s->ops->get(s, bucket, key, offset, len, if_match, write, arg, ret_info, stop, e);
}

static int
buf_write(void *arg, const void *data, size_t len)
{
	return buf_add(arg, data, len);
}

int
store_get_bytes(struct object_store *s, const char *bucket, const char *key, struct buf *out, struct err *e)
{
	int rc = store_get(s, bucket, key, 0, -1, NULL, buf_write, out, NULL, NULL, e);

	if (rc == ERR_TOOBIG)
		err_set(e, rc, "%s/%s is larger than %zu bytes", bucket, key, out->max);
	return rc;
}

int
store_head(struct object_store *s, const char *bucket, const char *key, struct object_info *ret_info, struct err *e)
{
	int rc = names_check(bucket, key, e);

	return rc != 0 ? rc : s->ops->head(s, bucket, key, ret_info, e);
}

int
store_copy(struct object_store *s, const char *bucket, const char *from, const char *to,
    const struct object_meta *meta, size_t n_meta, struct err *e)
{
	int rc = names_check(bucket, from, e);

	if (rc == 0)
		rc = names_check(bucket, to, e);
	if (rc == 0)
		rc = meta_check(meta, n_meta, e);
	return rc != 0 ? rc : s->ops->copy(s, bucket, from, to, meta, n_meta, e);
}

int
store_list(struct object_store *s, const char *bucket, const char *prefix,
    int (*each)(void *arg, const char *key, const struct object_info *info), void *arg, struct err *e)
{
	int rc = names_check(bucket, NULL, e);

	if (prefix == NULL)
		prefix = "";
	if (rc == 0 && strnlen(prefix, KEY_MAX_BYTES + 1) > KEY_MAX_BYTES)
		rc = err_set(e, ERR_INVALID, "a prefix of more than %d bytes", KEY_MAX_BYTES);
	return rc != 0 ? rc : s->ops->list(s, bucket, prefix, each, arg, e);
}

int
store_remove(struct object_store *s, const char *bucket, const char *key, struct err *e)
{
	int rc = names_check(bucket, key, e);

	return rc != 0 ? rc : s->ops->remove(s, bucket, key, e);
}

int
store_presign(struct object_store *s, const char *bucket, const char *key, int64_t valid_s, char *url, size_t url_len,
    struct err *e)
{
	int rc = names_check(bucket, key, e);

	if (rc == 0 && (valid_s < 1 || valid_s > 604800))
		rc = err_set(e, ERR_INVALID, "a URL is valid for 1 to 604800 seconds, not %lld", (long long)valid_s);
	return rc != 0 ? rc : s->ops->presign(s, bucket, key, valid_s, url, url_len, e);
}

int
store_lifecycle_merge(struct object_store *s, const char *bucket, const struct lifecycle_rule *rules, size_t n,
    struct err *e)
{
	int rc = names_check(bucket, NULL, e);

	for (size_t i = 0; rc == 0 && i < n; i++)
		if (rules[i].id[0] == '\0' || rules[i].expire_days == 0)
			rc = err_set(e, ERR_INVALID, "lifecycle rule '%s' expires after %u days", rules[i].id,
			    rules[i].expire_days);
	return rc != 0 ? rc : s->ops->lifecycle_merge(s, bucket, rules, n, e);
}

int
store_check(struct object_store *s, struct err *e)
{
	return s->ops->check(s, e);
}

void
store_free(struct object_store *s)
{
	if (s != NULL)
		s->ops->free(s);
}
