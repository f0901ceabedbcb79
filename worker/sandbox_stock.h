/* sandbox_stock.h - sandboxes that were built ahead of their programs. Between the files sandbox*.c alone. */
#ifndef WORKER_SANDBOX_STOCK_H
#define WORKER_SANDBOX_STOCK_H

#include <pthread.h>

#include "base/proc.h"
#include "worker/cgroup.h"
#include "worker/sandbox.h"

/* sandbox_mother.c: a helper that only forks helpers: a fork of something so small takes a fraction of an exec's time. */
struct mother {
	pthread_mutex_t lock; /* of all below: one wish at a time */
	struct proc proc;
	int link;             /* -1: there is none */
};

/* Makes it empty. */
void mother_init(struct mother *m);

/* Starts it, if there is none; it dies with the calling thread, and so do the helpers that it forks. caps: what most helpers
 * will be for (others are served as well). Returns 0 or ERR_*. */
int mother_start(struct mother *m, const struct sandbox_caps *caps, struct err *e);

/* A new helper, a child of this process, whose socket is link. Any thread. Returns 0 and *ret; ERR_RETRY (there is no mother) or
 * ERR_IO (she is given up: mother_start makes a new one). */
int mother_fork(struct mother *m, int link, struct proc *ret, struct err *e);

/* Ends her; the helpers stay. */
void mother_release(struct mother *m);

/* Starts the helper's program in a group of its own, to die with the calling thread. role: BOX_HELPER or BOX_MOTHER; link: its
 * end of the socket, which stays the caller's. Returns what proc_start returns. */
int helper_exec(const char *role, int link, struct proc *ret, struct err *e);

struct sandbox {
	struct proc proc;          /* the helper */
	struct cgroup cgroup;
	int link;                  /* socket to it */
	bool ordered;              /* it has its order */
	int64_t grace_ms;
	bool running, stopped;
};

/* Starts a helper and hands it its frame; the order may follow at any time. It dies with the calling thread, or with the
 * mother's if there is one (NULL: none). name: of its control group. Returns 0 and *ret (sandbox_free), or ERR_IO. */
int sandbox_prepare(const struct sandbox_caps *caps, bool egress, const char *toolchain, const char *name, struct mother *mother,
    struct sandbox **ret, struct err *e);

/* The stock's mother of helpers; NULL for no stock. */
struct mother *stock_mother(struct sandbox_stock *k);

/* One that fits the program, now the caller's, or NULL. Never waits for one. */
struct sandbox *stock_take(struct sandbox_stock *k, const struct sandbox_spec *spec);

#endif
