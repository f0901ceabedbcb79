/* api.h - calls of the dispatcher's API: finding it, saying who we are, JSON both ways. Blocking; one thread. */
#ifndef CLI_API_H
#define CLI_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "cli/options.h"

struct api;

struct api_call {
	const char *method;    /* "GET" */
	const char *path;      /* "/v1/runs?…", percent-encoded */
	json_t *body;          /* borrowed; NULL: none */
	int64_t timeout_ms;    /* 0: 30 s */
	bool deaf;             /* a signal does not end it: for what must not be left unknown */
	/* in place of `body`: */
	long (*read_fn)(void *arg, void *out, size_t len);
	int64_t body_size;
	const char *const *headers; /* NULL-terminated, more of them; NULL: none */
	/* in place of `answer`: takes the body as it comes (no time limit unless timeout_ms) */
	int (*write_fn)(void *arg, const void *data, size_t len);
	void *arg;
	const char *wanted;    /* a header of the answer to keep in `header`; NULL: X-Drover-Index */
	/* filled in */
	json_t *answer;        /* the caller decrefs */
	int status;
	char header[64];
};

/* Prepares for the address of the settings; nothing is sent yet. CONSUL_HTTP_TOKEN_FILE is read where Consul will be asked.
 * ERR_INVALID (not an address), or as that file has it. */
int api_new(struct cli_settings *s, struct api **ret, struct err *e);
void api_free(struct api *a);

/* The address for people, without credentials. */
const char *api_address(const struct api *a);

/* Performs the call. Returns 0, the error that the server sent, or that of http_perform; ERR_CANCELED after a signal. */
int api_do(struct api *a, struct api_call *call, struct err *e);

/* The common case: GET path, the answer in *ret (the caller decrefs; NULL on failure). */
int api_get(struct api *a, const char *path, json_t **ret, struct err *e);

/* True for errors that may pass by themselves: the dispatcher is away, restarts, or is busy. */
bool api_may_pass(int rc);

/* Appends "?name=value" or "&name=value", encoded, to a path; nothing where value is NULL. */
void api_query(struct buf *path, const char *name, const char *value);

/* A path with one encoded part: api_path(&b, "/v1/run/", id, "/logs"). Empties b first. Returns its text. */
const char *api_path(struct buf *b, const char *before, const char *part, const char *after);

#endif
