#include "cluster/nomad.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/num.h"
#include "cluster/nomad_priv.h"
#include "net/http_client.h"

#define ANSWER_MAX (64 * 1024 * 1024) /* a listing of some 10,000 children */
#define CALL_TIMEOUT_MS 30000
#define PAGE "500"

struct nomad {
	struct nomad_config cfg;
	struct http_client *http;
	char base[512];         /* scheme and authority */
	const char *socket;     /* unix socket path or NULL */
	char *headers[3];       /* NULL-terminated: token or basic authorisation */
	struct buf answer;      /* of the last call */
	char index[32];         /* X-Nomad-Index and X-Nomad-NextToken of the last call */
	char next_token[512];
};

struct nomad *
nomad_new(const struct nomad_config *c)
{
	struct http_tls tls = {.ca_cert = c->ca_cert, .ca_path = c->ca_path, .client_cert = c->client_cert,
	    .client_key = c->client_key, .server_name = c->tls_server_name, .skip_verify = c->skip_verify};
	struct nomad *n = xcalloc(1, sizeof(*n));
	const char *addr = c->addr != NULL && c->addr[0] != '\0' ? c->addr : "http://127.0.0.1:4646";
	size_t len;

	n->cfg = *c;
	n->http = http_client_new(&tls);
	n->answer = buf_make(ANSWER_MAX);
	if (strncmp(addr, "unix://", 7) == 0) {
		n->socket = addr + 7;
		addr = "http://localhost";
	}
	snprintf(n->base, sizeof(n->base), "%s", addr);
	for (len = strlen(n->base); len > 0 && n->base[len - 1] == '/'; len--)
		n->base[len - 1] = '\0';
	if (c->token != NULL && c->token[0] != '\0')
		n->headers[0] = xasprintf("X-Nomad-Token: %s", c->token);
	else if (c->http_auth != NULL && c->http_auth[0] != '\0') {
		char *b64 = xmalloc(strlen(c->http_auth) * 2 + 8);

		n->headers[0] = xasprintf("Authorization: Basic %s", base64_encode(c->http_auth, strlen(c->http_auth), b64));
		free(b64);
	}
	return n;
}

void
nomad_free(struct nomad *n)
{
	if (n == NULL)
		return;
	http_client_free(n->http);
	buf_release(&n->answer);
	if (n->headers[0] != NULL)
		mem_wipe(n->headers[0], strlen(n->headers[0]));
	free(n->headers[0]);
	free(n);
}

/* Texts by which Nomad tells what a 500 really is (reference: its behaviour at 1.11.3). First match wins. */
static const struct {
	const char *text;
	int code;
} verdicts[] = {
	{"Enforcing job modify index", ERR_CONFLICT},
	{"job scaling blocked due to active deployment", ERR_CONFLICT},
	{"parameterized job not found", ERR_NOTFOUND},
	{"job not found", ERR_NOTFOUND},
	{"variable not found", ERR_NOTFOUND},
	{"No cluster leader", ERR_RETRY},
	{"No path to region", ERR_RETRY},
	{"rpc error", ERR_RETRY},
	{"EOF", ERR_RETRY},
	{"connection reset", ERR_RETRY},
	{"connection refused", ERR_RETRY},
	{"i/o timeout", ERR_RETRY},
	{"context deadline exceeded", ERR_RETRY},
	{"raft", ERR_RETRY},
	{"leadership lost", ERR_RETRY},
	{"shutdown", ERR_RETRY},
	{"Permission denied", ERR_DENIED},
	{"ACL token not found", ERR_DENIED},
	{"ACL token expired", ERR_DENIED},
	{"Dispatch did not provide required meta keys", ERR_INVALID},
	{"Dispatch request included unpermitted metadata keys", ERR_INVALID},
	{"Payload exceeds maximum size", ERR_INVALID},
	{"is stopped", ERR_INVALID},
	{"is not a parameterized job", ERR_INVALID},
	{"dispatch job priority must be between", ERR_INVALID},
	{"is in nonexistent n", ERR_INVALID}, /* namespace or node pool */
	{"is not allowed in namespace", ERR_INVALID},
	{"validation", ERR_INVALID},
	{"Failed to parse", ERR_INVALID},
};

int
nomad_verdict(int status, const char *body)
{
	static const struct {
		int status, code;
	} by_status[] = {{400, ERR_INVALID}, {401, ERR_DENIED}, {403, ERR_DENIED}, {404, ERR_NOTFOUND}, {409, ERR_CONFLICT},
	    {413, ERR_INVALID}, {429, ERR_RETRY}, {502, ERR_RETRY}, {503, ERR_RETRY}, {504, ERR_RETRY}};

	for (size_t i = 0; status >= 400 && i < sizeof(verdicts) / sizeof(verdicts[0]); i++) {
		if (strstr(body, verdicts[i].text) != NULL)
			return verdicts[i].code;
	}
	for (size_t i = 0; i < sizeof(by_status) / sizeof(by_status[0]); i++) {
		if (by_status[i].status == status)
			return by_status[i].code;
	}
	/* An unknown 500 may be either; trying again under the same token cannot do harm, giving up can. */
	return status >= 500 ? ERR_RETRY : ERR_PROTO;
}

/* The capability that a call needs, or NULL where none would help. First match wins. Pure. */
static const char *
right_for(const char *method, const char *path)
{
	static const struct {
		const char *method, *begin, *end, *right;
	} table[] = {
		{"GET", "/v1/jobs", "", "list-jobs"}, {"POST", "/v1/jobs/parse", "", "parse-job"},
		{"PUT", "/v1/jobs", "", "submit-job"}, {"POST", "/v1/job/", "/dispatch", "dispatch-job"},
		{"POST", "/v1/job/", "/scale", "scale-job"}, {"DELETE", "/v1/job/", "", "submit-job"},
		{"GET", "/v1/job/", "", "read-job"}, {"GET", "/v1/service/", "", "read-job"},
	};
	size_t len = strlen(path);

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		size_t end = strlen(table[i].end);

		if (strcmp(method, table[i].method) == 0 && strncmp(path, table[i].begin, strlen(table[i].begin)) == 0 && len >= end &&
		    strcmp(path + len - end, table[i].end) == 0)
			return table[i].right;
	}
	return NULL;
}

/* What an answer of 400 and more says: what it means, in Nomad's words, and what the token lacks. */
static int
refusal(const struct nomad *n, const char *method, const char *path, int status, struct err *e)
{
	const char *body = buf_str(&n->answer), *right = right_for(method, path), *namespace = n->cfg.namespace;
	int rc = nomad_verdict(status, body);

	if (namespace == NULL || namespace[0] == '\0')
		namespace = "default";
	if (rc == ERR_DENIED && right != NULL && strstr(body, "Permission denied") != NULL)
		err_set(e, rc, "Nomad answered %d: Permission denied: the token lacks %s in namespace %.128s", status, right,
		    namespace);
	else
		err_set(e, rc, "Nomad answered %d: %.240s", status, body);
	for (char *p = e != NULL ? e->msg : NULL; p != NULL && *p != '\0'; p++) {
		if ((unsigned char)*p < 0x20)
			*p = ' ';
	}
	return rc;
}

/* Region, namespace and the caller's query behind the path. */
static void
build_url(struct nomad *n, const char *path, const char *query, struct buf *url)
{
	char sep = '?';

	buf_addf(url, "%s%s", n->base, path);
	if (n->cfg.region != NULL && n->cfg.region[0] != '\0') {
		buf_addf(url, "%cregion=", sep);
		http_encode(url, n->cfg.region, false);
		sep = '&';
	}
	if (n->cfg.namespace != NULL && n->cfg.namespace[0] != '\0') {
		buf_addf(url, "%cnamespace=", sep);
		http_encode(url, n->cfg.namespace, false);
		sep = '&';
	}
	if (query != NULL && query[0] != '\0')
		buf_addf(url, "%c%s", sep, query);
}

/* One call; body (may be NULL) is sent as JSON; the answer's text is in n->answer. */
static int
call(struct nomad *n, const char *method, const char *path, const char *query, const json_t *body, struct err *e)
{
	struct buf url = buf_make(4096);
	char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
	const char *const headers[] = {n->headers[0] != NULL ? n->headers[0] : "Accept: application/json", NULL};
	struct http_call c = {.method = method, .unix_socket = n->socket, .headers = headers, .body = text,
	    .body_len = text != NULL ? strlen(text) : 0, .out = &n->answer, .timeout_ms = CALL_TIMEOUT_MS,
	    .stop = n->cfg.stop, .n_want = 2};
	int rc;

	snprintf(c.want[0].name, sizeof(c.want[0].name), "X-Nomad-Index");
	snprintf(c.want[1].name, sizeof(c.want[1].name), "X-Nomad-NextToken");
	build_url(n, path, query, &url);
	c.url = buf_str(&url);
	buf_clear(&n->answer);
	rc = url.overflow ? err_set(e, ERR_INVALID, "Nomad address or name too long") : http_perform(n->http, &c, e);
	if (rc == 0 && c.status >= 400) {
		rc = refusal(n, method, path, c.status, e);
	} else if (rc != 0) {
		err_prefix(e, rc, "Nomad at %s", n->socket != NULL ? n->socket : n->base);
	}
	snprintf(n->index, sizeof(n->index), "%.31s", c.want[0].value);
	snprintf(n->next_token, sizeof(n->next_token), "%.511s", c.want[1].value);
	buf_release(&url);
	free(text);
	return rc;
}

/* As call, and the answer parsed as a JSON value of the given type. */
static int
call_json(struct nomad *n, const char *method, const char *path, const char *query, const json_t *body, json_type type,
    json_t **ret, struct err *e)
{
	json_error_t je;
	json_t *v;
	int rc = call(n, method, path, query, body, e);

	if (rc != 0)
		return rc;
	v = json_loadb(buf_str(&n->answer), n->answer.len, JSON_DECODE_ANY, &je);
	/* A big answer's memory is not kept until the next call. */
	if (n->answer.cap > 256 * 1024)
		buf_release(&n->answer);
	if (v != NULL && json_is_null(v) && type == JSON_ARRAY) {
		json_decref(v);
		v = json_array(); /* Go writes an empty list as null */
	}
	if (v == NULL || json_typeof(v) != type) {
		json_decref(v);
		return err_set(e, ERR_PROTO, "Nomad's answer to %s %s is not what was expected", method, path);
	}
	*ret = v;
	return 0;
}

int
nomad_call(struct nomad *n, const char *method, const char *path, const char *query, const json_t *body, json_type type,
    json_t **ret, struct err *e)
{
	return ret != NULL ? call_json(n, method, path, query, body, type, ret, e) : call(n, method, path, query, body, e);
}

/* Children's ids hold slashes. */
char *
nomad_job_path(const char *id, const char *rest)
{
	struct buf b = buf_make(2048);

	buf_adds(&b, "/v1/job/");
	http_encode(&b, id, false);
	buf_adds(&b, rest);
	return buf_take(&b);
}

int
nomad_parse(struct nomad *n, const char *hcl, const char *variables, json_t **ret_job, struct err *e)
{
	json_t *body = json_pack("{s:s, s:s, s:b}", "JobHCL", hcl, "Variables", variables, "Canonicalize", 1);
	int rc;

	if (body == NULL)
		return err_set(e, ERR_INVALID, "the job file or its variables are not valid UTF-8");
	rc = call_json(n, "POST", "/v1/jobs/parse", NULL, body, JSON_OBJECT, ret_job, e);
	json_decref(body);
	return rc;
}

int
nomad_job(struct nomad *n, const char *id, json_t **ret_job, struct err *e)
{
	char *path = nomad_job_path(id, "");
	int rc = call_json(n, "GET", path, NULL, NULL, JSON_OBJECT, ret_job, e);

	free(path);
	return rc;
}

int
nomad_register(struct nomad *n, json_t *job, uint64_t enforce_index, bool preserve_counts, struct err *e)
{
	json_t *body = json_pack("{s:O, s:b, s:I, s:b}", "Job", job, "EnforceIndex", 1, "JobModifyIndex",
	    (json_int_t)enforce_index, "PreserveCounts", preserve_counts);
	int rc = call(n, "PUT", "/v1/jobs", NULL, body, e);

	json_decref(body);
	return rc;
}

int
nomad_dispatch(struct nomad *n, const char *parent, const char *token, const json_t *meta, int priority, char *ret_child,
    size_t child_len, bool *ret_duplicate, struct err *e)
{
	json_t *body = json_pack("{s:O*, s:s, s:i}", "Meta", meta, "IdempotencyToken", token, "Priority", priority);
	json_t *answer = NULL;
	char *path = nomad_job_path(parent, "/dispatch");
	const char *child, *eval;
	int rc = call_json(n, "POST", path, NULL, body, JSON_OBJECT, &answer, e);

	if (rc == 0) {
		child = json_string_value(json_object_get(answer, "DispatchedJobID"));
		eval = json_string_value(json_object_get(answer, "EvalID"));
		if (child == NULL || strlen(child) >= child_len)
			rc = err_set(e, ERR_PROTO, "Nomad's dispatch answer names no child");
		else
			snprintf(ret_child, child_len, "%s", child);
		*ret_duplicate = eval == NULL || eval[0] == '\0';
	}
	json_decref(answer);
	json_decref(body);
	free(path);
	return rc;
}

int
nomad_stop(struct nomad *n, const char *job, bool purge, struct err *e)
{
	char *path = nomad_job_path(job, "");
	int rc = call(n, "DELETE", path, purge ? "purge=true" : NULL, NULL, e);

	free(path);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

int
nomad_list(struct nomad *n, const char *prefix, json_t **ret_entries, uint64_t *ret_index, struct err *e)
{
	json_t *all = json_array();
	struct buf query = buf_make(4096);
	bool first = true;
	int rc;

	n->next_token[0] = '\0';
	do {
		json_t *page = NULL;

		buf_clear(&query);
		buf_adds(&query, "meta=true&per_page=" PAGE "&prefix=");
		http_encode(&query, prefix, false);
		if (n->next_token[0] != '\0') {
			buf_adds(&query, "&next_token=");
			http_encode(&query, n->next_token, false);
		}
		rc = call_json(n, "GET", "/v1/jobs", buf_str(&query), NULL, JSON_ARRAY, &page, e);
		if (rc != 0)
			break;
		if (first) {
			int64_t index = 0;

			(void)num_int(n->index, 0, INT64_MAX, &index, NULL); /* absent: 0, the stream replays its buffer */
			*ret_index = (uint64_t)index;
		}
		first = false;
		json_array_extend(all, page);
		json_decref(page);
	} while (n->next_token[0] != '\0');
	buf_release(&query);
	if (rc == 0)
		*ret_entries = all;
	else
		json_decref(all);
	return rc;
}

int
nomad_nodes(struct nomad *n, int (*each)(void *arg, const json_t *node), void *arg, struct err *e)
{
	struct buf query = buf_make(4096);
	int rc;

	n->next_token[0] = '\0';
	do {
		json_t *page = NULL, *node;
		size_t i;

		buf_clear(&query);
		buf_adds(&query, "resources=true&per_page=" PAGE);
		if (n->next_token[0] != '\0') {
			buf_adds(&query, "&next_token=");
			http_encode(&query, n->next_token, false);
		}
		rc = call_json(n, "GET", "/v1/nodes", buf_str(&query), NULL, JSON_ARRAY, &page, e);
		json_array_foreach(page, i, node) {
			if (rc == 0)
				rc = each(arg, node);
		}
		json_decref(page);
	} while (rc == 0 && n->next_token[0] != '\0');
	buf_release(&query);
	return rc;
}

int
nomad_job_allocs(struct nomad *n, const char *job, json_t **ret_allocs, struct err *e)
{
	char *path = nomad_job_path(job, "/allocations");
	int rc = call_json(n, "GET", path, "task_states=true&all=true", NULL, JSON_ARRAY, ret_allocs, e);

	free(path);
	return rc;
}

int
nomad_job_evals(struct nomad *n, const char *job, json_t **ret_evals, struct err *e)
{
	char *path = nomad_job_path(job, "/evaluations");
	int rc = call_json(n, "GET", path, NULL, NULL, JSON_ARRAY, ret_evals, e);

	free(path);
	return rc;
}

int
nomad_variable(struct nomad *n, const char *path, json_t **ret_items, struct err *e)
{
	struct buf b = buf_make(1024);
	json_t *v = NULL, *items;
	int rc;

	buf_adds(&b, "/v1/var/");
	http_encode(&b, path, true);
	rc = call_json(n, "GET", buf_str(&b), NULL, NULL, JSON_OBJECT, &v, e);
	buf_release(&b);
	if (rc != 0)
		return rc;
	items = json_object_get(v, "Items");
	if (json_is_object(items))
		*ret_items = json_incref(items);
	else
		rc = err_set(e, ERR_PROTO, "Nomad variable '%s' has no items", path);
	json_decref(v);
	return rc;
}

int
nomad_service(struct nomad *n, const char *name, json_t **ret_services, struct err *e)
{
	struct buf b = buf_make(1024);
	int rc;

	buf_adds(&b, "/v1/service/");
	http_encode(&b, name, false);
	rc = call_json(n, "GET", buf_str(&b), NULL, NULL, JSON_ARRAY, ret_services, e);
	buf_release(&b);
	return rc;
}

int
nomad_ping(struct nomad *n, struct err *e)
{
	int rc = call(n, "GET", "/v1/status/leader", NULL, NULL, e);

	if (rc == 0 && n->answer.len <= 2)
		rc = err_set(e, ERR_RETRY, "Nomad has no leader");
	return rc;
}

int
nomad_stream(struct nomad *n, uint64_t index, int (*write_fn)(void *arg, const void *data, size_t len), void *arg,
    const atomic_bool *stop, struct err *e)
{
	struct buf url = buf_make(4096);
	char query[160];
	const char *const headers[] = {n->headers[0] != NULL ? n->headers[0] : "Accept: application/json", NULL};
	/* Heartbeats come every 10 s at the latest after 30 s of silence; twice that without a byte means a dead peer. */
	struct http_call c = {.method = "GET", .unix_socket = n->socket, .headers = headers, .out = &n->answer,
	    .write_fn = write_fn, .arg = arg, .stall_ms = 60000, .stop = stop};
	int rc;

	snprintf(query, sizeof(query), "topic=Job&topic=Allocation&topic=Evaluation&index=%llu", (unsigned long long)index);
	build_url(n, "/v1/event/stream", query, &url);
	c.url = buf_str(&url);
	buf_clear(&n->answer);
	rc = http_perform(n->http, &c, e);
	if (rc == 0 && c.status >= 400) {
		rc = nomad_verdict(c.status, buf_str(&n->answer));
		err_set(e, rc, "Nomad's event stream answered %d: %.200s", c.status, buf_str(&n->answer));
	}
	buf_release(&url);
	return rc;
}
