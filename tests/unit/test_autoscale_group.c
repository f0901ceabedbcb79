/* What a group is: its scaling block as Nomad returns it, its allocations, who would go, and the facts for the policy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "autoscale/round.h"

/* --- the scaling block --- */

static json_t *
job_with(const char *policy)
{
	char text[2048];
	json_t *job;

	(void)snprintf(text, sizeof(text),
	    "{\"ID\":\"drover-workers-python\",\"JobModifyIndex\":77,\"TaskGroups\":[{\"Name\":\"workers\",\"Count\":3,\"Scaling\":"
	    "{\"Enabled\":true,\"Min\":1,\"Max\":9,\"Policy\":%s}}]}",
	    policy);
	job = json_loads(text, 0, NULL);
	assert_non_null(job);
	return job;
}

static int
read_policy(const char *policy, struct stanza *s, struct err *e)
{
	json_t *job = job_with(policy);
	int rc = stanza_read(job, s, e);

	json_decref(job);
	return rc;
}

static void
a_block_as_nomad_returns_it(void **state)
{
	struct stanza s;
	struct err e;

	(void)state;
	assert_int_equal(read_policy("{\"cooldown\":\"30s\",\"cooldown_on_scale_up\":\"5s\",\"evaluation_interval\":\"2s\",\"digest\":\"x\","
	    "\"stabilization_down\":90.0,\"check\":[{\"queue\":[{\"source\":\"drover\",\"query\":\"python\",\"strategy\":[{\"drover\":["
	    "{\"drain_s\":45.0,\"slots\":4.0,\"max_scale_up\":\"2\"}]}]}]},{\"other\":[{\"source\":\"prometheus\",\"query\":\"up\","
	    "\"strategy\":[{\"threshold\":[{}]}]}]},{\"age\":[{\"source\":\"drover\",\"query\":\"oldest_s\",\"strategy\":[{"
	    "\"target-value\":[{\"target\":10.0}]}]}]}]}", &s, &e), 0);
	assert_true(s.ours);
	assert_string_equal(s.group, "workers");
	assert_string_equal(s.vertical, "python");
	assert_int_equal(s.count, 3);
	assert_int_equal(s.policy.min, 1);
	assert_int_equal(s.policy.max, 9);
	assert_int_equal(s.policy.cooldown_ms, 30000);
	assert_int_equal(s.policy.cooldown_up_ms, 5000);
	assert_int_equal(s.policy.evaluation_ms, 2000);
	assert_int_equal(s.policy.stabilise_down_ms, 90000);
	assert_int_equal(s.policy.n_checks, 2); /* the one in the middle is somebody else's */
	assert_int_equal(s.policy.checks[0].drain_ms, 45000);
	assert_int_equal(s.policy.checks[0].slots, 4);
	assert_int_equal(s.policy.checks[0].max_up, 2);
	assert_int_equal(s.policy.checks[1].strategy, STRATEGY_TARGET_VALUE);
	assert_int_equal(s.policy.checks[1].metric, METRIC_OLDEST_SECONDS);
}

static void
somebody_elses_blocks_are_left_alone(void **state)
{
	struct stanza s;
	struct err e;
	json_t *job = json_loads("{\"ID\":\"x\",\"TaskGroups\":[{\"Name\":\"g\",\"Count\":1}]}", 0, NULL);

	(void)state;
	assert_int_equal(read_policy("{\"nonsense\":1,\"check\":[{\"q\":[{\"source\":\"prometheus\"}]}]}", &s, &e), 0);
	assert_false(s.ours);
	assert_int_equal(read_policy("null", &s, &e), 0);
	assert_false(s.ours);
	assert_int_equal(stanza_read(job, &s, &e), 0);
	assert_false(s.ours);
	json_decref(job);
}

static void
broken_policies_say_what_is_wrong(void **state)
{
	static const struct {
		const char *policy, *says;
	} cases[] = {
		{"{\"check\":[{\"q\":[{\"source\":\"drover\",\"strategy\":[{\"magic\":[{}]}]}]}]}", "strategy 'magic'"},
		{"{\"check\":[{\"q\":[{\"source\":\"drover\"}]}]}", "strategy ''"},
		{"{\"check\":[{\"q\":[{\"source\":\"drover\",\"strategy\":[{\"target-value\":[{}]}]}]}]}", "needs a target"},
		{"{\"check\":[{\"q\":[{\"source\":\"drover\",\"query\":\"rust\",\"strategy\":[{\"drover\":[{}]}]}]}]}", "query 'rust'"},
		{"{\"cooldwn\":\"1s\",\"check\":[{\"q\":[{\"source\":\"drover\",\"strategy\":[{\"drover\":[{}]}]}]}]}", "unknown key 'cooldwn'"},
		{"{\"cooldown\":\"soon\",\"check\":[{\"q\":[{\"source\":\"drover\",\"strategy\":[{\"drover\":[{}]}]}]}]}", "cooldown"},
		{"{\"check\":[{\"q\":[{\"source\":\"drover\",\"strategy\":[{\"drover\":[{\"drain_s\":0}]}]}]}]}", "out of bounds"},
		{"{\"check\":[{\"q\":[{\"source\":\"drover\",\"strategy\":[{\"drover\":[{\"slots\":1.5}]}]}]}]}", "whole number"},
		{"{\"check\":[{\"q\":[{\"source\":\"drover\",\"strategy\":[{\"drover\":[{\"dran_s\":9}]}]}]}]}", "unknown key 'dran_s'"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stanza s;
		struct err e = {0};

		assert_int_equal(read_policy(cases[i].policy, &s, &e), ERR_INVALID);
		assert_true(s.ours);
		assert_string_equal(s.group, "workers");
		if (strstr(e.msg, cases[i].says) == NULL)
			fail_msg("%s: %s", cases[i].says, e.msg);
	}
}

/* --- victims --- */

static struct group_alloc
alloc(const char *id, int64_t index)
{
	struct group_alloc a = {.index = index, .status = ALLOC_RUNNING, .desired_run = true};

	(void)snprintf(a.id, sizeof(a.id), "%s", id);
	return a;
}

static void
the_highest_indexes_go(void **state)
{
	struct group_alloc a[] = {alloc("b", 1), alloc("e", 7), alloc("a", 0), alloc("c", 3)}; /* with gaps */
	char why[VICTIMS_WHY_MAX];
	size_t v[4];

	(void)state;
	assert_int_equal(victims_predict(a, 4, 2, v, why), 2);
	assert_int_equal(v[0], 1);
	assert_int_equal(v[1], 3);
	assert_int_equal(victims_predict(a, 4, 4, v, why), 0);
	assert_int_equal(victims_predict(a, 4, 6, v, why), 0); /* two that were never placed */
	assert_int_equal(victims_predict(a, 4, 0, v, why), 4);
}

static void
what_is_over_does_not_count(void **state)
{
	struct group_alloc a[] = {alloc("a", 0), alloc("b", 1), alloc("old", 2), alloc("new", 2), alloc("done", 3)};
	char why[VICTIMS_WHY_MAX];
	size_t v[5];

	(void)state;
	a[2].status = ALLOC_FAILED;
	a[2].replaced = true;
	a[4].desired_run = false;
	assert_int_equal(victims_predict(a, 5, 2, v, why), 1);
	assert_int_equal(v[0], 3);
}

/* One that failed and waits to be started again counts, with its index, but is not stopped: something else goes in its place. */
static void
a_failed_one_hides_who_goes(void **state)
{
	struct group_alloc a[] = {alloc("a", 0), alloc("b", 1), alloc("c", 2), alloc("d", 3)};
	char why[VICTIMS_WHY_MAX] = "";
	size_t v[4];

	(void)state;
	a[1].status = ALLOC_FAILED;
	assert_int_equal(victims_predict(a, 4, 2, v, why), 2);
	assert_string_equal(why, "");
	assert_int_equal(victims_predict(a, 4, 1, v, why), 2);
	assert_true(v[0] == 3 && v[1] == 2);
	assert_non_null(strstr(why, "b with index 1 has failed"));
	why[0] = '\0';
	assert_int_equal(victims_predict(a, 4, 0, v, why), 4); /* all go */
	assert_string_equal(why, "");
	assert_int_equal(victims_predict(a, 2, 1, v, why), 0);
	assert_non_null(strstr(why, "has failed"));
	a[0].status = ALLOC_FAILED;
	why[0] = '\0';
	assert_int_equal(victims_predict(a, 2, 1, v, why), 1); /* nothing is left that could go in its place */
	assert_string_equal(why, "");
}

static void
in_doubt_nothing_is_predicted(void **state)
{
	struct group_alloc a[] = {alloc("a", 0), alloc("b", 1), alloc("c", 2)};
	char why[VICTIMS_WHY_MAX];
	size_t v[3];

	(void)state;
	a[0].migrating = true;
	assert_int_equal(victims_predict(a, 3, 1, v, why), -1);
	assert_non_null(strstr(why, "another node"));
	a[0].migrating = false;
	a[0].status = ALLOC_UNKNOWN;
	assert_int_equal(victims_predict(a, 3, 1, v, why), -1);
	a[0].status = ALLOC_RUNNING;
	a[2].index = 1;
	assert_int_equal(victims_predict(a, 3, 1, v, why), -1);
	assert_non_null(strstr(why, "twice"));
	a[2].index = -1;
	assert_int_equal(victims_predict(a, 3, 1, v, why), -1);
}

static void
indexes_come_from_names(void **state)
{
	(void)state;
	assert_int_equal(victims_index("drover-workers-python.workers[0]"), 0);
	assert_int_equal(victims_index("a.b[12]"), 12);
	assert_int_equal(victims_index("a[1].b[34]"), 34);
	assert_int_equal(victims_index("a.b"), -1);
	assert_int_equal(victims_index("a.b[]"), -1);
	assert_int_equal(victims_index("a.b[x]"), -1);
	assert_int_equal(victims_index("a.b[1"), -1);
	assert_int_equal(victims_index("a.b[99999999999999999999999999]"), -1);
	assert_int_equal(victims_index(NULL), -1);
}

/* --- allocations as the API shows them, and the facts --- */

static const char *const allocs_text =
    "[{\"ID\":\"a0\",\"Name\":\"j.workers[0]\",\"TaskGroup\":\"workers\",\"NodeID\":\"n1\",\"ClientStatus\":\"running\","
    "\"DesiredStatus\":\"run\",\"CreateTime\":100},"
    "{\"ID\":\"a1\",\"Name\":\"j.workers[1]\",\"TaskGroup\":\"workers\",\"NodeID\":\"n2\",\"ClientStatus\":\"pending\","
    "\"DesiredStatus\":\"run\",\"CreateTime\":200,\"TaskStates\":{\"worker\":{\"Restarts\":2}}},"
    "{\"ID\":\"a2\",\"Name\":\"j.workers[2]\",\"TaskGroup\":\"workers\",\"NodeID\":\"n2\",\"ClientStatus\":\"failed\","
    "\"DesiredStatus\":\"run\",\"CreateTime\":300,\"NextAllocation\":\"a3\"},"
    "{\"ID\":\"a3\",\"Name\":\"j.workers[2]\",\"TaskGroup\":\"workers\",\"NodeID\":\"n1\",\"ClientStatus\":\"running\","
    "\"DesiredStatus\":\"run\",\"CreateTime\":50,\"DesiredTransition\":{\"Migrate\":null},"
    "\"TaskStates\":{\"worker\":{\"Restarts\":5}}},"
    "{\"ID\":\"x\",\"Name\":\"j.other[9]\",\"TaskGroup\":\"other\",\"ClientStatus\":\"running\",\"DesiredStatus\":\"run\"}]";

static void
a_view_becomes_facts(void **state)
{
	json_t *job = job_with("{\"check\":[{\"q\":[{\"source\":\"drover\",\"query\":\"python\",\"strategy\":[{\"drover\":[{}]}]}]}]}");
	json_t *allocs = json_loads(allocs_text, 0, NULL), *nodes = json_loads("[\"n2\"]", 0, NULL);
	json_t *answer = json_loads("{\"verticals\":[{\"vertical\":\"python\",\"ready\":9,\"warm_ready\":7,\"running\":5,\"oldest_ms\":1234,"
	    "\"one_shots_live\":2,\"arrivals_total\":50,\"service_ms_mean\":800,\"workers\":[{\"worker\":\"w\",\"alloc\":\"a0\","
	    "\"slots\":5,\"leases\":2,\"committing\":1,\"drain\":\"none\"},{\"worker\":\"x\",\"alloc\":\"gone\",\"slots\":5,\"leases\":1,"
	    "\"committing\":0,\"drain\":\"draining\"}],\"idle_slots\":1}]}", 0, NULL);
	struct backlog_snapshot q;
	struct policy_facts f;
	struct view v = {0};
	struct err e;

	(void)state;
	view_parse(job, allocs, &v);
	assert_int_equal(backlog_parse(answer, &q, &e), 0);
	assert_int_equal(v.modify_index, 77);
	assert_int_equal(v.n, 4);
	assert_int_equal(v.allocs[1].index, 1);
	assert_true(v.allocs[2].replaced);
	assert_true(view_on_nodes(&v, nodes));
	f = round_facts(&v, backlog_find(&q, "python"), true, 17, 0);
	assert_int_equal(f.ready, 7);
	assert_int_equal(f.running, 4); /* on warm workers, what is being given to them included */
	assert_int_equal(f.one_shots, 2);
	assert_int_equal(f.slots, 10);
	assert_true(f.workers == 2 && f.taking == 1 && f.held == 3 && f.idle == 1);
	assert_int_equal(f.count, 3);
	assert_int_equal(f.starting, 2);      /* a1 and a3 have not registered */
	assert_int_equal(f.failed_starts, 3); /* two restarts and one failure since a0; a3 is older */
	assert_int_equal(f.queue_age_ms, 17);
	assert_null(backlog_find(&q, "rust"));
	backlog_snapshot_release(&q);
	view_release(&v);
	json_decref(answer);
	json_decref(nodes);
	json_decref(allocs);
	json_decref(job);
}

static struct group_alloc
ended(const char *id, enum alloc_status status, int64_t created_s, int64_t lived_s)
{
	struct group_alloc a = alloc(id, 0);

	a.status = status;
	a.created_ns = created_s * 1000000000;
	a.modified_ns = a.created_ns + lived_s * 1000000000;
	return a;
}

static void
only_starts_that_failed_lately_and_soon_count(void **state)
{
	struct group_alloc a[] = {ended("long ago", ALLOC_FAILED, 1000, 5), ended("worked a while", ALLOC_FAILED, 9000, 600),
		ended("one", ALLOC_FAILED, 9100, 5), ended("two", ALLOC_FAILED, 9200, 5)};
	const struct backlog_vertical none = {.vertical = "v"};
	struct view v = {.n = 4, .allocs = a};

	(void)state;
	assert_int_equal(round_facts(&v, &none, true, 0, 9300000).failed_starts, 2);
	/* An allocation that was scaled away in order had worked: what failed before it says nothing. */
	a[0] = ended("went", ALLOC_ENDED, 9150, 100);
	assert_int_equal(round_facts(&v, &none, true, 0, 9300000).failed_starts, 1);
}

static void
answers_that_are_none_are_refused(void **state)
{
	static const char *const texts[] = {"{}", "{\"verticals\":{}}", "{\"verticals\":[{}]}", "{\"verticals\":[{\"vertical\":7}]}"};
	struct backlog_snapshot q;
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		json_t *o = json_loads(texts[i], 0, NULL);

		assert_int_equal(backlog_parse(o, &q, &e), ERR_PROTO);
		json_decref(o);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_block_as_nomad_returns_it),
		cmocka_unit_test(somebody_elses_blocks_are_left_alone),
		cmocka_unit_test(broken_policies_say_what_is_wrong),
		cmocka_unit_test(the_highest_indexes_go),
		cmocka_unit_test(what_is_over_does_not_count),
		cmocka_unit_test(a_failed_one_hides_who_goes), cmocka_unit_test(in_doubt_nothing_is_predicted),
		cmocka_unit_test(indexes_come_from_names),
		cmocka_unit_test(a_view_becomes_facts),
		cmocka_unit_test(only_starts_that_failed_lately_and_soon_count),
		cmocka_unit_test(answers_that_are_none_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
