/* What the helper gives up before it looks at the archive. The list of system calls is a must; Landlock (kernels before 5.19 lack
 * what we need) and, for root, a network and a root directory of its own are added where they can be had. What holds is told to
 * the parent. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "storage/extract_parts.h"

/* Landlock, of which Debian 12's header knows the first half. */
#define LL_FS_WRITE_FILE (1ULL << 1)
#define LL_FS_REMOVE_FILE (1ULL << 5)
#define LL_FS_MAKE_DIR (1ULL << 7)
#define LL_FS_MAKE_REG (1ULL << 8)
#define LL_FS_MAKE_SYM (1ULL << 12)
#define LL_FS_REFER (1ULL << 13)
#define LL_FS_TRUNCATE (1ULL << 14)
#define LL_ABI_REFER 2
#define LL_VERSION 1

struct ll_ruleset { /* struct landlock_ruleset_attr as of ABI 6 */
	uint64_t fs, net, scope;
};

static const struct {
	int abi; /* that brought it */
	uint64_t fs, net, scope;
} ll_steps[] = {
	{1, (1ULL << 13) - 1, 0, 0}, {2, LL_FS_REFER, 0, 0}, {3, LL_FS_TRUNCATE, 0, 0}, {4, 0, 3, 0}, {5, 1ULL << 15, 0, 0},
	{6, 0, 0, 3},
};

/* Everything is forbidden but to make files, directories and links below dir_fd. False where the kernel has no Landlock, or
 * only its first version, which would forbid all hard links between directories. */
static bool
landlock(int dir_fd)
{
	struct ll_ruleset set = {0};
	struct landlock_path_beneath_attr below = {.parent_fd = dir_fd};
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LL_VERSION);
	size_t size = abi >= 6 ? sizeof(set) : abi >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
	bool ok;
	long fd;

	if (abi < LL_ABI_REFER)
		return false;
	for (size_t i = 0; i < sizeof(ll_steps) / sizeof(ll_steps[0]); i++)
		if (abi >= ll_steps[i].abi) {
			set.fs |= ll_steps[i].fs;
			set.net |= ll_steps[i].net;
			set.scope |= ll_steps[i].scope;
		}
	below.allowed_access = set.fs & (LL_FS_WRITE_FILE | LL_FS_REMOVE_FILE | LL_FS_MAKE_DIR | LL_FS_MAKE_REG |
	    LL_FS_MAKE_SYM | LL_FS_REFER | LL_FS_TRUNCATE);
	fd = syscall(SYS_landlock_create_ruleset, &set, size, 0);
	if (fd < 0)
		return false;
	ok = syscall(SYS_landlock_add_rule, (int)fd, LANDLOCK_RULE_PATH_BENEATH, &below, 0) == 0 &&
	    syscall(SYS_landlock_restrict_self, (int)fd, 0) == 0;
	close((int)fd);
	return ok;
}

/* The calls of the walk, of malloc, and of an orderly end; all others fail with EPERM, which libarchive takes as an error. */
static bool
seccomp_filter(void)
{
	static const int allowed[] = {
		SCMP_SYS(read), SCMP_SYS(pread64), SCMP_SYS(readv), SCMP_SYS(lseek), SCMP_SYS(write),
		SCMP_SYS(pwrite64), SCMP_SYS(writev), SCMP_SYS(ftruncate), SCMP_SYS(close), SCMP_SYS(fcntl),
		SCMP_SYS(fstat), SCMP_SYS(fstatfs), SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(openat),
		SCMP_SYS(openat2), SCMP_SYS(mkdirat), SCMP_SYS(linkat), SCMP_SYS(symlinkat), SCMP_SYS(unlinkat),
		SCMP_SYS(utimensat), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk), SCMP_SYS(futex),
		SCMP_SYS(sched_yield), SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(getrandom), SCMP_SYS(getpid),
		SCMP_SYS(gettid), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(sigaltstack),
		SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall), SCMP_SYS(exit), SCMP_SYS(exit_group),
	};
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	bool ok = f != NULL;

	for (size_t i = 0; ok && i < sizeof(allowed) / sizeof(allowed[0]); i++)
		ok = seccomp_rule_add(f, SCMP_ACT_ALLOW, allowed[i], 0) == 0;
	/* No memory becomes code, and signals (abort) reach nobody else. */
	ok = ok && seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)) == 0 &&
	    seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)) == 0 &&
	    seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0)) == 0;
	/* A binary tree over the numbers: the filter is asked some hundred thousand times. */
	if (ok)
		(void)seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	ok = ok && seccomp_load(f) == 0;
	seccomp_release(f);
	return ok;
}

static int
limit(int what, int64_t value, int64_t hard, struct err *e)
{
	struct rlimit r, old;

	if (getrlimit(what, &old) != 0)
		return err_set(e, ERR_IO, "getrlimit: %s", strerror(errno));
	r.rlim_max = (rlim_t)hard < old.rlim_max ? (rlim_t)hard : old.rlim_max;
	r.rlim_cur = (rlim_t)value < r.rlim_max ? (rlim_t)value : r.rlim_max;
	return setrlimit(what, &r) == 0 ? 0 : err_set(e, ERR_IO, "setrlimit: %s", strerror(errno));
}

static int
limits(const struct extract_limits *l, struct err *e)
{
	const struct {
		int what;
		int64_t value, hard_more;
	} rows[] = {
		{RLIMIT_CORE, 0, 0}, {RLIMIT_NOFILE, l->max_depth + 64, 0}, {RLIMIT_FSIZE, l->max_file_bytes, 0},
		{RLIMIT_NPROC, 0, 0}, {RLIMIT_AS, l->max_memory_bytes, 0},
		/* At the first of the two it is told why it dies. */
		{RLIMIT_CPU, (l->max_cpu_ms + 999) / 1000, 1},
	};
	int rc = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && rc == 0; i++)
		/* A sanitizer's shadow is terabytes of address space. */
		if (!(EXTRACT_SANITIZED && rows[i].what == RLIMIT_AS))
			rc = limit(rows[i].what, rows[i].value, rows[i].value + rows[i].hard_more, e);
	return rc;
}

/* Becomes uid/gid without any privilege. The death signal is lost with the old identity and asked for again. */
static int
drop(uint32_t uid, uint32_t gid, struct err *e)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};
	pid_t parent = getppid();

	if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0 ||
	    syscall(SYS_capset, &head, none) != 0)
		return err_set(e, ERR_DENIED, "become uid %u gid %u: %s", uid, gid, strerror(errno));
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		return err_set(e, ERR_IO, "the parent is gone");
	return 0;
}

/* What root alone can do: a network without anything in it, no way above the directory, and another user's identity. */
static int
leave_root(int dir_fd, uint32_t uid, uint32_t gid, int *guards, struct err *e)
{
	int rc;

	if (unshare(CLONE_NEWNET | CLONE_NEWIPC) == 0)
		*guards |= GUARD_NETNS;
	if (fchdir(dir_fd) == 0 && chroot(".") == 0)
		*guards |= GUARD_CHROOT;
	if ((rc = drop(uid, gid, e)) == 0)
		*guards |= GUARD_UID;
	return rc;
}

int
extract_confine(int dir_fd, uint32_t uid, uint32_t gid, const struct extract_limits *l, struct err *e)
{
	int guards = GUARD_LIMITS, rc;

	if ((rc = limits(l, e)) != 0)
		return rc;
	umask(0);
	if (geteuid() == 0 && (rc = leave_root(dir_fd, uid, gid, &guards, e)) != 0)
		return rc;
	/* Not for others of our user either to look into. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return err_set(e, ERR_IO, "no_new_privs: %s", strerror(errno));
	if (landlock(dir_fd))
		guards |= GUARD_LANDLOCK;
	if (!seccomp_filter()) {
		err_set(e, ERR_DENIED, "the extraction helper cannot give up system calls (seccomp)");
		err_hint(e, "allow the worker's container or service to use seccomp");
		return ERR_DENIED;
	}
	return guards | GUARD_SECCOMP;
}
