/* nomad_priv.h - between nomad.c and nomad_events.c, and for their tests. */
#ifndef CLUSTER_NOMAD_PRIV_H
#define CLUSTER_NOMAD_PRIV_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cluster/nomad.h"

/* What an answer with this status and body means: an ERR_* by Nomad's words first, by status second. Pure. */
int nomad_verdict(int status, const char *body);

/* One call to a path (with its query, may be NULL); body (may be NULL) is sent as JSON. The answer is handed over as JSON of that
 * type in *ret (new reference), or dropped if ret is NULL. Returns 0 or what the answer means, in Nomad's words. Blocks. */
int nomad_call(struct nomad *n, const char *method, const char *path, const char *query, const json_t *body, json_type type,
    json_t **ret, struct err *e);

/* "/v1/job/<id><rest>" with the id encoded whole; the caller frees. */
char *nomad_job_path(const char *id, const char *rest);

/* Opens the event stream and hands its bytes to write_fn until it ends. Returns 0 when the server ended it. Blocks. */
int nomad_stream(struct nomad *n, uint64_t index, int (*write_fn)(void *arg, const void *data, size_t len), void *arg,
    const atomic_bool *stop, struct err *e);

#endif
