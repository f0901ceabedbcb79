#include "autoscale/view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cluster/nomad_scale.h"

static const char *
text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "";
}

static enum alloc_status
status_of(const json_t *alloc)
{
	static const struct {
		const char *word;
		enum alloc_status status;
	} words[] = {{"pending", ALLOC_PENDING}, {"running", ALLOC_RUNNING}, {"failed", ALLOC_FAILED}, {"complete", ALLOC_ENDED},
		{"lost", ALLOC_ENDED}, {"unknown", ALLOC_UNKNOWN}};
	const char *word = text_of(alloc, "ClientStatus");

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(words[i].word, word) == 0)
			return words[i].status;
	return ALLOC_UNKNOWN;
}

static void
alloc_parse(const json_t *alloc, struct group_alloc *a)
{
	const json_t *states = json_object_get(alloc, "TaskStates");
	const char *task;
	json_t *state;

	*a = (struct group_alloc){.index = victims_index(text_of(alloc, "Name")), .status = status_of(alloc),
		.desired_run = strcmp(text_of(alloc, "DesiredStatus"), "run") == 0,
		.replaced = text_of(alloc, "NextAllocation")[0] != '\0',
		.migrating = json_is_true(json_object_get(json_object_get(alloc, "DesiredTransition"), "Migrate")),
		.created_ns = json_integer_value(json_object_get(alloc, "CreateTime")),
		.modified_ns = json_integer_value(json_object_get(alloc, "ModifyTime"))};
	(void)snprintf(a->id, sizeof(a->id), "%s", text_of(alloc, "ID"));
	(void)snprintf(a->node, sizeof(a->node), "%s", text_of(alloc, "NodeID"));
	json_object_foreach ((json_t *)states, task, state)
		a->restarts += json_integer_value(json_object_get(state, "Restarts"));
}

void
view_parse(const json_t *job, const json_t *allocs, struct view *v)
{
	json_t *alloc;
	size_t i;

	v->stanza_rc = stanza_read(job, &v->stanza, &v->broken);
	v->modify_index = (uint64_t)json_integer_value(json_object_get(job, "JobModifyIndex"));
	v->stopped = json_is_true(json_object_get(job, "Stop"));
	v->allocs = xcalloc(json_array_size(allocs) + 1, sizeof(*v->allocs));
	json_array_foreach (allocs, i, alloc) {
		if (strcmp(text_of(alloc, "TaskGroup"), v->stanza.group) == 0)
			alloc_parse(alloc, &v->allocs[v->n++]);
	}
}

/* Groups whose update block has max_parallel 0, as ours have, are never deployed: one call less. */
static bool
may_deploy(const json_t *job)
{
	json_t *group;
	size_t i;

	json_array_foreach (json_object_get(job, "TaskGroups"), i, group) {
		const json_t *most = json_object_get(json_object_get(group, "Update"), "MaxParallel");

		if (!json_is_integer(most) || json_integer_value(most) > 0)
			return true;
	}
	return false;
}

int
view_read(struct nomad *n, const char *job, struct view *ret, struct err *e)
{
	json_t *o = NULL, *allocs = NULL;
	int rc;

	*ret = (struct view){0};
	if ((rc = nomad_job(n, job, &o, e)) == 0 && (rc = nomad_job_allocs(n, job, &allocs, e)) == 0 &&
	    (!may_deploy(o) || (rc = nomad_deployment_active(n, job, &ret->deployment, e)) == 0))
		view_parse(o, allocs, ret);
	json_decref(o);
	json_decref(allocs);
	return rc;
}

void
view_release(struct view *v)
{
	free(v->allocs);
	*v = (struct view){0};
}

bool
view_on_nodes(const struct view *v, const json_t *nodes)
{
	json_t *id;
	size_t i;

	json_array_foreach (nodes, i, id) {
		for (size_t k = 0; k < v->n; k++)
			if (alloc_is_live(&v->allocs[k]) && strcmp(v->allocs[k].node, json_string_value(id)) == 0)
				return true;
	}
	return false;
}
