#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dispatcher/cluster_priv.h"

static json_t *
load(const char *text)
{
	json_t *v = json_loads(text, 0, NULL);

	assert_non_null(v);
	return v;
}

#define NODE(dc, pool, driver, cpu, mb, kept) "{\"Datacenter\":\"" dc "\",\"NodePool\":\"" pool "\",\"Drivers\":{\"" driver "\":{\"Detected\":true}," \
	"\"java\":{\"Detected\":false}},\"NodeResources\":{\"Cpu\":{\"CpuShares\":" cpu "},\"Memory\":{\"MemoryMB\":" mb "},\"Disk\":{\"DiskMB\":1000}}," \
	"\"ReservedResources\":{\"Cpu\":{\"CpuShares\":0},\"Memory\":{\"MemoryMB\":" kept "},\"Disk\":{\"DiskMB\":100}}}"
#define JOB(dc, pool, driver, cpu, mb, disk) "{\"Datacenters\":[\"none\",\"" dc "\"],\"NodePool\":\"" pool "\",\"TaskGroups\":[{\"EphemeralDisk\":" \
	"{\"SizeMB\":" disk "},\"Tasks\":[{\"Driver\":\"" driver "\",\"Resources\":{\"CPU\":" cpu ",\"MemoryMB\":" mb "}}]}]}"

/* Two nodes that may be asked: 4000 MHz with 1000 MB, and 2000 MHz with 8000 MB of which 500 are reserved. */
static void
a_job_is_too_large_only_where_no_eligible_node_would_do(void **state)
{
	static const char *const nodes[] = {
		NODE("east-1", "default", "raw_exec", "4000", "1000", "0"), NODE("east-2", "default", "raw_exec", "2000", "8000", "500"),
		NODE("west-1", "default", "raw_exec", "9000", "9000", "0"), NODE("east-1", "gpu", "raw_exec", "9000", "9000", "0"),
		NODE("east-1", "default", "docker", "9000", "9000", "0"), NODE("east-1", "default", "java", "9000", "9000", "0"),
	};
	static const struct {
		const char *job, *why;
	} cases[] = {
		{JOB("east-*", "default", "raw_exec", "4000", "1000", "900"), NULL},
		{JOB("east-*", "default", "raw_exec", "2000", "7500", "900"), NULL},
		{JOB("east-*", "default", "raw_exec", "2000", "7501", "300"), "no node has 7501 MB of memory; the largest has 7500"},
		{JOB("east-*", "default", "raw_exec", "4001", "100", "300"), "no node has 4001 MHz of cpu; the largest has 4000"},
		{JOB("east-*", "default", "raw_exec", "100", "100", "901"), "no node has 901 MB of disk; the largest has 900"},
		{JOB("east-*", "default", "raw_exec", "3000", "2000", "300"), "no node has 3000 MHz of cpu and 2000 MB of memory together"},
		{JOB("*", "default", "raw_exec", "3000", "2000", "300"), NULL},
		{JOB("east-1", "all", "raw_exec", "3000", "2000", "300"), NULL},
		{JOB("east-1", "default", "docker", "3000", "2000", "300"), NULL},
		{JOB("east-1", "default", "exec", "99999", "99999", "300"), NULL}, /* no node at all: Nomad says why */
		{"{}", NULL},
	};
	struct node_size sizes[sizeof(nodes) / sizeof(nodes[0])];
	char why[CORE_CAUSE_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
		json_t *v = load(nodes[i]);

		assert_true(node_size_read(v, &sizes[i]));
		json_decref(v);
	}
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *v = load(cases[i].job);

		assert_int_equal(size_judge(v, sizes, sizeof(sizes) / sizeof(sizes[0]), why), cases[i].why != NULL);
		if (cases[i].why != NULL)
			assert_string_equal(why, cases[i].why);
		json_decref(v);
	}
}

/* Of a node that cannot be told nothing is guessed. */
static void
what_cannot_be_told_of_a_node_is_no_size(void **state)
{
	static const char *const bad[] = {"{}", "{\"Datacenter\":\"dc\",\"NodePool\":\"default\"}",
	    NODE("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "default", "docker", "1", "1", "0")};
	struct node_size size;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *v = load(bad[i]);

		assert_false(node_size_read(v, &size));
		json_decref(v);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_job_is_too_large_only_where_no_eligible_node_would_do),
		cmocka_unit_test(what_cannot_be_told_of_a_node_is_no_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
