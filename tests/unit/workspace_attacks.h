/* workspace_attacks.h - what a hostile tool tries in its workspace, for test_workspace_attacks.c alone, which runs itself inside the sandbox
 * as "attack NAME": each attack exits with 0 when everything that had to be refused was, and else says what was not. */
#ifndef TESTS_WORKSPACE_ATTACKS_H
#define TESTS_WORKSPACE_ATTACKS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static int holes; /* what was not refused */
static bool strict;  /* nothing may work */

static void
hole(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("; ");
	holes++;
}

/* Where nothing may work, what did is a hole. */
static bool
tried(const char *what, const char *path, long rc)
{
	if (strict && rc >= 0)
		hole("%s %s", what, path);
	return rc >= 0;
}

static const char *
in(const char *dir, const char *rest)
{
	static char path[32][2048];
	static unsigned turn;
	char *p = path[turn++ % 32];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, rest);
	return p;
}

static const char *
var(const char *name)
{
	const char *v = getenv(name);

	return v != NULL ? v : "";
}

/* Without mounts of its own the tool sees the host's paths, and owns what the worker owns: modes and times are out of anyone's reach. */
static bool
in_container(void)
{
	return strncmp(var("TARGET_DIR"), "/drover/", 8) != 0;
}

static void
close_if(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* --- the bytes of one file --- */

static void
write_through(const char *path)
{
	static const int flags[] = {O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_WRONLY | O_APPEND, O_RDWR | O_DIRECT,
		O_RDWR | O_CREAT | O_TRUNC};
	int fd;

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		fd = open(path, flags[i], 0644);
		if (tried("open for writing", path, fd))
			(void)!pwrite(fd, "evil", 4, 0);
		close_if(fd);
	}
	tried("truncate", path, truncate(path, 1));
}

/* From a descriptor that may only read. */
static void
write_through_reader(const char *path)
{
	int fd = open(path, O_RDONLY), again, source = open(in(var("OUT"), "source"), O_RDWR | O_CREAT | O_TRUNC, 0644), pipes[2];
	char self[64];
	void *map;
	loff_t off = 0;

	if (fd < 0 || source < 0 || pipe(pipes) != 0)
		return;
	(void)!write(source, "evil", 4);
	(void)!write(pipes[1], "evil", 4);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	again = open(self, O_RDWR);
	if (tried("reopen", path, again))
		(void)!write(again, "evil", 4);
	close_if(again);
	snprintf(self, sizeof(self), "/proc/thread-self/fd/%d", fd);
	tried("truncate by descriptor", path, truncate(self, 0));
	tried("ftruncate", path, ftruncate(fd, 0));
	tried("fallocate", path, fallocate(fd, 0, 0, 8192));
	tried("punch", path, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	tried("copy_file_range", path, copy_file_range(source, &(loff_t){0}, fd, &off, 4, 0));
	tried("splice", path, splice(pipes[0], NULL, fd, &off, 4, SPLICE_F_NONBLOCK));
	tried("reflink into", path, ioctl(fd, FICLONE, source));
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	tried("shared map", path, map == MAP_FAILED ? -1 : 0);
	map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	if (map != MAP_FAILED)
		tried("mprotect of a shared map", path, mprotect(map, 4096, PROT_READ | PROT_WRITE));
	close(fd);
	close(source);
	close(pipes[0]);
	close(pipes[1]);
}

/* --- its place and its description --- */

static void
change_names(const char *dir)
{
	const char *file = in(dir, "d/hello"), *out = var("OUT");
	int tmp;
	char self[64];

	tried("link out", file, link(file, in(out, "hard")));
	tried("rename out", file, rename(file, in(out, "moved")));
	tried("rename back", file, rename(in(out, "moved"), file));
	tried("exchange", file, syscall(SYS_renameat2, AT_FDCWD, file, AT_FDCWD, in(dir, "deep/file"), RENAME_EXCHANGE));
	tried("whiteout by rename", file, syscall(SYS_renameat2, AT_FDCWD, in(dir, "deep/file"), AT_FDCWD, in(dir, "deep/file2"),
	    RENAME_WHITEOUT));
	close_if(open(in(out, "other"), O_WRONLY | O_CREAT, 0644));
	tried("rename over", file, rename(in(out, "other"), file));
	tried("unlink", file, unlink(file));
	tried("make", dir, mkdir(in(dir, "new"), 0755));
	tried("make a link", dir, symlink("/etc/passwd", in(dir, "newlink")));
	tried("make a fifo", dir, mkfifo(in(dir, "fifo"), 0644));
	tried("make a device", dir, mknod(in(dir, "disk"), S_IFBLK | 0666, makedev(254, 0)));
	tried("make a whiteout", dir, mknod(in(dir, "whiteout"), S_IFCHR, makedev(0, 0)));
	tried("remove a folder", dir, rename(in(dir, "d"), in(dir, "e")));
	tmp = open(dir, O_TMPFILE | O_RDWR, 0644);
	tried("nameless file", dir, tmp);
	close_if(tmp);
	tmp = open(out, O_TMPFILE | O_RDWR, 0644);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", tmp);
	tried("link into", dir, linkat(AT_FDCWD, self, AT_FDCWD, in(dir, "linked"), AT_SYMLINK_FOLLOW));
	close_if(tmp);
}

static void
change_description(const char *path)
{
	static const char *const names[] = {"user.x", "trusted.x", "security.x", "user.overlay.opaque", "trusted.overlay.opaque",
	    "user.overlay.redirect", "trusted.overlay.redirect", "user.overlay.metacopy", "security.capability", "system.posix_acl_access"};
	struct timespec times[2] = {{1, 0}, {1, 0}};
	int fd = open(path, O_RDONLY), flags = FS_NODUMP_FL | FS_IMMUTABLE_FL | FS_APPEND_FL;

	tried("chmod", path, chmod(path, 07777));
	tried("chown", path, chown(path, getuid(), getgid()));
	tried("utimens", path, utimensat(AT_FDCWD, path, times, 0));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		tried(names[i], path, setxattr(path, names[i], "y", 1, 0));
	if (fd < 0)
		return;
	tried("fchmod", path, fchmod(fd, 0777));
	tried("futimens", path, futimens(fd, times));
	tried("fsetxattr", path, fsetxattr(fd, "user.y", "y", 1, 0));
	tried("flags", path, ioctl(fd, FS_IOC_SETFLAGS, &flags));
	flags = FS_NODUMP_FL;
	tried("flags that anyone may set", path, ioctl(fd, FS_IOC_SETFLAGS, &flags));
	close(fd);
}

/* --- other ways to the same files --- */

static void
by_handle(const char *path)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + 128];
	} h = {.handle = {.handle_bytes = 128}};
	int mount_id, fd;

	if (!tried("name_to_handle_at", path, name_to_handle_at(AT_FDCWD, path, &h.handle, &mount_id, 0)))
		return;
	fd = open_by_handle_at(open("/", O_RDONLY | O_DIRECTORY), &h.handle, O_RDWR);
	if (fd >= 0)
		hole("open_by_handle_at %s", path);
}

static void
by_mounts(const char *path)
{
	int fd;

	if (mount(path, var("OUT"), NULL, MS_BIND, NULL) == 0 || mount(NULL, var("TARGET_DIR"), NULL, MS_REMOUNT | MS_BIND, NULL) == 0)
		hole("mount");
	if (umount2(var("TARGET_DIR"), MNT_DETACH) == 0)
		hole("umount");
	fd = (int)syscall(SYS_open_tree, AT_FDCWD, path, 1 /* OPEN_TREE_CLONE */);
	if (fd >= 0 || syscall(SYS_fsopen, "overlay", 0) >= 0 || syscall(SYS_fspick, AT_FDCWD, path, 0) >= 0)
		hole("the new mount calls");
	if (syscall(SYS_move_mount, AT_FDCWD, path, AT_FDCWD, var("OUT"), 0) == 0)
		hole("move_mount");
	if (unshare(CLONE_NEWUSER) == 0 || unshare(CLONE_NEWNS) == 0)
		hole("unshare");
	if (chroot(path) == 0)
		hole("chroot");
}

/* Through every process that can be seen: its root, its folder, its files, its memory, its namespaces. */
static void
by_processes(const char *path)
{
	static const char *const ways[] = {"root", "cwd/../..", "cwd", "fd/3", "fd/4", "fd/5", "ns/mnt", "mem"};
	DIR *d = opendir("/proc");
	struct dirent *entry;

	while (d != NULL && (entry = readdir(d)) != NULL) {
		pid_t pid = (pid_t)atoi(entry->d_name);

		if (pid <= 0 || pid == getpid())
			continue;
		for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
			char at[4096];
			int fd;

			snprintf(at, sizeof(at), "/proc/%d/%s%s", (int)pid, ways[i], i < 2 ? path : "");
			fd = open(at, strcmp(ways[i], "mem") == 0 ? O_RDWR : O_RDONLY);
			if (fd >= 0)
				hole("%s", at);
			close_if(fd);
		}
		if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0)
			hole("traced %d", (int)pid);
	}
	if (d != NULL)
		closedir(d);
}

/* --- the attacks --- */

static void
shared_tree(void)
{
	const char *dir = var("TARGET_DIR");

	strict = true;
	if (access(in(dir, "d/hello"), R_OK) != 0)
		hole("the target cannot be read");
	write_through(in(dir, "d/hello"));
	write_through(in(dir, "link"));
	write_through_reader(in(dir, "d/hello"));
	change_names(dir);
	if (in_container())
		return;
	change_description(in(dir, "d/hello"));
	change_description(in(dir, "d"));
	change_description(dir);
}

static void
private_tree(void)
{
	const char *dir = var("TARGET_DIR");
	int fd = open(in(dir, "deep/file"), O_WRONLY | O_TRUNC);

	/* All of it is the run's own: the plain ways must work. */
	if (fd < 0 || write(fd, "mine", 4) != 4)
		hole("cannot write: %s", strerror(errno));
	close_if(fd);
	if (unlink(in(dir, "link")) != 0 || mkdir(in(dir, "link"), 0700) != 0 || rmdir(in(dir, "link")) != 0)
		hole("cannot change a folder: %s", strerror(errno));
	write_through(in(dir, "d/hello"));
	write_through_reader(in(dir, "deep/file"));
	change_description(in(dir, "d/run"));
	change_description(in(dir, "d"));
	change_description(dir);
	change_names(dir);
}

/* By the names that things have on the host, all of which the tool knows here. */
static void
elsewhere(void)
{
	const char *cached = var("CACHED"), *other = var("OTHER");
	const char *const files[] = {in(cached, "d/hello"), in(other, "d/hello")};
	bool shared_here = in_container() && strcmp(var("TARGET_DIR") + strlen(var("CACHE")), "/target/workspace") == 0;

	strict = true;
	for (size_t i = 0; i < 2; i++) {
		write_through(files[i]);
		by_handle(files[i]);
		by_mounts(files[i]);
		by_processes(files[i]);
		if (!(i == 0 && shared_here))
			tried("read", files[i], open(files[i], O_RDONLY));
	}
	change_names(cached);
	change_names(other);
	tried("list", other, open(other, O_RDONLY | O_DIRECTORY));
	tried("list", "the cache", open(var("CACHE"), O_RDONLY | O_DIRECTORY));
	tried("a lock", "of the cache", open(in(var("CACHE"), "index"), O_RDWR));
	if (!in_container()) {
		change_description(cached);
		change_description(files[0]);
	}
}

/* What must not stop or lead astray who clears up. */
static void
leave_traps_in(const char *dir)
{
	int at = open(dir, O_RDONLY | O_DIRECTORY), flags = FS_IMMUTABLE_FL;

	if (at < 0)
		return;
	(void)!symlinkat(var("CACHED"), at, "lead");
	(void)!symlinkat(var("CACHE"), at, "lower");
	(void)!symlinkat("..", at, "up");
	(void)!mkfifoat(at, "pipe", 0);
	(void)!mknodat(at, "socket", S_IFSOCK, 0);
	(void)!mknodat(at, "white", S_IFCHR, 0);
	(void)!mkdirat(at, "line\nbreak\033[31m", 0755);
	(void)!mkdirat(at, "shut", 0755);
	(void)!mkdirat(at, "shut/in", 0);
	(void)!fsetxattr(at, "user.overlay.opaque", "y", 1, 0);
	(void)!ioctl(at, FS_IOC_SETFLAGS, &flags);
	(void)!fchmodat(at, "shut", 0, 0);
	if (fchdir(at) == 0)
		for (int i = 0; i < 300 && mkdir("deep", 0755) == 0 && chdir("deep") == 0; i++)
			;
	(void)!chdir("/");
	(void)!fchmod(at, 0);
	close(at);
}

static void
leave_traps(void)
{
	leave_traps_in(var("TARGET_DIR"));
	leave_traps_in(var("OUT"));
}

static bool
says(const char *path, const char *text)
{
	char now[64] = "";
	int fd = open(path, O_RDONLY);
	ssize_t n = fd >= 0 ? read(fd, now, sizeof(now) - 1) : -1;

	close_if(fd);
	return n >= 0 && strcmp(now, text) == 0;
}

static void
as_new(void)
{
	static const char *const names[] = {".", "..", "d", "deep", "link"};
	DIR *d = opendir(var("TARGET_DIR"));
	struct dirent *entry;

	if (!says(in(var("TARGET_DIR"), "d/hello"), "hello") || !says(in(var("TARGET_DIR"), "deep/file"), "deep") ||
	    !says(in(var("TARGET_DIR"), "link"), "hello") || access(in(var("TARGET_DIR"), "d/run"), X_OK) != 0)
		hole("the target is not as it was");
	while (d != NULL && (entry = readdir(d)) != NULL) {
		bool known = false;

		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			known = known || strcmp(entry->d_name, names[i]) == 0;
		if (!known)
			hole("found %s", entry->d_name);
	}
	if (d != NULL)
		closedir(d);
	if (access(in(var("OUT"), "hard"), F_OK) == 0 || access(in(var("OUT"), "source"), F_OK) == 0)
		hole("found what another run had left");
}

/* Attributes and devices by which an overlay would lead to what it must not show, for the next mount of the same layers. */
static void
layer_tricks(void)
{
	const char *dir = var("TARGET_DIR");
	int fd;

	(void)!setxattr(dir, "user.overlay.opaque", "y", 1, 0);
	(void)!setxattr(in(dir, "d"), "user.overlay.redirect", "/../../../../../../etc", 22, 0);
	(void)!setxattr(in(dir, "d"), "trusted.overlay.redirect", "/etc", 4, 0);
	(void)!setxattr(in(dir, "d/hello"), "user.overlay.metacopy", "", 0, 0);
	(void)!setxattr(in(dir, "d/hello"), "user.overlay.redirect", "/etc/passwd", 11, 0);
	(void)!setxattr(in(dir, "d/run"), "user.overlay.origin", "evil", 4, 0);
	(void)!mknod(in(dir, "white"), S_IFCHR, makedev(0, 0));
	(void)!unlink(in(dir, "link"));
	(void)!mkdir(in(dir, "link"), 0755);
	fd = open(in(dir, "d/hello"), O_WRONLY | O_TRUNC);
	if (fd < 0 || write(fd, "step", 4) != 4)
		hole("cannot write");
	close_if(fd);
}

static void
after_layer_tricks(void)
{
	const char *dir = var("TARGET_DIR");

	if (!says(in(dir, "d/hello"), "step") || !says(in(dir, "deep/file"), "deep"))
		hole("the step before has left something else");
	if (access(in(dir, "d/passwd"), F_OK) == 0 || access(in(dir, "d/shadow"), F_OK) == 0)
		hole("led to /etc");
	if (rmdir(in(dir, "link")) == 0 && mkdir(in(dir, "link"), 0755) != 0)
		hole("cannot make a folder again");
}

static void
shared_file(void)
{
	const char *dir = var("TARGET_DIR"), *file = in(dir, "hello");

	strict = true;
	if (access(file, R_OK) != 0)
		hole("the target cannot be read");
	write_through(file);
	write_through_reader(file);
	change_description(file);
	tried("unlink", file, unlink(file));
	tried("rename", file, rename(file, in(var("OUT"), "x")));
	tried("link", file, link(file, in(var("OUT"), "x")));
}

static void
private_file(void)
{
	const char *file = in(var("TARGET_DIR"), "hello");

	write_through(file);
	write_through_reader(file);
	change_description(file);
	if (open(file, O_RDWR) < 0)
		hole("cannot write: %s", strerror(errno));
}

static const struct attack {
	const char *name;
	void (*run)(void);
} attacks[] = {
	{"shared_tree", shared_tree}, {"private_tree", private_tree}, {"elsewhere", elsewhere}, {"leave_traps", leave_traps},
	{"as_new", as_new}, {"layer_tricks", layer_tricks}, {"after_layer_tricks", after_layer_tricks},
	{"shared_file", shared_file}, {"private_file", private_file},
};

/* Runs the attack that argv asks for and returns its exit status; -1 if it asks for none. */
static int
attack_main(int argc, char **argv)
{
	for (size_t i = 0; argc >= 3 && strcmp(argv[1], "attack") == 0 && i < sizeof(attacks) / sizeof(attacks[0]); i++) {
		if (strcmp(attacks[i].name, argv[2]) == 0) {
			attacks[i].run();
			fflush(stdout);
			return holes > 0 ? 66 : 0;
		}
	}
	return -1;
}

#endif
