/* The helper as a process: what it may and holds while it runs, what its end and ours mean. */
#include "extract_rig.h"

#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/landlock.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "storage/extract_parts.h"
#include "tests/unit/deny_call.h"

#define MANY 130000 /* entries: their news are more than the pipe takes, so the helper waits until we have listened */
#define DEADLINE_MS 20000

/* --- what is left to a confined process --- */

static int top_fd; /* of the directory that it may write to */

static int
try_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

static int
try_unix_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM, 0);
}

static int
try_read_host(void)
{
	return open("/etc/passwd", O_RDONLY);
}

static int
try_proc(void)
{
	return open("/proc/self/environ", O_RDONLY);
}

static int
try_above(void)
{
	int fd = openat(top_fd, "../evil", O_WRONLY | O_CREAT, 0600);
	struct stat st;

	/* In its own root directory nothing is above. */
	return fd >= 0 && fstatat(top_fd, "evil", &st, 0) == 0 ? -1 : fd;
}

static int
try_elsewhere(void)
{
	return mkdir("/tmp/drover-evil-directory", 0700);
}

static int
try_exec(void)
{
	char *argv[] = {"true", NULL}, *envp[] = {NULL};

	return execve("/bin/true", argv, envp);
}

static int
try_fork(void)
{
	return (int)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

static int
try_ptrace(void)
{
	return (int)ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
}

static int
try_kill(void)
{
	return kill(getppid(), 0);
}

static int
try_signal(void)
{
	return (int)syscall(SYS_tgkill, getppid(), getppid(), 0);
}

static int
try_mount(void)
{
	return mount("none", "/", "tmpfs", 0, NULL);
}

static int
try_device(void)
{
	return mknodat(top_fd, "null", S_IFCHR | 0600, 0x103);
}

static int
try_fifo(void)
{
	return mknodat(top_fd, "pipe", S_IFIFO | 0600, 0);
}

static int
try_mode(void)
{
	return fchmod(top_fd, 04777);
}

static int
try_owner(void)
{
	return fchown(top_fd, 0, 0);
}

static int
try_user(void)
{
	return setresuid(0, 0, 0);
}

static int
try_namespace(void)
{
	return unshare(CLONE_NEWUSER);
}

static int
try_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0;
}

/* Written first, made code later. */
static int
try_code_later(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return page == MAP_FAILED ? -1 : mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

static int
try_attribute(void)
{
	return (int)syscall(SYS_fsetxattr, top_fd, "user.evil", "1", 1, 0);
}

static int
try_ioctl(void)
{
	int version;

	return (int)syscall(SYS_ioctl, top_fd, 0x80087601, &version); /* FS_IOC_GETVERSION */
}

static int
try_read_own(void)
{
	return openat(top_fd, "made", O_RDONLY);
}

static const struct {
	const char *what;
	int (*try)(void);
	bool landlock; /* only that forbids it */
} attacks[] = {
	{"a network socket", try_socket, false}, {"a local socket", try_unix_socket, false}, {"a file of the host", try_read_host, true},
	{"its own environment", try_proc, true}, {"a file above", try_above, true}, {"a directory elsewhere", try_elsewhere, true},
	{"another program", try_exec, false}, {"a child", try_fork, false}, {"tracing", try_ptrace, false}, {"kill", try_kill, false},
	{"tgkill", try_signal, false}, {"a mount", try_mount, false}, {"a device", try_device, false}, {"a fifo", try_fifo, false},
	{"a mode", try_mode, false}, {"an owner", try_owner, false}, {"another user", try_user, false},
	{"a namespace", try_namespace, false}, {"memory with code", try_code, false}, {"memory that becomes code", try_code_later, false},
	{"an attribute", try_attribute, false},
	{"an ioctl", try_ioctl, false}, {"reading what it made", try_read_own, true},
};

/* What the walk needs, by the calls that it makes. */
static bool
can_work(void)
{
	int fd = openat(top_fd, "made", O_WRONLY | O_CREAT | O_EXCL, 0644);
	struct stat st;

	return fd >= 0 && write(fd, "x", 1) == 1 && ftruncate(fd, 10) == 0 && fstat(fd, &st) == 0 && close(fd) == 0 &&
	    mkdirat(top_fd, "d", 0755) == 0 && linkat(top_fd, "made", top_fd, "d/h", 0) == 0 &&
	    symlinkat("made", top_fd, "l") == 0 && unlinkat(top_fd, "l", 0) == 0;
}

/* In the child: 100 and more say which attack got through; below that, what else went wrong. */
static int
try_all(bool as_root)
{
	struct extract_limits l = extract_limits_default();
	int want = GUARD_LIMITS | GUARD_SECCOMP, guards;
	struct rlimit r;
	struct err e;

	/* From its second version, which can allow hard links; the kernel says which it has. */
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) >= 2)
		want |= GUARD_LANDLOCK;
	if (as_root)
		want |= GUARD_UID | GUARD_NETNS | GUARD_CHROOT;
	guards = extract_confine(top_fd, PLACE_UID, PLACE_UID, &l, &e);
	if (guards < 0)
		return 1;
	if (guards != want)
		return 2;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != -1) /* not among the calls that are left */
		return 3;
	/* Nor is getrlimit; what it set was looked at from outside by the other tests. */
	if (getrlimit(RLIMIT_CORE, &r) == 0)
		return 4;
	if (!can_work())
		return 5;
	for (int i = 0; i < (int)(sizeof(attacks) / sizeof(attacks[0])); i++)
		if (!(attacks[i].landlock && !(guards & GUARD_LANDLOCK)) && attacks[i].try() >= 0)
			return 100 + i;
	return 0;
}

static void
confined(struct place *p, bool as_root)
{
	pid_t pid;
	int status;

	top_fd = p->dir_fd;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (!as_root && geteuid() == 0 && (setresgid(PLACE_UID, PLACE_UID, PLACE_UID) != 0 ||
		    setresuid(PLACE_UID, PLACE_UID, PLACE_UID) != 0))
			_exit(6);
		_exit(try_all(as_root));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) >= 100)
		fail_msg("it could have: %s", attacks[WEXITSTATUS(status) - 100].what);
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_not_equal(faccessat(p->dir_fd, "../evil", F_OK, 0), 0);
}

static void
started_by_root_it_has_nothing_but_its_directory(void **state)
{
	if (geteuid() != 0)
		skip();
	confined(*state, true);
}

/* No network namespace, no root directory and no user of its own, but no sockets and, with Landlock, no other files either. */
static void
started_by_a_user_it_has_nothing_but_its_directory(void **state)
{
	confined(*state, false);
}

/* --- without openat2 --- */

/* Somebody put a link into the directory meanwhile: neither way of opening follows it. */
static int
walk_beside_a_link(struct place *p, const char *name)
{
	struct extract_limits l = extract_limits_default();
	struct extract_result r;
	struct err e = {0};
	int fd = memfd_create("archive", MFD_CLOEXEC), rc;

	buf_clear(&p->tar);
	tar_entry(p, "sound/file", '0', NULL, "x", 0644);
	tar_entry(p, name, '0', NULL, "x", 0644);
	tar_end(p);
	if (file_write_all(fd, p->tar.data, p->tar.len, NULL) != 0)
		return 1;
	rc = extract_walk(fd, p->dir_fd, &l, NULL, &r, &e);
	close(fd);
	return rc;
}

static int
follow_links(struct place *p)
{
	static const char *const names[] = {"planted/evil", "planted", "planted_file"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (file_remove_tree(p->dir_fd, "sound", NULL) != 0 || walk_beside_a_link(p, names[i]) != ERR_INVALID)
			return 1 + (int)i;
		if (faccessat(p->dir_fd, "sound/file", F_OK, 0) != 0)
			return 11;
	}
	return faccessat(p->dir_fd, "../evil", F_OK, 0) == 0 ? 12 : 0;
}

static int
follow_links_without_openat2(struct place *p)
{
	if (!deny_call(SYS_openat2, ENOSYS) || syscall(SYS_openat2, -1, NULL, NULL, 0) == 0 || errno != ENOSYS)
		return 99;
	return follow_links(p);
}

static void
a_planted_link_is_not_followed(void **state)
{
	struct place *p = *state;
	pid_t pid;
	int status;

	assert_int_equal(symlinkat("..", p->dir_fd, "planted"), 0);
	assert_int_equal(symlinkat("../evil", p->dir_fd, "planted_file"), 0);
	assert_int_equal(follow_links(p), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(follow_links_without_openat2(p));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- the running helper --- */

static void
many_entries(struct place *p)
{
	tar_entry(p, "file", '0', NULL, "x", 0644);
	for (int i = 0; i < MANY; i++)
		tar_entry(p, "d/", '5', NULL, NULL, 0755);
	tar_end(p);
}

/* The only child of this process; 0 if it has none. */
static pid_t
child_pid(void)
{
	char text[64] = "", path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_true(read(fd, text, sizeof(text) - 1) >= 0);
	close(fd);
	return (pid_t)atoi(text);
}

static void
read_proc(pid_t pid, const char *name, struct buf *b)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	buf_clear(b);
	assert_int_equal(file_read(AT_FDCWD, path, b, NULL), 0);
}

static void
has_four_descriptors(pid_t pid)
{
	static const char *const ends[] = {"archive", "pipe:", EXTRACT_SANITIZED ? "" : "/dev/null", "extract-"};
	char path[64], target[256];
	struct dirent *d;
	size_t n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	assert_non_null(dir);
	while ((d = readdir(dir)) != NULL) {
		ssize_t len;
		int fd = atoi(d->d_name);

		if (d->d_name[0] == '.')
			continue;
		n++;
		/* Above them are those of the directory that it is in. */
		if (fd >= 4)
			continue;
		len = readlinkat(dirfd(dir), d->d_name, target, sizeof(target) - 1);
		assert_true(len > 0);
		target[len] = '\0';
		assert_non_null(strstr(target, ends[fd]));
	}
	closedir(dir);
	assert_in_range(n, 4, 5);
}

struct seen {
	struct place *p;
	int calls, end_with;
	int64_t disk_bytes, entries;
	bool look, kill;
};

static void
look_at(pid_t pid)
{
	static const char *const status[] = {"NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapBnd:", "Groups:\t \n",
	    "Uid:\t12345\t12345\t12345\t12345", "Gid:\t12345\t12345\t12345\t12345"};
	static const char *const limits[] = {"Max core file size        0 ", "Max processes             0 ",
	    "Max file size             8589934592 ", "Max cpu time              1200 ", "Max open files            128 "};
	struct buf b = buf_make(16384);
	char ours[64], theirs[64], path[64];
	ssize_t n, m;

	read_proc(pid, "status", &b);
	for (size_t i = 0; i < sizeof(status) / sizeof(status[0]); i++)
		if (strstr(buf_str(&b), status[i]) == NULL)
			fail_msg("not in /proc/PID/status: %s", status[i]);
	read_proc(pid, "limits", &b);
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		if (strstr(buf_str(&b), limits[i]) == NULL)
			fail_msg("not in /proc/PID/limits: %s", limits[i]);
	assert_true(EXTRACT_SANITIZED || strstr(buf_str(&b), "Max address space         536870912 ") != NULL);
	read_proc(pid, "environ", &b);
	assert_int_equal(b.len, 0);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	n = readlink("/proc/self/ns/net", ours, sizeof(ours) - 1);
	m = readlink(path, theirs, sizeof(theirs) - 1);
	assert_true(n > 0 && m > 0);
	assert_true(n != m || memcmp(ours, theirs, (size_t)n) != 0);
	has_four_descriptors(pid);
	buf_release(&b);
}

static int
grew(void *arg, int64_t disk_bytes, int64_t entries, struct err *e)
{
	struct seen *s = arg;
	pid_t pid = child_pid();

	assert_true(disk_bytes > s->disk_bytes && entries > s->entries);
	s->disk_bytes = disk_bytes;
	s->entries = entries;
	if (s->calls++ > 0)
		return 0;
	assert_true(pid > 0);
	if (s->look)
		look_at(pid);
	if (s->kill)
		assert_int_equal(kill(pid, SIGKILL), 0);
	return s->end_with != 0 ? err_set(e, s->end_with, "enough") : 0;
}

static bool
is_empty(const struct place *p)
{
	int fd = openat(p->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0;
	DIR *d = fdopendir(fd);

	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n == 2;
}

static void
it_holds_four_descriptors_and_no_right(void **state)
{
	struct place *p = *state;
	struct seen s = {.p = p, .look = true};
	struct extract_watch watch = {grew, &s};
	struct extract_result r;
	struct err e;
	const gid_t more[] = {4, 12};
	gid_t ours[64];
	int n = getgroups(64, ours);

	/* Others may not look into it, nor may we. */
	if (geteuid() != 0)
		skip();
	many_entries(p);
	assert_true(n >= 0 && setgroups(2, more) == 0); /* that it could have had from us */
	assert_int_equal(unpack_watched(p, NULL, &watch, NULL, &r, &e), 0);
	assert_int_equal(setgroups((size_t)n, ours), 0);
	assert_in_range(s.calls, MANY / 1000 - 1, MANY / 1000 + 1);
	assert_int_equal(r.entries, MANY + 1);
	assert_int_equal(r.disk_bytes, (MANY + 2) * 4096LL);
}

static void
a_watch_that_has_enough_ends_it(void **state)
{
	struct place *p = *state;
	struct seen s = {.p = p, .end_with = ERR_NOTFOUND};
	struct extract_watch watch = {grew, &s};
	struct extract_result r;
	struct err e;

	many_entries(p);
	assert_int_equal(unpack_watched(p, NULL, &watch, NULL, &r, &e), ERR_NOTFOUND);
	assert_string_equal(e.msg, "enough");
	assert_int_equal(s.calls, 1);
	assert_int_equal(child_pid(), 0);
	assert_true(is_empty(p));
}

static void
killed_it_may_be_tried_again(void **state)
{
	struct place *p = *state;
	struct seen s = {.p = p, .kill = true};
	struct extract_watch watch = {grew, &s};
	struct extract_result r;
	struct err e;

	many_entries(p);
	assert_int_equal(unpack_watched(p, NULL, &watch, NULL, &r, &e), ERR_RETRY);
	assert_non_null(strstr(e.msg, "killed"));
	assert_true(e.hint[0] != '\0');
	assert_true(is_empty(p));
	assert_int_equal(unpack(p, NULL, NULL, &r, &e), 0);
}

static int
die(void *arg, int64_t disk_bytes, int64_t entries, struct err *e)
{
	(void)arg, (void)disk_bytes, (void)entries, (void)e;
	return raise(SIGKILL);
}

/* The parent dies while the helper runs: it dies too. We take over as its parent to see it. */
static void
it_dies_with_its_parent(void **state)
{
	struct place *p = *state;
	int64_t deadline_mono_ms = clock_mono_ms() + DEADLINE_MS;
	int status;
	pid_t parent, pid;

	many_entries(p);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
	parent = fork();
	assert_true(parent >= 0);
	if (parent == 0) {
		struct extract_watch watch = {die, NULL};
		struct extract_result r;
		struct err e;

		_exit(unpack_watched(p, NULL, &watch, NULL, &r, &e) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(parent, &status, 0), parent);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	while ((pid = waitpid(-1, &status, WNOHANG)) == 0 && clock_mono_ms() < deadline_mono_ms)
		poll(NULL, 0, 1);
	assert_true(pid > 0);
	/* By the signal, or because nobody reads what it tells: whichever it saw first. */
	assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 1);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
}

static void
a_directory_in_use_is_not_unpacked_into(void **state)
{
	struct place *p = *state;
	struct extract_result r;
	struct err e;

	tar_entry(p, "file", '0', NULL, "x", 0644);
	tar_end(p);
	assert_int_equal(unpack(p, NULL, NULL, &r, &e), 0);
	assert_int_equal(unpack(p, NULL, NULL, &r, &e), ERR_CONFLICT);
	assert_int_equal(faccessat(p->dir_fd, "file", F_OK, 0), 0); /* it was somebody's */
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(started_by_root_it_has_nothing_but_its_directory, place_setup, place_teardown),
		cmocka_unit_test_setup_teardown(started_by_a_user_it_has_nothing_but_its_directory, place_setup, place_teardown),
		cmocka_unit_test_setup_teardown(a_planted_link_is_not_followed, place_setup, place_teardown),
		cmocka_unit_test_setup_teardown(it_holds_four_descriptors_and_no_right, place_setup, place_teardown),
		cmocka_unit_test_setup_teardown(a_watch_that_has_enough_ends_it, place_setup, place_teardown),
		cmocka_unit_test_setup_teardown(killed_it_may_be_tried_again, place_setup, place_teardown),
		cmocka_unit_test_setup_teardown(it_dies_with_its_parent, place_setup, place_teardown),
		cmocka_unit_test_setup_teardown(a_directory_in_use_is_not_unpacked_into, place_setup, place_teardown),
	};
	int helper = extract_helper_main(argc, argv);

	return helper >= 0 ? helper : cmocka_run_group_tests(tests, NULL, NULL);
}
