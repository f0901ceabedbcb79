/* loop.h - the one thread that owns a program's state: descriptors (epoll), timers, signals, and messages from the threads
 * that do the blocking work.
 *
 * All callbacks run in the thread that calls loop_run. Only loop_post and work_submit may be called from other threads.
 */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct loop;
struct loop_fd;

/* A timer; the memory is the caller's, zeroed before first use, and must stay until it is cleared or has fired. */
struct loop_timer {
	int64_t at_mono_ms;
	void (*fn)(void *arg);
	void *arg;
	size_t pos; /* of the loop */
	bool set;   /* of the loop */
};

/* A loop, or NULL with *e. loop_free wants no thread left that posts to it; NULL is allowed. */
struct loop *loop_new(struct err *e);
void loop_free(struct loop *l);

/* Runs callbacks until loop_stop. loop_stop may be called from a callback; loop_run then returns after this turn. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);

/* Has fn called at the end of each turn, before the loop may sleep, and once before the first. One per loop. */
void loop_each_turn(struct loop *l, void (*fn)(void *arg), void *arg);

/* Calls fn with the ready events (EPOLLIN, EPOLLOUT, …) whenever fd is ready for one of `events`; level-triggered.
 * The handle is valid until loop_fd_remove, which may be called from any callback, its own too; fd is not closed. */
struct loop_fd *loop_fd_add(struct loop *l, int fd, uint32_t events, void (*fn)(uint32_t ready, void *arg), void *arg);
void loop_fd_change(struct loop *l, struct loop_fd *h, uint32_t events);
void loop_fd_remove(struct loop *l, struct loop_fd *h);

/* Sets (or moves) a timer; fires once, at or after at_mono_ms. loop_timer_clear of a timer that is not set is fine. */
void loop_timer_set(struct loop *l, struct loop_timer *t, int64_t at_mono_ms, void (*fn)(void *), void *arg);
void loop_timer_clear(struct loop *l, struct loop_timer *t);

/* Calls fn in the loop for each arrival of signo, which is blocked in this and every later thread (signalfd). */
int loop_signal(struct loop *l, int signo, void (*fn)(int signo, void *arg), void *arg, struct err *e);

/* Any thread: has fn(arg) called once in the loop, in the order of posting. Never blocks for long, never fails. */
void loop_post(struct loop *l, void (*fn)(void *arg), void *arg);

/* --- threads for blocking work --- */

struct work_pool;

/* A pool of `threads` named threads that finish on this loop. work_pool_free lets running work end, drops what has not begun
 * (its done functions are still called, with began = false, before free returns), joins. NULL is allowed. */
struct work_pool *work_pool_new(struct loop *l, const char *name, unsigned threads, struct err *e);
void work_pool_free(struct work_pool *p);

/* Runs run(arg) in a pool thread, then done(arg, began) in the loop. First come, first served. */
void work_submit(struct work_pool *p, void (*run)(void *arg), void (*done)(void *arg, bool began), void *arg);

/* Jobs waiting or running. Loop thread. */
size_t work_pool_load(const struct work_pool *p);

#endif
