/* endpoints.h - the list behind discover.h: which instance to use next, and which to avoid for a while. Pure; not thread-safe. */
#ifndef CLUSTER_ENDPOINTS_H
#define CLUSTER_ENDPOINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENDPOINTS_MAX 64
#define ENDPOINT_URL_MAX 256
#define AVOID_FIRST_MS 1000 /* after the first failure; doubles with each further one */
#define AVOID_MAX_MS 60000

struct endpoint {
	char url[ENDPOINT_URL_MAX];
	bool near;               /* on our own node */
	unsigned failures;       /* in a row */
	int64_t avoid_until_mono_ms;
};

struct endpoints { /* zeroed: empty */
	struct endpoint items[ENDPOINTS_MAX];
	size_t n;
	size_t turn; /* round robin */
};

/* Adds "<scheme>://<address>:<port>" (IPv6 in brackets) or a URL without a trailing slash; what is not usable, a repetition, or
 * over ENDPOINTS_MAX is left out. endpoints_add_url returns 0 or -1. */
void endpoints_add(struct endpoints *l, const char *scheme, const char *address, int64_t port, bool near);
int endpoints_add_url(struct endpoints *l, const char *url);

/* Replaces the list; failures of instances that stay are remembered. */
void endpoints_replace(struct endpoints *l, const struct endpoints *fresh);

/* The next usable instance in turn, near ones first; when all are being avoided, the one whose time is up first. Returns 0 and
 * copies its URL (a success clears nothing: an instance is trusted again when its time is up), or -1 when the list is empty. */
int endpoints_pick(struct endpoints *l, int64_t now_mono_ms, char *url, size_t url_len);

/* It could not be reached. */
void endpoints_failed(struct endpoints *l, const char *url, int64_t now_mono_ms);

#endif
