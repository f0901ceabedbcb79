/* jobs_compare.c - one job as Nomad has it, against what it shall be: left as it is, registered, or, of a worker group, said to be
 * rolled first or laid to rest. Pool threads.
 *
 * A group at rest is one that its vertical does not want any more: count 0, its scaling switched off, and in its policy how many
 * workers there were. It is not stopped: Nomad forgets stopped jobs after some hours, and an operator's own stop stays an
 * operator's.
 */
#include <string.h>

#include "base/fault.h"
#include "dispatcher/cluster_priv.h"

#define CONFLICTS_MAX 5  /* others that write the same job in the same moment */
#define AT_REST "at_rest" /* key of the policy: the count to come back with; Nomad gives numbers back as reals */

const char *
job_meta(const json_t *job, const char *key)
{
	const char *s = json_string_value(json_object_get(json_object_get(job, "Meta"), key));

	return s != NULL ? s : "";
}

static json_t *
group_of(const json_t *job)
{
	return json_array_get(json_object_get(job, "TaskGroups"), 0);
}

static json_t *
scaling_of(const json_t *job)
{
	return json_object_get(group_of(job), "Scaling");
}

/* What the dispatcher remembers in a group's scaling policy, where a change replaces nothing. */
static const json_t *
remembered(const json_t *job, const char *key)
{
	return json_object_get(json_object_get(scaling_of(job), "Policy"), key);
}

static bool
remembers(const json_t *job, const char *key, const char *value)
{
	const char *s = json_string_value(remembered(job, key));

	return s != NULL && strcmp(s, value) == 0;
}

static void
set_count(json_t *job, int64_t count)
{
	json_object_set_new(group_of(job), "Count", json_integer(count));
}

/* The count that Nomad has stays, unless it is outside the new bounds: Nomad would refuse that. */
static void
keep_count(json_t *job, int64_t have)
{
	json_int_t min = json_integer_value(json_object_get(scaling_of(job), "Min"));
	json_int_t max = json_integer_value(json_object_get(scaling_of(job), "Max"));

	set_count(job, have < min ? min : have > max ? max : have);
}

static int
register_job(struct job_compare *k, struct nomad *n, uint64_t index, struct err *e)
{
	json_t *job = NULL;
	int rc = nomad_parse(n, k->hcl, k->variables, &job, e);

	fault_point("jobs.before_register");
	if (rc == 0 && k->group && k->count >= 0)
		keep_count(job, k->count);
	if (rc == 0)
		rc = nomad_register(n, job, index, !k->group, e);
	json_decref(job);
	k->registered = rc == 0;
	return rc;
}

/* A group that is wanted: is it as it shall be, and may what differs be changed now? */
static bool
judge_group(struct job_compare *k, const json_t *have, bool ours)
{
	int64_t count = json_integer_value(json_object_get(group_of(have), "Count"));
	const json_t *rest = remembered(have, AT_REST);
	bool fine = k->stopped || (ours && rest == NULL && remembers(have, "digest", k->digest));

	k->count = count == 0 && json_is_number(rest) ? (int64_t)json_number_value(rest) : count;
	k->must_roll = !fine && count > 0 && !k->drained && (count > k->max || !remembers(have, "spec", k->spec));
	return fine;
}

/* First nobody may scale it any more; then, when its workers are idle, they go. */
static int
lay_to_rest(struct job_compare *k, struct nomad *n, json_t *have, struct err *e)
{
	int64_t count = json_integer_value(json_object_get(group_of(have), "Count"));
	json_t *scaling = scaling_of(have), *policy = json_object_get(scaling, "Policy");
	bool noted = json_is_number(remembered(have, AT_REST)) && json_is_false(json_object_get(scaling, "Enabled"));
	int rc;

	k->count = count;
	k->resting = noted && count == 0;
	k->must_roll = noted && count > 0 && !k->drained;
	if (k->resting || k->must_roll || !json_is_object(policy))
		return 0;
	if (!noted || count > 0)
		json_object_set_new(policy, AT_REST, json_integer(count));
	json_object_set_new(scaling, "Enabled", json_false());
	json_object_set_new(scaling, "Min", json_integer(0));
	if (noted)
		set_count(have, 0);
	fault_point("jobs.before_rest");
	rc = nomad_register(n, have, k->modify_index, false, e);
	k->registered = rc == 0;
	return rc;
}

/* Whether another Drover has it; then *e says so, unless it may be taken over. */
static int
check_owner(struct job_compare *k, const json_t *have, struct err *e)
{
	const char *theirs = job_meta(have, "drover_ledger");

	if (theirs[0] == '\0' || strcmp(theirs, k->cfg->ledger_uuid) == 0)
		return 0;
	k->taken_over = true;
	/* Even where it may be taken over: not from one that takes it over again and again. */
	if (!k->ours && k->cfg->take_over)
		return 0;
	err_set(e, ERR_DENIED, "it belongs to another Drover (ledger %.36s)", theirs);
	err_hint(e, "give one of them another DROVER_JOB_PREFIX or NOMAD_NAMESPACE; DROVER_NEW_LEDGER=yes if that ledger is lost");
	return ERR_DENIED;
}

/* Looks at what Nomad has, and registers if that is not it. */
static int
compare(struct job_compare *k, struct nomad *n, struct err *e)
{
	json_t *have = NULL;
	int rc = nomad_job(n, k->id, &have, e);
	bool fine, ours;

	k->count = -1;
	k->stopped = k->must_roll = k->resting = k->taken_over = false;
	if (rc == ERR_NOTFOUND) {
		k->resting = k->retire;
		return k->retire ? 0 : register_job(k, n, 0, e);
	}
	if (rc != 0)
		return rc;
	ours = strcmp(job_meta(have, "drover_ledger"), k->cfg->ledger_uuid) == 0;
	k->modify_index = (uint64_t)json_integer_value(json_object_get(have, "JobModifyIndex"));
	k->stopped = json_is_true(json_object_get(have, "Stop"));
	if (k->retire) {
		k->resting = k->stopped || !ours; /* there is nothing to do, or it is not ours to do */
		rc = k->resting ? 0 : lay_to_rest(k, n, have, e);
		goto out;
	}
	fine = k->group ? judge_group(k, have, ours) : k->stopped || (ours && strcmp(job_meta(have, "drover_digest"), k->digest) == 0);
	rc = check_owner(k, have, e);
	if (rc == 0 && !fine && !k->must_roll)
		rc = register_job(k, n, k->modify_index, e);
out:
	json_decref(have);
	return rc;
}

int
job_compare(struct job_compare *k, struct nomad *n, struct err *e)
{
	for (int i = 0; i < CONFLICTS_MAX; i++) {
		int rc = compare(k, n, e);

		if (rc != ERR_CONFLICT)
			return rc;
	}
	return ERR_RETRY; /* others keep writing it */
}
