/* round.h - one look at one worker group, and what follows from it. Runs in the thread that talks to Nomad.
 *
 * A round reads the group as it is now, asks the policy, and takes at most one step: up at once; down in steps over several rounds:
 * predict the victims, have the dispatcher drain exactly those, wait until they are idle, condemn them, read the group again,
 * scale at the same modify index. The next rounds check that Nomad stopped those and no others. Nothing is remembered that a
 * successor would need: marks end by themselves, and the next round begins anew from what Nomad and the dispatcher say.
 *
 * While a round runs, its group is the thread's; the loop does not touch it.
 */
#ifndef AUTOSCALE_ROUND_H
#define AUTOSCALE_ROUND_H

#include "autoscale/backlog.h"
#include "autoscale/config.h"
#include "autoscale/leader.h"
#include "autoscale/policy.h"
#include "autoscale/view.h"

#define ROUND_TEXT_MAX 400

struct alloc_list {
	size_t n;
	char (*ids)[40];  /* owned */
	int64_t *indexes; /* in the group; owned */
};

struct group { /* zeroed at first; all that is remembered of a group between rounds */
	char job[STANZA_NAME_MAX], vertical[STANZA_NAME_MAX];
	struct policy_state state;
	struct alloc_list marked;        /* draining for a scale-in */
	int64_t marked_mono_ms;          /* since when */
	struct alloc_list going, staying; /* after a scale-in: those that were to go, and the others */
	int64_t scaled_mono_ms;
	uint64_t told_index;             /* the dispatcher knows that the job has come to this modify index */
	char broken[ROUND_TEXT_MAX];     /* what was last said of a broken policy */
};

enum round_result {
	ROUND_QUIET,    /* nothing to do */
	ROUND_SCALED,   /* the count was changed */
	ROUND_PROPOSED, /* dry run: it would have been */
	ROUND_WAITING,  /* a scale-in waits for workers to finish */
	ROUND_MISSED,   /* the group moved meanwhile: look again */
	ROUND_FAILED,   /* err tells */
	ROUND_BROKEN,   /* the policy cannot be used; err tells */
	ROUND_FOREIGN,  /* not ours to scale, or gone */
};

struct round {
	const struct config *config;
	const struct leader *leader;
	struct nomad *nomad;
	struct backlog *backlog;
	struct group *group;
	struct backlog_vertical queue;   /* a copy, owned */
	bool queue_known;
	int64_t queue_read_mono_ms;
	/* what came of it */
	enum round_result result;
	struct policy_facts facts;
	struct policy_decision decision;
	struct policy policy;
	bool news;                       /* a broken policy that was not told before; stops that were not ours */
	char note[ROUND_TEXT_MAX];       /* more for people; "" */
	int64_t strangers;               /* allocations that went beside those that were drained */
	struct err err;
};

/* Does all of the above. Blocks. */
void round_run(struct round *r);

/* The facts of a group for the policy. Pure; for round_run and tests. */
struct policy_facts round_facts(const struct view *v, const struct backlog_vertical *q, bool queue_known, int64_t age_ms,
    int64_t now_real_ms);

/* Frees what the group owns. */
void group_release(struct group *g);

/* A word for the API. */
const char *round_result_word(enum round_result r);

#endif
