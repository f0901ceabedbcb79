/* drover storage: what is in the object store, and whether it is in order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "cli/cli.h"
#include "cli/render.h"

#define LIMIT_DEFAULT_MS 20000
#define LIMIT_MAX_MS (10 * 60 * 1000)
#define VERIFY_MAX 10000
#define GRACE_MS 60000 /* beyond the doctor's own limit, for a store that hangs */

/* --- doctor --- */

static void
print_server(struct cli *c, const json_t *server)
{
	static const char *const features[][2] = {{"lifecycle", "lifecycle"}, {"versioning", "versioning"},
		{"conditional_put", "conditional put"}, {"multipart_copy", "multipart copy"}, {"checks_digests", "checksum headers"}};
	const json_t *has = json_object_get(server, "features");
	char text[400] = "", free_text[32];
	size_t at = 0;

	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s%s", at > 0 ? ", " : "",
		    json_is_true(json_object_get(has, features[i][0])) ? "" : "no ", features[i][1]);
	cli_print_field(c, "Store", json_text(server, "kind"), NULL);
	cli_print_field(c, "Server", json_text(server, "name"), NULL);
	if (has != NULL)
		cli_print_field(c, "Features", text, NULL);
	if (json_is_integer(json_object_get(server, "free_bytes")))
		cli_print_field(c, "Free", num_format_size(json_number(server, "free_bytes"), free_text, sizeof(free_text)), NULL);
}

static int
print_report(struct cli *c, const json_t *answer)
{
	static const struct column columns[] = {{"CHECK", 0, NULL}, {"BUCKET", 0, NULL}, {"STATE", 0, NULL},
		{"WHAT", TABLE_SHRINK | TABLE_WRAP, NULL}};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	bool healthy = json_is_true(json_object_get(answer, "healthy")), complete = json_is_true(json_object_get(answer, "complete"));
	size_t i;
	json_t *row;

	print_server(c, json_object_get(answer, "server"));
	printf("\n");
	json_array_foreach(json_object_get(answer, "checks"), i, row)
		table_add(t, (const char *const[]){json_text(row, "check"), json_text(row, "bucket"), json_text(row, "state"),
		    json_text(row, "text")});
	cli_print_table(c, t, "Nothing was looked at.");
	json_array_foreach(json_object_get(answer, "checks"), i, row)
		if (json_text(row, "hint")[0] != '\0' && strcmp(json_text(row, "state"), "ok") != 0)
			fprintf(stderr, "%s: %s\n", json_text(row, "check"), json_text(row, "hint"));
	printf("\n%s%s", healthy ? "Healthy" : "Not healthy", complete ? "" : ", as far as the time allowed to look");
	if (json_number(answer, "findings") > 0)
		printf(": %lld finding%s", (long long)json_number(answer, "findings"), json_number(answer, "findings") == 1 ? "" : "s");
	if (json_number(answer, "repaired") > 0)
		printf(", %lld repair%s", (long long)json_number(answer, "repaired"), json_number(answer, "repaired") == 1 ? "" : "s");
	printf("\n");
	return 0;
}

static int
ask(struct cli *c, int64_t verify, int64_t limit_ms, json_t **ret, struct err *e)
{
	bool repair = args_has(&c->args, "repair");
	json_t *body = repair ? json_pack("{s:I, s:I}", "verify", (json_int_t)verify, "limit_ms", (json_int_t)limit_ms) : NULL;
	struct buf path = buf_make(256);
	struct api_call call = {.method = repair ? "POST" : "GET", .body = body, .timeout_ms = limit_ms + GRACE_MS};
	int rc;

	buf_adds(&path, "/v1/storage/doctor");
	if (!repair)
		buf_addf(&path, "?verify=%lld&limit=%lldms", (long long)verify, (long long)limit_ms);
	call.path = buf_str(&path);
	rc = api_do(c->api, &call, e);
	*ret = call.answer;
	json_decref(body);
	buf_release(&path);
	return rc;
}

/* Fails closed: what could not be looked at in time is not healthy. */
int
cmd_storage_doctor(struct cli *c)
{
	int64_t verify = 0, limit_ms = LIMIT_DEFAULT_MS;
	json_t *answer = NULL;
	struct err e = {0};
	int code;

	if (args_int(&c->args, "verify", 0, VERIFY_MAX, &verify, &e) != 0 ||
	    args_duration(&c->args, "limit", 100, LIMIT_MAX_MS, &limit_ms, &e) != 0 || cli_connect(c, &e) != 0 ||
	    ask(c, verify, limit_ms, &answer, &e) != 0) {
		json_decref(answer);
		return cli_fail(&e);
	}
	if (c->settings.json)
		cli_print_json(answer);
	else
		print_report(c, answer);
	code = json_is_true(json_object_get(answer, "healthy")) && json_is_true(json_object_get(answer, "complete")) ? EXIT_FINE
	                                                                                                           : EXIT_FINDINGS;
	json_decref(answer);
	return code;
}

/* --- stat --- */

static void
print_buckets(struct cli *c, const json_t *answer)
{
	static const struct column columns[] = {{"BUCKET", 0, NULL}, {"FOR", 0, NULL}, {"OBJECTS", TABLE_RIGHT, NULL},
		{"SIZE", TABLE_RIGHT, NULL}, {"NOT OURS", TABLE_RIGHT, NULL}, {"EXPIRE", TABLE_RIGHT, NULL}};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	size_t i;
	json_t *b;

	json_array_foreach(json_object_get(answer, "buckets"), i, b)
	{
		char objects[32], size[32], foreign[32], days[32] = "";
		const char *more = json_is_true(json_object_get(b, "complete")) ? "" : "+";

		snprintf(objects, sizeof(objects), "%lld%s", (long long)json_number(b, "objects"), more);
		snprintf(foreign, sizeof(foreign), "%lld", (long long)json_number(b, "foreign"));
		if (json_number(b, "expire_days") > 0)
			snprintf(days, sizeof(days), "%lldd", (long long)json_number(b, "expire_days"));
		table_add(t, (const char *const[]){json_text(b, "bucket"), json_text(b, "role"), objects,
		    num_format_size(json_number(b, "bytes"), size, sizeof(size)), foreign, days});
	}
	cli_print_table(c, t, "No buckets.");
}

static int
print_stat(struct cli *c, const json_t *answer)
{
	static const struct column columns[] = {{"TENANT", 0, NULL}, {"TARGETS", TABLE_RIGHT, NULL}, {"SIZE", TABLE_RIGHT, NULL},
		{"RUNS WITH RESULTS", TABLE_RIGHT, NULL}};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	size_t i;
	json_t *u;

	print_buckets(c, answer);
	json_array_foreach(json_object_get(answer, "tenants"), i, u)
	{
		char targets[32], size[32], runs[32];

		snprintf(targets, sizeof(targets), "%lld", (long long)json_number(u, "targets"));
		snprintf(runs, sizeof(runs), "%lld", (long long)json_number(u, "runs_with_results"));
		table_add(t, (const char *const[]){json_text(u, "tenant"), targets,
		    num_format_size(json_number(u, "target_bytes"), size, sizeof(size)), runs});
	}
	printf("\n");
	cli_print_table(c, t, "No tenant has anything stored.");
	if (!json_is_true(json_object_get(answer, "complete")))
		fprintf(stderr, "There is more: the time was over before all was counted.\n");
	return EXIT_FINE;
}

int
cmd_storage_stat(struct cli *c)
{
	return cli_show(c, "/v1/storage", print_stat);
}
