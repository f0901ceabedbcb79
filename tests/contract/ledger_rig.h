/* ledger_rig.h - a ledger in a directory of its own, and what its contract tests write into it. Include after cmocka.h. */
#ifndef TESTS_CONTRACT_LEDGER_RIG_H
#define TESTS_CONTRACT_LEDGER_RIG_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "dispatcher/ledger_sqlite.h"

#define TARGET "11111111-2222-8333-8444-555555555555"

struct fixture {
	char dir[256];
	struct ledger *l;
	uint64_t number;
};

static inline int
setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	struct err e = {0};

	assert_int_equal(file_temp_dir("ledger", f->dir, sizeof(f->dir), &e), 0);
	assert_int_equal(ledger_sqlite_open(f->dir, &f->l, &e), 0);
	*state = f;
	return 0;
}

static inline int
teardown(void **state)
{
	struct fixture *f = *state;
	struct err e;

	ledger_free(f->l);
	file_remove_tree(AT_FDCWD, f->dir, &e);
	free(f);
	return 0;
}

static inline struct ledger_txn
commit_op(struct fixture *f, struct ledger_op *op)
{
	struct ledger_txn t = {.number = ++f->number, .ops = op, .n_ops = 1}, *one = &t;
	struct err e = {0};

	ledger_commit(f->l, &one, 1, &e);
	return t;
}

static inline void
put_target(struct fixture *f, const char *id, int64_t expires_real_ms)
{
	struct ledger_target t = {.size_bytes = 5, .created_real_ms = 1, .expires_real_ms = expires_real_ms, .tenant = "red"};
	struct ledger_op op = {.kind = LEDGER_TARGET_PUT, .target = &t};

	snprintf(t.id, sizeof(t.id), "%s", id);
	memset(t.sha256, 'a', 64);
	assert_int_equal(commit_op(f, &op).result, LEDGER_OK);
}

static inline struct op
run_op(enum op_kind kind, const char *id, enum run_state state)
{
	struct op o = {.kind = kind, .run = {.state = state, .created_real_ms = 1000, .needs = {.priority = 50, .timeout_ms = 9}}};

	snprintf(o.run.id, sizeof(o.run.id), "%s", id);
	snprintf(o.run.tenant, sizeof(o.run.tenant), "red");
	snprintf(o.run.workflow, sizeof(o.run.workflow), "echo");
	snprintf(o.run.needs.vertical, sizeof(o.run.needs.vertical), "python");
	return o;
}

/* Inserts a run; key may be NULL. */
static inline enum ledger_result
insert(struct fixture *f, const char *id, const char *target, const char *key)
{
	struct op o = run_op(OP_RUN_INSERT, id, RUN_QUEUED);
	struct ledger_op op = {.kind = LEDGER_CORE, .core = &o};
	enum ledger_result result;

	o.spec = xasprintf("{\"target\":{\"id\":\"%s\"},\"bundle\":{\"sha256\":\"b1\"},\"labels\":{\"team\":\"red\"}%s%s%s}", target,
	    key != NULL ? ",\"idem\":{\"digest\":\"d1\",\"key\":\"" : "", key != NULL ? key : "", key != NULL ? "\"}" : "");
	result = commit_op(f, &op).result;
	free(o.spec);
	return result;
}

static inline void
reopen(struct fixture *f)
{
	struct err e = {0};

	ledger_free(f->l);
	f->l = NULL;
	f->number = 0;
	assert_int_equal(ledger_sqlite_open(f->dir, &f->l, &e), 0);
}

static inline int64_t
count_rows(struct fixture *f, const char *sql)
{
	char path[300];
	sqlite3 *db = NULL;
	sqlite3_stmt *s = NULL;
	int64_t n = -1;

	snprintf(path, sizeof(path), "%s/ledger.db", f->dir);
	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(s), SQLITE_ROW);
	n = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	sqlite3_close(db);
	return n;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
