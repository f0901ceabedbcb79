#include "net/loop.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <pthread.h>

#include "base/clock.h"
#include "base/heap.h"
#include "base/mem.h"
#include "net/loop_priv.h"

#define EVENTS_PER_TURN 64
#define SIGNALS_MAX 65

struct loop_fd {
	int fd;
	void (*fn)(uint32_t ready, void *arg);
	void *arg;
	struct loop_fd *next_removed;
	bool removed;
};

struct post {
	void (*fn)(void *arg);
	void *arg;
	struct post *next;
};

struct signal_handler {
	void (*fn)(int signo, void *arg);
	void *arg;
};

struct loop {
	int epoll, event, signal; /* signal is -1 until the first loop_signal */
	bool stopping;
	struct heap timers;
	struct loop_fd *event_handle, *signal_handle;
	void (*each_turn)(void *arg);
	void *each_turn_arg;
	struct loop_fd *removed; /* parked until the turn ends: epoll may still report them in it */
	sigset_t signals;
	struct signal_handler handlers[SIGNALS_MAX];

	pthread_mutex_t lock; /* of the queue */
	struct post *first, **last;
	size_t n_posts;
};

/* --- descriptors --- */

struct loop_fd *
loop_fd_add(struct loop *l, int fd, uint32_t events, void (*fn)(uint32_t ready, void *arg), void *arg)
{
	struct loop_fd *h = xcalloc(1, sizeof(*h));
	struct epoll_event ev = {.events = events, .data = {.ptr = h}};
	int rc;

	h->fd = fd;
	h->fn = fn;
	h->arg = arg;
	rc = epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev);
	assert(rc == 0);
	(void)rc;
	return h;
}

void
loop_fd_change(struct loop *l, struct loop_fd *h, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data = {.ptr = h}};
	int rc;

	assert(!h->removed);
	rc = epoll_ctl(l->epoll, EPOLL_CTL_MOD, h->fd, &ev);
	assert(rc == 0);
	(void)rc;
}

/* The handle is only parked: an event for it may already have been fetched in this turn. */
void
loop_fd_remove(struct loop *l, struct loop_fd *h)
{
	if (h == NULL)
		return;
	assert(!h->removed);
	/* Fails when the descriptor was closed before, which has taken it out of the set as well. */
	(void)epoll_ctl(l->epoll, EPOLL_CTL_DEL, h->fd, NULL);
	h->removed = true;
	h->next_removed = l->removed;
	l->removed = h;
}

static void
free_removed(struct loop *l)
{
	struct loop_fd *h;

	while ((h = l->removed) != NULL) {
		l->removed = h->next_removed;
		free(h);
	}
}

/* --- timers --- */

static bool
timer_less(const void *a, const void *b)
{
	const struct loop_timer *x = a, *y = b;

	return x->at_mono_ms != y->at_mono_ms ? x->at_mono_ms < y->at_mono_ms : (uintptr_t)x < (uintptr_t)y;
}

static void
timer_set_pos(void *item, size_t pos)
{
	((struct loop_timer *)item)->pos = pos;
}

void
loop_timer_set(struct loop *l, struct loop_timer *t, int64_t at_mono_ms, void (*fn)(void *), void *arg)
{
	t->fn = fn;
	t->arg = arg;
	t->at_mono_ms = at_mono_ms;
	if (t->set) {
		heap_fix(&l->timers, t->pos);
		return;
	}
	t->set = true;
	heap_push(&l->timers, t);
}

void
loop_timer_clear(struct loop *l, struct loop_timer *t)
{
	if (!t->set)
		return;
	heap_remove(&l->timers, t->pos);
	t->set = false;
}

/* Runs what is due at `now`; a timer that a callback sets to the past waits for the next turn, so that descriptors get
 * their share. */
static void
run_timers(struct loop *l)
{
	int64_t now_mono_ms = clock_mono_ms();
	size_t bound = l->timers.len;
	struct loop_timer *t;

	while (bound-- > 0 && (t = heap_peek(&l->timers)) != NULL && t->at_mono_ms <= now_mono_ms) {
		heap_pop(&l->timers);
		t->set = false;
		t->fn(t->arg);
	}
}

static int
wait_ms(const struct loop *l)
{
	const struct loop_timer *t = heap_peek(&l->timers);
	int64_t ms;

	if (t == NULL)
		return -1;
	ms = t->at_mono_ms - clock_mono_ms();
	if (ms <= 0)
		return 0;
	return ms > 3600 * 1000 ? 3600 * 1000 : (int)ms;
}

/* --- signals --- */

static void
on_signal(uint32_t ready, void *arg)
{
	struct loop *l = arg;
	struct signalfd_siginfo si;

	(void)ready;
	while (read(l->signal, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		const struct signal_handler *h = &l->handlers[si.ssi_signo];

		if (h->fn != NULL)
			h->fn((int)si.ssi_signo, h->arg);
	}
}

int
loop_signal(struct loop *l, int signo, void (*fn)(int signo, void *arg), void *arg, struct err *e)
{
	sigset_t one;
	int fd, rc;

	if (signo <= 0 || signo >= SIGNALS_MAX)
		return err_set(e, ERR_INVALID, "no such signal: %d", signo);
	sigemptyset(&one);
	sigaddset(&one, signo);
	rc = pthread_sigmask(SIG_BLOCK, &one, NULL);
	if (rc != 0)
		return err_set(e, ERR_IO, "block signal %d: %s", signo, strerror(rc));
	sigaddset(&l->signals, signo);
	fd = signalfd(l->signal, &l->signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return err_set(e, ERR_IO, "signalfd: %s", strerror(errno));
	l->handlers[signo] = (struct signal_handler){fn, arg};
	if (l->signal < 0) {
		l->signal = fd;
		l->signal_handle = loop_fd_add(l, fd, EPOLLIN, on_signal, l);
	}
	return 0;
}

/* --- messages from other threads --- */

static void
wake(struct loop *l)
{
	const uint64_t one = 1;

	/* Fails only when the counter is full, and then the loop is awake anyway. */
	while (write(l->event, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void
loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
	struct post *p = xmalloc(sizeof(*p));
	bool was_empty;

	*p = (struct post){fn, arg, NULL};
	pthread_mutex_lock(&l->lock);
	was_empty = l->first == NULL;
	*l->last = p;
	l->last = &p->next;
	l->n_posts++;
	/* Inside the lock: once it is released the loop may run this message, and its owner may free the loop. */
	if (was_empty)
		wake(l);
	pthread_mutex_unlock(&l->lock);
}

static struct post *
next_post(struct loop *l)
{
	struct post *p;

	pthread_mutex_lock(&l->lock);
	p = l->first;
	if (p != NULL) {
		l->first = p->next;
		l->n_posts--;
	}
	if (l->first == NULL)
		l->last = &l->first;
	pthread_mutex_unlock(&l->lock);
	return p;
}

void
loop_run_posted(struct loop *l)
{
	struct post *p;
	size_t n;
	bool more;

	pthread_mutex_lock(&l->lock);
	n = l->n_posts;
	pthread_mutex_unlock(&l->lock);
	/* One by one, because a message may itself wait for others here (work_pool_free). */
	while (n-- > 0 && (p = next_post(l)) != NULL) {
		p->fn(p->arg);
		free(p);
	}
	pthread_mutex_lock(&l->lock);
	more = l->first != NULL;
	pthread_mutex_unlock(&l->lock);
	if (more)
		wake(l);
}

static void
on_event(uint32_t ready, void *arg)
{
	struct loop *l = arg;
	uint64_t count;

	(void)ready;
	if (read(l->event, &count, sizeof(count)) == (ssize_t)sizeof(count))
		loop_run_posted(l);
}

/* --- the loop --- */

struct loop *
loop_new(struct err *e)
{
	struct loop *l = xcalloc(1, sizeof(*l));

	l->signal = -1;
	l->event = -1;
	l->timers = heap_make(timer_less, timer_set_pos);
	l->last = &l->first;
	sigemptyset(&l->signals);
	pthread_mutex_init(&l->lock, NULL);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll >= 0)
		l->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->event < 0) {
		err_set(e, ERR_IO, "event loop: %s", strerror(errno));
		loop_free(l);
		return NULL;
	}
	l->event_handle = loop_fd_add(l, l->event, EPOLLIN, on_event, l);
	return l;
}

void
loop_free(struct loop *l)
{
	if (l == NULL)
		return;
	/* Messages left behind own memory that only their functions know how to free. */
	while (l->first != NULL)
		loop_run_posted(l);
	loop_fd_remove(l, l->event_handle);
	loop_fd_remove(l, l->signal_handle);
	free_removed(l);
	heap_release(&l->timers);
	pthread_mutex_destroy(&l->lock);
	if (l->signal >= 0)
		close(l->signal);
	if (l->event >= 0)
		close(l->event);
	if (l->epoll >= 0)
		close(l->epoll);
	free(l);
}

void
loop_stop(struct loop *l)
{
	l->stopping = true;
}

void
loop_each_turn(struct loop *l, void (*fn)(void *arg), void *arg)
{
	l->each_turn = fn;
	l->each_turn_arg = arg;
}

static void
end_turn(struct loop *l)
{
	if (l->each_turn != NULL)
		l->each_turn(l->each_turn_arg);
}

void
loop_run(struct loop *l)
{
	struct epoll_event ev[EVENTS_PER_TURN];

	l->stopping = false;
	end_turn(l);
	while (!l->stopping) {
		int n = epoll_wait(l->epoll, ev, EVENTS_PER_TURN, wait_ms(l));

		assert(n >= 0 || errno == EINTR);
		for (int i = 0; i < n; i++) {
			struct loop_fd *h = ev[i].data.ptr;

			if (!h->removed)
				h->fn(ev[i].events, h->arg);
		}
		run_timers(l);
		free_removed(l);
		end_turn(l);
	}
}
