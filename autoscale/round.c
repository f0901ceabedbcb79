#include "autoscale/round.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "cluster/nomad_scale.h"

/* Victims stay condemned: longer than a scale call takes that left in time. It is given up after 30 s, and Nomad then holds it for
 * a leader (5 s) and for its log (30 s) at most. */
#define CONDEMNED_MS INT64_C(120000)
#define CONDEMNED_FRESH_MS 10000 /* a scale call leaves this soon after its victims were condemned, or not at all */
#define CONDEMN_MAX 64           /* at once: the dispatcher takes no more */
#define START_MS INT64_C(120000) /* an allocation that fails later than this had started */
#define FAILURES_KEPT_MS INT64_C(3600000)
#define CHECK_MS 10000           /* after a scale-in, stops are looked at for so long */

static const char *const result_words[] = {[ROUND_QUIET] = "hold", [ROUND_SCALED] = "scaled", [ROUND_PROPOSED] = "dry_run",
	[ROUND_WAITING] = "draining", [ROUND_MISSED] = "missed", [ROUND_FAILED] = "failed", [ROUND_BROKEN] = "broken_policy",
	[ROUND_FOREIGN] = "ignored"};

const char *
round_result_word(enum round_result r)
{
	return result_words[r];
}

/* --- lists of allocations --- */

static void
list_clear(struct alloc_list *l)
{
	free(l->ids);
	free(l->indexes);
	*l = (struct alloc_list){0};
}

static void
list_add(struct alloc_list *l, const char *id, int64_t index)
{
	l->ids = xrealloc(l->ids, (l->n + 1) * sizeof(*l->ids));
	l->indexes = xrealloc(l->indexes, (l->n + 1) * sizeof(*l->indexes));
	l->indexes[l->n] = index;
	(void)snprintf(l->ids[l->n++], sizeof(*l->ids), "%s", id);
}

static bool
list_has(const struct alloc_list *l, const char *id)
{
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->ids[i], id) == 0)
			return true;
	return false;
}

static bool
list_equal(const struct alloc_list *a, const struct alloc_list *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (!list_has(b, a->ids[i]))
			return false;
	return true;
}

void
group_release(struct group *g)
{
	list_clear(&g->marked);
	list_clear(&g->going);
	list_clear(&g->staying);
}

/* --- facts --- */

static bool
registered(const struct backlog_vertical *q, const char *alloc)
{
	for (size_t i = 0; i < q->n_workers; i++)
		if (strcmp(q->workers[i].alloc, alloc) == 0)
			return true;
	return false;
}

/* Allocations that failed soon, and restarts of tasks, since the youngest allocation that worked came to be: its worker is there,
 * or it was ended in order. What is long ago says nothing about a start now. */
static int64_t
failed_starts(const struct view *v, const struct backlog_vertical *q, int64_t now_real_ms)
{
	int64_t since_ns = (now_real_ms - FAILURES_KEPT_MS) * 1000000, n = 0;

	for (size_t i = 0; i < v->n; i++) {
		const struct group_alloc *a = &v->allocs[i];

		if ((a->status == ALLOC_ENDED || registered(q, a->id)) && a->created_ns > since_ns)
			since_ns = a->created_ns;
	}
	for (size_t i = 0; i < v->n; i++) {
		const struct group_alloc *a = &v->allocs[i];

		if (a->created_ns <= since_ns)
			continue;
		if (a->status == ALLOC_FAILED)
			n += a->modified_ns - a->created_ns <= START_MS * 1000000;
		n += a->restarts;
	}
	return n;
}

struct policy_facts
round_facts(const struct view *v, const struct backlog_vertical *q, bool queue_known, int64_t age_ms, int64_t now_real_ms)
{
	struct policy_facts f = {.queue_known = queue_known, .queue_age_ms = age_ms, .ready = q->ready, .running = q->running,
		.one_shots = q->one_shots, .oldest_ms = q->oldest_ms, .arrivals_total = q->arrivals_total, .service_ms = q->service_ms,
		.workers = (int64_t)q->n_workers, .slots = q->slots, .idle = q->idle_slots, .count = v->stanza.count,
		.stopped = v->stopped, .deployment = v->deployment, .failed_starts = failed_starts(v, q, now_real_ms)};

	for (size_t i = 0; i < q->n_workers; i++) {
		f.taking += !q->workers[i].drained;
		f.held += q->workers[i].drained ? 0 : q->workers[i].leases + q->workers[i].committing;
	}
	for (size_t i = 0; i < v->n; i++)
		f.starting += alloc_is_live(&v->allocs[i]) && !registered(q, v->allocs[i].id);
	return f;
}

/* --- acting --- */

__attribute__((format(printf, 3, 4))) static void
finish(struct round *r, enum round_result result, const char *fmt, ...)
{
	va_list ap;

	r->result = result;
	va_start(ap, fmt);
	(void)vsnprintf(r->note, sizeof(r->note), fmt, ap);
	va_end(ap);
}

static json_t *
meta_of(const struct round *r, int64_t to)
{
	const struct policy_decision *d = &r->decision;
	const struct policy_facts *f = &r->facts;

	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:s}", "drover_autoscale", DROVER_VERSION, "from",
	    (json_int_t)d->count, "to", (json_int_t)to, "wanted", (json_int_t)d->wanted, "ready", (json_int_t)f->ready, "running",
	    (json_int_t)f->running, "one_shots", (json_int_t)f->one_shots, "arrivals_per_s", d->rate, "service_ms",
	    (json_int_t)d->service_ms, "slots", (json_int_t)d->slots, "check", r->policy.checks[d->check].name);
}

/* Takes the drain marks back; they end by themselves where the dispatcher cannot be told. */
static void
undo(struct round *r)
{
	struct group *g = r->group;
	struct err e;

	if (g->marked.n == 0 || r->config->dry_run)
		return;
	if (backlog_drain(r->backlog, g->vertical, NULL, 0, r->config->drain_ttl_ms / 1000, NULL, &e) != 0)
		return;
	list_clear(&g->marked);
	if (r->note[0] == '\0')
		(void)snprintf(r->note, sizeof(r->note), "the drain was taken back");
}

/* The call itself. What is not known to have failed may have happened. */
static void
scale(struct round *r, const struct view *v, int64_t to)
{
	struct group *g = r->group;
	json_t *meta;
	int rc;

	if (!leader_held(r->leader)) {
		finish(r, ROUND_QUIET, "the lock was lost");
		return;
	}
	meta = meta_of(r, to);
	rc = nomad_scale(r->nomad, g->job, v->stanza.group, to, v->modify_index, r->decision.reason, meta, &r->err);
	json_decref(meta);
	if (rc == 0) {
		policy_scaled(&g->state, v->stanza.count, to, clock_mono_ms());
		r->decision.to = to;
		r->result = ROUND_SCALED;
	} else if (rc == ERR_CONFLICT) {
		finish(r, ROUND_MISSED, "%s", r->err.msg);
	} else {
		policy_unsure(&g->state);
		finish(r, ROUND_FAILED, "%s", r->err.msg);
	}
}

static void
go_up(struct round *r, const struct view *v)
{
	undo(r);
	r->note[0] = '\0';
	if (r->config->dry_run)
		r->result = ROUND_PROPOSED;
	else
		scale(r, v, r->decision.to);
}

/* A scale-in that has to wait: not the policy's hold, ours. */
__attribute__((format(printf, 3, 4))) static void
wait_in(struct round *r, enum round_result result, const char *fmt, ...)
{
	va_list ap;

	r->result = result;
	r->decision.action = ACTION_HOLD;
	r->decision.hold = HOLD_SCALE_IN;
	va_start(ap, fmt);
	(void)vsnprintf(r->note, sizeof(r->note), fmt, ap);
	va_end(ap);
}

/* Whether a node under the group is being drained. Without the right to see nodes, the marks that a drain sets on allocations
 * have to do (victims_predict looks at them). */
static bool
node_drain(struct round *r, const struct view *v)
{
	json_t *nodes = NULL;
	struct err e;
	int rc = nomad_draining_nodes(r->nomad, &nodes, &e);
	bool found = rc == 0 ? view_on_nodes(v, nodes) : rc != ERR_DENIED;

	if (found)
		wait_in(r, ROUND_QUIET, "%s", rc == 0 ? "a node of the group is being drained" : e.msg);
	json_decref(nodes);
	return found;
}

/* How many live allocations there are. */
static int64_t
live_count(const struct view *v)
{
	int64_t n = 0;

	for (size_t i = 0; i < v->n; i++)
		n += alloc_is_live(&v->allocs[i]);
	return n;
}

static bool
has_failed(const struct view *v)
{
	for (size_t i = 0; i < v->n; i++)
		if (alloc_is_live(&v->allocs[i]) && v->allocs[i].status == ALLOC_FAILED)
			return true;
	return false;
}

/* While some are not placed, they may be until the count is changed, and Nomad stops whoever is highest then: one of those that
 * have an index from `to` on, or come to one. What is not there yet has a name of its own. */
static void
all_from(const struct view *v, int64_t to, struct alloc_list *ret)
{
	int64_t top = v->stanza.count - 1;

	for (size_t i = 0; i < v->n; i++)
		if (alloc_is_live(&v->allocs[i]) && v->allocs[i].index > top)
			top = v->allocs[i].index;
	for (int64_t index = top; index >= to; index--) {
		const struct group_alloc *there = NULL;
		char name[40];

		for (size_t i = 0; i < v->n && there == NULL; i++)
			if (alloc_is_live(&v->allocs[i]) && v->allocs[i].index == index)
				there = &v->allocs[i];
		(void)snprintf(name, sizeof(name), "unplaced-%lld", (long long)index);
		if (there != NULL || index < v->stanza.count)
			list_add(ret, there != NULL ? there->id : name, index);
	}
}

/* The allocations that Nomad will stop for `to`, highest index first; false (and why) when they cannot be told. Where only some
 * can be told, these, and why. */
static bool
predict(const struct view *v, int64_t to, struct alloc_list *ret, char why[VICTIMS_WHY_MAX])
{
	size_t *at = xcalloc(v->n + 1, sizeof(*at));
	int64_t n = victims_predict(v->allocs, v->n, to, at, why), live = live_count(v);

	if (n >= 0 && live > v->stanza.count) {
		(void)snprintf(why, VICTIMS_WHY_MAX, "Nomad has not carried out the last change yet");
		n = -1;
	}
	if (n >= 0 && to > 0 && live < v->stanza.count && has_failed(v)) {
		(void)snprintf(why, VICTIMS_WHY_MAX, "an allocation has failed, and others are not placed");
		n = -1;
	}
	if (n >= 0 && live < v->stanza.count)
		all_from(v, to, ret);
	else
		for (int64_t i = 0; i < n; i++)
			list_add(ret, v->allocs[at[i]].id, v->allocs[at[i]].index);
	free(at);
	return n >= 0;
}

/* Marks the victims; how many of them, from the highest index down, are idle. -1: the dispatcher could not be asked. */
static int64_t
drain(struct round *r, const struct alloc_list *victims)
{
	struct group *g = r->group;
	struct drain_state *states = xcalloc(victims->n + 1, sizeof(*states));
	int64_t idle = 0;
	int rc = backlog_drain(r->backlog, g->vertical, victims->ids, victims->n, r->config->drain_ttl_ms / 1000, states, &r->err);

	if (rc != 0) {
		wait_in(r, ROUND_FAILED, "%s", r->err.msg);
		idle = -1;
	} else {
		while ((size_t)idle < victims->n && !states[idle].busy)
			idle++;
		if (g->marked.n == 0)
			g->marked_mono_ms = clock_mono_ms();
		list_clear(&g->marked);
		for (size_t i = 0; i < victims->n; i++)
			list_add(&g->marked, victims->ids[i], victims->indexes[i]);
	}
	free(states);
	return idle;
}

static void
remember_stops(struct group *g, const struct view *v, struct alloc_list *going)
{
	list_clear(&g->going);
	list_clear(&g->staying);
	g->going = *going;
	*going = (struct alloc_list){0};
	for (size_t i = 0; i < v->n; i++)
		if (alloc_is_live(&v->allocs[i]) && !list_has(&g->going, v->allocs[i].id))
			list_add(&g->staying, v->allocs[i].id, v->allocs[i].index);
	g->scaled_mono_ms = clock_mono_ms();
}

/* The last step: condemned, read again, scaled. victims: exactly those that go for `to`. An allocation that takes the place of
 * one of them before the call has its effect is condemned by its index; one that did so before is seen in the second reading. */
static void
commit_in(struct round *r, const struct view *v, int64_t to, struct alloc_list *victims)
{
	struct group *g = r->group;
	struct alloc_list again = {0};
	struct view fresh = {0};
	char why[VICTIMS_WHY_MAX] = "";
	int64_t began = clock_mono_ms();
	int rc = backlog_condemn(r->backlog, g->vertical, victims->ids, victims->indexes, victims->n, v->modify_index,
	    CONDEMNED_MS / 1000, &r->err);

	/* Given work just now; or, after a restart of the dispatcher, not heard of yet; or that could not be made durable. */
	if (rc == ERR_CONFLICT || rc == ERR_RETRY) {
		wait_in(r, ROUND_WAITING, "%s", r->err.msg);
		return;
	}
	if (rc != 0) {
		wait_in(r, ROUND_FAILED, "%s", r->err.msg);
		return;
	}
	fault_point("round.condemned");
	if (view_read(r->nomad, g->job, &fresh, &r->err) != 0)
		wait_in(r, ROUND_FAILED, "%s", r->err.msg);
	else if (fresh.modify_index != v->modify_index || fresh.stanza_rc != 0 || fresh.stopped || fresh.deployment ||
	    !predict(&fresh, to, &again, why) || !list_equal(&again, victims))
		wait_in(r, ROUND_MISSED, "the group changed meanwhile%s%s", why[0] != '\0' ? ": " : "", why);
	else if (clock_mono_ms() - began > CONDEMNED_FRESH_MS)
		wait_in(r, ROUND_MISSED, "Nomad answered too slowly to be sure that the workers are still idle");
	else {
		scale(r, &fresh, to);
		if (r->result == ROUND_SCALED)
			remember_stops(g, &fresh, victims);
	}
	list_clear(&again);
	view_release(&fresh);
}

/* Drains them and takes those that are idle: all together, or, when they have had their time, those at the top. partly: who goes
 * after them for `to` cannot be told yet. */
static void
take_down(struct round *r, const struct view *v, int64_t to, struct alloc_list *victims, bool partly)
{
	size_t asked = victims->n;
	int64_t idle = drain(r, victims), live = live_count(v);
	bool patient = clock_mono_ms() - r->group->marked_mono_ms < r->config->drain_patience_ms;

	if (idle < 0)
		return;
	if (idle == 0 || (patient && (size_t)idle < asked)) {
		wait_in(r, ROUND_WAITING, "%lld of %zu workers that are to go are still at work", (long long)asked - idle, asked);
		return;
	}
	victims->n = (size_t)(idle < CONDEMN_MAX ? idle : CONDEMN_MAX);
	if (victims->n < asked || partly)
		to = live < v->stanza.count ? victims->indexes[victims->n - 1] : live - (int64_t)victims->n;
	if (to < v->stanza.count)
		commit_in(r, v, to, victims);
	else
		wait_in(r, ROUND_WAITING, "those that are idle would not make the group smaller");
}

static void
go_down(struct round *r, const struct view *v)
{
	int64_t to = r->decision.to;
	struct alloc_list victims = {0};
	char why[VICTIMS_WHY_MAX] = "";

	if (node_drain(r, v)) {
		undo(r);
	} else if (!predict(v, to, &victims, why) || (victims.n == 0 && why[0] != '\0')) {
		undo(r);
		wait_in(r, ROUND_QUIET, "%s", why);
	} else if (r->config->dry_run) {
		r->result = ROUND_PROPOSED;
	} else if (!leader_held(r->leader)) {
		finish(r, ROUND_QUIET, "the lock was lost");
	} else {
		take_down(r, v, to, &victims, why[0] != '\0');
	}
	list_clear(&victims);
}

/* Whether Nomad stopped those that were drained, and no others. */
static void
check_stops(struct round *r, const struct view *v)
{
	struct group *g = r->group;
	size_t waiting = 0;

	if (g->going.n == 0)
		return;
	for (size_t i = 0; i < v->n; i++) {
		const struct group_alloc *a = &v->allocs[i];

		if (list_has(&g->going, a->id))
			waiting += a->desired_run;
		else if (list_has(&g->staying, a->id) && !a->desired_run)
			r->strangers++;
	}
	if (waiting > 0 && r->strangers == 0 && clock_mono_ms() - g->scaled_mono_ms < CHECK_MS)
		return;
	if (r->strangers > 0) {
		finish(r, r->result, "%lld allocations were stopped beside the %zu that were drained", (long long)r->strangers,
		    g->going.n);
		r->news = true;
	}
	list_clear(&g->going);
	list_clear(&g->staying);
}

/* Whether what was scaled in has happened: no more allocations than are wanted, and none that was stopped still at work. */
static bool
settled(const struct view *v)
{
	if (live_count(v) > v->stanza.count)
		return false;
	for (size_t i = 0; i < v->n; i++) {
		const struct group_alloc *a = &v->allocs[i];

		if (!a->desired_run && a->status != ALLOC_ENDED && a->status != ALLOC_FAILED)
			return false;
	}
	return true;
}

/* No scale call has an effect any more that was made for an earlier modify index, whoever made it, and whoever it has hit is gone:
 * newcomers at the indexes of those who were condemned for it may work. */
static void
tell_index(struct round *r, const struct view *v)
{
	struct group *g = r->group;
	struct err e;

	if (r->config->dry_run || v->modify_index <= g->told_index || !settled(v) || !leader_held(r->leader))
		return;
	if (backlog_condemn(r->backlog, g->vertical, NULL, NULL, 0, v->modify_index - 1, 1, &e) == 0)
		g->told_index = v->modify_index;
}

/* Said in the log and the decisions, and once per change in Nomad's scaling events. */
static void
tell_broken(struct round *r, const struct view *v)
{
	struct group *g = r->group;
	char text[ROUND_TEXT_MAX];
	struct err e;

	r->result = ROUND_BROKEN;
	r->err = v->broken;
	(void)snprintf(text, sizeof(text), "scaling policy cannot be used: %s", v->broken.msg);
	r->news = strcmp(text, g->broken) != 0;
	if (!r->news)
		return;
	(void)snprintf(g->broken, sizeof(g->broken), "%s", text);
	if (!r->config->dry_run && leader_held(r->leader))
		(void)nomad_scale_note(r->nomad, g->job, v->stanza.group, true, text, NULL, &e);
}

void
round_run(struct round *r)
{
	struct group *g = r->group;
	struct view v = {0};
	int64_t now;
	int rc = view_read(r->nomad, g->job, &v, &r->err);

	r->decision = (struct policy_decision){.count = v.stanza.count, .to = v.stanza.count};
	if (rc != 0) {
		finish(r, rc == ERR_NOTFOUND ? ROUND_FOREIGN : ROUND_FAILED, "%s", r->err.msg);
		return;
	}
	r->policy = v.stanza.policy;
	if (v.stanza_rc != 0) {
		undo(r);
		tell_broken(r, &v);
	} else if (!v.stanza.ours) {
		finish(r, ROUND_FOREIGN, "it has no check with source \"drover\"");
	} else {
		g->broken[0] = '\0';
		tell_index(r, &v);
		now = clock_mono_ms();
		r->facts = round_facts(&v, &r->queue, r->queue_known, now - r->queue_read_mono_ms, clock_real_ms());
		policy_decide(&r->policy, &g->state, &r->facts, now, &r->decision);
		check_stops(r, &v);
		if (r->decision.action == ACTION_UP)
			go_up(r, &v);
		else if (r->decision.action == ACTION_DOWN)
			go_down(r, &v);
		else if (r->decision.hold != HOLD_STALE)
			undo(r);
	}
	view_release(&v);
}
