/* stamp - both ends of a measured way, by one program and one clock (CLOCK_MONOTONIC, nanoseconds):
 *
 *   stamp                           prints "drover-stamp NS": when its main began. The tool whose start is measured
 *   stamp to FILE                   the same into a new file: Nomad may miss what a container printed that ends at once
 *   stamp post ADDRESS PATH         sends standard input as JSON: prints "SENT_NS ANSWERED_NS STATUS" and the answer's body
 *   stamp wait ADDRESS PATH MS      asks every millisecond until the answer is 200: prints the time of that
 *
 * Linked statically, so that it starts as fast in an image without libraries as on the host. Exit 1: it did not work out,
 * 2: wrong usage.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "exchange.h"

#define MS_NS INT64_C(1000000)

static int
complain(const struct connection *c)
{
	fprintf(stderr, "stamp: %s\n", c->why);
	return 1;
}

static int
post(struct connection *c, const char *address, const char *path)
{
	static char body[REQUEST_MAX], request[REQUEST_MAX];
	size_t body_len = fread(body, 1, sizeof(body), stdin);
	int len = request_format(request, "POST", address, path, "", body, body_len);
	int64_t sent_ns;

	if (len < 0) {
		fprintf(stderr, "stamp: the request is longer than %d bytes\n", REQUEST_MAX);
		return 2;
	}
	/* Connected before the clock starts: clients of both servers keep their connections. */
	if (connection_open(c) != 0)
		return complain(c);
	sent_ns = now_ns();
	if (connection_send(c, request, (size_t)len) != 0 || connection_receive(c) != 0)
		return complain(c);
	printf("%lld %lld %d\n%s", (long long)sent_ns, (long long)now_ns(), c->status, c->body);
	return 0;
}

static int
wait_for(struct connection *c, const char *address, const char *path, int64_t limit_ms)
{
	static char request[REQUEST_MAX];
	const struct timespec pause = {.tv_nsec = MS_NS};
	const int64_t deadline_ns = now_ns() + limit_ms * MS_NS;
	int len = request_format(request, "GET", address, path, "", "", 0);

	while (len > 0 && now_ns() < deadline_ns) {
		if (connection_open(c) == 0 && connection_send(c, request, (size_t)len) == 0 && connection_receive(c) == 0 &&
		    c->status == 200) {
			printf("%lld\n", (long long)now_ns());
			return 0;
		}
		nanosleep(&pause, NULL);
	}
	fprintf(stderr, "stamp: no answer 200 within %lld ms (last: %d %s)\n", (long long)limit_ms, c->status, c->why);
	return 1;
}

static int
tell(FILE *f, int64_t began_ns)
{
	if (f == NULL || fprintf(f, "drover-stamp %lld\n", (long long)began_ns) < 0 || fclose(f) != 0) {
		perror("stamp");
		return 1;
	}
	return 0;
}

int
main(int argc, char **argv)
{
	const int64_t began_ns = now_ns();
	static struct connection c;

	if (argc == 1)
		return tell(stdout, began_ns);
	if (argc == 3 && strcmp(argv[1], "to") == 0)
		return tell(fopen(argv[2], "w"), began_ns);
	if (argc >= 4 && connection_init(&c, argv[2]) != 0)
		return complain(&c);
	if (argc == 4 && strcmp(argv[1], "post") == 0)
		return post(&c, argv[2], argv[3]);
	if (argc == 5 && strcmp(argv[1], "wait") == 0)
		return wait_for(&c, argv[2], argv[3], strtol(argv[4], NULL, 10));
	fprintf(stderr, "usage: stamp [to FILE] | stamp post ADDRESS PATH | stamp wait ADDRESS PATH MS\n");
	return 2;
}
