#include "storage/s3_sign.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"

#define ALGORITHM "AWS4-HMAC-SHA256"
#define CANONICAL_MAX_BYTES (256u * 1024)

char *
s3_date(int64_t time_real_s, char out[S3_DATE_LEN])
{
	time_t t = (time_t)time_real_s;
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL || strftime(out, S3_DATE_LEN, "%Y%m%dT%H%M%SZ", &tm) == 0)
		out[0] = '\0';
	return out;
}

/* RFC 3986: unreserved bytes stay, all others become %XX in upper case, as the canonical form demands. */
static void
encode(struct buf *b, const char *s, bool keep_slash)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";

	while (*s != '\0') {
		size_t n = strspn(s, plain);

		buf_add(b, s, n);
		s += n;
		if (*s == '/' && keep_slash)
			buf_addc(b, *s++);
		else if (*s != '\0')
			buf_addf(b, "%%%02X", (unsigned)(unsigned char)*s++);
	}
}

static int
pair_compare(const void *a, const void *b)
{
	const struct s3_pair *x = a, *y = b;
	int by_name = strcmp(x->name, y->name);

	return by_name != 0 ? by_name : strcmp(x->value, y->value);
}

/* Sorting must happen on the encoded text ('~' and '%41' sort unlike their decoded forms), so both sides are encoded first. */
static void
add_query(struct buf *b, const struct s3_pair *query, size_t n)
{
	struct s3_pair sorted[S3_MAX_PAIRS + 8];
	struct buf texts[2 * (S3_MAX_PAIRS + 8)];

	assert(n <= S3_MAX_PAIRS + 8);
	for (size_t i = 0; i < n; i++) {
		texts[2 * i] = buf_make(CANONICAL_MAX_BYTES);
		texts[2 * i + 1] = buf_make(CANONICAL_MAX_BYTES);
		encode(&texts[2 * i], query[i].name, false);
		encode(&texts[2 * i + 1], query[i].value, false);
		b->overflow |= texts[2 * i].overflow | texts[2 * i + 1].overflow;
		sorted[i] = (struct s3_pair){buf_str(&texts[2 * i]), buf_str(&texts[2 * i + 1])};
	}
	qsort(sorted, n, sizeof(sorted[0]), pair_compare);
	for (size_t i = 0; i < n; i++)
		buf_addf(b, "%s%s=%s", i > 0 ? "&" : "", sorted[i].name, sorted[i].value);
	for (size_t i = 0; i < 2 * n; i++)
		buf_release(&texts[i]);
}

int
s3_target(const struct s3_to_sign *r, struct buf *out)
{
	encode(out, r->path, true);
	if (r->n_query > 0) {
		buf_addc(out, '?');
		add_query(out, r->query, r->n_query);
	}
	return out->overflow ? ERR_TOOBIG : 0;
}

/* Header values are signed with blanks at both ends cut and runs of blanks made one. */
static void
add_trimmed(struct buf *b, const char *value)
{
	value += strspn(value, " ");
	while (*value != '\0') {
		size_t n = strcspn(value, " ");

		buf_add(b, value, n);
		value += n;
		value += strspn(value, " ");
		if (*value != '\0')
			buf_addc(b, ' ');
	}
}

/* The headers to sign: r's own, host and, unless the date travels in the query, x-amz-date. Returns how many. */
static size_t
signed_headers(const struct s3_to_sign *r, const char *date, struct s3_pair out[S3_MAX_PAIRS + 2])
{
	size_t n = 0;

	assert(r->n_headers <= S3_MAX_PAIRS);
	for (; n < r->n_headers; n++)
		out[n] = r->headers[n];
	out[n++] = (struct s3_pair){"host", r->host};
	if (date != NULL)
		out[n++] = (struct s3_pair){"x-amz-date", date};
	qsort(out, n, sizeof(out[0]), pair_compare);
	return n;
}

static void
add_names(struct buf *b, const struct s3_pair *headers, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf_addf(b, "%s%s", i > 0 ? ";" : "", headers[i].name);
}

static void
canonical(const struct s3_to_sign *r, const struct s3_pair *headers, size_t n, const char *payload, struct buf *out)
{
	buf_addf(out, "%s\n", r->method);
	encode(out, r->path, true);
	buf_addc(out, '\n');
	add_query(out, r->query, r->n_query);
	buf_addc(out, '\n');
	for (size_t i = 0; i < n; i++) {
		buf_addf(out, "%s:", headers[i].name);
		add_trimmed(out, headers[i].value);
		buf_addc(out, '\n');
	}
	buf_addc(out, '\n');
	add_names(out, headers, n);
	buf_addf(out, "\n%s", payload);
}

int
s3_canonical(const struct s3_to_sign *r, struct buf *out)
{
	struct s3_pair headers[S3_MAX_PAIRS + 2];
	char date[S3_DATE_LEN];
	size_t n = signed_headers(r, s3_date(r->time_real_s, date), headers);

	canonical(r, headers, n, r->payload, out);
	return out->overflow ? ERR_TOOBIG : 0;
}

/* HMAC chain over day, region, service: the key is good for one day and place. */
static void
signing_key(const struct s3_credentials *c, const char *date, uint8_t key[SHA256_LEN])
{
	char *secret = xasprintf("AWS4%s", c->secret_key);
	uint8_t a[SHA256_LEN], b[SHA256_LEN];

	hmac_sha256(secret, strlen(secret), date, 8, a);
	hmac_sha256(a, sizeof(a), c->region, strlen(c->region), b);
	hmac_sha256(b, sizeof(b), "s3", 2, a);
	hmac_sha256(a, sizeof(a), "aws4_request", 12, key);
	mem_wipe(secret, strlen(secret));
	mem_wipe(a, sizeof(a));
	mem_wipe(b, sizeof(b));
	free(secret);
}

static void
signature(const struct s3_credentials *c, const char *date, const struct buf *canonical_request, char out[SHA256_HEX_LEN])
{
	uint8_t key[SHA256_LEN], sum[SHA256_LEN];
	char hex[SHA256_HEX_LEN];
	char *text;

	sha256_of(buf_str(canonical_request), canonical_request->len, sum);
	text = xasprintf(ALGORITHM "\n%s\n%.8s/%s/s3/aws4_request\n%s", date, date, c->region,
	    hex_encode(sum, sizeof(sum), hex));
	signing_key(c, date, key);
	hmac_sha256(key, sizeof(key), text, strlen(text), sum);
	hex_encode(sum, sizeof(sum), out);
	mem_wipe(key, sizeof(key));
	free(text);
}

int
s3_sign(const struct s3_credentials *c, const struct s3_to_sign *r, struct buf *out)
{
	struct buf text = buf_make(CANONICAL_MAX_BYTES);
	struct s3_pair headers[S3_MAX_PAIRS + 2];
	char date[S3_DATE_LEN], hex[SHA256_HEX_LEN];
	size_t n = signed_headers(r, s3_date(r->time_real_s, date), headers);
	bool fits;

	canonical(r, headers, n, r->payload, &text);
	signature(c, date, &text, hex);
	buf_addf(out, ALGORITHM " Credential=%s/%.8s/%s/s3/aws4_request,SignedHeaders=", c->access_key, date, c->region);
	add_names(out, headers, n);
	buf_addf(out, ",Signature=%s", hex);
	fits = !text.overflow && !out->overflow;
	buf_release(&text);
	return fits ? 0 : ERR_TOOBIG;
}

int
s3_presign(const struct s3_credentials *c, const struct s3_to_sign *r, int64_t valid_s, struct buf *out)
{
	struct buf text = buf_make(CANONICAL_MAX_BYTES), names = buf_make(4096);
	struct s3_pair headers[S3_MAX_PAIRS + 2], query[S3_MAX_PAIRS + 8];
	char date[S3_DATE_LEN], hex[SHA256_HEX_LEN], valid[24];
	char *credential;
	struct s3_to_sign p = *r;
	size_t n;
	bool fits;

	assert(valid_s >= 1 && valid_s <= S3_PRESIGN_MAX_S);
	assert(r->n_query <= S3_MAX_PAIRS);
	n = signed_headers(r, NULL, headers);
	add_names(&names, headers, n);
	s3_date(r->time_real_s, date);
	snprintf(valid, sizeof(valid), "%lld", (long long)valid_s);
	credential = xasprintf("%s/%.8s/%s/s3/aws4_request", c->access_key, date, c->region);

	p.query = query;
	for (p.n_query = 0; p.n_query < r->n_query; p.n_query++)
		query[p.n_query] = r->query[p.n_query];
	query[p.n_query++] = (struct s3_pair){"X-Amz-Algorithm", ALGORITHM};
	query[p.n_query++] = (struct s3_pair){"X-Amz-Credential", credential};
	query[p.n_query++] = (struct s3_pair){"X-Amz-Date", date};
	query[p.n_query++] = (struct s3_pair){"X-Amz-Expires", valid};
	query[p.n_query++] = (struct s3_pair){"X-Amz-SignedHeaders", buf_str(&names)};
	if (c->session_token != NULL && c->session_token[0] != '\0')
		query[p.n_query++] = (struct s3_pair){"X-Amz-Security-Token", c->session_token};

	canonical(&p, headers, n, S3_UNSIGNED_PAYLOAD, &text);
	signature(c, date, &text, hex);
	s3_target(&p, out);
	buf_addf(out, "&X-Amz-Signature=%s", hex);
	fits = !text.overflow && !names.overflow && !out->overflow;
	buf_release(&text);
	buf_release(&names);
	free(credential);
	return fits ? 0 : ERR_TOOBIG;
}
