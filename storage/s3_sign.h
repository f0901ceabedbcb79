/* s3_sign.h - AWS Signature Version 4 as S3 wants it: the path encoded once and never normalised, the payload's digest always
 * among the signed headers, keys, values and headers sorted here so that callers need not.
 *
 *   Source: "Authenticating Requests (AWS Signature Version 4)", Amazon S3 API Reference.
 *
 * Pure: time comes in as an argument. Any thread.
 */
#ifndef STORAGE_S3_SIGN_H
#define STORAGE_S3_SIGN_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/digest.h"

#define S3_UNSIGNED_PAYLOAD "UNSIGNED-PAYLOAD"
#define S3_MAX_PAIRS 32       /* of query parameters, and of headers, in one request; more is a programming error */
#define S3_DATE_LEN 17        /* "20130524T000000Z" and its NUL */
#define S3_PRESIGN_MAX_S 604800

struct s3_credentials {
	const char *access_key, *secret_key;
	const char *session_token; /* NULL or "": none */
	const char *region;
};

struct s3_pair {
	const char *name, *value;
};

struct s3_to_sign {
	const char *method;
	const char *host;             /* as sent, with the port unless it is the scheme's own */
	const char *path;             /* "/bucket/key", not encoded */
	const struct s3_pair *query;  /* not encoded, any order */
	size_t n_query;
	const struct s3_pair *headers; /* names in lower case, any order; every one is signed; host and x-amz-date are added */
	size_t n_headers;
	const char *payload;          /* 64 hex digits or S3_UNSIGNED_PAYLOAD; must be the x-amz-content-sha256 header as well */
	int64_t time_real_s;
};

/* Writes the UTC time in the form of x-amz-date. Returns out. */
char *s3_date(int64_t time_real_s, char out[S3_DATE_LEN]);

/* Appends the encoded path, and "?" and the encoded sorted query where there is one: what goes into the URL. Returns 0 or
 * ERR_TOOBIG (out's maximum). */
int s3_target(const struct s3_to_sign *r, struct buf *out);

/* Appends the canonical request (for tests and for reading a refusal). Returns 0 or ERR_TOOBIG. */
int s3_canonical(const struct s3_to_sign *r, struct buf *out);

/* Appends the value of the Authorization header. The session token must be among the headers (x-amz-security-token) when
 * there is one. Returns 0 or ERR_TOOBIG. */
int s3_sign(const struct s3_credentials *c, const struct s3_to_sign *r, struct buf *out);

/* Appends the path and query of a URL that is valid for valid_s seconds from r's time, with only the host (and r's headers,
 * usually none) signed; payload is ignored. valid_s is 1..S3_PRESIGN_MAX_S. Returns 0 or ERR_TOOBIG. */
int s3_presign(const struct s3_credentials *c, const struct s3_to_sign *r, int64_t valid_s, struct buf *out);

#endif
