/* children.c - what Nomad says about children, and what it means for requests and for the leases held inside. */
#include <stdio.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

#define BY_OPERATOR "stopped in Nomad by an operator"

/* Asks Nomad how the child really stands; one question at a time. */
void
request_inquire(struct core *c, struct request *r)
{
	if (r->inquiring || !c->nomad || r->row.child[0] == '\0')
		return;
	r->inquiring = true;
	core_emit(c, EFF_INQUIRE)->req = r->row;
}

/* Someone else asked Nomad to stop this one-shot. A stop of a whole worker group is a drain of its workers instead. */
static bool
stopped_by_operator(const struct core_child *ch, const struct request *r, bool once)
{
	return once && (r == NULL || (!r->stray && !r->withdraw)) && (ch->stopped || ch->state == CHILD_GONE);
}

/* What the fact means for a lease held in there; false: nothing. */
static bool
verdict_of(struct now now, const struct core_child *ch, const struct request *r, const struct worker *w, struct verdict *ret)
{
	bool ended = ch->state == CHILD_ENDED || ch->state == CHILD_GONE, ours = r != NULL && r->withdraw;
	struct verdict v = {.at_mono = now.mono_ms + GRACE_MS, .event = EV_LOSE, .fail = FAIL_LOST, .solo = w->n_grants + w->committing <= 1};

	if (stopped_by_operator(ch, r, w->who.once)) {
		v.event = ended ? EV_STOPPED : EV_CANCEL;
		v.at_mono = ended ? v.at_mono : now.mono_ms;
		v.why = BY_OPERATOR;
	} else if (!ended) {
		return false;
	} else if (ch->oom && !v.solo) {
		v.at_mono = now.mono_ms;
		v.crash = true;
		v.why = "its worker ran out of memory with several runs inside";
	} else if (ch->oom) {
		v.at_mono = now.mono_ms;
		v.fail = FAIL_OOM;
		v.why = "its worker ran out of memory";
	} else if (ch->alloc_stopped || ours || ch->state == CHILD_GONE) {
		v.event = EV_HAND_BACK;
		v.why = "its worker's allocation was stopped";
	} else if (ch->crash) {
		v.at_mono = now.mono_ms;
		v.crash = true;
		v.why = "its worker died";
	} else {
		v.why = "its worker ended without a report";
	}
	*ret = v;
	return true;
}

/* The fact concerns every worker in that allocation of that child. */
static void
judge_workers(struct core *c, struct now now, const struct core_child *ch, struct request *r)
{
	struct verdict v;

	list_each(&c->workers, l, after) {
		struct worker *w = container_of(l, struct worker, all);
		bool inside = r != NULL ? worker_request(c, w) == r : strcmp(w->who.child, ch->child) == 0;
		bool there = ch->alloc[0] == '\0' || w->who.alloc[0] == '\0' || strcmp(ch->alloc, w->who.alloc) == 0;

		/* A group's fact without an allocation says nothing about one worker of it, unless the whole group is gone. */
		if (!w->who.once && ch->alloc[0] == '\0' && ch->state != CHILD_GONE)
			continue;
		if (!inside || !(there || ch->stopped) || !verdict_of(now, ch, r, w, &v))
			continue;
		list_each(&w->grants, g, after_g)
			grant_judge(c, container_of(g, struct grant, of_worker)->run, &v);
		if (ch->state != CHILD_ENDED && ch->state != CHILD_GONE)
			continue;
		w->over = true;
		w->verdict = v;
		if (w->poll.caller != 0)
			poll_answer_empty(c, w, true, 0, "");
	}
}

/* Hand-backs that waited for this word are decided. What a listing says that began before they asked is no answer, unless it is
 * yes. */
static void
decide_asked(struct core *c, struct now now, const struct core_child *ch, struct request *r)
{
	bool by_operator = stopped_by_operator(ch, r, true);

	if (r == NULL || (ch->partial && !by_operator))
		return;
	r->inquiring = false;
	list_each(&c->workers, l, after) {
		struct worker *w = container_of(l, struct worker, all);

		if (worker_request(c, w) != r)
			continue;
		list_each(&w->grants, g, after_g) {
			struct run *run = container_of(g, struct grant, of_worker)->run;
			bool older = !by_operator && c->listing && run->grant->asked_in == c->listings;

			if (run->grant->asked != NULL && run->txn == NULL && !older)
				report_decide(c, now, run, by_operator);
		}
	}
}

/* A child with our token whose request is done or never was: a late copy of a dispatch call made it. It is cleared away. */
static struct request *
stray_new(struct core *c, const struct core_child *ch)
{
	struct request_row row = {.seq = ch->seq, .state = REQ_STOPPING};

	snprintf(row.child, sizeof(row.child), "%s", ch->child);
	return request_new(c, &row);
}

/* Why the child is where it is. A fact that says nothing (a listing between two evaluations) leaves what was said of the same
 * state: Nomad's words, and whether they mean that no node could take it, change together. */
static void
take_reason(struct request *r, struct now now, const struct core_child *ch)
{
	bool never = ch->state == CHILD_PENDING && ch->never;

	if (ch->why[0] == '\0' && ch->state < CHILD_RUNNING && r->child_told && r->child_state == ch->state)
		return;
	snprintf(r->why, sizeof(r->why), "%s", ch->why);
	if (never && !r->never)
		r->never_mono = now.mono_ms;
	r->never = never;
}

/* What the fact says of the child's end. */
static void
take_end(struct core *c, struct now now, struct request *r, const struct core_child *ch)
{
	bool replaced = ch->alloc_stopped && !ch->stopped, ended_before = r->ended;

	if (ch->state == CHILD_GONE) {
		r->gone = true;
	} else if (ch->state == CHILD_ENDED && ch->partial && replaced) {
		request_inquire(c, r);
	} else if (ch->state == CHILD_ENDED && !request_has_worker(c, r, ch->alloc[0] != '\0' ? ch->alloc : "-")) {
		/* Nomad starts another allocation in place of one that was stopped: the whole child is stopped first. */
		if (replaced && !r->row.adopted)
			request_withdraw(c, now, r);
		else
			r->ended = true;
	} else if (r->ended && ch->state != CHILD_ENDED && !ch->partial && !r->calling && r->txn == NULL) {
		r->ended = false;
	}
	if (r->ended && !ended_before)
		r->next_call_mono = 0; /* the stop need not be repeated: its place in the window is cleared now */
}

static void
follow(struct core *c, struct now now, const struct core_child *ch, struct request *r)
{
	request_set_child(c, r, ch->child);
	if (r->row.adopted && r->reserved != NULL && ch->stopped)
		r->by_operator = true;
	take_end(c, now, r, ch);
	take_reason(r, now, ch);
	if (r->vertical != NULL)
		r->vertical->dirty = true;
	r->child_state = ch->state;
	r->child_told = true;
	if (r->ended || r->gone)
		request_failed(c, now, r, ch->why);
}

void
core_child(struct core *c, struct now now, const struct core_child *ch)
{
	struct request *r = ch->seq != 0 ? request_get(c, ch->seq) : request_of_child(c, ch->child);

	if (r == NULL && ch->seq != 0 && ch->state != CHILD_GONE)
		r = stray_new(c, ch);
	if (r != NULL && r->row.child[0] != '\0' && strcmp(r->row.child, ch->child) != 0)
		return; /* two children under one token: this one is cleared away when the other's request is done */
	if (r != NULL)
		r->listed = true;
	judge_workers(c, now, ch, r);
	decide_asked(c, now, ch, r);
	if (r != NULL) {
		follow(c, now, ch, r);
		if (ch->state == CHILD_ENDED && ch->partial && !ch->stopped && r->grants > 0)
			request_inquire(c, r);
		request_step(c, now, r);
	}
	core_settle(c, now);
}

void
core_inquiry_failed(struct core *c, struct now now, const char *child)
{
	struct request *r = request_of_child(c, child);

	if (r == NULL)
		return;
	r->inquiring = false;
	list_each(&c->runs, l, after) {
		struct run *run = container_of(l, struct run, all);

		if (run->grant != NULL && run->grant->request == r && run->grant->asked != NULL && run->txn == NULL)
			report_decide(c, now, run, false);
	}
	core_settle(c, now);
}

/* --- listings --- */

void
core_listing_begin(struct core *c, struct now now)
{
	(void)now;
	c->listing = true;
	c->listings++;
	list_each(&c->requests, l, after) {
		struct request *r = container_of(l, struct request, all);

		r->listed = false;
		r->dispatched_before = r->row.child[0] != '\0';
		r->doubt_before = r->doubt;
	}
}

void
core_listing_end(struct core *c, struct now now)
{
	c->listing = false;
	list_each(&c->requests, l, after) {
		struct request *r = container_of(l, struct request, all);
		struct core_child ch = {.seq = r->row.adopted ? 0 : r->row.seq, .state = CHILD_GONE};

		if (r->doubt_before && !r->listed && r->row.child[0] == '\0') {
			r->refused = true;
			request_failed(c, now, r, r->why);
			request_step(c, now, r);
			continue;
		}
		if (r->listed || !r->dispatched_before)
			continue;
		snprintf(ch.child, sizeof(ch.child), "%s", r->row.child);
		core_child(c, now, &ch);
	}
}
