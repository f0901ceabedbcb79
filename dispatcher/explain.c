#include "dispatcher/explain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "dispatcher/fleet.h"
#include "dispatcher/pauses.h"
#include "dispatcher/query.h"
#include "dispatcher/run_json.h"

#define REQUESTS_SHOWN 10
#define WORKERS_SHOWN 20

/* --- what there is around the run --- */

static json_t *
lane_json(struct dispatcher *d, const struct run_row *row)
{
	size_t n;
	struct core_depth *depths = query_lanes(d->core, &n);
	json_t *o = json_null();

	for (size_t i = 0; i < n; i++)
		if (strcmp(depths[i].vertical, row->needs.vertical) == 0 && depths[i].class == row->needs.class)
			o = depth_json(&depths[i]);
	free(depths);
	return o;
}

struct request_list {
	const struct run_row *row;
	json_t *list;
};

static void
add_request(void *arg, const struct request_row *r)
{
	struct request_list *l = arg;

	if (strcmp(r->vertical, l->row->needs.vertical) == 0 && r->class == l->row->needs.class &&
	    json_array_size(l->list) < REQUESTS_SHOWN)
		json_array_append_new(l->list, request_json(r));
}

/* The workers of its vertical and class, and why each of them does not take it. */
static json_t *
workers_json(struct dispatcher *d, const struct run_row *row)
{
	size_t n;
	struct core_worker_view *views = query_workers(d->core, &n);
	json_t *list = json_array();

	for (size_t i = 0; i < n && json_array_size(list) < WORKERS_SHOWN; i++) {
		const struct core_worker_view *v = &views[i];
		const struct fleet_worker *w = fleet_worker(d->fleet, v->worker.id);
		const char *health = w == NULL ? "" : w->health;
		const char *state = v->draining ? "draining" : health[0] != '\0' ? "unfit" :
		    v->leases + v->committing >= v->worker.slots ? "busy" : v->waiting ? "idle" : "away";

		if (strcmp(v->worker.vertical, row->needs.vertical) != 0 || v->worker.class != row->needs.class)
			continue;
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:i}", "worker", v->worker.id, "mode",
		    v->worker.once ? "once" : "loop", "node", w == NULL ? "" : w->node, "state", state, "why", health, "leases",
		    (json_int_t)v->leases, "slots", (int)v->worker.slots));
	}
	free(views);
	return list;
}

/* --- in words --- */

static void
say_final(const struct run_row *row, char *out, size_t len)
{
	const char *again = row->dead ? "; it was given up after its retries: `drover requeue` runs it again" : "";

	if (row->state == RUN_COMPLETED)
		snprintf(out, len, "It has completed, in attempt %u.", row->attempt);
	else
		snprintf(out, len, "It has ended as %s: %.200s%s", run_state_word(row->state), row->reason, again);
}

static void
say_queued(const struct run_row *row, const struct core_wait *w, char *out, size_t len)
{
	char retry[64] = "";

	if (row->attempt > 0)
		snprintf(retry, sizeof(retry), " It has had %u attempt%s.", row->attempt, row->attempt == 1 ? "" : "s");
	if (w->code[0] == '\0')
		snprintf(out, len, "It is being accepted.%s", retry);
	else if (w->position > 1)
		snprintf(out, len, "It waits in place %zu: %.250s.%s", w->position, w->text, retry);
	else
		snprintf(out, len, "It waits: %.250s.%s", w->text, retry);
}

static void
say_running(const struct run_row *row, const struct ledger_run *run, char *out, size_t len)
{
	char took[32];

	num_format_duration((clock_real_ms() - row->started_real_ms) / 1000 * 1000, took, sizeof(took));
	snprintf(out, len, "%s, attempt %u, for %s, on worker %s%s%s.",
	    row->state == RUN_CANCELING ? "It is being canceled" : "It runs", row->attempt, took, row->worker,
	    run->node[0] != '\0' ? " of node " : "", run->node);
}

/* --- the route --- */

static void
found(struct call *c)
{
	struct run_lookup *l = c->data;
	struct dispatcher *d = c->d;
	const struct run_row *live = core_find(d->core, l->run.row.id), row = live != NULL ? *live : l->run.row;
	struct core_wait wait = {.position = 0};
	struct request_list requests = {&row, json_array()};
	char summary[700];
	json_t *o;

	(void)run_wait(d, &row, &wait);
	core_requests(d->core, add_request, &requests);
	if (run_state_final(row.state))
		say_final(&row, summary, sizeof(summary));
	else if (row.state == RUN_QUEUED)
		say_queued(&row, &wait, summary, sizeof(summary));
	else
		say_running(&row, &l->run, summary, sizeof(summary));
	o = json_pack("{s:s, s:s, s:o, s:o, s:o, s:O}", "run", row.id, "state", run_state_word(row.state), "summary", json_text(summary),
	    "waiting", row.state == RUN_QUEUED ? wait_json(&wait) : json_null(), "not_before", json_time(row.not_before_real_ms),
	    "history", l->history);
	if (!run_state_final(row.state)) {
		json_object_set_new(o, "lane", lane_json(d, &row));
		json_object_set_new(o, "workers", workers_json(d, &row));
		json_object_set(o, "requests", requests.list);
		json_object_set_new(o, "paused", pauses_json(c));
		json_object_set_new(o, "breakers", breakers_json(c, true));
		json_object_set_new(o, "nomad", nomad_json(d));
	}
	json_decref(requests.list);
	call_reply_indexed(c, 200, json_pack("{s:o}", "explain", o));
}

void
run_explain(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct run_lookup), run_lookup_release);

	((struct run_lookup *)c->data)->with_history = true;
	query_run(c, found);
}
