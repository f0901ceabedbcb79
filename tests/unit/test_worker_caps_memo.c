/* What the sandbox can do is tried once and then remembered, but never longer or wider than it may be true. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "worker/caps_memo.h"

static char dir[256], memo[300];

static int
set_up(void **state)
{
	(void)state;
	if (file_temp_dir("drover-test", dir, sizeof(dir), NULL) != 0)
		return -1;
	snprintf(memo, sizeof(memo), "%s/sandbox.json", dir);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	return file_remove_tree(AT_FDCWD, dir, NULL);
}

static void
write_memo(const char *text)
{
	int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(file_replace(at, "sandbox.json", text, strlen(text), 0600, NULL), 0);
	close(at);
}

static void
the_second_worker_remembers(void **state)
{
	struct sandbox_caps first, second;

	(void)state;
	assert_false(caps_find(dir, &first));
	if (first.rung == RUNG_NONE)
		skip();
	assert_true(caps_find(dir, &second));
	assert_int_equal(second.rung, first.rung);
	assert_int_equal(second.landlock_abi, first.landlock_abi);
	assert_int_equal(second.seccomp, first.seccomp);
	assert_int_equal(second.netns, first.netns);
	assert_int_equal(second.cgroup, first.cgroup);
	assert_string_equal(second.why, first.why);
}

static void
an_old_memo_counts_for_nothing(void **state)
{
	struct timespec old[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = 1000000000}};
	struct sandbox_caps c;

	(void)state;
	assert_false(caps_find(dir, &c));
	if (c.rung == RUNG_NONE)
		skip();
	assert_int_equal(utimensat(AT_FDCWD, memo, old, 0), 0);
	assert_false(caps_find(dir, &c));
	assert_true(caps_find(dir, &c));
}

static void
a_memo_from_elsewhere_counts_for_nothing(void **state)
{
	static const char *const others[] = {
	    "{\"key\":\"00\",\"rung\":3,\"landlock\":7,\"seccomp\":true,\"netns\":true,\"why\":\"\"}", "{\"key\":", "", "[]",
	    "{\"key\":1,\"rung\":3,\"landlock\":7,\"seccomp\":true,\"netns\":true,\"why\":\"\"}",
	};
	struct sandbox_caps c;

	(void)state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		write_memo(others[i]);
		assert_false(caps_find(dir, &c));
	}
}

/* The key of this very place, with a rung that does not exist. */
static void
a_rung_out_of_bounds_counts_for_nothing(void **state)
{
	static const char *const rungs[] = {"0", "4", "-1"};
	struct buf b = buf_make(4096);
	struct sandbox_caps c;
	char text[600], *key;

	(void)state;
	assert_false(caps_find(dir, &c));
	if (c.rung == RUNG_NONE)
		skip();
	assert_int_equal(file_read(AT_FDCWD, memo, &b, NULL), 0);
	key = strstr(b.data, "\"key\":\"") + strlen("\"key\":\"");
	for (size_t i = 0; i < sizeof(rungs) / sizeof(rungs[0]); i++) {
		snprintf(text, sizeof(text), "{\"key\":\"%.64s\",\"rung\":%s,\"landlock\":7,\"seccomp\":true,\"netns\":true,\"why\":\"\"}",
		    key, rungs[i]);
		write_memo(text);
		assert_false(caps_find(dir, &c));
	}
	buf_release(&b);
}

static void
without_a_folder_it_is_tried_each_time(void **state)
{
	struct sandbox_caps c;

	(void)state;
	assert_false(caps_find("/nowhere/at/all", &c));
	assert_false(caps_find("/nowhere/at/all", &c));
}

int
main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(the_second_worker_remembers, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(an_old_memo_counts_for_nothing, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_memo_from_elsewhere_counts_for_nothing, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_rung_out_of_bounds_counts_for_nothing, set_up, tear_down),
	    cmocka_unit_test(without_a_folder_it_is_tried_each_time),
	};
	int helper = sandbox_helper_main(argc, argv);

	return helper >= 0 ? helper : cmocka_run_group_tests(tests, NULL, NULL);
}
