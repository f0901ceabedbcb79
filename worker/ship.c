#include "worker/ship.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/threads.h"
#include "net/http_client.h"
#include "worker/worker.h"

#define CHUNK_BYTES (64 * 1024)
#define FIRST_MS 250       /* before the first one: a run that is over sooner sends its whole log at once, at its end */
#define PAUSE_MS 100       /* between chunks of a log that trickles */
#define PAUSE_FAILED_MS 1000
#define POST_TIMEOUT_MS 5000

struct shipment {
	struct ship *ship;
	struct shipment *next;
	struct run_log *log;
	char *query;          /* everything before the offset */
	int64_t sent_bytes;
	int64_t not_before_mono_ms;
	bool busy, closing, dead; /* dead: refused for good */
};

struct ship {
	const struct worker *worker;
	pthread_t thread;
	pthread_mutex_t lock;   /* of all below and of all shipments */
	pthread_cond_t changed;
	struct shipment *list;
	struct link_line *line; /* of the thread */
	char *chunk;            /* of the thread; NULL until there was something to ship */
	atomic_bool stop;
};

/* What came of one chunk. */
struct sent {
	int64_t next_bytes; /* first byte that is not known to have arrived */
	bool refused;       /* for good */
	bool failed;
};

/* Sends one chunk from offset on. Called by the thread alone, without the lock; p is busy and therefore stays. */
static struct sent
send_chunk(struct ship *s, const struct shipment *p, int64_t offset)
{
	struct sent r = {.next_bytes = offset};
	char path[1024];
	json_t *answer = NULL, *next;
	ssize_t n;
	int rc;

	if (s->chunk == NULL)
		s->chunk = xmalloc(CHUNK_BYTES);
	if (s->line == NULL)
		s->line = link_line_new(s->worker->link);
	n = pread(run_log_fd(p->log), s->chunk, CHUNK_BYTES, offset);
	if (n <= 0) {
		r.refused = true;
		return r;
	}
	(void)snprintf(path, sizeof(path), "%s%lld", p->query, (long long)offset);
	rc = link_post_bytes(s->line, path, s->chunk, (size_t)n, POST_TIMEOUT_MS, &s->stop, &answer, NULL);
	next = json_object_get(answer, "next");
	if (rc == 0 && json_is_integer(next) && json_integer_value(next) > offset)
		r.next_bytes = json_integer_value(next);
	else
		r.refused = rc == 0 || rc == ERR_CONFLICT || rc == ERR_INVALID || rc == ERR_DENIED || rc == ERR_TOOBIG;
	r.failed = rc != 0;
	json_decref(answer);
	return r;
}

/* The shipment that is due, or NULL and when to look again (-1: when told). Under the lock. */
static struct shipment *
pick(struct ship *s, int64_t now_mono_ms, int64_t *ret_wake_mono_ms)
{
	*ret_wake_mono_ms = -1;
	for (struct shipment *p = s->list; p != NULL; p = p->next) {
		if (p->dead || p->sent_bytes >= run_log_size(p->log))
			continue;
		if (p->not_before_mono_ms <= now_mono_ms)
			return p;
		if (*ret_wake_mono_ms < 0 || p->not_before_mono_ms < *ret_wake_mono_ms)
			*ret_wake_mono_ms = p->not_before_mono_ms;
	}
	return NULL;
}

static void *
carry(void *arg)
{
	struct ship *s = arg;

	pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		int64_t wake_mono_ms, offset;
		struct shipment *p = pick(s, clock_mono_ms(), &wake_mono_ms);
		struct sent r;

		if (p == NULL) {
			cond_wait_until(&s->changed, &s->lock, wake_mono_ms);
			continue;
		}
		p->busy = true;
		offset = p->sent_bytes;
		pthread_mutex_unlock(&s->lock);
		r = send_chunk(s, p, offset);
		pthread_mutex_lock(&s->lock);
		p->sent_bytes = r.next_bytes;
		p->dead |= r.refused;
		p->busy = false;
		if (p->closing && !r.failed)
			p->not_before_mono_ms = 0;
		else if (r.failed || p->sent_bytes >= run_log_size(p->log))
			p->not_before_mono_ms = clock_mono_ms() + (r.failed ? PAUSE_FAILED_MS : PAUSE_MS);
		pthread_cond_broadcast(&s->changed);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

struct ship *
ship_new(const struct worker *w)
{
	struct ship *s = xcalloc(1, sizeof(*s));

	s->worker = w;
	pthread_mutex_init(&s->lock, NULL);
	cond_init_mono(&s->changed);
	thread_start(&s->thread, "ship", carry, s);
	return s;
}

void
ship_free(struct ship *s)
{
	if (s == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	link_line_free(s->line);
	free(s->chunk);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

struct shipment *
ship_open(struct ship *s, const char *run, const char *fence, struct run_log *l)
{
	struct shipment *p = xcalloc(1, sizeof(*p));
	struct buf q = buf_make(512);

	(void)buf_adds(&q, "/v1/worker/logs?worker=");
	(void)http_encode(&q, s->worker->id, false);
	(void)buf_adds(&q, "&run=");
	(void)http_encode(&q, run, false);
	(void)buf_adds(&q, "&fence=");
	(void)http_encode(&q, fence, false);
	(void)buf_adds(&q, "&offset=");
	p->query = buf_take(&q);
	p->ship = s;
	p->log = l;
	p->not_before_mono_ms = clock_mono_ms() + FIRST_MS;
	pthread_mutex_lock(&s->lock);
	p->next = s->list;
	s->list = p;
	pthread_mutex_unlock(&s->lock);
	return p;
}

void
ship_poke(struct shipment *p)
{
	pthread_mutex_lock(&p->ship->lock);
	pthread_cond_broadcast(&p->ship->changed);
	pthread_mutex_unlock(&p->ship->lock);
}

void
ship_close(struct shipment *p, int64_t deadline_mono_ms)
{
	struct ship *s;

	if (p == NULL)
		return;
	s = p->ship;
	pthread_mutex_lock(&s->lock);
	p->closing = true;
	p->not_before_mono_ms = 0; /* the last lines need not wait for more to come */
	pthread_cond_broadcast(&s->changed);
	while (!p->dead && p->sent_bytes < run_log_size(p->log) && clock_mono_ms() < deadline_mono_ms)
		cond_wait_until(&s->changed, &s->lock, deadline_mono_ms);
	p->dead = true;
	while (p->busy)
		cond_wait_until(&s->changed, &s->lock, -1);
	for (struct shipment **at = &s->list; *at != NULL; at = &(*at)->next) {
		if (*at == p) {
			*at = p->next;
			break;
		}
	}
	pthread_mutex_unlock(&s->lock);
	free(p->query);
	free(p);
}
