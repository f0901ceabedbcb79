/* core_priv.h - what all files of the core share: timers, lanes, transactions, callers. Nobody outside dispatcher/core includes it.
 *
 * Every event function of core.h ends in core_settle: state is changed first, then free workers and the backlog of the lanes
 * that changed are matched, then the plan of the verticals that changed is made. Nothing is decided on a run while its commit
 * is in flight (run.txn): what comes meanwhile is put into run.deferred, or is seen again when the commit has ended.
 *
 * Runs and leases are in core_run.h, workers in core_worker.h, requests in core_request.h.
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
#include "dispatcher/core/service.h"
#include "dispatcher/core/share.h"

struct run;
struct worker;
struct request;

#define NEVER INT64_MAX
#define GRACE_MS 2000          /* a report in flight when its worker's end is known */
#define INQUIRY_MS 3000        /* Nomad's answer about a stopped child */
#define MANIFEST_MS 10000      /* the store's answer about a lost attempt */
#define LEDGER_PAUSE_MS 1000   /* after a failed commit, before the core commits on its own again */
#define STOP_REPEAT_MS 10000   /* a stop whose effect was not seen */
#define UNREACHED_MS 120000    /* a stopped child on a lost node is purged after this: the node kills it when it returns */
#define FRESH_MS 1000          /* a warm worker between two polls counts as idle for this long */
#define SUSPECT_WAIT_MS 10000  /* for a worker to fall empty by itself, before one is kept free for a suspect */
#define AFFINITY_SLACK_MS 5000 /* runs of ranks so close are of equal standing: the one whose target is there goes first */
#define PROBE_WAIT_MS 1000     /* until the probe of the dispatch calls may have ended */
#define LONG_RUN_MS 3600000    /* runs that may take longer go to one-shots where there are any */
#define SHARE_STEP_MS 5000     /* charges of running leases are corrected at most so often */
#define SERVICE_GUESS_MS 60000 /* what a run takes, as long as nothing was learnt */

enum timer_kind { TIMER_RUN, TIMER_POLL, TIMER_BEAT, TIMER_WORKER, TIMER_REQUEST, TIMER_VERTICAL, TIMER_DRAIN, TIMER_KINDS };

struct timer {
	int64_t at_mono;
	uint64_t order; /* ties fire in the order of arming */
	size_t pos;     /* HEAP_NOWHERE: not armed */
	enum timer_kind kind;
};

struct share { /* a tenant in a vertical */
	struct link all;
	const char *tenant;      /* interned */
	bool paused;             /* its tenant is, everywhere */
	double use;              /* weighed slot-seconds; changed by what is at the end of shares.c only */
	size_t running;
	struct queue_tenant ready[RUN_CLASSES];
};

struct lane { /* one class of a vertical */
	struct vertical *vertical;
	enum run_class class;
	struct queue ready;
	struct heap by_age;      /* ready runs, by the time since which they wait */
	size_t queued;           /* ready or not */
	unsigned turn;           /* leases given, modulo QUEUE_OLDEST_TURN */
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
	bool warm_only, paused;
	unsigned starting_slots; /* of looping workers */
	char warm_why[CORE_CAUSE_MAX]; /* why they do not come */
	int64_t warm_never_mono; /* since when no node could take one; 0: some could */
	struct lane lanes[RUN_CLASSES];
	size_t requests;         /* not done, not adopted: what counts against the window */
	unsigned streak;         /* one-shots in a row that ended without having taken a run */
	int64_t hold_mono;       /* no new requests before */
	char trouble[CORE_CAUSE_MAX]; /* what the last of the streak died of */
	bool refused;            /* … : Nomad refused the dispatch */
	struct timer timer;
	bool dirty;              /* plan again */
	struct link shares;
	struct map *share_by_tenant;
	struct share_clock share_clock;
	int64_t shared_mono;     /* when running leases were charged last */
	struct breaker breaker;  /* of its runs */
	uint64_t arrivals, served; /* attempts that looping workers may take: came to want a slot, ended */
	struct service service;  /* how long they take */
};

#define DEPENDENCIES_MAX 8

struct dependency {
	char name[TENANT_NAME_MAX];
	bool ok;
	char why[REASON_MAX];
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
	bool refused;            /* failed, but not for want of a ledger */
	uint64_t caller;
	enum answer_kind answer; /* what the caller waits for */
	struct worker *worker;   /* ANS_LEASE */
	struct pause *pause;     /* ANS_PAUSE: what is to be, owned */
	bool resume;
	struct drain **marks;    /* ANS_CONDEMN: to be held, or (resume) forgotten; owned, what they point at is not */
	size_t n_marks;
	size_t n_runs, n_requests, n_ops;
	struct run_change *runs;
	struct request_change *requests;
	struct op *ops;          /* until the effect takes them */
};

struct caller {
	uint64_t id;
	struct worker *worker;   /* whose poll or beat it is */
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
	bool listing;
	uint64_t listings;       /* begun */
	struct run_row *scratch; /* of core_find */
	struct breaker dispatching; /* of dispatch calls to Nomad; tokens are requests' numbers */
	struct dependency dependencies[DEPENDENCIES_MAX];
	size_t n_dependencies;
	struct link pauses;
	struct link dirty_keys;  /* whose slots may have become free */
	struct map *keys;
	struct link drains;      /* marks on allocations */
	size_t n_drains;
	struct timer drain_timer; /* the first of them ends */
};

/* --- core.c: effects, callers, timers --- */

/* A new effect of the kind at the end of the queue, to be filled by the caller. */
struct effect *core_emit(struct core *c, enum effect_kind kind);

/* Opens a caller (0 is nobody); worker is set for polls and beats. An id may be used again once it was answered. */
void caller_open(struct core *c, uint64_t caller, struct worker *worker);

/* Whether the caller still waits for its answer. */
bool caller_is_open(const struct core *c, uint64_t caller);

/* The caller's poll or beat is closed, or goes on as a transaction: it may still be answered. */
void caller_part(struct core *c, uint64_t caller);

/* Answers an open caller; nothing happens if it is 0 or gone. core_answer takes ownership of a. */
void core_answer(struct core *c, uint64_t caller, struct answer *a);
void core_answer_err(struct core *c, uint64_t caller, enum answer_kind kind, const char *run, int code, const char *text);
void core_answer_state(struct core *c, uint64_t caller, enum answer_kind kind, const char *run, enum run_state state);

/* The number as a key of a map: cheaper than printf, which is felt at thousands of calls a second. */
#define NUMBER_KEY_LEN 17
const char *number_key(uint64_t n, char out[NUMBER_KEY_LEN]);

/* A timer that is not armed. Before what contains it is freed, it must be disarmed. */
void timer_init(struct timer *t, enum timer_kind kind);

/* Arms, re-arms or (NEVER) disarms. */
void timer_set(struct core *c, struct timer *t, int64_t at_mono);

/* The next number of the core's random source. */
uint64_t core_random(struct core *c);

/* A duration with full jitter that doubles with n >= 1, from the configured base to the cap, but at least least_ms. */
int64_t core_backoff(struct core *c, unsigned n, int64_t least_ms);

/* Whether the core may commit on its own account now. */
bool ledger_ready(const struct core *c, struct now now);

/* One copy of a name for the core's life: tenants and workflows are few. */
const char *core_intern(struct core *c, const char *name);

/* --- verticals.c, capacity.c --- */

/* Whether there are one-shots for its runs, so that class and execution matter. */
bool vertical_one_shots(const struct core *c, const struct vertical *v);

/* The vertical of that name, made with window 0 where it is unknown (a run restored before its toolbox is read). */
struct vertical *vertical_get(struct core *c, const char *name);

/* Looks at the vertical again at that time, if not earlier; when the core may commit again (ledger health sees to the rest). */
void vertical_wake(struct core *c, struct vertical *v, int64_t at_mono);
void vertical_wake_ledger(struct core *c, struct vertical *v);

/* Matches and plans what the event made dirty. The last thing that every event function does. */
void core_settle(struct core *c, struct now now);

/* Asks for the one-shots that the vertical lacks: in t as far as it has room, the rest (and all, if t is NULL) in commits of
 * their own. */
void plan_run(struct core *c, struct now now, struct vertical *v, struct txn *t);

/* Everything of the vertical is matched and planned again / of every one. */
void vertical_all_dirty(struct vertical *v);
void verticals_dirty(struct core *c);

/* --- gates.c --- */

/* Whether runs of the vertical may be leased now; if not, it is looked at again in time. */
bool gate_open(struct core *c, struct now now, struct vertical *v);

/* How many runs of the vertical may be leased now, as far as that is concerned: SIZE_MAX, one as a probe, or none. */
size_t gate_room(const struct core *c, struct now now, const struct vertical *v);

/* The attempt ended like that: its vertical's breaker learns of it / it ended, or was not begun, without telling anything. */
void gate_attempt_ended(struct core *c, struct now now, const struct run *run, const struct run_row *next, enum run_event event);
void gate_drop(struct core *c, const struct run *run);

/* A dependency that is away, NULL: none. */
const struct dependency *dependency_away(const struct core *c);

/* --- keys.c --- */

/* Gives out the slots of keys that may have become free, and cancels what is to be replaced. */
void keys_settle(struct core *c, struct now now);

/* --- pauses.c --- */

/* Whether the tenant is paused. */
bool tenant_paused(const struct core *c, const char *tenant);

/* The pause or resumption that t wrote takes effect, or not. */
void pause_done(struct core *c, struct now now, struct txn *t, bool ok);

/* Frees all pauses; at the core's end. */
void pauses_free(struct core *c);

/* --- shares.c --- */

/* The tenant's share of the vertical, made where there is none. */
struct share *share_get(struct core *c, struct vertical *v, const char *tenant);

/* Frees all of the vertical's shares; no run may be left. */
void shares_free(struct vertical *v);

/* Charges a lease that is being given / takes the charge back, if it was not written / corrects it at its end. */
void share_charge(struct core *c, struct now now, struct run *run);
void share_refund(struct core *c, struct run *run);
void share_settle(struct core *c, struct now now, struct run *run);

/* Brings the charges of leases that run longer than was expected up to now, if it is time for that. */
void shares_correct(struct core *c, struct now now, struct vertical *v);

/* What one lease of the vertical is charged, in the terms of share.use. */
double share_next_charge(const struct core *c, const struct vertical *v);

/* --- drain.c --- */

/* The strictest mark that a worker falls under, by its allocation or by its place in the group. */
enum drain_mark drain_of(const struct core *c, const struct core_worker *who);

/* Marks whose time is over are taken away. */
void drain_timer(struct core *c, struct now now);

/* The time of restored marks begins. */
void drain_start(struct core *c, struct now now);

/* What t wrote of marks takes effect, or not. */
void drain_done(struct core *c, struct now now, struct txn *t, bool ok);

/* Frees all marks; at the core's end. */
void drain_free(struct core *c);

/* --- txn.c --- */

/* A transaction that answers the caller when done (0: nobody). Changes are added, then it is committed, or freed if none were. */
struct txn *txn_new(struct core *c, uint64_t caller, enum answer_kind answer);
void txn_free(struct core *c, struct txn *t);

/* Whether that many more rows fit into one commit: a lease takes one, a request too. */
bool txn_has_room(const struct txn *t, size_t ops);

/* Adds one row, to be filled by the caller; valid until the next is added. There must be room. */
struct op *txn_op(struct txn *t, enum op_kind kind);

/* Adds the move of a run that has no commit in flight, which it has from here on; it leaves its place in the lane. */
void txn_add_run(struct core *c, struct now now, struct txn *t, struct run *run, const struct run_row *next, enum run_event event);

/* The same for a request, which must have a row (no stray). insert: the row comes to be. */
void txn_add_request(struct txn *t, struct request *r, const struct request_row *next, bool insert);

/* Hands the rows to the shell. What they mean happens in core_committed or core_read_back. */
void txn_commit(struct core *c, struct txn *t);

#endif
