/* children.h - what Nomad's JSON says about a job, an allocation or an evaluation, as small facts. Pure; any thread.
 *
 * Listings and events carry the same field names, so that one reader serves both. `complete` with DesiredStatus "stop" is no
 * success and a dead job says nothing about its allocation: facts tell of deaths only, outcomes come from reports.
 */
#ifndef DISPATCHER_CHILDREN_H
#define DISPATCHER_CHILDREN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "dispatcher/core/core.h"

#define ALLOC_ID_MAX 40

struct job_fact {
	char id[CORE_CHILD_MAX];
	char request[64];      /* meta "request": the token of our dispatch, or "" */
	bool child;            /* made by a dispatch */
	bool stopped;          /* someone asked Nomad to stop it */
	bool dead;             /* all its allocations have ended, or there will be none */
};

struct alloc_fact {
	char id[ALLOC_ID_MAX];
	char job[CORE_CHILD_MAX];
	uint64_t create_index, modify_index;
	enum child_state state; /* CHILD_STARTING, CHILD_RUNNING, CHILD_UNKNOWN or CHILD_ENDED */
	bool unwanted;          /* DesiredStatus is not "run" */
	bool lost;              /* ENDED because its node is gone: nobody has seen its tasks end */
	bool crash, oom;
	/* The last time that its task ended, though Nomad may have started it again: the node's clock, 0 never; and how. */
	int64_t died_real_ms;
	bool died_crash, died_oom;
	char why[CORE_CAUSE_MAX];
};

/* Reads a job or an allocation, whole or as an entry of a listing. False when it lacks what it must have, or is too long to be
 * ours. */
bool job_fact_read(const json_t *job, struct job_fact *ret);
bool alloc_fact_read(const json_t *alloc, struct alloc_fact *ret);

struct placement { /* why an evaluation placed nothing */
	char why[CORE_CAUSE_MAX]; /* in a line for people */
	bool never;               /* every eligible node was turned down for what it is (constraint, driver, pool), or there is none, so that no
	                           * room that comes free will do */
	bool exhausted;           /* nodes lack cpu, memory or disk: they may be busy, or too small (sizes.c) */
};

/* False when the evaluation has no failure. */
bool placement_read(const json_t *eval, struct placement *ret);

/* The sequence number of a token "<ledger>-<seq>", 0 when it is none of this ledger; *foreign tells a token of another one
 * (anything else is a hand-made dispatch). */
uint64_t request_seq(const char *token, const char *ledger_uuid, bool *foreign);

#endif
