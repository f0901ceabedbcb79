#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"

static void
copies_are_equal_and_apart(void **state)
{
	char text[] = "text";
	char *whole = xstrdup(text), *part = xstrndup(text, 2), *more = xstrndup(text, 99), *bytes = xmemdup(text, 3);

	(void)state;
	text[0] = 'X';
	assert_string_equal(whole, "text");
	assert_string_equal(part, "te");
	assert_string_equal(more, "text");
	assert_memory_equal(bytes, "tex", 3);
	assert_null(xstrdup(NULL));
	free(whole), free(part), free(more), free(bytes);
}

static void
no_bytes_are_a_pointer_too(void **state)
{
	void *p[] = {xmalloc(0), xcalloc(0, 8), xcalloc(8, 0), xrealloc(NULL, 0), xmemdup(NULL, 0)};

	(void)state;
	for (size_t i = 0; i < sizeof(p) / sizeof(p[0]); i++) {
		assert_non_null(p[i]);
		free(p[i]);
	}
}

static void
prints_any_length(void **state)
{
	char *s = xasprintf("%0*d", 10000, 7);

	(void)state;
	assert_int_equal(strlen(s), 10000);
	assert_int_equal(s[9999], '7');
	free(s);
}

static void
wipes(void **state)
{
	char secret[] = "secret";

	(void)state;
	mem_wipe(secret, sizeof(secret));
	for (size_t i = 0; i < sizeof(secret); i++)
		assert_int_equal(secret[i], 0);
	mem_wipe(NULL, 0);
}

static void
ask_for_too_much(int which)
{
	volatile size_t huge = SIZE_MAX / 4; /* hidden from the compiler, which would warn */

	if (which == 0)
		free(xmalloc(huge));
	else if (which == 1)
		free(xcalloc(huge, 16)); /* the product overflows */
	else
		free(xrealloc(NULL, huge));
}

static void
out_of_memory_aborts(void **state)
{
	const struct rlimit no_core = {0, 0};

	(void)state;
	for (int which = 0; which < 3; which++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			setrlimit(RLIMIT_CORE, &no_core);
			signal(SIGABRT, SIG_DFL);
			close(STDERR_FILENO);
			ask_for_too_much(which);
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		/* An instrumented build ends the process itself, with a code. */
		assert_true((WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) ||
		    (WIFEXITED(status) && WEXITSTATUS(status) != 0));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies_are_equal_and_apart),
		cmocka_unit_test(no_bytes_are_a_pointer_too),
		cmocka_unit_test(prints_any_length),
		cmocka_unit_test(wipes),
		cmocka_unit_test(out_of_memory_aborts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
