/* Removal of a tree of any depth with one open directory: down by name, up by "..", every step checked. */
#include "base/file.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

/* Which directory an open descriptor is. */
struct place {
	uint32_t dev_major, dev_minor;
	uint64_t inode;
	uint64_t mount; /* 0 where the kernel does not tell: then the device alone shows a mount */
};

/* One directory on the way from the root of the tree to where we are. */
struct level {
	struct place place;
	char **dirs; /* names of subdirectories that are still to be removed; the last one is below us */
	size_t n_dirs, cap_dirs;
};

struct removal {
	int fd; /* the directory of the deepest level */
	struct level *levels;
	size_t n_levels, cap_levels;
	int rc; /* the first failure */
	struct err *e;
};

static void
failed(struct removal *r, const char *name, int why)
{
	if (r->rc == 0)
		r->rc = err_set(r->e, ERR_IO, "remove %s: %s", name, strerror(why));
}

static int
where(int fd, struct place *ret_place)
{
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_INO | STATX_MNT_ID, &sx) != 0)
		return -1;
	*ret_place = (struct place){.dev_major = sx.stx_dev_major, .dev_minor = sx.stx_dev_minor, .inode = sx.stx_ino,
	    .mount = (sx.stx_mask & STATX_MNT_ID) != 0 ? sx.stx_mnt_id : 0};
	return 0;
}

static bool
same_mount(const struct place *a, const struct place *b)
{
	return a->mount == b->mount && a->dev_major == b->dev_major && a->dev_minor == b->dev_minor;
}

/* Opens a directory of the tree, making it accessible first if need be. Returns the descriptor or -1 with errno. */
static int
open_dir(int dirfd, const char *name)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dirfd, name, flags);
	struct stat st;

	/* The C library changes the mode of what it opened without following, never of a link's target. */
	if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, 0700, AT_SYMLINK_NOFOLLOW) == 0)
		fd = openat(dirfd, name, flags);
	/* If the mode cannot be changed, the removals below tell what could not be done. */
	if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 0700) != 0700)
		(void)fchmod(fd, 0700);
	return fd;
}

static void
remember_dir(struct level *l, const char *name)
{
	if (l->n_dirs == l->cap_dirs) {
		l->cap_dirs = l->cap_dirs == 0 ? 8 : l->cap_dirs * 2;
		l->dirs = xrealloc(l->dirs, l->cap_dirs * sizeof(l->dirs[0]));
	}
	l->dirs[l->n_dirs++] = xstrdup(name);
}

/* Unlinks all that is no directory in r->fd and notes the directories. */
static void
sweep(struct removal *r, struct level *l)
{
	int copy = fcntl(r->fd, F_DUPFD_CLOEXEC, 0); /* closedir closes what fdopendir was given */
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;

	if (d == NULL) {
		failed(r, "directory", errno);
		if (copy >= 0)
			close(copy);
		return;
	}
	while (errno = 0, (entry = readdir(d)) != NULL) {
		const char *name = entry->d_name;

		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
			continue;
		if (entry->d_type == DT_DIR)
			remember_dir(l, name);
		else if (unlinkat(r->fd, name, 0) == 0 || errno == ENOENT)
			continue;
		else if (errno == EISDIR || errno == EPERM) /* perhaps a directory; opening it will tell */
			remember_dir(l, name);
		else
			failed(r, name, errno);
	}
	if (errno != 0)
		failed(r, "directory", errno);
	closedir(d);
}

/* Takes over fd, an open directory of the tree, as the deepest level, and sweeps it. */
static void
enter(struct removal *r, int fd, const struct place *place)
{
	if (r->n_levels == r->cap_levels) {
		r->cap_levels = r->cap_levels == 0 ? 32 : r->cap_levels * 2;
		r->levels = xrealloc(r->levels, r->cap_levels * sizeof(r->levels[0]));
	}
	r->levels[r->n_levels] = (struct level){.place = *place};
	r->fd = fd;
	sweep(r, &r->levels[r->n_levels++]);
}

static void
forget_last_dir(struct level *l)
{
	free(l->dirs[--l->n_dirs]);
}

/* Goes down into the last noted directory of the deepest level, or gives it up. */
static void
descend(struct removal *r)
{
	struct level *l = &r->levels[r->n_levels - 1];
	const char *name = l->dirs[l->n_dirs - 1];
	int fd = open_dir(r->fd, name);
	struct place place;

	if (fd < 0 || where(fd, &place) != 0) {
		failed(r, name, errno == ENOTDIR ? EPERM : errno);
	} else if (!same_mount(&place, &l->place)) {
		failed(r, name, EXDEV); /* something is mounted there: it is not ours to empty */
	} else {
		close(r->fd);
		enter(r, fd, &place);
		return;
	}
	if (fd >= 0)
		close(fd);
	forget_last_dir(l);
}

/* Leaves the deepest level and removes its directory. Returns -1 if the way up is not the way we came. */
static int
ascend(struct removal *r)
{
	struct level *left = &r->levels[r->n_levels - 1], *l = left - 1;
	struct place place;
	int fd;

	assert(r->n_levels > 1);
	fd = openat(r->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || where(fd, &place) != 0 || place.inode != l->place.inode || !same_mount(&place, &l->place)) {
		failed(r, l->dirs[l->n_dirs - 1], fd < 0 ? errno : ESTALE);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	close(r->fd);
	r->fd = fd;
	free(left->dirs);
	r->n_levels--;
	if (unlinkat(fd, l->dirs[l->n_dirs - 1], AT_REMOVEDIR) != 0 && errno != ENOENT)
		failed(r, l->dirs[l->n_dirs - 1], errno);
	forget_last_dir(l);
	return 0;
}

int
file_remove_tree(int dirfd, const char *name, struct err *e)
{
	struct removal r = {.fd = -1, .e = e};
	struct place place;
	int fd;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return err_set(e, ERR_IO, "remove %s: %s", name, strerror(errno));
	fd = open_dir(dirfd, name);
	if (fd < 0 || where(fd, &place) != 0) {
		err_set(e, ERR_IO, "remove %s: %s", name, strerror(errno));
		if (fd >= 0)
			close(fd);
		return ERR_IO;
	}
	enter(&r, fd, &place);
	while (r.n_levels > 1 || r.levels[0].n_dirs > 0)
		if (r.levels[r.n_levels - 1].n_dirs > 0)
			descend(&r);
		else if (ascend(&r) != 0)
			break;
	close(r.fd);
	for (size_t i = 0; i < r.n_levels; i++) {
		while (r.levels[i].n_dirs > 0)
			forget_last_dir(&r.levels[i]);
		free(r.levels[i].dirs);
	}
	free(r.levels);
	if (unlinkat(dirfd, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
		failed(&r, name, errno);
	return r.rc;
}
