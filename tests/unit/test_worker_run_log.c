#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "worker/run_log.h"
#include "worker/stream.h"

#define LONG_MS 20000

static char dir[256];

static int
set_up(void **state)
{
	(void)state;
	return file_temp_dir("drover-test", dir, sizeof(dir), NULL);
}

static int
tear_down(void **state)
{
	(void)state;
	return file_remove_tree(AT_FDCWD, dir, NULL);
}

static struct run_log *
open_log(int64_t max_bytes, int echo_fd, const char *owner)
{
	struct err e = {0};
	struct run_log *l = run_log_new(dir, max_bytes, echo_fd, owner, &e);

	assert_non_null(l);
	return l;
}

static void
assert_log(const struct run_log *l, const char *want)
{
	char text[8192];
	ssize_t n = pread(run_log_fd(l), text, sizeof(text) - 1, 0);

	assert_int_equal(n, run_log_size(l));
	text[n] = '\0';
	assert_string_equal(text, want);
}

static void
log_is_cut_at_its_limit(void **state)
{
	static const char note[] = "\ndrover: the log is cut here, at its limit of 8 B (LOG_MAX)\n";
	char want[128];
	struct run_log *l = open_log(8, -1, "");

	(void)state;
	run_log_add(l, "1234", 4);
	run_log_add(l, "5678", 4);
	assert_log(l, "12345678"); /* full is not over */
	run_log_add(l, "9", 1);
	run_log_add(l, "more", 4);
	run_log_say(l, "more");
	snprintf(want, sizeof(want), "12345678%s", note);
	assert_log(l, want);
	run_log_free(l);
	l = open_log(8, -1, "");
	run_log_add(l, "123456789", 9);
	assert_log(l, want);
	run_log_free(l);
}

static void
log_leaves_no_file(void **state)
{
	struct run_log *l = open_log(100, -1, "");

	(void)state;
	run_log_add(l, "x", 1);
	assert_int_equal(rmdir(dir), 0); /* it had no entry */
	assert_int_equal(mkdir(dir, 0700), 0);
	run_log_free(l);
}

#define MEMORY_BYTES (64 * 1024)
#define LINE_BYTES 1000

static bool
lies_in_dir(const struct run_log *l)
{
	struct stat file, folder;

	assert_int_equal(fstat(run_log_fd(l), &file), 0);
	assert_int_equal(stat(dir, &folder), 0);
	return file.st_dev == folder.st_dev;
}

/* Adds lines of LINE_BYTES, numbered from `from`. */
static void
add_lines(struct run_log *l, int from, int to)
{
	char line[LINE_BYTES + 1];

	for (int i = from; i < to; i++) {
		snprintf(line, sizeof(line), "%0*d\n", LINE_BYTES - 1, i);
		run_log_add(l, line, LINE_BYTES);
	}
}

static void
assert_lines(int fd, int n)
{
	char line[LINE_BYTES + 1] = "";

	for (int i = 0; i < n; i++) {
		assert_int_equal(pread(fd, line, LINE_BYTES, (off_t)i * LINE_BYTES), LINE_BYTES);
		assert_int_equal(atoi(line), i);
	}
}

static void
a_long_log_moves_to_the_disk_whole(void **state)
{
	struct run_log *l = open_log(1 << 20, -1, "");
	int fd = run_log_fd(l);

	(void)state;
	add_lines(l, 0, MEMORY_BYTES / LINE_BYTES);
	assert_false(lies_in_dir(l));
	add_lines(l, MEMORY_BYTES / LINE_BYTES, 300);
	assert_true(lies_in_dir(l));
	assert_int_equal(run_log_fd(l), fd);
	assert_int_equal(run_log_size(l), 300 * LINE_BYTES);
	assert_lines(fd, 300);
	assert_int_equal(rmdir(dir), 0); /* without a name there too */
	assert_int_equal(mkdir(dir, 0700), 0);
	run_log_free(l);
}

static void
without_a_disk_the_beginning_stays(void **state)
{
	struct run_log *l = open_log(1 << 20, -1, "");
	int whole = MEMORY_BYTES / LINE_BYTES;

	(void)state;
	assert_int_equal(rmdir(dir), 0);
	add_lines(l, 0, 300);
	assert_int_equal(run_log_size(l), whole * LINE_BYTES);
	assert_lines(run_log_fd(l), whole);
	run_log_free(l);
	assert_int_equal(mkdir(dir, 0700), 0);
}

static void
full_pipe_never_holds_up(void **state)
{
	struct run_log *l;
	int pair[2];
	char line[1000], got[64];

	(void)state;
	assert_int_equal(pipe(pair), 0);
	l = open_log(1 << 20, pair[1], "run-1");
	run_log_echo(l, "scan", "hello", 5);
	assert_int_equal(read(pair[0], got, sizeof(got)), strlen("run-1 scan | hello\n"));
	assert_memory_equal(got, "run-1 scan | hello\n", strlen("run-1 scan | hello\n"));
	memset(line, 'x', sizeof(line));
	for (int i = 0; i < 1000; i++) /* a megabyte into a pipe of 64 KiB that nobody reads */
		run_log_echo(l, "scan", line, sizeof(line));
	run_log_free(l);
	close(pair[0]);
	close(pair[1]);
}

/* What has come out of the pipe since, as a text. */
static const char *
echoed(int fd)
{
	static char text[4096];
	ssize_t n = read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void
echoes_command_no_terminal_and_forge_no_line(void **state)
{
	static const char wild[] = "a\x1b[31m\rdrover-2 | fine\nb\tc\x7f";
	struct run_log *l;
	int p[2];

	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	l = open_log(1000, p[1], "run");
	run_log_echo(l, "step", wild, sizeof(wild) - 1);
	assert_string_equal(echoed(p[0]), "run step | a?[31m?drover-2 | fine?b\tc?\n");
	run_log_free(l);
	close(p[0]);
	close(p[1]);
}

static void
a_flood_ends_with_the_log_but_we_are_heard(void **state)
{
	char block[600];
	struct run_log *l;
	int p[2];

	(void)state;
	memset(block, 'x', sizeof(block));
	assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	l = open_log(1000, p[1], "run");
	run_log_add(l, block, sizeof(block));
	run_log_add(l, block, sizeof(block));
	run_log_echo(l, "step", "more", 4);
	assert_string_equal(echoed(p[0]), "");
	run_log_say(l, "the step failed");
	assert_string_equal(echoed(p[0]), "run drover | the step failed\n");
	run_log_free(l);
	close(p[0]);
	close(p[1]);
}

/* --- streams --- */

struct heard {
	unsigned progress, log;
	char last[64];
};

static void
on_progress(void *arg, json_t *p)
{
	struct heard *h = arg;

	h->progress++;
	snprintf(h->last, sizeof(h->last), "%s", json_string_value(json_object_get(p, "message")));
}

static void
on_log(void *arg)
{
	((struct heard *)arg)->log++;
}

static struct streams *
open_streams(struct run_log *l, struct heard *h, int child[3])
{
	struct err e = {0};
	struct streams *s = streams_open("scan", l, on_progress, on_log, h, &e);

	assert_non_null(s);
	for (int i = 0; i < 3; i++)
		child[i] = dup(streams_child_fd(s, i));
	streams_started(s);
	return s;
}

static void
say(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void
output_goes_to_the_log_and_progress_to_its_reader(void **state)
{
	struct heard h = {.progress = 0};
	struct run_log *l = open_log(1 << 20, -1, "");
	int child[3], wake = eventfd(0, 0);
	struct streams *s = open_streams(l, &h, child);

	(void)state;
	say(child[0], "out\nno newline at the end");
	say(child[2], "{\"type\":\"progress\",\"message\":\"one\"}\nnot json\n{\"type\":\"prog");
	for (int i = 0; i < 3; i++)
		close(child[i]);
	assert_int_equal(streams_pump(s, wake, clock_mono_ms() + LONG_MS), 0);
	streams_close(s);
	assert_int_equal(h.progress, 1);
	assert_string_equal(h.last, "one");
	assert_true(h.log > 0);
	assert_log(l, "out\nno newline at the end");
	run_log_free(l);
	close(wake);
}

static void
too_long_progress_is_dropped_and_the_next_line_is_not(void **state)
{
	struct heard h = {.progress = 0};
	struct run_log *l = open_log(1 << 20, -1, "");
	int child[3], wake = eventfd(0, 0);
	struct streams *s = open_streams(l, &h, child);
	char line[5000];

	(void)state;
	snprintf(line, sizeof(line), "{\"type\":\"progress\",\"message\":\"%04500d\"}\n", 1);
	say(child[2], line);
	say(child[2], "{\"type\":\"progress\",\"message\":\"after\"}\n");
	for (int i = 0; i < 1000; i++)
		say(child[2], "{\"type\":\"progress\"}\n");
	for (int i = 0; i < 3; i++)
		close(child[i]);
	assert_int_equal(streams_pump(s, wake, clock_mono_ms() + LONG_MS), 0);
	streams_close(s);
	assert_true(h.progress >= 1 && h.progress <= 150); /* 50 a second, whatever a tool does */
	run_log_free(l);
	close(wake);
}

static void
waiting_ends_at_the_deadline_or_when_woken(void **state)
{
	struct heard h = {.progress = 0};
	struct run_log *l = open_log(1 << 20, -1, "");
	int child[3], wake = eventfd(0, 0);
	struct streams *s = open_streams(l, &h, child);
	uint64_t one = 1;

	(void)state;
	assert_int_equal(streams_pump(s, wake, clock_mono_ms() + 1), ERR_TIMEOUT);
	assert_int_equal(write(wake, &one, sizeof(one)), sizeof(one));
	assert_int_equal(streams_pump(s, wake, clock_mono_ms() + LONG_MS), ERR_CANCELED);
	/* What came late is not lost. */
	say(child[1], "late\n");
	streams_close(s);
	assert_log(l, "late\n");
	for (int i = 0; i < 3; i++)
		close(child[i]);
	run_log_free(l);
	close(wake);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(log_is_cut_at_its_limit, set_up, tear_down),
		cmocka_unit_test_setup_teardown(log_leaves_no_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_long_log_moves_to_the_disk_whole, set_up, tear_down),
		cmocka_unit_test_setup_teardown(without_a_disk_the_beginning_stays, set_up, tear_down),
		cmocka_unit_test_setup_teardown(full_pipe_never_holds_up, set_up, tear_down),
		cmocka_unit_test_setup_teardown(echoes_command_no_terminal_and_forge_no_line, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_flood_ends_with_the_log_but_we_are_heard, set_up, tear_down),
		cmocka_unit_test_setup_teardown(output_goes_to_the_log_and_progress_to_its_reader, set_up, tear_down),
		cmocka_unit_test_setup_teardown(too_long_progress_is_dropped_and_the_next_line_is_not, set_up, tear_down),
		cmocka_unit_test_setup_teardown(waiting_ends_at_the_deadline_or_when_woken, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
