#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dispatcher/cluster_priv.h"

#define LEDGER "11111111-2222-4333-8444-555555555555"

static json_t *
load(const char *text)
{
	json_t *v = json_loads(text, 0, NULL);

	assert_non_null(v);
	return v;
}

static void
tokens_tell_ours_from_others_and_from_hand_made(void **state)
{
	static const struct {
		const char *token;
		uint64_t seq;
		bool foreign;
	} cases[] = {
		{LEDGER "-1", 1, false},
		{LEDGER "-9007199254740993", 9007199254740993, false},
		{LEDGER "-0", 0, false},
		{LEDGER "-1x", 0, false},
		{LEDGER, 0, false},
		{"21111111-2222-4333-8444-555555555555-1", 0, true},
		{"", 0, false},
		{"mine", 0, false},
		{"21111111-2222-4333-8444-555555555555-", 0, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool foreign = true;

		assert_int_equal(request_seq(cases[i].token, LEDGER, &foreign), cases[i].seq);
		assert_int_equal(foreign, cases[i].foreign);
	}
}

#define ALLOC(client, desired, events) \
	"{\"ID\":\"a\",\"JobID\":\"j\",\"CreateIndex\":1,\"ModifyIndex\":2,\"ClientStatus\":\"" client "\",\"DesiredStatus\":\"" desired \
	"\",\"TaskStates\":{\"worker\":{\"Events\":[" events "]}}}"
#define TERMINATED(code, signal, oom) \
	"{\"Type\":\"Terminated\",\"Details\":{\"exit_code\":\"" code "\",\"signal\":\"" signal "\",\"oom_killed\":\"" oom "\"}}"

static void
allocations_become_facts(void **state)
{
	static const struct {
		const char *json;
		enum child_state state;
		bool unwanted, crash, oom;
		const char *why;
	} cases[] = {
		{ALLOC("pending", "run", ""), CHILD_STARTING, false, false, false, ""},
		{ALLOC("pending", "run", "{\"Type\":\"Driver\",\"DisplayMessage\":\"Downloading image\"}"), CHILD_STARTING, false, false,
		    false, "Downloading image"},
		{ALLOC("running", "run", "{\"Type\":\"Driver\",\"DisplayMessage\":\"Downloading image\"}"), CHILD_RUNNING, false, false,
		    false, ""},
		{ALLOC("unknown", "run", ""), CHILD_UNKNOWN, false, false, false, "its node is disconnected"},
		{ALLOC("complete", "run", TERMINATED("0", "0", "false")), CHILD_ENDED, false, false, false, ""},
		{ALLOC("failed", "run", TERMINATED("3", "0", "false")), CHILD_ENDED, false, true, false,
		    "its worker ended with exit code 3"},
		{ALLOC("failed", "run", TERMINATED("2", "0", "false")), CHILD_ENDED, false, true, false,
		    "its worker ended with exit code 2: its settings, its credentials or the way to us; its log says which"},
		{ALLOC("failed", "run", TERMINATED("137", "9", "false")), CHILD_ENDED, false, true, false,
		    "its worker was killed by signal 9"},
		{ALLOC("failed", "run", TERMINATED("137", "9", "true")), CHILD_ENDED, false, true, true, "out of memory"},
		/* stopped by Nomad: the exit code answers a signal */
		{ALLOC("complete", "stop", TERMINATED("137", "9", "false")), CHILD_ENDED, true, false, false, ""},
		{ALLOC("complete", "evict", TERMINATED("1", "0", "false")), CHILD_ENDED, true, false, false, ""},
		{ALLOC("complete", "run", "{\"Type\":\"Killing\"}," TERMINATED("143", "15", "false")), CHILD_ENDED, false, false, false, ""},
		{ALLOC("failed", "run", "{\"Type\":\"Driver Failure\",\"DisplayMessage\":\"no such\\nimage\"}"), CHILD_ENDED, false, true,
		    false, "no such image"},
		{ALLOC("lost", "run", ""), CHILD_ENDED, false, false, false, "its node was lost"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *v = load(cases[i].json);
		struct alloc_fact f;

		assert_true(alloc_fact_read(v, &f));
		assert_string_equal(f.id, "a");
		assert_string_equal(f.job, "j");
		assert_int_equal(f.create_index, 1);
		assert_int_equal(f.modify_index, 2);
		assert_int_equal(f.state, cases[i].state);
		assert_int_equal(f.unwanted, cases[i].unwanted);
		assert_int_equal(f.crash, cases[i].crash);
		assert_int_equal(f.oom, cases[i].oom);
		assert_string_equal(f.why, cases[i].why);
		json_decref(v);
	}
}

static void
what_is_no_allocation_or_job_is_refused(void **state)
{
	static const char *const bad[] = {"{}", "[]", "{\"ID\":7,\"JobID\":\"j\",\"ClientStatus\":\"running\"}",
	    "{\"ID\":\"a\",\"JobID\":\"j\",\"ClientStatus\":\"dancing\"}",
	    "{\"ID\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"JobID\":\"j\",\"ClientStatus\":\"running\"}",
	    "{\"ID\":\"\",\"JobID\":\"j\",\"ClientStatus\":\"running\"}"};
	char longest[CORE_CHILD_MAX + 32];
	struct alloc_fact f;
	struct job_fact j;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *v = load(bad[i]);

		assert_false(alloc_fact_read(v, &f));
		json_decref(v);
	}
	for (size_t len = CORE_CHILD_MAX - 1; len <= CORE_CHILD_MAX; len++) {
		json_t *v = json_object();

		memset(longest, 'x', len);
		longest[len] = '\0';
		json_object_set_new(v, "ID", json_string(longest));
		assert_int_equal(job_fact_read(v, &j), len < CORE_CHILD_MAX);
		json_decref(v);
	}
}

static void
jobs_become_facts(void **state)
{
	json_t *v = load("{\"ID\":\"p/dispatch-1\",\"ParentID\":\"p\",\"Stop\":true,\"Status\":\"dead\",\"Meta\":{\"request\":\"" LEDGER
	                 "-4\"}}"), *parent = load("{\"ID\":\"p\",\"ParentID\":\"\",\"Status\":\"running\",\"Meta\":null}");
	struct job_fact f;

	(void)state;
	assert_true(job_fact_read(v, &f));
	assert_true(f.child && f.stopped && f.dead);
	assert_string_equal(f.request, LEDGER "-4");
	assert_true(job_fact_read(parent, &f));
	assert_false(f.child || f.stopped || f.dead);
	assert_string_equal(f.request, "");
	json_decref(v);
	json_decref(parent);
}

static void
placement_failures_become_lines_for_people(void **state)
{
	static const struct {
		const char *json, *why;
		bool never, exhausted;
	} cases[] = {
		{"{\"FailedTGAllocs\":{\"run\":{\"NodesEvaluated\":2,\"NodesFiltered\":2,\"ConstraintFiltered\":{\"missing drivers\":2}}}}",
		    "2 nodes: missing drivers", true, false},
		{"{\"FailedTGAllocs\":{\"run\":{\"NodesEvaluated\":2,\"NodesFiltered\":1,\"ConstraintFiltered\":{\"missing drivers\":1},"
		 "\"DimensionExhausted\":{\"cpu\":1}}}}", "1 node: missing drivers; 1 node: cpu exhausted", false, true},
		{"{\"FailedTGAllocs\":{\"run\":{\"NodesEvaluated\":1,\"DimensionExhausted\":{\"memory\":1}}}}", "1 node: memory exhausted", false, true},
		{"{\"FailedTGAllocs\":{\"run\":{\"NodesEvaluated\":0}}}", "no node is eligible in these datacenters and this node pool", true, false},
		{"{\"FailedTGAllocs\":{\"run\":{\"NodesEvaluated\":0,\"QuotaExhausted\":[\"cpu\"]}}}", "quota: cpu", false, false},
		{"{\"FailedTGAllocs\":{\"run\":{\"NodesEvaluated\":3}}}", "no node has room", false, false},
		{"{\"FailedTGAllocs\":{\"run\":{\"NodesEvaluated\":1,\"DimensionExhausted\":{\"network: reserved port collision\":1}}}}",
		    "1 node: network: reserved port collision exhausted", false, false},
		{"{\"FailedTGAllocs\":null}", NULL, false, false},
		{"{}", NULL, false, false},
	};
	struct placement p;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *v = load(cases[i].json);

		assert_int_equal(placement_read(v, &p), cases[i].why != NULL);
		assert_int_equal(p.never, cases[i].never);
		assert_int_equal(p.exhausted, cases[i].exhausted);
		if (cases[i].why != NULL)
			assert_string_equal(p.why, cases[i].why);
		json_decref(v);
	}
}

#define AT(type, ms, details) "{\"Type\":\"" type "\",\"Time\":" ms "000000" details "}"
#define EXIT(code, signal) ",\"Details\":{\"exit_code\":\"" code "\",\"signal\":\"" signal "\",\"oom_killed\":\"false\"}"

/* A task that Nomad starts again has died all the same: when, and whether by its own fault. */
static void
deaths_are_told_by_their_time(void **state)
{
	static const struct {
		const char *alloc;
		enum child_state state;
		int64_t died_real_ms;
		bool crash;
	} cases[] = {
		{ALLOC("running", "run", AT("Started", "5", "")), CHILD_RUNNING, 0, false},
		{ALLOC("pending", "run", AT("Started", "5", "") "," AT("Terminated", "9", EXIT("137", "9")) "," AT("Restarting", "9", "")),
		    CHILD_STARTING, 9, true},
		{ALLOC("running", "run", AT("Started", "5", "") "," AT("Terminated", "9", EXIT("137", "9")) "," AT("Started", "12", "")),
		    CHILD_RUNNING, 9, true},
		/* killed because someone asked for it, then started again, then dead by itself */
		{ALLOC("running", "run", AT("Restart Signaled", "7", "") "," AT("Terminated", "9", EXIT("1", "0")) "," AT("Started", "12", "")),
		    CHILD_RUNNING, 9, false},
		{ALLOC("pending", "run", AT("Killing", "7", "") "," AT("Terminated", "9", EXIT("1", "0")) "," AT("Started", "12", "") ","
		    AT("Terminated", "15", EXIT("2", "0"))), CHILD_STARTING, 15, true},
		{ALLOC("pending", "run", AT("Started", "5", "") "," AT("Terminated", "9", EXIT("0", "0"))), CHILD_STARTING, 9, false},
		{ALLOC("complete", "stop", AT("Killing", "8", "") "," AT("Terminated", "9", EXIT("0", "0"))), CHILD_ENDED, 9, false},
		{ALLOC("complete", "stop", AT("Terminated", "9", EXIT("137", "9"))), CHILD_ENDED, 9, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *v = load(cases[i].alloc);
		struct alloc_fact f;

		assert_true(alloc_fact_read(v, &f));
		assert_int_equal(f.state, cases[i].state);
		assert_int_equal(f.died_real_ms, cases[i].died_real_ms);
		assert_int_equal(f.died_crash, cases[i].crash);
		json_decref(v);
	}
}

/* --- what is rendered for Nomad --- */

static struct vertical vertical = {.name = "python", .driver = "docker", .image = "i:1", .cpu_millis = {500, 2000},
    .memory_bytes = {(512 << 20) + 1, INT64_C(4) << 30}};

static char *
render(json_t *env, const char *driver, const char *hcl, enum run_class class, char digest[65])
{
	struct cluster_config cfg = {.datacenters = "dc1, dc2", .driver = driver, .worker_command = "/w", .cache_volume = "vol",
	    .worker_env = env, .job_prefix = "drover", .ledger_uuid = LEDGER};

	return job_variables(&cfg, hcl, &vertical, class, digest);
}

static void
variables_are_what_the_vertical_says(void **state)
{
	char digest[65], *docker = render(NULL, "", "x", CLASS_NORMAL, digest), *raw = render(NULL, "raw_exec", "x", CLASS_LARGE, digest);

	(void)state;
	assert_non_null(strstr(docker, "job_id = \"drover-run-python\"\n"));
	assert_non_null(strstr(docker, "datacenters = [\"dc1\", \"dc2\"]\n"));
	assert_non_null(strstr(docker, "memory = 513\n"));
	assert_non_null(strstr(docker, "cpu = 500\n"));
	assert_non_null(strstr(docker, "image = \"i:1\"\n"));
	assert_non_null(strstr(docker, "cache_volume = \"vol\"\n"));
	assert_non_null(strstr(docker, "\"DROVER_SECRETS_PATH\" = \"nomad/jobs/drover-run-python\"\n"));
	assert_null(strstr(docker, "command = "));
	assert_non_null(strstr(raw, "job_id = \"drover-run-python-large\"\n"));
	assert_non_null(strstr(raw, "class = \"large\"\n"));
	assert_non_null(strstr(raw, "driver = \"raw_exec\"\n"));
	assert_non_null(strstr(raw, "command = \"/w\"\n"));
	assert_non_null(strstr(raw, "cache_volume = \"\"\n"));
	free(docker);
	free(raw);
}

static void
values_cannot_break_out_of_their_quotes(void **state)
{
	json_t *env = json_pack("{s:s, s:s}", "A", "a\"b\\c\n${x}%{y}$", "S3_ENDPOINT", "http://s3");
	char digest[65], *text = render(env, "", "x", CLASS_NORMAL, digest);

	(void)state;
	assert_non_null(strstr(text, "  \"A\" = \"a\\\"b\\\\c\\u000a$${x}%%{y}$\"\n"));
	free(text);
	json_decref(env);
}

static void
the_digest_follows_content_and_nothing_else(void **state)
{
	json_t *one = json_pack("{s:s, s:s}", "A", "1", "B", "2"), *two = json_pack("{s:s, s:s}", "B", "2", "A", "1"),
	       *other = json_pack("{s:s, s:s}", "A", "1", "B", "3");
	const struct {
		json_t *env;
		const char *hcl;
		bool same;
	} cases[] = {{two, "x", true}, {other, "x", false}, {one, "y", false}};
	char first[65], digest[65];

	(void)state;
	free(render(one, "", "x", CLASS_NORMAL, first));
	for (size_t i = 0; i < 3; i++) {
		free(render(cases[i].env, "", cases[i].hcl, CLASS_NORMAL, digest));
		assert_int_equal(strcmp(first, digest) == 0, cases[i].same);
	}
	json_decref(one);
	json_decref(two);
	json_decref(other);
}

/* A worker group: what Nomad changes in place is in one digest alone; what replaces allocations is in both. */
static void
a_group_tells_changes_in_place_from_others(void **state)
{
	struct cluster_config cfg = {.datacenters = "*", .driver = "raw_exec", .worker_command = "/w", .cache_volume = "",
	    .worker_service = "consul", .job_prefix = "drover", .ledger_uuid = LEDGER};
	struct vertical v = {.name = "python", .driver = "docker", .slots = 3, .warm = {.min = 1, .max = 4, .count = 2, .cpu_millis = 1000,
	    .memory_bytes = 1 << 30, .strategy = (char *)(uintptr_t)"drover", .target = 10, .drain_ms = 1500,
	    .stabilization_down_ms = 90000, .threshold = 0.1, .evaluation_interval_ms = 500, .max_scale_up = 3}};
	char digest[65], spec[65], digest2[65], spec2[65], *text = group_variables(&cfg, "x", &v, digest, spec);
	struct vertical changed[8] = {v, v, v, v, v, v, v, v};

	(void)state;
	assert_non_null(strstr(text, "job_id = \"drover-workers-python\"\n"));
	assert_non_null(strstr(text, "\"DROVER_SECRETS_PATH\" = \"nomad/jobs/drover-workers-python\"\n"));
	assert_non_null(strstr(text, "slots = 3\n"));
	assert_non_null(strstr(text, "drain_s = 2\n"));
	assert_non_null(strstr(text, "threshold = 0.1\nevaluation_interval = \"500ms\"\nstabilization_up = \"0s\"\nstabilization_down = \"90s\"\n"));
	assert_non_null(strstr(text, "max_scale_up = 3\n"));
	assert_non_null(strstr(text, "count = 2\n"));
	free(text);
	changed[0].warm.max = 5;
	changed[1].warm.min = 0;
	changed[2].warm.drain_ms = 9000;
	changed[3].warm.count = 4; /* of the first registration: no change at all */
	changed[4].warm.threshold = 0.2;
	changed[5].warm.cooldown_ms = 1;
	changed[6].warm.memory_bytes = 2 << 20;
	changed[7].slots = 4;
	for (size_t i = 0; i < 8; i++) {
		free(group_variables(&cfg, "x", &changed[i], digest2, spec2));
		assert_int_equal(strcmp(spec, spec2) == 0, i < 6);
		assert_int_equal(strcmp(digest, digest2) == 0, i == 3);
	}
	free(group_variables(&cfg, "y", &v, digest2, spec2));
	assert_true(strcmp(spec, spec2) != 0 && strcmp(digest, digest2) != 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokens_tell_ours_from_others_and_from_hand_made),
		cmocka_unit_test(allocations_become_facts),
		cmocka_unit_test(what_is_no_allocation_or_job_is_refused),
		cmocka_unit_test(jobs_become_facts),
		cmocka_unit_test(placement_failures_become_lines_for_people),
		cmocka_unit_test(variables_are_what_the_vertical_says),
		cmocka_unit_test(values_cannot_break_out_of_their_quotes),
		cmocka_unit_test(the_digest_follows_content_and_nothing_else),
		cmocka_unit_test(deaths_are_told_by_their_time), cmocka_unit_test(a_group_tells_changes_in_place_from_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
