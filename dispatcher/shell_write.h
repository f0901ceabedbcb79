/* shell_write.h - single operations that the shell itself writes to the ledger (targets, bundles, runs that ended). Loop thread. */
#ifndef DISPATCHER_SHELL_WRITE_H
#define DISPATCHER_SHELL_WRITE_H

#include "dispatcher/call.h"

/* Commits one operation (target, bundle and run are copied), then calls done(call, result). c and done may be NULL; a call is held
 * meanwhile. */
void shell_write(struct dispatcher *d, const struct ledger_op *op, struct call *c,
    void (*done)(struct call *c, const struct ledger_txn *t));

#endif
