#include "net/http_server_priv.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

/* Memory of a connection: request head, read buffer (half of it at first), answer head; bodies are read in pieces of about half
 * of it. The library clears what a request leaves free, so a larger one costs each request time. */
#define POOL_BYTES (128 * 1024)
#define RUNS_PER_TURN 16
#define BACKLOG 512
#define DRAIN_MAX_BYTES (64 * 1024 * 1024)

/* --- a request comes in --- */

static struct http_req *
req_new(struct http_conn *c, const char *method, const char *url)
{
	struct http_req *r = xcalloc(1, sizeof(*r));
	struct http_server *s = c->server;

	r->server = s;
	r->conn = c;
	r->mhd = c->mhd;
	r->began_mono_ms = clock_mono_ms();
	r->method = xstrdup(method);
	r->path = http_decode(url, strlen(url));
	if (r->path == NULL)
		r->path = xstrdup(url);
	r->allow = buf_make(256);
	r->length = -1;
	r->body = buf_make(1);
	r->out = buf_make(s->config.write_queue_max_bytes);
	r->next = s->requests;
	r->prev = &s->requests;
	if (r->next != NULL)
		r->next->prev = &r->next;
	s->requests = r;
	loop_timer_clear(s->loop, &c->headers_due);
	return r;
}

static void
req_free(struct http_req *r)
{
	struct query *q;

	if (r->next != NULL)
		r->next->prev = r->prev;
	*r->prev = r->next;
	loop_fd_remove(r->server->loop, r->watch);
	loop_timer_clear(r->server->loop, &r->rate_due);
	if (r->free_identity != NULL)
		r->free_identity(r->identity);
	http_params_release(&r->params);
	while ((q = r->queries) != NULL) {
		r->queries = q->next;
		free(q->name);
		free(q->value);
		free(q);
	}
	buf_release(&r->allow);
	buf_release(&r->body);
	buf_release(&r->out);
	free(r->method);
	free(r->path);
	free(r);
}

/* What the framing headers of a request add up to. */
struct framing {
	struct http_req *r;
	unsigned lengths, encodings, hosts;
	bool bad;
	size_t bytes;
};

static enum MHD_Result
see_header(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct framing *f = arg;

	(void)kind;
	if (value == NULL)
		value = "";
	f->bytes += strlen(name) + strlen(value) + sizeof(": \r\n") - 1;
	if (strcasecmp(name, "Content-Length") == 0) {
		f->lengths++;
		/* libmicrohttpd has refused what is not a number in range. */
		f->bad |= value[strspn(value, "0123456789")] != '\0' || strlen(value) > 18;
		f->r->length = 0;
		for (const char *d = value; !f->bad && *d != '\0'; d++)
			f->r->length = f->r->length * 10 + (*d - '0');
	} else if (strcasecmp(name, "Transfer-Encoding") == 0) {
		f->encodings++;
		f->bad |= strcasecmp(value, "chunked") != 0;
	} else if (strcasecmp(name, "Host") == 0) {
		f->hosts++;
	}
	return MHD_YES;
}

static enum MHD_Result
see_query(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	(void)kind;
	return req_add_query(arg, name, value == NULL ? "" : value) ? MHD_YES : MHD_NO;
}

/* True if the head is sound; else the request is answered. Where two readers could see different ends of the body, and
 * so different requests behind it, we refuse. */
static bool
check_head(struct http_req *r, const char *version)
{
	struct framing f = {.r = r};
	int queries;

	MHD_get_connection_values(r->mhd, MHD_HEADER_KIND, see_header, &f);
	if (f.bytes + strlen(r->path) > r->server->config.header_max_bytes) {
		req_fail(r, 431, ERR_TOOBIG, "the request's headers are too large", NULL);
	} else if (f.bad || f.lengths > 1 || f.encodings > 1 || (f.lengths > 0 && f.encodings > 0)) {
		r->body_ended = false; /* nobody knows where it ends: the connection cannot go on */
		req_fail(r, 400, ERR_INVALID, "the length of the body is ambiguous", NULL);
	} else if (f.hosts > 1 || (f.hosts == 0 && strcmp(version, "HTTP/1.1") == 0)) {
		req_fail(r, 400, ERR_INVALID, "the request needs exactly one Host header", NULL);
	} else {
		queries = MHD_get_connection_values(r->mhd, MHD_GET_ARGUMENT_KIND, see_query, r);
		for (struct query *q = r->queries; q != NULL; q = q->next)
			queries--;
		if (queries == 0)
			return true;
		req_fail(r, 400, ERR_INVALID, "a query parameter is malformed", NULL);
	}
	return false;
}

/* True if the request has a route that takes it; else it is answered. */
static bool
find_route(struct http_req *r, const char *url)
{
	const struct http_server_config *c = &r->server->config;
	int rc = http_route_find(c->routes, c->n_routes, r->method, url, &r->route, &r->params, &r->allow);
	const char *allow[] = {"Allow", buf_str(&r->allow), NULL};

	if (rc == 400)
		req_fail(r, 400, ERR_INVALID, "the path is malformed", NULL);
	else if (rc == 404)
		req_fail(r, 404, ERR_NOTFOUND, "there is nothing at this path", NULL);
	else if (rc == 405)
		req_fail(r, 405, ERR_INVALID, "this path does not know the method", allow);
	return rc == 0;
}

/* True if the handler may have the request; else it is answered. */
static bool
admit(struct http_req *r)
{
	const struct http_server_config *c = &r->server->config;
	struct err e = {0};
	bool challenge = false;

	if (c->authorise != NULL && c->authorise(r, r->route->scope, &challenge, c->ctx, &e) != 0) {
		if (challenge)
			req_challenge(r, &e);
		else
			http_reply_err(r, &e);
		return false;
	}
	if ((r->route->flags & HTTP_STREAM_BODY) == 0 && r->length > (int64_t)r->route->body_max) {
		req_fail(r, 413, ERR_TOOBIG, "the body is larger than allowed here", NULL);
		return false;
	}
	return true;
}

static void
take_head(struct http_req *r, const char *url, const char *version)
{
	if (!check_head(r, version) || !find_route(r, url) || !admit(r))
		return;
	r->phase = REQ_BODY;
	req_rate_start(r);
	if ((r->route->flags & HTTP_STREAM_BODY) == 0) {
		r->body = buf_make(r->route->body_max > 0 ? r->route->body_max : 1);
		return;
	}
	r->route->handler(r, r->server->config.ctx);
	if (r->phase == REQ_BODY && r->read_fn == NULL && !r->body_ended) {
		r->at_headers = true;
		req_suspend(r);
	}
}

/* Takes from *len bytes of the body at data what can be taken, and lowers *len by that. */
static void
take_body(struct http_req *r, const char *data, size_t *len)
{
	size_t taken = *len;

	if (r->phase == REQ_DRAINED) {
		r->drained_bytes += (int64_t)*len;
		if (r->drained_bytes > DRAIN_MAX_BYTES)
			req_drop(r);
	} else if (r->phase == REQ_BODY && (r->route->flags & HTTP_STREAM_BODY) == 0) {
		r->rate_bytes += (int64_t)*len;
		if (r->route->body_max == 0 || buf_add(&r->body, data, *len) != 0)
			req_fail(r, 413, ERR_TOOBIG, "the body is larger than allowed here", NULL);
	} else if (r->phase == REQ_BODY) {
		r->read_stuck = true;
		taken = r->read_fn(r, data, *len, r->read_arg);
		assert(taken <= *len);
		r->rate_bytes += (int64_t)taken;
		if (r->phase == REQ_DRAINED)
			taken = *len;
		else if (taken < *len && r->read_stuck)
			req_suspend(r);
		else
			r->read_stuck = false;
	}
	*len -= taken;
}

/* The whole request is there. */
static void
take_end(struct http_req *r)
{
	if (r->phase == REQ_DRAINED) {
		req_drop(r);
	} else if (r->phase == REQ_BODY && (r->route->flags & HTTP_STREAM_BODY) != 0 && r->read_fn == NULL) {
		req_suspend(r); /* until the handler wants to hear that the body is empty */
	} else if (r->phase == REQ_BODY) {
		r->phase = REQ_WAITING;
		r->body_ended = true;
		req_rate_stop(r);
		if (r->read_fn != NULL)
			r->read_fn(r, NULL, 0, r->read_arg);
		else
			r->route->handler(r, r->server->config.ctx);
	}
	if (r->phase == REQ_WAITING)
		req_suspend(r);
}

static bool
has_body(const struct http_req *r)
{
	const char *length = http_header(r, "Content-Length");

	return http_header(r, "Transfer-Encoding") != NULL || (length != NULL && length[strspn(length, "0")] != '\0');
}

/* A call without data: for the headers, for the headers again after we suspended then, or for the whole request. */
static void
take_call(struct http_req *r, const char *url, const char *version)
{
	if (r->phase == REQ_HEADERS)
		take_head(r, url, version);
	else if (r->at_headers && r->phase == REQ_BODY && r->read_fn == NULL)
		req_suspend(r);
	else if (r->at_headers)
		r->at_headers = false;
	else
		take_end(r);
}

/* Called by libmicrohttpd when the headers are there, for each piece of the body, and when the request is whole. An answer
 * to the first of these calls costs the connection: without a body everything waits for the last. */
static enum MHD_Result
on_access(void *arg, struct MHD_Connection *mhd, const char *url, const char *method, const char *version, const char *data,
    size_t *len, void **context)
{
	struct http_req *r = *context;

	(void)arg;
	if (r == NULL) {
		const union MHD_ConnectionInfo *i = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

		r = *context = req_new(i->socket_context, method, url);
		r->body_ended = !has_body(r);
		if (r->body_ended)
			return MHD_YES;
	}
	if (r->phase == REQ_GONE)
		return MHD_NO;
	if (*len > 0) {
		take_body(r, data, len);
	} else {
		bool whole = r->phase == REQ_HEADERS && r->body_ended;

		take_call(r, url, version);
		if (whole && r->phase == REQ_BODY)
			take_end(r);
	}
	return r->phase == REQ_GONE ? MHD_NO : MHD_YES;
}

static void
on_headers_late(void *arg)
{
	const struct http_conn *c = arg;

	shutdown(c->fd, SHUT_RDWR); /* libmicrohttpd sees it and closes */
}

static void
expect_request(struct http_conn *c)
{
	loop_timer_set(c->server->loop, &c->headers_due, clock_mono_ms() + c->server->config.idle_timeout_ms, on_headers_late, c);
}

static void
on_completed(void *arg, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode why)
{
	struct http_req *r = *context;
	struct http_server *s = arg;

	(void)mhd, (void)why;
	if (r == NULL)
		return;
	*context = NULL;
	req_tell_gone(r);
	if (s->config.served != NULL && r->status != 0)
		s->config.served(r, r->route, r->status, clock_mono_ms() - r->began_mono_ms, s->config.ctx);
	expect_request(r->conn);
	req_free(r);
}

/* --- connections --- */

static void
on_connection(void *arg, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode what)
{
	struct http_server *s = arg;
	struct http_conn *c = *context;
	const struct sockaddr *sa;

	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		loop_timer_clear(s->loop, &c->headers_due);
		free(c);
		s->run_again = true;
		return;
	}
	c = *context = xcalloc(1, sizeof(*c));
	c->server = s;
	c->mhd = mhd;
	c->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	sa = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr;
	getnameinfo(sa, sa->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in), c->remote,
	    sizeof(c->remote), NULL, 0, NI_NUMERICHOST);
	expect_request(c);
}

/* Percent-decoding is ours: libmicrohttpd's would hide bad escapes and NULs. */
static size_t
leave_escaped(void *arg, struct MHD_Connection *mhd, char *text)
{
	(void)arg, (void)mhd;
	return strlen(text);
}

static void
on_mhd_log(void *arg, const char *fmt, va_list ap)
{
	char line[256];

	(void)arg;
	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	log_debug("http", "%s", line);
}

/* --- driving libmicrohttpd from our loop --- */

static void
drive(void *arg)
{
	struct http_server *s = arg;
	MHD_UNSIGNED_LONG_LONG wait_ms = 0;
	bool timed = true;

	/* A few turns at once spare system calls while data pours in; not more, because others wait for the loop. */
	for (int i = 0; i < RUNS_PER_TURN && timed && wait_ms == 0; i++) {
		s->run_again = false;
		MHD_run(s->mhd);
		wait_ms = 0;
		timed = MHD_get_timeout(s->mhd, &wait_ms) == MHD_YES;
		/* libmicrohttpd takes resumed connections in when it is run next, and listens again when one less than the most is open,
		 * but does not say that it wants to be. */
		if (s->run_again) {
			timed = true;
			wait_ms = 0;
		}
	}
	if (timed)
		loop_timer_set(s->loop, &s->due, clock_mono_ms() + (int64_t)wait_ms, drive, s);
	else
		loop_timer_clear(s->loop, &s->due);
}

void
server_resumed(struct http_server *s)
{
	s->run_again = true;
	loop_timer_set(s->loop, &s->due, 0, drive, s);
}

static void
on_ready(uint32_t ready, void *arg)
{
	(void)ready;
	drive(arg);
}

/* --- starting and stopping --- */

/* Opens the listening socket and notes its address. */
static int
open_listener(struct http_server *s, const char *listen_at, struct err *e)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE}, *ai = NULL;
	const char *colon = strrchr(listen_at, ':');
	char host[64], port[8];
	struct sockaddr_storage at;
	socklen_t at_len = sizeof(at);
	bool v6 = listen_at[0] == '[';
	int rc = 0;

	if (colon == NULL || (v6 && (colon == listen_at || colon[-1] != ']')))
		return err_set(e, ERR_INVALID, "'%s' is not an address to listen at, as 127.0.0.1:8700 is", listen_at);
	snprintf(host, sizeof(host), "%.*s", (int)(colon - listen_at) - 2 * v6, listen_at + v6);
	if (getaddrinfo(host, colon + 1, &hints, &ai) != 0)
		return err_set(e, ERR_INVALID, "'%s' is not an address to listen at, as 127.0.0.1:8700 is", listen_at);
	s->listen_fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->listen_fd < 0 || setsockopt(s->listen_fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) != 0 ||
	    bind(s->listen_fd, ai->ai_addr, ai->ai_addrlen) != 0 || listen(s->listen_fd, BACKLOG) != 0 ||
	    getsockname(s->listen_fd, (struct sockaddr *)&at, &at_len) != 0) {
		rc = err_set(e, ERR_IO, "listen at %s: %s", listen_at, strerror(errno));
	} else {
		getnameinfo((struct sockaddr *)&at, at_len, host, sizeof(host), port, sizeof(port),
		    NI_NUMERICHOST | NI_NUMERICSERV);
		snprintf(s->address, sizeof(s->address), v6 ? "[%s]:%s" : "%s:%s", host, port);
	}
	freeaddrinfo(ai);
	return rc;
}

struct http_server *
http_server_new(struct loop *l, const struct http_server_config *c, struct err *e)
{
	struct http_server *s = xcalloc(1, sizeof(*s));

	assert(c->max_connections > 0 && c->idle_timeout_ms > 0 && c->header_max_bytes > 0 && c->write_queue_max_bytes > 0);
	s->loop = l;
	s->config = *c;
	s->listen_fd = -1;
	if (open_listener(s, c->listen, e) != 0)
		goto fail;
	s->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_access, s,
	    MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL, /* first, for it is used at once */
	    MHD_OPTION_LISTEN_SOCKET, s->listen_fd, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_BYTES,
	    MHD_OPTION_CONNECTION_LIMIT, c->max_connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT, c->max_per_address,
	    MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)((c->idle_timeout_ms + 999) / 1000), MHD_OPTION_UNESCAPE_CALLBACK,
	    leave_escaped, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
	    MHD_OPTION_END);
	if (s->mhd == NULL) {
		err_set(e, ERR_IO, "the HTTP server did not start: %s", strerror(errno));
		goto fail;
	}
	s->watch = loop_fd_add(l, MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd, EPOLLIN, on_ready, s);
	drive(s); /* puts the listening socket into its epoll set */
	return s;
fail:
	if (s->listen_fd >= 0)
		close(s->listen_fd);
	free(s);
	return NULL;
}

void
http_server_quiesce(struct http_server *s)
{
	if (s->listen_fd < 0)
		return;
	MHD_quiesce_daemon(s->mhd);
	close(s->listen_fd);
	s->listen_fd = -1;
}

void
http_server_free(struct http_server *s)
{
	if (s == NULL)
		return;
	/* No connection may be suspended when libmicrohttpd is stopped. It frees the requests itself (on_completed). */
	for (struct http_req *r = s->requests; r != NULL; r = r->next)
		req_drop(r);
	loop_fd_remove(s->loop, s->watch);
	MHD_stop_daemon(s->mhd);
	assert(s->requests == NULL);
	loop_timer_clear(s->loop, &s->due);
	free(s);
}

const char *
http_server_address(const struct http_server *s)
{
	return s->address;
}
