/* exchange.h - one HTTP/1.1 exchange at a time over a kept connection, for the programs that measure.
 *
 * Plain sockets and fixed buffers: the client must cost next to nothing, or the figures would be its own. It
 * understands the answers with Content-Length that the measured servers give, and no others. Each connection belongs to one
 * thread. Functions that fail return -1 with the reason in the connection's `why`.
 */
#ifndef BENCH_EXCHANGE_H
#define BENCH_EXCHANGE_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

enum {
	REQUEST_MAX = 16 * 1024, /* head and body of a request that is not a file */
	ANSWER_MAX = 64 * 1024,  /* head and body of an answer */
};

struct connection {
	struct sockaddr_in address;
	int fd;                   /* -1: not connected */
	int status;               /* of the last answer */
	const char *body;         /* of the last answer, inside `answer`, NUL-terminated */
	size_t answer_len;
	char why[160];
	char answer[ANSWER_MAX + 1];
};

/* Nanoseconds of CLOCK_MONOTONIC: the same for all processes of the machine, containers included. */
int64_t now_ns(void);

/* Sets up *c for "a.b.c.d:port" without connecting. Returns 0 or -1. */
int connection_init(struct connection *c, const char *address);

/* Connects unless it is connected. Returns 0 or -1. */
int connection_open(struct connection *c);

/* Closes the connection, if any; connection_open() may follow. */
void connection_close(struct connection *c);

/* Writes head and body of a request into out[REQUEST_MAX]. headers: complete lines with their CRLF, or "". Returns the length,
 * or -1 when it does not fit.
 */
int request_format(char *out, const char *method, const char *host, const char *path, const char *headers, const char *body,
    size_t body_len);

/* Sends len bytes. Returns 0 or -1. */
int connection_send(struct connection *c, const char *data, size_t len);

/* Sends a whole open file of size_bytes. Returns 0 or -1. */
int connection_send_file(struct connection *c, int file, int64_t size_bytes);

/* Reads one answer into c->status and c->body; closes the connection when the server wants that. Returns 0 or -1. */
int connection_receive(struct connection *c);

#endif
