/* Bodies that come in pieces, and answers that go out in pieces. */
#include "http_rig.h"

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

static void
fill_and_end(void *arg)
{
	fill(arg);
	http_stream_end(t.stream);
}

static void
nobody_is_told_of_room_after_the_end(void **state)
{
	char sink[16 * 1024];
	ssize_t n;
	int fd = dial();

	(void)state;
	say(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	expect_told("B");
	hear(fd, true);
	loop_post(t.l, fill_and_end, NULL);
	expect_told("F");
	while ((n = recv(fd, sink, sizeof(sink), 0)) > 0)
		if (n >= 5 && memcmp(sink + n - 5, "0\r\n\r\n", 5) == 0)
			break;
	assert_true(n > 0);
	expect_nothing_told(); /* whoever wrote may be gone by then */
	close(fd);
}

/* --- limits of connections, addresses --- */

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(uploads_are_streamed, start, end),
	    cmocka_unit_test_setup_teardown(a_slow_consumer_pushes_back, start, end),
	    cmocka_unit_test_setup_teardown(an_upload_cut_off_is_gone_not_ended, start, end),
	    cmocka_unit_test_setup_teardown(an_early_answer_reaches_a_client_that_is_sending, start, end),
	    cmocka_unit_test_setup_teardown(a_body_can_be_read_or_refused_later, start, end),
	    cmocka_unit_test_setup_teardown(events_arrive_when_they_are_written, start, end),
	    cmocka_unit_test_setup_teardown(a_reader_that_goes_is_noticed_between_events, start, end),
	    cmocka_unit_test_setup_teardown(a_slow_reader_fills_the_queue_and_no_more, start, end),
	    cmocka_unit_test_setup_teardown(nobody_is_told_of_room_after_the_end, start, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
