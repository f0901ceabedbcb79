/* The stage that runs the tools: one sandbox per step, judged by exit code and report. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/num.h"
#include "worker/job_parts.h"
#include "worker/report_read.h"
#include "worker/step_env.h"
#include "worker/stream.h"

#define GRACE_MS 1000       /* between SIGTERM and SIGKILL: a cancelled tool is gone within two seconds */
#define AFTER_STOP_MS 15000 /* the sandbox itself is slow to end: the machine is in trouble */
#define OPEN_FILES 4096
#define WAIT_SLICE_MS 200
#define FULL_BYTES (1024 * 1024) /* less is left: a disk is full */
#define FULL_INODES 16

static const char *const state_words[] = {
	[STEP_PENDING] = "pending", [STEP_RUNNING] = "running", [STEP_OK] = "ok", [STEP_FOUND] = "findings", [STEP_FAILED] = "failed",
	[STEP_TIMED_OUT] = "timed_out", [STEP_STOPPED] = "stopped", [STEP_SKIPPED] = "skipped",
};

/* One step while it runs. */
struct running {
	struct job *job;
	const struct workflow_step *step;
	struct step_record *record;
	char scratch[768];      /* of this step alone, on the host */
	int64_t deadline_mono_ms, limit_ms; /* limit: the step's own, or the run's */
	struct sandbox_end end;
	bool late;              /* its time was over */
};

const char *
step_state_word(enum step_state s)
{
	return state_words[s];
}

json_t *
job_steps_json(struct job *j)
{
	json_t *list = json_array();

	pthread_mutex_lock(&j->lock);
	for (size_t i = 0; i < j->n_steps; i++) {
		const struct step_record *r = &j->steps[i];

		json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:I, s:s}", "name", j->workflow->steps[i].name, "state",
		    state_words[r->state], "exit_code", r->exit_code < 0 ? json_null() : json_integer(r->exit_code), "took_ms",
		    (json_int_t)r->took_ms, "message", r->message));
	}
	pthread_mutex_unlock(&j->lock);
	return list;
}

static void
note_progress(void *arg, json_t *progress)
{
	struct job *j = ((struct running *)arg)->job;

	pthread_mutex_lock(&j->lock);
	json_decref(j->progress);
	j->progress = json_incref(progress);
	pthread_mutex_unlock(&j->lock);
}

static void
note_log(void *arg)
{
	ship_poke(((struct running *)arg)->job->shipment);
}

static void
set_state(struct running *r, enum step_state state, const char *message)
{
	pthread_mutex_lock(&r->job->lock);
	r->record->state = state;
	(void)step_clean_text(r->record->message, sizeof(r->record->message), message);
	pthread_mutex_unlock(&r->job->lock);
}

/* A scratch folder of the step's own, with tmp/ for what honours TMPDIR. */
static int
make_scratch(struct running *r, struct err *e)
{
	const struct worker *w = r->job->worker;
	uid_t uid = (uid_t)w->config.uid_base + 1 + r->job->slot;
	gid_t gid = (gid_t)w->config.uid_base;
	char tmp[800];

	(void)snprintf(r->scratch, sizeof(r->scratch), "%s/%s", r->job->ws.scratch, r->step->name);
	(void)snprintf(tmp, sizeof(tmp), "%s/tmp", r->scratch);
	if (mkdir(r->scratch, 0700) != 0 || mkdir(tmp, 0700) != 0 ||
	    (geteuid() == 0 && (chown(r->scratch, uid, gid) != 0 || chown(tmp, uid, gid) != 0)))
		return err_set(e, ERR_RETRY, "scratch folder: %s", strerror(errno));
	return 0;
}

static void
fill_inputs(const struct running *r, struct step_inputs *in, char **ret_target)
{
	const struct job *j = r->job;
	const struct sandbox_caps *c = &j->worker->caps;
	/* Without mounts the tree itself, not a link to it: tools skip links, or call them no target. */
	const char *target = sandbox_inside(c, SANDBOX_TARGET, j->terms.tree ? j->ws.source : j->ws.tree);

	*in = (struct step_inputs){.out = sandbox_inside(c, SANDBOX_OUT, j->ws.out), .scratch = sandbox_inside(c, SANDBOX_SCRATCH, r->scratch),
	    .params = sandbox_inside(c, SANDBOX_PARAMS, j->params_path), .run = j->terms.run,
	    .workflow_dir = sandbox_inside(c, SANDBOX_WORKFLOW, cache_pin_tree(j->bundle)), .path = j->worker->tools.path};
	*ret_target = j->terms.tree ? xstrdup(target) : xasprintf("%s/%s", target, j->terms.target_name);
	if (j->terms.tree)
		in->target_dir = *ret_target;
	else
		in->target_file = *ret_target;
}

static void
fill_spec(const struct running *r, char **argv, char **env, const struct streams *s, char *name, size_t name_len,
    struct sandbox_spec *spec)
{
	const struct job *j = r->job;
	const struct config *c = &j->worker->config;
	bool userns = j->ws.method == WORKSPACE_OVERLAY_USERNS;

	(void)snprintf(name, name_len, "%.95s-%.40s", j->terms.run, r->step->name);
	*spec = (struct sandbox_spec){
	    .caps = &j->worker->caps,
	    .stock = j->worker->stock,
	    .name = name,
	    .argv = (const char *const *)argv,
	    .env = (const char *const *)env,
	    .paths = {.target = j->ws.source, .file = j->ws.file, .file_name = j->terms.target_name, .target_read_only = j->ws.read_only,
	        .lower = userns ? j->ws.lower : NULL, .upper = userns || j->ws.method == WORKSPACE_OVERLAY ? j->ws.upper : NULL,
	        .work = userns ? j->ws.work : NULL, .out = j->ws.out, .scratch = r->scratch, .workflow = cache_pin_tree(j->bundle), .params = j->params_path, .toolchain = j->worker->tools.toolchain},
	    .limits = {.memory_bytes = j->terms.memory_bytes, .cpu_millis = j->terms.cpu_millis, .processes = c->processes_max,
	        .file_bytes = j->terms.disk_bytes, .open_files = OPEN_FILES, .grace_ms = GRACE_MS,
	        .disk_bytes = j->terms.disk_bytes},
	    .uid = (uid_t)c->uid_base + 1 + j->slot,
	    .gid = (gid_t)c->uid_base,
	    .egress = j->terms.egress,
	    .out_fd = streams_child_fd(s, 0),
	    .err_fd = streams_child_fd(s, 1),
	    .progress_fd = streams_child_fd(s, 2),
	};
}

/* Waits for the sandbox while its output is read; ends it at the deadline or when the job must stop. */
static int
wait_end(struct running *r, struct sandbox *box, struct streams *s, struct err *e)
{
	struct pollfd wake = {.fd = r->job->wake_fd, .events = POLLIN};
	int rc = streams_pump(s, r->job->wake_fd, r->deadline_mono_ms);

	/* All output closed does not mean that the program has ended. */
	while (rc == 0) {
		rc = sandbox_wait(box, clock_mono_ms() + WAIT_SLICE_MS, &r->end, e);
		if (rc != ERR_TIMEOUT)
			return rc;
		rc = clock_mono_ms() >= r->deadline_mono_ms ? ERR_TIMEOUT : poll(&wake, 1, 0) > 0 ? ERR_CANCELED : 0;
	}
	r->late = rc == ERR_TIMEOUT;
	sandbox_stop(box);
	/* Its last words are read while it ends; a new wake-up is not waited for, the old one still stands. */
	(void)streams_pump(s, -1, clock_mono_ms() + GRACE_MS);
	return sandbox_wait(box, clock_mono_ms() + AFTER_STOP_MS, &r->end, e);
}

/* Starts the program and sees it to its end. Returns 0 with r->end, or ERR_* where it could not be run. */
static int
run_program(struct running *r, struct err *e)
{
	struct job *j = r->job;
	struct step_inputs in;
	struct sandbox_spec spec;
	struct sandbox *box = NULL;
	struct streams *s = NULL;
	char **env, **argv = NULL, *target, name[160];
	int rc;

	fill_inputs(r, &in, &target);
	env = step_env(&in);
	rc = step_argv(r->step->argv, env, &argv, e);
	if (rc == 0 && (s = streams_open(r->step->name, j->log, note_progress, note_log, r, e)) == NULL)
		rc = ERR_IO;
	if (rc == 0) {
		fill_spec(r, argv, env, s, name, sizeof(name), &spec);
		rc = sandbox_start(&spec, &box, e);
		streams_started(s);
	}
	if (rc == 0)
		rc = wait_end(r, box, s, e);
	sandbox_free(box);
	streams_close(s);
	step_list_free(argv);
	step_list_free(env);
	free(target);
	return rc;
}

/* Takes the report that the step has left. Returns 0, also where a step that failed left none; else ERR_* with *e. */
static int
take_report(struct running *r, bool must, struct err *e)
{
	struct job *j = r->job;
	int rc;

	if (r->step->findings == NULL)
		return 0;
	rc = report_read(j, r->step->name, &r->record->sarif, &j->counts, e);
	if (rc == ERR_NOTFOUND && !must)
		return 0;
	if (rc != 0)
		return rc;
	j->has_findings = true;
	if (must && sarif_says_failed(r->record->sarif))
		return err_set(e, ERR_INVALID, "its report says that the tool did not do its work");
	return 0;
}

/* A failed step: its record, its mark in the findings, and the run's verdict. */
static void
step_failed(struct running *r, enum step_state state, enum fail_class fail, const char *why)
{
	struct job *j = r->job;

	char text[200];

	why = step_clean_text(text, sizeof(text), why);
	set_state(r, state, why);
	run_log_say(j->log, "step %s failed: %s", r->step->name, why);
	if (r->step->findings != NULL && r->record->sarif == NULL)
		r->record->sarif = sarif_failed_run(r->step->name, why);
	else if (r->record->sarif != NULL)
		sarif_mark_failed(r->record->sarif, why);
	job_fail(j, fail == FAIL_TIMEOUT ? RUN_TIMED_OUT : RUN_FAILED, fail, "step %s: %s", r->step->name, why);
}

/* Whether the disk of the run is full now: then a tool that failed says nothing about its target. */
static bool
disk_is_full(const struct job *j)
{
	struct statvfs v;

	return statvfs(j->ws.run_dir, &v) == 0 &&
	    ((uint64_t)v.f_bavail * v.f_frsize < FULL_BYTES || (v.f_files > 0 && v.f_favail < FULL_INODES));
}

static void
judge(struct running *r)
{
	char why[200], limit[32];
	struct err e = {0};
	enum step_verdict v = step_judge(r->step, &r->end, why, sizeof(why));
	bool well = v == STEP_CLEAN || v == STEP_FINDINGS;
	int rc;

	pthread_mutex_lock(&r->job->lock);
	r->record->exit_code = r->end.exited ? r->end.code : -1;
	pthread_mutex_unlock(&r->job->lock);
	rc = take_report(r, well && !r->late, &e);
	if (r->late) {
		(void)snprintf(why, sizeof(why), "stopped at the time limit of %s", num_format_duration(r->limit_ms, limit, sizeof(limit)));
		step_failed(r, STEP_TIMED_OUT, FAIL_TIMEOUT, why);
	} else if (v == STEP_OOM) {
		(void)snprintf(why, sizeof(why), "ran out of memory, its limit is %s",
		    num_format_size(r->job->terms.memory_bytes, limit, sizeof(limit)));
		step_failed(r, STEP_FAILED, FAIL_OOM, why);
	} else if (v == STEP_DISK) {
		(void)snprintf(why, sizeof(why), "wrote more than its limit of %s to disk (resources.disk)",
		    num_format_size(r->job->terms.disk_bytes, limit, sizeof(limit)));
		step_failed(r, STEP_FAILED, FAIL_TOOL, why);
	} else if (!well && disk_is_full(r->job)) {
		step_failed(r, STEP_FAILED, FAIL_INFRA, DISK_IS_FULL);
	} else if (!well) {
		step_failed(r, STEP_FAILED, FAIL_TOOL, why);
	} else if (rc != 0) {
		step_failed(r, STEP_FAILED, FAIL_TOOL, e.msg);
	} else {
		set_state(r, v == STEP_FINDINGS ? STEP_FOUND : STEP_OK, "");
	}
}

/* Runs one step to its record. Returns 0, also for a step that failed; ERR_CANCELED when the job must stop; else ERR_* where
 * nothing can be run here. */
static int
run_step(struct job *j, size_t i, int64_t run_deadline_mono_ms, struct err *e)
{
	struct running r = {.job = j, .step = &j->workflow->steps[i], .record = &j->steps[i]};
	int64_t began_mono_ms = clock_mono_ms();
	int rc;

	r.deadline_mono_ms = run_deadline_mono_ms;
	r.limit_ms = j->terms.timeout_ms;
	if (r.step->timeout_ms > 0 && began_mono_ms + r.step->timeout_ms < run_deadline_mono_ms) {
		r.deadline_mono_ms = began_mono_ms + r.step->timeout_ms;
		r.limit_ms = r.step->timeout_ms;
	}
	set_state(&r, STEP_RUNNING, "");
	run_log_say(j->log, "step %s begins", r.step->name);
	ship_poke(j->shipment);
	rc = make_scratch(&r, e);
	if (rc == 0)
		rc = run_program(&r, e);
	pthread_mutex_lock(&j->lock);
	r.record->took_ms = clock_mono_ms() - began_mono_ms;
	pthread_mutex_unlock(&j->lock);
	if (j->stop) {
		set_state(&r, STEP_STOPPED, "");
		return ERR_CANCELED;
	}
	if (rc == ERR_INVALID || rc == ERR_NOTFOUND) { /* the step asks for what is not there: no other worker has it either */
		step_failed(&r, STEP_FAILED, FAIL_TOOL, e->msg);
		rc = 0;
	} else if (rc == 0) {
		judge(&r);
	} else {
		step_failed(&r, STEP_FAILED, FAIL_INFRA, disk_is_full(j) ? DISK_IS_FULL : e->msg);
	}
	(void)file_remove_tree(AT_FDCWD, r.scratch, NULL);
	ship_poke(j->shipment);
	return rc;
}

int
job_run_steps(struct job *j, struct err *e)
{
	int64_t deadline_mono_ms = clock_mono_ms() + j->terms.timeout_ms;
	bool skip = false;
	int rc = 0;

	j->outcome = RUN_COMPLETED;
	for (size_t i = 0; rc == 0 && i < j->n_steps; i++) {
		struct running r = {.job = j, .step = &j->workflow->steps[i], .record = &j->steps[i]};

		if (!skip && clock_mono_ms() >= deadline_mono_ms) {
			skip = true;
			job_fail(j, RUN_TIMED_OUT, FAIL_TIMEOUT, "no time was left for step %s", r.step->name);
		}
		if (skip) {
			set_state(&r, STEP_SKIPPED, "");
			continue;
		}
		rc = run_step(j, i, deadline_mono_ms, e);
		skip = j->steps[i].state != STEP_OK && j->steps[i].state != STEP_FOUND && r.step->stop_on_failure;
	}
	return rc == 0 ? workspace_check(j->worker->spaces, &j->ws, e) : rc;
}
