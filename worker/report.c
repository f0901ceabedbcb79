#include "worker/report.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/retry.h"

#define CALL_TIMEOUT_MS 10000
#define RETRY_BASE_MS 200
#define RETRY_CAP_MS 5000

const char *
report_outcome(const struct job *j)
{
	return j->outcome == RUN_QUEUED ? "handed_back" : run_state_word(j->outcome);
}

json_t *
report_findings(const struct job *j)
{
	if (!j->has_findings)
		return json_null();
	return json_pack("{s:I, s:I, s:I, s:I}", "error", (json_int_t)j->counts.error, "warning", (json_int_t)j->counts.warning, "note",
	    (json_int_t)j->counts.note, "total", (json_int_t)j->counts.total);
}

json_t *
report_sandbox(const struct job *j)
{
	json_t *o = sandbox_json(&j->worker->caps);

	if (j->ws.run_dir[0] != '\0')
		json_object_set_new(o, "workspace", json_pack("{s:s, s:s}", "mode", workspace_mode_word(j->ws.mode), "method",
		    workspace_method_word(j->ws.method)));
	return o;
}

static json_t *
report_body(struct job *j)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:o, s:b, s:o, s:s, s:o}", "worker", j->worker->id, "run", j->terms.run,
	    "fence", j->terms.fence, "outcome", report_outcome(j), "fail_class", fail_class_word(j->fail), "reason", j->reason, "leaving",
	    (int)j->leaving, "findings", report_findings(j), "partial", (int)j->partial, "steps", job_steps_json(j), "manifest_sha256",
	    j->manifest_sha256, "sandbox", report_sandbox(j));
}

/* Waits a moment, or until the job is told to stop; a wake-up that came before does not count twice. */
static void
pause_ms(struct job *j, int64_t ms)
{
	struct pollfd p = {.fd = j->stop ? -1 : j->wake_fd, .events = POLLIN};

	(void)poll(&p, 1, (int)ms);
}

/* Whether nobody waits for this report any more. */
static bool
abandoned(const struct job *j)
{
	return j->why == JOB_LOST || clock_mono_ms() >= j->worker->give_up_mono_ms;
}

/* What the dispatcher made of the one report in an exchange. Returns what /v1/worker/report would have. */
static int
read_result(struct job *j, json_t *answer, struct err *e)
{
	static const struct {
		const char *word;
		int code;
	} words[] = {{"ok", 0}, {"conflict", ERR_CONFLICT}, {"not_found", ERR_NOTFOUND}, {"invalid", ERR_INVALID}};
	const json_t *result = json_array_get(json_object_get(answer, "reports"), 0);
	const char *word = json_string_value(json_object_get(result, "result"));

	for (size_t i = 0; word != NULL && i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(words[i].word, word) != 0)
			continue;
		/* What is final makes room for the next run, whether the report was good for anything or not. */
		if (words[i].code != ERR_NOTFOUND)
			j->leases = json_incref(json_object_get(answer, "leases"));
		if (words[i].code != 0)
			err_set(e, words[i].code, "%s", json_string_value(json_object_get(result, "message")));
		return words[i].code;
	}
	return err_set(e, ERR_RETRY, "the dispatcher could not take the report");
}

/* One attempt. With a full worker's report goes the wish for the next run. */
static int
report_once(struct job *j, struct link_line *line, struct err *e)
{
	json_t *body = report_body(j), *poll = j->wants(j->arg, j), *answer = NULL;
	int rc;

	if (poll != NULL) {
		body = json_pack("{s:s, s:[o], s:o}", "worker", j->worker->id, "reports", body, "lease", poll);
		rc = link_post(line, "/v1/worker/exchange", body, CALL_TIMEOUT_MS, NULL, &answer, e);
		if (rc == 0)
			rc = read_result(j, answer, e);
	} else {
		rc = link_post(line, "/v1/worker/report", body, CALL_TIMEOUT_MS, NULL, &answer, e);
	}
	json_decref(body);
	json_decref(answer);
	return rc;
}

void
job_report(struct job *j)
{
	const struct retry_policy policy = {.max_attempts = RETRY_MAX_ATTEMPTS, .base_ms = RETRY_BASE_MS, .cap_ms = RETRY_CAP_MS};
	struct link_line *line = link_line_borrow(j->worker->link);
	struct err e = {0};
	uint32_t attempt = 0;
	int rc = ERR_RETRY;

	fault_point("worker.before_report");
	/* Also ERR_NOTFOUND is tried again: the loop registers at a dispatcher that does not know us. */
	while (rc != 0 && rc != ERR_CONFLICT && rc != ERR_INVALID && !abandoned(j)) {
		uint64_t random;

		rc = report_once(j, line, &e);
		random_bytes(&random, sizeof(random));
		attempt = attempt < RETRY_MAX_ATTEMPTS - 1 ? attempt + 1 : attempt;
		if (rc != 0 && rc != ERR_CONFLICT && rc != ERR_INVALID)
			pause_ms(j, retry_next(&policy, attempt, 0, random));
	}
	if (rc == 0)
		log_info(j->terms.run, "%s%s%s", report_outcome(j), j->reason[0] != '\0' ? ": " : "", j->reason);
	else
		log_warn(j->terms.run, "the outcome (%s) was not taken: %s", report_outcome(j), e.msg);
	fault_point("worker.after_report");
	link_line_return(line);
}
