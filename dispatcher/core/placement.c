/* placement.c - lanes that no node can serve: said at once, and their runs given up after a while where that is wanted. */
#include <stdio.h>
#include <string.h>

#include "dispatcher/core/core_request.h"
#include "dispatcher/core/core_run.h"
#include "dispatcher/core/core_worker.h"

#define GIVE_UP_MAX 64

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
	if (n == 0)
		return false;
	list_each(&c->workers, l, after) {
		const struct worker *w = container_of(l, struct worker, all);

		if (w->lane == lane && !w->over)
			return false;
	}
	return true;
}

/* Fails what waits in the lane for a one-shot, some at a time: each is a commit. What insists on a looping worker may go on waiting. */
static void
give_up(struct core *c, struct now now, struct lane *lane, const char *why)
{
	const unsigned mask = QUEUE_ALL & ~(QUEUE_BIT(QUEUE_WARM) | QUEUE_BIT(QUEUE_WARM_SUSPECT));
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

void
placement_look(struct core *c, struct now now, struct vertical *v)
{
	const char *why;
	int64_t since_mono;

	for (size_t k = 0; c->config.unplaceable_ms > 0 && k < RUN_CLASSES; k++) {
		struct lane *lane = &v->lanes[k];

		if (lane->by_age.len == 0 || !lane_unplaceable(c, lane, &why, &since_mono))
			continue;
		if (since_mono + c->config.unplaceable_ms > now.mono_ms)
			vertical_wake(c, v, since_mono + c->config.unplaceable_ms);
		else if (ledger_ready(c, now))
			give_up(c, now, lane, why);
		else
			vertical_wake_ledger(c, v);
	}
}
