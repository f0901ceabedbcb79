#include "autoscale/sim_load.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define HOUR_MS 3600000.0
#define PI 3.14159265358979323846

struct random {
	uint64_t state;
};

/* splitmix64: S. Vigna, public domain algorithm. */
static uint64_t
next(struct random *r)
{
	uint64_t z = (r->state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* In (0, 1]. */
static double
uniform(struct random *r)
{
	return ((double)(next(r) >> 11) + 1) / 9007199254740992.0;
}

static double
exponential(struct random *r, double mean)
{
	return -mean * log(uniform(r));
}

static void
add(struct sim_load *l, double at_ms, double service_ms)
{
	if (l->n == SIM_RUNS_MAX)
		return;
	if ((l->n & (l->n - 1)) == 0)
		l->runs = xrealloc(l->runs, (l->n == 0 ? 1 : 2 * l->n) * sizeof(*l->runs));
	l->runs[l->n++] = (struct sim_run){.at_ms = (int64_t)at_ms, .service_ms = service_ms < 1 ? 1 : (int64_t)service_ms};
}

static void
make_poisson(struct sim_load *l, struct random *r)
{
	for (double t = exponential(r, 1000); t < (double)l->length_ms; t += exponential(r, 1000))
		add(l, t, exponential(r, 30000));
}

/* Every half hour 300 runs within ten seconds, and a little in between. */
static void
make_bursts(struct sim_load *l, struct random *r)
{
	double quiet = exponential(r, 60000);

	for (double burst = 600000; burst < (double)l->length_ms; burst += HOUR_MS / 2) {
		for (; quiet < burst; quiet += exponential(r, 60000))
			add(l, quiet, 20000 + 20000 * uniform(r));
		for (int i = 0; i < 300; i++)
			add(l, burst + 10000.0 * i / 300, 20000 + 20000 * uniform(r));
		if (quiet < burst + 10000)
			quiet = burst + 10000;
	}
}

/* A working day: from almost nothing at night to 1.2 runs a second at its height. */
static void
make_diurnal(struct sim_load *l, struct random *r)
{
	const double peak = 1.2 / 1000;

	for (double t = exponential(r, 1 / peak); t < (double)l->length_ms; t += exponential(r, 1 / peak)) {
		double share = 0.02 + 0.98 * pow(sin(PI * t / (double)l->length_ms), 4);

		if (uniform(r) < share)
			add(l, t, exponential(r, 30000));
	}
}

/* Most runs are short, a few last for an hour or two. */
static void
make_heavy(struct sim_load *l, struct random *r)
{
	for (double t = exponential(r, 3000); t < (double)l->length_ms; t += exponential(r, 3000)) {
		double service = 5000 * pow(uniform(r), -1 / 1.3);

		add(l, t, service < 2 * HOUR_MS ? service : 2 * HOUR_MS);
	}
}

static void
make_trickle(struct sim_load *l, struct random *r)
{
	for (double t = 20000; t < (double)l->length_ms; t += 20000)
		add(l, t, 40000 + 10000 * uniform(r));
}

static const struct {
	const char *name, *text;
	double hours;
	void (*make)(struct sim_load *l, struct random *r);
} kinds[] = {
	{"poisson", "one run a second on average, 30 s each on average", 6, make_poisson},
	{"bursts", "300 runs within 10 s every half hour, one a minute in between, 20 to 40 s each", 6, make_bursts},
	{"diurnal", "a day from 0.02 to 1.2 runs a second and back, 30 s each on average", 24, make_diurnal},
	{"heavy-tailed", "a run every 3 s on average, most of them seconds, some of them hours (Pareto, 1.3)", 6, make_heavy},
	{"trickle", "a run every 20 s, 40 to 50 s each", 6, make_trickle},
};

size_t
sim_load_kinds(void)
{
	return sizeof(kinds) / sizeof(kinds[0]);
}

const char *
sim_load_kind(size_t i)
{
	return kinds[i].name;
}

struct sim_load
sim_load_make(size_t i, uint64_t seed)
{
	struct sim_load l = {.text = kinds[i].text, .length_ms = (int64_t)(kinds[i].hours * HOUR_MS)};
	struct random r = {.state = seed * 1000003 + i};

	(void)snprintf(l.name, sizeof(l.name), "%s", kinds[i].name);
	kinds[i].make(&l, &r);
	return l;
}

void
sim_load_release(struct sim_load *l)
{
	free(l->runs);
	*l = (struct sim_load){0};
}

/* --- recorded --- */

static int
by_arrival(const void *a, const void *b)
{
	const struct sim_run *x = a, *y = b;

	return x->at_ms != y->at_ms ? (x->at_ms > y->at_ms) - (x->at_ms < y->at_ms) :
	    (x->service_ms > y->service_ms) - (x->service_ms < y->service_ms);
}

static int
add_page(struct sim_load *l, const json_t *page, const char *vertical, struct err *e)
{
	json_t *run;
	size_t i;

	if (!json_is_array(json_object_get(page, "runs")))
		return err_set(e, ERR_INVALID, "an object without \"runs\"");
	json_array_foreach (json_object_get(page, "runs"), i, run) {
		const char *v = json_string_value(json_object_get(run, "vertical"));
		int64_t created = json_integer_value(json_object_get(run, "created_ms"));
		int64_t started = json_integer_value(json_object_get(run, "started_ms"));
		int64_t finished = json_integer_value(json_object_get(run, "finished_ms"));

		if (vertical[0] != '\0' && (v == NULL || strcmp(v, vertical) != 0))
			continue;
		if (created <= 0 || started < created || finished < started)
			return err_set(e, ERR_INVALID, "run %zu of a page: times that are not in order", i + 1);
		if (l->n == SIM_RUNS_MAX)
			return err_set(e, ERR_TOOBIG, "more than %d runs", SIM_RUNS_MAX);
		add(l, (double)created, (double)(finished - started));
	}
	return 0;
}

int
sim_load_read(const char *path, const char *vertical, struct sim_load *ret, struct err *e)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	struct sim_load l = {.text = ""};
	json_error_t problem;
	json_t *page;
	int rc = f != NULL ? 0 : err_set(e, ERR_IO, "%s: %s", path, strerror(errno));

	(void)snprintf(l.name, sizeof(l.name), "history%s%.40s", vertical[0] != '\0' ? " of " : "", vertical);
	while (rc == 0 && (page = json_loadf(f, JSON_DISABLE_EOF_CHECK, &problem)) != NULL) {
		if ((rc = add_page(&l, page, vertical, e)) != 0)
			err_prefix(e, rc, "%s", path);
		json_decref(page);
	}
	if (rc == 0 && !feof(f))
		rc = err_set(e, ERR_INVALID, "%s: line %d: %s", path, problem.line, problem.text);
	if (f != NULL && f != stdin)
		(void)fclose(f);
	if (rc == 0 && l.n == 0)
		rc = err_set(e, ERR_INVALID, "%s: no finished runs%s%s", path, vertical[0] != '\0' ? " of vertical " : "", vertical);
	if (rc != 0) {
		sim_load_release(&l);
		return rc;
	}
	qsort(l.runs, l.n, sizeof(*l.runs), by_arrival);
	for (size_t i = l.n; i-- > 0;)
		l.runs[i].at_ms -= l.runs[0].at_ms;
	l.length_ms = l.runs[l.n - 1].at_ms + 1;
	*ret = l;
	return 0;
}
