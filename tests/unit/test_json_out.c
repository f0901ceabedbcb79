/* JSON written as text: the same bytes that jansson writes, and members found in such a text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "proto/json_out.h"

static void
values_are_written_as_jansson_writes_them(void **state)
{
	static const char *const values[] = {"{}", "[]", "null", "true", "[false,null,true]", "0", "-9223372036854775808",
		"9223372036854775807", "[1.5,-0.0,1e300,123456789.125]", "\"\"", "[\"a\",{\"b\":[{},[]],\"c\":{\"d\":\"{\"}},\"[\",\"x\"]",
		"{\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\\u007f\":\"\\u0080\\u00fc\\u07ff\\u0800\\ud7ff\\ue000\\uffff\\ud800\\udc00\\udbff\\udfff\"}",
		"[\"plain\",\"\\n\",\"a\\nb\",\"\\na\",\"a\\n\"]"};

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		json_t *v = json_loads(values[i], JSON_DECODE_ANY, NULL);
		char *expected = json_dumps(v, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_ENCODE_ANY);
		struct buf b = buf_make(4096);

		assert_non_null(v);
		json_out_value(&b, NULL, v);
		assert_string_equal(buf_str(&b), expected);
		buf_release(&b);
		free(expected);
		json_decref(v);
	}
}

static void
a_nul_in_a_value_does_not_end_it(void **state)
{
	json_t *v = json_stringn("a\0b", 3);
	struct buf b = buf_make(64);

	(void)state;
	json_out_value(&b, NULL, v);
	assert_string_equal(buf_str(&b), "\"a\\u0000b\"");
	buf_release(&b);
	json_decref(v);
}

static void
members_have_commas_between_them_alone(void **state)
{
	struct buf b = buf_make(512);

	(void)state;
	json_out_open(&b, NULL, '{');
	json_out_open(&b, "first", '[');
	json_out_close(&b, ']');
	json_out_text(&b, "text", "ends in {");
	json_out_int(&b, "n", -7);
	json_out_bool(&b, "yes", true);
	json_out_open(&b, "list", '[');
	json_out_text(&b, NULL, "[");
	json_out_open(&b, NULL, '{');
	json_out_text(&b, "none", NULL);
	json_out_close(&b, '}');
	json_out_raw(&b, NULL, "{\"raw\":1}tail", 9);
	json_out_close(&b, ']');
	json_out_value(&b, "null", NULL);
	json_out_close(&b, '}');
	assert_string_equal(buf_str(&b), "{\"first\":[],\"text\":\"ends in {\",\"n\":-7,\"yes\":true,\"list\":[\"[\",{\"none\":null},{\"raw\":1}],"
	                                 "\"null\":null}");
	buf_release(&b);
}

/* What is no UTF-8 (cut, overlong, a surrogate, too large) must come out as text that every reader takes. */
static void
broken_characters_become_question_marks(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {{"a\xc3", "\"a?\""}, {"\x80z", "\"?z\""}, {"\xc0\xaf", "\"??\""}, {"\xe0\x80\xaf", "\"???\""},
		{"\xed\xa0\x80", "\"???\""}, {"\xf4\x90\x80\x80", "\"????\""}, {"\xf0\x9f\x98", "\"???\""},
		{"\xff\xc3\xbc", "\"?\\u00FC\""}, {"\xe2\x82\"", "\"??\\\"\""}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf b = buf_make(64);
		json_t *back;

		json_out_text(&b, NULL, cases[i].in);
		assert_string_equal(buf_str(&b), cases[i].out);
		assert_non_null(back = json_loads(buf_str(&b), JSON_DECODE_ANY, NULL));
		json_decref(back);
		buf_release(&b);
	}
}

static void
too_much_is_noticed(void **state)
{
	struct buf b = buf_make(8);

	(void)state;
	json_out_text(&b, NULL, "longer than that");
	assert_true(b.overflow);
	buf_release(&b);
}

static void
members_are_found_as_they_stand(void **state)
{
	static const char text[] = "{ \"a\" : \"}\\\"],\" , \"b\":{\"a\":[1,{\"c\":\"]\"}]},\"ab\":-1.5e3,\"c\":null ,\"d\":[\"\\\\\"],\"e\":true}";
	static const struct {
		const char *key, *value;
	} cases[] = {{"a", "\"}\\\"],\""}, {"b", "{\"a\":[1,{\"c\":\"]\"}]}"}, {"ab", "-1.5e3"}, {"c", "null"}, {"d", "[\"\\\\\"]"},
		{"e", "true"}};
	size_t len = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *value = json_member(text, cases[i].key, &len);

		assert_non_null(value);
		assert_int_equal(len, strlen(cases[i].value));
		assert_memory_equal(value, cases[i].value, len);
	}
	assert_null(json_member(text, "none", &len));
	assert_null(json_member(text, "", &len));
}

static void
several_members_are_found_in_one_walk(void **state)
{
	struct json_part parts[] = {{.key = "late"}, {.key = "none"}, {.key = "a"}, {.key = "la"}};

	(void)state;
	json_members("{\"a\":1,\"la\":{\"late\":0,\"none\":0},\"a\":2,\"late\":[3]}", parts, 4);
	assert_true(parts[0].len == 3 && memcmp(parts[0].value, "[3]", 3) == 0);
	assert_null(parts[1].value);
	assert_true(parts[2].len == 1 && parts[2].value[0] == '1'); /* the first of two */
	assert_int_equal(parts[3].len, strlen("{\"late\":0,\"none\":0}"));
}

static void
what_is_nested_too_deep_is_seen(void **state)
{
	char text[4 * JSON_DEPTH_MAX + 8] = "";

	(void)state;
	memset(text, '[', JSON_DEPTH_MAX);
	assert_true(json_is_shallow(text, JSON_DEPTH_MAX));
	text[JSON_DEPTH_MAX] = '{';
	assert_false(json_is_shallow(text, JSON_DEPTH_MAX + 1));
	/* Beside each other, or in a text, they are not deep. */
	for (size_t i = 0; i < 2 * JSON_DEPTH_MAX; i++)
		memcpy(text + 2 * i, i % 2 == 0 ? "[]" : "{}", 2);
	assert_true(json_is_shallow(text, 4 * JSON_DEPTH_MAX));
	memset(text, '[', sizeof(text));
	memcpy(text, "\"\\\"", 3);
	assert_true(json_is_shallow(text, sizeof(text)));
	text[2] = '"'; /* not escaped any more: the text ends here */
	text[1] = 'a';
	assert_false(json_is_shallow(text, sizeof(text)));
	assert_true(json_is_shallow("}}]]", 4));
	assert_true(json_is_shallow("", 0));
}

static void
what_is_no_whole_object_has_no_members(void **state)
{
	static const char *const texts[] = {"", "null", "[\"a\",1]", "\"a\"", "{", "{}", "{\"a\"", "{\"a\":", "{\"a\":\"",
		"{\"a\":[", "{\"a\":{\"b\":1", "{\"a\" 1}", "{\"b\":\"\\", "{\"a\":}", "{a:1}"};
	size_t len = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_null(json_member(texts[i], "a", &len));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_written_as_jansson_writes_them), cmocka_unit_test(a_nul_in_a_value_does_not_end_it),
		cmocka_unit_test(members_have_commas_between_them_alone), cmocka_unit_test(broken_characters_become_question_marks),
		cmocka_unit_test(too_much_is_noticed), cmocka_unit_test(members_are_found_as_they_stand),
		cmocka_unit_test(several_members_are_found_in_one_walk), cmocka_unit_test(what_is_no_whole_object_has_no_members),
		cmocka_unit_test(what_is_nested_too_deep_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
