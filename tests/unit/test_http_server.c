/* The server runs in a thread of its own with its loop; the tests are its clients, on plain sockets, so that they can send
 * what no HTTP library would. Handlers tell what happened by one letter each in a pipe, which the tests wait for. */
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

static void
tell(char letter)
{
	assert_int_equal(write(t.tell[1], &letter, 1), 1);
}

static void
expect_told(const char *letters)
{
	for (; *letters != '\0'; letters++) {
		char got = '-';

		assert_int_equal(recv(t.tell[0], &got, 1, 0), 1);
		assert_int_equal(got, *letters);
	}
}

static void
expect_nothing_told(void)
{
	char got;

	assert_int_equal(recv(t.tell[0], &got, 1, MSG_DONTWAIT), -1);
}

/* --- handlers --- */

static void
on_gone(void *arg)
{
	(void)arg;
	tell('G');
}

static void
get_hello(struct http_req *r, void *ctx)
{
	assert_ptr_equal(ctx, &t);
	http_reply_json(r, 200, "{\"hello\":1}");
}

static void
get_params(struct http_req *r, void *ctx)
{
	const char *q = http_query(r, "q");
	char text[512];

	(void)ctx;
	snprintf(text, sizeof(text), "%s|%s|%s|%s", http_param(r, "id"), http_param(r, "name"), q == NULL ? "-" : q, http_method(r));
	http_reply(r, 200, "text/plain", text, strlen(text), (const char *const[]){"X-Extra", "yes", NULL});
}

static void
post_echo(struct http_req *r, void *ctx)
{
	size_t len;
	const char *body = http_body(r, &len);

	(void)ctx;
	http_reply(r, 200, "text/plain", body, len, NULL);
}

static void
get_park(struct http_req *r, void *ctx)
{
	(void)ctx;
	assert_true(t.n_parked < POLLS);
	http_on_gone(r, on_gone, NULL);
	t.parked[t.n_parked++] = r;
	tell('P');
}

static void
get_error(struct http_req *r, void *ctx)
{
	static const int codes[] = {ERR_INVALID, ERR_DENIED, ERR_NOTFOUND, ERR_CONFLICT, ERR_TOOBIG, ERR_TIMEOUT, ERR_RETRY, ERR_IO};
	struct err e;

	(void)ctx;
	err_set(&e, codes[http_param(r, "n")[0] - '0'], "bad \"thing\" \xff");
	err_hint(&e, "try again");
	http_reply_err(r, &e);
}

static size_t
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

static void
put_count(struct http_req *r, void *ctx)
{
	(void)ctx;
	t.taken = 0;
	http_on_gone(r, on_gone, NULL);
	http_read_body(r, count_body, NULL);
	tell('U');
}

/* Takes what is allowed, then nothing until it is let. */
static size_t
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

static void
put_slow(struct http_req *r, void *ctx)
{
	(void)ctx;
	t.taken = 0;
	t.stream = r;
	http_on_gone(r, on_gone, NULL);
	http_read_body(r, count_slowly, NULL);
}

static size_t
refuse_in_the_middle(struct http_req *r, const void *data, size_t len, void *arg)
{
	(void)arg;
	assert_non_null(data);
	http_reply_json(r, 507, "{\"full\":true}");
	return len;
}

static void
put_refuse(struct http_req *r, void *ctx)
{
	(void)ctx;
	http_on_gone(r, on_gone, NULL);
	http_read_body(r, refuse_in_the_middle, NULL);
}

static void
put_later(struct http_req *r, void *ctx)
{
	(void)ctx;
	t.stream = r;
	t.taken = 0;
	tell('L');
}

static void
on_room(struct http_req *r, void *arg)
{
	(void)r, (void)arg;
	tell('R');
}

static void
get_stream(struct http_req *r, void *ctx)
{
	(void)ctx;
	t.stream = r;
	http_on_gone(r, on_gone, NULL);
	http_stream_begin(r, 200, "text/event-stream", -1, NULL, on_room, NULL);
	tell('B');
}

static int
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

static void
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

static void *
serve(void *arg)
{
	(void)arg;
	loop_run(t.l);
	http_server_free(t.s);
	return NULL;
}

static void
stop_loop(void *arg)
{
	loop_stop(arg);
}

static int
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

static int
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

static int
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

static void
say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Reads one answer: its head, or all by its Content-Length or until the end; the text is valid until the next call. */
static const char *
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

static int
status_of(const char *answer)
{
	return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? (int)strtol(answer + 9, NULL, 10) : 0;
}

/* True once the other side has closed; data before that is skipped. */
static bool
is_closed(int fd)
{
	char sink[4096];
	ssize_t n;

	while ((n = recv(fd, sink, sizeof(sink), 0)) > 0)
		;
	return n == 0 || errno == ECONNRESET;
}

/* --- tests --- */

static void
answers_what_was_asked(void **state)
{
	static const struct {
		const char *request;
		int status;
		const char *has;
	} cases[] = {
	    {"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", 200, "\r\n\r\n{\"hello\":1}"},
	    {"GET /v1/run/a%20b%2Fc HTTP/1.1\r\nHost: x\r\n\r\n", 200, "\r\n\r\na b/c||-|GET"},
	    {"GET /v1/run/r/artifact/d/e%C3%A9.txt?q=1%262+3&q=4 HTTP/1.1\r\nHost: x\r\n\r\n", 200, "r|d/e\xc3\xa9.txt|1&2 3|GET"},
	    {"GET /v1/run/r?q HTTP/1.1\r\nHost: x\r\n\r\n", 200, "r|||GET"},
	    {"GET /v1/run/r HTTP/1.0\r\n\r\n", 200, "X-Extra: yes"},
	    {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 200, "\r\n\r\nabc"},
	    {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", 200, "\r\n\r\nabc"},
	    {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 200, "Content-Length: 0"},
	    {"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404, "\"code\":\"not_found\""},
	    {"GET /v1/run/ HTTP/1.1\r\nHost: x\r\n\r\n", 404, "\"code\":\"not_found\""},
	    {"GET /hello/ HTTP/1.1\r\nHost: x\r\n\r\n", 404, "\"code\":\"not_found\""},
	    {"PUT /hello HTTP/1.1\r\nHost: x\r\n\r\n", 405, "Allow: GET, HEAD, POST\r\n"},
	    {"GET /v1/run/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400, "\"code\":\"invalid\""},
	    {"GET /v1/run/a%2 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "\"code\":\"invalid\""},
	    {"GET /v1/run/a%00b HTTP/1.1\r\nHost: x\r\n\r\n", 400, "\"code\":\"invalid\""},
	    {"GET /v1/run/%ff HTTP/1.1\r\nHost: x\r\n\r\n", 400, "\"code\":\"invalid\""},
	    {"GET /v1/run/%c0%af HTTP/1.1\r\nHost: x\r\n\r\n", 400, "\"code\":\"invalid\""},
	    {"GET /hello?q=%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "query"},
	    {"GET /hello HTTP/1.1\r\n\r\n", 400, "Host"},
	    {"GET /hello HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, "Host"},
	    {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400, "ambiguous"},
	    {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "ambiguous"},
	    {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, "ambiguous"},
	    {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", 413, "\"code\":\"too_big\""},
	    {"POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", 413, "\"code\":\"too_big\""},
	    {"POST /hello HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 413, "\"code\":\"too_big\""},
	    {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400, ""},
	    {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", 413, ""},
	    {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, ""},
	    {"GET /secret HTTP/1.1\r\nHost: x\r\n\r\n", 401, "WWW-Authenticate: Bearer"},
	    {"GET /secret HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer bad\r\n\r\n", 403, "\"code\":\"denied\""},
	    {"GET /secret HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n", 200, "\r\n\r\nsomeone"},
	    {"GET /error/0 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "{\"error\":{\"code\":\"invalid\",\"message\":\"bad \\\"thing\\\" ?\",\"hint\":\"try again\"}}"},
	    {"GET /error/1 HTTP/1.1\r\nHost: x\r\n\r\n", 403, "denied"},
	    {"GET /error/2 HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not_found"},
	    {"GET /error/3 HTTP/1.1\r\nHost: x\r\n\r\n", 409, "conflict"},
	    {"GET /error/4 HTTP/1.1\r\nHost: x\r\n\r\n", 413, "too_big"},
	    {"GET /error/5 HTTP/1.1\r\nHost: x\r\n\r\n", 408, "timeout"},
	    {"GET /error/6 HTTP/1.1\r\nHost: x\r\n\r\n", 503, "Retry-After: 1"},
	    {"GET /error/7 HTTP/1.1\r\nHost: x\r\n\r\n", 500, "\"io\""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = dial();
		const char *answer;

		say(fd, cases[i].request);
		answer = hear(fd, false);
		if (status_of(answer) != cases[i].status || strstr(answer, cases[i].has) == NULL)
			fail_msg("%s\nwas answered by\n%s", cases[i].request, answer);
		close(fd);
	}
}

static void
one_connection_serves_many_requests(void **state)
{
	int fd = dial();

	(void)state;
	for (int i = 0; i < 3; i++) {
		say(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
		assert_int_equal(status_of(hear(fd, false)), 200);
	}
	/* Pipelined: a body, a HEAD, a 404, all in one packet. */
	say(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nokHEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n"
	        "GET /nope HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_non_null(strstr(hear(fd, false), "\r\n\r\nok"));
	assert_non_null(strstr(hear(fd, true), "Content-Length: 11"));
	assert_int_equal(status_of(hear(fd, false)), 404);
	assert_non_null(strstr(hear(fd, false), "{\"hello\":1}"));
	close(fd);
}

static void
long_headers_are_refused(void **state)
{
	static const size_t lengths[] = {5000, 60000};
	char *pad;

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		int fd = dial();

		pad = calloc(1, lengths[i] + 1);
		memset(pad, 'a', lengths[i]);
		say(fd, "GET /hello HTTP/1.1\r\nHost: x\r\nX-Pad: ");
		say(fd, pad);
		say(fd, "\r\n\r\n");
		assert_int_equal(status_of(hear(fd, false)), 431);
		close(fd);
		free(pad);
	}
}

static void
late_headers_and_idle_connections_are_closed(void **state)
{
	int silent = dial(), half = dial(), used = dial();

	(void)state;
	say(half, "GET /hello HTTP/1.1\r\nHo");
	say(used, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_int_equal(status_of(hear(used, false)), 200);
	assert_true(is_closed(silent));
	assert_true(is_closed(half));
	assert_true(is_closed(used));
	close(silent);
	close(half);
	close(used);
}

/* Each byte is traffic, and still the headers have to be there in time. */
static void
headers_that_drip_are_cut(void **state)
{
	struct timeval pause = {.tv_usec = 50000};
	int64_t begin_mono_ms = clock_mono_ms();
	int fd = dial();
	char c;

	(void)state;
	say(fd, "GET /hello HTTP/1.1\r\nHost: x\r\nX-Pad: ");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &pause, sizeof(pause));
	while (recv(fd, &c, 1, 0) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		assert_true(clock_mono_ms() - begin_mono_ms < 5000);
		send(fd, "a", 1, MSG_NOSIGNAL);
	}
	assert_true(clock_mono_ms() - begin_mono_ms >= 400);
	close(fd);
}

static void
slow_bodies_are_cut(void **state)
{
	static const char *const paths[] = {"/count", "/echo"};
	static const char *const methods[] = {"PUT", "POST"};

	(void)state;
	for (int i = 0; i < 2; i++) {
		char head[128];
		int fd = dial();

		snprintf(head, sizeof(head), "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\nabc", methods[i], paths[i]);
		say(fd, head);
		assert_int_equal(status_of(hear(fd, false)), 408);
		assert_true(is_closed(fd));
		close(fd);
	}
	expect_told("UG");
	expect_nothing_told();
}

/* --- long polls --- */

static void
answer_parked(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < t.n_parked; i++)
		http_reply_json(t.parked[i], 200, "{\"hello\":2}");
	t.n_parked = 0;
}

static void
measure_cpu(void *arg)
{
	struct rusage u;

	(void)arg;
	getrusage(RUSAGE_THREAD, &u);
	t.cpu_us = (size_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + (size_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
	tell('M');
}

/* A second on, more than twice the idle time-out. */
static void
measure_later(void *arg)
{
	static struct loop_timer timer;

	(void)arg;
	loop_timer_set(t.l, &timer, clock_mono_ms() + 1000, measure_cpu, NULL);
}

/* Processor time of the loop's thread during a second. */
static size_t
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

static void
parked_requests_cost_nothing_and_are_all_answered(void **state)
{
	int *fds = calloc(POLLS, sizeof(*fds));

	(void)state;
	for (int i = 0; i < POLLS; i++) {
		fds[i] = dial();
		/* What is pipelined behind a parked request must not keep the server awake. */
		say(fds[i], i % 2 ? "GET /park HTTP/1.1\r\nHost: x\r\n\r\n"
		                  : "GET /park HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
		expect_told("P");
	}
	assert_in_range(cpu_of_a_second_us(), 0, 20000);
	expect_nothing_told();

	loop_post(t.l, answer_parked, NULL);
	for (int i = 0; i < POLLS; i++) {
		assert_non_null(strstr(hear(fds[i], false), "{\"hello\":2}"));
		if (i % 2 == 0)
			assert_non_null(strstr(hear(fds[i], false), "{\"hello\":1}"));
		close(fds[i]);
	}
	expect_nothing_told();
	free(fds);
}

static void
a_client_that_goes_while_parked_is_told_once(void **state)
{
	struct linger hard = {.l_onoff = 1};

	(void)state;
	for (int i = 0; i < 3; i++) {
		int fd = dial();

		say(fd, "GET /park HTTP/1.1\r\nHost: x\r\n\r\n");
		expect_told("P");
		if (i == 1)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		if (i == 2)
			shutdown(fd, SHUT_WR);
		else
			close(fd);
		expect_told("G");
		if (i == 2) {
			assert_true(is_closed(fd));
			close(fd);
		}
	}
	t.n_parked = 0;
	expect_nothing_told();
}

static void
requests_open_at_the_end_are_told(void **state)
{
	int fd, reading;

	start(state);
	fd = dial();
	reading = dial();
	say(fd, "GET /park HTTP/1.1\r\nHost: x\r\n\r\n");
	expect_told("P");
	say(reading, "PUT /count HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc");
	expect_told("U");
	loop_post(t.l, stop_loop, t.l);
	pthread_join(t.thread, NULL);
	expect_told("GG");
	expect_nothing_told();
	assert_true(is_closed(fd));
	close(fd);
	close(reading);
	loop_free(t.l);
	close(t.tell[0]);
	close(t.tell[1]);
}

static void
quiesce(void *arg)
{
	http_server_quiesce(arg);
	http_server_quiesce(arg);
	tell('Q');
}

static void
a_quiesced_server_finishes_what_is_open(void **state)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd, late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	start(state);
	fd = dial();
	say(fd, "GET /park HTTP/1.1\r\nHost: x\r\n\r\n");
	expect_told("P");
	loop_post(t.l, quiesce, t.s);
	expect_told("Q");
	at.sin_port = htons((uint16_t)t.port);
	assert_int_equal(connect(late, (struct sockaddr *)&at, sizeof(at)), -1);
	loop_post(t.l, answer_parked, NULL);
	assert_int_equal(status_of(hear(fd, false)), 200);
	close(fd);
	close(late);
	end(state);
}

/* --- uploads --- */

/* Sends n bytes, or fewer if the server stops taking them for a moment; returns how many. */
static size_t
pour(int fd, size_t n, bool until_stuck)
{
	static char block[64 * 1024];
	struct timeval moment = {.tv_usec = 300000};
	size_t sent = 0;

	if (until_stuck)
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &moment, sizeof(moment));
	while (sent < n) {
		ssize_t got = send(fd, block, n - sent < sizeof(block) ? n - sent : sizeof(block), MSG_NOSIGNAL);

		if (got < 0)
			break;
		sent += (size_t)got;
	}
	return sent;
}

static void
uploads_are_streamed(void **state)
{
	const size_t size = 200 * 1024 * 1024;
	int fd = dial();
	char head[128];

	(void)state;
	snprintf(head, sizeof(head), "PUT /count HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", size);
	say(fd, head);
	assert_int_equal(pour(fd, size, false), size);
	assert_non_null(strstr(hear(fd, false), "\r\n\r\n209715200"));
	/* and the connection lives on */
	say(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_int_equal(status_of(hear(fd, false)), 200);
	expect_told("U");
	close(fd);
}

static void
allow_more(void *arg)
{
	t.allowance = (size_t)(uintptr_t)arg;
	http_body_resume(t.stream);
}

static void
a_slow_consumer_pushes_back(void **state)
{
	const size_t size = 64 * 1024 * 1024;
	int fd = dial();
	char head[128];
	size_t sent;

	(void)state;
	t.allowance = 100000;
	snprintf(head, sizeof(head), "PUT /slow HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", size);
	say(fd, head);
	sent = pour(fd, size, true);
	assert_in_range(sent, 100000, size - 1);
	expect_told("S");
	assert_int_equal(t.taken, 100000);
	loop_post(t.l, allow_more, (void *)(uintptr_t)300000);
	expect_told("S");
	assert_int_equal(t.taken, 400000);
	/* All of it now; waiting so long for us was not the client's slowness. */
	loop_post(t.l, allow_more, (void *)(uintptr_t)size);
	assert_int_equal(pour(fd, size - sent, false), size - sent);
	assert_non_null(strstr(hear(fd, false), "\r\n\r\n67108864"));
	expect_nothing_told();
	close(fd);
}

static void
an_upload_cut_off_is_gone_not_ended(void **state)
{
	int fd;

	(void)state;
	fd = dial();
	say(fd, "PUT /count HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
	expect_told("U");
	shutdown(fd, SHUT_WR);
	expect_told("G");
	close(fd);
	fd = dial();
	say(fd, "PUT /count HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc");
	expect_told("U");
	close(fd);
	expect_told("G");
	/* While we push back: nobody reads the socket then, and still it is noticed. */
	t.allowance = 1;
	fd = dial();
	say(fd, "PUT /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
	expect_told("S");
	close(fd);
	expect_told("G");
	expect_nothing_told();
}

static void
an_early_answer_reaches_a_client_that_is_sending(void **state)
{
	static const char *const paths[] = {"/refuse", "/nowhere"};
	static const int statuses[] = {507, 404};

	(void)state;
	for (int i = 0; i < 2; i++) {
		int fd = dial();
		char head[128];
		const char *answer;

		snprintf(head, sizeof(head), "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 8388608\r\n\r\n", paths[i]);
		say(fd, head);
		assert_int_equal(pour(fd, 8388608, false), 8388608);
		answer = hear(fd, false);
		assert_int_equal(status_of(answer), statuses[i]);
		assert_non_null(strstr(answer, "Connection: close"));
		assert_true(is_closed(fd));
		close(fd);
	}
	expect_nothing_told();
}

static void
read_later(void *arg)
{
	(void)arg;
	http_read_body(t.stream, count_body, NULL);
}

static void
refuse_later(void *arg)
{
	(void)arg;
	http_reply_json(t.stream, 507, "{}");
}

/* The handler looks elsewhere first, and reads or answers then; the client may wait for our "100 Continue". */
static void
a_body_can_be_read_or_refused_later(void **state)
{
	int fd = dial();

	(void)state;
	say(fd, "PUT /later HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
	expect_told("L");
	loop_post(t.l, read_later, NULL);
	assert_int_equal(status_of(hear(fd, true)), 100);
	say(fd, "abc");
	close(fd);
	fd = dial();
	say(fd, "PUT /later HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
	expect_told("L");
	loop_post(t.l, read_later, NULL);
	assert_non_null(strstr(hear(fd, false), "\r\n\r\n3"));
	say(fd, "PUT /later HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
	expect_told("L");
	loop_post(t.l, refuse_later, NULL);
	assert_int_equal(status_of(hear(fd, false)), 507);
	assert_true(is_closed(fd));
	close(fd);
}

/* --- streamed answers --- */

static void
write_event(void *arg)
{
	assert_int_equal(http_stream_write(t.stream, arg, strlen(arg)), 0);
}

static void
end_stream(void *arg)
{
	(void)arg;
	http_stream_end(t.stream);
}

static void
expect_text(int fd, const char *text)
{
	char got[256] = {0};
	size_t len = strlen(text), have = 0;

	while (have < len) {
		ssize_t n = recv(fd, got + have, len - have, 0);

		assert_true(n > 0);
		have += (size_t)n;
	}
	assert_string_equal(got, text);
}

static void
events_arrive_when_they_are_written(void **state)
{
	int fd = dial();

	(void)state;
	say(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	expect_told("B");
	assert_non_null(strstr(hear(fd, true), "Content-Type: text/event-stream"));
	loop_post(t.l, write_event, "data: 1\n\n");
	expect_text(fd, "9\r\ndata: 1\n\n\r\n");
	assert_in_range(cpu_of_a_second_us(), 0, 20000);
	loop_post(t.l, write_event, "data: 22\n\n");
	expect_text(fd, "A\r\ndata: 22\n\n\r\n");
	loop_post(t.l, end_stream, NULL);
	expect_text(fd, "0\r\n\r\n");
	say(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_int_equal(status_of(hear(fd, false)), 200);
	close(fd);
	expect_nothing_told();
}

static void
a_reader_that_goes_is_noticed_between_events(void **state)
{
	int fd = dial();

	(void)state;
	say(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	expect_told("B");
	hear(fd, true);
	close(fd);
	expect_told("G");
	expect_nothing_told();
}

static size_t filled_bytes;

/* Writes until it is refused. */
static void
fill(void *arg)
{
	static char block[16 * 1024];
	int rc;

	(void)arg;
	while ((rc = http_stream_write(t.stream, block, sizeof(block))) == 0)
		filled_bytes += sizeof(block);
	assert_int_equal(rc, ERR_RETRY);
	tell('F');
}

static void
a_slow_reader_fills_the_queue_and_no_more(void **state)
{
	char sink[16 * 1024];
	size_t got = 0;
	ssize_t n;
	int fd = dial();

	(void)state;
	filled_bytes = 0;
	say(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	expect_told("B");
	hear(fd, true);
	loop_post(t.l, fill, NULL);
	expect_told("F");
	assert_int_equal(filled_bytes, 256 * 1024); /* the bound, as nothing was sent meanwhile */
	expect_told("R");
	loop_post(t.l, end_stream, NULL);
	while ((n = recv(fd, sink, sizeof(sink), 0)) > 0) {
		got += (size_t)n;
		if (n >= 5 && memcmp(sink + n - 5, "0\r\n\r\n", 5) == 0)
			break;
	}
	assert_in_range(got, filled_bytes, filled_bytes + 1024);
	expect_nothing_told();
	close(fd);
}

/* --- limits of connections, addresses --- */

static void
bad_addresses_are_refused(void **state)
{
	static const char *const bad[] = {"", "127.0.0.1", "localhost:80", "127.0.0.1:http", "[::1:80", "::1]:80", "256.0.0.1:0"};
	struct http_server_config c = {
	    .max_connections = 2,
	    .idle_timeout_ms = 1000,
	    .header_max_bytes = 1000,
	    .write_queue_max_bytes = 1000,
	};
	struct loop *l = loop_new(NULL);
	struct http_server *a, *b;
	struct err e;
	char address[80];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		c.listen = bad[i];
		assert_null(http_server_new(l, &c, &e));
		assert_int_equal(e.code, ERR_INVALID);
	}
	c.listen = "127.0.0.1:0";
	a = http_server_new(l, &c, &e);
	assert_non_null(a);
	snprintf(address, sizeof(address), "%s", http_server_address(a));
	c.listen = address;
	b = http_server_new(l, &c, &e);
	assert_null(b);
	assert_int_equal(e.code, ERR_IO);
	http_server_free(a);
	http_server_free(NULL);
	loop_free(l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(answers_what_was_asked, start, end),
	    cmocka_unit_test_setup_teardown(one_connection_serves_many_requests, start, end),
	    cmocka_unit_test_setup_teardown(long_headers_are_refused, start, end),
	    cmocka_unit_test_setup_teardown(late_headers_and_idle_connections_are_closed, start, end),
	    cmocka_unit_test_setup_teardown(headers_that_drip_are_cut, start, end),
	    cmocka_unit_test_setup_teardown(slow_bodies_are_cut, start, end),
	    cmocka_unit_test_setup_teardown(parked_requests_cost_nothing_and_are_all_answered, start, end),
	    cmocka_unit_test_setup_teardown(a_client_that_goes_while_parked_is_told_once, start, end),
	    cmocka_unit_test(requests_open_at_the_end_are_told),
	    cmocka_unit_test(a_quiesced_server_finishes_what_is_open),
	    cmocka_unit_test_setup_teardown(uploads_are_streamed, start, end),
	    cmocka_unit_test_setup_teardown(a_slow_consumer_pushes_back, start, end),
	    cmocka_unit_test_setup_teardown(an_upload_cut_off_is_gone_not_ended, start, end),
	    cmocka_unit_test_setup_teardown(an_early_answer_reaches_a_client_that_is_sending, start, end),
	    cmocka_unit_test_setup_teardown(a_body_can_be_read_or_refused_later, start, end),
	    cmocka_unit_test_setup_teardown(events_arrive_when_they_are_written, start, end),
	    cmocka_unit_test_setup_teardown(a_reader_that_goes_is_noticed_between_events, start, end),
	    cmocka_unit_test_setup_teardown(a_slow_reader_fills_the_queue_and_no_more, start, end),
	    cmocka_unit_test(bad_addresses_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
