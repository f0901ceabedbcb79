/* threads.h - joinable threads with small stacks. */
#ifndef WORKER_THREADS_H
#define WORKER_THREADS_H

#include <pthread.h>

/* Starts fn(arg); aborts where the system has no more threads, as for memory. The caller joins. */
void thread_start(pthread_t *ret, const char *name, void *(*fn)(void *), void *arg);

/* A condition variable whose timed waits take the monotonic clock, and a wait until deadline_mono_ms (-1: for ever). */
void cond_init_mono(pthread_cond_t *c);
void cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, long long deadline_mono_ms);

#endif
