#include "dispatcher/pipe.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct pipe {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool closed, broken, stalled;
	size_t size, head, len; /* head: of the oldest byte */
	char data[];
};

struct pipe *
pipe_new(size_t size)
{
	struct pipe *p = xcalloc(1, sizeof(*p) + size);

	p->size = size;
	pthread_mutex_init(&p->mutex, NULL);
	pthread_cond_init(&p->changed, NULL);
	return p;
}

void
pipe_free(struct pipe *p)
{
	if (p == NULL)
		return;
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->mutex);
	free(p);
}

static void
set_flag(struct pipe *p, bool *flag)
{
	pthread_mutex_lock(&p->mutex);
	*flag = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->mutex);
}

void
pipe_close(struct pipe *p)
{
	set_flag(p, &p->closed);
}

void
pipe_break(struct pipe *p)
{
	set_flag(p, &p->broken);
}

/* Both with the mutex held; at most two copies, since the ring wraps once. */
static size_t
ring_put(struct pipe *p, const char *data, size_t len)
{
	size_t n = len < p->size - p->len ? len : p->size - p->len, at = (p->head + p->len) % p->size;
	size_t first = n < p->size - at ? n : p->size - at;

	memcpy(p->data + at, data, first);
	memcpy(p->data, data + first, n - first);
	p->len += n;
	return n;
}

static size_t
ring_take(struct pipe *p, char *out, size_t len)
{
	size_t n = len < p->len ? len : p->len, first = n < p->size - p->head ? n : p->size - p->head;

	memcpy(out, p->data + p->head, first);
	memcpy(out + first, p->data, n - first);
	p->head = (p->head + n) % p->size;
	p->len -= n;
	return n;
}

size_t
pipe_write(struct pipe *p, const void *data, size_t len, bool *ret_stalled)
{
	size_t n;

	pthread_mutex_lock(&p->mutex);
	n = ring_put(p, data, len);
	p->stalled = *ret_stalled = n < len;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->mutex);
	return n;
}

long
pipe_read_wait(struct pipe *p, void *out, size_t len, bool *ret_room)
{
	long n;

	pthread_mutex_lock(&p->mutex);
	while (p->len == 0 && !p->closed && !p->broken)
		pthread_cond_wait(&p->changed, &p->mutex);
	n = p->broken ? -1 : (long)ring_take(p, out, len);
	/* Half empty before the writer is woken: a wake-up per byte would cost more than the bytes. */
	*ret_room = p->stalled && p->len <= p->size / 2;
	if (*ret_room)
		p->stalled = false;
	pthread_mutex_unlock(&p->mutex);
	return n;
}

bool
pipe_write_wait(struct pipe *p, const void *data, size_t len)
{
	const char *at = data;
	bool broken;

	pthread_mutex_lock(&p->mutex);
	while (len > 0 && !p->broken) {
		size_t n = ring_put(p, at, len);

		at += n;
		len -= n;
		if (len > 0 && !p->broken)
			pthread_cond_wait(&p->changed, &p->mutex);
	}
	broken = p->broken;
	pthread_mutex_unlock(&p->mutex);
	return !broken;
}

size_t
pipe_read(struct pipe *p, void *out, size_t len, bool *ret_end)
{
	size_t n;

	pthread_mutex_lock(&p->mutex);
	n = ring_take(p, out, len);
	*ret_end = n == 0 && (p->closed || p->broken);
	if (n > 0)
		pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->mutex);
	return n;
}
