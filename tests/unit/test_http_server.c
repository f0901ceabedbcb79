/* Requests, connections, and what waits. */
#include "http_rig.h"

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
	    cmocka_unit_test(bad_addresses_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
