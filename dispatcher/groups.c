/* groups.c - warm worker groups as Nomad has them: which of their allocations start, which have died, and why some do not come.
 *
 * The core hears of each death once, by the time at which the task ended (the node's clock, by which the worker also says when it
 * began): a task that Nomad has started again is another worker, and what is told late of the one before must not meet it.
 * A node that Nomad has lost is no fact: its worker may well be talking to us, and its leases tell.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "dispatcher/cluster_priv.h"

struct member { /* an allocation of a group */
	uint64_t modify_index;
	enum child_state state;
	bool unwanted;
	int64_t died_real_ms;  /* of its last process that ended; 0: none */
	int64_t since_mono;    /* when its start was seen to begin */
	bool listed;
	char why[CORE_CAUSE_MAX];
};

struct group {
	char id[JOB_ID_MAX], vertical[VERTICAL_NAME_MAX];
	unsigned slots;
	enum capacity capacity;
	bool listed;           /* its allocations have been told */
	int64_t count;         /* -1: no such job, stopped, or at rest */
	int64_t raised_mono;   /* when the count was seen to grow */
	char trouble[CORE_CAUSE_MAX];
	struct placement placement; /* why some of it has no place */
	struct map *members;   /* by allocation */
	struct core_warm told;
};

/* --- what the core is told --- */

struct sum { /* of the allocations that are wanted */
	unsigned alive, starting;
	int64_t next_mono;     /* when the next start is overdue */
	char why[CORE_CAUSE_MAX];
};

static void
say(struct sum *s, const struct group *g, const char *what, const char *more)
{
	if (s->why[0] == '\0')
		snprintf(s->why, sizeof(s->why), "%.60s: %.60s%s%.190s", g->id, what, more[0] != '\0' ? ": " : "", more);
}

static void
add_member(const struct cluster *c, const struct group *g, const char *alloc, const struct member *m, int64_t now_mono, struct sum *s)
{
	char why[CORE_CAUSE_MAX] = "";
	int64_t overdue_mono = m->since_mono + c->cfg.start_limit_ms;
	char limit[80];

	if (m->unwanted || (m->state != CHILD_STARTING && m->state != CHILD_RUNNING)) {
		if (!m->unwanted && m->state == CHILD_ENDED && m->why[0] != '\0' && now_mono < overdue_mono)
			say(s, g, "a worker failed", m->why);
		return;
	}
	s->alive++;
	if (c->cfg.worker_in(c->cfg.arg, alloc, m->died_real_ms, why)) {
		if (why[0] != '\0')
			say(s, g, "a worker takes no runs", why);
		return;
	}
	if (now_mono < overdue_mono) {
		s->starting++;
		s->next_mono = overdue_mono < s->next_mono ? overdue_mono : s->next_mono;
		if (m->died_real_ms != 0)
			say(s, g, "a worker is started again", m->why);
		return;
	}
	snprintf(limit, sizeof(limit), "allocation %.8s has not registered within %lld s", alloc, (long long)c->cfg.start_limit_ms / 1000);
	say(s, g, limit, m->why);
}

static struct sum
sum_up(const struct cluster *c, const struct group *g, int64_t now_mono)
{
	struct sum s = {.next_mono = INT64_MAX};
	int64_t overdue_mono = g->raised_mono + c->cfg.start_limit_ms;
	size_t cursor = 0;
	const char *alloc;
	void *value;

	if (g->trouble[0] != '\0')
		snprintf(s.why, sizeof(s.why), "%.*s", (int)sizeof(s.why) - 1, g->trouble);
	if (g->placement.why[0] != '\0')
		say(&s, g, "no place for a worker", g->placement.why);
	while (map_next(g->members, &cursor, &alloc, &value))
		add_member(c, g, alloc, value, now_mono, &s);
	/* Asked for, and not heard of yet. */
	if (g->count > (int64_t)s.alive && g->placement.why[0] == '\0' && now_mono < overdue_mono) {
		s.starting += (unsigned)(g->count - (int64_t)s.alive);
		s.next_mono = overdue_mono < s.next_mono ? overdue_mono : s.next_mono;
	}
	if (g->count == 0 && g->capacity == CAPACITY_WARM)
		say(&s, g, "no worker is wanted (count 0)", "nothing scales the group up, or not yet");
	return s;
}

static void on_timer(void *arg);

static void
look(struct cluster *c, struct group *g, int64_t now_mono, int64_t *next_mono)
{
	struct sum s = sum_up(c, g, now_mono);
	struct core_warm fact = {.starting_slots = s.starting * g->slots, .group = g->count >= 0,
	    .never = g->placement.never && g->count > 0 && s.alive == 0};

	*next_mono = s.next_mono < *next_mono ? s.next_mono : *next_mono;
	memcpy(fact.vertical, g->vertical, sizeof(fact.vertical));
	memcpy(fact.why, s.why, sizeof(fact.why));
	if (fact.starting_slots == g->told.starting_slots && fact.group == g->told.group && fact.never == g->told.never &&
	    strcmp(fact.why, g->told.why) == 0)
		return;
	if (fact.why[0] != '\0' && strcmp(fact.why, g->told.why) != 0)
		log_info(g->id, "%s", fact.why);
	g->told = fact;
	core_warm(c->cfg.core, clock_now(), &fact);
}

void
groups_look(struct cluster *c)
{
	int64_t now_mono = clock_mono_ms(), next_mono = INT64_MAX;
	size_t cursor = 0;
	void *value;

	while (map_next(c->groups, &cursor, NULL, &value))
		look(c, value, now_mono, &next_mono);
	if (next_mono == INT64_MAX)
		loop_timer_clear(c->cfg.loop, &c->groups_timer);
	else
		loop_timer_set(c->cfg.loop, &c->groups_timer, next_mono, on_timer, c);
}

static void
on_timer(void *arg)
{
	groups_look(arg);
}

/* --- what Nomad says --- */

/* The process in that allocation has ended: its leases end now, unless another one has begun since. */
static void
tell_death(struct cluster *c, const struct group *g, const struct alloc_fact *f)
{
	struct core_child ch = {.state = CHILD_ENDED, .crash = f->died_crash, .oom = f->died_oom, .alloc_stopped = f->unwanted};
	char why[CORE_CAUSE_MAX];

	if (c->cfg.worker_in(c->cfg.arg, f->id, f->died_real_ms, why))
		return;
	snprintf(ch.child, sizeof(ch.child), "%s", g->id);
	memcpy(ch.alloc, f->id, sizeof(ch.alloc));
	memcpy(ch.why, f->why, sizeof(ch.why));
	core_child(c->cfg.core, clock_now(), &ch);
}

void
group_alloc(struct cluster *c, const struct alloc_fact *f)
{
	struct group *g = map_get(c->groups, f->job);
	struct member *m;

	if (g == NULL)
		return;
	m = map_get(g->members, f->id);
	if (m == NULL) {
		m = xcalloc(1, sizeof(*m));
		m->since_mono = clock_mono_ms();
		map_put(g->members, f->id, m);
	} else if (f->modify_index < m->modify_index) {
		m->listed = true;
		return;
	}
	m->listed = true;
	m->modify_index = f->modify_index;
	m->state = f->state;
	m->unwanted = f->unwanted;
	memcpy(m->why, f->why, sizeof(m->why));
	if (f->died_real_ms > m->died_real_ms) {
		m->died_real_ms = f->died_real_ms;
		m->since_mono = clock_mono_ms();
		tell_death(c, g, f);
	}
}

void
group_listed(struct cluster *c, const char *id, const struct placement *p)
{
	struct group *g = map_get(c->groups, id);
	size_t cursor = 0;
	const char *alloc;
	void *value;

	if (g == NULL)
		return;
	g->listed = true;
	g->placement = *p;
	while (map_next(g->members, &cursor, &alloc, &value)) {
		struct member *m = value;

		if (!m->listed)
			free(map_remove(g->members, alloc));
		else
			m->listed = false;
	}
}

void
group_unplaced(struct cluster *c, const char *id, const struct placement *p)
{
	struct group *g = map_get(c->groups, id);

	if (g != NULL)
		g->placement = *p;
}

void
group_job(struct cluster *c, const char *id, int64_t count, const char *trouble)
{
	struct group *g = map_get(c->groups, id);

	if (g == NULL)
		return;
	if (count > g->count)
		g->raised_mono = clock_mono_ms();
	if (count < g->count)
		g->placement = (struct placement){.never = false}; /* what still has no place is said again by the scaling's evaluation */
	g->count = count;
	snprintf(g->trouble, sizeof(g->trouble), "%.*s", (int)sizeof(g->trouble) - 1, trouble);
	groups_look(c);
}

/* --- life --- */

static struct group *
group_get(struct cluster *c, const char *vertical, const char *id)
{
	struct group *g = map_get(c->groups, id);

	if (g != NULL)
		return g;
	g = xcalloc(1, sizeof(*g));
	snprintf(g->id, sizeof(g->id), "%s", id);
	snprintf(g->vertical, sizeof(g->vertical), "%s", vertical);
	g->count = -1;
	g->members = map_new();
	map_put(c->groups, id, g);
	reconcile_suspect(c); /* a listing before did not ask for its allocations */
	return g;
}

void
group_set(struct cluster *c, const struct vertical *v, const char *id)
{
	struct group *g = group_get(c, v->name, id);

	g->slots = (unsigned)v->slots;
	g->capacity = v->capacity;
}

void
group_retire(struct cluster *c, const char *vertical, const char *id, const char *why)
{
	struct group *g = group_get(c, vertical, id);

	g->capacity = CAPACITY_JOB;
	snprintf(g->trouble, sizeof(g->trouble), "%s", why);
}

ssize_t
group_allocs(const struct cluster *c, const char *id, char (**ret)[CORE_ALLOC_MAX])
{
	const struct group *g = map_get(c->groups, id);
	size_t cursor = 0;
	const char *alloc;
	void *value;
	ssize_t n = 0;

	if (g == NULL || !g->listed)
		return -1;
	*ret = xcalloc(CORE_DRAINS_MAX, sizeof(**ret));
	while (map_next(g->members, &cursor, &alloc, &value) && n < CORE_DRAINS_MAX) {
		const struct member *m = value;

		if (!m->unwanted && m->state != CHILD_ENDED)
			snprintf((*ret)[n++], sizeof(**ret), "%s", alloc);
	}
	return n;
}

void
groups_start(struct cluster *c)
{
	c->groups_timer = (struct loop_timer){0};
}

void
groups_free(struct cluster *c)
{
	size_t cursor = 0;
	void *value;

	while (map_next(c->groups, &cursor, NULL, &value)) {
		struct group *g = value;
		size_t inner = 0;
		void *member;

		while (map_next(g->members, &inner, NULL, &member))
			free(member);
		map_free(g->members);
		free(g);
	}
	map_free(c->groups);
}
