/* core_worker.h - workers as the core knows them: their polls, their beats, and who gets which run. Private to the core. */
#ifndef DISPATCHER_CORE_CORE_WORKER_H
#define DISPATCHER_CORE_CORE_WORKER_H

#include "dispatcher/core/core_run.h"

struct poll {
	uint64_t caller; /* 0: none */
	unsigned free;
	char only[RUN_ID_MAX];
	struct held *held;
	size_t n_held;
	bool missing;    /* a lease in force is not among them */
	struct timer timer;
};

struct worker {
	struct link all, waiting; /* waiting: in its lane while a poll is open */
	struct core_worker who;
	bool known;              /* registered with this dispatcher; otherwise only its leases are remembered */
	bool drain_told;         /* a beat was answered with it */
	bool leaving;            /* said that it ends: nothing more for it */
	enum drain_mark mark;    /* on its allocation; looping workers only */
	bool over;               /* its process has ended: verdict holds for leases that are still being committed */
	struct verdict verdict;
	struct lane *lane;
	struct link grants;
	size_t n_grants, committing; /* leases in force, in commit */
	int64_t seen_mono;
	uint64_t *holds;         /* targets on its node, sorted; owned */
	size_t n_holds;
	struct poll poll, beat;
	struct timer timer;      /* forgotten when silent */
};

/* --- workers.c --- */

/* The worker of that id, or NULL. It may be one of whom only leases are remembered (known is false). */
struct worker *worker_get(const struct core *c, const char *id);

/* A worker that is not known yet: no lane, no slots. */
struct worker *worker_new(struct core *c, const char *id);

/* Forgets a worker without leases; its open poll and beat are left unanswered. */
void worker_free(struct core *c, struct worker *w);

/* Gives it the lane whose runs it may take, and its place in that line. */
void worker_enter_lane(const struct core *c, struct worker *w);

/* The request whose one-shot it is, NULL for warm workers and where there is none: by number, or by child if it was made by hand. */
struct request *worker_request(const struct core *c, const struct worker *w);

/* It was heard of: it is not forgotten for another TTL. */
void worker_seen(struct core *c, struct now now, struct worker *w);

/* Nothing was heard of it for a TTL: forgotten once it holds nothing. */
void worker_timer(struct core *c, struct now now, struct worker *w);

/* Ends the wait of a poll or beat without an answer: the caller stays open for who takes it over. */
void poll_close(struct core *c, struct worker *w);
void beat_close(struct core *c, struct worker *w);

/* Answers the open poll with no lease: its time is over / with leave (a one-shot ends) or an error. */
void poll_timer(struct core *c, struct now now, struct worker *w);
void poll_answer_empty(struct core *c, struct worker *w, bool leave, int code, const char *why);

/* Answers the open beat with how its leases stand: its time is over / only if there is news for the worker. */
void beat_timer(struct core *c, struct now now, struct worker *w);
void beat_wake(struct core *c, struct worker *w);

/* --- leases.c --- */

/* Kinds of runs that the worker may take, as a mask for queue_best. */
unsigned queue_mask(const struct core *c, const struct worker *w);

/* Whether its node has the target. */
bool worker_holds(const struct worker *w, uint64_t target_key);

/* Slots of a warm worker that wait for runs; 0 for one-shots, for workers that end, and for one that is kept free for a suspect. */
size_t worker_idle(const struct core *c, const struct worker *w, struct now now);

/* Gives every worker that waits in the lane what it may take. */
void lane_match(struct core *c, struct now now, struct lane *lane);

/* Notes whether the poll that was just opened misses a lease. */
void lease_listed(struct worker *w);

/* Gives the worker's open poll what it may take: lost offers first, then the best runs. A one-shot without a run is dismissed. */
void lease_serve(struct core *c, struct now now, struct worker *w);

/* The leases of t were written, or not: answers the poll. Takes the specs it uses and leaves NULL in their place. */
void lease_done(struct core *c, struct now now, struct txn *t, bool ok, char **specs, size_t n_specs);

#endif
