/* workspace_rig.h - a cache with one small tree in a private place, and runs in it: what the tests of workspaces share. Include it
 * first; each program's main calls extract_helper_main and workspaces_own_mounts. */
#ifndef TESTS_UNIT_WORKSPACE_RIG_H
#define TESTS_UNIT_WORKSPACE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "storage/workspace.h"
#include "storage/workspace_names.h"
#include "tests/unit/tar_header.h"
#include "tests/unit/tree_digest.h"

#define RUN_UID 23456u
#define WAIT_MS 30000
#define TAR_BYTES 3072

struct place {
	char dir[64], cache_dir[80], store_dir[80], sha[SHA256_HEX_LEN];
	struct object_store *store;
	struct cache *cache;
	struct cache_pin *tree, *blob;
	struct workspaces *spaces;
	char digest[SHA256_HEX_LEN]; /* of the cached tree, as it must stay */
};

static inline int
open_place(struct place *p, const char *dir, struct err *e)
{
	struct cache_config c = {.dir = p->cache_dir, .max_bytes = 1 << 30, .ttl_ms = 60000, .limits = extract_limits_default()};
	struct cache_want w = {.bucket = "targets", .key = "o", .size_bytes = TAR_BYTES, .tree = true};
	int rc;

	snprintf(p->cache_dir, sizeof(p->cache_dir), "%.60s/cache", dir);
	snprintf(p->store_dir, sizeof(p->store_dir), "%.60s/store", dir);
	c.uid = geteuid() == 0 ? 12345 : geteuid();
	c.gid = geteuid() == 0 ? 12345 : getegid();
	p->store = store_dir_new(p->store_dir, e);
	p->cache = cache_open(&c, e);
	if (p->store == NULL || p->cache == NULL)
		return ERR_IO;
	if (p->sha[0] == '\0') {
		char tar[TAR_BYTES] = {0};
		uint8_t digest[SHA256_LEN];

		tar_header(tar, "d/hello", '0', "", 0755, 2);
		memcpy(tar + 512, "hi", 2);
		tar_header(tar + 1024, "link", '2', "d/hello", 0755, 0);
		sha256_of(tar, sizeof(tar), digest);
		hex_encode(digest, sizeof(digest), p->sha);
		if ((rc = store_ensure_bucket(p->store, "targets", e)) != 0 ||
		    (rc = store_put_bytes(p->store, "targets", "o", tar, sizeof(tar), NULL, NULL, e)) != 0)
			return rc;
	}
	w.store = p->store;
	w.sha256 = p->sha;
	if ((rc = cache_get(p->cache, &w, NULL, &p->tree, e)) != 0)
		return rc;
	w.tree = false;
	return cache_get(p->cache, &w, NULL, &p->blob, e);
}

static inline int
setup(void **state)
{
	struct place *p = xcalloc(1, sizeof(*p));
	struct err e;

	if (file_temp_dir("workspace", p->dir, sizeof(p->dir), &e) != 0)
		return -1;
	*state = p;
	if (open_place(p, p->dir, &e) != 0)
		return -1;
	tree_digest(cache_pin_tree(p->tree), p->digest);
	return 0;
}

static inline int
teardown(void **state)
{
	struct place *p = *state;

	workspaces_close(p->spaces, clock_mono_ms() + WAIT_MS);
	cache_release(p->tree);
	cache_release(p->blob);
	cache_close(p->cache);
	store_free(p->store);
	(void)file_remove_tree(AT_FDCWD, p->dir, NULL);
	free(p);
	return 0;
}

static inline const char *
under(const char *dir, const char *name)
{
	static char path[1024];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

/* Opens run `run` of target "target": of the tree, or of the blob under file_name. */
static inline int
open_run(struct place *p, const char *run, const char *file_name, enum workspace_mode mode, enum workspace_method method,
    struct workspace *ws, struct err *e)
{
	struct workspace_want want = {.target_id = "target", .run_id = run, .pin = file_name != NULL ? p->blob : p->tree,
	    .file_name = file_name, .mode = mode, .uid = RUN_UID, .gid = RUN_UID};

	workspaces_close(p->spaces, clock_mono_ms() + WAIT_MS);
	p->spaces = workspaces_open(p->cache_dir, method, e);
	return p->spaces != NULL ? workspace_open(p->spaces, &want, ws, e) : ERR_IO;
}

/* Whether nothing is mounted below the directory. */
static inline bool
is_unmounted(const char *dir)
{
	struct buf b = buf_make(1 << 20);
	bool none = file_read(AT_FDCWD, "/proc/self/mountinfo", &b, NULL) == 0 && strstr(buf_str(&b), dir) == NULL;

	buf_release(&b);
	return none;
}

/* Whether nothing of ended runs is left, once the deleting is over. */
static inline bool
is_tidy(struct place *p)
{
	workspaces_close(p->spaces, clock_mono_ms() + WAIT_MS);
	p->spaces = NULL;
	return rmdir(under(p->cache_dir, "ended")) == 0 && is_unmounted(p->cache_dir);
}

static inline bool
holds(const char *path, const char *text)
{
	struct buf b = buf_make(4096);
	bool ok = file_read(AT_FDCWD, path, &b, NULL) == 0 && strcmp(buf_str(&b), text) == 0;

	buf_release(&b);
	return ok;
}

/* As the run's own user, if we are root: changes a file, makes one, removes one. Exit status 0 if all worked. */
static inline int
use_as_run(const struct workspace *ws)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int fd = -1;

		/* The parents are private to the worker: a sandbox binds the tree, here the child goes there first. */
		if (chdir(ws->tree) != 0 || (geteuid() == 0 && (setgid(RUN_UID) != 0 || setuid(RUN_UID) != 0)))
			_exit(1);
		fd = open("d/hello", O_WRONLY | O_TRUNC);
		if (fd < 0 || write(fd, "changed", 7) != 7)
			_exit(2);
		fd = open("d/new", O_WRONLY | O_CREAT | O_EXCL, 0644);
		if (fd < 0 || unlink("link") != 0 || chmod("d", 0700) != 0)
			_exit(3);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline bool
cache_is_clean(const struct place *p)
{
	char now[SHA256_HEX_LEN];

	return strcmp(tree_digest(cache_pin_tree(p->tree), now), p->digest) == 0;
}

/* Whether a private tree can be made by the method here. */
static inline bool
possible(const struct place *p, enum workspace_method method)
{
	struct err e = {0};
	struct workspaces *w = workspaces_open(p->cache_dir, method, &e);
	bool yes = w != NULL && (workspaces_method(w) == method || method >= WORKSPACE_REFLINK);

	workspaces_close(w, clock_mono_ms() + WAIT_MS);
	return yes;
}

#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
