#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "dispatcher/retention.h"
#include "dispatcher/submit.h"

#define LABELS_MAX 16
#define LABEL_KEY_MAX 63
#define LABEL_VALUE_MAX 128
#define PARAMS_MAX_BYTES (128 * 1024)

static int
check_labels(const json_t *labels, struct err *e)
{
	const char *key;
	json_t *v;

	if (json_object_size(labels) > LABELS_MAX)
		return err_set(e, ERR_INVALID, "labels: at most %d are allowed", LABELS_MAX);
	json_object_foreach((json_t *)labels, key, v)
	{
		size_t len = strlen(key);

		if (len == 0 || len > LABEL_KEY_MAX ||
		    strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-") != len)
			return err_set(e, ERR_INVALID, "labels: '%.64s' is not a name of letters, digits and . _ / -", key);
		if (!json_is_string(v) || json_string_length(v) > LABEL_VALUE_MAX)
			return err_set(e, ERR_INVALID, "labels/%s: expected a text of at most %d bytes", key, LABEL_VALUE_MAX);
	}
	return 0;
}

static int
check_key(const char *key, struct err *e)
{
	for (const char *p = key; p != NULL && *p != '\0'; p++)
		if (!isprint((unsigned char)*p))
			return err_set(e, ERR_INVALID, "idempotency_key: printable ASCII only");
	return 0;
}

/* The name that a run sees its single file under; empty: the upload's. */
static int
check_name(const char *name, struct err *e)
{
	bool dots = name != NULL && (strcmp(name, ".") == 0 || strcmp(name, "..") == 0);

	for (const char *p = name; p != NULL && *p != '\0'; p++)
		if (*p == '/' || (unsigned char)*p < 0x20 || *p == 0x7f || dots) {
			err_set(e, ERR_INVALID, "target/name: not a plain file name");
			return err_hint(e, "the last part of the path, without control characters");
		}
	return 0;
}

static int
check_kind(const struct submission *s, const struct workflow *w, struct err *e)
{
	static const char *const only[] = {[TARGET_ANY] = NULL, [TARGET_TREE_ONLY] = "tree", [TARGET_FILE_ONLY] = "file"};

	if (strcmp(s->want.kind, "tree") != 0 && strcmp(s->want.kind, "file") != 0)
		return err_set(e, ERR_INVALID, "target/kind: 'tree' or 'file', not '%s'", s->want.kind);
	if (only[w->target] != NULL && strcmp(s->want.kind, only[w->target]) != 0)
		return err_set(e, ERR_INVALID, "workflow %s takes a %s as target", w->name, only[w->target]);
	return 0;
}

static int
check_timeout(const struct workflow *w, int64_t timeout_ms, struct err *e)
{
	char text[32];

	if (timeout_ms <= w->timeout_ms)
		return 0;
	return err_set(e, ERR_INVALID, "timeout_ms: at most %s, as the workflow has it",
	    num_format_duration(w->timeout_ms, text, sizeof(text)));
}

static int
check_retention(const struct config *c, int64_t retention_ms, struct err *e)
{
	char text[32];

	if (retention_ms <= c->retention_max_ms)
		return 0;
	err_set(e, ERR_INVALID, "retention_ms: at most %s", num_format_duration(c->retention_max_ms, text, sizeof(text)));
	return err_hint(e, "RETENTION_MAX of the dispatcher is the bound");
}

static json_t *
spec_of(const struct submission *s, const struct toolbox_workflow *t, json_t *params)
{
	static const char *const isolation[] = {"isolated", "shared", "copy-on-write"};
	const struct workflow *w = t->workflow;
	char key[1200];
	json_t *spec = json_pack("{s:{s:s, s:s, s:I}, s:o, s:o, s:s, s:s, s:s, s:{s:I, s:I, s:I}}", "bundle", "sha256", t->bundle,
	    "key", key_bundle(t->bundle, key, sizeof(key)), "size_bytes", (json_int_t)t->bundle_bytes, "params", params, "labels",
	    s->labels == NULL ? json_object() : json_incref(s->labels), "workflow_version", w->version, "network",
	    w->network_egress ? "egress" : "none", "isolation", isolation[w->isolation], "resources", "cpu_millis",
	    (json_int_t)w->cpu_millis, "memory_bytes", (json_int_t)w->memory_bytes, "disk_bytes", (json_int_t)w->disk_bytes);

	if (s->retention_ms > 0)
		json_object_set_new(spec, "retention_ms", json_integer(s->retention_ms));
	if (s->key != NULL)
		json_object_set_new(spec, "idem", json_pack("{s:s, s:s}", "key", s->key, "digest", s->digest));
	return spec;
}

static int
check_params(const struct submission *s, const struct workflow *w, json_t **ret, struct err *e)
{
	size_t size = s->params_in == NULL ? 0 : json_dumpb(s->params_in, NULL, 0, JSON_COMPACT);
	int rc;

	if (size > PARAMS_MAX_BYTES)
		return err_set(e, ERR_INVALID, "params: more than %d bytes", PARAMS_MAX_BYTES);
	rc = schema_apply(w->parameters, s->params_in, ret, e);
	if (rc == 0)
		return 0;
	if (e->hint[0] == '\0')
		err_hint(e, "`drover workflow show %s` (GET /v1/workflow/%s) describes the parameters", w->name, w->name);
	return err_prefix(e, rc, "params");
}

static int
check_concurrency(struct submission *s, struct err *e)
{
	static const char *const modes[] = {[KEY_QUEUE] = "queue", [KEY_FAIL] = "fail", [KEY_REPLACE] = "replace"};
	static const struct field fields[] = {
		{"key", FIELD_TEXT, offsetof(struct submission, slots.key), false, 0, CORE_KEY_MAX - 1},
		{"limit", FIELD_INT, offsetof(struct submission, slots.limit), false, 1, CORE_KEY_LIMIT_MAX},
		{"mode", FIELD_TEXT, offsetof(struct submission, slots.mode), false, 1, 16},
	};
	int rc = s->concurrency_in == NULL ? 0 : fields_read(s->concurrency_in, fields, sizeof(fields) / sizeof(fields[0]), s, e);

	if (rc != 0)
		return err_prefix(e, rc, "concurrency");
	s->needs.key_limit = s->slots.limit > 0 ? (unsigned)s->slots.limit : 1;
	s->needs.key_mode = KEY_QUEUE;
	for (size_t i = 0; s->slots.mode != NULL; i++) {
		if (i == sizeof(modes) / sizeof(modes[0]))
			return err_set(e, ERR_INVALID, "concurrency: mode: 'queue', 'fail' or 'replace', not '%.20s'", s->slots.mode);
		if (strcmp(s->slots.mode, modes[i]) == 0) {
			s->needs.key_mode = (enum key_mode)i;
			break;
		}
	}
	return 0;
}

int
submission_check(struct dispatcher *d, struct submission *s, struct err *e)
{
	static const enum execution executions[] = {
		[EXECUTION_ANY] = EXEC_ANY, [EXECUTION_WARM] = EXEC_WARM, [EXECUTION_JOB] = EXEC_JOB};
	const struct toolbox_workflow *t = toolbox_find(d->toolbox, s->workflow);
	const struct vertical *v;
	json_t *params;
	int rc;

	if (t == NULL)
		return toolbox_lacks(d->toolbox, s->workflow, e);
	v = toolbox_vertical(d->toolbox, t->workflow->vertical);
	if (v == NULL && !toolbox_whole(d->toolbox))
		return err_set(e, ERR_RETRY, "vertical '%s' is not known yet (toolbox: %.200s)", t->workflow->vertical, toolbox_state(d->toolbox));
	if (v == NULL)
		return err_set(e, ERR_INVALID, "workflow %s wants the vertical '%s', which is not in the toolbox", s->workflow,
		    t->workflow->vertical);
	if ((rc = check_timeout(t->workflow, s->timeout_ms, e)) != 0 || (rc = check_retention(d->config, s->retention_ms, e)) != 0)
		return rc;
	if ((rc = check_name(s->want.name, e)) != 0 || (rc = check_kind(s, t->workflow, e)) != 0 || (rc = check_labels(s->labels, e)) != 0 ||
	    (rc = check_key(s->key, e)) != 0 || (rc = check_concurrency(s, e)) != 0 ||
	    (rc = reuse_parse(s->reuse_in, &s->reuse, e)) != 0 ||
	    (rc = workflow_class(t->workflow, v, &s->needs.class, e)) != 0 || (rc = check_params(s, t->workflow, &params, e)) != 0)
		return rc;
	snprintf(s->needs.vertical, sizeof(s->needs.vertical), "%s", v->name);
	s->needs.execution = executions[t->workflow->execution];
	s->needs.priority = (int)s->priority;
	s->needs.max_wait_ms = s->max_wait_ms;
	s->needs.cpu_millis = t->workflow->cpu_millis;
	s->needs.memory_bytes = t->workflow->memory_bytes;
	if (s->slots.key == NULL && t->workflow->concurrency_key != NULL)
		s->key_template = xstrdup(t->workflow->concurrency_key);
	if (s->retention_ms == 0)
		s->retention_ms = retention_of_workflow(d->config, s->workflow);
	s->needs.timeout_ms = s->timeout_ms > 0 ? s->timeout_ms : t->workflow->timeout_ms;
	s->spec = spec_of(s, t, params);
	return 0;
}
