/* cluster.h - the dispatcher's side of Nomad: registers each vertical's jobs, performs the core's calls, and tells the core what
 * Nomad says (event stream, and full listings at start, after every reconnect, and on a timer).
 *
 * Everything here is called in the loop thread; the Nomad calls themselves run in threads of the cluster's own pool, at most
 * `connections` at a time, plus one for the event stream. The core is told in the loop; its effects are the shell's to take.
 */
#ifndef DISPATCHER_CLUSTER_H
#define DISPATCHER_CLUSTER_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"
#include "cluster/nomad.h"
#include "dispatcher/core/core.h"
#include "net/loop.h"
#include "proto/workflow.h"

struct cluster;

struct cluster_config { /* texts are kept by reference for the cluster's life */
	struct loop *loop;
	struct core *core;
	struct nomad_config nomad;
	const char *jobs_dir;      /* holds run.nomad.hcl and workers.nomad.hcl */
	const char *ledger_uuid;   /* first part of idempotency tokens; remembered in the parents' meta */
	const char *datacenters;   /* comma list */
	const char *driver;        /* "" each vertical's own; "docker", "raw_exec": for all */
	const char *worker_command; /* raw_exec: path of drover-worker on the nodes */
	const char *cache_volume;  /* Nomad host volume for CACHE_DIR, "" none */
	const char *docker_network; /* network mode of docker tasks ("host", …), NULL or "": docker's own default */
	json_t *worker_env;        /* object of strings: environment of the workers (S3_ENDPOINT, DROVER_ADDR, …) */
	const char *job_prefix;    /* "drover": names are <prefix>-run-<vertical>[-large] and <prefix>-workers-<vertical> */
	const char *worker_service; /* "consul", "nomad", or "" where warm workers show their health */
	int64_t start_limit_ms;    /* a warm worker that has not registered by then has failed to start */
	int64_t roll_limit_ms;     /* runs of a group that is to be changed may go on for so long */
	unsigned connections;      /* 1..16 */
	int64_t reconcile_ms;      /* between listings on a timer */
	bool take_over;            /* jobs of another ledger become this one's; else they are left alone and said to be broken */
	/* The workers of that job, those in allocs among them, get no more runs for a while (repeated until it is done with);
	 * allocs NULL: they do again. last: they are about to be taken away, and none may be given anything in between. Returns
	 * how many runs they have, or 1 while that is not known; 0 only when they hold nothing. */
	size_t (*drain)(void *arg, const char *job, const char (*allocs)[CORE_ALLOC_MAX], size_t n, bool last);
	/* Why the vertical shall have no warm workers; NULL: it shall, or that is not known (as long as the toolbox cannot be
	 * read). */
	const char *(*no_group)(void *arg, const char *vertical);
	/* Whether a worker of that allocation is registered that began after began_real_ms (0: at any time; the node's clock),
	 * and in why, why it takes no runs ("": it does). */
	bool (*worker_in)(void *arg, const char *alloc, int64_t began_real_ms, char why[CORE_CAUSE_MAX]);
	void *arg;
};

/* Starts the pool and the first attempt to reach Nomad; never waits for it. NULL with *e for bad settings. */
struct cluster *cluster_new(const struct cluster_config *c, struct err *e);
void cluster_free(struct cluster *c);

/* Declares a vertical (copied): its jobs are registered when they differ from what Nomad has. Repeat after a change. */
void cluster_set_vertical(struct cluster *c, const struct vertical *v);

/* All verticals of the toolbox have been declared: worker groups that it has no use for any more (no_group) are drained and laid to
 * rest. */
void cluster_toolbox_read(struct cluster *c);

/* Performs EFF_DISPATCH, EFF_STOP, EFF_PURGE or EFF_INQUIRE (copied). */
void cluster_perform(struct cluster *c, const struct effect *e);

/* Workers have registered, left, or said otherwise how well they are. */
void cluster_workers_changed(struct cluster *c);

/* "ok", or why Nomad cannot be used now; valid until the next event. */
const char *cluster_state(const struct cluster *c);

/* ERR_CONFLICT when Nomad remembers another ledger of this name (its uuid differs in the parents' meta): an empty ledger must
 * not start; 0 when not; another ERR_* when Nomad cannot be asked. Blocks; before cluster_new. */
int cluster_check_ledger(const struct cluster_config *c, const char *const *verticals, size_t n, struct err *e);

#endif
