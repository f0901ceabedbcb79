/* Where a tool is the worker's own user and there are no mounts, Landlock keeps it from the cache's bytes and names, but not
 * from the modes of files: it could shut a part of the tree, and later runs would find less to look at and call it clean. So
 * what is shut is opened again before a run, and a run that was using it is told. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/workspace_parts.h"

#define DEPTH_MAX 300 /* above what extraction makes */

struct mending {
	int mended;
	bool failed;
};

/* Gives the owner what reading needs, and `more`. Returns the type of what is there, 0 where that is not known. */
static mode_t
mend_name(struct mending *m, int dir_fd, const char *name, mode_t more)
{
	struct stat st;
	mode_t need;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		m->failed = true;
		return 0;
	}
	need = (S_ISDIR(st.st_mode) ? 0500 : 0400) | more;
	if (!S_ISLNK(st.st_mode) && (st.st_mode & need) != need) {
		m->mended++;
		m->failed = fchmodat(dir_fd, name, (st.st_mode & 07777) | need, 0) != 0 || m->failed;
	}
	return st.st_mode & S_IFMT;
}

static void
mend_dir(struct mending *m, int fd, unsigned depth)
{
	DIR *dir = fdopendir(fd);
	struct dirent *d;

	if (dir == NULL || depth > DEPTH_MAX)
		m->failed = true;
	while (!m->failed && (d = readdir(dir)) != NULL) {
		int sub;

		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		if (mend_name(m, dirfd(dir), d->d_name, 0) != S_IFDIR)
			continue;
		sub = openat(dirfd(dir), d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub < 0)
			m->failed = true;
		else
			mend_dir(m, sub, depth + 1);
	}
	if (dir != NULL)
		closedir(dir);
	else
		close(fd);
}

/* The directories from the cache's down to the tree, and that. Returns its type. */
static mode_t
mend_way(struct mending *m, const char *cache_dir, const char *path)
{
	char part[700];
	size_t from = strlen(cache_dir), len = strlen(path);

	for (size_t i = from; len < sizeof(part) && i < len; i++) {
		if (path[i] != '/')
			continue;
		snprintf(part, sizeof(part), "%.*s", (int)i, path);
		(void)mend_name(m, AT_FDCWD, part, 0700);
	}
	return mend_name(m, AT_FDCWD, path, 0);
}

int
workspace_mend(const char *cache_dir, const char *path, struct err *e)
{
	struct mending m = {0};
	int fd;

	if (mend_way(&m, cache_dir, path) == S_IFDIR && !m.failed) {
		fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			mend_dir(&m, fd, 0);
		m.failed = m.failed || fd < 0;
	}
	return m.failed ? err_set(e, ERR_IO, "%s cannot be read: a tool has changed its modes", path) : m.mended;
}
