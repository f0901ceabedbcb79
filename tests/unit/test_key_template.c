/* Concurrency keys out of templates: what is refused when the workflow is read, and what a run's key is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"
#include "proto/key_template.h"

static void
unknown_names_are_refused(void **state)
{
	static const struct {
		const char *text;
		bool fine;
	} rows[] = {{"", true}, {"plain", true}, {"${target}", true}, {"a${workflow}b", true}, {"${params.env}-${params.n}", true},
		{"$$5", true}, {"${params.other}", false}, {"${params.}", false}, {"${params}", false}, {"${tenant}", false},
		{"${}", false}, {"${target", false}, {"$target", false}, {"cost$", false}};
	json_t *schema = json_pack("{s:{s:{}, s:{}}}", "properties", "env", "n");

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err e = {0};

		if ((key_template_check(rows[i].text, schema, &e) == 0) != rows[i].fine)
			fail_msg("%s: %s", rows[i].text, e.msg);
		assert_int_equal(e.code, rows[i].fine ? 0 : ERR_INVALID);
	}
	json_decref(schema);
}

static void
values_are_put_in(void **state)
{
	static const struct {
		const char *text, *key;
	} rows[] = {{"", ""}, {"deploy", "deploy"}, {"${workflow}:${target}", "w:t-1"}, {"${params.env}/${params.n}", "prod/3"},
		{"${params.list}${params.none}", "[1,2]"}, {"$$${params.env}$$", "$prod$"}, {"${target}${target}", "t-1t-1"}};
	json_t *params = json_pack("{s:s, s:i, s:[i, i]}", "env", "prod", "n", 3, "list", 1, 2);
	struct key_values v = {.target = "t-1", .workflow = "w", .params = params};
	char out[80];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		key_template_render(rows[i].text, &v, out, sizeof(out));
		assert_string_equal(out, rows[i].key);
	}
	json_decref(params);
}

static void
long_keys_become_digests(void **state)
{
	char text[201], out[80], hex[SHA256_HEX_LEN];
	uint8_t hash[SHA256_LEN];
	json_t *params = json_object();
	struct key_values v = {"t", "w", params};

	(void)state;
	memset(text, 'x', 200);
	text[200] = '\0';
	sha256_of(text, 200, hash);
	hex_encode(hash, sizeof(hash), hex);
	json_object_set_new(params, "long", json_string(text));
	key_template_render("${params.long}", &v, out, sizeof(out));
	assert_memory_equal(out, "sha256:", 7);
	assert_string_equal(out + 7, hex);
	text[79] = '\0'; /* the longest that fits */
	json_object_set_new(params, "long", json_string(text));
	key_template_render("${params.long}", &v, out, sizeof(out));
	assert_string_equal(out, text);
	json_decref(params);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unknown_names_are_refused),
		cmocka_unit_test(values_are_put_in),
		cmocka_unit_test(long_keys_become_digests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
