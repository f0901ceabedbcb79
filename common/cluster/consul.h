/* consul.h - Consul's HTTP API as far as discover.h needs it. Blocking; one struct consul per thread. */
#ifndef CLUSTER_CONSUL_H
#define CLUSTER_CONSUL_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"
#include "cluster/discover.h"
#include "cluster/endpoints.h"

struct consul;

/* A client, never NULL; the config's texts must outlive it. consul_free(NULL) is allowed. */
struct consul *consul_new(const struct consul_config *c);
void consul_free(struct consul *c);

/* Passing instances of a service, by a blocking query when *index > 0 (up to a minute); *index is moved on, or reset to 0
 * where Consul's went back. node: ours, whose instances are marked near; tag and node may be "". Returns 0 (found may be empty),
 * ERR_RETRY, ERR_DENIED, ERR_CANCELED, ERR_PROTO. */
int consul_health(struct consul *c, const char *service, const char *tag, const char *scheme, const char *node,
    uint64_t *index, struct endpoints *found, const atomic_bool *stop, struct err *e);

#endif
