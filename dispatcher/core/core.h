/* core.h - the dispatcher's decisions as a deterministic state machine.
 *
 * Events go in through the core_* functions below, always with the time; effects come out of core_take. The core does no I/O,
 * reads no clock, starts no thread, and draws randomness from its seed only: the same events give the same effects. The
 * shell (dispatcher/) performs effects on the real ledger, Nomad and HTTP; tests/sim performs them on simulated ones.
 *
 * Order of every change (DESIGN §3): prepare → EFF_COMMIT → core_committed(ok) → apply in memory, then answers, events and calls.
 * While a commit of a run is pending, later changes of the same run wait behind it. A commit whose result is unknown is read
 * back by the shell (core_committed with COMMIT_UNKNOWN is followed by core_read_back) before anything else happens to it.
 *
 * Words: a *caller* is an opaque number by which the shell knows who waits for an answer; each caller gets exactly one
 * EFF_ANSWER, unless core_caller_gone was told first. A *request* is one ask for capacity (DESIGN §2).
 */
#ifndef DISPATCHER_CORE_CORE_H
#define DISPATCHER_CORE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "dispatcher/core/breaker.h"
#include "proto/run.h"

#define CORE_CHILD_MAX 192   /* Nomad job id of a dispatched child, with NUL */
#define CORE_CAUSE_MAX REASON_MAX
#define CORE_OPS_MAX 64      /* rows in one commit */
#define CORE_LEASES_MAX 32   /* leases in one answer */
#define CORE_ALLOC_MAX 40    /* allocation id, with NUL */
#define CORE_OWNER_MAX 64    /* who drains, with NUL */
#define CORE_KEY_MAX 128     /* concurrency key, with NUL */
#define CORE_KEY_LIMIT_MAX 1000 /* slots of a key */
#define CORE_HOLDS_MAX 256   /* targets that a worker is known to have */
#define CORE_DRAINS_MAX 4096 /* marks of all owners together */
#define CORE_CONDEMN_MAX 64  /* allocations condemned at once: one commit */

struct core;

/* ---- rows: what the ledger keeps. The core knows the columns that it decides on; the rest travels in `spec`. ---- */

enum execution { EXEC_ANY, EXEC_WARM, EXEC_JOB };

enum key_mode {
	KEY_QUEUE,   /* waits for a slot of its key */
	KEY_FAIL,    /* is not accepted while the key's slots are taken, or waited for */
	KEY_REPLACE, /* cancels the oldest runs of its key until there is a slot */
};

struct run_needs { /* fixed at submission */
	char vertical[VERTICAL_NAME_MAX];
	enum run_class class;     /* may grow to large once after out-of-memory */
	enum execution execution;
	int priority;             /* 0..100 */
	int64_t timeout_ms;       /* of one attempt, > 0 */
	unsigned tool_retries;    /* extra attempts after class `tool`; default 0 */
	int64_t cpu_millis, memory_bytes; /* declared; 0: not weighed */
	int64_t max_wait_ms;      /* fails if it waits longer for a worker (a retry waits anew); 0: waits for ever */
	uint64_t target_key;      /* first 8 bytes of the target's digest, 0: none; workers that hold it are preferred */
	char key[CORE_KEY_MAX];   /* concurrency key, of the tenant; "": none */
	unsigned key_limit;       /* 1..CORE_KEY_LIMIT_MAX: attempts of the key at once, as this run wants it */
	enum key_mode key_mode;
};

struct run_row {
	char id[RUN_ID_MAX];
	char tenant[TENANT_NAME_MAX];
	char workflow[WORKFLOW_NAME_MAX];
	struct run_needs needs;
	enum run_state state;
	unsigned attempt;         /* 0 until the first lease */
	struct fence fence;       /* of the current or last attempt */
	struct fence accepted;    /* of the last attempt that ended by its worker's report; {0, 0} none */
	char worker[WORKER_ID_MAX]; /* holder while running or canceling */
	uint64_t request;         /* request (seq) whose one-shot holds or held it; 0 none */
	unsigned failures;        /* that count against the retry budget */
	unsigned crashes;         /* worker deaths with this run inside */
	bool suspect;             /* was inside a worker that crashed: leased alone next */
	bool dead;                /* failed for good after retries (dead-lettered) */
	bool adopted;             /* came from a hand-made dispatch */
	enum fail_class fail;     /* of the last attempt that failed */
	char reason[REASON_MAX];  /* for people: why it failed, waits or was canceled */
	int64_t created_real_ms, not_before_real_ms, started_real_ms, finished_real_ms;
};

enum request_state {
	REQ_WANTED,     /* row committed; the dispatch call may or may not have been made */
	REQ_DISPATCHED, /* Nomad answered with a child */
	REQ_ACTIVE,     /* its worker has registered */
	REQ_STOPPING,   /* withdrawn or superseded: child is being stopped */
	REQ_DONE,       /* its child is terminal and purged, or never came to be */
	REQ_STATES
};

struct request_row {
	uint64_t seq;             /* > 0, numbered over the ledger's life; token = "<ledger uuid>-<seq>" */
	char vertical[VERTICAL_NAME_MAX];
	enum run_class class;
	enum request_state state;
	char child[CORE_CHILD_MAX]; /* Nomad job id, "" until known */
	int priority;
	bool adopted;             /* a hand-made dispatch: not ours to purge */
	int64_t created_real_ms;
};

enum pause_kind { PAUSE_VERTICAL, PAUSE_TENANT, PAUSE_KINDS };

struct pause_row { /* no new leases for runs of this vertical or tenant; what runs goes on */
	enum pause_kind kind;
	char name[TENANT_NAME_MAX];
	char who[TENANT_NAME_MAX];  /* did it, for people */
	char reason[REASON_MAX];    /* for people, may be "" */
	int64_t since_real_ms;
};

struct mark_row { /* a looping worker's allocation that is condemned: its worker gets nothing until the mark's time is over */
	char owner[CORE_OWNER_MAX], alloc[CORE_ALLOC_MAX];
	char vertical[VERTICAL_NAME_MAX];
	int index;                /* of the allocation in its group: one that takes its place there is condemned, too; -1: unknown */
	uint64_t version;         /* of the group, as whoever condemned has seen it */
	int64_t ttl_ms;           /* from the answer to the condemnation, and anew from each start: no clock is trusted across one */
};

/* ---- effects ---- */

enum op_kind { OP_RUN_INSERT, OP_RUN_UPDATE, OP_REQ_INSERT, OP_REQ_UPDATE, OP_PAUSE_PUT, OP_PAUSE_REMOVE, OP_MARK_PUT, OP_MARK_REMOVE };

struct op {
	enum op_kind kind;
	union {
		struct run_row run;     /* RUN_*: the row as it shall be */
		struct request_row req; /* REQ_* */
		struct pause_row pause; /* PAUSE_*: kind and name are its key */
		struct mark_row mark;   /* MARK_*: owner and alloc are its key */
	};
	char *spec;              /* RUN_INSERT: the shell's text for the row, owned by whoever takes the effect */
	int64_t moment_real_ms;  /* RUN_*: a moment of the run's history: time, state, attempt and reason are noted there too; 0: none */
	bool want_spec;          /* RUN_UPDATE of a lease: the ledger hands the stored spec back with the result */
};

enum answer_kind {
	ANS_SUBMIT,    /* run: the id; err.code 0, or why not (queue full, duplicate id of another run) */
	ANS_CANCEL,    /* run, state after; ERR_NOTFOUND: core does not hold it (final or unknown: ask the ledger) */
	ANS_LEASE,     /* n leases, exit */
	ANS_BEAT,      /* runs to cancel, runs lost, drain */
	ANS_REPORT,    /* err.code 0 accepted (or repeated), ERR_CONFLICT stale, ERR_NOTFOUND: ask the ledger */
	ANS_REGISTER,  /* err.code 0, or why not */
	ANS_PAUSE,     /* err.code 0; ERR_NOTFOUND: resumed what was not paused */
	ANS_CONDEMN,   /* err.code 0: condemned, durably; ERR_CONFLICT, ERR_RETRY, ERR_TOOBIG: nothing changed */
};

struct lease {
	char run[RUN_ID_MAX];
	struct fence fence;
	unsigned attempt;
	char *spec; /* as submitted; owned by whoever takes the effect */
};

struct answer {
	enum answer_kind kind;
	struct err err;                       /* code 0: fine */
	char run[RUN_ID_MAX];
	enum run_state state;
	size_t n_leases;
	struct lease *leases;                 /* at most CORE_LEASES_MAX; owned by whoever takes the effect */
	bool exit;                            /* one-shot: nothing to do, end with 0 */
	bool drain;                           /* finish what you hold, take nothing new */
	size_t n_cancel, n_lost;              /* ANS_BEAT */
	char (*cancel)[RUN_ID_MAX];           /* owned by whoever takes the effect */
	char (*lost)[RUN_ID_MAX];             /* held under a stale fence: kill, do not report */
};

enum effect_kind {
	EFF_COMMIT,   /* write ops in one transaction, conditional on the epoch; then core_committed(txn, …) */
	EFF_ANSWER,   /* to `caller` */
	EFF_DISPATCH, /* POST dispatch for request `req` (token from seq); then core_dispatched */
	EFF_STOP,     /* stop the child of req; outcome is seen by core_child; repeated until then */
	EFF_PURGE,    /* purge the terminal child of req; then core_purged */
	EFF_INQUIRE,  /* read child and its allocations now; then core_child (or core_inquiry_failed) */
	EFF_EVENT,    /* tell listeners: run moved (row in `run`) */
	EFF_MANIFEST, /* the attempt in `run` is about to count as lost: look whether it has published all; then core_manifest */
	EFF_TROUBLE,  /* tell people: a one-shot of req.vertical came to nothing for a reason that the one before had not (why) */
};

struct effect {
	enum effect_kind kind;
	uint64_t txn;            /* COMMIT */
	size_t n_ops;            /* COMMIT */
	struct op *ops;          /* COMMIT; owned by whoever takes the effect: core_effect_release */
	uint64_t caller;         /* ANSWER */
	struct answer *answer;   /* ANSWER; owned likewise */
	union { /* last: core_take gives nothing of it for COMMIT and ANSWER */
		struct run_row run;              /* EVENT, MANIFEST */
		struct {
			struct request_row req;  /* DISPATCH, STOP, PURGE, INQUIRE, TROUBLE */
			char why[CORE_CAUSE_MAX]; /* TROUBLE */
		};
	};
};

/* ---- life ---- */

struct core_config {
	uint64_t seed;
	uint64_t epoch;               /* of this leadership */
	uint64_t next_seq;            /* first free number for fences and requests */
	bool cluster;                 /* there is a Nomad to ask for one-shots */
	int64_t lease_ttl_ms;         /* 30 s */
	int64_t request_ttl_ms;       /* a dispatched request whose worker has not registered is withdrawn after this; 10 min */
	size_t max_queued;            /* further submissions are refused with ERR_RETRY */
	unsigned max_lost;            /* `lost` attempts before the run is dead; 5 */
	unsigned max_crashes;         /* crashes before the run is dead (poison); 3 */
	unsigned max_infra;           /* `infra` attempts; 8 */
	int64_t backoff_base_ms, backoff_cap_ms; /* full jitter */
	int64_t unplaceable_ms;       /* runs that no node can serve fail after this; 0: they wait for a node to come */
	bool manifests;               /* the shell answers EFF_MANIFEST; without it a lost attempt is lost */
	int64_t priority_age_ms;      /* waiting so long makes up for one point of priority; 0: a minute */
	int64_t share_half_ms;        /* after this, what a tenant has used counts half when shares are compared; 0: ten minutes */
};

struct core_vertical {
	char name[VERTICAL_NAME_MAX];
	unsigned window;              /* most one-shots in Nomad at once, all classes together */
	bool warm_only;               /* no one-shots at all: runs of every class and execution wait for looping workers */
};

/* A core without runs. core_free(NULL) is allowed. */
struct core *core_new(const struct core_config *c);
void core_free(struct core *c);

/* Declares or changes a vertical (at start, and when the toolbox changes). */
void core_set_vertical(struct core *c, struct now now, const struct core_vertical *v);

/* Restoring, before anything else: every pause and mark, every non-final run and every request that is not done, then core_start.
 * Running leases get a fresh deadline of now + TTL, marks theirs; requests in REQ_WANTED are dispatched again under the same token. */
void core_restore_run(struct core *c, const struct run_row *row);
void core_restore_request(struct core *c, const struct request_row *row);
void core_restore_pause(struct core *c, const struct pause_row *row);
void core_restore_mark(struct core *c, const struct mark_row *row);
void core_start(struct core *c, struct now now);

/* The next effect in order; false when there is none. Release each with core_effect_release. */
bool core_take(struct core *c, struct effect *ret);
void core_effect_release(struct effect *e);

/* When core_tick wants to be called next (monotonic ms), INT64_MAX: never. */
int64_t core_next_wake(const struct core *c);

/* Lets happen what is due by now; calling it too early or too often does no harm. */
void core_tick(struct core *c, struct now now);

/* ---- events ---- */

enum commit_result {
	COMMIT_OK,
	COMMIT_FAILED,  /* nothing was written; the core commits nothing on its own for a while */
	COMMIT_REFUSED, /* nothing was written because of what was in it (a key in use, a target that is gone), not for want of a ledger */
	COMMIT_UNKNOWN,
};

/* specs: for each op with want_spec, in order, its stored text (ownership passes; NULL entries allowed on failure). */
void core_committed(struct core *c, struct now now, uint64_t txn, enum commit_result r, char **specs, size_t n_specs);

/* After COMMIT_UNKNOWN: whether the transaction is in the ledger. */
void core_read_back(struct core *c, struct now now, uint64_t txn, bool present, char **specs, size_t n_specs);

/* The ledger cannot write (disk full, gone): new submissions are refused with ERR_RETRY until it can. */
void core_ledger_health(struct core *c, struct now now, bool writable);

struct core_submission {
	char id[RUN_ID_MAX];       /* new, made by the shell */
	char tenant[TENANT_NAME_MAX];
	char workflow[WORKFLOW_NAME_MAX];
	struct run_needs needs;
	int64_t not_before_real_ms; /* 0: now */
	char *spec;                /* ownership passes */
	char adopted_child[CORE_CHILD_MAX]; /* "" or the hand-made child that this run is for */
	bool again;                /* the same id is the same submission, as of an adopted run: it may come more than once */
};
/* Takes a run in: ANS_SUBMIT once it is durable; ERR_RETRY (queue full, ledger cannot write, commit failed), ERR_CONFLICT (the
 * id is taken, or its concurrency key is and its mode is KEY_FAIL). The same adopted run, or with `again` any, may be submitted
 * again and is answered with what it is; whether it has ended already, the shell asks the ledger, since the core forgets ended
 * runs. Other fields were validated by the shell. */
void core_submit(struct core *c, struct now now, uint64_t caller, struct core_submission *s);

/* Cancels a run for `who` (a name for people): ANS_CANCEL with the state after, canceled or, while its worker still runs it,
 * canceling; ERR_NOTFOUND: ask the ledger. */
void core_cancel(struct core *c, struct now now, uint64_t caller, const char *run, const char *who);

/* Pauses (again: with another reason) or resumes, durably: ANS_PAUSE. */
void core_pause(struct core *c, struct now now, uint64_t caller, const struct pause_row *row, bool paused);

struct core_worker {
	char id[WORKER_ID_MAX];
	char vertical[VERTICAL_NAME_MAX];
	enum run_class class;
	bool once;                 /* one-shot */
	unsigned slots;            /* 1..CORE_LEASES_MAX */
	uint64_t request;          /* one-shot: its request's seq, 0 if hand-made */
	char child[CORE_CHILD_MAX]; /* Nomad job id when it runs in one */
	char alloc[CORE_ALLOC_MAX]; /* allocation id, "" outside Nomad */
	int alloc_index;           /* of the allocation in its group, -1: unknown; lower ones are given runs first */
	int64_t cpu_millis, memory_bytes; /* declared size; 0: unknown, runs are not weighed */
};
/* A worker says who it is, repeated after each restart of either side: ANS_REGISTER; ERR_INVALID without an id or with slots out
 * of 1..CORE_LEASES_MAX. A poll of it that is open is answered empty. */
void core_register(struct core *c, struct now now, uint64_t caller, const struct core_worker *w);

/* The targets that the worker's node has in its cache (run_needs.target_key): runs of these are given to it rather than to another
 * worker, as long as order allows; nobody waits for it. Replaces what was told before; n <= CORE_HOLDS_MAX, more are ignored. */
void core_worker_holds(struct core *c, struct now now, const char *worker, const uint64_t *keys, size_t n);

struct held { /* a lease that a worker says it holds */
	char run[RUN_ID_MAX];
	struct fence fence;
};
/* Asks for up to `free` runs, waiting up to wait_ms; `only` (may be "") restricts it to one run (adopted). Unknown worker:
 * ANS_LEASE with ERR_NOTFOUND: register first. Leases of this worker that `held` does not list are offered again. */
void core_lease(struct core *c, struct now now, uint64_t caller, const char *worker, unsigned free, const char *only,
    const struct held *held, size_t n_held, int64_t wait_ms);

/* Renews all of the worker's leases that are listed; waits up to wait_ms for something to say. */
void core_beat(struct core *c, struct now now, uint64_t caller, const char *worker, const struct held *held, size_t n_held,
    int64_t wait_ms);

struct core_report {
	char worker[WORKER_ID_MAX];
	struct held held;
	enum run_state outcome;    /* RUN_COMPLETED, RUN_FAILED, RUN_TIMED_OUT, RUN_CANCELED; handed back: RUN_QUEUED */
	enum fail_class fail;
	char reason[REASON_MAX];
	bool leaving;              /* the worker ends after this */
	bool inquire;              /* handed back inside a Nomad child: ask whether an operator stopped the child before deciding */
};
/* The worker says how an attempt ended: ANS_REPORT with the run's state after, once that is durable. The same report again under
 * the same fence is answered likewise; ERR_CONFLICT: the lease had ended otherwise; ERR_NOTFOUND: the run is not going on, the
 * ledger's row tells (run_row.accepted); ERR_RETRY: nothing was written. */
void core_report(struct core *c, struct now now, uint64_t caller, const struct core_report *r);

/* What EFF_MANIFEST led to: the report that the attempt's manifest stands for (final outcomes only), taken as if its worker had
 * made it; NULL: there is none, or the store is away. Without an answer the attempt is lost after a while. */
void core_manifest(struct core *c, struct now now, const struct held *attempt, const struct core_report *found);

/* The worker says goodbye (drained, exiting). Leases it still held end as handed back. */
void core_leave(struct core *c, struct now now, const char *worker);

/* The caller's connection is gone: no answer is due. Leases given meanwhile stay and are offered again. */
void core_caller_gone(struct core *c, struct now now, uint64_t caller);

/* ---- what Nomad said ---- */

enum dispatch_result { DISPATCH_OK, DISPATCH_RETRY /* may or may not have happened: again, same token */, DISPATCH_REFUSED /* permanent */ };
/* What EFF_DISPATCH of that request led to. child: the job's id with DISPATCH_OK; why: Nomad's words otherwise, for people. */
void core_dispatched(struct core *c, struct now now, uint64_t seq, enum dispatch_result r, const char *child, const char *why);

enum child_state {
	CHILD_PENDING,  /* no allocation yet; why: placement failure or "" */
	CHILD_STARTING, /* allocation pending (image pull, driver) */
	CHILD_RUNNING,
	CHILD_UNKNOWN,  /* its node is disconnected: not a fact */
	CHILD_ENDED,    /* allocation complete, failed or lost: its process is gone (`crash`: it did not end by itself with 0) */
	CHILD_GONE,     /* not listed any more (purged by someone, or never made) */
};
struct core_child {
	char child[CORE_CHILD_MAX];
	uint64_t seq;              /* from its token; 0: hand-made */
	enum child_state state;
	bool stopped;              /* Job.Stop: someone asked Nomad to stop it */
	bool crash;
	bool oom;
	bool alloc_stopped;        /* DesiredStatus stop of the allocation, job itself not stopped */
	bool never;                /* CHILD_PENDING: no node of today could take it, whatever else runs there */
	bool partial;              /* from an event about an allocation alone: `stopped` is not known, only an inquiry or a listing tells */
	char alloc[40];
	char why[CORE_CAUSE_MAX];  /* placement failure, driver failure, … in Nomad's words; "" before it runs: nothing new is known */
};

/* A fact about a child, from an event, a listing or an inquiry; repeats and stale ones do no harm. A child with a token of ours
 * that no request stands for is stopped and purged. */
void core_child(struct core *c, struct now now, const struct core_child *ch);

/* EFF_INQUIRE of that child could not be answered: what waited for it is decided without. */
void core_inquiry_failed(struct core *c, struct now now, const char *child);

/* What EFF_PURGE of that request led to; not ok: tried again later. A child that is not there any more counts as purged. */
void core_purged(struct core *c, struct now now, uint64_t seq, bool ok);

/* Listings are made at start, after every reconnect and on a timer: what calls and events leave in doubt is settled by them alone.
 * A full listing was made that began when core_listing_begin was called: children told by core_child in between are all there
 * are; requests that were dispatched before it began and were not told are gone. */
void core_listing_begin(struct core *c, struct now now);
void core_listing_end(struct core *c, struct now now);

/* Nomad cannot be reached (calls are held back, leases and warm workers go on) or can again. */
void core_nomad_health(struct core *c, struct now now, bool reachable, const char *why);

/* What Nomad says about the group of looping workers of a vertical. */
struct core_warm {
	char vertical[VERTICAL_NAME_MAX];
	unsigned starting_slots;   /* of allocations that are starting within their time and have not registered */
	bool group;                /* there is one */
	bool never;                /* none of them is there, and no node of today could take one, whatever else runs there */
	char why[CORE_CAUSE_MAX];  /* why its workers do not come, "" for no reason */
};
void core_warm(struct core *c, struct now now, const struct core_warm *w);

/* ---- drains: workers that are to be taken away ---- */

enum drain_mark {
	DRAIN_NONE,
	DRAIN_DRAINING,  /* gets no new leases; can be taken back */
	DRAIN_CONDEMNED, /* held nothing, and gets nothing until the mark's time is over, whatever its owner says; durable */
};

struct core_drain {
	const char *owner;         /* non-empty, shorter than CORE_OWNER_MAX */
	const char (*allocs)[CORE_ALLOC_MAX];
	size_t n;
	int64_t ttl_ms;            /* > 0: the marks end by themselves */
	const char *vertical;      /* core_condemn: theirs, */
	const int *indexes;        /* … their indexes in its group (NULL: unknown), */
	uint64_t version;          /* … and what its owner's call about the count is conditional on, rising with each change of the group */
};

struct core_drain_state {      /* of one allocation */
	char alloc[CORE_ALLOC_MAX];
	char worker[WORKER_ID_MAX]; /* "": nobody has registered from it */
	size_t leases, committing;
	enum drain_mark mark;      /* the strictest of all owners */
	bool durable;              /* condemned, and that is in the ledger */
};

/* Replaces the owner's draining marks by one on each of these allocations of looping workers; none: takes all of them back.
 * Marks stand on allocations: one that registers later falls under it. They live in memory. ERR_TOOBIG: more than CORE_DRAINS_MAX
 * marks. out (n entries, may be NULL) is filled in each case. */
int core_drain(struct core *c, struct now now, const struct core_drain *d, struct core_drain_state *out, struct err *e);

/* Condemns these allocations beside what is marked, if none of them holds a lease or is being given one: ANS_CONDEMN once that
 * is durable. From then on until ttl_ms later nobody in there is given a lease, by this dispatcher or by one that comes after
 * it; nor anybody in an allocation that is started at one of their indexes, since whoever lowers the group's count meanwhile
 * would hit that one. An empty list says that the group is beyond that version, so that no call on that condition has an effect
 * any more: the owner's marks up to it are for their own allocations alone from here on (until a restart). ERR_CONFLICT: someone
 * is busy; ERR_RETRY: the ledger could not write, or, after a start, a worker that holds leases has not said yet where it runs;
 * ERR_TOOBIG: more than CORE_CONDEMN_MAX at once, or CORE_DRAINS_MAX marks. */
void core_condemn(struct core *c, struct now now, uint64_t caller, const struct core_drain *d);

/* How these allocations stand: fills out, n entries. */
void core_drain_states(const struct core *c, const char (*allocs)[CORE_ALLOC_MAX], size_t n, struct core_drain_state *out);

/* ---- circuit breakers ---- */

/* Something that every run needs (the object store, …) cannot be reached, or can again: while it is away no run is leased. */
void core_dependency(struct core *c, struct now now, const char *name, bool ok, const char *why);

struct core_breaker {
	const char *kind;          /* "vertical": its runs fail for want of something around them; "dependency" */
	char name[TENANT_NAME_MAX];
	enum breaker_state state;
	unsigned failures;         /* in a row */
	int64_t until_ms;          /* open: from now until it is tried again; 0: unknown */
	char why[REASON_MAX];      /* of the last failure */
	const char *tenant;        /* whose run told it, and who alone may read it beside operators; NULL: everybody's business */
};
/* Calls each for every breaker, closed ones included. */
void core_breakers(const struct core *c, struct now now, void (*each)(void *arg, const struct core_breaker *b), void *arg);

/* ---- reading (for status, queue, workers; valid until the next event) ---- */

struct core_wait { /* why a queued run waits */
	char code[24];  /* "ready", "backoff" (not before its time), "breaker" (its vertical's, or a dependency is away), "paused", "key" (its
	                 * concurrency key has no slot), "drain" (looping workers are being taken away), "window", "capacity_requested",
	                 * "placement", "unplaceable" (as things are, no node could ever take it), "starting", "warm_start" (looping
	                 * workers cannot start), "no_worker", "nomad_away", "ledger", "alone" (in a worker that crashed: waits for a
	                 * worker without other runs) */
	char text[REASON_MAX];
	size_t position;  /* about how many leases until it is taken, 1 = next in its vertical and class; 0: it is not in line */
	size_t ahead_own, ahead_others; /* of these, its tenant's own runs and those of others */
	double share;     /* its tenant's part (0..1) of what was used of the vertical lately: who used less goes first */
	int64_t estimate_ms; /* until it begins, as `basis` has it; -1: there is nothing to go by */
	int64_t expires_ms; /* until it fails for its maximum wait; -1: never */
	char basis[120];
};
/* The run's row while it is not final and its submission is durable; NULL otherwise. */
const struct run_row *core_find(const struct core *c, const char *run);

/* Why the run waits; false if it is not queued. O(queue). */
bool core_why(const struct core *c, struct now now, const char *run, struct core_wait *ret);

struct core_depth { /* of one vertical and class */
	char vertical[VERTICAL_NAME_MAX];
	enum run_class class;
	size_t queued, ready, running, requests, window;
	int64_t oldest_ms;
	size_t workers, slots_free;
};
/* One entry per vertical and class that has been declared or used: fills up to n, returns how many there are. */
size_t core_depths(const struct core *c, struct now now, struct core_depth *out, size_t n);

/* What an autoscaler wants to know of a vertical. All counts are of runs that looping workers may take, and of such workers;
 * totals count from the core's start. */
struct core_scale {
	char vertical[VERTICAL_NAME_MAX];
	size_t ready;              /* runs that wait for a slot, whoever may take them */
	size_t warm_ready;         /* … those that looping workers may take, and could be leased now if there were slots: not paused, not
	                            * before their time, with a slot of their key, and not held back by a breaker */
	size_t running;            /* attempts under way, in one-shots too */
	int64_t oldest_ms;         /* how long the one of warm_ready has waited that waits longest */
	size_t workers, slots, idle_slots; /* looping, not drained */
	size_t one_shots_live;     /* that may exist in Nomad, of the normal class */
	uint64_t arrivals_total;   /* attempts that came to want a slot: submissions and retries; while a breaker is open, when leased */
	uint64_t served_total;     /* attempts that ended, however */
	int64_t service_ms_mean, service_ms_p90; /* learnt time of an attempt in its slot; 0: nothing is known. Attempts that were
	                            * cut short (canceled, lost, handed back) count as "at least so long" */
};
/* One entry per vertical: fills up to n, returns how many there are. */
size_t core_scales(const struct core *c, struct now now, struct core_scale *out, size_t n);

struct core_scale_worker {
	char worker[WORKER_ID_MAX], alloc[CORE_ALLOC_MAX];
	int alloc_index;
	unsigned slots;
	size_t leases, committing;
	enum drain_mark mark;
};
/* One entry per registered looping worker of the vertical: fills up to n, returns how many there are. */
size_t core_scale_workers(const struct core *c, const char *vertical, struct core_scale_worker *out, size_t n);

struct core_worker_view {
	struct core_worker worker;
	size_t leases, committing;  /* in force, being written */
	int64_t seen_ms_ago;
	bool draining, waiting;
	enum drain_mark mark;
};
/* One entry per registered worker: fills up to n, returns how many there are. */
size_t core_workers(const struct core *c, struct now now, struct core_worker_view *out, size_t n);

/* Calls each for everything that is paused. */
void core_pauses(const struct core *c, void (*each)(void *arg, const struct pause_row *row), void *arg);

/* Calls each for every request that is not done (views for reconciling and `drover queue`). */
void core_requests(const struct core *c, void (*each)(void *arg, const struct request_row *row), void *arg);

/* Asserts every internal invariant (counts, lists, heaps, fences); for tests and the simulation. */
void core_check(const struct core *c);

#endif
