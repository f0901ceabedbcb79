#include "dispatcher/retention.h"

#include <stdio.h>
#include <string.h>

#include "base/num.h"

/* Walks "workflow=time,workflow=time"; each returns true to go on. */
static int
walk(const struct config *c, bool (*each)(void *arg, const char *workflow, int64_t ms), void *arg, struct err *e)
{
	for (const char *p = c->workflow_retention; *p != '\0'; p += *p == ',') {
		size_t len = strcspn(p, ",");
		char pair[WORKFLOW_NAME_MAX + 32], *eq;
		int64_t ms = 0;

		snprintf(pair, sizeof(pair), "%.*s", len < sizeof(pair) ? (int)len : 0, p);
		p += len;
		eq = strchr(pair, '=');
		if (eq != NULL)
			*eq = '\0';
		if (eq == NULL || !workflow_name_valid(pair))
			return err_set(e, ERR_INVALID, "WORKFLOW_RETENTION: '%.64s' is not WORKFLOW=TIME", pair);
		if (num_duration(eq + 1, RETENTION_MIN_MS, c->retention_max_ms, &ms, e) != 0)
			return err_prefix(e, ERR_INVALID, "WORKFLOW_RETENTION: %s", pair);
		if (!each(arg, pair, ms))
			break;
	}
	return 0;
}

static bool
go_on(void *arg, const char *workflow, int64_t ms)
{
	(void)arg, (void)workflow, (void)ms;
	return true;
}

int
retention_check(const struct config *c, struct err *e)
{
	return walk(c, go_on, NULL, e);
}

struct wanted {
	const char *workflow;
	int64_t ms;
};

static bool
is_wanted(void *arg, const char *workflow, int64_t ms)
{
	struct wanted *w = arg;

	if (strcmp(workflow, w->workflow) == 0)
		w->ms = ms;
	return w->ms == 0;
}

int64_t
retention_of_workflow(const struct config *c, const char *workflow)
{
	struct wanted w = {workflow, 0};

	walk(c, is_wanted, &w, NULL);
	return w.ms;
}

int64_t
retention_default_ms(const struct config *c)
{
	return c->result_retention_ms < c->run_retention_ms ? c->result_retention_ms : c->run_retention_ms;
}

int64_t
retention_results_until(const struct config *c, const struct run_row *row, int64_t retention_ms)
{
	if (!run_state_final(row->state) || row->finished_real_ms == 0)
		return 0;
	return row->finished_real_ms + (retention_ms > 0 ? retention_ms : retention_default_ms(c));
}
