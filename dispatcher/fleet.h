/* fleet.h - what workers told about themselves and about the runs that they hold, as far as the core does not decide on it: for
 * status, and to be written with the run when its attempt ends. Kept in memory: workers tell it again. Loop thread. */
#ifndef DISPATCHER_FLEET_H
#define DISPATCHER_FLEET_H

#include <jansson.h>

#include "dispatcher/core/core.h"
#include "dispatcher/fleet_cache.h"

struct fleet;

struct fleet_worker {
	char node[64], node_id[64], version[64];
	char alloc_id[40], job_id[CORE_CHILD_MAX];
	bool once;
	int64_t started_real_ms;           /* when its process began, by its node's clock; 0: it did not say */
	char health[REASON_MAX];           /* why it takes no runs, "" it does */
	json_t *tools, *missing, *sandbox; /* owned; never NULL */
	struct fleet_cache *cache;         /* owned by the fleet: fleet_note_cache; NULL: it did not say */
};

struct fleet_run { /* of a running attempt */
	struct fence fence;
	json_t *progress, *steps; /* owned; may be NULL */
	/* A report on its way to the ledger: */
	char *detail;             /* JSON; NULL: none */
	enum run_state outcome;
	enum fail_class fail;
};

/* An empty fleet. */
struct fleet *fleet_new(void);

/* NULL is allowed. */
void fleet_free(struct fleet *f);

/* Notes a worker (the JSON values are taken over). */
void fleet_put_worker(struct fleet *f, const char *id, const struct fleet_worker *w);

/* Notes what a known worker says of its node's cache, and counts what was used since any worker of that cache said so. */
void fleet_note_cache(struct fleet *f, const char *id, const struct fleet_cache *c);

/* Sets the gauges of caches, each cache once however many workers share it, and of the ways in which workspaces are made. */
void fleet_set_gauges(const struct fleet *f);

/* NULL when unknown; valid until the next change. */
const struct fleet_worker *fleet_worker(const struct fleet *f, const char *id);
void fleet_forget_worker(struct fleet *f, const char *id);

/* What a beat says of its worker's health; true if that is news. */
bool fleet_note_health(struct fleet *f, const char *id, const char *health);

/* The worker of that allocation that began last, if that was after began_real_ms (0: at any time), else NULL. */
const struct fleet_worker *fleet_in_alloc(const struct fleet *f, const char *alloc, int64_t began_real_ms);

/* Calls each for every looping worker of that Nomad job. */
void fleet_of_job(const struct fleet *f, const char *job, void (*each)(void *arg, const struct fleet_worker *w), void *arg);

/* Forgets workers that the core does not know any more. */
void fleet_sweep(struct fleet *f, const struct core *core, struct now now);

/* The entry of a run, made if wanted for this fence (an older attempt's is emptied first); NULL when there is none. */
struct fleet_run *fleet_run(struct fleet *f, const char *run);
struct fleet_run *fleet_run_make(struct fleet *f, const char *run, struct fence fence);
void fleet_forget_run(struct fleet *f, const char *run);

#endif
