/* look.c - one child as Nomad has it: its latest allocations, or why it has none. */
#include <stdio.h>
#include <string.h>

#include "dispatcher/cluster_priv.h"

/* Keeps the latest ones by the order in which they were made. */
static void
keep(struct look *l, const struct alloc_fact *f)
{
	size_t at = l->n_allocs;

	while (at > 0 && l->allocs[at - 1].create_index > f->create_index)
		at--;
	if (l->n_allocs == LOOK_ALLOCS_MAX) {
		if (at == 0)
			return;
		memmove(&l->allocs[0], &l->allocs[1], (at - 1) * sizeof(*f));
		at--;
	} else {
		memmove(&l->allocs[at + 1], &l->allocs[at], (l->n_allocs - at) * sizeof(*f));
		l->n_allocs++;
	}
	l->allocs[at] = *f;
}

int
look_placement(struct cluster *c, struct nomad *n, const char *job, struct placement *ret, struct err *e)
{
	json_t *evals = NULL, *eval;
	int64_t latest = -1;
	size_t i;
	int rc = nomad_job_evals(n, job, &evals, e);

	*ret = (struct placement){.never = false};
	json_array_foreach(evals, i, eval) {
		int64_t index = json_integer_value(json_object_get(eval, "ModifyIndex"));
		struct placement p;

		if (index <= latest || !placement_read(eval, &p))
			continue;
		latest = index;
		*ret = p;
	}
	json_decref(evals);
	sizes_judge(c, n, job, ret);
	return rc;
}

int
look_allocs(struct cluster *c, struct nomad *n, struct look *l, struct err *e)
{
	json_t *allocs = NULL, *alloc;
	size_t i;
	int rc = nomad_job_allocs(n, l->job.id, &allocs, e);

	json_array_foreach(allocs, i, alloc) {
		struct alloc_fact f;

		if (alloc_fact_read(alloc, &f) && strcmp(f.job, l->job.id) == 0)
			keep(l, &f);
	}
	json_decref(allocs);
	if (rc == 0 && l->n_allocs == 0 && !l->job.dead)
		rc = look_placement(c, n, l->job.id, &l->placement, e);
	return rc;
}
