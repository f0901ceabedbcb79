#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/proc.h"

#define LONG_MS 20000 /* far beyond what any test needs */

static const char *const env[] = {"PATH=relative::/usr/bin:/bin", "NAME=value", NULL};

static struct proc_spec
shell(const char *const argv[4])
{
	return (struct proc_spec){.argv = argv, .env = env, .fds = {-1, -1, 2, -1}};
}

#define SH(script) shell((const char *const[]){"sh", "-c", script, NULL})

/* Runs a script to its end and compares what it prints. */
static void
assert_prints(struct proc_spec spec, const char *want)
{
	struct buf out = buf_make(4096);
	struct proc_exit end;

	assert_int_equal(proc_run(&spec, LONG_MS, &out, NULL, &end, NULL), 0);
	assert_true(end.exited);
	assert_int_equal(end.code, 0);
	assert_string_equal(buf_str(&out), want);
	buf_release(&out);
}

static void
ends_are_told_apart(void **state)
{
	static const struct {
		const char *script;
		bool exited;
		int code, signo;
	} cases[] = {{"exit 0", true, 0, 0}, {"exit 7", true, 7, 0}, {"exit 127", true, 127, 0}, {"kill -TERM $$", false, 0, SIGTERM}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct proc_spec spec = SH(cases[i].script);
		struct proc_exit end;
		struct proc p;

		assert_int_equal(proc_start(&spec, &p, NULL), 0);
		assert_true((fcntl(p.pidfd, F_GETFD) & FD_CLOEXEC) != 0);
		assert_int_equal(proc_wait(&p, -1, &end, NULL), 0);
		assert_int_equal(end.exited, cases[i].exited);
		assert_int_equal(end.code, cases[i].code);
		assert_int_equal(end.signo, cases[i].signo);
		assert_true(end.max_rss_bytes > 0);
		assert_int_equal(p.pidfd, -1);
		proc_kill(&p, SIGKILL); /* gone: must not reach anybody */
	}
}

static void
failures_to_start_are_reported_here(void **state)
{
	static const struct {
		const char *name, *cwd;
		int rc;
	} cases[] = {{"no-such-program", NULL, ERR_NOTFOUND}, {"/no/such/program", NULL, ERR_NOTFOUND}, {"", NULL, ERR_NOTFOUND},
	    {"/etc/passwd", NULL, ERR_DENIED}, {"/etc", NULL, ERR_DENIED}, {"sh", "/no/such/directory", ERR_IO}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *const argv[] = {cases[i].name, NULL};
		struct proc_spec spec = {.argv = argv, .env = env, .cwd = cases[i].cwd, .fds = {-1, -1, -1, -1}};
		struct proc p = {.pid = 42};
		struct err e = {0};

		assert_int_equal(proc_start(&spec, &p, &e), cases[i].rc);
		assert_int_equal(e.code, cases[i].rc);
		assert_int_equal(p.pid, 42);
		assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
		assert_int_equal(errno, ECHILD);
	}
}

static void
only_what_was_given_is_there(void **state)
{
	struct proc_spec spec;

	(void)state;
	spec = SH("env | grep -v -e ^PWD= -e ^_= -e ^OLDPWD= -e ^SHLVL= | sort");
	assert_prints(spec, "NAME=value\nPATH=relative::/usr/bin:/bin\n");
	spec = (struct proc_spec){.argv = (const char *const[]){"env", NULL}, .fds = {-1, -1, -1, -1}};
	assert_prints(spec, "");
	spec = SH("pwd");
	spec.cwd = "/usr";
	assert_prints(spec, "/usr\n");
	spec = SH("cat; echo end >&2"); /* standard input is empty */
	spec.fds[2] = -1;
	assert_prints(spec, "");
}

static void
no_descriptor_leaks(void **state)
{
	int fds[40];
	struct proc_spec spec = SH("for i in $(seq 0 99); do [ ! -e /proc/$$/fd/$i ] || printf '%s ' $i; done");

	(void)state;
	for (size_t i = 0; i < 40; i++)
		assert_true((fds[i] = open("/dev/null", O_RDONLY)) >= 0); /* not close-on-exec, on purpose */
	assert_prints(spec, "0 1 2 ");
	spec.fds[3] = fds[7];
	assert_prints(spec, "0 1 2 3 ");
	for (size_t i = 0; i < 40; i++)
		close(fds[i]);
}

/* Moves a descriptor to a number of at least 50. */
static int
lift(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, 50);

	assert_true(high >= 50);
	close(fd);
	return high;
}

static void
descriptors_may_trade_places(void **state)
{
	int saved[4], readers[4], writers[4], rc;
	struct proc_spec spec = SH("for i in 0 1 2 3; do echo $i >&$i; done");
	struct proc_exit end;
	struct proc p;

	(void)state;
	for (int i = 0; i < 4; i++) {
		int ends[2];

		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		readers[i] = lift(ends[0]);
		writers[i] = lift(ends[1]);
		spec.fds[i] = (i + 1) % 4; /* a ring, which dup2 in any order would destroy */
	}
	for (int i = 0; i < 4; i++) {
		saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 50); /* -1 where the number is free */
		dup2(writers[i], i);
	}
	rc = proc_start(&spec, &p, NULL);
	for (int i = 0; i < 4; i++) {
		close(i);
		if (saved[i] >= 0) {
			dup2(saved[i], i);
			close(saved[i]);
		}
		close(writers[i]);
	}
	assert_int_equal(rc, 0);
	assert_int_equal(proc_wait(&p, -1, &end, NULL), 0);
	for (int i = 0; i < 4; i++) {
		char line[8] = "";

		assert_int_equal(read(readers[spec.fds[i]], line, sizeof(line) - 1), 2);
		assert_int_equal(line[0], '0' + i);
		close(readers[spec.fds[i]]);
	}
}

static void
signals_are_as_new(void **state)
{
	sigset_t set, before;
	void (*handler)(int) = signal(SIGPIPE, SIG_IGN);

	(void)state;
	sigfillset(&set);
	pthread_sigmask(SIG_SETMASK, &set, &before);
	assert_prints(SH("cat /proc/self/status | grep -E '^Sig(Blk|Ign|Cgt)' | tr -d '\\t\\n'"),
	    "SigBlk:0000000000000000SigIgn:0000000000000000SigCgt:0000000000000000");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	signal(SIGPIPE, handler);
}

static void
output_is_taken_up_to_the_limit(void **state)
{
	struct proc_spec spec = SH("head -c 1000000 /dev/zero | tr '\\0' x; echo problem >&2; exit 3");
	struct buf out = buf_make(1000), err_out = buf_make(1000);
	struct proc_exit end;

	(void)state;
	assert_int_equal(proc_run(&spec, LONG_MS, &out, &err_out, &end, NULL), 0);
	assert_int_equal(end.code, 3); /* not killed by a full pipe */
	assert_int_equal(out.len, 1000);
	assert_int_equal(strspn(buf_str(&out), "x"), 1000);
	assert_string_equal(buf_str(&err_out), "problem\n");
	buf_release(&out), buf_release(&err_out);
}

/* Waits until all writers of a pipe are gone; false if not within the time of a test. */
static bool
all_gone(int fd)
{
	struct pollfd end = {.fd = fd};

	return poll(&end, 1, LONG_MS) == 1 && (end.revents & POLLHUP) != 0;
}

static void
the_deadline_ends_the_whole_group(void **state)
{
	struct proc_spec spec = SH("sleep 1000 & sleep 1000 & echo up; wait");
	struct buf out = buf_make(100);
	struct proc_exit end = {.code = 42};
	int held[2];
	struct err e;

	(void)state;
	assert_int_equal(pipe2(held, O_CLOEXEC), 0);
	spec.fds[3] = held[1];
	spec.new_group = true;
	assert_int_equal(proc_run(&spec, 300, &out, NULL, &end, &e), ERR_TIMEOUT);
	assert_int_equal(end.code, 42);
	close(held[1]);
	assert_true(all_gone(held[0]));
	close(held[0]);
	buf_release(&out);
}

static void
a_child_that_ends_takes_its_group_along(void **state)
{
	struct proc_spec spec = SH("sleep 1000 & echo started");
	int held[2];

	(void)state;
	assert_int_equal(pipe2(held, O_CLOEXEC), 0);
	spec.fds[3] = held[1];
	spec.new_group = true;
	assert_prints(spec, "started\n"); /* nor does the sleeper, which holds the pipe, make us wait */
	close(held[1]);
	assert_true(all_gone(held[0]));
	close(held[0]);
}

static void
waiting_stops_at_the_deadline(void **state)
{
	struct proc_spec spec = {.argv = (const char *const[]){"sleep", "1000", NULL}, .env = env, .fds = {-1, -1, -1, -1}};
	int64_t deadline_mono_ms = clock_mono_ms() + 50;
	struct proc_exit end;
	struct proc p;

	(void)state;
	assert_int_equal(proc_start(&spec, &p, NULL), 0);
	assert_int_equal(proc_wait(&p, 0, &end, NULL), ERR_TIMEOUT);
	assert_int_equal(proc_wait(&p, deadline_mono_ms, &end, NULL), ERR_TIMEOUT);
	assert_true(clock_mono_ms() >= deadline_mono_ms);
	proc_kill(&p, SIGKILL);
	assert_int_equal(proc_wait(&p, clock_mono_ms() + LONG_MS, &end, NULL), 0);
	assert_int_equal(end.signo, SIGKILL);
}

static void *
start_and_end(void *arg)
{
	struct proc_spec spec = {.argv = (const char *const[]){"sleep", "1000", NULL}, .env = env, .fds = {-1, -1, -1, -1},
	    .die_with_parent = true};

	return proc_start(&spec, arg, NULL) == 0 ? arg : NULL;
}

static void
may_die_with_the_thread_that_started_it(void **state)
{
	struct proc_exit end;
	pthread_t thread;
	struct proc p;
	void *started;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, start_and_end, &p), 0);
	pthread_join(thread, &started);
	assert_non_null(started);
	assert_int_equal(proc_wait(&p, clock_mono_ms() + LONG_MS, &end, NULL), 0);
	assert_int_equal(end.signo, SIGKILL);
}

/* Starts children while other threads allocate, open and start as well. */
static void *
start_many(void *arg)
{
	(void)arg;
	for (int i = 0; i < 25; i++) {
		struct proc_spec spec = {.argv = (const char *const[]){"echo", "here", NULL}, .env = env, .fds = {-1, -1, -1, -1}};
		struct buf out = buf_make(100);
		struct proc_exit end;
		bool good = proc_run(&spec, LONG_MS, &out, NULL, &end, NULL) == 0 && strcmp(buf_str(&out), "here\n") == 0;

		buf_release(&out);
		if (!good)
			return arg;
	}
	return NULL;
}

static void
threads_start_children_at_once(void **state)
{
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, start_many, &threads), 0);
	for (int i = 0; i < 4; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	(void)state;
}

static void
path_is_searched_as_it_should_be(void **state)
{
	char dir[PATH_MAX], path_env[PATH_MAX + 32];
	const char *const own_env[] = {path_env, NULL};
	struct proc_spec spec = {.argv = (const char *const[]){"tool", NULL}, .env = own_env, .fds = {-1, -1, -1, -1}};
	struct proc p;
	int fd;

	(void)state;
	assert_int_equal(file_temp_dir("drover-test", dir, sizeof(dir), NULL), 0);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(file_replace(fd, "tool", "#!/bin/sh\necho ours\n", 20, 0644, NULL), 0);
	snprintf(path_env, sizeof(path_env), "PATH=/none:%s", dir);
	assert_int_equal(proc_start(&spec, &p, NULL), ERR_DENIED);
	assert_int_equal(fchmodat(fd, "tool", 0755, 0), 0);
	assert_prints(spec, "ours\n");
	/* A workspace that holds a program of the name is not searched by accident. */
	spec.cwd = dir;
	assert_int_equal(chdir(dir), 0);
	snprintf(path_env, sizeof(path_env), "PATH=:.:/none");
	assert_int_equal(proc_start(&spec, &p, NULL), ERR_NOTFOUND);
	assert_int_equal(chdir("/"), 0);
	close(fd);
	assert_int_equal(file_remove_tree(AT_FDCWD, dir, NULL), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ends_are_told_apart),
		cmocka_unit_test(failures_to_start_are_reported_here),
		cmocka_unit_test(only_what_was_given_is_there),
		cmocka_unit_test(no_descriptor_leaks),
		cmocka_unit_test(descriptors_may_trade_places),
		cmocka_unit_test(signals_are_as_new),
		cmocka_unit_test(output_is_taken_up_to_the_limit),
		cmocka_unit_test(the_deadline_ends_the_whole_group),
		cmocka_unit_test(a_child_that_ends_takes_its_group_along),
		cmocka_unit_test(waiting_stops_at_the_deadline),
		cmocka_unit_test(may_die_with_the_thread_that_started_it),
		cmocka_unit_test(threads_start_children_at_once),
		cmocka_unit_test(path_is_searched_as_it_should_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
