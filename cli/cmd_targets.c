/* drover targets: what is stored. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/render.h"

#define LIST_DEFAULT 20
#define LIST_MAX 1000
#define TARGET_ID_CHARS 36

static int
show_list(struct cli *c, const json_t *answer)
{
	static const struct column columns[] = {{"TARGET", TABLE_WHOLE, NULL}, {"NAME", TABLE_SHRINK, NULL},
		{"SIZE", TABLE_RIGHT, NULL}, {"STORED", 0, NULL}, {"EXPIRES", 0, NULL}};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	int64_t now = clock_real_ms();
	size_t i;
	json_t *target;

	json_array_foreach(json_object_get(answer, "targets"), i, target)
	{
		char size[32], stored[48], expires[48];

		table_add(t, (const char *const[]){json_text(target, "id"), json_text(target, "filename"),
		    num_format_size(json_number(target, "size_bytes"), size, sizeof(size)),
		    render_age(json_text(target, "created_at"), now, stored, sizeof(stored)),
		    render_age(json_text(target, "expires_at"), now, expires, sizeof(expires))});
	}
	cli_print_table(c, t, "No targets.");
	if (json_text(answer, "next_token")[0] != '\0')
		fprintf(stderr, "There are more: -limit N\n");
	return EXIT_FINE;
}

int
cmd_targets_list(struct cli *c)
{
	struct buf path = buf_make(1024);
	int64_t limit = LIST_DEFAULT;
	struct err e = {0};
	char text[24];
	int code;

	if (args_int(&c->args, "limit", 0, LIST_MAX, &limit, &e) != 0)
		return cli_fail(&e);
	snprintf(text, sizeof(text), "%lld", (long long)(limit == 0 ? LIST_MAX : limit));
	buf_adds(&path, "/v1/targets");
	api_query(&path, "limit", text);
	code = cli_show(c, buf_str(&path), show_list);
	buf_release(&path);
	return code;
}

static int
show_target(struct cli *c, const json_t *answer)
{
	static const struct {
		const char *key, *title;
	} fields[] = {{"id", "Target"}, {"filename", "Name"}, {"sha256", "SHA-256"}, {"created_at", "Stored"},
	    {"expires_at", "Expires"}};
	const json_t *t = json_object_get(answer, "target");
	char size[32];

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		cli_print_field(c, fields[i].title, json_text(t, fields[i].key), NULL);
	cli_print_field(c, "Size", num_format_size(json_number(t, "size_bytes"), size, sizeof(size)), NULL);
	return EXIT_FINE;
}

int
cmd_targets_show(struct cli *c)
{
	struct buf path = buf_make(1024);
	int code = cli_show(c, api_path(&path, "/v1/target/", c->args.words[0], ""), show_target);

	buf_release(&path);
	return code;
}

int
cmd_targets_rm(struct cli *c)
{
	struct err e = {0};
	int worst = cli_connect(c, &e) == 0 ? EXIT_FINE : cli_fail(&e);

	for (int i = 0; i < c->args.n_words && c->api != NULL && !interrupted(); i++) {
		struct buf path = buf_make(1024);
		struct api_call call = {.method = "DELETE", .path = api_path(&path, "/v1/target/", c->args.words[i], "")};
		int rc;

		e = (struct err){0};
		rc = api_do(c->api, &call, &e);
		/* By its whole id a target that is not there is as gone as whoever asks wants it. */
		if (rc == ERR_NOTFOUND && strlen(c->args.words[i]) == TARGET_ID_CHARS)
			fprintf(stderr, "%s is not there: removed before, or expired\n", c->args.words[i]);
		else if (rc != 0)
			worst = cli_fail(&e);
		else if (!c->settings.json)
			printf("removed %s\n", c->args.words[i]);
		json_decref(call.answer);
		buf_release(&path);
	}
	return worst;
}
