/* link.h - calls to the dispatcher: where it is right now, the token, and what an answer means.
 *
 * A struct link is shared by all threads; each thread that calls has a struct link_line of its own (one keep-alive connection).
 * Blocking: never from the loop thread.
 */
#ifndef WORKER_LINK_H
#define WORKER_LINK_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"
#include "cluster/discover.h"

#define LINK_ANSWER_MAX (4 * 1024 * 1024)

struct link;
struct link_line;

/* Keeps d (not owned) and copies the texts; token and ca_cert may be "". NULL-safe free. */
struct link *link_new(struct discover *d, const char *token, const char *ca_cert);
void link_free(struct link *l);

/* When the dispatcher last answered, whatever it said; the time of link_new before that. Any thread. */
int64_t link_heard_mono_ms(const struct link *l);

/* A connection of one thread; nothing is opened before the first call. NULL-safe free. */
struct link_line *link_line_new(struct link *l);
void link_line_free(struct link_line *c);

/* The same from a few that are kept open for threads that come and go; the caller gives it back, and uses it alone until then. */
struct link_line *link_line_borrow(struct link *l);
void link_line_return(struct link_line *c);

/* POSTs a JSON body (borrowed) to path and parses the answer into *ret (new reference). stop may be NULL. Makes one attempt; after
 * one that did not reach the dispatcher, the next goes to another instance. Returns 0, ERR_NOTFOUND (404: register again),
 * ERR_CONFLICT (409), ERR_RETRY, ERR_TIMEOUT, ERR_IO, ERR_CANCELED, or what http_status_err says. */
int link_post(struct link_line *c, const char *path, const json_t *body, int64_t timeout_ms, const atomic_bool *stop,
    json_t **ret, struct err *e);

/* The same with any bytes as the body; path carries the query, percent-encoded. */
int link_post_bytes(struct link_line *c, const char *path, const void *data, size_t len, int64_t timeout_ms,
    const atomic_bool *stop, json_t **ret, struct err *e);

#endif
