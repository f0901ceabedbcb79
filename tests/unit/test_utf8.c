#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/utf8.h"

static void
characters_are_decoded(void **state)
{
	static const struct {
		const char *text;
		int len;
		uint32_t code;
	} cases[] = {
		{"", 1, 0}, {"a", 1, 'a'}, {"\x7f", 1, 0x7f}, {"\xc2\x80", 2, 0x80}, {"\xdf\xbf", 2, 0x7ff}, {"\xe0\xa0\x80", 3, 0x800},
		{"\xed\x9f\xbf", 3, 0xd7ff}, {"\xee\x80\x80", 3, 0xe000}, {"\xef\xbf\xbf", 3, 0xffff}, {"\xf0\x90\x80\x80", 4, 0x10000},
		{"\xf4\x8f\xbf\xbf", 4, 0x10ffff},
		/* No character: continuation alone, overlong, surrogates, too large, cut. */
		{"\x80", 0, 7}, {"\xbf", 0, 7}, {"\xc0\x80", 0, 7}, {"\xc1\xbf", 0, 7}, {"\xe0\x9f\xbf", 0, 7}, {"\xf0\x8f\xbf\xbf", 0, 7},
		{"\xed\xa0\x80", 0, 7}, {"\xed\xbf\xbf", 0, 7}, {"\xf4\x90\x80\x80", 0, 7}, {"\xf5\x80\x80\x80", 0, 7}, {"\xff", 0, 7},
		{"\xc2", 0, 7}, {"\xe2\x82", 0, 7}, {"\xe2\x82z", 0, 7}, {"\xf0\x90\x80", 0, 7}, {"\xc2z", 0, 7},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t code = 7;

		assert_int_equal(utf8_decode(cases[i].text, UTF8_TO_NUL, &code), cases[i].len);
		assert_int_equal(code, cases[i].code);
		assert_int_equal(utf8_decode(cases[i].text, UTF8_TO_NUL, NULL), cases[i].len);
		assert_int_equal(utf8_valid(cases[i].text), cases[i].len > 0);
	}
	/* In a buffer what is cut may go on; bytes behind it are not looked at. */
	for (size_t len = 1; len < 4; len++)
		assert_int_equal(utf8_decode("\xf0\x90\x80\x80", len, NULL), UTF8_CUT);
	assert_int_equal(utf8_decode("\xf0zzz", 2, NULL), 0);
	assert_true(utf8_valid("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z"));
	assert_false(utf8_valid("a\xc3\xa9\xe2\x82"));
}

static void
characters_that_mislead_are_known(void **state)
{
	static const uint32_t yes[] = {0, 0x1b, 0x1f, 0x7f, 0x9b, 0xad, 0x61c, 0x180e, 0x200b, 0x200f, 0x2028, 0x202e, 0x2066,
		0xfeff, 0xfff9, 0xe0041};
	static const uint32_t no[] = {' ', 'a', '~', 0xa0, 0xe9, 0x200a, 0x2010, 0x20ac, 0x2027, 0xfefe, 0xffff, 0x1f600, 0x10ffff};

	(void)state;
	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		assert_true(utf8_misleads(yes[i]));
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		assert_false(utf8_misleads(no[i]));
}

static void
escapes_are_decoded(void **state)
{
	static const struct {
		const char *text;
		int byte;
	} cases[] = {{"%41", 'A'}, {"%fF!", 0xff}, {"%00", 0}, {"", -1}, {"%", -1}, {"%4", -1}, {"%4g", -1}, {"%g4", -1},
		{"%%4", -1}, {"41", -1}, {"% 1", -1}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(percent_byte(cases[i].text), cases[i].byte);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(characters_are_decoded), cmocka_unit_test(characters_that_mislead_are_known),
		cmocka_unit_test(escapes_are_decoded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
