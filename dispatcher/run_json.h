/* run_json.h - a run as the API shows it. Loop thread. */
#ifndef DISPATCHER_RUN_JSON_H
#define DISPATCHER_RUN_JSON_H

#include <jansson.h>

#include "dispatcher/call.h"

/* A run's spec, as the ledger keeps it, is one JSON object:
 *   target {id, name, kind, sha256, size_bytes}, bundle {sha256, key, size_bytes}, params, labels, workflow_version,
 *   network, isolation, resources {cpu_millis, memory_bytes, disk_bytes}, idem {key, digest} (only with an idempotency key),
 *   retention_ms (only where the run or its workflow asks for one) */

enum run_shape {
	RUN_BRIEF,     /* without params, steps and waiting (lists) */
	RUN_SUBMITTED, /* waiting is null: telling it counts the whole queue, and submissions must not become slower as the queue grows */
	RUN_WHOLE,
};

/* Writes a run; history, where it is not NULL, as one of its members. */
void run_out(struct buf *b, const char *key, struct dispatcher *d, const struct ledger_run *r, enum run_shape shape,
    const json_t *history);

/* Answers with {"run": …} and X-Drover-Index; the call ends. */
void call_reply_run(struct call *c, int status, const struct ledger_run *r, enum run_shape shape, const json_t *history);

/* Why a queued run waits: what the core says, and of workers that take nothing what they say themselves. False: it is not queued, or
 * is being accepted. */
bool run_wait(struct dispatcher *d, const struct run_row *row, struct core_wait *ret);

/* The same as JSON. New reference. */
json_t *wait_json(const struct core_wait *w);

/* A target as the API shows it. New reference. */
json_t *target_json(const struct ledger_target *t);

#endif
