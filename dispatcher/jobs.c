/* jobs.c - each vertical's jobs: a parameterized one for each class, and the worker group; registered when they differ from what
 * Nomad has.
 *
 * A changed group whose allocations Nomad would replace is rolled: its workers get no more runs, those that they have may end
 * (for roll_limit_ms; what is left is handed back when Nomad stops the workers), and then it is registered. One that its vertical
 * does not want any more is drained without a limit, and laid to rest. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "dispatcher/cluster_priv.h"

#define RETRY_BASE_MS 1000
#define RETRY_CAP_MS 30000         /* also of what only a person can mend */
#define ROLL_LOOK_MS 250           /* between looks at how many runs a group that is being rolled still has */
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
	bool group;                /* of warm workers; else parameterized, of the class */
	enum run_class class;
	char *variables;
	char digest[65], spec[65]; /* spec: of groups */
	int64_t max;               /* of groups: largest count */
	uint64_t modify_index;     /* of a group: as it was when it was fine */
	bool retired;              /* of a group: not wanted any more; why says why */
	bool rolling;              /* its workers are being drained, until roll_mono at the latest */
	int64_t roll_mono;
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

/* Jobs that the toolbox lost are kept, for their waiters. */
static bool
cared_for(const struct job *j)
{
	return j->variables != NULL || j->retired;
}

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

/* The timer rings for what waits for an answer, for the next attempt of what is broken, and for groups that are being rolled. */
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
		if (j->rolling && !j->busy && clock_mono_ms() + ROLL_LOOK_MS < at)
			at = clock_mono_ms() + ROLL_LOOK_MS;
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
	struct job_compare compare;
};

static void
check_run(struct task *t, struct nomad *n)
{
	struct check *k = (struct check *)t;

	t->rc = job_compare(&k->compare, n, &t->err);
}

static void job_check(struct cluster *c, struct job *j, bool drained);

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
		log_warn(j->id, "an operator has stopped it: no %s until `nomad job start %s`", j->group ? "warm workers" : "dispatches", j->id);
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

/* How many runs are left in the group's workers, which get no more. */
static size_t
drain(struct cluster *c, const struct job *j, bool last)
{
	char (*allocs)[CORE_ALLOC_MAX];
	ssize_t n = group_allocs(c, j->id, &allocs);
	size_t left;

	if (n < 0)
		return 1;
	left = c->cfg.drain(c->cfg.arg, j->id, (const char (*)[CORE_ALLOC_MAX])allocs, (size_t)n, last);
	free(allocs);
	return left;
}

/* Begins, goes on with, or gives up the draining of a group that is to be changed. Once it is registered the old workers stay
 * marked, until the mark's time is over: they are about to be stopped. */
static void
roll(struct cluster *c, struct job *j, bool wanted, bool done)
{
	if (wanted && !j->rolling) {
		if (!j->retired)
			j->roll_mono = clock_mono_ms() + c->cfg.roll_limit_ms;
		log_info(j->id, j->retired ? "its workers end their runs, then they go" :
		    "its settings have changed: its workers end their runs first");
	}
	if (wanted)
		(void)drain(c, j, false);
	else if (j->rolling && !done)
		(void)c->cfg.drain(c->cfg.arg, j->id, NULL, 0, false);
	j->rolling = wanted;
}

static void
note_group(struct cluster *c, struct job *j, const struct task *t, const struct job_compare *k)
{
	bool there = t->rc == 0 && !k->stopped && !k->resting;

	group_job(c, j->id, there ? k->count : -1, t->rc != 0 || k->stopped || j->retired ? j->why : "");
	/* Registered just now: the index is another one, and the count may be the first; the listing or the job's event tells. */
	j->modify_index = t->rc == 0 && !k->registered && !k->must_roll ? k->modify_index : 0;
	roll(c, j, t->rc == 0 && k->must_roll, k->registered && k->drained);
	if (k->registered)
		j->again = true;
}

/* A group that has just been given up, or come to rest. */
static void
job_resting(const struct cluster *c, struct job *j, const struct job_compare *k)
{
	const char *why = c->cfg.no_group(c->cfg.arg, j->vertical);

	if (why != NULL)
		snprintf(j->why, sizeof(j->why), "%s", why);
	if (k->registered && !k->drained)
		log_info(j->id, "%s: its %lld warm workers are given up; it comes back with as many", j->why, (long long)k->count);
	else if (k->registered)
		log_info(j->id, "at rest: count 0; it comes back with %lld", (long long)k->count);
	j->state = JOB_READY;
	j->ours = true;
	j->failures = 0;
}

static void
check_done(struct task *t)
{
	struct job_compare *k = &((struct check *)t)->compare;
	struct cluster *c = t->c;
	struct job *j = map_get(c->jobs, k->id);

	j->busy = false;
	if (t->rc != 0)
		job_broken(j, t->rc, &t->err);
	else if (k->retire)
		job_resting(c, j, k);
	else if (k->stopped)
		job_stopped(j);
	else
		job_ready(j);
	if (t->rc == 0 && k->registered && !k->retire)
		log_info(j->id, "registered%s", k->taken_over ? "; it was another ledger's" : "");
	if (j->group && k->retire == j->retired)
		note_group(c, j, t, k);
	if (j->again || k->retire != j->retired || strcmp(j->digest, k->digest) != 0)
		job_check(c, j, false);
	answer_all(j);
	set_timer(c);
}

static void
check_release(struct task *t)
{
	free(((struct check *)t)->compare.variables);
}

/* drained: a group's workers have ended their runs, or had their time. */
static void
job_check(struct cluster *c, struct job *j, bool drained)
{
	struct check *k;

	if (!cared_for(j))
		return;
	j->again = j->busy;
	if (j->busy)
		return;
	j->busy = true;
	k = xcalloc(1, sizeof(*k));
	k->task.run = check_run;
	k->task.done = check_done;
	k->task.release = check_release;
	k->compare = (struct job_compare){.cfg = &c->cfg, .hcl = j->group ? c->group_hcl : c->hcl, .group = j->group, .max = j->max,
	    .retire = j->retired, .drained = drained, .ours = j->ours,
	    .variables = j->variables != NULL ? xstrdup(j->variables) : NULL};
	snprintf(k->compare.id, sizeof(k->compare.id), "%s", j->id);
	memcpy(k->compare.digest, j->digest, sizeof(k->compare.digest));
	memcpy(k->compare.spec, j->spec, sizeof(k->compare.spec));
	task_submit(c, &k->task);
}

/* The mark is renewed, and once no run is left, or time is up, the group is changed. */
static void
roll_on(struct cluster *c, struct job *j, int64_t now)
{
	size_t left = drain(c, j, false);

	if (left == 0)
		left = drain(c, j, true);
	if (left > 0 && now < j->roll_mono)
		return;
	if (left > 0)
		log_warn(j->id, "%zu runs have not ended within %lld s: they are handed back", left, (long long)c->cfg.roll_limit_ms / 1000);
	job_check(c, j, true);
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
			job_check(c, j, false);
		else if (j->state == JOB_BROKEN && j->retry_mono <= now)
			j->retry_mono = now + RETRY_BASE_MS; /* Nomad is away */
		if (j->rolling && !j->busy && c->up)
			roll_on(c, j, now);
	}
	set_timer(c);
}

/* --- what others say about jobs --- */

static void
retire(struct cluster *c, struct job *j, const char *why)
{
	j->retired = true;
	j->roll_mono = INT64_MAX;
	j->state = JOB_UNSEEN;
	j->failures = 0;
	j->modify_index = 0;
	snprintf(j->why, sizeof(j->why), "%s", why);
	group_retire(c, j->vertical, j->id, j->why);
	if (c->up)
		job_check(c, j, false);
}

void
cluster_toolbox_read(struct cluster *c)
{
	size_t cursor = 0;
	void *value;

	while (map_next(c->jobs, &cursor, NULL, &value)) {
		struct job *j = value;
		const char *why = j->group && !j->retired ? c->cfg.no_group(c->cfg.arg, j->vertical) : NULL;

		if (why != NULL)
			retire(c, j, why);
	}
	reconcile_suspect(c); /* groups that nobody has declared are found in a listing */
}

/* A group of ours that nobody has declared: of a vertical that went, or was changed, while no dispatcher ran. */
static struct job *
listed_unknown(struct cluster *c, const json_t *entry, const char *id)
{
	const char *vertical = job_meta(entry, "drover_vertical"), *why;
	struct job *j;

	if (strncmp(id, c->group_prefix, strlen(c->group_prefix)) != 0 || strlen(id) >= JOB_ID_MAX || !vertical_name_valid(vertical) ||
	    strcmp(job_meta(entry, "drover_ledger"), c->cfg.ledger_uuid) != 0 || (why = c->cfg.no_group(c->cfg.arg, vertical)) == NULL)
		return NULL;
	j = xcalloc(1, sizeof(*j));
	snprintf(j->id, sizeof(j->id), "%s", id);
	snprintf(j->vertical, sizeof(j->vertical), "%s", vertical);
	j->group = true;
	map_put(c->jobs, id, j);
	retire(c, j, why);
	return j;
}

static void
listed(struct cluster *c, const json_t *entry, struct job *j)
{
	uint64_t index = (uint64_t)json_integer_value(json_object_get(entry, "JobModifyIndex"));
	bool stopped = !j->group && json_is_true(json_object_get(entry, "Stop"));
	bool fine = j->group ? j->modify_index != 0 && j->modify_index == index :
	    strcmp(job_meta(entry, "drover_digest"), j->digest) == 0 &&
	    strcmp(job_meta(entry, "drover_ledger"), c->cfg.ledger_uuid) == 0;

	j->seen = true;
	if (stopped && !j->busy)
		job_stopped(j);
	else if (fine && j->group)
		; /* as it was when it was looked at */
	else if (fine && !j->busy)
		job_ready(j);
	else if (j->state != JOB_BROKEN)
		job_check(c, j, false);
	answer_all(j);
}

void
jobs_listed(struct cluster *c, const json_t *entry)
{
	const char *id = json_string_value(json_object_get(entry, "ID"));
	struct job *j = id != NULL ? map_get(c->jobs, id) : NULL;
	size_t cursor = 0;
	void *value;

	if (j == NULL && id != NULL)
		j = listed_unknown(c, entry, id);
	if (j != NULL && cared_for(j))
		listed(c, entry, j);
	if (entry != NULL)
		return;
	while (map_next(c->jobs, &cursor, NULL, &value)) {
		j = value;
		if (!j->seen && !j->retired && j->state != JOB_BROKEN)
			job_check(c, j, false);
		j->seen = false;
	}
	set_timer(c);
}

void
jobs_touched(struct cluster *c, const char *id)
{
	struct job *j = map_get(c->jobs, id);

	if (j != NULL)
		job_check(c, j, false);
}

const char *
jobs_trouble(const struct cluster *c)
{
	size_t cursor = 0;
	void *value;

	while (map_next(c->jobs, &cursor, NULL, &value)) {
		const struct job *j = value;

		/* A group that an operator has stopped is a decision, and others do its work. */
		if (cared_for(j) && (j->state == JOB_BROKEN || (j->state == JOB_STOPPED && !j->group)))
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

/* Takes the variables. Returns the job if it is to be compared, NULL when it is as it was, or another vertical's. */
static struct job *
declare(struct cluster *c, const struct vertical *v, const char *id, char *variables, const char digest[65])
{
	struct job *j = map_get(c->jobs, id);

	if (j == NULL) {
		j = xcalloc(1, sizeof(*j));
		snprintf(j->id, sizeof(j->id), "%s", id);
		map_put(c->jobs, id, j);
	} else if (j->variables != NULL && strcmp(j->vertical, v->name) != 0) {
		log_error(id, "two verticals want a job of this name; %s goes without", v->name);
		free(variables);
		return NULL;
	} else if (strcmp(j->digest, digest) == 0 && !j->retired) {
		free(variables);
		return NULL;
	}
	if (j->retired)
		j->roll_mono = clock_mono_ms() + c->cfg.roll_limit_ms;
	j->retired = false;
	snprintf(j->vertical, sizeof(j->vertical), "%s", v->name);
	free(j->variables);
	j->variables = variables;
	memcpy(j->digest, digest, sizeof(j->digest));
	j->failures = 0;
	j->modify_index = 0;
	if (j->state == JOB_STOPPED)
		j->state = JOB_UNSEEN;
	return j;
}

static void
set_class(struct cluster *c, const struct vertical *v, enum run_class class)
{
	char id[JOB_ID_MAX], digest[65], *variables = job_variables(&c->cfg, c->hcl, v, class, digest);
	struct job *j;

	job_id(&c->cfg, v->name, class, id);
	j = declare(c, v, id, variables, digest);
	if (j == NULL)
		return;
	j->class = class;
	/* Before the first listing nothing is known; that will look at all jobs at once. */
	if (c->up)
		job_check(c, j, false);
}

static void
set_group(struct cluster *c, const struct vertical *v)
{
	char id[JOB_ID_MAX], digest[65], spec[65], *variables = group_variables(&c->cfg, c->group_hcl, v, digest, spec);
	struct job *j;

	group_id(&c->cfg, v->name, id);
	group_set(c, v, id);
	j = declare(c, v, id, variables, digest);
	if (j == NULL)
		return;
	j->group = true;
	j->max = v->warm.max;
	memcpy(j->spec, spec, sizeof(j->spec));
	if (c->up)
		job_check(c, j, false);
}

void
cluster_set_vertical(struct cluster *c, const struct vertical *v)
{
	for (size_t k = 0; k < RUN_CLASSES && v->capacity != CAPACITY_WARM; k++) {
		if (v->memory_bytes[k] > 0)
			set_class(c, v, (enum run_class)k);
	}
	if (v->capacity != CAPACITY_JOB)
		set_group(c, v);
}
