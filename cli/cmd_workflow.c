/* drover workflow list, show, push, validate. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/render.h"
#include "cli/text.h"
#include "proto/workflow.h"
#include "storage/pack.h"

#define BUNDLE_MAX (16 * 1024 * 1024)
#define ENTRIES_MAX 2000
#define DIR_WORD "${WORKFLOW_DIR}/"

/* --- list and show --- */

static void
print_broken(const json_t *broken)
{
	size_t i;
	json_t *b;

	json_array_foreach(broken, i, b)
	{
		char *name = text_safe(json_text(b, "name")), *reason = text_safe(json_text(b, "reason"));

		fprintf(stderr, "Broken: %s: %s\n", name, reason);
		free(name);
		free(reason);
	}
}

static int
show_list(struct cli *c, const json_t *answer)
{
	static const struct column columns[] = {{"WORKFLOW", 0, NULL}, {"VERSION", 0, NULL}, {"VERTICAL", 0, NULL}, {"TARGET", 0, NULL},
		{"FROM", 0, NULL}, {"DESCRIPTION", TABLE_SHRINK, NULL}};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	size_t i;
	json_t *w;

	json_array_foreach(json_object_get(answer, "workflows"), i, w)
		table_add(t, (const char *const[]){json_text(w, "name"), json_text(w, "version"), json_text(w, "vertical"),
		    json_text(w, "target"), json_text(w, "source"), json_text(w, "description")});
	cli_print_table(c, t, "No workflows.");
	fflush(stdout);
	print_broken(json_object_get(answer, "broken"));
	return EXIT_FINE;
}

int
cmd_workflow_list(struct cli *c)
{
	return cli_show(c, "/v1/workflows", show_list);
}

/* "string, one of a b c", "integer, 1 to 300". */
static char *
describe_type(const json_t *p)
{
	struct buf b = buf_make(8192);
	const json_t *low = json_object_get(p, "minimum"), *high = json_object_get(p, "maximum");
	const json_t *items = json_object_get(p, "items"), *words = json_object_get(p, "enum");
	size_t i;
	json_t *word;

	buf_adds(&b, json_text(p, "type"));
	if (items != NULL) {
		buf_addf(&b, " of %s", json_text(items, "type"));
		words = words != NULL ? words : json_object_get(items, "enum");
	}
	json_array_foreach(words, i, word)
	{
		char *text = json_dumps(word, JSON_ENCODE_ANY);

		buf_addf(&b, "%s%s", i == 0 ? ": " : "|", json_is_string(word) ? json_string_value(word) : text);
		free(text);
	}
	if (json_is_number(low) && json_is_number(high))
		buf_addf(&b, ", %g to %g", json_number_value(low), json_number_value(high));
	else if (json_is_number(low) || json_is_number(high))
		buf_addf(&b, ", at %s %g", low != NULL ? "least" : "most", json_number_value(low != NULL ? low : high));
	return buf_take(&b);
}

static void
print_parameters(struct cli *c, const json_t *schema)
{
	static const struct column columns[] = {{"PARAMETER", 0, NULL}, {"TYPE", TABLE_SHRINK, NULL}, {"DEFAULT", TABLE_SHRINK, NULL},
		{"MEANING", TABLE_SHRINK, NULL}};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	json_t *properties = json_object_get(schema, "properties"), *p;
	const char *name;

	json_object_foreach(properties, name, p)
	{
		const json_t *def = json_object_get(p, "default");
		char *type = describe_type(p), *text = def != NULL ? json_dumps(def, JSON_ENCODE_ANY | JSON_COMPACT) : xstrdup("");

		table_add(t, (const char *const[]){name, type, text, json_text(p, "description")});
		free(type);
		free(text);
	}
	printf("\n");
	cli_print_table(c, t, "It takes no parameters.");
}

static int
show_workflow(struct cli *c, const json_t *answer)
{
	static const struct {
		const char *key, *title;
	} fields[] = {{"name", "Workflow"}, {"version", "Version"}, {"description", "Description"}, {"author", "Author"},
		{"vertical", "Vertical"}, {"target", "Target"}, {"isolation", "Isolation"}, {"execution", "Execution"},
		{"network", "Network"}, {"bundle", "Bundle"}, {"loaded_at", "Loaded"}, {"source", "From"}};
	const json_t *w = json_object_get(answer, "workflow");
	struct buf steps = buf_make(8192);
	size_t i;
	json_t *step;

	for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		cli_print_field(c, fields[i].title, json_text(w, fields[i].key), i == 0 ? "1" : NULL);
	json_array_foreach(json_object_get(w, "steps"), i, step)
		buf_addf(&steps, "%s%s", i > 0 ? ", " : "", json_is_string(step) ? json_string_value(step) : json_text(step, "name"));
	cli_print_field(c, "Steps", buf_str(&steps), NULL);
	buf_release(&steps);
	print_parameters(c, json_object_get(w, "parameters"));
	return EXIT_FINE;
}

int
cmd_workflow_show(struct cli *c)
{
	struct buf path = buf_make(4096);
	int code = cli_show(c, api_path(&path, "/v1/workflow/", c->args.words[0], ""), show_workflow);

	buf_release(&path);
	return code;
}

/* --- validate --- */

/* A script that a step names must be in the folder. */
static int
check_scripts(const char *dir, const struct workflow *w, struct err *e)
{
	char path[PATH_MAX];
	int rc;

	for (size_t i = 0; i < w->n_steps; i++)
		for (char **arg = w->steps[i].argv; *arg != NULL; arg++) {
			if (strncmp(*arg, DIR_WORD, strlen(DIR_WORD)) != 0)
				continue;
			if ((rc = file_join(path, sizeof(path), dir, *arg + strlen(DIR_WORD), e)) != 0)
				return rc;
			if (access(path, R_OK) != 0)
				return err_set(e, ERR_INVALID, "step %s: %s: %s", w->steps[i].name, path, strerror(errno));
		}
	return 0;
}

/* Reads and checks a workflow's folder; its name (the folder's) in name. */
static int
validate(const char *dir, char name[WORKFLOW_NAME_MAX], struct err *e)
{
	char path[PATH_MAX], *real = realpath(dir, NULL);
	struct buf b = buf_make(WORKFLOW_FILE_MAX);
	struct workflow *w = NULL;
	int rc;

	if (real == NULL) {
		rc = err_set(e, ERR_NOTFOUND, "%.200s: %s", dir, strerror(errno));
		goto out;
	}
	if ((rc = file_join(path, sizeof(path), dir, "metadata.yaml", e)) != 0)
		goto out;
	if ((rc = file_read(AT_FDCWD, path, &b, e)) != 0) {
		(void)err_hint(e, "a workflow is a folder with a metadata.yaml");
		goto out;
	}
	if ((rc = workflow_parse(path, basename(real), buf_str(&b), b.len, &w, e)) == 0 && (rc = check_scripts(dir, w, e)) == 0)
		snprintf(name, WORKFLOW_NAME_MAX, "%s", w->name);
out:
	workflow_free(w);
	buf_release(&b);
	free(real);
	return rc;
}

int
cmd_workflow_validate(struct cli *c)
{
	json_t *verdicts = json_array();
	int code = EXIT_FINE;

	for (int i = 0; i < c->args.n_words; i++) {
		char name[WORKFLOW_NAME_MAX] = "";
		struct err e = {0};
		int rc = validate(c->args.words[i], name, &e);

		if (rc != 0)
			code = cli_fail(&e) == EXIT_INTERRUPTED ? EXIT_INTERRUPTED : EXIT_FINDINGS;
		else if (!c->settings.json)
			printf("%s is valid\n", name);
		json_array_append_new(verdicts, json_pack("{s:s, s:b, s:s*, s:s*}", "dir", c->args.words[i], "valid", rc == 0, "name",
		    rc == 0 ? name : NULL, "reason", rc != 0 ? e.msg : NULL));
	}
	if (c->settings.json)
		cli_print_json(verdicts);
	json_decref(verdicts);
	return code;
}

/* --- push --- */

struct bundle_out {
	struct buf packed;
	size_t sent;
};

static int
add_packed(void *arg, const void *data, size_t len)
{
	struct bundle_out *o = arg;

	return buf_add(&o->packed, data, len);
}

static long
send_packed(void *arg, void *out, size_t len)
{
	struct bundle_out *o = arg;
	size_t left = o->packed.len - o->sent, n = left < len ? left : len;

	memcpy(out, o->packed.data + o->sent, n);
	o->sent += n;
	return (long)n;
}

static void
say_left_out(void *arg, const char *path, const char *why)
{
	char *safe = text_safe(path);

	(void)arg;
	fprintf(stderr, "left out: %s (%s)\n", safe, why);
	free(safe);
}

static int
push(struct cli *c, const char *dir, json_t **ret, struct err *e)
{
	struct bundle_out o = {.packed = buf_make(BUNDLE_MAX)};
	struct pack_options options = {.max_bytes = INT64_C(4) * BUNDLE_MAX, .max_entries = ENTRIES_MAX, .left_out = say_left_out,
		.stop = interrupt_flag()};
	struct pack_result packed;
	struct buf path = buf_make(1024);
	char name[WORKFLOW_NAME_MAX];
	struct api_call call = {.method = "PUT", .read_fn = send_packed, .arg = &o};
	int rc = validate(dir, name, e);

	if (rc == 0)
		rc = cli_connect(c, e);
	if (rc == 0 && (rc = pack_tree(dir, &options, add_packed, &o, &packed, e)) != 0 && o.packed.overflow)
		rc = err_set(e, ERR_TOOBIG, "%.200s is larger than 16 MiB when packed", dir);
	if (rc == 0) {
		call.path = api_path(&path, "/v1/workflow/", name, "");
		call.body_size = (int64_t)o.packed.len;
		rc = api_do(c->api, &call, e);
		*ret = call.answer;
	}
	buf_release(&path);
	buf_release(&o.packed);
	return rc;
}

int
cmd_workflow_push(struct cli *c)
{
	json_t *answer = NULL;
	const json_t *w;
	struct err e = {0};
	int code = EXIT_FINE;

	if (push(c, c->args.words[0], &answer, &e) != 0) {
		code = cli_fail(&e);
	} else if (c->settings.json) {
		cli_print_json(answer);
	} else {
		w = json_object_get(answer, "workflow");
		printf("%s %s is there (bundle %.12s)\n", json_text(w, "name"), json_text(w, "version"), json_text(w, "bundle"));
	}
	json_decref(answer);
	return code;
}
