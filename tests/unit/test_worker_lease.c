#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/lease.h"

#define SHA "8b35b36fd76667cc375c6af5ce07b130ceee1f323fe371b2f2effa81ca786743"

static const char whole[] = "{\"run\":\"scan-0123456789abcdef\",\"fence\":\"3-17\",\"attempt\":2,\"workflow\":\"scan\",\"workflow_version\":\"1\","
	"\"vertical\":\"python\",\"timeout_ms\":1000,\"bundle\":{\"sha256\":\"" SHA "\",\"key\":\"bundles/x.tar.zst\",\"size_bytes\":5},"
	"\"target\":{\"id\":\"8320a52d-24d9-85f4-9dc1-e223f9ce4fda\",\"key\":\"t/target\",\"sha256\":\"" SHA "\",\"size_bytes\":7,\"name\":\"app.tgz\",\"kind\":\"tree\"},"
	"\"params\":{\"a\":1},\"network\":\"egress\",\"isolation\":\"shared\",\"resources\":{\"cpu_millis\":500,\"memory_bytes\":1048576,\"disk_bytes\":1}}";

/* The whole lease with one member (a.b for one of a member) replaced by JSON text, or removed where that is NULL. */
static json_t *
with(const char *path, const char *value)
{
	json_t *o = json_loads(whole, 0, NULL), *at = o;
	const char *dot = path != NULL ? strchr(path, '.') : NULL;
	char parent[32];

	assert_non_null(o);
	if (path == NULL)
		return o;
	if (dot != NULL) {
		snprintf(parent, sizeof(parent), "%.*s", (int)(dot - path), path);
		at = json_object_get(o, parent);
		path = dot + 1;
	}
	if (value == NULL)
		json_object_del(at, path);
	else
		json_object_set_new(at, path, json_loads(value, JSON_DECODE_ANY, NULL));
	return o;
}

static void
whole_lease_is_understood(void **state)
{
	json_t *o = with(NULL, NULL);
	struct lease_terms t;
	struct err e = {0};

	(void)state;
	assert_int_equal(lease_parse(o, &t, &e), 0);
	assert_string_equal(t.run, "scan-0123456789abcdef");
	assert_string_equal(t.fence, "3-17");
	assert_string_equal(t.target.key, "t/target");
	assert_string_equal(t.target_name, "app.tgz");
	assert_int_equal(t.attempt, 2);
	assert_int_equal(t.bundle.size_bytes, 5);
	assert_int_equal(t.isolation, WORKSPACE_SHARED);
	assert_int_equal(t.memory_bytes, 1048576);
	assert_true(t.tree && t.egress);
	lease_release(&t);
	json_decref(o);
}

static void
what_cannot_be_used_is_named(void **state)
{
	static const struct {
		const char *path, *value, *word;
	} cases[] = {
		{"run", NULL, "run"}, {"run", "\"../x\"", "run"}, {"run", "7", "run"}, {"fence", "\"x\"", "fence"},
		{"attempt", "0", "attempt"}, {"attempt", "\"1\"", "attempt"}, {"workflow", "\"A/b\"", "workflow"},
		{"timeout_ms", "0", "timeout_ms"}, {"timeout_ms", "1e3", "timeout_ms"}, {"bundle", NULL, "bundle"},
		{"bundle.key", "\"../x\"", "bundle"}, {"bundle.key", "\"/x\"", "bundle"}, {"bundle.sha256", "\"abc\"", "bundle"},
		{"bundle.size_bytes", "-1", "bundle"}, {"target.id", "\"../../etc\"", "target"},
		{"target.kind", "\"folder\"", "target"}, {"target.sha256", NULL, "target"}, {"isolation", "\"none\"", "isolation"},
		{"isolation", NULL, "isolation"}, {"params", "[]", "params"}, {"params", NULL, "params"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *o = with(cases[i].path, cases[i].value);
		struct lease_terms t;
		struct err e = {0};

		assert_int_equal(lease_parse(o, &t, &e), ERR_INVALID);
		assert_non_null(strstr(e.msg, cases[i].word));
		lease_release(&t);
		json_decref(o);
	}
}

static void
unreadable_leases_can_still_be_reported(void **state)
{
	json_t *o = with("target", NULL);
	struct lease_terms t;

	(void)state;
	assert_true(lease_identify(o, &t));
	assert_string_equal(t.run, "scan-0123456789abcdef");
	json_decref(o);
	assert_false(lease_identify(NULL, &t));
}

static void
file_names_are_plain(void **state)
{
	static const struct {
		const char *json, *name;
	} cases[] = {
		{"\"a.apk\"", "a.apk"}, {"\"../../etc/passwd\"", "passwd"}, {"\"a/\"", "target"}, {"\"..\"", "target"}, {"\".\"", "target"},
		{"\"\"", "target"}, {"7", "target"}, {"\"a\\nb\\u007f\"", "a_b_"}, {NULL, "target"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *o = with("target.name", cases[i].json);
		struct lease_terms t;
		struct err e = {0};

		assert_int_equal(lease_parse(o, &t, &e), 0);
		assert_string_equal(t.target_name, cases[i].name);
		lease_release(&t);
		json_decref(o);
	}
}

static void
missing_resources_have_defaults(void **state)
{
	json_t *o = with("resources", "{\"memory_bytes\":-5}");
	struct lease_terms t;
	struct err e = {0};

	(void)state;
	assert_int_equal(lease_parse(o, &t, &e), 0);
	assert_true(t.memory_bytes > 0 && t.cpu_millis > 0 && t.disk_bytes > 0);
	lease_release(&t);
	json_decref(o);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_lease_is_understood),
		cmocka_unit_test(what_cannot_be_used_is_named),
		cmocka_unit_test(unreadable_leases_can_still_be_reported),
		cmocka_unit_test(file_names_are_plain),
		cmocka_unit_test(missing_resources_have_defaults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
