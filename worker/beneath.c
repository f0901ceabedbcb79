#include "worker/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define READ_BYTES 65536

int
beneath_open_file(int dir_fd, const char *path)
{
	struct open_how how = {.flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
	    .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
	int fd = (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
	struct stat st;

	if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))) {
		close(fd);
		errno = ENOENT;
		return -1;
	}
	return fd;
}

static int
read_all(int fd, struct buf *b, struct err *e)
{
	char data[READ_BYTES];
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, ERR_IO, "read: %s", strerror(errno));
		if (buf_add(b, data, (size_t)n) != 0)
			return err_set(e, ERR_TOOBIG, "larger than %zu bytes", b->max);
	}
	return 0;
}

int
beneath_read(const char *dir, const char *name, struct buf *b, struct err *e)
{
	int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd, rc;

	if (dir_fd < 0)
		return err_set(e, ERR_IO, "%s: %s", dir, strerror(errno));
	fd = beneath_open_file(dir_fd, name);
	if (fd < 0)
		rc = err_set(e, errno == ENOENT || errno == ELOOP || errno == ENXIO ? ERR_NOTFOUND : ERR_IO, "%s: %s", name, strerror(errno));
	else
		rc = read_all(fd, b, e);
	if (fd >= 0)
		close(fd);
	close(dir_fd);
	return rc;
}
