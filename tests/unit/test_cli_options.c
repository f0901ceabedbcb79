/* The command line's grammar, on a table of commands of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/options.h"

static const struct option options[] = {
	{"wait", NULL, NULL, false, ""}, {"p", "param", "K=V", true, ""}, {"limit", NULL, "N", false, ""},
};
static const struct command commands[] = {
	{"run", "A B", 2, 2, "", options, 3, NULL},
	{"list", "", 0, 0, "", NULL, 0, NULL},
	{"thing", "", 0, 0, "", NULL, 0, NULL},
	{"thing show", "X", 1, -1, "", options, 3, NULL},
};

#define WORDS_MAX 12

static int
parse(const char *const *words, struct cli_settings *s, struct args *a, struct err *e)
{
	char *argv[WORDS_MAX + 2] = {(char *)(uintptr_t)"drover"};
	int argc = 1;

	memset(s, 0, sizeof(*s));
	memset(a, 0, sizeof(*a));
	for (; argc <= WORDS_MAX && words[argc - 1] != NULL; argc++)
		argv[argc] = (char *)(uintptr_t)words[argc - 1];
	return options_parse(commands, 4, argc, argv, s, a, e);
}

static void
options_stand_anywhere(void **state)
{
	static const char *const lines[][WORDS_MAX] = {
		{"run", "a", "b", "-wait", "-address", "http://x:1", "-p", "k=v", "-p", "l=w", "-json"},
		{"-address=http://x:1", "-json", "run", "-wait", "a", "--param=k=v", "b", "--p", "l=w"},
		{"run", "--json", "--address", "http://x:1", "--wait", "-p=k=v", "-param", "l=w", "--", "a", "b"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct cli_settings s;
		struct args a;
		struct err e = {0};

		assert_int_equal(parse(lines[i], &s, &a, &e), 0);
		assert_ptr_equal(a.command, &commands[0]);
		assert_string_equal(s.address, "http://x:1");
		assert_true(s.json);
		assert_int_equal(a.n_words, 2);
		assert_string_equal(a.words[0], "a");
		assert_string_equal(a.words[1], "b");
		assert_true(args_has(&a, "wait"));
		assert_string_equal(args_nth(&a, "p", 0), "k=v");
		assert_string_equal(args_nth(&a, "p", 1), "l=w");
		assert_null(args_nth(&a, "p", 2));
		assert_null(args_value(&a, "limit"));
		options_release(&s);
	}
}

static void
commands_have_one_word_or_two(void **state)
{
	static const struct {
		const char *words[WORDS_MAX];
		size_t command;
		int n_words;
	} rows[] = {
		{{"list"}, 1, 0},
		{{"thing"}, 2, 0},
		{{"thing", "show", "x", "y"}, 3, 2},
		{{"thing", "-json", "show", "x"}, 3, 1},
		{{"run", "show", "x"}, 0, 2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cli_settings s;
		struct args a;

		assert_int_equal(parse(rows[i].words, &s, &a, NULL), 0);
		assert_ptr_equal(a.command, &commands[rows[i].command]);
		assert_int_equal(a.n_words, rows[i].n_words);
		options_release(&s);
	}
}

static void
mistakes_are_told(void **state)
{
	static const struct {
		const char *words[WORDS_MAX], *says;
	} rows[] = {
		{{"frobnicate"}, "'frobnicate' is no command"},
		{{"thing", "break"}, "unexpected word 'break'"},
		{{"run", "a"}, "too few words"},
		{{"run", "a", "b", "c"}, "unexpected word 'c'"},
		{{"run", "a", "b", "-nope"}, "unknown option -nope"},
		{{"list", "-wait"}, "unknown option -wait"},
		{{"run", "a", "b", "-limit"}, "needs a value"},
		{{"run", "a", "b", "-limit", "1", "-limit", "2"}, "given twice"},
		{{"run", "a", "b", "-wait=yes"}, "takes no value"},
		{{"list", "-json=perhaps"}, "neither true nor false"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cli_settings s;
		struct args a;
		struct err e = {0};

		assert_int_equal(parse(rows[i].words, &s, &a, &e), ERR_INVALID);
		assert_non_null(strstr(e.msg, rows[i].says));
		options_release(&s);
	}
}

static void
no_command_asks_for_help(void **state)
{
	static const char *const words[] = {"-json", NULL};
	struct cli_settings s;
	struct args a;

	(void)state;
	assert_int_equal(parse(words, &s, &a, NULL), ERR_NOTFOUND);
	assert_null(a.command);
	options_release(&s);
}

static void
numbers_have_bounds(void **state)
{
	static const char *const fine[] = {"run", "a", "b", "-limit", "7", NULL}, *const much[] = {"run", "a", "b", "-limit", "70", NULL};
	struct cli_settings s;
	struct args a;
	struct err e = {0};
	int64_t n = 3;

	(void)state;
	assert_int_equal(parse(fine, &s, &a, NULL), 0);
	assert_int_equal(args_int(&a, "limit", 0, 10, &n, &e), 0);
	assert_int_equal(n, 7);
	options_release(&s);
	assert_int_equal(parse(much, &s, &a, NULL), 0);
	assert_int_equal(args_int(&a, "limit", 0, 10, &n, &e), ERR_INVALID);
	assert_int_equal(n, 7);
	options_release(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_stand_anywhere),
		cmocka_unit_test(commands_have_one_word_or_two),
		cmocka_unit_test(mistakes_are_told),
		cmocka_unit_test(no_command_asks_for_help),
		cmocka_unit_test(numbers_have_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
