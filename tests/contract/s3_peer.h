/* s3_peer.h - an S3 server that does what a script says: each request takes the next step, whatever it asks for. One thread,
 * one connection at a time; after each step the connection is closed unless the step says otherwise. */
#ifndef TESTS_CONTRACT_S3_PEER_H
#define TESTS_CONTRACT_S3_PEER_H

#include <arpa/inet.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

struct peer_step {
	const char *expect;  /* text that the request's head must hold; NULL: anything */
	const char *forbid;  /* text that it must not hold */
	int status;          /* 0: no answer, the connection is reset */
	const char *headers; /* more header lines, each with \r\n; NULL: none */
	const char *body;
	long length;         /* Content-Length that is claimed, if it is not the body's; 0: the body's */
	bool echo_token;     /* answer with the token of the last request that had one: its object is there */
};

struct peer {
	int fd;
	char url[64];
	pthread_t thread;
	const struct peer_step *steps;
	size_t n;
	_Atomic size_t at;   /* steps taken */
	_Atomic int wrong;   /* requests that were not as expected, or came after the script's end */
	char last[8192];     /* head of the last request */
	char token[100];     /* header line of the last put's token */
};

/* Reads a request; false at the end of the connection. */
static inline bool
peer_read(struct peer *p, int fd)
{
	size_t n = 0;
	char *end = NULL, *len;
	long body;

	while (end == NULL) {
		ssize_t got = recv(fd, p->last + n, sizeof(p->last) - 1 - n, 0);

		if (got <= 0)
			return false;
		n += (size_t)got;
		p->last[n] = '\0';
		end = strstr(p->last, "\r\n\r\n");
	}
	len = strcasestr(p->last, "\r\ncontent-length:");
	body = len != NULL ? atol(len + 17) : 0;
	body -= (long)(n - (size_t)(end + 4 - p->last));
	end[2] = '\0';
	while (body > 0) {
		char drop[65536];
		ssize_t got = recv(fd, drop, sizeof(drop) < (size_t)body ? sizeof(drop) : (size_t)body, 0);

		if (got <= 0)
			return false;
		body -= got;
	}
	return true;
}

static inline void
peer_answer(struct peer *p, int fd)
{
	static const struct peer_step end = {.status = 599};
	const struct peer_step *s = p->at < p->n ? &p->steps[p->at] : &end;
	const char *body = s->body != NULL ? s->body : "";
	bool head = strncmp(p->last, "HEAD ", 5) == 0;
	const char *token = strstr(p->last, "x-amz-meta-drover-put:");
	char text[16384];
	int n;

	if ((s->expect != NULL && strstr(p->last, s->expect) == NULL) || (s->forbid != NULL && strstr(p->last, s->forbid) != NULL) ||
	    s == &end) {
		fprintf(stderr, "step %zu got:\n%s\n", (size_t)p->at, p->last);
		p->wrong++;
	}
	p->at++;
	if (token != NULL)
		snprintf(p->token, sizeof(p->token), "%.*s\r\n", (int)strcspn(token, "\r"), token);
	if (s->status == 0) {
		struct linger now = {1, 0};

		setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		return;
	}
	n = snprintf(text, sizeof(text), "HTTP/1.1 %d X\r\nConnection: close\r\n%s%sContent-Length: %ld\r\n\r\n%s", s->status,
	    s->headers != NULL ? s->headers : "", s->echo_token ? p->token : "", s->length > 0 ? s->length : (long)strlen(body),
	    head ? "" : body);
	send(fd, text, (size_t)n, MSG_NOSIGNAL);
}

static inline void *
peer_run(void *arg)
{
	struct peer *p = arg;
	int fd;

	while ((fd = accept(p->fd, NULL, NULL)) >= 0) {
		if (peer_read(p, fd))
			peer_answer(p, fd);
		close(fd);
	}
	return NULL;
}

static inline void
peer_start(struct peer *p, const struct peer_step *steps, size_t n)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);

	*p = (struct peer){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .steps = steps, .n = n};
	if (bind(p->fd, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(p->fd, 16) != 0 ||
	    getsockname(p->fd, (struct sockaddr *)&a, &len) != 0 || pthread_create(&p->thread, NULL, peer_run, p) != 0)
		abort();
	snprintf(p->url, sizeof(p->url), "http://127.0.0.1:%d", ntohs(a.sin_port));
}

static inline void
peer_end(struct peer *p)
{
	shutdown(p->fd, SHUT_RDWR);
	pthread_join(p->thread, NULL);
	close(p->fd);
}

#endif
