/* ledger_queue.h - the thread that writes the ledger: everything that waits is committed together (group commit), so that many
 * submissions share one sync of the disk. All functions are for the loop thread.
 */
#ifndef DISPATCHER_LEDGER_QUEUE_H
#define DISPATCHER_LEDGER_QUEUE_H

#include "dispatcher/ledger.h"
#include "net/loop.h"

struct ledger_queue;

struct ledger_write { /* one transaction on its way; the memory is the caller's until `done` has been called */
	struct ledger_txn txn; /* the caller sets ops and n_ops */
	/* Called once in the loop with the result in txn. A commit that broke midway is read back first: LEDGER_UNKNOWN comes here
	 * only when that could not be done before the end. */
	void (*done)(struct ledger_write *w, void *arg);
	void *arg;
	struct ledger_write *next; /* of the queue */
};

struct ledger_queue_config {
	struct loop *loop;
	struct ledger *ledger;
	void (*health)(void *arg, bool writable, const char *why); /* the ledger cannot write, or can again */
	void (*deposed)(void *arg);                     /* another process leads: stop */
	void *arg;
};

/* Starts the thread. */
struct ledger_queue *ledger_queue_new(const struct ledger_queue_config *c, struct err *e);

/* Adds a transaction; those added first are committed first. */
void ledger_queue_push(struct ledger_queue *q, struct ledger_write *w);

/* Transactions whose final result has not been told. */
size_t ledger_queue_pending(const struct ledger_queue *q);

/* Commits what waits, tells nobody any more, joins. NULL is allowed. */
void ledger_queue_free(struct ledger_queue *q);

#endif
