/* Reading from S3: objects in ranges, with resumption; heads; lists; URLs for others. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "storage/store_s3.h"

struct download {
	int (*write)(void *arg, const void *data, size_t len);
	void *arg;
	struct s3_call *call;
	int64_t from;       /* where the present request begins */
	int64_t next, end;  /* offset wanted next; one behind the last, -1 to the object's end */
	bool ranged;
	bool wrong_range;   /* the server gave other bytes than we asked for */
	struct object_info *ret_info; /* the caller's */
};

static int
take_body(void *arg, const void *data, size_t len)
{
	struct download *d = arg;
	int rc;

	/* A 206 says where it begins; a 200 to a ranged request begins at 0 and would be taken for something else. */
	if ((d->ranged && d->call->range_start != d->from) || (d->end >= 0 && (int64_t)len > d->end - d->next)) {
		d->wrong_range = true;
		return ERR_PROTO;
	}
	if (d->next == d->from && d->ret_info != NULL)
		*d->ret_info = d->call->info;
	rc = d->write(d->arg, data, len);
	if (rc == 0)
		d->next += (int64_t)len;
	return rc;
}

/* One request from where we are; *ret_moved tells whether bytes came. */
static int
get_once(struct s3_store *s, struct s3_call *c, struct download *d, struct s3_tries *t, const char *etag, bool *ret_moved,
    struct err *e)
{
	char range[64];
	int rc;

	c->n_headers = 0;
	d->from = d->next;
	d->ranged = d->from > 0 || d->end >= 0;
	if (d->end >= 0)
		snprintf(range, sizeof(range), "bytes=%lld-%lld", (long long)d->from, (long long)d->end - 1);
	else
		snprintf(range, sizeof(range), "bytes=%lld-", (long long)d->from);
	if (d->ranged)
		s3_call_header(c, "range", range);
	if (etag[0] != '\0')
		s3_call_header(c, "if-match", etag);
	rc = s3_attempt(s, c, t, e);
	/* A trickle is no progress: it must not begin the budget anew. */
	*ret_moved = d->next > d->from;
	if (d->next - d->from >= s3_stall_bytes(s, c))
		*t = (struct s3_tries){.skew_corrected = t->skew_corrected};
	return rc;
}

/* Makes sure that what a 2xx brought is all of it. */
static int
check_complete(struct s3_call *c, const struct download *d, struct err *e)
{
	int64_t end = d->end >= 0 && (c->info.size_bytes < 0 || d->end < c->info.size_bytes) ? d->end : c->info.size_bytes;

	if (end < 0 || d->next >= end)
		return 0;
	c->again = true;
	return err_set(e, ERR_IO, "S3 GET %s/%.200s: it ends %lld bytes too early", c->bucket, c->key,
	    (long long)(end - d->next));
}

static int
head_matching(struct s3_store *s, const char *bucket, const char *key, const char *if_match, const atomic_bool *stop,
    struct object_info *ret_info, struct err *e)
{
	struct s3_call c = s3_call_make("HEAD", bucket, key, stop);
	int rc;

	if (if_match != NULL)
		s3_call_header(&c, "if-match", if_match);
	rc = s3_perform(s, &c, e);
	if (rc == 0 && ret_info != NULL)
		*ret_info = c.info;
	s3_call_release(&c);
	return rc;
}

int
s3_get(struct object_store *store, const char *bucket, const char *key, int64_t offset, int64_t len, const char *if_match,
    int (*write)(void *arg, const void *data, size_t len), void *arg, struct object_info *ret_info,
    const atomic_bool *stop, struct err *e)
{
	struct s3_store *s = (struct s3_store *)store;
	struct s3_call c = s3_call_make("GET", bucket, key, stop);
	struct download d = {.write = write, .arg = arg, .call = &c, .next = offset, .end = len < 0 ? -1 : offset + len,
	    .ret_info = ret_info};
	struct s3_tries t = {.failed = 0};
	char etag[sizeof(c.info.etag)];
	bool moved;
	int rc;

	if (len == 0)
		return head_matching(s, bucket, key, if_match, stop, ret_info, e);
	snprintf(etag, sizeof(etag), "%s", if_match != NULL ? if_match : "");
	c.write_fn = take_body;
	c.arg = &d;
	while (true) {
		rc = get_once(s, &c, &d, &t, etag, &moved, e);
		if (rc == 0)
			rc = check_complete(&c, &d, e);
		if (rc == 0 || d.wrong_range || c.write_rc != 0)
			break;
		/* What comes after the break must be the same object's bytes. */
		if (moved && etag[0] == '\0')
			snprintf(etag, sizeof(etag), "%s", c.info.etag);
		if ((rc = s3_tries_next(s, &t, &c, rc, e)) != 0)
			break;
	}
	if (d.wrong_range)
		rc = err_set(e, ERR_PROTO, "S3 GET %s/%.200s: the server ignores ranges", bucket, key);
	else if (c.write_rc != 0)
		rc = err_set(e, c.write_rc, "the reader of %s/%.200s gave up", bucket, key);
	/* Behind the end, or in an empty object, there is nothing to read: that is no error. */
	if (c.status == 416)
		rc = head_matching(s, bucket, key, if_match, stop, ret_info, e);
	else if (rc == 0 && ret_info != NULL)
		*ret_info = c.info;
	s3_call_release(&c);
	return rc;
}

int
s3_head(struct object_store *s, const char *bucket, const char *key, struct object_info *ret_info, struct err *e)
{
	return head_matching((struct s3_store *)s, bucket, key, NULL, NULL, ret_info, e);
}

int
s3_list(struct object_store *s, const char *bucket, const char *prefix,
    int (*each)(void *arg, const char *key, const struct object_info *info), void *arg, struct err *e)
{
	return s3_list_after(s, bucket, prefix, "", each, arg, e);
}

int
s3_list_after(struct object_store *s, const char *bucket, const char *prefix, const char *after,
    int (*each)(void *arg, const char *key, const struct object_info *info), void *arg, struct err *e)
{
	struct buf token = buf_make(S3_XML_MAX_TEXT), before = buf_make(S3_XML_MAX_TEXT);
	int rc;

	do {
		struct s3_call c = s3_call_make("GET", bucket, NULL, NULL);

		s3_call_query(&c, "list-type", "2");
		s3_call_query(&c, "encoding-type", "url");
		s3_call_query(&c, "max-keys", "1000");
		s3_call_query(&c, "prefix", prefix);
		if (token.len > 0)
			s3_call_query(&c, "continuation-token", buf_str(&token));
		else if (after[0] != '\0')
			s3_call_query(&c, "start-after", after);
		rc = s3_perform((struct s3_store *)s, &c, e);
		buf_clear(&before);
		buf_add(&before, buf_str(&token), token.len);
		if (rc == 0)
			rc = s3_xml_list(buf_str(&c.out), c.out.len, each, arg, &token, e);
		/* A server that names the same page again would hold us for ever. */
		if (rc == 0 && token.len > 0 && strcmp(buf_str(&token), buf_str(&before)) == 0)
			rc = err_set(e, ERR_PROTO, "S3 list of %s goes in circles", bucket);
		s3_call_release(&c);
	} while (rc == 0 && token.len > 0);
	buf_release(&token);
	buf_release(&before);
	return rc;
}

int
s3_url(struct object_store *store, const char *bucket, const char *key, int64_t valid_s, char *url, size_t url_len,
    struct err *e)
{
	struct s3_store *s = (struct s3_store *)store;
	struct buf out = buf_make(16384);
	struct s3_place place;
	char endpoint[S3_URL_MAX];
	int rc = s->endpoints.pick(s->endpoints.arg, endpoint, sizeof(endpoint), e);

	if (rc == 0)
		rc = s3_place_of(s, endpoint, bucket, key, &place, e);
	if (rc == 0) {
		struct s3_to_sign r = {.method = "GET", .host = place.host, .path = place.path, .payload = S3_UNSIGNED_PAYLOAD,
		    .time_real_s = (clock_real_ms() + s3_skew_of(s, endpoint)) / 1000};

		buf_adds(&out, place.base);
		rc = s3_presign(&s->creds, &r, valid_s, &out);
		if (rc != 0 || out.len >= url_len)
			rc = err_set(e, ERR_TOOBIG, "a URL of more than %zu bytes", url_len - 1);
		else
			memcpy(url, out.data, out.len + 1);
	}
	buf_release(&out);
	return rc;
}
