#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "base/file.h"
#include "dispatcher/log_spool.h"

#define RUN "echo-0000000000000001"

static char directory[256];
static struct log_spool *spool;

static int
setup(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(file_temp_dir("spool", directory, sizeof(directory), &e), 0);
	return log_spool_new(directory, 16, &spool, &e);
}

static int
teardown(void **state)
{
	struct err e;

	(void)state;
	log_spool_free(spool);
	return file_remove_tree(AT_FDCWD, directory, &e);
}

static int64_t
append(int64_t offset, const char *text)
{
	struct err e;
	int64_t next = -1;

	assert_int_equal(log_spool_append(spool, RUN, 1, offset, text, strlen(text), &next, &e), 0);
	return next;
}

static void
reads(int64_t offset, int64_t from, const char *want)
{
	char out[64] = "";
	size_t used = 0, n;
	struct err e;

	do {
		assert_int_equal(log_spool_read(spool, RUN, 1, &offset, out + used, sizeof(out) - 1 - used, &n, &e), 0);
		if (used == 0)
			assert_int_equal(offset, from);
		offset += (int64_t)n;
		used += n;
	} while (n > 0);
	assert_string_equal(out, want);
}

static void
repeated_and_overlapping_chunks_do_no_harm(void **state)
{
	(void)state;
	assert_int_equal(append(0, "abc"), 3);
	assert_int_equal(append(0, "abc"), 3);
	assert_int_equal(append(1, "bcd"), 4);
	assert_int_equal(append(9, "late"), 4); /* bytes are missing before: wanted from 4 */
	reads(0, 0, "abcd");
	reads(2, 2, "cd");
}

static void
the_tail_is_bounded(void **state)
{
	(void)state;
	for (int64_t at = 0; at < 40; at += 4)
		assert_int_equal(append(at, "wxyz"), at + 4);
	reads(0, 24, "wxyzwxyzwxyzwxyz"); /* two segments of eight */
	assert_int_equal(append(40, "a chunk larger than both segments"), 73);
	reads(0, 64, " segments");
}

static void
what_is_not_kept_is_not_found(void **state)
{
	int64_t offset = 0;
	char out[8];
	size_t n;
	struct err e;

	(void)state;
	append(0, "x");
	assert_int_equal(log_spool_read(spool, RUN, 2, &offset, out, sizeof(out), &n, &e), ERR_NOTFOUND);
	assert_int_equal(log_spool_remove(spool, RUN, &e), 0);
	assert_int_equal(log_spool_read(spool, RUN, 1, &offset, out, sizeof(out), &n, &e), ERR_NOTFOUND);
}

static void
note_change(void *arg, const char *run, int64_t changed_real_ms)
{
	assert_string_equal(run, RUN);
	*(int64_t *)arg = changed_real_ms;
}

/* Of a run that went on for long the tail is kept for a while after its end, not after its beginning. */
static void
what_is_appended_is_a_change(void **state)
{
	const struct timespec long_ago[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	char path[320];
	int64_t changed = -1;
	struct err e;

	(void)state;
	append(0, "beg");
	snprintf(path, sizeof(path), "%s/" RUN, directory);
	assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0);
	assert_int_equal(log_spool_each(spool, note_change, &changed, &e), 0);
	assert_int_equal(changed, 1000 * 1000);
	append(0, "beg"); /* nothing new */
	assert_int_equal(log_spool_each(spool, note_change, &changed, &e), 0);
	assert_int_equal(changed, 1000 * 1000);
	append(3, "inning");
	assert_int_equal(log_spool_each(spool, note_change, &changed, &e), 0);
	assert_true(changed > 1000 * 1000);
}

int
main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {CASE(repeated_and_overlapping_chunks_do_no_harm), CASE(the_tail_is_bounded),
		CASE(what_is_not_kept_is_not_found), CASE(what_is_appended_is_a_change)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
