/* check.c - every invariant of the core's memory, asserted. For tests: O(everything). */
#undef NDEBUG
#include <assert.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

static void
check_heap(const struct heap *h)
{
	for (size_t i = 1; i < h->len; i++)
		assert(!h->less(h->items[i], h->items[(i - 1) / 2]));
}

static void
check_run(const struct core *c, const struct run *run)
{
	const struct lane *lane = run_lane(c, run);
	bool held = run->state == RUN_RUNNING || run->state == RUN_CANCELING;

	assert(run_get(c, run->id) == run);
	assert(!run_state_final((enum run_state)run->state));
	assert(held == (run->grant != NULL));
	assert(run->reserved == NULL || (run->state == RUN_QUEUED && run->reserved->reserved == run && run->entry.pos == HEAP_NOWHERE));
	assert(run->deferred == NULL || run_busy(run));
	if (run->txn != NULL)
		assert(run->entry.pos == HEAP_NOWHERE && run->age_pos == HEAP_NOWHERE);
	assert((run->entry.pos != HEAP_NOWHERE) == (run->age_pos != HEAP_NOWHERE));
	if (run->txn == NULL && run->state == RUN_QUEUED && run->reserved == NULL) { /* ready, or there is a reason */
		bool paused = run->vertical->paused || run->share->paused, parked = run->key != NULL && run->key->parked_pos != HEAP_NOWHERE;

		assert((run->entry.pos != HEAP_NOWHERE) == !(run->delayed || paused || parked));
		assert(!run->delayed || run->timer.pos != HEAP_NOWHERE);
	}
	if (run->txn == NULL && run->state == RUN_QUEUED && run->expire_mono != NEVER && c->writable)
		assert(run->timer.pos != HEAP_NOWHERE);
	if (run->entry.pos != HEAP_NOWHERE) {
		assert(run->entry.tenant == &run->share->ready[lane->class] && lane->by_age.items[run->age_pos] == run);
		assert(run->entry.tenant->lines[run->entry.kind].runs.items[run->entry.pos] == &run->entry);
	}
	if (run->txn == NULL && held && c->writable)
		assert(run->timer.pos != HEAP_NOWHERE); /* every lease has an end in sight */
	if (run->grant != NULL) {
		assert(run->grant->run == run && worker_get(c, run->grant->worker->who.id) == run->grant->worker);
		assert(run->attempt > 0 && run->fence.seq > 0 && run->fence.seq < c->next_seq);
		assert(run->grant->request == request_get(c, run->request));
	}
}

static void
check_worker(const struct core *c, const struct worker *w)
{
	size_t n = 0;

	list_each(&w->grants, l, after) {
		assert(container_of(l, struct grant, of_worker)->worker == w);
		n++;
	}
	assert(n == w->n_grants);
	assert((w->poll.caller != 0) == (w->waiting.next != &w->waiting));
	assert(w->poll.caller == 0 || (caller_is_open(c, w->poll.caller) && w->poll.timer.pos != HEAP_NOWHERE));
	assert(w->beat.caller == 0 || (caller_is_open(c, w->beat.caller) && w->beat.timer.pos != HEAP_NOWHERE));
	assert(w->timer.pos != HEAP_NOWHERE); /* silent workers are forgotten */
}

static void
check_requests(const struct core *c)
{
	list_each(&c->verticals, l, after) {
		const struct vertical *v = container_of(l, struct vertical, all);
		size_t n = 0;

		list_each(&c->requests, k, after_k) {
			const struct request *r = container_of(k, struct request, all);

			n += r->vertical == v && !r->row.adopted;
		}
		assert(n == v->requests);
	}
	list_each(&c->requests, l, after) {
		const struct request *r = container_of(l, struct request, all);
		size_t grants = 0;

		assert(request_get(c, r->row.seq) == r && r->row.state < REQ_DONE);
		assert(r->row.child[0] == '\0' || request_of_child(c, r->row.child) == r);
		list_each(&c->runs, k, after_k) {
			const struct run *run = container_of(k, struct run, all);

			grants += run->grant != NULL && run->grant->request == r;
			for (size_t i = 0; run->txn != NULL && i < run->txn->n_runs; i++) {
				const struct run_change *change = &run->txn->runs[i];

				grants += change->run == run && change->event == EV_LEASE && change->next.request == r->row.seq;
			}
		}
		assert(grants == r->grants);
	}
}

static void
check_queue(const struct lane *lane)
{
	const struct queue *q = &lane->ready;

	for (size_t i = 0; i < QUEUE_KINDS; i++) {
		size_t n = 0;

		check_heap(&q->lines[i]);
		for (size_t k = 0; k < q->lines[i].len; k++) {
			const struct queue_line *line = q->lines[i].items[k];

			assert(line->pos == k && line->runs.len > 0);
			check_heap(&line->runs);
			n += line->runs.len;
		}
		assert(n == q->len[i]);
	}
	assert(queue_len(q, QUEUE_ALL) == lane->by_age.len);
}

/* Nobody is charged for what he does not hold. */
static void
check_shares(const struct core *c)
{
	size_t running = 0;

	list_each(&c->runs, k, after_k) {
		const struct run *run = container_of(k, struct run, all);

		running += run->charge > 0;
		assert(run->charge <= 0 || run->grant != NULL || run->txn != NULL);
	}
	list_each(&c->verticals, l, after) {
		const struct vertical *v = container_of(l, struct vertical, all);

		list_each(&v->shares, k, after_k) {
			const struct share *s = container_of(k, struct share, all);

			running -= s->running;
			assert(s->use >= -1e-6 * v->share_clock.unit);
		}
	}
	assert(running == 0);
}

/* A probe is under way, or its place is free. */
static void
check_probes(const struct core *c)
{
	list_each(&c->verticals, l, after) {
		const struct vertical *v = container_of(l, struct vertical, all);
		bool found = v->breaker.state != BREAKER_HALF_OPEN || v->breaker.probe == 0;

		list_each(&c->runs, k, after_k) {
			const struct run *run = container_of(k, struct run, all);

			found = found || (run->entry.order == v->breaker.probe && (run->grant != NULL || run->txn != NULL));
		}
		assert(found);
	}
}

static void
check_lanes(const struct core *c)
{
	size_t queued = 0, leased = 0, running = 0, arriving = 0, counted = 0, lane_queued = 0;

	list_each(&c->runs, l, after) {
		const struct run *run = container_of(l, struct run, all);

		queued += run->state == RUN_QUEUED;
		leased += run->state == RUN_RUNNING || run->state == RUN_CANCELING;
		counted += run->txn != NULL && (run->counted == COUNTED_ANY || run->counted == COUNTED_JOB);
	}
	list_each(&c->verticals, l, after) {
		const struct vertical *v = container_of(l, struct vertical, all);

		for (size_t k = 0; k < RUN_CLASSES; k++) {
			running += v->lanes[k].running;
			lane_queued += v->lanes[k].queued;
			arriving += v->lanes[k].arriving + v->lanes[k].arriving_job;
			check_heap(&v->lanes[k].by_age);
			check_queue(&v->lanes[k]);
		}
	}
	assert(queued == c->queued && queued == lane_queued && leased == running && arriving == counted);
}

void
core_check(const struct core *c)
{
	check_heap(&c->timers);
	list_each(&c->runs, l, after)
		check_run(c, container_of(l, struct run, all));
	list_each(&c->workers, l, after)
		check_worker(c, container_of(l, struct worker, all));
	check_requests(c);
	check_lanes(c);
	check_shares(c);
	check_probes(c);
	keys_check(c);
}
