#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"

static void
assert_hex(const uint8_t *bytes, size_t len, const char *hex)
{
	char text[2 * SHA256_LEN + 1];

	assert_string_equal(hex_encode(bytes, len, text), hex);
}

static void
known_digests(void **state)
{
	static const struct {
		const char *text, *sha256, *md5;
	} cases[] = { /* FIPS 180-2, RFC 1321 */
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "d41d8cd98f00b204e9800998ecf8427e"},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "900150983cd24fb0d6963f7d28e17f72"},
	};
	uint8_t out[SHA256_LEN];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		sha256_of(cases[i].text, strlen(cases[i].text), out);
		assert_hex(out, SHA256_LEN, cases[i].sha256);
		md5_of(cases[i].text, strlen(cases[i].text), out);
		assert_hex(out, MD5_LEN, cases[i].md5);
	}
}

static void
known_authentication_codes(void **state)
{
	uint8_t key[131], out[SHA256_LEN];

	(void)state; /* RFC 4231, cases 2 and 6; an empty key */
	hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, out);
	assert_hex(out, SHA256_LEN, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	memset(key, 0xaa, sizeof(key));
	hmac_sha256(key, sizeof(key), "Test Using Larger Than Block-Size Key - Hash Key First", 54, out);
	assert_hex(out, SHA256_LEN, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
	hmac_sha256(NULL, 0, "", 0, out);
	assert_hex(out, SHA256_LEN, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void
pieces_give_the_digest_of_the_whole(void **state)
{
	static uint8_t data[10000];
	uint8_t whole[SHA256_LEN], pieces[SHA256_LEN];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	sha256_of(data, sizeof(data), whole);
	for (size_t step = 1; step < 200; step += 13) {
		struct sha256 *s = sha256_new();

		for (size_t at = 0; at < sizeof(data); at += step)
			sha256_add(s, data + at, sizeof(data) - at < step ? sizeof(data) - at : step);
		sha256_end(s, pieces);
		assert_memory_equal(whole, pieces, SHA256_LEN);
	}
	sha256_free(sha256_new());
	sha256_free(NULL);
}

static void
hex_is_strict(void **state)
{
	static const char *const bad[] = {"", "0", "00f", "00fff", "00FF", "0 ff", "00fg", "00f/", "00f:", "00f`"};
	uint8_t out[2] = {1, 2};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(hex_decode(bad[i], 2, out));
	assert_int_equal(out[0], 1);
	assert_true(hex_decode("09af", 2, out));
	assert_int_equal(out[0], 0x09);
	assert_int_equal(out[1], 0xaf);
	assert_true(hex_decode("09af", 2, NULL));
	assert_true(hex_decode("", 0, out));
}

static void
base64_knows_its_rules(void **state)
{
	static const char *const pairs[][2] = { /* RFC 4648 */
		{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="},
		{"\xff\xfe\xfb", "//77"},
	};
	static const char *const bad[] = {"Z", "Zg", "Zg=", "Zh==", "Zm9=", "Z===", "====", "Zg==Zg==", "Zm9v\n", "Zm 9", "Zm-_", "=Zg="};
	char text[16];
	uint8_t bytes[16];

	(void)state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		size_t len = strlen(pairs[i][0]);

		assert_string_equal(base64_encode(pairs[i][0], len, text), pairs[i][1]);
		assert_int_equal(base64_decode(text, bytes), len);
		assert_memory_equal(bytes, pairs[i][0], len);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(base64_decode(bad[i], bytes), -1);
}

static void
any_bytes_survive_their_texts(void **state)
{
	uint8_t data[100], back[100];
	char text[201];

	(void)state;
	for (size_t len = 0; len <= sizeof(data); len++) {
		random_bytes(data, len);
		assert_int_equal(base64_decode(base64_encode(data, len, text), back), len);
		assert_memory_equal(data, back, len);
		assert_true(hex_decode(hex_encode(data, len, text), len, back));
		assert_memory_equal(data, back, len);
	}
}

static void
uuids_are_of_version_4_and_differ(void **state)
{
	char a[37], b[37];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		uuid_text(a);
		uuid_text(b);
		assert_int_equal(strlen(a), 36);
		assert_int_equal(strspn(a, "0123456789abcdef-"), 36);
		assert_true(a[8] == '-' && a[13] == '-' && a[18] == '-' && a[23] == '-' && a[14] == '4');
		assert_non_null(strchr("89ab", a[19]));
		assert_string_not_equal(a, b);
	}
}

static void
secrets_are_equal_only_if_all_bytes_are(void **state)
{
	(void)state;
	assert_true(secret_equal("abcd", "abcd", 4));
	assert_false(secret_equal("abcd", "abce", 4));
	assert_false(secret_equal("xbcd", "abcd", 4));
	assert_true(secret_equal("abcd", "abce", 3));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_digests),
		cmocka_unit_test(known_authentication_codes),
		cmocka_unit_test(pieces_give_the_digest_of_the_whole),
		cmocka_unit_test(hex_is_strict),
		cmocka_unit_test(base64_knows_its_rules),
		cmocka_unit_test(any_bytes_survive_their_texts),
		cmocka_unit_test(uuids_are_of_version_4_and_differ),
		cmocka_unit_test(secrets_are_equal_only_if_all_bytes_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
