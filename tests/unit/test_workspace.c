#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "storage/workspace.h"

#define RUN_UID 23456u
#define CHILD_FLAG "--open" /* DIR SHA METHOD: opens a workspace under DROVER_FAULT and waits */
#define TAR_BYTES 3072

struct place {
	char dir[64], cache_dir[80], store_dir[80], sha[SHA256_HEX_LEN];
	struct object_store *store;
	struct cache *cache;
	struct cache_pin *tree, *blob;
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
	return open_place(p, p->dir, &e);
}

static int
teardown(void **state)
{
	struct place *p = *state;

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
	struct stat st;

	return holds(under(cache_pin_tree(p->tree), "d/hello"), "hi") && lstat(under(cache_pin_tree(p->tree), "link"), &st) == 0 &&
	    access(under(cache_pin_tree(p->tree), "d/new"), F_OK) != 0;
}

static void
a_private_tree_is_the_runs_own(void **state)
{
	static const enum workspace_method methods[] = {WORKSPACE_OVERLAY, WORKSPACE_REFLINK, WORKSPACE_COPY};
	struct place *p = *state;

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		struct workspace ws;
		struct stat st;
		struct err e = {0};

		if (methods[i] == WORKSPACE_OVERLAY && workspace_probe(p->cache_dir) != WORKSPACE_OVERLAY)
			continue; /* not root, or a kernel without it */
		assert_int_equal(workspace_open(p->cache_dir, "target", "run-1", p->tree, NULL, WORKSPACE_ISOLATED, methods[i],
		    RUN_UID, RUN_UID, &ws, &e), 0);
		assert_int_equal(ws.method, methods[i]);
		assert_false(ws.read_only);
		assert_true(holds(under(ws.tree, "d/hello"), "hi"));
		assert_int_equal(stat(under(ws.tree, "d/hello"), &st), 0);
		assert_int_equal(st.st_uid, geteuid() == 0 ? RUN_UID : geteuid());
		assert_int_equal(st.st_mtime, 1000000000);
		assert_int_equal(st.st_mode & 07777, 0755);
		assert_int_equal(use_as_run(&ws), 0);
		assert_true(holds(under(ws.tree, "d/hello"), "changed"));
		assert_true(cache_is_clean(p));
		assert_int_equal(workspace_close(&ws, &e), 0);
		assert_int_equal(workspace_close(&ws, &e), 0); /* again is fine */
		assert_int_not_equal(access(under(p->cache_dir, "target"), F_OK), 0);
		assert_true(cache_is_clean(p));
	}
}

static void
a_shared_tree_is_the_caches_own(void **state)
{
	struct place *p = *state;
	struct workspace a, b;
	struct err e = {0};

	assert_int_equal(workspace_open(p->cache_dir, "target", "run-1", p->tree, NULL, WORKSPACE_SHARED, WORKSPACE_COPY, RUN_UID,
	    RUN_UID, &a, &e), 0);
	assert_int_equal(workspace_open(p->cache_dir, "target", "run-2", p->tree, NULL, WORKSPACE_SHARED, WORKSPACE_OVERLAY,
	    RUN_UID, RUN_UID, &b, &e), 0);
	assert_true(a.read_only && b.read_only);
	assert_string_equal(a.tree, cache_pin_tree(p->tree));
	assert_int_equal(a.method, WORKSPACE_DIRECT);
	assert_string_not_equal(a.scratch, b.scratch);
	assert_int_equal(access(b.out, F_OK), 0);
	assert_int_equal(workspace_close(&a, &e), 0);
	assert_int_equal(access(b.out, F_OK), 0);
	assert_int_equal(workspace_close(&b, &e), 0);
	assert_true(cache_is_clean(p));
}

static void
a_single_file_gets_its_name(void **state)
{
	static const char *const bad[] = {"", ".", "..", "a/b", "a\nb", NULL};
	struct place *p = *state;
	struct workspace ws;
	struct stat st;
	struct err e = {0};

	assert_int_equal(workspace_open(p->cache_dir, "target", "run-1", p->blob, "app.apk", WORKSPACE_COPY_ON_WRITE,
	    WORKSPACE_OVERLAY, RUN_UID, RUN_UID, &ws, &e), 0);
	assert_int_equal(stat(under(ws.tree, "app.apk"), &st), 0);
	assert_int_equal(st.st_size, TAR_BYTES);
	assert_int_equal(st.st_nlink, 1);
	assert_int_equal(workspace_close(&ws, &e), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(workspace_open(p->cache_dir, "target", "run-1", p->blob, bad[i], WORKSPACE_ISOLATED, WORKSPACE_COPY,
		    RUN_UID, RUN_UID, &ws, &e), ERR_INVALID);
}

static void
bad_ids_are_refused_and_a_run_is_unique(void **state)
{
	static const char *const bad[] = {"", ".", "..", "a/b", ".hidden", "objects", "tmp", "workspace", "a.lock", "a b"};
	struct place *p = *state;
	struct workspace ws, again;
	struct err e = {0};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(workspace_open(p->cache_dir, bad[i], "run", p->tree, NULL, WORKSPACE_ISOLATED, WORKSPACE_COPY, 0, 0,
		    &ws, &e), ERR_INVALID);
		assert_int_equal(workspace_open(p->cache_dir, "target", bad[i], p->tree, NULL, WORKSPACE_ISOLATED, WORKSPACE_COPY, 0,
		    0, &ws, &e), ERR_INVALID);
	}
	assert_int_equal(workspace_open(p->cache_dir, "target", "run", p->tree, NULL, WORKSPACE_ISOLATED, WORKSPACE_COPY, 0, 0, &ws,
	    &e), 0);
	assert_int_equal(workspace_open(p->cache_dir, "target", "run", p->tree, NULL, WORKSPACE_ISOLATED, WORKSPACE_COPY, 0, 0,
	    &again, &e), ERR_CONFLICT);
	assert_int_equal(workspace_close(&ws, &e), 0);
}

static void
copies_keep_holes(void **state)
{
	struct place *p = *state;
	struct workspace ws;
	struct stat st;
	struct err e = {0};
	int fd = open(cache_pin_blob(p->blob), O_RDONLY | O_CLOEXEC);

	/* A hole of 64 MiB behind the blob; root may write what is 0444. */
	assert_int_equal(chmod(cache_pin_blob(p->blob), 0644), 0);
	assert_int_equal(truncate(cache_pin_blob(p->blob), 64 << 20), 0);
	assert_int_equal(workspace_open(p->cache_dir, "target", "run", p->blob, "f", WORKSPACE_ISOLATED, WORKSPACE_COPY, 0, 0, &ws,
	    &e), 0);
	assert_int_equal(stat(under(ws.tree, "f"), &st), 0);
	assert_int_equal(st.st_size, 64 << 20);
	assert_true(st.st_blocks * 512 < 1 << 20);
	assert_int_equal(workspace_close(&ws, &e), 0);
	close(fd);
}

/* --- death in the middle --- */

static int
child(int argc, char **argv)
{
	struct place p = {0};
	struct workspace ws;
	struct err e = {0};

	if (argc != 5 || strcmp(argv[1], CHILD_FLAG) != 0)
		return -1;
	snprintf(p.sha, sizeof(p.sha), "%s", argv[3]);
	if (open_place(&p, argv[2], &e) != 0)
		return 10;
	if (workspace_open(p.cache_dir, "target", "run", p.tree, NULL, WORKSPACE_ISOLATED,
	    strcmp(argv[4], "overlay") == 0 ? WORKSPACE_OVERLAY : WORKSPACE_COPY, RUN_UID, RUN_UID, &ws, &e) != 0)
		return 11;
	return workspace_close(&ws, &e) == 0 ? 0 : 12;
}

static void
what_a_dead_process_left_is_swept(void **state)
{
	static const char *const faults[] = {"workspace.locked", "workspace.made", "workspace.filled", "workspace.unmounted"};
	struct place *p = *state;
	const char *method = workspace_method_word(workspace_probe(p->cache_dir));
	struct workspace live;
	struct err e = {0};

	assert_int_equal(workspace_open(p->cache_dir, "target", "live", p->tree, NULL, WORKSPACE_ISOLATED, WORKSPACE_COPY, RUN_UID,
	    RUN_UID, &live, &e), 0);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		char env[64];
		const char *argv[] = {"/proc/self/exe", CHILD_FLAG, p->dir, p->sha, method, NULL}, *envp[] = {env, NULL};
		struct proc_spec spec = {.argv = argv, .env = envp, .fds = {-1, 1, 2, -1}};
		struct buf out = buf_make(4096), err_out = buf_make(4096);
		struct proc_exit x = {0};

		snprintf(env, sizeof(env), "DROVER_FAULT=%s", faults[i]);
		assert_int_equal(proc_run(&spec, 30000, &out, &err_out, &x, NULL), 0);
		assert_true(!x.exited && x.signo == SIGKILL);
		buf_release(&out);
		buf_release(&err_out);
		assert_int_equal(access(under(p->cache_dir, "target/run.lock"), F_OK), 0);
		assert_int_equal(workspace_sweep(p->cache_dir, &e), 1);
		assert_int_not_equal(access(under(p->cache_dir, "target/run"), F_OK), 0);
		assert_int_not_equal(access(under(p->cache_dir, "target/run.lock"), F_OK), 0);
		assert_true(holds(under(live.tree, "d/hello"), "hi")); /* its owner lives */
	}
	assert_int_equal(workspace_close(&live, &e), 0);
	assert_int_equal(workspace_sweep(p->cache_dir, &e), 0);
	assert_true(cache_is_clean(p));
}

int
main(int argc, char **argv)
{
#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		IN_PLACE(a_private_tree_is_the_runs_own), IN_PLACE(a_shared_tree_is_the_caches_own),
		IN_PLACE(a_single_file_gets_its_name), IN_PLACE(bad_ids_are_refused_and_a_run_is_unique), IN_PLACE(copies_keep_holes),
		IN_PLACE(what_a_dead_process_left_is_swept),
	};
	int status = extract_helper_main(argc, argv);

	if (status < 0)
		status = child(argc, argv);
	return status >= 0 ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
