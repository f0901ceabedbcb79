#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "storage/dir_name.h"
#include "storage/object_store.h"

static void
keys_are_checked(void **state)
{
	static const char *const good[] = {"a", "a/b", ".x", "..x", "x..", "a b", "\xc3\xa9", "\xf4\x8f\xbf\xbf", "a\x01", "\xef\xbb\xbf"};
	static const char *const bad[] = {"", "/", "/a", "a/", "a//b", ".", "..", "a/.", "./a", "a/../b", "\x80", "\xc3", "\xc0\x80",
	    "\xe0\x80\x80", "\xed\xbf\xbf", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "a\xff"};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(store_key_valid(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(store_key_valid(bad[i]));
}

static void
keys_become_paths(void **state)
{
	static const struct {
		const char *key, *path;
	} cases[] = {
		{"a", "a"}, {"a/b", "a@/b"}, {"runs/7/report.json", "runs@/7@/report.json"}, {".a/..b", "%2ea@/%2e.b"},
		{"a@b+=", "a%40b%2b%3d"}, {"\xc3\xa9", "%c3%a9"}, {"a\\b", "a%5cb"},
	};
	char path[DIR_NAME_PATH_MAX], key[1025], n80[81];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		dir_name_path(cases[i].key, path);
		assert_string_equal(path, cases[i].path);
	}
	memset(n80, 'n', 80);
	n80[80] = '\0';
	dir_name_path(n80, path);
	assert_int_equal(strlen(path), 83);
	assert_string_equal(path + 80, "+/=");
	/* The longest that a key can become: 512 segments, or 1,024 bytes that are all encoded. */
	for (size_t i = 0; i < 1023; i++)
		key[i] = i % 2 == 0 ? '@' : '/';
	key[1023] = '\0';
	dir_name_path(key, path);
	assert_int_equal(strlen(path), 512 * 3 + 511 * 2);
	memset(key, '@', 1024);
	key[1024] = '\0';
	dir_name_path(key, path);
	assert_int_equal(strlen(path), 1024 * 3 + 12 * 2);
}

static void
entries_become_pieces_of_keys(void **state)
{
	static const struct {
		const char *entry, *piece;
		bool dir;
	} good[] = {{"a", "a", false}, {"a@", "a/", true}, {"n+", "n", true}, {"=", "", false}, {"%40%2e", "@.", false}, {"@", "/", true}};
	static const char *const bad[] = {"", ".tmp", ".", "a=", "a b", "%4", "%", "%00", "%4G", "a@b", "a+b"};
	char piece[100];
	bool dir;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_true(dir_name_piece(good[i].entry, piece, sizeof(piece), &dir));
		assert_string_equal(piece, good[i].piece);
		assert_int_equal(dir, good[i].dir);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(dir_name_piece(bad[i], piece, sizeof(piece), &dir));
	assert_false(dir_name_piece("abcd", piece, 4, &dir));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_are_checked), cmocka_unit_test(keys_become_paths),
		cmocka_unit_test(entries_become_pieces_of_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
