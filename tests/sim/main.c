/* main.c - `sim -seeds N [-seed S] [-steps N] [-v]`: many worlds, or one again. */
#include "sim.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"

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
	uint64_t events = 0, leases = 0;
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
	for (int64_t s = first; s < first + seeds; s++) {
		sim_run(&world, (uint64_t)s, (uint64_t)steps);
		events += world.events;
		for (size_t i = 0; i < world.n_runs; i++)
			leases += world.runs[i].row.attempt;
	}
	printf("sim: %lld seeds, %llu events, %llu attempts, %.1f s: every invariant held\n", (long long)seeds, (unsigned long long)events,
	    (unsigned long long)leases, (double)(clock_mono_ms() - start_ms) / 1000);
	return 0;
}
