#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <signal.h>

#include <cmocka.h>

#include "worker/step_env.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct step_inputs inputs = {.target_dir = "/t", .out = "/o", .scratch = "/s", .params = "/p.json",
    .run = "w-0123456789abcdef", .workflow_dir = "/w", .path = "/tc/bin:/usr/bin"};

static void
environment_is_built_from_nothing(void **state)
{
	static const char *const wants[] = {"TARGET_DIR=/t", "OUT=/o", "SCRATCH=/s", "PARAMS_FILE=/p.json", "RUN_ID=w-0123456789abcdef",
	    "WORKFLOW_DIR=/w", "PATH=/tc/bin:/usr/bin", "HOME=/s", "TMPDIR=/s/tmp", "LANG=C.UTF-8"};
	struct step_inputs file = inputs;
	char **env;
	size_t i;

	(void)state;
	setenv("DROVER_TOKEN", "secret", 1);
	env = step_env(&inputs);
	for (i = 0; i < COUNT(wants); i++)
		assert_string_equal(env[i], wants[i]);
	assert_null(env[i]);
	step_list_free(env);
	file.target_dir = NULL;
	file.target_file = "/t/a.apk";
	env = step_env(&file);
	assert_string_equal(env[0], "TARGET_FILE=/t/a.apk");
	step_list_free(env);
}

static void
arguments_are_replaced_once(void **state)
{
	static const struct {
		const char *in, *out; /* NULL: refused */
	} cases[] = {
		{"plain", "plain"}, {"", ""}, {"${OUT}", "/o"}, {"a${OUT}b${RUN_ID}c", "a/obw-0123456789abcdefc"}, {"$OUT", "$OUT"},
		{"$$", "$$"}, {"${SCRATCH}${SCRATCH}", "/s/s"}, {"${NOPE}", NULL}, {"${OUT", NULL}, {"${}", NULL},
		{"${TARGET_FILE}", NULL}, {"${OU}", NULL}, {"${DROVER_TOKEN}", NULL}, {"x$", "x$"},
	};
	char **env = step_env(&inputs);

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char *argv[] = {(char *)"tool", (char *)cases[i].in, NULL}, **out = NULL;
		struct err e = {0};
		int rc = step_argv(argv, env, &out, &e);

		assert_int_equal(rc, cases[i].out != NULL ? 0 : ERR_INVALID);
		if (rc == 0) {
			assert_string_equal(out[0], "tool");
			assert_string_equal(out[1], cases[i].out);
			assert_null(out[2]);
			step_list_free(out);
		}
	}
	step_list_free(env);
}

static void
too_long_arguments_are_refused(void **state)
{
	struct step_inputs in = inputs;
	char *path = malloc(STEP_ARG_MAX), *argv[] = {(char *)"${OUT}${OUT}", NULL}, **env, **out = NULL;
	struct err e = {0};

	(void)state;
	memset(path, 'x', STEP_ARG_MAX - 1);
	path[STEP_ARG_MAX - 1] = '\0';
	in.out = path;
	env = step_env(&in);
	assert_int_equal(step_argv(argv, env, &out, &e), ERR_INVALID);
	assert_null(out);
	step_list_free(env);
	free(path);
}

static void
ends_are_judged_by_the_lists(void **state)
{
	static const struct {
		struct sandbox_end end;
		enum step_verdict verdict;
		const char *word;
	} cases[] = {
		{{.exited = true, .code = 0}, STEP_CLEAN, ""}, {{.exited = true, .code = 3}, STEP_CLEAN, ""},
		{{.exited = true, .code = 10}, STEP_FINDINGS, ""}, {{.exited = true, .code = 1}, STEP_FAULT, "exit code 1"},
		{{.exited = true, .code = 137}, STEP_FAULT, "137"}, {{.signo = SIGSEGV}, STEP_FAULT, "signal 11"},
		{{.signo = SIGKILL, .oom = true}, STEP_OOM, "memory"}, {{.exited = true, .code = 1, .oom = true}, STEP_OOM, "memory"},
		/* A tool whose child was killed but which coped has done its work. */
		{{.signo = SIGKILL, .disk = true}, STEP_DISK, "disk"}, {{.exited = true, .code = 1, .disk = true}, STEP_DISK, "disk"},
		{{.exited = true, .code = 0, .oom = true}, STEP_CLEAN, ""},
	};
	const struct workflow_step step = {.ok = {0, 3}, .n_ok = 2, .found = {10}, .n_found = 1};
	char why[160];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(step_judge(&step, &cases[i].end, why, sizeof(why)), cases[i].verdict);
		assert_non_null(strstr(why, cases[i].word));
		assert_int_equal(why[0] == '\0', cases[i].word[0] == '\0');
	}
}

static void
progress_lines_are_checked(void **state)
{
	static const struct {
		const char *line, *message; /* NULL: nothing comes of it */
		int percent;                /* -1: null */
	} cases[] = {
		{"{\"type\":\"progress\",\"percent\":40,\"message\":\"m\"}", "m", 40}, {"{\"type\":\"progress\"}", "", -1},
		{"{\"type\":\"progress\",\"percent\":99.9}", "", 99}, {"{\"type\":\"progress\",\"percent\":101}", NULL, 0},
		{"{\"type\":\"progress\",\"percent\":-1}", NULL, 0}, {"{\"type\":\"progress\",\"percent\":\"40\"}", NULL, 0},
		{"{\"type\":\"crash\"}", NULL, 0}, {"{}", NULL, 0}, {"[]", NULL, 0}, {"", NULL, 0}, {"{", NULL, 0},
		{"{\"type\":\"progress\",\"type\":\"progress\"}", NULL, 0},
		{"{\"type\":\"progress\",\"step\":\"forged\",\"message\":\"a\\u001b[2Jb\\nc\"}", "a [2Jb c", -1},
	};

	char deep[600] = "{\"type\":\"progress\",\"x\":";

	(void)state;
	memset(deep + strlen(deep), '[', 200);
	memset(deep + strlen(deep), ']', 200);
	deep[strlen(deep)] = '}';
	assert_null(step_progress("scan", deep, strlen(deep)));
	for (size_t i = 0; i < COUNT(cases); i++) {
		json_t *p = step_progress("scan", cases[i].line, strlen(cases[i].line));

		assert_int_equal(p != NULL, cases[i].message != NULL);
		if (p == NULL)
			continue;
		assert_string_equal(json_string_value(json_object_get(p, "step")), "scan");
		assert_string_equal(json_string_value(json_object_get(p, "message")), cases[i].message);
		assert_int_equal(json_is_null(json_object_get(p, "percent")) ? -1 : json_integer_value(json_object_get(p, "percent")), cases[i].percent);
		json_decref(p);
	}
}

static void
text_for_people_is_cleaned(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{"plain", "plain"}, {"a\tb\x7f", "a b "}, {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"}, {"\xff\xfe", "??"}, {"\xc3", "?"},
		{"\xc2\x9b[2J", " [2J"}, {"\xed\xa0\x80", "???"}, {"\xc0\xaf", "??"}, {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
		{"\xf4\x90\x80\x80", "????"},
	};
	char out[64];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		assert_string_equal(step_clean_text(out, sizeof(out), cases[i].in), cases[i].out);
	/* No half of a sequence at the end. */
	assert_string_equal(step_clean_text(out, 4, "ab\xc3\xbc"), "ab");
	assert_string_equal(step_clean_text(out, 5, "ab\xc3\xbc"), "ab\xc3\xbc");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(environment_is_built_from_nothing),
		cmocka_unit_test(arguments_are_replaced_once),
		cmocka_unit_test(too_long_arguments_are_refused),
		cmocka_unit_test(ends_are_judged_by_the_lists),
		cmocka_unit_test(progress_lines_are_checked),
		cmocka_unit_test(text_for_people_is_cleaned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
