/* One signed request to S3: where to, signed how, what the answer means, and whether to try again. */
#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/num.h"
#include "storage/store_s3.h"

#define SKEW_TOLERATED_MS (4 * 60 * 1000) /* servers refuse above 15 minutes */
#define SLEEP_SLICE_MS 50

/* --- the call --- */

struct s3_call
s3_call_make(const char *method, const char *bucket, const char *key, const atomic_bool *stop)
{
	return (struct s3_call){.method = method, .bucket = bucket, .key = key, .stop = stop, .body = "",
	    .out = buf_make(S3_BODY_MAX_BYTES)};
}

void
s3_call_release(struct s3_call *c)
{
	buf_release(&c->out);
}

void
s3_call_query(struct s3_call *c, const char *name, const char *value)
{
	assert(c->n_query < sizeof(c->query) / sizeof(c->query[0]));
	c->query[c->n_query++] = (struct s3_pair){name, value};
}

void
s3_call_header(struct s3_call *c, const char *name, const char *value)
{
	assert(c->n_headers < sizeof(c->headers) / sizeof(c->headers[0]));
	c->headers[c->n_headers++] = (struct s3_pair){name, value};
}

void
s3_call_meta(struct s3_call *c, const struct object_meta *meta, size_t n, char names[OBJECT_META_MAX][52])
{
	for (size_t i = 0; i < n; i++) {
		snprintf(names[i], sizeof(names[i]), "x-amz-meta-%s", meta[i].name);
		s3_call_header(c, names[i], meta[i].value);
	}
}

/* --- connections and clocks --- */

static struct http_client *
client_take(struct s3_store *s)
{
	struct http_client *h = NULL;

	pthread_mutex_lock(&s->lock);
	if (s->n_idle > 0)
		h = s->idle[--s->n_idle];
	pthread_mutex_unlock(&s->lock);
	return h != NULL ? h : http_client_new(&s->tls);
}

static void
client_give(struct s3_store *s, struct http_client *h)
{
	pthread_mutex_lock(&s->lock);
	if (s->n_idle < s->max_idle) {
		s->idle[s->n_idle++] = h;
		h = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	http_client_free(h);
}

int64_t
s3_skew_of(struct s3_store *s, const char *url)
{
	int64_t ahead_ms = 0;

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < S3_MAX_SKEWS; i++)
		if (strcmp(s->skews[i].url, url) == 0)
			ahead_ms = s->skews[i].ahead_ms;
	pthread_mutex_unlock(&s->lock);
	return ahead_ms;
}

static void
skew_set(struct s3_store *s, const char *url, int64_t ahead_ms)
{
	struct s3_skew *row = NULL;

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < S3_MAX_SKEWS; i++)
		if (strcmp(s->skews[i].url, url) == 0)
			row = &s->skews[i];
	if (row == NULL) {
		row = &s->skews[s->next_skew];
		s->next_skew = (s->next_skew + 1) % S3_MAX_SKEWS;
		snprintf(row->url, sizeof(row->url), "%s", url);
	}
	row->ahead_ms = ahead_ms;
	pthread_mutex_unlock(&s->lock);
}

/* Reads the digits of width at s. False if they are not digits within the bounds. */
static bool
fixed_number(const char *s, size_t width, int64_t min, int64_t max, int *ret_value)
{
	char digits[8];
	int64_t value;

	snprintf(digits, sizeof(digits), "%.*s", (int)width, s);
	if (strspn(digits, "0123456789") != width || num_int(digits, min, max, &value, NULL) != 0)
		return false;
	*ret_value = (int)value;
	return true;
}

/* Not strptime: its names depend on the locale. */
int64_t
s3_http_date(const char *text)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec", form[] = "Sat, 21 Nov 2026 11:51:09 GMT";
	struct tm tm = {.tm_isdst = 0};

	if (strlen(text) != sizeof(form) - 1 || !fixed_number(text + 5, 2, 1, 31, &tm.tm_mday) ||
	    !fixed_number(text + 12, 4, 1970, 9999, &tm.tm_year) || !fixed_number(text + 17, 2, 0, 23, &tm.tm_hour) ||
	    !fixed_number(text + 20, 2, 0, 59, &tm.tm_min) || !fixed_number(text + 23, 2, 0, 60, &tm.tm_sec))
		return 0;
	while (tm.tm_mon < 12 && memcmp(months + 3 * tm.tm_mon, text + 8, 3) != 0)
		tm.tm_mon++;
	tm.tm_year -= 1900;
	return tm.tm_mon == 12 ? 0 : (int64_t)timegm(&tm) * 1000;
}

/* --- where to --- */

int
s3_place_of(const struct s3_store *s, const char *url, const char *bucket, const char *key,
    struct s3_place *ret_place, struct err *e)
{
	const char *host = strncmp(url, "http://", 7) == 0 ? url + 7 : strncmp(url, "https://", 8) == 0 ? url + 8 : NULL;
	bool in_host = s->virtual_host && bucket != NULL;
	const char *own_port;
	size_t len;

	if (host == NULL || (len = strcspn(host, "/?#")) == 0 || strspn(host + len, "/") != strlen(host + len) ||
	    memchr(host, '@', len) != NULL || strlen(url) >= S3_URL_MAX) {
		err_set(e, ERR_INVALID, "not an S3 endpoint: '%.200s'", url);
		return err_hint(e, "give http://HOST:PORT or https://HOST without a path");
	}
	ret_place->https = host - url == 8;
	snprintf(ret_place->base, sizeof(ret_place->base), "%.*s%s%s%.*s", (int)(host - url), url, in_host ? bucket : "",
	    in_host ? "." : "", (int)len, host);
	/* The Host header leaves out the scheme's own port, and is signed as sent. */
	own_port = ret_place->https ? ":443" : ":80";
	if (len > strlen(own_port) && strncmp(host + len - strlen(own_port), own_port, strlen(own_port)) == 0)
		len -= strlen(own_port);
	snprintf(ret_place->host, sizeof(ret_place->host), "%s%s%.*s", in_host ? bucket : "", in_host ? "." : "",
	    (int)len, host);
	snprintf(ret_place->path, sizeof(ret_place->path), "/%s%s%s", in_host || bucket == NULL ? "" : bucket,
	    key == NULL || in_host ? "" : "/", key == NULL ? "" : key);
	return 0;
}

/* --- the answer --- */

static void
see_meta(struct s3_call *c, const char *name, const char *value)
{
	struct object_meta *m = &c->info.meta[c->info.n_meta];

	/* Others may have stored more or longer entries than we take: those are not shown. */
	if (c->info.n_meta == OBJECT_META_MAX || strlen(name) >= sizeof(m->name) || strlen(value) >= sizeof(m->value))
		return;
	for (size_t i = 0; i <= strlen(name); i++)
		m->name[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] - 'A' + 'a') : name[i];
	snprintf(m->value, sizeof(m->value), "%s", value);
	c->info.n_meta++;
}

/* "bytes 0-9/100" */
static void
see_range(struct s3_call *c, const char *value)
{
	char text[80], *dash, *slash;
	int64_t start, end, total;

	snprintf(text, sizeof(text), "%s", value);
	dash = strchr(text, '-');
	slash = strchr(text, '/');
	if (strncmp(text, "bytes ", 6) != 0 || dash == NULL || slash == NULL || slash < dash)
		return;
	*dash = *slash = '\0';
	if (num_int(text + 6, 0, INT64_MAX, &start, NULL) == 0 && num_int(dash + 1, start, INT64_MAX, &end, NULL) == 0 &&
	    num_int(slash + 1, end, INT64_MAX, &total, NULL) == 0 && total > end) {
		c->range_start = start;
		c->info.size_bytes = total;
	}
}

static void
see_header(void *arg, const char *name, const char *value)
{
	static const char meta[] = "x-amz-meta-";
	struct s3_call *c = arg;

	if (strcasecmp(name, "etag") == 0)
		snprintf(c->info.etag, sizeof(c->info.etag), "%s", value);
	else if (strcasecmp(name, "content-length") == 0 && c->range_start < 0)
		num_int(value, 0, INT64_MAX, &c->info.size_bytes, NULL);
	else if (strcasecmp(name, "content-range") == 0)
		see_range(c, value);
	else if (strcasecmp(name, "content-type") == 0)
		snprintf(c->content_type, sizeof(c->content_type), "%s", value);
	else if (strcasecmp(name, "last-modified") == 0)
		c->info.modified_real_ms = s3_http_date(value);
	else if (strcasecmp(name, "server") == 0)
		snprintf(c->server, sizeof(c->server), "%.63s", value);
	else if (strcasecmp(name, "date") == 0)
		c->date_real_ms = s3_http_date(value);
	else if (strcasecmp(name, S3_TOKEN_META) == 0)
		snprintf(c->token, sizeof(c->token), "%s", value);
	else if (strncasecmp(name, meta, sizeof(meta) - 1) == 0)
		see_meta(c, name + sizeof(meta) - 1, value);
}

static int
pass_body(void *arg, const void *data, size_t len)
{
	struct s3_call *c = arg;

	c->write_rc = c->write_fn(c->arg, data, len);
	return c->write_rc;
}

/* What a refusal means: by the server's word for it, else by status. */
static const struct refusal {
	const char *code;
	int status;
	int err;
	bool again;
} refusals[] = {
	{"SlowDown", 0, ERR_RETRY, true}, {"SlowDownRead", 0, ERR_RETRY, true}, {"SlowDownWrite", 0, ERR_RETRY, true},
	{"InternalError", 0, ERR_RETRY, true}, {"RequestTimeout", 0, ERR_RETRY, true}, {"ServerBusy", 0, ERR_RETRY, true},
	{"ServiceUnavailable", 0, ERR_RETRY, true}, {"TooManyRequests", 0, ERR_RETRY, true},
	{"Throttling", 0, ERR_RETRY, true}, {"ThrottlingException", 0, ERR_RETRY, true},
	{"RequestLimitExceeded", 0, ERR_RETRY, true}, {"BandwidthLimitExceeded", 0, ERR_RETRY, true},
	{"OperationAborted", 0, ERR_RETRY, true}, {"ConditionalRequestConflict", 0, ERR_RETRY, true},
	{"BadDigest", 0, ERR_RETRY, true}, {"XAmzContentSHA256Mismatch", 0, ERR_RETRY, true},
	{"IncompleteBody", 0, ERR_RETRY, true}, {"XMinioStorageFull", 0, ERR_RETRY, false},
	{"EntityTooLarge", 0, ERR_TOOBIG, false}, {"ExpiredToken", 0, ERR_DENIED, false},
	{"InvalidAccessKeyId", 0, ERR_DENIED, false}, {"XAdminUserNotFound", 0, ERR_DENIED, false}, {"SignatureDoesNotMatch", 0, ERR_DENIED, false},
	{NULL, 304, ERR_CONFLICT, false}, {NULL, 400, ERR_INVALID, false}, {NULL, 401, ERR_DENIED, false},
	{NULL, 403, ERR_DENIED, false}, {NULL, 404, ERR_NOTFOUND, false}, {NULL, 408, ERR_RETRY, true},
	{NULL, 409, ERR_CONFLICT, false}, {NULL, 412, ERR_CONFLICT, false}, {NULL, 413, ERR_TOOBIG, false},
	{NULL, 416, ERR_INVALID, false}, {NULL, 429, ERR_RETRY, true}, {NULL, 499, ERR_RETRY, true},
	{NULL, 500, ERR_RETRY, true}, {NULL, 502, ERR_RETRY, true}, {NULL, 503, ERR_RETRY, true},
	{NULL, 504, ERR_RETRY, true}, {NULL, 507, ERR_RETRY, false}, {NULL, 520, ERR_RETRY, true},
};

static int
refused(struct s3_call *c, struct err *e)
{
	static const struct refusal other = {NULL, 0, ERR_PROTO, false};
	const struct refusal *r = &other;
	int status = c->status < 300 ? 500 : c->status; /* a 200 with an <Error> is a failure of the server */

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]) && r == &other; i++)
		if (refusals[i].code != NULL ? strcmp(refusals[i].code, c->error.code) == 0 : refusals[i].status == status)
			r = &refusals[i];
	c->again = r->again;
	/* Below 500 the server says that it did not do it. */
	c->ambiguous |= status >= 500;
	err_set(e, r->err, "S3 %s %s%s%.120s: %d %s%s%.120s", c->method, c->bucket != NULL ? c->bucket : "",
	    c->key != NULL ? "/" : "", c->key != NULL ? c->key : "", c->status, c->error.code,
	    c->error.message[0] != '\0' ? ": " : "", c->error.message);
	if (r->err == ERR_DENIED)
		err_hint(e, "check the S3 access key, its secret, and what they may do with the bucket");
	if (c->status == 301 || c->status == 307 || strcmp(c->error.code, "AuthorizationHeaderMalformed") == 0)
		err_hint(e, "the bucket may be in another region: check the S3 region and endpoint");
	return r->err;
}

/* The network's failures: none is final, but the endpoint is to be avoided. */
static int
unreachable(struct s3_store *s, struct s3_call *c, const char *url, int rc, struct err *e)
{
	bool network = rc == ERR_RETRY || rc == ERR_TIMEOUT || rc == ERR_IO || rc == ERR_PROTO;

	c->again = network;
	c->ambiguous |= network && rc != ERR_RETRY;
	if (network && s->endpoints.failed != NULL)
		s->endpoints.failed(s->endpoints.arg, url);
	if (rc == ERR_DENIED)
		err_hint(e, "the server's certificate is not trusted: check the S3 CA certificate and endpoint");
	return err_prefix(e, rc, "S3 %s", url);
}

/* --- one attempt --- */

struct wire { /* what is sent */
	struct buf url, authorization;
	char date[S3_DATE_LEN], payload[SHA256_HEX_LEN];
	char md5[4 * ((MD5_LEN + 2) / 3) + 1];
	struct s3_pair headers[S3_MAX_PAIRS];
	size_t n_headers;
	char *lines[S3_MAX_PAIRS + 4]; /* NULL-terminated, owned */
};

static void
wire_release(struct wire *w)
{
	for (size_t i = 0; w->lines[i] != NULL; i++)
		free(w->lines[i]);
	buf_release(&w->url);
	buf_release(&w->authorization);
}

static void
wire_payload(struct wire *w, const struct s3_call *c, bool https)
{
	uint8_t sum[SHA256_LEN];

	if (c->bulk && https) {
		snprintf(w->payload, sizeof(w->payload), "%s", S3_UNSIGNED_PAYLOAD);
		return;
	}
	if (c->sha256 == NULL || !hex_decode(c->sha256, SHA256_LEN, sum))
		sha256_of(c->body, c->body_len, sum);
	hex_encode(sum, sizeof(sum), w->payload);
}

/* The header that lets the server notice broken bytes where the signature does not. */
static void
wire_checksum(struct wire *w, const struct s3_store *s, const struct s3_call *c, bool https)
{
	uint8_t sum[MD5_LEN];

	if (!c->bulk || !https || s->no_md5)
		return;
	md5_of(c->body, c->body_len, sum);
	w->headers[w->n_headers++] = (struct s3_pair){"content-md5", base64_encode(sum, sizeof(sum), w->md5)};
}

static int
wire_make(struct wire *w, struct s3_store *s, const struct s3_call *c, const char *url, struct err *e)
{
	struct s3_place place;
	int64_t time_real_s = (clock_real_ms() + s3_skew_of(s, url)) / 1000;
	struct s3_to_sign r = {.method = c->method, .query = c->query, .n_query = c->n_query, .headers = w->headers,
	    .payload = w->payload, .time_real_s = time_real_s};
	size_t n = 0;
	int rc = s3_place_of(s, url, c->bucket, c->key, &place, e);

	*w = (struct wire){.url = buf_make(16384), .authorization = buf_make(4096)};
	if (rc != 0)
		return rc;
	wire_payload(w, c, place.https);
	memcpy(w->headers, c->headers, c->n_headers * sizeof(c->headers[0]));
	w->n_headers = c->n_headers;
	wire_checksum(w, s, c, place.https);
	w->headers[w->n_headers++] = (struct s3_pair){"x-amz-content-sha256", w->payload};
	if (s->creds.session_token != NULL && s->creds.session_token[0] != '\0')
		w->headers[w->n_headers++] = (struct s3_pair){"x-amz-security-token", s->creds.session_token};
	r.host = place.host;
	r.path = place.path;
	r.n_headers = w->n_headers;
	buf_adds(&w->url, place.base);
	if (s3_target(&r, &w->url) != 0 || s3_sign(&s->creds, &r, &w->authorization) != 0)
		return err_set(e, ERR_TOOBIG, "an S3 request of more than %zu bytes", w->url.max);
	for (; n < w->n_headers; n++)
		w->lines[n] = xasprintf("%s: %s", w->headers[n].name, w->headers[n].value);
	w->lines[n++] = xasprintf("x-amz-date: %s", s3_date(time_real_s, w->date));
	w->lines[n++] = xasprintf("Authorization: %s", buf_str(&w->authorization));
	return 0;
}

static void
call_reset(struct s3_call *c)
{
	buf_clear(&c->out);
	c->status = 0;
	c->error = (struct s3_error){.code = ""};
	c->info = (struct object_info){.size_bytes = -1};
	c->content_type[0] = c->token[0] = c->server[0] = '\0';
	c->range_start = -1;
	c->date_real_ms = 0;
	c->again = false;
	c->write_rc = 0;
}

/* A server that hangs must leave time for another try, or another server, within the budget. */
static int64_t
stall_ms(const struct s3_store *s, const struct s3_call *c)
{
	int64_t half = s->retry.budget_ms / 2;

	if (c->stall_ms > 0 || s->stall_ms > 0)
		return c->stall_ms > 0 ? c->stall_ms : s->stall_ms;
	return half < 1000 ? 1000 : half > 30000 ? 30000 : half;
}

int64_t
s3_stall_bytes(const struct s3_store *s, const struct s3_call *c)
{
	return c->bulk || c->write_fn != NULL ? s->min_speed_bytes * stall_ms(s, c) / 1000 : 0;
}

/* Our clock is off by more than the server bears: take its own, and try once more. HEAD has no body, hence no code. */
static bool
correct_skew(struct s3_store *s, const struct s3_call *c, struct s3_tries *t, const char *url)
{
	int64_t ahead_ms = c->date_real_ms - clock_real_ms(), off_ms = ahead_ms - s3_skew_of(s, url);
	bool said = strcmp(c->error.code, "RequestTimeTooSkewed") == 0;
	bool silent = c->error.code[0] == '\0' && (off_ms > SKEW_TOLERATED_MS || off_ms < -SKEW_TOLERATED_MS);

	if (c->status != 403 || c->date_real_ms == 0 || t->skew_corrected || (!said && !silent))
		return false;
	skew_set(s, url, ahead_ms);
	t->skew_corrected = true;
	return true;
}

int
s3_attempt(struct s3_store *s, struct s3_call *c, struct s3_tries *t, struct err *e)
{
	struct http_client *h;
	struct wire w;
	char url[S3_URL_MAX];
	bool corrected;
	int rc;

	do {
		struct http_call hc = {.method = c->method, .out = &c->out, .header_fn = see_header, .arg = c,
		    .write_fn = c->write_fn != NULL ? pass_body : NULL, .stall_ms = stall_ms(s, c),
		    .stall_bytes = s3_stall_bytes(s, c), .stop = c->stop,
		    .connect_timeout_ms = stall_ms(s, c) < 3000 ? stall_ms(s, c) : 3000};
		bool has_body = strcmp(c->method, "PUT") == 0 || strcmp(c->method, "POST") == 0;

		call_reset(c);
		corrected = false;
		if ((rc = s->endpoints.pick(s->endpoints.arg, url, sizeof(url), e)) != 0) {
			c->again = rc == ERR_RETRY;
			return rc;
		}
		if ((rc = wire_make(&w, s, c, url, e)) == 0) {
			hc.url = buf_str(&w.url);
			hc.headers = (const char *const *)w.lines;
			hc.body = has_body ? c->body : NULL;
			hc.body_len = has_body ? c->body_len : 0;
			h = client_take(s);
			rc = http_perform(h, &hc, e);
			client_give(s, h);
			c->status = hc.status;
			if (rc != 0 && c->write_rc == 0 && rc != ERR_CANCELED && rc != ERR_TOOBIG && rc != ERR_INVALID)
				rc = unreachable(s, c, url, rc, e);
		}
		wire_release(&w);
		if (rc == 0 && (c->status >= 300 || c->check_body)) {
			bool is_error = s3_xml_error(buf_str(&c->out), c->out.len, &c->error);

			corrected = correct_skew(s, c, t, url);
			if (c->status >= 300 || is_error)
				rc = refused(c, e);
		}
	} while (corrected);
	return rc;
}

/* --- trying again --- */

static int
sleep_ms(int64_t ms, const atomic_bool *stop)
{
	int64_t until_mono_ms = clock_mono_ms() + ms, left;

	while ((left = until_mono_ms - clock_mono_ms()) > 0) {
		if (stop != NULL && atomic_load(stop))
			return ERR_CANCELED;
		poll(NULL, 0, left < SLEEP_SLICE_MS ? (int)left : SLEEP_SLICE_MS);
	}
	return 0;
}

int
s3_tries_next(struct s3_store *s, struct s3_tries *t, const struct s3_call *c, int rc, struct err *e)
{
	int64_t now_mono_ms = clock_mono_ms(), delay_ms;
	uint64_t random;

	if (!c->again)
		return rc;
	if (t->failed++ == 0)
		t->since_mono_ms = now_mono_ms;
	random_bytes(&random, sizeof(random));
	delay_ms = retry_next(&s->retry, t->failed, (uint64_t)(now_mono_ms - t->since_mono_ms), random);
	if (delay_ms < 0) {
		if (e != NULL)
			e->code = ERR_RETRY;
		return err_prefix(e, ERR_RETRY, "gave up after %u tries", t->failed);
	}
	return sleep_ms(delay_ms, c->stop) == 0 ? 0 : err_set(e, ERR_CANCELED, "stopped while waiting for S3");
}

int
s3_perform(struct s3_store *s, struct s3_call *c, struct err *e)
{
	struct s3_tries t = {.failed = 0};
	int rc;

	assert(c->write_fn == NULL);
	while ((rc = s3_attempt(s, c, &t, e)) != 0) {
		rc = s3_tries_next(s, &t, c, rc, e);
		if (rc != 0)
			break;
	}
	return rc;
}
