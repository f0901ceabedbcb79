/* drover events: the server-sent events as lines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/render.h"
#include "cli/text.h"
#include "proto/run.h"

#define LINE_BYTES_MAX (1024 * 1024)

struct stream {
	struct cli *c;
	struct buf line;
	char event[32];
};

static void
print_event(struct stream *s, const json_t *data)
{
	const json_t *progress = json_object_get(data, "progress");
	char *text, *safe;

	if (strcmp(s->event, "gap") == 0)
		text = xstrdup("(earlier events are not kept any more)");
	else if (strcmp(s->event, "progress") == 0)
		text = xasprintf("%24s  %s  %s %s", "", json_text(data, "run"), json_text(progress, "step"),
		    json_text(progress, "message"));
	else
		text = xasprintf("%s  %s  %s%s%s", json_text(data, "at"), json_text(data, "run"), json_text(data, "state"),
		    json_text(data, "reason")[0] != '\0' ? "  " : "", json_text(data, "reason"));
	/* Blanks at the front keep the columns; what came from the server is made safe. */
	safe = text_safe(text + strspn(text, " "));
	printf("%*s%s\n", (int)strspn(text, " "), "", safe);
	free(safe);
	free(text);
}

/* One whole line of the stream. */
static void
take_line(struct stream *s, const char *line)
{
	json_t *data;

	if (strncmp(line, "event:", 6) == 0) {
		snprintf(s->event, sizeof(s->event), "%s", line + 6 + strspn(line + 6, " "));
		return;
	}
	if (strncmp(line, "data:", 5) != 0)
		return;
	data = json_loads(line + 5, 0, NULL);
	if (data != NULL && s->c->settings.json) {
		(void)json_dumpf(data, stdout, JSON_ENSURE_ASCII | JSON_COMPACT);
		fputc('\n', stdout);
	} else if (data != NULL) {
		print_event(s, data);
	}
	fflush(stdout);
	json_decref(data);
}

static int
take_bytes(void *arg, const void *data, size_t len)
{
	struct stream *s = arg;

	for (const char *p = data; len > 0; p++, len--) {
		if (*p == '\n') {
			take_line(s, buf_str(&s->line));
			buf_clear(&s->line);
		} else if (*p != '\r' && buf_addc(&s->line, *p) != 0) {
			return ERR_TOOBIG;
		}
	}
	return ferror(stdout) ? ERR_IO : 0;
}

/* Why a stream ended: 0 if its run is over, else ERR_RETRY; all events have no end of their own. */
static int
ending(struct cli *c, const char *run, struct err *e)
{
	struct buf path = buf_make(4096);
	enum run_state state;
	json_t *answer = NULL;
	bool over = false;
	int rc = run != NULL ? api_get(c->api, api_path(&path, "/v1/run/", run, ""), &answer, e) : 0;

	if (rc == 0 && answer != NULL)
		over = run_state_parse(json_text(json_object_get(answer, "run"), "state"), &state) && run_state_final(state);
	json_decref(answer);
	buf_release(&path);
	if (rc != 0 || over)
		return rc;
	(void)err_set(e, ERR_RETRY, "the events broke off: the dispatcher has ended");
	(void)err_hint(e, "begin anew when it is back; drover runs shows what happened meanwhile");
	return ERR_RETRY;
}

int
cmd_events(struct cli *c)
{
	const char *run = args_value(&c->args, "f");
	struct stream s = {.c = c, .line = buf_make(LINE_BYTES_MAX)};
	struct buf path = buf_make(4096);
	struct api_call call = {.method = "GET", .write_fn = take_bytes, .arg = &s};
	struct err e = {0};
	int rc = cli_connect(c, &e);

	if (rc == 0) {
		call.path = run != NULL ? api_path(&path, "/v1/run/", run, "/events") : "/v1/events";
		rc = api_do(c->api, &call, &e);
	}
	if (rc == 0 && !interrupted())
		rc = ending(c, run, &e);
	buf_release(&s.line);
	buf_release(&path);
	/* Ctrl-C is how one leaves a stream that has no end. */
	if (interrupted())
		return EXIT_INTERRUPTED;
	return rc == 0 ? EXIT_FINE : cli_fail(&e);
}
