/* discover.h - where a service is right now: a fixed URL, a Consul service, or a Nomad-native service.
 *
 *   http://host:port, https://host:port   fixed
 *   consul://NAME[?tag=T&scheme=https]    passing instances, by a blocking query in a thread of its own
 *   nomad://NAME[?scheme=https]           registered instances, polled
 * The last good list is kept when the catalogue is away or says nothing; an endpoint that failed is avoided for a while, growing
 * with repeated failures; same-node instances first. Honours CONSUL_HTTP_ADDR, _TOKEN, _TOKEN_FILE, _AUTH, _SSL, _SSL_VERIFY,
 * CONSUL_CACERT, _CAPATH, _CLIENT_CERT, _CLIENT_KEY, _TLS_SERVER_NAME, _NAMESPACE. Any thread.
 */
#ifndef CLUSTER_DISCOVER_H
#define CLUSTER_DISCOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cluster/nomad.h"

struct consul_config { /* texts may be "" or NULL; kept by reference */
	const char *addr, *token, *http_auth; /* addr: "127.0.0.1:8500", "http://…", "https://…", "unix:///path" */
	const char *ca_cert, *ca_path, *client_cert, *client_key, *tls_server_name, *namespace;
	bool ssl, skip_verify;
};

struct discover;

/* Starts to watch. node (may be NULL): our node's name, to prefer instances on it. ERR_INVALID for an unknown form. */
int discover_new(const char *spec, const struct consul_config *consul, const struct nomad_config *nomad, const char *node,
    struct discover **ret, struct err *e);
void discover_free(struct discover *d);

/* A usable base URL; waits up to wait_ms for the first list. ERR_RETRY when none is known, with the reason. */
int discover_pick(struct discover *d, int64_t wait_ms, char *url, size_t url_len, struct err *e);

/* It could not be reached: avoid it for a while. */
void discover_failed(struct discover *d, const char *url);

/* The same as functions of struct s3_endpoints (arg is the struct discover). */
int discover_pick_s3(void *arg, char *url, size_t url_len, struct err *e);
void discover_failed_s3(void *arg, const char *url);

/* Registers this process in Consul with an HTTP check, or renews it; deregisters. */
int consul_register(const struct consul_config *c, const char *name, const char *id, const char *address, int port,
    const char *check_url, struct err *e);
int consul_deregister(const struct consul_config *c, const char *id, struct err *e);

#endif
