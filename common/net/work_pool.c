#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>

#include "base/mem.h"
#include "base/threads.h"
#include "net/loop_priv.h"

#define THREADS_MAX 256

struct job {
	struct work_pool *pool;
	void (*run)(void *arg);
	void (*done)(void *arg, bool began);
	void *arg;
	struct job *next;
};

struct work_pool {
	struct loop *loop;
	char name[16];      /* as much as the kernel keeps */
	atomic_size_t load; /* jobs not yet done */

	pthread_mutex_t lock; /* of the three below */
	pthread_cond_t wake;
	bool ending;
	struct job *first, **last; /* waiting */

	unsigned n_threads; /* started */
	pthread_t threads[];
};

/* Ends a job in the loop. */
static void
finish(struct job *j, bool began)
{
	j->pool->load--;
	j->done(j->arg, began);
	free(j);
}

static void
on_ran(void *arg)
{
	finish(arg, true);
}

/* The next job, waited for; NULL when the pool ends. */
static struct job *
take(struct work_pool *p)
{
	struct job *j = NULL;

	pthread_mutex_lock(&p->lock);
	while (p->first == NULL && !p->ending)
		pthread_cond_wait(&p->wake, &p->lock);
	if (!p->ending) {
		j = p->first;
		p->first = j->next;
		if (p->first == NULL)
			p->last = &p->first;
	}
	pthread_mutex_unlock(&p->lock);
	return j;
}

static void *
thread_main(void *arg)
{
	struct work_pool *p = arg;
	struct job *j;

	while ((j = take(p)) != NULL) {
		j->run(j->arg);
		/* By way of the loop's own queue: what run has posted comes before done. */
		loop_post(p->loop, on_ran, j);
	}
	return NULL;
}

static int
start_thread(struct work_pool *p, struct err *e)
{
	int rc = thread_try(&p->threads[p->n_threads], p->name, thread_main, p);

	if (rc != 0)
		return err_set(e, ERR_IO, "start a %s thread: %s", p->name, strerror(rc));
	p->n_threads++;
	return 0;
}

struct work_pool *
work_pool_new(struct loop *l, const char *name, unsigned threads, struct err *e)
{
	struct work_pool *p;

	assert(threads >= 1 && threads <= THREADS_MAX);
	p = xcalloc(1, sizeof(*p) + threads * sizeof(p->threads[0]));
	p->loop = l;
	snprintf(p->name, sizeof(p->name), "%s", name);
	p->last = &p->first;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	for (unsigned i = 0; i < threads; i++) {
		if (start_thread(p, e) != 0) {
			work_pool_free(p);
			return NULL;
		}
	}
	return p;
}

void
work_pool_free(struct work_pool *p)
{
	struct job *j;

	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	p->ending = true;
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);

	/* No thread is left: the list is ours. A done function may submit again, which is then dropped as well. */
	while (p->load > 0) {
		loop_run_posted(p->loop);
		while ((j = p->first) != NULL) {
			p->first = j->next;
			if (p->first == NULL)
				p->last = &p->first;
			finish(j, false);
		}
	}
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void
work_submit(struct work_pool *p, void (*run)(void *arg), void (*done)(void *arg, bool began), void *arg)
{
	struct job *j = xcalloc(1, sizeof(*j));

	j->pool = p;
	j->run = run;
	j->done = done;
	j->arg = arg;
	p->load++;
	pthread_mutex_lock(&p->lock);
	*p->last = j;
	p->last = &j->next;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

size_t
work_pool_load(const struct work_pool *p)
{
	return p->load;
}
