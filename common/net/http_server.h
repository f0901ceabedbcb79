/* http_server.h - an HTTP/1.1 server driven by our loop (libmicrohttpd is visible here alone).
 *
 * Routes are rows of a table. A handler runs in the loop thread, once per request: when the whole body is there (small
 * bodies), or when the headers are (HTTP_STREAM_BODY; it then calls http_read_body). It answers exactly once with one of
 * the http_reply functions, at once or later; until then the connection is suspended and costs no processor time. A
 * request whose client goes away is told by its on_gone callback, after which it must not be touched.
 * Everything here is for the loop thread alone. Bounds: connections in all and per address, header bytes, body bytes,
 * a minimum rate for bodies and an idle time-out (slow clients), bytes queued for a slow reader.
 */
#ifndef NET_HTTP_SERVER_H
#define NET_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "net/loop.h"

struct http_server;
struct http_req;

enum http_route_flags {
	HTTP_STREAM_BODY = 1 << 0, /* the handler is called before the body and reads it piecewise */
};

struct http_route {
	const char *method; /* "GET" */
	/* "/v1/run/:id/logs": ":x" matches one segment; "*x", as the last one, all the rest with its slashes */
	const char *path;
	void (*handler)(struct http_req *r, void *ctx);
	size_t body_max;    /* bytes; 0: a body is refused. For streams the handler's own bound counts. */
	unsigned scope;     /* opaque bits, given to the authorise callback */
	unsigned flags;
};

struct http_server_config {
	const char *listen;          /* "127.0.0.1:8700", "[::1]:0"; port 0: any free one */
	const struct http_route *routes;
	size_t n_routes;
	void *ctx;                   /* given to handlers */
	/* Called before every handler (and before any body is read). Returns 0, or an ERR_* with *e: ERR_DENIED answers 401 when
	 * *ret_challenge was set, else 403. May attach an identity with http_set_identity. */
	int (*authorise)(struct http_req *r, unsigned scope, bool *ret_challenge, void *ctx, struct err *e);
	/* Called after each answer, for metrics and the access log; route is NULL for 404/405. */
	void (*served)(const struct http_req *r, const struct http_route *route, int status, int64_t took_ms, void *ctx);
	unsigned max_connections;    /* e.g. 1024 */
	unsigned max_per_address;    /* 0: no bound */
	int64_t idle_timeout_ms;     /* for a whole request head, and without traffic while we wait for the client */
	int64_t min_body_bytes_per_s; /* averaged over 10 s (idle_timeout_ms if less); slower uploads are cut with 408 */
	size_t header_max_bytes;     /* e.g. 16 KiB; over it 431 */
	size_t write_queue_max_bytes; /* per streamed answer */
};

/* Starts to listen. NULL with *e when the address is bad or taken. The config is copied, its tables are kept. */
struct http_server *http_server_new(struct loop *l, const struct http_server_config *c, struct err *e);

/* Stops listening and ends all connections (on_gone is called for open requests). NULL is allowed. */
void http_server_free(struct http_server *s);

/* Stops accepting new connections; those open go on. */
void http_server_quiesce(struct http_server *s);

/* "127.0.0.1:43211", the address it is bound to; valid while the server is. */
const char *http_server_address(const struct http_server *s);

/* --- the request --- */

/* Method and path (decoded, without query) as they came. Never NULL; valid until answered. */
const char *http_method(const struct http_req *r);
const char *http_path(const struct http_req *r);

/* A path parameter by its name in the route (decoded), "" if absent. Never NULL. Valid until answered. */
const char *http_param(const struct http_req *r, const char *name);

/* A query parameter (decoded, first occurrence) or request header; NULL if absent. Valid until answered. */
const char *http_query(const struct http_req *r, const char *name);
const char *http_header(const struct http_req *r, const char *name);

/* Content-Length, or -1 when unknown. */
int64_t http_content_length(const struct http_req *r);

/* The whole body (small bodies only), NUL-terminated; *ret_len may be NULL. */
const char *http_body(const struct http_req *r, size_t *ret_len);

/* Numeric address of the client. */
const char *http_remote(const struct http_req *r);

/* What authorise attached; free_fn(identity) is called when the request ends. */
void http_set_identity(struct http_req *r, void *identity, void (*free_fn)(void *));
void *http_identity(const struct http_req *r);

/* fn(arg) is called once if the client goes away (or the server stops) before the answer was given: before http_reply* or
 * http_stream_end, after which the request is the server's and must not be touched. A client that shuts down its sending
 * half counts as gone. NULL unsets it. */
void http_on_gone(struct http_req *r, void (*fn)(void *arg), void *arg);

/* Reads a streamed body: fn is called with each piece and at the end with data NULL, len 0. It returns the number of bytes it
 * took (all or fewer: the rest is offered again after http_body_resume), so a slow consumer pushes back on the client. An
 * early http_reply_* is allowed at any time: the rest of the body is dropped and the connection closed. A body that the
 * client cuts off ends in on_gone, never in the end call. */
void http_read_body(struct http_req *r, size_t (*fn)(struct http_req *r, const void *data, size_t len, void *arg), void *arg);
void http_body_resume(struct http_req *r);

/* --- the answer, exactly one of these --- */

/* A whole answer; data is copied. content_type may be NULL. Extra headers: NULL-terminated pairs name, value; may be NULL. */
void http_reply(struct http_req *r, int status, const char *content_type, const void *data, size_t len,
    const char *const *headers);

/* JSON text (copied). */
void http_reply_json(struct http_req *r, int status, const char *json_text);

/* {"error":{"code","message","hint"}} with the status that fits e->code: invalid 400, denied 403, not_found 404, conflict 409,
 * too_big 413, timeout 408, retry 503 (Retry-After: 1), everything else 500. */
void http_reply_err(struct http_req *r, const struct err *e);

/* An answer of unknown or known length (-1 unknown: chunked) written piecewise, once the whole body of the request is
 * there. After the last piece call http_stream_end.
 * http_stream_write takes all of data or refuses (ERR_RETRY: queue full, wait for on_room; ERR_CANCELED: the client is gone).
 * on_room is called when the queue has fallen below half. */
void http_stream_begin(struct http_req *r, int status, const char *content_type, int64_t size, const char *const *headers,
    void (*on_room)(struct http_req *r, void *arg), void *arg);
int http_stream_write(struct http_req *r, const void *data, size_t len);
void http_stream_end(struct http_req *r);

#endif
