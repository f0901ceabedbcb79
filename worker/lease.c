#include "worker/lease.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "storage/object_store.h"

#define TIMEOUT_MAX_MS (30LL * 24 * 3600 * 1000)
#define FILE_NAME_MAX 255
#define MEMORY_DEFAULT_BYTES (INT64_C(512) << 20)
#define CPU_DEFAULT_MILLIS 1000
#define DISK_DEFAULT_BYTES (INT64_C(2) << 30)

/* Copies a text that fits; false otherwise. */
static bool
take(const json_t *o, const char *name, char *out, size_t out_len)
{
	const char *s = json_string_value(json_object_get(o, name));

	if (s == NULL || strlen(s) >= out_len)
		return false;
	memcpy(out, s, strlen(s) + 1);
	return true;
}

static bool
take_int(const json_t *o, const char *name, int64_t min, int64_t max, int64_t *ret)
{
	const json_t *v = json_object_get(o, name);

	*ret = json_integer_value(v);
	return json_is_integer(v) && *ret >= min && *ret <= max;
}

static bool
take_object(const json_t *o, struct lease_object *ret)
{
	return take(o, "key", ret->key, sizeof(ret->key)) && store_key_valid(ret->key) &&
	    take(o, "sha256", ret->sha256, sizeof(ret->sha256)) && sha256_text_valid(ret->sha256) &&
	    take_int(o, "size_bytes", 1, INT64_MAX, &ret->size_bytes);
}

bool
lease_identify(const json_t *o, struct lease_terms *ret)
{
	struct fence f;

	*ret = (struct lease_terms){.attempt = 1};
	return take(o, "run", ret->run, sizeof(ret->run)) && run_id_valid(ret->run) &&
	    take(o, "fence", ret->fence, sizeof(ret->fence)) && fence_parse(ret->fence, &f);
}

/* A name that came with an upload becomes a file name: the last component, without what a file system or shell minds. */
static char *
plain_name(const char *s)
{
	const char *slash = s != NULL ? strrchr(s, '/') : NULL;
	char *name = xstrndup(slash != NULL ? slash + 1 : s != NULL ? s : "", FILE_NAME_MAX);

	for (char *p = name; *p != '\0'; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '_';
	}
	if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		free(name);
		return xstrdup("target");
	}
	return name;
}

static bool
take_target(const json_t *o, struct lease_terms *t)
{
	char kind[8];

	if (!take_object(o, &t->target) || !take(o, "id", t->target_id, sizeof(t->target_id)) || !target_id_valid(t->target_id) ||
	    !take(o, "kind", kind, sizeof(kind)) || (strcmp(kind, "tree") != 0 && strcmp(kind, "file") != 0))
		return false;
	t->tree = strcmp(kind, "tree") == 0;
	t->target_name = plain_name(json_string_value(json_object_get(o, "name")));
	return true;
}

static bool
take_isolation(const json_t *o, struct lease_terms *t)
{
	static const char *const words[] = {[WORKSPACE_ISOLATED] = "isolated", [WORKSPACE_SHARED] = "shared",
	    [WORKSPACE_COPY_ON_WRITE] = "copy-on-write"};
	const char *word = json_string_value(json_object_get(o, "isolation"));

	for (size_t i = 0; word != NULL && i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(words[i], word) == 0) {
			t->isolation = (enum workspace_mode)i;
			return true;
		}
	}
	return false;
}

static int64_t
resource(const json_t *o, const char *name, int64_t instead)
{
	int64_t v = json_integer_value(json_object_get(json_object_get(o, "resources"), name));

	return v > 0 ? v : instead;
}

int
lease_parse(const json_t *o, struct lease_terms *t, struct err *e)
{
	const char *version = json_string_value(json_object_get(o, "workflow_version")), *bad = NULL, *network;

	if (!lease_identify(o, t))
		return err_set(e, ERR_INVALID, "lease: no run or fence");
	network = json_string_value(json_object_get(o, "network"));
	t->workflow_version = xstrdup(version != NULL ? version : "");
	t->params = json_incref(json_object_get(o, "params"));
	t->egress = network != NULL && strcmp(network, "egress") == 0;
	t->cpu_millis = resource(o, "cpu_millis", CPU_DEFAULT_MILLIS);
	t->memory_bytes = resource(o, "memory_bytes", MEMORY_DEFAULT_BYTES);
	t->disk_bytes = resource(o, "disk_bytes", DISK_DEFAULT_BYTES);
	if (!take(o, "workflow", t->workflow, sizeof(t->workflow)) || !workflow_name_valid(t->workflow))
		bad = "workflow";
	else if (!take_int(o, "attempt", 1, 1000000, &t->attempt))
		bad = "attempt";
	else if (!take_int(o, "timeout_ms", 1, TIMEOUT_MAX_MS, &t->timeout_ms))
		bad = "timeout_ms";
	else if (!take_object(json_object_get(o, "bundle"), &t->bundle))
		bad = "bundle";
	else if (!take_target(json_object_get(o, "target"), t))
		bad = "target";
	else if (!take_isolation(o, t))
		bad = "isolation";
	else if (!json_is_object(t->params))
		bad = "params";
	return bad == NULL ? 0 : err_set(e, ERR_INVALID, "lease: '%s' is missing or not usable", bad);
}

void
lease_release(struct lease_terms *t)
{
	free(t->workflow_version);
	free(t->target_name);
	json_decref(t->params);
	*t = (struct lease_terms){.attempt = 1};
}
