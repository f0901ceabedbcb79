#include "cli/api.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/mem.h"
#include "cli/interrupt.h"
#include "cluster/discover.h"
#include "net/http_client.h"

#define ANSWER_MAX (64 * 1024 * 1024)
#define CALL_MS 30000
#define DISCOVER_MS 5000
#define URL_MAX_BYTES 8192
#define HEADERS_MAX 8

struct api {
	struct http_client *http;
	struct http_tls tls;
	struct consul_config consul;
	struct nomad_config nomad;
	struct discover *where; /* NULL: base is fixed */
	char base[512];
	char *shown;
	char *authorization;    /* header line; NULL: none */
};

static void
basic(struct api *a, const char *user_and_password)
{
	size_t len = strlen(user_and_password);
	char *text = xmalloc(4 * ((len + 2) / 3) + 1);

	a->authorization = xasprintf("Authorization: Basic %s", base64_encode(user_and_password, len, text));
	mem_wipe(text, strlen(text));
	free(text);
}

/* Splits "http://user:token@host:port/" into base and credentials. */
static int
take_url(struct api *a, const char *address, struct err *e)
{
	const char *host = strstr(address, "://") + 3, *at = strrchr(host, '@'), *rest = at != NULL ? at + 1 : host;
	int n = snprintf(a->base, sizeof(a->base), "%.*s%s", (int)(host - address), address, rest);
	size_t len = strlen(a->base);

	if (n < 0 || (size_t)n >= sizeof(a->base) || rest[0] == '\0' || strpbrk(rest, " ?#") != NULL) {
		(void)err_set(e, ERR_INVALID, "DROVER_ADDR is not an address");
		(void)err_hint(e, "http://127.0.0.1:8700, for example");
		return ERR_INVALID;
	}
	while (len > 0 && a->base[len - 1] == '/')
		a->base[--len] = '\0';
	if (at != NULL && a->authorization == NULL) {
		char *who = xstrndup(host, (size_t)(at - host));

		basic(a, who);
		free(who);
	}
	free(a->shown);
	a->shown = xstrdup(a->base);
	return 0;
}

static void
take_settings(struct api *a, const struct cli_settings *s)
{
	a->tls = (struct http_tls){.ca_cert = s->ca_cert, .ca_path = s->ca_path, .client_cert = s->client_cert,
		.client_key = s->client_key, .server_name = s->tls_server_name, .skip_verify = s->skip_verify};
	a->consul = consul_settings_config(&s->consul);
	a->nomad = nomad_settings_config(&s->nomad);
	a->nomad.stop = interrupt_flag();
	if (s->token[0] != '\0')
		a->authorization = xasprintf("Authorization: Bearer %s", s->token);
}

static int
take_address(struct api *a, const struct cli_settings *s, const char *address, struct err *e)
{
	if (strpbrk(s->token, "\r\n") != NULL)
		return err_set(e, ERR_INVALID, "DROVER_TOKEN holds an end of line");
	if (strncmp(address, "http://", 7) == 0 || strncmp(address, "https://", 8) == 0)
		return take_url(a, address, e);
	return discover_new(address, &a->consul, &a->nomad, NULL, &a->where, e);
}

int
api_new(struct cli_settings *s, struct api **ret, struct err *e)
{
	struct api *a = xcalloc(1, sizeof(*a));
	char *address = strstr(s->address, "://") != NULL ? xstrdup(s->address) : xasprintf("http://%s", s->address);
	int rc = strncmp(address, "consul://", 9) == 0 ? consul_settings_read_token(&s->consul, e) : 0;

	take_settings(a, s);
	a->shown = xstrdup(address);
	if (rc == 0)
		rc = take_address(a, s, address, e);
	free(address);
	if (rc != 0) {
		api_free(a);
		return rc;
	}
	a->http = http_client_new(&a->tls);
	*ret = a;
	return 0;
}

void
api_free(struct api *a)
{
	if (a == NULL)
		return;
	http_client_free(a->http);
	discover_free(a->where);
	if (a->authorization != NULL)
		mem_wipe(a->authorization, strlen(a->authorization));
	free(a->authorization);
	free(a->shown);
	free(a);
}

const char *
api_address(const struct api *a)
{
	return a->shown;
}

bool
api_may_pass(int rc)
{
	return rc == ERR_RETRY || rc == ERR_TIMEOUT || rc == ERR_IO;
}

/* Says in our words that nobody is there, and what may help. */
static int
explain(const struct api *a, int rc, struct err *e)
{
	if (rc != ERR_RETRY || e->hint[0] != '\0')
		return rc;
	(void)err_set(e, rc, "no dispatcher answers at %s", a->shown);
	(void)err_hint(e, "-address or DROVER_ADDR says where it is; `drover dev` starts one here");
	return rc;
}

static int
perform(struct api *a, struct api_call *call, struct http_call *h, struct err *e)
{
	char url[URL_MAX_BYTES];
	int rc;

	if (a->where != NULL && (rc = discover_pick(a->where, DISCOVER_MS, a->base, sizeof(a->base), e)) != 0)
		return rc;
	if ((size_t)snprintf(url, sizeof(url), "%s%s", a->base, call->path) >= sizeof(url))
		return err_set(e, ERR_TOOBIG, "the request is longer than %d bytes", URL_MAX_BYTES);
	h->url = url;
	rc = http_perform(a->http, h, e);
	if (rc != 0 && a->where != NULL)
		discover_failed(a->where, a->base);
	if (rc != 0)
		return explain(a, rc, e);
	call->status = h->status;
	snprintf(call->header, sizeof(call->header), "%.63s", h->want[0].value);
	return http_status_err(h, e);
}

int
api_do(struct api *a, struct api_call *call, struct err *e)
{
	struct buf out = buf_make(ANSWER_MAX);
	char *body = call->body != NULL ? json_dumps(call->body, JSON_COMPACT) : NULL;
	const char *headers[HEADERS_MAX + 1] = {NULL};
	size_t n = 0;
	struct http_call h = {.method = call->method, .headers = headers, .body = body, .body_len = body != NULL ? strlen(body) : 0,
		.read_fn = call->read_fn, .body_size = call->body_size, .out = &out, .write_fn = call->write_fn, .arg = call->arg,
		.timeout_ms = call->timeout_ms > 0 ? call->timeout_ms : call->write_fn != NULL || call->read_fn != NULL ? 0 : CALL_MS,
		.stop = call->deaf ? NULL : interrupt_flag(), .n_want = 1};
	json_error_t je;
	struct err unheard = {0};
	int rc;

	snprintf(h.want[0].name, sizeof(h.want[0].name), "%s", call->wanted != NULL ? call->wanted : "X-Drover-Index");
	if (a->authorization != NULL)
		headers[n++] = a->authorization;
	if (body != NULL)
		headers[n++] = "Content-Type: application/json";
	for (size_t i = 0; call->headers != NULL && call->headers[i] != NULL; i++) {
		assert(n < HEADERS_MAX);
		headers[n++] = call->headers[i];
	}
	if (e == NULL)
		e = &unheard; /* its text decides what is tried again */
	rc = perform(a, call, &h, e);
	if (rc == 0 && call->write_fn == NULL && out.len > 0) {
		call->answer = json_loadb(buf_str(&out), out.len, JSON_REJECT_DUPLICATES, &je);
		if (call->answer == NULL) {
			rc = err_set(e, ERR_PROTO, "the answer of %s is not JSON (line %d: %.100s)", a->shown, je.line, je.text);
			(void)err_hint(e, "is this the address of a dispatcher?");
		}
	}
	buf_release(&out);
	free(body);
	return rc;
}

int
api_get(struct api *a, const char *path, json_t **ret, struct err *e)
{
	struct api_call call = {.method = "GET", .path = path};
	int rc = api_do(a, &call, e);

	*ret = call.answer;
	return rc;
}

void
api_query(struct buf *path, const char *name, const char *value)
{
	if (value == NULL)
		return;
	buf_addf(path, "%c%s=", strchr(buf_str(path), '?') == NULL ? '?' : '&', name);
	(void)http_encode(path, value, false);
}

const char *
api_path(struct buf *b, const char *before, const char *part, const char *after)
{
	buf_clear(b);
	buf_adds(b, before);
	(void)http_encode(b, part, false);
	buf_adds(b, after);
	return buf_str(b);
}
