#include "cluster/nomad_scale.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "cluster/nomad_priv.h"
#include "net/http_client.h"

#define PATH_MAX_BYTES 1024

static int
post_scale(struct nomad *n, const char *job, json_t *body, struct err *e)
{
	char *path = nomad_job_path(job, "/scale");
	int rc = body == NULL ? err_set(e, ERR_INVALID, "a scaling message is not UTF-8") : 0;

	if (rc == 0)
		rc = nomad_call(n, "POST", path, NULL, body, JSON_OBJECT, NULL, e);
	json_decref(body);
	free(path);
	return rc;
}

int
nomad_scale(struct nomad *n, const char *job, const char *group, int64_t count, uint64_t modify_index, const char *message,
    const json_t *meta, struct err *e)
{
	return post_scale(n, job, json_pack("{s:I, s:{s:s}, s:s, s:O*, s:b, s:I}", "Count", (json_int_t)count, "Target", "Group",
	    group, "Message", message, "Meta", meta, "EnforceIndex", 1, "JobModifyIndex", (json_int_t)modify_index), e);
}

int
nomad_scale_note(struct nomad *n, const char *job, const char *group, bool error, const char *message, const json_t *meta,
    struct err *e)
{
	return post_scale(n, job, json_pack("{s:{s:s}, s:b, s:s, s:O*}", "Target", "Group", group, "Error", error, "Message", message,
	    "Meta", meta), e);
}

int
nomad_deployment_active(struct nomad *n, const char *job, bool *ret_active, struct err *e)
{
	static const char *const over[] = {"failed", "successful", "cancelled"};
	char *path = nomad_job_path(job, "/deployments");
	json_t *list = NULL, *one;
	size_t i;
	int rc = nomad_call(n, "GET", path, NULL, NULL, JSON_ARRAY, &list, e);

	free(path);
	*ret_active = false;
	json_array_foreach (list, i, one) {
		const char *status = json_string_value(json_object_get(one, "Status"));
		bool ended = false;

		for (size_t k = 0; k < sizeof(over) / sizeof(over[0]); k++)
			ended = ended || (status != NULL && strcmp(status, over[k]) == 0);
		*ret_active = *ret_active || !ended;
	}
	json_decref(list);
	return rc;
}

int
nomad_draining_nodes(struct nomad *n, json_t **ret_ids, struct err *e)
{
	json_t *nodes = NULL, *node, *ids = json_array();
	size_t i;
	int rc = nomad_call(n, "GET", "/v1/nodes", NULL, NULL, JSON_ARRAY, &nodes, e);

	json_array_foreach (nodes, i, node) {
		if (json_is_true(json_object_get(node, "Drain")))
			json_array_append(ids, json_object_get(node, "ID"));
	}
	json_decref(nodes);
	if (rc == 0)
		*ret_ids = ids;
	else
		json_decref(ids);
	return rc;
}

/* PUT of a variable with one of the lock operations as its query. */
static int
put_lock(struct nomad *n, const char *path, const char *operation, json_t *body, json_t **ret, struct err *e)
{
	struct buf b = buf_make(PATH_MAX_BYTES);
	int rc;

	buf_adds(&b, "/v1/var/");
	http_encode(&b, path, true);
	rc = b.overflow || body == NULL ? err_set(e, ERR_INVALID, "bad path or items of the lock variable") :
	    nomad_call(n, "PUT", buf_str(&b), operation, body, JSON_OBJECT, ret, e);
	json_decref(body);
	buf_release(&b);
	return rc;
}

int
nomad_lock_acquire(struct nomad *n, const char *path, const json_t *items, int64_t ttl_s, int64_t delay_s,
    char id[NOMAD_LOCK_ID_MAX], struct err *e)
{
	char ttl[32], delay[32];
	json_t *answer = NULL;
	const char *got;
	int rc;

	(void)snprintf(ttl, sizeof(ttl), "%llds", (long long)ttl_s);
	(void)snprintf(delay, sizeof(delay), "%llds", (long long)delay_s);
	rc = put_lock(n, path, "lock-acquire", json_pack("{s:s, s:O, s:{s:s, s:s}}", "Path", path, "Items", items, "Lock", "TTL", ttl,
	    "LockDelay", delay), &answer, e);
	if (rc == 0) {
		got = json_string_value(json_object_get(json_object_get(answer, "Lock"), "ID"));
		if (got == NULL || strlen(got) >= NOMAD_LOCK_ID_MAX)
			rc = err_set(e, ERR_PROTO, "Nomad's answer about the lock has no id");
		else
			(void)snprintf(id, NOMAD_LOCK_ID_MAX, "%s", got);
	}
	json_decref(answer);
	return rc;
}

int
nomad_lock_renew(struct nomad *n, const char *path, const char *id, struct err *e)
{
	return put_lock(n, path, "lock-renew", json_pack("{s:s, s:{s:s}}", "Path", path, "Lock", "ID", id), NULL, e);
}

int
nomad_lock_release(struct nomad *n, const char *path, const char *id, struct err *e)
{
	return put_lock(n, path, "lock-release", json_pack("{s:s, s:{s:s}}", "Path", path, "Lock", "ID", id), NULL, e);
}
