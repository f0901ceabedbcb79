#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/workflow.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static json_t *
parse(const char *text)
{
	json_error_t je;
	json_t *v = json_loads(text, JSON_DECODE_ANY, &je);

	if (v == NULL)
		fail_msg("bad JSON in the test: %s: %s", text, je.text);
	return v;
}

static void
values_are_judged_by_each_keyword(void **state)
{
	static const struct {
		const char *schema; /* of property x */
		const char *good, *bad;
	} cases[] = {
		{"{\"type\":\"string\"}", "\"a\"", "1"},
		{"{\"type\":\"integer\"}", "1", "1.5"},
		{"{\"type\":\"number\"}", "1.5", "\"1\""},
		{"{\"type\":\"boolean\"}", "false", "0"},
		{"{\"type\":[\"string\",\"null\"]}", "null", "2"},
		{"{\"enum\":[\"a\",3]}", "3", "\"3\""},
		{"{\"const\":{\"a\":1}}", "{\"a\":1}", "{\"a\":2}"},
		{"{\"minimum\":3}", "3", "2"},
		{"{\"maximum\":3}", "3", "3.1"},
		{"{\"exclusiveMinimum\":3}", "3.5", "3"},
		{"{\"exclusiveMaximum\":3}", "2", "3"},
		{"{\"multipleOf\":0.1}", "0.3", "0.35"},
		{"{\"minLength\":2}", "\"éé\"", "\"é\""},
		{"{\"maxLength\":2}", "\"éé\"", "\"abc\""},
		{"{\"pattern\":\"^[a-z]+$\"}", "\"abc\"", "\"a1\""},
		{"{\"items\":{\"type\":\"string\"}}", "[\"a\"]", "[\"a\",1]"},
		{"{\"minItems\":1}", "[1]", "[]"},
		{"{\"maxItems\":1}", "[1]", "[1,2]"},
		{"{\"uniqueItems\":true}", "[1,2,\"1\"]", "[{\"a\":1,\"b\":2},{\"b\":2,\"a\":1}]"},
		{"{\"required\":[\"k\"]}", "{\"k\":0}", "{}"},
		{"{\"properties\":{\"k\":{\"type\":\"null\"}}}", "{\"k\":null}", "{\"k\":1}"},
		{"{\"additionalProperties\":false,\"properties\":{\"k\":{}}}", "{\"k\":1}", "{\"l\":1}"},
		{"{\"additionalProperties\":{\"type\":\"integer\"}}", "{\"l\":1}", "{\"l\":\"1\"}"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		json_t *prop = parse(cases[i].schema), *good = parse(cases[i].good), *bad = parse(cases[i].bad), *out = NULL;
		json_t *schema = json_pack("{s:s, s:{s:O}}", "type", "object", "properties", "x", prop);
		json_t *ok = json_pack("{s:O}", "x", good), *nok = json_pack("{s:O}", "x", bad);
		struct err e = {0};

		assert_int_equal(schema_check(schema, &e), 0);
		if (schema_apply(schema, ok, &out, &e) != 0)
			fail_msg("%s refused %s: %s", cases[i].schema, cases[i].good, e.msg);
		assert_true(json_equal(out, ok));
		json_decref(out);
		out = NULL;
		if (schema_apply(schema, nok, &out, &e) == 0)
			fail_msg("%s took %s", cases[i].schema, cases[i].bad);
		assert_non_null(strstr(e.msg, "x"));
		assert_null(out);
		json_decref(schema), json_decref(ok), json_decref(nok);
		json_decref(prop), json_decref(good), json_decref(bad);
	}
}

static void
defaults_fill_what_is_missing_only(void **state)
{
	json_t *schema = parse("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"default\":7},"
	    "\"o\":{\"type\":\"object\",\"properties\":{\"b\":{\"default\":[1]}},\"default\":{}}}}");
	json_t *in = parse("{\"a\":1}"), *out = NULL, *want = parse("{\"a\":1,\"o\":{\"b\":[1]}}");
	struct err e = {0};

	(void)state;
	assert_int_equal(schema_apply(schema, in, &out, &e), 0);
	assert_true(json_equal(out, want));
	json_decref(out), json_decref(want);
	assert_int_equal(schema_apply(schema, NULL, &out, &e), 0);
	assert_int_equal(json_integer_value(json_object_get(out, "a")), 7);
	json_decref(out), json_decref(in), json_decref(schema);
}

static void
an_unknown_name_lists_the_known_ones(void **state)
{
	json_t *schema = parse("{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"depth\":{}}}");
	json_t *in = parse("{\"dept\":1}"), *out = NULL;
	struct err e = {0};

	(void)state;
	assert_int_equal(schema_apply(schema, in, &out, &e), ERR_INVALID);
	assert_non_null(strstr(e.msg, "'dept'"));
	assert_string_equal(e.hint, "known: depth");
	json_decref(in), json_decref(schema);
}

static void
broken_schemas_are_refused(void **state)
{
	static const char *const bad[] = {
		"{\"type\":\"string\"}", "{}", "{\"type\":\"object\",\"oneOf\":[]}", "{\"type\":\"object\",\"properties\":[]}",
		"{\"type\":\"object\",\"properties\":{\"a\":1}}", "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"int\"}}}",
		"{\"type\":\"object\",\"properties\":{\"a\":{\"minimum\":\"1\"}}}",
		"{\"type\":\"object\",\"properties\":{\"a\":{\"multipleOf\":0}}}",
		"{\"type\":\"object\",\"properties\":{\"a\":{\"pattern\":\"(\"}}}",
		"{\"type\":\"object\",\"properties\":{\"a\":{\"minLength\":-1}}}",
		"{\"type\":\"object\",\"properties\":{\"a\":{\"enum\":[]}}}",
		"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"default\":\"x\"}}}",
		"{\"type\":\"object\",\"required\":[1]}", "{\"type\":\"object\",\"additionalProperties\":1}",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		json_t *schema = parse(bad[i]);
		struct err e = {0};

		if (schema_check(schema, &e) != ERR_INVALID)
			fail_msg("took %s", bad[i]);
		assert_true(e.msg[0] != '\0');
		json_decref(schema);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_judged_by_each_keyword), cmocka_unit_test(defaults_fill_what_is_missing_only),
		cmocka_unit_test(an_unknown_name_lists_the_known_ones), cmocka_unit_test(broken_schemas_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
