/* Buckets on S3: creation, lifecycle rules, whether we are let in; and the calls on an object that need no body. */
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "storage/store_s3.h"

#define CHECK_TIMEOUT_MS 5000

static int
bucket_create(struct s3_store *s, const char *bucket, struct err *e)
{
	struct s3_call c = s3_call_make("PUT", bucket, NULL, NULL);
	struct buf body = buf_make(1024);
	int rc;

	/* us-east-1 is the one region that must not be named. */
	if (strcmp(s->creds.region, "us-east-1") != 0) {
		buf_adds(&body, "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>");
		s3_xml_escape(&body, s->creds.region);
		buf_adds(&body, "</LocationConstraint></CreateBucketConfiguration>");
		c.body = buf_str(&body);
		c.body_len = body.len;
	}
	rc = s3_perform(s, &c, e);
	if (rc != 0 && strcmp(c.error.code, "BucketAlreadyOwnedByYou") == 0)
		rc = 0;
	else if (rc != 0 && strcmp(c.error.code, "BucketAlreadyExists") == 0)
		rc = err_set(e, ERR_DENIED, "the bucket %s belongs to someone else", bucket);
	buf_release(&body);
	s3_call_release(&c);
	return rc;
}

int
s3_ensure_bucket(struct object_store *store, const char *bucket, struct err *e)
{
	struct s3_store *s = (struct s3_store *)store;
	struct s3_call c = s3_call_make("HEAD", bucket, NULL, NULL);
	int rc = s3_perform(s, &c, e);

	s3_call_release(&c);
	return rc == ERR_NOTFOUND ? bucket_create(s, bucket, e) : rc;
}

int
s3_remove(struct object_store *s, const char *bucket, const char *key, struct err *e)
{
	struct s3_call c = s3_call_make("DELETE", bucket, key, NULL);
	int rc = s3_perform((struct s3_store *)s, &c, e);

	/* Some servers answer 404 for a key that is not there; a bucket that is not there is a mistake. */
	if (rc == ERR_NOTFOUND && strcmp(c.error.code, "NoSuchBucket") != 0)
		rc = 0;
	s3_call_release(&c);
	return rc;
}

/* One attempt only: whoever asks wants to know how it is now. */
int
s3_check(struct object_store *s, struct err *e)
{
	struct s3_call c = s3_call_make("GET", NULL, NULL, NULL);
	struct s3_tries t = {.failed = 0};
	int rc;

	c.stall_ms = CHECK_TIMEOUT_MS;
	rc = s3_attempt((struct s3_store *)s, &c, &t, e);
	/* Good credentials that may not list all buckets are let in nevertheless. */
	if (rc == ERR_DENIED && strcmp(c.error.code, "AccessDenied") == 0)
		rc = 0;
	else if (rc != 0 && c.again)
		rc = ERR_RETRY;
	s3_call_release(&c);
	return rc;
}

/* --- lifecycle --- */

/* Nothing (an empty buffer) where there is no configuration. ERR_NOTFOUND where the server has no lifecycle at all. */
static int
lifecycle_read(struct s3_store *s, const char *bucket, struct buf *out, struct err *e)
{
	struct s3_call c = s3_call_make("GET", bucket, NULL, NULL);
	int rc;

	s3_call_query(&c, "lifecycle", "");
	rc = s3_perform(s, &c, e);
	buf_clear(out);
	if (c.status == 501)
		rc = err_set(e, ERR_NOTFOUND, "the S3 server has no lifecycle rules");
	else if (rc != 0 && strcmp(c.error.code, "NoSuchLifecycleConfiguration") == 0)
		rc = 0;
	else if (rc == 0 && buf_add(out, buf_str(&c.out), c.out.len) != 0)
		rc = err_set(e, ERR_TOOBIG, "the lifecycle configuration of %s is too long", bucket);
	else if (rc == ERR_NOTFOUND)
		rc = err_set(e, ERR_IO, "no bucket %s", bucket); /* ERR_NOTFOUND has its own meaning here */
	s3_call_release(&c);
	return rc;
}

static int
lifecycle_write(struct s3_store *s, const char *bucket, const struct buf *document, struct err *e)
{
	struct s3_call c = s3_call_make("PUT", bucket, NULL, NULL);
	char text[4 * ((MD5_LEN + 2) / 3) + 1];
	uint8_t md5[MD5_LEN];
	int rc;

	md5_of(buf_str(document), document->len, md5);
	s3_call_query(&c, "lifecycle", "");
	s3_call_header(&c, "content-md5", base64_encode(md5, sizeof(md5), text));
	s3_call_header(&c, "content-type", "application/xml");
	c.body = buf_str(document);
	c.body_len = document->len;
	rc = s3_perform(s, &c, e);
	if (c.status == 501)
		rc = err_set(e, ERR_NOTFOUND, "the S3 server has no lifecycle rules");
	s3_call_release(&c);
	return rc;
}

int
s3_lifecycle_merge(struct object_store *store, const char *bucket, const struct lifecycle_rule *rules, size_t n,
    struct err *e)
{
	struct s3_store *s = (struct s3_store *)store;
	struct buf have = buf_make(S3_BODY_MAX_BYTES), want = buf_make(S3_BODY_MAX_BYTES);
	bool changed = false;
	int rc = lifecycle_read(s, bucket, &have, e);

	if (rc == 0)
		rc = s3_xml_lifecycle_merge(buf_str(&have), have.len, rules, n, &want, &changed, e);
	if (rc != 0 || !changed)
		goto out;
	if ((rc = lifecycle_write(s, bucket, &want, e)) != 0 || (rc = lifecycle_read(s, bucket, &have, e)) != 0)
		goto out;
	/* Servers drop what they do not know without a word, and someone else may have written in between. */
	rc = s3_xml_lifecycle_merge(buf_str(&have), have.len, rules, n, &want, &changed, e);
	if (rc == 0 && changed)
		rc = err_set(e, ERR_CONFLICT, "the lifecycle rules of %s do not read back as they were written", bucket);
out:
	buf_release(&have);
	buf_release(&want);
	return rc;
}

int
s3_lifecycle_view(struct object_store *store, const char *bucket, const struct lifecycle_rule *rules, size_t n,
    struct lifecycle_view *ret, struct err *e)
{
	struct buf have = buf_make(S3_BODY_MAX_BYTES);
	int rc = lifecycle_read((struct s3_store *)store, bucket, &have, e);

	if (rc == 0)
		rc = s3_xml_lifecycle_view(buf_str(&have), have.len, rules, n, ret, e);
	buf_release(&have);
	return rc;
}
