/* sim_load.h - what the simulator plays: runs with their times of arrival and lengths, made up by a seed or recorded. */
#ifndef AUTOSCALE_SIM_LOAD_H
#define AUTOSCALE_SIM_LOAD_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SIM_RUNS_MAX 2000000

struct sim_run {
	int64_t at_ms;      /* of arrival, from the beginning */
	int64_t service_ms; /* time in a slot, > 0 */
};

struct sim_load {
	char name[64];
	const char *text;   /* one line for people; static, "" for recorded ones */
	size_t n;
	struct sim_run *runs; /* by time of arrival; owned */
	int64_t length_ms;    /* of the load */
};

/* How many made-up loads there are, and the name of each. */
size_t sim_load_kinds(void);
const char *sim_load_kind(size_t i);

/* Makes load i by its seed: the same seed gives the same load. */
struct sim_load sim_load_make(size_t i, uint64_t seed);

/* Reads a recorded history: JSON objects {"runs":[{"vertical","created_ms","started_ms","finished_ms"},…]} one after the other, as
 * GET /v1/history answers them. vertical (may be ""): only its runs. ERR_INVALID, ERR_IO, ERR_TOOBIG. */
int sim_load_read(const char *path, const char *vertical, struct sim_load *ret, struct err *e);

/* Frees the runs. */
void sim_load_release(struct sim_load *l);

#endif
