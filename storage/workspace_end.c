/* The end of runs. What a run has left is renamed to CACHE_DIR/ended/<uuid>, which takes no longer for a large tree than for a
 * small one, and the run is over; a thread unmounts and deletes it from there. Who does that holds a lock on the directory
 * itself, so that several workers do not hinder each other and one that dies leaves its part to the next; and as long as an
 * overlay is mounted, the pin of the cache's tree under it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "storage/workspace_parts.h"

#define ENDED "ended"
#define WAITING_MAX 16 /* trees that may wait; then whoever ends a run deletes its tree itself */
#define STACK_BYTES (128 * 1024)
#define NICE 5 /* the tools of other runs come first */
#define UUID_LEN 37

struct ended { /* one tree that we have taken away; -1: none */
	char id[UUID_LEN];
	int lock_fd, pin_fd;
};

struct ending {
	int dir_fd; /* of ended/ */
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	pthread_t thread;
	bool started, stop, look; /* look: there may be trees of others */
	struct ended waiting[WAITING_MAX];
	unsigned n_waiting;
};

/* --- deleting --- */

static void
close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* Unmounts what is mounted in the directory of a run, ended or not. */
static int
unmount_run(const char *run_dir, struct err *e)
{
	char path[800];

	snprintf(path, sizeof(path), "%s/workspace", run_dir);
	if (!unmount_all(path))
		return err_set(e, ERR_IO, "unmount %s: %s", path, strerror(errno));
	fault_point("workspace.unmounted");
	return 0;
}

/* Unmounts and deletes one tree, whose lock we hold. What cannot be deleted stays for the next start. */
static void
delete_ended(struct ending *n, struct ended *t)
{
	char path[64 + UUID_LEN];
	struct err e = {0};
	int rc;

	/* By the open directory: the thread knows no path that somebody could replace. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", n->dir_fd, t->id);
	rc = unmount_run(path, &e);
	close_fd(t->pin_fd);
	fault_point("workspace.deleting");
	if (rc == 0)
		rc = file_remove_tree(n->dir_fd, t->id, &e);
	if (rc != 0)
		log_warn(NULL, "what an ended run has left: %s; the next start tries again", e.msg);
	close_fd(t->lock_fd);
}

/* What other workers have left, unless they are at it. */
static void
delete_others(struct ending *n)
{
	int fd = openat(n->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *d;

	while (dir != NULL && (d = readdir(dir)) != NULL) {
		struct ended t = {.pin_fd = -1};

		if (strlen(d->d_name) != UUID_LEN - 1)
			continue;
		snprintf(t.id, sizeof(t.id), "%.36s", d->d_name);
		t.lock_fd = openat(n->dir_fd, t.id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (t.lock_fd >= 0 && flock(t.lock_fd, LOCK_EX | LOCK_NB) == 0)
			delete_ended(n, &t);
		else
			close_fd(t.lock_fd);
	}
	if (dir != NULL)
		closedir(dir);
	else
		close_fd(fd);
}

static void *
run_ending(void *arg)
{
	struct ending *n = arg;

	(void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
	pthread_mutex_lock(&n->mutex);
	while (n->n_waiting > 0 || n->look || !n->stop) {
		struct ended t;
		bool look = n->look && n->n_waiting == 0;

		if (n->n_waiting == 0 && !look) {
			pthread_cond_wait(&n->changed, &n->mutex);
			continue;
		}
		if (look)
			n->look = false;
		else
			t = n->waiting[--n->n_waiting];
		pthread_mutex_unlock(&n->mutex);
		if (look)
			delete_others(n);
		else
			delete_ended(n, &t);
		pthread_mutex_lock(&n->mutex);
	}
	pthread_mutex_unlock(&n->mutex);
	return NULL;
}

/* Gives a tree to the thread, or tells it to look (NULL); it is started when it is first needed. False if it has enough to do. */
static bool
announce(struct ending *n, const struct ended *t)
{
	pthread_attr_t attr;
	bool taken;

	pthread_mutex_lock(&n->mutex);
	if (!n->started) {
		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, STACK_BYTES);
		n->started = pthread_create(&n->thread, &attr, run_ending, n) == 0;
		pthread_attr_destroy(&attr);
	}
	taken = n->started && n->n_waiting < WAITING_MAX;
	if (t == NULL)
		n->look = n->started;
	else if (taken)
		n->waiting[n->n_waiting++] = *t;
	pthread_cond_signal(&n->changed);
	pthread_mutex_unlock(&n->mutex);
	return taken;
}

/* --- taking away --- */

int
ending_take_now(const char *run_dir, int pin_fd, struct err *e)
{
	int rc = unmount_run(run_dir, e);

	close_fd(pin_fd);
	return rc == 0 ? file_remove_tree(AT_FDCWD, run_dir, e) : rc;
}

int
ending_take(struct ending *n, const char *run_dir, int pin_fd, struct err *e)
{
	struct ended t = {.pin_fd = pin_fd, .lock_fd = open(run_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};

	if (t.lock_fd < 0 && errno == ENOENT) {
		close_fd(pin_fd);
		return 0;
	}
	uuid_text(t.id);
	/* Locked before it can be seen there: other workers see no mount of ours, and would delete what is under it. */
	if (t.lock_fd < 0 || flock(t.lock_fd, LOCK_EX | LOCK_NB) != 0 || renameat(AT_FDCWD, run_dir, n->dir_fd, t.id) != 0) {
		close_fd(t.lock_fd);
		return ending_take_now(run_dir, pin_fd, e); /* renaming needs a name's worth of disk */
	}
	fault_point("workspace.taken");
	if (!announce(n, &t))
		delete_ended(n, &t);
	return 0;
}

void
ending_drop_lock(const char *run_dir, int lock_fd)
{
	char path[660];

	snprintf(path, sizeof(path), "%s" WORKSPACE_LOCK_SUFFIX, run_dir);
	unlink(path);
	close(lock_fd);
	*strrchr(path, '/') = '\0';
	rmdir(path); /* fails while others are in it, as it should */
}

/* --- sweeping --- */

/* Takes away one run if nobody owns it. Returns 1, 0, or ERR_IO. */
static int
sweep_run(struct ending *n, const char *target_dir, const char *run_id, struct err *e)
{
	char run_dir[512], lock[660];
	int fd, rc;

	if (snprintf(run_dir, sizeof(run_dir), "%s/%s", target_dir, run_id) >= (int)sizeof(run_dir))
		return 0;
	snprintf(lock, sizeof(lock), "%s" WORKSPACE_LOCK_SUFFIX, run_dir);
	fd = file_lock(lock, NULL);
	if (fd < 0)
		return 0;
	rc = ending_take(n, run_dir, -1, e);
	if (rc == 0)
		ending_drop_lock(run_dir, fd);
	else
		close(fd);
	return rc == 0 ? 1 : rc;
}

/* A name whose entry was evicted by somebody who died over it. */
static void
sweep_link(int dir_fd, const char *name)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode) && fstatat(dir_fd, name, &st, 0) != 0 &&
	    errno == ENOENT)
		unlinkat(dir_fd, name, 0);
}

static int
sweep_target(struct ending *n, const char *target_dir, struct err *e)
{
	DIR *dir = opendir(target_dir);
	struct dirent *d;
	int swept = 0, rc = 0;

	while (dir != NULL && rc >= 0 && (d = readdir(dir)) != NULL) {
		char run[WORKSPACE_ID_MAX + 8];
		size_t len = strlen(d->d_name), suffix = strlen(WORKSPACE_LOCK_SUFFIX);

		if (d->d_type == DT_LNK)
			sweep_link(dirfd(dir), d->d_name);
		/* The lock file stands for the run: it is there before the directory and after it. */
		if (len >= sizeof(run) || len <= suffix || strcmp(d->d_name + len - suffix, WORKSPACE_LOCK_SUFFIX) != 0)
			continue;
		snprintf(run, sizeof(run), "%.*s", (int)(len - suffix), d->d_name);
		if (!workspace_id_valid(run))
			continue;
		rc = sweep_run(n, target_dir, run, e);
		swept += rc > 0;
	}
	if (dir != NULL)
		closedir(dir);
	rmdir(target_dir); /* only if it is empty */
	return rc < 0 ? rc : swept;
}

int
ending_sweep(struct ending *n, const char *cache_dir, struct err *e)
{
	DIR *dir = opendir(cache_dir);
	struct dirent *d;
	int swept = 0, rc = 0;

	if (dir == NULL)
		return err_set(e, ERR_IO, "open %s: %s", cache_dir, strerror(errno));
	while (rc >= 0 && (d = readdir(dir)) != NULL) {
		char path[512];

		if (!workspace_id_valid(d->d_name) || d->d_type == DT_REG ||
		    snprintf(path, sizeof(path), "%s/%s", cache_dir, d->d_name) >= (int)sizeof(path))
			continue;
		rc = sweep_target(n, path, e);
		swept += rc > 0 ? rc : 0;
	}
	closedir(dir);
	return rc < 0 ? rc : swept;
}

/* --- the thread's life --- */

static bool
is_empty(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), names = 0;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

	while (dir != NULL && names < 3 && readdir(dir) != NULL)
		names++;
	if (dir != NULL)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
	return names < 3;
}

struct ending *
ending_new(const char *cache_dir, struct err *e)
{
	struct ending *n = xcalloc(1, sizeof(*n));
	char path[700];

	snprintf(path, sizeof(path), "%.600s/" ENDED, cache_dir);
	pthread_mutex_init(&n->mutex, NULL);
	pthread_cond_init(&n->changed, NULL);
	if ((mkdir(path, 0700) == 0 || errno == EEXIST) && (n->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) >= 0) {
		if (!is_empty(n->dir_fd))
			(void)announce(n, NULL);
		return n;
	}
	err_set(e, ERR_IO, "make %s: %s", path, strerror(errno));
	n->dir_fd = -1;
	ending_free(n, 0);
	return NULL;
}

void
ending_free(struct ending *n, int64_t deadline_mono_ms)
{
	struct timespec until = {.tv_sec = deadline_mono_ms / 1000, .tv_nsec = deadline_mono_ms % 1000 * 1000000};

	if (n == NULL)
		return;
	pthread_mutex_lock(&n->mutex);
	n->stop = true;
	pthread_cond_signal(&n->changed);
	pthread_mutex_unlock(&n->mutex);
	/* A thread that is not done by then keeps what is its own: the process is about to end. */
	if (n->started && pthread_clockjoin_np(n->thread, NULL, CLOCK_MONOTONIC, &until) != 0)
		return;
	if (n->dir_fd >= 0)
		close(n->dir_fd);
	pthread_cond_destroy(&n->changed);
	pthread_mutex_destroy(&n->mutex);
	free(n);
}
