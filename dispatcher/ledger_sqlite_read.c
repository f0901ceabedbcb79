#include "dispatcher/ledger_sqlite.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/num.h"

#define SQL_MAX 4096
#define MATCHES_SHOWN 5

#define SELECT_RUN "SELECT " RUN_COLUMNS ", n, node, alloc_id, job_id, spec, detail, retention_ms, results FROM runs"
#define TARGET_COLUMNS "id, tenant, sha256, filename, size_bytes, created, expires, dated"
#define SELECT_TARGET "SELECT " TARGET_COLUMNS " FROM targets"

/* --- reader connections: one per reading thread at a time --- */

static sqlite3 *
reader_get(struct ledger_sqlite *l)
{
	sqlite3 *db = NULL;

	pthread_mutex_lock(&l->mutex);
	while (db == NULL) {
		for (size_t i = 0; db == NULL && i < SQLITE_READERS; i++)
			if (!l->busy[i]) {
				l->busy[i] = true;
				db = l->reader[i];
			}
		if (db == NULL)
			pthread_cond_wait(&l->idle, &l->mutex);
	}
	pthread_mutex_unlock(&l->mutex);
	return db;
}

static void
reader_put(struct ledger_sqlite *l, sqlite3 *db)
{
	pthread_mutex_lock(&l->mutex);
	for (size_t i = 0; i < SQLITE_READERS; i++)
		if (l->reader[i] == db)
			l->busy[i] = false;
	pthread_cond_signal(&l->idle);
	pthread_mutex_unlock(&l->mutex);
}

/* --- one query: prepared, bound, walked row by row --- */

#define BINDS_MAX 16

struct bind {
	const char *text; /* NULL: the number */
	int64_t number;
};

static struct bind
text_of(const char *s)
{
	return (struct bind){s, 0};
}

static struct bind
number_of(int64_t n)
{
	return (struct bind){NULL, n};
}

/* Calls row for each row of the answer until it returns other than 0, which ends the walk and is returned. */
static int
query(struct ledger *base, const char *sql, const struct bind *binds, size_t n, int (*row)(sqlite3_stmt *s, void *arg), void *arg,
    struct err *e)
{
	struct ledger_sqlite *l = (struct ledger_sqlite *)base;
	sqlite3 *db = reader_get(l);
	sqlite3_stmt *s = NULL;
	int rc = 0, step = SQLITE_ROW;

	if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK) {
		rc = sqlite_err(db, "read", e);
		goto out;
	}
	for (size_t i = 0; i < n; i++) {
		if (binds[i].text != NULL)
			sqlite3_bind_text(s, (int)i + 1, binds[i].text, -1, SQLITE_STATIC);
		else
			sqlite3_bind_int64(s, (int)i + 1, binds[i].number);
	}
	while (rc == 0 && (step = sqlite3_step(s)) == SQLITE_ROW)
		rc = row(s, arg);
	if (rc == 0 && step != SQLITE_DONE)
		rc = sqlite_err(db, "read", e);
out:
	sqlite3_finalize(s);
	reader_put(l, db);
	return rc;
}

static void
take_text(sqlite3_stmt *s, int at, char *out, size_t len)
{
	const char *text = (const char *)sqlite3_column_text(s, at);

	snprintf(out, len, "%s", text == NULL ? "" : text);
}

static void
take_row(sqlite3_stmt *s, struct run_row *r)
{
	*r = (struct run_row){
		.needs = {.class = (enum run_class)sqlite3_column_int(s, 4), .execution = (enum execution)sqlite3_column_int(s, 5),
		          .priority = sqlite3_column_int(s, 6), .timeout_ms = sqlite3_column_int64(s, 7),
		          .tool_retries = (unsigned)sqlite3_column_int(s, 8), .key_limit = (unsigned)sqlite3_column_int(s, 29),
		          .key_mode = (enum key_mode)sqlite3_column_int(s, 30), .max_wait_ms = sqlite3_column_int64(s, 31),
		          .cpu_millis = sqlite3_column_int64(s, 32), .memory_bytes = sqlite3_column_int64(s, 33),
		          .target_key = (uint64_t)sqlite3_column_int64(s, 34)},
		.state = (enum run_state)sqlite3_column_int(s, 9), .attempt = (unsigned)sqlite3_column_int(s, 10),
		.fence = {(uint64_t)sqlite3_column_int64(s, 11), (uint64_t)sqlite3_column_int64(s, 12)},
		.request = (uint64_t)sqlite3_column_int64(s, 14), .failures = (unsigned)sqlite3_column_int(s, 15),
		.crashes = (unsigned)sqlite3_column_int(s, 16), .dead = sqlite3_column_int(s, 17) != 0,
		.adopted = sqlite3_column_int(s, 18) != 0, .fail = (enum fail_class)sqlite3_column_int(s, 19),
		.created_real_ms = sqlite3_column_int64(s, 21), .not_before_real_ms = sqlite3_column_int64(s, 22),
		.started_real_ms = sqlite3_column_int64(s, 23), .finished_real_ms = sqlite3_column_int64(s, 24),
		.suspect = sqlite3_column_int(s, 25) != 0,
		.accepted = {(uint64_t)sqlite3_column_int64(s, 26), (uint64_t)sqlite3_column_int64(s, 27)},
	};
	take_text(s, 0, r->id, sizeof(r->id));
	take_text(s, 1, r->tenant, sizeof(r->tenant));
	take_text(s, 2, r->workflow, sizeof(r->workflow));
	take_text(s, 3, r->needs.vertical, sizeof(r->needs.vertical));
	take_text(s, 13, r->worker, sizeof(r->worker));
	take_text(s, 20, r->reason, sizeof(r->reason));
	take_text(s, 28, r->needs.key, sizeof(r->needs.key));
}

static void
take_run(sqlite3_stmt *s, struct ledger_run *r)
{
	take_row(s, &r->row);
	r->n = (uint64_t)sqlite3_column_int64(s, RUN_COLUMNS_N);
	take_text(s, RUN_COLUMNS_N + 1, r->node, sizeof(r->node));
	take_text(s, RUN_COLUMNS_N + 2, r->alloc_id, sizeof(r->alloc_id));
	take_text(s, RUN_COLUMNS_N + 3, r->job_id, sizeof(r->job_id));
	r->spec = xstrdup((const char *)sqlite3_column_text(s, RUN_COLUMNS_N + 4));
	r->detail = xstrdup((const char *)sqlite3_column_text(s, RUN_COLUMNS_N + 5));
	r->retention_ms = sqlite3_column_int64(s, RUN_COLUMNS_N + 6);
	r->results_gone = sqlite3_column_int(s, RUN_COLUMNS_N + 7) == 0;
}

/* --- restoring --- */

struct restore {
	void (*run)(void *arg, const struct run_row *row);
	void (*request)(void *arg, const struct request_row *row);
	void *arg;
};

static int
restore_run(sqlite3_stmt *s, void *arg)
{
	struct restore *r = arg;
	struct run_row row;

	take_row(s, &row);
	r->run(r->arg, &row);
	return 0;
}

static int
restore_request(sqlite3_stmt *s, void *arg)
{
	struct restore *r = arg;
	struct request_row row = {
		.seq = (uint64_t)sqlite3_column_int64(s, 0), .class = (enum run_class)sqlite3_column_int(s, 2),
		.state = (enum request_state)sqlite3_column_int(s, 3), .priority = sqlite3_column_int(s, 5),
		.adopted = sqlite3_column_int(s, 6) != 0, .created_real_ms = sqlite3_column_int64(s, 7),
	};

	take_text(s, 1, row.vertical, sizeof(row.vertical));
	take_text(s, 4, row.child, sizeof(row.child));
	r->request(r->arg, &row);
	return 0;
}

int
sqlite_restore(struct ledger *l, void (*run)(void *arg, const struct run_row *row),
    void (*request)(void *arg, const struct request_row *row), void *arg, struct err *e)
{
	struct restore r = {run, request, arg};
	int rc = query(l, "SELECT " RUN_COLUMNS " FROM runs WHERE state < 3 ORDER BY n", NULL, 0, restore_run, &r, e);

	if (rc == 0)
		rc = query(l, "SELECT seq, vertical, class, state, child, priority, adopted, created FROM requests WHERE state < 4"
		              " ORDER BY seq", NULL, 0, restore_request, &r, e);
	return rc;
}

struct each_pause {
	void (*each)(void *arg, const struct pause_row *row);
	void *arg;
};

static int
each_pause_row(sqlite3_stmt *s, void *arg)
{
	const struct each_pause *w = arg;
	struct pause_row row = {.kind = (enum pause_kind)sqlite3_column_int(s, 0), .since_real_ms = sqlite3_column_int64(s, 4)};

	take_text(s, 1, row.name, sizeof(row.name));
	take_text(s, 2, row.who, sizeof(row.who));
	take_text(s, 3, row.reason, sizeof(row.reason));
	w->each(w->arg, &row);
	return 0;
}

int
sqlite_pauses(struct ledger *l, void (*each)(void *arg, const struct pause_row *row), void *arg, struct err *e)
{
	struct each_pause w = {each, arg};

	return query(l, "SELECT kind, name, who, reason, since FROM pauses ORDER BY kind, name", NULL, 0, each_pause_row, &w, e);
}

struct each_mark {
	void (*each)(void *arg, const struct mark_row *row);
	void *arg;
};

static int
each_mark_row(sqlite3_stmt *s, void *arg)
{
	const struct each_mark *w = arg;
	struct mark_row row = {.index = sqlite3_column_int(s, 3), .version = (uint64_t)sqlite3_column_int64(s, 4),
		.ttl_ms = sqlite3_column_int64(s, 5)};

	take_text(s, 0, row.owner, sizeof(row.owner));
	take_text(s, 1, row.alloc, sizeof(row.alloc));
	take_text(s, 2, row.vertical, sizeof(row.vertical));
	w->each(w->arg, &row);
	return 0;
}

int
sqlite_marks(struct ledger *l, void (*each)(void *arg, const struct mark_row *row), void *arg, struct err *e)
{
	struct each_mark w = {each, arg};

	return query(l, "SELECT owner, alloc, vertical, alloc_index, version, ttl_ms FROM marks ORDER BY owner, alloc", NULL, 0,
	    each_mark_row, &w, e);
}

/* --- one by prefix --- */

/* The text after every text that begins with prefix: the upper end of a range that an index serves. */
static void
after_prefix(const char *prefix, char *out, size_t len)
{
	snprintf(out, len, "%s\x7f", prefix); /* ids are plain ASCII below DEL */
}

struct find_run {
	struct ledger_run *ret;
	size_t n;
	struct buf names;
};

static int
find_run_row(sqlite3_stmt *s, void *arg)
{
	struct find_run *f = arg;

	if (f->n++ == 0)
		take_run(s, f->ret);
	if (f->n <= MATCHES_SHOWN)
		buf_addf(&f->names, "%s%s", f->n > 1 ? ", " : "", (const char *)sqlite3_column_text(s, 0));
	return 0;
}

/* 0 for one match; what the caller should do about none or several. */
static int
verdict(const char *what, const char *prefix, size_t n, const struct buf *names, struct err *e)
{
	int rc;

	if (n == 0)
		return err_set(e, ERR_NOTFOUND, "no %s '%.96s'", what, prefix);
	if (n == 1)
		return 0;
	rc = err_set(e, ERR_CONFLICT, "'%.40s' begins the ids of several %ss: %.200s", prefix, what, buf_str(names));
	err_hint(e, "give more characters of the id");
	return rc;
}

int
sqlite_run_find(struct ledger *l, const char *prefix, const char *tenant, struct ledger_run *ret, struct err *e)
{
	struct ledger_run found = {.spec = NULL};
	struct find_run f = {.ret = &found, .names = buf_make(1024)};
	char end[RUN_ID_MAX + 1];
	struct bind binds[] = {text_of(prefix), text_of(end), text_of(tenant == NULL ? "" : tenant), number_of(MATCHES_SHOWN + 1)};
	int rc;

	after_prefix(prefix, end, sizeof(end));
	/* A whole id wins over longer ones that begin with it: it sorts first. */
	rc = query(l, SELECT_RUN " WHERE id >= ?1 AND id < ?2 AND (?3 = '' OR tenant = ?3) ORDER BY id LIMIT ?4", binds, 4,
	    find_run_row, &f, e);
	if (rc == 0 && f.n > 1 && strcmp(found.row.id, prefix) == 0)
		f.n = 1;
	if (rc == 0)
		rc = verdict("run", prefix, f.n, &f.names, e);
	if (rc == 0)
		*ret = found;
	else
		ledger_run_release(&found);
	buf_release(&f.names);
	return rc;
}

struct find_target {
	struct ledger_target *ret;
	size_t n;
	struct buf names;
};

static void
take_target(sqlite3_stmt *s, struct ledger_target *t)
{
	*t = (struct ledger_target){.size_bytes = sqlite3_column_int64(s, 4), .created_real_ms = sqlite3_column_int64(s, 5),
		.expires_real_ms = sqlite3_column_int64(s, 6), .dated_real_ms = sqlite3_column_int64(s, 7)};
	take_text(s, 0, t->id, sizeof(t->id));
	take_text(s, 1, t->tenant, sizeof(t->tenant));
	take_text(s, 2, t->sha256, sizeof(t->sha256));
	take_text(s, 3, t->filename, sizeof(t->filename));
}

static int
find_target_row(sqlite3_stmt *s, void *arg)
{
	struct find_target *f = arg;

	if (f->n++ == 0)
		take_target(s, f->ret);
	if (f->n <= MATCHES_SHOWN)
		buf_addf(&f->names, "%s%s", f->n > 1 ? ", " : "", (const char *)sqlite3_column_text(s, 0));
	return 0;
}

int
sqlite_target_find(struct ledger *l, const char *prefix, const char *tenant, struct ledger_target *ret, struct err *e)
{
	const char *sql = sha256_text_valid(prefix)
	                      ? SELECT_TARGET " WHERE sha256 = ?1 AND ?2 <> '' AND (?3 = '' OR tenant = ?3) LIMIT ?4"
	                      : SELECT_TARGET " WHERE id >= ?1 AND id < ?2 AND (?3 = '' OR tenant = ?3) ORDER BY id LIMIT ?4";
	struct ledger_target found;
	struct find_target f = {.ret = &found, .names = buf_make(1024)};
	char end[SHA256_HEX_LEN + 1];
	struct bind binds[] = {text_of(prefix), text_of(end), text_of(tenant == NULL ? "" : tenant), number_of(MATCHES_SHOWN + 1)};
	int rc;

	after_prefix(prefix, end, sizeof(end));
	rc = query(l, sql, binds, 4, find_target_row, &f, e);
	if (rc == 0)
		rc = verdict("target", prefix, f.n, &f.names, e);
	if (rc == 0)
		*ret = found;
	buf_release(&f.names);
	return rc;
}

struct by_key {
	char *id, *digest;
	bool found;
};

static int
by_key_row(sqlite3_stmt *s, void *arg)
{
	struct by_key *k = arg;

	take_text(s, 0, k->id, RUN_ID_MAX);
	take_text(s, 1, k->digest, SHA256_HEX_LEN);
	k->found = true;
	return 0;
}

int
sqlite_run_by_key(struct ledger *l, const char *tenant, const char *key, char id[RUN_ID_MAX],
    char digest[SHA256_HEX_LEN], struct err *e)
{
	struct by_key k = {.id = id, .digest = digest};
	struct bind binds[] = {text_of(tenant), text_of(key)};
	int rc = query(l, "SELECT id, idem_digest FROM runs WHERE tenant = ? AND idem_key = ?", binds, 2, by_key_row, &k, e);

	if (rc == 0 && !k.found)
		rc = err_set(e, ERR_NOTFOUND, "no run under this idempotency key");
	return rc;
}

/* --- lists --- */

struct each_run {
	int (*each)(void *arg, const struct ledger_run *run);
	void *arg;
};

static int
each_run_row(sqlite3_stmt *s, void *arg)
{
	struct each_run *w = arg;
	struct ledger_run run;
	int rc;

	take_run(s, &run);
	rc = w->each(w->arg, &run);
	ledger_run_release(&run);
	return rc;
}

/* A condition and its value, where the filter has one. */
struct where {
	struct buf sql;
	struct bind binds[BINDS_MAX];
	size_t n;
};

static void
where_add(struct where *w, const char *condition, struct bind value)
{
	buf_adds(&w->sql, w->n == 0 ? " WHERE " : " AND ");
	buf_adds(&w->sql, condition);
	w->binds[w->n++] = value;
}

int
sqlite_runs(struct ledger *l, const struct ledger_filter *f, int (*each)(void *arg, const struct ledger_run *run), void *arg,
    struct err *e)
{
	const struct {
		const char *condition, *value;
	} texts[] = {{"tenant = ?", f->tenant}, {"workflow = ?", f->workflow}, {"vertical = ?", f->vertical},
		{"target = ?", f->target}};
	struct where w = {.sql = buf_make(SQL_MAX)};
	struct each_run walk = {each, arg};
	char label_path[LEDGER_LABEL_MAX + 16];
	int rc;

	buf_adds(&w.sql, SELECT_RUN);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (texts[i].value != NULL)
			where_add(&w, texts[i].condition, text_of(texts[i].value));
	if (f->states != 0)
		where_add(&w, "(1 << state) & ?", number_of(f->states));
	if (f->since_real_ms > 0)
		where_add(&w, "created >= ?", number_of(f->since_real_ms));
	if (f->until_real_ms > 0)
		where_add(&w, "created < ?", number_of(f->until_real_ms));
	if (f->dead)
		where_add(&w, "dead = ?", number_of(1));
	if (f->before > 0)
		where_add(&w, "n < ?", number_of((int64_t)f->before));
	if (f->label_key != NULL) {
		snprintf(label_path, sizeof(label_path), "$.labels.\"%s\"", f->label_key);
		where_add(&w, "json_extract(spec, ?)", text_of(label_path));
		buf_adds(&w.sql, " = ?");
		w.binds[w.n++] = text_of(f->label_value);
	}
	buf_adds(&w.sql, " ORDER BY n DESC LIMIT ?");
	w.binds[w.n++] = number_of((int64_t)f->limit);
	rc = query(l, buf_str(&w.sql), w.binds, w.n, each_run_row, &walk, e);
	buf_release(&w.sql);
	return rc;
}

struct each_moment {
	int (*each)(void *arg, const struct ledger_moment *m);
	void *arg;
};

/* Takes a number and the space behind it from the front of text; what follows, or NULL. */
static const char *
take_number(const char *text, int64_t max, int64_t *ret)
{
	char word[24];
	size_t len = strcspn(text, " ");

	if (len >= sizeof(word) || text[len] == '\0')
		return NULL;
	memcpy(word, text, len);
	word[len] = '\0';
	return num_int(word, 0, max, ret, NULL) == 0 ? text + len + 1 : NULL;
}

/* Takes the moment at the front of text; what follows it, or NULL where no moment stands. */
static const char *
take_moment(const char *text, struct ledger_moment *ret)
{
	int64_t state, attempt, len;

	if ((text = take_number(text, INT64_MAX, &ret->at_real_ms)) == NULL ||
	    (text = take_number(text, RUN_STATES - 1, &state)) == NULL || (text = take_number(text, UINT_MAX, &attempt)) == NULL || (text = take_number(text, REASON_MAX - 1, &len)) == NULL ||
	    strnlen(text, (size_t)len) < (size_t)len)
		return NULL;
	ret->state = (enum run_state)state;
	ret->attempt = (unsigned)attempt;
	memcpy(ret->reason, text, (size_t)len);
	ret->reason[len] = '\0';
	return text + len;
}

static int
each_moment_row(sqlite3_stmt *s, void *arg)
{
	struct each_moment *w = arg;
	struct ledger_moment m;
	const char *text = (const char *)sqlite3_column_text(s, 0);
	int rc = 0;

	while (rc == 0 && text != NULL && (text = take_moment(text, &m)) != NULL)
		rc = w->each(w->arg, &m);
	return rc;
}

int
sqlite_history(struct ledger *l, const char *run, int (*each)(void *arg, const struct ledger_moment *m), void *arg,
    struct err *e)
{
	struct each_moment walk = {each, arg};
	struct bind binds[] = {text_of(run)};

	return query(l, "SELECT moments FROM runs WHERE id = ?", binds, 1, each_moment_row, &walk, e);
}

struct each_target {
	int (*each)(void *arg, const struct ledger_target *t);
	int (*each_due)(void *arg, const struct ledger_target *t, bool needed);
	void *arg;
};

static int
each_target_row(sqlite3_stmt *s, void *arg)
{
	struct each_target *w = arg;
	struct ledger_target t;

	take_target(s, &t);
	return w->each != NULL ? w->each(w->arg, &t) : w->each_due(w->arg, &t, sqlite3_column_int(s, 8) != 0);
}

int
sqlite_targets(struct ledger *l, const char *tenant, const char *after, size_t limit,
    int (*each)(void *arg, const struct ledger_target *t), void *arg, struct err *e)
{
	struct each_target walk = {.each = each, .arg = arg};
	struct bind binds[] = {text_of(after), text_of(tenant == NULL ? "" : tenant), number_of((int64_t)limit)};

	return query(l, SELECT_TARGET " WHERE id > ?1 AND (?2 = '' OR tenant = ?2) ORDER BY id LIMIT ?3", binds, 3, each_target_row,
	    &walk, e);
}

int
sqlite_targets_due(struct ledger *l, int64_t before_real_ms, size_t limit,
    int (*each)(void *arg, const struct ledger_target *t, bool needed), void *arg, struct err *e)
{
	struct each_target walk = {.each_due = each, .arg = arg};
	struct bind binds[] = {number_of(before_real_ms), number_of((int64_t)limit)};

	return query(l, "SELECT " TARGET_COLUMNS ","
	                " EXISTS (SELECT 1 FROM runs WHERE runs.target = targets.id AND runs.state < 3) AS needed"
	                " FROM targets WHERE expires < ? ORDER BY needed DESC, expires LIMIT ?", binds, 2, each_target_row, &walk, e);
}

struct each_due {
	int (*each)(void *arg, const char *id);
	void *arg;
};

static int
each_due_row(sqlite3_stmt *s, void *arg)
{
	struct each_due *w = arg;

	return w->each(w->arg, (const char *)sqlite3_column_text(s, 0));
}

int
sqlite_runs_due(struct ledger *l, int64_t now_real_ms, int64_t default_ms, size_t limit,
    int (*each)(void *arg, const char *id), void *arg, struct err *e)
{
	struct each_due walk = {each, arg};
	struct bind binds[] = {number_of(now_real_ms - default_ms), number_of(now_real_ms), number_of((int64_t)limit),
		number_of(default_ms)};

	return query(l, "SELECT id, finished + ?4 AS due FROM runs WHERE finished > 0 AND results = 1 AND retention_ms = 0 AND finished < ?1"
	                " UNION ALL SELECT id, finished + retention_ms FROM runs WHERE finished > 0 AND results = 1 AND retention_ms > 0"
	                " AND finished + retention_ms < ?2 ORDER BY due LIMIT ?3", binds, 4, each_due_row, &walk, e);
}

static int
number_row(sqlite3_stmt *s, void *arg)
{
	*(int64_t *)arg = sqlite3_column_int64(s, 0);
	return 0;
}

int
sqlite_promises(struct ledger *l, int64_t *ret_targets_ms, int64_t *ret_results_ms, struct err *e)
{
	int rc = query(l, "SELECT coalesce(max(expires - dated), 0) FROM targets", NULL, 0, number_row, ret_targets_ms, e);

	/* Runs that are not over count: their results come one day. */
	return rc != 0 ? rc : query(l, "SELECT coalesce(max(retention_ms), 0) FROM runs WHERE retention_ms > 0 AND results = 1", NULL, 0,
	                          number_row, ret_results_ms, e);
}

struct each_usage {
	int (*each)(void *arg, const struct ledger_usage *u);
	void *arg;
};

static int
each_usage_row(sqlite3_stmt *s, void *arg)
{
	struct each_usage *w = arg;
	struct ledger_usage u = {.targets = sqlite3_column_int64(s, 1), .bytes = sqlite3_column_int64(s, 2),
		.runs = sqlite3_column_int64(s, 3)};

	take_text(s, 0, u.tenant, sizeof(u.tenant));
	return w->each(w->arg, &u);
}

int
sqlite_usage(struct ledger *l, int (*each)(void *arg, const struct ledger_usage *u), void *arg, struct err *e)
{
	struct each_usage walk = {each, arg};

	return query(l, "SELECT tenant, sum(t), sum(b), sum(r) FROM"
	                " (SELECT tenant, count(*) AS t, sum(size_bytes) AS b, 0 AS r FROM targets GROUP BY tenant UNION ALL"
	                " SELECT tenant, 0, 0, count(*) FROM runs WHERE finished > 0 AND results = 1 GROUP BY tenant)"
	                " GROUP BY tenant ORDER BY tenant", NULL, 0, each_usage_row, &walk, e);
}

struct each_bundle {
	int (*each)(void *arg, const struct ledger_bundle *b, bool used);
	void *arg;
};

static int
each_bundle_row(sqlite3_stmt *s, void *arg)
{
	struct each_bundle *w = arg;
	struct ledger_bundle b = {.size_bytes = sqlite3_column_int64(s, 2), .created_real_ms = sqlite3_column_int64(s, 3),
		.pushed = sqlite3_column_int(s, 4) != 0};
	int rc;

	take_text(s, 0, b.sha256, sizeof(b.sha256));
	take_text(s, 1, b.workflow, sizeof(b.workflow));
	b.metadata = xstrdup((const char *)sqlite3_column_text(s, 5));
	rc = w->each(w->arg, &b, sqlite3_column_int(s, 6) != 0);
	free(b.metadata);
	return rc;
}

int
sqlite_bundles(struct ledger *l, bool pushed_only, int (*each)(void *arg, const struct ledger_bundle *b, bool used), void *arg,
    struct err *e)
{
	struct each_bundle walk = {each, arg};
	struct bind binds[] = {number_of(pushed_only)};

	return query(l, "SELECT sha256, workflow, size_bytes, created, pushed, metadata,"
	                " EXISTS (SELECT 1 FROM runs WHERE bundle = bundles.sha256) FROM bundles WHERE pushed >= ? ORDER BY created",
	    binds, 1, each_bundle_row, &walk, e);
}
