/* load - puts load on an HTTP server and tells how long each answer took.
 *
 *   load [-c CONNECTIONS] [-n REQUESTS] [-s FIRST] [-H 'Name: value']... [-f FILE] ADDRESS METHOD PATH
 *
 * The body is standard input with each "@SEQ@" replaced by the request's number (FIRST, FIRST+1, ...), or with -f the file,
 * sent as it is. Every connection is kept and has one request under way; all are open before the clock starts.
 *
 * Prints one line of JSON: {"wall_ns", "errors", "first_error", "statuses": {"201": n}, "latency_ns": [...]}. Latencies are
 * those of answers 2xx, from the first byte sent to the last one received. Exit 0 also with errors: the caller judges.
 */
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exchange.h"

#define MARK "@SEQ@"

enum {
	CONNECTIONS_MAX = 256,
	REQUESTS_MAX = 1000000,
	HEADERS_MAX = 2048,
};

struct load {
	const char *address, *method, *path;
	char headers[HEADERS_MAX];
	char body[REQUEST_MAX];
	int file; /* -1: none */
	int64_t file_bytes;
	long requests, first;
	int connections;
	int64_t *latency_ns; /* by request; 0: no good answer */
	_Atomic long next, errors;
	atomic_flag has_error;
	char first_error[512];
	_Atomic long statuses[600];
	pthread_barrier_t ready;
};

static void
die(const char *what, const char *detail)
{
	fprintf(stderr, "load: %s: %s\n", what, detail);
	exit(2);
}

/* Replaces the marks by seq; returns the length or dies when it does not fit. */
static size_t
render_body(const struct load *l, long seq, char out[REQUEST_MAX])
{
	const char *from = l->body, *mark;
	size_t len = 0;

	while ((mark = strstr(from, MARK)) != NULL) {
		int n = snprintf(out + len, REQUEST_MAX - len, "%.*s%ld", (int)(mark - from), from, seq);

		if (n < 0 || (size_t)n >= REQUEST_MAX - len)
			die("body", "too long");
		len += (size_t)n;
		from = mark + strlen(MARK);
	}
	if (strlen(from) >= REQUEST_MAX - len)
		die("body", "too long");
	memcpy(out + len, from, strlen(from));
	return len + strlen(from);
}

static int
send_request(const struct load *l, struct connection *c, long seq)
{
	char body[REQUEST_MAX], request[REQUEST_MAX];
	int len;

	if (l->file >= 0) {
		len = snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %lld\r\n\r\n", l->method,
		    l->path, l->address, l->headers, (long long)l->file_bytes);
		if (connection_send(c, request, (size_t)len) != 0)
			return -1;
		return connection_send_file(c, l->file, l->file_bytes);
	}
	len = request_format(request, l->method, l->address, l->path, l->headers, body, render_body(l, seq, body));
	if (len < 0)
		die("request", "too long");
	return connection_send(c, request, (size_t)len);
}

static void
note_error(struct load *l, const struct connection *c, bool answered)
{
	l->errors++;
	if (atomic_flag_test_and_set(&l->has_error))
		return;
	if (answered)
		snprintf(l->first_error, sizeof(l->first_error), "%d %.400s", c->status, c->body);
	else
		snprintf(l->first_error, sizeof(l->first_error), "%s", c->why);
}

static void *
run_connection(void *arg)
{
	struct load *l = arg;
	struct connection *c = calloc(1, sizeof(*c));
	long i;

	if (c == NULL)
		die("memory", "none left");
	if (connection_init(c, l->address) != 0 || connection_open(c) != 0)
		die(l->address, c->why);
	pthread_barrier_wait(&l->ready);
	while ((i = l->next++) < l->requests) {
		int64_t sent_ns = now_ns();
		bool answered = connection_open(c) == 0 && send_request(l, c, l->first + i) == 0 && connection_receive(c) == 0;

		if (answered && c->status >= 100 && c->status < 600)
			l->statuses[c->status]++;
		if (answered && c->status / 100 == 2)
			l->latency_ns[i] = now_ns() - sent_ns;
		else
			note_error(l, c, answered);
	}
	connection_close(c);
	free(c);
	return NULL;
}

static void
print_text(const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else
			putchar((unsigned char)*text < ' ' ? ' ' : *text);
	}
}

static void
print_result(const struct load *l, int64_t wall_ns)
{
	const char *comma = "";

	printf("{\"wall_ns\": %lld, \"errors\": %ld, \"first_error\": \"", (long long)wall_ns, (long)l->errors);
	print_text(l->first_error);
	printf("\", \"statuses\": {");
	for (int i = 0; i < 600; i++) {
		if (l->statuses[i] > 0) {
			printf("%s\"%d\": %ld", comma, i, (long)l->statuses[i]);
			comma = ", ";
		}
	}
	printf("}, \"latency_ns\": [");
	comma = "";
	for (long i = 0; i < l->requests; i++) {
		if (l->latency_ns[i] > 0) {
			printf("%s%lld", comma, (long long)l->latency_ns[i]);
			comma = ",";
		}
	}
	printf("]}\n");
}

static long
number(const char *text, long min, long max)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || n < min || n > max)
		die("not a number in range", text);
	return n;
}

static void
open_file(struct load *l, const char *path)
{
	struct stat st;

	l->file = open(path, O_RDONLY | O_CLOEXEC);
	if (l->file < 0 || fstat(l->file, &st) != 0)
		die(path, "cannot be opened");
	l->file_bytes = st.st_size;
}

static void
add_header(struct load *l, const char *line)
{
	size_t len = strlen(l->headers);
	int n = snprintf(l->headers + len, sizeof(l->headers) - len, "%s\r\n", line);

	if (n < 0 || (size_t)n >= sizeof(l->headers) - len)
		die("headers", "too long");
}

static void
parse(struct load *l, int argc, char **argv)
{
	int opt;

	l->file = -1;
	l->connections = 1;
	l->requests = 1;
	while ((opt = getopt(argc, argv, "c:n:s:H:f:")) != -1) {
		if (opt == 'c')
			l->connections = (int)number(optarg, 1, CONNECTIONS_MAX);
		else if (opt == 'n')
			l->requests = number(optarg, 1, REQUESTS_MAX);
		else if (opt == 's')
			l->first = number(optarg, 0, INT32_MAX);
		else if (opt == 'H')
			add_header(l, optarg);
		else if (opt == 'f')
			open_file(l, optarg);
		else
			exit(2);
	}
	if (argc - optind != 3)
		die("usage", "load [-c CONNECTIONS] [-n REQUESTS] [-s FIRST] [-H HEADER]... [-f FILE] ADDRESS METHOD PATH");
	l->address = argv[optind];
	l->method = argv[optind + 1];
	l->path = argv[optind + 2];
	if (l->file < 0)
		l->body[fread(l->body, 1, sizeof(l->body) - 1, stdin)] = '\0';
}

int
main(int argc, char **argv)
{
	static struct load l = {.has_error = ATOMIC_FLAG_INIT};
	pthread_t threads[CONNECTIONS_MAX];
	int64_t began_ns;

	parse(&l, argc, argv);
	l.latency_ns = calloc((size_t)l.requests, sizeof(l.latency_ns[0]));
	if (l.latency_ns == NULL || pthread_barrier_init(&l.ready, NULL, (unsigned)l.connections + 1) != 0)
		die("memory", "none left");
	for (int i = 0; i < l.connections; i++) {
		if (pthread_create(&threads[i], NULL, run_connection, &l) != 0)
			die("thread", "cannot be started");
	}
	pthread_barrier_wait(&l.ready);
	began_ns = now_ns();
	for (int i = 0; i < l.connections; i++)
		pthread_join(threads[i], NULL);
	print_result(&l, now_ns() - began_ns);
	return 0;
}
