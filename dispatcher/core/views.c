/* views.c - reading the core: status, queue, workers. */
#include <stdio.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

const struct run_row *
core_find(const struct core *c, const char *id)
{
	const struct run *run = run_get(c, id);

	/* A first commit in flight is nothing to speak of yet. */
	if (run == NULL || (run->txn != NULL && run->txn->answer == ANS_SUBMIT && run->attempt == 0 && run->state == RUN_QUEUED))
		return NULL;
	run_row_of(run, c->scratch);
	return c->scratch;
}

static bool
say(struct core_wait *ret, const char *code, const char *text)
{
	snprintf(ret->code, sizeof(ret->code), "%s", code);
	snprintf(ret->text, sizeof(ret->text), "%s", text);
	return true;
}

/* The furthest that any one-shot on its way to this lane has come. */
static bool
why_one_shots(const struct core *c, const struct lane *lane, struct core_wait *ret)
{
	const struct request *best = NULL;

	list_each(&c->requests, l, after) {
		const struct request *r = container_of(l, struct request, all);

		if (r->vertical != lane->vertical || r->row.class != lane->class || !request_coming(r))
			continue;
		if (best == NULL || r->child_state > best->child_state || (r->why[0] != '\0' && best->why[0] == '\0'))
			best = r;
	}
	if (best == NULL)
		return false;
	if (best->row.state == REQ_WANTED)
		return say(ret, "capacity_requested", best->why[0] != '\0' ? best->why : "a job is being asked of Nomad");
	if (best->child_told && best->child_state == CHILD_PENDING && best->why[0] != '\0')
		return say(ret, "placement", best->why);
	if (best->child_told && best->child_state >= CHILD_STARTING)
		return say(ret, "starting", best->why[0] != '\0' ? best->why : "its allocation is starting");
	return say(ret, "capacity_requested", "Nomad has accepted the job and has not placed it yet");
}

/* One-shots that die again and again look like a slow start: what the last one died of is said beside it. */
static void
say_trouble(const struct vertical *v, struct core_wait *ret)
{
	size_t len = strlen(ret->text);

	if (v->trouble[0] != '\0' && strcmp(v->trouble, ret->text) != 0)
		snprintf(ret->text + len, sizeof(ret->text) - len, "; the last one failed: %s", v->trouble);
}

static bool
why_cluster(const struct core *c, struct now now, const struct run *run, const struct lane *lane, struct core_wait *ret)
{
	const struct vertical *v = run->vertical;

	if (!c->nomad)
		return say(ret, "nomad_away", c->nomad_why[0] != '\0' ? c->nomad_why : "Nomad cannot be reached");
	if (why_one_shots(c, lane, ret)) {
		say_trouble(v, ret);
		return true;
	}
	if (now.mono_ms < v->hold_mono)
		return say(ret, v->refused ? "placement" : "starting", v->trouble);
	if (v->window == 0)
		return say(ret, "no_worker", "the vertical has no one-shot jobs in Nomad");
	if (v->requests >= v->window)
		return say(ret, "window", "all one-shots that the vertical may have in Nomad are busy");
	return say(ret, "ready", "next in line for a worker");
}

struct paused {
	const struct run *run;
	struct core_wait *ret;
};

static void
say_paused(void *arg, const struct pause_row *row)
{
	struct paused *p = arg;
	const char *name = row->kind == PAUSE_VERTICAL ? p->run->vertical->name : p->run->share->tenant;

	if (strcmp(name, row->name) != 0)
		return;
	say(p->ret, "paused", "");
	snprintf(p->ret->text, sizeof(p->ret->text), "%s %s is paused by %s%s%.160s", row->kind == PAUSE_VERTICAL ? "vertical" : "tenant",
	    row->name, row->who, row->reason[0] != '\0' ? ": " : "", row->reason);
}

/* A breaker that is not closed explains itself. */
static bool
why_breaker(const struct core *c, struct now now, const struct run *run, struct core_wait *ret)
{
	const struct dependency *d = dependency_away(c);
	const struct breaker *b = &run->vertical->breaker;

	if (d == NULL && b->state == BREAKER_CLOSED)
		return false;
	say(ret, "breaker", "");
	if (d != NULL)
		snprintf(ret->text, sizeof(ret->text), "%s cannot be reached%s%.200s", d->name, d->why[0] != '\0' ? ": " : "", d->why);
	else if (b->state == BREAKER_OPEN && b->until_mono > now.mono_ms)
		snprintf(ret->text, sizeof(ret->text), "%s: runs fail one after the other, next try in %lld s; the last one: %.200s",
		    run->vertical->name, (long long)((b->until_mono - now.mono_ms + 999) / 1000), b->why);
	else
		snprintf(ret->text, sizeof(ret->text), "%s: runs failed one after the other, one is tried now; the last one: %.200s",
		    run->vertical->name, b->why);
	return true;
}

/* What keeps it out of the line. */
static bool
why_held(const struct core *c, const struct run *run, struct core_wait *ret)
{
	if (run->vertical->paused || run->share->paused) {
		core_pauses(c, say_paused, &(struct paused){run, ret});
		return true;
	}
	if (run->key == NULL || run->key->parked_pos == HEAP_NOWHERE)
		return false;
	say(ret, "key", "");
	key_explain(run, ret->text, sizeof(ret->text));
	return true;
}

bool
core_why(const struct core *c, struct now now, const char *id, struct core_wait *ret)
{
	const struct run *run = run_get(c, id);
	const struct lane *lane;
	size_t own;

	memset(ret, 0, sizeof(*ret));
	if (run == NULL || run->state != RUN_QUEUED)
		return false;
	lane = run_lane(c, run);
	if (run->entry.pos != HEAP_NOWHERE)
		ret->position = queue_position(&lane->ready, &run->entry, share_next_charge(c, run->vertical), &own);
	if (!c->writable || now.mono_ms < c->ledger_hold_mono)
		return say(ret, "ledger", "the ledger cannot write now");
	if (run->reserved != NULL)
		return say(ret, "starting", "waits for the worker of its own Nomad job");
	if (why_held(c, run, ret))
		return true;
	if (run->due_mono > now.mono_ms)
		return say(ret, "backoff", run->reason != NULL ? run->reason : "not before its time");
	if (why_breaker(c, now, run, ret))
		return true;
	list_each(&lane->waiting, l, after) {
		const struct worker *w = container_of(l, struct worker, waiting);

		if (worker_idle(c, w, now) > 0 && (queue_mask(c, w) & QUEUE_BIT(run->entry.kind)) != 0 && (!run->suspect || w->n_grants == 0))
			return say(ret, "ready", "a worker is taking it");
	}
	if (run_warm(c, run) && run->vertical->starting_slots > 0)
		return say(ret, "starting", "a warm worker is starting");
	if (vertical_one_shots(c, run->vertical) && run->execution != EXEC_WARM)
		return why_cluster(c, now, run, lane, ret);
	if (run->suspect && lane->running > 0)
		return say(ret, "alone", "a worker crashed with it: it waits for one that runs nothing else");
	if (run->vertical->warm_why[0] != '\0')
		return say(ret, "warm_start", run->vertical->warm_why);
	return say(ret, "no_worker", "no worker of its vertical has a free slot");
}

static void
depth_workers(const struct core *c, struct now now, const struct lane *lane, struct core_depth *d)
{
	list_each(&c->workers, l, after) {
		const struct worker *w = container_of(l, struct worker, all);

		if (w->known && w->lane == lane) {
			d->workers++;
			d->slots_free += worker_idle(c, w, now);
		}
	}
}

static void
depth_of(const struct core *c, struct now now, const struct lane *lane, struct core_depth *d)
{
	const struct run *oldest = heap_peek(&lane->by_age);

	*d = (struct core_depth){
		.class = lane->class,
		.queued = lane->queued,
		.ready = queue_len(&lane->ready, QUEUE_ALL),
		.running = lane->running,
		.window = lane->vertical->window,
	};
	snprintf(d->vertical, sizeof(d->vertical), "%s", lane->vertical->name);
	if (oldest != NULL && now.real_ms > oldest->since_real_ms)
		d->oldest_ms = now.real_ms - oldest->since_real_ms;
	list_each(&c->requests, l, after) {
		const struct request *r = container_of(l, struct request, all);

		d->requests += r->vertical == lane->vertical && r->row.class == lane->class && !r->row.adopted;
	}
	depth_workers(c, now, lane, d);
}

size_t
core_depths(const struct core *c, struct now now, struct core_depth *out, size_t n)
{
	size_t count = 0;

	list_each(&c->verticals, l, after) {
		const struct vertical *v = container_of(l, struct vertical, all);

		for (size_t k = 0; k < RUN_CLASSES; k++, count++) {
			if (count < n)
				depth_of(c, now, &v->lanes[k], &out[count]);
		}
	}
	return count;
}

size_t
core_workers(const struct core *c, struct now now, struct core_worker_view *out, size_t n)
{
	size_t count = 0;

	list_each(&c->workers, l, after) {
		const struct worker *w = container_of(l, struct worker, all);
		const struct request *r = worker_request(c, w);

		if (!w->known)
			continue;
		if (count < n)
			out[count] = (struct core_worker_view){
				.worker = w->who,
				.leases = w->n_grants,
				.committing = w->committing,
				.mark = w->mark,
				.seen_ms_ago = now.mono_ms - w->seen_mono,
				.draining = w->leaving || w->over || w->mark != DRAIN_NONE || (r != NULL && r->withdraw),
				.waiting = w->poll.caller != 0,
			};
		count++;
	}
	return count;
}

void
core_requests(const struct core *c, void (*each)(void *arg, const struct request_row *row), void *arg)
{
	list_each(&c->requests, l, after) {
		const struct request *r = container_of(l, struct request, all);

		if (!r->stray)
			each(arg, &r->row);
	}
}
