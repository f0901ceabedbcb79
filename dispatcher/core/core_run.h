/* core_run.h - runs and leases in memory: what they are, where each state keeps them, and how they move. Private to the core. */
#ifndef DISPATCHER_CORE_CORE_RUN_H
#define DISPATCHER_CORE_CORE_RUN_H

#include "dispatcher/core/core_priv.h"

struct verdict { /* a fact about a worker's end, carried out at_mono unless a report is first */
	int64_t at_mono; /* NEVER: none */
	enum run_event event;
	enum fail_class fail;
	bool crash, solo;
	const char *why; /* static */
};

struct grant { /* a lease in force */
	struct run *run;
	struct worker *worker;
	struct request *request; /* of the one-shot, NULL for warm workers */
	struct link of_worker;
	int64_t since_mono, deadline_mono;
	struct verdict verdict;
	struct core_report *asked; /* handed back inside a child: decided by an inquiry, at verdict.at_mono at the latest */
	uint64_t asked_caller;
	uint64_t asked_in;       /* the listing that was being made then: it may tell what was before; 0: none */
	bool cancel_told;        /* a beat was answered with it */
	enum { SEEK_NONE, SEEK_ASKED, SEEK_OVER } seek; /* for the manifest of an attempt that seems lost */
};

struct run_key { /* of a run that has a concurrency key */
	struct key *key;
	struct run *run;
	struct link of_key;      /* every run of the key, in the order of coming */
	struct link slot;        /* has a slot: ready, being leased or leased */
	size_t parked_pos;       /* waits for a slot; HEAP_NOWHERE: does not */
	unsigned limit;
	enum key_mode mode;
	bool leasing;            /* the commit of its lease is in flight */
	bool replaced;           /* was told to make way */
};

struct run {
	struct link all;
	char *id;
	const char *workflow;    /* interned */
	struct share *share;     /* its tenant's */
	struct vertical *vertical;
	struct queue_entry entry;
	size_t age_pos;
	struct timer timer;      /* queued: when it is due; leased: deadline or verdict */
	struct txn *txn;         /* commit in flight */
	struct deferred *deferred, **deferred_end; /* wait for it, in order */
	struct grant *grant;     /* while running or canceling */
	struct run_key *key;     /* NULL: none */
	struct request *reserved; /* hand-made dispatch whose worker has the first right */
	char *reason;            /* NULL: none */
	struct fence fence, accepted;
	double charge;           /* on its share, while it is leased */
	int64_t created_real_ms, since_real_ms; /* … from which it waits: not before its time */
	uint64_t request;
	uint64_t target_key;
	int64_t cpu_millis, memory_bytes, max_wait_ms;
	int64_t expire_mono;     /* while it is queued: fails then; NEVER */
	int64_t timeout_ms, due_mono, not_before_real_ms, started_real_ms, finished_real_ms;
	unsigned attempt, failures, crashes, tool_retries;
	uint8_t state, class, execution, fail, priority;
	bool suspect, dead, adopted;
	bool delayed;            /* queued, and not before its time */
	bool arrived;            /* counted among the vertical's arrivals since its last lease */
	uint8_t counted;         /* while its first commit is in flight: in its lane's counts of what arrives */
};

enum { COUNTED_NOT, COUNTED_ANY, COUNTED_JOB, COUNTED_WARM };

enum deferred_kind { DEFER_CANCEL, DEFER_REPORT, DEFER_SUBMIT };

struct deferred {
	struct deferred *next;
	enum deferred_kind kind;
	uint64_t caller;
	char who[REASON_MAX];
	struct core_report *report;
};

/* --- state.c --- */

/* The run in memory, or NULL: not going on. */
struct run *run_get(const struct core *c, const char *id);

/* A run as its row says, in the maps and counts but in no place yet: run_index follows, or the commit of its row. */
struct run *run_new(struct core *c, struct now now, const struct run_row *row);

/* Takes it out of everything and frees it, with what waits for it. It must have no lease. */
void run_free(struct core *c, struct run *run);

/* Writes the run as a row / takes over what a committed row says. run_load leaves the run in its place: it must be in none. */
void run_row_of(const struct run *run, struct run_row *ret);
void run_load(struct core *c, struct now now, struct run *run, const struct run_row *row);

/* Whether looping workers may take it: what the autoscaler counts. */
bool run_warm(const struct core *c, const struct run *run);

/* It has come to want a slot: counted once for each attempt. */
void run_arrive(const struct core *c, struct run *run);

/* Who may take it: what it insists on, and one-shots for those that may take very long, so that looping workers can be drained. */
enum execution run_execution(const struct core *c, const struct run *run);

/* Whether nothing may be decided on it now: a commit is in flight, or a hand-back waits for Nomad's word. */
bool run_busy(const struct run *run);

/* Its hand-made dispatch loses the first right to it; run_index must follow if it is queued. */
void run_unreserve(struct run *run);

/* The lane whose workers may take it. */
struct lane *run_lane(const struct core *c, const struct run *run);

/* Out of its lane altogether, and into the one that is its now: around a change of what decides on that. */
void run_leave_lane(struct core *c, struct run *run);
void run_enter_lane(struct core *c, struct now now, struct run *run);

/* Puts a run where its state belongs (ready, delayed, deadline), or takes it out of there. */
void run_index(struct core *c, struct now now, struct run *run);
void run_unindex(struct core *c, struct run *run);

/* Sets its timer to what comes first: due, deadline or verdict. Does nothing while a commit is in flight. */
void run_arm(struct core *c, struct run *run);

/* Its timer fired: it is ready now, or its lease ends. */
void run_timer(struct core *c, struct now now, struct run *run);

/* Prepares one move of a run that is not busy and may make it: in a transaction of its own, committed at once, or in t. */
void run_move(struct core *c, struct now now, struct run *run, const struct run_cause *cause, uint64_t caller, enum answer_kind kind);
void run_move_in(struct core *c, struct now now, struct txn *t, struct run *run, const struct run_cause *cause);

/* Gives a running run its lease record; takes it away, which lets worker and request know. */
struct grant *grant_attach(struct core *c, struct now now, struct run *run, struct worker *w);
void grant_detach(struct core *c, struct now now, struct run *run);

/* A fact about the worker's end concerns this lease. What an operator did is not overruled, and nothing is put off. */
void grant_judge(struct core *c, struct run *run, const struct verdict *v);

/* --- keys.c --- */

/* Makes the run one of its key's / takes it out, and frees the key with its last run. */
void key_join(struct core *c, struct run *run, const struct run_needs *needs);
void key_quit(struct core *c, struct run *run);

/* The run of that key that stands in the way of another one of limit, NULL: none does. */
const struct run *key_taken(const struct core *c, const char *tenant, const char *key, unsigned limit);

/* The run is due: gives it a slot, from another that is only ready if this one comes before it; else it is parked, and false. */
bool key_admit(struct core *c, struct now now, struct run *run);

/* The run is not due, or not queued: it leaves its slot or parking place, unless it is leased or being leased. */
void key_leave(struct core *c, struct run *run);

/* A lease of it is being written / was, or was not. */
void key_lease(struct run *run);
void key_leased(struct core *c, struct run *run, bool ok);

/* Its slots are to be looked at in keys_settle. */
void key_touch(struct core *c, struct run *run);

/* The run's key as it was submitted. */
const char *key_name(const struct run *run);

/* Says for people who has the slots that the parked run waits for. */
void key_explain(const struct run *run, char *text, size_t len);

/* Asserts the invariants of all keys; for tests. */
void keys_check(const struct core *c);

/* --- reports.c, admit.c --- */

/* Keeps an event until the run is not busy; report is copied, who too. */
void run_defer(struct run *run, enum deferred_kind kind, uint64_t caller, const char *who, const struct core_report *report);

/* Lets deferred events happen, by the run's id: it may be gone. Frees them. */
void run_replay(struct core *c, struct now now, const char *id, struct deferred *list);

/* Takes a report of the run's worker; caller 0: nobody is to be told. */
void report_take(struct core *c, struct now now, uint64_t caller, const struct core_report *report);

/* Carries out a hand-back that waited for Nomad's word (grant.asked): as a cancel if an operator stopped the child. */
void report_decide(struct core *c, struct now now, struct run *run, bool by_operator);

/* Cancels, or answers with the state if there is nothing to cancel; waits behind a commit. */
void cancel_ask(struct core *c, struct now now, struct run *run, uint64_t caller, const char *who);

/* Answers a repeated announcement of an adopted run with what it is now. */
void submit_again(struct core *c, uint64_t caller, const char *id);

#endif
