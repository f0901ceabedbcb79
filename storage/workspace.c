/* A run's directories. The lock file <run>.lock beside them is held for as long as they are in use; who can take it may remove
 * them. Order: lock, make, use, remove, unlink the lock: a crash leaves only what the sweep finds. */
#include "storage/workspace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "storage/workspace_parts.h"

#define NAME_MAX_BYTES 128
#define TRIES 8 /* against a sweep that removes the same directory at the same time */
#define SHARED_NAME "workspace"
#define LOCK_SUFFIX ".lock"

static const char *const method_words[] = {
	[WORKSPACE_OVERLAY] = "overlay", [WORKSPACE_OVERLAY_USERNS] = "overlay-userns", [WORKSPACE_REFLINK] = "reflink",
	[WORKSPACE_COPY] = "copy", [WORKSPACE_DIRECT] = "direct",
};

const char *
workspace_method_word(enum workspace_method m)
{
	return method_words[m];
}

enum workspace_method
workspace_probe(const char *cache_dir)
{
	int fd;
	bool reflink;

	if (overlay_works(cache_dir))
		return WORKSPACE_OVERLAY;
	if (geteuid() != 0 && overlay_userns_works(cache_dir))
		return WORKSPACE_OVERLAY_USERNS;
	fd = open(cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	reflink = fd >= 0 && copy_reflink_works(fd);
	if (fd >= 0)
		close(fd);
	return reflink ? WORKSPACE_REFLINK : WORKSPACE_COPY;
}

/* --- names --- */

/* Target and run ids become directories of the cache. */
static bool
id_valid(const char *s)
{
	static const char *const taken[] = {"objects", "locks", "tmp", "trash", SHARED_NAME};
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	if (n == 0 || n > NAME_MAX_BYTES || s[n] != '\0' || s[0] == '.')
		return false;
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		if (strcmp(s, taken[i]) == 0)
			return false;
	n = strlen(s);
	return n <= strlen(LOCK_SUFFIX) || strcmp(s + n - strlen(LOCK_SUFFIX), LOCK_SUFFIX) != 0;
}

static bool
file_name_valid(const char *s)
{
	if (s == NULL || s[0] == '\0' || strlen(s) > 255 || strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
		return false;
	for (; *s != '\0'; s++)
		if (*s == '/' || (unsigned char)*s < 0x20 || *s == 0x7f)
			return false;
	return true;
}

static int
name_paths(struct workspace *ws, const char *cache_dir, const char *target_id, const char *run_id, struct err *e)
{
	const struct {
		char *out;
		const char *name;
	} rows[] = {{ws->tree, "workspace"}, {ws->out, "out"}, {ws->scratch, "scratch"}, {ws->upper, "upper"}, {ws->work, "work"}};
	int n = snprintf(ws->run_dir, sizeof(ws->run_dir), "%s/%s/%s", cache_dir, target_id, run_id);

	if (n < 0 || n >= (int)sizeof(ws->run_dir))
		return err_set(e, ERR_INVALID, "the path of the cache directory is too long");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		snprintf(rows[i].out, sizeof(ws->tree), "%s/%s", ws->run_dir, rows[i].name);
	return 0;
}

/* --- removal --- */

/* Unmounts and removes <run> below the directory of its target. The caller holds the run's lock. */
static int
remove_run(const char *run_dir, struct err *e)
{
	static const char *const mounts[] = {"workspace", "lower"};
	char path[660];
	const char *name = strrchr(run_dir, '/') + 1;
	int fd, rc;

	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", run_dir, mounts[i]);
		if (!unmount_all(path))
			return err_set(e, ERR_IO, "unmount %s: %s", path, strerror(errno));
	}
	fault_point("workspace.unmounted");
	snprintf(path, sizeof(path), "%.*s", (int)(name - run_dir), run_dir);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_set(e, ERR_IO, "open %s: %s", path, strerror(errno));
	rc = file_remove_tree(fd, name, e);
	close(fd);
	return rc;
}

/* The end of a run's lock, and of the target's directory if it was the last. */
static void
drop_lock(const char *run_dir, int lock_fd)
{
	char path[660];

	snprintf(path, sizeof(path), "%s" LOCK_SUFFIX, run_dir);
	unlink(path);
	close(lock_fd);
	*strrchr(path, '/') = '\0';
	rmdir(path); /* fails while others are in it, as it should */
}

int
workspace_close(struct workspace *ws, struct err *e)
{
	int rc;

	if (ws->lock_fd < 0)
		return 0;
	rc = remove_run(ws->run_dir, e);
	if (rc == 0)
		drop_lock(ws->run_dir, ws->lock_fd);
	else
		close(ws->lock_fd); /* the lock file stays and leads the sweep to the rest */
	ws->lock_fd = -1;
	return rc;
}

/* --- opening --- */

/* Locks the run, with the target's directory made; a sweep may remove either in between. */
static int
lock_run(const char *run_dir, struct err *e)
{
	char parent[660], path[660];
	int fd = ERR_CONFLICT;

	snprintf(path, sizeof(path), "%s" LOCK_SUFFIX, run_dir);
	snprintf(parent, sizeof(parent), "%.*s", (int)(strrchr(run_dir, '/') - run_dir), run_dir);
	for (int i = 0; i < TRIES; i++) {
		struct stat st;

		if (mkdir(parent, 0700) != 0 && errno != EEXIST)
			return err_set(e, errno == ENOSPC ? ERR_RETRY : ERR_IO, "make %s: %s", parent, strerror(errno));
		fd = file_lock(path, e);
		if (fd >= 0 && fstat(fd, &st) == 0 && st.st_nlink > 0)
			return fd;
		if (fd >= 0)
			close(fd);
		else if (fd == ERR_CONFLICT)
			return fd;
	}
	return fd < 0 ? fd : err_set(e, ERR_CONFLICT, "%s is being swept", path);
}

static int
make_dir(const char *path, unsigned mode, uint32_t uid, uint32_t gid, struct err *e)
{
	if (mkdir(path, mode) != 0 || chmod(path, mode) != 0 || (geteuid() == 0 && chown(path, uid, gid) != 0))
		return err_set(e, errno == ENOSPC || errno == EDQUOT ? ERR_RETRY : ERR_IO, "make %s: %s", path, strerror(errno));
	return 0;
}

/* Opens what is copied from and the tree that is copied to. */
static int
fill_by_copy(struct workspace *ws, const struct cache_pin *pin, const char *file_name, const struct copy_options *o, struct err *e)
{
	const char *tree = cache_pin_tree(pin), *from_path = tree != NULL ? tree : cache_pin_blob(pin);
	int from = open(from_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), to = open(ws->tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	if (from < 0 || to < 0)
		rc = err_set(e, ERR_IO, "open %s: %s", from < 0 ? from_path : ws->tree, strerror(errno));
	else if (tree != NULL)
		rc = copy_tree(from, to, o, e);
	else
		rc = copy_file(from, to, file_name, 0644, o, e);
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	return rc;
}

/* Makes upper and work, and mounts as root. */
static int
fill_by_overlay(struct workspace *ws, uint32_t uid, uint32_t gid, struct err *e)
{
	char lower_mount[660];
	int rc;

	snprintf(lower_mount, sizeof(lower_mount), "%s/lower", ws->run_dir);
	if ((rc = make_dir(ws->upper, 0755, uid, gid, e)) != 0 || (rc = make_dir(ws->work, 0700, uid, gid, e)) != 0 ||
	    (rc = make_dir(lower_mount, 0700, 0, 0, e)) != 0)
		return rc;
	return ws->method == WORKSPACE_OVERLAY ? overlay_mount(ws->lower, lower_mount, ws->upper, ws->work, ws->tree, uid, gid, e) : 0;
}

static int
fill_tree(struct workspace *ws, const struct cache_pin *pin, const char *file_name, uint32_t uid, uint32_t gid, struct err *e)
{
	struct copy_options o = {.reflink = ws->method == WORKSPACE_REFLINK, .chown = geteuid() == 0, .uid = uid, .gid = gid};
	int rc;

	if (ws->method == WORKSPACE_OVERLAY || ws->method == WORKSPACE_OVERLAY_USERNS) {
		rc = fill_by_overlay(ws, uid, gid, e);
		if (rc != ERR_IO)
			return rc;
		/* It worked when it was probed; slower is better than not at all. The method in *ws says so. */
		log_debug(NULL, "workspace %s: %s; copying instead", ws->run_dir, e != NULL ? e->msg : "");
		ws->method = WORKSPACE_COPY;
	}
	return fill_by_copy(ws, pin, file_name, &o, e);
}

static int
make_run(struct workspace *ws, const struct cache_pin *pin, const char *file_name, uint32_t uid, uint32_t gid, struct err *e)
{
	int rc;

	if ((rc = make_dir(ws->run_dir, 0700, geteuid(), getegid(), e)) != 0 || (rc = make_dir(ws->out, 0700, uid, gid, e)) != 0 ||
	    (rc = make_dir(ws->scratch, 0700, uid, gid, e)) != 0)
		return rc;
	fault_point("workspace.made");
	if (ws->method == WORKSPACE_DIRECT) {
		snprintf(ws->tree, sizeof(ws->tree), "%.639s", cache_pin_tree(pin));
		return 0;
	}
	if ((rc = make_dir(ws->tree, 0755, uid, gid, e)) != 0 || (rc = fill_tree(ws, pin, file_name, uid, gid, e)) != 0)
		return rc;
	fault_point("workspace.filled");
	return 0;
}

int
workspace_open(const char *cache_dir, const char *target_id, const char *run_id, const struct cache_pin *pin,
    const char *file_name, enum workspace_mode mode, enum workspace_method method, uint32_t uid, uint32_t gid,
    struct workspace *ret_ws, struct err *e)
{
	struct workspace ws = {.mode = mode, .method = method, .read_only = mode == WORKSPACE_SHARED, .lock_fd = -1};
	const char *tree = cache_pin_tree(pin);
	int rc;

	if (!id_valid(target_id) || !id_valid(run_id))
		return err_set(e, ERR_INVALID, "target '%.60s' or run '%.60s' is no name for a directory", target_id, run_id);
	if (tree == NULL && !file_name_valid(file_name))
		return err_set(e, ERR_INVALID, "'%.60s' is no plain file name", file_name != NULL ? file_name : "");
	if ((rc = name_paths(&ws, cache_dir, target_id, run_id, e)) != 0)
		return rc;
	if (tree == NULL && method != WORKSPACE_REFLINK)
		ws.method = WORKSPACE_COPY; /* one file needs no layers */
	else if (tree != NULL && mode == WORKSPACE_SHARED)
		ws.method = WORKSPACE_DIRECT;
	if (tree != NULL)
		snprintf(ws.lower, sizeof(ws.lower), "%s", tree);
	ws.lock_fd = lock_run(ws.run_dir, e);
	if (ws.lock_fd < 0)
		return ws.lock_fd;
	fault_point("workspace.locked");
	rc = make_run(&ws, pin, file_name, uid, gid, e);
	if (rc != 0) {
		(void)workspace_close(&ws, NULL);
		return rc;
	}
	*ret_ws = ws;
	return 0;
}

/* --- sweeping --- */

/* Removes one run if nobody owns it. Returns 1, 0, or ERR_IO. */
static int
sweep_run(const char *target_dir, const char *run_id, struct err *e)
{
	char run_dir[512], lock[660];
	int fd, rc;

	if (snprintf(run_dir, sizeof(run_dir), "%s/%s", target_dir, run_id) >= (int)sizeof(run_dir))
		return 0;
	snprintf(lock, sizeof(lock), "%s" LOCK_SUFFIX, run_dir);
	fd = file_lock(lock, NULL);
	if (fd < 0)
		return 0;
	rc = remove_run(run_dir, e);
	if (rc == 0)
		drop_lock(run_dir, fd);
	else
		close(fd);
	return rc == 0 ? 1 : rc;
}

static int
sweep_target(const char *target_dir, struct err *e)
{
	DIR *dir = opendir(target_dir);
	struct dirent *d;
	int swept = 0, rc = 0;

	while (dir != NULL && rc >= 0 && (d = readdir(dir)) != NULL) {
		char run[NAME_MAX_BYTES + 8];
		size_t n = strlen(d->d_name), suffix = strlen(LOCK_SUFFIX);

		/* The lock file stands for the run: it is there before the directory and after it. */
		if (n >= sizeof(run) || n <= suffix || strcmp(d->d_name + n - suffix, LOCK_SUFFIX) != 0)
			continue;
		snprintf(run, sizeof(run), "%.*s", (int)(n - suffix), d->d_name);
		if (!id_valid(run))
			continue;
		rc = sweep_run(target_dir, run, e);
		swept += rc > 0;
	}
	if (dir != NULL)
		closedir(dir);
	rmdir(target_dir); /* only if it is empty */
	return rc < 0 ? rc : swept;
}

int
workspace_sweep(const char *cache_dir, struct err *e)
{
	DIR *dir = opendir(cache_dir);
	struct dirent *d;
	int swept = 0, rc = 0;

	if (dir == NULL)
		return err_set(e, ERR_IO, "open %s: %s", cache_dir, strerror(errno));
	while (rc >= 0 && (d = readdir(dir)) != NULL) {
		char path[512];

		if (!id_valid(d->d_name) || d->d_type == DT_REG ||
		    snprintf(path, sizeof(path), "%s/%s", cache_dir, d->d_name) >= (int)sizeof(path))
			continue;
		rc = sweep_target(path, e);
		swept += rc > 0 ? rc : 0;
	}
	closedir(dir);
	return rc < 0 ? rc : swept;
}
