/* pauses.h - routes that hold a vertical or a tenant back, and let it go on. Loop thread. */
#ifndef DISPATCHER_PAUSES_H
#define DISPATCHER_PAUSES_H

#include "dispatcher/call.h"

/* Routes: GET /v1/pauses; PUT and DELETE /v1/pause/:kind/:name. */
void pauses_list(struct http_req *r, void *ctx);
void pause_put(struct http_req *r, void *ctx);
void pause_remove(struct http_req *r, void *ctx);

/* What is paused, as an array: verticals, and of tenants those that the caller may see. */
json_t *pauses_json(const struct call *c);

#endif
