/* scale_api.h - what autoscalers use: the figures of each vertical as a blocking read, drain marks, history, and the small part of
 * Prometheus' query API that lets the stock Nomad Autoscaler ask this dispatcher directly. Loop thread.
 */
#ifndef DISPATCHER_SCALE_API_H
#define DISPATCHER_SCALE_API_H

#include "dispatcher/call.h"

/* Sets the drover_scale_* gauges of every vertical. */
void scale_set_gauges(struct dispatcher *d);

/* Routes. */
void scale_show(struct http_req *r, void *ctx);
void scale_drain(struct http_req *r, void *ctx);
void scale_history(struct http_req *r, void *ctx);
void scale_query(struct http_req *r, void *ctx);
void scale_query_range(struct http_req *r, void *ctx);

#endif
