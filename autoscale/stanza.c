#include "autoscale/stanza.h"

#include <stdio.h>
#include <string.h>

#include "base/num.h"

#define DAY_MS (24 * 3600 * INT64_C(1000))
#define SOURCE "drover"

enum kind {
	KEY_IGNORED,  /* of the Nomad Autoscaler, or of whoever registers the job */
	KEY_DURATION, /* "90s", or a number of seconds; int64_t ms */
	KEY_COUNT,    /* int64_t */
	KEY_REAL,     /* double */
};

struct key {
	const char *name;
	enum kind kind;
	size_t offset;
	double min, max; /* of counts and reals; durations in ms */
};

#define P(field) offsetof(struct policy, field)
#define C(field) offsetof(struct policy_check, field)

static const struct key policy_keys[] = {
	{"cooldown", KEY_DURATION, P(cooldown_ms), 0, DAY_MS},
	{"cooldown_on_scale_up", KEY_DURATION, P(cooldown_up_ms), 0, DAY_MS},
	{"evaluation_interval", KEY_DURATION, P(evaluation_ms), 100, 3600000},
	{"stabilization_up", KEY_DURATION, P(stabilise_up_ms), 0, DAY_MS},
	{"stabilization_down", KEY_DURATION, P(stabilise_down_ms), 0, DAY_MS},
	{"stale_after", KEY_DURATION, P(stale_ms), 1000, 3600000},
	{"foreign_hold", KEY_DURATION, P(foreign_hold_ms), 0, 7 * DAY_MS},
	{"start_failures", KEY_COUNT, P(start_failures), 1, 1000},
	{"start_pause", KEY_DURATION, P(start_pause_ms), 1000, DAY_MS},
	{"check", KEY_IGNORED, 0, 0, 0}, /* read apart */
	{"target", KEY_IGNORED, 0, 0, 0},
	{"on_check_error", KEY_IGNORED, 0, 0, 0},
	{"digest", KEY_IGNORED, 0, 0, 0},
	{"spec", KEY_IGNORED, 0, 0, 0},
	{"ledger", KEY_IGNORED, 0, 0, 0},
	{"at_rest", KEY_IGNORED, 0, 0, 0},
};

static const struct key check_keys[] = {
	{"source", KEY_IGNORED, 0, 0, 0},
	{"query", KEY_IGNORED, 0, 0, 0},
	{"strategy", KEY_IGNORED, 0, 0, 0}, /* these three are read apart */
	{"query_window", KEY_IGNORED, 0, 0, 0},
	{"query_window_offset", KEY_IGNORED, 0, 0, 0},
	{"group", KEY_IGNORED, 0, 0, 0},
	{"on_error", KEY_IGNORED, 0, 0, 0},
};

static const struct key strategy_keys[] = {
	{"target", KEY_REAL, C(target), 0, 1e9},
	{"threshold", KEY_REAL, C(threshold), 0, 10},
	{"max_scale_up", KEY_COUNT, C(max_up), 0, POLICY_COUNT_MAX},
	{"max_scale_down", KEY_COUNT, C(max_down), 0, POLICY_COUNT_MAX},
	{"drain_s", KEY_DURATION, C(drain_ms), 1000, DAY_MS},
	{"service_s", KEY_DURATION, C(service_ms), 1, 7 * DAY_MS},
	{"slots", KEY_COUNT, C(slots), 0, 1000},
};

/* A number, or a text that holds one (strategies are written both ways). False if it is neither. */
static bool
number_of(const json_t *v, double *ret)
{
	json_t *parsed;
	bool ok;

	if (json_is_number(v)) {
		*ret = json_number_value(v);
		return true;
	}
	parsed = json_is_string(v) ? json_loads(json_string_value(v), JSON_DECODE_ANY, NULL) : NULL;
	ok = json_is_number(parsed);
	if (ok)
		*ret = json_number_value(parsed);
	json_decref(parsed);
	return ok;
}

static int
read_duration(const struct key *k, const json_t *v, int64_t *at, const char *where, struct err *e)
{
	const char *text = json_string_value(v);
	double number;
	int rc;

	if (number_of(v, &number)) {
		if (!(number * 1000 >= k->min && number * 1000 <= k->max))
			return err_set(e, ERR_INVALID, "%s: %s = %g s is out of bounds", where, k->name, number);
		*at = (int64_t)(number * 1000);
		return 0;
	}
	if (text == NULL)
		return err_set(e, ERR_INVALID, "%s: %s must be a duration such as \"30s\"", where, k->name);
	rc = num_duration(text, (int64_t)k->min, (int64_t)k->max, at, e);
	return rc == 0 ? 0 : err_prefix(e, rc, "%s: %s", where, k->name);
}

static int
read_key(const struct key *k, const json_t *v, void *into, const char *where, struct err *e)
{
	char *at = (char *)into + k->offset;
	double number;

	if (k->kind == KEY_IGNORED)
		return 0;
	if (k->kind == KEY_DURATION)
		return read_duration(k, v, (int64_t *)(void *)at, where, e);
	if (!number_of(v, &number))
		return err_set(e, ERR_INVALID, "%s: %s must be a number", where, k->name);
	if (!(number >= k->min && number <= k->max))
		return err_set(e, ERR_INVALID, "%s: %s = %g is not within %g..%g", where, k->name, number, k->min, k->max);
	if (k->kind == KEY_REAL) {
		*(double *)(void *)at = number;
		return 0;
	}
	if (number != (double)(int64_t)number)
		return err_set(e, ERR_INVALID, "%s: %s = %g is not a whole number", where, k->name, number);
	*(int64_t *)(void *)at = (int64_t)number;
	return 0;
}

/* Every key of o must be in the table. */
static int
read_keys(const json_t *o, const struct key *keys, size_t n, void *into, const char *where, struct err *e)
{
	const char *name;
	json_t *v;
	int rc = 0;

	json_object_foreach ((json_t *)o, name, v) {
		size_t i = 0;

		while (i < n && strcmp(keys[i].name, name) != 0)
			i++;
		if (i == n)
			rc = err_set(e, ERR_INVALID, "%s: unknown key '%.60s'", where, name);
		else
			rc = read_key(&keys[i], v, into, where, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* A labelled block: [{"label":[{…}]}] or {"label":{…}}. Sets *label to NULL where it is neither. */
static const json_t *
labelled(const json_t *v, const char **label)
{
	const json_t *o = json_is_array(v) ? json_array_get(v, 0) : v, *body;
	void *it = json_is_object(o) ? json_object_iter((json_t *)o) : NULL;

	*label = NULL;
	if (it == NULL)
		return NULL;
	body = json_object_iter_value(it);
	if (json_is_array(body))
		body = json_array_get(body, 0);
	*label = json_object_iter_key(it);
	return json_is_object(body) ? body : NULL;
}

/* "", the vertical, or a metric's name. */
static int
read_query(const json_t *check, const char *vertical, struct policy_check *c, const char *where, struct err *e)
{
	const char *query = json_string_value(json_object_get(check, "query"));
	int metric;

	if (query == NULL || query[0] == '\0' || strcmp(query, vertical) == 0)
		return 0;
	if ((metric = policy_metric_parse(query)) < 0) {
		err_set(e, ERR_INVALID, "%s: query '%.60s' is neither the vertical '%.60s' nor a metric", where, query, vertical);
		err_hint(e, "metrics: ready, running, demand, ready_per_worker, demand_per_worker, oldest_s, workers_needed");
		return ERR_INVALID;
	}
	c->metric = (enum policy_metric)metric;
	return 0;
}

static int
read_check(const char *name, const json_t *check, const struct stanza *s, struct policy_check *c, struct err *e)
{
	const char *word = NULL;
	const json_t *settings = labelled(json_object_get(check, "strategy"), &word);
	char where[STANZA_NAME_MAX];
	int strategy = word != NULL ? policy_strategy_parse(word) : -1, rc;

	(void)snprintf(where, sizeof(where), "check \"%.60s\"", name);
	if (strategy < 0) {
		err_set(e, ERR_INVALID, "%s: strategy '%.40s' is not known", where, word == NULL ? "" : word);
		err_hint(e, "strategies: drover, target-value, pass-through");
		return ERR_INVALID;
	}
	*c = policy_check_default((enum policy_strategy)strategy);
	(void)snprintf(c->name, sizeof(c->name), "%.60s", name);
	if ((rc = read_keys(check, check_keys, sizeof(check_keys) / sizeof(check_keys[0]), c, where, e)) != 0 ||
	    (rc = read_query(check, s->vertical, c, where, e)) != 0 ||
	    (rc = read_keys(settings, strategy_keys, sizeof(strategy_keys) / sizeof(strategy_keys[0]), c, where, e)) != 0)
		return rc;
	if (c->strategy == STRATEGY_TARGET_VALUE && json_object_get(settings, "target") == NULL)
		return err_set(e, ERR_INVALID, "%s: target-value needs a target", where);
	return 0;
}

/* One element of the list of checks may hold several labels. */
static int
read_checks(const json_t *list, struct stanza *s, struct err *e)
{
	struct policy *p = &s->policy;
	json_t *element;
	size_t i;

	json_array_foreach (list, i, element) {
		const char *name;
		json_t *v;

		json_object_foreach (element, name, v) {
			const json_t *check = json_is_array(v) ? json_array_get(v, 0) : v;
			const char *source = json_string_value(json_object_get(check, "source"));
			int rc;

			if (source == NULL || strcmp(source, SOURCE) != 0)
				continue;
			s->ours = true;
			if (p->n_checks == POLICY_CHECKS_MAX)
				return err_set(e, ERR_INVALID, "more than %d checks", POLICY_CHECKS_MAX);
			if ((rc = read_check(name, check, s, &p->checks[p->n_checks], e)) != 0)
				return rc;
			p->n_checks++;
		}
	}
	return 0;
}

static void
read_vertical(const json_t *job, struct stanza *s)
{
	const char *meta = json_string_value(json_object_get(json_object_get(job, "Meta"), "drover_vertical"));
	const char *id = json_string_value(json_object_get(job, "ID")), *found = id != NULL ? strstr(id, "-workers-") : NULL;

	if (meta == NULL)
		meta = found != NULL ? found + strlen("-workers-") : "";
	(void)snprintf(s->vertical, sizeof(s->vertical), "%s", meta);
}

/* The first group that has a scaling block; Policy is taken apart afterwards. */
static const json_t *
scaling_of(const json_t *job, struct stanza *s)
{
	json_t *group;
	size_t i;

	json_array_foreach (json_object_get(job, "TaskGroups"), i, group) {
		const json_t *scaling = json_object_get(group, "Scaling");
		const char *name = json_string_value(json_object_get(group, "Name"));

		if (!json_is_object(scaling) || name == NULL)
			continue;
		(void)snprintf(s->group, sizeof(s->group), "%s", name);
		s->count = json_integer_value(json_object_get(group, "Count"));
		return scaling;
	}
	return NULL;
}

int
stanza_read(const json_t *job, struct stanza *s, struct err *e)
{
	const json_t *scaling, *policy, *enabled;
	int rc;

	*s = (struct stanza){.policy = policy_default()};
	read_vertical(job, s);
	if ((scaling = scaling_of(job, s)) == NULL)
		return 0;
	policy = json_object_get(scaling, "Policy");
	enabled = json_object_get(scaling, "Enabled");
	s->policy.enabled = !json_is_false(enabled);
	s->policy.min = json_integer_value(json_object_get(scaling, "Min"));
	s->policy.max = json_integer_value(json_object_get(scaling, "Max"));
	if ((rc = read_checks(json_object_get(policy, "check"), s, e)) != 0 || !s->ours)
		return rc;
	if ((rc = read_keys(policy, policy_keys, sizeof(policy_keys) / sizeof(policy_keys[0]), &s->policy, "policy", e)) != 0)
		return rc;
	if (s->vertical[0] == '\0')
		return err_set(e, ERR_INVALID, "the job has no meta drover_vertical");
	if (s->policy.min < 0 || s->policy.max < s->policy.min || s->policy.max > POLICY_COUNT_MAX)
		return err_set(e, ERR_INVALID, "bounds %lld..%lld", (long long)s->policy.min, (long long)s->policy.max);
	return 0;
}
