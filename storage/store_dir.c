/* The object store in a directory: embedded mode, tests, single machines.
 *
 *   ROOT/<bucket>/<encoded key>   one file per object: its bytes, then a trailer with etag and metadata
 *   ROOT/<bucket>/.tmp/           what is being written; locked by its writer, swept at start when nobody holds the lock
 *
 * The trailer keeps bytes and metadata in one file, so that one rename (or, for if_absent, one link) makes both appear
 * together. The content type is not kept: nobody would ask for it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/mem.h"
#include "storage/dir_name.h"
#include "storage/dir_object.h"
#include "storage/object_store.h"
#include "storage/store_upkeep.h"

#define TMP_DIR ".tmp"
#define CLONE_BLOCK_BYTES 4096 /* of the file systems that share blocks (a larger one refuses: then bytes are copied) */
#define COPY_BUFFER_BYTES (256u * 1024)
#define RACE_TRIES 16 /* against removals that take away the directory we are about to use */

struct dir_store {
	struct object_store base;
	int root_fd;
};

static struct dir_store *
self(struct object_store *s)
{
	return (struct dir_store *)s;
}

/* errno as one of ours. */
static int
err_errno(struct err *e, const char *what, const char *name)
{
	int code = errno == ENOENT || errno == ENOTDIR ? ERR_NOTFOUND : errno == EEXIST ? ERR_CONFLICT :
	    errno == ENOSPC || errno == EDQUOT || errno == EMFILE || errno == ENFILE ? ERR_RETRY :
	    errno == EACCES || errno == EPERM || errno == EROFS ? ERR_DENIED : ERR_IO;

	return err_set(e, code, "%s %.200s: %s", what, name, strerror(errno));
}

static bool
stopped(const atomic_bool *stop)
{
	return stop != NULL && atomic_load(stop);
}

/* --- buckets --- */

static int
open_bucket(struct object_store *s, const char *bucket, struct err *e)
{
	int fd = openat(self(s)->root_fd, bucket, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd >= 0 ? fd : err_errno(e, "bucket", bucket);
}

static int
dir_ensure_bucket(struct object_store *s, const char *bucket, struct err *e)
{
	int root_fd = self(s)->root_fd, fd, rc = 0;

	if (mkdirat(root_fd, bucket, 0700) != 0 && errno != EEXIST)
		return err_errno(e, "create bucket", bucket);
	if ((fd = open_bucket(s, bucket, e)) < 0)
		return fd;
	if ((mkdirat(fd, TMP_DIR, 0700) != 0 && errno != EEXIST) || fsync(fd) != 0 || fsync(root_fd) != 0)
		rc = err_errno(e, "create bucket", bucket);
	close(fd);
	return rc;
}

/* Removes what writers that died left behind. A live writer holds the lock of its file. */
static void
sweep_bucket(int root_fd, const char *bucket)
{
	char path[300];
	struct dirent *d;
	DIR *dir;
	int fd;

	snprintf(path, sizeof(path), "%.255s/" TMP_DIR, bucket);
	if ((fd = openat(root_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return;
	if ((dir = fdopendir(fd)) == NULL) {
		close(fd);
		return;
	}
	while ((d = readdir(dir)) != NULL) {
		int tmp = openat(dirfd(dir), d->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

		if (tmp >= 0 && d->d_name[0] != '.' && flock(tmp, LOCK_EX | LOCK_NB) == 0)
			unlinkat(dirfd(dir), d->d_name, 0);
		if (tmp >= 0)
			close(tmp);
	}
	closedir(dir);
}

static void
sweep(int root_fd)
{
	int fd = dup(root_fd);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((d = readdir(dir)) != NULL)
		if (d->d_name[0] != '.')
			sweep_bucket(root_fd, d->d_name);
	closedir(dir);
}

/* --- writing --- */

struct draft { /* an object that is not there yet */
	int bucket_fd, fd;
	char tmp[sizeof(TMP_DIR) + 40];
};

static int
draft_open(struct draft *d, struct err *e)
{
	char id[37];

	for (int i = 0; i < RACE_TRIES; i++) {
		struct stat st;

		uuid_text(id);
		snprintf(d->tmp, sizeof(d->tmp), TMP_DIR "/%s", id);
		d->fd = openat(d->bucket_fd, d->tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (d->fd < 0)
			return err_errno(e, "create", d->tmp);
		/* A sweep that came between creation and lock took the name away: then another one. */
		if (flock(d->fd, LOCK_SH) == 0 && fstat(d->fd, &st) == 0 && st.st_nlink > 0)
			return 0;
		close(d->fd);
		d->fd = -1;
	}
	return err_set(e, ERR_IO, "create %s: swept again and again", d->tmp);
}

static void
draft_close(struct draft *d)
{
	if (d->fd >= 0) {
		unlinkat(d->bucket_fd, d->tmp, 0);
		close(d->fd);
	}
	if (d->bucket_fd >= 0)
		close(d->bucket_fd);
}

/* Makes the directories of path and fsyncs the parent of each new one. */
static int
make_parents(int bucket_fd, const char *path, struct err *e)
{
	char dir[DIR_NAME_PATH_MAX];

	for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		int parent;

		memcpy(dir, path, (size_t)(slash - path));
		dir[slash - path] = '\0';
		if (mkdirat(bucket_fd, dir, 0700) != 0) {
			if (errno == EEXIST)
				continue;
			return err_errno(e, "create", dir);
		}
		parent = dir_object_open_parent(bucket_fd, dir);
		if (parent < 0 || fsync(parent) != 0) {
			if (parent >= 0)
				close(parent);
			return err_errno(e, "fsync the directory of", dir);
		}
		close(parent);
	}
	return 0;
}

/* Gives the finished draft its name. Removals take empty directories with them, hence the tries. */
static int
draft_publish(struct draft *d, const char *key, bool if_absent, struct err *e)
{
	char path[DIR_NAME_PATH_MAX];
	int rc = ERR_NOTFOUND, parent;

	dir_name_path(key, path);
	if (fsync(d->fd) != 0)
		return err_errno(e, "fsync", key);
	for (int i = 0; i < RACE_TRIES && rc == ERR_NOTFOUND; i++) {
		rc = make_parents(d->bucket_fd, path, e);
		if (rc == 0 && (if_absent ? linkat(d->bucket_fd, d->tmp, d->bucket_fd, path, 0) :
		    renameat(d->bucket_fd, d->tmp, d->bucket_fd, path)) != 0)
			rc = err_errno(e, "store", key);
	}
	if (rc != 0)
		return rc == ERR_NOTFOUND ? err_prefix(e, ERR_IO, "the store's directories vanish") : rc;
	parent = dir_object_open_parent(d->bucket_fd, path);
	/* Gone already: someone removed the object since, which is as good as stored. */
	if (parent >= 0 && fsync(parent) != 0)
		rc = err_errno(e, "fsync the directory of", key);
	if (parent >= 0)
		close(parent);
	return rc;
}

static int
fill_from_source(int fd, struct object_source *src, int64_t *ret_size, const atomic_bool *stop, struct err *e)
{
	char *block = xmalloc(COPY_BUFFER_BYTES);
	int64_t size = 0;
	int rc = 0;

	while (rc == 0) {
		long n = stopped(stop) ? ERR_CANCELED : src->read(src->arg, block, COPY_BUFFER_BYTES, e);

		if (n == 0)
			break;
		if (n < 0) {
			rc = stopped(stop) ? err_set(e, ERR_CANCELED, "stopped while storing") : (int)n;
		} else if (src->size_bytes >= 0 && n > src->size_bytes - size) {
			rc = err_set(e, ERR_INVALID, "the source gave more than the %lld bytes announced", (long long)src->size_bytes);
		} else {
			rc = file_write_all(fd, block, (size_t)n, e);
			if (rc == ERR_IO && (errno == ENOSPC || errno == EDQUOT))
				rc = err_set(e, ERR_RETRY, "the store's disk is full");
			size += n;
		}
	}
	if (rc == 0 && src->size_bytes >= 0 && size != src->size_bytes)
		rc = err_set(e, ERR_INVALID, "the source ended after %lld of %lld bytes", (long long)size, (long long)src->size_bytes);
	*ret_size = size;
	free(block);
	return rc;
}

static void
info_meta(struct object_info *info, const struct object_meta *meta, size_t n)
{
	info->n_meta = n;
	if (n > 0)
		memcpy(info->meta, meta, n * sizeof(meta[0]));
}

static int
dir_put(struct object_store *s, const char *bucket, const char *key, struct object_source *src, const struct put_options *o,
    struct object_info *ret_info, const atomic_bool *stop, struct err *e)
{
	struct draft d = {.bucket_fd = open_bucket(s, bucket, e), .fd = -1};
	struct object_info info = {.size_bytes = 0};
	struct stat st;
	int rc = d.bucket_fd < 0 ? d.bucket_fd : draft_open(&d, e);

	if (rc != 0)
		goto out;
	uuid_text(info.etag);
	info_meta(&info, o->meta, o->n_meta);
	if ((rc = fill_from_source(d.fd, src, &info.size_bytes, stop, e)) != 0)
		goto out;
	if ((rc = dir_object_seal(d.fd, &info, e)) != 0 || (rc = draft_publish(&d, key, o->if_absent, e)) != 0)
		goto out;
	if (fstat(d.fd, &st) == 0)
		info.modified_real_ms = dir_object_modified(&st);
	if (ret_info != NULL)
		*ret_info = info;
out:
	draft_close(&d);
	return rc;
}

/* --- reading --- */

/* Opens an object and reads its trailer. Returns the descriptor or an ERR_*. */
static int
open_object(struct object_store *s, const char *bucket, const char *key, struct object_info *ret_info, struct err *e)
{
	char path[DIR_NAME_PATH_MAX];
	int bucket_fd = open_bucket(s, bucket, e), fd, rc;

	if (bucket_fd < 0)
		return bucket_fd;
	dir_name_path(key, path);
	fd = dir_object_open(bucket_fd, path, ret_info, e);
	rc = fd == ERR_NOTFOUND ? err_set(e, fd, "no object %s/%.200s", bucket, key) : fd;
	close(bucket_fd);
	return rc;
}

static int
dir_get(struct object_store *s, const char *bucket, const char *key, int64_t offset, int64_t len, const char *if_match,
    int (*write)(void *arg, const void *data, size_t len), void *arg, struct object_info *ret_info,
    const atomic_bool *stop, struct err *e)
{
	struct object_info info;
	int fd = open_object(s, bucket, key, &info, e), rc = 0;
	char *block = NULL;

	if (fd < 0)
		return fd;
	if (if_match != NULL && strcmp(if_match, info.etag) != 0)
		rc = err_set(e, ERR_CONFLICT, "%s/%.200s has changed", bucket, key);
	else
		block = xmalloc(COPY_BUFFER_BYTES);
	if (len < 0 || len > info.size_bytes - offset)
		len = info.size_bytes - offset;
	if (ret_info != NULL)
		*ret_info = info;
	while (rc == 0 && len > 0) {
		ssize_t n = pread(fd, block, len < COPY_BUFFER_BYTES ? (size_t)len : COPY_BUFFER_BYTES, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			rc = err_set(e, ERR_IO, "read %s/%.200s: %s", bucket, key, n < 0 ? strerror(errno) : "it is cut short");
		else if (stopped(stop))
			rc = err_set(e, ERR_CANCELED, "stopped while reading");
		else if ((rc = write(arg, block, (size_t)n)) != 0)
			err_set(e, rc, "the reader of %s/%.200s gave up", bucket, key);
		offset += n;
		len -= n;
	}
	free(block);
	close(fd);
	return rc;
}

/* Blocks are shared whole; what is left of the last one is copied. */
static int
dir_clone(struct object_store *s, const char *bucket, const char *key, int to, struct object_info *ret_info, bool *ret_done,
    struct err *e)
{
	int from = open_object(s, bucket, key, ret_info, e);
	int64_t whole = ret_info->size_bytes / CLONE_BLOCK_BYTES * CLONE_BLOCK_BYTES;
	struct file_clone_range range = {.src_fd = from, .src_length = (uint64_t)whole};
	char tail[CLONE_BLOCK_BYTES];
	size_t len = (size_t)(ret_info->size_bytes - whole);

	*ret_done = false;
	if (from < 0)
		return from;
	*ret_done = whole > 0 && ioctl(to, FICLONERANGE, &range) == 0 && pread(from, tail, len, whole) == (ssize_t)len &&
	    pwrite(to, tail, len, whole) == (ssize_t)len;
	close(from);
	return 0;
}

static int
dir_head(struct object_store *s, const char *bucket, const char *key, struct object_info *ret_info, struct err *e)
{
	struct object_info info;
	int fd = open_object(s, bucket, key, &info, e);

	if (fd < 0)
		return fd;
	close(fd);
	*ret_info = info;
	return 0;
}

/* --- copy, list, remove --- */

/* Bytes only, by reflink or inside the kernel where the file system can. */
static int
copy_bytes(int to, int from, int64_t size, struct err *e)
{
	char *block;
	off_t done = 0;

	while (done < size) {
		off_t at = done;
		ssize_t n = copy_file_range(from, &at, to, NULL, (size_t)(size - done), 0);

		if (n <= 0)
			break;
		done += n;
	}
	block = done < size ? xmalloc(COPY_BUFFER_BYTES) : NULL;
	while (done < size) {
		size_t want = size - done < COPY_BUFFER_BYTES ? (size_t)(size - done) : COPY_BUFFER_BYTES;
		ssize_t n = pread(from, block, want, done);

		if (n <= 0 || file_write_all(to, block, (size_t)n, e) != 0)
			break;
		done += n;
	}
	free(block);
	return done == size ? 0 : err_set(e, ERR_IO, "copy: stopped after %lld of %lld bytes", (long long)done, (long long)size);
}

/* The etag names the bytes, so the copy keeps it: readers that hold it go on through a re-dating. */
static int
dir_copy(struct object_store *s, const char *bucket, const char *from, const char *to, const struct object_meta *meta,
    size_t n_meta, struct err *e)
{
	struct draft d = {.bucket_fd = -1, .fd = -1};
	struct object_info info;
	int fd = open_object(s, bucket, from, &info, e), rc = 0;

	if (fd < 0)
		return fd;
	if (n_meta == 0 && strcmp(from, to) == 0) {
		if (futimens(fd, NULL) != 0)
			rc = err_errno(e, "re-date", from);
		goto out;
	}
	if ((d.bucket_fd = open_bucket(s, bucket, e)) < 0) {
		rc = d.bucket_fd;
		goto out;
	}
	if (n_meta > 0)
		info_meta(&info, meta, n_meta);
	if ((rc = draft_open(&d, e)) == 0 && (rc = copy_bytes(d.fd, fd, info.size_bytes, e)) == 0 &&
	    (rc = dir_object_seal(d.fd, &info, e)) == 0)
		rc = draft_publish(&d, to, false, e);
out:
	draft_close(&d);
	close(fd);
	return rc;
}

static int
dir_list(struct object_store *s, const char *bucket, const char *prefix,
    int (*each)(void *arg, const char *key, const struct object_info *info), void *arg, struct err *e)
{
	int fd = open_bucket(s, bucket, e), rc;

	if (fd < 0)
		return fd;
	rc = dir_object_list(fd, prefix, each, arg, e);
	close(fd);
	return rc;
}

static int
dir_remove(struct object_store *s, const char *bucket, const char *key, struct err *e)
{
	char path[DIR_NAME_PATH_MAX], *slash;
	int fd = open_bucket(s, bucket, e), rc = 0;

	if (fd < 0)
		return fd;
	dir_name_path(key, path);
	if (unlinkat(fd, path, 0) != 0 && errno != ENOENT && errno != ENOTDIR)
		rc = err_errno(e, "remove", key);
	while (rc == 0 && (slash = strrchr(path, '/')) != NULL) {
		*slash = '\0';
		if (unlinkat(fd, path, AT_REMOVEDIR) != 0)
			break; /* others are in it */
	}
	close(fd);
	return rc;
}

/* --- what a directory cannot do --- */

static int
dir_presign(struct object_store *s, const char *bucket, const char *key, int64_t valid_s, char *url, size_t url_len,
    struct err *e)
{
	(void)s, (void)bucket, (void)key, (void)valid_s, (void)url, (void)url_len;
	return err_set(e, ERR_INVALID, "a directory store has no URLs");
}

static int
dir_lifecycle_merge(struct object_store *s, const char *bucket, const struct lifecycle_rule *rules, size_t n, struct err *e)
{
	(void)s, (void)bucket, (void)rules, (void)n;
	return err_set(e, ERR_NOTFOUND, "a directory store does not expire objects by itself");
}

static int
dir_check(struct object_store *s, struct err *e)
{
	return faccessat(self(s)->root_fd, ".", R_OK | W_OK | X_OK, AT_EACCESS) == 0 ? 0 : err_errno(e, "store", "directory");
}

/* What a server would be asked for, a directory has or does not need. */
static int
dir_probe(struct object_store *s, const char *bucket, const char *key, struct store_probe *p, struct err *e)
{
	struct statvfs fs;

	(void)bucket, (void)key, (void)e;
	if (fstatvfs(self(s)->root_fd, &fs) == 0)
		p->free_bytes = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
	p->multipart_copy = p->checks_digests = true;
	return 0;
}

static const struct store_upkeep_ops dir_upkeep = {.probe = dir_probe};

static void
dir_free(struct object_store *s)
{
	close(self(s)->root_fd);
	free(s);
}

static const struct object_store_ops dir_ops = {
	.ensure_bucket = dir_ensure_bucket, .put = dir_put, .get = dir_get, .clone = dir_clone, .head = dir_head, .copy = dir_copy,
	.list = dir_list, .remove = dir_remove, .presign = dir_presign, .lifecycle_merge = dir_lifecycle_merge,
	.check = dir_check, .upkeep = &dir_upkeep, .free = dir_free,
};

struct object_store *
store_dir_new(const char *path, struct err *e)
{
	struct dir_store *s;
	int fd;

	if (file_mkdirs(path, 0700, e) != 0)
		return NULL;
	if ((fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
		err_errno(e, "open store", path);
		return NULL;
	}
	sweep(fd);
	s = xcalloc(1, sizeof(*s));
	s->base = (struct object_store){.ops = &dir_ops, .kind = "dir"};
	store_set_limits(&s->base, &(struct store_limits){0});
	s->root_fd = fd;
	return &s->base;
}
