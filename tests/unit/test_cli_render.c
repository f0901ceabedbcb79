/* Ages, progress, verdicts, parameters, and findings out of SARIF. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/findings.h"
#include "cli/params.h"
#include "cli/render.h"
#include "cli/target.h"
#include "cli/text.h"

static void
the_verdict_goes_by_the_threshold(void **state)
{
	static const struct {
		const char *word;
		struct level_counts n;
		bool reached;
	} rows[] = {
		{"none", {9, 9, 9, 30}, false},
		{"error", {1, 0, 0, 1}, true},
		{"error", {0, 5, 5, 12}, false},
		{"warning", {0, 1, 0, 1}, true},
		{"warning", {1, 0, 0, 1}, true},
		{"warning", {0, 0, 7, 7}, false},
		{"note", {0, 0, 1, 1}, true},
		{"note", {0, 0, 0, 3}, false},
		{"info", {0, 0, 0, 3}, true},
		{"all", {0, 0, 0, 1}, true},
		{"all", {0, 0, 0, 0}, false},
	};
	struct err e = {0};
	enum fail_on f;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(fail_on_parse(rows[i].word, &f, NULL), 0);
		assert_int_equal(fail_on_reached(f, &rows[i].n), rows[i].reached);
	}
	assert_int_equal(fail_on_parse("errors", &f, &e), ERR_INVALID);
	assert_non_null(strstr(e.hint, "warning"));
}

static void
counts_read_as_words(void **state)
{
	static const struct {
		struct level_counts n;
		const char *text;
	} rows[] = {
		{{0, 0, 0, 0}, "no findings"},
		{{1, 0, 0, 1}, "1 error"},
		{{2, 1, 3, 7}, "2 errors, 1 warning, 3 notes, 1 other"},
	};
	char out[120];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(level_counts_text(&rows[i].n, out, sizeof(out)), rows[i].text);
}

static void
counts_that_are_missing_are_no_zero(void **state)
{
	struct level_counts n = {.total = 7};
	json_t *empty = json_object(), *whole = json_pack("{s:i, s:i, s:i, s:i}", "error", 1, "warning", 2, "note", 3, "total", 6);

	(void)state;
	assert_false(level_counts_read(NULL, &n));
	assert_false(level_counts_read(empty, &n));
	assert_int_equal(n.total, 7);
	assert_true(level_counts_read(whole, &n));
	assert_int_equal(n.warning, 2);
	json_decref(empty);
	json_decref(whole);
}

static void
ages_go_both_ways(void **state)
{
	static const struct {
		const char *time, *text;
	} rows[] = {
		{"", ""},
		{"nonsense", ""},
		{"1970-01-02T00:00:00.000Z", "now"},
		{"1970-01-01T23:59:18.000Z", "42s ago"},
		{"1970-01-01T20:30:00.000Z", "3h 30m ago"},
		{"1970-01-02T00:10:00.000Z", "in 10m"},
	};
	char out[64];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(render_age(rows[i].time, 86400000, out, sizeof(out)), rows[i].text);
}

static void
progress_tells_rate_and_rest(void **state)
{
	struct buf b = buf_make(512);

	(void)state;
	render_progress(&b, "uploading x", 50 << 20, 100 << 20, 5000, 200);
	assert_string_equal(buf_str(&b), "uploading x  [##########----------] 50%  50 MiB of 100 MiB  10 MiB/s  6s left");
	buf_clear(&b);
	render_progress(&b, "packing x", 1024, 0, 0, 200);
	assert_string_equal(buf_str(&b), "packing x  1 KiB");
	buf_clear(&b);
	render_progress(&b, "uploading x", 50 << 20, 100 << 20, 5000, 30);
	assert_int_equal(text_width(buf_str(&b)), 30);
	buf_release(&b);
}

static void
the_run_line_says_what_it_waits_for_or_does(void **state)
{
	static const struct {
		const char *run, *line;
	} rows[] = {
		{"{\"state\":\"queued\",\"attempt\":0,\"waiting\":{\"code\":\"no_worker\",\"text\":\"no worker\"}}", "queued: no worker"},
		{"{\"state\":\"running\",\"attempt\":2,\"progress\":{\"step\":\"semgrep\",\"percent\":40,\"message\":\"go\"}}",
		    "running (attempt 2): semgrep 40%, go"},
		{"{\"state\":\"running\",\"progress\":{\"step\":\"a\\u001b[2J\",\"percent\":null}}", "running: a\\x1b[2J"},
		{"{\"state\":\"completed\",\"progress\":null,\"waiting\":null}", "completed"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf b = buf_make(4096);
		json_t *run = json_loads(rows[i].run, 0, NULL);

		render_run_line(&b, run);
		assert_string_equal(buf_str(&b), rows[i].line);
		json_decref(run);
		buf_release(&b);
	}
}

#define SCHEMA \
	"{\"properties\":{\"text\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"},\"on\":{\"type\":\"boolean\"}," \
	"\"list\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},\"nums\":{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}}}"

static void
parameters_are_typed_by_the_schema(void **state)
{
	static const struct {
		const char *given[3], *params;
	} rows[] = {
		{{"text=5"}, "{\"text\":\"5\"}"},
		{{"text=a=b"}, "{\"text\":\"a=b\"}"},
		{{"text="}, "{\"text\":\"\"}"},
		{{"n=5", "on=true"}, "{\"n\":5,\"on\":true}"},
		{{"n=five"}, "{\"n\":\"five\"}"},
		{{"other=5"}, "{\"other\":\"5\"}"},
		{{"list=a", "list=b"}, "{\"list\":[\"a\",\"b\"]}"},
		{{"list=[\"a\",\"b\"]"}, "{\"list\":[\"a\",\"b\"]}"},
		{{"nums=1", "nums=2"}, "{\"nums\":[1,2]}"},
	};
	json_t *schema = json_loads(SCHEMA, 0, NULL);

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *params = json_object(), *expected = json_loads(rows[i].params, 0, NULL);

		for (size_t k = 0; k < 3 && rows[i].given[k] != NULL; k++)
			assert_int_equal(params_add(params, schema, rows[i].given[k], NULL), 0);
		assert_true(json_equal(params, expected));
		json_decref(params);
		json_decref(expected);
	}
	json_decref(schema);
}

static void
bad_parameters_are_refused(void **state)
{
	static const char *const rows[][2] = {{"n", NULL}, {"=5", NULL}, {"n=1", "n=2"}, {"list=[\"a\"]", "list=[\"b\"]"},
		{"text=\377", NULL}, {"list=\377", NULL}};
	json_t *schema = json_loads(SCHEMA, 0, NULL);

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *params = json_object();
		struct err e = {0};
		int rc = params_add(params, schema, rows[i][0], &e);

		if (rows[i][1] != NULL) {
			assert_int_equal(rc, 0);
			rc = params_add(params, schema, rows[i][1], &e);
		}
		assert_int_equal(rc, ERR_INVALID);
		json_decref(params);
	}
	json_decref(schema);
}

#define RUN(results) "{\"version\":\"2.1.0\",\"runs\":[{\"tool\":{\"driver\":{\"name\":\"t\",\"rules\":[{\"id\":\"R\"," \
	"\"defaultConfiguration\":{\"level\":\"note\"}}]}},\"invocations\":[{\"executionSuccessful\":false}],\"results\":" results "}]}"

static void
findings_come_by_severity(void **state)
{
	json_t *sarif = json_loads(RUN("[{\"ruleId\":\"R\"},{\"ruleId\":\"X\"},{\"level\":\"error\",\"ruleId\":\"E\",\"message\":"
	    "{\"text\":\"m\"},\"locations\":[{\"physicalLocation\":{\"artifactLocation\":{\"uri\":\"a.c\"},\"region\":{\"startLine\":7}}}]},"
	    "{\"level\":\"none\"},{\"level\":\"fatal\"}]"), 0, NULL);
	static const char *const levels[] = {"error", "error", "warning", "note", "none"};
	struct findings f = {0};

	(void)state;
	assert_int_equal(findings_read(sarif, &f, NULL), 0);
	assert_int_equal(f.n, 5);
	for (size_t i = 0; i < 5; i++)
		assert_string_equal(f.rows[i].level, levels[i]); /* a level nobody knows counts as the worst */
	assert_string_equal(f.rows[0].file, "a.c");
	assert_int_equal(f.rows[0].line, 7);
	assert_string_equal(f.rows[0].tool, "t");
	assert_int_equal(f.counts.error, 2);
	assert_int_equal(f.counts.total, 5);
	assert_int_equal(f.failed_runs, 1);
	findings_release(&f);
	json_decref(sarif);
}

static void
what_is_not_sarif_is_never_clean(void **state)
{
	static const char *const rows[] = {"{}", "[]", "{\"version\":\"2.1.0\"}", "{\"version\":\"2.0.0\",\"runs\":[]}", RUN("5"),
		RUN("[5]"), "{\"version\":\"2.1.0\",\"runs\":[7]}"};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *v = json_loads(rows[i], 0, NULL);
		struct findings f = {0};

		assert_non_null(v);
		assert_int_equal(findings_read(v, &f, NULL), ERR_INVALID);
		assert_null(f.rows);
		json_decref(v);
	}
}

static void
archives_are_told_by_their_names(void **state)
{
	(void)state;
	assert_true(target_name_is_archive("a.tar.gz"));
	assert_true(target_name_is_archive("A.ZIP"));
	assert_false(target_name_is_archive("app.apk"));
	assert_false(target_name_is_archive(".zip"));
	assert_false(target_name_is_archive("zip"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_verdict_goes_by_the_threshold),
		cmocka_unit_test(counts_read_as_words),
		cmocka_unit_test(counts_that_are_missing_are_no_zero),
		cmocka_unit_test(ages_go_both_ways),
		cmocka_unit_test(progress_tells_rate_and_rest),
		cmocka_unit_test(the_run_line_says_what_it_waits_for_or_does),
		cmocka_unit_test(parameters_are_typed_by_the_schema),
		cmocka_unit_test(bad_parameters_are_refused),
		cmocka_unit_test(findings_come_by_severity),
		cmocka_unit_test(what_is_not_sarif_is_never_clean),
		cmocka_unit_test(archives_are_told_by_their_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
