#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/glob.h"

static void
patterns_match_paths(void **state)
{
	static const struct {
		const char *pattern, *path;
		bool want;
	} cases[] = {
		{"a", "a", true}, {"a", "b", false}, {"a", "a/b", false}, {"a/b", "a", false}, {"", "", false},
		{"*", "abc", true}, {"*", "a/b", false}, {"*.c", "x.c", true}, {"*.c", "x.cc", false}, {"a*b*c", "aXbYbc", true},
		{"a*b*c", "aXbY", false}, {"?", "x", true}, {"?", "/", false}, {"??", "x", false},
		{"[a-c]x", "bx", true}, {"[a-c]x", "dx", false}, {"[!a-c]x", "dx", true}, {"[]]", "]", true}, {"[a", "[a", true},
		{"\\*", "*", true}, {"\\*", "a", false}, {"[\\]]", "]", true},
		{"**", "a", true}, {"**", "a/b/c", true}, {"**/x", "x", true}, {"**/x", "a/b/x", true}, {"**/x", "a/bx", false},
		{"a/**", "a/b", true}, {"a/**", "a/b/c", true}, {"a/**", "a", false}, {"a/**/z", "a/z", true},
		{"a/**/z", "a/b/c/z", true}, {"a/**/z", "a/b/c/zz", false}, {"**/a/**/b", "x/a/y/a/b", true},
		{"crashes/**", "crashes/id:1", true}, {"a/*/c", "a/b/c", true}, {"a/*/c", "a/b/b/c", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (glob_match(cases[i].pattern, cases[i].path) != cases[i].want)
			fail_msg("'%s' and '%s': not %d", cases[i].pattern, cases[i].path, cases[i].want);
	}
}

/* Nested stars are where careless matchers take for ever. */
static void
hostile_patterns_end_soon(void **state)
{
	char path[4001], pattern[201];

	(void)state;
	for (size_t i = 0; i < 4000; i++)
		path[i] = i % 2 ? '/' : 'a';
	path[4000] = '\0';
	for (size_t i = 0; i < 200; i += 2)
		pattern[i] = '*', pattern[i + 1] = 'a';
	pattern[200] = '\0';
	assert_false(glob_match(pattern, path));
	assert_false(glob_match("**/a/**/a/**/a/**/a/**/a/**/a/**/a/**/b", path));
}

static void
the_last_rule_that_matches_decides(void **state)
{
	static const char text[] = "# comment\n\n*.log\n!keep.log\nbuild/\n/top\ndocs/*.pdf\r\n**/gen/**\n";
	static const struct {
		const char *path;
		bool dir, want;
	} cases[] = {
		{"a.log", false, true}, {"x/y/a.log", false, true}, {"x/keep.log", false, false}, {"build", true, true},
		{"src/build", true, true}, {"build", false, false}, {"top", false, true}, {"x/top", false, false},
		{"docs/a.pdf", false, true}, {"x/docs/a.pdf", false, false}, {"a/gen/b", false, true}, {"main.c", false, false},
	};
	struct ignore *ig = NULL;

	(void)state;
	assert_int_equal(ignore_parse(text, &ig, NULL), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (ignore_match(ig, cases[i].path, cases[i].dir) != cases[i].want)
			fail_msg("'%s': not %d", cases[i].path, cases[i].want);
	}
	ignore_free(ig);
	assert_false(ignore_match(NULL, "a", false));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(patterns_match_paths), cmocka_unit_test(hostile_patterns_end_soon),
		cmocka_unit_test(the_last_rule_that_matches_decides),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
