/* A run's directories. The lock file <run>.lock beside them is held for as long as they are in use; who can take it may remove
 * them. Order: lock, make, use, take away, unlink the lock: a crash leaves only what the sweep finds. */
#include "storage/workspace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "storage/workspace_names.h"
#include "storage/workspace_parts.h"

#define PROBE "probe"
#define TRIES 8 /* against a sweep that removes the same directory at the same time */
#define LOCK_WAIT_MS 2000 /* a sweep has a lock for a moment only; who has it for longer is at work there */
#define LOCK_LOOK_MS 5

static const char *const mode_words[] = {
	[WORKSPACE_ISOLATED] = "isolated", [WORKSPACE_SHARED] = "shared", [WORKSPACE_COPY_ON_WRITE] = "copy-on-write",
};

static const char *const method_words[] = {
	[WORKSPACE_OVERLAY] = "overlay", [WORKSPACE_OVERLAY_USERNS] = "overlay-userns", [WORKSPACE_REFLINK] = "reflink",
	[WORKSPACE_COPY] = "copy", [WORKSPACE_DIRECT] = "direct",
};

const char *
workspace_mode_word(enum workspace_mode m)
{
	return mode_words[m];
}

const char *
workspace_method_word(enum workspace_method m)
{
	return method_words[m];
}

/* --- of a worker --- */

void
workspaces_own_mounts(void)
{
	if (geteuid() == 0 && unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL) != 0)
		log_warn(NULL, "the mounts of this process are not its own: %s", strerror(errno));
}

/* The best of those that copy. */
static enum workspace_method
probe_copy(const char *cache_dir)
{
	int fd = open(cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool reflink = fd >= 0 && copy_reflink_works(fd);

	if (fd >= 0)
		close(fd);
	return reflink ? WORKSPACE_REFLINK : WORKSPACE_COPY;
}

void
workspaces_close(struct workspaces *w, int64_t deadline_mono_ms)
{
	if (w == NULL)
		return;
	ending_free(w->ending, deadline_mono_ms);
	mappings_release(&w->mappings);
	free(w->cache_dir);
	free(w);
}

enum workspace_method
workspaces_method(const struct workspaces *w)
{
	return w->method;
}

void
workspaces_confined(struct workspaces *w, bool own_mounts, bool userns)
{
	w->exposed = !own_mounts;
	if (w->method == WORKSPACE_OVERLAY_USERNS && !userns)
		w->method = probe_copy(w->cache_dir);
}

int
workspaces_swept(const struct workspaces *w)
{
	return w->swept;
}

/* --- names --- */

bool
workspace_id_valid(const char *s)
{
	static const char *const taken[] = {"objects", "locks", "tmp", "trash", "index", "ended", WORKSPACE_NAME_SHARED, WORKSPACE_NAME_LOWER};
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	if (n == 0 || n > WORKSPACE_ID_MAX || s[n] != '\0' || s[0] == '.')
		return false;
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		if (strcmp(s, taken[i]) == 0)
			return false;
	n = strlen(s);
	return n <= strlen(WORKSPACE_LOCK_SUFFIX) || strcmp(s + n - strlen(WORKSPACE_LOCK_SUFFIX), WORKSPACE_LOCK_SUFFIX) != 0;
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
name_paths(struct workspace *ws, const char *cache_dir, const struct workspace_want *want, struct err *e)
{
	const struct {
		char *out;
		const char *name;
	} rows[] = {{ws->tree, "workspace"}, {ws->source, "workspace"}, {ws->out, "out"}, {ws->scratch, "scratch"}, {ws->upper, "upper"},
	    {ws->work, "work"}};
	int n = snprintf(ws->run_dir, sizeof(ws->run_dir), "%s/%s/%s", cache_dir, want->target_id, want->run_id);

	if (n < 0 || n >= (int)sizeof(ws->run_dir))
		return err_set(e, ERR_INVALID, "the path of the cache directory is too long");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		snprintf(rows[i].out, sizeof(ws->tree), "%s/%s", ws->run_dir, rows[i].name);
	return 0;
}

/* --- closing --- */

int
workspace_close(struct workspaces *w, struct workspace *ws, struct err *e)
{
	int rc;

	if (ws->lock_fd < 0)
		return 0;
	rc = ending_take(w->ending, ws->run_dir, ws->pin_fd, e);
	if (rc == 0)
		ending_drop_lock(ws->run_dir, ws->lock_fd);
	else
		close(ws->lock_fd); /* the lock file stays and leads the sweep to the rest */
	ws->lock_fd = ws->pin_fd = -1;
	return rc;
}

/* --- opening --- */

static const char *
pinned_path(const struct cache_pin *pin)
{
	return cache_pin_tree(pin) != NULL ? cache_pin_tree(pin) : cache_pin_blob(pin);
}

/* Before a run: what was hidden from it is there again. */
static int
mend(struct workspaces *w, const struct workspace_want *want, struct err *e)
{
	int n = w->exposed ? workspace_mend(w->cache_dir, pinned_path(want->pin), e) : 0;

	if (n > 0)
		log_warn(NULL, "a tool had made parts of %s unreadable: %d modes were set right", pinned_path(want->pin), n);
	return n < 0 ? n : 0;
}

/* Runs are trees of their own, which come and go at the same time: ext4 then lays each into another part of the disk, as it does
 * with home directories, instead of all into the part of their common parent. Else they look for free inodes in one and the same
 * bitmap; without a journal, ext4 passes over all that became free there in the last minutes, which made this the dearest thing
 * in a short run. Other file systems refuse, and need no such hint. */
static void
spread_runs(const char *target_dir)
{
	int fd = open(target_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), flags;

	if (fd < 0)
		return;
	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
		flags |= FS_TOPDIR_FL;
		(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
	}
	close(fd);
}

/* Locks the run, with the target's directory made; the sweep of a worker that starts beside us may have the lock, or remove either,
 * in between. */
static int
lock_run(const char *run_dir, struct err *e)
{
	char parent[660], path[660];
	int64_t until_mono_ms = clock_mono_ms() + LOCK_WAIT_MS;
	int fd = ERR_CONFLICT;

	snprintf(path, sizeof(path), "%s" WORKSPACE_LOCK_SUFFIX, run_dir);
	snprintf(parent, sizeof(parent), "%.*s", (int)(strrchr(run_dir, '/') - run_dir), run_dir);
	for (int tries = 0; tries < TRIES;) {
		struct stat st;

		if (mkdir(parent, 0700) == 0)
			spread_runs(parent);
		else if (errno != EEXIST)
			return err_set(e, errno == ENOSPC || errno == EDQUOT ? ERR_RETRY : ERR_IO, "make %s: %s", parent, strerror(errno));
		fd = file_lock(path, e);
		if (fd >= 0 && fstat(fd, &st) == 0 && st.st_nlink > 0)
			return fd;
		if (fd >= 0)
			close(fd);
		if (fd != ERR_CONFLICT)
			tries++;
		else if (clock_mono_ms() >= until_mono_ms)
			return fd;
		else
			nanosleep(&(struct timespec){.tv_nsec = LOCK_LOOK_MS * 1000000L}, NULL);
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
fill_by_copy(struct workspace *ws, const struct workspace_want *want, struct err *e)
{
	struct copy_options o = {.reflink = ws->method == WORKSPACE_REFLINK, .chown = geteuid() == 0, .uid = want->uid, .gid = want->gid,
	    .stop = want->stop};
	const char *tree = cache_pin_tree(want->pin), *from_path = pinned_path(want->pin);
	int from = open(from_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), to = open(ws->tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	if (from < 0 || to < 0)
		rc = err_set(e, ERR_IO, "open %s: %s", from < 0 ? from_path : ws->tree, strerror(errno));
	else if (tree != NULL)
		rc = copy_tree(from, to, &o, e);
	else
		rc = copy_file(from, to, want->file_name, 0644, &o, e);
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	return rc;
}

/* Makes upper and work, and mounts as root. */
static int
fill_by_overlay(struct workspaces *w, struct workspace *ws, const struct workspace_want *want, struct err *e)
{
	int rc;

	if ((rc = make_dir(ws->upper, 0755, want->uid, want->gid, e)) != 0 ||
	    (rc = make_dir(ws->work, 0700, want->uid, want->gid, e)) != 0)
		return rc;
	if (ws->method == WORKSPACE_OVERLAY_USERNS)
		return 0;
	ws->pin_fd = fcntl(cache_pin_fd(want->pin), F_DUPFD_CLOEXEC, 3);
	if (ws->pin_fd < 0)
		return err_set(e, ERR_IO, "keep the tree pinned: %s", strerror(errno));
	return overlay_mount(&w->mappings, ws->lower, ws->upper, ws->work, ws->tree, want->uid, want->gid, e);
}

static int
fill_private(struct workspaces *w, struct workspace *ws, const struct workspace_want *want, struct err *e)
{
	int rc = make_dir(ws->tree, 0755, want->uid, want->gid, e);

	if (rc != 0)
		return rc;
	if (ws->method == WORKSPACE_OVERLAY || ws->method == WORKSPACE_OVERLAY_USERNS) {
		rc = fill_by_overlay(w, ws, want, e);
		if (rc != ERR_IO)
			return rc;
		/* It worked when it was tried at start; slower is better than not at all. */
		ws->method = probe_copy(w->cache_dir);
		log_warn(NULL, "workspace %s: %s; by %s instead", ws->run_dir, e != NULL ? e->msg : "", workspace_method_word(ws->method));
	}
	return fill_by_copy(ws, want, e);
}

/* The cache's own tree; or a directory with a link to the single file, over which the sandbox binds the file itself where it can. */
static int
fill_shared(struct workspaces *w, struct workspace *ws, const struct workspace_want *want, struct err *e)
{
	const char *tree = cache_pin_tree(want->pin);
	char link[920];
	int rc;

	if (tree != NULL) {
		snprintf(ws->tree, sizeof(ws->tree), "%s/%s/" WORKSPACE_NAME_SHARED, w->cache_dir, want->target_id);
		snprintf(ws->source, sizeof(ws->source), "%s", tree);
		return workspace_name_make(w->cache_dir, want->target_id, WORKSPACE_NAME_SHARED, tree, e);
	}
	snprintf(ws->file, sizeof(ws->file), "%s", cache_pin_blob(want->pin));
	if ((rc = make_dir(ws->tree, 0755, geteuid(), getegid(), e)) != 0)
		return rc;
	snprintf(link, sizeof(link), "%s/%s", ws->tree, want->file_name);
	return symlink(ws->file, link) == 0 ? 0 :
	    err_set(e, errno == ENOSPC || errno == EDQUOT ? ERR_RETRY : ERR_IO, "link %s: %s", link, strerror(errno));
}

static int
make_run(struct workspaces *w, struct workspace *ws, const struct workspace_want *want, struct err *e)
{
	int rc;

	/* The run's lock is ours: what lies here is of a worker that died over an earlier attempt, and that no start has swept yet. */
	if (access(ws->run_dir, F_OK) == 0 && (rc = ending_take(w->ending, ws->run_dir, -1, e)) != 0)
		return rc;
	if ((rc = make_dir(ws->run_dir, 0700, geteuid(), getegid(), e)) != 0 || (rc = make_dir(ws->out, 0700, want->uid, want->gid, e)) != 0 ||
	    (rc = make_dir(ws->scratch, 0700, want->uid, want->gid, e)) != 0)
		return rc;
	fault_point("workspace.made");
	if (ws->mode == WORKSPACE_COPY_ON_WRITE && ws->lower[0] != '\0' &&
	    (rc = workspace_name_make(w->cache_dir, want->target_id, WORKSPACE_NAME_LOWER, ws->lower, e)) != 0)
		return rc;
	rc = ws->mode == WORKSPACE_SHARED ? fill_shared(w, ws, want, e) : fill_private(w, ws, want, e);
	if (rc == 0)
		fault_point("workspace.filled");
	return rc;
}

int
workspace_open(struct workspaces *w, const struct workspace_want *want, struct workspace *ret_ws, struct err *e)
{
	struct workspace ws = {.mode = want->mode, .method = w->method, .read_only = want->mode == WORKSPACE_SHARED, .lock_fd = -1,
	    .pin_fd = -1};
	const char *tree = cache_pin_tree(want->pin);
	int rc;

	if (!workspace_id_valid(want->target_id) || !workspace_id_valid(want->run_id))
		return err_set(e, ERR_INVALID, "target '%.60s' or run '%.60s' is no name for a directory", want->target_id, want->run_id);
	if (tree == NULL && !file_name_valid(want->file_name))
		return err_set(e, ERR_INVALID, "'%.60s' is no plain file name", want->file_name != NULL ? want->file_name : "");
	if ((rc = name_paths(&ws, w->cache_dir, want, e)) != 0)
		return rc;
	if (want->mode == WORKSPACE_SHARED)
		ws.method = WORKSPACE_DIRECT;
	else if (tree == NULL) /* one file needs no layers; where blocks cannot be shared they are copied */
		ws.method = w->method == WORKSPACE_COPY ? WORKSPACE_COPY : probe_copy(w->cache_dir);
	if (tree != NULL)
		snprintf(ws.lower, sizeof(ws.lower), "%s", tree);
	ws.lock_fd = lock_run(ws.run_dir, e);
	if (ws.lock_fd < 0)
		return ws.lock_fd;
	fault_point("workspace.locked");
	rc = mend(w, want, e);
	if (rc == 0)
		rc = make_run(w, &ws, want, e);
	if (rc != 0) {
		(void)workspace_close(w, &ws, NULL);
		return rc;
	}
	*ret_ws = ws;
	return 0;
}

int
workspace_check(struct workspaces *w, const struct workspace *ws, struct err *e)
{
	int n = w->exposed && ws->mode == WORKSPACE_SHARED ? workspace_mend(w->cache_dir, ws->file[0] != '\0' ? ws->file : ws->source, e) : 0;

	if (n > 0)
		return err_set(e, ERR_RETRY, "another tool made parts of the shared target unreadable meanwhile");
	return n;
}

/* --- finding the method --- */

/* Tries it in a directory that is taken for a run's: who dies over it leaves it to the sweep. */
static bool
works(struct workspaces *w, bool (*mounts)(struct mappings *m, const char *dir))
{
	char dir[512], id[37];
	struct err e = {0};
	bool ok = false;
	int fd;

	uuid_text(id);
	if (snprintf(dir, sizeof(dir), "%s/" PROBE "/%s", w->cache_dir, id) >= (int)sizeof(dir) || (fd = lock_run(dir, &e)) < 0)
		return false;
	ok = mkdir(dir, 0700) == 0 && mounts(&w->mappings, dir);
	if (ending_take_now(dir, -1, &e) == 0)
		ending_drop_lock(dir, fd);
	else
		close(fd);
	return ok;
}

static enum workspace_method
probe(struct workspaces *w, enum workspace_method first)
{
	if (first <= WORKSPACE_OVERLAY && geteuid() == 0 && works(w, overlay_works))
		return WORKSPACE_OVERLAY;
	if (first <= WORKSPACE_OVERLAY_USERNS && geteuid() != 0 && works(w, overlay_userns_works))
		return WORKSPACE_OVERLAY_USERNS;
	return first <= WORKSPACE_REFLINK ? probe_copy(w->cache_dir) : WORKSPACE_COPY;
}

struct workspaces *
workspaces_open(const char *cache_dir, enum workspace_method first, struct err *e)
{
	struct workspaces *w = xcalloc(1, sizeof(*w));

	w->cache_dir = xstrdup(cache_dir);
	pthread_mutex_init(&w->mappings.mutex, NULL);
	w->ending = ending_new(cache_dir, e);
	if (w->ending == NULL || (w->swept = ending_sweep(w->ending, cache_dir, e)) < 0) {
		workspaces_close(w, 0);
		return NULL;
	}
	w->method = probe(w, first);
	return w;
}
