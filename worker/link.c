#include "worker/link.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/http_client.h"

#define PICK_WAIT_MS 2000
#define CONNECT_TIMEOUT_MS 3000
#define URL_MAX 256
#define SPARE_MAX 8

struct link {
	struct discover *discover;
	char *auth; /* the whole header, NULL without a token */
	char *ca_cert;
	_Atomic int64_t heard_mono_ms;
	pthread_mutex_t lock;              /* of the two below */
	struct link_line *spare[SPARE_MAX];
	size_t n_spare;
};

struct link_line {
	struct link *link;
	struct http_tls tls;
	struct http_client *client; /* NULL until the first call */
	char base[URL_MAX];         /* "" until picked, and after a failure */
};

struct link *
link_new(struct discover *d, const char *token, const char *ca_cert)
{
	struct link *l = xcalloc(1, sizeof(*l));

	l->discover = d;
	l->auth = token[0] != '\0' ? xasprintf("Authorization: Bearer %s", token) : NULL;
	l->ca_cert = xstrdup(ca_cert);
	l->heard_mono_ms = clock_mono_ms();
	pthread_mutex_init(&l->lock, NULL);
	return l;
}

void
link_free(struct link *l)
{
	if (l == NULL)
		return;
	while (l->n_spare > 0)
		link_line_free(l->spare[--l->n_spare]);
	pthread_mutex_destroy(&l->lock);
	if (l->auth != NULL)
		mem_wipe(l->auth, strlen(l->auth));
	free(l->auth);
	free(l->ca_cert);
	free(l);
}

int64_t
link_heard_mono_ms(const struct link *l)
{
	return l->heard_mono_ms;
}

struct link_line *
link_line_new(struct link *l)
{
	struct link_line *c = xcalloc(1, sizeof(*c));

	c->link = l;
	c->tls.ca_cert = l->ca_cert;
	return c;
}

void
link_line_free(struct link_line *c)
{
	if (c == NULL)
		return;
	http_client_free(c->client);
	free(c);
}

struct link_line *
link_line_borrow(struct link *l)
{
	struct link_line *c = NULL;

	pthread_mutex_lock(&l->lock);
	if (l->n_spare > 0)
		c = l->spare[--l->n_spare];
	pthread_mutex_unlock(&l->lock);
	return c != NULL ? c : link_line_new(l);
}

void
link_line_return(struct link_line *c)
{
	struct link *l = c->link;
	bool kept;

	pthread_mutex_lock(&l->lock);
	kept = l->n_spare < SPARE_MAX;
	if (kept)
		l->spare[l->n_spare++] = c;
	pthread_mutex_unlock(&l->lock);
	if (!kept)
		link_line_free(c);
}

/* Status and body to what the callers work with. */
static int
read_answer(struct link *l, const struct http_call *call, json_t **ret, struct err *e)
{
	int rc = http_status_err(call, e);

	if (call->status < 500) /* a proxy's or a stopping dispatcher's 503 is no sign of life */
		l->heard_mono_ms = clock_mono_ms();
	if (rc != 0)
		return rc;
	*ret = json_loadb(buf_str(call->out), call->out->len, JSON_REJECT_DUPLICATES, NULL);
	return *ret != NULL ? 0 : err_set(e, ERR_PROTO, "the dispatcher's answer is not JSON");
}

static int
post(struct link_line *c, const char *path, const char *type, const void *data, size_t len, int64_t timeout_ms,
    const atomic_bool *stop, json_t **ret, struct err *e)
{
	const char *headers[3] = {type, c->link->auth, NULL};
	struct buf out = buf_make(LINK_ANSWER_MAX);
	struct http_call call = {.method = "POST", .headers = headers, .body = data, .body_len = len, .out = &out,
	    .connect_timeout_ms = CONNECT_TIMEOUT_MS, .timeout_ms = timeout_ms, .stall_ms = timeout_ms, .stop = stop};
	char url[URL_MAX + 512];
	int rc;

	*ret = NULL;
	if (c->base[0] == '\0' && (rc = discover_pick(c->link->discover, PICK_WAIT_MS, c->base, sizeof(c->base), e)) != 0)
		return rc;
	if (c->client == NULL)
		c->client = http_client_new(&c->tls);
	(void)snprintf(url, sizeof(url), "%s%s", c->base, path);
	call.url = url;
	rc = http_perform(c->client, &call, e);
	if (rc == 0) {
		rc = read_answer(c->link, &call, ret, e);
	} else if (rc != ERR_CANCELED) {
		discover_failed(c->link->discover, c->base);
		c->base[0] = '\0';
	}
	buf_release(&out);
	return rc;
}

int
link_post(struct link_line *c, const char *path, const json_t *body, int64_t timeout_ms, const atomic_bool *stop,
    json_t **ret, struct err *e)
{
	char *text = json_dumps(body, JSON_COMPACT);
	int rc;

	if (text == NULL)
		return err_set(e, ERR_INVALID, "a request to the dispatcher holds text that is not UTF-8");
	rc = post(c, path, "Content-Type: application/json", text, strlen(text), timeout_ms, stop, ret, e);
	free(text);
	return rc;
}

int
link_post_bytes(struct link_line *c, const char *path, const void *data, size_t len, int64_t timeout_ms,
    const atomic_bool *stop, json_t **ret, struct err *e)
{
	return post(c, path, "Content-Type: application/octet-stream", data, len, timeout_ms, stop, ret, e);
}
