#include "worker/sandbox_wire.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static json_t *
texts(const char *const *list)
{
	json_t *a = json_array();

	for (size_t i = 0; list[i] != NULL; i++)
		json_array_append_new(a, json_string(list[i]));
	return a;
}

static const char *
or_empty(const char *s)
{
	return s != NULL ? s : "";
}

/* Paths by name, so that writing and reading cannot disagree. */
static const struct {
	const char *name;
	size_t offset;
} path_fields[] = {
	{"target", offsetof(struct sandbox_paths, target)}, {"file", offsetof(struct sandbox_paths, file)},
	{"file_name", offsetof(struct sandbox_paths, file_name)}, {"lower", offsetof(struct sandbox_paths, lower)},
	{"upper", offsetof(struct sandbox_paths, upper)}, {"work", offsetof(struct sandbox_paths, work)},
	{"out", offsetof(struct sandbox_paths, out)}, {"scratch", offsetof(struct sandbox_paths, scratch)},
	{"workflow", offsetof(struct sandbox_paths, workflow)}, {"params", offsetof(struct sandbox_paths, params)},
	{"toolchain", offsetof(struct sandbox_paths, toolchain)},
};

#define N_PATHS (sizeof(path_fields) / sizeof(path_fields[0]))

static const struct {
	const char *name;
	size_t offset;
} limit_fields[] = {
	{"memory_bytes", offsetof(struct sandbox_limits, memory_bytes)}, {"cpu_millis", offsetof(struct sandbox_limits, cpu_millis)},
	{"processes", offsetof(struct sandbox_limits, processes)}, {"file_bytes", offsetof(struct sandbox_limits, file_bytes)},
	{"open_files", offsetof(struct sandbox_limits, open_files)}, {"grace_ms", offsetof(struct sandbox_limits, grace_ms)},
	{"disk_bytes", offsetof(struct sandbox_limits, disk_bytes)},
};

#define N_LIMITS (sizeof(limit_fields) / sizeof(limit_fields[0]))

json_t *
box_write(const struct sandbox_spec *s, const struct cgroup *g)
{
	json_t *o = json_object(), *paths = json_object(), *limits = json_object(), *groups = json_array();

	for (size_t i = 0; i < N_PATHS; i++) {
		const char *p = *(const char *const *)((const char *)&s->paths + path_fields[i].offset);

		json_object_set_new(paths, path_fields[i].name, json_string(or_empty(p)));
	}
	for (size_t i = 0; i < N_LIMITS; i++) {
		int64_t v = *(const int64_t *)((const char *)&s->limits + limit_fields[i].offset);

		json_object_set_new(limits, limit_fields[i].name, json_integer(v));
	}
	for (size_t i = 0; i < g->n; i++)
		json_array_append_new(groups, json_string(g->dirs[i]));
	json_object_set_new(o, "argv", texts(s->argv));
	json_object_set_new(o, "env", texts(s->env));
	json_object_set_new(o, "paths", paths);
	json_object_set_new(o, "limits", limits);
	json_object_set_new(o, "groups", groups);
	json_object_set_new(o, "cgroup", json_integer(g->version));
	json_object_set_new(o, "read_only", json_boolean(s->paths.target_read_only));
	json_object_set_new(o, "rung", json_integer(s->caps->rung));
	json_object_set_new(o, "landlock", json_integer(s->caps->landlock_abi));
	json_object_set_new(o, "seccomp", json_boolean(s->caps->seccomp));
	json_object_set_new(o, "netns", json_boolean(s->caps->netns));
	json_object_set_new(o, "uid", json_integer(s->uid));
	json_object_set_new(o, "gid", json_integer(s->gid));
	json_object_set_new(o, "egress", json_boolean(s->egress));
	json_object_set_new(o, "progress", json_boolean(s->progress_fd >= 0));
	return o;
}

/* A NULL-terminated array of the texts of a JSON list; the texts stay the list's. NULL if it is not one. */
static char **
text_array(const json_t *list)
{
	size_t n = json_array_size(list);
	char **out = xcalloc(n + 1, sizeof(*out));

	for (size_t i = 0; i < n; i++) {
		out[i] = (char *)(uintptr_t)json_string_value(json_array_get(list, i));
		if (out[i] == NULL) {
			free(out);
			return NULL;
		}
	}
	return out;
}

static int64_t
number(const json_t *o, const char *name)
{
	return json_integer_value(json_object_get(o, name));
}

int
box_read(json_t *json, struct box *ret, struct err *e)
{
	struct box b = {.json = json};
	const json_t *paths = json_object_get(json, "paths"), *limits = json_object_get(json, "limits");
	const json_t *groups = json_object_get(json, "groups");

	b.argv = text_array(json_object_get(json, "argv"));
	b.env = text_array(json_object_get(json, "env"));
	for (size_t i = 0; i < N_PATHS; i++)
		*(const char **)((char *)&b.paths + path_fields[i].offset) = or_empty(json_string_value(json_object_get(paths, path_fields[i].name)));
	for (size_t i = 0; i < N_LIMITS; i++)
		*(int64_t *)((char *)&b.limits + limit_fields[i].offset) = number(limits, limit_fields[i].name);
	b.cgroup.version = (int)number(json, "cgroup");
	for (; b.cgroup.n < json_array_size(groups) && b.cgroup.n < CGROUP_DIRS_MAX; b.cgroup.n++)
		snprintf(b.cgroup.dirs[b.cgroup.n], sizeof(b.cgroup.dirs[0]), "%s", or_empty(json_string_value(json_array_get(groups, b.cgroup.n))));
	b.paths.target_read_only = json_is_true(json_object_get(json, "read_only"));
	b.caps.rung = (enum sandbox_rung)number(json, "rung");
	b.caps.landlock_abi = (int)number(json, "landlock");
	b.caps.seccomp = json_is_true(json_object_get(json, "seccomp"));
	b.caps.netns = json_is_true(json_object_get(json, "netns"));
	b.uid = (uid_t)number(json, "uid");
	b.gid = (gid_t)number(json, "gid");
	b.egress = json_is_true(json_object_get(json, "egress"));
	b.has_progress = json_is_true(json_object_get(json, "progress"));
	if (b.argv == NULL || b.argv[0] == NULL || b.env == NULL || b.limits.memory_bytes <= 0) {
		box_release(&b);
		return err_set(e, ERR_INVALID, "the sandbox's order is not complete");
	}
	*ret = b;
	return 0;
}

void
box_release(struct box *b)
{
	free(b->argv);
	free(b->env);
	json_decref(b->json);
	*b = (struct box){0};
}
