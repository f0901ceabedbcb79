/* http_server_priv.h - what the two halves of the server share: http_server.c drives libmicrohttpd and takes requests in,
 * http_request.c is the side that handlers see.
 */
#ifndef NET_HTTP_SERVER_PRIV_H
#define NET_HTTP_SERVER_PRIV_H

#include <microhttpd.h>

#include "net/http_route.h"
#include "net/http_server.h"

/* Every request goes down this list; a phase may be left out, none is returned to. */
enum req_phase {
	REQ_HEADERS,  /* seen for the first time: checked, routed, authorised */
	REQ_BODY,     /* its body comes in, into `body` or to `read_fn` */
	REQ_WAITING,  /* whole; the handler has it and has not answered */
	REQ_ANSWERED, /* a whole answer is with libmicrohttpd */
	REQ_STREAM,   /* an answer is being written piecewise */
	REQ_DRAINED,  /* answered by hand before its body had come: the rest is dropped, then the connection */
	REQ_GONE,     /* the client is away, or is to be: libmicrohttpd is only to let go of it */
};

/* A TCP connection, from accept to close. */
struct http_conn {
	struct http_server *server;
	struct MHD_Connection *mhd;
	struct loop_timer headers_due; /* set while we wait for a request */
	int fd;                        /* libmicrohttpd's */
	char remote[64];
};

struct http_req {
	struct http_server *server;
	struct http_conn *conn;
	struct MHD_Connection *mhd;
	const struct http_route *route; /* NULL: 404 or 405 */
	enum req_phase phase;
	bool suspended;  /* libmicrohttpd leaves the connection alone until we resume it */
	bool at_headers; /* suspended in the call for the headers: it is repeated when resumed */
	bool body_ended; /* nothing of the body is missing */
	int status;      /* of the answer; 0: none yet */
	int64_t began_mono_ms;
	char *method, *path; /* decoded where it could be */
	struct http_params params;
	struct buf allow;
	struct query {
		char *name, *value;
		struct query *next;
	} *queries;
	struct loop_fd *watch; /* of the socket while suspended */

	void *identity;
	void (*free_identity)(void *);
	void (*gone_fn)(void *arg);
	void *gone_arg;

	int64_t length; /* Content-Length, -1 unknown */
	struct buf body;
	size_t (*read_fn)(struct http_req *r, const void *data, size_t len, void *arg);
	void *read_arg;
	bool read_stuck; /* read_fn took less than it was offered, and has not asked for more */
	struct loop_timer rate_due;
	int64_t rate_bytes;    /* since the window began */
	int64_t drained_bytes; /* dropped after an early answer */

	struct buf out; /* of a streamed answer: what libmicrohttpd has not taken, from out_pos */
	size_t out_pos;
	bool out_ended, out_refused; /* stream_end was called; a write was refused and on_room is owed */
	void (*on_room)(struct http_req *r, void *arg);
	void *room_arg;

	struct http_req *next, **prev; /* all of the server */
};

struct http_server {
	struct loop *loop;
	struct http_server_config config;
	struct MHD_Daemon *mhd;
	int listen_fd;
	struct loop_fd *watch; /* of libmicrohttpd's epoll descriptor */
	struct loop_timer due; /* of its next time-out */
	bool run_again;        /* a connection was resumed or closed since libmicrohttpd was run last */
	char address[80];
	struct http_req *requests;
};

/* Has libmicrohttpd run soon: with an event loop of ours it has no way to wake itself after a resume. */
void server_resumed(struct http_server *s);

/* Leaves the connection alone until req_resume; meanwhile its socket is watched for the client's going. */
void req_suspend(struct http_req *r);
void req_resume(struct http_req *r);

/* Tells the handler's side, once, that the client is gone; req_drop has libmicrohttpd close the connection as well. */
void req_tell_gone(struct http_req *r);
void req_drop(struct http_req *r);

/* Answers with an error of ours, {"error":…}, whatever is missing of the body. */
void req_fail(struct http_req *r, int status, int code, const char *msg, const char *const *headers);

/* Answers 401 with *e and the challenge that a client needs to know how to ask again. */
void req_challenge(struct http_req *r, const struct err *e);

/* Adds a query parameter from its raw halves; false if it is malformed. */
bool req_add_query(struct http_req *r, const char *name, const char *value);

/* (Re)starts, or stops, the window in which the body must come at the least rate. */
void req_rate_start(struct http_req *r);
void req_rate_stop(struct http_req *r);

#endif
