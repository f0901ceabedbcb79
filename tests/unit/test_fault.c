#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"

/* Passes "a" and "b" three times each in a child; returns its wait status. Passes of "a" are counted in *ret_passes. */
static int
pass_places(const char *spec, int *ret_passes)
{
	const struct rlimit no_core = {0, 0};
	int ends[2], status;
	char mark;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		close(STDERR_FILENO);
		if (spec == NULL)
			unsetenv("DROVER_FAULT");
		else
			setenv("DROVER_FAULT", spec, 1);
		for (int i = 0; i < 3; i++) {
			fault_point("b");
			fault_point("a");
			if (write(ends[1], "a", 1) != 1)
				_exit(1);
		}
		_exit(0);
	}
	close(ends[1]);
	for (*ret_passes = 0; read(ends[0], &mark, 1) == 1; ++*ret_passes)
		;
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void
dies_at_the_named_place_at_the_counted_time(void **state)
{
	static const struct {
		const char *spec;
		int signo, passes;
	} cases[] = {{NULL, 0, 3}, {"", 0, 3}, {"c", 0, 3}, {"a", SIGKILL, 0}, {"a:1", SIGKILL, 0}, {"a:3", SIGKILL, 2}, {"a:4", 0, 3},
	    {"b:2", SIGKILL, 1}, {"aa", 0, 3}, {"a:", SIGABRT, 0}, {"a:0", SIGABRT, 0}, {"a:x", SIGABRT, 0}, {":1", SIGABRT, 0}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int passes, status = pass_places(cases[i].spec, &passes);

		assert_int_equal(WIFSIGNALED(status) ? WTERMSIG(status) : 0, cases[i].signo);
		assert_int_equal(passes, cases[i].passes);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dies_at_the_named_place_at_the_counted_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
