/* sandbox_rig.h - a private place for programs in sandboxes: what their tests share. Include it behind cmocka. */
#ifndef TESTS_UNIT_SANDBOX_RIG_H
#define TESTS_UNIT_SANDBOX_RIG_H

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/sandbox.h"

#define NOBODY 65534

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
	int64_t deadline_mono_ms = clock_mono_ms() + 10000;

	if (stock == NULL || getpid() != stock_owner)
		return NULL;
	while (sandbox_stock_ready(stock) == 0) {
		assert_true(clock_mono_ms() < deadline_mono_ms);
		(void)poll(NULL, 0, 1);
	}
	return stock;
}

#endif
