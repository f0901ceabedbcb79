#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void
set_fills_and_clears_the_hint(void **state)
{
	struct err e = {.hint = "old"};

	(void)state;
	assert_int_equal(err_set(&e, ERR_RETRY, "try %d", 7), ERR_RETRY);
	assert_int_equal(e.code, ERR_RETRY);
	assert_string_equal(e.msg, "try 7");
	assert_string_equal(e.hint, "");
	assert_int_equal(err_hint(&e, "wait %ds", 3), ERR_RETRY);
	assert_string_equal(e.hint, "wait 3s");
	assert_string_equal(e.msg, "try 7");
}

static void
nobody_has_to_listen(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, ERR_IO, "x"), ERR_IO);
	assert_int_equal(err_prefix(NULL, ERR_IO, "x"), ERR_IO);
	assert_int_equal(err_hint(NULL, "x"), 0);
}

static void
the_old_message_may_be_an_argument(void **state)
{
	struct err e;

	(void)state;
	err_set(&e, ERR_IO, "inner");
	err_set(&e, ERR_IO, "outer of %s", e.msg);
	assert_string_equal(e.msg, "outer of inner");
	err_hint(&e, "h");
	assert_int_equal(err_prefix(&e, ERR_PROTO, "%s %d", "line", 3), ERR_PROTO);
	assert_string_equal(e.msg, "line 3: outer of inner");
	assert_int_equal(e.code, ERR_PROTO);
	assert_string_equal(e.hint, "h");
}

static void
messages_are_one_clean_line(void **state)
{
	struct err e;

	(void)state;
	err_set(&e, ERR_IO, "a\nb\tc\x1b[31m\x7f");
	assert_string_equal(e.msg, "a b c [31m ");
}

static void
a_cut_never_halves_a_character(void **state)
{
	static const char *const chars[] = {"x", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
	struct err e;

	(void)state;
	for (size_t c = 0; c < sizeof(chars) / sizeof(chars[0]); c++)
		for (size_t shift = 0; shift < 4; shift++) {
			size_t len = strlen(chars[c]);
			char text[1024] = "....";

			text[shift] = '\0';
			while (strlen(text) + len < sizeof(text))
				strcat(text, chars[c]);
			err_set(&e, ERR_IO, "%s", text);
			assert_int_equal((strlen(e.msg) - shift) % len, 0);
			assert_true(strlen(e.msg) > sizeof(e.msg) - 1 - len);
			err_prefix(&e, ERR_IO, "%s", text);
			assert_int_equal((strlen(e.msg) - shift) % len, 0);
		}
}

static void
every_code_has_its_word(void **state)
{
	static const struct {
		int code;
		const char *word;
	} cases[] = {{0, "ok"}, {ERR_INVALID, "invalid"}, {ERR_NOTFOUND, "not_found"}, {ERR_CONFLICT, "conflict"},
	    {ERR_RETRY, "retry"}, {ERR_DENIED, "denied"}, {ERR_IO, "io"}, {ERR_TOOBIG, "too_big"}, {ERR_TIMEOUT, "timeout"},
	    {ERR_PROTO, "protocol"}, {ERR_CANCELED, "canceled"}, {1, "internal"}, {-11, "internal"}, {INT32_MIN, "internal"}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(err_word(cases[i].code), cases[i].word);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_fills_and_clears_the_hint),
		cmocka_unit_test(nobody_has_to_listen),
		cmocka_unit_test(the_old_message_may_be_an_argument),
		cmocka_unit_test(messages_are_one_clean_line),
		cmocka_unit_test(a_cut_never_halves_a_character),
		cmocka_unit_test(every_code_has_its_word),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
