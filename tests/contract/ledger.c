/* Contract of the ledger: what every backend must do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ledger_rig.h"

static void
identity_is_made_once_and_the_epoch_rises(void **state)
{
	struct fixture *f = *state;
	struct ledger first = *f->l;

	assert_true(first.empty);
	assert_int_equal(first.epoch, 1);
	reopen(f);
	assert_true(f->l->empty); /* opening it again writes nothing that counts */
	assert_int_equal(f->l->epoch, 2);
	assert_string_equal(f->l->uuid, first.uuid);
	assert_memory_equal(f->l->secret, first.secret, sizeof(first.secret));
}

static void
one_process_at_a_time(void **state)
{
	struct fixture *f = *state;
	struct ledger *second = NULL;
	struct err e = {0};

	assert_int_equal(ledger_sqlite_open(f->dir, &second, &e), ERR_CONFLICT);
	assert_null(second);
}

static void
a_run_is_kept_with_every_column(void **state)
{
	struct fixture *f = *state;
	struct op o = run_op(OP_RUN_UPDATE, "echo-0000000000000001", RUN_RUNNING);
	struct ledger_op op = {.kind = LEDGER_CORE, .core = &o, .node = "n1", .alloc_id = "a1", .job_id = "j1", .detail = "{}"};
	struct ledger_run r;
	struct ledger_txn t;
	struct err e = {0};

	put_target(f, TARGET, 5000);
	assert_int_equal(insert(f, o.run.id, TARGET, NULL), LEDGER_OK);
	o.run.attempt = 2;
	o.run.fence = (struct fence){7, 99};
	o.run.failures = 3;
	o.run.crashes = 1;
	o.run.dead = o.run.suspect = true;
	o.run.accepted = (struct fence){6, 98};
	o.run.fail = FAIL_LOST;
	o.run.needs.class = CLASS_LARGE;
	o.run.started_real_ms = 4000;
	snprintf(o.run.worker, sizeof(o.run.worker), "w1");
	snprintf(o.run.reason, sizeof(o.run.reason), "why");
	o.want_spec = true;
	t = commit_op(f, &op);
	assert_int_equal(t.result, LEDGER_OK);
	assert_int_equal(t.n_specs, 1);
	assert_non_null(strstr(t.specs[0], TARGET));
	free(t.specs[0]);
	reopen(f);
	assert_false(f->l->empty);
	assert_int_equal(f->l->last_seq, 99);
	assert_int_equal(ledger_run_find(f->l, o.run.id, "red", &r, &e), 0);
	assert_int_equal(r.row.state, RUN_RUNNING);
	assert_int_equal(r.row.attempt, 2);
	assert_true(fence_equal(r.row.fence, o.run.fence));
	assert_int_equal(r.row.failures, 3);
	assert_int_equal(r.row.crashes, 1);
	assert_true(r.row.dead && r.row.suspect);
	assert_true(fence_equal(r.row.accepted, o.run.accepted));
	assert_int_equal(r.row.fail, FAIL_LOST);
	assert_int_equal(r.row.needs.class, CLASS_LARGE);
	assert_int_equal(r.row.started_real_ms, 4000);
	assert_string_equal(r.row.worker, "w1");
	assert_string_equal(r.row.reason, "why");
	assert_string_equal(r.node, "n1");
	assert_string_equal(r.detail, "{}");
	ledger_run_release(&r);
}

static void
ids_and_keys_are_unique_and_disturb_nobody(void **state)
{
	struct fixture *f = *state;
	struct op o[3] = {run_op(OP_RUN_INSERT, "echo-0000000000000002", RUN_QUEUED),
		run_op(OP_RUN_INSERT, "echo-0000000000000001", RUN_QUEUED), run_op(OP_RUN_INSERT, "echo-0000000000000003", RUN_QUEUED)};
	struct ledger_op ops[3];
	struct ledger_txn txns[3], *group[3];
	char id[RUN_ID_MAX], digest[SHA256_HEX_LEN];
	struct err e = {0};

	put_target(f, TARGET, 5000);
	assert_int_equal(insert(f, "echo-0000000000000001", TARGET, "k"), LEDGER_OK);
	assert_int_equal(insert(f, "echo-0000000000000009", TARGET, "k"), LEDGER_DUPLICATE);
	assert_int_equal(insert(f, "echo-0000000000000008", "99999999-2222-8333-8444-555555555555", NULL), LEDGER_MISSING);
	for (size_t i = 0; i < 3; i++) {
		o[i].spec = "{\"target\":{\"id\":\"" TARGET "\"}}";
		ops[i] = (struct ledger_op){.kind = LEDGER_CORE, .core = &o[i]};
		txns[i] = (struct ledger_txn){.number = ++f->number, .ops = &ops[i], .n_ops = 1};
		group[i] = &txns[i];
	}
	assert_int_equal(ledger_commit(f->l, group, 3, &e), 0);
	assert_int_equal(txns[0].result, LEDGER_OK);
	assert_int_equal(txns[1].result, LEDGER_DUPLICATE);
	assert_int_equal(txns[2].result, LEDGER_OK);
	assert_int_equal(ledger_run_by_key(f->l, "red", "k", id, digest, &e), 0);
	assert_string_equal(id, "echo-0000000000000001");
	assert_string_equal(digest, "d1");
	assert_int_equal(ledger_run_by_key(f->l, "blue", "k", id, digest, &e), ERR_NOTFOUND);
}

static void
a_transaction_is_all_or_nothing(void **state)
{
	struct fixture *f = *state;
	struct op o[2] = {{.kind = OP_REQ_INSERT, .req = {.seq = 5, .vertical = "python"}},
		run_op(OP_RUN_INSERT, "echo-0000000000000001", RUN_QUEUED)};
	struct op other = run_op(OP_RUN_INSERT, "echo-0000000000000002", RUN_QUEUED);
	struct ledger_op ops[2] = {{.kind = LEDGER_CORE, .core = &o[0]}, {.kind = LEDGER_CORE, .core = &o[1]}};
	struct ledger_op more = {.kind = LEDGER_CORE, .core = &other};
	struct ledger_txn bad = {.number = 10, .ops = ops, .n_ops = 2}, good = {.number = 11, .ops = &more, .n_ops = 1};
	struct ledger_txn *group[] = {&bad, &good};
	struct err e = {0};

	put_target(f, TARGET, 5000);
	o[1].spec = other.spec = "{\"target\":{\"id\":\"" TARGET "\"}}";
	assert_int_equal(insert(f, "echo-0000000000000001", TARGET, NULL), LEDGER_OK);
	/* Refused at its second operation: the first is undone, the neighbour stands. */
	assert_int_equal(ledger_commit(f->l, group, 2, &e), 0);
	assert_int_equal(bad.result, LEDGER_DUPLICATE);
	assert_int_equal(good.result, LEDGER_OK);
	reopen(f);
	assert_int_not_equal(f->l->last_seq, 5);
}

static void
a_deposed_writer_can_write_nothing(void **state)
{
	struct fixture *f = *state;
	struct ledger_target t = {.id = TARGET, .tenant = "red"};
	struct ledger_op op = {.kind = LEDGER_TARGET_PUT, .target = &t};
	struct ledger_txn txn = {.number = 1, .ops = &op, .n_ops = 1}, *one = &txn;
	struct err e = {0};

	f->l->epoch--; /* as if another process had raised it */
	assert_int_equal(ledger_commit(f->l, &one, 1, &e), ERR_CONFLICT);
	assert_int_equal(txn.result, LEDGER_FAILED);
	assert_int_equal(ledger_target_find(f->l, TARGET, NULL, &t, &e), ERR_NOTFOUND);
}

static void
the_last_number_settles_what_was_unknown(void **state)
{
	struct fixture *f = *state;
	struct err e = {0};
	uint64_t last = 77;

	assert_int_equal(ledger_last_number(f->l, &last, &e), 0);
	assert_int_equal(last, 0);
	put_target(f, TARGET, 5000);
	assert_int_equal(ledger_last_number(f->l, &last, &e), 0);
	assert_int_equal(last, f->number);
	reopen(f);
	assert_int_equal(ledger_last_number(f->l, &last, &e), 0);
	assert_int_equal(last, 0);
}

/* The database gives the first commit up; the next one would pass. */
static int
break_once(void *arg)
{
	return ++*(int *)arg == 1;
}

/* A later number in the ledger would say of what broke that it is there. */
static void
nothing_is_written_behind_what_is_unknown(void **state)
{
	struct fixture *f = *state;
	static const char *const ids[] = {"echo-0000000000000001", "echo-0000000000000002", "echo-0000000000000003"};
	struct op request = {.kind = OP_REQ_INSERT, .req = {.seq = 5, .vertical = "python"}}, runs[3];
	struct ledger_op ops[4];
	struct ledger_txn txns[3], *group[3];
	struct ledger_run r;
	struct err e = {0};
	uint64_t last = 0;
	int commits = 0;

	put_target(f, TARGET, 5000);
	assert_int_equal(insert(f, ids[0], TARGET, NULL), LEDGER_OK);
	ops[0] = (struct ledger_op){.kind = LEDGER_CORE, .core = &request};
	for (size_t i = 0; i < 3; i++) {
		runs[i] = run_op(OP_RUN_INSERT, ids[i], RUN_QUEUED);
		runs[i].spec = "{\"target\":{\"id\":\"" TARGET "\"}}";
		ops[i + 1] = (struct ledger_op){.kind = LEDGER_CORE, .core = &runs[i]};
		txns[i] = (struct ledger_txn){.number = ++f->number, .ops = &ops[i + 1], .n_ops = 1};
		group[i] = &txns[i];
	}
	txns[0].ops = ops; /* refused at its second operation: each is then committed for itself */
	txns[0].n_ops = 2;
	sqlite3_commit_hook(((struct ledger_sqlite *)f->l)->writer, break_once, &commits);
	assert_int_equal(ledger_commit(f->l, group, 3, &e), ERR_IO);
	assert_int_equal(txns[0].result, LEDGER_DUPLICATE);
	assert_int_equal(txns[1].result, LEDGER_UNKNOWN);
	assert_int_equal(txns[2].result, LEDGER_FAILED);
	assert_int_equal(ledger_last_number(f->l, &last, &e), 0);
	assert_true(last < txns[1].number);
	assert_int_equal(ledger_run_find(f->l, ids[1], NULL, &r, &e), ERR_NOTFOUND);
	assert_int_equal(ledger_run_find(f->l, ids[2], NULL, &r, &e), ERR_NOTFOUND);
}

static int
count(void *arg, const struct ledger_run *run)
{
	(void)run;
	++*(size_t *)arg;
	return 0;
}

static void
lists_filter(void **state)
{
	struct fixture *f = *state;
	const struct {
		struct ledger_filter filter;
		size_t want;
	} cases[] = {
		{{.limit = 10}, 3}, {{.limit = 2}, 2}, {{.limit = 10, .tenant = "red"}, 3}, {{.limit = 10, .tenant = "blue"}, 0},
		{{.limit = 10, .states = 1u << RUN_QUEUED}, 3}, {{.limit = 10, .states = 1u << RUN_FAILED}, 0},
		{{.limit = 10, .label_key = "team", .label_value = "red"}, 3}, {{.limit = 10, .label_key = "team", .label_value = "x"}, 0},
		{{.limit = 10, .before = 2}, 1}, {{.limit = 10, .target = TARGET}, 3}, {{.limit = 10, .since_real_ms = 1001}, 0},
		{{.limit = 10, .until_real_ms = 1000}, 0}, {{.limit = 10, .workflow = "echo", .vertical = "python"}, 3},
	};
	struct ledger_run r;
	struct err e = {0};

	put_target(f, TARGET, 5000);
	assert_int_equal(insert(f, "echo-0000000000000001", TARGET, NULL), LEDGER_OK);
	assert_int_equal(insert(f, "echo-0000000000000002", TARGET, NULL), LEDGER_OK);
	assert_int_equal(insert(f, "echo-1000000000000003", TARGET, NULL), LEDGER_OK);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t n = 0;

		assert_int_equal(ledger_runs(f->l, &cases[i].filter, count, &n, &e), 0);
		assert_int_equal(n, cases[i].want);
	}
	assert_int_equal(ledger_run_find(f->l, "echo-1", NULL, &r, &e), 0);
	ledger_run_release(&r);
	assert_int_equal(ledger_run_find(f->l, "echo-", NULL, &r, &e), ERR_CONFLICT);
	assert_int_equal(ledger_run_find(f->l, "echo-1", "blue", &r, &e), ERR_NOTFOUND);
}

static void
targets_in_use_stay(void **state)
{
	struct fixture *f = *state;
	struct ledger_target t = {.id = TARGET};
	struct ledger_op remove = {.kind = LEDGER_TARGET_REMOVE, .target = &t};
	struct op done = run_op(OP_RUN_UPDATE, "echo-0000000000000001", RUN_COMPLETED);
	struct ledger_op finish = {.kind = LEDGER_CORE, .core = &done};

	put_target(f, TARGET, 5000);
	assert_int_equal(insert(f, "echo-0000000000000001", TARGET, NULL), LEDGER_OK);
	assert_int_equal(commit_op(f, &remove).result, LEDGER_IN_USE);
	assert_int_equal(commit_op(f, &finish).result, LEDGER_OK);
	/* It was renewed after somebody had seen that it expires. */
	remove.before_real_ms = 5000;
	assert_int_equal(commit_op(f, &remove).result, LEDGER_IN_USE);
	remove.before_real_ms = 5001;
	assert_int_equal(commit_op(f, &remove).result, LEDGER_OK);
	put_target(f, TARGET, 5000);
	remove.before_real_ms = 0;
	assert_int_equal(commit_op(f, &remove).result, LEDGER_OK);
}

static int
note_due(void *arg, const char *id)
{
	strcat(arg, id + strlen("echo-000000000000000"));
	return 0;
}

static void
finished_runs_are_pruned(void **state)
{
	struct fixture *f = *state;
	struct op done = run_op(OP_RUN_UPDATE, "echo-0000000000000001", RUN_COMPLETED);
	struct ledger_op finish = {.kind = LEDGER_CORE, .core = &done};
	struct ledger_op prune = {.kind = LEDGER_PRUNE_RUNS, .before_real_ms = 3000, .limit = 1};
	struct ledger_filter all = {.limit = 10};
	struct ledger_run r;
	char due[8] = "";
	size_t n = 0;
	struct err e = {0};

	put_target(f, TARGET, 5000);
	assert_int_equal(insert(f, "echo-0000000000000001", TARGET, NULL), LEDGER_OK);
	assert_int_equal(insert(f, "echo-0000000000000002", TARGET, NULL), LEDGER_OK);
	assert_int_equal(insert(f, "echo-0000000000000003", TARGET, NULL), LEDGER_OK);
	for (int i = 1; i <= 3; i += 2) {
		done.run.id[strlen(done.run.id) - 1] = (char)('0' + i);
		done.run.finished_real_ms = 2500 - 100 * i;
		assert_int_equal(commit_op(f, &finish).result, LEDGER_OK);
	}
	assert_int_equal(ledger_runs_due(f->l, 3200, 1000, 10, note_due, due, &e), 0);
	assert_string_equal(due, "");
	assert_int_equal(ledger_runs_due(f->l, 4000, 1000, 10, note_due, due, &e), 0);
	assert_string_equal(due, "31"); /* number 3 finished first, and goes first */
	/* Whose results are there stays, whatever its age; a run that is not over has no end to its results. */
	assert_int_equal(commit_op(f, &prune).result, LEDGER_OK);
	for (char i = '1'; i <= '3'; i++) {
		char id[] = "echo-000000000000000?";
		struct ledger_op gone = {.kind = LEDGER_RESULTS_GONE, .run = id};

		id[strlen(id) - 1] = i;
		assert_int_equal(commit_op(f, &gone).result, LEDGER_OK);
		assert_int_equal(ledger_run_find(f->l, id, NULL, &r, &e), 0);
		assert_int_equal(r.results_gone, i != '2');
		ledger_run_release(&r);
	}
	due[0] = '\0';
	assert_int_equal(ledger_runs_due(f->l, 4000, 1000, 10, note_due, due, &e), 0);
	assert_string_equal(due, "");
	for (size_t left = 2; left >= 1; left--, n = 0) {
		assert_int_equal(commit_op(f, &prune).result, LEDGER_OK);
		assert_int_equal(ledger_runs(f->l, &all, count, &n, &e), 0);
		assert_int_equal(n, left);
	}
	assert_int_equal(commit_op(f, &prune).result, LEDGER_OK);
	assert_int_equal(ledger_run_find(f->l, "echo-0000000000000002", NULL, &r, &e), 0);
	ledger_run_release(&r);
}

static void
requests_that_are_done_are_pruned(void **state)
{
	struct fixture *f = *state;
	struct ledger_op prune = {.kind = LEDGER_PRUNE_REQUESTS, .before_real_ms = 3000, .limit = 10};
	const struct request_row rows[] = {{.seq = 1, .state = REQ_DONE, .created_real_ms = 2000},
		{.seq = 2, .state = REQ_ACTIVE, .created_real_ms = 2000}, {.seq = 3, .state = REQ_DONE, .created_real_ms = 3000}};

	for (size_t i = 0; i < 3; i++) {
		struct op o = {.kind = OP_REQ_INSERT, .req = rows[i]};
		struct ledger_op insert_op = {.kind = LEDGER_CORE, .core = &o};

		assert_int_equal(commit_op(f, &insert_op).result, LEDGER_OK);
	}
	assert_int_equal(commit_op(f, &prune).result, LEDGER_OK);
	assert_int_equal(count_rows(f, "SELECT count(*) FROM requests"), 2);
	assert_int_equal(count_rows(f, "SELECT count(*) FROM requests WHERE seq = 1"), 0);
	reopen(f);
	assert_int_equal(f->l->last_seq, 3); /* numbers are never given again */
}

static void
a_newer_schema_is_refused(void **state)
{
	struct fixture *f = *state;
	char path[300];
	sqlite3 *db = NULL;
	struct err e = {0};

	ledger_free(f->l);
	f->l = NULL;
	snprintf(path, sizeof(path), "%s/ledger.db", f->dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	assert_int_equal(ledger_sqlite_open(f->dir, &f->l, &e), ERR_INVALID);
	assert_null(f->l);
	assert_non_null(strstr(e.msg, "newer Drover (schema 99"));
	assert_true(e.hint[0] != '\0');
}

struct restored {
	size_t runs, requests;
};

static void
restored_run(void *arg, const struct run_row *row)
{
	(void)row;
	((struct restored *)arg)->runs++;
}

static void
restored_request(void *arg, const struct request_row *row)
{
	assert_string_equal(row->child, "c1");
	((struct restored *)arg)->requests++;
}

static void
what_is_not_over_is_restored(void **state)
{
	struct fixture *f = *state;
	struct op done = run_op(OP_RUN_UPDATE, "echo-0000000000000001", RUN_FAILED);
	struct op open = {.kind = OP_REQ_INSERT, .req = {.seq = 4, .vertical = "python", .state = REQ_DISPATCHED, .child = "c1"}};
	struct op over = {.kind = OP_REQ_INSERT, .req = {.seq = 3, .vertical = "python", .state = REQ_DONE}};
	struct ledger_op ops[] = {{.kind = LEDGER_CORE, .core = &done}, {.kind = LEDGER_CORE, .core = &open},
		{.kind = LEDGER_CORE, .core = &over}};
	struct restored r = {0, 0};
	struct err e = {0};

	put_target(f, TARGET, 5000);
	assert_int_equal(insert(f, "echo-0000000000000001", TARGET, NULL), LEDGER_OK);
	assert_int_equal(insert(f, "echo-0000000000000002", TARGET, NULL), LEDGER_OK);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(commit_op(f, &ops[i]).result, LEDGER_OK);
	reopen(f);
	assert_int_equal(ledger_restore(f->l, restored_run, restored_request, &r, &e), 0);
	assert_int_equal(r.runs, 1);
	assert_int_equal(r.requests, 1);
	assert_int_equal(f->l->last_seq, 4);
}

static void
what_a_submission_wants_is_kept(void **state)
{
	struct fixture *f = *state;
	char *spec = xasprintf("{\"target\": {\"id\": \"%s\"}}", TARGET);
	struct op o = run_op(OP_RUN_INSERT, "echo-0000000000000001", RUN_QUEUED);
	struct ledger_op op = {.kind = LEDGER_CORE, .core = &o};
	struct run_needs *n = &o.run.needs;
	struct ledger_run r;
	struct err e = {0};

	put_target(f, TARGET, 5000);
	o.spec = spec;
	n->key_limit = 3, n->key_mode = KEY_REPLACE, n->max_wait_ms = 1234, n->cpu_millis = 1500, n->memory_bytes = 1ll << 40;
	n->target_key = 0xfedcba9876543210u;
	snprintf(n->key, sizeof(n->key), "repo ü");
	assert_int_equal(commit_op(f, &op).result, LEDGER_OK);
	reopen(f);
	assert_int_equal(ledger_run_find(f->l, o.run.id, "red", &r, &e), 0);
	assert_memory_equal(&r.row.needs, n, sizeof(*n));
	assert_string_equal(r.spec, spec);
	ledger_run_release(&r);
	free(spec);
}

struct pauses {
	size_t n;
	struct pause_row rows[2];
};

static void
each_pause(void *arg, const struct pause_row *row)
{
	struct pauses *p = arg;

	assert_true(p->n < 2);
	p->rows[p->n++] = *row;
}

static void
pauses_are_kept_until_they_are_removed(void **state)
{
	struct fixture *f = *state;
	struct op ops[] = {{.kind = OP_PAUSE_PUT, .pause = {.kind = PAUSE_TENANT, .name = "red", .who = "me", .since_real_ms = 5}},
		{.kind = OP_PAUSE_PUT, .pause = {.kind = PAUSE_VERTICAL, .name = "red", .who = "me", .reason = "images", .since_real_ms = 6}},
		{.kind = OP_PAUSE_PUT, .pause = {.kind = PAUSE_TENANT, .name = "red", .who = "you", .reason = "again", .since_real_ms = 7}},
		{.kind = OP_PAUSE_REMOVE, .pause = {.kind = PAUSE_VERTICAL, .name = "red"}}};
	struct pauses p = {0};
	struct err e = {0};

	for (size_t i = 0; i < 4; i++) {
		struct ledger_op op = {.kind = LEDGER_CORE, .core = &ops[i]};

		assert_int_equal(commit_op(f, &op).result, LEDGER_OK);
		if (i != 2)
			continue;
		assert_int_equal(ledger_pauses(f->l, each_pause, &p, &e), 0);
		assert_true(p.n == 2 && p.rows[0].kind == PAUSE_VERTICAL);
	}
	reopen(f);
	p.n = 0;
	assert_int_equal(ledger_pauses(f->l, each_pause, &p, &e), 0);
	assert_true(p.n == 1 && p.rows[0].since_real_ms == 7 && p.rows[0].kind == PAUSE_TENANT);
	assert_string_equal(p.rows[0].who, "you");
	assert_string_equal(p.rows[0].reason, "again");
}

struct marks {
	size_t n;
	struct mark_row rows[3];
};

static void
each_mark(void *arg, const struct mark_row *row)
{
	struct marks *m = arg;

	assert_true(m->n < 3);
	m->rows[m->n++] = *row;
}

static void
marks_are_kept_until_they_are_removed(void **state)
{
	struct fixture *f = *state;
	struct op ops[] = {{.kind = OP_MARK_PUT, .mark = {"scaler", "a", "python", 4, 77, 1000}},
		{.kind = OP_MARK_PUT, .mark = {"scaler", "b", "python", -1, 77, 1000}},
		{.kind = OP_MARK_PUT, .mark = {"roll", "a", "go", 0, 1, 5}},
		{.kind = OP_MARK_PUT, .mark = {"scaler", "a", "python", 5, INT64_MAX, 2000}},
		{.kind = OP_MARK_REMOVE, .mark = {.owner = "scaler", .alloc = "b"}}};
	struct marks m = {0};
	struct err e = {0};

	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		struct ledger_op op = {.kind = LEDGER_CORE, .core = &ops[i]};

		assert_int_equal(commit_op(f, &op).result, LEDGER_OK);
	}
	reopen(f);
	assert_int_equal(ledger_marks(f->l, each_mark, &m, &e), 0);
	assert_int_equal(m.n, 2);
	assert_string_equal(m.rows[0].owner, "roll");
	assert_string_equal(m.rows[0].vertical, "go");
	assert_string_equal(m.rows[1].alloc, "a");
	assert_true(m.rows[1].index == 5 && m.rows[1].version == INT64_MAX && m.rows[1].ttl_ms == 2000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(identity_is_made_once_and_the_epoch_rises), CASE(one_process_at_a_time), CASE(a_run_is_kept_with_every_column),
		CASE(ids_and_keys_are_unique_and_disturb_nobody), CASE(a_transaction_is_all_or_nothing),
		CASE(a_deposed_writer_can_write_nothing), CASE(the_last_number_settles_what_was_unknown),
		CASE(nothing_is_written_behind_what_is_unknown), CASE(lists_filter),
		CASE(targets_in_use_stay), CASE(finished_runs_are_pruned),
		CASE(requests_that_are_done_are_pruned), CASE(a_newer_schema_is_refused), CASE(what_is_not_over_is_restored),
		CASE(what_a_submission_wants_is_kept), CASE(pauses_are_kept_until_they_are_removed), CASE(marks_are_kept_until_they_are_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
