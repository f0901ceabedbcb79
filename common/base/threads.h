/* threads.h - joinable threads with small stacks, and condition variables that wait by the monotonic clock. */
#ifndef BASE_THREADS_H
#define BASE_THREADS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Starts fn(arg) without signals: those are for the program's own threads. name: 15 characters at most. The caller joins. Returns
 * 0, or the errno of a system that has no more threads. */
int thread_try(pthread_t *ret, const char *name, void *(*fn)(void *), void *arg);

/* The same; aborts where there are no more, as for memory. */
void thread_start(pthread_t *ret, const char *name, void *(*fn)(void *), void *arg);

/* A condition variable for cond_wait_until. */
void cond_init_mono(pthread_cond_t *c);

/* Waits until it is signalled (or for no reason), or until deadline_mono_ms (-1: for ever). False: the deadline has passed. */
bool cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, int64_t deadline_mono_ms);

#endif
