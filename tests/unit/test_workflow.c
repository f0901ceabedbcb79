#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "proto/workflow.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define HEAD "version: \"1\"\nvertical: python\ndescription: d\n"
#define STEPS "steps:\n  - name: s\n    run: [\"true\"]\n"

static int
parse(const char *text, struct workflow **w, struct err *e)
{
	*w = NULL;
	return workflow_parse("m.yaml", "wf", text, strlen(text), w, e);
}

static void
a_full_file_is_read(void **state)
{
	static const char text[] = "name: wf\nversion: \"2.1.0\"\nvertical: python\ndescription: Looks.\nauthor: A\ntags: [sast, x]\n"
	    "workspace_isolation: copy-on-write\nexecution: job\n"
	    "resources: {cpu: 1500m, memory: 1GiB, timeout: 1h30m, disk: 3GiB}\nnetwork: egress\n"
	    "parameters: {type: object, properties: {a: {type: integer, default: 3}}}\n"
	    "steps:\n  - name: one\n    run: [python3, \"${WORKFLOW_DIR}/x.py\"]\n    timeout: 10m\n    findings: sarif\n"
	    "    exit_codes: {findings: [1, 10], ok: [0, 2]}\n    on_failure: stop\n"
	    "artifacts: [\"crashes/**\"]\ntarget: file\ndependencies: {python: [bandit], apt: []}\nconcurrency_key: \"k\"\n";
	struct workflow *w;
	struct err e = {0};

	(void)state;
	if (parse(text, &w, &e) != 0)
		fail_msg("%s", e.msg);
	assert_string_equal(w->version, "2.1.0");
	assert_string_equal(w->tags[1], "x");
	assert_null(w->tags[2]);
	assert_int_equal(w->isolation, ISOLATION_COPY_ON_WRITE);
	assert_int_equal(w->execution, EXECUTION_JOB);
	assert_int_equal(w->target, TARGET_FILE_ONLY);
	assert_true(w->network_egress);
	assert_int_equal(w->cpu_millis, 1500);
	assert_int_equal(w->memory_bytes, 1 << 30);
	assert_int_equal(w->timeout_ms, 5400000);
	assert_int_equal(w->n_steps, 1);
	assert_int_equal(w->steps[0].timeout_ms, 600000);
	assert_int_equal(w->steps[0].n_found, 2);
	assert_int_equal(w->steps[0].ok[1], 2);
	assert_true(w->steps[0].stop_on_failure);
	assert_string_equal(w->steps[0].argv[1], "${WORKFLOW_DIR}/x.py");
	workflow_free(w);
}

static void
little_is_needed_and_the_rest_has_safe_defaults(void **state)
{
	struct workflow *w;
	struct err e = {0};

	(void)state;
	if (parse(HEAD STEPS, &w, &e) != 0)
		fail_msg("%s", e.msg);
	assert_string_equal(w->name, "wf");
	assert_int_equal(w->isolation, ISOLATION_ISOLATED);
	assert_false(w->network_egress);
	assert_int_equal(w->steps[0].n_ok, 1);
	assert_int_equal(w->steps[0].ok[0], 0);
	assert_true(json_is_false(json_object_get(w->parameters, "additionalProperties")));
	workflow_free(w);
}

static void
what_is_wrong_is_told_with_file_line_and_key(void **state)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{"", "m.yaml:1: the file is empty"},
		{"- a\n", "m.yaml:1: must be a mapping"},
		{HEAD, "m.yaml:1: 'steps' is missing"},
		{HEAD "color: red\n" STEPS, "m.yaml:4: color: is not a known key"},
		{HEAD STEPS "    color: red\n", "m.yaml:7: steps/0/color: is not a known key"},
		{HEAD "name: other\n" STEPS, "m.yaml:4: name: is 'other', but the folder is 'wf'"},
		{"version: 1.0\nvertical: python\ndescription: d\n" STEPS, "m.yaml:1: version: must be text (put it in quotes)"},
		{HEAD HEAD STEPS, "m.yaml:4: key 'version' appears twice"},
		{HEAD "resources: {cpu: 9999999m}\n" STEPS, "m.yaml:4: resources/cpu: "},
		{HEAD "resources:\n  memory: lots\n" STEPS, "m.yaml:5: resources/memory: "},
		{HEAD "resources: {timeout: 1m}\n" STEPS "    timeout: 2m\n", "m.yaml:5: steps: step 's' may run longer"},
		{HEAD "execution: sometimes\n" STEPS, "m.yaml:4: execution: must be one of: any, warm, job"},
		{HEAD "artifacts: [\"a/../../b\"]\n" STEPS, "m.yaml:4: artifacts: 'a/../../b' must stay below"},
		{HEAD "steps: []\n", "m.yaml:4: steps: must be a list of 1 to 32 steps"},
		{HEAD STEPS "  - name: s\n    run: [\"true\"]\n", "m.yaml:7: steps/1: a second step named 's'"},
		{HEAD STEPS "    exit_codes: {ok: [1], findings: [1]}\n", "m.yaml:7: steps/0/exit_codes: 1 cannot be both"},
		{HEAD STEPS "    exit_codes: {ok: [256]}\n", "m.yaml:7: steps/0/exit_codes/ok"},
		{HEAD "parameters: {type: object, anyOf: []}\n" STEPS, "m.yaml:4: parameters: anyOf: this keyword is not supported"},
		{HEAD "dependencies: {ruby: []}\n" STEPS, "m.yaml:4: dependencies/ruby: must be one of"},
		{HEAD "tags: &a [x]\nauthor: *a\n" STEPS, "m.yaml:4: anchors (&name) are not allowed"},
		{HEAD "author: !!binary aGk=\n" STEPS, "m.yaml:4: tags (!name) are not allowed"},
		{HEAD STEPS "---\na: b\n", "m.yaml:7: more than one document"},
		{HEAD "tags: [a\n" STEPS, "m.yaml:"},
		{HEAD "author: \"a\\0b\"\n" STEPS, "m.yaml:4: text with a NUL byte"},
		{"vertical: ../x\nversion: \"1\"\ndescription: d\n" STEPS, "m.yaml:1: vertical: must name a vertical"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct workflow *w;
		struct err e = {0};

		if (parse(cases[i].text, &w, &e) != ERR_INVALID)
			fail_msg("took case %zu:\n%s", i, cases[i].text);
		if (strncmp(e.msg, cases[i].message, strlen(cases[i].message)) != 0)
			fail_msg("case %zu said \"%s\", not \"%s\"", i, e.msg, cases[i].message);
	}
}

static void
bombs_are_refused_cheaply(void **state)
{
	struct buf b = buf_make(WORKFLOW_FILE_MAX * 2);
	struct workflow *w;
	struct err e = {0};

	(void)state;
	for (int i = 0; i < 1000; i++)
		buf_adds(&b, "[");
	assert_int_equal(parse(buf_str(&b), &w, &e), ERR_INVALID);
	assert_non_null(strstr(e.msg, "too deeply"));
	buf_clear(&b);
	buf_adds(&b, "tags: [");
	for (int i = 0; i < 30000; i++)
		buf_adds(&b, "a,");
	buf_adds(&b, "a]\n");
	assert_int_equal(parse(buf_str(&b), &w, &e), ERR_INVALID);
	assert_non_null(strstr(e.msg, "too many values"));
	buf_clear(&b);
	while (b.len <= WORKFLOW_FILE_MAX)
		buf_adds(&b, "# a comment to fill the file\n");
	assert_int_equal(parse(buf_str(&b), &w, &e), ERR_INVALID);
	assert_non_null(strstr(e.msg, "longer than"));
	buf_release(&b);
}

static const char vertical_text[] = "name: py\ndescription: d\ndriver: docker\nimage: i:1\nslots: 3\nwindow: 4\n"
    "classes:\n  normal: {cpu: 500m, memory: 512Mi}\n  large: {cpu: 2, memory: 2GiB}\n"
    "tools:\n  - {name: bandit, probe: [bandit, --version]}\n";

static void
a_vertical_is_read_and_gives_the_class(void **state)
{
	struct vertical *v = NULL;
	struct workflow w = {.name = "wf", .cpu_millis = 500, .memory_bytes = 512 << 20};
	enum run_class class;
	struct err e = {0};

	(void)state;
	if (vertical_parse("v.yaml", "py", vertical_text, strlen(vertical_text), &v, &e) != 0)
		fail_msg("%s", e.msg);
	assert_int_equal(v->cpu_millis[CLASS_LARGE], 2000);
	assert_string_equal(v->tools[0].probe[1], "--version");
	assert_int_equal(workflow_class(&w, v, &class, &e), 0);
	assert_int_equal(class, CLASS_NORMAL);
	w.memory_bytes++;
	assert_int_equal(workflow_class(&w, v, &class, &e), 0);
	assert_int_equal(class, CLASS_LARGE);
	w.cpu_millis = 2001;
	assert_int_equal(workflow_class(&w, v, &class, &e), ERR_INVALID);
	assert_true(e.hint[0] != '\0');
	vertical_free(v);
}

static void
a_worker_group_is_as_the_vertical_says(void **state)
{
	static const char *const bad[] = {"stabilization_down: 2d", "stale_after: 10ms", "max_scale_down: 1001", "max_scale_up: -1",
		"threshold: 11",
	    "threshold: much", "start_failures: 0", "cooldown: 5", "service: 0s", "stabilization: 5m"};
	char text[1000];
	struct vertical *v = NULL;
	struct err e = {0};

	(void)state;
	if (vertical_parse("v.yaml", "py", vertical_text, strlen(vertical_text), &v, &e) != 0)
		fail_msg("%s", e.msg);
	assert_true(v->warm.max == 20 && v->warm.drain_ms == 60000 && v->warm.stabilization_down_ms == 60000 && v->warm.cooldown_ms == 0);
	assert_true(v->warm.threshold == 0.1 && v->warm.foreign_hold_ms == 120000 && v->warm.start_failures == 3 &&
	    v->warm.max_scale_up == 0);
	assert_string_equal(v->warm.strategy, "drover");
	vertical_free(v);
	snprintf(text, sizeof(text), "%scapacity: hybrid\nwarm: {min: 1, max: 3, drain: 30s, stabilization_down: 5m, cooldown: 90s, "
	    "max_scale_up: 2, threshold: 0.25, evaluation_interval: 500ms, strategy: target-value, start_failures: 7}\n", vertical_text);
	if (vertical_parse("v.yaml", "py", text, strlen(text), &v, &e) != 0)
		fail_msg("%s", e.msg);
	assert_true(v->warm.min == 1 && v->warm.max == 3 && v->warm.count == 1 && v->warm.drain_ms == 30000);
	assert_true(v->warm.stabilization_down_ms == 300000 && v->warm.cooldown_ms == 90000);
	assert_true(v->warm.max_scale_up == 2 && v->warm.threshold == 0.25 && v->warm.evaluation_interval_ms == 500 &&
	    v->warm.start_failures == 7);
	vertical_free(v);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "%swarm: {%s}\n", vertical_text, bad[i]);
		assert_int_equal(vertical_parse("v.yaml", "py", text, strlen(text), &v, &e), ERR_INVALID);
		assert_non_null(strstr(e.msg, "warm"));
	}
}

static void
broken_verticals_are_refused(void **state)
{
	static const char *const bad[] = {
		"description: d\ntools: []\nimage: x\n", /* no classes */
		"description: d\ntools: []\nclasses: {normal: {cpu: 1, memory: 1GiB}, large: {cpu: 1, memory: 1GiB}}\n", /* no image */
		"description: d\nimage: x\ntools: []\nclasses: {normal: {cpu: 2, memory: 1GiB}, large: {cpu: 1, memory: 1GiB}}\n",
		"description: d\nimage: x\ntools: [{name: a, probe: []}]\nclasses: {normal: {cpu: 1, memory: 1GiB}, large: {cpu: 1, memory: 1GiB}}\n",
		"description: d\nimage: x\ntools: []\nslots: 33\nclasses: {normal: {cpu: 1, memory: 1GiB}, large: {cpu: 1, memory: 1GiB}}\n",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct vertical *v = NULL;
		struct err e = {0};

		if (vertical_parse("v.yaml", "py", bad[i], strlen(bad[i]), &v, &e) != ERR_INVALID)
			fail_msg("took case %zu", i);
		assert_null(v);
	}
}

static void
the_toolbox_we_ship_is_valid(void **state)
{
	static const char *const names[][2] = {{"toolbox/workflows/security_assessment/metadata.yaml", "security_assessment"},
	    {"toolbox/workflows/gitleaks_detection/metadata.yaml", "gitleaks_detection"}};

	(void)state;
	for (size_t i = 0; i < COUNT(names); i++) {
		char text[65536];
		FILE *f = fopen(names[i][0], "r");
		struct workflow *w = NULL;
		struct err e = {0};
		json_t *shown;
		size_t len;

		assert_non_null(f);
		len = fread(text, 1, sizeof(text), f);
		fclose(f);
		if (workflow_parse(names[i][0], names[i][1], text, len, &w, &e) != 0)
			fail_msg("%s", e.msg);
		shown = workflow_json(w);
		assert_string_equal(json_string_value(json_object_get(shown, "name")), names[i][1]);
		json_decref(shown);
		workflow_free(w);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_file_is_read), cmocka_unit_test(little_is_needed_and_the_rest_has_safe_defaults),
		cmocka_unit_test(what_is_wrong_is_told_with_file_line_and_key), cmocka_unit_test(bombs_are_refused_cheaply),
		cmocka_unit_test(a_vertical_is_read_and_gives_the_class), cmocka_unit_test(a_worker_group_is_as_the_vertical_says),
		cmocka_unit_test(broken_verticals_are_refused),
		cmocka_unit_test(the_toolbox_we_ship_is_valid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
