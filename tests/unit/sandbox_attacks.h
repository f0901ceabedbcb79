/* sandbox_attacks.h - what a hostile tool tries, for test_sandbox_attacks.c alone, which runs itself inside the sandbox as
 * "attack NAME": each attack exits with 0 when everything it tried was refused, and else says what was not. */
#ifndef TESTS_SANDBOX_ATTACKS_H
#define TESTS_SANDBOX_ATTACKS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MiB (1024ll * 1024)
#define PROCESSES 48 /* the limit that the attacks run under */
#define TO_BE_ENDED_S 60 /* until somebody has noticed what an attack did: nobody waits for the end of it */

static int holes; /* what was not refused */

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

/* "$NAME/rest" */
static const char *
place(const char *name, const char *rest)
{
	static char path[8][1024];
	static unsigned turn;
	char *p = path[turn++ % 8];

	snprintf(p, sizeof(path[0]), "%s/%s", getenv(name), rest);
	return p;
}

/* Calls back for every process but ourselves. */
static void
each_process(void (*look)(pid_t pid))
{
	DIR *d = opendir("/proc");
	struct dirent *entry;

	while (d != NULL && (entry = readdir(d)) != NULL) {
		pid_t pid = (pid_t)atoi(entry->d_name);

		if (pid > 0 && pid != getpid())
			look(pid);
	}
	if (d != NULL)
		closedir(d);
}

static void
look_into(pid_t pid)
{
	static const char *const files[] = {"mem", "environ", "maps", "root", "cwd", "exe", "fd/0"};
	char path[64], byte;
	int fd;
	struct iovec here = {&byte, 1}, there = {(void *)(uintptr_t)0x400000, 1};

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, &byte, 1) != 1)
		return; /* a thread of the kernel: anyone may open its empty files */
	close(fd);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, files[i]);
		if (open(path, O_RDONLY) >= 0)
			hole("opened %s", path);
	}
	if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0)
		hole("traced %d", (int)pid);
	if (process_vm_readv(pid, &here, 1, &there, 1, 0) >= 0 || errno == EFAULT)
		hole("read the memory of %d", (int)pid);
}

static void
others_memory(void)
{
	each_process(look_into);
}

static void
signal_to(pid_t pid)
{
	if (kill(pid, 0) == 0)
		hole("may signal %d", (int)pid);
}

static void
others_signals(void)
{
	each_process(signal_to);
}

/* Whatever arrives there, init goes on and the program's own exit code is told. */
static void
signals_to_init(void)
{
	static const int signals[] = {SIGKILL, SIGSTOP, SIGTSTP, SIGSEGV, SIGHUP, SIGINT, SIGALRM};

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		(void)kill(1, signals[i]);
	usleep(50000);
	printf("alive");
}

static void
descriptors(void)
{
	struct stat st;

	for (int fd = 0; fd < 4096; fd++) {
		if (fd != 3 && fcntl(fd, F_GETFD) >= 0 && fd > 2)
			hole("descriptor %d is open", fd);
	}
	if (fcntl(3, F_GETFD) >= 0 && getenv("PROGRESS") == NULL)
		hole("descriptor 3 is open");
	if (fstat(0, &st) != 0 || st.st_rdev != makedev(1, 3))
		hole("descriptor 0 is not /dev/null");
}

static void
no_change(const char *what, long rc)
{
	if (rc >= 0)
		hole("%s worked", what);
}

/* The target is read-only: every way of writing that does not begin with the plain open. */
static void
read_only_target(void)
{
	const char *file = place("TARGET_DIR", "a.txt");
	int fd = open(file, O_RDONLY), dir = open(getenv("TARGET_DIR"), O_RDONLY | O_DIRECTORY), tmp;
	char self[64];
	void *map;

	if (fd < 0 || dir < 0)
		hole("cannot read the target");
	no_change("open for writing", open(file, O_RDWR));
	no_change("open with O_TRUNC", open(file, O_RDONLY | O_TRUNC));
	no_change("truncate", truncate(file, 0));
	no_change("ftruncate", ftruncate(fd, 0));
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	no_change("reopen by /proc/self/fd", open(self, O_WRONLY));
	map = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	no_change("shared map", map == MAP_FAILED ? -1 : 0);
	no_change("unlink", unlink(file));
	no_change("rename inside", rename(file, place("TARGET_DIR", "b.txt")));
	no_change("rename out", rename(file, place("OUT", "b.txt")));
	no_change("rename onto", rename(place("OUT", "."), file));
	no_change("hard link out", link(file, place("OUT", "hard")));
	no_change("make a file", open(place("TARGET_DIR", "new"), O_WRONLY | O_CREAT, 0644));
	tmp = open(getenv("TARGET_DIR"), O_TMPFILE | O_RDWR, 0644);
	no_change("a file without a name", tmp);
	tmp = open(getenv("OUT"), O_TMPFILE | O_RDWR, 0644);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", tmp);
	no_change("link into", linkat(AT_FDCWD, self, AT_FDCWD, place("TARGET_DIR", "new"), AT_SYMLINK_FOLLOW));
	no_change("make a node", mknod(place("TARGET_DIR", "node"), S_IFIFO | 0644, 0));
	no_change("make a whiteout", mknodat(dir, "a.txt2", S_IFCHR, 0));
}

/* Modes and times; without a mount of its own (rung 2) these belong to the uid. */
static void
read_only_modes(void)
{
	const char *file = place("TARGET_DIR", "a.txt");
	int fd = open(file, O_RDONLY);

	no_change("chmod", chmod(file, 0777));
	no_change("fchmod", fchmod(fd, 0777));
	no_change("utimensat", utimensat(AT_FDCWD, file, NULL, 0));
	no_change("setxattr", setxattr(file, "user.x", "y", 1, 0));
}

static void
own_folders_stay(void)
{
	no_change("rename OUT", rename(getenv("OUT"), place("SCRATCH", "out")));
	no_change("remove OUT", rmdir(getenv("OUT")));
	no_change("replace OUT", symlink("/etc", getenv("OUT")));
	no_change("leave by ..", open(place("OUT", "../secret"), O_RDONLY));
}

/* What publishing and clearing up must not follow or wait for. */
static void
traps_in_out(void)
{
	char deep[64] = "deep";

	(void)!symlink("/etc/passwd", place("OUT", "link"));
	(void)!symlink(getenv("HOST_VICTIM"), place("OUT", "dirlink"));
	(void)!symlink(getenv("HOST_VICTIM"), place("SCRATCH", "dirlink"));
	(void)!mkfifo(place("OUT", "fifo"), 0644);
	(void)!mknod(place("OUT", "zero"), S_IFCHR | 0644, 0);
	(void)!mkdir(place("OUT", "line\nbreak\033[31m"), 0755);
	(void)!mkdir(place("OUT", "shut"), 0755);
	(void)!mkdir(place("OUT", "shut/in"), 0000);
	(void)!chmod(place("OUT", "shut"), 0000);
	if (chdir(getenv("OUT")) == 0) {
		for (int i = 0; i < 3000 && mkdir(deep, 0755) == 0 && chdir(deep) == 0; i++)
			;
	}
}

static void
calls(void)
{
	static const struct {
		const char *name;
		long number, args[3];
	} table[] = {
		{"mount", SYS_mount, {0}}, {"umount2", SYS_umount2, {0}}, {"pivot_root", SYS_pivot_root, {0}}, {"chroot", SYS_chroot, {0}},
		{"open_tree", SYS_open_tree, {0}}, {"move_mount", SYS_move_mount, {0}}, {"fsopen", SYS_fsopen, {0}},
		{"mount_setattr", SYS_mount_setattr, {0}}, {"setns", SYS_setns, {0}},
		{"unshare user", SYS_unshare, {CLONE_NEWUSER}}, {"unshare time", SYS_unshare, {0x80}},
		{"unshare files", SYS_unshare, {CLONE_FILES}}, {"clone user", SYS_clone, {CLONE_NEWUSER | SIGCHLD}},
		{"clone net", SYS_clone, {CLONE_NEWNET | SIGCHLD}}, {"open_by_handle_at", SYS_open_by_handle_at, {0}},
		{"name_to_handle_at", SYS_name_to_handle_at, {0}}, {"bpf", SYS_bpf, {0}},
		{"perf_event_open", SYS_perf_event_open, {0}}, {"userfaultfd", SYS_userfaultfd, {1}},
		{"io_uring_setup", SYS_io_uring_setup, {1}}, {"io_uring_enter", SYS_io_uring_enter, {0}},
		{"keyctl", SYS_keyctl, {KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1}}, {"add_key", SYS_add_key, {0}},
		{"kexec_load", SYS_kexec_load, {0}}, {"init_module", SYS_init_module, {0}}, {"settimeofday", SYS_settimeofday, {0}},
		{"clock_settime", SYS_clock_settime, {0}}, {"sethostname", SYS_sethostname, {0}}, {"swapon", SYS_swapon, {0}},
		{"process_vm_writev", SYS_process_vm_writev, {1}}, {"pidfd_getfd", SYS_pidfd_getfd, {0}},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (syscall(table[i].number, table[i].args[0], table[i].args[1], table[i].args[2], 0, 0, 0) != -1 || errno != EPERM)
			hole("%s: %s", table[i].name, strerror(errno));
	}
	if (syscall(SYS_clone3, NULL, 0) != -1 || errno != ENOSYS)
		hole("clone3: %s", strerror(errno));
}

/* Whether the calls of the other ABIs end the process, as they must: their numbers are not those of the filter. */
static void
other_abis(void)
{
#ifdef __x86_64__
	for (int abi = 0; abi < 2; abi++) {
		int status = 0;
		pid_t pid = fork();

		if (pid == 0) {
			long number = 20; /* getpid of i386 */

			if (abi == 0)
				__asm__ volatile("int $0x80" : "+a"(number) : : "memory");
			else
				(void)syscall(0x40000000 | SYS_getpid);
			_exit(0);
		}
		if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			hole("ABI %d is open", abi);
	}
#endif
}

static void
socket_kinds(void)
{
	static const struct {
		int family, type, protocol;
	} table[] = {
		{AF_PACKET, SOCK_DGRAM, 0}, {AF_VSOCK, SOCK_STREAM, 0}, {AF_ALG, SOCK_SEQPACKET, 0}, {AF_KEY, SOCK_RAW, 2},
		{AF_RXRPC, SOCK_DGRAM, AF_INET}, {AF_NETLINK, SOCK_RAW, 9}, {AF_NETLINK, SOCK_RAW, 12}, {AF_INET, SOCK_STREAM, 262},
		{AF_INET6, SOCK_STREAM, 262}, {AF_INET, SOCK_STREAM, IPPROTO_SCTP}, {AF_INET, SOCK_RAW, IPPROTO_TCP},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int fd = socket(table[i].family, table[i].type, table[i].protocol);

		if (fd >= 0 || (errno != EACCES && errno != EPROTONOSUPPORT && errno != EPERM))
			hole("socket %d, %d, %d: %s", table[i].family, table[i].type, table[i].protocol,
			    fd >= 0 ? "made" : strerror(errno));
	}
	/* The kernel takes the low half as an int; so must the filter. */
	if (syscall(SYS_socket, (1ull << 32) | AF_PACKET, SOCK_DGRAM, 0) >= 0 || errno != EACCES)
		hole("socket with high bits: %s", strerror(errno));
}

static int
unix_connect(const char *name, bool abstract)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(a.sun_path + abstract, sizeof(a.sun_path) - abstract, "%s", name);
	return fd < 0 ? -1 : connect(fd, (struct sockaddr *)&a,
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + abstract + strlen(name)));
}

static void
host_sockets(void)
{
	int pair[2];

	no_change("connect to a socket of the host", unix_connect(getenv("HOST_SOCKET"), false));
	no_change("connect to an abstract socket of the host", unix_connect(getenv("HOST_ABSTRACT"), true));
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		hole("a socket pair must work");
}

/* With the network: a port of the host that is not one of the web's, by all ways there are. */
static void
host_ports(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(getenv("HOST_PORT"))),
	    .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sockaddr_in any = {.sin_family = AF_INET};
	struct iovec v = {(void *)(uintptr_t)"x", 1};
	struct msghdr m = {.msg_name = &a, .msg_namelen = sizeof(a), .msg_iov = &v, .msg_iovlen = 1};

	no_change("connect", connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&a, sizeof(a)));
	no_change("connect by multipath TCP", connect(socket(AF_INET, SOCK_STREAM, 262), (struct sockaddr *)&a, sizeof(a)));
	no_change("sendto with fast open", sendto(socket(AF_INET, SOCK_STREAM, 0), "x", 1, MSG_FASTOPEN, (struct sockaddr *)&a, sizeof(a)));
	no_change("sendmsg with fast open", sendmsg(socket(AF_INET, SOCK_STREAM, 0), &m, MSG_FASTOPEN));
	no_change("bind", bind(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&any, sizeof(any)));
	if (socket(AF_INET, SOCK_DGRAM, 0) < 0)
		hole("names could not be asked for");
}

static void
limits_are_hard(void)
{
	static const int what[] = {RLIMIT_CORE, RLIMIT_FSIZE, RLIMIT_NOFILE};
	struct rlimit r;

	for (size_t i = 0; i < sizeof(what) / sizeof(what[0]); i++) {
		getrlimit((__rlimit_resource_t)what[i], &r);
		if (what[i] == RLIMIT_CORE && r.rlim_max != 1)
			hole("core dumps of %llu", (unsigned long long)r.rlim_max);
		r.rlim_cur = r.rlim_max = r.rlim_max + 1;
		no_change("raising a limit", setrlimit((__rlimit_resource_t)what[i], &r));
	}
	no_change("writing to /proc/sys", open("/proc/sys/kernel/core_pattern", O_WRONLY));
	no_change("sysrq", open("/proc/sysrq-trigger", O_WRONLY));
	no_change("/etc/shadow", open("/etc/shadow", O_RDONLY));
	no_change("a map of ids", open("/proc/self/uid_map", O_WRONLY));
}

/* Processes that stay: says how many there were. */
static void
fork_bomb(void)
{
	int n = 0;

	for (; n < 2000; n++) {
		pid_t pid = fork();

		if (pid < 0)
			break;
		if (pid == 0) {
			signal(SIGTERM, SIG_IGN);
			pause();
			_exit(0);
		}
	}
	if (n > PROCESSES)
		hole("%d processes", n);
	fflush(stdout);
	if (n == 2000)
		sleep(TO_BE_ENDED_S);
}

/* 256 MiB in files that no process has mapped. */
static void
file_memory(const char *dir)
{
	static char block[1024 * 1024];

	memset(block, 1, sizeof(block));
	for (int i = 0; i < 32; i++) {
		char path[64];
		int fd;

		snprintf(path, sizeof(path), "%s/%d", dir != NULL ? dir : "", i);
		fd = dir == NULL ? memfd_create("x", 0) : open(path, O_RDWR | O_CREAT, 0600);
		for (int k = 0; fd >= 0 && k < 8; k++)
			(void)!write(fd, block, sizeof(block));
	}
	sleep(TO_BE_ENDED_S);
	printf("survived");
}

static void
memory_files(void)
{
	int fd = memfd_create("x", 0);

	if (fd < 0 && errno == ENOSYS)
		raise(SIGKILL); /* as good as killed for it */
	file_memory(NULL);
}

static void
memory_file(void)
{
	printf("%s", memfd_create("x", 0) >= 0 ? "made" : errno == ENOSYS ? "refused" : strerror(errno));
}

static void
memory_tmp(void)
{
	file_memory("/tmp");
}

static void
memory_segments(void)
{
	for (int i = 0; i < 32; i++) {
		int id = shmget(IPC_PRIVATE, 8 * MiB, IPC_CREAT | 0600);
		void *at = id >= 0 ? shmat(id, NULL, 0) : (void *)-1;

		if (at == (void *)-1)
			break;
		memset(at, 1, 8 * MiB);
		shmdt(at);
	}
	sleep(TO_BE_ENDED_S);
	printf("survived");
}

/* 40 MiB in files below the limit of each. */
static void
write_files(const char *dir)
{
	static char block[1024 * 1024];

	for (int i = 0; i < 40; i++) {
		char path[512];
		int fd;

		snprintf(path, sizeof(path), "%s/f%d", dir, i);
		fd = open(path, O_WRONLY | O_CREAT, 0600);
		memset(block, i + 1, sizeof(block));
		(void)!write(fd, block, sizeof(block));
		close(fd);
	}
}

static void
disk_out(void)
{
	write_files(getenv("OUT"));
	sleep(TO_BE_ENDED_S);
}

static void
disk_target(void)
{
	write_files(getenv("TARGET_DIR"));
	sleep(TO_BE_ENDED_S);
}

static void
disk_hidden(void)
{
	mkdir(place("SCRATCH", "a"), 0755);
	mkdir(place("SCRATCH", "a/b"), 0755);
	write_files(place("SCRATCH", "a/b"));
	chmod(place("SCRATCH", "a/b"), 0000);
	sleep(TO_BE_ENDED_S);
}

/* 40 MiB that have no name in any folder. */
static void
disk_nameless(void)
{
	static char block[1024 * 1024];

	memset(block, 1, sizeof(block));
	for (int i = 0; i < 40; i++)
		(void)!write(open(getenv("SCRATCH"), O_TMPFILE | O_RDWR, 0600), block, sizeof(block));
	sleep(TO_BE_ENDED_S);
}

static void
disk_names(void)
{
	char path[512];

	for (int i = 0; i < 40000; i++) {
		snprintf(path, sizeof(path), "%s/n%d", getenv("SCRATCH"), i);
		close(open(path, O_WRONLY | O_CREAT, 0600));
	}
	sleep(TO_BE_ENDED_S);
}

static void
disk_deep(void)
{
	if (chdir(getenv("SCRATCH")) != 0)
		return;
	for (int i = 0; i < 300; i++)
		(void)!(mkdir("d", 0755) == 0 && chdir("d") == 0);
	sleep(TO_BE_ENDED_S);
}

/* A process that has left its session and its parents and takes no signal that can be ignored. MARK names it in /proc. */
static void
survivor(void)
{
	int ready[2];
	char byte;

	(void)!pipe(ready);
	if (fork() == 0) {
		setsid();
		if (fork() == 0) {
			for (int s = 1; s < 65; s++)
				signal(s, SIG_IGN);
			(void)!write(ready[1], "x", 1);
			for (int fd = 0; fd < 64; fd++)
				close(fd);
			for (;;)
				pause();
		}
		_exit(0);
	}
	(void)!read(ready[0], &byte, 1);
	if (getenv("LINGER") != NULL)
		sleep(60);
}

static void
write_out(void)
{
	if (open(place("OUT", "written"), O_WRONLY | O_CREAT, 0644) < 0)
		hole("OUT cannot be written: %s", strerror(errno));
}

static const struct attack {
	const char *name;
	void (*run)(void);
} attacks[] = {
	{"others_memory", others_memory}, {"others_signals", others_signals}, {"signals_to_init", signals_to_init},
	{"descriptors", descriptors}, {"read_only_target", read_only_target}, {"read_only_modes", read_only_modes},
	{"own_folders_stay", own_folders_stay}, {"traps_in_out", traps_in_out}, {"calls", calls}, {"other_abis", other_abis},
	{"socket_kinds", socket_kinds}, {"host_sockets", host_sockets}, {"host_ports", host_ports},
	{"limits_are_hard", limits_are_hard}, {"fork_bomb", fork_bomb}, {"memory_files", memory_files},
	{"memory_file", memory_file}, {"memory_tmp", memory_tmp}, {"memory_segments", memory_segments}, {"disk_out", disk_out},
	{"disk_target", disk_target}, {"disk_hidden", disk_hidden}, {"disk_names", disk_names}, {"disk_nameless", disk_nameless},
	{"disk_deep", disk_deep}, {"survivor", survivor}, {"write_out", write_out},
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
