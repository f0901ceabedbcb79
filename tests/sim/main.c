/* main.c - `sim -seeds N [-seed S] [-steps N] [-v]`: many worlds, or one again. */
#include "sim.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "base/clock.h"
#include "base/num.h"

#define STUCK_S 20

static struct world world;

/* Failed checks and the core's own assertions end here: the history, and how to see it again. */
static void
on_abort(int signo)
{
	(void)signo;
	sim_history();
	fprintf(stderr, "seed %llu broke at event %llu; again: sim -seed %llu -v\n", (unsigned long long)world.seed,
	    (unsigned long long)world.events, (unsigned long long)world.seed);
	_Exit(1);
}

/* Every second: an event that never ends is as broken as a failed check. */
static void
on_alarm(int signo)
{
	static uint64_t seen_seed, seen_events;
	static int still;

	still = world.seed == seen_seed && world.events == seen_events ? still + 1 : 0;
	seen_seed = world.seed;
	seen_events = world.events;
	if (still < STUCK_S)
		return;
	fprintf(stderr, "one event takes longer than %d s: something spins\n", STUCK_S);
	on_abort(signo);
}

struct tally { /* over all seeds: what was there to be survived */
	unsigned long long embedded, events, runs, attempts, crashes, deposed, refused, full, scaled, condemned, between;
};

static void
tally_add(struct tally *t)
{
	t->embedded += world.embedded;
	t->events += world.events;
	t->runs += world.n_runs;
	t->crashes += world.crashes;
	t->deposed += world.deposed;
	t->refused += world.refused;
	t->full += world.full;
	t->scaled += world.scaled;
	t->condemned += world.condemned;
	t->between += world.between;
	for (size_t i = 0; i < world.n_runs; i++)
		t->attempts += world.runs[i].row.attempt;
}

static int
usage(void)
{
	fprintf(stderr, "usage: sim [-seeds N] [-seed S] [-steps N] [-v]\n");
	return 2;
}

int
main(int argc, char **argv)
{
	int64_t seeds = 1, first = 1, steps = 3000000, start_ms = clock_mono_ms();
	struct tally t = {0};
	struct err e;

	for (int i = 1; i < argc; i++) {
		int64_t *into = strcmp(argv[i], "-seeds") == 0 ? &seeds : strcmp(argv[i], "-seed") == 0 ? &first :
		    strcmp(argv[i], "-steps") == 0 ? &steps : NULL;

		if (strcmp(argv[i], "-v") == 0)
			world.verbose = true;
		else if (into == NULL || i + 1 == argc || num_int(argv[++i], 1, INT64_MAX / 2, into, &e) != 0)
			return usage();
	}
	signal(SIGABRT, on_abort);
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &(struct itimerval){.it_interval = {.tv_sec = 1}, .it_value = {.tv_sec = 1}}, NULL);
	for (int64_t s = first; s < first + seeds; s++) {
		sim_run(&world, (uint64_t)s, (uint64_t)steps);
		tally_add(&t);
	}
	printf("sim: %lld seeds (%llu without Nomad), %llu events, %llu runs, %llu attempts, %llu crashes, %llu depositions, %llu writes\n"
	       "refused to a deposed dispatcher, %llu for want of space, %llu times scaled, %llu times condemned, %llu times with another\n"
	       "dispatcher before the scaling, %.1f s: every invariant held\n",
	    (long long)seeds, t.embedded,
	    t.events, t.runs, t.attempts, t.crashes, t.deposed, t.refused, t.full, t.scaled, t.condemned, t.between, (double)(clock_mono_ms() - start_ms) / 1000);
	return 0;
}
