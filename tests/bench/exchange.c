#include "exchange.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int
fail(struct connection *c, const char *what, const char *detail)
{
	snprintf(c->why, sizeof(c->why), "%s: %.120s", what, detail);
	connection_close(c);
	return -1;
}

int
connection_init(struct connection *c, const char *address)
{
	char host[INET_ADDRSTRLEN];
	const char *colon = strrchr(address, ':');
	char *end;
	long port;

	memset(c, 0, sizeof(*c));
	c->fd = -1;
	if (colon == NULL || (size_t)(colon - address) >= sizeof(host))
		return fail(c, "not host:port", address);
	memcpy(host, address, (size_t)(colon - address));
	host[colon - address] = '\0';
	port = strtol(colon + 1, &end, 10);
	if (*end != '\0' || port < 1 || port > 65535 || inet_pton(AF_INET, host, &c->address.sin_addr) != 1)
		return fail(c, "not a.b.c.d:port", address);
	c->address.sin_family = AF_INET;
	c->address.sin_port = htons((uint16_t)port);
	return 0;
}

int
connection_open(struct connection *c)
{
	const int on = 1;

	if (c->fd >= 0)
		return 0;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (const struct sockaddr *)&c->address, sizeof(c->address)) != 0)
		return fail(c, "connect", strerror(errno));
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return 0;
}

void
connection_close(struct connection *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

int
request_format(char *out, const char *method, const char *host, const char *path, const char *headers, const char *body,
    size_t body_len)
{
	int n = snprintf(out, REQUEST_MAX,
	    "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n", method, path, host,
	    headers, body_len);

	if (n < 0 || (size_t)n + body_len > REQUEST_MAX)
		return -1;
	memcpy(out + n, body, body_len);
	return n + (int)body_len;
}

int
connection_send(struct connection *c, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(c, "send", strerror(errno));
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

int
connection_send_file(struct connection *c, int file, int64_t size_bytes)
{
	off_t at = 0;

	while (at < size_bytes) {
		ssize_t n = sendfile(c->fd, file, &at, (size_t)(size_bytes - at));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail(c, "sendfile", n < 0 ? strerror(errno) : "the file became shorter");
	}
	return 0;
}

/* Reads on until the answer has at least `want` bytes. */
static int
read_until(struct connection *c, size_t want)
{
	while (c->answer_len < want) {
		ssize_t n = recv(c->fd, c->answer + c->answer_len, ANSWER_MAX - c->answer_len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail(c, "receive", n < 0 ? strerror(errno) : "closed by the server");
		c->answer_len += (size_t)n;
		c->answer[c->answer_len] = '\0';
	}
	return 0;
}

/* The value of a header in a head that ends at `end`, or NULL. */
static const char *
header(const char *head, const char *end, const char *name)
{
	const char *line = head;
	const size_t len = strlen(name);

	while ((line = strstr(line, "\r\n")) != NULL && line < end) {
		line += 2;
		if (strncasecmp(line, name, len) == 0 && line[len] == ':')
			return line + len + 1 + strspn(line + len + 1, " ");
	}
	return NULL;
}

int
connection_receive(struct connection *c)
{
	const char *end, *length, *closing;
	size_t head_len, body_len;

	c->answer_len = 0;
	c->answer[0] = '\0';
	while ((end = strstr(c->answer, "\r\n\r\n")) == NULL) {
		if (c->answer_len == ANSWER_MAX)
			return fail(c, "answer", "its head is too long");
		if (read_until(c, c->answer_len + 1) != 0)
			return -1;
	}
	if (strncmp(c->answer, "HTTP/1.1 ", 9) != 0)
		return fail(c, "answer", "not HTTP/1.1");
	c->status = (int)strtol(c->answer + 9, NULL, 10);
	if (c->status == 100) {
		return fail(c, "answer", "100 Continue was not asked for");
	}
	head_len = (size_t)(end - c->answer) + 4;
	length = header(c->answer, end, "Content-Length");
	if (length == NULL)
		return fail(c, "answer", "no Content-Length");
	body_len = strtoul(length, NULL, 10);
	if (body_len > ANSWER_MAX - head_len)
		return fail(c, "answer", "too long");
	if (read_until(c, head_len + body_len) != 0)
		return -1;
	c->body = c->answer + head_len;
	closing = header(c->answer, end, "Connection");
	if (closing != NULL && strncasecmp(closing, "close", 5) == 0)
		connection_close(c);
	return 0;
}
