#include "worker/probe.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/threads.h"
#include "proto/workflow.h"

#define PROBE_TIMEOUT_MS 60000
#define PROBE_OUT_MAX 4096
#define VERSION_MAX 80
#define MEMO_MAX (64 * 1024)
#define SYSTEM_PATH "/usr/local/bin:/usr/bin:/bin"

struct probe {
	const struct vertical_tool *tool;
	const char *const *env;
	pthread_t thread;
	char version[VERSION_MAX]; /* "" until the probe ended well */
	char why[160];
};

static void
find_toolchain(const struct config *c, struct tools *t)
{
	char path[PATH_MAX], *real;

	(void)snprintf(path, sizeof(path), "%s/%s", c->toolchains, c->vertical);
	/* The link is resolved once: a new version that is installed meanwhile is not mixed into this worker's runs. */
	real = c->toolchains[0] == '\0' ? NULL : realpath(path, NULL);
	(void)snprintf(t->toolchain, sizeof(t->toolchain), "%s", real == NULL || strlen(real) >= sizeof(t->toolchain) ? "" : real);
	(void)snprintf(t->path, sizeof(t->path), "%s%s" SYSTEM_PATH, t->toolchain, t->toolchain[0] != '\0' ? "/bin:" : "");
	free(real);
}

/* The text of vertical.yaml; false where there is none. */
static bool
read_vertical(const struct config *c, const struct tools *t, char *file, size_t file_len, struct buf *text)
{
	if (c->toolbox[0] != '\0') {
		(void)snprintf(file, file_len, "%s/verticals/%s/vertical.yaml", c->toolbox, c->vertical);
		if (file_read(AT_FDCWD, file, text, NULL) == 0)
			return true;
	}
	(void)snprintf(file, file_len, "%s/vertical.yaml", t->toolchain);
	return t->toolchain[0] != '\0' && file_read(AT_FDCWD, file, text, NULL) == 0;
}

/* Adds what changes when the program behind `name` does. */
static void
add_program(struct sha256 *s, const char *path, const char *name)
{
	char file[PATH_MAX], line[PATH_MAX + 160];
	struct stat st;

	for (const char *p = path; *p != '\0'; p += *p == ':') {
		size_t len = strcspn(p, ":");

		(void)snprintf(file, sizeof(file), "%.*s/%s", (int)len, p, name);
		p += len;
		if (stat(file, &st) != 0)
			continue;
		(void)snprintf(line, sizeof(line), "%s %lld %lld %lld.%09ld\n", file, (long long)st.st_ino, (long long)st.st_size,
		    (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
		sha256_add(s, line, strlen(line));
		return;
	}
}

static void
memo_key(const struct tools *t, const struct vertical *v, const struct buf *text, char out[SHA256_HEX_LEN])
{
	struct sha256 *s = sha256_new();
	uint8_t digest[SHA256_LEN];

	sha256_add(s, text->data, text->len);
	sha256_add(s, t->path, strlen(t->path) + 1);
	for (size_t i = 0; i < v->n_tools; i++)
		add_program(s, t->path, v->tools[i].probe[0]);
	sha256_end(s, digest);
	hex_encode(digest, sizeof(digest), out);
}

static void
memo_path(const struct config *c, char *out, size_t len)
{
	(void)snprintf(out, len, "probe-%s.json", c->vertical);
}

/* What an earlier worker found under the same key; NULL if nothing. New reference. */
static json_t *
memo_read(const struct config *c, const char *key)
{
	char name[64], path[PATH_MAX];
	struct buf b = buf_make(MEMO_MAX);
	json_t *memo = NULL, *found = NULL;

	memo_path(c, name, sizeof(name));
	(void)snprintf(path, sizeof(path), "%s/%s", c->cache_dir, name);
	if (file_read(AT_FDCWD, path, &b, NULL) == 0)
		memo = json_loadb(buf_str(&b), b.len, 0, NULL);
	if (memo != NULL && json_is_string(json_object_get(memo, "key")) &&
	    strcmp(json_string_value(json_object_get(memo, "key")), key) == 0)
		found = json_incref(json_object_get(memo, "tools"));
	json_decref(memo);
	buf_release(&b);
	if (!json_is_object(found)) {
		json_decref(found);
		return NULL;
	}
	return found;
}

/* Best effort: without it the next worker probes again. */
static void
memo_write(const struct config *c, const char *key, json_t *found)
{
	json_t *memo = json_pack("{s:s, s:O}", "key", key, "tools", found);
	char *text = json_dumps(memo, JSON_INDENT(1)), name[64];
	int dir = open(c->cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	memo_path(c, name, sizeof(name));
	if (text != NULL && dir >= 0)
		(void)file_replace(dir, name, text, strlen(text), 0600, NULL);
	if (dir >= 0)
		close(dir);
	free(text);
	json_decref(memo);
}

static void *
probe_one(void *arg)
{
	struct probe *p = arg;
	struct proc_spec spec = {.argv = (const char *const *)p->tool->probe, .env = p->env, .fds = {-1, -1, -1, -1},
	    .new_group = true, .die_with_parent = true};
	struct buf out = buf_make(PROBE_OUT_MAX);
	struct proc_exit end;
	struct err e = {0};
	size_t n;

	if (proc_run(&spec, PROBE_TIMEOUT_MS, &out, NULL, &end, &e) != 0) {
		(void)snprintf(p->why, sizeof(p->why), "%.150s", e.msg);
	} else if (!end.exited || end.code != 0) {
		(void)snprintf(p->why, sizeof(p->why), "its probe ended with %s %d", end.exited ? "exit code" : "signal",
		    end.exited ? end.code : end.signo);
	} else {
		n = strcspn(buf_str(&out), "\r\n");
		(void)snprintf(p->version, sizeof(p->version), "%.*s", (int)n, n > 0 ? buf_str(&out) : "present");
		for (char *s = p->version; *s != '\0'; s++)
			*s = *s < ' ' || *s > '~' ? '?' : *s;
	}
	buf_release(&out);
	return NULL;
}

static bool
names(const json_t *list, const char *name)
{
	size_t i;
	json_t *one;

	json_array_foreach((json_t *)list, i, one)
		if (strcmp(json_string_value(one), name) == 0)
			return true;
	return false;
}

static void
probe_all(const struct config *c, const struct vertical *v, const json_t *only, const char *home, struct tools *t)
{
	struct probe *list = xcalloc(v->n_tools, sizeof(*list));
	size_t n = 0;
	char path[700], home_env[600];
	/* No bytecode: a toolchain is never changed after it was installed, least of all by root. */
	const char *const env[] = {path, home_env, "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1", NULL};

	(void)snprintf(path, sizeof(path), "PATH=%s", t->path);
	(void)snprintf(home_env, sizeof(home_env), "HOME=%s", home);
	for (size_t i = 0; i < v->n_tools; i++) {
		if (only != NULL && !names(only, v->tools[i].name))
			continue;
		list[n] = (struct probe){.tool = &v->tools[i], .env = env};
		thread_start(&list[n].thread, "probe", probe_one, &list[n]);
		n++;
	}
	for (size_t i = 0; i < n; i++) {
		const char *name = list[i].tool->name;

		pthread_join(list[i].thread, NULL);
		if (list[i].version[0] != '\0') {
			json_object_set_new(t->found, name, json_string(list[i].version));
			continue;
		}
		json_array_append_new(t->missing, json_string(name));
		if (only == NULL)
			log_warn(c->vertical, "tool %s is missing: %s", name, list[i].why);
	}
	free(list);
}

static int
probe_vertical(const struct config *c, const struct vertical *v, const struct buf *text, const json_t *only, struct tools *t, struct err *e)
{
	char key[SHA256_HEX_LEN], home[512];
	json_t *known;
	int rc;

	memo_key(t, v, text, key);
	if (only == NULL && (known = memo_read(c, key)) != NULL) {
		json_decref(t->found);
		t->found = known;
		return 0;
	}
	if ((rc = file_temp_dir("drover-probe", home, sizeof(home), e)) != 0)
		return rc;
	probe_all(c, v, only, home, t);
	(void)file_remove_tree(AT_FDCWD, home, NULL);
	if (only == NULL && json_array_size(t->missing) == 0)
		memo_write(c, key, t->found);
	return 0;
}

int
tools_probe(const struct config *c, const json_t *only, struct tools *ret, struct err *e)
{
	struct buf text = buf_make(WORKFLOW_FILE_MAX);
	struct vertical *v = NULL;
	char file[PATH_MAX];
	int rc = 0;

	*ret = (struct tools){.found = json_object(), .missing = json_array()};
	find_toolchain(c, ret);
	if (read_vertical(c, ret, file, sizeof(file), &text)) {
		rc = vertical_parse(file, c->vertical, buf_str(&text), text.len, &v, e);
		if (rc == 0)
			rc = probe_vertical(c, v, &text, only, ret, e);
		vertical_free(v);
	}
	buf_release(&text);
	if (rc != 0)
		tools_release(ret);
	return rc;
}

void
tools_release(struct tools *t)
{
	json_decref(t->found);
	json_decref(t->missing);
	t->found = t->missing = NULL;
}
