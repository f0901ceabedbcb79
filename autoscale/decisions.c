#include "autoscale/decisions.h"

#include <string.h>

#include "base/clock.h"

/* Bounds of the policy, where one was read. */
static void
add_numbers(json_t *o, const struct round *r)
{
	const struct policy_decision *d = &r->decision;
	const struct policy_facts *f = &r->facts;

	json_object_update_new(o, json_pack("{s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I}", "from",
	    (json_int_t)d->count, "to", (json_int_t)d->to, "wanted", (json_int_t)d->wanted, "raw", d->raw, "min",
	    (json_int_t)r->policy.min, "max", (json_int_t)r->policy.max, "ready", (json_int_t)f->ready, "running",
	    (json_int_t)f->running, "one_shots", (json_int_t)f->one_shots, "arrivals_per_s", d->rate, "service_ms",
	    (json_int_t)d->service_ms, "slots_per_worker", (json_int_t)d->slots, "starting", (json_int_t)f->starting, "failed_starts",
	    (json_int_t)f->failed_starts));
}

json_t *
decision_json(const struct round *r, int64_t at_real_ms)
{
	char at[CLOCK_TEXT_LEN];
	const struct policy_decision *d = &r->decision;
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "at", clock_text(at_real_ms, at), "job", r->group->job,
	    "vertical", r->group->vertical, "result", round_result_word(r->result), "action", policy_action_word(d->action), "hold",
	    policy_hold_word(d->hold), "reason", r->result == ROUND_BROKEN ? r->err.msg : d->reason, "note", r->note);

	if (o == NULL)
		o = json_pack("{s:s, s:s}", "at", at, "result", round_result_word(r->result));
	if (r->result != ROUND_BROKEN && r->result != ROUND_FOREIGN)
		add_numbers(o, r);
	return o;
}

void
decisions_add(struct decisions *d, json_t *one)
{
	json_decref(d->ring[d->next]);
	d->ring[d->next] = one;
	d->next = (d->next + 1) % DECISIONS_KEPT;
	if (d->n < DECISIONS_KEPT)
		d->n++;
}

json_t *
decisions_list(const struct decisions *d, size_t limit)
{
	json_t *list = json_array();

	for (size_t i = 1; i <= d->n && i <= limit; i++)
		json_array_append(list, d->ring[(d->next + DECISIONS_KEPT - i) % DECISIONS_KEPT]);
	return list;
}

void
decisions_release(struct decisions *d)
{
	for (size_t i = 0; i < DECISIONS_KEPT; i++)
		json_decref(d->ring[i]);
	memset(d, 0, sizeof(*d));
}
