/* The stages before the steps: everything that a run needs is brought here, checked, and laid out. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "worker/job_parts.h"

#define METADATA "metadata.yaml"

int
job_check_tools(struct job *j, struct err *e)
{
	const struct worker *w = j->worker;
	char names[200] = "";
	size_t i, at = 0;
	json_t *name;

	if (w->caps.rung == RUNG_NONE && strcmp(w->config.sandbox, "require") == 0) {
		(void)err_set(e, ERR_IO, "tools cannot be confined on this worker: %.200s", w->caps.why);
		(void)err_hint(e, "SANDBOX=best-effort runs them with what protection there is");
		return ERR_IO;
	}
	if (w->caps.rung == RUNG_NONE && j->terms.isolation == WORKSPACE_SHARED && strcmp(w->config.sandbox, "none") != 0) {
		(void)err_set(e, ERR_IO, "a shared target cannot be kept from being changed on this worker: %.200s", w->caps.why);
		(void)err_hint(e, "workspace_isolation: isolated");
		return ERR_IO;
	}
	if (json_array_size(w->tools.missing) == 0)
		return 0;
	json_array_foreach(w->tools.missing, i, name)
	{
		if (at < sizeof(names))
			at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%.60s", i == 0 ? "" : ", ", json_string_value(name));
	}
	(void)err_set(e, ERR_NOTFOUND, "this worker lacks tools of vertical %s: %s", w->config.vertical, names);
	(void)err_hint(e, "sh toolbox/verticals/%s/install.sh on this machine", w->config.vertical);
	return ERR_NOTFOUND;
}

/* Pins one object, filling the cache where needed. */
static int
pin(struct job *j, const char *what, const char *bucket, const struct lease_object *o, bool tree, struct cache_pin **ret,
    struct err *e)
{
	struct cache_want want = {.store = j->worker->store, .bucket = bucket, .key = o->key, .sha256 = o->sha256,
	    .size_bytes = o->size_bytes, .tree = tree};
	int64_t began_mono_ms = clock_mono_ms();
	char size[32], took[32];
	int rc = cache_get(j->worker->cache, &want, &j->stop, ret, e);

	if (rc != 0)
		return err_prefix(e, rc, "%s", what);
	if (cache_pin_was_miss(*ret))
		run_log_say(j->log, "fetched the %s, %s in %s", what, num_format_size(o->size_bytes, size, sizeof(size)),
		    num_format_duration(clock_mono_ms() - began_mono_ms, took, sizeof(took)));
	return 0;
}

int
job_fetch_target(struct job *j, struct err *e)
{
	int rc = pin(j, "target", j->worker->config.store.targets, &j->terms.target, j->terms.tree, &j->target, e);

	if (rc == ERR_NOTFOUND) {
		(void)err_set(e, rc, "the target is not in the store any more: it expired or was removed");
		(void)err_hint(e, "submit it again; what its sender still has is stored anew");
	}
	return rc;
}

static int
read_metadata(struct job *j, struct err *e)
{
	struct buf text = buf_make(WORKFLOW_FILE_MAX);
	int dir = open(cache_pin_tree(j->bundle), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int rc = dir < 0 ? err_set(e, ERR_IO, "bundle: %s", strerror(errno)) : file_read(dir, METADATA, &text, e);

	if (rc == 0)
		rc = workflow_parse(METADATA, j->terms.workflow, buf_str(&text), text.len, &j->workflow, e);
	if (dir >= 0)
		close(dir);
	buf_release(&text);
	return rc;
}

int
job_fetch_bundle(struct job *j, struct err *e)
{
	enum workflow_target takes;
	int rc = pin(j, "workflow", j->worker->config.store.toolbox, &j->terms.bundle, true, &j->bundle, e);

	if (rc != 0 || (rc = read_metadata(j, e)) != 0)
		return rc;
	takes = j->workflow->target;
	if ((takes == TARGET_TREE_ONLY && !j->terms.tree) || (takes == TARGET_FILE_ONLY && j->terms.tree)) {
		(void)err_set(e, ERR_INVALID, "workflow %s takes a %s, the target is a %s", j->terms.workflow, j->terms.tree ? "file" : "tree",
		    j->terms.tree ? "tree" : "file");
		return err_hint(e, "submit it with target kind \"%s\"", j->terms.tree ? "file" : "tree");
	}
	pthread_mutex_lock(&j->lock);
	j->n_steps = j->workflow->n_steps;
	for (size_t i = 0; i < j->n_steps; i++)
		j->steps[i] = (struct step_record){.exit_code = -1};
	pthread_mutex_unlock(&j->lock);
	return 0;
}

/* Where nothing can be bound over its link, a shared single file is a copy: tools skip links, and would find nothing. */
static enum workspace_mode
mode_of(const struct job *j)
{
	bool mounts = j->worker->caps.rung == RUNG_ROOT || j->worker->caps.rung == RUNG_USER;

	return !j->terms.tree && !mounts ? WORKSPACE_ISOLATED : j->terms.isolation;
}

/* The parameters as a file beside the tree, which steps may read only. */
static int
write_params(struct job *j, struct err *e)
{
	char *text = json_dumps(j->terms.params, JSON_INDENT(1));
	int dir = open(j->ws.run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = dir < 0 ? -1 : openat(dir, "params.json", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444), rc;

	(void)snprintf(j->params_path, sizeof(j->params_path), "%s/params.json", j->ws.run_dir);
	rc = fd < 0 ? err_set(e, ERR_RETRY, "params.json: %s", strerror(errno)) : file_write_all(fd, text, strlen(text), e);
	if (fd >= 0)
		close(fd);
	if (dir >= 0)
		close(dir);
	free(text);
	return rc;
}

int
job_make_workspace(struct job *j, struct err *e)
{
	const struct worker *w = j->worker;
	struct workspace_want want = {.target_id = j->terms.target_id, .run_id = j->terms.run, .pin = j->target, .file_name = j->terms.target_name,
	    .mode = mode_of(j), .uid = (uint32_t)w->config.uid_base + 1 + j->slot, .gid = (uint32_t)w->config.uid_base,
	    .stop = &j->stop};
	int64_t began_mono_ms = clock_mono_ms();
	char took[32];
	int rc = workspace_open(w->spaces, &want, &j->ws, e);

	if (rc == 0) {
		j->has_ws = true;
		run_log_say(j->log, "workspace: %s, %s, in %s", workspace_mode_word(j->ws.mode), workspace_method_word(j->ws.method),
		    num_format_duration(clock_mono_ms() - began_mono_ms, took, sizeof(took)));
		rc = write_params(j, e);
	}
	if (rc == ERR_RETRY)
		(void)err_hint(e, DISK_IS_FULL);
	return rc == 0 ? 0 : err_prefix(e, rc, "workspace");
}

void
job_clean_up(struct job *j)
{
	struct err e = {0};

	if (j->has_ws && workspace_close(j->worker->spaces, &j->ws, &e) != 0)
		log_warn(j->terms.run, "%s; it is removed at the next start", e.msg);
	j->has_ws = false;
	cache_release(j->target);
	cache_release(j->bundle);
	j->target = j->bundle = NULL;
}
