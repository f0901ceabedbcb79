#include "cli/wait.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/num.h"
#include "cli/interrupt.h"
#include "cli/render.h"
#include "cli/text.h"
#include "base/retry.h"
#include "proto/run.h"

/* Progress does not end a blocking read: on a terminal it is looked at this often. */
#define LOOK_TTY "2s"
#define LOOK "15s"
#define CALL_MS 45000

struct waiting {
	struct cli *c;
	struct live *live;
	const char *id;
	char index[64], seen[512];
	uint32_t failures; /* in a row */
	int64_t away_since_mono_ms;
};

static void
show(struct waiting *w, const json_t *run)
{
	struct buf line = buf_make(4096), shown = buf_make(8192);

	render_run_line(&line, run);
	buf_addf(&shown, "%s  %s", json_text(run, "workflow"), buf_str(&line));
	live_set(w->live, buf_str(&shown));
	/* Without a live line every change of state is told once; progress alone is not. */
	if (w->live == NULL && !w->c->settings.json && strcmp(w->seen, json_text(run, "state")) != 0)
		live_say(NULL, "%s: %s", w->id, buf_str(&line));
	snprintf(w->seen, sizeof(w->seen), "%s", json_text(run, "state"));
	buf_release(&line);
	buf_release(&shown);
}

/* Waits with jitter before the next try; the first failure is told. */
static void
back_off(struct waiting *w, const struct err *e)
{
	static const struct retry_policy policy = {.max_attempts = RETRY_MAX_ATTEMPTS, .base_ms = 250, .cap_ms = 5000};
	uint64_t random;
	int64_t delay_ms;
	char *msg;

	if (w->failures++ == 0) {
		msg = text_safe(e->msg);
		live_say(w->live, "The dispatcher does not answer (%s); the run is not affected, trying again", msg);
		live_set(w->live, "waiting for the dispatcher");
		free(msg);
		w->away_since_mono_ms = clock_mono_ms();
	}
	random_bytes(&random, sizeof(random));
	delay_ms = retry_next(&policy, w->failures < RETRY_MAX_ATTEMPTS ? w->failures : RETRY_MAX_ATTEMPTS - 1, 0, random);
	(void)interrupt_wait(delay_ms, -1);
}

static int
look(struct waiting *w, json_t **ret, struct err *e)
{
	struct buf path = buf_make(4096);
	struct api_call call = {.method = "GET", .timeout_ms = CALL_MS};
	int rc;

	(void)api_path(&path, "/v1/run/", w->id, "");
	if (w->index[0] != '\0') {
		api_query(&path, "index", w->index);
		api_query(&path, "wait", w->live != NULL ? LOOK_TTY : LOOK);
	}
	call.path = buf_str(&path);
	rc = api_do(w->c->api, &call, e);
	if (rc == 0 && !json_is_object(json_object_get(call.answer, "run")))
		rc = err_set(e, ERR_PROTO, "the answer holds no run");
	if (rc == 0) {
		snprintf(w->index, sizeof(w->index), "%s", call.header);
		*ret = json_incref(json_object_get(call.answer, "run"));
	}
	json_decref(call.answer);
	buf_release(&path);
	return rc;
}

int
wait_run(struct cli *c, const char *id, json_t **ret, struct err *e)
{
	struct waiting w = {.c = c, .id = id, .live = live_start(&c->term, !c->settings.json)};
	enum run_state state;
	json_t *run = NULL;
	char away[32];
	int rc = 0;

	while (!interrupted()) {
		*e = (struct err){0};
		rc = look(&w, &run, e);
		if (api_may_pass(rc)) {
			w.index[0] = '\0';
			back_off(&w, e);
			continue;
		}
		if (rc != 0)
			break;
		if (w.failures > 0)
			live_say(w.live, "The dispatcher is back after %s",
			    num_format_duration(clock_mono_ms() - w.away_since_mono_ms, away, sizeof(away)));
		w.failures = 0;
		show(&w, run);
		if (!run_state_parse(json_text(run, "state"), &state)) {
			rc = err_set(e, ERR_PROTO, "the run is in a state that is not known here: %.40s", json_text(run, "state"));
			break;
		}
		if (run_state_final(state))
			break;
		json_decref(run);
		run = NULL;
		if (w.index[0] == '\0') /* a server that does not say where it is must not be asked all the time */
			(void)interrupt_wait(1000, -1);
	}
	live_stop(w.live);
	if (interrupted())
		rc = err_set(e, ERR_CANCELED, "interrupted");
	if (rc == 0)
		*ret = run;
	else
		json_decref(run);
	return rc;
}

int
wait_cancel(struct cli *c, const char *id, const char *reason, json_t **ret, struct err *e)
{
	struct buf path = buf_make(4096);
	json_t *body = reason != NULL ? json_pack("{s:s}", "reason", reason) : json_object();
	struct api_call call = {.method = "POST", .path = api_path(&path, "/v1/run/", id, "/cancel"), .body = body, .deaf = true};
	int rc = body != NULL ? api_do(c->api, &call, e) : err_set(e, ERR_INVALID, "the reason is not UTF-8");

	if (rc == 0 && ret != NULL)
		*ret = json_incref(json_object_get(call.answer, "run"));
	json_decref(call.answer);
	json_decref(body);
	buf_release(&path);
	return rc;
}

/* True for "n": anything else, the end of input and a second signal let the run go on. */
static bool
asked_to_stop(void)
{
	char answer = interrupt_ask("\nLet the run go on? [Y/n] ");

	return answer == 'n' || answer == 'N';
}

int
wait_interrupted(struct cli *c, const char *id)
{
	struct err e = {0};

	interrupt_clear();
	if (isatty(STDIN_FILENO) && c->term.err_tty && asked_to_stop()) {
		if (wait_cancel(c, id, "Ctrl-C", NULL, &e) == 0)
			fprintf(stderr, "Canceling %s\n", id);
		else
			(void)cli_fail(&e);
		return EXIT_INTERRUPTED;
	}
	fprintf(stderr, "The run goes on: drover status %s\n", id);
	return EXIT_INTERRUPTED;
}
