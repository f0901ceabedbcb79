#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/err.h"
#include "storage/s3_sign.h"

/* The examples of "Signature Calculations for the Authorization Header" and "Authenticating Requests: Using Query Parameters" in
 * the Amazon S3 API Reference: 24 May 2013, 00:00 UTC, bucket examplebucket. */
static const struct s3_credentials example = {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", NULL,
    "us-east-1"};
#define EXAMPLE_TIME 1369353600
#define EXAMPLE_HOST "examplebucket.s3.amazonaws.com"
#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define WELCOME_SHA256 "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"

static void
published_examples_come_out(void **state)
{
	static const struct s3_pair range[] = {{"range", "bytes=0-9"}, {"x-amz-content-sha256", EMPTY_SHA256}};
	static const struct s3_pair put[] = {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
	    {"x-amz-storage-class", "REDUCED_REDUNDANCY"}, {"x-amz-content-sha256", WELCOME_SHA256}};
	static const struct s3_pair plain[] = {{"x-amz-content-sha256", EMPTY_SHA256}};
	static const struct s3_pair lifecycle[] = {{"lifecycle", ""}};
	static const struct s3_pair list[] = {{"prefix", "J"}, {"max-keys", "2"}};
	static const struct {
		struct s3_to_sign r;
		const char *signature;
	} cases[] = {
		{{"GET", EXAMPLE_HOST, "/test.txt", NULL, 0, range, 2, EMPTY_SHA256, EXAMPLE_TIME},
		    "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
		{{"PUT", EXAMPLE_HOST, "/test$file.text", NULL, 0, put, 3, WELCOME_SHA256, EXAMPLE_TIME},
		    "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
		{{"GET", EXAMPLE_HOST, "/", lifecycle, 1, plain, 1, EMPTY_SHA256, EXAMPLE_TIME},
		    "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
		{{"GET", EXAMPLE_HOST, "/", list, 2, plain, 1, EMPTY_SHA256, EXAMPLE_TIME},
		    "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf b = buf_make(1000);

		assert_int_equal(s3_sign(&example, &cases[i].r, &b), 0);
		assert_string_equal(strstr(buf_str(&b), "Signature=") + 10, cases[i].signature);
		buf_release(&b);
	}
}

static void
the_header_names_what_was_signed(void **state)
{
	static const struct s3_pair headers[] = {{"x-amz-content-sha256", EMPTY_SHA256}, {"range", "bytes=0-9"}};
	const struct s3_to_sign r = {"GET", EXAMPLE_HOST, "/test.txt", NULL, 0, headers, 2, EMPTY_SHA256, EXAMPLE_TIME};
	struct buf b = buf_make(1000);

	(void)state;
	assert_int_equal(s3_sign(&example, &r, &b), 0);
	assert_ptr_equal(strstr(buf_str(&b), "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
	    "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature="), b.data);
	buf_release(&b);
}

static void
the_published_url_comes_out(void **state)
{
	const struct s3_to_sign r = {"GET", EXAMPLE_HOST, "/test.txt", NULL, 0, NULL, 0, S3_UNSIGNED_PAYLOAD, EXAMPLE_TIME};
	struct s3_credentials with_token = example;
	struct buf b = buf_make(4000), small = buf_make(100);

	(void)state;
	assert_int_equal(s3_presign(&example, &r, 86400, &b), 0);
	assert_string_equal(buf_str(&b), "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524"
	    "%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
	    "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
	buf_clear(&b);
	with_token.session_token = "a+b/c";
	assert_int_equal(s3_presign(&with_token, &r, 86400, &b), 0);
	assert_non_null(strstr(buf_str(&b), "&X-Amz-Security-Token=a%2Bb%2Fc&X-Amz-SignedHeaders=host&"));
	assert_int_equal(s3_presign(&example, &r, 86400, &small), ERR_TOOBIG);
	buf_release(&b);
	buf_release(&small);
}

static void
keys_are_encoded_once_and_queries_sorted(void **state)
{
	static const struct s3_pair query[] = {{"prefix", "a b/+"}, {"list-type", "2"}, {"a~", "1"}, {"a", "2"}, {"a", "10"}};
	static const struct {
		const char *path, *encoded;
	} cases[] = {
		{"/b/a+b %=*~", "/b/a%2Bb%20%25%3D%2A~"}, {"/b/\xc3\xa9", "/b/%C3%A9"}, {"/b/a%2Fb", "/b/a%252Fb"},
		{"/b/a//b/../c", "/b/a//b/../c"}, {"/b/'()!@,;:&$?#", "/b/%27%28%29%21%40%2C%3B%3A%26%24%3F%23"},
	};
	struct s3_to_sign r = {.method = "GET", .host = "h", .path = "/b", .query = query, .n_query = 5};
	struct buf b = buf_make(1000);

	(void)state;
	assert_int_equal(s3_target(&r, &b), 0);
	assert_string_equal(buf_str(&b), "/b?a=10&a=2&a~=1&list-type=2&prefix=a%20b%2F%2B");
	r.n_query = 0;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buf_clear(&b);
		r.path = cases[i].path;
		assert_int_equal(s3_target(&r, &b), 0);
		assert_string_equal(buf_str(&b), cases[i].encoded);
	}
	buf_release(&b);
}

static void
header_values_are_signed_without_spare_blanks(void **state)
{
	static const struct s3_pair headers[] = {{"x-amz-meta-b", "  two   words "}, {"x-amz-meta-a", ""}};
	const struct s3_to_sign r = {"PUT", "h:9000", "/b/k", NULL, 0, headers, 2, S3_UNSIGNED_PAYLOAD, EXAMPLE_TIME};
	struct buf b = buf_make(1000);

	(void)state;
	assert_int_equal(s3_canonical(&r, &b), 0);
	assert_string_equal(buf_str(&b), "PUT\n/b/k\n\nhost:h:9000\nx-amz-date:20130524T000000Z\nx-amz-meta-a:\nx-amz-meta-b:two words\n\n"
	    "host;x-amz-date;x-amz-meta-a;x-amz-meta-b\nUNSIGNED-PAYLOAD");
	buf_release(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(published_examples_come_out), cmocka_unit_test(the_header_names_what_was_signed),
		cmocka_unit_test(the_published_url_comes_out), cmocka_unit_test(keys_are_encoded_once_and_queries_sorted),
		cmocka_unit_test(header_values_are_signed_without_spare_blanks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
