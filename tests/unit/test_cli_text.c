/* What the command line shows of texts from elsewhere: safe, and as wide as the terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/table.h"
#include "cli/text.h"

static void
nothing_acts_on_the_terminal(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{"plain", "plain"},
		{"", ""},
		{"\033[2Jgone", "\\x1b[2Jgone"},
		{"a\rb", "a b"},
		{"two\n\tlines", "two lines"},
		{"\302\233" "31m", "\\u{9b}31m"}, /* CSI as one character */
		{"\177", "\\x7f"},
		{"caf\303\251 \342\202\254", "caf\303\251 \342\202\254"},
		{"a\342\200\256b", "a\\u{202e}b"}, /* right-to-left override */
		{"bad \377 byte", "bad \\xff byte"},
		{"over\300\257long", "over\\xc0\\xaflong"},
		{"cut \342\202", "cut \\xe2\\x82"},
		{"\360\237\230\200", "\360\237\230\200"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *safe = text_safe(rows[i].in);

		assert_string_equal(safe, rows[i].out);
		free(safe);
	}
	free(text_safe(NULL));
}

static void
a_character_may_come_in_two_pieces(void **state)
{
	struct buf b = buf_make(64);

	(void)state;
	assert_int_equal(text_add_safe(&b, "x\n\342\202", 4, true, false), 2);
	assert_int_equal(text_add_safe(&b, "\342\202\254", 3, true, false), 3);
	assert_string_equal(buf_str(&b), "x\n\342\202\254");
	buf_release(&b);
}

static void
texts_are_cut_at_either_end(void **state)
{
	static const struct {
		const char *in;
		int width;
		bool from_left;
		const char *out;
	} rows[] = {
		{"short", 10, false, "short"},
		{"exactly", 7, false, "exactly"},
		{"too long", 5, false, "too …"},
		{"src/deep/file.c", 8, true, "…/file.c"},
		{"\346\274\242\345\255\227\346\274\242", 4, false, "\346\274\242…"}, /* each is two columns wide */
		{"e\314\201e\314\201e\314\201", 2, false, "e\314\201…"},
		{"x", 0, false, ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf b = buf_make(256);
		int used = text_clip(&b, rows[i].in, rows[i].width, rows[i].from_left);

		assert_string_equal(buf_str(&b), rows[i].out);
		assert_int_equal(used, text_width(rows[i].out));
		assert_true(used <= rows[i].width);
		buf_release(&b);
	}
}

static const char *
red(const char *cell)
{
	return strcmp(cell, "bad") == 0 ? "31" : NULL;
}

static const struct column columns[] = {
	{"NAME", 0, red}, {"N", TABLE_RIGHT, NULL}, {"PATH", TABLE_SHRINK | TABLE_CLIP_LEFT, NULL}, {"TEXT", TABLE_SHRINK, NULL},
};

static struct table *
sample(void)
{
	struct table *t = table_new(columns, 4);

	table_add(t, (const char *const[]){"good", "1", "src/a.c", "a message that is long"});
	table_add(t, (const char *const[]){"bad", "200", "src/some/where/else/b.c", NULL});
	return t;
}

static void
a_wide_table_is_whole(void **state)
{
	struct table *t = sample();
	struct buf b = buf_make(4096);

	(void)state;
	table_render(t, 0, false, &b);
	assert_string_equal(buf_str(&b),
	    "NAME    N  PATH                     TEXT\n"
	    "good    1  src/a.c                  a message that is long\n"
	    "bad   200  src/some/where/else/b.c\n");
	buf_clear(&b);
	table_render(t, 0, true, &b);
	assert_non_null(strstr(buf_str(&b), "\033[31mbad\033[0m   200"));
	assert_non_null(strstr(buf_str(&b), "\ngood    1"));
	buf_release(&b);
	table_free(t);
}

static void
every_line_fits_the_width(void **state)
{
	struct table *t = sample();

	(void)state;
	for (int width = 24; width < 80; width++) {
		struct buf b = buf_make(4096);
		char *line, *next;

		table_render(t, width, false, &b);
		for (next = b.data; (line = strsep(&next, "\n")) != NULL;)
			assert_true(text_width(line) <= width);
		buf_release(&b);
	}
	table_free(t);
}

static void
paths_keep_their_end(void **state)
{
	struct table *t = sample();
	struct buf b = buf_make(4096);

	(void)state;
	table_render(t, 40, false, &b);
	assert_non_null(strstr(buf_str(&b), "/b.c"));
	assert_non_null(strstr(buf_str(&b), "a mess"));
	buf_release(&b);
	table_free(t);
}

static void
reasons_go_on_in_more_lines(void **state)
{
	static const struct column some[] = {{"ID", 0, NULL}, {"WHY", TABLE_SHRINK | TABLE_WRAP, NULL}};
	static const struct {
		int width;
		const char *text;
	} rows[] = {
		{0, "ID  WHY\na1  the disk of this machine is full\na2  ok\n"},
		{24, "ID  WHY\na1  the disk of this\n    machine is full\na2  ok\n"},
		{21, "ID  WHY\na1  the disk of this\n    machine is full\na2  ok\n"},
		{20, "ID  WHY\na1  the disk of this\n    machine is full\na2  ok\n"},
		{19, "ID  WHY\na1  the disk of th…\na2  ok\n"}, /* too narrow to be read in many lines */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct table *t = table_new(some, 2);
		struct buf b = buf_make(4096);

		table_add(t, (const char *const[]){"a1", "the disk of this machine is full"});
		table_add(t, (const char *const[]){"a2", "ok"});
		table_render(t, rows[i].width, false, &b);
		assert_string_equal(buf_str(&b), rows[i].text);
		buf_release(&b);
		table_free(t);
	}
}

static void
lines_are_broken_at_spaces_where_there_are_any(void **state)
{
	static const struct {
		const char *text;
		int width;
		size_t len;
		const char *rest;
	} rows[] = {{"", 5, 0, ""}, {"one", 5, 3, ""}, {"one two", 7, 7, ""}, {"one two", 6, 3, "two"}, {"one two", 3, 3, "two"},
		{"onetwo", 3, 3, "two"}, {" onetwo", 4, 4, "two"}, {"日本語", 5, 6, "語"},
		{"ab cdefgh", 5, 2, "cdefgh"}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t len = 99;

		assert_string_equal(text_take_line(rows[i].text, rows[i].width, &len), rows[i].rest);
		assert_int_equal(len, rows[i].len);
	}
}

static void
a_column_that_says_nothing_is_left_out(void **state)
{
	static const struct column some[] = {{"A", 0, NULL}, {"WHY", TABLE_OPTIONAL, NULL}, {"B", 0, NULL},
		{"NOTES", TABLE_SHRINK | TABLE_OPTIONAL, NULL}};
	struct table *t = table_new(some, 4);
	struct buf b = buf_make(4096);

	(void)state;
	table_add(t, (const char *const[]){"one", "", "two", NULL});
	table_render(t, 8, false, &b);
	assert_string_equal(buf_str(&b), "A    B\none  two\n");
	table_add(t, (const char *const[]){"x", "", "y", "z"});
	buf_clear(&b);
	table_render(t, 0, false, &b);
	assert_string_equal(buf_str(&b), "A    B    NOTES\none  two\nx    y    z\n");
	buf_release(&b);
	table_free(t);
}

static void
what_is_never_cut_is_whole_and_others_give_way(void **state)
{
	static const struct column some[] = {{"ID", TABLE_WHOLE, NULL}, {"STATE", 0, NULL}, {"ON", TABLE_DROP, NULL},
		{"TEXT", TABLE_SHRINK | TABLE_DROP, NULL}, {"END", TABLE_SHRINK, NULL}};
	static const struct {
		int width;
		const char *text;
	} rows[] = {
		{0, "ID           STATE   ON    TEXT           END\nsome-id-123  queued  node  one two three  four five six\n"},
		{46, "ID           STATE   ON    TEXT      END\nsome-id-123  queued  node  one two…  four fiv…\n"},
		{44, "ID           STATE   ON    END\nsome-id-123  queued  node  four five six\n"}, /* the last that may go is gone */
		{30, "ID           STATE   END\nsome-id-123  queued  four fiv…\n"},
		{19, "ID           ST…  END\nsome-id-123  qu…  fo…\n"}, /* it is never cut, also where the line gets too wide */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct table *t = table_new(some, 5);
		struct buf b = buf_make(4096);

		table_add(t, (const char *const[]){"some-id-123", "queued", "node", "one two three", "four five six"});
		table_render(t, rows[i].width, false, &b);
		assert_string_equal(buf_str(&b), rows[i].text);
		buf_release(&b);
		table_free(t);
	}
}

static void
names_come_out_of_uris(void **state)
{
	static const struct {
		const char *uri, *name;
	} rows[] = {{"src/a%20b.py", "src/a b.py"}, {"caf%C3%A9", "caf\303\251"}, {"100%", "100%"}, {"%4", "%4"}, {"%zz%2f", "%zz/"},
		{"a%00b", "a%00b"}, {"", ""}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *name = text_from_uri(rows[i].uri);

		assert_string_equal(name, rows[i].name);
		free(name);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_acts_on_the_terminal),
		cmocka_unit_test(reasons_go_on_in_more_lines), cmocka_unit_test(lines_are_broken_at_spaces_where_there_are_any),
		cmocka_unit_test(a_column_that_says_nothing_is_left_out),
		cmocka_unit_test(what_is_never_cut_is_whole_and_others_give_way), cmocka_unit_test(names_come_out_of_uris),
		cmocka_unit_test(a_character_may_come_in_two_pieces),
		cmocka_unit_test(texts_are_cut_at_either_end),
		cmocka_unit_test(a_wide_table_is_whole),
		cmocka_unit_test(every_line_fits_the_width),
		cmocka_unit_test(paths_keep_their_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
