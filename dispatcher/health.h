/* health.h - how the dispatcher is: routes for checks and for Prometheus. Loop thread. */
#ifndef DISPATCHER_HEALTH_H
#define DISPATCHER_HEALTH_H

#include "net/http_server.h"

/* GET /v1/agent/health, GET /metrics */
void health_show(struct http_req *r, void *ctx);
void metrics_show(struct http_req *r, void *ctx);

#endif
