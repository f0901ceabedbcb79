#include "worker/agent.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/retry.h"
#include "worker/cache_keeper.h"
#include "worker/health.h"
#include "worker/job.h"

#define SLOTS_MAX 64
#define LEASE_WAIT_MS 30000
#define BEAT_WAIT_IDLE_MS 5000
#define BEAT_WAIT_BUSY_MS 2000   /* progress is seen at least this often */
#define BEAT_PAUSE_MS 100        /* between two beats, should the dispatcher answer at once again and again */
#define CALL_TIMEOUT_MS 10000
#define LEAVE_TIMEOUT_MS 2000
#define HAND_BACK_MS 8000        /* what is left of kill_timeout for killing tools and reporting */
#define WATCH_MS 1000
#define ORPHAN_DEFAULT_MS (10 * 60 * 1000)
#define LEASE_TTL_DEFAULT_MS 30000

/* A call to the dispatcher that is under way in its thread. */
struct call {
	struct agent *agent;
	struct link_line *line;
	struct work_pool *pool;
	const char *path;
	json_t *body;
	int64_t timeout_ms;
	const atomic_bool *stop;
	void (*answered)(struct agent *a);
	bool busy;
	struct outcome {
		int rc;
		struct err e;
		json_t *answer;
	} arriving;        /* the thread's, while busy */
	struct outcome is; /* the loop's: what `answered` reads, also when it makes the next call */
	uint32_t failures; /* in a row */
	struct loop_timer timer;
};

struct agent {
	struct worker *w;
	struct loop *l;
	struct call lease, beat; /* `lease` also registers, adopts, leaves */
	struct health *health;
	struct job *jobs[SLOTS_MAX]; /* changed by the loop under `lock`, read by jobs under it */
	bool full;                   /* no poll is out, and a next run is welcome: under `lock` */
	pthread_mutex_t lock;
	char only[RUN_ID_MAX];   /* the adopted run */
	bool registered, ever_registered;
	bool refused;            /* what was dispatched by hand makes no run */
	bool told_to_drain;      /* by the dispatcher, who may take it back */
	bool leaving;            /* by a signal, or a one-shot that is done: for good */
	bool hand_back;          /* the grace is over */
	bool left;               /* `leave` was sent */
	bool had_run;            /* of a one-shot */
	bool adopt_unknown;      /* adopting was answered "not found" once: it may have meant us */
	atomic_bool stop_lease;  /* ends the poll that is under way */
	atomic_bool stop_beat;
	int64_t orphan_ms, lease_ttl_ms;
	struct loop_timer watch, grace;
};

static void next_lease(struct agent *a);
static void next_beat(struct agent *a);
static void lease_again(void *arg);
static void check_end(struct agent *a);
static void start_job(struct agent *a, const json_t *lease);

/* --- calls --- */

static void
perform(void *arg)
{
	struct call *c = arg;

	c->arriving.rc = link_post(c->line, c->path, c->body, c->timeout_ms, c->stop, &c->arriving.answer, &c->arriving.e);
}

static void
performed(void *arg, bool began)
{
	struct call *c = arg;
	json_t *answer;

	c->busy = false;
	json_decref(c->body);
	c->body = NULL;
	c->is = c->arriving;
	c->arriving = (struct outcome){.answer = NULL};
	answer = c->is.answer;
	if (began)
		c->answered(c->agent);
	json_decref(answer);
}

/* Takes the body. One call at a time per thread. */
static void
call(struct call *c, const char *path, json_t *body, int64_t timeout_ms, const atomic_bool *stop, void (*answered)(struct agent *a))
{
	c->path = path;
	c->body = body;
	c->timeout_ms = timeout_ms;
	c->stop = stop;
	c->answered = answered;
	c->busy = true;
	work_submit(c->pool, perform, performed, c);
}

/* When to try again after a failure. */
static int64_t
back_off(struct call *c)
{
	static const struct retry_policy policy = {.max_attempts = RETRY_MAX_ATTEMPTS, .base_ms = 200, .cap_ms = 3000};
	uint64_t random;

	random_bytes(&random, sizeof(random));
	c->failures = c->failures < RETRY_MAX_ATTEMPTS - 1 ? c->failures + 1 : c->failures;
	return clock_mono_ms() + retry_next(&policy, c->failures, 0, random);
}

/* Speaks up at the first failure of a series only. */
static void
complain(const struct call *c, const struct agent *a)
{
	if (c->failures == 1 && c->is.rc != ERR_CANCELED)
		log_warn(a->w->id, "%s: %s%s%s", c->path, c->is.e.msg, c->is.e.hint[0] != '\0' ? " - " : "", c->is.e.hint);
}

/* --- jobs --- */

static size_t
free_slots(const struct agent *a)
{
	size_t n = (size_t)a->w->config.slots;

	for (size_t i = 0; i < SLOTS_MAX; i++)
		n -= a->jobs[i] != NULL;
	return n;
}

static size_t
running(const struct agent *a)
{
	return (size_t)a->w->config.slots - free_slots(a);
}

static struct job *
find_job(const struct agent *a, const char *run)
{
	for (size_t i = 0; run != NULL && i < SLOTS_MAX; i++) {
		if (a->jobs[i] != NULL && strcmp(job_run(a->jobs[i]), run) == 0)
			return a->jobs[i];
	}
	return NULL;
}

static json_t *
held(const struct agent *a, bool all)
{
	json_t *list = json_array();

	for (size_t i = 0; i < SLOTS_MAX; i++) {
		if (a->jobs[i] != NULL)
			json_array_append_new(list, job_held(a->jobs[i], all));
	}
	return list;
}

static void
stop_jobs(struct agent *a, enum job_stop why)
{
	for (size_t i = 0; i < SLOTS_MAX; i++) {
		if (a->jobs[i] != NULL)
			job_stop(a->jobs[i], why, a->leaving);
	}
}

/* Whether a job may ask for the next run with its report. Under the lock. */
static void
note_full(struct agent *a)
{
	a->full = free_slots(a) == 0 && !a->leaving && !a->told_to_drain && !config_once(&a->w->config) && health_why(a->health)[0] == '\0';
}

static void
set_job(struct agent *a, size_t slot, struct job *j)
{
	pthread_mutex_lock(&a->lock);
	a->jobs[slot] = j;
	note_full(a);
	pthread_mutex_unlock(&a->lock);
}

/* It is to take nothing more, or may again. */
static void
renote_full(struct agent *a)
{
	pthread_mutex_lock(&a->lock);
	note_full(a);
	pthread_mutex_unlock(&a->lock);
}

/* A job's thread: while all slots are taken no poll is out, and the run that comes next may come with the answer to its report. */
static json_t *
poll_beside(void *arg, const struct job *j)
{
	struct agent *a = arg;
	json_t *list;

	pthread_mutex_lock(&a->lock);
	if (!a->full) {
		pthread_mutex_unlock(&a->lock);
		return NULL;
	}
	a->full = false; /* one at a time: the dispatcher knows one poll of a worker */
	list = json_array();
	for (size_t i = 0; i < SLOTS_MAX; i++) {
		if (a->jobs[i] != NULL && a->jobs[i] != j)
			json_array_append_new(list, json_pack("{s:s, s:s}", "run", job_run(a->jobs[i]), "fence", job_fence(a->jobs[i])));
	}
	pthread_mutex_unlock(&a->lock);
	return json_pack("{s:i, s:o}", "free", 1, "held", list);
}

static void
start_leases(struct agent *a, const json_t *leases)
{
	json_t *lease;
	size_t i;

	json_array_foreach(leases, i, lease)
	{
		if (find_job(a, json_string_value(json_object_get(lease, "run"))) == NULL)
			start_job(a, lease);
	}
	/* What comes in the moment of draining is taken as well and handed back in order: sooner than by waiting for its deadline. */
	if (a->hand_back)
		stop_jobs(a, JOB_HANDED_BACK);
}

static void
job_ended(struct job *j, void *arg)
{
	struct agent *a = arg;
	json_t *leases = job_take_leases(j);

	for (size_t i = 0; i < SLOTS_MAX; i++) {
		if (a->jobs[i] == j)
			set_job(a, i, NULL);
	}
	job_free(j);
	start_leases(a, leases);
	json_decref(leases);
	if (config_once(&a->w->config)) {
		a->leaving = true;
		a->stop_lease = true;
	}
	next_lease(a);
	check_end(a);
}

static void
start_job(struct agent *a, const json_t *lease)
{
	bool once = config_once(&a->w->config);
	unsigned slot = 0;
	struct job *j;

	while (slot < SLOTS_MAX && a->jobs[slot] != NULL)
		slot++;
	if (slot >= (unsigned)a->w->config.slots) {
		log_error(a->w->id, "a lease came although all slots are taken");
		return;
	}
	j = job_start(a->w, a->l, lease, slot, once, job_ended, poll_beside, a);
	if (j == NULL) {
		log_error(a->w->id, "a lease came without a readable run and fence");
		return;
	}
	a->had_run = true;
	set_job(a, slot, j);
}

/* --- register, adopt --- */

static void
adopted(struct agent *a)
{
	const char *run = json_string_value(json_object_get(a->lease.is.answer, "run"));

	if (a->lease.is.rc == 0 && run != NULL && run_id_valid(run)) {
		(void)snprintf(a->only, sizeof(a->only), "%s", run);
		log_info(a->w->id, "dispatched by hand: run %s", run);
	} else if (a->lease.is.rc == ERR_NOTFOUND && !a->adopt_unknown) {
		a->adopt_unknown = true;
		a->registered = false;
	} else if (a->lease.is.rc == ERR_INVALID || a->lease.is.rc == ERR_DENIED || a->lease.is.rc == ERR_CONFLICT || a->lease.is.rc == ERR_NOTFOUND) {
		log_error(a->w->id, "dispatched by hand, but refused: %s%s%s", a->lease.is.e.msg, a->lease.is.e.hint[0] != '\0' ? " - " : "",
		    a->lease.is.e.hint);
		a->refused = true;
		a->leaving = true;
	} else {
		int64_t at_mono_ms = back_off(&a->lease);

		complain(&a->lease, a);
		loop_timer_set(a->l, &a->lease.timer, at_mono_ms, lease_again, a);
		check_end(a);
		return;
	}
	next_lease(a);
	check_end(a);
}

/* What the worker says of itself, with how well it is. */
static json_t *
registration(const struct agent *a)
{
	json_t *body = worker_registration(a->w);

	json_object_set_new(body, "health", json_string(health_why(a->health)));
	json_object_set_new(body, "cache", cache_keeper_figures(a->w->keeper, false));
	return body;
}

static void
adopt(struct agent *a)
{
	const struct config *c = &a->w->config;

	call(&a->lease, "/v1/worker/adopt", json_pack("{s:s, s:s, s:s, s:s, s:s}", "worker", a->w->id, "job_id", c->job_id, "workflow",
	    c->meta_workflow, "target", c->meta_target, "parameters", c->meta_parameters), CALL_TIMEOUT_MS, &a->stop_lease, adopted);
}

static void
registered(struct agent *a)
{
	json_int_t orphan_ms = json_integer_value(json_object_get(a->lease.is.answer, "orphan_ms"));
	json_int_t ttl_ms = json_integer_value(json_object_get(a->lease.is.answer, "lease_ttl_ms"));

	if (a->lease.is.rc != 0) {
		int64_t at_mono_ms = back_off(&a->lease);

		complain(&a->lease, a);
		loop_timer_set(a->l, &a->lease.timer, at_mono_ms, lease_again, a);
		check_end(a);
		return;
	}
	a->lease.failures = 0;
	a->registered = a->ever_registered = true;
	a->told_to_drain = false;
	a->orphan_ms = orphan_ms > 0 ? orphan_ms : ORPHAN_DEFAULT_MS;
	a->lease_ttl_ms = ttl_ms > 0 ? ttl_ms : LEASE_TTL_DEFAULT_MS;
	log_info(a->w->id, "registered for %s, %s, %lld slots, sandbox rung %d, workspaces by %s", a->w->config.vertical,
	    run_class_word(a->w->config.class), (long long)a->w->config.slots, (int)a->w->caps.rung, workspace_method_word(workspaces_method(a->w->spaces)));
	fault_point("worker.registered");
	next_beat(a);
	next_lease(a);
	check_end(a);
}

/* --- lease --- */

static void
leased(struct agent *a)
{
	if (a->lease.is.rc == ERR_NOTFOUND) {
		a->registered = false;
		next_lease(a);
	} else if (a->lease.is.rc == ERR_CANCELED) {
		next_lease(a);
	} else if (a->lease.is.rc != 0) {
		int64_t at_mono_ms = back_off(&a->lease);

		complain(&a->lease, a);
		loop_timer_set(a->l, &a->lease.timer, at_mono_ms, lease_again, a);
	} else {
		a->lease.failures = 0;
		start_leases(a, json_object_get(a->lease.is.answer, "leases"));
		a->told_to_drain = json_is_true(json_object_get(a->lease.is.answer, "drain"));
		if (json_is_true(json_object_get(a->lease.is.answer, "exit")))
			a->leaving = true;
		next_beat(a);
		next_lease(a);
	}
	check_end(a);
}

static bool
wants_lease(const struct agent *a)
{
	return !a->leaving && !a->told_to_drain && free_slots(a) > 0 && !(config_once(&a->w->config) && a->had_run);
}

static void
lease_again(void *arg)
{
	next_lease(arg);
}

/* How well the worker is has changed: the poll that is under way says another number of free slots. */
static void
health_changed(void *arg)
{
	struct agent *a = arg;

	a->stop_lease = true;
	renote_full(a);
	next_lease(a);
}

/* Tools that were installed meanwhile are the worker's once nobody looks at the old ones. */
static void
take_new_tools(struct agent *a)
{
	if (running(a) == 0 && health_adopt_tools(a->health))
		a->registered = false;
}

/* The next call on the first thread: register where the dispatcher does not know us, else ask for work. */
static void
next_lease(struct agent *a)
{
	if (a->lease.busy || a->left)
		return;
	loop_timer_clear(a->l, &a->lease.timer);
	a->stop_lease = a->leaving;
	take_new_tools(a);
	if (!a->registered && (!a->leaving || running(a) > 0))
		call(&a->lease, "/v1/worker/register", registration(a), CALL_TIMEOUT_MS, NULL, registered);
	else if (a->registered && wants_lease(a) && config_by_hand(&a->w->config) && a->only[0] == '\0')
		adopt(a);
	else if (a->registered && wants_lease(a))
		call(&a->lease, "/v1/worker/lease", json_pack("{s:s, s:I, s:s, s:I, s:o}", "worker", a->w->id, "free",
		    (json_int_t)(health_why(a->health)[0] == '\0' ? free_slots(a) : 0), "only", a->only, "wait_ms", (json_int_t)LEASE_WAIT_MS, "held", held(a, false)),
		    LEASE_WAIT_MS + CALL_TIMEOUT_MS, &a->stop_lease, leased);
}

/* --- beat --- */

static void
stop_named(struct agent *a, const char *list, enum job_stop why)
{
	json_t *run;
	size_t i;

	json_array_foreach(json_object_get(a->beat.is.answer, list), i, run)
	{
		struct job *j = find_job(a, json_string_value(run));

		if (j != NULL)
			job_stop(j, why, a->leaving);
	}
}

static void
beat_again(void *arg)
{
	next_beat(arg);
}

static void
beaten(struct agent *a)
{
	int64_t next_mono_ms = clock_mono_ms() + BEAT_PAUSE_MS;

	if (a->beat.is.rc == 0) {
		a->beat.failures = 0;
		stop_named(a, "cancel", JOB_CANCELED);
		stop_named(a, "lost", JOB_LOST);
		a->told_to_drain = json_is_true(json_object_get(a->beat.is.answer, "drain"));
		a->stop_lease = a->stop_lease || a->told_to_drain;
		renote_full(a);
	} else {
		next_mono_ms = back_off(&a->beat);
		cache_keeper_again(a->w->keeper);
		if (a->beat.is.rc == ERR_NOTFOUND)
			a->registered = false;
		else
			complain(&a->beat, a);
	}
	next_lease(a);
	loop_timer_set(a->l, &a->beat.timer, next_mono_ms, beat_again, a);
}

static void
next_beat(struct agent *a)
{
	int64_t wait_ms = running(a) > 0 ? BEAT_WAIT_BUSY_MS : BEAT_WAIT_IDLE_MS;
	json_t *body, *cache;

	if (wait_ms > a->lease_ttl_ms / 4)
		wait_ms = a->lease_ttl_ms / 4;
	if (a->beat.busy || !a->registered || a->left)
		return;
	loop_timer_clear(a->l, &a->beat.timer);
	body = json_pack("{s:s, s:I, s:s, s:o}", "worker", a->w->id, "wait_ms", (json_int_t)wait_ms, "health", health_why(a->health),
	    "held", held(a, true));
	if ((cache = cache_keeper_figures(a->w->keeper, true)) != NULL)
		json_object_set_new(body, "cache", cache);
	call(&a->beat, "/v1/worker/beat", body, wait_ms + CALL_TIMEOUT_MS, &a->stop_beat, beaten);
}

/* --- the end --- */

static void
gone(struct agent *a)
{
	loop_stop(a->l);
}

/* Ends the worker once it is leaving and idle; the thread for leases must have come back to say so. */
static void
check_end(struct agent *a)
{
	if (!a->leaving || running(a) > 0 || a->left)
		return;
	a->stop_lease = true;
	if (a->lease.busy)
		return;
	a->left = true;
	a->stop_beat = true;
	loop_timer_clear(a->l, &a->lease.timer);
	if (a->registered)
		call(&a->lease, "/v1/worker/leave", json_pack("{s:s}", "worker", a->w->id), LEAVE_TIMEOUT_MS, NULL, gone);
	else
		loop_stop(a->l);
}

static void
grace_over(void *arg)
{
	struct agent *a = arg;

	a->hand_back = true;
	a->w->give_up_mono_ms = clock_mono_ms() + HAND_BACK_MS;
	stop_jobs(a, JOB_HANDED_BACK);
}

void
agent_drain(struct agent *a)
{
	if (a->leaving && !a->hand_back && running(a) > 0) {
		loop_timer_clear(a->l, &a->grace);
		grace_over(a);
	}
	if (!a->leaving) {
		a->leaving = true;
		a->stop_lease = true;
		health_leaving(a->health);
		renote_full(a);
		log_info(a->w->id, "draining: %zu runs may go on for %lld ms", running(a), (long long)a->w->config.drain_ms);
		loop_timer_set(a->l, &a->grace, clock_mono_ms() + a->w->config.drain_ms, grace_over, a);
	}
	check_end(a);
}

/* Once a second: a worker that nobody has heard of for so long that its runs are others' by now must not go on with them. */
static void
watch(void *arg)
{
	struct agent *a = arg;
	int64_t now_mono_ms = clock_mono_ms();

	if (running(a) > 0 && now_mono_ms - link_heard_mono_ms(a->w->link) > a->orphan_ms)
		stop_jobs(a, JOB_LOST);
	loop_timer_set(a->l, &a->watch, now_mono_ms + WATCH_MS, watch, a);
}

int
agent_status(const struct agent *a)
{
	return a->refused || (config_once(&a->w->config) && !a->ever_registered) ? 1 : 0;
}

static bool
call_open(struct agent *a, struct call *c, const char *name, struct err *e)
{
	c->agent = a;
	c->line = link_line_new(a->w->link);
	c->pool = work_pool_new(a->l, name, 1, e);
	return c->pool != NULL;
}

struct agent *
agent_new(struct worker *w, struct loop *l, struct err *e)
{
	struct agent *a = xcalloc(1, sizeof(*a));

	a->w = w;
	a->l = l;
	a->orphan_ms = ORPHAN_DEFAULT_MS;
	pthread_mutex_init(&a->lock, NULL);
	if (!call_open(a, &a->lease, "lease", e) || !call_open(a, &a->beat, "beat", e) ||
	    (a->health = health_new(w, l, health_changed, a, e)) == NULL) {
		agent_free(a);
		return NULL;
	}
	next_lease(a);
	watch(a);
	return a;
}

void
agent_free(struct agent *a)
{
	if (a == NULL)
		return;
	a->stop_lease = a->stop_beat = true;
	loop_timer_clear(a->l, &a->watch);
	loop_timer_clear(a->l, &a->grace);
	loop_timer_clear(a->l, &a->lease.timer);
	work_pool_free(a->lease.pool);
	work_pool_free(a->beat.pool);
	loop_timer_clear(a->l, &a->beat.timer);
	health_free(a->health);
	link_line_free(a->lease.line);
	link_line_free(a->beat.line);
	pthread_mutex_destroy(&a->lock);
	free(a);
}
