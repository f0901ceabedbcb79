#include "worker/threads.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

#define STACK_BYTES (256 * 1024)

void
thread_start(pthread_t *ret, const char *name, void *(*fn)(void *), void *arg)
{
	pthread_attr_t attr;
	int rc;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	rc = pthread_create(ret, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	if (rc != 0) {
		log_error(NULL, "cannot start thread %s: %s", name, strerror(rc));
		abort();
	}
	(void)pthread_setname_np(*ret, name);
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

void
cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, long long deadline_mono_ms)
{
	struct timespec t = {.tv_sec = deadline_mono_ms / 1000, .tv_nsec = deadline_mono_ms % 1000 * 1000000};

	if (deadline_mono_ms < 0)
		pthread_cond_wait(c, m);
	else
		(void)pthread_cond_timedwait(c, m, &t);
}
