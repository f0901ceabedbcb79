/* ledger.h - where runs, requests, targets and bundles are durable: one interface, a backend per database.
 *
 * A backend is blocking. Writes come from one thread (ledger_queue.h), which commits many transactions as one; reads may come
 * from any thread at the same time and see what was committed before they began. One contract test suite (tests/contract)
 * holds for every backend.
 *
 * Every commit is conditional on the epoch that this process raised when it opened the ledger: a dispatcher that was deposed
 * can write nothing any more.
 */
#ifndef DISPATCHER_LEDGER_H
#define DISPATCHER_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "dispatcher/core/core.h"

#define LEDGER_FILENAME_MAX 256
#define LEDGER_SPECS_MAX CORE_OPS_MAX
#define LEDGER_LABEL_MAX 192 /* "k=v" of a filter, with NUL */

struct ledger_target {
	char id[TARGET_ID_MAX];
	char tenant[TENANT_NAME_MAX];
	char sha256[SHA256_HEX_LEN];
	char filename[LEDGER_FILENAME_MAX]; /* as the client named it, UTF-8; "" none */
	int64_t size_bytes;
	int64_t created_real_ms, expires_real_ms;
	int64_t dated_real_ms; /* of the object: when it was stored or last copied onto itself */
};

struct ledger_bundle {
	char sha256[SHA256_HEX_LEN];
	char workflow[WORKFLOW_NAME_MAX];
	int64_t size_bytes;
	int64_t created_real_ms;
	bool pushed;    /* the workflow's current bundle came by push: it replaces the folder's */
	char *metadata; /* text of metadata.yaml */
};

struct ledger_run {
	struct run_row row;
	uint64_t n;     /* rises in the order of insertion */
	char node[64], alloc_id[40], job_id[CORE_CHILD_MAX]; /* of the current or last attempt, "" none */
	char *spec;     /* JSON, as inserted */
	char *detail;   /* JSON of the last report; NULL before one */
	int64_t retention_ms; /* of its results, after its end, as the spec asks ("/retention_ms"); 0: the dispatcher's setting */
	bool results_gone;    /* they were removed */
};

struct ledger_usage { /* what one tenant has in the store, as far as rows tell */
	char tenant[TENANT_NAME_MAX];
	int64_t targets, bytes; /* of targets */
	int64_t runs;           /* that are over and have their results */
};

struct ledger_moment { /* one line of a run's history */
	int64_t at_real_ms;
	enum run_state state;
	unsigned attempt;
	char reason[REASON_MAX];
};

struct ledger_filter {
	const char *tenant, *workflow, *vertical, *target; /* NULL: any */
	unsigned states;            /* bit per enum run_state; 0: any */
	const char *label_key, *label_value; /* NULL: any */
	int64_t since_real_ms, until_real_ms; /* of creation; 0: open */
	bool dead;                  /* only runs that were given up after retries and nobody has seen to since */
	uint64_t before;            /* runs with a smaller n only; 0: from the newest */
	size_t limit;
};

/* --- writing --- */

enum ledger_op_kind {
	LEDGER_CORE,          /* `core` says what; an inserted run's spec names its target ("/target/id") and its idempotency key
	                       * ("/idem/key", "/idem/digest"), which the ledger keeps unique per tenant */
	LEDGER_TARGET_PUT,    /* insert, or renew expiry and name */
	LEDGER_TARGET_REMOVE, /* `target->id`, unless a live run needs it or, with before_real_ms > 0, it was renewed to expire
	                       * at that time or later: LEDGER_IN_USE */
	LEDGER_BUNDLE_PUT,    /* insert; a pushed one becomes its workflow's only pushed one */
	LEDGER_BUNDLE_REMOVE, /* `bundle->sha256`, unless a run refers to it: LEDGER_IN_USE */
	LEDGER_RESULTS_GONE,  /* notes that the results of `run` are removed */
	LEDGER_RUN_REMOVE,    /* final run `run` and its history; one that is not there is fine. LEDGER_IN_USE: it is not final */
	LEDGER_RUN_SETTLE,    /* final run `run` is not dead any more: somebody has seen to it */
	LEDGER_PRUNE_RUNS,    /* runs that finished before `before_real_ms` and whose results are gone, at most `limit` */
	LEDGER_PRUNE_REQUESTS, /* requests that are done and were made before `before_real_ms`, at most `limit` of them */
	LEDGER_OPS
};

struct ledger_op {
	enum ledger_op_kind kind;
	const struct op *core;
	const char *node, *alloc_id, *job_id; /* with RUN_UPDATE: NULL leaves them */
	const char *detail;                   /* with RUN_UPDATE: NULL leaves it */
	const struct ledger_target *target;
	const struct ledger_bundle *bundle;
	const char *run;
	int64_t before_real_ms;
	size_t limit;
};

enum ledger_result {
	LEDGER_OK,
	LEDGER_FAILED,    /* nothing was written; err says why */
	LEDGER_UNKNOWN,   /* the database broke while committing: to be read back */
	LEDGER_DUPLICATE, /* nothing written: run id or idempotency key is taken */
	LEDGER_MISSING,   /* nothing written: the run's target is not there */
	LEDGER_IN_USE,    /* nothing written */
};

struct ledger_txn {
	uint64_t number;       /* > 0, rises over this process's life; given by the queue */
	struct ledger_op *ops; /* not owned */
	size_t n_ops;
	enum ledger_result result;
	struct err err;
	char *specs[LEDGER_SPECS_MAX]; /* of RUN_UPDATEs with want_spec, in order; owned by whoever gets the result */
	size_t n_specs;
};

struct ledger;

struct ledger_ops { /* one table per backend; callers use the functions below */
	int (*commit)(struct ledger *l, struct ledger_txn **txns, size_t n, struct err *e);
	int (*last_number)(struct ledger *l, uint64_t *ret, struct err *e);
	int (*restore)(struct ledger *l, void (*run)(void *arg, const struct run_row *row),
	    void (*request)(void *arg, const struct request_row *row), void *arg, struct err *e);
	int (*pauses)(struct ledger *l, void (*each)(void *arg, const struct pause_row *row), void *arg, struct err *e);
	int (*marks)(struct ledger *l, void (*each)(void *arg, const struct mark_row *row), void *arg, struct err *e);
	int (*run_find)(struct ledger *l, const char *prefix, const char *tenant, struct ledger_run *ret, struct err *e);
	int (*run_by_key)(struct ledger *l, const char *tenant, const char *key, char id[RUN_ID_MAX],
	    char digest[SHA256_HEX_LEN], struct err *e);
	int (*runs)(struct ledger *l, const struct ledger_filter *f, int (*each)(void *arg, const struct ledger_run *run),
	    void *arg, struct err *e);
	int (*history)(struct ledger *l, const char *run, int (*each)(void *arg, const struct ledger_moment *m), void *arg,
	    struct err *e);
	int (*target_find)(struct ledger *l, const char *prefix, const char *tenant, struct ledger_target *ret, struct err *e);
	int (*targets)(struct ledger *l, const char *tenant, const char *after, size_t limit,
	    int (*each)(void *arg, const struct ledger_target *t), void *arg, struct err *e);
	int (*targets_due)(struct ledger *l, int64_t before_real_ms, size_t limit,
	    int (*each)(void *arg, const struct ledger_target *t, bool needed), void *arg, struct err *e);
	int (*runs_due)(struct ledger *l, int64_t now_real_ms, int64_t default_ms, size_t limit,
	    int (*each)(void *arg, const char *id), void *arg, struct err *e);
	int (*promises)(struct ledger *l, int64_t *ret_targets_ms, int64_t *ret_results_ms, struct err *e);
	int (*usage)(struct ledger *l, int (*each)(void *arg, const struct ledger_usage *u), void *arg, struct err *e);
	int (*bundles)(struct ledger *l, bool pushed_only, int (*each)(void *arg, const struct ledger_bundle *b, bool used),
	    void *arg, struct err *e);
	void (*free)(struct ledger *l);
};

struct ledger { /* first member of each backend's struct; constant once open */
	const struct ledger_ops *ops;
	uint64_t epoch;     /* of this leadership */
	uint64_t last_seq;  /* highest sequence number that was ever committed */
	char uuid[37];      /* made with the ledger */
	uint8_t secret[SHA256_LEN]; /* made with the ledger; keys target ids */
	bool empty;         /* when it was opened: no run, target or request, however often it was opened before */
};

/* Commits transactions in order as one: all of them or, where one cannot be, each for itself. Every result (and err, specs) is
 * set. A transaction that is a DUPLICATE, MISSING or IN_USE is left out and does not disturb the others; behind one that is UNKNOWN
 * nothing is written. Returns 0; or ERR_IO (all FAILED, or all UNKNOWN; of those committed each for itself, some); or ERR_CONFLICT:
 * another process has raised the epoch, this one must stop (all FAILED). */
int ledger_commit(struct ledger *l, struct ledger_txn **txns, size_t n, struct err *e);

/* The number of the last transaction of this epoch that is in the ledger, 0 none: settles an UNKNOWN. Writing thread. */
int ledger_last_number(struct ledger *l, uint64_t *ret, struct err *e);

/* Hands over every run that is not final, oldest first, and every request that is not done. */
int ledger_restore(struct ledger *l, void (*run)(void *arg, const struct run_row *row),
    void (*request)(void *arg, const struct request_row *row), void *arg, struct err *e);

/* Hands over every pause / every allocation that is condemned. */
int ledger_pauses(struct ledger *l, void (*each)(void *arg, const struct pause_row *row), void *arg, struct err *e);
int ledger_marks(struct ledger *l, void (*each)(void *arg, const struct mark_row *row), void *arg, struct err *e);

/* The only run whose id begins with prefix and that the tenant (NULL: any) may see. ERR_NOTFOUND, or ERR_CONFLICT with some
 * of the matches in the message. Free its texts with ledger_run_release. */
int ledger_run_find(struct ledger *l, const char *prefix, const char *tenant, struct ledger_run *ret, struct err *e);
void ledger_run_release(struct ledger_run *r);

/* The run that was submitted under an idempotency key, and the digest of its submission. ERR_NOTFOUND. */
int ledger_run_by_key(struct ledger *l, const char *tenant, const char *key, char id[RUN_ID_MAX],
    char digest[SHA256_HEX_LEN], struct err *e);

/* Calls each for up to f->limit runs, newest first; each returns 0 to go on. The run is valid during the call only. */
int ledger_runs(struct ledger *l, const struct ledger_filter *f, int (*each)(void *arg, const struct ledger_run *run), void *arg,
    struct err *e);

/* Calls each for every line of a run's history, oldest first. Of a history of some 32 KiB only the end is noted after that. */
int ledger_history(struct ledger *l, const char *run, int (*each)(void *arg, const struct ledger_moment *m), void *arg,
    struct err *e);

/* The only target whose id (or, of 64 digits, whose SHA-256) begins with prefix and that the tenant (NULL: any) may see.
 * ERR_NOTFOUND, ERR_CONFLICT. */
int ledger_target_find(struct ledger *l, const char *prefix, const char *tenant, struct ledger_target *ret, struct err *e);

/* Targets by id, after `after` ("" from the first). */
int ledger_targets(struct ledger *l, const char *tenant, const char *after, size_t limit,
    int (*each)(void *arg, const struct ledger_target *t), void *arg, struct err *e);

/* Targets that expire before a time, those first that are needed, which means that a live run refers to it. */
int ledger_targets_due(struct ledger *l, int64_t before_real_ms, size_t limit,
    int (*each)(void *arg, const struct ledger_target *t, bool needed), void *arg, struct err *e);

/* Runs that have results whose time is over: their own, or default_ms after their end. Those first whose time ended first. */
int ledger_runs_due(struct ledger *l, int64_t now_real_ms, int64_t default_ms, size_t limit,
    int (*each)(void *arg, const char *id), void *arg, struct err *e);

/* The longest times for which objects are promised now, counted from their dates: of targets, and of results of runs that ask for a
 * time of their own. 0: none. The buckets' rules must not be shorter. */
int ledger_promises(struct ledger *l, int64_t *ret_targets_ms, int64_t *ret_results_ms, struct err *e);

/* What each tenant has stored; walks all rows. */
int ledger_usage(struct ledger *l, int (*each)(void *arg, const struct ledger_usage *u), void *arg, struct err *e);

/* Bundles, oldest first; used: a run refers to it. */
int ledger_bundles(struct ledger *l, bool pushed_only, int (*each)(void *arg, const struct ledger_bundle *b, bool used), void *arg,
    struct err *e);

/* Closes; no thread may use it any more. NULL is allowed. */
void ledger_free(struct ledger *l);

/* --- backends --- */

/* Opens (creating) an SQLite ledger: directory/ledger.db, one process at a time by a lock file beside it. ERR_CONFLICT: another
 * dispatcher has it; ERR_INVALID: it was written by a newer version or is damaged; ERR_IO. */
int ledger_sqlite_open(const char *directory, struct ledger **ret, struct err *e);

#endif
