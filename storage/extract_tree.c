/* The tree that an extraction makes. Entries come mostly in tree order, so the open directories of the last path are kept: a
 * file costs one open, not one per directory above it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "storage/extract_parts.h"

#define DIR_FLAGS (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define FILE_FLAGS (O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC)
#define RESOLVE_PLAIN (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)
#define AGAIN_MAX 100 /* the kernel asks for another try when something was renamed meanwhile, anywhere */

struct extract_tree {
	int fds[EXTRACT_DEPTH_MAX + 2]; /* [0] is the root (the caller's), [depth] the current directory */
	size_t ends[EXTRACT_DEPTH_MAX + 2]; /* length of path at each depth */
	char path[EXTRACT_PATH_MAX + 1];
	unsigned depth;
	int64_t dirs_made, dirs_counted;
	bool no_openat2;
};

static int
open_how(int dir_fd, const char *path, uint64_t flags, unsigned mode, uint64_t resolve)
{
	struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
	long fd;

	for (int i = 0; i < AGAIN_MAX; i++) {
		fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return (int)fd;
}

/* Opens a single component below an open directory. */
static int
open_name(const struct extract_tree *t, int dir_fd, const char *name, int flags, unsigned mode)
{
	if (t->no_openat2)
		return openat(dir_fd, name, flags, mode);
	return open_how(dir_fd, name, (uint64_t)flags, mode, RESOLVE_PLAIN);
}

struct extract_tree *
extract_tree_new(int dir_fd)
{
	struct extract_tree *t = xcalloc(1, sizeof(*t));

	int fd = open_how(dir_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0, RESOLVE_PLAIN);

	t->fds[0] = dir_fd;
	/* Old kernels do not know it, old containers forbid what they do not know. */
	t->no_openat2 = fd < 0 && (errno == ENOSYS || errno == EPERM);
	if (fd >= 0)
		close(fd);
	return t;
}

static void
leave_to(struct extract_tree *t, unsigned depth)
{
	while (t->depth > depth)
		close(t->fds[t->depth--]);
	t->path[t->ends[t->depth]] = '\0';
}

void
extract_tree_free(struct extract_tree *t)
{
	if (t == NULL)
		return;
	leave_to(t, 0);
	free(t);
}

int64_t
extract_tree_dirs_made(const struct extract_tree *t)
{
	return t->dirs_made;
}

int
extract_errno(struct err *e, const char *what)
{
	int code = errno;

	switch (code) {
	case ENOSPC:
	case EDQUOT:
		err_set(e, ERR_RETRY, "%s: %s", what, strerror(code));
		err_hint(e, EXTRACT_HINT_DISK);
		return ERR_RETRY;
	case EFBIG:
		return err_set(e, ERR_TOOBIG, "%s: the file is over the limit", what);
	case EEXIST:
		return err_set(e, ERR_INVALID, "the name is there already");
	case ENOTDIR:
	case ELOOP:
	case EXDEV:
		return err_set(e, ERR_INVALID, "the path leads through something that is not a directory");
	default:
		return err_set(e, ERR_IO, "%s: %s", what, strerror(code));
	}
}

int
extract_tree_count_dirs(struct extract_tree *t, int64_t own_dirs, struct extract_count *c, struct err *e)
{
	int64_t implied = t->dirs_made - own_dirs - t->dirs_counted;

	t->dirs_counted += implied;
	return implied > 0 ? extract_count_entries(c, implied, e) : 0;
}

/* Opens the directory `name` (len bytes) of the current one and makes it the current one; makes it first if asked and needed. */
static int
enter(struct extract_tree *t, const char *name, size_t len, bool make, struct err *e)
{
	size_t at = t->ends[t->depth];
	int fd;

	if (t->depth > EXTRACT_DEPTH_MAX)
		return err_set(e, ERR_TOOBIG, "the name is too deep");
	if (at > 0)
		t->path[at++] = '/';
	memcpy(t->path + at, name, len);
	t->path[at + len] = '\0';
	fd = open_name(t, t->fds[t->depth], t->path + at, DIR_FLAGS, 0);
	if (fd < 0 && errno == ENOENT && make) {
		if (mkdirat(t->fds[t->depth], t->path + at, 0755) == 0) {
			t->dirs_made++;
			fd = open_name(t, t->fds[t->depth], t->path + at, DIR_FLAGS, 0);
		}
	}
	if (fd < 0) {
		int rc = extract_errno(e, "make a directory");

		t->path[t->ends[t->depth]] = '\0';
		return rc;
	}
	t->fds[++t->depth] = fd;
	t->ends[t->depth] = at + len;
	return 0;
}

/* Depth up to which the first `len` bytes of path are where we are already. */
static unsigned
common_depth(const struct extract_tree *t, const char *path, size_t len)
{
	unsigned d = t->depth;

	while (d > 0 && !(t->ends[d] <= len && memcmp(t->path, path, t->ends[d]) == 0 &&
	    (t->ends[d] == len || path[t->ends[d]] == '/')))
		d--;
	return d;
}

/* Goes to the directory that is the first len bytes of path. */
static int
go(struct extract_tree *t, const char *path, size_t len, bool make, struct err *e)
{
	size_t at;
	int rc;

	leave_to(t, common_depth(t, path, len));
	at = t->ends[t->depth];
	while (at < len) {
		size_t n;

		at += path[at] == '/';
		n = strcspn(path + at, "/");
		if ((rc = enter(t, path + at, n, make, e)) != 0)
			return rc;
		at += n;
	}
	return 0;
}

/* Goes to the parent of path; *ret_name is its last component. */
static int
go_parent(struct extract_tree *t, const char *path, bool make, const char **ret_name, struct err *e)
{
	const char *slash = strrchr(path, '/');

	*ret_name = slash != NULL ? slash + 1 : path;
	return go(t, path, slash != NULL ? (size_t)(slash - path) : 0, make, e);
}

int
extract_tree_dir(struct extract_tree *t, const char *path, struct err *e)
{
	return go(t, path, strlen(path), true, e);
}

int
extract_tree_file(struct extract_tree *t, const char *path, unsigned mode, struct err *e)
{
	const char *name;
	int rc, fd;

	if ((rc = go_parent(t, path, true, &name, e)) != 0)
		return rc;
	/* The helper's umask is 0, so no chmod is needed. */
	fd = open_name(t, t->fds[t->depth], name, FILE_FLAGS, 0644 | (mode & 0111));
	return fd >= 0 ? fd : extract_errno(e, "create a file");
}

int
extract_tree_link(struct extract_tree *t, const char *path, const char *target, int64_t *ret_size, struct err *e)
{
	const char *from, *name;
	struct stat st;
	int rc, from_fd;

	if (go_parent(t, target, false, &from, NULL) != 0 || fstatat(t->fds[t->depth], from, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    !S_ISREG(st.st_mode))
		return err_set(e, ERR_INVALID, "the hard link's target is not a file that came before it");
	/* Moving on may close the target's directory. */
	from_fd = fcntl(t->fds[t->depth], F_DUPFD_CLOEXEC, 3);
	if (from_fd < 0)
		return extract_errno(e, "hard link");
	rc = go_parent(t, path, true, &name, e);
	if (rc == 0 && linkat(from_fd, from, t->fds[t->depth], name, 0) != 0)
		rc = extract_errno(e, "hard link");
	close(from_fd);
	if (rc == 0)
		*ret_size = st.st_size;
	return rc;
}

int
extract_tree_symlink(struct extract_tree *t, const char *path, const char *target, struct err *e)
{
	const char *name;
	int rc;

	if ((rc = go_parent(t, path, true, &name, e)) != 0)
		return rc;
	return symlinkat(target, t->fds[t->depth], name) == 0 ? 0 : extract_errno(e, "symbolic link");
}

int
extract_tree_verify(struct extract_tree *t, const char *path, struct err *e)
{
	/* Without openat2 there is no proof, and the link is refused. */
	int fd = open_how(t->fds[0], path, O_PATH | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);

	if (fd < 0) {
		err_set(e, ERR_INVALID, "the link's target cannot be shown to be inside (%s)", strerror(errno));
		/* The link was made a moment ago, so this is its directory. */
		unlinkat(t->fds[t->depth], path + (t->depth > 0 ? t->ends[t->depth] + 1 : 0), 0);
		return ERR_INVALID;
	}
	close(fd);
	return 0;
}
