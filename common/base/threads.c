#include "base/threads.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

#define STACK_BYTES (256 * 1024) /* enough for libcurl and SQLite, and the stacks of many threads add up */

int
thread_try(pthread_t *ret, const char *name, void *(*fn)(void *), void *arg)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	rc = pthread_create(ret, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc == 0)
		(void)pthread_setname_np(*ret, name);
	return rc;
}

void
thread_start(pthread_t *ret, const char *name, void *(*fn)(void *), void *arg)
{
	int rc = thread_try(ret, name, fn, arg);

	if (rc == 0)
		return;
	log_error(NULL, "cannot start thread %s: %s", name, strerror(rc));
	abort();
}

void
cond_init_mono(pthread_cond_t *c)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(c, &attr);
	pthread_condattr_destroy(&attr);
}

bool
cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, int64_t deadline_mono_ms)
{
	struct timespec t = {.tv_sec = deadline_mono_ms / 1000, .tv_nsec = deadline_mono_ms % 1000 * 1000000};

	if (deadline_mono_ms >= 0)
		return pthread_cond_timedwait(c, m, &t) != ETIMEDOUT;
	pthread_cond_wait(c, m);
	return true;
}
