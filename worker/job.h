/* job.h - one run at this worker, from its lease to its report, in a thread of its own.
 *
 * The loop makes a job, may stop it, asks it what to say in beats, and frees it when it has ended. All functions are for the loop
 * thread; `ended` is called there.
 */
#ifndef WORKER_JOB_H
#define WORKER_JOB_H

#include <jansson.h>
#include <stdbool.h>

#include "net/loop.h"
#include "worker/lease.h"
#include "worker/worker.h"

/* Why a job must stop. The first one counts, except that a job which lost its lease never reports. */
enum job_stop { JOB_GOES_ON, JOB_CANCELED, JOB_HANDED_BACK, JOB_LOST };

struct job;

/* What a job that is about to report may ask for with it: the body of a poll for leases (new reference), or NULL when none is wanted.
 * Called in the job's thread. */
typedef json_t *job_wants(void *arg, const struct job *j);

/* Starts the job for a lease (borrowed; one that cannot be understood is reported as invalid). slot numbers the jobs that run at
 * the same time from 0: it chooses the user id of the tools. leaving: the worker ends after this job. NULL if not even run
 * and fence could be read. */
struct job *job_start(struct worker *w, struct loop *l, const json_t *lease, unsigned slot, bool leaving,
    void (*ended)(struct job *j, void *arg), job_wants *wants, void *arg);

/* Its run and fence, in the words of the lease; valid until job_free. */
const char *job_run(const struct job *j);
const char *job_fence(const struct job *j);

/* Has the job stop soon; at most a second until its tools are gone. leaving: the worker ends. May be repeated. */
void job_stop(struct job *j, enum job_stop why, bool leaving);

/* What a beat or poll says of it: {"run","fence"}, and with `all` also progress and steps. New reference. */
json_t *job_held(struct job *j, bool all);

/* What the dispatcher gave in place of this run when it took the report: an array of leases (new reference), or NULL. After `ended`. */
json_t *job_take_leases(struct job *j);

/* After `ended` alone. */
void job_free(struct job *j);

#endif
