#include "cluster/consul.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/num.h"
#include "net/http_client.h"

#define GOODBYE_MS 800 /* a program that ends waits no longer; what stays registered becomes critical by its check */
#define ANSWER_MAX (8 * 1024 * 1024)
#define LOOK_MS 10000 /* a query that does not block */
/* One that does; Consul adds up to a sixteenth. Also how long a catalogue that was restored to an older state behind our back
 * goes unseen. */
#define BLOCK_S 60

struct consul {
	struct consul_config cfg;
	struct http_client *http;
	char base[512];
	const char *socket;
	char *header; /* authorisation, or NULL */
	struct buf answer;
};

struct consul *
consul_new(const struct consul_config *cfg)
{
	struct http_tls tls = {.ca_cert = cfg->ca_cert, .ca_path = cfg->ca_path, .client_cert = cfg->client_cert,
	    .client_key = cfg->client_key, .server_name = cfg->tls_server_name, .skip_verify = cfg->skip_verify};
	struct consul *c = xcalloc(1, sizeof(*c));
	const char *addr = cfg->addr != NULL && cfg->addr[0] != '\0' ? cfg->addr : "127.0.0.1:8500";

	c->cfg = *cfg;
	c->http = http_client_new(&tls);
	c->answer = buf_make(ANSWER_MAX);
	if (strncmp(addr, "unix://", 7) == 0) {
		c->socket = addr + 7;
		snprintf(c->base, sizeof(c->base), "http://localhost");
	} else {
		snprintf(c->base, sizeof(c->base), "%s%s", strstr(addr, "://") != NULL ? "" : cfg->ssl ? "https://" : "http://", addr);
	}
	for (size_t len = strlen(c->base); len > 0 && c->base[len - 1] == '/'; len--)
		c->base[len - 1] = '\0';
	if (cfg->token != NULL && cfg->token[0] != '\0')
		c->header = xasprintf("X-Consul-Token: %s", cfg->token);
	else if (cfg->http_auth != NULL && cfg->http_auth[0] != '\0') {
		char *b64 = xmalloc(strlen(cfg->http_auth) * 2 + 8);

		c->header = xasprintf("Authorization: Basic %s", base64_encode(cfg->http_auth, strlen(cfg->http_auth), b64));
		free(b64);
	}
	return c;
}

void
consul_free(struct consul *c)
{
	if (c == NULL)
		return;
	http_client_free(c->http);
	buf_release(&c->answer);
	if (c->header != NULL)
		mem_wipe(c->header, strlen(c->header));
	free(c->header);
	free(c);
}

/* One call; the answer's text is in c->answer, X-Consul-Index in *ret_index (may be NULL). */
static int
call(struct consul *c, const char *method, const char *path_query, const char *body, int64_t timeout_ms,
    const atomic_bool *stop, uint64_t *ret_index, struct err *e)
{
	char *url = xasprintf("%s%s", c->base, path_query);
	const char *const headers[] = {c->header != NULL ? c->header : "Accept: application/json", NULL};
	struct http_call hc = {.method = method, .url = url, .unix_socket = c->socket, .headers = headers, .body = body,
	    .body_len = body != NULL ? strlen(body) : 0, .out = &c->answer, .timeout_ms = timeout_ms, .stall_ms = timeout_ms,
	    .stop = stop, .n_want = 1};
	int64_t index = 0;
	int rc;

	snprintf(hc.want[0].name, sizeof(hc.want[0].name), "X-Consul-Index");
	buf_clear(&c->answer);
	rc = http_perform(c->http, &hc, e);
	if (rc == 0)
		rc = http_status_err(&hc, e);
	if (rc != 0)
		err_prefix(e, rc, "Consul at %s", c->socket != NULL ? c->socket : c->base);
	if (rc == 0 && ret_index != NULL) {
		(void)num_int(hc.want[0].value, 0, INT64_MAX, &index, NULL); /* absent: 0, the next query does not block */
		*ret_index = (uint64_t)index;
	}
	free(url);
	return rc;
}

/* Service.Address, or Node.Address where it is empty. */
static void
add_entry(const json_t *entry, const char *scheme, const char *node, struct endpoints *found)
{
	const json_t *service = json_object_get(entry, "Service"), *n = json_object_get(entry, "Node");
	const char *address = json_string_value(json_object_get(service, "Address"));
	const char *node_name = json_string_value(json_object_get(n, "Node"));

	if (address == NULL || address[0] == '\0')
		address = json_string_value(json_object_get(n, "Address"));
	endpoints_add(found, scheme, address, json_integer_value(json_object_get(service, "Port")),
	    node[0] != '\0' && node_name != NULL && strcmp(node, node_name) == 0);
}

int
consul_health(struct consul *c, const char *service, const char *tag, const char *scheme, const char *node,
    uint64_t *index, struct endpoints *found, const atomic_bool *stop, struct err *e)
{
	struct buf q = buf_make(1024);
	uint64_t fresh = 0;
	json_t *list, *entry;
	size_t i;
	int rc;

	buf_adds(&q, "/v1/health/service/");
	http_encode(&q, service, false);
	/* near= keeps Consul from its streaming backend, which lets a query hang for all of `wait` while its server starts. */
	buf_adds(&q, "?passing=true&stale=true&near=_agent");
	if (*index > 0)
		buf_addf(&q, "&index=%llu&wait=%ds", (unsigned long long)*index, BLOCK_S);
	if (tag[0] != '\0') {
		buf_adds(&q, "&tag=");
		http_encode(&q, tag, false);
	}
	if (c->cfg.namespace != NULL && c->cfg.namespace[0] != '\0') {
		buf_adds(&q, "&ns=");
		http_encode(&q, c->cfg.namespace, false);
	}
	rc = call(c, "GET", buf_str(&q), NULL, *index > 0 ? (BLOCK_S + BLOCK_S / 16 + 15) * 1000 : LOOK_MS, stop, &fresh, e);
	buf_release(&q);
	if (rc != 0)
		return rc;
	*index = fresh < *index ? 0 : fresh;
	list = json_loadb(buf_str(&c->answer), c->answer.len, 0, NULL);
	if (!json_is_array(list)) {
		json_decref(list);
		return err_set(e, ERR_PROTO, "Consul's answer about service '%s' is not a list", service);
	}
	json_array_foreach(list, i, entry)
		add_entry(entry, scheme, node, found);
	json_decref(list);
	return 0;
}

int
consul_register(const struct consul_config *cfg, const char *name, const char *id, const char *address, int port,
    const char *check_url, struct err *e)
{
	struct consul *c = consul_new(cfg);
	json_t *body = json_pack("{s:s, s:s, s:s, s:i, s:{s:s, s:s, s:s, s:s}}", "Name", name, "ID", id, "Address", address,
	    "Port", port, "Check", "HTTP", check_url, "Interval", "5s", "Timeout", "2s", "DeregisterCriticalServiceAfter", "30m");
	char *text = json_dumps(body, JSON_COMPACT);
	int rc = call(c, "PUT", "/v1/agent/service/register?replace-existing-checks=true", text, 10000, NULL, NULL, e);

	free(text);
	json_decref(body);
	consul_free(c);
	return rc;
}

int
consul_deregister(const struct consul_config *cfg, const char *id, struct err *e)
{
	struct consul *c = consul_new(cfg);
	struct buf path = buf_make(1024);
	int rc;

	buf_adds(&path, "/v1/agent/service/deregister/");
	http_encode(&path, id, false);
	rc = call(c, "PUT", buf_str(&path), NULL, GOODBYE_MS, NULL, NULL, e);
	buf_release(&path);
	consul_free(c);
	return rc;
}
