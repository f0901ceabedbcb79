/* Copies inside S3, and the multipart uploads that large ones (and store_s3_put.c) are made of. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "storage/store_s3.h"

#define COPY_PART_BYTES (1024 * (int64_t)1024 * 1024)
#define SERVER_WORK_STALL_MS (10 * 60 * 1000) /* the server may move gigabytes before its first byte */
#define ABORT_TRIES 3

/* --- multipart uploads --- */

int
s3_upload_create(struct s3_store *s, struct s3_call *c, char id[S3_UPLOAD_ID_MAX], struct err *e)
{
	int rc;

	s3_call_query(c, "uploads", "");
	rc = s3_perform(s, c, e);
	if (rc == 0)
		rc = s3_xml_find(buf_str(&c->out), c->out.len, "InitiateMultipartUploadResult/UploadId", id, S3_UPLOAD_ID_MAX, e);
	if (rc == 0 && id[0] == '\0')
		rc = err_set(e, ERR_PROTO, "S3 began an upload without naming it");
	return rc;
}

int
s3_upload_complete(struct s3_store *s, struct s3_call *c, const char *id, const struct s3_part *parts, size_t n,
    struct err *e)
{
	struct buf body = buf_make(4u * 1024 * 1024);
	int rc;

	buf_adds(&body, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	for (size_t i = 0; i < n; i++) {
		buf_addf(&body, "<Part><PartNumber>%zu</PartNumber><ETag>", i + 1);
		s3_xml_escape(&body, parts[i].etag);
		buf_adds(&body, "</ETag></Part>");
	}
	buf_adds(&body, "</CompleteMultipartUpload>");
	s3_call_query(c, "uploadId", id);
	s3_call_header(c, "content-type", "application/xml");
	c->body = buf_str(&body);
	c->body_len = body.len;
	c->check_body = true;
	c->stall_ms = SERVER_WORK_STALL_MS;
	rc = body.overflow ? err_set(e, ERR_TOOBIG, "an upload of too many parts") : s3_perform(s, c, e);
	if (rc == 0)
		rc = s3_xml_find(buf_str(&c->out), c->out.len, "CompleteMultipartUploadResult/ETag", c->info.etag,
		    sizeof(c->info.etag), e);
	buf_release(&body);
	return rc;
}

/* A part that was still on its way may arrive after the first abort, so that it is repeated until the server knows the upload
 * no more. */
void
s3_upload_abort(struct s3_store *s, const char *bucket, const char *key, const char *id, int why)
{
	bool over = false;

	for (int i = 0; i < ABORT_TRIES && !over; i++) {
		struct s3_call c = s3_call_make("DELETE", bucket, key, NULL);
		struct s3_tries t = {.failed = 0};

		s3_call_query(&c, "uploadId", id);
		/* A store that was away for the whole budget is not waited for once more. */
		over = (why == ERR_RETRY ? s3_attempt(s, &c, &t, NULL) : s3_perform(s, &c, NULL)) != 0;
		s3_call_release(&c);
	}
}

/* --- copies --- */

struct copy {
	struct s3_store *s;
	const char *bucket, *to;
	char *source;              /* "/bucket/key", encoded */
	struct object_info info;   /* of the source */
	char content_type[128];
	const struct object_meta *meta; /* that the copy gets */
	size_t n_meta;
	bool replace;
};

static void
add_source(struct s3_call *c, const struct copy *p)
{
	s3_call_header(c, "x-amz-copy-source", p->source);
	/* The source must still be what the head said. */
	s3_call_header(c, "x-amz-copy-source-if-match", p->info.etag);
	c->check_body = true;
	c->stall_ms = SERVER_WORK_STALL_MS;
}

static void
add_new_meta(struct s3_call *c, const struct copy *p, char names[OBJECT_META_MAX][52])
{
	s3_call_meta(c, p->meta, p->n_meta, names);
	if (p->content_type[0] != '\0')
		s3_call_header(c, "content-type", p->content_type);
}

static int
copy_whole(const struct copy *p, struct err *e)
{
	struct s3_call c = s3_call_make("PUT", p->bucket, p->to, NULL);
	char names[OBJECT_META_MAX][52];
	int rc;

	add_source(&c, p);
	if (p->replace) {
		s3_call_header(&c, "x-amz-metadata-directive", "REPLACE");
		add_new_meta(&c, p, names);
	}
	rc = s3_perform(p->s, &c, e);
	s3_call_release(&c);
	return rc;
}

static int
copy_part(const struct copy *p, const char *id, size_t number, int64_t from, int64_t end, struct s3_part *ret_part,
    struct err *e)
{
	struct s3_call c = s3_call_make("PUT", p->bucket, p->to, NULL);
	char number_text[24], range[64];
	int rc;

	snprintf(number_text, sizeof(number_text), "%zu", number);
	snprintf(range, sizeof(range), "bytes=%lld-%lld", (long long)from, (long long)end - 1);
	add_source(&c, p);
	s3_call_query(&c, "partNumber", number_text);
	s3_call_query(&c, "uploadId", id);
	s3_call_header(&c, "x-amz-copy-source-range", range);
	rc = s3_perform(p->s, &c, e);
	if (rc == 0)
		rc = s3_xml_find(buf_str(&c.out), c.out.len, "CopyPartResult/ETag", ret_part->etag, sizeof(ret_part->etag), e);
	s3_call_release(&c);
	return rc;
}

static int
copy_parts(const struct copy *p, struct err *e)
{
	struct s3_call create = s3_call_make("POST", p->bucket, p->to, NULL);
	struct s3_call complete = s3_call_make("POST", p->bucket, p->to, NULL);
	int64_t part_bytes = p->s->copy_limit_bytes < COPY_PART_BYTES ? p->s->copy_limit_bytes : COPY_PART_BYTES;
	size_t n = (size_t)((p->info.size_bytes + part_bytes - 1) / part_bytes);
	struct s3_part *parts = xcalloc(n, sizeof(*parts));
	char names[OBJECT_META_MAX][52], id[S3_UPLOAD_ID_MAX] = "";
	int rc;

	/* Unlike a whole copy this begins a new object, so that the metadata always has to be sent. */
	add_new_meta(&create, p, names);
	rc = s3_upload_create(p->s, &create, id, e);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		int64_t from = (int64_t)i * part_bytes, left = p->info.size_bytes - from;

		rc = copy_part(p, id, i + 1, from, from + (left < part_bytes ? left : part_bytes), &parts[i], e);
	}
	if (rc == 0)
		rc = s3_upload_complete(p->s, &complete, id, parts, n, e);
	if (rc != 0 && id[0] != '\0')
		s3_upload_abort(p->s, p->bucket, p->to, id, rc);
	free(parts);
	s3_call_release(&create);
	s3_call_release(&complete);
	return rc;
}

/* Onto itself: the bytes are there; what is wanted is a new date. Some servers (versitygw) only change the metadata then, but
 * make a new object of parts. An empty object has none, and stays as old as it is. */
static int
copy_onto_itself(const struct copy *p, struct err *e)
{
	struct object_info after;
	int rc = copy_whole(p, e);

	if (rc == 0 && p->info.size_bytes > 0 && (rc = s3_head(&p->s->base, p->bucket, p->to, &after, e)) == 0 &&
	    after.modified_real_ms <= p->info.modified_real_ms)
		rc = copy_parts(p, e);
	return rc;
}

int
s3_copy(struct object_store *store, const char *bucket, const char *from, const char *to, const struct object_meta *meta,
    size_t n_meta, struct err *e)
{
	struct copy p = {.s = (struct s3_store *)store, .bucket = bucket, .to = to};
	struct s3_call head = s3_call_make("HEAD", bucket, from, NULL);
	struct buf source = buf_make(4096);
	int rc = s3_perform(p.s, &head, e);

	if (rc == 0) {
		p.info = head.info;
		snprintf(p.content_type, sizeof(p.content_type), "%s", head.content_type);
		p.meta = n_meta > 0 ? meta : p.info.meta;
		p.n_meta = n_meta > 0 ? n_meta : p.info.n_meta;
		/* Onto itself is refused unless the metadata is sent anew. */
		p.replace = n_meta > 0 || strcmp(from, to) == 0;
		buf_addf(&source, "/%s/", bucket);
		http_encode(&source, from, true);
		p.source = buf_take(&source);
		if (p.info.size_bytes > p.s->copy_limit_bytes)
			rc = copy_parts(&p, e);
		else
			rc = strcmp(from, to) == 0 ? copy_onto_itself(&p, e) : copy_whole(&p, e);
		free(p.source);
	}
	s3_call_release(&head);
	return rc;
}
