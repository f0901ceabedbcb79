/* world.c - chance, virtual time, the event queue, and the history that a failing seed prints. */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define HISTORY 400
#define LINE 220
#define REST_MS (4 * 3600 * 1000) /* longest that a healed world may take to come to rest */

struct event {
	int64_t at_ms;
	uint64_t order;
	event_fn *fn;
	struct arg arg;
};

static char history[HISTORY][LINE];
static size_t history_n;

static bool
event_less(const void *a, const void *b)
{
	const struct event *x = a, *y = b;

	return x->at_ms != y->at_ms ? x->at_ms < y->at_ms : x->order < y->order;
}

static void
event_pos(void *e, size_t pos)
{
	(void)e;
	(void)pos;
}

uint64_t
sim_random(struct world *w)
{
	uint64_t z = (w->rng += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

int64_t
sim_between(struct world *w, int64_t low, int64_t high)
{
	return low + (int64_t)(sim_random(w) % (uint64_t)(high - low + 1));
}

bool
sim_chance(struct world *w, unsigned per_mille)
{
	return sim_random(w) % 1000 < per_mille;
}

bool
sim_fault(struct world *w, unsigned per_mille)
{
	return w->faults && sim_chance(w, per_mille);
}

void
sim_at(struct world *w, int64_t delay_ms, event_fn *fn, struct arg arg)
{
	struct event *e = xcalloc(1, sizeof(*e));

	*e = (struct event){.at_ms = w->mono_ms + delay_ms, .order = w->order++, .fn = fn, .arg = arg};
	heap_push(&w->queue, e);
}

void
sim_log(struct world *w, const char *fmt, ...)
{
	char *line = history[history_n++ % HISTORY];
	int n = snprintf(line, LINE, "%10.3f ", (double)w->mono_ms / 1000);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line + n, LINE - (size_t)n, fmt, ap);
	va_end(ap);
	if (w->verbose)
		puts(line);
}

void
sim_history(void)
{
	size_t from = history_n > HISTORY ? history_n - HISTORY : 0;

	for (size_t i = from; i < history_n; i++)
		fprintf(stderr, "%s\n", history[i % HISTORY]);
}

_Noreturn void
sim_fail(struct world *w, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "%10.3f BROKEN: %s (event %llu)\n", (double)w->mono_ms / 1000, text, (unsigned long long)w->events);
	abort();
}

static const char *const verticals[VERTICALS] = {"python", "secrets", "go"};

const char *
sim_vertical(int i)
{
	return verticals[i];
}

int
sim_vertical_of(const char *name)
{
	int i = 0;

	while (strcmp(verticals[i], name) != 0)
		i++;
	return i;
}

char *
sim_group(int vertical, char out[CORE_CHILD_MAX])
{
	snprintf(out, CORE_CHILD_MAX, "drover-workers-%s", verticals[vertical]);
	return out;
}

struct now
sim_now(const struct world *w)
{
	return (struct now){.mono_ms = w->mono_ms, .real_ms = 1700000000000 + w->mono_ms + w->real_offset_ms};
}

/* Seeds differ in which faults they know: each is absent, rare or common. */
static unsigned
mix_draw(struct world *w, unsigned common)
{
	static const unsigned parts[] = {0, 0, 1, 4};

	return common * parts[sim_random(w) % 4] / 4;
}

static void
mix_make(struct world *w)
{
	struct fault_mix *m = &w->mix;

	m->lose = mix_draw(w, 120);
	m->dup = mix_draw(w, 120);
	m->crash = mix_draw(w, 8);
	m->commit_fail = mix_draw(w, 60);
	m->commit_unknown = mix_draw(w, 80);
	m->worker_crash = mix_draw(w, 250);
	m->cut = mix_draw(w, 250);
	m->operator_stop = mix_draw(w, 200);
	m->alloc_stop = mix_draw(w, 200);
	m->node_loss = mix_draw(w, 150);
	m->purge_by_hand = mix_draw(w, 60);
	m->blocked = mix_draw(w, 300);
	m->refused = mix_draw(w, 150);
	m->lose_event = mix_draw(w, 600);
	m->nomad_away = mix_draw(w, 100);
	m->clock_jump = mix_draw(w, 100);
	m->disk_full = mix_draw(w, 100);
	m->depose = mix_draw(w, 60);
	m->scaler_crash = mix_draw(w, 30);
	m->hand_scale = mix_draw(w, 30);
	m->pause = mix_draw(w, 60);
	m->s3_away = mix_draw(w, 40);
}

static void
heal(struct world *w, struct arg *arg)
{
	(void)arg;
	sim_log(w, "--- faults end ---");
	w->faults = false;
	for (size_t i = 0; i < w->n_procs; i++)
		w->procs[i].cut_until_ms = 0;
	w->disk_full_until_ms = w->s3_until_ms = 0;
	shell_old_ends(w);
	nomad_heal(w);
	groups_heal(w);
	if (w->d.gen != 0) {
		core_ledger_health(w->d.core, sim_now(w), true);
		core_nomad_health(w->d.core, sim_now(w), true, "");
		w->d.nomad_ok = true;
		shell_drain(w);
	}
}

static void
world_free(struct world *w)
{
	struct event *e;

	scalers_end(w);
	while ((e = heap_pop(&w->queue)) != NULL) {
		if (e->arg.release != NULL)
			e->arg.release(e->arg.p);
		else
			free(e->arg.p);
		free(e);
	}
	heap_release(&w->queue);
	core_free(w->d.core);
	core_free(w->old.core);
	w->d.core = w->old.core = NULL;
	free(w->calls);
}

void
sim_run(struct world *w, uint64_t seed, uint64_t max_events)
{
	bool verbose = w->verbose;
	struct event *e;

	memset(w, 0, sizeof(*w));
	history_n = 0;
	w->verbose = verbose;
	w->seed = w->rng = seed;
	w->faults = true;
	w->queue = heap_make(event_less, event_pos);
	mix_make(w);
	w->fault_end_ms = sim_between(w, 60, sim_chance(w, 100) ? 3600 : 900) * 1000;
	w->embedded = sim_chance(w, 200);
	w->manifests = sim_chance(w, 700);
	w->verticals = (int)sim_between(w, 1, VERTICALS);
	w->window = (unsigned)sim_between(w, 1, 4);
	w->slots = (unsigned)sim_between(w, 1, MAX_HELD);
	w->unplaceable_ms = sim_chance(w, 300) ? 15000 : 0;
	w->key_share = sim_chance(w, 500) ? 0 : (unsigned)sim_between(w, 100, 900);
	shell_start(w);
	clients_start(w);
	w->scaled_groups = !w->embedded && sim_chance(w, 700);
	groups_start(w);
	sim_at(w, w->fault_end_ms, heal, (struct arg){0});
	sim_at(w, 1000, nomad_chaos, (struct arg){0});
	while (!(!w->faults && at_rest(w))) {
		e = heap_pop(&w->queue);
		w->mono_ms = e->at_ms;
		if (w->mono_ms > w->fault_end_ms + REST_MS)
			check_rest(w);
		e->fn(w, &e->arg);
		free(e);
		if (++w->events > max_events)
			sim_fail(w, "more than %llu events: something spins", (unsigned long long)max_events);
		check_always(w);
	}
	check_rest(w);
	world_free(w);
}
