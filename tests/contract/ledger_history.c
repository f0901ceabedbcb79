/* Contract of the ledger: the history of a run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ledger_rig.h"

struct moments {
	size_t n;
	struct ledger_moment at[8];
};

static int
each_moment(void *arg, const struct ledger_moment *m)
{
	struct moments *all = arg;

	assert_true(all->n < 8);
	all->at[all->n++] = *m;
	return 0;
}

static struct moments
moments_of(struct fixture *f, const char *run)
{
	struct moments all = {0};
	struct err e = {0};

	assert_int_equal(ledger_history(f->l, run, each_moment, &all, &e), 0);
	return all;
}

#define NOTED_REAL_MS INT64_C(1700000000000)

/* A move with this reason, noted in the history or not. */
static void
move(struct fixture *f, const char *run, enum run_state state, unsigned attempt, const char *reason, bool moment)
{
	struct op o = run_op(OP_RUN_UPDATE, run, state);
	struct ledger_op op = {.kind = LEDGER_CORE, .core = &o};

	o.moment_real_ms = moment ? NOTED_REAL_MS + attempt : 0;
	o.run.attempt = attempt;
	snprintf(o.run.reason, sizeof(o.run.reason), "%s", reason);
	assert_int_equal(commit_op(f, &op).result, LEDGER_OK);
}

static void
moments_are_kept_in_order_whatever_their_reasons_hold(void **state)
{
	struct fixture *f = *state;
	static const char *const reasons[] = {"", " 1 2 3 4 ", "two\nlines, ümläut, '\"", "12 7 1 3 abc"};
	char longest[REASON_MAX];
	struct moments all;

	put_target(f, TARGET, 5000);
	assert_int_equal(insert(f, "echo-0000000000000001", TARGET, NULL), LEDGER_OK);
	assert_int_equal(insert(f, "echo-0000000000000002", TARGET, NULL), LEDGER_OK);
	for (unsigned i = 0; i < 4; i++)
		move(f, "echo-0000000000000001", RUN_RUNNING, i + 1, reasons[i], true);
	move(f, "echo-0000000000000001", RUN_RUNNING, 4, "offered again", false);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	move(f, "echo-0000000000000001", RUN_COMPLETED, 4, longest, true);
	all = moments_of(f, "echo-0000000000000001");
	assert_int_equal(all.n, 5);
	for (unsigned i = 0; i < 4; i++) {
		assert_true(all.at[i].state == RUN_RUNNING && all.at[i].attempt == i + 1 && all.at[i].at_real_ms == NOTED_REAL_MS + i + 1);
		assert_string_equal(all.at[i].reason, reasons[i]);
	}
	assert_int_equal(all.at[4].state, RUN_COMPLETED);
	assert_string_equal(all.at[4].reason, longest);
	assert_int_equal(moments_of(f, "echo-0000000000000002").n, 0);
	assert_int_equal(moments_of(f, "echo-none").n, 0);
}

static int
count_moment(void *arg, const struct ledger_moment *m)
{
	struct moments *all = arg;

	all->n++;
	all->at[0] = *m;
	return 0;
}

/* A run may be handed back without end: its row must not grow with it, and how it ended is told all the same. */
static void
a_history_without_end_is_cut_but_for_its_end(void **state)
{
	struct fixture *f = *state;
	char reason[REASON_MAX];
	struct moments all = {0};
	struct err e = {0};

	put_target(f, TARGET, 5000);
	assert_int_equal(insert(f, "echo-0000000000000001", TARGET, NULL), LEDGER_OK);
	memset(reason, 'x', sizeof(reason) - 1);
	reason[sizeof(reason) - 1] = '\0';
	for (unsigned i = 0; i < 150; i++)
		move(f, "echo-0000000000000001", RUN_QUEUED, i + 1, reason, true);
	move(f, "echo-0000000000000001", RUN_CANCELED, 150, "enough", true);
	assert_int_equal(ledger_history(f->l, "echo-0000000000000001", count_moment, &all, &e), 0);
	assert_true(all.n > 90 && all.n < 110);
	assert_int_equal(all.at[0].state, RUN_CANCELED);
	assert_string_equal(all.at[0].reason, "enough");
}

/* Until schema 7 the history was a table of its own. */
static void
an_older_ledger_keeps_its_history(void **state)
{
	static const char older[] =
	    "CREATE TABLE history (run TEXT NOT NULL, at INTEGER NOT NULL, state INTEGER NOT NULL, attempt INTEGER NOT NULL,"
	    " reason TEXT NOT NULL); CREATE INDEX history_run ON history (run);"
	    "INSERT INTO history VALUES ('echo-0000000000000001', 100, 0, 0, ''), ('echo-0000000000000002', 150, 0, 0, ''),"
	    " ('echo-0000000000000001', 200, 1, 1, ''), ('echo-0000000000000001', 300, 4, 1, 'zu früh' || char(10) || ' 9');"
	    "ALTER TABLE runs DROP COLUMN moments; DROP TABLE marks; PRAGMA user_version = 6;";
	struct fixture *f = *state;
	char path[300];
	sqlite3 *db = NULL;
	struct moments all;

	put_target(f, TARGET, 5000);
	for (char last = '1'; last <= '3'; last++) {
		char id[] = "echo-0000000000000000";

		id[sizeof(id) - 2] = last;
		assert_int_equal(insert(f, id, TARGET, NULL), LEDGER_OK);
	}
	ledger_free(f->l);
	f->l = NULL;
	snprintf(path, sizeof(path), "%s/ledger.db", f->dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, older, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	reopen(f);
	all = moments_of(f, "echo-0000000000000001");
	assert_int_equal(all.n, 3);
	assert_true(all.at[0].at_real_ms == 100 && all.at[1].state == RUN_RUNNING && all.at[2].attempt == 1);
	assert_string_equal(all.at[2].reason, "zu früh\n 9");
	assert_int_equal(moments_of(f, "echo-0000000000000002").n, 1);
	assert_int_equal(moments_of(f, "echo-0000000000000003").n, 0);
	assert_int_equal(count_rows(f, "SELECT count(*) FROM sqlite_schema WHERE name = 'history'"), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(moments_are_kept_in_order_whatever_their_reasons_hold), CASE(a_history_without_end_is_cut_but_for_its_end),
		CASE(an_older_ledger_keeps_its_history),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
