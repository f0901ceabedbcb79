/* victims.h - which allocations Nomad will stop when a group's count is lowered. Pure.
 *
 * Nomad 1.11 stops the highest allocation indexes; 2.0.4 takes failed ones first, then the highest: draining the highest is safe
 * for both, since failed ones run nothing. But a failed one that has not been replaced keeps its index in 1.11 and is not
 * stopped itself: if its index is among the highest, any other allocation is stopped in its place (seen in 1.11.3). Where the
 * facts leave room for doubt, nothing is predicted.
 */
#ifndef AUTOSCALE_VICTIMS_H
#define AUTOSCALE_VICTIMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VICTIMS_WHY_MAX 200

enum alloc_status { ALLOC_PENDING, ALLOC_RUNNING, ALLOC_FAILED, ALLOC_ENDED /* complete, lost */, ALLOC_UNKNOWN };

struct group_alloc {
	char id[40], node[40];
	int64_t index;           /* -1: its name tells none */
	enum alloc_status status;
	bool desired_run;        /* DesiredStatus run */
	bool replaced;           /* another allocation follows it */
	bool migrating;          /* marked by a node drain */
	int64_t created_ns, modified_ns; /* CreateTime, ModifyTime */
	int64_t restarts;        /* of its tasks */
};

/* True if the allocation counts as one of the group's desired ones. */
bool alloc_is_live(const struct group_alloc *a);

/* Fills victims (room for n) with the positions in `allocs` of those that go when the count becomes `to`, highest index first.
 * Returns how many, or -1 with the reason in why when they cannot be told for certain. Fewer than are to go, and the reason in
 * why: the others can only be told once a failed one below these has been replaced. */
int64_t victims_predict(const struct group_alloc *allocs, size_t n, int64_t to, size_t *victims, char why[VICTIMS_WHY_MAX]);

/* The index in the name "job.group[7]", -1 where there is none. */
int64_t victims_index(const char *alloc_name);

#endif
