/* placement.c - lanes that no node can serve: said at once, and their runs given up after a while where that is wanted. */
#include <stdio.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

#define GIVE_UP_MAX 64
#define WARM_KINDS (QUEUE_BIT(QUEUE_WARM) | QUEUE_BIT(QUEUE_WARM_SUSPECT))

static bool
anybody_there(const struct core *c, const struct lane *lane)
{
	list_each(&c->workers, l, after) {
		const struct worker *w = container_of(l, struct worker, all);

		if (w->lane == lane && !w->over)
			return true;
	}
	return false;
}

bool
lane_unplaceable(const struct core *c, const struct lane *lane, const char **why, int64_t *since_mono)
{
	size_t n = 0;

	if (lane->vertical->starting_slots > 0)
		return false;
	*since_mono = 0;
	list_each(&c->requests, l, after) {
		const struct request *r = container_of(l, struct request, all);

		if (r->vertical != lane->vertical || r->row.class != lane->class || !request_coming(r))
			continue;
		if (!r->child_told || r->child_state != CHILD_PENDING || !r->never)
			return false;
		n++;
		*why = r->why;
		*since_mono = r->never_mono > *since_mono ? r->never_mono : *since_mono;
	}
	return n > 0 && !anybody_there(c, lane);
}

/* The same of what looping workers alone would take. */
static bool
warm_unplaceable(const struct core *c, const struct lane *lane, const char **why, int64_t *since_mono)
{
	const struct vertical *v = lane->vertical;

	if (v->warm_never_mono == 0 || v->starting_slots > 0 || lane->class != CLASS_NORMAL || anybody_there(c, lane))
		return false;
	*why = v->warm_why;
	*since_mono = v->warm_never_mono;
	return true;
}

/* Fails what waits in the lane, of these kinds, some at a time: each is a commit. */
static void
give_up(struct core *c, struct now now, struct lane *lane, unsigned mask, const char *why)
{
	char reason[REASON_MAX];
	const struct run_cause cause = {.event = EV_EXPIRE, .fail = FAIL_INVALID, .reason = reason};
	struct queue_entry *e;

	snprintf(reason, sizeof(reason), "no node can serve it: %.200s", why);
	for (size_t n = 0; (e = queue_best(&lane->ready, mask)) != NULL; n++) {
		if (n == GIVE_UP_MAX) {
			vertical_wake(c, lane->vertical, now.mono_ms + 1);
			return;
		}
		run_move(c, now, container_of(e, struct run, entry), &cause, 0, ANS_REPORT);
	}
}

/* Now, or when the time that they may wait for a node is over. */
static void
look(struct core *c, struct now now, struct lane *lane, unsigned mask, const char *why, int64_t since_mono)
{
	struct vertical *v = lane->vertical;

	if (since_mono + c->config.unplaceable_ms > now.mono_ms)
		vertical_wake(c, v, since_mono + c->config.unplaceable_ms);
	else if (ledger_ready(c, now))
		give_up(c, now, lane, mask, why);
	else
		vertical_wake_ledger(c, v);
}

void
placement_look(struct core *c, struct now now, struct vertical *v)
{
	const char *why;
	int64_t since_mono;

	for (size_t k = 0; c->config.unplaceable_ms > 0 && k < RUN_CLASSES; k++) {
		struct lane *lane = &v->lanes[k];

		if (lane->by_age.len == 0)
			continue;
		/* What insists on a looping worker may go on waiting where one-shots have no place, and the other way round. */
		if (lane_unplaceable(c, lane, &why, &since_mono))
			look(c, now, lane, QUEUE_ALL & ~WARM_KINDS, why, since_mono);
		if (warm_unplaceable(c, lane, &why, &since_mono))
			look(c, now, lane, vertical_one_shots(c, v) ? WARM_KINDS : QUEUE_ALL, why, since_mono);
	}
}
