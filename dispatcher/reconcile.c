/* reconcile.c - what Nomad has, told to the core: full listings at start, after every break of the event stream and on a timer;
 * events in between.
 *
 * The stream is lossy and says so never: it starts at the index of a listing, and when it ends the next listing repairs
 * what was missed. A fact about an allocation that is older than what the core was told already is dropped by its index.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "dispatcher/cluster_priv.h"
#include "base/retry.h"

#define SUSPECT_MS 200       /* between trouble with a call and the listing that finds out */
#define DENIED_LIST_MS 5000  /* without the right to the event stream, listings come this often */

static const struct retry_policy relist = {.max_attempts = RETRY_MAX_ATTEMPTS, .base_ms = 200, .cap_ms = 5000};

static void list_start(void *arg);

static void
list_at(struct cluster *c, int64_t delay_ms)
{
	int64_t at = clock_mono_ms() + delay_ms;

	if (c->list_timer.set && c->list_timer.at_mono_ms <= at)
		return;
	loop_timer_set(c->cfg.loop, &c->list_timer, at, list_start, c);
}

void
reconcile_suspect(struct cluster *c)
{
	if (c->listing)
		c->again = true;
	else if (c->up)
		list_at(c, SUSPECT_MS);
}

/* --- telling the core --- */

static struct child *
child_get(struct cluster *c, const char *id)
{
	struct child *ch = map_get(c->children, id);

	if (ch == NULL) {
		ch = xcalloc(1, sizeof(*ch));
		snprintf(ch->told.child, sizeof(ch->told.child), "%s", id);
		map_put(c->children, id, ch);
	}
	return ch;
}

static void
tell(struct cluster *c, struct child *ch)
{
	core_child(c->cfg.core, clock_now(), &ch->told);
}

/* Notes the age of a fact; false when a later one about the same allocation was told already (a listing and the stream overlap). */
static bool
is_news(struct child *ch, const struct alloc_fact *f)
{
	unsigned at = ch->n_allocs % LOOK_ALLOCS_MAX;

	for (unsigned i = 0; i < LOOK_ALLOCS_MAX; i++) {
		if (strcmp(ch->allocs[i].id, f->id) != 0)
			continue;
		if (f->modify_index < ch->allocs[i].modify_index)
			return false;
		at = i;
	}
	if (at == ch->n_allocs % LOOK_ALLOCS_MAX && strcmp(ch->allocs[at].id, f->id) != 0)
		ch->n_allocs++;
	memcpy(ch->allocs[at].id, f->id, sizeof(f->id));
	ch->allocs[at].modify_index = f->modify_index;
	return true;
}

/* One allocation's word; of_listing: with the job's own word, else the job may have been stopped unseen. */
static void
tell_alloc(struct cluster *c, struct child *ch, const struct alloc_fact *f, bool of_listing)
{
	struct core_child *t = &ch->told;

	if (!is_news(ch, f))
		return;
	t->seq = ch->seq;
	t->state = f->state;
	t->stopped = ch->stopped;
	t->crash = f->crash;
	t->oom = f->oom;
	t->alloc_stopped = f->unwanted && !ch->stopped;
	t->never = false;
	t->partial = !of_listing && !ch->stopped;
	memcpy(t->alloc, f->id, sizeof(t->alloc));
	memcpy(t->why, f->why, sizeof(t->why));
	tell(c, ch);
}

/* It has no allocation: it waits for room, or was stopped before it got any. */
static void
tell_unplaced(struct cluster *c, struct child *ch, bool dead, const struct placement *p, bool partial)
{
	struct core_child *t = &ch->told;

	t->seq = ch->seq;
	t->state = dead ? CHILD_ENDED : CHILD_PENDING;
	t->stopped = ch->stopped;
	t->crash = t->oom = t->alloc_stopped = false;
	t->partial = partial;
	t->never = p->never && !dead;
	t->alloc[0] = '\0';
	memcpy(t->why, p->why, sizeof(t->why));
	tell(c, ch);
}

void
reconcile_gone(struct cluster *c, const char *id)
{
	struct child *ch = map_remove(c->children, id);
	struct core_child gone = {.state = CHILD_GONE, .seq = ch != NULL ? ch->seq : 0};

	snprintf(gone.child, sizeof(gone.child), "%s", id);
	core_child(c->cfg.core, clock_now(), &gone);
	free(ch);
}

/* Whose child: false for one of another ledger, which is none of ours. */
static bool
owned(struct cluster *c, const struct job_fact *job, uint64_t *seq)
{
	bool foreign;

	*seq = request_seq(job->request, c->cfg.ledger_uuid, &foreign);
	return !foreign;
}

void
reconcile_looked(struct cluster *c, const struct look *l)
{
	struct child *ch;
	uint64_t seq;

	if (!owned(c, &l->job, &seq))
		return;
	ch = child_get(c, l->job.id);
	ch->seq = seq;
	ch->stopped = l->job.stopped;
	ch->listing = c->listings;
	for (size_t i = 0; i < l->n_allocs; i++)
		tell_alloc(c, ch, &l->allocs[i], true);
	if (l->n_allocs == 0)
		tell_unplaced(c, ch, l->job.dead || l->job.stopped, &l->placement, false); /* stopped: it never gets one */
	ch->over = l->job.dead && ch->told.state == CHILD_ENDED;
}

/* --- listing --- */

struct group_look { /* a worker group */
	char id[JOB_ID_MAX];
	struct alloc_fact *allocs;
	size_t n_allocs;
	struct placement placement; /* why some of it has no place */
};

struct listing {
	struct task task;
	struct group_look *groups;
	size_t n_groups;
	struct map *over;    /* ids of children about which nothing new can come: no need to ask again */
	json_t *entries;
	uint64_t index;
	struct look *looks;  /* of the children */
	size_t n_looks;
	bool *known;         /* looks[i] is one of `over` */
};

static int
look_group(struct cluster *c, struct nomad *n, const json_t *entry, struct group_look *g, struct err *e)
{
	const json_t *summary = json_object_get(json_object_get(entry, "JobSummary"), "Summary");
	const char *id = json_string_value(json_object_get(entry, "ID"));
	json_t *allocs = NULL, *alloc;
	size_t i;
	int rc;

	snprintf(g->id, sizeof(g->id), "%.*s", (int)sizeof(g->id) - 1, id);
	rc = nomad_job_allocs(n, g->id, &allocs, e);
	g->allocs = xcalloc(json_array_size(allocs) + 1, sizeof(*g->allocs));
	json_array_foreach(allocs, i, alloc)
		g->n_allocs += alloc_fact_read(alloc, &g->allocs[g->n_allocs]);
	json_decref(allocs);
	if (rc == 0 && json_integer_value(json_object_get(json_object_get(summary, "workers"), "Queued")) > 0)
		rc = look_placement(c, n, g->id, &g->placement, e);
	return rc;
}

/* The worker groups; their entries go to the others. */
static int
list_groups(struct listing *l, struct nomad *n)
{
	json_t *entries = NULL, *entry;
	uint64_t index;
	size_t i;
	int rc = nomad_list(n, l->task.c->group_prefix, &entries, &index, &l->task.err);

	l->groups = xcalloc(json_array_size(entries) + 1, sizeof(*l->groups));
	json_array_foreach(entries, i, entry) {
		if (rc == 0)
			rc = look_group(l->task.c, n, entry, &l->groups[l->n_groups++], &l->task.err);
		rc = rc == ERR_NOTFOUND ? 0 : rc; /* purged meanwhile */
	}
	if (rc == 0)
		json_array_extend(l->entries, entries);
	json_decref(entries);
	return rc;
}

static void
listing_run(struct task *t, struct nomad *n)
{
	struct listing *l = (struct listing *)t;
	size_t i;
	json_t *entry;

	t->rc = nomad_list(n, t->c->prefix, &l->entries, &l->index, &t->err);
	if (t->rc != 0)
		return;
	l->looks = xcalloc(json_array_size(l->entries) + 1, sizeof(*l->looks));
	l->known = xcalloc(json_array_size(l->entries) + 1, sizeof(*l->known));
	json_array_foreach(l->entries, i, entry) {
		struct look *look = &l->looks[l->n_looks];
		bool foreign;

		if (!job_fact_read(entry, &look->job) || !look->job.child)
			continue;
		(void)request_seq(look->job.request, t->c->cfg.ledger_uuid, &foreign);
		if (foreign)
			continue;
		l->known[l->n_looks] = map_get(l->over, look->job.id) != NULL;
		if (!l->known[l->n_looks])
			t->rc = look_allocs(t->c, n, look, &t->err);
		if (t->rc == ERR_NOTFOUND) /* purged meanwhile */
			t->rc = 0;
		else
			l->n_looks++;
		if (t->rc != 0)
			return;
	}
	t->rc = list_groups(l, n);
}

/* Tells everything that the listing holds, and forgets what it does not. */
static void
listing_tell(struct cluster *c, const struct listing *l)
{
	size_t cursor = 0;
	const char *id;
	void *value;

	for (size_t i = 0; i < l->n_looks; i++) {
		struct child *ch = map_get(c->children, l->looks[i].job.id);

		if (!l->known[i]) {
			reconcile_looked(c, &l->looks[i]);
		} else if (ch != NULL) { /* else purged by us while the listing was on its way */
			ch->listing = c->listings;
			ch->stopped = ch->told.stopped = l->looks[i].job.stopped;
			tell(c, ch);
		}
	}
	core_listing_end(c->cfg.core, clock_now());
	while (map_next(c->children, &cursor, &id, &value)) {
		struct child *ch = value;

		/* One that came after the listing was made is in none yet: it goes with the next. */
		if (ch->listing + 1 < c->listings)
			free(map_remove(c->children, id));
	}
}

static void
listing_tell_groups(struct cluster *c, const struct listing *l)
{
	for (size_t i = 0; i < l->n_groups; i++) {
		for (size_t k = 0; k < l->groups[i].n_allocs; k++)
			group_alloc(c, &l->groups[i].allocs[k]);
		group_listed(c, l->groups[i].id, &l->groups[i].placement);
	}
	groups_look(c);
}

static void
came_up(struct cluster *c)
{
	if (!c->up)
		log_info(NULL, "Nomad is reachable");
	c->up = true;
	c->failures = 0;
	core_nomad_health(c->cfg.core, clock_now(), true, "");
}

static void
went_away(struct cluster *c, const struct err *e)
{
	snprintf(c->away, sizeof(c->away), "%s", e->msg);
	if (c->up || c->failures == 0)
		log_warn(NULL, "Nomad cannot be used: %s", e->msg);
	c->up = false;
	core_nomad_health(c->cfg.core, clock_now(), false, c->away);
}

static void stream_start(struct cluster *c);

static void
listing_done(struct task *t)
{
	struct listing *l = (struct listing *)t;
	struct cluster *c = t->c;
	json_t *entry;
	uint64_t random;
	size_t i;

	c->listing = false;
	if (t->rc != 0) {
		went_away(c, &t->err);
		c->failures++;
		random_bytes(&random, sizeof(random));
		if (c->failures >= relist.max_attempts)
			c->failures = relist.max_attempts - 1;
		list_at(c, 50 + retry_next(&relist, c->failures, 0, random));
		return;
	}
	c->index = l->index;
	listing_tell(c, l);
	listing_tell_groups(c, l);
	came_up(c);
	json_array_foreach(l->entries, i, entry)
		jobs_listed(c, entry);
	jobs_listed(c, NULL);
	stream_start(c);
	list_at(c, c->again ? SUSPECT_MS : c->stream_denied && c->cfg.reconcile_ms > DENIED_LIST_MS ? DENIED_LIST_MS : c->cfg.reconcile_ms);
}

static void
listing_release(struct task *t)
{
	struct listing *l = (struct listing *)t;

	json_decref(l->entries);
	for (size_t i = 0; i < l->n_groups; i++)
		free(l->groups[i].allocs);
	free(l->groups);
	map_free(l->over);
	free(l->looks);
	free(l->known);
}

static void
list_start(void *arg)
{
	struct cluster *c = arg;
	struct listing *l;
	size_t cursor = 0;
	const char *id;
	void *value;

	if (c->listing) {
		c->again = true;
		return;
	}
	c->listing = true;
	c->again = false;
	c->listings++;
	l = xcalloc(1, sizeof(*l));
	l->task.run = listing_run;
	l->task.done = listing_done;
	l->task.release = listing_release;
	l->over = map_new();
	while (map_next(c->children, &cursor, &id, &value)) {
		if (((struct child *)value)->over)
			map_put(l->over, id, value);
	}
	core_listing_begin(c->cfg.core, clock_now());
	task_submit(c, &l->task);
}

/* --- events --- */

enum note_kind { NOTE_JOB, NOTE_ALLOC, NOTE_EVAL };

struct note { /* from the stream's thread to the loop */
	struct cluster *c;
	enum note_kind kind;
	bool deleted;
	struct job_fact job;         /* EVAL: its id */
	struct alloc_fact alloc;
	struct placement placement;  /* EVAL */
};

static void
note_job(struct cluster *c, const struct note *note)
{
	const struct job_fact *job = &note->job;
	struct child *ch = map_get(c->children, job->id);
	uint64_t seq;

	if (!job->child) {
		jobs_touched(c, job->id);
		return;
	}
	if (!owned(c, job, &seq))
		return;
	if (note->deleted) {
		if (ch != NULL)
			reconcile_gone(c, job->id);
		return;
	}
	if (ch == NULL) {
		ch = child_get(c, job->id);
		ch->listing = c->listings;
		ch->told.state = CHILD_PENDING;
	}
	ch->seq = ch->told.seq = seq;
	if (job->stopped && !ch->stopped) {
		ch->stopped = ch->told.stopped = true;
		ch->told.alloc_stopped = false;
		ch->told.partial = false;
		/* Without an allocation nothing will ever tell that it has ended. */
		if (ch->n_allocs > 0)
			tell(c, ch);
		else
			pump_inquire(c, job->id);
	}
}

static void
note_alloc(struct cluster *c, const struct note *note)
{
	struct child *ch = map_get(c->children, note->alloc.job);

	group_alloc(c, &note->alloc);
	groups_look(c);
	/* A child whose own event was missed is met by the next listing. */
	if (ch != NULL)
		tell_alloc(c, ch, &note->alloc, false);
}

static void
unplaced(struct cluster *c, const char *id, const struct placement *p)
{
	struct child *ch = map_get(c->children, id);

	group_unplaced(c, id, p);
	groups_look(c);
	if (ch != NULL && ch->n_allocs == 0 && !ch->stopped)
		tell_unplaced(c, ch, false, p, true);
}

struct sizing { /* is what has no room too large for every node? */
	struct task task;
	char job[CORE_CHILD_MAX];
	struct placement told, found; /* by the event; by the latest evaluation, which may be another one */
};

static void
sizing_run(struct task *t, struct nomad *n)
{
	struct sizing *s = (struct sizing *)t;

	t->rc = look_placement(t->c, n, s->job, &s->found, &t->err);
}

static void
sizing_done(struct task *t)
{
	struct sizing *s = (struct sizing *)t;

	if (t->rc == 0 && s->found.why[0] != '\0')
		s->told = s->found;
	unplaced(t->c, s->job, &s->told);
}

static void
note_eval(struct cluster *c, const struct note *note)
{
	struct sizing *s;

	/* What was found too large stays that while it is asked again: its limit would begin anew. */
	if (!note->placement.exhausted) {
		unplaced(c, note->job.id, &note->placement);
		return;
	}
	s = xcalloc(1, sizeof(*s));
	s->told = note->placement;
	s->task.run = sizing_run;
	s->task.done = sizing_done;
	memcpy(s->job, note->job.id, sizeof(s->job));
	task_submit(c, &s->task);
}

static void
note_take(void *arg)
{
	static void (*const table[])(struct cluster *, const struct note *) = {
		[NOTE_JOB] = note_job, [NOTE_ALLOC] = note_alloc, [NOTE_EVAL] = note_eval,
	};
	struct note *note = arg;

	if (!atomic_load(&note->c->stop))
		table[note->kind](note->c, note);
	free(note);
}

/* Stream's thread: an event as a note, if it is about a job of ours. */
static int
on_event(void *arg, uint64_t index, const json_t *event)
{
	struct cluster *c = ((struct task *)arg)->c;
	const json_t *payload = json_object_get(event, "Payload"), *o;
	struct note note = {.c = c};
	const char *id = "";
	bool use = false;

	(void)index;
	if ((o = json_object_get(payload, "Job")) != NULL) {
		note.kind = NOTE_JOB;
		note.deleted = json_is_true(json_object_get(payload, "Deleted"));
		use = job_fact_read(o, &note.job);
		id = note.job.id;
	} else if ((o = json_object_get(payload, "Allocation")) != NULL) {
		note.kind = NOTE_ALLOC;
		use = alloc_fact_read(o, &note.alloc);
		id = note.alloc.job;
	} else if ((o = json_object_get(payload, "Evaluation")) != NULL) {
		const char *job = json_string_value(json_object_get(o, "JobID"));

		note.kind = NOTE_EVAL;
		use = job != NULL && placement_read(o, &note.placement) &&
		    snprintf(note.job.id, sizeof(note.job.id), "%s", job) < (int)sizeof(note.job.id);
		id = note.job.id;
	}
	if (use && (strncmp(id, c->prefix, strlen(c->prefix)) == 0 || strncmp(id, c->group_prefix, strlen(c->group_prefix)) == 0))
		loop_post(c->cfg.loop, note_take, xmemdup(&note, sizeof(note)));
	return 0;
}

struct stream {
	struct task task;
	uint64_t index;
};

static void
stream_run(void *arg)
{
	struct stream *s = arg;
	struct cluster *c = s->task.c;
	struct nomad *n = nomad_new(&c->cfg.nomad);

	s->task.rc = nomad_events(n, s->index, on_event, s, &c->stop, &s->task.err);
	nomad_free(n);
}

static void
stream_done(void *arg, bool began)
{
	struct stream *s = arg;
	struct cluster *c = s->task.c;

	if (began && !atomic_load(&c->stop)) {
		c->streaming = false;
		c->stream_denied = s->task.rc == ERR_DENIED;
		if (c->stream_denied)
			log_warn(NULL, "%s; listing every %d s instead", s->task.err.msg, DENIED_LIST_MS / 1000);
		else
			log_debug(NULL, "event stream: %s", s->task.err.msg);
		if (!c->stream_denied)
			reconcile_suspect(c);
	}
	free(s);
}

static void
stream_start(struct cluster *c)
{
	struct stream *s;

	if (c->streaming)
		return;
	c->streaming = true;
	s = xcalloc(1, sizeof(*s));
	s->task.c = c;
	s->index = c->index + 1;
	work_submit(c->events, stream_run, stream_done, s);
}

/* --- life --- */

void
reconcile_start(struct cluster *c)
{
	list_at(c, 0);
}

void
reconcile_free(struct cluster *c)
{
	size_t cursor = 0;
	void *value;

	while (map_next(c->children, &cursor, NULL, &value))
		free(value);
	map_free(c->children);
}
