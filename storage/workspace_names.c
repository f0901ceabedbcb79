#include "storage/workspace_names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"

#define TRIES 4
#define NAMES "names"

static int
failed(struct err *e, const char *what, const char *path)
{
	int code = errno;

	return err_set(e, code == ENOSPC || code == EDQUOT ? ERR_RETRY : ERR_IO, "%s %s: %s", what, path, strerror(code));
}

/* First the memory, then the link: a crash in between leaves nothing that would stay when the entry goes. */
static int
remember(const char *tree, const char *target_id, struct err *e)
{
	char path[900];
	int len = snprintf(path, sizeof(path), "%.*s/" NAMES, (int)(strrchr(tree, '/') - tree), tree), fd;

	if (len < 0 || len + strlen(target_id) + 2 > sizeof(path))
		return err_set(e, ERR_IO, "the path of the cache directory is too long");
	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		return failed(e, "make", path);
	snprintf(path + len, sizeof(path) - (size_t)len, "/%s", target_id);
	fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return failed(e, "make", path);
	close(fd);
	return 0;
}

static bool
points_at(const char *link, const char *to)
{
	char now[900];
	ssize_t n = readlink(link, now, sizeof(now));

	return n == (ssize_t)strlen(to) && memcmp(now, to, (size_t)n) == 0;
}

int
workspace_name_make(const char *cache_dir, const char *target_id, const char *name, const char *tree, struct err *e)
{
	size_t dir_len = strlen(cache_dir);
	char link[900], to[700];
	int rc;

	if (strncmp(tree, cache_dir, dir_len) != 0 || tree[dir_len] != '/' ||
	    snprintf(link, sizeof(link), "%s/%s/%s", cache_dir, target_id, name) >= (int)sizeof(link) ||
	    snprintf(to, sizeof(to), "../%s", tree + dir_len + 1) >= (int)sizeof(to))
		return err_set(e, ERR_IO, "%s is no tree of %s", tree, cache_dir);
	/* Each time: an entry that was made again after a reboot has the same path and no memory. */
	if ((rc = remember(tree, target_id, e)) != 0 || points_at(link, to))
		return rc;
	fault_point("workspace.name_remembered");
	for (int i = 0; i < TRIES; i++) {
		/* Another run of the target may be doing the same; what points elsewhere is of an entry that is gone. */
		if (symlink(to, link) == 0 || (errno == EEXIST && points_at(link, to)))
			return 0;
		if (errno != EEXIST)
			return failed(e, "link", link);
		unlink(link);
	}
	return failed(e, "link", link);
}

void
workspace_names_drop(int cache_dir_fd, const char *entry)
{
	static const char *const kept[] = {WORKSPACE_NAME_SHARED, WORKSPACE_NAME_LOWER};
	char path[900];
	struct dirent *d;
	DIR *dir;
	int fd;

	snprintf(path, sizeof(path), "%s/" NAMES, entry);
	fd = openat(cache_dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	dir = fd >= 0 ? fdopendir(fd) : NULL;
	while (dir != NULL && (d = readdir(dir)) != NULL) {
		if (d->d_name[0] == '.')
			continue;
		for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
			struct stat st;

			snprintf(path, sizeof(path), "%s/%s", d->d_name, kept[i]);
			if (fstatat(cache_dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
				unlinkat(cache_dir_fd, path, 0);
		}
		unlinkat(cache_dir_fd, d->d_name, AT_REMOVEDIR); /* stays while runs are in it */
	}
	if (dir != NULL)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
}
