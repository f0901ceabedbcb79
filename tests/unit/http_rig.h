/* http_rig.h - a server and plain sockets for the tests of net/http_server.h.
 *
 * The server runs in a thread of its own with its loop; the tests are its clients, on plain sockets, so that they can send
 * what no HTTP library would. Handlers tell what happened by one letter each in a pipe, which the tests wait for. */
#ifndef TESTS_HTTP_RIG_H
#define TESTS_HTTP_RIG_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/http_server.h"

#define WAIT_S 20
#define POLLS 500
#define BODY_MAX 1000

static struct {
	struct loop *l;
	struct http_server *s;
	pthread_t thread;
	int port;
	int tell[2]; /* letters: handlers write, tests read */

	/* of the loop thread */
	struct http_req *parked[POLLS];
	size_t n_parked;
	struct http_req *stream;
	atomic_size_t taken; /* bytes of an upload */
	atomic_size_t cpu_us; /* as measured by measure_cpu */
	size_t allowance; /* how much the slow consumer takes */
} t;

static inline void
tell(char letter)
{
	assert_int_equal(write(t.tell[1], &letter, 1), 1);
}

static inline void
expect_told(const char *letters)
{
	for (; *letters != '\0'; letters++) {
		char got = '-';

		assert_int_equal(recv(t.tell[0], &got, 1, 0), 1);
		assert_int_equal(got, *letters);
	}
}

static inline void
expect_nothing_told(void)
{
	char got;

	assert_int_equal(recv(t.tell[0], &got, 1, MSG_DONTWAIT), -1);
}

/* --- handlers --- */

static inline void
on_gone(void *arg)
{
	(void)arg;
	tell('G');
}

static inline void
get_hello(struct http_req *r, void *ctx)
{
	assert_ptr_equal(ctx, &t);
	http_reply_json(r, 200, "{\"hello\":1}");
}

static inline void
get_params(struct http_req *r, void *ctx)
{
	const char *q = http_query(r, "q");
	char text[512];

	(void)ctx;
	snprintf(text, sizeof(text), "%s|%s|%s|%s", http_param(r, "id"), http_param(r, "name"), q == NULL ? "-" : q, http_method(r));
	http_reply(r, 200, "text/plain", text, strlen(text), (const char *const[]){"X-Extra", "yes", NULL});
}

static inline void
post_echo(struct http_req *r, void *ctx)
{
	size_t len;
	const char *body = http_body(r, &len);

	(void)ctx;
	http_reply(r, 200, "text/plain", body, len, NULL);
}

static inline void
get_park(struct http_req *r, void *ctx)
{
	(void)ctx;
	assert_true(t.n_parked < POLLS);
	http_on_gone(r, on_gone, NULL);
	t.parked[t.n_parked++] = r;
	tell('P');
}

static inline void
get_error(struct http_req *r, void *ctx)
{
	static const int codes[] = {ERR_INVALID, ERR_DENIED, ERR_NOTFOUND, ERR_CONFLICT, ERR_TOOBIG, ERR_TIMEOUT, ERR_RETRY, ERR_IO};
	struct err e;

	(void)ctx;
	err_set(&e, codes[http_param(r, "n")[0] - '0'], "bad \"thing\" \xff");
	err_hint(&e, "try again");
	http_reply_err(r, &e);
}

static inline size_t
count_body(struct http_req *r, const void *data, size_t len, void *arg)
{
	char text[32];

	(void)arg;
	if (data != NULL) {
		t.taken += len;
		return len;
	}
	snprintf(text, sizeof(text), "%zu", (size_t)t.taken);
	http_reply(r, 200, NULL, text, strlen(text), NULL);
	return 0;
}

static inline void
put_count(struct http_req *r, void *ctx)
{
	(void)ctx;
	t.taken = 0;
	http_on_gone(r, on_gone, NULL);
	http_read_body(r, count_body, NULL);
	tell('U');
}

/* Takes what is allowed, then nothing until it is let. */
static inline size_t
count_slowly(struct http_req *r, const void *data, size_t len, void *arg)
{
	size_t n = len < t.allowance ? len : t.allowance;

	if (data == NULL)
		return count_body(r, data, len, arg);
	t.taken += n;
	t.allowance -= n;
	if (n < len)
		tell('S');
	return n;
}

static inline void
put_slow(struct http_req *r, void *ctx)
{
	(void)ctx;
	t.taken = 0;
	t.stream = r;
	http_on_gone(r, on_gone, NULL);
	http_read_body(r, count_slowly, NULL);
}

static inline size_t
refuse_in_the_middle(struct http_req *r, const void *data, size_t len, void *arg)
{
	(void)arg;
	assert_non_null(data);
	http_reply_json(r, 507, "{\"full\":true}");
	return len;
}

static inline void
put_refuse(struct http_req *r, void *ctx)
{
	(void)ctx;
	http_on_gone(r, on_gone, NULL);
	http_read_body(r, refuse_in_the_middle, NULL);
}

static inline void
put_later(struct http_req *r, void *ctx)
{
	(void)ctx;
	t.stream = r;
	t.taken = 0;
	tell('L');
}

static inline void
on_room(struct http_req *r, void *arg)
{
	(void)r, (void)arg;
	tell('R');
}

static inline void
get_stream(struct http_req *r, void *ctx)
{
	(void)ctx;
	t.stream = r;
	http_on_gone(r, on_gone, NULL);
	http_stream_begin(r, 200, "text/event-stream", -1, NULL, on_room, NULL);
	tell('B');
}

static inline int
authorise(struct http_req *r, unsigned scope, bool *ret_challenge, void *ctx, struct err *e)
{
	const char *token = http_header(r, "Authorization");

	(void)ctx;
	if (scope == 0)
		return 0;
	*ret_challenge = token == NULL;
	if (token != NULL && strcmp(token, "Bearer good") == 0) {
		http_set_identity(r, xstrdup("someone"), free);
		return 0;
	}
	return err_set(e, ERR_DENIED, "no");
}

static inline void
get_secret(struct http_req *r, void *ctx)
{
	const char *who = http_identity(r);

	(void)ctx;
	http_reply(r, 200, NULL, who, strlen(who), NULL);
}

static const struct http_route routes[] = {
    {"GET", "/hello", get_hello, 0, 0, 0},
    {"GET", "/v1/run/:id/artifact/*name", get_params, 0, 0, 0},
    {"GET", "/v1/run/:id", get_params, 0, 0, 0},
    {"POST", "/echo", post_echo, BODY_MAX, 0, 0},
    {"POST", "/hello", post_echo, 0, 0, 0},
    {"GET", "/park", get_park, 0, 0, 0},
    {"GET", "/error/:n", get_error, 0, 0, 0},
    {"PUT", "/count", put_count, 0, 0, HTTP_STREAM_BODY},
    {"PUT", "/slow", put_slow, 0, 0, HTTP_STREAM_BODY},
    {"PUT", "/refuse", put_refuse, 0, 0, HTTP_STREAM_BODY},
    {"PUT", "/later", put_later, 0, 0, HTTP_STREAM_BODY},
    {"GET", "/stream", get_stream, 0, 0, 0},
    {"GET", "/secret", get_secret, 0, 1, 0},
};

/* --- the server's thread --- */

static inline void *
serve(void *arg)
{
	(void)arg;
	loop_run(t.l);
	http_server_free(t.s);
	return NULL;
}

static inline void
stop_loop(void *arg)
{
	loop_stop(arg);
}

static inline int
start(void **state)
{
	struct http_server_config c = {
	    .listen = "127.0.0.1:0",
	    .routes = routes,
	    .n_routes = sizeof(routes) / sizeof(routes[0]),
	    .ctx = &t,
	    .authorise = authorise,
	    .max_connections = POLLS + 20,
	    .idle_timeout_ms = 400,
	    .min_body_bytes_per_s = 1000,
	    .header_max_bytes = 4096,
	    .write_queue_max_bytes = 256 * 1024,
	};
	struct timeval wait = {.tv_sec = WAIT_S};
	struct err e;

	(void)state;
	memset(&t, 0, sizeof(t));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, t.tell), 0);
	assert_int_equal(setsockopt(t.tell[0], SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)), 0);
	t.l = loop_new(&e);
	t.s = http_server_new(t.l, &c, &e);
	assert_non_null(t.s);
	t.port = (int)strtol(strrchr(http_server_address(t.s), ':') + 1, NULL, 10);
	return pthread_create(&t.thread, NULL, serve, NULL);
}

static inline int
end(void **state)
{
	(void)state;
	loop_post(t.l, stop_loop, t.l);
	pthread_join(t.thread, NULL);
	loop_free(t.l);
	close(t.tell[0]);
	close(t.tell[1]);
	return 0;
}

/* --- a client --- */

static inline int
dial(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)t.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval wait = {.tv_sec = WAIT_S};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	return fd;
}

static inline void
say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Reads one answer: its head, or all by its Content-Length or until the end; the text is valid until the next call. */
static inline const char *
hear(int fd, bool head)
{
	static char text[64 * 1024];
	size_t len = 0;

	for (;;) {
		const char *body, *length;
		ssize_t n;

		text[len] = '\0';
		body = strstr(text, "\r\n\r\n");
		length = strstr(text, "Content-Length: ");
		if (body != NULL && (head || (length != NULL && strlen(body + 4) >= (size_t)strtol(length + 16, NULL, 10))))
			return text;
		/* One by one at the end of it, so that a pipelined answer stays in the socket. */
		n = recv(fd, text + len, 1, 0);
		if (n <= 0)
			return text;
		len += (size_t)n;
		assert_true(len + 1 < sizeof(text));
	}
}

static inline int
status_of(const char *answer)
{
	return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? (int)strtol(answer + 9, NULL, 10) : 0;
}

/* True once the other side has closed; data before that is skipped. */
static inline bool
is_closed(int fd)
{
	char sink[4096];
	ssize_t n;

	while ((n = recv(fd, sink, sizeof(sink), 0)) > 0)
		;
	return n == 0 || errno == ECONNRESET;
}

/* --- tests --- */

static inline void
measure_cpu(void *arg)
{
	struct rusage u;

	(void)arg;
	getrusage(RUSAGE_THREAD, &u);
	t.cpu_us = (size_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + (size_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
	tell('M');
}

/* A second on, more than twice the idle time-out. */
static inline void
measure_later(void *arg)
{
	static struct loop_timer timer;

	(void)arg;
	loop_timer_set(t.l, &timer, clock_mono_ms() + 1000, measure_cpu, NULL);
}

/* Processor time of the loop's thread during a second. */
static inline size_t
cpu_of_a_second_us(void)
{
	size_t before_us;

	loop_post(t.l, measure_cpu, NULL);
	expect_told("M");
	before_us = t.cpu_us;
	loop_post(t.l, measure_later, NULL);
	expect_told("M");
	return t.cpu_us - before_us;
}

#endif
