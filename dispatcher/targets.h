/* targets.h - the routes about targets, and a small memory of those used lately. Loop thread. */
#ifndef DISPATCHER_TARGETS_H
#define DISPATCHER_TARGETS_H

#include "dispatcher/call.h"

struct target_cache;

/* An empty memory. */
struct target_cache *target_cache_new(void);

/* NULL is allowed. */
void target_cache_free(struct target_cache *t);

/* Notes a target that is in the ledger; drops one that is not any more. */
void target_cache_put(struct target_cache *t, const struct ledger_target *target);
void target_cache_drop(struct target_cache *t, const char *id);

/* By its whole id; NULL: ask the ledger. Valid until the next put. */
const struct ledger_target *target_cache_get(const struct target_cache *t, const char *id);

/* The id of a tenant's target: an HMAC under the ledger's secret, in the shape of a UUID. */
void target_id_of(const struct ledger *l, const char *tenant, const char *sha256, char out[TARGET_ID_MAX]);

/* When a target that is stored or used now expires. */
int64_t target_expiry(const struct config *c, int64_t now_real_ms);

/* Routes. */
void target_lookup(struct http_req *r, void *ctx);
void target_upload(struct http_req *r, void *ctx);
void target_list(struct http_req *r, void *ctx);
void target_show(struct http_req *r, void *ctx);
void target_delete(struct http_req *r, void *ctx);

#endif
