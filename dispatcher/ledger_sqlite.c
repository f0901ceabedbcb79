#include "dispatcher/ledger_sqlite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

#define BUSY_TIMEOUT_MS 5000
/* Pages of the log (23 MiB; kept below journal_size_limit) before it is copied into the database, and those who wait for a commit
 * meanwhile wait for that too. Pages that are written again and again are then copied once. */
#define CHECKPOINT_PAGES "6000"

/* One step per schema version: step i leads from version i to i + 1. Only ever append. */
static const char *const migrations[] = {
	"CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), uuid TEXT NOT NULL, secret BLOB NOT NULL,"
	" epoch INTEGER NOT NULL, last_txn INTEGER NOT NULL, last_seq INTEGER NOT NULL);"
	"CREATE TABLE runs (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL, workflow TEXT NOT NULL,"
	" vertical TEXT NOT NULL, class INTEGER NOT NULL, execution INTEGER NOT NULL, priority INTEGER NOT NULL,"
	" timeout_ms INTEGER NOT NULL, tool_retries INTEGER NOT NULL, state INTEGER NOT NULL, attempt INTEGER NOT NULL,"
	" fence_epoch INTEGER NOT NULL, fence_seq INTEGER NOT NULL, worker TEXT NOT NULL, request INTEGER NOT NULL,"
	" failures INTEGER NOT NULL, crashes INTEGER NOT NULL, dead INTEGER NOT NULL, adopted INTEGER NOT NULL,"
	" fail INTEGER NOT NULL, reason TEXT NOT NULL, created INTEGER NOT NULL, not_before INTEGER NOT NULL,"
	" started INTEGER NOT NULL, finished INTEGER NOT NULL, node TEXT NOT NULL DEFAULT '', alloc_id TEXT NOT NULL DEFAULT '',"
	" job_id TEXT NOT NULL DEFAULT '', spec TEXT NOT NULL, detail TEXT, target TEXT, bundle TEXT, idem_key TEXT,"
	" idem_digest TEXT);"
	"CREATE INDEX runs_live ON runs (state) WHERE state < 3;"
	"CREATE INDEX runs_target ON runs (target) WHERE state < 3;"
	"CREATE INDEX runs_bundle ON runs (bundle);"
	"CREATE INDEX runs_finished ON runs (finished) WHERE finished > 0;"
	"CREATE UNIQUE INDEX runs_idem ON runs (tenant, idem_key) WHERE idem_key IS NOT NULL;"
	"CREATE TABLE history (run TEXT NOT NULL, at INTEGER NOT NULL, state INTEGER NOT NULL, attempt INTEGER NOT NULL,"
	" reason TEXT NOT NULL);"
	"CREATE INDEX history_run ON history (run);"
	"CREATE TABLE requests (seq INTEGER PRIMARY KEY, vertical TEXT NOT NULL, class INTEGER NOT NULL, state INTEGER NOT NULL,"
	" child TEXT NOT NULL, priority INTEGER NOT NULL, adopted INTEGER NOT NULL, created INTEGER NOT NULL);"
	"CREATE INDEX requests_open ON requests (state) WHERE state < 4;"
	"CREATE TABLE targets (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, sha256 TEXT NOT NULL, filename TEXT NOT NULL,"
	" size_bytes INTEGER NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX targets_sha256 ON targets (sha256);"
	"CREATE INDEX targets_expires ON targets (expires);"
	"CREATE TABLE bundles (sha256 TEXT PRIMARY KEY, workflow TEXT NOT NULL, size_bytes INTEGER NOT NULL,"
	" created INTEGER NOT NULL, pushed INTEGER NOT NULL, metadata TEXT NOT NULL) WITHOUT ROWID;",
	"ALTER TABLE runs ADD COLUMN suspect INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE runs ADD COLUMN accepted_epoch INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE runs ADD COLUMN accepted_seq INTEGER NOT NULL DEFAULT 0;",
	"CREATE INDEX requests_done ON requests (created) WHERE state = 4;",
	"DROP INDEX runs_target; CREATE INDEX runs_target ON runs (target);",
	"ALTER TABLE runs ADD COLUMN retention_ms INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE runs ADD COLUMN results INTEGER NOT NULL DEFAULT 1;"
	"ALTER TABLE targets ADD COLUMN dated INTEGER NOT NULL DEFAULT 0;"
	"UPDATE targets SET dated = created;"
	"DROP INDEX runs_finished;"
	"CREATE INDEX runs_stored ON runs (finished) WHERE finished > 0 AND results = 1 AND retention_ms = 0;"
	"CREATE INDEX runs_kept ON runs (finished + retention_ms) WHERE finished > 0 AND results = 1 AND retention_ms > 0;"
	"CREATE INDEX runs_promised ON runs (retention_ms) WHERE retention_ms > 0 AND results = 1;"
	"CREATE INDEX targets_promised ON targets (expires - dated);"
	"CREATE INDEX runs_bare ON runs (finished) WHERE finished > 0 AND results = 0;",
	"ALTER TABLE runs ADD COLUMN key TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE runs ADD COLUMN key_limit INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE runs ADD COLUMN key_mode INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE runs ADD COLUMN max_wait_ms INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE runs ADD COLUMN cpu_millis INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE runs ADD COLUMN memory_bytes INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE runs ADD COLUMN target_key INTEGER NOT NULL DEFAULT 0;"
	"CREATE TABLE pauses (kind INTEGER NOT NULL, name TEXT NOT NULL, who TEXT NOT NULL, reason TEXT NOT NULL,"
	" since INTEGER NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID;",
	/* The history goes into the run's row, which is written anyway: a table of its own was a third of all pages written. */
	"ALTER TABLE runs ADD COLUMN moments TEXT NOT NULL DEFAULT '';"
	"UPDATE runs SET moments = coalesce((SELECT group_concat(m, '') FROM (SELECT at || ' ' || state || ' ' || attempt || ' ' ||"
	" length(CAST(reason AS BLOB)) || ' ' || reason AS m FROM history WHERE run = runs.id ORDER BY history.rowid)), '');"
	"DROP TABLE history;",
	("CREATE TABLE marks (owner TEXT NOT NULL, alloc TEXT NOT NULL, vertical TEXT NOT NULL, alloc_index INTEGER NOT NULL,"
	 " version INTEGER NOT NULL, ttl_ms INTEGER NOT NULL, PRIMARY KEY (owner, alloc)) WITHOUT ROWID;"),
};

#define SCHEMA_VERSION ((int)(sizeof(migrations) / sizeof(migrations[0])))

/* The partial indexes above spell these out. */
_Static_assert(RUN_CANCELING == 2 && RUN_COMPLETED == 3, "live runs are state < 3");
_Static_assert(REQ_DONE == 4, "open requests are state < 4, done ones state = 4");

int
sqlite_err(sqlite3 *db, const char *what, struct err *e)
{
	err_set(e, ERR_IO, "ledger: %s: %s", what, db == NULL ? "out of memory" : sqlite3_errmsg(db));
	if (db != NULL && sqlite3_errcode(db) == SQLITE_FULL)
		err_hint(e, "free space on the disk that holds DROVER_DATA_DIR");
	return ERR_IO;
}

static int
run_sql(sqlite3 *db, const char *sql, struct err *e)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : sqlite_err(db, "prepare the schema", e);
}

static int
read_int(sqlite3 *db, const char *sql, int64_t *ret, struct err *e)
{
	sqlite3_stmt *s = NULL;
	int rc = 0;

	if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK || sqlite3_step(s) != SQLITE_ROW)
		rc = sqlite_err(db, sql, e);
	else
		*ret = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return rc;
}

int
sqlite_schema(sqlite3 *db, struct err *e)
{
	int64_t version = 0;
	char pragma[48];
	int rc;

	if ((rc = run_sql(db, "BEGIN EXCLUSIVE", e)) != 0)
		return rc;
	if ((rc = read_int(db, "PRAGMA user_version", &version, e)) != 0)
		goto out;
	if (version > SCHEMA_VERSION) {
		rc = err_set(e, ERR_INVALID, "the ledger was written by a newer Drover (schema %lld, this one knows %d)",
		    (long long)version, SCHEMA_VERSION);
		err_hint(e, "start the newer version again, or restore the backup that was made before the upgrade");
		goto out;
	}
	for (int64_t v = version; rc == 0 && v < SCHEMA_VERSION; v++)
		rc = run_sql(db, migrations[v], e);
	snprintf(pragma, sizeof(pragma), "PRAGMA user_version = %d", SCHEMA_VERSION);
	if (rc == 0 && version != SCHEMA_VERSION)
		rc = run_sql(db, pragma, e);
out:
	if (rc == 0)
		rc = run_sql(db, "COMMIT", e);
	if (rc != 0)
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

static int
open_db(const char *path, int flags, sqlite3 **ret, struct err *e)
{
	sqlite3 *db = NULL;
	int rc = 0;

	if (sqlite3_open_v2(path, &db, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
		rc = sqlite_err(db, path, e);
		sqlite3_close(db);
		return rc;
	}
	sqlite3_busy_timeout(db, BUSY_TIMEOUT_MS);
	sqlite3_exec(db, "PRAGMA temp_store = MEMORY; PRAGMA cache_size = -2000", NULL, NULL, NULL);
	*ret = db;
	return 0;
}

#define EMPTY "SELECT last_seq = 0 AND NOT EXISTS (SELECT 1 FROM runs) AND NOT EXISTS (SELECT 1 FROM targets) FROM meta"

/* Creates the one row of meta in a new ledger, and takes the leadership: raises the epoch. */
static int
take_leadership(struct ledger_sqlite *l, struct err *e)
{
	uint8_t secret[SHA256_LEN];
	char uuid[37];
	sqlite3_stmt *s = NULL;
	int rc = 0;

	random_bytes(secret, sizeof(secret));
	uuid_text(uuid);
	if (sqlite3_prepare_v2(l->writer, "INSERT OR IGNORE INTO meta VALUES (1, ?, ?, 0, 0, 0)", -1, &s, NULL) != SQLITE_OK ||
	    sqlite3_bind_text(s, 1, uuid, -1, SQLITE_STATIC) != SQLITE_OK ||
	    sqlite3_bind_blob(s, 2, secret, sizeof(secret), SQLITE_STATIC) != SQLITE_OK || sqlite3_step(s) != SQLITE_DONE) {
		rc = sqlite_err(l->writer, "create the ledger", e);
		goto out;
	}
	sqlite3_finalize(s);
	s = NULL;
	if (sqlite3_prepare_v2(l->writer, "UPDATE meta SET epoch = epoch + 1, last_txn = 0 RETURNING epoch, last_seq, uuid, secret",
	        -1, &s, NULL) != SQLITE_OK || sqlite3_step(s) != SQLITE_ROW ||
	    sqlite3_column_bytes(s, 3) != sizeof(l->base.secret)) {
		rc = sqlite_err(l->writer, "take the leadership", e);
		goto out;
	}
	l->base.epoch = (uint64_t)sqlite3_column_int64(s, 0);
	l->base.last_seq = (uint64_t)sqlite3_column_int64(s, 1);
	snprintf(l->base.uuid, sizeof(l->base.uuid), "%s", (const char *)sqlite3_column_text(s, 2));
	memcpy(l->base.secret, sqlite3_column_blob(s, 3), sizeof(l->base.secret));
	if (sqlite3_step(s) != SQLITE_DONE)
		rc = sqlite_err(l->writer, "take the leadership", e);
out:
	sqlite3_finalize(s);
	mem_wipe(secret, sizeof(secret));
	return rc;
}

static void
sqlite_free(struct ledger *base)
{
	struct ledger_sqlite *l = (struct ledger_sqlite *)base;

	for (size_t i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(l->stmt[i]);
	for (size_t i = 0; i < SQLITE_READERS; i++)
		sqlite3_close(l->reader[i]);
	sqlite3_close(l->writer);
	if (l->lock_fd >= 0)
		close(l->lock_fd);
	pthread_cond_destroy(&l->idle);
	pthread_mutex_destroy(&l->mutex);
	mem_wipe(l->base.secret, sizeof(l->base.secret));
	free(l);
}

static const struct ledger_ops sqlite_ops = {
	.commit = sqlite_commit, .last_number = sqlite_last_number, .restore = sqlite_restore, .pauses = sqlite_pauses,
	.marks = sqlite_marks, .run_find = sqlite_run_find, .run_by_key = sqlite_run_by_key, .runs = sqlite_runs, .history = sqlite_history, .target_find = sqlite_target_find,
	.targets = sqlite_targets, .targets_due = sqlite_targets_due, .runs_due = sqlite_runs_due, .promises = sqlite_promises,
	.usage = sqlite_usage, .bundles = sqlite_bundles, .free = sqlite_free,
};

static int
open_all(struct ledger_sqlite *l, const char *path, struct err *e)
{
	int64_t empty;
	int rc;

	if ((rc = open_db(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &l->writer, e)) != 0)
		return rc;
	/* FULL syncs the log at each commit: what was answered survives a loss of power. */
	if ((rc = run_sql(l->writer, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
	                             "PRAGMA journal_size_limit = 33554432; PRAGMA wal_autocheckpoint = " CHECKPOINT_PAGES, e)) != 0 ||
	    (rc = sqlite_schema(l->writer, e)) != 0 || (rc = take_leadership(l, e)) != 0 ||
	    (rc = read_int(l->writer, EMPTY, &empty, e)) != 0 || (rc = sqlite_prepare_writer(l, e)) != 0)
		return rc;
	l->base.empty = empty != 0;
	for (size_t i = 0; rc == 0 && i < SQLITE_READERS; i++)
		rc = open_db(path, SQLITE_OPEN_READONLY, &l->reader[i], e);
	return rc;
}

int
ledger_sqlite_open(const char *directory, struct ledger **ret, struct err *e)
{
	struct ledger_sqlite *l = xcalloc(1, sizeof(*l));
	char lock_path[4096], path[4096];
	int rc;

	l->base.ops = &sqlite_ops;
	l->lock_fd = -1;
	pthread_mutex_init(&l->mutex, NULL);
	pthread_cond_init(&l->idle, NULL);
	if ((rc = file_mkdirs(directory, 0700, e)) != 0 ||
	    (rc = file_join(lock_path, sizeof(lock_path), directory, "ledger.lock", e)) != 0 ||
	    (rc = file_join(path, sizeof(path), directory, "ledger.db", e)) != 0)
		goto out;
	if ((l->lock_fd = file_lock(lock_path, e)) < 0) {
		rc = l->lock_fd;
		if (rc == ERR_CONFLICT) {
			err_set(e, rc, "another dispatcher uses the ledger in %s", directory);
			err_hint(e, "stop it first, or give this one a DROVER_DATA_DIR of its own");
		}
		goto out;
	}
	rc = open_all(l, path, e);
out:
	if (rc == 0)
		*ret = &l->base;
	else
		sqlite_free(&l->base);
	return rc;
}
