#include "dispatcher/ledger_queue.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/threads.h"
#include "dispatcher/meters.h"

#define GROUP_MAX 256        /* transactions in one commit */
#define PROBE_MS 1000        /* between attempts to write again, or to read back */

struct ledger_queue {
	struct ledger_queue_config c;
	pthread_t thread;
	pthread_mutex_t mutex;      /* of first, tail, stop, orphaned */
	pthread_cond_t more;
	struct ledger_write *first, **tail;
	bool stop;
	atomic_bool orphaned;       /* nobody is to be told any more */
	uint64_t next_number;       /* loop thread */
	size_t pending;             /* loop thread */
	bool writable;              /* writing thread */
};

struct news { /* from the writing thread to the loop */
	struct ledger_queue *q;
	struct ledger_write *first; /* whose results are told */
	size_t n;
	bool health_changed, writable, deposed;
	char why[256];
};

static void
tell(void *arg)
{
	struct news *n = arg;
	struct ledger_queue *q = n->q;

	if (atomic_load(&q->orphaned))
		goto out;
	if (n->deposed)
		q->c.deposed(q->c.arg);
	if (n->health_changed)
		q->c.health(q->c.arg, n->writable, n->why);
	for (struct ledger_write *w = n->first, *next; w != NULL; w = next) {
		next = w->next;
		q->pending--;
		w->done(w, w->arg);
	}
out:
	free(n);
}

/* --- writing thread --- */

static void
post(struct ledger_queue *q, struct ledger_write *first, bool writable, bool deposed, const struct err *e)
{
	struct news *n = xcalloc(1, sizeof(*n));

	n->q = q;
	n->first = first;
	n->deposed = deposed;
	n->writable = writable;
	n->health_changed = q->writable != writable;
	if (n->health_changed && !writable)
		memcpy(n->why, e->msg, sizeof(n->why) - 1);
	q->writable = writable;
	loop_post(q->c.loop, tell, n);
}

static void
pause_ms(struct ledger_queue *q, int64_t ms)
{
	int64_t until_mono_ms = clock_mono_ms() + ms;

	pthread_mutex_lock(&q->mutex);
	while (!q->stop && cond_wait_until(&q->more, &q->mutex, until_mono_ms))
		continue;
	pthread_mutex_unlock(&q->mutex);
}

static bool
stopping(struct ledger_queue *q)
{
	bool stop;

	pthread_mutex_lock(&q->mutex);
	stop = q->stop;
	pthread_mutex_unlock(&q->mutex);
	return stop;
}

/* Settles a group whose commit broke midway: it is in the ledger as a whole or not at all. Until that can be read, nothing
 * else is written and nobody is told. Returns what ledger_last_number said at last. */
static int
read_back(struct ledger_queue *q, struct ledger_txn **txns, size_t n, struct err *e)
{
	uint64_t last = 0;
	int rc;

	post(q, NULL, false, false, e);
	while ((rc = ledger_last_number(q->c.ledger, &last, e)) != 0 && rc != ERR_CONFLICT && !stopping(q))
		pause_ms(q, PROBE_MS);
	for (size_t i = 0; rc == 0 && i < n; i++)
		if (txns[i]->result == LEDGER_UNKNOWN)
			txns[i]->result = last >= txns[i]->number ? LEDGER_OK : LEDGER_FAILED;
	return rc;
}

static bool
any_unknown(struct ledger_txn **txns, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (txns[i]->result == LEDGER_UNKNOWN)
			return true;
	return false;
}

static void
commit_group(struct ledger_queue *q, struct ledger_write *first)
{
	struct ledger_txn *txns[GROUP_MAX];
	struct err e = {0};
	size_t n = 0;
	int64_t began_us = clock_mono_us();
	int rc;

	for (struct ledger_write *w = first; w != NULL; w = w->next)
		txns[n++] = &w->txn;
	fault_point("dispatcher.before_commit");
	rc = ledger_commit(q->c.ledger, txns, n, &e);
	fault_point("dispatcher.after_commit");
	metrics_observe_ms(METER_COMMIT_SECONDS, NULL, (clock_mono_us() - began_us) / 1000);
	metrics_add(METER_TRANSACTIONS, NULL, (int64_t)n);
	if (any_unknown(txns, n))
		rc = read_back(q, txns, n, &e);
	/* On a full disk a small commit may pass where the next one fails: only the probe, a second later, calls it well again. */
	post(q, first, rc == 0 && q->writable, rc == ERR_CONFLICT, &e);
}

/* While the ledger cannot write, an empty transaction tries again each second. */
static void
probe(struct ledger_queue *q)
{
	struct ledger_txn t = {.number = 0}, *one = &t;
	struct err e = {0};

	pause_ms(q, PROBE_MS);
	if (stopping(q) || ledger_last_number(q->c.ledger, &t.number, &e) != 0)
		return;
	if (ledger_commit(q->c.ledger, &one, 1, &e) == 0)
		post(q, NULL, true, false, &e);
}

static struct ledger_write *
take_group(struct ledger_queue *q, bool *ret_stop)
{
	struct ledger_write *first, *last;
	size_t n = 1;

	pthread_mutex_lock(&q->mutex);
	while (q->first == NULL && !q->stop && q->writable)
		pthread_cond_wait(&q->more, &q->mutex);
	*ret_stop = q->stop && q->first == NULL;
	first = last = q->first;
	if (first != NULL) {
		while (last->next != NULL && n < GROUP_MAX) {
			last = last->next;
			n++;
		}
		q->first = last->next;
		last->next = NULL;
		if (q->first == NULL)
			q->tail = &q->first;
	}
	pthread_mutex_unlock(&q->mutex);
	return first;
}

static void *
writer(void *arg)
{
	struct ledger_queue *q = arg;
	bool stop = false;

	while (!stop) {
		struct ledger_write *first = take_group(q, &stop);

		if (first != NULL)
			commit_group(q, first);
		else if (!stop)
			probe(q);
	}
	return NULL;
}

/* --- loop thread --- */

struct ledger_queue *
ledger_queue_new(const struct ledger_queue_config *c, struct err *e)
{
	struct ledger_queue *q = xcalloc(1, sizeof(*q));
	int rc;

	q->c = *c;
	q->tail = &q->first;
	q->next_number = 1;
	q->writable = true;
	pthread_mutex_init(&q->mutex, NULL);
	cond_init_mono(&q->more);
	if ((rc = pthread_create(&q->thread, NULL, writer, q)) != 0) {
		err_set(e, ERR_IO, "start the ledger's thread: %s", strerror(rc));
		pthread_cond_destroy(&q->more);
		pthread_mutex_destroy(&q->mutex);
		free(q);
		return NULL;
	}
	return q;
}

void
ledger_queue_push(struct ledger_queue *q, struct ledger_write *w)
{
	w->txn.number = q->next_number++;
	w->next = NULL;
	q->pending++;
	pthread_mutex_lock(&q->mutex);
	*q->tail = w;
	q->tail = &w->next;
	pthread_cond_signal(&q->more);
	pthread_mutex_unlock(&q->mutex);
}

size_t
ledger_queue_pending(const struct ledger_queue *q)
{
	return q->pending;
}

void
ledger_queue_free(struct ledger_queue *q)
{
	if (q == NULL)
		return;
	atomic_store(&q->orphaned, true);
	pthread_mutex_lock(&q->mutex);
	q->stop = true;
	pthread_cond_signal(&q->more);
	pthread_mutex_unlock(&q->mutex);
	pthread_join(q->thread, NULL);
	pthread_cond_destroy(&q->more);
	pthread_mutex_destroy(&q->mutex);
	free(q);
}
