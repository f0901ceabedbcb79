/* secrets.h - the worker's credentials, where Nomad keeps them: read once at start from a Nomad variable over the task's own API
 * socket, with its workload identity. No template, no file, no environment that a tool could see. */
#ifndef WORKER_SECRETS_H
#define WORKER_SECRETS_H

#include "base/err.h"
#include "worker/config.h"

/* Fills those credentials of *c that are not set from the variable DROVER_SECRETS_PATH; nothing to do where that is "". Items that
 * the worker does not know are ignored. Blocks. Returns 0, or ERR_* with a hint how to write the variable. */
int secrets_read(struct config *c, struct err *e);

#endif
