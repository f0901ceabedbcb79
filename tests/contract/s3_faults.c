/* S3 against a server that misbehaves by script: what is tried again, what is not, what is noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "s3_peer.h"
#include "storage/object_store.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))
#define SLOW_DOWN "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Reduce</Message></Error>"
#define OK_PUT {.expect = "PUT /bucket/", .status = 200, .headers = "ETag: \"e\"\r\n"}

static struct peer peer;
static struct object_store *store;

static int
pick(void *arg, char *url, size_t url_len, struct err *e)
{
	(void)arg, (void)e;
	snprintf(url, url_len, "%s", peer.url);
	return 0;
}

static void
begin(const struct peer_step *steps, size_t n)
{
	struct store_s3_config c = {.endpoints = {pick, NULL, NULL}, .access_key = "key", .secret_key = "secret",
	    .retry_budget_ms = 3000, .min_speed_bytes = 1 /* each byte is progress */};

	peer_start(&peer, steps, n);
	store = store_s3_new(&c, NULL);
	assert_non_null(store);
}

/* Every step was taken, and none was asked for wrongly. */
static void
end(void)
{
	size_t at;

	store_free(store);
	peer_end(&peer);
	at = peer.at;
	assert_int_equal(peer.wrong, 0);
	assert_int_equal(at, peer.n);
}

static int
put_x(const struct put_options *o, struct err *e)
{
	return store_put_bytes(store, "bucket", "x", "hello", 5, o, NULL, e);
}

static void
what_may_pass_is_tried_again(void **state)
{
	static const struct peer_step steps[] = {
		{.status = 503, .body = SLOW_DOWN}, {.status = 429}, {.status = 0}, {.status = 500}, {.status = 400,
		    .body = "<Error><Code>RequestTimeout</Code></Error>"}, OK_PUT,
	};
	struct err e;

	(void)state;
	begin(steps, N(steps));
	assert_int_equal(put_x(NULL, &e), 0);
	end();
}

/* One refusal of each kind, by the server's word where it has one that its status alone does not tell. */
static void
each_refusal_has_its_meaning(void **state)
{
	static const struct {
		int status;
		const char *code;
		bool again;
		int rc; /* where it is not tried again */
	} cases[] = {
		{408, "", true, 0}, {429, "TooManyRequests", true, 0}, {499, "", true, 0}, {500, "", true, 0}, {502, "", true, 0},
		{503, "", true, 0}, {504, "", true, 0}, {520, "", true, 0}, {400, "SlowDown", true, 0}, {400, "SlowDownRead", true, 0},
		{400, "SlowDownWrite", true, 0}, {400, "InternalError", true, 0}, {400, "RequestTimeout", true, 0},
		{400, "ServerBusy", true, 0}, {400, "ServiceUnavailable", true, 0}, {400, "TooManyRequests", true, 0},
		{400, "Throttling", true, 0}, {400, "ThrottlingException", true, 0}, {400, "RequestLimitExceeded", true, 0},
		{400, "BandwidthLimitExceeded", true, 0}, {409, "OperationAborted", true, 0},
		{409, "ConditionalRequestConflict", true, 0}, {400, "BadDigest", true, 0},
		{400, "XAmzContentSHA256Mismatch", true, 0}, {400, "IncompleteBody", true, 0}, {400, "", false, ERR_INVALID},
		{400, "ExpiredToken", false, ERR_DENIED}, {400, "EntityTooLarge", false, ERR_TOOBIG}, {401, "", false, ERR_DENIED},
		{403, "", false, ERR_DENIED}, {404, "InvalidAccessKeyId", false, ERR_DENIED}, {409, "", false, ERR_CONFLICT},
		{412, "PreconditionFailed", false, ERR_CONFLICT}, {416, "InvalidRange", false, ERR_INVALID},
		{500, "XMinioStorageFull", false, ERR_RETRY}, {507, "", false, ERR_RETRY}, {418, "", false, ERR_PROTO},
	};

	(void)state;
	for (size_t i = 0; i < N(cases); i++) {
		char body[100];
		struct peer_step steps[] = {{.status = cases[i].status, .body = body}, OK_PUT};
		struct err e;

		body[0] = '\0';
		if (cases[i].code[0] != '\0')
			snprintf(body, sizeof(body), "<Error><Code>%s</Code></Error>", cases[i].code);
		begin(steps, cases[i].again ? 2 : 1);
		assert_int_equal(put_x(NULL, &e), cases[i].again ? 0 : cases[i].rc);
		end();
	}
}

static void
what_is_final_is_not_tried_again(void **state)
{
	static const struct {
		struct peer_step step;
		int rc;
	} cases[] = {
		{{.status = 403, .body = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"}, ERR_DENIED},
		{{.status = 404, .body = "<Error><Code>NoSuchBucket</Code></Error>"}, ERR_NOTFOUND},
		{{.status = 400, .body = "not xml <"}, ERR_INVALID},
		{{.status = 507, .body = "<Error><Code>XMinioStorageFull</Code></Error>"}, ERR_RETRY},
		{{.status = 413}, ERR_TOOBIG},
		{{.status = 301, .headers = "Location: http://127.0.0.1:1/\r\n"}, ERR_PROTO},
	};
	struct err e;

	(void)state;
	for (size_t i = 0; i < N(cases); i++) {
		begin(&cases[i].step, 1);
		assert_int_equal(put_x(NULL, &e), cases[i].rc);
		end();
	}
}

static void
the_servers_words_cannot_forge_ours(void **state)
{
	static const struct peer_step step = {.status = 403,
	    .body = "<Error><Code>AccessDenied</Code><Message>a&#10;b&#27;[1m</Message></Error>"};
	struct err e;

	(void)state;
	begin(&step, 1);
	assert_int_equal(put_x(NULL, &e), ERR_DENIED);
	assert_null(strpbrk(e.msg, "\n\x1b"));
	assert_non_null(strstr(e.msg, "AccessDenied: a"));
	end();
}

static void
tries_end_with_the_budget(void **state)
{
	static struct peer_step steps[1000];
	int64_t start_mono_ms = clock_mono_ms();
	struct err e;

	(void)state;
	for (size_t i = 0; i < N(steps); i++)
		steps[i] = (struct peer_step){.status = 503, .body = SLOW_DOWN};
	begin(steps, N(steps));
	assert_int_equal(put_x(NULL, &e), ERR_RETRY);
	assert_in_range(clock_mono_ms() - start_mono_ms, 0, 4500);
	assert_in_range(peer.at, 3, 60); /* tried, but not without pause */
	peer.n = peer.at;
	end();
}

struct sink {
	char data[100];
	size_t len;
};

static int
sink_write(void *arg, const void *data, size_t len)
{
	struct sink *s = arg;

	if (len > sizeof(s->data) - 1 - s->len)
		return ERR_TOOBIG;
	memcpy(s->data + s->len, data, len);
	s->len += len;
	return 0;
}

static void
a_read_that_breaks_goes_on_where_it_stopped(void **state)
{
	static const struct peer_step steps[] = {
		{.expect = "GET /bucket/x HTTP", .forbid = "range:", .status = 200, .headers = "ETag: \"v1\"\r\n", .body = "0123", .length = 10},
		{.expect = "range: bytes=4-", .status = 0},
		{.expect = "if-match: \"v1\"", .status = 206, .headers = "ETag: \"v1\"\r\nContent-Range: bytes 4-9/10\r\n", .body = "45",
		    .length = 6},
		/* A whole answer, but not to all that was asked. */
		{.expect = "range: bytes=6-", .status = 206, .headers = "ETag: \"v1\"\r\nContent-Range: bytes 6-7/10\r\n", .body = "67"},
		{.expect = "range: bytes=8-", .status = 206, .headers = "ETag: \"v1\"\r\nContent-Range: bytes 8-9/10\r\n", .body = "89"},
	};
	struct object_info info;
	struct sink s = {.len = 0};

	(void)state;
	begin(steps, N(steps));
	assert_int_equal(store_get(store, "bucket", "x", 0, -1, NULL, sink_write, &s, &info, NULL, NULL), 0);
	assert_string_equal(s.data, "0123456789");
	assert_int_equal(info.size_bytes, 10);
	end();
}

/* Breaks that would use up the budget many times over, each behind another byte: progress begins it anew. */
static void
who_moves_on_is_not_given_up(void **state)
{
	enum { BYTES = 24 };
	static struct peer_step steps[BYTES];
	static char headers[BYTES][100];
	struct sink s = {.len = 0};

	(void)state;
	for (int i = 0; i < BYTES; i++) {
		snprintf(headers[i], sizeof(headers[i]), "ETag: \"v1\"\r\nContent-Range: bytes %d-%d/%d\r\n", i, BYTES - 1, BYTES);
		steps[i] = (struct peer_step){.status = i == 0 ? 200 : 206, .headers = i == 0 ? "ETag: \"v1\"\r\n" : headers[i],
		    .body = "x", .length = BYTES - i};
	}
	begin(steps, N(steps));
	assert_int_equal(store_get(store, "bucket", "x", 0, -1, NULL, sink_write, &s, NULL, NULL, NULL), 0);
	assert_int_equal(s.len, BYTES);
	end();
}

static void
an_object_that_changes_under_way_is_noticed(void **state)
{
	static const struct peer_step steps[] = {
		{.status = 200, .headers = "ETag: \"v1\"\r\n", .body = "0123", .length = 10},
		{.expect = "if-match: \"v1\"", .status = 412, .body = "<Error><Code>PreconditionFailed</Code></Error>"},
	};
	struct sink s = {.len = 0};

	(void)state;
	begin(steps, N(steps));
	assert_int_equal(store_get(store, "bucket", "x", 0, -1, NULL, sink_write, &s, NULL, NULL, NULL), ERR_CONFLICT);
	end();
}

static void
a_server_that_ignores_ranges_is_noticed(void **state)
{
	static const struct peer_step all = {.expect = "range: bytes=2-", .status = 200, .body = "0123456789"};
	static const struct peer_step other = {.status = 206, .headers = "Content-Range: bytes 3-9/10\r\n", .body = "3456789"};
	struct sink s = {.len = 0};

	(void)state;
	begin(&all, 1);
	assert_int_equal(store_get(store, "bucket", "x", 2, -1, NULL, sink_write, &s, NULL, NULL, NULL), ERR_PROTO);
	end();
	begin(&other, 1);
	assert_int_equal(store_get(store, "bucket", "x", 2, -1, NULL, sink_write, &s, NULL, NULL, NULL), ERR_PROTO);
	end();
	assert_int_equal(s.len, 0);
}

static void
an_error_behind_a_200_is_an_error(void **state)
{
	static const struct peer_step steps[] = {
		{.expect = "HEAD /bucket/x", .status = 200, .headers = "ETag: \"v1\"\r\n", .length = 5},
		{.expect = "x-amz-copy-source: /bucket/x", .status = 200, .body = "  \n<Error><Code>InternalError</Code></Error>"},
		{.expect = "PUT /bucket/y", .status = 200, .body = "<CopyObjectResult><ETag>\"v1\"</ETag></CopyObjectResult>"},
	};

	(void)state;
	begin(steps, N(steps));
	assert_int_equal(store_copy(store, "bucket", "x", "y", NULL, 0, NULL), 0);
	end();
}

static void
a_clock_that_is_off_is_corrected(void **state)
{
	static char date[80], day[40];
	static struct peer_step steps[] = {
		{.status = 403, .headers = date, .body = "<Error><Code>RequestTimeTooSkewed</Code></Error>"},
		{.expect = day, .status = 200, .headers = "ETag: \"e\"\r\n"}, {.expect = day, .status = 200, .headers = "ETag: \"e\"\r\n"},
		{.status = 403, .headers = date, .body = "<Error><Code>RequestTimeTooSkewed</Code></Error>"},
		{.status = 403, .headers = date, .body = "<Error><Code>RequestTimeTooSkewed</Code></Error>"},
	};
	/* The answer to a HEAD has no body that could say so, and one about a right that is missing comes with the same clock as
	 * ours. */
	static struct peer_step silent[] = {
		{.expect = "HEAD ", .status = 403, .headers = date},
		{.expect = day, .status = 200, .headers = "ETag: \"e\"\r\n", .length = 5},
		{.expect = "HEAD ", .status = 403, .headers = date},
	};
	struct object_info info;
	time_t ahead = (time_t)(clock_real_ms() / 1000) + 3 * 24 * 3600;
	struct tm tm;
	struct err e;

	(void)state;
	gmtime_r(&ahead, &tm);
	strftime(date, sizeof(date), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
	strftime(day, sizeof(day), "x-amz-date: %Y%m%dT%H", &tm);
	begin(steps, N(steps));
	assert_int_equal(put_x(NULL, &e), 0);
	assert_int_equal(put_x(NULL, &e), 0); /* remembered */
	assert_int_equal(put_x(NULL, &e), ERR_DENIED); /* once per call */
	end();
	begin(silent, N(silent));
	assert_int_equal(store_head(store, "bucket", "x", &info, &e), 0);
	assert_int_equal(store_head(store, "bucket", "x", &info, &e), ERR_DENIED);
	end();
}

static void
a_lost_answer_is_asked_for(void **state)
{
	static const struct peer_step whole[] = {
		{.expect = "if-none-match: *", .status = 0},
		{.expect = "if-none-match: *", .status = 412},
		{.expect = "HEAD /bucket/x", .status = 200, .headers = "ETag: \"e\"\r\n", .echo_token = true, .length = 5},
	};
	static const struct peer_step parts[] = {
		{.expect = "POST /bucket/x?uploads=", .status = 200,
		    .body = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"},
		{.expect = "uploadId=u", .status = 200, .headers = "ETag: \"p\"\r\n"},
		{.expect = "uploadId=u", .status = 200, .headers = "ETag: \"p\"\r\n"},
		{.expect = "POST /bucket/x?uploadId=u", .status = 0},
		{.expect = "POST /bucket/x?uploadId=u", .status = 404, .body = "<Error><Code>NoSuchUpload</Code></Error>"},
		{.expect = "HEAD /bucket/x", .status = 200, .headers = "ETag: \"e\"\r\n", .echo_token = true, .length = 6000000},
	};
	const struct put_options o = {.if_absent = true}, big = {.part_bytes = 5u << 20, .parallel = 1};
	char *data = xcalloc(1, 6000000);

	(void)state;
	begin(whole, N(whole));
	assert_int_equal(put_x(&o, NULL), 0);
	end();
	begin(parts, N(parts));
	assert_int_equal(store_put_bytes(store, "bucket", "x", data, 6000000, &big, NULL, NULL), 0);
	end();
	free(data);
}

/* A stranger's object is a conflict. */
static void
a_lost_answer_is_not_taken_for_success(void **state)
{
	static const struct peer_step strangers[] = {
		{.expect = "if-none-match: *", .status = 0},
		{.expect = "if-none-match: *", .status = 412},
		{.expect = "HEAD /bucket/x", .status = 200, .headers = "x-amz-meta-drover-put: someone-else\r\n", .length = 5},
	};
	static const struct peer_step clear[] = {{.expect = "if-none-match: *", .status = 412}};
	const struct put_options o = {.if_absent = true};

	(void)state;
	begin(strangers, N(strangers));
	assert_int_equal(put_x(&o, NULL), ERR_CONFLICT);
	end();
	begin(clear, N(clear));
	assert_int_equal(put_x(&o, NULL), ERR_CONFLICT);
	end();
}

#define CREATED {.expect = "POST /bucket/x?uploads=", .status = 200, \
	.body = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"}
#define PART(n) {.expect = "partNumber=" n "&uploadId=u", .status = 200, .headers = "ETag: \"p" n "\"\r\n"}
#define COMPLETED {.expect = "POST /bucket/x?uploadId=u", .status = 200, \
	.body = "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>"}

/* Parts that fail are sent again, and no others; an end that carries an error is no end. */
static void
only_the_broken_part_is_sent_again(void **state)
{
	static const struct peer_step steps[] = {
		CREATED, PART("1"), {.expect = "partNumber=2&", .status = 503, .body = SLOW_DOWN}, {.expect = "partNumber=2&", .status = 0},
		{.expect = "partNumber=2&", .status = 400, .body = "<Error><Code>BadDigest</Code></Error>"}, PART("2"),
		{.expect = "POST /bucket/x?uploadId=u", .status = 200, .body = " \n<Error><Code>InternalError</Code></Error>"}, COMPLETED,
	};
	const struct put_options o = {.part_bytes = 5u << 20, .parallel = 1};
	char *data = xcalloc(1, 6000000);

	(void)state;
	begin(steps, N(steps));
	assert_int_equal(store_put_bytes(store, "bucket", "x", data, 6000000, &o, NULL, NULL), 0);
	end();
	free(data);
}

/* What cannot be finished is aborted, so that nobody pays for parts. */
static void
an_upload_that_fails_is_aborted(void **state)
{
	static const struct peer_step steps[] = {
		CREATED, PART("1"), {.expect = "partNumber=2&", .status = 403, .body = "<Error><Code>AccessDenied</Code></Error>"},
		{.expect = "DELETE /bucket/x?uploadId=u", .status = 204},
		{.expect = "DELETE /bucket/x?uploadId=u", .status = 404, .body = "<Error><Code>NoSuchUpload</Code></Error>"},
	};
	const struct put_options o = {.part_bytes = 5u << 20, .parallel = 1};
	char *data = xcalloc(1, 6000000);

	(void)state;
	begin(steps, N(steps));
	assert_int_equal(store_put_bytes(store, "bucket", "x", data, 6000000, &o, NULL, NULL), ERR_DENIED);
	end();
	free(data);
}

/* The server checks it against the bytes; a made-up one shows that nobody hashed them here. */
static void
a_digest_that_the_source_knows_is_signed(void **state)
{
#define MADE_UP "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	static const struct peer_step known[] = {{.expect = "x-amz-content-sha256: " MADE_UP, .status = 200, .headers = "ETag: \"e\"\r\n"}};
	static const struct peer_step unknown[] = {
	    {.expect = "x-amz-content-sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", .status = 200,
	    .headers = "ETag: \"e\"\r\n"}};
	const struct put_options made_up = {.sha256 = MADE_UP}, empty = {.sha256 = ""};

	(void)state;
	begin(known, N(known));
	assert_int_equal(put_x(&made_up, NULL), 0);
	end();
	begin(unknown, N(unknown));
	assert_int_equal(put_x(&empty, NULL), 0);
	end();
}

/* Onto itself means a new date; a server that keeps the old one is given a new object. */
static void
a_copy_onto_itself_gets_a_new_date(void **state)
{
#define OLD "ETag: \"v1\"\r\nLast-Modified: Sat, 21 Nov 2020 11:51:09 GMT\r\nx-amz-meta-color: red\r\n"
#define HEAD(h) {.expect = "HEAD /bucket/x", .status = 200, .headers = h, .length = 5}
#define COPIED {.expect = "x-amz-copy-source: /bucket/x", .status = 200, .body = "<CopyObjectResult><ETag>\"v1\"</ETag></CopyObjectResult>"}
	static const struct peer_step good[] = {HEAD(OLD), COPIED,
		HEAD("ETag: \"v1\"\r\nLast-Modified: Sun, 22 Nov 2020 11:51:09 GMT\r\n")};
	static const struct peer_step other[] = {
		HEAD(OLD), COPIED, HEAD(OLD),
		{.expect = "x-amz-meta-color: red", .status = 200,
		    .body = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"},
		{.expect = "x-amz-copy-source-range: bytes=0-4", .status = 200, .body = "<CopyPartResult><ETag>\"p\"</ETag></CopyPartResult>"},
		COMPLETED,
	};

	(void)state;
	begin(good, N(good));
	assert_int_equal(store_copy(store, "bucket", "x", "x", NULL, 0, NULL), 0);
	end();
	begin(other, N(other));
	assert_int_equal(store_copy(store, "bucket", "x", "x", NULL, 0, NULL), 0);
	end();
}

static void
servers_without_lifecycle_are_told_apart(void **state)
{
	static const struct peer_step none[] = {
		{.expect = "GET /bucket?lifecycle=", .status = 501, .body = "<Error><Code>NotImplemented</Code></Error>"}};
	static const struct peer_step forgets[] = {
		{.status = 404, .body = "<Error><Code>NoSuchLifecycleConfiguration</Code></Error>"},
		{.expect = "content-md5: ", .status = 200},
		{.status = 200, .body = "<LifecycleConfiguration></LifecycleConfiguration>"}};
	const struct lifecycle_rule rule = {"t", "", 7};

	(void)state;
	begin(none, N(none));
	assert_int_equal(store_lifecycle_merge(store, "bucket", &rule, 1, NULL), ERR_NOTFOUND);
	end();
	begin(forgets, N(forgets));
	assert_int_equal(store_lifecycle_merge(store, "bucket", &rule, 1, NULL), ERR_CONFLICT);
	end();
}

static int
count_each(void *arg, const char *key, const struct object_info *info)
{
	(void)key, (void)info;
	++*(int *)arg;
	return 0;
}

static void
lists_follow_tokens_but_not_in_circles(void **state)
{
#define PAGE "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><Contents><Key>a%2Bb</Key></Contents>" \
	"<NextContinuationToken>t+/=</NextContinuationToken></ListBucketResult>"
	static const struct peer_step steps[] = {
		{.expect = "list-type=2", .forbid = "continuation", .status = 200, .body = PAGE},
		{.expect = "continuation-token=t%2B%2F%3D&", .status = 200, .body = PAGE},
	};
	int n = 0;

	(void)state;
	begin(steps, N(steps));
	assert_int_equal(store_list(store, "bucket", "", count_each, &n, NULL), ERR_PROTO);
	assert_int_equal(n, 2);
	end();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_may_pass_is_tried_again), cmocka_unit_test(each_refusal_has_its_meaning),
		cmocka_unit_test(what_is_final_is_not_tried_again),
		cmocka_unit_test(the_servers_words_cannot_forge_ours), cmocka_unit_test(tries_end_with_the_budget),
		cmocka_unit_test(a_read_that_breaks_goes_on_where_it_stopped), cmocka_unit_test(who_moves_on_is_not_given_up),
		cmocka_unit_test(an_object_that_changes_under_way_is_noticed),
		cmocka_unit_test(a_server_that_ignores_ranges_is_noticed), cmocka_unit_test(an_error_behind_a_200_is_an_error),
		cmocka_unit_test(a_clock_that_is_off_is_corrected), cmocka_unit_test(a_lost_answer_is_not_taken_for_success),
		cmocka_unit_test(a_lost_answer_is_asked_for), cmocka_unit_test(only_the_broken_part_is_sent_again),
		cmocka_unit_test(an_upload_that_fails_is_aborted), cmocka_unit_test(a_digest_that_the_source_knows_is_signed),
		cmocka_unit_test(a_copy_onto_itself_gets_a_new_date),
		cmocka_unit_test(servers_without_lifecycle_are_told_apart), cmocka_unit_test(lists_follow_tokens_but_not_in_circles),
	};

	return cmocka_run_group_tests_name("S3 faults", tests, NULL, NULL);
}
