/* core_priv.h - what the files of the core share. Nobody outside dispatcher/core includes it.
 *
 * Every event function of core.h ends in core_settle: state is changed first, then free workers and the backlog of the lanes
 * that changed are matched, then the plan of the verticals that changed is made. Nothing is decided on a run while its commit
 * is in flight (run.txn): what comes meanwhile is put into run.deferred, or is seen again when the commit has ended.
 */
#ifndef DISPATCHER_CORE_CORE_PRIV_H
#define DISPATCHER_CORE_CORE_PRIV_H

#include "base/heap.h"
#include "base/map.h"
#include "base/mem.h"
#include "dispatcher/core/core.h"
#include "dispatcher/core/list.h"
#include "dispatcher/core/queue.h"
#include "dispatcher/core/runs.h"

#define NEVER INT64_MAX
#define GRACE_MS 2000          /* a report in flight when its worker's end is known */
#define INQUIRY_MS 3000        /* Nomad's answer about a stopped child */
#define LEDGER_PAUSE_MS 1000   /* after a failed commit, before the core commits on its own again */
#define STOP_REPEAT_MS 10000   /* a stop whose effect was not seen */
#define UNREACHED_MS 120000    /* a stopped child on a lost node is purged after this: the node kills it when it returns */
#define FRESH_MS 1000          /* a warm worker between two polls counts as idle for this long */
#define RECENT_MAX 4096        /* fences whose reports were accepted lately */

enum timer_kind { TIMER_RUN, TIMER_POLL, TIMER_BEAT, TIMER_WORKER, TIMER_REQUEST, TIMER_VERTICAL, TIMER_KINDS };

struct timer {
	int64_t at_mono;
	uint64_t order; /* ties fire in the order of arming */
	size_t pos;     /* HEAP_NOWHERE: not armed */
	enum timer_kind kind;
};

struct lane { /* one class of a vertical */
	struct vertical *vertical;
	enum run_class class;
	struct queue ready;
	struct heap by_age;      /* every queued run, by its creation */
	struct link waiting;     /* workers with an open poll, oldest poll first */
	size_t arriving;         /* ready, once their first commit is done (EXEC_WARM apart) */
	size_t arriving_job;     /* … of which insist on a one-shot */
	size_t running;
	bool dirty;              /* runs or polls came: match them */
};

struct vertical {
	struct link all;
	char name[VERTICAL_NAME_MAX];
	unsigned window;
	struct lane lanes[RUN_CLASSES];
	size_t requests;         /* not done, not adopted: what counts against the window */
	unsigned streak;         /* one-shots in a row that ended without having taken a run */
	int64_t hold_mono;       /* no new requests before */
	char trouble[CORE_CAUSE_MAX]; /* what the last of the streak died of */
	bool refused;            /* … : Nomad refused the dispatch */
	struct timer timer;
	bool dirty;              /* plan again */
};

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
	int64_t deadline_mono;
	struct verdict verdict;
	struct core_report *asked; /* handed back inside a child: decided by an inquiry, at verdict.at_mono at the latest */
	uint64_t asked_caller;
	bool cancel_told;        /* a beat was answered with it */
};

struct run {
	struct link all;
	char *id;
	const char *tenant, *workflow; /* interned */
	struct vertical *vertical;
	struct queue_entry entry;
	size_t age_pos;
	struct timer timer;      /* queued: when it is due; leased: deadline or verdict */
	struct txn *txn;         /* commit in flight */
	struct deferred *deferred, **deferred_end; /* wait for it, in order */
	struct grant *grant;     /* while running or canceling */
	struct request *reserved; /* hand-made dispatch whose worker has the first right */
	char *reason;            /* NULL: none */
	struct fence fence;
	uint64_t request;
	int64_t timeout_ms, due_mono, not_before_real_ms, started_real_ms, finished_real_ms;
	unsigned attempt, failures, crashes, tool_retries;
	uint8_t state, class, execution, fail;
	bool suspect, dead, adopted;
	bool counted;            /* in its lane's `arriving` while its first commit is in flight */
};

struct poll {
	uint64_t caller; /* 0: none */
	unsigned free;
	char only[RUN_ID_MAX];
	struct held *held;
	size_t n_held;
	struct timer timer;
};

struct worker {
	struct link all, waiting; /* waiting: in its lane while a poll is open */
	struct core_worker who;
	bool known;              /* registered with this dispatcher; otherwise only its leases are remembered */
	bool drain_told;         /* a beat was answered with it */
	bool leaving;            /* said that it ends: nothing more for it */
	bool over;               /* its process has ended: verdict holds for leases that are still being committed */
	struct verdict verdict;
	struct lane *lane;
	struct link grants;
	size_t n_grants, committing; /* leases in force, in commit */
	int64_t seen_mono;
	struct poll poll, beat;
	struct timer timer;      /* forgotten when silent */
};

struct request {
	struct link all;
	struct request_row row;
	struct vertical *vertical;
	struct txn *txn;
	bool stray;              /* a child of ours that no row stands for: stopped and purged, never written */
	bool calling;            /* dispatch or purge under way */
	bool registered, used, dismissed; /* its worker came; took a run; was told that there is none */
	bool refused, withdraw, ended, gone, purged, inquiring, failed;
	bool ambiguous;          /* a dispatch call failed without a word: the child may exist */
	bool doubt;              /* … and a later one was refused: the next listing tells */
	bool listed, dispatched_before, doubt_before; /* during a listing */
	size_t grants;           /* leases under it, those in commit included */
	struct run *reserved;    /* adopted: the run that waits for its worker */
	bool by_operator;        /* … was stopped by an operator */
	unsigned tries;
	int64_t next_call_mono;  /* back-off of dispatch, stop and purge */
	int64_t ttl_mono;        /* withdrawn unless a worker is there by then */
	int64_t stopped_mono;    /* when the first stop was sent */
	enum child_state child_state;
	bool child_told;
	char why[CORE_CAUSE_MAX];
	struct timer timer;
};

enum deferred_kind { DEFER_CANCEL, DEFER_REPORT, DEFER_SUBMIT };

struct deferred {
	struct deferred *next;
	enum deferred_kind kind;
	uint64_t caller;
	char who[REASON_MAX];
	struct core_report *report;
};

struct run_change {
	struct run *run;
	struct run_row next;
	enum run_event event;
};

struct request_change {
	struct request *request;
	struct request_row next;
	bool insert;
};

struct txn {
	struct link all;
	uint64_t id;
	bool unknown;            /* waits for core_read_back */
	uint64_t caller;
	enum answer_kind answer; /* what the caller waits for */
	struct worker *worker;   /* ANS_LEASE */
	size_t n_runs, n_requests, n_ops;
	struct run_change *runs;
	struct request_change *requests;
	struct op *ops;          /* until the effect takes them */
};

struct caller {
	uint64_t id;
	struct worker *worker;   /* whose poll or beat it is */
};

struct recent {
	struct fence fence;
	uint64_t run_hash;
};

struct effect_node {
	struct effect_node *next;
	struct effect effect;
};

struct core {
	struct core_config config;
	struct run_limits limits;
	uint64_t rng;            /* state of core_random */
	uint64_t next_txn, next_seq, next_order;
	bool started, writable, nomad;
	char nomad_why[CORE_CAUSE_MAX];
	int64_t ledger_hold_mono;
	struct link runs, verticals, workers, requests, txns;
	struct map *run_by_id, *worker_by_id, *request_by_seq, *request_by_child, *callers, *interned;
	size_t queued;           /* runs in the queue, first commits included */
	struct heap timers;
	struct effect_node *effects, **effects_end;
	struct recent *recent;
	size_t recent_next;
	bool listing;
	struct run_row *scratch; /* of core_find */
};

/* --- core.c, verticals.c: effects, callers, timers --- */

/* A new effect of the kind at the end of the queue, to be filled by the caller. */
struct effect *core_emit(struct core *c, enum effect_kind kind);

/* Opens a caller (0 is nobody); worker is set for polls and beats. An id may be used again once it was answered. */
void caller_open(struct core *c, uint64_t caller, struct worker *worker);

/* Answers an open caller; nothing happens if it is 0 or gone. core_answer takes ownership of a. */
void core_answer(struct core *c, uint64_t caller, struct answer *a);
void core_answer_err(struct core *c, uint64_t caller, enum answer_kind kind, const char *run, int code, const char *text);
void core_answer_state(struct core *c, uint64_t caller, enum answer_kind kind, const char *run, enum run_state state);
bool caller_is_open(const struct core *c, uint64_t caller);

/* The caller's poll or beat is closed, or goes on as a transaction: it may still be answered. */
void caller_part(struct core *c, uint64_t caller);

/* Arms, re-arms or (NEVER) disarms. */
void timer_set(struct core *c, struct timer *t, int64_t at_mono);
void timer_init(struct timer *t, enum timer_kind kind);

uint64_t core_random(struct core *c);

/* A duration with full jitter that doubles with n >= 1, from the configured base to the cap, but at least least_ms. */
int64_t core_backoff(struct core *c, unsigned n, int64_t least_ms);

/* Whether the core may commit on its own account now. */
bool ledger_ready(const struct core *c, struct now now);

/* One copy of a name for the core's life: tenants and workflows are few. */
const char *core_intern(struct core *c, const char *name);

/* Matches and plans what the event made dirty. */
void core_settle(struct core *c, struct now now);

/* Reads the config's vertical, making one with window 0 where it is unknown (a run restored before its toolbox is read). */
struct vertical *vertical_get(struct core *c, const char *name);

void core_vertical_free(struct vertical *v);

/* Looks at the vertical again at that time, if not earlier; when the core may commit again (ledger health sees to the rest). */
void vertical_wake(struct core *c, struct vertical *v, int64_t at_mono);
void vertical_wake_ledger(struct core *c, struct vertical *v);

/* --- txn.c --- */

/* A transaction that answers the caller when done (0: nobody). Changes are added, then it is committed. */
struct txn *txn_new(struct core *c, uint64_t caller, enum answer_kind answer);
bool txn_has_room(const struct txn *t, size_t ops);
void txn_commit(struct core *c, struct txn *t);
void txn_free(struct core *c, struct txn *t);
struct op *txn_op(struct txn *t, enum op_kind kind);
void txn_add_run(struct core *c, struct txn *t, struct run *run, const struct run_row *next, enum run_event event);
void txn_add_request(struct txn *t, struct request *r, const struct request_row *next, bool insert);

/* --- state.c: runs in memory --- */

struct run *run_get(const struct core *c, const char *id);
struct run *run_new(struct core *c, struct now now, const struct run_row *row);
void run_free(struct core *c, struct run *run);
void run_row_of(const struct run *run, struct run_row *ret);
void run_load(struct core *c, struct now now, struct run *run, const struct run_row *row);
bool run_busy(const struct run *run);
void run_unreserve(struct run *run);
struct lane *run_lane(const struct core *c, const struct run *run);

/* Puts a run where its state belongs (ready, delayed, deadline) or takes it out of there. */
void run_index(struct core *c, struct now now, struct run *run);
void run_unindex(struct core *c, struct run *run);
void run_arm(struct core *c, struct run *run);
void run_timer(struct core *c, struct now now, struct run *run);

/* Prepares and commits one move of a run that is not busy and may make it. */
void run_move(struct core *c, struct now now, struct run *run, const struct run_cause *cause, uint64_t caller, enum answer_kind kind);
void run_move_in(struct core *c, struct now now, struct txn *t, struct run *run, const struct run_cause *cause);

/* Gives a running run its lease record; takes it away. */
struct grant *grant_attach(struct core *c, struct now now, struct run *run, struct worker *w);
void grant_detach(struct core *c, struct now now, struct run *run);

/* --- reports.c --- */

/* Keeps an event until the run is not busy; report is copied, who too. */
void run_defer(struct run *run, enum deferred_kind kind, uint64_t caller, const char *who, const struct core_report *report);
/* Lets deferred events happen, by the run's id: it may be gone. Frees them. */
void run_replay(struct core *c, struct now now, const char *id, struct deferred *list);
void recent_add(struct core *c, struct fence fence, const char *run);
bool recent_has(const struct core *c, struct fence fence, const char *run);
void report_decide(struct core *c, struct now now, struct run *run, bool by_operator);
void cancel_ask(struct core *c, struct now now, struct run *run, uint64_t caller, const char *who);

/* --- submit.c --- */

void submit_again(struct core *c, uint64_t caller, const char *id);

/* --- workers.c, leases.c --- */

struct worker *worker_get(const struct core *c, const char *id);
struct worker *worker_new(struct core *c, const char *id);
struct request *worker_request(const struct core *c, const struct worker *w);
void worker_seen(struct core *c, struct now now, struct worker *w);
void worker_timer(struct core *c, struct now now, struct worker *w);
void worker_free(struct core *c, struct worker *w);
void poll_close(struct core *c, struct worker *w);
void poll_timer(struct core *c, struct now now, struct worker *w);
void poll_answer_empty(struct core *c, struct worker *w, bool leave, int code, const char *why);
void beat_close(struct core *c, struct worker *w);
void beat_timer(struct core *c, struct now now, struct worker *w);
void beat_wake(struct core *c, struct worker *w);
size_t worker_idle(const struct worker *w, struct now now);
void lane_match(struct core *c, struct now now, struct lane *lane);
void lease_serve(struct core *c, struct now now, struct worker *w);
void lease_done(struct core *c, struct now now, struct txn *t, bool ok, char **specs, size_t n_specs);
unsigned queue_mask(const struct core *c, const struct worker *w);
void grant_judge(struct core *c, struct run *run, const struct verdict *v);

/* --- requests.c, capacity.c, children.c --- */

struct request *request_get(const struct core *c, uint64_t seq);
struct request *request_of_child(const struct core *c, const char *child);
struct request *request_new(struct core *c, const struct request_row *row);
void request_free(struct core *c, struct request *r);
void request_set_child(struct core *c, struct request *r, const char *child);
void request_step(struct core *c, struct now now, struct request *r);
void request_done(struct core *c, struct now now, struct request *r, const struct request_row *next, bool insert, bool ok);
bool request_coming(const struct request *r);
void request_useful(struct request *r);

/* The lease under it that was being committed was not written. */
void request_unlease(struct core *c, struct now now, uint64_t seq);
void request_failed(struct core *c, struct now now, struct request *r, const char *why);
void request_withdraw(struct core *c, struct now now, struct request *r);
bool request_has_worker(const struct core *c, const struct request *r, const char *other_than_alloc);
void request_inquire(struct core *c, struct request *r);
void plan_run(struct core *c, struct now now, struct vertical *v, struct txn *t);

#endif
