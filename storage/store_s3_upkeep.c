/* Keeping S3 in order: uploads that nobody finishes, old versions, others' rules. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "storage/store_s3.h"

#define PAGE_MAX 1000 /* what S3 gives in one answer */

/* --- uploads --- */

struct uploads_page {
	struct store_upload *items;
	size_t n;
	char key_marker[STORE_KEY_MAX], id_marker[STORE_UPLOAD_ID_MAX];
	bool more;
	struct store_upload now; /* the one being read */
};

static int
uploads_each(void *arg, const char *path, const char *text, const char *raw, size_t raw_len)
{
	static const char root[] = "ListMultipartUploadsResult/";
	struct uploads_page *p = arg;
	const struct {
		const char *path;
		char *out;
		size_t len;
	} texts[] = {{"NextKeyMarker", p->key_marker, sizeof(p->key_marker)}, {"NextUploadIdMarker", p->id_marker, sizeof(p->id_marker)},
		{"Upload/Key", p->now.key, sizeof(p->now.key)}, {"Upload/UploadId", p->now.id, sizeof(p->now.id)}};

	(void)raw, (void)raw_len;
	if (strncmp(path, root, sizeof(root) - 1) != 0)
		return 0;
	path += sizeof(root) - 1;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (strcmp(path, texts[i].path) == 0)
			snprintf(texts[i].out, texts[i].len, "%.*s", (int)texts[i].len - 1, text);
	if (strcmp(path, "IsTruncated") == 0)
		p->more = strcmp(text, "true") == 0;
	/* A time that cannot be read counts as now: what may be in flight stays. */
	if (strcmp(path, "Upload/Initiated") == 0 && clock_parse(text, &p->now.begun_real_ms, NULL) != 0)
		p->now.begun_real_ms = clock_real_ms();
	if (strcmp(path, "Upload") == 0) {
		if (p->n < PAGE_MAX && p->now.id[0] != '\0' && store_key_valid(p->now.key))
			p->items[p->n++] = p->now;
		p->now = (struct store_upload){.begun_real_ms = 0};
	}
	return 0;
}

static int
uploads_read(struct s3_store *s, const char *bucket, struct uploads_page *p, struct err *e)
{
	struct s3_call c = s3_call_make("GET", bucket, NULL, NULL);
	char key[STORE_KEY_MAX], id[STORE_UPLOAD_ID_MAX];
	int rc;

	memcpy(key, p->key_marker, sizeof(key));
	memcpy(id, p->id_marker, sizeof(id));
	p->n = 0;
	p->more = false;
	p->key_marker[0] = p->id_marker[0] = '\0';
	s3_call_query(&c, "uploads", "");
	s3_call_query(&c, "max-uploads", "1000");
	if (key[0] != '\0')
		s3_call_query(&c, "key-marker", key);
	if (key[0] != '\0' && id[0] != '\0')
		s3_call_query(&c, "upload-id-marker", id);
	rc = s3_perform(s, &c, e);
	if (rc == 0)
		rc = s3_xml_walk(buf_str(&c.out), c.out.len, uploads_each, p, e);
	/* A server that names no next page, or the same one again, would hold us for ever. */
	p->more = p->more && p->key_marker[0] != '\0' && (strcmp(p->key_marker, key) != 0 || strcmp(p->id_marker, id) != 0);
	s3_call_release(&c);
	return rc;
}

int
s3_uploads(struct object_store *store, const char *bucket, int (*each)(void *arg, const struct store_upload *u), void *arg,
    struct err *e)
{
	struct uploads_page *p = xcalloc(1, sizeof(*p));
	int rc;

	p->items = xcalloc(PAGE_MAX, sizeof(p->items[0]));
	do {
		rc = uploads_read((struct s3_store *)store, bucket, p, e);
		for (size_t i = 0; rc == 0 && i < p->n; i++)
			rc = each(arg, &p->items[i]);
	} while (rc == 0 && p->more);
	free(p->items);
	free(p);
	return rc;
}

struct parts {
	int64_t newest_real_ms;
	bool more;
	char marker[24];
};

static int
parts_each(void *arg, const char *path, const char *text, const char *raw, size_t raw_len)
{
	struct parts *p = arg;
	int64_t at;

	(void)raw, (void)raw_len;
	if (strcmp(path, "ListPartsResult/IsTruncated") == 0)
		p->more = strcmp(text, "true") == 0;
	if (strcmp(path, "ListPartsResult/NextPartNumberMarker") == 0)
		snprintf(p->marker, sizeof(p->marker), "%.20s", text);
	if (strcmp(path, "ListPartsResult/Part/LastModified") == 0 && clock_parse(text, &at, NULL) == 0 && at > p->newest_real_ms)
		p->newest_real_ms = at;
	return 0;
}

/* When the upload's last part came; 0: none yet. */
static int
newest_part(struct s3_store *s, const char *bucket, const struct store_upload *u, int64_t *ret_real_ms, struct err *e)
{
	struct parts p = {.newest_real_ms = 0};
	char marker[sizeof(p.marker)];
	int rc;

	do {
		struct s3_call c = s3_call_make("GET", bucket, u->key, NULL);

		memcpy(marker, p.marker, sizeof(marker));
		p.more = false;
		s3_call_query(&c, "uploadId", u->id);
		if (marker[0] != '\0')
			s3_call_query(&c, "part-number-marker", marker);
		rc = s3_perform(s, &c, e);
		if (rc == 0)
			rc = s3_xml_walk(buf_str(&c.out), c.out.len, parts_each, &p, e);
		s3_call_release(&c);
	} while (rc == 0 && p.more && strcmp(marker, p.marker) != 0);
	*ret_real_ms = p.newest_real_ms;
	return rc;
}

int
s3_abort_upload(struct object_store *store, const char *bucket, const struct store_upload *u, int64_t before_real_ms, struct err *e)
{
	struct s3_store *s = (struct s3_store *)store;
	struct s3_call c = s3_call_make("DELETE", bucket, u->key, NULL);
	int64_t newest_real_ms;
	int rc = newest_part(s, bucket, u, &newest_real_ms, e);

	if (rc == 0 && newest_real_ms >= before_real_ms)
		rc = err_set(e, ERR_CONFLICT, "the upload of %s/%.200s is in flight", bucket, u->key);
	if (rc == 0) {
		s3_call_query(&c, "uploadId", u->id);
		rc = s3_perform(s, &c, e);
	}
	s3_call_release(&c);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

/* --- versions --- */

int
s3_versioned(struct object_store *s, const char *bucket, bool *ret, struct err *e)
{
	struct s3_call c = s3_call_make("GET", bucket, NULL, NULL);
	char status[24] = "";
	int rc;

	s3_call_query(&c, "versioning", "");
	rc = s3_perform((struct s3_store *)s, &c, e);
	if (c.status == 501) /* what it does not know it does not do */
		rc = 0;
	else if (rc == 0)
		rc = s3_xml_find(buf_str(&c.out), c.out.len, "VersioningConfiguration/Status", status, sizeof(status), e);
	*ret = rc == 0 && status[0] != '\0'; /* "Suspended" keeps what there is */
	s3_call_release(&c);
	return rc;
}

struct versions {
	const char *key; /* whose; a prefix finds longer ones too */
	char at_key[STORE_KEY_MAX];
	char id[256];
	char (*ids)[256];
	size_t n;
};

static int
versions_each(void *arg, const char *path, const char *text, const char *raw, size_t raw_len)
{
	struct versions *v = arg;
	const char *leaf = strrchr(path, '/');
	bool of_version = strncmp(path, "ListVersionsResult/Version", 26) == 0;

	(void)raw, (void)raw_len;
	if (leaf == NULL || (!of_version && strncmp(path, "ListVersionsResult/DeleteMarker", 31) != 0))
		return 0;
	if (strcmp(leaf, "/Key") == 0)
		snprintf(v->at_key, sizeof(v->at_key), "%.*s", (int)sizeof(v->at_key) - 1, text);
	if (strcmp(leaf, "/VersionId") == 0)
		snprintf(v->id, sizeof(v->id), "%.*s", (int)sizeof(v->id) - 1, text);
	if (strcmp(leaf, "/Version") == 0 || strcmp(leaf, "/DeleteMarker") == 0) {
		if (v->n < PAGE_MAX && strcmp(v->at_key, v->key) == 0)
			memcpy(v->ids[v->n++], v->id, sizeof(v->id));
		v->at_key[0] = v->id[0] = '\0';
	}
	return 0;
}

/* The key's own versions come first among those that its name begins: one page holds them, or is full of them. */
static int
versions_read(struct s3_store *s, const char *bucket, struct versions *v, struct err *e)
{
	struct s3_call c = s3_call_make("GET", bucket, NULL, NULL);
	int rc;

	v->n = 0;
	s3_call_query(&c, "versions", "");
	s3_call_query(&c, "prefix", v->key);
	s3_call_query(&c, "max-keys", "1000");
	rc = s3_perform(s, &c, e);
	if (rc == 0)
		rc = s3_xml_walk(buf_str(&c.out), c.out.len, versions_each, v, e);
	s3_call_release(&c);
	return rc;
}

static int
version_remove(struct s3_store *s, const char *bucket, const char *key, const char *id, struct err *e)
{
	struct s3_call c = s3_call_make("DELETE", bucket, key, NULL);
	int rc;

	s3_call_query(&c, "versionId", id);
	rc = s3_perform(s, &c, e);
	s3_call_release(&c);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

int
s3_remove_versions(struct object_store *store, const char *bucket, const char *key, struct err *e)
{
	struct s3_store *s = (struct s3_store *)store;
	struct versions v = {.key = key, .ids = xcalloc(PAGE_MAX, sizeof(v.ids[0]))};
	int rc;

	do {
		rc = versions_read(s, bucket, &v, e);
		for (size_t i = 0; rc == 0 && i < v.n; i++)
			rc = version_remove(s, bucket, key, v.ids[i], e);
	} while (rc == 0 && v.n == PAGE_MAX);
	free(v.ids);
	return rc;
}

/* --- probing --- */

/* One attempt: a refusal is the answer, not a reason to try again. */
static int
try_once(struct s3_store *s, struct s3_call *c)
{
	struct s3_tries t = {.failed = 0};

	return s3_attempt(s, c, &t, NULL);
}

static bool
refuses_wrong_digest(struct s3_store *s, const char *bucket, const char *key)
{
	static const char nonsense[] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="; /* no bytes have this SHA-256 that we know of */
	struct s3_call c = s3_call_make("PUT", bucket, key, NULL);
	bool refused;

	c.body = "x";
	c.body_len = 1;
	s3_call_header(&c, "x-amz-checksum-sha256", nonsense);
	refused = try_once(s, &c) != 0 && c.status >= 400 && c.status < 500;
	s3_call_release(&c);
	return refused;
}

/* A part may be small when it is the last one. */
static bool
copies_parts(struct s3_store *s, const char *bucket, const char *key)
{
	struct s3_call create = s3_call_make("POST", bucket, key, NULL), part = s3_call_make("PUT", bucket, key, NULL);
	char id[S3_UPLOAD_ID_MAX] = "", source[STORE_KEY_MAX + 70];
	bool copied = false;

	if (s3_upload_create(s, &create, id, NULL) == 0) {
		snprintf(source, sizeof(source), "/%s/%s", bucket, key); /* of the probe: nothing in it needs encoding */
		s3_call_query(&part, "partNumber", "1");
		s3_call_query(&part, "uploadId", id);
		s3_call_header(&part, "x-amz-copy-source", source);
		s3_call_header(&part, "x-amz-copy-source-range", "bytes=0-1");
		part.check_body = true;
		copied = try_once(s, &part) == 0;
		s3_upload_abort(s, bucket, key, id, 0);
	}
	s3_call_release(&create);
	s3_call_release(&part);
	return copied;
}

int
s3_probe(struct object_store *store, const char *bucket, const char *key, struct store_probe *p, struct err *e)
{
	struct s3_store *s = (struct s3_store *)store;
	struct s3_call c = s3_call_make("HEAD", bucket, key, NULL);
	int rc = s3_perform(s, &c, e);

	snprintf(p->server, sizeof(p->server), "%s", c.server);
	p->clock_known = c.date_real_ms != 0;
	p->clock_ahead_ms = p->clock_known ? c.date_real_ms - clock_real_ms() : 0;
	s3_call_release(&c);
	if (rc == ERR_RETRY)
		return rc;
	p->multipart_copy = copies_parts(s, bucket, key);
	p->checks_digests = refuses_wrong_digest(s, bucket, key);
	return 0;
}
