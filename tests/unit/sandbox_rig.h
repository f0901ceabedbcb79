/* sandbox_rig.h - a private place for programs in sandboxes: what their tests share. Include it behind cmocka. */
#ifndef TESTS_UNIT_SANDBOX_RIG_H
#define TESTS_UNIT_SANDBOX_RIG_H

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/sandbox.h"

#define NOBODY 65534
#define END_WAIT_MS 120000 /* for a program's end: some make 40,000 files, and the machine may be busy */

static struct sandbox_caps caps;
static char base[256]; /* the place */

/* A path in it; good for the next 32 calls. */
static inline const char *
at(const char *name)
{
	static char path[32][400];
	static unsigned turn;
	char *p = path[turn++ % 32];

	snprintf(p, 400, "%s/%s", base, name);
	return p;
}

static inline void
put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

/* Of runs of a suite in which sandboxes come from a stock, as those of a warm worker do. */
static struct sandbox_stock *stock;
static pid_t stock_owner;

/* The stock once it has one for this very start; NULL where there is none, and in a child, whose helpers are not its own. */
static inline struct sandbox_stock *
stocked(void)
{
	int64_t deadline_mono_ms = clock_mono_ms() + 30000;

	if (stock == NULL || getpid() != stock_owner)
		return NULL;
	while (sandbox_stock_ready(stock) == 0) {
		assert_true(clock_mono_ms() < deadline_mono_ms);
		(void)poll(NULL, 0, 1);
	}
	return stock;
}

/* --- who runs them --- */

static inline bool
become_nobody(void)
{
	return geteuid() != 0 || (setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
}

/* Fills caps with what there is for this user; RUNG_CONTAINER: with what there would be in a container without capabilities. */
static inline void
probe_for(enum sandbox_rung rung)
{
	sandbox_probe(&caps);
	if (rung == RUNG_CONTAINER && caps.rung != RUNG_NONE) {
		caps.rung = rung;
		caps.netns = false;
	}
}

/* --- suites --- */

struct sandbox_suite {
	const struct CMUnitTest *tests;
	size_t n;
	CMFixtureFunction set_up, tear_down; /* of all of them together; may be NULL */
};

/* Sandboxes come from a stock, as those of a warm worker do: what set_up goes by. */
static bool from_stock;

/* With the caps that were found: each sandbox started for itself, then from a stock. */
static inline int
sandbox_suite_here(const struct sandbox_suite *s, const char *name)
{
	printf("--- %s: rung %d, cgroup %d, Landlock ABI %d %s\n", name, (int)caps.rung, caps.cgroup, caps.landlock_abi, caps.why);
	from_stock = false;
	if (_cmocka_run_group_tests(name, s->tests, s->n, s->set_up, s->tear_down) != 0)
		return 1;
	from_stock = true;
	return _cmocka_run_group_tests("from stock", s->tests, s->n, s->set_up, s->tear_down);
}

/* In a child that is nobody; rung RUNG_NONE: the best that the probe finds. */
static inline int
sandbox_suite_as_nobody(const struct sandbox_suite *s, const char *name, enum sandbox_rung rung)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		if (!become_nobody())
			_exit(99);
		probe_for(rung);
		exit(caps.rung == RUNG_NONE ? 98 : sandbox_suite_here(s, name));
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 97;
}

/* On every rung that this user can have: root runs rung 3 itself and the others as nobody. Returns main's status. */
static inline int
sandbox_suite_run(const struct sandbox_suite *s)
{
	int bad = 0;

	if (geteuid() == 0) {
		probe_for(RUNG_ROOT);
		bad += caps.rung != RUNG_ROOT || sandbox_suite_here(s, "as root") != 0;
	}
	bad += sandbox_suite_as_nobody(s, "as a plain user", RUNG_NONE) != 0;
	bad += sandbox_suite_as_nobody(s, "as in a container", RUNG_CONTAINER) != 0;
	return bad;
}

#endif
