/* doctor.h - what is wrong with the store, and what can be repaired at once; what is in it. Loop thread. */
#ifndef DISPATCHER_DOCTOR_H
#define DISPATCHER_DOCTOR_H

#include "dispatcher/call.h"

/* Routes: GET /v1/storage/doctor looks, POST repairs as well. One at a time, within its time limit. */
void doctor_look(struct http_req *r, void *ctx);
void doctor_repair(struct http_req *r, void *ctx);

/* Route: GET /v1/storage. */
void storage_show(struct http_req *r, void *ctx);

#endif
