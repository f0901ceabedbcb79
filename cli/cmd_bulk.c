/* drover cancel, requeue, purge: of runs by id, or of all that a filter names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/render.h"
#include "cli/run_filter.h"
#include "cli/text.h"
#include "cli/wait.h"

struct deed {
	const char *name, *did; /* "cancel", "canceled" */
	/* Does it to one run; the answer's JSON in *ret. */
	int (*one)(struct cli *c, const char *id, json_t **ret, struct err *e);
};

/* --- by id --- */

static int
cancel_one(struct cli *c, const char *id, json_t **ret, struct err *e)
{
	json_t *run = NULL;
	int rc = wait_cancel(c, id, args_value(&c->args, "reason"), &run, e);

	if (rc == 0)
		*ret = json_pack("{s:o}", "run", run);
	return rc;
}

static int
send_one(struct cli *c, const char *method, const char *id, const char *below, json_t **ret, struct err *e)
{
	struct buf path = buf_make(4096);
	struct api_call call = {.method = method, .path = api_path(&path, "/v1/run/", id, below), .deaf = true};
	int rc = api_do(c->api, &call, e);

	*ret = call.answer;
	buf_release(&path);
	return rc;
}

static int
requeue_one(struct cli *c, const char *id, json_t **ret, struct err *e)
{
	return send_one(c, "POST", id, "/requeue", ret, e);
}

static int
purge_one(struct cli *c, const char *id, json_t **ret, struct err *e)
{
	return send_one(c, "DELETE", id, "", ret, e);
}

static int
by_id(struct cli *c, const struct deed *d)
{
	json_t *all = json_array(), *whole;
	int worst = EXIT_FINE;

	for (int i = 0; i < c->args.n_words && !interrupted(); i++) {
		const char *id = c->args.words[i];
		json_t *answer = NULL, *run;
		struct err e = {0};

		if (d->one(c, id, &answer, &e) != 0) {
			worst = cli_fail(&e);
			continue;
		}
		run = json_object_get(answer, "run");
		if (run != NULL)
			json_array_append(all, run);
		if (!c->settings.json && run == NULL)
			printf("%s is %s\n", id, d->did);
		else if (!c->settings.json)
			printf("%s is %s\n", json_text(run, "id"), json_text(run, "state"));
		json_decref(answer);
	}
	if (c->settings.json) {
		whole = json_pack("{s:O}", "runs", all);
		cli_print_json(whole);
		json_decref(whole);
	}
	json_decref(all);
	return worst;
}

/* --- by filter --- */

static int
ask_server(struct cli *c, const struct deed *d, json_t *body, json_t **ret, struct err *e)
{
	char path[64];
	struct api_call call = {.method = "POST", .body = body, .deaf = true};
	int rc;

	(void)snprintf(path, sizeof(path), "/v1/runs/%s", d->name);
	call.path = path;
	rc = api_do(c->api, &call, e);
	*ret = call.answer;
	return rc;
}

/* Whether a person wants it, who has been told how many it is about (none: nobody is asked); without a person -yes says so. */
static int
confirm(struct cli *c, const struct deed *d, const json_t *body, struct err *e)
{
	json_t *look, *answer = NULL;
	char question[128], yes;
	int rc;

	if (args_has(&c->args, "yes"))
		return 0;
	if (!isatty(STDIN_FILENO) || !c->term.err_tty) {
		(void)err_set(e, ERR_INVALID, "%s by a filter asks first, and nobody is there to answer", d->name);
		return err_hint(e, "-yes does it unasked; -dry-run tells how many it is about");
	}
	look = json_copy((json_t *)body);
	(void)json_object_set_new(look, "dry_run", json_true());
	rc = ask_server(c, d, look, &answer, e);
	json_decref(look);
	if (rc == 0 && json_number(answer, "matched") > 0) {
		(void)snprintf(question, sizeof(question), "%s %s%lld run%s? [y/N] ", d->name,
		    json_text(answer, "next_token")[0] != '\0' ? "more than " : "", (long long)json_number(answer, "matched"),
		    json_number(answer, "matched") == 1 ? "" : "s");
		yes = interrupt_ask(question);
		if (yes != 'y' && yes != 'Y')
			rc = err_set(e, ERR_CANCELED, "nothing was done");
	}
	json_decref(answer);
	return rc;
}

static void
print_refusals(const json_t *answer)
{
	size_t i;
	json_t *r;

	json_array_foreach(json_object_get(answer, "refusals"), i, r)
	{
		char *why = text_safe(json_text(r, "message"));

		fprintf(stderr, "%s: %s\n", json_text(r, "run"), why);
		free(why);
	}
}

static void
add_number(json_t *sum, const json_t *answer, const char *key)
{
	(void)json_object_set_new(sum, key, json_integer(json_number(sum, key) + json_number(answer, key)));
}

/* All pages of it. sum: how many in all. */
static int
do_all(struct cli *c, const struct deed *d, json_t *body, json_t *sum, struct err *e)
{
	int rc;

	for (;;) {
		json_t *answer = NULL;
		char next[32];

		if ((rc = ask_server(c, d, body, &answer, e)) != 0)
			return rc;
		add_number(sum, answer, "matched");
		add_number(sum, answer, "done");
		add_number(sum, answer, "refused");
		print_refusals(answer);
		(void)snprintf(next, sizeof(next), "%s", json_text(answer, "next_token"));
		json_decref(answer);
		if (next[0] == '\0')
			return 0;
		if (interrupted())
			return err_set(e, ERR_CANCELED, "interrupted");
		(void)json_object_set_new(body, "next_token", json_string(next));
	}
}

/* What is known of it after a failure, too. */
static void
show_sum(struct cli *c, const struct deed *d, const json_t *sum, bool dry, bool failed)
{
	long long matched = json_number(sum, "matched"), done = json_number(sum, "done");

	if (c->settings.json && matched >= 0)
		cli_print_json(sum);
	else if (!failed && dry)
		printf("It is about %lld run%s.\n", matched, matched == 1 ? "" : "s");
	else if (!failed || done > 0)
		printf("%lld of %lld run%s %s.\n", done, matched, matched == 1 ? " is" : "s are", d->did);
}

static int
by_filter(struct cli *c, const struct deed *d)
{
	json_t *body = json_object(), *sum = json_pack("{s:s}", "action", d->name);
	const char *reason = d->one == cancel_one ? args_value(&c->args, "reason") : NULL;
	bool dry = args_has(&c->args, "dry-run");
	struct err e = {0};
	int rc = run_filter_read(&c->args, body, &e), code;

	if (rc == 0 && json_object_size(body) == 0) {
		rc = err_set(&e, ERR_INVALID, "which runs?");
		(void)err_hint(&e, "ids, or a filter such as -state, -workflow, -label, -since, -dead");
	}
	if (rc == 0 && reason != NULL && json_object_set_new(body, "reason", json_string(reason)) != 0)
		rc = err_set(&e, ERR_INVALID, "-reason: not UTF-8");
	if (rc == 0 && dry)
		(void)json_object_set_new(body, "dry_run", json_true());
	else if (rc == 0)
		rc = confirm(c, d, body, &e);
	if (rc == 0)
		rc = do_all(c, d, body, sum, &e);
	code = rc != 0 ? cli_fail(&e) : json_number(sum, "refused") > 0 ? EXIT_FINDINGS : EXIT_FINE;
	show_sum(c, d, sum, dry, rc != 0);
	json_decref(sum);
	json_decref(body);
	return code;
}

/* --- the commands --- */

static int
act(struct cli *c, const struct deed *d)
{
	struct err e = {0};

	if (cli_connect(c, &e) != 0)
		return cli_fail(&e);
	return c->args.n_words > 0 ? by_id(c, d) : by_filter(c, d);
}

int
cmd_cancel(struct cli *c)
{
	return act(c, &(const struct deed){"cancel", "canceled", cancel_one});
}

int
cmd_requeue(struct cli *c)
{
	return act(c, &(const struct deed){"requeue", "queued again", requeue_one});
}

int
cmd_purge(struct cli *c)
{
	return act(c, &(const struct deed){"purge", "forgotten", purge_one});
}
