/* s3_object_peer.h - an S3 server with one object, for many connections at a time: it serves ranges as a good server does, writes down
 * every request, and misbehaves where it is told to. A thread per connection; connections are kept. */
#ifndef TESTS_CONTRACT_S3_OBJECT_PEER_H
#define TESTS_CONTRACT_S3_OBJECT_PEER_H

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PEER_THREADS_MAX 512
#define PEER_LOG_MAX 4096
#define PEER_BLOCK 65536

enum peer_fault { /* what `arg` is */
	PEER_FINE,
	PEER_STATUS,      /* the status, with `text` as its body and `headers` */
	PEER_RESET,       /* bytes before the connection is reset; -1: not even a head */
	PEER_TRUNCATE,    /* bytes before it is closed as if all were well */
	PEER_STALL,       /* bytes before nothing more comes */
	PEER_TRICKLE,     /* bytes before one comes every 20 ms */
	PEER_CORRUPT,     /* which byte of the answer is another one */
	PEER_LIE_TOTAL,   /* the size that is claimed */
	PEER_LIE_ETAG,    /* - */
	PEER_SHORT,       /* bytes that Content-Length and Content-Range claim, and that come */
	PEER_ALL,         /* -: 200 and the whole object */
	PEER_ELSEWHERE,   /* bytes by which the range that comes is off */
	PEER_REPLACE,     /* -: the object becomes another one just before the answer */
};

struct peer_rule { /* the first one that fits a request counts; used up after `times` */
	int64_t offset; /* first byte that is asked for; -1: any */
	int times;
	enum peer_fault fault;
	int64_t arg;
	const char *text, *headers;
};

struct peer_request {
	int64_t offset, end; /* as asked for; whole object: 0 and -1 */
	char if_match[40];
	int status;          /* answered */
	int64_t sent;        /* bytes of the object */
};

struct object_peer {
	int fd, quit;        /* quit becomes readable at the end */
	char url[64];
	int64_t size;
	int version;         /* etag "v<version>", and what the bytes follow from */
	int pause_ms;        /* between blocks: a slow line */
	struct peer_rule *rules;
	size_t n_rules;

	pthread_mutex_t lock;
	struct peer_request log[PEER_LOG_MAX];
	size_t n_log;
	int open, open_max;  /* answers under way */
	pthread_t acceptor, threads[PEER_THREADS_MAX];
	size_t n_threads;
	int conns[PEER_THREADS_MAX];
};

struct peer_conn {
	struct object_peer *p;
	int fd;
	char head[8192];
};

static inline uint8_t
peer_byte(int64_t at, int version)
{
	return (uint8_t)(at * 31 + (at >> 8) * 7 + (at >> 20) + version);
}

/* False when the test ends first. */
static inline bool
peer_pause(struct object_peer *p, int ms)
{
	struct pollfd quit = {p->quit, POLLIN, 0};

	return ms == 0 || poll(&quit, 1, ms) == 0;
}

/* Until the client has enough of it. */
static inline void
peer_stall(struct object_peer *p, int fd)
{
	struct pollfd ends[] = {{p->quit, POLLIN, 0}, {fd, POLLRDHUP, 0}};

	poll(ends, 2, -1);
}

static inline bool
peer_send(int fd, const void *data, size_t len)
{
	for (const char *at = data; len > 0;) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

static inline bool
peer_head(struct peer_conn *c)
{
	size_t n = 0;

	while (n < sizeof(c->head) - 1) {
		ssize_t got = recv(c->fd, c->head + n, sizeof(c->head) - 1 - n, 0);

		if (got <= 0)
			return false;
		n += (size_t)got;
		c->head[n] = '\0';
		if (strstr(c->head, "\r\n\r\n") != NULL)
			return true;
	}
	return false;
}

static inline void
peer_header(const char *head, const char *name, char *out, size_t len)
{
	char key[64];
	const char *at;

	snprintf(key, sizeof(key), "\r\n%s: ", name);
	at = strcasestr(head, key);
	snprintf(out, len, "%.*s", at != NULL ? (int)strcspn(at + strlen(key), "\r") : 0, at != NULL ? at + strlen(key) : "");
}

/* The body from first, byte by byte as the object has it but for the fault. False: the connection is over. */
static inline bool
peer_body(struct object_peer *p, int fd, const struct peer_rule *rule, int64_t first, int64_t len, int version, int64_t *sent)
{
	uint8_t *block = malloc(PEER_BLOCK);
	bool trickle = false, ok = true;

	while (ok && *sent < len) {
		int64_t n = trickle ? 1 : len - *sent < PEER_BLOCK ? len - *sent : PEER_BLOCK;
		bool cut = rule->fault == PEER_RESET || rule->fault == PEER_TRUNCATE || rule->fault == PEER_STALL ||
		    rule->fault == PEER_TRICKLE;

		if (cut && !trickle && rule->arg - *sent < n)
			n = rule->arg - *sent;
		for (int64_t i = 0; i < n; i++)
			block[i] = peer_byte(first + *sent + i, version);
		if (rule->fault == PEER_CORRUPT && rule->arg >= *sent && rule->arg < *sent + n)
			block[rule->arg - *sent] ^= 1;
		ok = peer_send(fd, block, (size_t)n) && peer_pause(p, trickle ? 20 : p->pause_ms);
		*sent += n;
		if (!ok || !cut || trickle || *sent < rule->arg)
			continue;
		trickle = rule->fault == PEER_TRICKLE;
		ok = trickle;
		if (rule->fault == PEER_STALL)
			peer_stall(p, fd);
		if (rule->fault == PEER_RESET)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
	}
	free(block);
	return ok;
}

/* Writes the request down and says what is to happen to it. */
static inline struct peer_rule
peer_judge(struct object_peer *p, const struct peer_request *r, size_t *ret_at, int *ret_version)
{
	struct peer_rule rule = {.fault = PEER_FINE};

	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < p->n_rules && rule.fault == PEER_FINE; i++)
		if (p->rules[i].times > 0 && (p->rules[i].offset < 0 || p->rules[i].offset == r->offset)) {
			p->rules[i].times--;
			rule = p->rules[i];
		}
	if (rule.fault == PEER_REPLACE)
		p->version++;
	*ret_version = p->version;
	*ret_at = p->n_log < PEER_LOG_MAX ? p->n_log++ : PEER_LOG_MAX - 1;
	p->log[*ret_at] = *r;
	if (++p->open > p->open_max)
		p->open_max = p->open;
	pthread_mutex_unlock(&p->lock);
	return rule;
}

static inline void
peer_note(struct object_peer *p, size_t at, int status, int64_t sent)
{
	pthread_mutex_lock(&p->lock);
	p->log[at].status = status;
	p->log[at].sent = sent;
	p->open--;
	pthread_mutex_unlock(&p->lock);
}

static inline bool
peer_answer_object(struct peer_conn *c)
{
	struct object_peer *p = c->p;
	struct peer_request r = {.end = -1};
	struct peer_rule rule;
	char range[80], etag[40], text[2048];
	int64_t first, last, len, sent = 0;
	int version, status;
	bool ranged, ok;
	size_t at;

	peer_header(c->head, "range", range, sizeof(range));
	peer_header(c->head, "if-match", r.if_match, sizeof(r.if_match));
	ranged = range[0] != '\0';
	if (ranged && sscanf(range, "bytes=%ld-%ld", &r.offset, &r.end) < 1)
		return false;
	rule = peer_judge(p, &r, &at, &version);
	snprintf(etag, sizeof(etag), "\"v%d\"", rule.fault == PEER_LIE_ETAG ? 99 : version);
	first = r.offset + (rule.fault == PEER_ELSEWHERE ? rule.arg : 0);
	last = r.end >= 0 && r.end < p->size ? r.end : p->size - 1;
	if (rule.fault == PEER_ALL) {
		ranged = false;
		first = 0;
		last = p->size - 1;
	}
	if (rule.fault == PEER_SHORT)
		last = first + rule.arg - 1;
	len = last - first + 1;
	status = rule.fault == PEER_STATUS ? (int)rule.arg : r.if_match[0] != '\0' && strcmp(r.if_match, etag) != 0 &&
	    rule.fault != PEER_LIE_ETAG ? 412 : ranged ? 206 : 200;
	if (rule.fault == PEER_RESET && rule.arg < 0) {
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
		peer_note(p, at, 0, 0);
		return false;
	}
	if (status >= 300) {
		snprintf(text, sizeof(text), "HTTP/1.1 %d X\r\n%sContent-Length: %zu\r\n\r\n%s", status,
		    rule.headers != NULL ? rule.headers : "", rule.text != NULL ? strlen(rule.text) : 0,
		    rule.text != NULL ? rule.text : "");
		ok = peer_send(c->fd, text, strlen(text));
	} else {
		int64_t total = rule.fault == PEER_LIE_TOTAL ? rule.arg : p->size;
		char content_range[120] = "";

		if (ranged)
			snprintf(content_range, sizeof(content_range), "Content-Range: bytes %ld-%ld/%ld\r\n", first, last, total);
		snprintf(text, sizeof(text), "HTTP/1.1 %d X\r\nETag: %s\r\n%sContent-Length: %ld\r\n\r\n", status, etag, content_range,
		    !ranged && rule.fault == PEER_LIE_TOTAL ? total : len);
		ok = peer_send(c->fd, text, strlen(text)) && peer_body(p, c->fd, &rule, first, len, version, &sent);
	}
	peer_note(p, at, status, sent);
	return ok;
}

static inline void *
peer_serve(void *arg)
{
	struct peer_conn *c = arg;

	while (peer_head(c) && peer_answer_object(c))
		;
	shutdown(c->fd, SHUT_WR);
	/* A pending reset is sent by close; the descriptor stays the acceptor's until the end otherwise. */
	pthread_mutex_lock(&c->p->lock);
	for (size_t i = 0; i < c->p->n_threads; i++)
		if (c->p->conns[i] == c->fd)
			c->p->conns[i] = -1;
	close(c->fd);
	pthread_mutex_unlock(&c->p->lock);
	free(c);
	return NULL;
}

static inline void *
peer_accept(void *arg)
{
	struct object_peer *p = arg;
	int fd;

	while ((fd = accept4(p->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		struct peer_conn *c = calloc(1, sizeof(*c));

		c->p = p;
		c->fd = fd;
		pthread_mutex_lock(&p->lock);
		if (p->n_threads == PEER_THREADS_MAX)
			abort();
		p->conns[p->n_threads] = fd;
		if (pthread_create(&p->threads[p->n_threads], NULL, peer_serve, c) != 0)
			abort();
		p->n_threads++;
		pthread_mutex_unlock(&p->lock);
	}
	return NULL;
}

static inline void
object_peer_start(struct object_peer *p, int64_t size, struct peer_rule *rules, size_t n_rules)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);

	memset(p, 0, sizeof(*p));
	p->size = size;
	p->version = 1;
	p->rules = rules;
	p->n_rules = n_rules;
	p->quit = eventfd(0, EFD_CLOEXEC);
	p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pthread_mutex_init(&p->lock, NULL);
	if (bind(p->fd, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(p->fd, 64) != 0 ||
	    getsockname(p->fd, (struct sockaddr *)&a, &len) != 0 || pthread_create(&p->acceptor, NULL, peer_accept, p) != 0)
		abort();
	snprintf(p->url, sizeof(p->url), "http://127.0.0.1:%d", ntohs(a.sin_port));
}

/* Afterwards the log is complete. May be called again. */
static inline void
object_peer_end(struct object_peer *p)
{
	if (p->fd < 0)
		return;
	shutdown(p->fd, SHUT_RDWR);
	pthread_join(p->acceptor, NULL);
	close(p->fd);
	p->fd = -1;
	if (eventfd_write(p->quit, 1) != 0)
		abort();
	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < p->n_threads; i++)
		if (p->conns[i] >= 0)
			shutdown(p->conns[i], SHUT_RDWR);
	pthread_mutex_unlock(&p->lock);
	for (size_t i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	close(p->quit);
	pthread_mutex_destroy(&p->lock);
}

#endif
