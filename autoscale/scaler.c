#include "autoscale/scaler.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "autoscale/meters.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"

#define GROUPS_MAX 256
#define QUEUE_WAIT_MS 5000   /* of a blocking read: the queue's figures are never older while all is well */
#define QUEUE_GAP_MS 100     /* between two of them */
#define QUEUE_RETRY_MS 1000
#define LIST_MS 10000        /* between two listings of the groups */
#define LIST_SOON_MS 1000    /* … while a vertical with work has none */
#define ROUND_GAP_MS 250     /* between two rounds of a group: the first after a calm is immediate */
#define FAILED_REST_MS 1000  /* … after one that failed */
#define DRAIN_MS 250         /* … while a scale-in waits */
#define TICK_MS 50

struct watched { /* a group */
	struct scaler *scaler;
	struct group group;
	struct round round;    /* of the thread while busy */
	bool busy, wanted;     /* a round is under way; the queue moved since it began */
	bool listed;           /* seen in the listing under way */
	bool anew;             /* the lock changed hands during its round */
	bool shown;            /* `last` holds something */
	json_t *last;          /* of the last round, for the API; owned */
	int64_t began_mono_ms, due_mono_ms;
	int64_t rest_mono_ms;  /* no round before, whatever moves */
	int64_t news_mono_ms;  /* when the answer came that the next round is due to; 0 none */
	enum round_result last_result;
	enum policy_hold last_hold;
	int64_t last_to;
};

struct scaler {
	struct loop *loop;
	const struct config *config;
	struct nomad_config nomad_config;
	struct consul_config consul_config;
	atomic_bool stop;
	struct discover *discover;
	struct leader *leader;
	struct work_pool *reader, *worker;
	struct backlog *reading;         /* of the reader's thread */
	struct backlog *draining;        /* of the worker's thread, as nomad */
	struct nomad *nomad;
	/* the queue */
	bool read_busy, queue_known, queue_told;
	int read_rc;
	struct err read_err;             /* of the reader's thread while busy */
	struct err queue_err;            /* of the last read that failed */
	uint64_t read_index;
	struct backlog_snapshot fresh, now; /* fresh: of the reader's thread while busy */
	int64_t queue_mono_ms;
	/* the groups */
	struct watched *groups[GROUPS_MAX];
	size_t n_groups;
	bool list_busy, nomad_told;
	int list_rc;
	struct err list_err;             /* of the worker's thread while busy */
	struct err nomad_err;            /* of the last listing that failed */
	json_t *listed;
	int64_t list_due_mono_ms;
	struct decisions decisions;
	struct loop_timer tick_timer, read_timer;
};

/* --- the queue --- */

static void read_queue(void *arg);
static void run_due(struct scaler *s, int64_t now);

/* Whether anything that a policy looks at differs. */
static bool
moved(const struct backlog_vertical *a, const struct backlog_vertical *b)
{
	if (a == NULL || b == NULL)
		return a != b;
	return a->ready != b->ready || a->running != b->running || a->one_shots != b->one_shots || a->slots != b->slots ||
	    a->n_workers != b->n_workers;
}

/* The queue was read: groups whose vertical has moved are looked at now. */
static void
take_snapshot(struct scaler *s, int64_t now)
{
	for (size_t i = 0; i < s->n_groups; i++) {
		struct watched *w = s->groups[i];
		const char *vertical = w->group.vertical;

		w->wanted = w->wanted || moved(backlog_find(&s->now, vertical), backlog_find(&s->fresh, vertical));
	}
	backlog_snapshot_release(&s->now);
	s->now = s->fresh;
	s->fresh = (struct backlog_snapshot){0};
	s->read_index = s->now.index;
	s->queue_known = true;
	s->queue_mono_ms = now;
	run_due(s, now);
}

static void
read_run(void *arg)
{
	struct scaler *s = arg;

	s->read_rc = backlog_read(s->reading, s->read_index, QUEUE_WAIT_MS, &s->fresh, &s->read_err);
}

static void
read_done(void *arg, bool began)
{
	struct scaler *s = arg;
	int64_t now = clock_mono_ms();

	s->read_busy = false;
	if (!began || s->stop)
		return;
	if (s->read_rc == 0) {
		if (s->queue_told)
			log_info("queue", "the dispatcher answers again");
		s->queue_told = false;
		take_snapshot(s, now);
	} else if (s->read_rc != ERR_CANCELED) {
		if (!s->queue_told)
			log_warn("queue", "%s%s%s", s->read_err.msg, s->read_err.hint[0] != '\0' ? " - " : "", s->read_err.hint);
		s->queue_told = true;
		s->queue_err = s->read_err;
		s->read_index = 0;
	}
	loop_timer_set(s->loop, &s->read_timer, now + (s->read_rc == 0 ? QUEUE_GAP_MS : QUEUE_RETRY_MS), read_queue, s);
}

static void
read_queue(void *arg)
{
	struct scaler *s = arg;

	if (s->read_busy || s->stop)
		return;
	s->read_busy = true;
	work_submit(s->reader, read_run, read_done, s);
}

/* --- the list of groups --- */

static void
list_run(void *arg)
{
	struct scaler *s = arg;
	char prefix[STANZA_NAME_MAX];
	uint64_t index;

	(void)snprintf(prefix, sizeof(prefix), "%.100s-workers-", s->config->job_prefix);
	s->listed = NULL;
	s->list_rc = nomad_list(s->nomad, prefix, &s->listed, &index, &s->list_err);
}

static struct watched *
watch_group(struct scaler *s, const char *job)
{
	struct watched *w;

	for (size_t i = 0; i < s->n_groups; i++)
		if (strcmp(s->groups[i]->group.job, job) == 0)
			return s->groups[i];
	if (s->n_groups == GROUPS_MAX || strlen(job) >= STANZA_NAME_MAX)
		return NULL;
	w = xcalloc(1, sizeof(*w));
	w->scaler = s;
	(void)snprintf(w->group.job, sizeof(w->group.job), "%s", job);
	s->groups[s->n_groups++] = w;
	log_info(job, "found");
	return w;
}

static void
watched_free(struct watched *w)
{
	group_release(&w->group);
	backlog_vertical_release(&w->round.queue);
	json_decref(w->last);
	free(w);
}

/* Jobs that are not listed any more are forgotten, once their round has ended. */
static void
forget_unlisted(struct scaler *s)
{
	for (size_t i = 0; i < s->n_groups;) {
		struct watched *w = s->groups[i];

		if (w->listed || w->busy) {
			i++;
			continue;
		}
		log_info(w->group.job, "is gone");
		watched_free(w);
		s->groups[i] = s->groups[--s->n_groups];
	}
}

static void
take_listed(struct scaler *s, const json_t *job)
{
	const char *id = json_string_value(json_object_get(job, "ID"));
	const char *type = json_string_value(json_object_get(job, "Type"));
	const char *vertical = json_string_value(json_object_get(json_object_get(job, "Meta"), "drover_vertical"));
	const char *behind = id != NULL ? strstr(id, "-workers-") : NULL;
	struct watched *w;

	if (id == NULL || type == NULL || strcmp(type, "service") != 0 || behind == NULL || (w = watch_group(s, id)) == NULL)
		return;
	w->listed = true;
	if (!w->busy)
		(void)snprintf(w->group.vertical, sizeof(w->group.vertical), "%s",
		    vertical != NULL ? vertical : behind + strlen("-workers-"));
}

static void
list_done(void *arg, bool began)
{
	struct scaler *s = arg;
	json_t *job;
	size_t i;

	s->list_busy = false;
	if (began && s->list_rc == 0) {
		for (i = 0; i < s->n_groups; i++)
			s->groups[i]->listed = false;
		json_array_foreach (s->listed, i, job)
			take_listed(s, job);
		forget_unlisted(s);
		if (s->nomad_told)
			log_info("nomad", "answers again");
		s->nomad_told = false;
	} else if (began && s->list_rc != ERR_CANCELED) {
		if (!s->nomad_told)
			log_warn("nomad", "%s", s->list_err.msg);
		s->nomad_told = true;
		s->nomad_err = s->list_err;
	}
	json_decref(s->listed);
	s->listed = NULL;
}

/* Whether some vertical has work and no group that is known. */
static bool
group_missing(const struct scaler *s)
{
	for (size_t i = 0; i < s->now.n; i++) {
		bool found = s->now.verticals[i].ready == 0;

		for (size_t k = 0; k < s->n_groups && !found; k++)
			found = strcmp(s->groups[k]->group.vertical, s->now.verticals[i].vertical) == 0;
		if (!found)
			return true;
	}
	return false;
}

/* --- rounds --- */

static void
count_round(const struct watched *w, int64_t took_ms)
{
	const struct round *r = &w->round;
	const char *job = w->group.job;

	metrics_add(SCALE_ROUNDS, round_result_word(r->result), 1);
	metrics_observe_ms(SCALE_ROUND_SECONDS, NULL, took_ms);
	metrics_add(SCALE_STRANGERS, NULL, r->strangers);
	if (r->result == ROUND_SCALED) {
		metrics_add(SCALE_CALLS, r->decision.to > r->decision.count ? "up" : "down", 1);
		if (w->news_mono_ms != 0)
			metrics_observe_ms(SCALE_REACTION, NULL, clock_mono_ms() - w->news_mono_ms);
	} else if (r->decision.hold != HOLD_NONE) {
		metrics_add(SCALE_HOLDS, policy_hold_word(r->decision.hold), 1);
	}
	if (r->result == ROUND_FOREIGN || r->result == ROUND_BROKEN || r->result == ROUND_FAILED)
		return;
	metrics_set(SCALE_COUNT, job, r->result == ROUND_SCALED ? r->decision.to : r->decision.count);
	metrics_set(SCALE_WANTED, job, r->decision.wanted);
	metrics_set(SCALE_READY, job, r->facts.ready);
	metrics_set(SCALE_RUNNING, job, r->facts.running);
	metrics_set(SCALE_STARTING, job, r->facts.starting);
	metrics_set(SCALE_DRAINING, job, (int64_t)w->group.marked.n);
}

/* Every change is told; what merely goes on is told once. */
static void
tell_round(struct watched *w)
{
	const struct round *r = &w->round;
	bool same = w->shown && r->result == w->last_result && r->decision.hold == w->last_hold && r->decision.to == w->last_to;
	bool quiet = same && r->result != ROUND_SCALED && !r->news;

	w->last_result = r->result;
	w->last_hold = r->decision.hold;
	w->last_to = r->decision.to;
	json_decref(w->last);
	w->last = decision_json(r, clock_real_ms());
	w->shown = true;
	if (quiet)
		return;
	decisions_add(&w->scaler->decisions, json_incref(w->last));
	if (r->result == ROUND_BROKEN || r->result == ROUND_FAILED || r->strangers > 0)
		log_warn(w->group.job, "%s: %s%s%s", round_result_word(r->result), r->err.code != 0 ? r->err.msg : r->note,
		    r->err.hint[0] != '\0' ? " - " : "", r->err.hint);
	else if (r->result == ROUND_SCALED || r->result == ROUND_PROPOSED)
		log_info(w->group.job, "%s %lld -> %lld: %s", round_result_word(r->result), (long long)r->decision.count,
		    (long long)r->decision.to, r->decision.reason);
	else
		log_debug(w->group.job, "%s %s: %s %s", round_result_word(r->result), policy_hold_word(r->decision.hold),
		    r->decision.reason, r->note);
}

static void
round_thread(void *arg)
{
	round_run(&((struct watched *)arg)->round);
}

static void
round_done(void *arg, bool began)
{
	struct watched *w = arg;
	const struct round *r = &w->round;
	int64_t now = clock_mono_ms(), wait = w->round.policy.evaluation_ms;

	w->busy = false;
	if (!began || w->scaler->stop)
		return;
	if (w->anew)
		w->group.state = (struct policy_state){0};
	w->anew = false;
	count_round(w, now - w->began_mono_ms);
	tell_round(w);
	if (r->result == ROUND_WAITING || w->group.marked.n > 0)
		wait = DRAIN_MS;
	else if (r->result == ROUND_MISSED || r->result == ROUND_SCALED)
		wait = ROUND_GAP_MS;
	else if (r->decision.until_mono_ms > now && r->decision.until_mono_ms - now < wait)
		wait = r->decision.until_mono_ms - now;
	else if (r->result != ROUND_QUIET && r->result != ROUND_PROPOSED)
		wait = LIST_MS;
	w->due_mono_ms = now + (wait > ROUND_GAP_MS ? wait : ROUND_GAP_MS);
	w->rest_mono_ms = r->result == ROUND_FAILED ? now + FAILED_REST_MS : w->began_mono_ms + ROUND_GAP_MS;
	w->news_mono_ms = 0;
	backlog_vertical_release(&w->round.queue);
}

static void
start_round(struct watched *w)
{
	static const struct backlog_vertical nothing;
	struct scaler *s = w->scaler;
	const struct backlog_vertical *q = backlog_find(&s->now, w->group.vertical);

	w->busy = true;
	if (w->wanted)
		w->news_mono_ms = s->queue_mono_ms;
	w->wanted = false;
	w->began_mono_ms = clock_mono_ms();
	/* A vertical that the dispatcher does not know is not known to be empty. */
	w->round = (struct round){.config = s->config, .leader = s->leader, .nomad = s->nomad, .backlog = s->draining,
		.group = &w->group, .queue = backlog_vertical_copy(q != NULL ? q : &nothing),
		.queue_known = s->queue_known && q != NULL, .queue_read_mono_ms = s->queue_mono_ms};
	work_submit(s->worker, round_thread, round_done, w);
}

/* Starts what is due. Only the one with the lock looks at all. */
static void
run_due(struct scaler *s, int64_t now)
{
	if (!leader_held(s->leader))
		return;
	for (size_t i = 0; i < s->n_groups; i++) {
		struct watched *w = s->groups[i];

		if (!w->busy && now >= w->rest_mono_ms && (now >= w->due_mono_ms || w->wanted))
			start_round(w);
	}
}

static void
tick(void *arg)
{
	struct scaler *s = arg;
	int64_t now = clock_mono_ms();

	if (!s->list_busy && (now >= s->list_due_mono_ms ||
	    (now >= s->list_due_mono_ms - LIST_MS + LIST_SOON_MS && group_missing(s)))) {
		s->list_busy = true;
		s->list_due_mono_ms = now + LIST_MS;
		work_submit(s->worker, list_run, list_done, s);
	}
	run_due(s, now);
	metrics_set(SCALE_QUEUE_AGE, NULL, s->queue_known ? (now - s->queue_mono_ms) / 1000 : -1);
	loop_timer_set(s->loop, &s->tick_timer, now + TICK_MS, tick, s);
}

/* A new leader knows nothing of what was: what it finds is what there is. */
static void
on_leader(void *arg, bool held)
{
	struct scaler *s = arg;

	log_info("lock", held ? "this one acts now" : "this one does not act any more");
	metrics_set(SCALE_LEADER, NULL, held);
	for (size_t i = 0; i < s->n_groups; i++) {
		struct watched *w = s->groups[i];

		w->due_mono_ms = 0;
		w->anew = w->busy;
		if (!w->busy)
			w->group.state = (struct policy_state){0};
	}
	if (held)
		run_due(s, clock_mono_ms());
}

/* --- life --- */

static void
holder_name(char *out, size_t len)
{
	char host[65] = "";

	(void)gethostname(host, sizeof(host) - 1);
	(void)snprintf(out, len, "%s/%ld", host, (long)getpid());
}

struct scaler *
scaler_new(struct loop *l, const struct config *c, struct err *e)
{
	struct scaler *s = xcalloc(1, sizeof(*s));
	char holder[96];

	s->loop = l;
	s->config = c;
	s->nomad_config = nomad_settings_config(&c->nomad);
	s->consul_config = consul_settings_config(&c->consul);
	if (discover_new(c->addr, &s->consul_config, &s->nomad_config, NULL, &s->discover, e) != 0) {
		err_prefix(e, e->code, "DROVER_ADDR");
		goto failed;
	}
	holder_name(holder, sizeof(holder));
	if ((s->leader = leader_new(l, &s->nomad_config, c->lock_path, c->lock_ttl_ms, holder, on_leader, s, e)) == NULL ||
	    (s->reader = work_pool_new(l, "queue", 1, e)) == NULL || (s->worker = work_pool_new(l, "nomad", 1, e)) == NULL)
		goto failed;
	s->nomad_config.stop = &s->stop;
	s->nomad = nomad_new(&s->nomad_config);
	s->reading = backlog_new(c, s->discover, &s->stop);
	s->draining = backlog_new(c, s->discover, &s->stop);
	read_queue(s);
	tick(s);
	return s;
failed:
	scaler_free(s);
	return NULL;
}

void
scaler_free(struct scaler *s)
{
	if (s == NULL)
		return;
	s->stop = true;
	loop_timer_clear(s->loop, &s->tick_timer);
	loop_timer_clear(s->loop, &s->read_timer);
	work_pool_free(s->reader);
	work_pool_free(s->worker);
	leader_free(s->leader);
	for (size_t i = 0; i < s->n_groups; i++)
		watched_free(s->groups[i]);
	backlog_snapshot_release(&s->now);
	backlog_snapshot_release(&s->fresh);
	backlog_free(s->reading);
	backlog_free(s->draining);
	nomad_free(s->nomad);
	discover_free(s->discover);
	decisions_release(&s->decisions);
	free(s);
}

/* --- showing --- */

json_t *
scaler_show(const struct scaler *s, size_t limit)
{
	json_t *groups = json_array();

	for (size_t i = 0; i < s->n_groups; i++)
		if (s->groups[i]->shown)
			json_array_append(groups, s->groups[i]->last);
	return json_pack("{s:b, s:s, s:b, s:I, s:o, s:o}", "leader", leader_held(s->leader), "standby", leader_why(s->leader),
	    "dry_run", s->config->dry_run, "queue_age_ms",
	    s->queue_known ? (json_int_t)(clock_mono_ms() - s->queue_mono_ms) : (json_int_t)-1, "groups", groups, "decisions",
	    decisions_list(&s->decisions, limit));
}

int
scaler_health(const struct scaler *s, bool *ret_leader, struct err *e)
{
	*ret_leader = leader_held(s->leader);
	if (!s->queue_known || s->queue_told)
		return err_set(e, ERR_RETRY, "queue: %s", s->queue_err.msg[0] != '\0' ? s->queue_err.msg : "not read yet");
	if (s->nomad_told)
		return err_set(e, ERR_RETRY, "nomad: %s", s->nomad_err.msg);
	return 0;
}
