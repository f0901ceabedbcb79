#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/clock.h"
#include "net/loop.h"

struct fixture {
	struct loop *l;
	int order[64];
	size_t n;
};

static void
note(struct fixture *f, int what)
{
	assert_true(f->n < sizeof(f->order) / sizeof(f->order[0]));
	f->order[f->n++] = what;
}

static void
set_up(struct fixture *f)
{
	*f = (struct fixture){.l = loop_new(NULL)};
	assert_non_null(f->l);
}

static void
stop(void *arg)
{
	loop_stop(((struct fixture *)arg)->l);
}

/* --- timers --- */

struct tick {
	struct fixture *f;
	struct loop_timer t;
	int name;
};

static void
on_tick(void *arg)
{
	struct tick *k = arg;

	note(k->f, k->name);
	if (k->name == 3)
		loop_stop(k->f->l);
}

static void
timers_fire_in_order_and_never_early(void **state)
{
	struct fixture f;
	struct tick k[4] = {0};
	int64_t begin_mono_ms = clock_mono_ms();

	(void)state;
	set_up(&f);
	for (int i = 0; i < 4; i++) {
		k[i].f = &f;
		k[i].name = i;
		loop_timer_set(f.l, &k[i].t, begin_mono_ms + 1000, on_tick, &k[i]);
	}
	loop_timer_set(f.l, &k[3].t, begin_mono_ms + 40, on_tick, &k[3]);
	loop_timer_set(f.l, &k[1].t, begin_mono_ms + 20, on_tick, &k[1]);
	loop_timer_set(f.l, &k[2].t, begin_mono_ms - 5, on_tick, &k[2]);
	loop_timer_clear(f.l, &k[0].t);
	loop_timer_clear(f.l, &k[0].t);
	loop_run(f.l);

	assert_int_equal(f.n, 3);
	assert_int_equal(f.order[0], 2);
	assert_int_equal(f.order[1], 1);
	assert_int_equal(f.order[2], 3);
	assert_true(clock_mono_ms() - begin_mono_ms >= 40);
	assert_false(k[3].t.set);
	loop_free(f.l);
}

/* --- descriptors --- */

struct pair {
	struct fixture *f;
	int fd[2];
	struct loop_fd *h;
	struct pair *other;
	int calls;
};

static void
remove_both(uint32_t ready, void *arg)
{
	struct pair *p = arg;

	assert_true(ready & EPOLLIN);
	p->calls++;
	loop_fd_remove(p->f->l, p->h);
	loop_fd_remove(p->f->l, p->other->h);
}

/* Both are ready in one turn; whichever comes first removes both, and the other must not be called through freed memory. */
static void
a_handle_removed_in_the_same_turn_is_silent(void **state)
{
	struct fixture f;
	struct pair p[2];
	struct loop_timer end = {0};

	(void)state;
	set_up(&f);
	for (int i = 0; i < 2; i++) {
		p[i] = (struct pair){.f = &f, .other = &p[1 - i]};
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p[i].fd), 0);
		assert_int_equal(write(p[i].fd[1], "x", 1), 1);
		p[i].h = loop_fd_add(f.l, p[i].fd[0], EPOLLIN, remove_both, &p[i]);
	}
	loop_timer_set(f.l, &end, clock_mono_ms() + 20, stop, &f);
	loop_run(f.l);
	assert_int_equal(p[0].calls + p[1].calls, 1);
	for (int i = 0; i < 2; i++) {
		close(p[i].fd[0]);
		close(p[i].fd[1]);
	}
	loop_free(f.l);
}

static void
on_writable(uint32_t ready, void *arg)
{
	struct pair *p = arg;

	assert_int_equal(ready, EPOLLOUT);
	p->calls++;
	loop_stop(p->f->l);
}

static void
the_events_of_a_handle_can_change(void **state)
{
	struct fixture f;
	struct pair p = {.f = &f};

	(void)state;
	set_up(&f);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p.fd), 0);
	p.h = loop_fd_add(f.l, p.fd[0], EPOLLIN, on_writable, &p);
	loop_fd_change(f.l, p.h, EPOLLOUT);
	loop_run(f.l);
	assert_int_equal(p.calls, 1);
	loop_fd_remove(f.l, p.h);
	close(p.fd[0]);
	close(p.fd[1]);
	loop_free(f.l);
}

/* --- signals --- */

static void
on_usr(int signo, void *arg)
{
	note(arg, signo);
	if (((struct fixture *)arg)->n == 2)
		stop(arg);
}

static void
signals_arrive_in_the_loop(void **state)
{
	struct fixture f;
	struct err e;

	(void)state;
	set_up(&f);
	assert_int_equal(loop_signal(f.l, SIGUSR1, on_usr, &f, &e), 0);
	assert_int_equal(loop_signal(f.l, SIGUSR2, on_usr, &f, &e), 0);
	assert_int_equal(loop_signal(f.l, 4711, on_usr, &f, &e), ERR_INVALID);
	kill(getpid(), SIGUSR1);
	kill(getpid(), SIGUSR2);
	loop_run(f.l);
	assert_int_equal(f.order[0] + f.order[1], SIGUSR1 + SIGUSR2);
	loop_free(f.l);
}

/* --- messages --- */

#define POSTERS 4
#define POSTS 5000

struct poster {
	struct fixture *f;
	pthread_t thread;
	int next; /* expected; of the loop */
	struct message {
		struct poster *from;
		int number;
	} messages[POSTS];
};

static int messages_left;

static void
on_message(void *arg)
{
	struct message *m = arg;

	assert_int_equal(m->number, m->from->next);
	m->from->next++;
	if (--messages_left == 0)
		stop(m->from->f);
}

static void *
post_all(void *arg)
{
	struct poster *p = arg;

	for (int i = 0; i < POSTS; i++) {
		p->messages[i] = (struct message){p, i};
		loop_post(p->f->l, on_message, &p->messages[i]);
	}
	return NULL;
}

static void
messages_of_each_thread_arrive_once_and_in_order(void **state)
{
	struct fixture f;
	struct poster *p = calloc(POSTERS, sizeof(*p));

	(void)state;
	set_up(&f);
	messages_left = POSTERS * POSTS;
	for (int i = 0; i < POSTERS; i++) {
		p[i].f = &f;
		assert_int_equal(pthread_create(&p[i].thread, NULL, post_all, &p[i]), 0);
	}
	loop_run(f.l);
	for (int i = 0; i < POSTERS; i++) {
		pthread_join(p[i].thread, NULL);
		assert_int_equal(p[i].next, POSTS);
	}
	loop_free(f.l);
	free(p);
}

static void
note_post(void *arg)
{
	note(arg, 7);
}

static void
post_stop(void *arg)
{
	loop_post(((struct fixture *)arg)->l, stop, arg);
}

/* The message that the first one posts is behind the second, and belongs to the next turn. */
static void
a_message_may_post_another(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	loop_post(f.l, post_stop, &f);
	loop_post(f.l, note_post, &f);
	loop_run(f.l);
	assert_int_equal(f.n, 1);
	loop_free(f.l);
}

static void
messages_left_behind_are_run_by_free(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	loop_post(f.l, note_post, &f);
	loop_free(f.l);
	assert_int_equal(f.n, 1);
}

/* --- work --- */

struct job {
	struct fixture *f;
	struct work_pool *pool;
	bool ran, done, began;
	int64_t in_loop;
};

static void
posted_by_run(void *arg)
{
	struct job *j = arg;

	assert_false(j->done);
	j->in_loop++;
}

static void
run_job(void *arg)
{
	struct job *j = arg;

	loop_post(j->f->l, posted_by_run, j);
	j->ran = true;
}

static void
job_done(void *arg, bool began)
{
	struct job *j = arg;

	j->done = true;
	j->began = began;
	if (j->pool != NULL && work_pool_load(j->pool) == 0)
		loop_stop(j->f->l);
}

static void
work_runs_and_is_told_after_its_own_messages(void **state)
{
	struct fixture f;
	struct job jobs[100];
	struct work_pool *p;

	(void)state;
	set_up(&f);
	p = work_pool_new(f.l, "test", 4, NULL);
	assert_non_null(p);
	for (int i = 0; i < 100; i++) {
		jobs[i] = (struct job){.f = &f, .pool = p};
		work_submit(p, run_job, job_done, &jobs[i]);
	}
	assert_int_equal(work_pool_load(p), 100);
	loop_run(f.l);
	for (int i = 0; i < 100; i++) {
		assert_true(jobs[i].ran && jobs[i].done && jobs[i].began);
		assert_int_equal(jobs[i].in_loop, 1);
	}
	work_pool_free(p);
	work_pool_free(NULL);
	loop_free(f.l);
}

struct gate {
	pthread_barrier_t begun, go;
};

static void
run_gated(void *arg)
{
	struct gate *g = arg;

	pthread_barrier_wait(&g->begun);
	pthread_barrier_wait(&g->go);
}

static void
gated_done(void *arg, bool began)
{
	(void)arg;
	assert_true(began);
}

static void *
open_gate(void *arg)
{
	pthread_barrier_wait(&((struct gate *)arg)->go);
	return NULL;
}

static void
a_freed_pool_drops_what_has_not_begun(void **state)
{
	struct fixture f;
	struct gate g;
	struct job late[3];
	struct work_pool *p;
	pthread_t opener;

	(void)state;
	set_up(&f);
	pthread_barrier_init(&g.begun, NULL, 2);
	pthread_barrier_init(&g.go, NULL, 2);
	p = work_pool_new(f.l, "test", 1, NULL);
	work_submit(p, run_gated, gated_done, &g);
	pthread_barrier_wait(&g.begun); /* the only thread is busy: what follows waits */
	for (int i = 0; i < 3; i++) {
		late[i] = (struct job){.f = &f};
		work_submit(p, run_job, job_done, &late[i]);
	}
	/* The thread may get on before free has told it to end: then some of these run, and must be told so. */
	assert_int_equal(pthread_create(&opener, NULL, open_gate, &g), 0);
	work_pool_free(p);
	pthread_join(opener, NULL);
	for (int i = 0; i < 3; i++) {
		assert_true(late[i].done);
		assert_int_equal(late[i].began, late[i].ran);
	}
	pthread_barrier_destroy(&g.begun);
	pthread_barrier_destroy(&g.go);
	loop_free(f.l);
}

struct turns {
	struct fixture f;
	size_t turns, due, last;
	struct loop_timer t;
};

static void
on_turn(void *arg)
{
	struct turns *s = arg;

	s->turns++;
	if (s->due < 3)
		return;
	s->last = s->due;
	loop_stop(s->f.l);
}

static void
on_due(void *arg)
{
	struct turns *s = arg;

	if (++s->due == 1)
		loop_post(s->f.l, on_due, s);
	else if (s->due == 2)
		loop_timer_set(s->f.l, &s->t, 0, on_due, s);
}

/* What a callback leaves behind is seen before the loop sleeps again, by whichever way it was called. */
static void
each_turn_ends_with_its_function(void **state)
{
	struct turns s = {.turns = 0};

	(void)state;
	set_up(&s.f);
	loop_each_turn(s.f.l, on_turn, &s);
	loop_timer_set(s.f.l, &s.t, 0, on_due, &s);
	loop_run(s.f.l); /* sleeps for ever when the last one is not seen */
	assert_int_equal(s.last, 3);
	assert_in_range(s.turns, 3, 5);
	loop_free(s.f.l);
}

static void
an_idle_loop_sleeps(void **state)
{
	struct fixture f;
	struct loop_timer end = {0};
	struct rusage before, after;

	(void)state;
	set_up(&f);
	loop_timer_set(f.l, &end, clock_mono_ms() + 200, stop, &f);
	getrusage(RUSAGE_THREAD, &before);
	loop_run(f.l);
	getrusage(RUSAGE_THREAD, &after);
	assert_in_range(after.ru_nvcsw - before.ru_nvcsw, 0, 5);
	loop_free(f.l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(timers_fire_in_order_and_never_early),
	    cmocka_unit_test(a_handle_removed_in_the_same_turn_is_silent),
	    cmocka_unit_test(the_events_of_a_handle_can_change),
	    cmocka_unit_test(signals_arrive_in_the_loop),
	    cmocka_unit_test(messages_of_each_thread_arrive_once_and_in_order),
	    cmocka_unit_test(a_message_may_post_another),
	    cmocka_unit_test(messages_left_behind_are_run_by_free),
	    cmocka_unit_test(work_runs_and_is_told_after_its_own_messages),
	    cmocka_unit_test(a_freed_pool_drops_what_has_not_begun),
	    cmocka_unit_test(each_turn_ends_with_its_function),
	    cmocka_unit_test(an_idle_loop_sleeps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
