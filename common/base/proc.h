/* proc.h - child processes: started without a shell, waited for with a deadline, killed with all their descendants where
 * they share a process group. Blocking calls; any thread. */
#ifndef BASE_PROC_H
#define BASE_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

struct proc_spec {
	const char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH of env */
	const char *const *env;  /* NULL-terminated NAME=value; NULL: empty environment */
	const char *cwd;         /* NULL: as the parent */
	int fds[4];              /* descriptors that become 0, 1, 2, 3 of the child; -1: /dev/null (for 3: closed) */
	bool new_group;          /* own session and process group, so that proc_kill reaches its children */
	bool die_with_parent;    /* SIGKILL when the parent's thread that started it ends */
};

struct proc {
	pid_t pid;
	int pidfd; /* readable when the child has ended; close-on-exec */
	bool group;
};

struct proc_exit {
	bool exited;   /* true: code is set; false: killed by signo */
	int code;
	int signo;
	int64_t user_ms, system_ms; /* processor time of the child and of those of its children that it waited for */
	int64_t max_rss_bytes; /* of the child, but never less than the parent had when it started the child */
};

/* Starts a child: all other descriptors are closed, signals are reset and unblocked, O_CLOEXEC races excluded.
 * An exec failure is reported here, not as an exit code. Returns 0 and sets *ret_proc, or ERR_NOTFOUND (no such program),
 * ERR_DENIED, ERR_IO. */
int proc_start(const struct proc_spec *spec, struct proc *ret_proc, struct err *e);

/* Waits until the child ends or deadline_mono_ms (-1: for ever) passes. Returns 0 and fills *ret_exit, the child reaped and
 * pidfd closed, and what is left of its group killed; afterwards *p is empty. ERR_TIMEOUT (it still runs); ERR_IO. */
int proc_wait(struct proc *p, int64_t deadline_mono_ms, struct proc_exit *ret_exit, struct err *e);

/* Sends a signal to the child, or to its group if it has one. A child that is gone is fine. */
void proc_kill(const struct proc *p, int signo);

/* Runs a command to its end and takes up to the buffers' maxima of its output (what is over is dropped, not an error); kills
 * it at the deadline (timeout_ms -1: none). A buffer that is NULL leaves that descriptor as in spec. Returns 0 with
 * *ret_exit, ERR_TIMEOUT (killed and reaped), or what proc_start returns. */
int proc_run(const struct proc_spec *spec, int64_t timeout_ms, struct buf *out, struct buf *err_out,
    struct proc_exit *ret_exit, struct err *e);

#endif
