/* lease.h - what a worker is to do: one lease as the dispatcher sent it, checked once at the edge. Pure. */
#ifndef WORKER_LEASE_H
#define WORKER_LEASE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "proto/run.h"
#include "storage/workspace.h"

#define LEASE_KEY_MAX 1100

struct lease_object { /* something in the store */
	char key[LEASE_KEY_MAX];
	char sha256[SHA256_HEX_LEN];
	int64_t size_bytes;
};

struct lease_terms {
	char run[RUN_ID_MAX], fence[FENCE_TEXT_MAX], workflow[WORKFLOW_NAME_MAX];
	char *workflow_version;  /* never NULL */
	int64_t attempt, timeout_ms;
	struct lease_object bundle, target;
	char target_id[TARGET_ID_MAX];
	char *target_name;       /* plain file name, never empty */
	bool tree;               /* the target is unpacked */
	bool egress;
	enum workspace_mode isolation;
	int64_t cpu_millis, memory_bytes, disk_bytes; /* > 0 */
	json_t *params;          /* object, owned */
};

/* Reads run and fence alone: what is needed to report a lease that is otherwise unreadable. False if even these are not there. */
bool lease_identify(const json_t *o, struct lease_terms *ret);

/* Reads a whole lease. Returns 0, or ERR_INVALID "lease: …" (nothing to release but what lease_release takes in any case). */
int lease_parse(const json_t *o, struct lease_terms *ret, struct err *e);
void lease_release(struct lease_terms *t);

#endif
