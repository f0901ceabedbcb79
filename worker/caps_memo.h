/* caps_memo.h - what the sandbox can do here, remembered between the workers of a node.
 *
 * Trying the rungs starts a program in a whole sandbox, which a worker for one run would pay for as dearly as for its step. So
 * a good result stands in CACHE_DIR for ten minutes, under a key of all that it may depend on: boot, program, user, rights,
 * namespaces, and the cgroup that can be had. Where something else changes within that time, steps fail to start and their runs
 * are tried again; no step runs with less protection than its caps say.
 */
#ifndef WORKER_CAPS_MEMO_H
#define WORKER_CAPS_MEMO_H

#include "worker/sandbox.h"

/* Fills *ret from the memo in cache_dir, or by sandbox_probe(), whose result is then kept unless no rung works. Blocks. Returns
 * whether it was remembered. */
bool caps_find(const char *cache_dir, struct sandbox_caps *ret);

#endif
