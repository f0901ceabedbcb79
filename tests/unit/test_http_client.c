/* The server is a script: for each connection that it accepts it takes the next step, reads a request and sends what the
 * step says, byte for byte. So it can misbehave in every way, and count what the client did. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/clock.h"
#include "net/http_client.h"

#define OK_HELLO "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
#define STEPS_MAX 8
#define SILENCE_MS 300

struct step {
	const char *answer; /* NULL: close without a word */
	bool same;          /* the next step is on this connection too */
	bool hang;          /* afterwards wait until the client goes */
	bool stop;          /* set the client's stop flag once it has been silent for SILENCE_MS */
};

static struct {
	int listener, port;
	const struct step *steps;
	size_t n;
	pthread_t thread;
	char seen[STEPS_MAX][4096]; /* requests as they came */
	atomic_size_t n_connections;
	atomic_bool stop;
	char url[64];
} t;

/* Reads a head, and as much body as Content-Length says or until the last chunk. */
static void
read_request(int fd, char *to, size_t room)
{
	size_t len = 0;

	for (;;) {
		const char *body, *length;
		ssize_t n;

		to[len] = '\0';
		body = strstr(to, "\r\n\r\n");
		length = strstr(to, "Content-Length: ");
		if (body != NULL) {
			size_t want = length == NULL ? 0 : (size_t)strtol(length + 16, NULL, 10);

			if (strstr(to, "chunked") != NULL ? strstr(body, "\r\n0\r\n\r\n") != NULL : strlen(body + 4) >= want)
				return;
		}
		if (len + 1 == room || (n = recv(fd, to + len, room - 1 - len, 0)) <= 0)
			return;
		len += (size_t)n;
	}
}

static void *
play(void *arg)
{
	const struct timeval silence = {.tv_usec = SILENCE_MS * 1000};

	(void)arg;
	for (size_t i = 0; i < t.n;) {
		int fd = accept(t.listener, NULL, NULL);
		bool more = true;

		if (fd < 0)
			return NULL;
		t.n_connections++;
		for (; more && i < t.n; i++) {
			const struct step *s = &t.steps[i];
			char c;

			more = s->same;
			read_request(fd, t.seen[i], sizeof(t.seen[i]));
			if (s->answer != NULL)
				send(fd, s->answer, strlen(s->answer), MSG_NOSIGNAL);
			if (s->stop) {
				setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence));
				assert_int_equal(recv(fd, &c, 1, 0), -1);
				setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){0}, sizeof(silence));
				t.stop = true;
			}
			while (s->hang && recv(fd, &c, 1, 0) > 0)
				;
		}
		close(fd);
	}
	return NULL;
}

static void
begin(const struct step *steps, size_t n)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);

	memset(&t, 0, sizeof(t));
	t.steps = steps;
	t.n = n;
	t.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(t.listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(t.listener, 16), 0);
	assert_int_equal(getsockname(t.listener, (struct sockaddr *)&at, &len), 0);
	snprintf(t.url, sizeof(t.url), "http://127.0.0.1:%d/p?secret=1", ntohs(at.sin_port));
	assert_int_equal(pthread_create(&t.thread, NULL, play, NULL), 0);
}

static void
finish(void)
{
	shutdown(t.listener, SHUT_RDWR);
	pthread_join(t.thread, NULL);
	close(t.listener);
}

static struct http_call
call_for(const char *method, struct buf *out)
{
	return (struct http_call){.method = method, .url = t.url, .out = out};
}

/* --- answers and how they are classed --- */

static void
every_end_has_its_code(void **state)
{
	static const struct {
		struct step step;
		int rc, status;
		const char *out;
	} cases[] = {
	    {{.answer = OK_HELLO}, 0, 200, "hello"},
	    {{.answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"}, 0, 200, "ab"},
	    {{.answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"}, 0, 404, "no"},
	    {{.answer = "HTTP/1.1 301 Moved\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n"}, 0, 301, ""},
	    {{.answer = NULL}, ERR_IO, 0, ""},
	    {{.answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"}, ERR_IO, 0, "hello"},
	    {{.answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"}, ERR_IO, 0, "ab"},
	    {{.answer = "what is this?\r\n\r\n"}, ERR_PROTO, 0, ""},
	    {{.answer = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world"}, ERR_TOOBIG, 0, ""},
	    {{.answer = "HTTP/1.1 200 OK\r\n", .hang = true}, ERR_TIMEOUT, 0, ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct http_client *c = http_client_new(NULL);
		struct buf out = buf_make(10);
		struct http_call call;
		struct err e = {0};
		int rc;

		begin(&cases[i].step, 1);
		call = call_for("GET", &out);
		call.timeout_ms = cases[i].rc == ERR_TIMEOUT ? 300 : 0;
		rc = http_perform(c, &call, &e);
		if (rc != cases[i].rc)
			fail_msg("case %zu: %d, not %d: %s", i, rc, cases[i].rc, e.msg);
		assert_int_equal(call.status, cases[i].status);
		assert_string_equal(buf_str(&out), cases[i].out);
		assert_null(strstr(e.msg, "secret"));
		assert_int_equal(t.n_connections, 1);
		http_client_free(c);
		buf_release(&out);
		finish();
	}
}

static void
what_was_never_sent_can_be_retried(void **state)
{
	static const struct {
		const char *url;
		int rc;
	} cases[] = {
	    {"http://127.0.0.1:1/", ERR_RETRY},
	    {"http://name.invalid/", ERR_RETRY},
	    {"ftp://127.0.0.1/", ERR_INVALID},
	    {"file:///etc/hostname", ERR_INVALID},
	    {"http://", ERR_INVALID},
	    {"", ERR_INVALID},
	};
	struct http_client *c = http_client_new(NULL);

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct http_call call = {.method = "POST", .url = cases[i].url, .body = "x", .body_len = 1};
		struct err e;

		if (http_perform(c, &call, &e) != cases[i].rc)
			fail_msg("%s: %d %s", cases[i].url, e.code, e.msg);
		assert_int_equal(call.status, 0);
		assert_int_equal(call.sent_bytes, 0);
	}
	http_client_free(c);
	http_client_free(NULL);
}

static void
a_server_without_trust_is_denied(void **state)
{
	static const struct step steps[] = {{.answer = OK_HELLO}};
	struct http_tls tls = {.ca_cert = "/nonexistent/ca.pem"};
	struct http_client *c = http_client_new(&tls);
	struct http_call call = {.method = "GET"};
	char url[80];

	(void)state;
	begin(steps, 1);
	snprintf(url, sizeof(url), "https%s", t.url + 4);
	call.url = url;
	assert_int_equal(http_perform(c, &call, NULL), ERR_DENIED);
	http_client_free(c);
	finish();
}

/* --- requests as they are sent --- */

static long
three_pieces(void *arg, void *out, size_t len)
{
	int *n = arg;

	assert_true(len >= 2);
	if (++*n > 3)
		return 0;
	memcpy(out, "ab", 2);
	return 2;
}

static long
broken_source(void *arg, void *out, size_t len)
{
	(void)arg, (void)out, (void)len;
	return -1;
}

static void
bodies_are_sent_whole(void **state)
{
	static const struct step steps[] = {
	    {.answer = OK_HELLO, .same = true}, {.answer = OK_HELLO, .same = true}, {.answer = OK_HELLO, .same = true},
	    {.answer = OK_HELLO, .same = true}, {.answer = OK_HELLO, .same = true},
	    {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
	};
	static const char *const headers[] = {"X-Token: t", "Content-Type: a/b", "X-Empty: ", NULL};
	struct http_client *c = http_client_new(NULL);
	struct http_call call;
	int pieces;

	(void)state;
	begin(steps, 6);
	call = call_for("POST", NULL);
	call.body = "body";
	call.body_len = 4;
	call.headers = headers;
	assert_int_equal(http_perform(c, &call, NULL), 0);
	assert_int_equal(call.sent_bytes, 4);
	assert_non_null(strstr(t.seen[0], "POST /p?secret=1 HTTP/1.1\r\n"));
	assert_non_null(strstr(t.seen[0], "X-Token: t\r\n"));
	assert_non_null(strstr(t.seen[0], "X-Empty:\r\n"));
	assert_non_null(strstr(t.seen[0], "Content-Length: 4\r\n"));
	assert_non_null(strstr(t.seen[0], "\r\n\r\nbody"));
	assert_null(strstr(t.seen[0], "Expect"));

	call = call_for("PUT", NULL);
	call.read_fn = three_pieces;
	call.arg = &pieces;
	call.body_size = 6;
	pieces = 0;
	assert_int_equal(http_perform(c, &call, NULL), 0);
	assert_non_null(strstr(t.seen[1], "\r\n\r\nababab"));
	call.body_size = -1;
	pieces = 0;
	assert_int_equal(http_perform(c, &call, NULL), 0);
	assert_non_null(strstr(t.seen[2], "Transfer-Encoding: chunked\r\n"));

	call = call_for("POST", NULL);
	assert_int_equal(http_perform(c, &call, NULL), 0);
	assert_non_null(strstr(t.seen[3], "Content-Length: 0\r\n"));
	call = call_for("DELETE", NULL);
	assert_int_equal(http_perform(c, &call, NULL), 0);
	assert_null(strstr(t.seen[4], "Content-Length"));
	call = call_for("HEAD", NULL);
	assert_int_equal(http_perform(c, &call, NULL), 0);
	assert_int_equal(t.n_connections, 1);
	http_client_free(c);
	finish();
}

static void
a_source_that_gives_up_breaks_the_call(void **state)
{
	static const struct step steps[] = {{.answer = NULL}};
	struct http_client *c = http_client_new(NULL);
	struct http_call call;

	(void)state;
	begin(steps, 1);
	call = call_for("PUT", NULL);
	call.read_fn = broken_source;
	call.body_size = 6;
	assert_int_equal(http_perform(c, &call, NULL), ERR_CANCELED);
	http_client_free(c);
	finish();
}

/* --- taking the answer --- */

static int
take_or_refuse(void *arg, const void *data, size_t len)
{
	struct buf *b = arg;

	return buf_add(b, data, len) == 0 ? 0 : ERR_DENIED;
}

static void
answers_go_where_they_should(void **state)
{
	static const struct step steps[] = {
	    {.answer = OK_HELLO}, {.answer = "HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\nwords"}, {.answer = OK_HELLO},
	};
	struct http_client *c = http_client_new(NULL);
	struct buf out = buf_make(100), taken = buf_make(100);
	struct http_call call;

	(void)state;
	begin(steps, 3);
	call = call_for("GET", &out);
	call.write_fn = take_or_refuse;
	call.arg = &taken;
	assert_int_equal(http_perform(c, &call, NULL), 0);
	assert_string_equal(buf_str(&taken), "hello");
	assert_string_equal(buf_str(&out), "");
	assert_int_equal(http_perform(c, &call, NULL), 0);
	assert_int_equal(call.status, 500);
	assert_string_equal(buf_str(&taken), "hello");
	assert_string_equal(buf_str(&out), "words");
	taken.max = 5;
	assert_int_equal(http_perform(c, &call, NULL), ERR_DENIED);
	http_client_free(c);
	buf_release(&out);
	buf_release(&taken);
	finish();
}

static void
wanted_headers_are_found(void **state)
{
	static const struct step steps[] = {{.answer = "HTTP/1.1 100 Continue\r\nX-A: early\r\nX-C: early\r\n\r\n"
	                                               "HTTP/1.1 200 OK\r\nx-a:  one two \r\nX-B:\r\nContent-Length: 0\r\n\r\n"}};
	struct http_client *c = http_client_new(NULL);
	struct http_call call;

	(void)state;
	begin(steps, 1);
	call = call_for("GET", NULL);
	call.n_want = 3;
	snprintf(call.want[0].name, sizeof(call.want[0].name), "X-A");
	snprintf(call.want[1].name, sizeof(call.want[1].name), "X-B");
	snprintf(call.want[2].name, sizeof(call.want[2].name), "X-C");
	snprintf(call.want[1].value, sizeof(call.want[1].value), "old");
	assert_int_equal(http_perform(c, &call, NULL), 0);
	assert_string_equal(call.want[0].value, "one two");
	assert_string_equal(call.want[1].value, "");
	assert_string_equal(call.want[2].value, "");
	http_client_free(c);
	finish();
}

/* --- the kept connection --- */

/* The first answer leaves the connection open; the second request meets a server that takes it and hangs up without a
 * word, as one does that was about to close. Only what can be repeated is sent again. */
static void
only_what_may_be_repeated_is_sent_again(void **state)
{
	static const struct {
		const char *method, *body;
		bool streamed;
		int rc;
		size_t seen;
	} cases[] = {
	    {"GET", NULL, false, 0, 3},
	    {"PUT", "x", false, 0, 3},
	    {"DELETE", NULL, false, 0, 3},
	    {"POST", "x", false, ERR_IO, 2},
	    {"POST", NULL, false, ERR_IO, 2},
	    {"PUT", NULL, true, ERR_IO, 2},
	};
	static const struct step steps[] = {{.answer = OK_HELLO, .same = true}, {.answer = NULL}, {.answer = OK_HELLO}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct http_client *c = http_client_new(NULL);
		struct http_call call;
		struct err e = {0};
		size_t seen = 0;
		int pieces = 0, rc;

		begin(steps, 3);
		call = call_for("GET", NULL);
		assert_int_equal(http_perform(c, &call, &e), 0);
		call = call_for(cases[i].method, NULL);
		call.body = cases[i].body;
		call.body_len = cases[i].body != NULL;
		if (cases[i].streamed) {
			call.read_fn = three_pieces;
			call.arg = &pieces;
			call.body_size = 6;
		}
		rc = http_perform(c, &call, &e);
		http_client_free(c);
		finish();
		for (int n = 0; n < 3; n++)
			seen += t.seen[n][0] != '\0';
		if (rc != cases[i].rc || seen != cases[i].seen)
			fail_msg("case %zu: %d after %zu requests: %s", i, rc, seen, e.msg);
	}
}

static void
a_connection_closed_meanwhile_is_replaced(void **state)
{
	static const struct step steps[] = {{.answer = OK_HELLO}, {.answer = OK_HELLO}};
	struct http_client *c = http_client_new(NULL);
	struct http_call call;

	(void)state;
	begin(steps, 2);
	for (int i = 0; i < 2; i++) {
		call = call_for("POST", NULL);
		assert_int_equal(http_perform(c, &call, NULL), 0);
	}
	assert_int_equal(t.n_connections, 2);
	http_client_free(c);
	finish();
}

/* --- time --- */

static void
a_stop_is_noticed_while_nothing_happens(void **state)
{
	static const struct step steps[] = {{.answer = "HTTP/1.1 200 OK\r\n", .hang = true, .stop = true}};
	int64_t begin_mono_ms, took_ms = INT64_MAX;

	(void)state;
	/* Noticed within 200 ms; a busy machine adds to that, but not each time. */
	for (int tries = 0; tries < 5 && took_ms > SILENCE_MS + 500; tries++) {
		struct http_client *c = http_client_new(NULL);
		struct http_call call;

		begin_mono_ms = clock_mono_ms();
		begin(steps, 1);
		call = call_for("GET", NULL);
		call.stop = &t.stop;
		assert_int_equal(http_perform(c, &call, NULL), ERR_CANCELED);
		took_ms = clock_mono_ms() - begin_mono_ms;
		/* and before it begins */
		assert_int_equal(http_perform(c, &call, NULL), ERR_CANCELED);
		http_client_free(c);
		finish();
	}
	assert_in_range(took_ms, SILENCE_MS, SILENCE_MS + 500);
}

static void
a_stall_ends_the_call(void **state)
{
	static const struct step steps[] = {{.answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel", .hang = true}};
	struct http_client *c = http_client_new(NULL);
	struct http_call call;
	int64_t begin_mono_ms = clock_mono_ms();

	(void)state;
	begin(steps, 1);
	call = call_for("GET", NULL);
	call.stall_ms = 250;
	assert_int_equal(http_perform(c, &call, NULL), ERR_TIMEOUT);
	assert_in_range(clock_mono_ms() - begin_mono_ms, 250, 10000); /* the other side would hang for ever */
	http_client_free(c);
	finish();
}

/* --- other ways to a server --- */

static void
a_unix_socket_is_reached(void **state)
{
	static const struct step steps[] = {{.answer = OK_HELLO}};
	char dir[] = "/tmp/drover-test-XXXXXX";
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	struct http_client *c = http_client_new(NULL);
	struct buf out = buf_make(100);
	struct http_call call;

	(void)state;
	assert_non_null(mkdtemp(dir));
	begin(steps, 1);
	finish();
	snprintf(at.sun_path, sizeof(at.sun_path), "%s/s", dir);
	t.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(t.listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(t.listener, 1), 0);
	assert_int_equal(pthread_create(&t.thread, NULL, play, NULL), 0);
	call = call_for("GET", &out);
	call.url = "http://agent/v1/x";
	call.unix_socket = at.sun_path;
	assert_int_equal(http_perform(c, &call, NULL), 0);
	assert_string_equal(buf_str(&out), "hello");
	assert_non_null(strstr(t.seen[0], "GET /v1/x HTTP/1.1\r\nHost: agent\r\n"));
	http_client_free(c);
	buf_release(&out);
	finish();
	unlink(at.sun_path);
	rmdir(dir);
}

static void
proxies_of_the_environment_are_not_used(void **state)
{
	static const struct step steps[] = {{.answer = OK_HELLO}};
	struct http_client *c = http_client_new(NULL);
	struct http_call call;

	(void)state;
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	begin(steps, 1);
	call = call_for("GET", NULL);
	assert_int_equal(http_perform(c, &call, NULL), 0);
	unsetenv("http_proxy");
	http_client_free(c);
	finish();
}

/* --- words and codes --- */

static void
statuses_become_errors(void **state)
{
	static const struct {
		int status;
		const char *body;
		int code;
		const char *msg, *hint;
	} cases[] = {
	    {200, "x", 0, "", ""},
	    {304, "", 0, "", ""},
	    {400, "{\"error\":{\"code\":\"invalid\",\"message\":\"no\",\"hint\":\"do\"}}", ERR_INVALID, "no", "do"},
	    {422, "{\"error\":{\"message\":\"no\"}}", ERR_INVALID, "no", ""},
	    {401, "Permission denied\n", ERR_DENIED, "HTTP 401: Permission denied", ""},
	    {403, "", ERR_DENIED, "HTTP 403", ""},
	    {404, "{\"error\":\"x\"}", ERR_NOTFOUND, "HTTP 404: {\"error\":\"x\"}", ""},
	    {409, "{", ERR_CONFLICT, "HTTP 409: {", ""},
	    {412, "", ERR_CONFLICT, "HTTP 412", ""},
	    {413, "", ERR_TOOBIG, "HTTP 413", ""},
	    {408, "", ERR_RETRY, "HTTP 408", ""},
	    {429, "", ERR_RETRY, "HTTP 429", ""},
	    {500, " a\nb ", ERR_RETRY, "HTTP 500: a b", ""},
	    {599, "", ERR_RETRY, "HTTP 599", ""},
	    {418, "", ERR_PROTO, "HTTP 418", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf out = buf_make(1000);
		struct http_call call = {.status = cases[i].status, .out = &out};
		struct err e = {0};

		buf_adds(&out, cases[i].body);
		assert_int_equal(http_status_err(&call, &e), cases[i].code);
		assert_string_equal(e.msg, cases[i].msg);
		assert_string_equal(e.hint, cases[i].hint);
		buf_release(&out);
	}
}

static void
text_is_percent_encoded(void **state)
{
	struct buf b = buf_make(100), small = buf_make(4);

	(void)state;
	assert_int_equal(http_encode(&b, "aZ0-._~ /?%\xc3\xa9", false), 0);
	assert_string_equal(buf_str(&b), "aZ0-._~%20%2F%3F%25%C3%A9");
	buf_clear(&b);
	assert_int_equal(http_encode(&b, "a/b c", true), 0);
	assert_string_equal(buf_str(&b), "a/b%20c");
	assert_int_equal(http_encode(&small, "abc%", false), ERR_TOOBIG);
	buf_release(&b);
	buf_release(&small);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_end_has_its_code),
	    cmocka_unit_test(what_was_never_sent_can_be_retried),
	    cmocka_unit_test(a_server_without_trust_is_denied),
	    cmocka_unit_test(bodies_are_sent_whole),
	    cmocka_unit_test(a_source_that_gives_up_breaks_the_call),
	    cmocka_unit_test(answers_go_where_they_should),
	    cmocka_unit_test(wanted_headers_are_found),
	    cmocka_unit_test(only_what_may_be_repeated_is_sent_again),
	    cmocka_unit_test(a_connection_closed_meanwhile_is_replaced),
	    cmocka_unit_test(a_stop_is_noticed_while_nothing_happens),
	    cmocka_unit_test(a_stall_ends_the_call),
	    cmocka_unit_test(a_unix_socket_is_reached),
	    cmocka_unit_test(proxies_of_the_environment_are_not_used),
	    cmocka_unit_test(statuses_become_errors),
	    cmocka_unit_test(text_is_percent_encoded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
