#include "proto/key_template.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"

#define RENDERED_MAX (256 * 1024) /* a template may name a large parameter several times; parameters are bounded at 128 KiB */
#define PARAMS "params."

/* The next piece of a template: literal text, or a name between "${" and "}". False at the end; *bad: a "$" that opens nothing. */
static bool
piece(const char **at, const char **text, size_t *len, bool *is_name, bool *bad)
{
	const char *p = *at, *end;

	*bad = false;
	if (*p == '\0')
		return false;
	*is_name = p[0] == '$' && p[1] == '{';
	*text = *is_name ? p + 2 : p;
	if (*is_name) {
		end = strchr(p, '}');
		*bad = end == NULL;
		*len = *bad ? strlen(p + 2) : (size_t)(end - p - 2);
		*at = *bad ? p + strlen(p) : end + 1;
	} else if (*p == '$') {
		*bad = p[1] != '$';
		*len = 1;
		*at = p + (*bad ? 1 : 2);
	} else {
		*len = strcspn(p, "$");
		*at = p + *len;
	}
	return true;
}

static bool
named(const char *text, size_t len, const char *name)
{
	return strlen(name) == len && memcmp(text, name, len) == 0;
}

static json_t *
param(const json_t *object, const char *text, size_t len)
{
	char name[KEY_TEMPLATE_MAX + 1];

	if (len <= strlen(PARAMS) || len > KEY_TEMPLATE_MAX || memcmp(text, PARAMS, strlen(PARAMS)) != 0)
		return NULL;
	snprintf(name, sizeof(name), "%.*s", (int)(len - strlen(PARAMS)), text + strlen(PARAMS));
	return json_object_get(object, name);
}

int
key_template_check(const char *text, const json_t *schema, struct err *e)
{
	const json_t *properties = json_object_get(schema, "properties");
	const char *part;
	bool is_name, bad;
	size_t len;

	if (strlen(text) > KEY_TEMPLATE_MAX)
		return err_set(e, ERR_INVALID, "more than %d bytes", KEY_TEMPLATE_MAX);
	while (piece(&text, &part, &len, &is_name, &bad)) {
		if (bad)
			return err_set(e, ERR_INVALID, "a '$' that begins neither ${NAME} nor $$");
		if (is_name && !named(part, len, "target") && !named(part, len, "workflow") && param(properties, part, len) == NULL) {
			err_set(e, ERR_INVALID, "${%.*s} is not known", (int)(len < 64 ? len : 64), part);
			return err_hint(e, "${target}, ${workflow}, and ${params.NAME} of a parameter that the workflow has");
		}
	}
	return 0;
}

static void
add_value(struct buf *b, const json_t *v)
{
	char *text;

	if (v == NULL)
		return;
	if (json_is_string(v)) {
		buf_adds(b, json_string_value(v));
		return;
	}
	text = json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
	buf_adds(b, text != NULL ? text : "");
	free(text);
}

void
key_template_render(const char *text, const struct key_values *v, char *out, size_t out_len)
{
	struct buf b = buf_make(RENDERED_MAX);
	uint8_t hash[SHA256_LEN];
	const char *part;
	bool is_name, bad;
	size_t len;

	assert(out_len >= sizeof("sha256:") + 2 * sizeof(hash));
	while (piece(&text, &part, &len, &is_name, &bad)) {
		if (!is_name)
			buf_add(&b, part, len);
		else if (named(part, len, "target"))
			buf_adds(&b, v->target);
		else if (named(part, len, "workflow"))
			buf_adds(&b, v->workflow);
		else
			add_value(&b, param(v->params, part, len));
	}
	if (b.len < out_len) {
		snprintf(out, out_len, "%s", buf_str(&b));
	} else {
		sha256_of(buf_str(&b), b.len, hash);
		memcpy(out, "sha256:", 7);
		hex_encode(hash, sizeof(hash), out + 7);
	}
	buf_release(&b);
}
