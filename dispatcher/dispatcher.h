/* dispatcher.h - the shell around the core: what its modules share, and how the core's effects are performed. Loop thread.
 *
 * A module tells the core of an event and goes on: what came of all of them is performed at the end of the loop's turn.
 */
#ifndef DISPATCHER_DISPATCHER_H
#define DISPATCHER_DISPATCHER_H

#include <jansson.h>
#include <stdatomic.h>

#include "base/map.h"
#include "cluster/discover.h"
#include "dispatcher/auth.h"
#include "dispatcher/cluster.h"
#include "dispatcher/config.h"
#include "dispatcher/core/core.h"
#include "dispatcher/ledger.h"
#include "dispatcher/ledger_queue.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "storage/object_store.h"

struct call;
struct calls;
struct events;
struct uploads;
struct log_spool;
struct toolbox;
struct fleet;
struct buckets;
struct janitor;
struct watchers;
struct target_cache;

#define ANSWER_MAX_BYTES (64 * 1024 * 1024)

struct dispatcher {
	const struct config *config;
	struct loop *loop;
	struct core *core;
	struct ledger *ledger;
	struct ledger_queue *writes;
	struct work_pool *reads;   /* blocking reads of the ledger */
	struct work_pool *stores;  /* blocking calls of the object store */
	struct work_pool *downloads; /* objects on their way to clients, who may be slow */
	struct work_pool *logs;    /* one thread: log spool */
	struct object_store *store;  /* with patience: for bytes that a client sends or waits for */
	struct object_store *brief;  /* the same one, given up soon when it is away: for what is tried again anyway */
	struct buckets *buckets;
	struct discover *endpoints; /* of S3; NULL with a directory store */
	struct cluster *cluster;   /* NULL without Nomad */
	json_t *worker_env;        /* of the workers that Nomad starts; NULL without Nomad */
	struct auth *auth;
	struct http_server *http;
	struct calls *calls;       /* that the core knows by number */
	struct buf answer;         /* of the call that is being answered; loop thread */
	struct events *events;
	struct watchers *watchers; /* blocking reads and event streams */
	struct uploads *uploads;
	struct log_spool *spool;
	struct toolbox *toolbox;
	struct fleet *fleet;       /* what workers told about themselves and their runs */
	struct janitor *janitor;
	struct consul_entry *entry; /* in Consul; NULL: none */
	struct map *submissions;   /* run id -> struct call, while its insert is being committed */
	struct map *keys;          /* gate (submit.c) -> struct call that is submitting behind it */
	struct target_cache *target_cache;
	struct loop_timer wake;    /* of the core */
	struct loop_timer tokens_timer, stop_timer;
	bool stopping, ledger_writable, failed, doctor_busy;
	atomic_bool ends;          /* for threads: what takes long is broken off */
	int64_t stop_began_mono_ms;
	bool store_up;
	char ledger_why[256], store_why[256];
};

/* Wires everything up from the settings; nothing is served before dispatcher_serve. */
int dispatcher_open(struct dispatcher *d, const struct config *c, struct err *e);

/* Listens, writes the address file, and starts what works in the background. */
int dispatcher_serve(struct dispatcher *d, struct err *e);

/* Ends in order: no new connections, long polls answered, writes committed; loop_run returns within 5 s. Repeated calls are fine. */
void dispatcher_stop(struct dispatcher *d);

/* Frees all of it, half-opened too. */
void dispatcher_close(struct dispatcher *d);

/* At the end of each turn of the loop: performs the core's effects until there are none, and sets its timer. */
void effects_perform(void *dispatcher);

/* Callbacks of the ledger's queue: it cannot write or can again; another process leads. */
void effects_health(void *arg, bool writable, const char *why);
void effects_deposed(void *arg);

#endif
