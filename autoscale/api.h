/* api.h - what the autoscaler serves: /metrics, /v1/decisions, /v1/agent/health. Loop thread. */
#ifndef AUTOSCALE_API_H
#define AUTOSCALE_API_H

#include "autoscale/config.h"
#include "autoscale/scaler.h"
#include "net/http_server.h"

struct scale_api;

/* Listens. Everything is kept by reference. NULL with *e. */
struct scale_api *scale_api_new(struct loop *l, const struct config *c, const struct scaler *s, struct err *e);

/* "127.0.0.1:8710", as bound. */
const char *scale_api_address(const struct scale_api *a);

/* NULL is allowed. */
void scale_api_free(struct scale_api *a);

#endif
