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
#include "tests/unit/tree_digest.h"

#define RUN_UID 23456u
#define WAIT_MS 30000
#define MANY_RUNS 1000
#define CHILD_FLAG "--open" /* DIR SHA METHOD: opens a workspace under DROVER_FAULT and waits */
#define TAR_BYTES 3072

struct place {
	char dir[64], cache_dir[80], store_dir[80], sha[SHA256_HEX_LEN];
	struct object_store *store;
	struct cache *cache;
	struct cache_pin *tree, *blob;
	struct workspaces *spaces;
	char digest[SHA256_HEX_LEN]; /* of the cached tree, as it must stay */
};

static void
tar_header(char *h, const char *name, char type, const char *link, unsigned size)
{
	unsigned sum = 0;

	snprintf(h, 100, "%s", name);
	snprintf(h + 100, 8, "%07o", 0755);
	snprintf(h + 124, 12, "%011o", size & 0777);
	snprintf(h + 136, 12, "%011o", 1000000000);
	memset(h + 148, ' ', 8);
	h[156] = type;
	snprintf(h + 157, 100, "%s", link);
	memcpy(h + 257, "ustar\00000", 8);
	for (size_t i = 0; i < 512; i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum);
}

static int
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

		tar_header(tar, "d/hello", '0', "", 2);
		memcpy(tar + 512, "hi", 2);
		tar_header(tar + 1024, "link", '2', "d/hello", 0);
		sha256_of(tar, sizeof(tar), digest);
		hex_encode(digest, sizeof(digest), p->sha);
		if ((rc = store_ensure_bucket(p->store, "targets", e)) != 0 ||
		    (rc = store_put_bytes(p->store, "targets", "o", tar, sizeof(tar), NULL, e)) != 0)
			return rc;
	}
	w.store = p->store;
	w.sha256 = p->sha;
	if ((rc = cache_get(p->cache, &w, NULL, &p->tree, e)) != 0)
		return rc;
	w.tree = false;
	return cache_get(p->cache, &w, NULL, &p->blob, e);
}

static int
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

static int
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

static const char *
under(const char *dir, const char *name)
{
	static char path[1024];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

/* Opens run `run` of target "target": of the tree, or of the blob under file_name. */
static int
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
static bool
is_unmounted(const char *dir)
{
	struct buf b = buf_make(1 << 20);
	bool none = file_read(AT_FDCWD, "/proc/self/mountinfo", &b, NULL) == 0 && strstr(buf_str(&b), dir) == NULL;

	buf_release(&b);
	return none;
}

/* Whether nothing of ended runs is left, once the deleting is over. */
static bool
is_tidy(struct place *p)
{
	workspaces_close(p->spaces, clock_mono_ms() + WAIT_MS);
	p->spaces = NULL;
	return rmdir(under(p->cache_dir, "ended")) == 0 && is_unmounted(p->cache_dir);
}


static bool
holds(const char *path, const char *text)
{
	struct buf b = buf_make(4096);
	bool ok = file_read(AT_FDCWD, path, &b, NULL) == 0 && strcmp(buf_str(&b), text) == 0;

	buf_release(&b);
	return ok;
}

/* As the run's own user, if we are root: changes a file, makes one, removes one. Exit status 0 if all worked. */
static int
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

static bool
cache_is_clean(const struct place *p)
{
	char now[SHA256_HEX_LEN];

	return strcmp(tree_digest(cache_pin_tree(p->tree), now), p->digest) == 0;
}

/* Whether a private tree can be made by the method here. */
static bool
possible(const struct place *p, enum workspace_method method)
{
	struct err e = {0};
	struct workspaces *w = workspaces_open(p->cache_dir, method, &e);
	bool yes = w != NULL && (workspaces_method(w) == method || method >= WORKSPACE_REFLINK);

	workspaces_close(w, clock_mono_ms() + WAIT_MS);
	return yes;
}

static void
a_private_tree_is_the_runs_own(void **state)
{
	static const enum workspace_method methods[] = {WORKSPACE_OVERLAY, WORKSPACE_COPY};
	struct place *p = *state;

	for (size_t i = 0; i < 2; i++) {
		struct workspace ws;
		struct stat st;
		struct err e = {0};

		if (!possible(p, methods[i]))
			continue; /* not root, or a kernel without it */
		assert_int_equal(open_run(p, "run-1", NULL, WORKSPACE_ISOLATED, methods[i], &ws, &e), 0);
		assert_int_equal(ws.method, methods[i]);
		assert_false(ws.read_only);
		assert_string_equal(ws.tree, under(p->cache_dir, "target/run-1/workspace"));
		assert_string_equal(ws.source, ws.tree);
		assert_true(holds(under(ws.tree, "d/hello"), "hi"));
		assert_int_equal(stat(under(ws.tree, "d/hello"), &st), 0);
		assert_int_equal(st.st_uid, geteuid() == 0 ? RUN_UID : geteuid());
		assert_int_equal(st.st_mtime, 1000000000);
		assert_int_equal(st.st_mode & 07777, 0755);
		assert_int_equal(use_as_run(&ws), 0);
		assert_true(holds(under(ws.tree, "d/hello"), "changed"));
		assert_true(cache_is_clean(p));
		assert_int_equal(workspace_close(p->spaces, &ws, &e), 0);
		assert_int_equal(workspace_close(p->spaces, &ws, &e), 0); /* again is fine */
		assert_int_not_equal(access(under(p->cache_dir, "target"), F_OK), 0);
		assert_true(is_tidy(p));
		assert_true(cache_is_clean(p));
	}
}

static bool
is_link_to(const char *path, const char *to)
{
	char real[PATH_MAX];
	struct stat st;

	return lstat(path, &st) == 0 && S_ISLNK(st.st_mode) && realpath(path, real) != NULL && strcmp(real, to) == 0;
}

static void
a_shared_tree_is_the_caches_own(void **state)
{
	struct place *p = *state;
	struct workspace a, b;
	struct err e = {0};

	assert_int_equal(open_run(p, "run-1", NULL, WORKSPACE_SHARED, WORKSPACE_COPY, &a, &e), 0);
	assert_int_equal(open_run(p, "run-2", NULL, WORKSPACE_SHARED, WORKSPACE_OVERLAY, &b, &e), 0);
	assert_true(a.read_only && b.read_only);
	assert_string_equal(a.source, cache_pin_tree(p->tree));
	assert_string_equal(a.tree, under(p->cache_dir, "target/workspace"));
	assert_true(is_link_to(a.tree, cache_pin_tree(p->tree)));
	assert_int_equal(a.method, WORKSPACE_DIRECT);
	assert_string_not_equal(a.scratch, b.scratch);
	assert_int_equal(access(b.out, F_OK), 0);
	assert_int_equal(workspace_close(p->spaces, &a, &e), 0);
	assert_int_equal(access(b.out, F_OK), 0);
	assert_int_equal(workspace_close(p->spaces, &b, &e), 0);
	assert_int_not_equal(access(under(p->cache_dir, "target/run-1"), F_OK), 0);
	assert_true(is_link_to(under(p->cache_dir, "target/workspace"), cache_pin_tree(p->tree))); /* kept */
	assert_true(cache_is_clean(p));
}

/* Eviction by the cache itself, of an entry that nobody uses any more. */
static void
eviction_takes_the_names_with_it(void **state)
{
	struct place *p = *state;
	struct workspace ws;
	struct err e = {0};

	assert_int_equal(open_run(p, "run", NULL, WORKSPACE_SHARED, WORKSPACE_COPY, &ws, &e), 0);
	assert_int_equal(workspace_close(p->spaces, &ws, &e), 0);
	assert_int_equal(cache_remove(p->cache, p->sha, &e), ERR_CONFLICT); /* pinned */
	assert_int_equal(access(under(p->cache_dir, "target/workspace/d/hello"), F_OK), 0);
	cache_release(p->tree);
	cache_release(p->blob);
	p->tree = p->blob = NULL;
	assert_true(cache_remove(p->cache, p->sha, &e) > 0);
	assert_int_not_equal(access(under(p->cache_dir, "target"), F_OK), 0);
}

/* The names of an entry are made once, survive the sweep, and go with the entry; what is left dangling goes with a sweep. */
static void
names_stay_until_the_entry_goes(void **state)
{
	struct place *p = *state;
	struct workspace ws;
	char entry[256];
	struct err e = {0};
	int dir = open(p->cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < 2; i++) {
		assert_int_equal(open_run(p, "run", NULL, WORKSPACE_COPY_ON_WRITE, WORKSPACE_COPY, &ws, &e), 0);
		assert_true(is_link_to(under(p->cache_dir, "target/shared"), cache_pin_tree(p->tree)));
		assert_int_equal(workspace_close(p->spaces, &ws, &e), 0);
	}
	assert_int_equal(open_run(p, "run", NULL, WORKSPACE_SHARED, WORKSPACE_COPY, &ws, &e), 0);
	assert_int_equal(workspace_close(p->spaces, &ws, &e), 0);
	assert_true(is_tidy(p));
	assert_true(possible(p, WORKSPACE_COPY)); /* sweeps */
	assert_true(is_link_to(under(p->cache_dir, "target/shared"), cache_pin_tree(p->tree)));
	snprintf(entry, sizeof(entry), "%s", cache_pin_tree(p->tree) + strlen(p->cache_dir) + 1);
	*strrchr(entry, '/') = '\0';
	workspace_names_drop(dir, entry);
	assert_int_not_equal(faccessat(dir, "target", F_OK, 0), 0);
	assert_int_equal(mkdirat(dir, "target", 0700), 0);
	assert_int_equal(symlinkat("../objects/ff/gone", dir, "target/shared"), 0);
	assert_true(possible(p, WORKSPACE_COPY));
	assert_int_not_equal(faccessat(dir, "target", F_OK, 0), 0);
	assert_true(cache_is_clean(p));
	close(dir);
}

static void
a_single_file_gets_its_name(void **state)
{
	static const char *const bad[] = {"", ".", "..", "a/b", "a\nb"};
	struct place *p = *state;
	struct workspace ws;
	struct stat st;
	struct err e = {0};

	assert_int_equal(open_run(p, "run-1", "app.apk", WORKSPACE_COPY_ON_WRITE, WORKSPACE_OVERLAY, &ws, &e), 0);
	assert_int_equal(lstat(under(ws.tree, "app.apk"), &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(st.st_size, TAR_BYTES);
	assert_int_equal(st.st_nlink, 1);
	assert_string_equal(ws.file, "");
	assert_int_equal(workspace_close(p->spaces, &ws, &e), 0);
	/* Shared: nothing is copied. */
	assert_int_equal(open_run(p, "run-1", "app.apk", WORKSPACE_SHARED, WORKSPACE_OVERLAY, &ws, &e), 0);
	assert_string_equal(ws.file, cache_pin_blob(p->blob));
	assert_true(ws.read_only && is_link_to(under(ws.tree, "app.apk"), ws.file));
	assert_int_equal(workspace_close(p->spaces, &ws, &e), 0);
	assert_int_equal(access(cache_pin_blob(p->blob), F_OK), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(open_run(p, "run-1", bad[i], WORKSPACE_ISOLATED, WORKSPACE_COPY, &ws, &e), ERR_INVALID);
}

static void
bad_ids_are_refused_and_a_run_is_unique(void **state)
{
	static const char *const bad[] = {"", ".", "..", "a/b", ".hidden", "objects", "tmp", "ended", "workspace", "shared", "a.lock", "a b"};
	struct place *p = *state;
	struct workspace ws, again;
	struct err e = {0};

	assert_int_equal(open_run(p, "run", NULL, WORKSPACE_ISOLATED, WORKSPACE_COPY, &ws, &e), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct workspace_want want = {.target_id = bad[i], .run_id = "run-2", .pin = p->tree};

		assert_int_equal(workspace_open(p->spaces, &want, &again, &e), ERR_INVALID);
		want = (struct workspace_want){.target_id = "target", .run_id = bad[i], .pin = p->tree};
		assert_int_equal(workspace_open(p->spaces, &want, &again, &e), ERR_INVALID);
	}
	assert_int_equal(open_run(p, "run", NULL, WORKSPACE_ISOLATED, WORKSPACE_COPY, &again, &e), ERR_CONFLICT);
	assert_int_equal(workspace_close(p->spaces, &ws, &e), 0);
}

static void
copies_keep_holes(void **state)
{
	struct place *p = *state;
	struct workspace ws;
	struct stat st;
	struct err e = {0};

	/* A hole of 64 MiB behind the blob; root may write what is 0444. */
	assert_int_equal(chmod(cache_pin_blob(p->blob), 0644), 0);
	assert_int_equal(truncate(cache_pin_blob(p->blob), 64 << 20), 0);
	assert_int_equal(open_run(p, "run", "f", WORKSPACE_ISOLATED, WORKSPACE_COPY, &ws, &e), 0);
	assert_int_equal(stat(under(ws.tree, "f"), &st), 0);
	assert_int_equal(st.st_size, 64 << 20);
	assert_true(st.st_blocks * 512 < 1 << 20);
	assert_int_equal(workspace_close(p->spaces, &ws, &e), 0);
}

/* What one run writes the next one does not see, and the cache never changes. */
static void
many_runs_change_nothing(void **state)
{
	struct place *p = *state;
	enum workspace_method method = possible(p, WORKSPACE_OVERLAY) ? WORKSPACE_OVERLAY : WORKSPACE_COPY;
	struct workspace_want want = {.target_id = "target", .run_id = "run", .pin = p->tree, .mode = WORKSPACE_COPY_ON_WRITE, .uid = RUN_UID,
	    .gid = RUN_UID};
	struct err e = {0};

	p->spaces = workspaces_open(p->cache_dir, method, &e);
	assert_non_null(p->spaces);
	for (int i = 0; i < MANY_RUNS; i++) {
		struct workspace ws;

		assert_int_equal(workspace_open(p->spaces, &want, &ws, &e), 0);
		assert_true(holds(under(ws.tree, "d/hello"), "hi"));
		assert_int_not_equal(access(under(ws.tree, "d/new"), F_OK), 0);
		if (i % 50 == 0)
			assert_int_equal(use_as_run(&ws), 0);
		else
			assert_int_equal(truncate(under(ws.tree, "d/hello"), 1) | unlink(under(ws.tree, "link")) | mkdir(under(ws.tree, "more"), 0700), 0);
		assert_int_equal(workspace_close(p->spaces, &ws, &e), 0);
	}
	assert_true(is_tidy(p));
	assert_true(cache_is_clean(p));
}

/* --- tear-down --- */

/* A tree that a tool made to stay: deep, shut, with special files, a loop, and links to elsewhere. */
static void
make_traps(const char *tree, const char *victim)
{
	int dir = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC), below = dup(dir);

	assert_true(dir >= 0);
	assert_int_equal(mkfifoat(dir, "fifo", 0), 0);
	assert_int_equal(mknodat(dir, "socket", S_IFSOCK, 0), 0);
	assert_int_equal(symlinkat(victim, dir, "away"), 0);
	assert_int_equal(symlinkat(".", dir, "loop"), 0);
	for (int i = 0; i < 300; i++) {
		int next;

		assert_int_equal(mkdirat(below, "deep", 0700), 0);
		next = openat(below, "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(below);
		below = next;
	}
	close(below);
	assert_int_equal(mkdirat(dir, "shut", 0700), 0);
	assert_int_equal(mkdirat(dir, "shut/in", 0), 0);
	assert_int_equal(fchmodat(dir, "shut", 0, 0), 0);
	for (int i = 0; i < 300; i++) {
		char name[32];

		snprintf(name, sizeof(name), "f%d", i);
		close(openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0));
	}
	close(dir);
}

static void
nothing_that_a_tool_leaves_stays(void **state)
{
	static const enum workspace_method methods[] = {WORKSPACE_OVERLAY, WORKSPACE_COPY};
	struct place *p = *state;
	struct err e = {0};

	assert_int_equal(mkdir(under(p->dir, "victim"), 0755), 0);
	assert_int_equal(mkdir(under(p->dir, "victim/precious"), 0755), 0);
	for (size_t i = 0; i < 2; i++) {
		struct workspace ws;
		char victim[128];

		if (!possible(p, methods[i]))
			continue;
		snprintf(victim, sizeof(victim), "%s/victim", p->dir);
		assert_int_equal(open_run(p, "run", NULL, WORKSPACE_ISOLATED, methods[i], &ws, &e), 0);
		make_traps(ws.tree, victim);
		make_traps(ws.out, victim);
		make_traps(ws.scratch, victim);
		assert_int_equal(workspace_close(p->spaces, &ws, &e), 0);
		assert_int_not_equal(access(under(p->cache_dir, "target"), F_OK), 0); /* at once, whatever is still being deleted */
		assert_true(is_tidy(p));
		assert_int_equal(access(under(p->dir, "victim/precious"), F_OK), 0);
		assert_true(cache_is_clean(p));
	}
}

/* Whether no other worker could delete what of ended runs is still there: an overlay that only its worker sees may lie on it. */
static bool
ended_are_taken(struct place *p)
{
	DIR *dir = opendir(under(p->cache_dir, "ended"));
	struct dirent *d;
	bool taken = true;

	assert_non_null(dir);
	while ((d = readdir(dir)) != NULL) {
		int fd = d->d_name[0] == '.' ? -1 : openat(dirfd(dir), d->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && faccessat(dirfd(dir), d->d_name, F_OK, 0) == 0)
			taken = false;
		if (fd >= 0)
			close(fd);
	}
	closedir(dir);
	return taken;
}

/* More than the thread may have waiting: the rest is deleted by who ends the run; all of it in the end. */
static void
deleting_is_bounded(void **state)
{
	struct place *p = *state;
	struct workspace ws[40];
	struct err e = {0};

	for (int i = 0; i < 40; i++) {
		char run[16];

		snprintf(run, sizeof(run), "run-%d", i);
		assert_int_equal(open_run(p, run, NULL, WORKSPACE_ISOLATED, WORKSPACE_COPY, &ws[i], &e), 0);
	}
	for (int i = 0; i < 40; i++) {
		assert_int_equal(workspace_close(p->spaces, &ws[i], &e), 0);
		assert_true(ended_are_taken(p));
	}
	assert_true(is_tidy(p));
}

/* A tree in use (a directory of it is someone's) is out of sight all the same, and gone with its last user. */
static void
a_busy_tree_is_out_of_sight(void **state)
{
	struct place *p = *state;
	struct workspace ws;
	struct err e = {0};
	int held;

	if (!possible(p, WORKSPACE_OVERLAY))
		return;
	assert_int_equal(open_run(p, "run", NULL, WORKSPACE_ISOLATED, WORKSPACE_OVERLAY, &ws, &e), 0);
	held = open(under(ws.tree, "d"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(held >= 0);
	assert_int_equal(workspace_close(p->spaces, &ws, &e), 0);
	assert_int_not_equal(access(under(p->cache_dir, "target"), F_OK), 0);
	close(held);
	assert_true(is_tidy(p));
	assert_true(cache_is_clean(p));
}

/* An overlay keeps what is under it, whoever else lets it go; and not for longer than it is mounted. */
static void
an_overlay_keeps_its_tree_pinned(void **state)
{
	struct place *p = *state;
	struct workspace ws;
	struct err e = {0};

	if (!possible(p, WORKSPACE_OVERLAY))
		return;
	assert_int_equal(open_run(p, "run", NULL, WORKSPACE_ISOLATED, WORKSPACE_OVERLAY, &ws, &e), 0);
	cache_release(p->tree);
	cache_release(p->blob);
	p->tree = p->blob = NULL;
	assert_int_equal(cache_remove(p->cache, p->sha, &e), ERR_CONFLICT);
	assert_true(holds(under(ws.tree, "d/hello"), "hi"));
	assert_int_equal(workspace_close(p->spaces, &ws, &e), 0);
	assert_true(is_tidy(p));
	assert_true(cache_remove(p->cache, p->sha, &e) > 0);
}

/* What another worker is deleting is left to it; what it left when it died is not. */
static void
workers_do_not_hinder_each_other(void **state)
{
	static const char name[] = "ended/00000000-0000-0000-0000-000000000000";
	struct place *p = *state;
	int fd;

	assert_true(possible(p, WORKSPACE_COPY)); /* makes ended/ */
	assert_int_equal(mkdir(under(p->cache_dir, name), 0700), 0);
	fd = open(under(p->cache_dir, name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	assert_true(possible(p, WORKSPACE_COPY));
	assert_int_equal(access(under(p->cache_dir, name), F_OK), 0);
	close(fd);
	assert_true(possible(p, WORKSPACE_COPY));
	assert_true(is_tidy(p));
}

/* --- a full disk --- */

static bool
mount_small(const char *dir)
{
	return geteuid() == 0 && mount("none", dir, "tmpfs", 0, "size=4m,nr_inodes=200") == 0;
}

/* The tree does not fit: the run fails so that it can be tried again, and leaves nothing. (A tmpfs: no overlay needs one here.) */
static void
a_full_disk_is_no_end(void **state)
{
	struct place *p = *state, small = {0};
	struct workspace ws;
	struct err e = {0};
	int fd;

	assert_int_equal(mkdir(under(p->dir, "small"), 0755), 0);
	snprintf(small.dir, sizeof(small.dir), "%.50s/small", p->dir);
	if (!mount_small(small.dir))
		return; /* not root */
	assert_int_equal(open_place(&small, small.dir, &e), 0);
	tree_digest(cache_pin_tree(small.tree), small.digest);
	fd = open(under(small.dir, "filler"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	while (write(fd, small.store_dir, sizeof(small.store_dir)) > 0)
		;
	close(fd);
	assert_int_equal(open_run(&small, "run", NULL, WORKSPACE_ISOLATED, WORKSPACE_COPY, &ws, &e), ERR_RETRY);
	assert_int_equal(open_run(&small, "run", "file", WORKSPACE_ISOLATED, WORKSPACE_COPY, &ws, &e), ERR_RETRY);
	assert_int_not_equal(access(under(small.cache_dir, "target"), F_OK), 0);
	assert_true(cache_is_clean(&small));
	assert_int_equal(unlink(under(small.dir, "filler")), 0);
	assert_int_equal(open_run(&small, "run", NULL, WORKSPACE_ISOLATED, WORKSPACE_OVERLAY, &ws, &e), 0);
	fd = open(under(ws.tree, "d/filler"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	while (write(fd, small.store_dir, sizeof(small.store_dir)) > 0)
		;
	close(fd);
	assert_int_equal(workspace_close(small.spaces, &ws, &e), 0);
	assert_true(is_tidy(&small));
	assert_true(cache_is_clean(&small));
	cache_release(small.tree);
	cache_release(small.blob);
	cache_close(small.cache);
	store_free(small.store);
	assert_int_equal(umount(small.dir), 0);
}

/* --- death in the middle --- */

static int
child(int argc, char **argv)
{
	struct place p = {0};
	struct workspace_want want = {.target_id = "target", .run_id = "run", .mode = WORKSPACE_COPY_ON_WRITE, .uid = RUN_UID, .gid = RUN_UID};
	struct workspace ws;
	struct err e = {0};

	if (argc != 5 || strcmp(argv[1], CHILD_FLAG) != 0)
		return -1;
	workspaces_own_mounts();
	snprintf(p.sha, sizeof(p.sha), "%s", argv[3]);
	if (open_place(&p, argv[2], &e) != 0)
		return 10;
	p.spaces = workspaces_open(p.cache_dir, strcmp(argv[4], "overlay") == 0 ? WORKSPACE_OVERLAY : WORKSPACE_COPY, &e);
	want.pin = p.tree;
	if (p.spaces == NULL || workspace_open(p.spaces, &want, &ws, &e) != 0)
		return 11;
	if (workspace_close(p.spaces, &ws, &e) != 0)
		return 12;
	workspaces_close(p.spaces, clock_mono_ms() + WAIT_MS);
	return 0;
}

/* A worker in a process of its own, which dies at the fault. */
static void
die_at(struct place *p, const char *fault, const char *method)
{
	char env[64];
	const char *argv[] = {"/proc/self/exe", CHILD_FLAG, p->dir, p->sha, method, NULL}, *envp[] = {env, NULL};
	struct proc_spec spec = {.argv = argv, .env = envp, .fds = {-1, 1, 2, -1}};
	struct buf out = buf_make(4096), err_out = buf_make(4096);
	struct proc_exit x = {0};

	snprintf(env, sizeof(env), "DROVER_FAULT=%s", fault);
	assert_int_equal(proc_run(&spec, 30000, &out, &err_out, &x, NULL), 0);
	if (x.exited || x.signo != SIGKILL)
		fail_msg("%s was not reached (%d)", fault, x.code);
	buf_release(&out);
	buf_release(&err_out);
}

static void
what_a_dead_process_left_is_swept(void **state)
{
	static const char *const faults[] = {"workspace.locked", "workspace.made", "workspace.name_remembered", "workspace.filled",
	    "workspace.unmounted", "workspace.taken", "workspace.deleting", "workspace.mapped", "workspace.mounted", "workspace.mapped:2",
	    "workspace.mounted:2"}; /* the first time it is a trial */
	static const char *const methods[] = {"overlay", "copy"};
	struct place *p = *state;
	bool overlays = possible(p, WORKSPACE_OVERLAY);
	struct workspace live;
	struct err e = {0};

	assert_int_equal(open_run(p, "live", NULL, WORKSPACE_ISOLATED, WORKSPACE_COPY, &live, &e), 0);
	for (size_t i = 0; i < 2 * sizeof(faults) / sizeof(faults[0]); i++) {
		const char *method = methods[i % 2], *fault = faults[i / 2];
		bool mounting = strstr(fault, "mapped") != NULL || strstr(fault, "mounted") == fault + strlen("workspace.");
		int dir;

		if (mounting && (i % 2 == 1 || !overlays))
			continue; /* copies mount nothing */
		dir = open(p->cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		(void)unlink(under(p->cache_dir, "target/shared"));
		die_at(p, fault, method);
		workspaces_close(p->spaces, clock_mono_ms() + WAIT_MS);
		p->spaces = workspaces_open(p->cache_dir, WORKSPACE_COPY, &e);
		assert_non_null(p->spaces);
		/* Of what dies behind the run's back, the run itself may be done. */
		if (strcmp(fault, "workspace.deleting") != 0 && strcmp(fault, "workspace.unmounted") != 0)
			assert_int_equal(workspaces_swept(p->spaces), 1);
		assert_int_not_equal(faccessat(dir, "target/run", F_OK, 0), 0);
		assert_int_not_equal(faccessat(dir, "target/run.lock", F_OK, 0), 0);
		assert_true(holds(under(live.tree, "d/hello"), "hi")); /* its owner lives */
		assert_true(is_tidy(p));
		assert_true(cache_is_clean(p));
		close(dir);
	}
	p->spaces = workspaces_open(p->cache_dir, WORKSPACE_COPY, &e);
	assert_int_equal(workspace_close(p->spaces, &live, &e), 0);
	assert_int_equal(workspaces_swept(p->spaces), 0);
	assert_true(is_tidy(p));
	assert_true(cache_is_clean(p));
}

/* As after a reboot: locks and mounts are gone, files are not. And as left by a worker that shares our mounts: overlays are there. */
static void
mounts_of_the_dead_are_swept(void **state)
{
	struct place *p = *state;
	struct workspace ws;
	struct err e = {0};

	if (!possible(p, WORKSPACE_OVERLAY))
		return;
	for (int reboot = 0; reboot < 2; reboot++) {
		assert_int_equal(open_run(p, "run", NULL, WORKSPACE_ISOLATED, WORKSPACE_OVERLAY, &ws, &e), 0);
		assert_int_equal(use_as_run(&ws), 0);
		if (reboot) {
			assert_int_equal(umount2(ws.tree, 0), 0);
			assert_int_equal(umount2(under(ws.run_dir, "lower"), 0), 0);
		}
		close(ws.lock_fd);
		workspaces_close(p->spaces, clock_mono_ms() + WAIT_MS);
		p->spaces = workspaces_open(p->cache_dir, WORKSPACE_COPY, &e);
		assert_non_null(p->spaces);
		assert_int_equal(workspaces_swept(p->spaces), 1);
		assert_int_not_equal(access(under(p->cache_dir, "target"), F_OK), 0);
		assert_true(is_tidy(p));
		assert_true(cache_is_clean(p));
	}
}

int
main(int argc, char **argv)
{
#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		IN_PLACE(a_private_tree_is_the_runs_own), IN_PLACE(a_shared_tree_is_the_caches_own), IN_PLACE(names_stay_until_the_entry_goes), IN_PLACE(eviction_takes_the_names_with_it),
		IN_PLACE(a_single_file_gets_its_name), IN_PLACE(bad_ids_are_refused_and_a_run_is_unique), IN_PLACE(copies_keep_holes),
		IN_PLACE(many_runs_change_nothing), IN_PLACE(nothing_that_a_tool_leaves_stays), IN_PLACE(deleting_is_bounded),
		IN_PLACE(a_busy_tree_is_out_of_sight), IN_PLACE(an_overlay_keeps_its_tree_pinned),
		IN_PLACE(workers_do_not_hinder_each_other), IN_PLACE(a_full_disk_is_no_end), IN_PLACE(what_a_dead_process_left_is_swept),
		IN_PLACE(mounts_of_the_dead_are_swept),
	};
	int status = extract_helper_main(argc, argv);

	if (status < 0)
		status = child(argc, argv);
	if (status >= 0)
		return status;
	workspaces_own_mounts();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
