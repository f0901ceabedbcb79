#include "dispatcher/ledger_sqlite.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Characters of a run's history after which only its end is noted: a run that is handed back again and again would make its row,
 * which every move writes, larger and larger. */
#define MOMENTS_MAX "32768"

static const char *const sql[STATEMENTS] = {
	[STMT_BEGIN] = "BEGIN IMMEDIATE",
	[STMT_COMMIT] = "COMMIT",
	[STMT_ROLLBACK] = "ROLLBACK",
	/* Conditional on the epoch: no row changes when another process leads. */
	[STMT_MARK] = "UPDATE meta SET last_txn = ?1, last_seq = max(last_seq, ?2) WHERE epoch = ?3",
	/* Writes nothing where the target is not there, or id or key are taken: seldom, and then it is found out which. */
	[STMT_RUN_INSERT] = "INSERT OR IGNORE INTO runs (" RUN_COLUMNS ", spec, target, bundle, idem_key, idem_digest, retention_ms, moments)"
	                    " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22,"
	                    "?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?36 ->> '$.target.id',"
	                    "?36 ->> '$.bundle.sha256', ?36 ->> '$.idem.key', ?36 ->> '$.idem.digest',"
	                    "coalesce(?36 ->> '$.retention_ms', 0), ?37 WHERE EXISTS"
	                    " (SELECT 1 FROM targets WHERE id = ?36 ->> '$.target.id')",
	[STMT_RUN_UPDATE] = "UPDATE runs SET class = ?5, priority = ?7, state = ?10, attempt = ?11, fence_epoch = ?12,"
	                    "fence_seq = ?13, worker = ?14, request = ?15, failures = ?16, crashes = ?17, dead = ?18,"
	                    "fail = ?20, reason = ?21, not_before = ?23, started = ?24, finished = ?25,"
	                    "suspect = ?26, accepted_epoch = ?27, accepted_seq = ?28,"
	                    "node = coalesce(?36, node), alloc_id = coalesce(?37, alloc_id), job_id = coalesce(?38, job_id),"
	                    "detail = coalesce(?39, detail), moments = CASE WHEN length(moments) < " MOMENTS_MAX
	                    " OR ?10 >= 3 THEN moments || ?40 ELSE moments END WHERE id = ?1",
	[STMT_RUN_SPEC] = "SELECT spec FROM runs WHERE id = ?",
	[STMT_RUN_EXISTS] = "SELECT 1 FROM runs WHERE id = ?",
	[STMT_RUN_LIVE] = "SELECT 1 FROM runs WHERE id = ? AND state < 3",
	[STMT_RUN_REMOVE] = "DELETE FROM runs WHERE id = ?",
	[STMT_RUN_SETTLE] = "UPDATE runs SET dead = 0 WHERE id = ? AND state >= 3",
	[STMT_TARGET_EXISTS] = "SELECT 1 FROM targets WHERE id = ? ->> '$.target.id'",
	[STMT_REQUEST_PUT] = "INSERT INTO requests VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (seq) DO UPDATE SET"
	                     " state = ?4, child = ?5, priority = ?6, adopted = ?7",
	[STMT_PAUSE_PUT] = "INSERT OR REPLACE INTO pauses VALUES (?, ?, ?, ?, ?)",
	[STMT_PAUSE_REMOVE] = "DELETE FROM pauses WHERE kind = ? AND name = ?",
	[STMT_MARK_PUT] = "INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?, ?)",
	[STMT_MARK_REMOVE] = "DELETE FROM marks WHERE owner = ? AND alloc = ?",
	[STMT_TARGET_PUT] = "INSERT INTO targets (id, tenant, sha256, filename, size_bytes, created, expires, dated)"
	                    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO UPDATE SET"
	                    " filename = ?4, expires = max(expires, ?7), dated = max(dated, ?8)",
	[STMT_TARGET_IN_USE] = "SELECT 1 FROM runs WHERE target = ?1 AND state < 3 UNION ALL"
	                       " SELECT 1 FROM targets WHERE id = ?1 AND ?2 > 0 AND expires >= ?2",
	[STMT_TARGET_REMOVE] = "DELETE FROM targets WHERE id = ?",
	[STMT_BUNDLE_PUT] = "INSERT INTO bundles VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (sha256) DO UPDATE SET"
	                    " pushed = max(pushed, ?5)",
	[STMT_BUNDLE_UNPUSH] = "UPDATE bundles SET pushed = 0 WHERE workflow = ? AND sha256 <> ? AND pushed",
	[STMT_BUNDLE_IN_USE] = "SELECT 1 FROM runs WHERE bundle = ?",
	[STMT_BUNDLE_REMOVE] = "DELETE FROM bundles WHERE sha256 = ?",
	[STMT_RESULTS_GONE] = "UPDATE runs SET results = 0 WHERE id = ? AND finished > 0",
	[STMT_PRUNE_RUNS] = "DELETE FROM runs WHERE n IN (SELECT n FROM runs WHERE finished > 0 AND results = 0 AND finished < ?"
	                    " ORDER BY finished, n LIMIT ?)",
	[STMT_PRUNE_REQUESTS] = "DELETE FROM requests WHERE seq IN (SELECT seq FROM requests WHERE state = 4 AND created < ?"
	                        " ORDER BY created LIMIT ?)",
};

int
sqlite_prepare_writer(struct ledger_sqlite *l, struct err *e)
{
	for (size_t i = 0; i < STATEMENTS; i++)
		if (sqlite3_prepare_v3(l->writer, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &l->stmt[i], NULL) != SQLITE_OK)
			return sqlite_err(l->writer, sql[i], e);
	return 0;
}

/* --- running one statement: bind, step, reset --- */

static void
bind_text(sqlite3_stmt *s, int at, const char *text)
{
	if (text == NULL)
		sqlite3_bind_null(s, at);
	else
		sqlite3_bind_text(s, at, text, -1, SQLITE_STATIC);
}

/* Runs a statement that is bound; *ret_row (may be NULL) says whether it gave a row. The bindings are forgotten. */
static int
run_statement(struct ledger_sqlite *l, enum sqlite_statement id, bool *ret_row, struct err *e)
{
	sqlite3_stmt *s = l->stmt[id];
	int step = sqlite3_step(s), rc = 0;

	if (ret_row != NULL)
		*ret_row = step == SQLITE_ROW;
	if (step != SQLITE_ROW && step != SQLITE_DONE)
		rc = sqlite_err(l->writer, "write", e);
	sqlite3_reset(s);
	sqlite3_clear_bindings(s);
	return rc;
}

static int
run_simple(struct ledger_sqlite *l, enum sqlite_statement id, struct err *e)
{
	return run_statement(l, id, NULL, e);
}

static int
exists(struct ledger_sqlite *l, enum sqlite_statement id, const char *key, bool *ret, struct err *e)
{
	bind_text(l->stmt[id], 1, key);
	return run_statement(l, id, ret, e);
}

/* --- the core's operations --- */

static void
bind_run(sqlite3_stmt *s, const struct run_row *r)
{
	const struct run_needs *n = &r->needs;
	const int64_t numbers[][2] = {{5, n->class}, {6, n->execution}, {7, n->priority}, {8, n->timeout_ms}, {9, n->tool_retries},
		{10, r->state}, {11, r->attempt}, {12, (int64_t)r->fence.epoch}, {13, (int64_t)r->fence.seq},
		{15, (int64_t)r->request}, {16, r->failures}, {17, r->crashes}, {18, r->dead}, {19, r->adopted}, {20, r->fail},
		{22, r->created_real_ms}, {23, r->not_before_real_ms}, {24, r->started_real_ms}, {25, r->finished_real_ms},
		{26, r->suspect}, {27, (int64_t)r->accepted.epoch}, {28, (int64_t)r->accepted.seq}, {30, n->key_limit},
		{31, n->key_mode}, {32, n->max_wait_ms}, {33, n->cpu_millis}, {34, n->memory_bytes}, {35, (int64_t)n->target_key}};

	bind_text(s, 1, r->id);
	bind_text(s, 2, r->tenant);
	bind_text(s, 3, r->workflow);
	bind_text(s, 4, n->vertical);
	bind_text(s, 14, r->worker);
	bind_text(s, 21, r->reason);
	bind_text(s, 29, n->key);
	/* The update leaves out what never changes; binding a number that it does not mention does nothing. */
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sqlite3_bind_int64(s, (int)numbers[i][0], numbers[i][1]);
}

#define MOMENT_MAX (REASON_MAX + 96)

/* Binds what an operation appends to its run's history; text must live until the statement has run. */
static void
bind_moment(sqlite3_stmt *s, int at, const struct op *o, char text[MOMENT_MAX])
{
	const struct run_row *r = &o->run;

	text[0] = '\0';
	if (o->moment_real_ms != 0)
		snprintf(text, MOMENT_MAX, MOMENT_HEAD "%s", (long long)o->moment_real_ms, (unsigned)r->state, r->attempt,
		    strlen(r->reason), r->reason);
	bind_text(s, at, text);
}

static int
run_insert(struct ledger_sqlite *l, struct ledger_txn *t, const struct ledger_op *o, struct err *e)
{
	sqlite3_stmt *s = l->stmt[STMT_RUN_INSERT];
	char moment[MOMENT_MAX];
	bool found = false;
	int rc;

	bind_run(s, &o->core->run);
	bind_text(s, RUN_COLUMNS_N + 1, o->core->spec);
	bind_moment(s, RUN_COLUMNS_N + 2, o->core, moment);
	if ((rc = run_simple(l, STMT_RUN_INSERT, e)) != 0 || sqlite3_changes(l->writer) > 0)
		return rc;
	rc = exists(l, STMT_TARGET_EXISTS, o->core->spec, &found, e);
	t->result = found ? LEDGER_DUPLICATE : LEDGER_MISSING;
	return rc;
}

static int
run_update(struct ledger_sqlite *l, struct ledger_txn *t, const struct ledger_op *o, struct err *e)
{
	sqlite3_stmt *s = l->stmt[STMT_RUN_UPDATE];
	char moment[MOMENT_MAX];
	int rc;

	bind_run(s, &o->core->run);
	bind_text(s, RUN_COLUMNS_N + 1, o->node);
	bind_text(s, RUN_COLUMNS_N + 2, o->alloc_id);
	bind_text(s, RUN_COLUMNS_N + 3, o->job_id);
	bind_text(s, RUN_COLUMNS_N + 4, o->detail);
	bind_moment(s, RUN_COLUMNS_N + 5, o->core, moment);
	if ((rc = run_simple(l, STMT_RUN_UPDATE, e)) != 0)
		return rc;
	if (sqlite3_changes(l->writer) == 0)
		return err_set(e, ERR_IO, "ledger: run %s is not there", o->core->run.id);
	if (!o->core->want_spec)
		return 0;
	assert(t->n_specs < LEDGER_SPECS_MAX);
	s = l->stmt[STMT_RUN_SPEC];
	bind_text(s, 1, o->core->run.id);
	if (sqlite3_step(s) == SQLITE_ROW)
		t->specs[t->n_specs++] = xstrdup((const char *)sqlite3_column_text(s, 0));
	else
		rc = sqlite_err(l->writer, "read a run", e);
	sqlite3_reset(s);
	return rc;
}

static int
request_put(struct ledger_sqlite *l, struct ledger_txn *t, const struct ledger_op *o, struct err *e)
{
	sqlite3_stmt *s = l->stmt[STMT_REQUEST_PUT];
	const struct request_row *r = &o->core->req;

	(void)t;
	sqlite3_bind_int64(s, 1, (int64_t)r->seq);
	bind_text(s, 2, r->vertical);
	sqlite3_bind_int(s, 3, r->class);
	sqlite3_bind_int(s, 4, r->state);
	bind_text(s, 5, r->child);
	sqlite3_bind_int(s, 6, r->priority);
	sqlite3_bind_int(s, 7, r->adopted);
	sqlite3_bind_int64(s, 8, r->created_real_ms);
	return run_simple(l, STMT_REQUEST_PUT, e);
}

static int
pause_put(struct ledger_sqlite *l, struct ledger_txn *t, const struct ledger_op *o, struct err *e)
{
	sqlite3_stmt *s = l->stmt[STMT_PAUSE_PUT];
	const struct pause_row *p = &o->core->pause;

	(void)t;
	sqlite3_bind_int(s, 1, p->kind);
	bind_text(s, 2, p->name);
	bind_text(s, 3, p->who);
	bind_text(s, 4, p->reason);
	sqlite3_bind_int64(s, 5, p->since_real_ms);
	return run_simple(l, STMT_PAUSE_PUT, e);
}

static int
pause_remove(struct ledger_sqlite *l, struct ledger_txn *t, const struct ledger_op *o, struct err *e)
{
	sqlite3_stmt *s = l->stmt[STMT_PAUSE_REMOVE];

	(void)t;
	sqlite3_bind_int(s, 1, o->core->pause.kind);
	bind_text(s, 2, o->core->pause.name);
	return run_simple(l, STMT_PAUSE_REMOVE, e);
}

static int
mark_put(struct ledger_sqlite *l, struct ledger_txn *t, const struct ledger_op *o, struct err *e)
{
	sqlite3_stmt *s = l->stmt[STMT_MARK_PUT];
	const struct mark_row *m = &o->core->mark;

	(void)t;
	bind_text(s, 1, m->owner);
	bind_text(s, 2, m->alloc);
	bind_text(s, 3, m->vertical);
	sqlite3_bind_int(s, 4, m->index);
	sqlite3_bind_int64(s, 5, (int64_t)m->version);
	sqlite3_bind_int64(s, 6, m->ttl_ms);
	return run_simple(l, STMT_MARK_PUT, e);
}

static int
mark_remove(struct ledger_sqlite *l, struct ledger_txn *t, const struct ledger_op *o, struct err *e)
{
	sqlite3_stmt *s = l->stmt[STMT_MARK_REMOVE];

	(void)t;
	bind_text(s, 1, o->core->mark.owner);
	bind_text(s, 2, o->core->mark.alloc);
	return run_simple(l, STMT_MARK_REMOVE, e);
}

static int
core_op(struct ledger_sqlite *l, struct ledger_txn *t, const struct ledger_op *o, struct err *e)
{
	static int (*const by_kind[])(struct ledger_sqlite *, struct ledger_txn *, const struct ledger_op *, struct err *) = {
		[OP_RUN_INSERT] = run_insert, [OP_RUN_UPDATE] = run_update, [OP_REQ_INSERT] = request_put,
		[OP_REQ_UPDATE] = request_put, [OP_PAUSE_PUT] = pause_put, [OP_PAUSE_REMOVE] = pause_remove,
		[OP_MARK_PUT] = mark_put, [OP_MARK_REMOVE] = mark_remove,
	};

	return by_kind[o->core->kind](l, t, o, e);
}

/* --- the shell's operations --- */

static int
target_put(struct ledger_sqlite *l, struct ledger_txn *t, const struct ledger_op *o, struct err *e)
{
	sqlite3_stmt *s = l->stmt[STMT_TARGET_PUT];

	(void)t;
	bind_text(s, 1, o->target->id);
	bind_text(s, 2, o->target->tenant);
	bind_text(s, 3, o->target->sha256);
	bind_text(s, 4, o->target->filename);
	sqlite3_bind_int64(s, 5, o->target->size_bytes);
	sqlite3_bind_int64(s, 6, o->target->created_real_ms);
	sqlite3_bind_int64(s, 7, o->target->expires_real_ms);
	sqlite3_bind_int64(s, 8, o->target->dated_real_ms);
	return run_simple(l, STMT_TARGET_PUT, e);
}

static int
remove_unused(struct ledger_sqlite *l, struct ledger_txn *t, enum sqlite_statement in_use, enum sqlite_statement remove,
    const char *key, struct err *e)
{
	bool used;
	int rc = exists(l, in_use, key, &used, e);

	if (rc != 0)
		return rc;
	if (used) {
		t->result = LEDGER_IN_USE;
		return 0;
	}
	bind_text(l->stmt[remove], 1, key);
	return run_simple(l, remove, e);
}

static int
target_remove(struct ledger_sqlite *l, struct ledger_txn *t, const struct ledger_op *o, struct err *e)
{
	sqlite3_bind_int64(l->stmt[STMT_TARGET_IN_USE], 2, o->before_real_ms);
	return remove_unused(l, t, STMT_TARGET_IN_USE, STMT_TARGET_REMOVE, o->target->id, e);
}

static int
bundle_remove(struct ledger_sqlite *l, struct ledger_txn *t, const struct ledger_op *o, struct err *e)
{
	return remove_unused(l, t, STMT_BUNDLE_IN_USE, STMT_BUNDLE_REMOVE, o->bundle->sha256, e);
}

static int
bundle_put(struct ledger_sqlite *l, struct ledger_txn *t, const struct ledger_op *o, struct err *e)
{
	sqlite3_stmt *s = l->stmt[STMT_BUNDLE_PUT];
	int rc;

	(void)t;
	bind_text(s, 1, o->bundle->sha256);
	bind_text(s, 2, o->bundle->workflow);
	sqlite3_bind_int64(s, 3, o->bundle->size_bytes);
	sqlite3_bind_int64(s, 4, o->bundle->created_real_ms);
	sqlite3_bind_int(s, 5, o->bundle->pushed);
	bind_text(s, 6, o->bundle->metadata);
	if ((rc = run_simple(l, STMT_BUNDLE_PUT, e)) != 0 || !o->bundle->pushed)
		return rc;
	s = l->stmt[STMT_BUNDLE_UNPUSH];
	bind_text(s, 1, o->bundle->workflow);
	bind_text(s, 2, o->bundle->sha256);
	return run_simple(l, STMT_BUNDLE_UNPUSH, e);
}

static int
results_gone(struct ledger_sqlite *l, struct ledger_txn *t, const struct ledger_op *o, struct err *e)
{
	(void)t;
	bind_text(l->stmt[STMT_RESULTS_GONE], 1, o->run);
	return run_simple(l, STMT_RESULTS_GONE, e);
}

static int
run_remove(struct ledger_sqlite *l, struct ledger_txn *t, const struct ledger_op *o, struct err *e)
{
	return remove_unused(l, t, STMT_RUN_LIVE, STMT_RUN_REMOVE, o->run, e);
}

static int
run_settle(struct ledger_sqlite *l, struct ledger_txn *t, const struct ledger_op *o, struct err *e)
{
	(void)t;
	bind_text(l->stmt[STMT_RUN_SETTLE], 1, o->run);
	return run_simple(l, STMT_RUN_SETTLE, e);
}

static int
prune(struct ledger_sqlite *l, enum sqlite_statement id, const struct ledger_op *o, struct err *e)
{
	sqlite3_bind_int64(l->stmt[id], 1, o->before_real_ms);
	sqlite3_bind_int64(l->stmt[id], 2, (int64_t)o->limit);
	return run_simple(l, id, e);
}

static int
prune_runs(struct ledger_sqlite *l, struct ledger_txn *t, const struct ledger_op *o, struct err *e)
{
	(void)t;
	return prune(l, STMT_PRUNE_RUNS, o, e);
}

static int
prune_requests(struct ledger_sqlite *l, struct ledger_txn *t, const struct ledger_op *o, struct err *e)
{
	(void)t;
	return prune(l, STMT_PRUNE_REQUESTS, o, e);
}

static int (*const op_table[LEDGER_OPS])(struct ledger_sqlite *, struct ledger_txn *, const struct ledger_op *, struct err *) = {
	[LEDGER_CORE] = core_op, [LEDGER_TARGET_PUT] = target_put, [LEDGER_TARGET_REMOVE] = target_remove,
	[LEDGER_BUNDLE_PUT] = bundle_put, [LEDGER_BUNDLE_REMOVE] = bundle_remove,
	[LEDGER_RUN_REMOVE] = run_remove, [LEDGER_RUN_SETTLE] = run_settle, [LEDGER_RESULTS_GONE] = results_gone,
	[LEDGER_PRUNE_RUNS] = prune_runs, [LEDGER_PRUNE_REQUESTS] = prune_requests,
};

/* --- transactions --- */

static void
txn_clear(struct ledger_txn *t)
{
	while (t->n_specs > 0)
		free(t->specs[--t->n_specs]);
	t->result = LEDGER_OK;
	t->err.code = 0;
}

/* Runs the operations of one transaction. A refusal at the first operation has written nothing; one at a later operation cannot
 * be left out of a group: ERR_CONFLICT, and the caller rolls back. */
static int
txn_run(struct ledger_sqlite *l, struct ledger_txn *t, struct err *e)
{
	int rc = 0;

	txn_clear(t);
	for (size_t i = 0; rc == 0 && t->result == LEDGER_OK && i < t->n_ops; i++) {
		rc = op_table[t->ops[i].kind](l, t, &t->ops[i], e);
		if (rc == 0 && t->result != LEDGER_OK && i > 0)
			rc = err_set(e, ERR_CONFLICT, "ledger: refused");
	}
	return rc;
}

static uint64_t
highest_seq(const struct ledger_txn *t)
{
	uint64_t high = 0;

	for (size_t i = 0; i < t->n_ops; i++) {
		const struct op *o = t->ops[i].kind == LEDGER_CORE ? t->ops[i].core : NULL;
		bool run = o != NULL && (o->kind == OP_RUN_INSERT || o->kind == OP_RUN_UPDATE);
		bool request = o != NULL && (o->kind == OP_REQ_INSERT || o->kind == OP_REQ_UPDATE);
		uint64_t seq = run ? o->run.fence.seq : request ? o->req.seq : 0;

		if (seq > high)
			high = seq;
	}
	return high;
}

/* Notes number and epoch of the group. ERR_DENIED: another process leads. */
static int
mark(struct ledger_sqlite *l, uint64_t number, uint64_t seq, struct err *e)
{
	sqlite3_stmt *s = l->stmt[STMT_MARK];
	int rc;

	sqlite3_bind_int64(s, 1, (int64_t)number);
	sqlite3_bind_int64(s, 2, (int64_t)seq);
	sqlite3_bind_int64(s, 3, (int64_t)l->base.epoch);
	rc = run_simple(l, STMT_MARK, e);
	if (rc == 0 && sqlite3_changes(l->writer) == 0)
		rc = err_set(e, ERR_DENIED, "ledger: another dispatcher has taken the leadership");
	return rc;
}

/* Writes a group inside one transaction. On failure it is rolled back; *ret_unknown: not known to be. */
static int
group_write(struct ledger_sqlite *l, struct ledger_txn **txns, size_t n, bool *ret_unknown, struct err *e)
{
	uint64_t seq = 0;
	int rc;

	*ret_unknown = false;
	if ((rc = run_simple(l, STMT_BEGIN, e)) != 0)
		return rc;
	for (size_t i = 0; rc == 0 && i < n; i++) {
		uint64_t high = highest_seq(txns[i]);

		rc = txn_run(l, txns[i], e);
		seq = high > seq ? high : seq;
	}
	if (rc == 0)
		rc = mark(l, txns[n - 1]->number, seq, e);
	if (rc == 0 && (rc = run_simple(l, STMT_COMMIT, e)) != 0)
		*ret_unknown = sqlite3_get_autocommit(l->writer) != 0;
	if (rc != 0 && !sqlite3_get_autocommit(l->writer)) {
		struct err ignored;

		run_simple(l, STMT_ROLLBACK, &ignored);
	}
	return rc;
}

/* Where the outcome is unknown, refusals stand (they wrote nothing either way), and specs are kept for when it is settled. */
static void
group_fail(struct ledger_txn **txns, size_t n, enum ledger_result result, const struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		if (result != LEDGER_UNKNOWN)
			txn_clear(txns[i]);
		else if (txns[i]->result != LEDGER_OK)
			continue;
		txns[i]->result = result;
		txns[i]->err = *e;
	}
}

/* A group whose last member was refused has done its work for nothing; alone, its result is what counts. */
static int
one_write(struct ledger_sqlite *l, struct ledger_txn *t, struct err *e)
{
	enum ledger_result refused;
	bool unknown;
	int rc = group_write(l, &t, 1, &unknown, e);

	refused = t->result;
	if (rc == 0)
		return 0;
	group_fail(&t, 1, rc == ERR_CONFLICT ? refused : unknown ? LEDGER_UNKNOWN : LEDGER_FAILED, e);
	return rc == ERR_CONFLICT ? 0 : rc;
}

int
sqlite_commit(struct ledger *base, struct ledger_txn **txns, size_t n, struct err *e)
{
	struct ledger_sqlite *l = (struct ledger_sqlite *)base;
	bool unknown;
	int rc = group_write(l, txns, n, &unknown, e), first = 0;

	if (rc == 0)
		return 0;
	if (rc == ERR_DENIED || unknown || (n == 1 && rc != ERR_CONFLICT)) {
		group_fail(txns, n, unknown ? LEDGER_UNKNOWN : LEDGER_FAILED, e);
		return rc == ERR_DENIED ? ERR_CONFLICT : rc;
	}
	for (size_t i = 0; i < n; i++) {
		struct err one = {0};

		rc = one_write(l, txns[i], &one);
		if (rc != 0 && first == 0) {
			first = rc;
			*e = one;
		}
		if (txns[i]->result == LEDGER_UNKNOWN) { /* the last number settles it only as long as nothing is written after it */
			group_fail(txns + i + 1, n - i - 1, LEDGER_FAILED, &one);
			break;
		}
	}
	return first == ERR_DENIED ? ERR_CONFLICT : first;
}

int
sqlite_last_number(struct ledger *base, uint64_t *ret, struct err *e)
{
	struct ledger_sqlite *l = (struct ledger_sqlite *)base;
	sqlite3_stmt *s = NULL;
	int rc = 0;

	if (sqlite3_prepare_v2(l->writer, "SELECT last_txn FROM meta WHERE epoch = ?", -1, &s, NULL) != SQLITE_OK) {
		rc = sqlite_err(l->writer, "read back", e);
	} else {
		int step;

		sqlite3_bind_int64(s, 1, (int64_t)l->base.epoch);
		step = sqlite3_step(s);
		if (step == SQLITE_ROW)
			*ret = (uint64_t)sqlite3_column_int64(s, 0);
		else
			rc = step == SQLITE_DONE ? err_set(e, ERR_CONFLICT, "ledger: another dispatcher leads")
			                         : sqlite_err(l->writer, "read back", e);
	}
	sqlite3_finalize(s);
	return rc;
}
