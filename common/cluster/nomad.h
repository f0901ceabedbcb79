/* nomad.h - Nomad's HTTP API as far as Drover uses it. Blocking calls: worker threads only; one struct nomad per thread.
 *
 * Errors are told apart as the facts demand (a 500 means nothing by itself, the text does): ERR_RETRY transient or ambiguous,
 * ERR_NOTFOUND, ERR_CONFLICT (index), ERR_DENIED (ACL), ERR_INVALID (permanent: will never work as asked).
 * Honours NOMAD_ADDR (also unix://), _REGION, _NAMESPACE, _TOKEN, _HTTP_AUTH, _CACERT, _CAPATH, _CLIENT_CERT, _CLIENT_KEY,
 * _TLS_SERVER_NAME, _SKIP_VERIFY.
 */
#ifndef CLUSTER_NOMAD_H
#define CLUSTER_NOMAD_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct nomad_config { /* texts may be "" or NULL; kept by reference */
	const char *addr; /* "http://127.0.0.1:4646", "https://…", "unix:///path" */
	const char *region, *namespace, *token, *http_auth;
	const char *ca_cert, *ca_path, *client_cert, *client_key, *tls_server_name;
	bool skip_verify;
	const atomic_bool *stop; /* set by another thread: calls end with ERR_CANCELED within 200 ms; NULL: never */
};

struct nomad;

/* A client, never NULL; the config's texts must outlive it. nomad_free(NULL) is allowed. */
struct nomad *nomad_new(const struct nomad_config *c);
void nomad_free(struct nomad *n);

/* HCL2 text with a var-file text to job JSON (new reference). ERR_INVALID carries Nomad's parse message. */
int nomad_parse(struct nomad *n, const char *hcl, const char *variables, json_t **ret_job, struct err *e);

/* The job as Nomad has it (new reference), or ERR_NOTFOUND. */
int nomad_job(struct nomad *n, const char *id, json_t **ret_job, struct err *e);

/* Registers with EnforceIndex (0: must not exist); preserve_counts: with the counts that Nomad has, not the job's. ERR_CONFLICT
 * when the index moved. */
int nomad_register(struct nomad *n, json_t *job, uint64_t enforce_index, bool preserve_counts, struct err *e);

/* Dispatches one child with an idempotency token. meta: object of strings. payload may be NULL. Returns 0 and the child's id in
 * ret_child (>= 192 bytes): the same id for a repeated token. *ret_duplicate tells a repeated token. */
int nomad_dispatch(struct nomad *n, const char *parent, const char *token, const json_t *meta, int priority, char *ret_child,
    size_t child_len, bool *ret_duplicate, struct err *e);

/* Stops (purge false) or purges a job. An unknown job is fine. */
int nomad_stop(struct nomad *n, const char *job, bool purge, struct err *e);

/* All jobs whose id begins with prefix, parents and children, as entries of a listing, with Meta (new reference, array; pages are
 * joined); *ret_index is X-Nomad-Index of the first page. */
int nomad_list(struct nomad *n, const char *prefix, json_t **ret_entries, uint64_t *ret_index, struct err *e);

/* Every node as an entry of a listing, with its resources: each(arg, entry (borrowed)) returns 0 to go on; what it returns else
 * is the result. Needs node:read. */
int nomad_nodes(struct nomad *n, int (*each)(void *arg, const json_t *node), void *arg, struct err *e);

/* Allocations (with task states) of one job; evaluations of one job. New references, arrays. */
int nomad_job_allocs(struct nomad *n, const char *job, json_t **ret_allocs, struct err *e);
int nomad_job_evals(struct nomad *n, const char *job, json_t **ret_evals, struct err *e);

/* Follows the event stream for Job, Allocation and Evaluation from index on; each gets every event object (borrowed) with
 * its index, and NULL for a heartbeat; it returns 0 to go on. Ends with ERR_RETRY (broken: reconnect, list, reconcile),
 * ERR_DENIED (200 and an empty body that ends: no right to it), ERR_CANCELED (stop), or what each returned. */
int nomad_events(struct nomad *n, uint64_t index, int (*each)(void *arg, uint64_t index, const json_t *event), void *arg,
    const atomic_bool *stop, struct err *e);

/* Reads a variable's items (new reference, object). ERR_NOTFOUND. */
int nomad_variable(struct nomad *n, const char *path, json_t **ret_items, struct err *e);

/* Addresses of a Nomad-native service: array of {"Address","Port"} (new reference). */
int nomad_service(struct nomad *n, const char *name, json_t **ret_services, struct err *e);

/* Whether the agent answers and has a leader. */
int nomad_ping(struct nomad *n, struct err *e);

#endif
