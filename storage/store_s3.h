/* store_s3.h - what the files of the S3 backend share (for store_s3*.c only).
 *
 * store_s3.c wires; _call makes one signed request, with retries; _get, _put, _copy and _bucket hold the operations.
 *
 * Payloads: requests that steer (XML, empty) are signed with the SHA-256 of their body. Over http bodies of objects and parts
 * are as well, because nothing else protects them on the wire and the digest costs about 0.6 s of one core per GiB, in
 * parallel; over https they are UNSIGNED-PAYLOAD, because TLS protects them on the wire, with a Content-MD5, by which the
 * server notices what broke inside of either end (every server knows it, and most compute it anyway, for the ETag).
 */
#ifndef STORAGE_STORE_S3_H
#define STORAGE_STORE_S3_H

#include <pthread.h>

#include "net/http_client.h"
#include "base/retry.h"
#include "storage/object_store.h"
#include "storage/s3_sign.h"
#include "storage/s3_xml.h"
#include "storage/store_upkeep.h"

#define S3_URL_MAX 512      /* of an endpoint */
#define S3_MAX_SKEWS 8
#define S3_BODY_MAX_BYTES (16u * 1024 * 1024) /* of an answer that we keep */
#define S3_TOKEN_META "x-amz-meta-drover-put" /* marks whose put it was, see store_s3_put.c; never shown to callers */

struct s3_skew { /* how far an endpoint's clock is ahead of ours */
	char url[S3_URL_MAX];
	int64_t ahead_ms;
};

struct s3_store {
	struct object_store base;
	struct s3_endpoints endpoints;
	struct s3_credentials creds; /* texts owned */
	struct http_tls tls;         /* texts owned */
	bool virtual_host;
	int64_t copy_limit_bytes, stall_ms, min_speed_bytes;
	bool no_md5;
	struct retry_policy retry;

	pthread_mutex_t lock;      /* of all below */
	struct http_client **idle; /* room for max_idle */
	size_t n_idle, max_idle;
	struct s3_skew skews[S3_MAX_SKEWS];
	unsigned next_skew;        /* the row that a new endpoint takes */
};

struct s3_call {
	/* the request; texts stay the caller's */
	const char *method;
	const char *bucket, *key; /* bucket NULL: the service; key NULL: the bucket */
	struct s3_pair query[8];
	size_t n_query;
	struct s3_pair headers[20]; /* lower case; all are signed */
	size_t n_headers;
	const void *body;         /* sent again by every attempt */
	size_t body_len;
	bool bulk;                /* body is an object's or a part's */
	const char *sha256;       /* of body in hex, where known; NULL: computed where needed */
	bool check_body;          /* 200 may still carry an <Error> */
	int64_t stall_ms;         /* 0: as the budget allows */
	int (*write_fn)(void *arg, const void *data, size_t len); /* takes the body of a 2xx */
	void *arg;
	const atomic_bool *stop;
	/* the answer */
	int status;
	struct buf out;            /* body, unless write_fn took it; s3_call_release */
	struct s3_error error;     /* of a refusal */
	struct object_info info;   /* from the headers; size is the whole object's, -1 unknown */
	char content_type[128];
	char token[40];            /* S3_TOKEN_META */
	char server[64];           /* as it names itself */
	int64_t range_start;       /* of a 206, else -1 */
	int64_t date_real_ms;      /* the server's, 0 unknown */
	int write_rc;              /* what write_fn returned last */
	bool again;                /* worth another attempt */
	bool ambiguous;            /* an attempt without a clear answer may have been carried out */
};

struct s3_tries { /* failures in a row; all zero at first and after progress */
	uint32_t failed;
	int64_t since_mono_ms;
	bool skew_corrected;
};

/* Bytes that must move within the call's stall time, else it is broken off; also what counts as progress. 0: any. */
int64_t s3_stall_bytes(const struct s3_store *s, const struct s3_call *c);

/* A call with its buffer; always release it. */
struct s3_call s3_call_make(const char *method, const char *bucket, const char *key, const atomic_bool *stop);
void s3_call_release(struct s3_call *c);

/* Add a query parameter, a header. Texts stay the caller's until the call is over. */
void s3_call_query(struct s3_call *c, const char *name, const char *value);
void s3_call_header(struct s3_call *c, const char *name, const char *value);

/* One attempt at the endpoint of the moment. Returns 0 (status below 300) or an ERR_* with c->again set. */
int s3_attempt(struct s3_store *s, struct s3_call *c, struct s3_tries *t, struct err *e);

/* After a failed attempt: waits and returns 0 if there shall be another, else what to return: rc, ERR_RETRY in place of what
 * the network did, or ERR_CANCELED. *e holds the attempt's error. */
int s3_tries_next(struct s3_store *s, struct s3_tries *t, const struct s3_call *c, int rc, struct err *e);

/* Attempts until it is done, refused, or the budget is used up. Not for calls with write_fn. */
int s3_perform(struct s3_store *s, struct s3_call *c, struct err *e);

/* Metadata as headers; texts go into names, one buffer per entry, which must outlive the call. */
void s3_call_meta(struct s3_call *c, const struct object_meta *meta, size_t n, char names[OBJECT_META_MAX][52]);

/* The URL, Host header and path for a call at an endpoint ("http://host:port"). Returns 0 or ERR_INVALID. */
struct s3_place {
	char base[S3_URL_MAX + 80]; /* scheme://host, without path */
	char host[S3_URL_MAX + 80]; /* as the Host header has it */
	char path[1200];            /* not encoded */
	bool https;
};
int s3_place_of(const struct s3_store *s, const char *url, const char *bucket, const char *key,
    struct s3_place *ret_place, struct err *e);

/* Reads "Sat, 21 Nov 2026 11:51:09 GMT"; 0 if it is none. */
int64_t s3_http_date(const char *text);

/* Milliseconds that the endpoint's clock is ahead of ours, as last seen. */
int64_t s3_skew_of(struct s3_store *s, const char *url);

/* Multipart uploads, used by put and by copies of large objects. The id is the server's; c is a fresh POST call to the
 * object, with what the object shall have (create) or the condition it is under (complete) among its headers. abort is best
 * effort and ignores stop flags, because parts that nobody finishes cost their owner; why is the error that led to it. */
#define S3_UPLOAD_ID_MAX 1024
struct s3_part {
	char etag[80];
};
int s3_upload_create(struct s3_store *s, struct s3_call *c, char id[S3_UPLOAD_ID_MAX], struct err *e);
int s3_upload_complete(struct s3_store *s, struct s3_call *c, const char *id, const struct s3_part *parts, size_t n,
    struct err *e);
void s3_upload_abort(struct s3_store *s, const char *bucket, const char *key, const char *id, int why);

/* The operations, as in struct object_store_ops. */
int s3_ensure_bucket(struct object_store *s, const char *bucket, struct err *e);
int s3_put(struct object_store *s, const char *bucket, const char *key, struct object_source *src,
    const struct put_options *o, struct object_info *ret_info, const atomic_bool *stop, struct err *e);
int s3_get(struct object_store *s, const char *bucket, const char *key, int64_t offset, int64_t len, const char *if_match,
    int (*write)(void *arg, const void *data, size_t len), void *arg, struct object_info *ret_info,
    const atomic_bool *stop, struct err *e);
int s3_head(struct object_store *s, const char *bucket, const char *key, struct object_info *ret_info, struct err *e);
int s3_copy(struct object_store *s, const char *bucket, const char *from, const char *to, const struct object_meta *meta,
    size_t n_meta, struct err *e);
int s3_list(struct object_store *s, const char *bucket, const char *prefix,
    int (*each)(void *arg, const char *key, const struct object_info *info), void *arg, struct err *e);
int s3_remove(struct object_store *s, const char *bucket, const char *key, struct err *e);
int s3_url(struct object_store *s, const char *bucket, const char *key, int64_t valid_s, char *url, size_t url_len,
    struct err *e);
int s3_lifecycle_merge(struct object_store *s, const char *bucket, const struct lifecycle_rule *rules, size_t n,
    struct err *e);
int s3_check(struct object_store *s, struct err *e);

/* The operations of store_upkeep.h. */
int s3_list_after(struct object_store *s, const char *bucket, const char *prefix, const char *after,
    int (*each)(void *arg, const char *key, const struct object_info *info), void *arg, struct err *e);
int s3_uploads(struct object_store *s, const char *bucket, int (*each)(void *arg, const struct store_upload *u), void *arg,
    struct err *e);
int s3_abort_upload(struct object_store *s, const char *bucket, const struct store_upload *u, int64_t before_real_ms,
    struct err *e);
int s3_versioned(struct object_store *s, const char *bucket, bool *ret, struct err *e);
int s3_remove_versions(struct object_store *s, const char *bucket, const char *key, struct err *e);
int s3_lifecycle_view(struct object_store *s, const char *bucket, const struct lifecycle_rule *rules, size_t n,
    struct lifecycle_view *ret, struct err *e);
int s3_probe(struct object_store *s, const char *bucket, const char *key, struct store_probe *p, struct err *e);

#endif
