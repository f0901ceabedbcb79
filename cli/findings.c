#include "cli/findings.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const char *const levels[] = {"error", "warning", "note", "none"};

static int
rank(const char *level)
{
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		if (strcmp(levels[i], level) == 0)
			return (int)i;
	return 0; /* unknown: taken for the worst */
}

/* The default of the rule where the result says nothing; SARIF's own default is "warning". */
static const char *
level_of(const json_t *result, const json_t *driver)
{
	const char *level = json_text(result, "level"), *id = json_text(result, "ruleId");
	size_t i;
	json_t *rule;

	if (level[0] != '\0')
		return level;
	json_array_foreach(json_object_get(driver, "rules"), i, rule)
	{
		level = json_text(json_object_get(rule, "defaultConfiguration"), "level");
		if (level[0] != '\0' && strcmp(json_text(rule, "id"), id) == 0)
			return level;
	}
	return "warning";
}

static struct finding
row_of(const json_t *result, const json_t *driver)
{
	const json_t *place = json_object_get(json_array_get(json_object_get(result, "locations"), 0), "physicalLocation");
	const json_t *message = json_object_get(result, "message");

	return (struct finding){
		.level = levels[rank(level_of(result, driver))],
		.rule = json_text(result, "ruleId"),
		.file = json_text(json_object_get(place, "artifactLocation"), "uri"),
		.line = json_number(json_object_get(place, "region"), "startLine"),
		.message = json_text(message, "text")[0] != '\0' ? json_text(message, "text") : json_text(message, "markdown"),
		.tool = json_text(driver, "name"),
	};
}

static void
count(struct level_counts *n, const char *level)
{
	int64_t *const by_rank[] = {&n->error, &n->warning, &n->note, NULL};

	if (by_rank[rank(level)] != NULL)
		++*by_rank[rank(level)];
	n->total++;
}

static bool
unsuccessful(const json_t *run)
{
	size_t i;
	json_t *invocation;

	json_array_foreach(json_object_get(run, "invocations"), i, invocation)
	{
		if (json_is_false(json_object_get(invocation, "executionSuccessful")))
			return true;
	}
	return false;
}

static int
add_run(struct findings *r, const json_t *run, struct err *e)
{
	const json_t *results = json_object_get(run, "results"), *driver = json_object_get(json_object_get(run, "tool"), "driver");
	size_t n = json_array_size(results), i;
	json_t *result;

	if (!json_is_object(run) || (results != NULL && !json_is_array(results) && !json_is_null(results)))
		return err_set(e, ERR_INVALID, "the findings are not SARIF: a run without a list of results");
	r->failed_runs += unsuccessful(run);
	if (n == 0)
		return 0;
	r->rows = xrealloc(r->rows, (r->n + n) * sizeof(*r->rows));
	json_array_foreach(results, i, result)
	{
		if (!json_is_object(result))
			return err_set(e, ERR_INVALID, "the findings are not SARIF: a result that is no object");
		r->rows[r->n] = row_of(result, driver);
		count(&r->counts, r->rows[r->n++].level);
	}
	return 0;
}

/* By severity; rows of the same level keep the report's order. */
static void
sort_rows(struct findings *r)
{
	struct finding *sorted = xcalloc(r->n, sizeof(*sorted));
	size_t n = 0;

	for (size_t k = 0; k < sizeof(levels) / sizeof(levels[0]); k++)
		for (size_t i = 0; i < r->n; i++)
			if ((size_t)rank(r->rows[i].level) == k)
				sorted[n++] = r->rows[i];
	free(r->rows);
	r->rows = sorted;
}

int
findings_read(const json_t *sarif, struct findings *ret, struct err *e)
{
	const json_t *runs = json_object_get(sarif, "runs");
	struct findings r = {0};
	size_t i;
	json_t *run;
	int rc = 0;

	if (strcmp(json_text(sarif, "version"), "2.1.0") != 0 || !json_is_array(runs))
		return err_set(e, ERR_INVALID, "the findings are not SARIF 2.1.0");
	json_array_foreach(runs, i, run)
	{
		if ((rc = add_run(&r, run, e)) != 0)
			break;
	}
	if (rc != 0) {
		findings_release(&r);
		return rc;
	}
	sort_rows(&r);
	*ret = r;
	return 0;
}

void
findings_release(struct findings *r)
{
	free(r->rows);
	*r = (struct findings){0};
}
