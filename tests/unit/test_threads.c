#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/threads.h"

struct seen {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool go, open_to_signals;
	char name[16];
	size_t stack_bytes;
};

static void *
look(void *arg)
{
	struct seen *s = arg;
	pthread_attr_t attr;
	sigset_t blocked;

	pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	s->open_to_signals = sigismember(&blocked, SIGTERM) == 0 || sigismember(&blocked, SIGINT) == 0 ||
	    sigismember(&blocked, SIGCHLD) == 0;
	(void)pthread_getattr_np(pthread_self(), &attr);
	(void)pthread_attr_getstacksize(&attr, &s->stack_bytes);
	pthread_attr_destroy(&attr);
	pthread_mutex_lock(&s->lock);
	while (!s->go)
		(void)cond_wait_until(&s->changed, &s->lock, -1);
	pthread_mutex_unlock(&s->lock);
	(void)pthread_getname_np(pthread_self(), s->name, sizeof(s->name)); /* given by who started us */
	return NULL;
}

static void
threads_are_small_named_and_without_signals(void **state)
{
	struct seen s = {.lock = PTHREAD_MUTEX_INITIALIZER};
	sigset_t before, after;
	pthread_t t;

	(void)state;
	cond_init_mono(&s.changed);
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	assert_int_equal(thread_try(&t, "looks", look, &s), 0);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	pthread_mutex_lock(&s.lock);
	s.go = true;
	pthread_cond_signal(&s.changed);
	pthread_mutex_unlock(&s.lock);
	pthread_join(t, NULL);
	assert_false(s.open_to_signals);
	assert_string_equal(s.name, "looks");
	assert_true(s.stack_bytes > 0 && s.stack_bytes <= 512 * 1024);
	assert_int_equal(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
	pthread_cond_destroy(&s.changed);
}

static void
waits_end_at_their_deadline(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t never;
	int64_t began_mono_ms = clock_mono_ms();

	(void)state;
	cond_init_mono(&never);
	pthread_mutex_lock(&lock);
	while (cond_wait_until(&never, &lock, began_mono_ms + 20))
		continue;
	assert_true(clock_mono_ms() >= began_mono_ms + 20);
	assert_false(cond_wait_until(&never, &lock, 0)); /* long past */
	pthread_mutex_unlock(&lock);
	pthread_cond_destroy(&never);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_are_small_named_and_without_signals), cmocka_unit_test(waits_end_at_their_deadline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
