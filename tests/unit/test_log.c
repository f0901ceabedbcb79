#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

#define STAMP_LEN 24
#define THREADS 4
#define LINES 200

static int saved_stderr, reader;
static char captured[1 << 20];

/* Standard error goes into a pipe between begin_capture and end_capture. */
static void
begin_capture(void)
{
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_true(fcntl(ends[1], F_SETPIPE_SZ, 1 << 20) > 0);
	saved_stderr = dup(STDERR_FILENO);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
	reader = ends[0];
}

static char *
end_capture(void)
{
	size_t len = 0;
	ssize_t n;

	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	while ((n = read(reader, captured + len, sizeof(captured) - 1 - len)) > 0)
		len += (size_t)n;
	close(reader);
	captured[len] = '\0';
	return captured;
}

static void
json_lines_have_their_fields(void **state)
{
	char *line;

	(void)state;
	log_init("drover-test", LOG_INFO, true);
	begin_capture();
	log_warn("run/7", "lost %d", 3);
	line = end_capture();
	assert_memory_equal(line, "{\"time\":\"2", 10);
	assert_string_equal(line + strlen("{\"time\":\"") + STAMP_LEN,
	    "\",\"level\":\"warn\",\"program\":\"drover-test\",\"object\":\"run/7\",\"message\":\"lost 3\"}\n");
	begin_capture();
	log_info(NULL, "x");
	line = end_capture();
	assert_null(strstr(line, "object"));
}

static void
text_lines_are_for_people(void **state)
{
	(void)state;
	log_init("drover-test", LOG_INFO, false);
	begin_capture();
	log_error("run/7", "lost \"%d\" \\", 3);
	assert_string_equal(end_capture() + STAMP_LEN, " error drover-test run/7: lost \"3\" \\\n");
}

static void
less_than_the_least_level_is_silent(void **state)
{
	(void)state;
	log_init("t", LOG_WARN, true);
	begin_capture();
	log_debug(NULL, "a");
	log_info(NULL, "b");
	assert_string_equal(end_capture(), "");
}

static void
nothing_from_outside_forges_a_line(void **state)
{
	static const struct {
		const char *text, *json, *plain;
	} cases[] = {
		{"a\nb\r\tc", "a\\u000ab\\u000d\\u0009c", "a\\u000ab\\u000d\\u0009c"},
		{"\x1b[31m\x7f", "\\u001b[31m\\u007f", "\\u001b[31m\\u007f"},
		{"say \"x\" \\", "say \\\"x\\\" \\\\", "say \"x\" \\"},
		{"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"},
		{"\xff|\xc3|\xc3(", "\\\\xff|\\\\xc3|\\\\xc3(", "\\xff|\\xc3|\\xc3("},
		{"\xc0\xaf|\xed\xa0\x80|\xf4\x90\x80\x80", "\\\\xc0\\\\xaf|\\\\xed\\\\xa0\\\\x80|\\\\xf4\\\\x90\\\\x80\\\\x80",
		    "\\xc0\\xaf|\\xed\\xa0\\x80|\\xf4\\x90\\x80\\x80"}, /* overlong, surrogate, beyond Unicode */
		{"\xc2\x9b|\xe2\x80\xae|\xe2\x80\xa8", "\\u009b|\\u202e|\\u2028", "\\u009b|\\u202e|\\u2028"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (int json = 0; json < 2; json++) {
			char want[256], *line;

			log_init("t", LOG_INFO, json);
			begin_capture();
			log_info(cases[i].text, "%s", cases[i].text);
			line = end_capture();
			if (json)
				snprintf(want, sizeof(want), ",\"object\":\"%s\",\"message\":\"%s\"}\n", cases[i].json, cases[i].json);
			else
				snprintf(want, sizeof(want), " t %s: %s\n", cases[i].plain, cases[i].plain);
			assert_true(strlen(line) > strlen(want));
			assert_string_equal(line + strlen(line) - strlen(want), want);
		}
}

static void
long_messages_are_cut_and_stay_whole_lines(void **state)
{
	static char message[20000];

	(void)state;
	for (int json = 0; json < 2; json++)
		for (int control = 0; control < 2; control++) {
			char *line;
			size_t len;

			memset(message, control ? '\n' : '"', sizeof(message) - 1);
			log_init("t", LOG_INFO, json);
			begin_capture();
			log_info(message, "%s", message);
			line = end_capture();
			len = strlen(line);
			assert_in_range(len, 4070, 4096);
			assert_ptr_equal(strchr(line, '\n'), line + len - 1);
			assert_string_equal(line + len - (json ? 6 : 4), json ? "...\"}\n" : "...\n");
		}
}

static void
errno_is_kept(void **state)
{
	(void)state;
	log_init("t", LOG_INFO, true);
	saved_stderr = dup(STDERR_FILENO);
	close(STDERR_FILENO); /* the write fails */
	errno = ENOTTY;
	log_info(NULL, "x");
	assert_int_equal(errno, ENOTTY);
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
}

static void *
write_lines(void *arg)
{
	char name[2] = {(char)('a' + *(int *)arg), '\0'};

	for (int i = 0; i < LINES; i++)
		log_info(name, "%0*d", 400 + i, i);
	return NULL;
}

static void
lines_of_threads_do_not_mix(void **state)
{
	pthread_t threads[THREADS];
	int ids[THREADS], n = 0;

	(void)state;
	log_init("t", LOG_INFO, true);
	begin_capture();
	for (int i = 0; i < THREADS; i++) {
		ids[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &ids[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (char *next = end_capture(), *line; (line = strsep(&next, "\n")) != NULL && *line != '\0'; n++) {
		assert_memory_equal(line, "{\"time\":\"", 9);
		assert_string_equal(line + strlen(line) - 2, "\"}");
		assert_null(strstr(line + 1, "{\"time\""));
	}
	assert_int_equal(n, THREADS * LINES);
}

static void
levels_have_names(void **state)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};
	enum log_level level;

	(void)state;
	for (int i = 0; i < 4; i++) {
		assert_true(log_level_parse(names[i], &level));
		assert_int_equal(level, i);
	}
	assert_false(log_level_parse("INFO", &level));
	assert_false(log_level_parse("", &level));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(json_lines_have_their_fields),
		cmocka_unit_test(text_lines_are_for_people),
		cmocka_unit_test(less_than_the_least_level_is_silent),
		cmocka_unit_test(nothing_from_outside_forges_a_line),
		cmocka_unit_test(long_messages_are_cut_and_stay_whole_lines),
		cmocka_unit_test(errno_is_kept),
		cmocka_unit_test(lines_of_threads_do_not_mix),
		cmocka_unit_test(levels_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
