#include "tests/unit/workspace_rig.h"

#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>

#include "tests/unit/deny_call.h"

#define MANY_RUNS 1000

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

/* The options of what is mounted last at the path, "" if nothing is. */
static void
mount_options(const char *path, char *out, size_t len)
{
	struct buf b = buf_make(1 << 20);
	size_t n = strlen(path);

	out[0] = '\0';
	assert_int_equal(file_read(AT_FDCWD, "/proc/self/mountinfo", &b, NULL), 0);
	for (const char *line = buf_str(&b); line[0] != '\0'; line += strcspn(line, "\n") + 1) {
		const char *at = strstr(line, path);

		if (at != NULL && at[n] == ' ' && at < line + strcspn(line, "\n"))
			snprintf(out, len, "%.*s", (int)strcspn(at + n, "\n"), at + n);
	}
	buf_release(&b);
}

/* No program in a tree gives its user more, and no layer leads anywhere else. */
static void
an_overlay_is_harmless(void **state)
{
	static const char *const wanted[] = {"nosuid", "nodev", "redirect_dir=nofollow"};
	static const char *const unwanted[] = {"metacopy=on", "index=on", "redirect_dir=on"};
	struct place *p = *state;
	char options[4096];
	struct workspace ws;
	struct err e = {0};

	if (!possible(p, WORKSPACE_OVERLAY))
		skip();
	assert_int_equal(open_run(p, "run", NULL, WORKSPACE_ISOLATED, WORKSPACE_OVERLAY, &ws, &e), 0);
	mount_options(ws.tree, options, sizeof(options));
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (strstr(options, wanted[i]) == NULL)
			fail_msg("%s is not in %s", wanted[i], options);
	for (size_t i = 0; i < sizeof(unwanted) / sizeof(unwanted[0]); i++)
		assert_null(strstr(options, unwanted[i]));
	assert_int_equal(workspace_close(p->spaces, &ws, &e), 0);
}

/* In a child: what worked when it was tried does not work any more. 0 if a run has its tree all the same, by another way. */
static int
go_on_without_mounts(struct place *p)
{
	struct workspace_want want = {.target_id = "target", .run_id = "run", .pin = p->tree, .mode = WORKSPACE_ISOLATED, .uid = RUN_UID,
	    .gid = RUN_UID};
	struct err e = {0};
	struct workspaces *w = workspaces_open(p->cache_dir, WORKSPACE_OVERLAY, &e);
	struct workspace ws;

	if (w == NULL || workspaces_method(w) != WORKSPACE_OVERLAY || !deny_call(SYS_mount, EPERM))
		return 1;
	if (workspace_open(w, &want, &ws, &e) != 0)
		return 2;
	if (ws.method < WORKSPACE_REFLINK || !holds(under(ws.tree, "d/hello"), "hi") || use_as_run(&ws) != 0 || !cache_is_clean(p))
		return 3;
	if (workspace_close(w, &ws, &e) != 0)
		return 4;
	workspaces_close(w, clock_mono_ms() + WAIT_MS);
	return is_unmounted(p->cache_dir) ? 0 : 5; /* nor has the first half of the overlay stayed */
}

static void
an_overlay_that_fails_is_made_up_for(void **state)
{
	struct place *p = *state;
	int status;
	pid_t pid;

	if (!possible(p, WORKSPACE_OVERLAY))
		skip();
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(go_on_without_mounts(p));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static unsigned
mode_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? st.st_mode & 07777 : 0;
}

/* Other users of the machine, other runs' tools among them, come neither to a run's directory nor into what is in it. */
static void
a_runs_directories_are_its_own(void **state)
{
	struct place *p = *state;
	struct workspace ws;
	struct err e = {0};

	for (enum workspace_mode mode = WORKSPACE_ISOLATED; mode <= WORKSPACE_COPY_ON_WRITE; mode++) {
		assert_int_equal(open_run(p, "run", NULL, mode, WORKSPACE_COPY, &ws, &e), 0);
		assert_int_equal(mode_of(p->cache_dir), 0700);
		assert_int_equal(mode_of(under(p->cache_dir, "target")), 0700);
		assert_int_equal(mode_of(under(p->cache_dir, "target/run")), 0700);
		assert_int_equal(mode_of(ws.out), 0700);
		assert_int_equal(mode_of(ws.scratch), 0700);
		assert_int_equal(workspace_close(p->spaces, &ws, &e), 0);
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

static void *
let_go(void *arg)
{
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL); /* long enough for one that does not wait to fail */
	close(*(int *)arg);
	return NULL;
}

/* A worker that starts on the same machine looks whether the run is one that somebody died over. */
static void
a_sweep_that_has_the_lock_is_waited_for(void **state)
{
	struct place *p = *state;
	struct workspace ws;
	struct err e = {0};
	pthread_t sweep;
	int fd;

	assert_int_equal(mkdir(under(p->cache_dir, "target"), 0700), 0);
	fd = file_lock(under(p->cache_dir, "target/run.lock"), &e);
	assert_true(fd >= 0);
	assert_int_equal(pthread_create(&sweep, NULL, let_go, &fd), 0);
	assert_int_equal(open_run(p, "run", NULL, WORKSPACE_ISOLATED, WORKSPACE_COPY, &ws, &e), 0);
	assert_int_equal(pthread_join(sweep, NULL), 0);
	assert_int_equal(workspace_close(p->spaces, &ws, &e), 0);
	assert_true(is_tidy(p));
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
	static const char *const bad[] = {"", ".", "..", "a/b", ".hidden", "objects", "tmp", "ended", "workspace", "shared",
		"a.lock", "a b"};
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
	struct workspace_want want = {.target_id = "target", .run_id = "run", .pin = p->tree, .mode = WORKSPACE_COPY_ON_WRITE,
	    .uid = RUN_UID, .gid = RUN_UID};
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

/* --- modes that a tool of our own user has changed --- */

/* Mounts a file system that does not tell in its listings what a name is. */
static bool
mount_untyped(const struct place *p, const char *dir)
{
	char script[400];
	const char *argv[] = {"sh", "-c", script, NULL};
	struct proc_spec spec = {.argv = argv, .fds = {-1, -1, -1, -1}};
	struct proc_exit x = {0};

	snprintf(script, sizeof(script), "truncate -s 16M %s/image && mkfs.ext4 -q -O ^filetype %s/image && mount -o loop %s/image %s", p->dir,
	    p->dir, p->dir, dir);
	return geteuid() == 0 && proc_run(&spec, 30000, NULL, NULL, &x, NULL) == 0 && x.exited && x.code == 0;
}

/* Where tools could have shut a part of a shared tree, the run that saw less of it is told, however deep it lies. */
static void
what_was_shut_is_found(void **state)
{
	struct place *p = *state, other = {0};

	for (int untyped = 0; untyped < 2; untyped++) {
		struct place *at = untyped ? &other : p;
		struct workspace_want want = {.target_id = "target", .run_id = "run", .mode = WORKSPACE_SHARED, .uid = RUN_UID,
		    .gid = RUN_UID};
		struct workspace ws;
		struct err e = {0};

		if (untyped) {
			assert_int_equal(mkdir(under(p->dir, "untyped"), 0755), 0);
			snprintf(other.dir, sizeof(other.dir), "%.50s/untyped", p->dir);
			if (!mount_untyped(p, other.dir)) {
				print_message("NOT TESTED: a file system without types in its listings (needs root, mkfs.ext4 and a loop device)\n");
				return;
			}
			assert_int_equal(open_place(&other, other.dir, &e), 0);
		}
		at->spaces = workspaces_open(at->cache_dir, WORKSPACE_COPY, &e);
		assert_non_null(at->spaces);
		workspaces_confined(at->spaces, false, false);
		want.pin = at->tree;
		assert_int_equal(workspace_open(at->spaces, &want, &ws, &e), 0);
		assert_int_equal(workspace_check(at->spaces, &ws, &e), 0);
		assert_int_equal(chmod(under(ws.source, "d/hello"), 0), 0);
		assert_int_equal(workspace_check(at->spaces, &ws, &e), ERR_RETRY);
		assert_int_equal(workspace_check(at->spaces, &ws, &e), 0);
		assert_int_equal(workspace_close(at->spaces, &ws, &e), 0);
	}
	assert_true(is_tidy(&other));
	cache_release(other.tree);
	cache_release(other.blob);
	cache_close(other.cache);
	store_free(other.store);
	assert_int_equal(umount(other.dir), 0);
}

/* --- a full disk --- */

/* A copy may take minutes: who is canceled, or has to leave, does not wait for it. */
static void
copying_can_be_stopped(void **state)
{
	static const char *const names[] = {NULL, "file"}; /* of a tree, of one file */
	struct place *p = *state;
	atomic_bool stop = true;
	struct workspace ws;
	struct err e = {0};

	p->spaces = workspaces_open(p->cache_dir, WORKSPACE_COPY, &e);
	assert_non_null(p->spaces);
	for (size_t i = 0; i < 2; i++) {
		struct workspace_want want = {.target_id = "target", .run_id = "run", .pin = i == 0 ? p->tree : p->blob,
		    .file_name = names[i], .mode = WORKSPACE_ISOLATED, .uid = RUN_UID, .gid = RUN_UID, .stop = &stop};

		assert_int_equal(workspace_open(p->spaces, &want, &ws, &e), ERR_CANCELED);
		assert_int_not_equal(access(under(p->cache_dir, "target"), F_OK), 0);
	}
	assert_true(is_tidy(p));
}

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

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		IN_PLACE(a_private_tree_is_the_runs_own), IN_PLACE(a_shared_tree_is_the_caches_own),
		IN_PLACE(a_runs_directories_are_its_own), IN_PLACE(an_overlay_is_harmless), IN_PLACE(an_overlay_that_fails_is_made_up_for),
		IN_PLACE(names_stay_until_the_entry_goes), IN_PLACE(eviction_takes_the_names_with_it),
		IN_PLACE(a_sweep_that_has_the_lock_is_waited_for), IN_PLACE(a_single_file_gets_its_name),
		IN_PLACE(bad_ids_are_refused_and_a_run_is_unique), IN_PLACE(copies_keep_holes), IN_PLACE(copying_can_be_stopped),
		IN_PLACE(many_runs_change_nothing), IN_PLACE(nothing_that_a_tool_leaves_stays), IN_PLACE(deleting_is_bounded),
		IN_PLACE(a_busy_tree_is_out_of_sight), IN_PLACE(an_overlay_keeps_its_tree_pinned),
		IN_PLACE(what_was_shut_is_found), IN_PLACE(a_full_disk_is_no_end),
	};
	int status = extract_helper_main(argc, argv);

	if (status >= 0)
		return status;
	workspaces_own_mounts();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
