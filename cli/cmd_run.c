/* drover run: from a target on this machine to a verdict. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/params.h"
#include "cli/render.h"
#include "cli/results.h"
#include "cli/target.h"
#include "cli/text.h"
#include "cli/wait.h"

#define PARAMS_BYTES_MAX (1024 * 1024)
#define TIMEOUT_MAX_MS (INT64_C(1000) * 86400 * 365)
#define RETENTION_MIN_MS 60000
#define RETENTION_MAX_MS (10 * TIMEOUT_MAX_MS) /* the dispatcher's RETENTION_MAX is tighter */
#define SHOWN_MAX 50   /* findings in the table at the end */
#define KEY_LIMIT_MAX 1000
#define SUBMIT_TRIES 5
#define SUBMIT_PAUSE_MS 500

struct request {
	const char *workflow, *target, *sarif;
	bool wait, detach;
	enum fail_on fail_on;
	json_t *params, *labels;
	json_t *wishes; /* members of the request's body that options give */
};

static int
read_labels(const struct args *a, json_t *labels, struct err *e)
{
	const char *text;

	for (int i = 0; (text = args_nth(a, "label", i)) != NULL; i++) {
		const char *equals = strchr(text, '=');
		char *key;

		if (equals == NULL || equals == text)
			return err_set(e, ERR_INVALID, "-label %.64s: expected key=value", text);
		key = xstrndup(text, (size_t)(equals - text));
		(void)json_object_set_new(labels, key, json_string(equals + 1));
		free(key);
	}
	return 0;
}

static int
read_params_file(const char *path, json_t *params, struct err *e)
{
	struct buf b = buf_make(PARAMS_BYTES_MAX);
	json_error_t je;
	json_t *v = NULL;
	int rc = file_read(AT_FDCWD, strcmp(path, "-") == 0 ? "/dev/stdin" : path, &b, e);

	if (rc == 0 && ((v = json_loadb(buf_str(&b), b.len, JSON_REJECT_DUPLICATES, &je)) == NULL || !json_is_object(v)))
		rc = err_set(e, ERR_INVALID, "%.128s: line %d: %.120s", path, v == NULL ? je.line : 1,
		    v == NULL ? je.text : "expected a JSON object");
	if (rc == 0)
		json_object_update(params, v);
	json_decref(v);
	buf_release(&b);
	return rc;
}

/* -p beats the file, key by key. */
static int
read_params(const struct args *a, const json_t *schema, json_t *params, struct err *e)
{
	json_t *given = json_object();
	const char *text, *file = args_value(a, "params-file");
	int rc = file != NULL ? read_params_file(file, params, e) : 0;

	for (int i = 0; rc == 0 && (text = args_nth(a, "p", i)) != NULL; i++)
		rc = params_add(given, schema, text, e);
	json_object_update(params, given);
	json_decref(given);
	return rc;
}

/* "2h" becomes the time in two hours; a time stays. */
static int
read_moment(const struct args *a, const char *name, char out[CLOCK_TEXT_LEN], struct err *e)
{
	const char *text = args_value(a, name);
	int64_t ms, at;

	if (num_duration(text, 0, TIMEOUT_MAX_MS, &ms, NULL) == 0)
		at = clock_real_ms() + ms;
	else if (clock_parse(text, &at, NULL) != 0)
		return err_set(e, ERR_INVALID, "-%s: '%.40s' is neither a time (2026-01-31T12:00:00Z) nor a duration (2h)", name, text);
	(void)clock_text(at, out);
	return 0;
}

/* Options that are members of the body as they are. */
static int
read_wishes(const struct args *a, json_t *wishes, struct err *e)
{
	static const struct {
		const char *option, *member;
		enum { WISH_TEXT, WISH_INT, WISH_DURATION, WISH_MOMENT } kind;
		int64_t min, max;
	} rows[] = {
		{"priority", "priority", WISH_INT, 0, 100},
		{"timeout", "timeout_ms", WISH_DURATION, 1000, TIMEOUT_MAX_MS},
		{"not-before", "not_before", WISH_MOMENT, 0, 0},
		{"retention", "retention_ms", WISH_DURATION, RETENTION_MIN_MS, RETENTION_MAX_MS},
		{"max-wait", "max_wait_ms", WISH_DURATION, 1000, TIMEOUT_MAX_MS},
		{"reuse", "reuse", WISH_TEXT, 0, 0},
		{"reuse-max-age", "reuse_max_age_ms", WISH_DURATION, 1000, TIMEOUT_MAX_MS},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char at[CLOCK_TEXT_LEN];
		int64_t number = 0;
		int rc = 0;

		if (!args_has(a, rows[i].option))
			continue;
		if (rows[i].kind == WISH_INT)
			rc = args_int(a, rows[i].option, rows[i].min, rows[i].max, &number, e);
		else if (rows[i].kind == WISH_DURATION)
			rc = args_duration(a, rows[i].option, rows[i].min, rows[i].max, &number, e);
		else if (rows[i].kind == WISH_MOMENT)
			rc = read_moment(a, rows[i].option, at, e);
		if (rc != 0)
			return rc;
		(void)json_object_set_new(wishes, rows[i].member,
		    rows[i].kind == WISH_TEXT ? json_string(args_value(a, rows[i].option)) :
		        rows[i].kind == WISH_MOMENT ? json_string(at) : json_integer(number));
	}
	return 0;
}

/* The concurrency key, as the API takes it. */
static int
read_slots(const struct args *a, json_t *wishes, struct err *e)
{
	const char *key = args_value(a, "key"), *mode = args_value(a, "key-mode");
	int64_t limit = 1;
	int rc = args_int(a, "key-limit", 1, KEY_LIMIT_MAX, &limit, e);

	if (rc != 0)
		return rc;
	if (key == NULL && (mode != NULL || args_has(a, "key-limit")))
		return err_set(e, ERR_INVALID, "-key-limit and -key-mode go with -key");
	if (key != NULL && json_object_set_new(wishes, "concurrency", json_pack("{s:s, s:I, s:s}", "key", key, "limit",
	        (json_int_t)limit, "mode", mode != NULL ? mode : "queue")) != 0)
		return err_set(e, ERR_INVALID, "-key: not UTF-8");
	return 0;
}

static int
read_request(const struct args *a, struct request *r, struct err *e)
{
	const char *level = args_value(a, "fail-on");
	int rc;

	r->workflow = a->words[0];
	r->target = a->words[1];
	r->sarif = args_value(a, "sarif");
	r->detach = args_has(a, "detach");
	r->wait = args_has(a, "wait") || level != NULL || r->sarif != NULL;
	r->params = json_object();
	r->wishes = json_object();
	r->labels = json_object();
	if (r->detach && r->wait)
		return err_set(e, ERR_INVALID, "-detach does not go with -wait, -fail-on and -sarif");
	if (level != NULL && (rc = fail_on_parse(level, &r->fail_on, e)) != 0)
		return err_prefix(e, rc, "-fail-on");
	if ((rc = read_wishes(a, r->wishes, e)) != 0 || (rc = read_slots(a, r->wishes, e)) != 0 ||
	    (rc = read_labels(a, r->labels, e)) != 0)
		return rc;
	return r->sarif != NULL ? results_may_save(r->sarif, e) : 0;
}

/* The workflow's metadata, for the types of parameters and the kind of target. */
static int
read_workflow(struct cli *c, const char *name, json_t **ret, struct err *e)
{
	struct buf path = buf_make(4096);
	int rc = api_get(c->api, api_path(&path, "/v1/workflow/", name, ""), ret, e);

	if (rc == ERR_NOTFOUND)
		(void)err_hint(e, "drover workflow list shows those there are, and those that are broken");
	buf_release(&path);
	return rc;
}

static int
check_kind(const char *kind, struct err *e)
{
	if (kind == NULL || strcmp(kind, "tree") == 0 || strcmp(kind, "file") == 0)
		return 0;
	(void)err_set(e, ERR_INVALID, "-kind: '%.40s' is no kind", kind);
	(void)err_hint(e, "tree or file");
	return ERR_INVALID;
}

static const char *
wanted_kind(const struct args *a, const json_t *workflow)
{
	const char *kind = args_value(a, "kind"), *only = json_text(workflow, "target");

	if (kind != NULL)
		return kind;
	return strcmp(only, "tree") == 0 || strcmp(only, "file") == 0 ? only : "";
}

/* A submission under an idempotency key of its own, so that an answer that got lost can be asked for again. */
static int
make_body(struct cli *c, const struct request *r, json_t *target, json_t **ret, struct err *e)
{
	const char *given = args_value(&c->args, "idempotency-key");
	char uuid[37];

	uuid_text(uuid);
	*ret = json_pack("{s:s, s:O, s:O, s:O, s:s}", "workflow", r->workflow, "target", target, "params", r->params, "labels",
	    r->labels, "idempotency_key", given != NULL ? given : uuid);
	if (*ret == NULL)
		return err_set(e, ERR_INVALID, "the workflow's name or the key is not UTF-8");
	json_object_update(*ret, r->wishes);
	return 0;
}

/* Has the dispatcher judge the request before anything is packed or sent: a wrong value is told at once. Where the target is
 * stored the submission itself is as quick. */
static int
try(struct cli *c, const struct request *r, const struct target *t, struct err *e)
{
	struct api_call call = {.method = "POST", .path = "/v1/runs"};
	json_t *target;
	int rc;

	if (t->stored)
		return 0;
	if ((target = json_pack("{s:s, s:s}", "name", t->name, "kind", t->kind)) == NULL)
		return err_set(e, ERR_INVALID, "the name of the target is not UTF-8");
	if ((rc = make_body(c, r, target, &call.body, e)) == 0) {
		json_object_set_new(call.body, "dry_run", json_true());
		rc = api_do(c->api, &call, e);
	}
	json_decref(call.answer);
	json_decref(call.body);
	json_decref(target);
	return rc;
}

static int
submit(struct cli *c, const struct request *r, json_t *target, json_t **ret_run, bool *ret_reused, struct err *e)
{
	json_t *body;
	int rc = make_body(c, r, target, &body, e);

	if (rc != 0)
		return rc;
	for (int i = 0; i < SUBMIT_TRIES; i++) {
		struct api_call call = {.method = "POST", .path = "/v1/runs", .body = body, .deaf = true};

		*e = (struct err){0};
		rc = api_do(c->api, &call, e);
		if (rc == 0) {
			*ret_run = json_incref(json_object_get(call.answer, "run"));
			*ret_reused = json_is_true(json_object_get(call.answer, "reused"));
		}
		json_decref(call.answer);
		if (!api_may_pass(rc) || i + 1 == SUBMIT_TRIES || interrupted())
			break;
		(void)interrupt_wait(SUBMIT_PAUSE_MS << i, -1);
	}
	json_decref(body);
	if (rc == 0 && json_text(*ret_run, "id")[0] == '\0')
		rc = err_set(e, ERR_PROTO, "the answer holds no run");
	return rc;
}

/* Fetches, saves and shows the findings; *ret_counts says what they hold. The dispatcher may be away just now. */
static int
settle_findings(struct cli *c, const struct request *r, const char *id, struct level_counts *ret_counts, struct err *e)
{
	struct buf raw = buf_make(FINDINGS_BYTES_MAX);
	struct findings report = {0};
	json_t *sarif = NULL;
	int rc = 0;

	for (int i = 0; i < SUBMIT_TRIES; i++) {
		buf_clear(&raw);
		*e = (struct err){0};
		rc = results_findings(c, id, &raw, &sarif, e);
		if (!api_may_pass(rc) || interrupted())
			break;
		(void)interrupt_wait(SUBMIT_PAUSE_MS << i, -1);
	}
	if (rc == 0)
		rc = findings_read(sarif, &report, e);
	if (rc == 0 && r->sarif != NULL)
		rc = results_save(r->sarif, &raw, e);
	if (rc == 0) {
		*ret_counts = report.counts;
		if (!c->settings.json && (r->sarif == NULL || strcmp(r->sarif, "-") != 0)) {
			results_print(c, &report, FAIL_ON_INFO, SHOWN_MAX);
			printf("\n");
		}
	}
	findings_release(&report);
	json_decref(sarif);
	buf_release(&raw);
	return rc;
}

static void
print_end(struct cli *c, const json_t *run, const struct level_counts *counts)
{
	FILE *out = c->term.out_tty ? stdout : stderr;
	char *reason = text_safe(json_text(run, "reason"));
	const char *state = json_text(run, "state"), *style = c->term.color ? state_style(state) : NULL;
	int64_t started = 0, finished = 0;
	char took[32] = "", found[160] = "";

	if (clock_parse(json_text(run, "created_at"), &started, NULL) == 0 &&
	    clock_parse(json_text(run, "finished_at"), &finished, NULL) == 0)
		num_format_duration(finished - started, took, sizeof(took));
	if (counts != NULL)
		level_counts_text(counts, found, sizeof(found));
	fflush(stdout);
	fprintf(out, "%s %s%s%s%s%s%s%s%s%s%s\n", json_text(run, "id"), style != NULL ? "\033[" : "", style != NULL ? style : "",
	    style != NULL ? "m" : "", state, style != NULL ? "\033[0m" : "", took[0] != '\0' ? " after " : "", took,
	    found[0] != '\0' ? ": " : "", found, json_is_true(json_object_get(run, "partial")) ? " (partial)" : "");
	if (reason[0] != '\0' && strcmp(state, "completed") != 0)
		fprintf(out, "Reason: %s\n", reason);
	free(reason);
}

/* What a final run means for the exit code. Fails closed: findings that cannot be read are never taken for none. */
static int
verdict(struct cli *c, const struct request *r, json_t *run)
{
	bool completed = strcmp(json_text(run, "state"), "completed") == 0, readable;
	struct level_counts read = {0}, told = {0};
	struct err e = {0};
	int rc = settle_findings(c, r, json_text(run, "id"), &read, &e), code = completed ? EXIT_FINE : EXIT_FINDINGS;

	readable = rc == 0;
	if (c->settings.json && (r->sarif == NULL || strcmp(r->sarif, "-") != 0)) {
		json_t *whole = json_pack("{s:O}", "run", run);

		cli_print_json(whole);
		json_decref(whole);
	} else {
		print_end(c, run, readable ? &read : NULL);
	}
	/* A run without any report is fine only where nothing was asked of one. */
	if (rc == ERR_NOTFOUND && r->fail_on == FAIL_ON_NONE && r->sarif == NULL)
		return code;
	if (rc != 0 && code == EXIT_FINE)
		return cli_fail(&e);
	if (rc != 0 && r->sarif != NULL)
		(void)cli_fail(&e);
	(void)level_counts_read(json_object_get(run, "findings"), &told);
	if (fail_on_reached(r->fail_on, &read) || fail_on_reached(r->fail_on, &told))
		code = EXIT_FINDINGS;
	return code;
}

static int
print_submitted(struct cli *c, const struct request *r, json_t *run, bool reused)
{
	json_t *whole;

	if (c->settings.json) {
		whole = json_pack("{s:O, s:b}", "run", run, "reused", reused);
		cli_print_json(whole);
		json_decref(whole);
	} else if (r->detach) {
		printf("%s\n", json_text(run, "id"));
	} else {
		printf("%s is %s%s\n", json_text(run, "id"), json_text(run, "state"), reused ? "; it does the same" : "");
		fprintf(stderr, "Follow it: drover status -watch %s\n", json_text(run, "id"));
	}
	return EXIT_FINE;
}

static int
wait_and_judge(struct cli *c, const struct request *r, const char *id, bool reused)
{
	struct err e = {0};
	json_t *run = NULL;
	int rc, code;

	if (!c->settings.json)
		fprintf(stderr, "%s %s\n", reused ? "Reused" : "Submitted", id);
	rc = wait_run(c, id, &run, &e);
	if (rc == ERR_CANCELED)
		return wait_interrupted(c, id);
	code = rc != 0 ? cli_fail(&e) : verdict(c, r, run);
	json_decref(run);
	return code;
}

int
cmd_run(struct cli *c)
{
	struct request r = {0};
	json_t *workflow = NULL, *target = NULL, *run = NULL;
	struct target meant;
	const json_t *w;
	struct err e = {0};
	bool reused = false;
	int rc, code;

	rc = read_request(&c->args, &r, &e);
	if (rc == 0)
		rc = check_kind(args_value(&c->args, "kind"), &e);
	if (rc == 0)
		rc = cli_connect(c, &e);
	if (rc == 0)
		rc = read_workflow(c, r.workflow, &workflow, &e);
	w = json_object_get(workflow, "workflow");
	if (rc == 0)
		rc = read_params(&c->args, json_object_get(w, "parameters"), r.params, &e);
	if (rc == 0)
		rc = target_look(r.target, wanted_kind(&c->args, w), &meant, &e);
	if (rc == 0)
		rc = try(c, &r, &meant, &e);
	if (rc == 0)
		rc = target_bring(c, &meant, &target, &e);
	if (rc == 0)
		rc = submit(c, &r, target, &run, &reused, &e);
	if (rc != 0)
		code = cli_fail(&e);
	else if (r.wait)
		code = wait_and_judge(c, &r, json_text(run, "id"), reused);
	else
		code = print_submitted(c, &r, run, reused);
	json_decref(workflow);
	json_decref(target);
	json_decref(run);
	json_decref(r.params);
	json_decref(r.labels);
	json_decref(r.wishes);
	return code;
}
