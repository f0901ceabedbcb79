/* job_parts.h - the inside of a job, for the files that carry out its stages: fetch.c, steps.c, publish.c, report.c. */
#ifndef WORKER_JOB_PARTS_H
#define WORKER_JOB_PARTS_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "proto/workflow.h"
#include "storage/workspace.h"
#include "worker/job.h"
#include "worker/run_log.h"
#include "worker/sarif.h"
#include "worker/ship.h"

#define DISK_IS_FULL "the disk of this node (CACHE_DIR) is full"

enum step_state { STEP_PENDING, STEP_RUNNING, STEP_OK, STEP_FOUND, STEP_FAILED, STEP_TIMED_OUT, STEP_STOPPED, STEP_SKIPPED };

struct step_record {
	enum step_state state;
	int exit_code;         /* -1: none */
	int64_t took_ms;
	char message[200];
	json_t *sarif;         /* its report, normalised; NULL if it left none */
};

struct job {
	struct worker *worker;
	struct loop *loop;
	struct lease_terms terms;
	unsigned slot;
	pthread_t thread;
	void (*ended)(struct job *j, void *arg);
	job_wants *wants;
	void *arg;
	json_t *leases;        /* what came with the answer to its report; the loop's once it has ended */

	/* From the loop to the job. */
	atomic_bool stop;      /* ends blocking calls */
	atomic_int why;        /* enum job_stop */
	atomic_bool leaving;
	int wake_fd;           /* eventfd: readable once stopped */

	/* From the job to the loop, under `lock`. */
	pthread_mutex_t lock;
	json_t *progress;      /* {"step","percent","message"} or NULL */
	struct step_record *steps; /* one per step of the workflow; written under the lock, read by the job without */
	size_t n_steps;

	/* The job's own. */
	struct err broken;     /* why the lease could not be understood; code 0: it could */
	struct run_log *log;
	struct shipment *shipment;
	struct cache_pin *target, *bundle;
	struct workspace ws;
	bool has_ws;
	struct workflow *workflow;
	char params_path[768];
	int64_t started_real_ms;

	/* The verdict. */
	enum run_state outcome; /* RUN_QUEUED: handed back */
	enum fail_class fail;
	char reason[REASON_MAX];
	bool partial;
	struct sarif_counts counts;
	bool has_findings;
	json_t *sarif;          /* the merged report; NULL if none */
	char manifest_sha256[SHA256_HEX_LEN]; /* "" unless published */
};

/* --- fetch.c: each returns 0 or an ERR_* with *e --- */
int job_check_tools(struct job *j, struct err *e);
int job_fetch_target(struct job *j, struct err *e);
int job_fetch_bundle(struct job *j, struct err *e);
int job_make_workspace(struct job *j, struct err *e);
void job_clean_up(struct job *j);

/* --- steps.c: runs all steps and judges them; leaves verdict, records and findings in *j. Returns 0, or an ERR_* with *e where
 * the steps could not be run at all. --- */
int job_run_steps(struct job *j, struct err *e);
const char *step_state_word(enum step_state s);
/* The records as the API shows them (new reference). Any thread. */
json_t *job_steps_json(struct job *j);

/* --- publish.c: results, the manifest last. Returns 0 or an ERR_* with *e. --- */
int job_publish(struct job *j, struct err *e);

/* --- report.c: tells the dispatcher until it has heard, or has no use for it. --- */
void job_report(struct job *j);

/* Sets the verdict of a run that did not succeed; the first one stays. */
void job_fail(struct job *j, enum run_state outcome, enum fail_class fail, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
