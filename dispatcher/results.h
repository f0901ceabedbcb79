/* results.h - routes that read what an attempt left behind: log, findings, artefacts. Loop thread. */
#ifndef DISPATCHER_RESULTS_H
#define DISPATCHER_RESULTS_H

#include "dispatcher/call.h"

#define MANIFEST_MAX_BYTES (4 * 1024 * 1024)

/* The manifest of the row's attempt. Fills text (made for MANIFEST_MAX_BYTES) and *ret (to be freed; its array "files" names the
 * manifest too). Blocks: for a thread of the stores. Returns ERR_NOTFOUND when there is none, ERR_IO when it cannot be understood,
 * or what the store returns. */
int manifest_get(struct dispatcher *d, const struct run_row *row, struct buf *text, json_t **ret, struct err *e);

/* Routes: GET /v1/run/:id/logs, …/findings, …/artifacts, …/artifact/NAME. */
void run_logs(struct http_req *r, void *ctx);
void run_findings(struct http_req *r, void *ctx);
void run_artifacts(struct http_req *r, void *ctx);
void run_artifact(struct http_req *r, void *ctx);

/* Streams an object from offset on as the answer of the call, which is over with it. Status 200 once the object is known to be
 * there; a missing object answers 404 with the text. */
void results_stream(struct call *c, const char *bucket, const char *key, const char *content_type, int64_t offset,
    const char *missing);

#endif
