/* Sandboxes in stock. They are started by one thread that lives as long as the stock: a helper dies with the thread that started it. */
#include "worker/sandbox_stock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/threads.h"

#define STOCK_MAX 8
#define RENEW_MS (5 * 60 * 1000) /* older ones show files of the host as they were: they are thrown away */
#define AGAIN_MS 5000            /* after one could not be started */
#define AFTER_TAKE_MS 15         /* the one that was taken starts its program first, unless there is none left */

struct sandbox_stock {
	struct sandbox_caps caps;
	char toolchain[512];
	unsigned wanted;
	bool renewed;            /* what is taken or too old is replaced */
	pthread_t thread;
	pthread_mutex_t lock;    /* of all below */
	pthread_cond_t changed;
	struct mother mother;    /* has a lock of her own */
	bool stop;
	int64_t taken_mono_ms;   /* when the last one was taken */
	unsigned made;
	unsigned n;
	struct {                 /* oldest first */
		struct sandbox *box;
		int64_t made_mono_ms;
	} ready[STOCK_MAX];
};

/* Takes the oldest out. Under the lock. */
static struct sandbox *
pop(struct sandbox_stock *k)
{
	struct sandbox *box = k->ready[0].box;

	k->n--;
	memmove(&k->ready[0], &k->ready[1], k->n * sizeof(k->ready[0]));
	return box;
}

/* A helper that has ended is of no use: its socket is closed at the other end. */
static bool
alive(const struct sandbox *box)
{
	char c;

	return recv(box->link, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0;
}

static bool
same_caps(const struct sandbox_caps *a, const struct sandbox_caps *b)
{
	return a->rung == b->rung && a->landlock_abi == b->landlock_abi && a->seccomp == b->seccomp && a->netns == b->netns && a->cgroup == b->cgroup;
}

struct sandbox *
stock_take(struct sandbox_stock *k, const struct sandbox_spec *spec)
{
	const char *toolchain = spec->paths.toolchain != NULL ? spec->paths.toolchain : "";
	struct sandbox *box = NULL, *dead = NULL;

	if (spec->egress || strcmp(toolchain, k->toolchain) != 0 || !same_caps(spec->caps, &k->caps))
		return NULL;
	pthread_mutex_lock(&k->lock);
	if (k->n > 0)
		box = pop(k);
	k->taken_mono_ms = clock_mono_ms();
	pthread_cond_signal(&k->changed);
	pthread_mutex_unlock(&k->lock);
	if (box != NULL && !alive(box)) {
		dead = box;
		box = NULL;
	}
	sandbox_free(dead);
	return box;
}

struct mother *
stock_mother(struct sandbox_stock *k)
{
	return k != NULL ? &k->mother : NULL;
}

/* What is too old goes; returns when the next one will be. Under the lock, which is given up meanwhile. */
static int64_t
renew(struct sandbox_stock *k)
{
	while (k->n > 0 && k->ready[0].made_mono_ms + RENEW_MS <= clock_mono_ms()) {
		struct sandbox *box = pop(k);

		pthread_mutex_unlock(&k->lock);
		sandbox_free(box);
		pthread_mutex_lock(&k->lock);
	}
	return k->n > 0 ? k->ready[0].made_mono_ms + RENEW_MS : -1;
}

static void *
fill(void *arg)
{
	struct sandbox_stock *k = arg;
	unsigned long number = 0;

	pthread_mutex_lock(&k->lock);
	while (!k->stop) {
		int64_t wake_mono_ms = renew(k), due_mono_ms = k->n > 0 ? k->taken_mono_ms + AFTER_TAKE_MS : 0;
		struct sandbox *box = NULL;
		struct err e = {0};
		char name[40];
		int rc;

		if (k->stop || k->n >= k->wanted || (!k->renewed && k->made >= k->wanted)) {
			if (!k->stop)
				cond_wait_until(&k->changed, &k->lock, wake_mono_ms);
			continue;
		}
		if (due_mono_ms > clock_mono_ms()) {
			cond_wait_until(&k->changed, &k->lock, due_mono_ms);
			continue;
		}
		pthread_mutex_unlock(&k->lock);
		(void)snprintf(name, sizeof(name), "stock-%lu", ++number);
		if (k->renewed && mother_start(&k->mother, &k->caps, &e) != 0) /* for a few her own start does not pay */
			log_debug("sandbox", "each is started for itself: %s", e.msg);
		rc = sandbox_prepare(&k->caps, false, k->toolchain, name, &k->mother, &box, &e);
		pthread_mutex_lock(&k->lock);
		if (rc == 0) {
			k->made++;
			k->ready[k->n].box = box;
			k->ready[k->n++].made_mono_ms = clock_mono_ms();
		} else if (!k->stop) {
			log_debug("sandbox", "none could be prepared: %s", e.msg); /* runs start theirs, and say what is wrong */
			cond_wait_until(&k->changed, &k->lock, clock_mono_ms() + AGAIN_MS);
		}
	}
	while (k->n > 0) {
		struct sandbox *box = pop(k);

		pthread_mutex_unlock(&k->lock);
		sandbox_free(box);
		pthread_mutex_lock(&k->lock);
	}
	pthread_mutex_unlock(&k->lock);
	mother_release(&k->mother);
	return NULL;
}

unsigned
sandbox_stock_ready(struct sandbox_stock *k)
{
	unsigned n;

	pthread_mutex_lock(&k->lock);
	n = k->n;
	pthread_mutex_unlock(&k->lock);
	return n;
}

struct sandbox_stock *
sandbox_stock_new(const struct sandbox_caps *caps, const char *toolchain, unsigned n, bool renewed)
{
	struct sandbox_stock *k = xcalloc(1, sizeof(*k));

	k->caps = *caps;
	(void)snprintf(k->toolchain, sizeof(k->toolchain), "%s", toolchain);
	k->wanted = n < STOCK_MAX ? n : STOCK_MAX;
	k->renewed = renewed;
	pthread_mutex_init(&k->lock, NULL);
	cond_init_mono(&k->changed);
	mother_init(&k->mother);
	thread_start(&k->thread, "stock", fill, k);
	return k;
}

void
sandbox_stock_free(struct sandbox_stock *k)
{
	if (k == NULL)
		return;
	pthread_mutex_lock(&k->lock);
	k->stop = true;
	pthread_cond_signal(&k->changed);
	pthread_mutex_unlock(&k->lock);
	pthread_join(k->thread, NULL);
	pthread_cond_destroy(&k->changed);
	pthread_mutex_destroy(&k->lock);
	pthread_mutex_destroy(&k->mother.lock);
	free(k);
}
