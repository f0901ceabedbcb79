/* view.h - one worker group as Nomad has it. Blocking reads: worker thread. */
#ifndef AUTOSCALE_VIEW_H
#define AUTOSCALE_VIEW_H

#include "autoscale/stanza.h"
#include "autoscale/victims.h"
#include "cluster/nomad.h"

struct view {
	struct stanza stanza;
	int stanza_rc;            /* of stanza_read; != 0: broken says why */
	struct err broken;
	uint64_t modify_index;    /* JobModifyIndex */
	bool stopped;
	bool deployment;
	size_t n;
	struct group_alloc *allocs; /* of the group, owned */
};

/* Reads the job, its allocations and its deployments. Returns 0, ERR_NOTFOUND (no such job) or what Nomad's calls return. */
int view_read(struct nomad *n, const char *job, struct view *ret, struct err *e);

/* Frees what a view owns; a zeroed one is fine. */
void view_release(struct view *v);

/* True if any allocation that counts is on one of these nodes (array of ids). Pure. */
bool view_on_nodes(const struct view *v, const json_t *nodes);

/* Fills v from a job and its allocations as the API shows them. Pure; for view_read and tests. */
void view_parse(const json_t *job, const json_t *allocs, struct view *v);

#endif
