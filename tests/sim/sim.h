/* sim.h - a world around the dispatcher's core in virtual time: ledger, Nomad, workers, clients and a bad network.
 *
 * Everything that happens is an event of one queue; all chance comes from the seed, so that a failing seed replays exactly.
 * The world makes faults until fault_end_ms; then everything heals and the world must come to rest: every run final, every
 * request done, no child left. What must hold at all times is checked where it would be broken (ledger.c, shell.c, nomad.c).
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/heap.h"
#include "dispatcher/core/core.h"

#define VERTICALS 3
#define MAX_RUNS 96
#define MAX_REQUESTS 2000
#define MAX_CHILDREN 2000
#define MAX_PROCS 4000
#define MAX_HELD 4
#define GROUP_START 2     /* looping workers of each vertical, at first */
#define GROUP_MAX 5       /* … and at most */
#define KEYS 3
#define TARGETS 5
#define MEMORY 1000       /* of a looping worker */
#define MAX_EFFECTS 20000 /* of one event: more means that the core spins */
#define POLL_MS 5000
#define RPC_MS 8000       /* a worker gives up on an answer */
#define ORPHAN_MS 120000  /* a worker cut off kills its tools */

struct world;

struct arg { /* of an event; p is freed by the handler, or by release (NULL: free) when the world ends first */
	int a, b;
	uint64_t u;
	void *p;
	void (*release)(void *p);
};
typedef void event_fn(struct world *w, struct arg *arg);

struct client_run { /* a run as the outside sees it */
	char id[RUN_ID_MAX];
	struct run_needs needs;
	bool poison;             /* its worker dies of it */
	bool adopted, acknowledged, cancel_wanted, cancel_done, cancel_acknowledged, gave_up;
	int child;               /* adopted: hand-made child */
	size_t row;              /* 1 + its place in the ledger, 0: not found there yet */
	uint64_t caller, cancel_caller;
};

#define ACCEPTED_KEPT 64

struct ledger_run {
	struct run_row row;
	char spec[64];
	int64_t written_ms;
	struct fence accepted[ACCEPTED_KEPT]; /* of which reports were accepted, the latest ones at n_accepted - 1 modulo the size */
	size_t n_accepted;
};

struct child {
	char name[CORE_CHILD_MAX];
	uint64_t seq;            /* 0: hand-made */
	int vertical;
	enum run_class class;
	enum child_state state;
	bool stopped, crash, oom, alloc_stopped, blocked, purged, late; /* late: made by a copy of a call whose request was done */
	bool node_lost, was_lost, by_operator;
	bool replaced;           /* its first allocation was stopped: what that held is handed back, and the dispatcher withdraws the child */
	enum child_state before_loss;
	int alloc, proc, run;    /* run: of a hand-made one, else -1 */
};

struct held_run {
	struct held held;
	unsigned attempt;
	int64_t ends_ms, kills_ms; /* kills_ms: poison, 0 none */
	enum run_state outcome;
	enum fail_class fail;
	bool ended, canceled;
	uint64_t report;         /* caller of the report under way */
	int64_t report_ms;
};

struct proc { /* a worker process */
	bool alive, registered, leaving, once, drop_exit;
	char id[WORKER_ID_MAX];
	int vertical;
	int child, slot, serial; /* child -1: warm, in this slot of its group, in that allocation */
	bool scaled_away;        /* by the autoscaler, which had it condemned */
	unsigned slots;
	uint64_t request;
	char alloc[40];
	int only;                /* run of a hand-made dispatch, -1 */
	bool announced;
	uint64_t reg, poll, beat; /* callers under way */
	int64_t reg_ms, poll_ms, beat_ms, acked_ms, acked_before_ms, cut_until_ms, stop_ms;
	struct held_run held[MAX_HELD];
	size_t n_held;
};

enum caller_kind { CALL_SUBMIT, CALL_CANCEL, CALL_REGISTER, CALL_POLL, CALL_BEAT, CALL_REPORT, CALL_CONDEMN };

struct call { /* a request of someone to the dispatcher */
	enum caller_kind kind;
	int who;                 /* run, process or vertical */
	int run;                 /* CALL_REPORT: index into held at that time is not stable: the run's id is in held */
	struct held held;
	enum run_state outcome;
	int gen;                 /* of the dispatcher that took it; 0: not arrived */
	bool answered, gone;
	int64_t arrived_ms;      /* CALL_POLL: and what it listed */
	struct held listed[MAX_HELD];
	size_t n_listed;
};

struct fault_mix { /* chances in 1/1000, drawn per seed so that seeds differ in kind */
	unsigned lose, dup, crash, commit_fail, commit_unknown, worker_crash, cut, operator_stop, alloc_stop, node_loss, purge_by_hand,
	    blocked, refused, lose_event, nomad_away, clock_jump, disk_full, depose, scaler_crash, hand_scale, pause, s3_away;
};

struct member { /* an allocation of a group */
	bool there, stopping;    /* stopping: by hand */
	int serial, proc;        /* proc -1: not started yet */
};

struct warm_group {
	int count, version;
	int by_hand;             /* since the last evaluation somebody wanted no more than so many */
	struct member members[GROUP_MAX];
	int going[2 * GROUP_MAX]; /* processes whose allocations were stopped, latest ones */
	size_t n_going;
	int64_t told_ms[GROUP_MAX]; /* since when the dispatcher was told that it is starting */
};

struct dispatcher { /* one that lives; gen 0: none */
	struct core *core;
	int gen;
	bool nomad_ok;
	int64_t wake_ms;
	struct core_config config;
};

struct world {
	uint64_t seed, rng, events, order;
	int64_t mono_ms, real_offset_ms, fault_end_ms;
	bool faults, stop, verbose;
	struct heap queue;
	struct fault_mix mix;
	/* dispatcher */
	struct dispatcher d;      /* who answers; the acting one while an old one acts */
	struct dispatcher old;   /* was paused, wakes up when another leads, and does not know it */
	bool old_acts, old_refused;
	int gens;
	size_t crashes, deposed, refused, full; /* how often it happened: commits refused to an old one, or for want of space */
	/* kind of world */
	bool embedded;           /* no Nomad: looping workers only */
	bool manifests;          /* of lost attempts are looked for */
	bool scaled_groups;      /* there is an autoscaler */
	int verticals;
	unsigned window, slots;
	int group_min;           /* what their policy says */
	struct warm_group groups[VERTICALS];
	int serials;
	size_t scaled, condemned, between; /* times; condemnations; scale-ins with another dispatcher than the one that condemned */
	int64_t s3_until_ms, s3_told_ms; /* away until; since when the dispatcher knows, 0: it does not */
	int64_t unplaceable_ms;
	unsigned key_share;      /* of runs that have a key, in 1/1000 */
	struct pause_row pauses[8];
	int64_t paused_ms[8];    /* when that was written */
	size_t n_pauses;
	struct mark_row marks[VERTICALS * GROUP_MAX * 8];
	size_t n_marks;
	/* ledger */
	uint64_t epoch, max_seq;
	struct ledger_run runs[MAX_RUNS];
	size_t n_runs;
	struct request_row requests[MAX_REQUESTS];
	size_t n_requests;
	int64_t ledger_free_ms, disk_full_until_ms;
	/* outside */
	struct client_run clients[MAX_RUNS];
	size_t n_clients;
	struct child children[MAX_CHILDREN];
	size_t n_children;
	struct proc procs[MAX_PROCS];
	size_t n_procs;
	struct call *calls;
	size_t n_calls, cap_calls;
};

/* world.c: chance, time, events, history, failure */
uint64_t sim_random(struct world *w);
int64_t sim_between(struct world *w, int64_t low, int64_t high);
bool sim_chance(struct world *w, unsigned per_mille);      /* any time */
bool sim_fault(struct world *w, unsigned per_mille);       /* only while faults are on */
void sim_at(struct world *w, int64_t delay_ms, event_fn *fn, struct arg arg);
void sim_log(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void sim_fail(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sim_history(void);
struct now sim_now(const struct world *w);
const char *sim_vertical(int i);
int sim_vertical_of(const char *name);
char *sim_group(int vertical, char out[CORE_CHILD_MAX]);
void sim_run(struct world *w, uint64_t seed, uint64_t max_events);

/* ledger.c */
struct ledger_run *ledger_find(struct world *w, const char *id);
const struct mark_row *ledger_mark(const struct world *w, const char *alloc);
struct request_row *ledger_request(struct world *w, uint64_t seq);
struct ledger_run *ledger_of_client(struct world *w, struct client_run *c); /* its run, NULL: not in the ledger */
void ledger_commit(struct world *w, struct effect *e);

/* shell.c */
void shell_start(struct world *w);
void shell_crash(struct world *w);
void shell_depose(struct world *w); /* it is paused, and another takes over */
void shell_old_ends(struct world *w);
void shell_trade_places(struct world *w); /* what follows is done by the old one, until it is called again */
void shell_drain(struct world *w);
uint64_t shell_call(struct world *w, enum caller_kind kind, int who);
struct call *shell_arrived(struct world *w, uint64_t caller); /* NULL: the dispatcher is down, or a copy of a call */
void shell_gone(struct world *w, uint64_t caller);
void shell_rearm(struct world *w);

/* nomad.c */
void nomad_effect(struct world *w, const struct effect *e);
void nomad_listing(struct world *w, struct arg *arg);
void nomad_tell(struct world *w, int child, bool partial);
void nomad_tell_fact(struct world *w, struct core_child *fact); /* takes fact */
int nomad_child(struct world *w, const char *name, uint64_t seq, int vertical, enum run_class class, int run);
void nomad_proc_ended(struct world *w, int proc, bool crash, bool oom);
void nomad_chaos(struct world *w, struct arg *arg);
void nomad_heal(struct world *w);

/* workers.c */
int worker_start(struct world *w, int child, int slot);
void worker_stop(struct world *w, int proc);               /* SIGTERM */
void worker_die(struct world *w, int proc, bool oom);      /* SIGKILL */
void worker_answer(struct world *w, uint64_t caller, const struct answer *a);

/* groups.c */
char *group_alloc(int slot, int serial, char out[CORE_ALLOC_MAX]);
void group_scale(struct world *w, int v, int to, bool by_scaler);
void group_tell(struct world *w, int v); /* what the dispatcher's listing of the group says */
void groups_start(struct world *w);
void group_proc_ended(struct world *w, int proc, bool crash, bool oom);
void group_torment(struct world *w);
void groups_heal(struct world *w); /* nothing is left without a worker for good */
const char *group_restless(struct world *w);

/* scaler.c */
void scalers_start(struct world *w);
void scalers_end(struct world *w);
void scaler_answer(struct world *w, uint64_t caller, const struct answer *a);
void scaler_check_answer(struct world *w, uint64_t caller, const struct answer *a); /* as it leaves the dispatcher */

/* clients.c */
void clients_start(struct world *w);
struct client_run *client_of(struct world *w, const char *run);
void client_answer(struct world *w, uint64_t caller, const struct answer *a);
void client_submit(struct world *w, struct arg *arg);

/* rest.c: what must be true at the end, and at all times */
void check_always(struct world *w);
bool at_rest(struct world *w);
void check_rest(struct world *w);

#endif
