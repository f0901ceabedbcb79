/* How a job's outcome reaches the dispatcher, and what comes back with the answer: against a server that says what it is told to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cluster/discover.h"
#include "worker/job_parts.h"
#include "worker/link.h"

#define ANSWERS_MAX 4

struct server {
	int fd;
	pthread_t thread;
	const char *answers[ANSWERS_MAX]; /* one a connection; NULL: no more */
	char paths[ANSWERS_MAX][64];
	size_t asked;
};

struct rig {
	struct server server;
	struct discover *at;
	struct worker worker;
	struct job job;
	bool full; /* the job may ask for the next run */
};

/* One request to its end. */
static void
take_request(struct server *s, int fd)
{
	char text[65536];
	size_t got = 0, want = sizeof(text) - 1;
	ssize_t n;

	while (got < want && (n = read(fd, text + got, want - got)) > 0) {
		char *end;

		got += (size_t)n;
		text[got] = '\0';
		if ((end = strstr(text, "\r\n\r\n")) != NULL)
			want = (size_t)(end + 4 - text) + strtoul(strstr(text, "Content-Length: ") + 16, NULL, 10);
	}
	assert_int_equal(sscanf(text, "POST %63s", s->paths[s->asked]), 1);
}

static void *
serve(void *arg)
{
	struct server *s = arg;

	while (s->asked < ANSWERS_MAX && s->answers[s->asked] != NULL) {
		int fd = accept(s->fd, NULL, NULL);

		if (fd < 0)
			break;
		take_request(s, fd);
		(void)dprintf(fd, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
		    strlen(s->answers[s->asked]), s->answers[s->asked]);
		s->asked++;
		close(fd);
	}
	return NULL;
}

static json_t *
wants(void *arg, const struct job *j)
{
	struct rig *r = arg;
	bool full = r->full;

	(void)j;
	r->full = false;
	return full ? json_pack("{s:i, s:[]}", "free", 1, "held") : NULL;
}

/* Reports while the server gives these answers in turn. Returns how many requests came. */
static size_t
report_to(struct rig *r, const char *const answers[ANSWERS_MAX])
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(a);
	char url[64];
	struct err e;

	*r = (struct rig){.full = true};
	r->server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(r->server.fd, (struct sockaddr *)&a, len) | listen(r->server.fd, 8), 0);
	assert_int_equal(getsockname(r->server.fd, (struct sockaddr *)&a, &len), 0);
	memcpy(r->server.answers, answers, sizeof(r->server.answers));
	snprintf(url, sizeof(url), "http://127.0.0.1:%d", ntohs(a.sin_port));
	assert_int_equal(discover_new(url, NULL, NULL, NULL, &r->at, &e), 0);
	snprintf(r->worker.id, sizeof(r->worker.id), "w1");
	r->worker.link = link_new(r->at, "", "");
	r->worker.give_up_mono_ms = INT64_MAX;
	r->job = (struct job){.worker = &r->worker, .outcome = RUN_COMPLETED, .wants = wants, .arg = r,
	    .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	pthread_mutex_init(&r->job.lock, NULL);
	snprintf(r->job.terms.run, sizeof(r->job.terms.run), "run");
	snprintf(r->job.terms.fence, sizeof(r->job.terms.fence), "1-1");
	assert_int_equal(pthread_create(&r->server.thread, NULL, serve, &r->server), 0);
	job_report(&r->job);
	(void)shutdown(r->server.fd, SHUT_RDWR);
	pthread_join(r->server.thread, NULL);
	close(r->server.fd);
	close(r->job.wake_fd);
	pthread_mutex_destroy(&r->job.lock);
	link_free(r->worker.link);
	discover_free(r->at);
	return r->server.asked;
}

static void
the_next_run_comes_with_the_answer(void **state)
{
	/* Also with one that takes the report for nobody's: the worker is as free as after any other. */
	static const char *const words[] = {"ok", "conflict", "invalid"};

	(void)state;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		char answer[200];
		struct rig r;

		snprintf(answer, sizeof(answer), "{\"reports\":[{\"run\":\"run\",\"result\":\"%s\",\"message\":\"m\"}],\"leases\":[{\"run\":\"next\"}]}",
		    words[i]);
		assert_int_equal(report_to(&r, (const char *const[ANSWERS_MAX]){answer}), 1);
		assert_string_equal(r.server.paths[0], "/v1/worker/exchange");
		assert_int_equal(json_array_size(r.job.leases), 1);
		json_decref(r.job.leases);
	}
}

static void
a_report_that_was_not_taken_is_sent_again(void **state)
{
	static const char *const answers[ANSWERS_MAX] = {
		"{\"reports\":[{\"run\":\"run\",\"result\":\"again\",\"message\":\"m\"}],\"leases\":[]}",
		"no JSON",
		"{}",
	};
	struct rig r;

	(void)state;
	assert_int_equal(report_to(&r, answers), 3);
	assert_string_equal(r.server.paths[1], "/v1/worker/report"); /* one wish for a run is enough */
	assert_null(r.job.leases);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_next_run_comes_with_the_answer), cmocka_unit_test(a_report_that_was_not_taken_is_sent_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
