/* nomad_scale.c - counts, scaling events, deployments, draining nodes and locks against a real Nomad: what the autoscaler's
 * calls do, and how each refusal is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "cluster/nomad_scale.h"
#include "nomad_agent.h"

#define JOB "scaled"
#define GROUP "workers"

static const char hcl[] =
    "job \"" JOB "\" {\n"
    "  type = \"service\"\n"
    "  update {\n    max_parallel = 0\n  }\n"
    "  group \"" GROUP "\" {\n"
    "    count = 1\n"
    "    scaling {\n      min = 0\n      max = 3\n    }\n"
    "    task \"t\" {\n"
    "      driver = \"raw_exec\"\n"
    "      config {\n        command = \"/bin/sleep\"\n        args    = [\"600\"]\n      }\n"
    "    }\n"
    "  }\n"
    "}\n";

static struct agent agent;
static struct nomad *nomad;

static uint64_t
modify_index(int64_t *ret_count)
{
	json_t *job = NULL;
	uint64_t index;
	struct err e;

	assert_int_equal(nomad_job(nomad, JOB, &job, &e), 0);
	index = (uint64_t)json_integer_value(json_object_get(job, "JobModifyIndex"));
	*ret_count = json_integer_value(json_object_get(json_array_get(json_object_get(job, "TaskGroups"), 0), "Count"));
	json_decref(job);
	return index;
}

static void
a_count_is_set_at_its_index_only(void **state)
{
	json_t *meta = json_pack("{s:s, s:i}", "why", "test", "wanted", 2);
	int64_t count;
	uint64_t index = modify_index(&count);
	struct err e = {0};

	(void)state;
	assert_int_equal(count, 1);
	assert_int_equal(nomad_scale(nomad, JOB, GROUP, 2, index, "two are wanted", meta, &e), 0);
	(void)modify_index(&count);
	assert_int_equal(count, 2);
	assert_int_equal(nomad_scale(nomad, JOB, GROUP, 3, index, "late", meta, &e), ERR_CONFLICT);
	(void)modify_index(&count);
	assert_int_equal(count, 2);
	json_decref(meta);
}

static void
refusals_are_told_apart(void **state)
{
	int64_t count;
	uint64_t index = modify_index(&count);
	struct err e = {0};

	(void)state;
	assert_int_equal(nomad_scale(nomad, JOB, GROUP, 4, index, "too many", NULL, &e), ERR_INVALID);
	assert_non_null(strstr(e.msg, "maximum"));
	assert_int_equal(nomad_scale(nomad, JOB, "nope", 1, index, "no group", NULL, &e), ERR_INVALID);
	assert_int_equal(nomad_scale(nomad, "nope", GROUP, 1, 0, "no job", NULL, &e), ERR_NOTFOUND);
	assert_int_equal(nomad_scale(nomad, JOB, GROUP, 1, index, "\xff", NULL, &e), ERR_INVALID);
}

static void
a_note_changes_nothing(void **state)
{
	int64_t before, after;
	uint64_t index = modify_index(&before);
	struct err e = {0};

	(void)state;
	assert_int_equal(nomad_scale_note(nomad, JOB, GROUP, true, "the policy is broken", NULL, &e), 0);
	assert_int_equal(nomad_scale_note(nomad, JOB, GROUP, false, "all is well", NULL, &e), 0);
	assert_int_equal(modify_index(&after), index);
	assert_int_equal(before, after);
}

static void
deployments_and_drains_are_seen(void **state)
{
	json_t *nodes = NULL;
	struct err e = {0};
	bool active = true;

	(void)state;
	assert_int_equal(nomad_deployment_active(nomad, JOB, &active, &e), 0);
	assert_false(active);
	assert_int_equal(nomad_draining_nodes(nomad, &nodes, &e), 0);
	assert_int_equal(json_array_size(nodes), 0);
	json_decref(nodes);
}

/* A server that has just begun to lead has no key for variables yet: it says to try again. */
static int
acquire_when_ready(const char *path, const json_t *items, char id[NOMAD_LOCK_ID_MAX], struct err *e)
{
	int64_t deadline_mono_ms = clock_mono_ms() + 20000;
	int rc;

	while ((rc = nomad_lock_acquire(nomad, path, items, 10, 1, id, e)) == ERR_RETRY && clock_mono_ms() < deadline_mono_ms)
		usleep(20000);
	return rc;
}

static void
a_lock_has_one_holder(void **state)
{
	static const char path[] = "drover/test-lock";
	json_t *one = json_pack("{s:s}", "holder", "one"), *two = json_pack("{s:s}", "holder", "two");
	char first[NOMAD_LOCK_ID_MAX] = "", second[NOMAD_LOCK_ID_MAX] = "";
	struct err e = {0};

	(void)state;
	if (acquire_when_ready(path, one, first, &e) != 0)
		fail_msg("%s", e.msg);
	assert_true(first[0] != '\0');
	assert_int_equal(nomad_lock_acquire(nomad, path, two, 10, 1, second, &e), ERR_CONFLICT);
	assert_int_equal(nomad_lock_renew(nomad, path, first, &e), 0);
	assert_int_equal(nomad_lock_renew(nomad, path, "01234567-89ab-cdef-0123-456789abcdef", &e), ERR_CONFLICT);
	assert_int_equal(nomad_lock_release(nomad, path, first, &e), 0);
	assert_int_equal(nomad_lock_acquire(nomad, path, two, 10, 1, second, &e), 0);
	assert_string_not_equal(first, second);
	assert_int_equal(nomad_lock_renew(nomad, path, first, &e), ERR_CONFLICT);
	assert_int_equal(nomad_lock_release(nomad, path, second, &e), 0);
	assert_int_equal(nomad_lock_acquire(nomad, path, one, 1, 1, first, &e), ERR_INVALID); /* shorter than Nomad takes */
	json_decref(one);
	json_decref(two);
}

static int
start(void **state)
{
	struct nomad_config cfg;
	json_t *job = NULL;
	struct err e;

	(void)state;
	if (agent_start(&agent) != 0)
		return -1;
	cfg = (struct nomad_config){.addr = agent.url};
	nomad = nomad_new(&cfg);
	if (nomad_parse(nomad, hcl, "", &job, &e) != 0 || nomad_register(nomad, job, 0, true, &e) != 0) {
		fprintf(stderr, "%s\n", e.msg);
		return -1;
	}
	json_decref(job);
	return 0;
}

static int
stop(void **state)
{
	(void)state;
	nomad_free(nomad);
	agent_stop(&agent);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_count_is_set_at_its_index_only),
		cmocka_unit_test(refusals_are_told_apart),
		cmocka_unit_test(a_note_changes_nothing),
		cmocka_unit_test(deployments_and_drains_are_seen),
		cmocka_unit_test(a_lock_has_one_holder),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
