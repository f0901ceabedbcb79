#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "worker/sandbox_wire.h"

/* The helper process of a sandbox. On rungs 1 and 3 it makes the namespaces and forks the init of the new pid namespace, which
 * builds what the frame says of the root, and waits for the order; then it adds what belongs to the program, starts and watches it;
 * when init ends, the kernel kills all that is left inside. On rung 2 the helper is that init itself, as a subreaper. Everything
 * here is single-threaded. */

#define WATCH_MS 200 /* between looks at memory where no cgroup limits it */
#define INSIDE_UID 1000
#define LINK_FD 10 /* the socket to the worker: out of the way of 0..3, closed on exec */

/* --- telling the worker --- */

static void
tell(int fd, const struct box_end *end)
{
	struct box_end m = *end;

	m.magic = BOX_MAGIC;
	(void)file_write_all(fd, &m, sizeof(m), NULL); /* a worker that is gone needs no answer */
}

static int
tell_failure(int fd, const struct err *e)
{
	struct box_end end = {.failed = e->code};

	snprintf(end.text, sizeof(end.text), "%.*s", (int)sizeof(end.text) - 1, e->msg);
	tell(fd, &end);
	return 1;
}

/* --- setting up, in the helper --- */

static int
write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), ok;

	if (fd < 0)
		return -1;
	ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return ok ? 0 : -1;
}

static int
join_cgroup(const struct box *b, struct err *e)
{
	char path[640], pid[24];

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	for (size_t i = 0; i < b->cgroup.n; i++) {
		if (b->cgroup.dirs[i][0] == '\0')
			continue;
		snprintf(path, sizeof(path), "%s/cgroup.procs", b->cgroup.dirs[i]);
		if (write_text(path, pid) != 0)
			return err_set(e, ERR_IO, "sandbox: join %s: %s", path, strerror(errno));
	}
	return 0;
}

/* A plain user's way to the rights that the set-up needs: all of them, but only over its own namespaces. */
static int
enter_user_namespace(struct err *e)
{
	char map[64];
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (unshare(CLONE_NEWUSER) != 0)
		return err_set(e, ERR_IO, "sandbox: make a user namespace: %s", strerror(errno));
	/* Our own /proc files must be ours to write the maps; no tool runs yet that could look at us. */
	(void)prctl(PR_SET_DUMPABLE, 1);
	snprintf(map, sizeof(map), "%d %d 1", INSIDE_UID, (int)uid);
	if (write_text("/proc/self/setgroups", "deny") != 0 || write_text("/proc/self/uid_map", map) != 0)
		return err_set(e, ERR_IO, "sandbox: map the user: %s", strerror(errno));
	snprintf(map, sizeof(map), "%d %d 1", INSIDE_UID, (int)gid);
	if (write_text("/proc/self/gid_map", map) != 0)
		return err_set(e, ERR_IO, "sandbox: map the group: %s", strerror(errno));
	(void)prctl(PR_SET_DUMPABLE, 0);
	return 0;
}

static int
make_namespaces(const struct box *b, struct err *e)
{
	int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | (b->caps.netns && !b->egress ? CLONE_NEWNET : 0);

	if (b->caps.rung == RUNG_USER && enter_user_namespace(e) != 0)
		return ERR_IO;
	if (unshare(flags) != 0)
		return err_set(e, ERR_IO, "sandbox: make namespaces: %s%s", strerror(errno),
		    b->caps.rung == RUNG_ROOT ? " (root needs CAP_SYS_ADMIN for it: grant it, or run the worker as a plain user)" : "");
	return 0;
}

/* --- the program --- */

/* The last process before the program: only takes rights away, in an order in which each step still has what it needs. */
static void
become_program(const struct box *b, int report_fd)
{
	const char *cwd = b->paths.target[0] == '\0' ? "/" : b->caps.rung == RUNG_USER || b->caps.rung == RUNG_ROOT ? SANDBOX_TARGET : b->paths.target;
	struct err e = {0};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(022);
	if (b->caps.rung == RUNG_CONTAINER || b->caps.rung == RUNG_NONE)
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* inside a pid namespace it dies with init anyway */
	if (box_set_limits(b, &e) != 0 || box_drop_rights(b, &e) != 0)
		goto fail;
	if (chdir(cwd) != 0) {
		err_set(&e, ERR_IO, "sandbox: enter %s: %s", cwd, strerror(errno));
		goto fail;
	}
	if (box_landlock(b, &e) != 0 || box_seccomp(b, &e) != 0)
		goto fail;
	/* setsid keeps the program from our terminal, where there is one. */
	(void)setsid();
	if (!b->has_progress)
		close(3);
	environ = b->env;
	execvpe(b->argv[0], b->argv, b->env);
	err_set(&e, errno == ENOENT ? ERR_NOTFOUND : ERR_IO, "cannot run '%s': %s", b->argv[0], strerror(errno));
fail:
	(void)file_write_all(report_fd, &e, sizeof(e), NULL);
	_exit(127);
}

/* Starts the program and waits until it runs. Returns its pid, or -1 with *e. */
static pid_t
start_program(const struct box *b, struct err *e)
{
	int report[2];
	pid_t pid;
	ssize_t n;

	if (pipe2(report, O_CLOEXEC) != 0) {
		err_set(e, ERR_IO, "sandbox: pipe: %s", strerror(errno));
		return -1;
	}
	pid = fork();
	if (pid == 0)
		become_program(b, report[1]);
	close(report[1]);
	while ((n = read(report[0], e, sizeof(*e))) < 0 && errno == EINTR)
		;
	close(report[0]);
	if (pid < 0) {
		err_set(e, ERR_IO, "sandbox: fork: %s", strerror(errno));
		return -1;
	}
	if (n == 0)
		return pid; /* closed by exec */
	(void)waitpid(pid, NULL, 0);
	return -1;
}

/* --- init: watching the program --- */

struct watch {
	const struct box *b;
	pid_t program;
	bool inside;       /* in a pid namespace of our own */
	bool ended, stopping, too_many;
	pid_t worker;      /* rung 2: our parent as long as it lives; else 0 */
	struct disk_watch disk;
	struct box_end end;
};

static void
signal_all(const struct watch *w, int signo)
{
	if (w->inside)
		(void)kill(-1, signo); /* all in the namespace but us */
	else
		tree_signal(signo);
}

static void
reap(struct watch *w)
{
	struct rusage ru;
	int status;
	pid_t pid;

	while ((pid = wait4(-1, &status, WNOHANG, &ru)) > 0) {
		w->end.user_ms += ru.ru_utime.tv_sec * 1000 + ru.ru_utime.tv_usec / 1000;
		w->end.system_ms += ru.ru_stime.tv_sec * 1000 + ru.ru_stime.tv_usec / 1000;
		if (ru.ru_maxrss * 1024 > w->end.max_rss_bytes)
			w->end.max_rss_bytes = ru.ru_maxrss * 1024;
		if (pid != w->program)
			continue;
		w->ended = true;
		w->end.exited = WIFEXITED(status);
		w->end.code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
		w->end.signo = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	}
}

/* Memory that lies in the step's own file systems and segments, mapped by a process or not. */
static int64_t
unmapped_bytes(const struct watch *w)
{
	static const char *const places[] = {"/tmp", "/dev/shm"};
	struct shm_info segments;
	struct statvfs v;
	int64_t sum = 0;

	if (!w->inside)
		return 0; /* the container's, not ours alone */
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (statvfs(places[i], &v) == 0)
			sum += (int64_t)(v.f_blocks - v.f_bfree) * (int64_t)v.f_frsize;
	}
	if (shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&segments) >= 0)
		sum += (int64_t)segments.shm_rss * sysconf(_SC_PAGESIZE);
	return sum;
}

/* Without a control group; and a container's uid may have other processes than ours, so that no limit of its own bounds them. */
static void
watch_tree(struct watch *w)
{
	size_t processes;
	int64_t bytes = tree_resident_bytes(getpid(), &processes) + unmapped_bytes(w);

	w->end.oom = w->end.oom || bytes > w->b->limits.memory_bytes;
	w->too_many = !w->inside && (int64_t)processes > w->b->limits.processes;
}

/* Ends everything when it takes more than its share. */
static void
watch_shares(struct watch *w)
{
	if (w->b->cgroup.version == 0)
		watch_tree(w);
	if (!w->end.disk)
		w->end.disk = disk_is_over(&w->disk);
	if (w->end.oom || w->end.disk || w->too_many)
		signal_all(w, SIGKILL);
}

/* Until the program has ended: reaps, watches its shares, passes a wish to stop on. */
static void
watch_program(struct watch *w, const sigset_t *set)
{
	const struct timespec tick = {.tv_nsec = WATCH_MS * 1000000l};
	int64_t kill_at_mono_ms = INT64_MAX;

	while (!w->ended) {
		int signo = sigtimedwait(set, NULL, &tick);
		bool orphaned = w->worker != 0 && getppid() != w->worker;

		if ((signo == SIGTERM || orphaned) && !w->stopping) {
			w->stopping = true;
			kill_at_mono_ms = clock_mono_ms() + w->b->limits.grace_ms;
			signal_all(w, SIGTERM);
		}
		if (clock_mono_ms() >= kill_at_mono_ms)
			signal_all(w, SIGKILL);
		reap(w);
		if (!w->ended)
			watch_shares(w);
	}
}

/* The program's descriptors take the place of ours, which led nowhere. */
static int
take_over_fds(const struct box *b, struct err *e)
{
	for (int i = BOX_OUT; i <= BOX_PROGRESS; i++) {
		if (b->fds[i] >= 0 && dup2(b->fds[i], i + 1) < 0)
			return err_set(e, ERR_IO, "sandbox: set up descriptors: %s", strerror(errno));
	}
	return 0;
}

/* Sets up the inside, waits for the order, runs the program to its end, tells the worker. Returns the exit status. */
static int
run_init(struct box *b, const sigset_t *set, bool inside)
{
	struct watch w = {.b = b, .inside = inside, .worker = inside ? 0 : getppid()};
	struct err e = {0};
	int rc = inside ? box_prepare_root(b, &e) : 0;

	if (rc == 0 && inside && b->caps.netns && !b->egress)
		box_loopback_up();
	if (rc == 0)
		rc = box_receive_order(LINK_FD, b, &e);
	if (rc == ERR_CANCELED)
		return 0; /* nobody needs us */
	if (rc == 0)
		rc = take_over_fds(b, &e);
	if (rc == 0)
		disk_open(&w.disk, b, inside ? BOX_OLD_ROOT : ""); /* before the host's paths are out of sight */
	if (rc == 0 && inside)
		rc = box_finish_root(b, &e);
	if (rc != 0)
		return tell_failure(LINK_FD, &e);
	w.program = start_program(b, &e);
	if (w.program < 0)
		return tell_failure(LINK_FD, &e);
	watch_program(&w, set);
	if (!inside)
		tree_kill_all();
	tell(LINK_FD, &w.end);
	return 0;
}

/* --- the helper as the parent of init --- */

/* Passes SIGTERM on and waits for init's end: after it, nothing of the namespace is left. */
static void
mind_init(pid_t init, const sigset_t *set)
{
	int status;

	for (;;) {
		int signo = sigwaitinfo(set, NULL);

		if (signo == SIGTERM)
			(void)kill(init, SIGTERM);
		if (waitpid(init, &status, WNOHANG) == init)
			return;
	}
}

static int
run_namespaces(struct box *b, const sigset_t *set)
{
	struct err e = {0};
	pid_t init;

	if (make_namespaces(b, &e) != 0)
		return tell_failure(LINK_FD, &e);
	init = fork();
	if (init < 0) {
		err_set(&e, ERR_IO, "sandbox: fork: %s", strerror(errno));
		return tell_failure(LINK_FD, &e);
	}
	if (init == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a worker killed with -9 takes the helper, and that takes us and all inside */
		_exit(run_init(b, set, true));
	}
	mind_init(init, set);
	return 0;
}

/* Without a pid namespace the program does not die with us: a worker that is killed must leave us the time to end all of it. */
static int
run_subreaper(struct box *b, const sigset_t *set)
{
	struct err e = {0};

	if (prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 && prctl(PR_SET_PDEATHSIG, SIGTERM) == 0)
		return run_init(b, set, false);
	err_set(&e, ERR_IO, "sandbox: become a subreaper: %s", strerror(errno));
	return tell_failure(LINK_FD, &e);
}

/* Becomes what every helper is before it hears anything: its socket at LINK_FD, the other descriptors leading nowhere. */
static int
set_up(char **argv, sigset_t *ret_set)
{
	size_t len = strlen(argv[0]);
	int null_fd;

	/* The program inside may read our command line: where we are installed is none of its business. */
	memset(argv[0], 0, len);
	(void)snprintf(argv[0], len + 1, "init");
	/* Nobody inside may look into us; with it our /proc files belong to root. */
	(void)prctl(PR_SET_DUMPABLE, 0);
	sigemptyset(ret_set);
	sigaddset(ret_set, SIGCHLD);
	sigaddset(ret_set, SIGTERM);
	sigprocmask(SIG_BLOCK, ret_set, NULL);
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	/* 3 stays taken until the order says what it is: nothing of ours may come to lie there. */
	return null_fd < 0 || dup3(0, LINK_FD, O_CLOEXEC) < 0 || dup2(null_fd, 0) < 0 || (null_fd != 3 && dup3(null_fd, 3, O_CLOEXEC) < 0) ?
	    -1 : 0;
}

/* The helper's life: a frame, an order, a program. filter: what the mother has made ahead, or NULL. */
static _Noreturn void
serve(const sigset_t *set, const struct box_filter *filter)
{
	struct err e = {0};
	struct box b;
	int rc = box_receive_frame(LINK_FD, &b, &e);

	if (rc != 0)
		_exit(rc == ERR_CANCELED ? 0 : tell_failure(LINK_FD, &e));
	b.filter = filter != NULL && box_filter_fits(filter, &b) ? filter : NULL;
	if (join_cgroup(&b, &e) != 0)
		rc = tell_failure(LINK_FD, &e);
	else if (b.caps.rung == RUNG_USER || b.caps.rung == RUNG_ROOT)
		rc = run_namespaces(&b, set);
	else
		rc = run_subreaper(&b, set);
	/* Not exit(): what runs there (a sanitizer's leak check) may need calls that were given up, and would write into the run's log. Nor is
	 * anything freed: that would only copy pages that we share with the mother. */
	_exit(rc);
}

/* The mother's: what helpers have in common is read and made once, then each is a fork. */
static _Noreturn void
serve_as_mother(const sigset_t *set)
{
	const struct box_filter *filter;
	pid_t worker = getppid();
	struct box b;
	int link;

	if (box_receive_frame(LINK_FD, &b, NULL) != 0)
		_exit(0);
	filter = b.caps.seccomp ? box_filter_make(&b) : NULL;
	box_release(&b);
	while ((link = mother_next(LINK_FD)) >= 0) {
		if (mother_give_birth(LINK_FD, worker) == 0) {
			if (dup3(link, LINK_FD, O_CLOEXEC) < 0)
				_exit(1);
			close(link);
			serve(set, filter);
		}
		close(link);
	}
	_exit(0);
}

int
sandbox_helper_main(int argc, char **argv)
{
	bool mother = argc == 2 && strcmp(argv[1], BOX_MOTHER) == 0;
	sigset_t set;

	if (!mother && (argc != 2 || strcmp(argv[1], BOX_HELPER) != 0))
		return -1;
	if (set_up(argv, &set) != 0)
		return 1;
	if (mother)
		serve_as_mother(&set);
	serve(&set, NULL);
}
