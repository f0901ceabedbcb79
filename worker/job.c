#include "worker/job.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/threads.h"
#include "worker/job_parts.h"
#include "worker/step_env.h"

#define SHIP_LAST_MS 3000 /* how long the end waits for the last lines to arrive */

static int
understand(struct job *j, struct err *e)
{
	*e = j->broken;
	return j->broken.code;
}

/* The way of a run up to its verdict. What a broken input means differs: of a target it is the submitter's fault. */
static const struct stage {
	const char *fault; /* where tests make the worker die, before the stage */
	int (*run)(struct job *j, struct err *e);
	enum fail_class refused; /* class of ERR_INVALID, ERR_TOOBIG and ERR_NOTFOUND; everything else is infrastructure */
} stages[] = {
	{"worker.leased", understand, FAIL_INVALID},
	{"worker.tools", job_check_tools, FAIL_INFRA},
	{"worker.fetch", job_fetch_target, FAIL_INVALID},
	{"worker.bundle", job_fetch_bundle, FAIL_INVALID},
	{"worker.workspace", job_make_workspace, FAIL_INVALID},
	{"worker.steps", job_run_steps, FAIL_INFRA},
};

void
job_fail(struct job *j, enum run_state outcome, enum fail_class fail, const char *fmt, ...)
{
	char text[REASON_MAX];
	va_list ap;

	if (j->fail != FAIL_NONE)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	j->outcome = outcome;
	j->fail = fail;
	(void)step_clean_text(j->reason, sizeof(j->reason), text);
}

/* Being stopped outweighs whatever was found before. */
static void
stopped_verdict(struct job *j)
{
	bool canceled = j->why == JOB_CANCELED;

	j->fail = FAIL_NONE;
	job_fail(j, canceled ? RUN_CANCELED : RUN_QUEUED, FAIL_HANDED_BACK, "%s", canceled ? "canceled" : "handed back: the worker is leaving");
	if (canceled)
		j->fail = FAIL_NONE;
	j->manifest_sha256[0] = '\0';
}

static void
run_stages(struct job *j)
{
	struct err e = {0};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof(stages) / sizeof(stages[0]); i++) {
		const struct stage *s = &stages[i];

		fault_point(s->fault);
		rc = j->stop ? ERR_CANCELED : s->run(j, &e);
		if (rc != 0 && !j->stop) {
			bool refused = rc == ERR_INVALID || rc == ERR_TOOBIG || rc == ERR_NOTFOUND;

			run_log_say(j->log, "%s%s%s", e.msg, e.hint[0] != '\0' ? " - " : "", e.hint);
			job_fail(j, RUN_FAILED, refused ? s->refused : FAIL_INFRA, "%s%s%s", e.msg, e.hint[0] != '\0' ? " - " : "", e.hint);
		}
	}
}

/* One report out of those of all steps; those that came before a failure are partial. */
static void
merge(struct job *j)
{
	size_t left_out = 0;

	for (size_t i = 0; i < j->n_steps; i++) {
		if (j->steps[i].sarif == NULL)
			continue;
		/* A file that only says that nothing was scanned would pass for a report. */
		if (j->sarif == NULL && j->has_findings)
			j->sarif = sarif_new();
		if (j->sarif != NULL)
			left_out += sarif_add(j->sarif, j->steps[i].sarif);
		json_decref(j->steps[i].sarif);
		j->steps[i].sarif = NULL;
	}
	if (left_out > 0)
		job_fail(j, RUN_FAILED, FAIL_TOOL, "the steps reported more than %d runs: %zu do not fit into one file", SARIF_RUNS_MAX, left_out);
	j->partial = j->has_findings && j->outcome != RUN_COMPLETED;
}

static void
conclude(struct job *j)
{
	struct err e = {0};
	int rc;

	merge(j);
	rc = j->stop ? ERR_CANCELED : job_publish(j, &e);
	if (j->stop)
		stopped_verdict(j);
	else if (rc != 0)
		job_fail(j, RUN_FAILED, FAIL_INFRA, "results could not be stored: %s", e.msg);
	ship_close(j->shipment, clock_mono_ms() + (j->stop ? 0 : SHIP_LAST_MS));
	j->shipment = NULL;
	job_clean_up(j); /* before the report, which may have to wait for a dispatcher that is away */
	if (j->why != JOB_LOST)
		job_report(j);
	else
		log_warn(j->terms.run, "given up: the lease was lost");
}

static void
tell_ended(void *arg)
{
	struct job *j = arg;

	j->ended(j, j->arg);
}

static void *
job_main(void *arg)
{
	struct job *j = arg;
	struct err e = {0};

	j->log = run_log_new(j->worker->config.cache_dir, j->worker->config.log_max_bytes, STDOUT_FILENO,
	    config_once(&j->worker->config) ? "" : j->terms.run, &e);
	if (j->log != NULL) {
		j->shipment = ship_open(j->worker->ship, j->terms.run, j->terms.fence, j->log);
		run_stages(j);
		conclude(j);
	} else {
		job_fail(j, RUN_FAILED, FAIL_INFRA, "%s", e.msg);
		job_report(j);
	}
	loop_post(j->loop, tell_ended, j);
	return NULL;
}

struct job *
job_start(struct worker *w, struct loop *l, const json_t *lease, unsigned slot, bool leaving,
    void (*ended)(struct job *j, void *arg), job_wants *wants, void *arg)
{
	struct job *j = xcalloc(1, sizeof(*j));

	if (!lease_identify(lease, &j->terms) || (j->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
		free(j);
		return NULL;
	}
	if (lease_parse(lease, &j->terms, &j->broken) != 0)
		log_warn(j->terms.run, "%s", j->broken.msg);
	j->worker = w;
	j->loop = l;
	j->slot = slot;
	j->leaving = leaving;
	j->ended = ended;
	j->wants = wants;
	j->arg = arg;
	j->outcome = RUN_FAILED;
	j->steps = xcalloc(WORKFLOW_STEPS_MAX, sizeof(*j->steps));
	j->started_real_ms = clock_real_ms();
	pthread_mutex_init(&j->lock, NULL);
	log_info(j->terms.run, "attempt %lld of workflow %s begins", (long long)j->terms.attempt, j->terms.workflow);
	thread_start(&j->thread, "run", job_main, j);
	return j;
}

const char *
job_run(const struct job *j)
{
	return j->terms.run;
}

const char *
job_fence(const struct job *j)
{
	return j->terms.fence;
}

void
job_stop(struct job *j, enum job_stop why, bool leaving)
{
	uint64_t one = 1;
	int none = JOB_GOES_ON;

	if (leaving)
		j->leaving = true;
	if (why == JOB_LOST)
		j->why = JOB_LOST;
	else
		(void)atomic_compare_exchange_strong(&j->why, &none, (int)why);
	j->stop = true;
	/* Fails only when the counter is full: then it is readable as well. */
	if (write(j->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_error(j->terms.run, "wake-up: %s", strerror(errno));
}

json_t *
job_held(struct job *j, bool all)
{
	json_t *o = json_pack("{s:s, s:s}", "run", j->terms.run, "fence", j->terms.fence);

	if (!all)
		return o;
	pthread_mutex_lock(&j->lock);
	json_object_set_new(o, "progress", j->progress != NULL ? json_incref(j->progress) : json_null());
	pthread_mutex_unlock(&j->lock);
	json_object_set_new(o, "steps", job_steps_json(j));
	return o;
}

json_t *
job_take_leases(struct job *j)
{
	json_t *leases = j->leases;

	j->leases = NULL;
	return leases;
}

void
job_free(struct job *j)
{
	pthread_join(j->thread, NULL);
	for (size_t i = 0; i < j->n_steps; i++)
		json_decref(j->steps[i].sarif);
	free(j->steps);
	json_decref(j->progress);
	json_decref(j->sarif);
	json_decref(j->leases);
	workflow_free(j->workflow);
	run_log_free(j->log);
	lease_release(&j->terms);
	close(j->wake_fd);
	pthread_mutex_destroy(&j->lock);
	free(j);
}
