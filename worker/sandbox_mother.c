/* The mother of helpers. Starting a helper by exec costs the dynamic loader's work and the making of a seccomp filter each time;
 * she has both behind her, and holds nothing of any run. Her helpers are children of the worker (CLONE_PARENT), which waits for
 * them as for any other, and get everything that is theirs over sockets of their own. On the socket to her: the worker sends a
 * byte with a helper's socket, she answers with its process number, or -1. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/sandbox_stock.h"
#include "worker/sandbox_wire.h"

#define ANSWER_S 5     /* she needs well under a millisecond */
#define END_WAIT_MS 1000

/* --- the worker's side --- */

void
mother_init(struct mother *m)
{
	pthread_mutex_init(&m->lock, NULL);
	m->link = -1;
}

/* Under the lock. Closing her socket ends her, wherever she is. */
static void
give_up(struct mother *m)
{
	struct proc_exit x;

	if (m->link < 0)
		return;
	close(m->link);
	m->link = -1;
	if (proc_wait(&m->proc, clock_mono_ms() + END_WAIT_MS, &x, NULL) == ERR_TIMEOUT) {
		proc_kill(&m->proc, SIGKILL);
		(void)proc_wait(&m->proc, clock_mono_ms() + END_WAIT_MS, &x, NULL);
	}
}

static int
start(struct mother *m, const struct sandbox_caps *caps, struct err *e)
{
	const struct timeval patience = {.tv_sec = ANSWER_S};
	const struct cgroup none = {.version = caps->cgroup};
	int pair[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return err_set(e, ERR_IO, "sandbox: socket: %s", strerror(errno));
	(void)setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	rc = helper_exec(BOX_MOTHER, pair[1], &m->proc, e);
	close(pair[1]);
	if (rc != 0) {
		close(pair[0]);
		return rc;
	}
	m->link = pair[0];
	rc = box_send_frame(m->link, caps, false, NULL, &none, e);
	if (rc != 0)
		give_up(m);
	return rc;
}

int
mother_start(struct mother *m, const struct sandbox_caps *caps, struct err *e)
{
	int rc = 0;

	pthread_mutex_lock(&m->lock);
	if (m->link < 0)
		rc = start(m, caps, e);
	pthread_mutex_unlock(&m->lock);
	return rc;
}

/* Sends a helper's socket and takes the answer: its number, or -1. Under the lock. */
static pid_t
ask(const struct mother *m, int link)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.bytes = {0}};
	char wish = 0;
	struct iovec iov = {.iov_base = &wish, .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int32_t pid = -1;
	ssize_t n;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &link, sizeof(int));
	do
		n = sendmsg(m->link, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		return -1;
	do
		n = recv(m->link, &pid, sizeof(pid), MSG_WAITALL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(pid) ? pid : -1;
}

int
mother_fork(struct mother *m, int link, struct proc *ret, struct err *e)
{
	struct proc p = {.pid = -1, .pidfd = -1, .group = true};
	int rc = 0;

	pthread_mutex_lock(&m->lock);
	if (m->link < 0)
		rc = err_set(e, ERR_RETRY, "there is no mother of helpers");
	else if ((p.pid = ask(m, link)) <= 0) {
		give_up(m);
		rc = err_set(e, ERR_IO, "the mother of helpers does not answer");
	}
	pthread_mutex_unlock(&m->lock);
	if (rc != 0)
		return rc;
	p.pidfd = (int)syscall(SYS_pidfd_open, p.pid, 0); /* close-on-exec by itself; the number is ours until we have waited for it */
	if (p.pidfd < 0) {
		rc = err_set(e, ERR_IO, "sandbox: look at process %d: %s", (int)p.pid, strerror(errno));
		(void)kill(p.pid, SIGKILL);
		(void)waitpid(p.pid, NULL, 0);
		return rc;
	}
	*ret = p;
	return 0;
}

void
mother_release(struct mother *m)
{
	pthread_mutex_lock(&m->lock);
	give_up(m);
	pthread_mutex_unlock(&m->lock);
}

/* --- hers --- */

int
mother_next(int link)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char wish;
	struct iovec iov = {.iov_base = &wish, .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	const struct cmsghdr *c;
	int fd;
	ssize_t n;

	do
		n = recvmsg(link, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	c = CMSG_FIRSTHDR(&msg);
	if (n != 1 || c == NULL || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int)))
		return -1;
	memcpy(&fd, CMSG_DATA(c), sizeof(int));
	return fd;
}

int
mother_give_birth(int link, pid_t worker)
{
	/* As a fork, but the child's parent is ours. */
	int32_t pid = (int32_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0) {
		/* What a start by exec does for a helper: a group of its own, and its end with the thread that started us. */
		if (setsid() < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != worker)
			_exit(1);
		return 0;
	}
	(void)!send(link, &pid, sizeof(pid), MSG_NOSIGNAL);
	return pid;
}
