#include "autoscale/leader.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/nomad_scale.h"

#define PER_TTL 3 /* renewals, and tries for a lock that another one has */
#define DELAY_S 1 /* of Nomad's, on top of its two TTLs */

struct leader {
	struct loop *loop;
	struct work_pool *pool;
	struct nomad *nomad; /* of the pool's thread */
	char *path, *holder;
	int64_t ttl_ms;
	void (*changed)(void *arg, bool held);
	void *arg;
	_Atomic int64_t until_mono_ms; /* held before this time */
	bool always, told, trouble; /* trouble: Nomad cannot be asked, and that was told */
	char id[NOMAD_LOCK_ID_MAX];    /* "": none; of the pool's thread while `busy` */
	bool busy, stopping;
	int rc;
	struct err err;                /* of the pool's thread while `busy` */
	struct err why;                /* of the loop: what the last turn said */
	struct loop_timer timer, expiry;
};

bool
leader_held(const struct leader *l)
{
	return l->always || clock_mono_ms() < l->until_mono_ms;
}

const char *
leader_why(const struct leader *l)
{
	return leader_held(l) ? "" : l->why.msg;
}

/* Tells a change once. */
static void
tell(void *arg)
{
	struct leader *l = arg;
	bool held = leader_held(l);

	if (held == l->told)
		return;
	l->told = held;
	l->changed(l->arg, held);
}

/* Thread: renews, or tries to take it. */
static void
turn_run(void *arg)
{
	struct leader *l = arg;
	int64_t began = clock_mono_ms();
	json_t *items;

	if (l->id[0] != '\0') {
		l->rc = nomad_lock_renew(l->nomad, l->path, l->id, &l->err);
	} else {
		items = json_pack("{s:s}", "holder", l->holder);
		l->rc = nomad_lock_acquire(l->nomad, l->path, items, l->ttl_ms / 1000, DELAY_S, l->id, &l->err);
		json_decref(items);
	}
	if (l->rc == 0)
		l->until_mono_ms = began + l->ttl_ms;
	/* Nomad says that it is not ours: at once. When it says nothing, what we have still holds for its time. */
	if (l->rc == ERR_CONFLICT || l->rc == ERR_NOTFOUND || (l->rc != 0 && !leader_held(l))) {
		l->until_mono_ms = 0;
		l->id[0] = '\0';
	}
}

static void turn(void *arg);

static void
turn_done(void *arg, bool began)
{
	struct leader *l = arg;

	l->busy = false;
	if (!began || l->stopping)
		return;
	if (l->rc != 0)
		l->why = l->err;
	if (l->rc == ERR_CONFLICT)
		err_set(&l->why, ERR_CONFLICT, "another autoscaler holds the lock %s", l->path);
	else if (l->rc != 0 && !l->trouble)
		log_warn("lock", "%s", l->why.msg);
	l->trouble = l->rc != 0 && l->rc != ERR_CONFLICT;
	if (leader_held(l))
		loop_timer_set(l->loop, &l->expiry, l->until_mono_ms + 1, tell, l);
	tell(l);
	loop_timer_set(l->loop, &l->timer, clock_mono_ms() + l->ttl_ms / PER_TTL, turn, l);
}

static void
turn(void *arg)
{
	struct leader *l = arg;

	if (l->busy)
		return;
	l->busy = true;
	work_submit(l->pool, turn_run, turn_done, l);
}

/* With "-" there is nothing to compete for; told in the loop like any other change. */
struct leader *
leader_new(struct loop *loop, const struct nomad_config *nomad, const char *path, int64_t ttl_ms, const char *holder,
    void (*changed)(void *arg, bool held), void *arg, struct err *e)
{
	struct leader *l = xcalloc(1, sizeof(*l));

	l->loop = loop;
	l->path = xstrdup(path);
	l->holder = xstrdup(holder);
	l->ttl_ms = ttl_ms;
	l->changed = changed;
	l->arg = arg;
	l->always = strcmp(path, "-") == 0;
	l->nomad = nomad_new(nomad);
	if (l->always) {
		loop_timer_set(loop, &l->expiry, 0, tell, l);
		return l;
	}
	if ((l->pool = work_pool_new(loop, "lock", 1, e)) == NULL) {
		leader_free(l);
		return NULL;
	}
	turn(l);
	return l;
}

void
leader_free(struct leader *l)
{
	struct err e;

	if (l == NULL)
		return;
	l->stopping = true;
	loop_timer_clear(l->loop, &l->timer);
	loop_timer_clear(l->loop, &l->expiry);
	work_pool_free(l->pool);
	if (l->id[0] != '\0' && leader_held(l) && nomad_lock_release(l->nomad, l->path, l->id, &e) != 0)
		log_warn("lock", "not given back: %s", e.msg);
	nomad_free(l->nomad);
	free(l->path);
	free(l->holder);
	free(l);
}
