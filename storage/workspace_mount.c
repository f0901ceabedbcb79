/* Overlays. The cache's tree belongs to the cache's uid; a run under another uid sees it as its own through an idmapped mount,
 * or it could not change one file of it. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "storage/workspace_parts.h"

#define UNMOUNTS_MAX 16
#define PATH_BYTES 700

/* --- idmapped mounts --- */

/* A child that only holds a user namespace until it is killed. Not until a pipe is closed: children that other threads fork at the
 * same time have copies of its ends, and would keep each other. */
static pid_t
hold_userns(void)
{
	int ready[2];
	char byte;
	pid_t parent = getpid(), pid;
	ssize_t n;

	if (pipe2(ready, O_CLOEXEC) != 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWUSER) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent &&
		    write(ready[1], "x", 1) == 1)
			(void)pause();
		_exit(0);
	}
	close(ready[1]);
	do
		n = pid > 0 ? read(ready[0], &byte, 1) : -1;
	while (n < 0 && pid > 0 && errno == EINTR);
	if (pid > 0 && n != 1) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		pid = -1;
	}
	close(ready[0]);
	return pid;
}

static int
write_map(pid_t pid, const char *which, uint32_t from, uint32_t to)
{
	char path[64], text[64];
	int fd, len = snprintf(text, sizeof(text), "%u %u 1\n", from, to);
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, which);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = write(fd, text, (size_t)len);
	close(fd);
	return n == len ? 0 : -1;
}

/* A descriptor of a user namespace in which from is to, for uid and gid. */
static int
userns_for(uint32_t from_uid, uint32_t to_uid, uint32_t from_gid, uint32_t to_gid)
{
	char path[64];
	int fd = -1;
	pid_t pid = hold_userns();

	if (pid < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	if (write_map(pid, "uid_map", from_uid, to_uid) == 0 && write_map(pid, "gid_map", from_gid, to_gid) == 0)
		fd = open(path, O_RDONLY | O_CLOEXEC);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return fd;
}

/* The same, kept for later: the descriptor stays ours. */
static int
mapping_fd(struct mappings *m, const struct mapping *want)
{
	int fd = -1;

	pthread_mutex_lock(&m->mutex);
	for (unsigned i = 0; fd < 0 && i < m->n; i++) {
		const struct mapping *have = &m->list[i];

		if (have->from_uid == want->from_uid && have->to_uid == want->to_uid && have->from_gid == want->from_gid &&
		    have->to_gid == want->to_gid)
			fd = have->fd;
	}
	if (fd < 0 && m->n < MAPPINGS_MAX && (fd = userns_for(want->from_uid, want->to_uid, want->from_gid, want->to_gid)) >= 0) {
		m->list[m->n] = *want;
		m->list[m->n++].fd = fd;
	}
	pthread_mutex_unlock(&m->mutex);
	return fd;
}

void
mappings_release(struct mappings *m)
{
	while (m->n > 0)
		close(m->list[--m->n].fd);
	pthread_mutex_destroy(&m->mutex);
}

/* Mounts `lower` at `at` so that its owner's files appear as uid's and gid's. */
static int
idmap_mount(struct mappings *m, const char *lower, const char *at, const struct stat *owner, uint32_t uid, uint32_t gid)
{
	const struct mapping want = {.from_uid = owner->st_uid, .to_uid = uid, .from_gid = owner->st_gid, .to_gid = gid};
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
	int tree_fd = open_tree(AT_FDCWD, lower, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	int ns_fd = mapping_fd(m, &want), rc = -1;

	if (tree_fd >= 0 && ns_fd >= 0) {
		attr.userns_fd = (uint64_t)ns_fd;
		rc = mount_setattr(tree_fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0 &&
		    move_mount(tree_fd, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH) == 0 ? 0 : -1;
	}
	if (tree_fd >= 0)
		close(tree_fd);
	return rc;
}

/* --- overlays --- */

/* Paths come from our own directories; a comma or colon in one would be read as an option. */
static bool
plain_path(const char *s)
{
	return strpbrk(s, ",:\\") == NULL;
}

/* volatile: nothing of a workspace outlives its run, so nothing is written to the disk for its sake: else every unmount would
 * wait until the whole file system is written back. The other options keep layers from leading anywhere but to themselves. */
static int
mount_layers(const char *lower, const char *upper, const char *work, const char *tree, const char *more)
{
	static const char *const safe[] = {",redirect_dir=nofollow,metacopy=off,index=off,volatile", ",redirect_dir=nofollow,metacopy=off,index=off"};
	char options[4 * PATH_BYTES];
	int rc = -1;

	if (!plain_path(lower) || !plain_path(upper) || !plain_path(work)) {
		errno = EINVAL;
		return -1;
	}
	/* Linux before 5.10 does not know volatile. */
	for (size_t i = 0; rc != 0 && i < sizeof(safe) / sizeof(safe[0]) && (i == 0 || errno == EINVAL); i++) {
		if (snprintf(options, sizeof(options), "lowerdir=%s,upperdir=%s,workdir=%s%s%s", lower, upper, work, safe[i], more) >=
		    (int)sizeof(options)) {
			errno = ENAMETOOLONG;
			return -1;
		}
		rc = mount("drover", tree, "overlay", MS_NOSUID | MS_NODEV, options);
	}
	return rc;
}

int
overlay_mount(struct mappings *m, const char *lower, const char *upper, const char *work, const char *tree, uint32_t uid, uint32_t gid,
    struct err *e)
{
	struct stat st;
	bool mapped;

	if (stat(lower, &st) != 0)
		return err_set(e, ERR_IO, "stat %s: %s", lower, strerror(errno));
	mapped = st.st_uid != uid || st.st_gid != gid;
	/* At the very place that the overlay covers next: it needs no directory of its own, which a run would have to make and
	 * delete. */
	if (mapped && idmap_mount(m, lower, tree, &st, uid, gid) != 0)
		return err_set(e, ERR_IO, "map %s to uid %u: %s", lower, uid, strerror(errno));
	fault_point("workspace.mapped");
	if (mount_layers(mapped ? tree : lower, upper, work, tree, "") == 0) {
		fault_point("workspace.mounted");
		return 0;
	}
	err_set(e, ERR_IO, "mount an overlay at %s: %s", tree, strerror(errno));
	if (mapped)
		unmount_all(tree);
	return ERR_IO;
}

bool
unmount_all(const char *path)
{
	for (int i = 0; i < UNMOUNTS_MAX; i++) {
		if (umount2(path, UMOUNT_NOFOLLOW) == 0)
			continue;
		if (errno == EINVAL || errno == ENOENT || errno == EPERM || errno == ENOTDIR)
			return true; /* nothing is mounted there, or nothing that we could have mounted */
		/* Somebody's working directory: it vanishes from the tree now and for good with its last user. */
		if (errno != EBUSY || umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
			return false;
	}
	return false;
}

/* --- probing --- */

static const char *const probe_parts[] = {"source", "upper", "work", "workspace"};

#define N_PROBE_PARTS (sizeof(probe_parts) / sizeof(probe_parts[0]))

static bool
make_parts(const char *dir, char parts[N_PROBE_PARTS][PATH_BYTES])
{
	for (size_t i = 0; i < N_PROBE_PARTS; i++) {
		snprintf(parts[i], PATH_BYTES, "%.660s/%s", dir, probe_parts[i]);
		if (mkdir(parts[i], 0755) != 0)
			return false;
	}
	return true;
}

bool
overlay_works(struct mappings *m, const char *dir)
{
	char p[N_PROBE_PARTS][PATH_BYTES];

	/* Another uid than the owner's, so that the mapping is tried as well. */
	return make_parts(dir, p) && overlay_mount(m, p[0], p[1], p[2], p[3], geteuid() + 1, getegid() + 1, NULL) == 0;
}

bool
overlay_userns_works(struct mappings *m, const char *dir)
{
	char p[N_PROBE_PARTS][PATH_BYTES];
	int status = -1;
	uid_t uid = geteuid();
	gid_t gid = getegid();
	pid_t pid;

	(void)m;
	if (!make_parts(dir, p))
		return false;
	/* Dumpable for its moment, or its maps would belong to root. Who could look into it (a tool that is our user, in our pid
	 * namespace) is only there where user namespaces are not. */
	pid = fork();
	if (pid == 0) {
		bool ok = unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0;
		int deny = ok ? open("/proc/self/setgroups", O_WRONLY | O_CLOEXEC) : -1;

		ok = ok && deny >= 0 && write(deny, "deny", 4) == 4 && write_map(getpid(), "uid_map", uid, uid) == 0 &&
		    write_map(getpid(), "gid_map", gid, gid) == 0 && mount_layers(p[0], p[1], p[2], p[3], ",userxattr") == 0;
		_exit(ok ? 0 : 1);
	}
	if (pid > 0)
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
