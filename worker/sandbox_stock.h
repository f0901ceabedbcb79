/* sandbox_stock.h - sandboxes that were built ahead of their programs. Between the files sandbox*.c alone. */
#ifndef WORKER_SANDBOX_STOCK_H
#define WORKER_SANDBOX_STOCK_H

#include "base/proc.h"
#include "worker/cgroup.h"
#include "worker/sandbox.h"

struct sandbox {
	struct proc proc;          /* the helper */
	struct cgroup cgroup;
	int link;                  /* socket to it */
	bool ordered;              /* it has its order */
	int64_t grace_ms;
	bool running, stopped;
};

/* Starts a helper and hands it its frame; the order may follow at any time. It dies with the calling thread. name: of its control
 * group. Returns 0 and *ret (sandbox_free), or ERR_IO. */
int sandbox_prepare(const struct sandbox_caps *caps, bool egress, const char *toolchain, const char *name, struct sandbox **ret,
    struct err *e);

/* One that fits the program, now the caller's, or NULL. Never waits for one. */
struct sandbox *stock_take(struct sandbox_stock *k, const struct sandbox_spec *spec);

#endif
