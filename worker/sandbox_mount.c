#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "worker/sandbox_wire.h"

/* <sys/mount.h> and <linux/mount.h> cannot be included together with glibc 2.36. */
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
int umount2(const char *target, int flags);

#define OLD BOX_OLD_ROOT
#define MOVE_EMPTY_PATH 4 /* MOVE_MOUNT_F_EMPTY_PATH */
#define ROOT_OPTIONS "mode=0755,size=8m"
#define TMP_OPTIONS "mode=1777,size=256m"
#define SHM_OPTIONS "mode=1777,size=64m"
#define DETACH 2 /* MNT_DETACH */

enum mount_how { READ_ONLY = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, WRITABLE = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
	DEVICE = MOUNT_ATTR_NOSUID };

static int
failed(struct err *e, const char *what, const char *path)
{
	return err_set(e, ERR_IO, "sandbox: %s %s: %s", what, path, strerror(errno));
}

/* Makes the mount point: a directory, or an empty file, as the source is. What leads there is nobody's to write to. */
static int
make_point(const char *path, bool dir, struct err *e)
{
	char parent[1024], *slash;
	int fd;

	snprintf(parent, sizeof(parent), "%s", path);
	slash = strrchr(parent, '/');
	if (dir)
		return file_mkdirs(path, 0555, e);
	*slash = '\0';
	if (slash != parent && file_mkdirs(parent, 0555, e) != 0)
		return ERR_IO;
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
	if (fd < 0)
		return failed(e, "create", path);
	close(fd);
	return 0;
}

/* Binds the host's `source` at `point` with all that is mounted below it, and narrows the flags of all of them. */
static int
bind_at(const char *source, const char *point, enum mount_how how, struct err *e)
{
	struct mount_attr attr = {.attr_set = (unsigned)how};
	char from[1024];
	struct stat st;

	snprintf(from, sizeof(from), OLD "%s", source);
	if (stat(from, &st) != 0)
		return failed(e, "find", source);
	if (make_point(point, S_ISDIR(st.st_mode), e) != 0)
		return ERR_IO;
	if (mount(from, point, NULL, MS_BIND | MS_REC, NULL) != 0)
		return failed(e, "bind", source);
	if (syscall(SYS_mount_setattr, AT_FDCWD, point, AT_RECURSIVE, &attr, sizeof(attr)) != 0)
		return failed(e, "restrict", point);
	return 0;
}

/* Names of the host that a step sees, read-only: programs and libraries, and the few settings that they need. A link stays a link. */
static int
bind_system(const struct box *b, struct err *e)
{
	static const struct {
		const char *path;
		bool egress_only;
	} shared[] = {
		{"/usr", false}, {"/bin", false}, {"/sbin", false}, {"/lib", false}, {"/lib32", false}, {"/lib64", false},
		{"/etc/passwd", false}, {"/etc/group", false}, {"/etc/nsswitch.conf", false}, {"/etc/ld.so.cache", false},
		{"/etc/ld.so.conf", false}, {"/etc/ld.so.conf.d", false}, {"/etc/localtime", false}, {"/etc/ssl/certs", false},
		{"/etc/ssl/openssl.cnf", false}, {"/etc/alternatives", false}, {"/etc/mime.types", false}, {"/etc/java-17-openjdk", false},
		{"/etc/gitconfig", false}, {"/etc/hosts", true}, {"/etc/resolv.conf", true},
	};

	for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++) {
		char from[1024], link[1024];
		struct stat st;
		ssize_t n;

		if (shared[i].egress_only && !b->egress)
			continue;
		snprintf(from, sizeof(from), OLD "%s", shared[i].path);
		if (lstat(from, &st) != 0)
			continue; /* not on this host */
		if (S_ISLNK(st.st_mode) && strchr(shared[i].path + 1, '/') == NULL) {
			n = readlink(from, link, sizeof(link) - 1);
			if (n < 0)
				return failed(e, "read link", shared[i].path);
			link[n] = '\0';
			if (symlink(link, shared[i].path) != 0)
				return failed(e, "link", shared[i].path);
			continue;
		}
		/* A link inside /etc may point anywhere on the host: what it points at is bound, where it can be found at all. */
		if (stat(from, &st) != 0)
			continue;
		if (bind_at(shared[i].path, shared[i].path, READ_ONLY, e) != 0)
			return ERR_IO;
	}
	return 0;
}

static int
make_devices(struct err *e)
{
	static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"};
	static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"},
	    {"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"}};

	if (file_mkdirs("/dev/shm", 0755, e) != 0)
		return ERR_IO;
	if (mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, SHM_OPTIONS) != 0)
		return failed(e, "mount", "/dev/shm");
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		if (bind_at(devices[i], devices[i], DEVICE, e) != 0)
			return ERR_IO;
	}
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		if (symlink(links[i][0], links[i][1]) != 0)
			return failed(e, "link", links[i][1]);
	}
	return 0;
}

/* An overlay for this user namespace alone. The lower tree is the cache's: nothing in it may lead anywhere but to itself. */
static int
mount_overlay(const struct box *b, struct err *e)
{
	/* Linux before 5.10 does not know volatile: what is written there need not reach the disk, nothing of it outlives the run. */
	static const char *const more[] = {",volatile", ""};
	/* Left by an earlier step of the run, a mark that keeps others from taking its layers for sound. */
	static const char *const marks[] = {"work/incompat/volatile/dirty", "work/incompat/volatile", "work/incompat"};
	char options[4096], mark[1024];
	int rc = -1;

	if (strpbrk(b->paths.lower, ":,\\") != NULL || strpbrk(b->paths.upper, ":,\\") != NULL || strpbrk(b->paths.work, ":,\\") != NULL)
		return err_set(e, ERR_IO, "sandbox: a cache directory with ':', ',' or '\\' in its name cannot be an overlay");
	if (make_point(SANDBOX_TARGET, true, e) != 0)
		return ERR_IO;
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		snprintf(mark, sizeof(mark), OLD "%s/%s", b->paths.work, marks[i]);
		(void)(i == 0 ? unlink(mark) : rmdir(mark));
	}
	for (size_t i = 0; rc != 0 && i < sizeof(more) / sizeof(more[0]) && (i == 0 || errno == EINVAL); i++) {
		if (snprintf(options, sizeof(options), "userxattr,redirect_dir=nofollow,metacopy=off,index=off,lowerdir=" OLD "%s,upperdir=" OLD
		    "%s,workdir=" OLD "%s%s", b->paths.lower, b->paths.upper, b->paths.work, more[i]) >= (int)sizeof(options))
			return err_set(e, ERR_IO, "sandbox: the overlay's paths are too long");
		rc = mount("overlay", SANDBOX_TARGET, "overlay", MS_NOSUID | MS_NODEV, options);
	}
	return rc == 0 ? 0 : failed(e, "mount overlay on", SANDBOX_TARGET);
}

/* A mount that the worker has taken from its own namespace: it came into being after ours, which therefore does not show it. */
static int
move_target(const struct box *b, struct err *e)
{
	struct mount_attr attr = {.attr_set = b->paths.target_read_only ? (unsigned)READ_ONLY : (unsigned)WRITABLE};

	if (make_point(SANDBOX_TARGET, true, e) != 0)
		return ERR_IO;
	if (syscall(SYS_move_mount, b->fds[BOX_TARGET], "", AT_FDCWD, SANDBOX_TARGET, MOVE_EMPTY_PATH) != 0)
		return failed(e, "move the workspace to", SANDBOX_TARGET);
	if (syscall(SYS_mount_setattr, AT_FDCWD, SANDBOX_TARGET, AT_RECURSIVE, &attr, sizeof(attr)) != 0)
		return failed(e, "restrict", SANDBOX_TARGET);
	return 0;
}

/* A folder of the host, or what the worker has mounted on it. */
static int
bind_target(const struct box *b, struct err *e)
{
	struct statfs fs;
	int rc = b->fds[BOX_TARGET] >= 0 ? move_target(b, e) :
	    bind_at(b->paths.target, SANDBOX_TARGET, b->paths.target_read_only ? READ_ONLY : WRITABLE, e);

	/* What lies under an overlay is an empty folder: a tool would find nothing there and call it clean. */
	if (rc == 0 && b->paths.upper[0] != '\0' && (statfs(SANDBOX_TARGET, &fs) != 0 || fs.f_type != OVERLAYFS_SUPER_MAGIC))
		return err_set(e, ERR_IO, "sandbox: the worker's overlay at %s is not in sight", b->paths.target);
	return rc;
}

/* The target: an overlay, a folder, or one file. */
static int
mount_target(const struct box *b, struct err *e)
{
	char at[1024];

	if (b->paths.lower[0] != '\0')
		return mount_overlay(b, e);
	if (b->paths.file[0] == '\0')
		return bind_target(b, e);
	if (snprintf(at, sizeof(at), SANDBOX_TARGET "/%s", b->paths.file_name) >= (int)sizeof(at))
		return err_set(e, ERR_IO, "sandbox: the target's name is too long");
	return bind_at(b->paths.file, at, READ_ONLY, e);
}

static int
bind_own(const struct box *b, struct err *e)
{
	const struct {
		const char *host, *inside;
		enum mount_how how;
	} own[] = {
		{b->paths.out, SANDBOX_OUT, WRITABLE}, {b->paths.scratch, SANDBOX_SCRATCH, WRITABLE},
		{b->paths.workflow, SANDBOX_WORKFLOW, READ_ONLY}, {b->paths.params, SANDBOX_PARAMS, READ_ONLY},
	};

	if (b->paths.target[0] != '\0' && mount_target(b, e) != 0)
		return ERR_IO;
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		if (own[i].host[0] != '\0' && bind_at(own[i].host, own[i].inside, own[i].how, e) != 0)
			return ERR_IO;
	}
	return 0;
}

/* Makes an empty tmpfs the root; the host's is at OLD. */
static int
pivot(struct err *e)
{
	static const char *const places[] = {"/tmp", "/run", "/mnt"};
	const char *base = NULL;

	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return failed(e, "make private", "/");
	for (size_t i = 0; base == NULL && i < sizeof(places) / sizeof(places[0]); i++) {
		if (mount("tmpfs", places[i], "tmpfs", MS_NOSUID | MS_NODEV, ROOT_OPTIONS) == 0)
			base = places[i];
	}
	if (base == NULL)
		return failed(e, "mount a root on", "/tmp");
	if (chdir(base) != 0 || mkdir(&OLD[1], 0700) != 0 || syscall(SYS_pivot_root, ".", &OLD[1]) != 0 || chdir("/") != 0)
		return failed(e, "change root to", base);
	return 0;
}

int
box_prepare_root(const struct box *b, struct err *e)
{
	const char *toolchain = b->paths.toolchain;
	mode_t old = umask(0);
	int rc = ERR_IO;

	if (pivot(e) != 0 || bind_system(b, e) != 0 || make_devices(e) != 0)
		goto out;
	if (file_mkdirs("/tmp", 0755, e) != 0 || file_mkdirs("/proc", 0755, e) != 0)
		goto out;
	if (mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, TMP_OPTIONS) != 0) {
		failed(e, "mount", "/tmp");
		goto out;
	}
	/* After /tmp: a toolchain may lie below the host's, and is bound at its own path. */
	if (toolchain[0] != '\0' && bind_at(toolchain, toolchain, READ_ONLY, e) != 0)
		goto out;
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0) {
		failed(e, "mount", "/proc");
		goto out;
	}
	rc = 0;
out:
	umask(old);
	return rc;
}

int
box_finish_root(const struct box *b, struct err *e)
{
	struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};
	mode_t old = umask(0);
	int rc = ERR_IO;

	if (bind_own(b, e) != 0)
		goto out;
	if (umount2(OLD, DETACH) != 0 || rmdir(OLD) != 0) {
		failed(e, "let go of", "the host's root");
		goto out;
	}
	if (syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, &read_only, sizeof(read_only)) != 0) {
		failed(e, "make read-only", "/");
		goto out;
	}
	rc = 0;
out:
	umask(old);
	return rc;
}

void
box_loopback_up(void)
{
	struct ifreq ifr = {.ifr_flags = IFF_UP | IFF_RUNNING};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "lo");
	if (s >= 0) {
		(void)ioctl(s, SIOCSIFFLAGS, &ifr); /* without it a tool cannot talk to itself; most never do */
		close(s);
	}
}
