#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "worker/sarif.h"

static const char *const prefixes[] = {"/drover/target", "/var/cache/d/objects/ab/tree", NULL};

static void
names_become_relative(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{"a/b.py", "a/b.py"}, {"./a/b.py", "a/b.py"}, {"a/./b//c.py", "a/b/c.py"}, {"a/../b.py", "b.py"},
		{"/drover/target/a/b.py", "a/b.py"}, {"file:///drover/target/a.py", "a.py"}, {"file://host/drover/target/a.py", "a.py"},
		{"FILE:/drover/target/a.py", "a.py"}, {"/var/cache/d/objects/ab/tree/x.c", "x.c"}, {"/drover/target", "."},
		/* Not below the target: no host path gets out. */
		{"/etc/passwd", "passwd"}, {"/drover/targets/x", "x"}, {"../../x.py", "x.py"}, {"a/../../x.py", "x.py"}, {"/", "unknown"},
		{"..", "unknown"}, {"/drover/target/../../etc/shadow", "shadow"},
		{"a\\b\\c.cs", "a/b/c.cs"}, {"a b.py", "a%20b.py"}, {"a%20b.py", "a%20b.py"}, {"100%.txt", "100%25.txt"}, {"a%2", "a%252"},
		{"a\x01\x7f.py", "a%01%7F.py"}, {"https://example.org/x y", "https://example.org/x y"}, {"pkg:npm/a@1", "pkg:npm/a@1"},
		{"C:/x.c", "C:/x.c"}, {"", "."},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *out = sarif_relative(cases[i].in, prefixes);

		assert_string_equal(out, cases[i].out);
		free(out);
	}
}

static void
texts_lose_where_the_target_lay(void **state)
{
	char *out = sarif_text("in /drover/target/a.py, /drover/targets and /var/cache/d/objects/ab/tree: /drover/target/", prefixes);

	(void)state;
	assert_string_equal(out, "in a.py, /drover/targets and /var/cache/d/objects/ab/tree: ");
	free(out);
	out = sarif_path("a%20b%2Fc%");
	assert_string_equal(out, "a b/c%");
	free(out);
}

/* Line `line` of any file is this text; lines over 9 are not there. */
static bool
line_of(void *arg, const char *path, int64_t line, char *out, size_t len)
{
	(void)path;
	if (line > 9)
		return false;
	snprintf(out, len, "%s%d", (const char *)arg, (int)(line % 2));
	return true;
}

static int
normalise(const char *text, char *lines, json_t **ret, struct sarif_counts *counts, struct err *e)
{
	struct sarif_context c = {.step = "scan", .prefixes = prefixes, .line_of = line_of, .arg = lines};

	*counts = (struct sarif_counts){.total = 0};
	*ret = NULL;
	return sarif_normalise(&c, text, strlen(text), ret, counts, e);
}

#define RUN(results, more) "{\"version\":\"2.1.0\",\"runs\":[{\"tool\":{\"driver\":{\"name\":\"t\",\"rules\":[{\"id\":\"R1\"," \
	"\"defaultConfiguration\":{\"level\":\"error\"},\"messageStrings\":{\"m\":{\"text\":\"from the rule\"}}}]}},\"results\":" results more "}]}"
#define AT(uri, line) "\"locations\":[{\"physicalLocation\":{\"artifactLocation\":{\"uri\":\"" uri "\"},\"region\":{\"startLine\":" line "}}}]"

static void
what_is_no_report_is_refused(void **state)
{
	static const struct {
		const char *text, *word;
	} cases[] = {
		{"", "not JSON"}, {"{", "not JSON"}, {"[]", "not SARIF"}, {"{\"runs\":[]}", "not SARIF"},
		{"{\"version\":\"2.0.0\",\"runs\":[{}]}", "not SARIF"}, {"{\"version\":\"2.1.0\"}", "no runs"},
		{"{\"version\":\"2.1.0\",\"runs\":[]}", "no runs"}, {"{\"version\":\"2.1.0\",\"runs\":{}}", "no runs"},
		{"{\"version\":\"2.1.0\",\"runs\":[{\"results\":[]}]}", "names no tool"},
		{"{\"version\":\"2.1.0\",\"runs\":[{\"tool\":{\"driver\":{\"name\":\"\"}},\"results\":[]}]}", "names no tool"},
		{"{\"version\":\"2.1.0\",\"runs\":[{\"tool\":{\"driver\":{\"name\":\"t\"}}}]}", "no list of results"},
		{"{\"version\":\"2.1.0\",\"runs\":[{\"tool\":{\"driver\":{\"name\":\"t\"}},\"results\":null}]}", "no list of results"},
		{"{\"version\":\"2.1.0\",\"runs\":[1]}", "names no tool"},
	};
	struct sarif_counts counts;
	json_t *r;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err e = {0};

		assert_int_equal(normalise(cases[i].text, "x", &r, &counts, &e), ERR_INVALID);
		assert_non_null(strstr(e.msg, cases[i].word));
		assert_null(r);
	}
}

static json_t *
result(const json_t *report, size_t i)
{
	return json_array_get(json_object_get(json_array_get(json_object_get(report, "runs"), 0), "results"), i);
}

static const char *
word(const json_t *o, const char *name)
{
	return json_string_value(json_object_get(o, name));
}

static void
levels_and_messages_are_made_explicit(void **state)
{
	static const char text[] = RUN("["
	    "{\"ruleId\":\"R1\",\"message\":{\"id\":\"m\"}},"
	    "{\"ruleIndex\":0,\"level\":\"note\",\"message\":{\"text\":\"see /drover/target/a.py\"}},"
	    "{\"ruleId\":\"other\"},"
	    "{\"kind\":\"pass\",\"message\":{\"text\":\"p\"}},"
	    "{\"rule\":{\"id\":\"R1\"},\"level\":\"loud\",\"message\":{\"markdown\":\"**m**\"}},"
	    "{\"ruleId\":\"R1\",\"level\":\"warning\",\"suppressions\":[{\"kind\":\"inSource\"}]},"
	    "{\"ruleId\":\"R1\",\"suppressions\":[{\"kind\":\"inSource\",\"status\":\"rejected\"}]},"
	    "17]", "");
	static const struct {
		const char *rule, *level, *message;
	} wants[] = {{"R1", "error", "from the rule"}, {"R1", "note", "see a.py"}, {"other", "warning", "other"}, {"unnamed", "none", "p"},
	    {"R1", "error", "**m**"}, {"R1", "warning", "R1"}, {"R1", "error", "R1"}};
	struct sarif_counts counts;
	struct err e = {0};
	json_t *r;

	(void)state;
	assert_int_equal(normalise(text, "x", &r, &counts, &e), 0);
	for (size_t i = 0; i < sizeof(wants) / sizeof(wants[0]); i++) {
		assert_string_equal(word(result(r, i), "ruleId"), wants[i].rule);
		assert_string_equal(word(result(r, i), "level"), wants[i].level);
		assert_string_equal(word(json_object_get(result(r, i), "message"), "text"), wants[i].message);
	}
	assert_null(result(r, 7));
	/* The one that was suppressed in the source is shown, but does not count. */
	assert_int_equal(counts.error, 3);
	assert_int_equal(counts.warning, 1);
	assert_int_equal(counts.note, 1);
	assert_int_equal(counts.total, 6);
	json_decref(r);
}

static const char *
print_of(const json_t *report, size_t i)
{
	return word(json_object_get(result(report, i), "partialFingerprints"), SARIF_FINGERPRINT);
}

static void
fingerprints_follow_the_line_not_its_number(void **state)
{
	/* Odd lines are alike, even ones too. */
	static const char first[] = RUN("[{\"ruleId\":\"R1\"," AT("a.py", "1") "},{\"ruleId\":\"R1\"," AT("a.py", "2") "},{\"ruleId\":\"R1\","
	    AT("a.py", "3") "},{\"ruleId\":\"R2\"," AT("a.py", "1") "},{\"ruleId\":\"R1\"," AT("b.py", "1") "}]", "");
	static const char moved[] = RUN("[{\"ruleId\":\"R1\"," AT("/drover/target/a.py", "5") "}]", "");
	struct sarif_counts counts;
	struct err e = {0};
	json_t *a, *b, *c;

	(void)state;
	assert_int_equal(normalise(first, "text", &a, &counts, &e), 0);
	assert_int_equal(normalise(moved, " te\txt ", &b, &counts, &e), 0);
	assert_int_equal(normalise(moved, "another", &c, &counts, &e), 0);
	assert_string_equal(print_of(a, 0), print_of(b, 0));
	assert_string_not_equal(print_of(a, 0), print_of(c, 0));
	for (size_t i = 0; i < 5; i++) {
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(print_of(a, i), print_of(a, k));
	}
	assert_memory_equal(print_of(a, 0), print_of(a, 2), 32); /* the same line, counted up */
	assert_string_equal(print_of(a, 2) + 32, ":1");
	json_decref(a);
	json_decref(b);
	json_decref(c);
}

static void
only_what_is_known_gets_through(void **state)
{
	static const char text[] = RUN("[{\"ruleId\":\"R1\",\"fixes\":[{}],\"codeFlows\":[{}],\"hostedViewerUri\":\"x\",\"partialFingerprints\":{\"p\":\"1\",\"n\":2},"
	    "\"locations\":[{\"physicalLocation\":{\"artifactLocation\":{\"index\":0}}},{\"physicalLocation\":{\"artifactLocation\":{\"index\":9}}},"
	    "{\"physicalLocation\":{\"artifactLocation\":{\"uri\":\"x.c\",\"uriBaseId\":\"SRC\"},\"region\":{\"startLine\":0}}}]}]",
	    ",\"artifacts\":[{\"location\":{\"uri\":\"/drover/target/by-index.c\"}}],\"originalUriBaseIds\":{\"SRC\":{\"uri\":\"file:///drover/target/src/\"}},"
	    "\"invocations\":[{\"executionSuccessful\":true,\"commandLine\":\"/root/secret\",\"toolExecutionNotifications\":[{\"message\":{\"text\":\"skipped /drover/target/y\"}}]}]");
	struct sarif_counts counts;
	struct err e = {0};
	json_t *r, *locations;
	char *all;

	(void)state;
	assert_int_equal(normalise(text, "x", &r, &counts, &e), 0);
	all = json_dumps(r, JSON_COMPACT);
	assert_null(strstr(all, "fixes"));
	assert_null(strstr(all, "codeFlows"));
	assert_null(strstr(all, "/root"));
	assert_null(strstr(all, "/drover"));
	assert_non_null(strstr(all, "skipped y"));
	free(all);
	locations = json_object_get(result(r, 0), "locations");
	assert_int_equal(json_array_size(locations), 2);
#define URI(i) word(json_object_get(json_object_get(json_array_get(locations, i), "physicalLocation"), "artifactLocation"), "uri")
	assert_string_equal(URI(0), "by-index.c");
	assert_string_equal(URI(1), "src/x.c");
	assert_null(json_object_get(json_object_get(json_array_get(locations, 1), "physicalLocation"), "region"));
	assert_int_equal(json_object_size(json_object_get(result(r, 0), "partialFingerprints")), 3); /* p, ours, GitHub's */
	assert_false(sarif_says_failed(r));
	json_decref(r);
}

static void
too_many_results_lose_the_mildest(void **state)
{
	struct sarif_context c = {.step = "s", .prefixes = prefixes};
	struct sarif_counts counts = {.total = 0};
	struct err e = {0};
	json_t *results = json_array(), *in, *r;
	char *text;

	(void)state;
	for (int i = 0; i < SARIF_RESULTS_MAX + 10; i++)
		json_array_append_new(results, json_pack("{s:s, s:s}", "ruleId", "R", "level", i < 20 ? "note" : "error"));
	in = json_pack("{s:s, s:[{s:{s:{s:s}}, s:o}]}", "version", "2.1.0", "runs", "tool", "driver", "name", "t", "results", results);
	text = json_dumps(in, JSON_COMPACT);
	assert_int_equal(sarif_normalise(&c, text, strlen(text), &r, &counts, &e), 0);
	assert_int_equal(counts.error, SARIF_RESULTS_MAX - 10);
	assert_int_equal(counts.note, 20);
	assert_string_equal(word(result(r, SARIF_RESULTS_MAX - 11), "level"), "error");
	assert_string_equal(word(result(r, SARIF_RESULTS_MAX - 1), "level"), "note");
	assert_null(result(r, SARIF_RESULTS_MAX));
	free(text);
	text = json_dumps(json_object_get(json_array_get(json_object_get(r, "runs"), 0), "invocations"), 0);
	assert_non_null(strstr(text, "10 results"));
	free(text);
	json_decref(in);
	json_decref(r);
}

static void
failure_is_said_in_the_file(void **state)
{
	json_t *file = sarif_new(), *failed = sarif_failed_run("scan", "exit code 3"), *good, *said;
	struct sarif_counts counts;
	struct err e = {0};

	(void)state;
	assert_true(sarif_says_failed(failed));
	assert_int_equal(normalise(RUN("[]", ""), "x", &good, &counts, &e), 0);
	assert_false(sarif_says_failed(good));
	sarif_mark_failed(good, "killed");
	assert_true(sarif_says_failed(good));
	assert_int_equal(normalise(RUN("[]", ",\"invocations\":[{\"executionSuccessful\":true},{\"executionSuccessful\":false}]"),
	    "x", &said, &counts, &e), 0);
	assert_true(sarif_says_failed(said));
	for (int i = 0; i < SARIF_RUNS_MAX - 1; i++)
		assert_int_equal(sarif_add(file, good), 0);
	assert_int_equal(sarif_add(file, failed), 0);
	assert_int_equal(sarif_add(file, said), 1);
	assert_int_equal(json_array_size(json_object_get(file, "runs")), SARIF_RUNS_MAX);
	json_decref(said);
	json_decref(good);
	json_decref(failed);
	json_decref(file);
}

/* A report of runs of `n` results, each `result`, after `before` (members of the run, with their comma). Freed by the caller. */
static char *
report_of(const char *before, const char *result, size_t n, size_t runs)
{
	struct buf b = buf_make(SARIF_BYTES_MAX);

	(void)buf_adds(&b, "{\"version\":\"2.1.0\",\"runs\":[");
	for (size_t r = 0; r < runs; r++) {
		(void)buf_addf(&b, "%s{%s\"results\":[", r > 0 ? "," : "", before);
		for (size_t i = 0; i < n; i++)
			(void)buf_addf(&b, "%s%s", i > 0 ? "," : "", result);
		(void)buf_adds(&b, "]}");
	}
	(void)buf_adds(&b, "]}");
	assert_false(b.overflow);
	return buf_take(&b);
}

/* Short references to long texts, and millions of tiny values, must not become gigabytes. */
static void
bombs_stay_small(void **state)
{
	static const struct {
		const char *before, *result; /* %s: a text of a megabyte */
		size_t n;
		int rc;
	} cases[] = {
		{"\"tool\":{\"driver\":{\"name\":\"t\",\"rules\":[{\"id\":\"r\",\"shortDescription\":{\"text\":\"%s\"}}]}},", "{\"ruleId\":\"r\"}", 24000, 0},
		{"\"tool\":{\"driver\":{\"name\":\"t\",\"rules\":[{\"id\":\"%s\"}]}},", "{\"ruleIndex\":0}", 24000, 0},
		{"\"tool\":{\"driver\":{\"name\":\"t\"}},\"originalUriBaseIds\":{\"B\":{\"uri\":\"x:%s\"}},",
		    "{\"locations\":[{\"physicalLocation\":{\"artifactLocation\":{\"uri\":\"a\",\"uriBaseId\":\"B\"}}}]}", 24000, 0},
		{"\"tool\":{\"driver\":{\"name\":\"t\"}},\"artifacts\":[{\"location\":{\"uri\":\"x:%s\"}}],",
		    "{\"locations\":[{\"physicalLocation\":{\"artifactLocation\":{\"index\":0}}}]}", 24000, 0},
		{"\"tool\":{\"driver\":{\"name\":\"t%s\"}},", "{}", 2000000, ERR_TOOBIG},
		{"\"tool\":{\"driver\":{\"name\":\"t%s\"}},", "1", 7000000, ERR_TOOBIG},
		{"\"tool\":{\"driver\":{\"name\":\"t%s\"}},", "{}", 200000, 0},
	};
	static const char *const none[] = {NULL};
	struct sarif_context c = {.step = "s", .prefixes = none};
	char *megabyte = malloc(1000001), *before = malloc(1100000);

	(void)state;
	assert_non_null(megabyte);
	assert_non_null(before);
	memset(megabyte, 'a', 1000000);
	megabyte[1000000] = '\0';
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sarif_counts counts = {0};
		struct err e = {0};
		json_t *out = NULL;
		char *text, *all;
		const char *hole = strstr(cases[i].before, "%s");

		(void)snprintf(before, 1100000, "%.*s%s%s", (int)(hole - cases[i].before), cases[i].before, megabyte, hole + 2);
		text = report_of(before, cases[i].result, cases[i].n, 1);
		assert_int_equal(sarif_normalise(&c, text, strlen(text), &out, &counts, &e), cases[i].rc);
		if (cases[i].rc == 0) {
			assert_int_equal(counts.total, cases[i].n);
			all = json_dumps(out, JSON_COMPACT);
			assert_non_null(all);
			assert_in_range(strlen(all), 1, 2 * SARIF_BYTES_MAX);
			free(all);
		}
		json_decref(out);
		free(text);
	}
	free(before);
	free(megabyte);
}

/* Nor may several runs, nor references to names of an honest length: what is written is bounded for the report as a whole. */
static void
all_runs_share_one_bound(void **state)
{
	static const char *const befores[] = {
		"\"tool\":{\"driver\":{\"name\":\"t\",\"rules\":[{\"id\":\"%s\"}]}},",
		"\"tool\":{\"driver\":{\"name\":\"t\",\"rules\":[{\"id\":\"r\",\"shortDescription\":{\"text\":\"%s\"}}]}},",
	};
	static const char *const none[] = {NULL};
	struct sarif_context c = {.step = "s", .prefixes = none};
	char name[4097], before[4300];

	(void)state;
	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	for (size_t i = 0; i < sizeof(befores) / sizeof(befores[0]); i++) {
		struct sarif_counts counts = {0};
		struct err e = {0};
		json_t *out = NULL;
		const char *hole = strstr(befores[i], "%s");
		char *text;

		(void)snprintf(before, sizeof(before), "%.*s%s%s", (int)(hole - befores[i]), befores[i], name, hole + 2);
		text = report_of(before, "{\"ruleIndex\":0}", 12000, 4);
		assert_int_equal(sarif_normalise(&c, text, strlen(text), &out, &counts, &e), 0);
		assert_int_equal(counts.total, 4 * 12000);
		/* Beside the texts each result takes some 230 bytes. */
		assert_in_range(json_dumpb(out, NULL, 0, JSON_COMPACT), 1, SARIF_BYTES_MAX + 4 * 12000 * 512);
		json_decref(out);
		free(text);
	}
}

/* Reading is one thing: what is written again goes down the stack of a run's thread. */
static void
what_is_nested_too_deep_is_refused(void **state)
{
	static const int depths[] = {50, 900};
	char nest[1000], before[2200];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct sarif_counts counts;
		struct err e = {0};
		char *text;
		json_t *out;

		memset(nest, '[', (size_t)depths[i]);
		(void)snprintf(before, sizeof(before), "\"tool\":{\"driver\":{\"name\":\"t\",\"rules\":[{\"id\":\"r\",\"properties\":{\"x\":%.*s", depths[i], nest);
		memset(nest, ']', (size_t)depths[i]);
		(void)snprintf(before + strlen(before), sizeof(before) - strlen(before), "%.*s}}]}},", depths[i], nest);
		text = report_of(before, "{}", 1, 1);
		assert_int_equal(normalise(text, "x", &out, &counts, &e), i == 0 ? 0 : ERR_TOOBIG);
		json_decref(out);
		free(text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_nested_too_deep_is_refused), cmocka_unit_test(bombs_stay_small), cmocka_unit_test(all_runs_share_one_bound),
		cmocka_unit_test(names_become_relative),
		cmocka_unit_test(texts_lose_where_the_target_lay),
		cmocka_unit_test(what_is_no_report_is_refused),
		cmocka_unit_test(levels_and_messages_are_made_explicit),
		cmocka_unit_test(fingerprints_follow_the_line_not_its_number),
		cmocka_unit_test(only_what_is_known_gets_through),
		cmocka_unit_test(too_many_results_lose_the_mildest),
		cmocka_unit_test(failure_is_said_in_the_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
