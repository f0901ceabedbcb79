/* why.c - why a queued run waits, what is before it, and how long that may take. */
#include <stdio.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"
#include "dispatcher/core/plan.h"

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
		return say(ret, best->never ? "unplaceable" : "placement", best->why);
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
	if (c->dispatching.state != BREAKER_CLOSED) {
		say(ret, "nomad_away", "");
		snprintf(ret->text, sizeof(ret->text), "calls to Nomad fail one after the other; the last one: %.200s", c->dispatching.why);
		return true;
	}
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
	const char *last = b->tenant == run->share->tenant ? b->why : "of another tenant";

	if (d == NULL && b->state == BREAKER_CLOSED)
		return false;
	say(ret, "breaker", "");
	if (d != NULL)
		snprintf(ret->text, sizeof(ret->text), "%s cannot be reached%s%.200s", d->name, d->why[0] != '\0' ? ": " : "", d->why);
	else if (b->state == BREAKER_OPEN && b->until_mono > now.mono_ms)
		snprintf(ret->text, sizeof(ret->text), "%s: runs fail one after the other, next try in %lld s; the last one: %.200s",
		    run->vertical->name, (long long)((b->until_mono - now.mono_ms + 999) / 1000), last);
	else
		snprintf(ret->text, sizeof(ret->text), "%s: runs failed one after the other, one is tried now; the last one: %.200s",
		    run->vertical->name, last);
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

/* --- how long --- */

/* Attempts of the lane that may go on at once, as far as workers and the window allow now. */
static size_t
lane_capacity(const struct core *c, const struct lane *lane, const struct run *run)
{
	const struct vertical *v = lane->vertical;
	size_t n = lane->class == CLASS_NORMAL && run_warm(c, run) ? v->starting_slots : 0;

	list_each(&c->workers, l, after) {
		const struct worker *w = container_of(l, struct worker, all);

		if (w->known && w->lane == lane && !w->who.once && !w->over && !w->leaving && w->mark == DRAIN_NONE &&
		    (queue_mask(c, w) & QUEUE_BIT(run->entry.kind)) != 0)
			n += w->who.slots;
	}
	if (vertical_one_shots(c, v) && run->execution != EXEC_WARM)
		n += v->window;
	return n;
}

/* Whether it waits for what is away or broken: when that is mended nobody knows. */
static bool
waits_for_repair(const struct core_wait *w)
{
	static const char *const words[] = {"ledger", "breaker", "nomad_away", "unplaceable", "warm_start"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(w->code, words[i]) == 0)
			return true;
	return false;
}

/* Fills the estimate, where there is anything to go by: no promise, but what its basis makes of it. */
static void
estimate(const struct core *c, struct now now, const struct run *run, struct core_wait *ret)
{
	const struct lane *lane = run_lane(c, run);
	struct wait_input in = {.service_ms = service_mean_ms(&run->vertical->service)};

	ret->estimate_ms = -1;
	ret->expires_ms = run->expire_mono == NEVER ? -1 : run->expire_mono > now.mono_ms ? run->expire_mono - now.mono_ms : 0;
	if (run->delayed) {
		in.delay_ms = run->due_mono - now.mono_ms;
		in.place = 1;
	} else {
		in.place = ret->position;
	}
	in.busy = lane->running;
	in.capacity = lane_capacity(c, lane, run);
	if (in.place == 0 || in.capacity == 0 || waits_for_repair(ret))
		return;
	if (in.service_ms == 0 && in.place + in.busy > in.capacity)
		return; /* somebody has to end first, and nobody knows how long that takes */
	ret->estimate_ms = wait_estimate_ms(&in);
	snprintf(ret->basis, sizeof(ret->basis), "%zu ahead, %zu running, %zu at once, %.1f s per run", in.place - 1, in.busy, in.capacity,
	    (double)in.service_ms / 1000);
}

static void
place_in_line(const struct core *c, const struct run *run, const struct lane *lane, struct core_wait *ret)
{
	double all = 0;

	list_each(&run->vertical->shares, l, after)
		all += container_of(l, struct share, all)->use;
	ret->share = all > 0 ? run->share->use / all : 0;
	if (run->entry.pos == HEAP_NOWHERE)
		return;
	ret->position = queue_position(&lane->ready, &run->entry, share_next_charge(c, run->vertical), &ret->ahead_own);
	ret->ahead_others = ret->position - 1 - ret->ahead_own;
}

/* Whether there are looping workers in the lane, all of them being taken away. */
static bool
all_drained(const struct core *c, const struct lane *lane)
{
	size_t drained = 0, others = 0;

	list_each(&c->workers, l, after) {
		const struct worker *w = container_of(l, struct worker, all);

		if (!w->known || w->lane != lane || w->who.once || w->over)
			continue;
		drained += w->mark != DRAIN_NONE;
		others += w->mark == DRAIN_NONE;
	}
	return drained > 0 && others == 0;
}

static bool
say_drained(const struct vertical *v, struct core_wait *ret)
{
	say(ret, "drain", "");
	snprintf(ret->text, sizeof(ret->text), "all looping workers of its vertical are being taken away%s%.200s",
	    v->warm_why[0] != '\0' ? ": " : "", v->warm_why);
	return true;
}

static bool
why(const struct core *c, struct now now, const struct run *run, const struct lane *lane, struct core_wait *ret)
{
	if (!c->writable || now.mono_ms < c->ledger_hold_mono)
		return say(ret, "ledger", "the ledger cannot write now");
	if (why_held(c, run, ret))
		return true;
	if (run->due_mono > now.mono_ms)
		return say(ret, "backoff", run->reason != NULL ? run->reason : "not before its time");
	if (why_breaker(c, now, run, ret))
		return true;
	if (run->reserved != NULL)
		return say(ret, "starting", "waits for the worker of its own Nomad job");
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
	if (all_drained(c, lane))
		return say_drained(run->vertical, ret);
	if (run->vertical->warm_why[0] != '\0')
		return say(ret, run->vertical->warm_never_mono != 0 ? "unplaceable" : "warm_start", run->vertical->warm_why);
	return say(ret, "no_worker", "no worker of its vertical has a free slot");
}

bool
core_why(const struct core *c, struct now now, const char *id, struct core_wait *ret)
{
	const struct run *run = run_get(c, id);
	const struct lane *lane;

	memset(ret, 0, sizeof(*ret));
	if (run == NULL || run->state != RUN_QUEUED)
		return false;
	lane = run_lane(c, run);
	place_in_line(c, run, lane, ret);
	why(c, now, run, lane, ret);
	estimate(c, now, run, ret);
	return true;
}
