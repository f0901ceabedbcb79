/* drover pause, resume: a vertical or a tenant whose queued runs are held back. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/render.h"

static int
change(struct cli *c, const char *method, json_t *body, const char *did)
{
	struct buf path = buf_make(4096);
	struct api_call call = {.method = method, .body = body, .deaf = true};
	struct err e = {0};
	char below[200];
	int rc = cli_connect(c, &e), code = EXIT_FINE;

	(void)snprintf(below, sizeof(below), "/v1/pause/%.100s/", c->args.words[0]);
	call.path = api_path(&path, below, c->args.words[1], "");
	if (rc == 0)
		rc = api_do(c->api, &call, &e);
	if (rc != 0)
		code = cli_fail(&e);
	else if (c->settings.json)
		cli_print_json(call.answer);
	else
		printf("%s %s %s\n", c->args.words[0], c->args.words[1], did);
	json_decref(call.answer);
	json_decref(body);
	buf_release(&path);
	return code;
}

int
cmd_pause(struct cli *c)
{
	const char *reason = args_value(&c->args, "reason");
	json_t *body = reason != NULL ? json_pack("{s:s}", "reason", reason) : json_object();
	struct err e = {0};

	if (body == NULL) {
		(void)err_set(&e, ERR_INVALID, "-reason: not UTF-8");
		return cli_fail(&e);
	}
	return change(c, "PUT", body, "is paused: what is queued waits, what runs goes on");
}

int
cmd_resume(struct cli *c)
{
	return change(c, "DELETE", NULL, "goes on");
}
