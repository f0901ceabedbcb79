/* http_client.h - HTTP requests that block (libcurl is visible here alone): for worker threads and command-line programs,
 * never for a loop thread.
 *
 * One struct http_client is one keep-alive connection with its settings; it is used by one thread at a time. Redirects are
 * never followed, proxies from the environment are not used, TLS is verified unless said otherwise, and every answer has a
 * bound in bytes and in time.
 */
#ifndef NET_HTTP_CLIENT_H
#define NET_HTTP_CLIENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* How to reach and trust a server; texts may be NULL or "", are kept by reference (the struct
 * itself is copied), and must outlive the client. */
struct http_tls {
	const char *ca_cert, *ca_path;        /* files; none: the system's */
	const char *client_cert, *client_key; /* files */
	const char *server_name;              /* name checked in place of the host's */
	bool skip_verify;
};

struct http_client;

struct http_header {
	char name[64];
	char value[1024];
};

struct http_call {
	/* the request */
	const char *method;            /* "GET" */
	const char *url;               /* "http://host:port/path?query", already percent-encoded */
	const char *unix_socket;       /* path; NULL: TCP */
	const char *const *headers;    /* NULL-terminated "Name: value", or "Name:" for an empty one; NULL: none. Never Expect. */
	const void *body;              /* NULL: none, or from read_fn */
	size_t body_len;
	int64_t body_size;             /* with read_fn: bytes that will come, -1 unknown (chunked) */
	/* Gives up to len bytes of the body: >0 bytes, 0 end, <0 abort. */
	long (*read_fn)(void *arg, void *out, size_t len);
	/* the answer */
	struct buf *out;               /* takes the body; over its max: ERR_TOOBIG. Errors (status >= 400) always go here too */
	/* Takes the body of a 2xx instead of `out`: 0 to go on, else abort (the call returns that value if it is an ERR_*). */
	int (*write_fn)(void *arg, const void *data, size_t len);
	/* Sees every header of the final answer, before any of its body; name as sent, value trimmed. NULL: nobody does. */
	void (*header_fn)(void *arg, const char *name, const char *value);
	void *arg;                     /* of read_fn, write_fn and header_fn */
	/* bounds */
	int64_t connect_timeout_ms;    /* 0: 5 s */
	int64_t timeout_ms;            /* whole call; 0: none (streams) */
	int64_t stall_ms;              /* no byte in either direction for so long: ERR_TIMEOUT; 0: 60 s */
	int64_t stall_bytes;           /* fewer than these within stall_ms are as good as none; 0: 1 */
	const atomic_bool *stop;       /* set by another thread: the call ends with ERR_CANCELED within 200 ms; NULL: never */
	/* filled in */
	int status;                    /* 0: no answer */
	struct http_header want[8];    /* set name, value is filled with that response header ("" if absent) */
	size_t n_want;
	int64_t sent_bytes;            /* of the body: whether the server can have seen anything */
};

/* A client, never NULL; tls may be NULL. http_client_free(NULL) is allowed. */
struct http_client *http_client_new(const struct http_tls *tls);
void http_client_free(struct http_client *c);

/* Performs a call. Returns 0 whenever a complete answer came, whatever its status; ERR_RETRY (could not connect, nothing was
 * sent), ERR_TIMEOUT or ERR_IO (broken midway: may have been done), ERR_TOOBIG, ERR_CANCELED, ERR_DENIED (TLS not trusted),
 * ERR_PROTO, ERR_INVALID (bad URL). */
int http_perform(struct http_client *c, struct http_call *call, struct err *e);

/* Turns an answer with status >= 400 into an error: the server's own words from the body (JSON error.message and error.hint, or
 * text, cut), code by status: 400 422 ERR_INVALID, 401 403 ERR_DENIED, 404 ERR_NOTFOUND, 409 412 ERR_CONFLICT, 413 ERR_TOOBIG,
 * 408 429 5xx ERR_RETRY, else ERR_PROTO. Returns 0 for a status below 400. */
int http_status_err(const struct http_call *call, struct err *e);

/* Appends s percent-encoded (RFC 3986 unreserved stay; keep_slash leaves '/') to *b. */
int http_encode(struct buf *b, const char *s, bool keep_slash);

#endif
