/* run_json.h - a run as the API shows it. Loop thread. */
#ifndef DISPATCHER_RUN_JSON_H
#define DISPATCHER_RUN_JSON_H

#include <jansson.h>

#include "dispatcher/dispatcher.h"

/* A run's spec, as the ledger keeps it, is one JSON object:
 *   target {id, name, kind, sha256, size_bytes}, bundle {sha256, key, size_bytes}, params, labels, workflow_version,
 *   network, isolation, resources {cpu_millis, memory_bytes, disk_bytes}, idem {key, digest} (only with an idempotency key),
 *   retention_ms (only where the run or its workflow asks for one) */

/* New reference. brief leaves out params, steps and waiting (lists). */
json_t *run_json(struct dispatcher *d, const struct ledger_run *r, bool brief);

/* The same from the parts at hand, but for `waiting`, which is null: telling it counts the whole queue, and submissions must not
 * become slower as the queue grows. spec is borrowed. */
json_t *run_json_parts(struct dispatcher *d, const struct ledger_run *r, json_t *spec, bool brief);

/* Why a run waits. New reference. */
json_t *wait_json(const struct core_wait *w);

/* A target as the API shows it. New reference. */
json_t *target_json(const struct ledger_target *t);

#endif
