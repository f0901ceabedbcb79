/* A hostile tool in a run's workspace, by every method and on every rung: it tries all it knows to change the cache's tree or to
 * reach another run's, then leaves what is hard to delete. Nothing of the cached tree may have changed, not even a time, and
 * nothing of the run may stay. This program puts itself where the sandbox shows a toolchain. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <sys/mount.h>
#include <sys/sendfile.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "storage/workspace.h"
#include "tests/unit/sandbox_rig.h"
#include "tests/unit/tree_digest.h"
#include "tests/unit/workspace_attacks.h"

#define UID_BASE 64000u
#define WAIT_MS 30000

static enum workspace_method method;
static char cache_dir[300], sha[SHA256_HEX_LEN];
static int exe_fd; /* of this program */
static struct object_store *store;
static struct cache *cache;
static struct cache_pin *tree, *blob;
static struct workspaces *spaces;

static bool
own_root(void)
{
	return caps.rung == RUNG_USER || caps.rung == RUNG_ROOT;
}

/* --- one run --- */

static int
open_run(const char *run, enum workspace_mode mode, bool file, struct workspace *ws)
{
	struct workspace_want want = {.target_id = "target", .run_id = run, .pin = file ? blob : tree, .file_name = file ? "hello" : NULL,
	    .mode = mode, .uid = UID_BASE + 1, .gid = UID_BASE};
	struct err e = {0};
	int rc = workspace_open(spaces, &want, ws, &e);

	if (rc != 0)
		fail_msg("%s", e.msg);
	return rc;
}

/* Runs an attack in the workspace as a step would; what it said in said. Returns its exit code. */
static int
attack(const struct workspace *ws, const char *name, const char *victim, char *said, size_t said_len)
{
	char target[700], out[700], cached[700], other[700], dir[700];
	bool userns = ws->method == WORKSPACE_OVERLAY_USERNS;
	const char *const argv[] = {at("toolchain/attack"), "attack", name, NULL};
	const char *const env[] = {"PATH=/usr/bin:/bin", target, out, cached, other, dir, NULL};
	struct sandbox_spec spec = {.caps = &caps, .name = "attack", .argv = argv, .env = env,
	    .paths = {.target = ws->source, .file = ws->file, .file_name = "hello", .target_read_only = ws->read_only,
	        .lower = userns ? ws->lower : NULL, .upper = userns ? ws->upper : NULL, .work = userns ? ws->work : NULL, .out = ws->out,
	        .scratch = ws->scratch, .workflow = at("workflow"), .params = at("params.json"), .toolchain = at("toolchain")},
	    .limits = {.memory_bytes = 128 << 20, .cpu_millis = 1000, .processes = 48, .open_files = 256, .grace_ms = 200,
	        .file_bytes = 64 << 20},
	    .uid = UID_BASE + 1, .gid = UID_BASE, .progress_fd = -1};
	struct sandbox *s = NULL;
	struct sandbox_end end = {0};
	struct err e = {0};
	size_t len = 0;
	ssize_t n;
	int p[2], rc;

	snprintf(target, sizeof(target), "TARGET_DIR=%s", sandbox_inside(&caps, SANDBOX_TARGET, ws->tree));
	snprintf(out, sizeof(out), "OUT=%s", sandbox_inside(&caps, SANDBOX_OUT, ws->out));
	snprintf(cached, sizeof(cached), "CACHED=%s", cache_pin_tree(tree));
	snprintf(other, sizeof(other), "OTHER=%s", victim);
	snprintf(dir, sizeof(dir), "CACHE=%s", cache_dir);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	spec.out_fd = spec.err_fd = p[1];
	rc = sandbox_start(&spec, &s, &e);
	close(p[1]);
	if (rc == 0)
		rc = sandbox_wait(s, clock_mono_ms() + WAIT_MS, &end, &e);
	if (rc != 0)
		fail_msg("%s: %s", name, e.msg);
	while (len < said_len - 1 && (n = read(p[0], said + len, said_len - 1 - len)) > 0)
		len += (size_t)n;
	said[len] = '\0';
	close(p[0]);
	sandbox_free(s);
	return end.exited ? end.code : 1000 + end.signo;
}

static void
refused(const struct workspace *ws, const char *name, const char *victim)
{
	char said[4096];
	int code = attack(ws, name, victim, said, sizeof(said));

	if (code != 0)
		fail_msg("%s, %s: %d: %s", workspace_mode_word(ws->mode), name, code, said);
}

/* What may never change. Without mounts of its own (rung 2) a tool is the owner of the cache's files: Landlock has no rule for
 * modes, times and attributes, so there it is the names and bytes. */
static const char *
state_of_cache(char out[SHA256_HEX_LEN])
{
	return own_root() ? tree_digest(cache_pin_tree(tree), out) : tree_bytes_digest(cache_pin_tree(tree), out);
}

static void
attack_all(enum workspace_mode mode, const char *other, const char *before)
{
	static const char *const names[][3] = {[WORKSPACE_ISOLATED] = {"private_tree", "elsewhere", "leave_traps"},
	    [WORKSPACE_SHARED] = {"shared_tree", "elsewhere", "leave_traps"},
	    [WORKSPACE_COPY_ON_WRITE] = {"private_tree", "elsewhere", "leave_traps"}};
	char after[SHA256_HEX_LEN];
	struct workspace ws;
	struct err e = {0};

	open_run("run", mode, false, &ws);
	if (mode != WORKSPACE_SHARED)
		assert_int_equal(ws.method, method);
	for (size_t i = 0; i < 3; i++) {
		refused(&ws, names[mode][i], other);
		/* What it has shut there is open again for the next; a run that was looking at it meanwhile is told. */
		if (!own_root() && mode == WORKSPACE_SHARED && i == 2) {
			assert_int_equal(workspace_check(spaces, &ws, &e), ERR_RETRY);
			assert_int_equal(chmod(at("cache/target/workspace/deep"), 0), 0);
			continue;
		}
		assert_int_equal(workspace_check(spaces, &ws, &e), 0);
		assert_string_equal(state_of_cache(after), before);
	}
	assert_int_equal(workspace_close(spaces, &ws, &e), 0);
	/* The next run finds the target as it was. */
	open_run("next", mode, false, &ws);
	refused(&ws, "as_new", other);
	assert_int_equal(workspace_close(spaces, &ws, &e), 0);
	assert_string_equal(state_of_cache(after), before);
}

static void
the_cache_never_changes(void **state)
{
	static const enum workspace_mode modes[] = {WORKSPACE_SHARED, WORKSPACE_COPY_ON_WRITE, WORKSPACE_ISOLATED};
	char before[SHA256_HEX_LEN];
	struct workspace other;
	struct err e = {0};

	(void)state;
	state_of_cache(before);
	open_run("other", WORKSPACE_ISOLATED, false, &other);
	for (size_t i = 0; i < 3; i++)
		attack_all(modes[i], other.tree, before);
	assert_int_equal(workspace_close(spaces, &other, &e), 0);
}

/* Two steps of a run: the second finds what the first has written, and neither finds a way around the layers. */
static void
steps_share_their_tree(void **state)
{
	char before[SHA256_HEX_LEN], after[SHA256_HEX_LEN];
	struct workspace ws;
	struct err e = {0};

	(void)state;
	state_of_cache(before);
	open_run("run", WORKSPACE_COPY_ON_WRITE, false, &ws);
	refused(&ws, "layer_tricks", "");
	refused(&ws, "after_layer_tricks", "");
	refused(&ws, "after_layer_tricks", "");
	assert_int_equal(workspace_close(spaces, &ws, &e), 0);
	assert_string_equal(state_of_cache(after), before);
}

/* A single file: shared it is the cache's own, else a copy. */
static void
a_single_file_is_as_safe(void **state)
{
	char before[SHA256_HEX_LEN], after[SHA256_HEX_LEN], dir[400];
	struct workspace ws;
	struct err e = {0};

	(void)state;
	snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(cache_pin_blob(blob), '/') - cache_pin_blob(blob)), cache_pin_blob(blob));
	if (!own_root())
		return; /* the attacks change modes, which Landlock allows there */
	tree_digest(dir, before);
	open_run("run", WORKSPACE_SHARED, true, &ws);
	refused(&ws, "shared_file", "");
	assert_int_equal(workspace_close(spaces, &ws, &e), 0);
	open_run("run", WORKSPACE_ISOLATED, true, &ws);
	refused(&ws, "private_file", "");
	assert_int_equal(workspace_close(spaces, &ws, &e), 0);
	assert_string_equal(tree_digest(dir, after), before);
}

static void
nothing_stays(void **state)
{
	struct buf b = buf_make(1 << 20);

	(void)state;
	workspaces_close(spaces, clock_mono_ms() + WAIT_MS);
	spaces = NULL;
	assert_int_equal(rmdir(at("cache/ended")), 0);
	assert_int_equal(unlink(at("cache/target/workspace")) | unlink(at("cache/target/shared")) | rmdir(at("cache/target")), 0);
	assert_int_equal(file_read(AT_FDCWD, "/proc/self/mountinfo", &b, NULL), 0);
	assert_null(strstr(buf_str(&b), cache_dir));
	buf_release(&b);
}

/* --- the place --- */

/* The tree "d/hello", "d/run" (a program), "link", "deep/er/file", as an archive in the store and unpacked in the cache. */
static void
fill_cache(void)
{
	struct cache_config c = {.dir = cache_dir, .max_bytes = 1 << 30, .ttl_ms = 600000, .uid = geteuid() == 0 ? UID_BASE : geteuid(),
	    .gid = geteuid() == 0 ? UID_BASE : getegid(), .limits = extract_limits_default()};
	struct cache_want w = {.bucket = "targets", .key = "o", .tree = true};
	const char *const argv[] = {"/usr/bin/tar", "-cf", "-", "-C", at("source"), ".", NULL}, *const env[] = {"PATH=/usr/bin:/bin", NULL};
	struct proc_spec spec = {.argv = argv, .env = env, .fds = {-1, 1, 2, -1}};
	struct buf tar = buf_make(1 << 20), said = buf_make(4096);
	uint8_t digest[SHA256_LEN];
	struct proc_exit x = {0};
	struct err e = {0};

	assert_int_equal(mkdir(at("source"), 0755) | mkdir(at("source/d"), 0755) | mkdir(at("source/deep"), 0755), 0);
	put(at("source/d/hello"), "hello");
	put(at("source/d/run"), "#!/bin/sh\nexit 0\n");
	put(at("source/deep/file"), "deep");
	assert_int_equal(chmod(at("source/d/run"), 0755) | symlink("d/hello", at("source/link")), 0);
	assert_int_equal(proc_run(&spec, WAIT_MS, &tar, &said, &x, &e), 0);
	assert_true(x.exited && x.code == 0);
	sha256_of(tar.data, tar.len, digest);
	hex_encode(digest, sizeof(digest), sha);
	store = store_dir_new(at("store"), &e);
	cache = cache_open(&c, &e);
	if (store == NULL || cache == NULL)
		fail_msg("%s", e.msg);
	assert_int_equal(store_ensure_bucket(store, "targets", &e), 0);
	assert_int_equal(store_put_bytes(store, "targets", "o", tar.data, tar.len, NULL, NULL, &e), 0);
	w.store = store;
	w.sha256 = sha;
	w.size_bytes = (int64_t)tar.len;
	if (cache_get(cache, &w, NULL, &tree, &e) != 0)
		fail_msg("%s", e.msg);
	w.tree = false;
	assert_int_equal(cache_get(cache, &w, NULL, &blob, &e), 0);
	buf_release(&tar);
	buf_release(&said);
}

static int
set_up(void **state)
{
	static const char *const dirs[] = {"workflow", "toolchain"};
	struct err e = {0};
	int fd;

	(void)state;
	snprintf(cache_dir, sizeof(cache_dir), "%s/cache", base);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(mkdir(at(dirs[i]), 0755), 0);
	put(at("params.json"), "{}");
	fd = open(at("toolchain/attack"), O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	assert_true(fd >= 0);
	assert_int_equal(lseek(exe_fd, 0, SEEK_SET), 0);
	while (sendfile(fd, exe_fd, NULL, 1 << 20) > 0)
		;
	close(fd);
	fill_cache();
	spaces = workspaces_open(cache_dir, method, &e);
	if (spaces == NULL)
		fail_msg("%s", e.msg);
	workspaces_confined(spaces, own_root(), caps.rung == RUNG_USER);
	assert_int_equal(workspaces_method(spaces), method);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	workspaces_close(spaces, clock_mono_ms() + WAIT_MS);
	cache_release(tree);
	cache_release(blob);
	cache_close(cache);
	store_free(store);
	return 0;
}

/* --- file systems, rungs and methods --- */

static int
suite(const char *name)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_cache_never_changes), cmocka_unit_test(steps_share_their_tree),
		cmocka_unit_test(a_single_file_is_as_safe), cmocka_unit_test(nothing_stays),
	};

	printf("--- %s: rung %d, method %s %s\n", name, (int)caps.rung, workspace_method_word(method), caps.why);
	return _cmocka_run_group_tests(name, tests, sizeof(tests) / sizeof(tests[0]), set_up, tear_down);
}

/* One suite in a process of its own, in a new directory below `in`; as nobody unless root. */
static int
run_suite(const char *name, const char *in, enum sandbox_rung rung, enum workspace_method by)
{
	int status = 0;
	pid_t pid;

	snprintf(base, sizeof(base), "%s/attacks-XXXXXX", in);
	if (mkdtemp(base) == NULL || chmod(base, 0711) != 0)
		return 1;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		if (rung != RUNG_ROOT && ((geteuid() == 0 && chown(base, NOBODY, NOBODY) != 0) || !become_nobody()))
			_exit(99);
		probe_for(rung);
		method = by;
		exit(caps.rung != rung ? 98 : suite(name));
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		printf("%s: %d\n", name, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
		return 1;
	}
	return file_remove_tree(AT_FDCWD, base, NULL) != 0;
}

/* A small file system of the kind on a loop device; false where that cannot be had. */
static bool
mount_kind(const char *dir, const char *kind)
{
	char script[900];
	const char *const argv[] = {"/bin/sh", "-c", script, NULL}, *const env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	struct proc_spec spec = {.argv = argv, .env = env, .fds = {-1, 1, 2, -1}};
	struct buf out = buf_make(4096), err_out = buf_make(4096);
	struct proc_exit x = {0};
	bool ok;

	snprintf(script, sizeof(script), "cd '%s' && k=%s && mkdir $k && truncate -s 400M $k.img && mkfs.$k -q $k.img && mount -o loop $k.img $k && "
	    "chmod 0777 $k", dir, kind);
	ok = geteuid() == 0 && proc_run(&spec, 60000, &out, &err_out, &x, NULL) == 0 && x.exited && x.code == 0;
	buf_release(&out);
	buf_release(&err_out);
	return ok;
}

static int
on_file_systems_that_share_blocks(const char *top)
{
	static const char *const kinds[] = {"xfs", "btrfs"};
	char dir[300];
	int bad = 0;

	for (size_t i = 0; i < 2; i++) {
		if (!mount_kind(top, kinds[i])) {
			printf("--- no %s here: skipped\n", kinds[i]);
			continue;
		}
		snprintf(dir, sizeof(dir), "%s/%s", top, kinds[i]);
		bad += run_suite(kinds[i], dir, RUNG_ROOT, WORKSPACE_REFLINK);
		bad += run_suite(kinds[i], dir, RUNG_ROOT, WORKSPACE_OVERLAY);
		bad += run_suite(kinds[i], dir, RUNG_USER, WORKSPACE_REFLINK);
		bad += umount2(dir, MNT_DETACH) != 0;
	}
	return bad;
}

int
main(int argc, char **argv)
{
	int rc = extract_helper_main(argc, argv), bad = 0;
	char top[256];
	struct err e;

	if (rc < 0)
		rc = sandbox_helper_main(argc, argv);
	if (rc < 0 && (rc = attack_main(argc, argv)) >= 0)
		_exit(rc); /* a sanitizer's leak check needs calls that the sandbox denies */
	if (rc >= 0)
		return rc;
	workspaces_own_mounts();
	exe_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (file_temp_dir("drover-attacks", top, sizeof(top), &e) != 0 || chmod(top, 0711) != 0)
		return 1;
	if (geteuid() == 0) {
		bad += run_suite("as root", top, RUNG_ROOT, WORKSPACE_OVERLAY);
		bad += run_suite("as root", top, RUNG_ROOT, WORKSPACE_COPY);
		bad += on_file_systems_that_share_blocks(top);
	}
	bad += run_suite("as a plain user", top, RUNG_USER, WORKSPACE_OVERLAY_USERNS);
	bad += run_suite("as a plain user", top, RUNG_USER, WORKSPACE_COPY);
	bad += run_suite("as in a container", top, RUNG_CONTAINER, WORKSPACE_COPY);
	bad += file_remove_tree(AT_FDCWD, top, NULL) != 0;
	return bad;
}
