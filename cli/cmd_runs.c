/* drover runs, status: runs as the dispatcher knows them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/render.h"
#include "cli/run_filter.h"
#include "cli/run_history.h"
#include "cli/text.h"
#include "cli/wait.h"

#define LIST_DEFAULT 20
#define LIST_MAX 1000000
#define PAGE_MAX 1000

/* --- the list --- */

static void
add_run(struct table *t, const json_t *run, int64_t now_real_ms)
{
	struct level_counts n;
	char age[48], found[160] = "", took[32] = "";
	int64_t started = 0, finished = now_real_ms, ms;

	if (level_counts_read(json_object_get(run, "findings"), &n))
		level_counts_text(&n, found, sizeof(found));
	/* What is queued again has the start of its last attempt. */
	if (strcmp(json_text(run, "state"), "queued") != 0 && clock_parse(json_text(run, "started_at"), &started, NULL) == 0) {
		(void)clock_parse(json_text(run, "finished_at"), &finished, NULL);
		ms = finished - started;
		num_format_duration(ms < 1000 ? ms : ms < 10000 ? ms / 100 * 100 : ms / 1000 * 1000, took, sizeof(took));
	}
	table_add(t, (const char *const[]){json_text(run, "id"), json_text(run, "state"),
	    render_age(json_text(run, "created_at"), now_real_ms, age, sizeof(age)), took,
	    json_text(json_object_get(run, "target"), "name"), found[0] != '\0' ? found : json_text(run, "reason")});
}

static int
first_path(const struct args *a, struct buf *path, struct err *e)
{
	json_t *filter = json_object(), *value;
	const char *name;
	int rc = run_filter_read(a, filter, e);

	buf_adds(path, "/v1/runs");
	json_object_foreach(filter, name, value)
		api_query(path, name, json_string_value(value));
	json_decref(filter);
	return rc;
}

/* Adds the runs of as many pages as it takes to all. */
static int
fetch_pages(struct cli *c, const char *first, int64_t limit, json_t *all, struct err *e)
{
	char next[64] = "", page[24];
	int rc = 0;

	do {
		int64_t missing = limit == 0 ? PAGE_MAX : limit - (int64_t)json_array_size(all);
		struct buf path = buf_make(8192);
		json_t *answer = NULL;

		snprintf(page, sizeof(page), "%lld", (long long)(missing < PAGE_MAX ? missing : PAGE_MAX));
		buf_adds(&path, first);
		api_query(&path, "limit", page);
		api_query(&path, "next_token", next[0] != '\0' ? next : NULL);
		rc = api_get(c->api, buf_str(&path), &answer, e);
		if (rc == 0) {
			json_array_extend(all, json_object_get(answer, "runs"));
			snprintf(next, sizeof(next), "%s", json_text(answer, "next_token"));
		}
		json_decref(answer);
		buf_release(&path);
	} while (rc == 0 && next[0] != '\0' && (limit == 0 || (int64_t)json_array_size(all) < limit));
	return rc;
}

int
cmd_runs(struct cli *c)
{
	static const struct column columns[] = {{"RUN", TABLE_WHOLE, NULL}, {"STATE", 0, state_style}, {"SUBMITTED", 0, NULL},
		{"TOOK", TABLE_RIGHT, NULL}, {"TARGET", TABLE_SHRINK | TABLE_DROP, NULL}, {"FOUND", TABLE_SHRINK, NULL}};
	struct table *t;
	struct buf path = buf_make(8192);
	json_t *all = json_array(), *run, *whole;
	int64_t limit = LIST_DEFAULT, now = clock_real_ms();
	struct err e = {0};
	size_t i;
	int rc, code = EXIT_FINE;

	rc = args_int(&c->args, "limit", 0, LIST_MAX, &limit, &e);
	if (rc == 0)
		rc = first_path(&c->args, &path, &e);
	if (rc == 0)
		rc = cli_connect(c, &e);
	if (rc == 0)
		rc = fetch_pages(c, buf_str(&path), limit, all, &e);
	if (rc != 0) {
		code = cli_fail(&e);
	} else if (c->settings.json) {
		whole = json_pack("{s:O}", "runs", all);
		cli_print_json(whole);
		json_decref(whole);
	} else {
		t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
		json_array_foreach(all, i, run)
			add_run(t, run, now);
		cli_print_table(c, t, "No runs.");
	}
	json_decref(all);
	buf_release(&path);
	return code;
}

/* --- one run --- */

static void
print_times(struct cli *c, const json_t *run)
{
	static const struct {
		const char *key, *title;
	} times[] = {{"created_at", "Submitted"}, {"not_before", "Not before"}, {"started_at", "Started"}, {"finished_at", "Finished"}};
	char text[128], age[64];

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		const char *at = json_text(run, times[i].key);

		snprintf(text, sizeof(text), "%s (%s)", at, render_age(at, clock_real_ms(), age, sizeof(age)));
		cli_print_field(c, times[i].title, at[0] != '\0' ? text : "", NULL);
	}
}

static void
print_target(struct cli *c, const json_t *target)
{
	char text[400], size[32];

	snprintf(text, sizeof(text), "%.200s, %s, %s (%s)", json_text(target, "name"), json_text(target, "kind"),
	    num_format_size(json_number(target, "size_bytes"), size, sizeof(size)), json_text(target, "id"));
	cli_print_field(c, "Target", json_is_object(target) ? text : "", NULL);
}

static void
print_object(struct cli *c, const char *title, const json_t *o)
{
	char *text = json_object_size(o) > 0 ? json_dumps(o, JSON_ENSURE_ASCII) : NULL;

	cli_print_field(c, title, text != NULL ? text : "", NULL);
	free(text);
}

static void
print_place(struct cli *c, const json_t *run)
{
	char text[512];
	const json_t *sandbox = json_object_get(run, "sandbox");

	snprintf(text, sizeof(text), "%s%s%s", json_text(run, "worker"), json_text(run, "node")[0] != '\0' ? " on " : "",
	    json_text(run, "node"));
	cli_print_field(c, "Worker", text, NULL);
	cli_print_field(c, "Nomad job", json_text(run, "job_id"), NULL);
	cli_print_field(c, "Allocation", json_text(run, "alloc_id"), NULL);
	snprintf(text, sizeof(text), "rung %lld", (long long)json_number(sandbox, "rung"));
	cli_print_field(c, "Sandbox", json_is_object(sandbox) ? text : "", NULL);
	snprintf(text, sizeof(text), "%s, %s", json_text(json_object_get(sandbox, "workspace"), "mode"),
	    json_text(json_object_get(sandbox, "workspace"), "method"));
	cli_print_field(c, "Workspace", json_is_object(json_object_get(sandbox, "workspace")) ? text : "", NULL);
}

static void
print_waiting(struct cli *c, const json_t *waiting)
{
	char text[512];

	if (!json_is_object(waiting))
		return;
	snprintf(text, sizeof(text), "%s (%s)", json_text(waiting, "text"), json_text(waiting, "code"));
	cli_print_field(c, "Waits for", text, "33");
	snprintf(text, sizeof(text), "%lld", (long long)json_number(waiting, "position"));
	cli_print_field(c, "Position", json_number(waiting, "position") > 0 ? text : "", NULL);
}

static void
print_steps(struct cli *c, const json_t *steps)
{
	static const struct column columns[] = {{"STEP", 0, NULL}, {"STATE", 0, state_style}, {"EXIT", TABLE_RIGHT, NULL},
		{"TOOK", TABLE_RIGHT, NULL}, {"MESSAGE", TABLE_SHRINK | TABLE_WRAP, NULL}};
	struct table *t;
	size_t i;
	json_t *step;

	if (json_array_size(steps) == 0)
		return;
	t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	json_array_foreach(steps, i, step)
	{
		char exit_code[24] = "", took[32] = "";

		if (json_is_integer(json_object_get(step, "exit_code")))
			snprintf(exit_code, sizeof(exit_code), "%lld", (long long)json_number(step, "exit_code"));
		if (json_is_integer(json_object_get(step, "took_ms")))
			num_format_duration(json_number(step, "took_ms"), took, sizeof(took));
		table_add(t, (const char *const[]){json_text(step, "name"), json_text(step, "state"), exit_code, took,
		    json_text(step, "message")});
	}
	printf("\n");
	cli_print_table(c, t, "");
}

static int
show_run(struct cli *c, const json_t *answer)
{
	const json_t *run = json_object_get(answer, "run");
	const char *state = json_text(run, "state");
	struct level_counts n;
	struct buf line = buf_make(4096);
	char found[200];

	cli_print_field(c, "Run", json_text(run, "id"), "1");
	render_run_line(&line, run);
	cli_print_field(c, "State", json_is_object(json_object_get(run, "waiting")) ? state : buf_str(&line), state_style(state));
	cli_print_field(c, "Reason", json_text(run, "reason"), NULL);
	cli_print_field(c, "Kind", json_text(run, "fail_class"), NULL);
	print_waiting(c, json_object_get(run, "waiting"));
	cli_print_field(c, "Workflow", json_text(run, "workflow"), NULL);
	cli_print_field(c, "Version", json_text(run, "workflow_version"), NULL);
	print_target(c, json_object_get(run, "target"));
	print_object(c, "Parameters", json_object_get(run, "params"));
	print_object(c, "Labels", json_object_get(run, "labels"));
	print_times(c, run);
	cli_print_field(c, "Requeued", json_text(run, "requeued_from"), NULL);
	print_place(c, run);
	if (level_counts_read(json_object_get(run, "findings"), &n)) {
		level_counts_text(&n, found, sizeof(found));
		if (json_is_true(json_object_get(run, "partial")))
			strncat(found, " (partial)", sizeof(found) - strlen(found) - 1);
		cli_print_field(c, "Findings", found, NULL);
	}
	print_steps(c, json_object_get(run, "steps"));
	run_history_print(c, json_object_get(run, "history"));
	buf_release(&line);
	return EXIT_FINE;
}

static int
show_id(struct cli *c, const char *id)
{
	struct buf path = buf_make(4096);
	int code = cli_show(c, api_path(&path, "/v1/run/", id, ""), show_run);

	buf_release(&path);
	return code;
}

int
cmd_status(struct cli *c)
{
	const char *id = c->args.words[0];
	struct err e = {0};
	json_t *run = NULL;
	int rc, code;

	if (!args_has(&c->args, "watch"))
		return show_id(c, id);
	rc = cli_connect(c, &e);
	if (rc == 0)
		rc = wait_run(c, id, &run, &e);
	code = rc == 0 ? show_id(c, id) : cli_fail(&e);
	if (rc == 0 && strcmp(json_text(run, "state"), "completed") != 0 && code == EXIT_FINE)
		code = EXIT_FINDINGS;
	json_decref(run);
	return code;
}
