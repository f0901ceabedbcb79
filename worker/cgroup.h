/* cgroup.h - a control group for one step: memory, processes and processor weight, and whether memory ran out.
 *
 * Version 1 is tested; version 2 is written after the kernel's documentation (cgroup-v2.rst) and untested: no machine at hand
 * has it for delegation. Groups are nested below the worker's own, so that what Nomad set stays in force. Any thread.
 */
#ifndef WORKER_CGROUP_H
#define WORKER_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CGROUP_DIRS_MAX 3
#define CGROUP_PIDS 1 /* of dirs in version 1 */

struct cgroup {
	int version;                       /* 0: none */
	char dirs[CGROUP_DIRS_MAX][512];   /* v1: memory, pids, cpu ("" where absent); v2: the one */
	size_t n;
};

/* The version in which a group with a memory limit can be made below our own; 0: none. Tries it. */
int cgroup_probe(void);

/* Removes the empty groups that dead workers have left below our own. Best effort. */
void cgroup_sweep(int version);

/* Makes the group "drover-<our pid>-<name>" (name: [A-Za-z0-9_-]). Returns 0, or ERR_IO (nothing is left). */
int cgroup_make(int version, const char *name, int64_t memory_bytes, int64_t cpu_millis, int64_t processes,
    struct cgroup *ret, struct err *e);

/* The same in two steps: a group without limits, and its limits, for one in which processes may be already. */
int cgroup_make_bare(int version, const char *name, struct cgroup *ret, struct err *e);
int cgroup_limit(const struct cgroup *g, int64_t memory_bytes, int64_t cpu_millis, int64_t processes, struct err *e);

/* Whether the kernel killed something in it for want of memory. */
bool cgroup_oom_killed(const struct cgroup *g);

/* Removes the group, whose processes are gone or about to be. */
void cgroup_remove(struct cgroup *g);

#endif
