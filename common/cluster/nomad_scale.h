/* nomad_scale.h - Nomad's HTTP API as far as scaling needs it: counts, scaling events, deployments, draining nodes, locks. Blocking
 * calls like those of nomad.h, with the same errors. */
#ifndef CLUSTER_NOMAD_SCALE_H
#define CLUSTER_NOMAD_SCALE_H

#include "cluster/nomad.h"

#define NOMAD_LOCK_ID_MAX 64

/* Sets a group's count if the job is still at modify_index. message and meta (object, may be NULL) go into the scaling event. Never
 * call it with the count that is there: that makes a version, too. ERR_CONFLICT: the job moved, or a deployment is active. */
int nomad_scale(struct nomad *n, const char *job, const char *group, int64_t count, uint64_t modify_index, const char *message,
    const json_t *meta, struct err *e);

/* Adds a scaling event without a change. */
int nomad_scale_note(struct nomad *n, const char *job, const char *group, bool error, const char *message, const json_t *meta,
    struct err *e);

/* Whether a deployment of the job is under way. */
int nomad_deployment_active(struct nomad *n, const char *job, bool *ret_active, struct err *e);

/* Ids of nodes that are being drained (new reference, array of strings). ERR_DENIED without node:read. */
int nomad_draining_nodes(struct nomad *n, json_t **ret_ids, struct err *e);

/* Takes the lock of a variable, whose items (object of strings) tell by whom. ERR_CONFLICT: someone else has it. Not renewed
 * for ttl_s it is lost; Nomad gives it to another after twice that and delay_s. id: to renew and release it. */
int nomad_lock_acquire(struct nomad *n, const char *path, const json_t *items, int64_t ttl_s, int64_t delay_s,
    char id[NOMAD_LOCK_ID_MAX], struct err *e);

/* Renews or gives back a lock. ERR_CONFLICT: it is not ours any more. */
int nomad_lock_renew(struct nomad *n, const char *path, const char *id, struct err *e);
int nomad_lock_release(struct nomad *n, const char *path, const char *id, struct err *e);

#endif
