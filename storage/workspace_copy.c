/* Copying trees. The cost is in making inodes, so a few threads share the files of each directory as they are found. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "storage/workspace_parts.h"

#define COPY_THREADS 4
#define QUEUE_MAX 256
#define CHUNK_BYTES (256L << 20) /* so that one call does not take for ever */
#define NAME_BYTES 256
#define DEPTH_MAX 300 /* above what extraction makes */

struct dirs { /* a pair of directories; closed with their last file */
	int from, to;
	atomic_int refs;
};

struct job {
	struct dirs *dirs;
	char name[NAME_BYTES];
};

struct copier {
	struct copy_options o;
	pthread_mutex_t mutex;
	pthread_cond_t filled, drained;
	struct job queue[QUEUE_MAX];
	unsigned head, n;
	bool ended;
	int rc; /* first failure; then jobs are only taken off */
	struct err err;
};

static int
copy_errno(struct err *e, const char *what)
{
	int code = errno;

	return err_set(e, code == ENOSPC || code == EDQUOT ? ERR_RETRY : code == ECANCELED ? ERR_CANCELED : ERR_IO, "copy %.80s: %s", what,
	    strerror(code));
}

/* Sets errno where it is time to stop. */
static bool
stopped(const struct copy_options *o)
{
	if (o->stop == NULL || !atomic_load(o->stop))
		return false;
	errno = ECANCELED;
	return true;
}

/* --- one file --- */

/* Copies [at, end) by the kernel, else through memory. */
static int
copy_range(int from, int to, off_t at, off_t end, const struct copy_options *o)
{
	char block[64 * 1024];
	bool by_kernel = true;

	while (at < end) {
		size_t want = end - at < CHUNK_BYTES ? (size_t)(end - at) : (size_t)CHUNK_BYTES;
		off_t in = at, out = at;
		ssize_t n;

		if (stopped(o))
			return -1;
		if (by_kernel) {
			n = copy_file_range(from, &in, to, &out, want, 0);
			if (n <= 0 && (n == 0 || errno == EXDEV || errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL)) {
				by_kernel = false;
				continue;
			}
		} else {
			n = pread(from, block, want < sizeof(block) ? want : sizeof(block), at);
			if (n > 0)
				n = pwrite(to, block, (size_t)n, at);
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = EIO; /* the source ended early: nobody may change it */
		if (n <= 0)
			return -1;
		at += n;
	}
	return 0;
}

/* Data only, so that holes stay holes (copy_file_range would fill them). */
static int
copy_data(int from, int to, off_t size, const struct copy_options *o)
{
	off_t data = 0, hole;

	if (size == 0)
		return 0;
	while (data < size && (data = lseek(from, data, SEEK_DATA)) >= 0) {
		if ((hole = lseek(from, data, SEEK_HOLE)) < 0 || copy_range(from, to, data, hole, o) != 0)
			return -1;
		data = hole;
	}
	if (data < 0 && errno != ENXIO)
		return -1;
	return ftruncate(to, size);
}

int
copy_file(int from_fd, int to_dir_fd, const char *name, uint32_t mode, const struct copy_options *o, struct err *e)
{
	struct stat st;
	struct timespec times[2];
	int rc = 0, fd;

	if (fstat(from_fd, &st) != 0)
		return copy_errno(e, name);
	fd = openat(to_dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return copy_errno(e, name);
	times[0] = times[1] = st.st_mtim;
	if (!(o->reflink && ioctl(fd, FICLONE, from_fd) == 0) && copy_data(from_fd, fd, st.st_size, o) != 0)
		rc = copy_errno(e, name);
	if (rc == 0 && ((o->chown && fchown(fd, o->uid, o->gid) != 0) || fchmod(fd, mode) != 0 || futimens(fd, times) != 0))
		rc = copy_errno(e, name);
	if (close(fd) != 0 && rc == 0)
		rc = copy_errno(e, name);
	return rc;
}

bool
copy_reflink_works(int dir_fd)
{
	int a = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), b = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	bool ok = a >= 0 && b >= 0 && write(a, "x", 1) == 1 && ioctl(b, FICLONE, a) == 0;

	if (a >= 0)
		close(a);
	if (b >= 0)
		close(b);
	return ok;
}

/* --- the threads --- */

static void
dirs_unref(struct dirs *d)
{
	if (atomic_fetch_sub(&d->refs, 1) != 1)
		return;
	close(d->from);
	close(d->to);
	free(d);
}

static void
fail(struct copier *c, int rc, const struct err *e)
{
	pthread_mutex_lock(&c->mutex);
	if (c->rc == 0) {
		c->rc = rc;
		c->err = *e;
	}
	pthread_mutex_unlock(&c->mutex);
}

static void
do_job(struct copier *c, const struct job *j)
{
	struct err e = {0};
	struct stat st;
	int fd = openat(j->dirs->from, j->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc;

	if (fd < 0 || fstat(fd, &st) != 0)
		rc = copy_errno(&e, j->name);
	else
		rc = copy_file(fd, j->dirs->to, j->name, (st.st_mode & 0777) | 0600, &c->o, &e);
	if (fd >= 0)
		close(fd);
	if (rc != 0)
		fail(c, rc, &e);
}

static void *
run_jobs(void *arg)
{
	struct copier *c = arg;

	pthread_mutex_lock(&c->mutex);
	for (;;) {
		struct job j;
		bool skip;

		while (c->n == 0 && !c->ended)
			pthread_cond_wait(&c->filled, &c->mutex);
		if (c->n == 0)
			break;
		j = c->queue[c->head];
		c->head = (c->head + 1) % QUEUE_MAX;
		c->n--;
		skip = c->rc != 0;
		pthread_cond_signal(&c->drained);
		pthread_mutex_unlock(&c->mutex);
		if (!skip)
			do_job(c, &j);
		dirs_unref(j.dirs);
		pthread_mutex_lock(&c->mutex);
	}
	pthread_mutex_unlock(&c->mutex);
	return NULL;
}

static void
push_job(struct copier *c, struct dirs *d, const char *name)
{
	struct job *j;

	atomic_fetch_add(&d->refs, 1);
	pthread_mutex_lock(&c->mutex);
	while (c->n == QUEUE_MAX)
		pthread_cond_wait(&c->drained, &c->mutex);
	j = &c->queue[(c->head + c->n++) % QUEUE_MAX];
	j->dirs = d;
	snprintf(j->name, sizeof(j->name), "%s", name);
	pthread_cond_signal(&c->filled);
	pthread_mutex_unlock(&c->mutex);
}

/* --- the walk --- */

static int walk_dir(struct copier *c, int from, int to, unsigned depth, struct err *e);

static int
copy_symlink(struct copier *c, const struct dirs *d, const char *name, struct err *e)
{
	char target[4097];
	ssize_t n = readlinkat(d->from, name, target, sizeof(target) - 1);

	if (n < 0)
		return copy_errno(e, name);
	target[n] = '\0';
	if (symlinkat(target, d->to, name) != 0 ||
	    (c->o.chown && fchownat(d->to, name, c->o.uid, c->o.gid, AT_SYMLINK_NOFOLLOW) != 0))
		return copy_errno(e, name);
	return 0;
}

static int
copy_subdir(struct copier *c, const struct dirs *d, const char *name, unsigned depth, struct err *e)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW;
	int from = -1, to = -1, rc;
	struct stat st;

	if (mkdirat(d->to, name, 0700) != 0 || (from = openat(d->from, name, flags)) < 0 ||
	    (to = openat(d->to, name, flags)) < 0 || fstat(from, &st) != 0 ||
	    (c->o.chown && fchown(to, c->o.uid, c->o.gid) != 0) || fchmod(to, (st.st_mode & 0777) | 0700) != 0) {
		rc = copy_errno(e, name);
		if (from >= 0)
			close(from);
		if (to >= 0)
			close(to);
		return rc;
	}
	return walk_dir(c, from, to, depth + 1, e);
}

static int
copy_name(struct copier *c, struct dirs *d, const struct dirent *entry, unsigned depth, struct err *e)
{
	unsigned char type = entry->d_type;
	struct stat st;

	if (stopped(&c->o))
		return copy_errno(e, entry->d_name);
	if (type == DT_UNKNOWN && fstatat(d->from, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		type = IFTODT(st.st_mode);
	if (type == DT_DIR)
		return copy_subdir(c, d, entry->d_name, depth, e);
	if (type == DT_LNK)
		return copy_symlink(c, d, entry->d_name, e);
	if (type != DT_REG)
		return err_set(e, ERR_IO, "copy %.80s: neither file, directory nor link", entry->d_name);
	push_job(c, d, entry->d_name);
	return 0;
}

/* Takes both descriptors. */
static int
walk_dir(struct copier *c, int from, int to, unsigned depth, struct err *e)
{
	struct dirs *d = xcalloc(1, sizeof(*d));
	struct dirent *entry;
	int again = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
	DIR *dir = again >= 0 ? fdopendir(again) : NULL;

	d->from = from;
	d->to = to;
	atomic_init(&d->refs, 1);
	if (dir == NULL || depth > DEPTH_MAX) {
		rc = depth > DEPTH_MAX ? err_set(e, ERR_IO, "copy: too deep") : copy_errno(e, ".");
		if (dir == NULL && again >= 0)
			close(again);
	}
	while (rc == 0 && (entry = readdir(dir)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			rc = copy_name(c, d, entry, depth, e);
	if (dir != NULL)
		closedir(dir);
	dirs_unref(d);
	return rc;
}

int
copy_tree(int from_fd, int to_fd, const struct copy_options *o, struct err *e)
{
	struct copier *c = xcalloc(1, sizeof(*c));
	pthread_t threads[COPY_THREADS];
	unsigned n = 0;
	int from = fcntl(from_fd, F_DUPFD_CLOEXEC, 3), to = fcntl(to_fd, F_DUPFD_CLOEXEC, 3), rc;

	c->o = *o;
	pthread_mutex_init(&c->mutex, NULL);
	pthread_cond_init(&c->filled, NULL);
	pthread_cond_init(&c->drained, NULL);
	while (n < COPY_THREADS && pthread_create(&threads[n], NULL, run_jobs, c) == 0)
		n++;
	if (n == 0 || from < 0 || to < 0) {
		rc = err_set(e, ERR_IO, "copy: no thread or descriptor");
		close(from);
		close(to);
	} else {
		rc = walk_dir(c, from, to, 0, e);
	}
	pthread_mutex_lock(&c->mutex);
	c->ended = true;
	pthread_cond_broadcast(&c->filled);
	pthread_mutex_unlock(&c->mutex);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	if (rc == 0 && c->rc != 0)
		rc = err_set(e, c->rc, "%s", c->err.msg);
	pthread_cond_destroy(&c->filled);
	pthread_cond_destroy(&c->drained);
	pthread_mutex_destroy(&c->mutex);
	free(c);
	return rc;
}
