#include "base/proc.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#define CHILD_STACK_BYTES 65536
#define CHILD_FDS 4
#define READ_BYTES 16384
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* What failed in the child before its program ran. */
enum step { STEP_PARENT, STEP_FDS, STEP_CWD, STEP_EXEC };

struct failure {
	enum step step;
	int why; /* errno */
};

/* All that the child needs, prepared by the parent: between clone and exec only async-signal-safe calls are made. */
struct launch {
	const struct proc_spec *spec;
	const char *path;
	const char *const *env;
	pid_t parent;
	int report; /* write end of a close-on-exec pipe: silent if the program runs */
};

static int
set_up_fds(struct launch *l)
{
	int fds[CHILD_FDS];

	/* First everything out of the way of 0..3, then to its place: no order of the numbers can clash. */
	l->report = fcntl(l->report, F_DUPFD_CLOEXEC, CHILD_FDS);
	if (l->report < 0)
		return -1;
	for (int i = 0; i < CHILD_FDS; i++) {
		int from = l->spec->fds[i] >= 0 ? l->spec->fds[i] : -1;

		if (from < 0 && i < 3)
			from = open("/dev/null", O_RDWR | O_CLOEXEC);
		else if (from < 0)
			from = -2; /* stays closed */
		fds[i] = from < 0 ? from : fcntl(from, F_DUPFD_CLOEXEC, CHILD_FDS);
		if (fds[i] == -1)
			return -1;
	}
	for (int i = 0; i < CHILD_FDS; i++)
		if (fds[i] < 0)
			close(i);
		else if (dup2(fds[i], i) < 0)
			return -1;
	return close_range(CHILD_FDS, ~0u, CLOSE_RANGE_CLOEXEC);
}

/* By the kernel's own call: the C library hides the two signals that it uses itself, and a parent may have left them ignored. */
static void
reset_signals(void)
{
	static const unsigned long plain[4]; /* the kernel's struct: SIG_DFL, no flags, no restorer, empty mask */
	sigset_t none;

	for (int signo = 1; signo < NSIG; signo++)
		(void)syscall(SYS_rt_sigaction, signo, plain, NULL, sizeof(unsigned long)); /* refused for KILL and STOP */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The child, on a stack of its own in the parent's memory; the parent's thread stands still until exec or exit. */
static int
child_main(void *arg)
{
	struct launch *l = arg;
	struct failure f = {.step = STEP_FDS};

	if (set_up_fds(l) != 0)
		goto fail;
	f.step = STEP_PARENT;
	if (l->spec->new_group && setsid() < 0)
		goto fail;
	/* A parent that died before the request took effect will never be noticed, so look for it. */
	if (l->spec->die_with_parent && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != l->parent))
		goto fail;
	f.step = STEP_CWD;
	if (l->spec->cwd != NULL && chdir(l->spec->cwd) != 0)
		goto fail;
	f.step = STEP_EXEC;
	reset_signals();
	execve(l->path, (char *const *)(uintptr_t)l->spec->argv, (char *const *)(uintptr_t)l->env);
fail:
	f.why = errno;
	while (write(l->report, &f, sizeof(f)) < 0 && errno == EINTR)
		;
	_exit(127);
}

/* Looks argv[0] up in the PATH of env. Parts that are not absolute are passed over: they would depend on the working
 * directory, which may be a stranger's workspace. */
static int
find_program(const char *name, const char *const *env, char path[PATH_MAX], struct err *e)
{
	const char *dirs = DEFAULT_PATH;
	bool seen = false;

	if (strchr(name, '/') != NULL) {
		if (snprintf(path, PATH_MAX, "%s", name) >= PATH_MAX)
			return err_set(e, ERR_NOTFOUND, "start %.64s: %s", name, strerror(ENAMETOOLONG));
		return 0;
	}
	for (; *env != NULL; env++)
		if (strncmp(*env, "PATH=", 5) == 0)
			dirs = *env + 5;
	for (const char *end; *name != '\0' && *dirs != '\0'; dirs = *end == '\0' ? end : end + 1) {
		struct stat st;

		end = strchrnul(dirs, ':');
		if (*dirs != '/' || snprintf(path, PATH_MAX, "%.*s/%s", (int)(end - dirs), dirs, name) >= PATH_MAX ||
		    stat(path, &st) != 0 || !S_ISREG(st.st_mode))
			continue;
		if (access(path, X_OK) == 0)
			return 0;
		seen = true;
	}
	if (seen)
		return err_set(e, ERR_DENIED, "start %s: it is in PATH, but may not be executed", name);
	return err_set(e, ERR_NOTFOUND, "start %.64s: no such program in PATH", name);
}

static int
explain(const struct proc_spec *spec, const struct failure *f, struct err *e)
{
	const char *name = spec->argv[0];

	if (f->step == STEP_CWD)
		return err_set(e, ERR_IO, "start %s: change to directory %s: %s", name, spec->cwd, strerror(f->why));
	if (f->step == STEP_EXEC && (f->why == ENOENT || f->why == ENOTDIR))
		return err_set(e, ERR_NOTFOUND, "start %s: %s (or its interpreter)", name, strerror(f->why));
	if (f->step == STEP_EXEC && (f->why == EACCES || f->why == EPERM))
		return err_set(e, ERR_DENIED, "start %s: %s", name, strerror(f->why));
	return err_set(e, ERR_IO, "start %s: %s%s", name, f->step == STEP_FDS ? "set up descriptors: " : "", strerror(f->why));
}

/* As vfork, but on a stack of the child's own and with the pidfd from the same call: nothing of a large parent is copied
 * and no other child can take the pid in between. Returns 0 or -1 with errno. */
static int
clone_child(struct launch *l, struct proc *ret_proc)
{
	char *stack = xmalloc(CHILD_STACK_BYTES);
	sigset_t all, before;
	int why;

	/* A handler of the parent must not run in the child while both share memory. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret_proc->pid = clone(child_main, stack + CHILD_STACK_BYTES, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, l,
	    &ret_proc->pidfd);
	why = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	free(stack);
	errno = why;
	return ret_proc->pid < 0 ? -1 : 0;
}

int
proc_start(const struct proc_spec *spec, struct proc *ret_proc, struct err *e)
{
	static const char *const no_env[] = {NULL};
	struct launch l = {.spec = spec, .env = spec->env != NULL ? spec->env : no_env, .parent = getpid()};
	struct proc p = {.group = spec->new_group};
	char path[PATH_MAX];
	struct failure f;
	int report[2], rc;
	ssize_t n;

	assert(spec->argv[0] != NULL);
	rc = find_program(spec->argv[0], l.env, path, e);
	if (rc != 0)
		return rc;
	l.path = path;
	if (pipe2(report, O_CLOEXEC) != 0)
		return err_set(e, ERR_IO, "start %s: pipe: %s", spec->argv[0], strerror(errno));
	l.report = report[1];
	rc = clone_child(&l, &p);
	if (rc != 0)
		rc = err_set(e, ERR_IO, "start %s: %s", spec->argv[0], strerror(errno));
	close(report[1]);
	if (rc != 0)
		goto out;
	do
		n = read(report[0], &f, sizeof(f));
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(f)) {
		rc = explain(spec, &f, e);
		while (waitpid(p.pid, NULL, 0) < 0 && errno == EINTR)
			;
		close(p.pidfd);
		goto out;
	}
	*ret_proc = p;
out:
	close(report[0]);
	return rc;
}

/* Milliseconds for poll until a deadline; -1 for none. */
static int
poll_ms(int64_t deadline_mono_ms)
{
	int64_t left_ms;

	if (deadline_mono_ms < 0)
		return -1;
	left_ms = deadline_mono_ms - clock_mono_ms();
	return left_ms < 0 ? 0 : left_ms > INT_MAX ? INT_MAX : (int)left_ms;
}

static int64_t
timeval_ms(const struct timeval *tv)
{
	return (int64_t)tv->tv_sec * 1000 + tv->tv_usec / 1000;
}

int
proc_wait(struct proc *p, int64_t deadline_mono_ms, struct proc_exit *ret_exit, struct err *e)
{
	struct pollfd ended = {.fd = p->pidfd, .events = POLLIN};
	struct rusage usage;
	int n, status;
	pid_t pid;

	do
		n = poll(&ended, 1, poll_ms(deadline_mono_ms));
	while ((n < 0 && errno == EINTR) || (n == 0 && poll_ms(deadline_mono_ms) != 0));
	if (n < 0)
		return err_set(e, ERR_IO, "wait for process %d: %s", (int)p->pid, strerror(errno));
	if (n == 0)
		return err_set(e, ERR_TIMEOUT, "process %d still runs", (int)p->pid);
	if (p->group) /* before the child is reaped, while its number cannot be anybody else's */
		proc_kill(p, SIGKILL);
	do
		pid = wait4(p->pid, &status, 0, &usage);
	while (pid < 0 && errno == EINTR);
	if (pid < 0)
		return err_set(e, ERR_IO, "wait for process %d: %s", (int)p->pid, strerror(errno));
	*ret_exit = (struct proc_exit){.exited = WIFEXITED(status), .code = WIFEXITED(status) ? WEXITSTATUS(status) : 0,
	    .signo = WIFSIGNALED(status) ? WTERMSIG(status) : 0, .user_ms = timeval_ms(&usage.ru_utime),
	    .system_ms = timeval_ms(&usage.ru_stime), .max_rss_bytes = (int64_t)usage.ru_maxrss * 1024};
	close(p->pidfd);
	*p = (struct proc){.pid = 0, .pidfd = -1};
	return 0;
}

void
proc_kill(const struct proc *p, int signo)
{
	if (p->pid <= 0)
		return;
	/* Failures mean that it is gone, or has become another user: nothing that could be done here. */
	if (p->group)
		kill(-p->pid, signo);
	else
		syscall(SYS_pidfd_send_signal, p->pidfd, signo, NULL, 0);
}

/* Reads once; keeps what fits. Returns false when nothing more is there now, and closes *fd at the end. */
static bool
read_some(int *fd, struct buf *b)
{
	char chunk[READ_BYTES];
	ssize_t n;

	do
		n = read(*fd, chunk, sizeof(chunk));
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		size_t room = b->max - b->len;

		buf_add(b, chunk, (size_t)n < room ? (size_t)n : room);
		return true;
	}
	if (n == 0 || errno != EAGAIN) {
		close(*fd);
		*fd = -1;
	}
	return false;
}

/* Takes output until the child has ended or the deadline passed. Returns true if it ended. */
static bool
watch(const struct proc *p, int fds[2], struct buf *const bufs[2], int64_t deadline_mono_ms)
{
	for (;;) {
		struct pollfd ready[3] = {{.fd = p->pidfd, .events = POLLIN}, {.fd = fds[0], .events = POLLIN},
		    {.fd = fds[1], .events = POLLIN}};
		int n = poll(ready, 3, poll_ms(deadline_mono_ms));

		if (n < 0 && errno != EINTR)
			return false;
		for (int i = 0; n > 0 && i < 2; i++)
			if (ready[i + 1].revents != 0)
				read_some(&fds[i], bufs[i]);
		if (n > 0 && ready[0].revents != 0)
			return true;
		if (poll_ms(deadline_mono_ms) == 0)
			return false;
	}
}

/* What is left in the pipes; a descendant that still writes cannot hold us longer than one pipe's content. */
static void
drain(int fds[2], struct buf *const bufs[2])
{
	for (int i = 0; i < 2; i++) {
		int pipe_bytes = fds[i] >= 0 ? fcntl(fds[i], F_GETPIPE_SZ) : 0;

		for (int taken = 0; fds[i] >= 0 && taken <= pipe_bytes && read_some(&fds[i], bufs[i]); taken += READ_BYTES)
			;
	}
}

static void
close_fds(int fds[2])
{
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

int
proc_run(const struct proc_spec *spec, int64_t timeout_ms, struct buf *out, struct buf *err_out,
    struct proc_exit *ret_exit, struct err *e)
{
	int64_t deadline_mono_ms = timeout_ms < 0 ? -1 : clock_mono_ms() + timeout_ms;
	struct buf *const bufs[2] = {out, err_out};
	int ours[2] = {-1, -1}, theirs[2] = {-1, -1};
	struct proc_spec piped = *spec;
	struct proc_exit exit_now;
	struct proc p;
	bool ended;
	int rc = 0;

	for (int i = 0; i < 2 && rc == 0; i++) {
		int ends[2];

		if (bufs[i] == NULL)
			continue;
		if (pipe2(ends, O_CLOEXEC) != 0) {
			rc = err_set(e, ERR_IO, "start %s: pipe: %s", spec->argv[0], strerror(errno));
			break;
		}
		fcntl(ends[0], F_SETFL, O_NONBLOCK); /* the child's end keeps blocking */
		ours[i] = ends[0];
		piped.fds[i + 1] = theirs[i] = ends[1];
	}
	if (rc == 0)
		rc = proc_start(&piped, &p, e);
	close_fds(theirs);
	if (rc != 0)
		goto out;
	ended = watch(&p, ours, bufs, deadline_mono_ms);
	if (!ended)
		proc_kill(&p, SIGKILL);
	rc = proc_wait(&p, -1, &exit_now, e);
	drain(ours, bufs);
	if (rc == 0 && !ended)
		rc = err_set(e, ERR_TIMEOUT, "%s did not end within %lld ms", spec->argv[0], (long long)timeout_ms);
	if (rc == 0)
		*ret_exit = exit_now;
out:
	close_fds(ours);
	return rc;
}
