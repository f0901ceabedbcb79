/* jobs.c - the parameterized jobs: one for each vertical and class, registered when they differ from what Nomad has. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "dispatcher/cluster_priv.h"

#define CONFLICTS_MAX 5            /* others that write the same job in the same moment */
#define RETRY_BASE_MS 1000
#define RETRY_CAP_MS 30000         /* also of what only a person can mend */
#define WHY_MAX (sizeof(struct err) + 2 * JOB_ID_MAX)

enum job_state {
	JOB_UNSEEN, /* not compared yet */
	JOB_READY,
	JOB_STOPPED, /* by an operator, which is respected */
	JOB_BROKEN, /* why; tried again at retry_mono */
};

struct waiter { /* someone who wants the job */
	void (*then)(void *arg, const char *id, bool permanent, const char *why);
	void *arg;
	struct waiter *next;
};

struct job {
	char id[JOB_ID_MAX], vertical[VERTICAL_NAME_MAX];
	enum run_class class;
	char *variables;
	char digest[65];
	enum job_state state;
	bool permanent;
	bool ours;                 /* Nomad had it with our ledger's mark once */
	bool busy, again;          /* a comparison is on its way; look once more after it */
	bool seen;                 /* in the listing that is being read */
	unsigned failures;
	int64_t retry_mono;
	char why[WHY_MAX];
	struct waiter *waiters;
};

/* --- waiters --- */

static void
answer(struct job *j, struct waiter *w)
{
	if (j->state == JOB_READY)
		w->then(w->arg, j->id, false, NULL);
	else
		w->then(w->arg, NULL, j->permanent, j->why);
	free(w);
}

static void
answer_all(struct job *j)
{
	struct waiter *w;

	while (!j->busy && j->state != JOB_UNSEEN && (w = j->waiters) != NULL) {
		j->waiters = w->next;
		answer(j, w);
	}
}

static void on_timer(void *arg);

/* The timer rings for what waits for an answer, and for the next attempt of what is broken. */
static void
set_timer(struct cluster *c)
{
	int64_t at = INT64_MAX;
	size_t cursor = 0;
	void *value;

	while (map_next(c->jobs, &cursor, NULL, &value)) {
		const struct job *j = value;

		if (!j->busy && j->state != JOB_UNSEEN && j->waiters != NULL)
			at = 0;
		else if (!j->busy && j->state == JOB_BROKEN && j->retry_mono < at)
			at = j->retry_mono;
	}
	if (at == INT64_MAX)
		loop_timer_clear(c->cfg.loop, &c->jobs_timer);
	else
		loop_timer_set(c->cfg.loop, &c->jobs_timer, at, on_timer, c);
}

void
jobs_when_ready(struct cluster *c, const char *vertical, enum run_class class,
    void (*then)(void *arg, const char *id, bool permanent, const char *why), void *arg)
{
	struct waiter *w, **last;
	char id[JOB_ID_MAX];
	struct job *j;

	job_id(&c->cfg, vertical, class, id);
	j = map_get(c->jobs, id);
	if (j != NULL && j->state == JOB_READY && !j->busy) {
		then(arg, j->id, false, NULL);
		return;
	}
	if (j == NULL) { /* a vertical that the toolbox lost, with requests in the ledger */
		j = xcalloc(1, sizeof(*j));
		snprintf(j->id, sizeof(j->id), "%s", id);
		j->state = JOB_STOPPED;
		j->permanent = true;
		snprintf(j->why, sizeof(j->why), "the toolbox has no vertical '%s' of class %s", vertical, run_class_word(class));
		map_put(c->jobs, id, j);
	}
	/* Never in the middle of the caller's own work. */
	w = xcalloc(1, sizeof(*w));
	w->then = then;
	w->arg = arg;
	for (last = &j->waiters; *last != NULL; last = &(*last)->next)
		;
	*last = w;
	set_timer(c);
}

/* --- comparing and registering --- */

struct check {
	struct task task;
	char id[JOB_ID_MAX];
	char *variables;
	char digest[65];
	bool ours;
	bool stopped, registered, taken_over;
};

static const char *
meta(const json_t *job, const char *key)
{
	const char *s = json_string_value(json_object_get(json_object_get(job, "Meta"), key));

	return s != NULL ? s : "";
}

static bool
same(const json_t *job, const char *digest, const char *ledger)
{
	return strcmp(meta(job, "drover_digest"), digest) == 0 && strcmp(meta(job, "drover_ledger"), ledger) == 0;
}

static int
register_job(struct check *k, struct nomad *n, uint64_t index)
{
	const struct cluster *c = k->task.c;
	json_t *job = NULL;
	int rc = nomad_parse(n, c->hcl, k->variables, &job, &k->task.err);

	fault_point("jobs.before_register");
	if (rc == 0)
		rc = nomad_register(n, job, index, &k->task.err);
	json_decref(job);
	k->registered = rc == 0;
	return rc;
}

/* Looks at what Nomad has, and registers if that is not it. */
static int
compare(struct check *k, struct nomad *n)
{
	const char *ledger = k->task.c->cfg.ledger_uuid, *theirs;
	uint64_t index = 0;
	json_t *have = NULL;
	int rc = nomad_job(n, k->id, &have, &k->task.err);
	bool fine = false;

	if (rc == ERR_NOTFOUND)
		return register_job(k, n, 0);
	if (rc != 0)
		return rc;
	theirs = meta(have, "drover_ledger");
	index = (uint64_t)json_integer_value(json_object_get(have, "JobModifyIndex"));
	k->stopped = json_is_true(json_object_get(have, "Stop"));
	fine = k->stopped || same(have, k->digest, ledger);
	if (theirs[0] != '\0' && strcmp(theirs, ledger) != 0) {
		k->taken_over = true;
		/* Even where it may be taken over: not from one that takes it over again and again. */
		if (k->ours || !k->task.c->cfg.take_over) {
			rc = err_set(&k->task.err, ERR_DENIED, "it belongs to another Drover (ledger %.36s)", theirs);
			err_hint(&k->task.err, "give one of them another DROVER_JOB_PREFIX or NOMAD_NAMESPACE; DROVER_NEW_LEDGER=yes if that ledger is lost");
		}
	}
	json_decref(have);
	return rc != 0 || fine ? rc : register_job(k, n, index);
}

static void
check_run(struct task *t, struct nomad *n)
{
	struct check *k = (struct check *)t;

	for (int i = 0; i < CONFLICTS_MAX; i++) {
		t->rc = compare(k, n);
		if (t->rc != ERR_CONFLICT)
			return;
	}
	t->rc = ERR_RETRY; /* others keep writing it */
}

static void job_check(struct cluster *c, struct job *j);

static void
job_broken(struct job *j, int rc, const struct err *e)
{
	int64_t delay_ms = RETRY_BASE_MS;

	j->permanent = rc == ERR_INVALID || rc == ERR_DENIED || rc == ERR_TOOBIG;
	for (unsigned i = 0; i < j->failures && delay_ms < RETRY_CAP_MS; i++)
		delay_ms *= 2;
	if (j->permanent || delay_ms > RETRY_CAP_MS)
		delay_ms = RETRY_CAP_MS;
	j->failures++;
	j->state = JOB_BROKEN;
	j->retry_mono = clock_mono_ms() + delay_ms;
	snprintf(j->why, sizeof(j->why), "job %s: %s", j->id, e->msg);
	log_warn(j->id, "%s%s%s", e->msg, e->hint[0] != '\0' ? "; " : "", e->hint);
}

static void
job_stopped(struct job *j)
{
	if (j->state != JOB_STOPPED)
		log_warn(j->id, "an operator has stopped it: no dispatches until `nomad job start %s`", j->id);
	j->state = JOB_STOPPED;
	j->permanent = true;
	j->failures = 0;
	snprintf(j->why, sizeof(j->why), "job %s was stopped by an operator; `nomad job start %s` brings it back", j->id, j->id);
}

static void
job_ready(struct job *j)
{
	j->state = JOB_READY;
	j->permanent = false;
	j->ours = true;
	j->failures = 0;
	j->why[0] = '\0';
}

static void
check_done(struct task *t)
{
	struct check *k = (struct check *)t;
	struct cluster *c = t->c;
	struct job *j = map_get(c->jobs, k->id);

	j->busy = false;
	if (t->rc != 0)
		job_broken(j, t->rc, &t->err);
	else if (k->stopped)
		job_stopped(j);
	else
		job_ready(j);
	if (t->rc == 0 && k->registered)
		log_info(j->id, "registered%s", k->taken_over ? "; it was another ledger's" : "");
	if (j->again || strcmp(j->digest, k->digest) != 0)
		job_check(c, j);
	answer_all(j);
	set_timer(c);
}

static void
check_release(struct task *t)
{
	free(((struct check *)t)->variables);
}

static void
job_check(struct cluster *c, struct job *j)
{
	struct check *k;

	if (j->variables == NULL) /* of a vertical that is not there */
		return;
	j->again = j->busy;
	if (j->busy)
		return;
	j->busy = true;
	k = xcalloc(1, sizeof(*k));
	k->task.run = check_run;
	k->task.done = check_done;
	k->task.release = check_release;
	snprintf(k->id, sizeof(k->id), "%s", j->id);
	snprintf(k->digest, sizeof(k->digest), "%s", j->digest);
	k->variables = xstrdup(j->variables);
	k->ours = j->ours;
	task_submit(c, &k->task);
}

static void
on_timer(void *arg)
{
	struct cluster *c = arg;
	int64_t now = clock_mono_ms();
	size_t cursor = 0;
	void *value;

	while (map_next(c->jobs, &cursor, NULL, &value)) {
		struct job *j = value;

		answer_all(j);
		if (!j->busy && j->state == JOB_BROKEN && j->retry_mono <= now && c->up)
			job_check(c, j);
		else if (j->state == JOB_BROKEN && j->retry_mono <= now)
			j->retry_mono = now + RETRY_BASE_MS; /* Nomad is away */
	}
	set_timer(c);
	cluster_changed(c);
}

/* --- what others say about jobs --- */

void
jobs_listed(struct cluster *c, const json_t *stub)
{
	const char *id = json_string_value(json_object_get(stub, "ID"));
	struct job *j = id != NULL ? map_get(c->jobs, id) : NULL;
	size_t cursor = 0;
	void *value;

	if (j != NULL && j->variables != NULL) {
		bool stopped = json_is_true(json_object_get(stub, "Stop")), fine = same(stub, j->digest, c->cfg.ledger_uuid);

		j->seen = true;
		if (stopped && !j->busy)
			job_stopped(j);
		else if (fine && !j->busy)
			job_ready(j);
		else if (j->state != JOB_BROKEN)
			job_check(c, j);
		answer_all(j);
	}
	if (stub != NULL)
		return;
	while (map_next(c->jobs, &cursor, NULL, &value)) {
		j = value;
		if (!j->seen && j->state != JOB_BROKEN)
			job_check(c, j);
		j->seen = false;
	}
	set_timer(c);
}

void
jobs_touched(struct cluster *c, const char *id)
{
	struct job *j = map_get(c->jobs, id);

	if (j != NULL)
		job_check(c, j);
}

const char *
jobs_trouble(const struct cluster *c)
{
	size_t cursor = 0;
	void *value;

	while (map_next(c->jobs, &cursor, NULL, &value)) {
		const struct job *j = value;

		if (j->variables != NULL && (j->state == JOB_BROKEN || j->state == JOB_STOPPED))
			return j->why;
	}
	return NULL;
}

/* --- life --- */

void
jobs_start(struct cluster *c)
{
	c->jobs_timer = (struct loop_timer){0};
}

void
jobs_free(struct cluster *c)
{
	size_t cursor = 0;
	void *value;

	while (map_next(c->jobs, &cursor, NULL, &value)) {
		struct job *j = value;
		struct waiter *w;

		while ((w = j->waiters) != NULL) {
			j->waiters = w->next;
			w->then(w->arg, NULL, false, "the dispatcher ends");
			free(w);
		}
		free(j->variables);
		free(j);
	}
	map_free(c->jobs);
}

static void
set_class(struct cluster *c, const struct vertical *v, enum run_class class)
{
	char id[JOB_ID_MAX], digest[65], *variables = job_variables(&c->cfg, c->hcl, v, class, digest);
	struct job *j;

	job_id(&c->cfg, v->name, class, id);
	j = map_get(c->jobs, id);
	if (j == NULL) {
		j = xcalloc(1, sizeof(*j));
		snprintf(j->id, sizeof(j->id), "%s", id);
		map_put(c->jobs, id, j);
	} else if (j->variables != NULL && (strcmp(j->vertical, v->name) != 0 || j->class != class)) {
		log_error(id, "two verticals want a job of this name; %s goes without", v->name);
		free(variables);
		return;
	} else if (strcmp(j->digest, digest) == 0) {
		free(variables);
		return;
	}
	snprintf(j->vertical, sizeof(j->vertical), "%s", v->name);
	j->class = class;
	free(j->variables);
	j->variables = variables;
	memcpy(j->digest, digest, sizeof(digest));
	j->failures = 0;
	if (j->state == JOB_STOPPED)
		j->state = JOB_UNSEEN;
	/* Before the first listing nothing is known; that will look at all jobs at once. */
	if (c->up)
		job_check(c, j);
}

void
cluster_set_vertical(struct cluster *c, const struct vertical *v)
{
	for (size_t k = 0; k < RUN_CLASSES; k++) {
		if (v->memory_bytes[k] > 0)
			set_class(c, v, (enum run_class)k);
	}
}
