/* requests.c - the life of a request for capacity, from its row to the purge of its child.
 *
 * request_step looks at what is known and does what is due, one thing at a time: bring the row to the state that it should
 * have, else make the call that it needs, else wait. It may be called at any time and as often as one likes.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

struct request *
request_get(const struct core *c, uint64_t seq)
{
	char key[NUMBER_KEY_LEN];

	return seq == 0 ? NULL : map_get(c->request_by_seq, number_key(seq, key));
}

struct request *
request_of_child(const struct core *c, const char *child)
{
	return child[0] == '\0' ? NULL : map_get(c->request_by_child, child);
}

void
request_set_child(struct core *c, struct request *r, const char *child)
{
	if (child[0] == '\0' || r->row.child[0] != '\0' || request_of_child(c, child) != NULL)
		return;
	/* A late copy of a call made it, after a listing had said that there is none, and before that was written. */
	if (r->txn == NULL)
		r->refused = r->doubt = false;
	snprintf(r->row.child, sizeof(r->row.child), "%s", child);
	map_put(c->request_by_child, r->row.child, r);
}

struct request *
request_new(struct core *c, const struct request_row *row)
{
	struct request *r = xcalloc(1, sizeof(*r));
	char key[NUMBER_KEY_LEN];

	r->row = *row;
	r->row.child[0] = '\0';
	r->stray = row->vertical[0] == '\0';
	r->vertical = r->stray ? NULL : vertical_get(c, row->vertical);
	r->withdraw = row->state == REQ_STOPPING;
	r->stopped_mono = NEVER;
	r->ttl_mono = NEVER;
	timer_init(&r->timer, TIMER_REQUEST);
	list_add(&c->requests, &r->all);
	map_put(c->request_by_seq, number_key(row->seq, key), r);
	request_set_child(c, r, row->child);
	if (!r->stray && !row->adopted)
		r->vertical->requests++;
	return r;
}

void
request_free(struct core *c, struct request *r)
{
	char key[NUMBER_KEY_LEN];

	assert(r->grants == 0);
	breaker_drop(&c->dispatching, r->row.seq);
	if (r->reserved != NULL)
		run_unreserve(r->reserved);
	timer_set(c, &r->timer, NEVER);
	list_remove(&r->all);
	map_remove(c->request_by_seq, number_key(r->row.seq, key));
	if (r->row.child[0] != '\0')
		map_remove(c->request_by_child, r->row.child);
	if (!r->stray && !r->row.adopted)
		r->vertical->requests--;
	if (r->vertical != NULL)
		r->vertical->dirty = true;
	free(r);
}

bool
request_coming(const struct request *r)
{
	return !r->stray && !r->row.adopted && !r->used && !r->dismissed && !r->refused && !r->withdraw && !r->ended && !r->gone;
}

/* Whether a registered worker of the child is there that does not run in that allocation ("": any). */
bool
request_has_worker(const struct core *c, const struct request *r, const char *other_than_alloc)
{
	list_each(&c->workers, l, after) {
		const struct worker *w = container_of(l, struct worker, all);

		if (w->known && !w->over && worker_request(c, w) == r &&
		    (other_than_alloc[0] == '\0' || strcmp(w->who.alloc, other_than_alloc) != 0))
			return true;
	}
	return false;
}

void
request_unlease(struct core *c, struct now now, uint64_t seq)
{
	struct request *r = request_get(c, seq);

	if (r == NULL)
		return;
	r->grants--;
	r->used = r->grants > 0;
	request_step(c, now, r);
}

void
request_useful(struct request *r)
{
	if (r->row.adopted || r->stray)
		return;
	r->vertical->streak = 0;
	r->vertical->hold_mono = 0;
	r->vertical->trouble[0] = '\0';
}

static void
trouble(struct core *c, const struct request *r, const char *why)
{
	struct vertical *v = r->vertical;
	struct effect *e;

	if (strcmp(v->trouble, why) == 0)
		return;
	snprintf(v->trouble, sizeof(v->trouble), "%s", why);
	e = core_emit(c, EFF_TROUBLE);
	e->req = r->row;
	snprintf(e->why, sizeof(e->why), "%s", why);
}

/* A one-shot that came to nothing: the more of them in a row, the longer until the next is asked for. */
void
request_failed(struct core *c, struct now now, struct request *r, const char *why)
{
	struct vertical *v = r->vertical;

	if (r->failed || r->used || r->dismissed || r->stray || r->row.adopted)
		return;
	r->failed = true;
	v->streak++;
	v->hold_mono = now.mono_ms + core_backoff(c, v->streak, c->config.backoff_base_ms);
	v->refused = r->refused;
	if (why[0] == '\0')
		why = r->why;
	trouble(c, r, why[0] != '\0' ? why : "its worker ended before it took a run");
}

void
request_withdraw(struct core *c, struct now now, struct request *r)
{
	if (r->withdraw || r->row.adopted)
		return;
	request_failed(c, now, r, r->why[0] != '\0' ? r->why : "its worker did not come in time");
	r->withdraw = true;
	list_each(&c->workers, l, after) {
		struct worker *w = container_of(l, struct worker, all);

		if (worker_request(c, w) == r)
			beat_wake(c, w);
	}
}

/* --- what is due --- */

/* The state that the row should have by now. */
static enum request_state
due_state(const struct request *r)
{
	enum request_state s = r->row.state;
	bool idle = r->grants == 0 && r->reserved == NULL;

	if (r->refused || r->purged || (idle && (r->gone || (r->ended && r->row.adopted))))
		return REQ_DONE;
	if (r->withdraw)
		return REQ_STOPPING;
	if (s < REQ_ACTIVE && r->registered)
		return REQ_ACTIVE;
	return s == REQ_WANTED && r->row.child[0] != '\0' ? REQ_DISPATCHED : s;
}

static void
write_state(struct core *c, struct now now, struct request *r, enum request_state state)
{
	struct request_row next = r->row;
	struct txn *t;

	if (r->stray) {
		request_free(c, r);
		return;
	}
	if (!ledger_ready(c, now)) {
		timer_set(c, &r->timer, c->writable ? c->ledger_hold_mono : NEVER);
		return;
	}
	next.state = state;
	t = txn_new(c, 0, ANS_SUBMIT);
	txn_add_request(t, r, &next, false);
	txn_commit(c, t);
}

/* Makes the call if Nomad is there and its time has come; otherwise sees to it that the time is not missed. */
static bool
call(struct core *c, struct now now, struct request *r, enum effect_kind kind)
{
	if (r->calling || !c->nomad)
		return false;
	if (kind == EFF_DISPATCH && !breaker_allows(&c->dispatching, now.mono_ms)) {
		timer_set(c, &r->timer, c->dispatching.state == BREAKER_OPEN ? c->dispatching.until_mono : now.mono_ms + PROBE_WAIT_MS);
		return false;
	}
	if (now.mono_ms < r->next_call_mono) {
		timer_set(c, &r->timer, r->next_call_mono);
		return false;
	}
	if (kind == EFF_DISPATCH)
		breaker_try(&c->dispatching, r->row.seq);
	r->calling = kind != EFF_STOP;
	core_emit(c, kind)->req = r->row;
	return true;
}

/* A stop has no answer: it is repeated until the child is seen to have ended. */
static void
stop(struct core *c, struct now now, struct request *r)
{
	if (r->child_told && r->child_state == CHILD_UNKNOWN && now.mono_ms - r->stopped_mono >= UNREACHED_MS && r->stopped_mono != NEVER) {
		call(c, now, r, EFF_PURGE);
		return;
	}
	if (!call(c, now, r, EFF_STOP))
		return;
	if (r->stopped_mono == NEVER)
		r->stopped_mono = now.mono_ms;
	r->next_call_mono = now.mono_ms + STOP_REPEAT_MS;
	timer_set(c, &r->timer, r->next_call_mono);
}

/* A hand-made child that ended, or did not lease for long, frees its run; if an operator stopped it, the run is canceled. */
static void
release_run(struct core *c, struct now now, struct request *r)
{
	static const struct run_cause stopped = {.event = EV_STOPPED, .reason = "its job was stopped in Nomad by an operator"};
	struct run *run = r->reserved;

	if (run->txn != NULL)
		return;
	if (!ledger_ready(c, now)) {
		timer_set(c, &r->timer, c->writable ? c->ledger_hold_mono : NEVER);
		return;
	}
	if (r->by_operator) {
		run_move(c, now, run, &stopped, 0, ANS_CANCEL);
		return;
	}
	run_unreserve(run);
	run_unindex(c, run);
	run_index(c, now, run);
}

/* Nobody came, or who came has gone silent. */
static void
wait_for_worker(struct core *c, struct now now, struct request *r)
{
	if (now.mono_ms < r->ttl_mono) {
		timer_set(c, &r->timer, r->ttl_mono);
	} else if (r->grants > 0 || request_has_worker(c, r, "")) {
		r->ttl_mono = now.mono_ms + c->config.lease_ttl_ms;
		timer_set(c, &r->timer, r->ttl_mono);
	} else if (!r->row.adopted) {
		request_withdraw(c, now, r);
		request_step(c, now, r);
	}
}

void
request_step(struct core *c, struct now now, struct request *r)
{
	enum request_state due;

	if (r->txn != NULL || !c->started)
		return;
	timer_set(c, &r->timer, NEVER);
	if (r->reserved != NULL && (r->ended || r->gone || now.mono_ms >= r->ttl_mono))
		release_run(c, now, r);
	due = due_state(r);
	if (due != r->row.state)
		write_state(c, now, r, due);
	else if (r->row.state == REQ_WANTED && !r->doubt)
		call(c, now, r, EFF_DISPATCH);
	else if (r->row.state == REQ_WANTED)
		return;
	else if (r->row.adopted && r->reserved != NULL && now.mono_ms < r->ttl_mono)
		timer_set(c, &r->timer, r->ttl_mono);
	else if (r->row.adopted)
		return;
	else if (r->ended && r->grants == 0)
		call(c, now, r, EFF_PURGE);
	else if (!r->ended && r->row.state == REQ_STOPPING)
		stop(c, now, r);
	else if (!r->ended)
		wait_for_worker(c, now, r);
}

void
request_done(struct core *c, struct now now, struct request *r, const struct request_row *next, bool insert, bool ok)
{
	r->txn = NULL;
	if (ok)
		r->row.state = next->state;
	if (ok ? next->state == REQ_DONE : insert) {
		if (!ok && r->vertical != NULL)
			vertical_wake_ledger(c, r->vertical);
		request_free(c, r);
		return;
	}
	request_step(c, now, r);
}

/* --- what the calls led to --- */

void
core_dispatched(struct core *c, struct now now, uint64_t seq, enum dispatch_result result, const char *child, const char *why)
{
	struct request *r = request_get(c, seq);

	if (r == NULL)
		return;
	r->calling = false;
	if (result == DISPATCH_RETRY)
		breaker_fail(&c->dispatching, seq, now.mono_ms, core_random(c), NULL, why == NULL ? "" : why);
	else
		breaker_ok(&c->dispatching, seq); /* refused is answered as well */
	if (result == DISPATCH_OK) {
		request_set_child(c, r, child);
		r->ttl_mono = now.mono_ms + c->config.request_ttl_ms;
		r->tries = 0;
		r->next_call_mono = 0;
	} else if (r->row.child[0] == '\0') {
		snprintf(r->why, sizeof(r->why), "%s", why == NULL ? "" : why);
		r->tries++;
		r->next_call_mono = now.mono_ms + core_backoff(c, r->tries, c->config.backoff_base_ms);
		r->refused = result == DISPATCH_REFUSED && !r->ambiguous;
		r->doubt = result == DISPATCH_REFUSED && r->ambiguous;
		r->ambiguous = true;
		if (r->refused)
			request_failed(c, now, r, r->why);
	}
	request_step(c, now, r);
	core_settle(c, now);
}

void
core_purged(struct core *c, struct now now, uint64_t seq, bool ok)
{
	struct request *r = request_get(c, seq);

	if (r == NULL)
		return;
	r->calling = false;
	r->purged = ok;
	if (!ok) {
		r->tries++;
		r->next_call_mono = now.mono_ms + core_backoff(c, r->tries, c->config.backoff_base_ms);
	}
	request_step(c, now, r);
	core_settle(c, now);
}
