/* ledger_sqlite.h - what the files of the SQLite ledger share. Private to them: sqlite3.h is visible here alone. */
#ifndef DISPATCHER_LEDGER_SQLITE_H
#define DISPATCHER_LEDGER_SQLITE_H

#include <pthread.h>
#include <sqlite3.h>

#include "dispatcher/ledger.h"

#define SQLITE_READERS 2

enum sqlite_statement { /* of the writer; their texts are in ledger_sqlite_write.c */
	STMT_BEGIN, STMT_COMMIT, STMT_ROLLBACK, STMT_MARK, STMT_RUN_INSERT, STMT_RUN_UPDATE, STMT_RUN_SPEC, STMT_RUN_EXISTS,
	STMT_RUN_LIVE, STMT_RUN_REMOVE, STMT_RUN_SETTLE,
	STMT_TARGET_EXISTS, STMT_REQUEST_PUT, STMT_PAUSE_PUT, STMT_PAUSE_REMOVE, STMT_MARK_PUT, STMT_MARK_REMOVE,
	STMT_TARGET_PUT, STMT_TARGET_IN_USE, STMT_TARGET_REMOVE,
	STMT_BUNDLE_PUT, STMT_BUNDLE_UNPUSH, STMT_BUNDLE_IN_USE, STMT_BUNDLE_REMOVE, STMT_RESULTS_GONE, STMT_PRUNE_RUNS,
	STMT_PRUNE_REQUESTS,
	STATEMENTS
};

struct ledger_sqlite {
	struct ledger base;
	sqlite3 *writer;
	sqlite3_stmt *stmt[STATEMENTS];
	int lock_fd;
	pthread_mutex_t mutex;         /* of `busy` */
	pthread_cond_t idle;
	sqlite3 *reader[SQLITE_READERS];
	bool busy[SQLITE_READERS];
};

/* Columns of a run, in the order that both sides use. */
#define RUN_COLUMNS \
	"id, tenant, workflow, vertical, class, execution, priority, timeout_ms, tool_retries, state, attempt, fence_epoch, " \
	"fence_seq, worker, request, failures, crashes, dead, adopted, fail, reason, created, not_before, started, finished, suspect, " \
	"accepted_epoch, accepted_seq, key, key_limit, key_mode, max_wait_ms, cpu_millis, memory_bytes, target_key"
#define RUN_COLUMNS_N 35

/* How a moment is appended to the text of column `moments`: time, state, attempt, length of the reason in bytes, reason. */
#define MOMENT_HEAD "%lld %u %u %zu "

/* Fills *e from the connection's last error; returns ERR_IO. */
int sqlite_err(sqlite3 *db, const char *what, struct err *e);

/* Prepares the writer's statements. */
int sqlite_prepare_writer(struct ledger_sqlite *l, struct err *e);

/* Creates or migrates the schema; ERR_INVALID when it is newer than this program. */
int sqlite_schema(sqlite3 *db, struct err *e);

/* The operations of struct ledger_ops. */
int sqlite_commit(struct ledger *l, struct ledger_txn **txns, size_t n, struct err *e);
int sqlite_last_number(struct ledger *l, uint64_t *ret, struct err *e);
int sqlite_restore(struct ledger *l, void (*run)(void *arg, const struct run_row *row),
    void (*request)(void *arg, const struct request_row *row), void *arg, struct err *e);
int sqlite_pauses(struct ledger *l, void (*each)(void *arg, const struct pause_row *row), void *arg, struct err *e);
int sqlite_marks(struct ledger *l, void (*each)(void *arg, const struct mark_row *row), void *arg, struct err *e);
int sqlite_run_find(struct ledger *l, const char *prefix, const char *tenant, struct ledger_run *ret, struct err *e);
int sqlite_run_by_key(struct ledger *l, const char *tenant, const char *key, char id[RUN_ID_MAX],
    char digest[SHA256_HEX_LEN], struct err *e);
int sqlite_runs(struct ledger *l, const struct ledger_filter *f, int (*each)(void *arg, const struct ledger_run *run), void *arg,
    struct err *e);
int sqlite_history(struct ledger *l, const char *run, int (*each)(void *arg, const struct ledger_moment *m), void *arg,
    struct err *e);
int sqlite_target_find(struct ledger *l, const char *prefix, const char *tenant, struct ledger_target *ret, struct err *e);
int sqlite_targets(struct ledger *l, const char *tenant, const char *after, size_t limit,
    int (*each)(void *arg, const struct ledger_target *t), void *arg, struct err *e);
int sqlite_targets_due(struct ledger *l, int64_t before_real_ms, size_t limit,
    int (*each)(void *arg, const struct ledger_target *t, bool needed), void *arg, struct err *e);
int sqlite_runs_due(struct ledger *l, int64_t now_real_ms, int64_t default_ms, size_t limit,
    int (*each)(void *arg, const char *id), void *arg, struct err *e);
int sqlite_promises(struct ledger *l, int64_t *ret_targets_ms, int64_t *ret_results_ms, struct err *e);
int sqlite_usage(struct ledger *l, int (*each)(void *arg, const struct ledger_usage *u), void *arg, struct err *e);
int sqlite_bundles(struct ledger *l, bool pushed_only, int (*each)(void *arg, const struct ledger_bundle *b, bool used), void *arg,
    struct err *e);

#endif
