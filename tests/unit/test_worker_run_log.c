#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/run_log.h"

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
echoes_are_tame(void **state)
{
	static const char wild[] = "a\x1b[31m\rdrover-2 | fine\nb\tc\x7f";
	struct err e = {0};
	struct run_log *l;
	int p[2];

	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	l = run_log_new("/tmp", 1000, p[1], "run", &e);
	assert_non_null(l);
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
	struct err e = {0};
	struct run_log *l;
	int p[2];

	(void)state;
	memset(block, 'x', sizeof(block));
	assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	l = run_log_new("/tmp", 1000, p[1], "run", &e);
	assert_non_null(l);
	run_log_add(l, block, sizeof(block));
	run_log_add(l, block, sizeof(block));
	assert_in_range(run_log_size(l), 1000, 1100);
	run_log_echo(l, "step", "more", 4);
	assert_string_equal(echoed(p[0]), "");
	run_log_say(l, "the step failed");
	assert_string_equal(echoed(p[0]), "run drover | the step failed\n");
	run_log_free(l);
	close(p[0]);
	close(p[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(echoes_are_tame), cmocka_unit_test(a_flood_ends_with_the_log_but_we_are_heard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
