#include "dispatcher/cluster.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "dispatcher/cluster_priv.h"

#define HCL_MAX (256 * 1024)

/* --- tasks: one connection for each that runs --- */

static struct nomad *
borrow(struct cluster *c)
{
	struct nomad *n = NULL;

	pthread_mutex_lock(&c->lock);
	if (c->n_idle > 0)
		n = c->idle[--c->n_idle];
	pthread_mutex_unlock(&c->lock);
	return n != NULL ? n : nomad_new(&c->cfg.nomad);
}

/* As many come back as threads took: they fit. */
static void
give_back(struct cluster *c, struct nomad *n)
{
	pthread_mutex_lock(&c->lock);
	assert(c->n_idle < CONNECTIONS_MAX);
	c->idle[c->n_idle++] = n;
	pthread_mutex_unlock(&c->lock);
}

static void
task_run(void *arg)
{
	struct task *t = arg;
	struct nomad *n = borrow(t->c);

	t->run(t, n);
	give_back(t->c, n);
}

static bool
way_trouble(int rc)
{
	return rc == ERR_RETRY || rc == ERR_TIMEOUT || rc == ERR_IO;
}

static void
task_done(void *arg, bool began)
{
	struct task *t = arg;
	struct cluster *c = t->c;

	if (began && !atomic_load(&c->stop)) {
		if (way_trouble(t->rc))
			reconcile_suspect(c);
		t->done(t);
	}
	if (t->release != NULL)
		t->release(t);
	free(t);
}

void
task_submit(struct cluster *c, struct task *t)
{
	t->c = c;
	work_submit(c->calls, task_run, task_done, t);
}

/* --- life --- */

static int
read_hcl(struct cluster *c, const char *name, char **ret, struct err *e)
{
	struct buf b = buf_make(HCL_MAX);
	char path[4096];
	int rc = file_join(path, sizeof(path), c->cfg.jobs_dir, name, e);

	if (rc == 0)
		rc = file_read(AT_FDCWD, path, &b, e);
	if (rc != 0) {
		buf_release(&b);
		err_prefix(e, rc, "the job file %s", name);
		err_hint(e, "DROVER_JOBS_DIR names the folder that holds it");
		return rc;
	}
	*ret = buf_take(&b);
	return 0;
}

struct cluster *
cluster_new(const struct cluster_config *cfg, struct err *e)
{
	struct cluster *c = xcalloc(1, sizeof(*c));

	c->cfg = *cfg;
	c->cfg.nomad.stop = &c->stop;
	assert(cfg->connections >= 1 && cfg->connections <= CONNECTIONS_MAX);
	snprintf(c->prefix, sizeof(c->prefix), "%s-run-", cfg->job_prefix);
	snprintf(c->group_prefix, sizeof(c->group_prefix), "%s-workers-", cfg->job_prefix);
	snprintf(c->away, sizeof(c->away), "Nomad has not answered yet");
	pthread_mutex_init(&c->lock, NULL);
	c->jobs = map_new();
	c->children = map_new();
	c->groups = map_new();
	if (read_hcl(c, "run.nomad.hcl", &c->hcl, e) != 0 || read_hcl(c, "workers.nomad.hcl", &c->group_hcl, e) != 0)
		goto fail;
	c->calls = work_pool_new(cfg->loop, "nomad", cfg->connections, e);
	if (c->calls == NULL)
		goto fail;
	c->events = work_pool_new(cfg->loop, "nomad-events", 1, e);
	if (c->events == NULL)
		goto fail;
	jobs_start(c);
	groups_start(c);
	sizes_start(c);
	reconcile_start(c);
	return c;
fail:
	cluster_free(c);
	return NULL;
}

void
cluster_free(struct cluster *c)
{
	if (c == NULL)
		return;
	atomic_store(&c->stop, true);
	loop_timer_clear(c->cfg.loop, &c->list_timer);
	loop_timer_clear(c->cfg.loop, &c->jobs_timer);
	loop_timer_clear(c->cfg.loop, &c->groups_timer);
	work_pool_free(c->events);
	work_pool_free(c->calls);
	reconcile_free(c);
	groups_free(c);
	sizes_free(c);
	jobs_free(c);
	for (size_t i = 0; i < c->n_idle; i++)
		nomad_free(c->idle[i]);
	pthread_mutex_destroy(&c->lock);
	free(c->hcl);
	free(c->group_hcl);
	free(c);
}

void
cluster_workers_changed(struct cluster *c)
{
	groups_look(c);
}

const char *
cluster_state(const struct cluster *c)
{
	const char *trouble = c->up ? jobs_trouble(c) : c->away;

	for (size_t i = 0; trouble == NULL && i < CALL_KINDS; i++) {
		if (c->denied[i][0] != '\0')
			trouble = c->denied[i];
	}
	return trouble != NULL ? trouble : "ok";
}

/* --- whose jobs are these? --- */

/* Whether the entry is the parent of one of the verticals, registered for another ledger; then *e says so. */
static bool
of_other_ledger(const struct cluster_config *c, const json_t *entry, const char *const *verticals, size_t n, struct err *e)
{
	const char *id = json_string_value(json_object_get(entry, "ID"));
	const char *theirs = json_string_value(json_object_get(json_object_get(entry, "Meta"), "drover_ledger"));
	char ours[JOB_ID_MAX];

	if (id == NULL || theirs == NULL || theirs[0] == '\0' || strcmp(theirs, c->ledger_uuid) == 0)
		return false;
	for (size_t i = 0; i < n * (RUN_CLASSES + 1); i++) {
		const char *vertical = verticals[i / (RUN_CLASSES + 1)];
		size_t which = i % (RUN_CLASSES + 1);

		if (which < RUN_CLASSES)
			job_id(c, vertical, (enum run_class)which, ours);
		else
			group_id(c, vertical, ours);
		if (strcmp(id, ours) != 0)
			continue;
		err_set(e, ERR_CONFLICT, "Nomad's job %s belongs to the ledger %.36s, ours is %.36s", id, theirs, c->ledger_uuid);
		err_hint(e, "mount the volume that holds the old ledger, or give this Drover another DROVER_JOB_PREFIX or NOMAD_NAMESPACE");
		return true;
	}
	return false;
}

int
cluster_check_ledger(const struct cluster_config *c, const char *const *verticals, size_t n, struct err *e)
{
	static const char *const kinds[] = {"run", "workers"};
	struct nomad *nomad = nomad_new(&c->nomad);
	int rc = 0;

	for (size_t k = 0; rc == 0 && k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		json_t *entries = NULL, *entry;
		char prefix[80];
		uint64_t index;
		size_t i;

		snprintf(prefix, sizeof(prefix), "%s-%s-", c->job_prefix, kinds[k]);
		rc = nomad_list(nomad, prefix, &entries, &index, e);
		json_array_foreach(entries, i, entry) {
			if (rc == 0 && of_other_ledger(c, entry, verticals, n, e))
				rc = ERR_CONFLICT;
		}
		json_decref(entries);
	}
	nomad_free(nomad);
	return rc;
}
