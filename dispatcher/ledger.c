#include "dispatcher/ledger.h"

#include <assert.h>
#include <stdlib.h>

int
ledger_commit(struct ledger *l, struct ledger_txn **txns, size_t n, struct err *e)
{
	assert(n > 0);
	return l->ops->commit(l, txns, n, e);
}

int
ledger_last_number(struct ledger *l, uint64_t *ret, struct err *e)
{
	return l->ops->last_number(l, ret, e);
}

int
ledger_restore(struct ledger *l, void (*run)(void *arg, const struct run_row *row),
    void (*request)(void *arg, const struct request_row *row), void *arg, struct err *e)
{
	return l->ops->restore(l, run, request, arg, e);
}

int
ledger_pauses(struct ledger *l, void (*each)(void *arg, const struct pause_row *row), void *arg, struct err *e)
{
	return l->ops->pauses(l, each, arg, e);
}

int
ledger_marks(struct ledger *l, void (*each)(void *arg, const struct mark_row *row), void *arg, struct err *e)
{
	return l->ops->marks(l, each, arg, e);
}

int
ledger_run_find(struct ledger *l, const char *prefix, const char *tenant, struct ledger_run *ret, struct err *e)
{
	return l->ops->run_find(l, prefix, tenant, ret, e);
}

void
ledger_run_release(struct ledger_run *r)
{
	free(r->spec);
	free(r->detail);
	r->spec = r->detail = NULL;
}

int
ledger_run_by_key(struct ledger *l, const char *tenant, const char *key, char id[RUN_ID_MAX],
    char digest[SHA256_HEX_LEN], struct err *e)
{
	return l->ops->run_by_key(l, tenant, key, id, digest, e);
}

int
ledger_runs(struct ledger *l, const struct ledger_filter *f, int (*each)(void *arg, const struct ledger_run *run), void *arg,
    struct err *e)
{
	assert(f->limit > 0);
	return l->ops->runs(l, f, each, arg, e);
}

int
ledger_history(struct ledger *l, const char *run, int (*each)(void *arg, const struct ledger_moment *m), void *arg,
    struct err *e)
{
	return l->ops->history(l, run, each, arg, e);
}

int
ledger_target_find(struct ledger *l, const char *prefix, const char *tenant, struct ledger_target *ret, struct err *e)
{
	return l->ops->target_find(l, prefix, tenant, ret, e);
}

int
ledger_targets(struct ledger *l, const char *tenant, const char *after, size_t limit,
    int (*each)(void *arg, const struct ledger_target *t), void *arg, struct err *e)
{
	return l->ops->targets(l, tenant, after, limit, each, arg, e);
}

int
ledger_targets_due(struct ledger *l, int64_t before_real_ms, size_t limit,
    int (*each)(void *arg, const struct ledger_target *t, bool needed), void *arg, struct err *e)
{
	return l->ops->targets_due(l, before_real_ms, limit, each, arg, e);
}

int
ledger_runs_due(struct ledger *l, int64_t now_real_ms, int64_t default_ms, size_t limit,
    int (*each)(void *arg, const char *id), void *arg, struct err *e)
{
	return l->ops->runs_due(l, now_real_ms, default_ms, limit, each, arg, e);
}

int
ledger_promises(struct ledger *l, int64_t *ret_targets_ms, int64_t *ret_results_ms, struct err *e)
{
	return l->ops->promises(l, ret_targets_ms, ret_results_ms, e);
}

int
ledger_usage(struct ledger *l, int (*each)(void *arg, const struct ledger_usage *u), void *arg, struct err *e)
{
	return l->ops->usage(l, each, arg, e);
}

int
ledger_bundles(struct ledger *l, bool pushed_only, int (*each)(void *arg, const struct ledger_bundle *b, bool used), void *arg,
    struct err *e)
{
	return l->ops->bundles(l, pushed_only, each, arg, e);
}

void
ledger_free(struct ledger *l)
{
	if (l != NULL)
		l->ops->free(l);
}
