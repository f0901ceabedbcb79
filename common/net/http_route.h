/* http_route.h - which row of the route table a request belongs to, and percent-decoding. Pure. Private to common/net. */
#ifndef NET_HTTP_ROUTE_H
#define NET_HTTP_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "net/http_server.h"

#define HTTP_PARAMS_MAX 8

/* Path parameters of one request: names point into the route, values are owned. */
struct http_params {
	struct {
		const char *name;
		size_t name_len;
		char *value;
	} at[HTTP_PARAMS_MAX];
	size_t n;
};

/* Decodes len bytes of percent-encoded text into a new string. NULL where it is malformed: a bad escape, a NUL, or bytes
 * that are not UTF-8. The caller frees. */
char *http_decode(const char *s, size_t len);

/* Finds the route of a method ("HEAD" finds "GET") and a raw path without its query. Returns 0 with *ret_route and *params
 * filled; 400 for a path that cannot be decoded, 404, or 405 with the methods that are allowed in *allow ("GET, HEAD").
 * *params must be empty, and released by the caller in every case. */
int http_route_find(const struct http_route *routes, size_t n, const char *method, const char *path,
    const struct http_route **ret_route, struct http_params *params, struct buf *allow);

/* Frees the values. */
void http_params_release(struct http_params *p);

#endif
