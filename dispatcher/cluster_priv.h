/* cluster_priv.h - between the files of the cluster module: its state, and how they hand work to threads. Loop thread, unless
 * a comment says otherwise. */
#ifndef DISPATCHER_CLUSTER_PRIV_H
#define DISPATCHER_CLUSTER_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "base/map.h"
#include "dispatcher/children.h"
#include "dispatcher/cluster.h"

#define CONNECTIONS_MAX 16
#define JOB_ID_MAX 128
#define TOKEN_MAX 64
#define LOOK_ALLOCS_MAX 4 /* of one child: a stopped one and what Nomad started in its place */

struct child { /* what is known of one child, by its job id */
	uint64_t seq;
	struct core_child told;   /* what the core was told last */
	struct {                  /* the last allocations that were told, in a ring: facts that are older are late */
		char id[ALLOC_ID_MAX];
		uint64_t modify_index;
	} allocs[LOOK_ALLOCS_MAX];
	unsigned n_allocs;        /* ever */
	bool stopped;
	bool over;                /* dead, and told as ended: nothing more will come */
	unsigned listing;         /* the last one that it was in */
};

/* A piece of work for a pool thread; the first member of what it needs. */
struct task {
	struct cluster *c;
	void (*run)(struct task *t, struct nomad *n); /* pool thread; touches its own task and c->cfg only; sets rc */
	void (*done)(struct task *t);                 /* loop; not called when the cluster ends */
	void (*release)(struct task *t);              /* loop, always; NULL: free(t) is enough */
	int rc;
	struct err err;
};

enum call_kind { CALL_DISPATCH, CALL_STOP, CALL_PURGE, CALL_INQUIRE, CALL_KINDS };

struct job; /* of jobs.c */

enum { SIZE_CPU, SIZE_MEMORY, SIZE_DISK, SIZES };

struct node_size {
	char datacenter[64], pool[130], drivers[128]; /* drivers: ",docker,raw_exec," */
	int64_t size[SIZES];
};

struct sizes { /* of sizes.c */
	pthread_mutex_t lock;
	struct node_size *nodes;
	size_t n, cap;
	int rc;            /* of the last reading */
	int64_t read_mono; /* 0: never */
};

struct cluster {
	struct cluster_config cfg;
	struct work_pool *calls, *events;
	atomic_bool stop;
	char *hcl, *group_hcl;     /* run.nomad.hcl, workers.nomad.hcl */
	char prefix[80], group_prefix[80]; /* "<job_prefix>-run-", "<job_prefix>-workers-" */
	char denied[CALL_KINDS][sizeof(((struct err *)0)->msg)]; /* pump.c: the right that such a call lacked last, or "" */

	pthread_mutex_t lock;      /* of the two below */
	struct nomad *idle[CONNECTIONS_MAX];
	size_t n_idle;

	/* jobs.c */
	struct map *jobs;          /* by id */
	struct loop_timer jobs_timer;

	/* groups.c */
	struct map *groups;        /* by job id */
	struct loop_timer groups_timer;

	struct sizes sizes;

	/* reconcile.c */
	struct map *children;      /* by job id */
	struct loop_timer list_timer;
	bool up, listing, streaming, again;
	bool stream_denied;
	char away[sizeof(((struct err *)0)->msg)]; /* why it is not up */
	unsigned listings, failures;
	uint64_t index;            /* of the last listing */
};

/* --- cluster.c --- */

/* Hands t (from xcalloc; run and done set) to the pool. */
void task_submit(struct cluster *c, struct task *t);

/* --- jobs.c --- */

/* Clears the timer; frees jobs, whose waiters are answered. The pools are gone by then. */
void jobs_start(struct cluster *c);
void jobs_free(struct cluster *c);

/* Compares a parent seen in a listing (ours or not), or NULL after the last: jobs that were not seen are missing. */
void jobs_listed(struct cluster *c, const json_t *entry);

/* Something happened to that job in Nomad: look again if it is a parent of ours. */
void jobs_touched(struct cluster *c, const char *id);

/* The first reason why some job cannot be used, or NULL. */
const char *jobs_trouble(const struct cluster *c);

/* The id of the vertical's parameterized job once it is as it should be: then(arg, id, NULL) is called, now or later, in the
 * loop. Else then(arg, NULL, why), with permanent when only a person can change that. */
void jobs_when_ready(struct cluster *c, const char *vertical, enum run_class class,
    void (*then)(void *arg, const char *id, bool permanent, const char *why), void *arg);

/* --- jobs_compare.c: pool threads --- */

struct job_compare {
	const struct cluster_config *cfg;
	const char *hcl;
	char id[JOB_ID_MAX];
	char *variables;             /* the caller's; NULL: of a job that is not wanted */
	char digest[65], spec[65];
	bool group;
	int64_t max;                 /* of a group: its upper bound */
	bool retire;                 /* a group that shall rest: scaling switched off, count 0 */
	bool ours;                   /* Nomad had it with our ledger's mark once */
	bool drained;                /* a group's workers hold nothing, or had their time: they may be taken away now */
	/* what came of it */
	bool stopped;                /* by an operator: left alone */
	bool registered;
	bool taken_over;             /* it was another ledger's */
	bool must_roll;              /* not registered: its workers are to be drained first */
	bool resting;                /* retire: it is as it shall be */
	int64_t count;               /* of a group, as it was or shall be; -1: there is none */
	uint64_t modify_index;       /* as it was found */
};

/* Looks at the job in Nomad and registers it if it is not what it shall be, and may be changed now. 0 or ERR_* of Nomad's calls;
 * ERR_DENIED: it is another Drover's. */
int job_compare(struct job_compare *k, struct nomad *n, struct err *e);

/* A text of the job's (or listing entry's) meta, "" when there is none; the caller does not keep it. */
const char *job_meta(const json_t *job, const char *key);

/* --- jobs_render.c: pure --- */

/* The variables of run.nomad.hcl for one vertical and class, as var-file text; *digest is of text, HCL and nothing else. */
char *job_variables(const struct cluster_config *cfg, const char *hcl, const struct vertical *v, enum run_class class,
    char digest[65]);
void job_id(const struct cluster_config *cfg, const char *vertical, enum run_class class, char out[JOB_ID_MAX]);

/* The same for workers.nomad.hcl and the vertical's worker group; *spec is the digest of what Nomad cannot change in place. */
char *group_variables(const struct cluster_config *cfg, const char *hcl, const struct vertical *v, char digest[65], char spec[65]);
void group_id(const struct cluster_config *cfg, const char *vertical, char out[JOB_ID_MAX]);

/* --- groups.c: warm worker groups as Nomad has them, told to the core --- */

/* Clears the timer; frees all groups. */
void groups_start(struct cluster *c);
void groups_free(struct cluster *c);

/* Declares the group of a vertical, with the slots of one of its workers. */
void group_set(struct cluster *c, const struct vertical *v, const char *id);

/* The group is not wanted any more: `why` is what waits for its workers is told. */
void group_retire(struct cluster *c, const char *vertical, const char *id, const char *why);

/* Its allocations that are alive (free *ret). -1 while Nomad's listing has not told them yet. */
ssize_t group_allocs(const struct cluster *c, const char *id, char (**ret)[CORE_ALLOC_MAX]);

/* What a look at the job found: its count (-1: there is no such job, or it is stopped) and what is wrong with it ("" nothing). */
void group_job(struct cluster *c, const char *id, int64_t count, const char *trouble);

/* An allocation of a group, from an event or a listing; whose: the job's id. */
void group_alloc(struct cluster *c, const struct alloc_fact *f);

/* All its allocations have been told that there are, and why some have no place (why "": all have one). */
void group_listed(struct cluster *c, const char *id, const struct placement *p);

/* Why an evaluation could not place all of it. */
void group_unplaced(struct cluster *c, const char *id, const struct placement *p);

/* Workers have registered, left, or changed their health. */
void groups_look(struct cluster *c);

/* --- pump.c --- */

/* Asks Nomad about one child; the core is told, or that it could not be learnt. */
void pump_inquire(struct cluster *c, const char *child);

/* --- look.c: pool threads --- */

struct look { /* one child as Nomad has it */
	struct job_fact job;
	size_t n_allocs;                           /* the latest ones, oldest first */
	struct alloc_fact allocs[LOOK_ALLOCS_MAX];
	struct placement placement;                /* why it has no allocation */
};

/* Reads allocations (and, without any, evaluations) of l->job. */
int look_allocs(struct cluster *c, struct nomad *n, struct look *l, struct err *e);

/* What the latest evaluation of the job that could not place all of it says; all zero when there is none. */
int look_placement(struct cluster *c, struct nomad *n, const char *job, struct placement *ret, struct err *e);

/* --- sizes.c: pool threads; what takes no cluster is pure --- */

/* What of a node's cpu (MHz), memory and disk (MB) is not reserved for others, and where it is. False if it cannot be told. */
bool node_size_read(const json_t *node, struct node_size *ret);

/* Whether none of the nodes on which the job (one group, one task) may run could take it if it were empty, and in why, what it
 * lacks. */
bool size_judge(const json_t *job, const struct node_size *nodes, size_t n, char why[CORE_CAUSE_MAX]);

/* Of a placement that lacks room: `never` and `why` are set if no node is large enough. Blocks. */
void sizes_judge(struct cluster *c, struct nomad *n, const char *job, struct placement *p);

/* The pools are gone by sizes_free. */
void sizes_start(struct cluster *c);
void sizes_free(struct cluster *c);

/* --- reconcile.c --- */

/* Has the first listing made soon; forgets all children. The pools are gone by then. */
void reconcile_start(struct cluster *c);
void reconcile_free(struct cluster *c);

/* A call met trouble on the way to Nomad: find out soon whether it is there. */
void reconcile_suspect(struct cluster *c);

/* Tells the core what a look found; listing: as part of one. */
void reconcile_looked(struct cluster *c, const struct look *l);

/* The child is not in Nomad. */
void reconcile_gone(struct cluster *c, const char *child);

#endif
