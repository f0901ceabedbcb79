/* worker.h - what all parts of a worker share once it has started; read-only for them, except where said. */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"
#include "cluster/discover.h"
#include "storage/cache.h"
#include "storage/object_store.h"
#include "storage/workspace.h"
#include "worker/config.h"
#include "worker/link.h"
#include "worker/probe.h"
#include "worker/sandbox.h"

struct cache_keeper;
struct ship;

struct worker {
	struct config config;
	char id[WORKER_ID_MAX]; /* unique per process: a task that Nomad restarts is another worker */
	char node[64];
	struct consul_config consul;
	struct nomad_config nomad;
	struct discover *dispatcher_at, *s3_at; /* s3_at: NULL with STORE_DIR */
	struct link *link;
	struct object_store *store, *brief; /* brief: the same, soon tired of a store that is away */
	struct cache *cache;
	struct cache_keeper *keeper;
	struct workspaces *spaces;
	struct sandbox_caps caps;
	struct sandbox_stock *stock; /* NULL for a worker of one run: it would come too late */
	struct tools tools;
	struct ship *ship;
	int64_t started_real_ms; /* when this process began to start */
	/* Set once, when the process must end: reports are not tried after it. INT64_MAX before. */
	_Atomic int64_t give_up_mono_ms;
};

/* Fills *w from its config: credentials, cache, sandbox and tools are looked at in parallel. Returns 0, or an error that says what
 * to change; call worker_close in both cases. */
int worker_open(struct worker *w, struct err *e);
void worker_close(struct worker *w);

/* The body of "register" (new reference). */
json_t *worker_registration(const struct worker *w);

#endif
