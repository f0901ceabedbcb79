#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"

#define READ_BYTES 16384

int
file_write_all(int fd, const void *data, size_t len, struct err *e)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, ERR_IO, "write: %s", strerror(errno));
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Creates a file beside `name` that nobody else uses, even while another thread replaces the same name. */
static int
create_beside(int dirfd, const char *name, mode_t mode, char tmp[NAME_MAX + 1], struct err *e)
{
	uint8_t id[8];
	char hex[17];
	int n, fd;

	random_bytes(id, sizeof(id));
	n = snprintf(tmp, NAME_MAX + 1, ".%s.%s.tmp", name, hex_encode(id, sizeof(id), hex));
	if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strchr(name, '/') != NULL || n > NAME_MAX)
		return err_set(e, ERR_INVALID, "not a plain file name: '%.64s'", name);
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(e, ERR_IO, "create %s: %s", tmp, strerror(errno));
	if (fchmod(fd, mode) != 0) { /* the umask takes nothing away */
		err_set(e, ERR_IO, "chmod %s: %s", tmp, strerror(errno));
		close(fd);
		unlinkat(dirfd, tmp, 0);
		return ERR_IO;
	}
	return fd;
}

int
file_replace(int dirfd, const char *name, const void *data, size_t len, mode_t mode, struct err *e)
{
	char tmp[NAME_MAX + 1];
	int rc, fd;

	fd = create_beside(dirfd, name, mode, tmp, e);
	if (fd < 0)
		return fd;
	rc = file_write_all(fd, data, len, e);
	if (rc != 0) {
		err_prefix(e, rc, "%s", name);
		goto out;
	}
	if (fsync(fd) != 0) {
		rc = err_set(e, ERR_IO, "fsync %s: %s", tmp, strerror(errno));
		goto out;
	}
	if (renameat(dirfd, tmp, dirfd, name) != 0) {
		rc = err_set(e, ERR_IO, "rename to %s: %s", name, strerror(errno));
		goto out;
	}
	tmp[0] = '\0';
	/* Without this the rename itself may be lost with the power. */
	if (fsync(dirfd) != 0)
		rc = err_set(e, ERR_IO, "fsync directory of %s: %s", name, strerror(errno));
out:
	close(fd);
	if (tmp[0] != '\0')
		unlinkat(dirfd, tmp, 0);
	return rc;
}

static int
read_to_end(int fd, const char *path, struct buf *b, struct err *e)
{
	char chunk[READ_BYTES];

	for (;;) {
		ssize_t n = read(fd, chunk, sizeof(chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, ERR_IO, "read %s: %s", path, strerror(errno));
		if (n == 0)
			return 0;
		if (buf_add(b, chunk, (size_t)n) != 0)
			return err_set(e, ERR_TOOBIG, "%s is larger than %zu bytes", path, b->max);
	}
}

int
file_read(int dirfd, const char *path, struct buf *b, struct err *e)
{
	size_t before = b->len;
	struct stat st;
	int rc, fd;

	/* O_NONBLOCK: somebody else's FIFO must not hold us. */
	fd = openat(dirfd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, errno == ENOENT ? ERR_NOTFOUND : ERR_IO, "open %s: %s", path, strerror(errno));
	if (fstat(fd, &st) != 0)
		rc = err_set(e, ERR_IO, "stat %s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		rc = err_set(e, ERR_IO, "%s is not a regular file", path);
	else
		rc = read_to_end(fd, path, b, e);
	close(fd);
	if (rc != 0 && b->data != NULL) { /* half a file is none */
		b->len = before;
		b->data[before] = '\0';
	}
	return rc;
}

/* Makes one directory; one that is there already is fine. */
static int
make_dir(const char *path, mode_t mode, struct err *e)
{
	struct stat st;
	int why;

	if (mkdir(path, mode) == 0)
		return 0;
	why = errno;
	/* A directory that exists may be reported as EEXIST, EROFS or EACCES, as the file system likes. */
	if (stat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			return 0;
		why = ENOTDIR;
	}
	return err_set(e, ERR_IO, "make directory %s: %s", path, strerror(why));
}

int
file_mkdirs(const char *path, mode_t mode, struct err *e)
{
	char part[PATH_MAX];
	size_t len = strlen(path);

	if (len == 0 || len >= sizeof(part))
		return err_set(e, ERR_IO, "make directory %.64s: %s", path, strerror(len == 0 ? ENOENT : ENAMETOOLONG));
	for (size_t i = 1; i < len; i++) {
		int rc;

		if (path[i] != '/' || path[i - 1] == '/')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		rc = make_dir(part, mode, e);
		if (rc != 0)
			return rc;
	}
	return make_dir(path, mode, e);
}

int
file_temp_dir(const char *prefix, char *out, size_t out_len, struct err *e)
{
	const char *base = getenv("TMPDIR");
	int n;

	if (base == NULL || base[0] != '/')
		base = "/tmp";
	n = snprintf(out, out_len, "%s/%s-XXXXXX", base, prefix);
	if (n < 0 || (size_t)n >= out_len)
		return err_set(e, ERR_IO, "temporary directory in %.64s: %s", base, strerror(ENAMETOOLONG));
	if (mkdtemp(out) == NULL) {
		err_set(e, ERR_IO, "make temporary directory in %s: %s", base, strerror(errno));
		err_hint(e, "point TMPDIR to a directory that this user may write to");
		return ERR_IO;
	}
	return 0;
}

int
file_lock(const char *path, struct err *e)
{
	int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	int rc;

	if (fd < 0)
		return err_set(e, ERR_IO, "open %s: %s", path, strerror(errno));
	do
		rc = flock(fd, LOCK_EX | LOCK_NB);
	while (rc != 0 && errno == EINTR);
	if (rc == 0)
		return fd;
	if (errno == EWOULDBLOCK)
		rc = err_set(e, ERR_CONFLICT, "%s is locked by another process", path);
	else
		rc = err_set(e, ERR_IO, "lock %s: %s", path, strerror(errno));
	close(fd);
	return rc;
}

int
file_join(char *out, size_t out_len, const char *dir, const char *name, struct err *e)
{
	size_t dir_len = strlen(dir);
	int n;

	while (dir_len > 1 && dir[dir_len - 1] == '/')
		dir_len--;
	while (dir_len > 0 && *name == '/')
		name++;
	n = snprintf(out, out_len, "%.*s%s%s", (int)dir_len, dir,
	    dir_len == 0 || dir[dir_len - 1] == '/' ? "" : "/", name);
	if (n < 0 || (size_t)n >= out_len)
		return err_set(e, ERR_TOOBIG, "path is longer than %zu bytes: %.64s/%.64s", out_len - 1, dir, name);
	return 0;
}
