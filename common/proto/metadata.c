#include "proto/metadata.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "proto/workflow.h"

#define POINTER_MAX 512

int
meta_open(struct meta_doc *d, const char *file, const char *text, size_t len, struct err *e)
{
	int rc;

	*d = (struct meta_doc){.file = file, .e = e};
	rc = yaml_to_json(file, text, len, &d->root, &d->lines, e);
	if (rc == 0 && !json_is_object(d->root))
		rc = meta_bad(d, "", "must be a mapping of keys to values");
	return rc;
}

void
meta_release(struct meta_doc *d)
{
	json_decref(d->root);
	json_decref(d->lines);
	d->root = d->lines = NULL;
}

static int
line_of(const struct meta_doc *d, const char *pointer)
{
	char p[POINTER_MAX];

	snprintf(p, sizeof(p), "%s", pointer);
	for (;;) {
		const json_t *line = json_object_get(d->lines, p);
		char *slash = strrchr(p, '/');

		if (line != NULL)
			return (int)json_integer_value(line);
		if (slash == NULL)
			return 1;
		*slash = '\0';
	}
}

int
meta_bad(struct meta_doc *d, const char *pointer, const char *fmt, ...)
{
	char reason[240];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	return err_set(d->e, ERR_INVALID, "%s:%d: %s%s%s", d->file, line_of(d, pointer), pointer[0] == '/' ? pointer + 1 : pointer,
	    pointer[0] != '\0' ? ": " : "", reason);
}

static const struct meta_key *
find_key(const struct meta_key *keys, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(keys[i].name, name) == 0)
			return &keys[i];
	}
	return NULL;
}

int
meta_object(struct meta_doc *d, const char *pointer, const json_t *value, const struct meta_key *keys, size_t n, void *into)
{
	char at[POINTER_MAX];
	const char *name;
	json_t *v;

	if (!json_is_object(value))
		return meta_bad(d, pointer, "must be a mapping of keys to values");
	json_object_foreach((json_t *)value, name, v) {
		const struct meta_key *key = find_key(keys, n, name);
		int rc;

		snprintf(at, sizeof(at), "%s/%.64s", pointer, name);
		if (key == NULL)
			return meta_bad(d, at, "is not a known key");
		if ((rc = key->take(d, at, v, into)) != 0)
			return rc;
	}
	for (size_t i = 0; i < n; i++) {
		if (keys[i].required && json_object_get(value, keys[i].name) == NULL)
			return meta_bad(d, pointer, "'%s' is missing", keys[i].name);
	}
	return 0;
}

int
meta_text(struct meta_doc *d, const char *pointer, const json_t *v, size_t max, char **ret)
{
	const char *s = json_string_value(v);

	if (s == NULL)
		return meta_bad(d, pointer, "must be text%s", json_is_number(v) ? " (put it in quotes)" : "");
	if (*s == '\0' || json_string_length(v) > max)
		return meta_bad(d, pointer, "must have 1 to %zu bytes", max);
	for (const char *p = s; *p != '\0'; p++) {
		if ((unsigned char)*p < 0x20 && *p != '\n' && *p != '\t')
			return meta_bad(d, pointer, "has a control character");
	}
	free(*ret);
	*ret = xstrdup(s);
	return 0;
}

int
meta_int(struct meta_doc *d, const char *pointer, const json_t *v, int64_t min, int64_t max, int64_t *ret)
{
	if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
		return meta_bad(d, pointer, "must be a whole number from %lld to %lld", (long long)min, (long long)max);
	*ret = json_integer_value(v);
	return 0;
}

int
meta_list(struct meta_doc *d, const char *pointer, const json_t *v, size_t n_max, char ***ret)
{
	size_t n = json_array_size(v);
	char **list;

	if (!json_is_array(v) || n > n_max)
		return meta_bad(d, pointer, "must be a list of at most %zu texts", n_max);
	list = xcalloc(n + 1, sizeof(*list));
	for (size_t i = 0; i < n; i++) {
		char at[POINTER_MAX];
		int rc;

		snprintf(at, sizeof(at), "%s/%zu", pointer, i);
		if ((rc = meta_text(d, at, json_array_get(v, i), 4096, &list[i])) != 0) {
			meta_list_free(list);
			return rc;
		}
	}
	meta_list_free(*ret);
	*ret = list;
	return 0;
}

void
meta_list_free(char **list)
{
	for (size_t i = 0; list != NULL && list[i] != NULL; i++)
		free(list[i]);
	free(list);
}

int
meta_word(struct meta_doc *d, const char *pointer, const json_t *v, const char *const *words, size_t n)
{
	char all[160] = "";
	size_t used = 0;

	for (size_t i = 0; i < n; i++) {
		if (json_is_string(v) && strcmp(json_string_value(v), words[i]) == 0)
			return (int)i;
		if (used < sizeof(all))
			used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", i > 0 ? ", " : "", words[i]);
	}
	meta_bad(d, pointer, "must be one of: %s", all);
	return -1;
}

int
meta_measure(struct meta_doc *d, const char *pointer, const json_t *v,
    int (*parse)(const char *, int64_t, int64_t, int64_t *, struct err *), int64_t min, int64_t max, int64_t *ret)
{
	struct err e = {0};
	char number[32];
	const char *s = json_string_value(v);

	if (json_is_integer(v)) {
		snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(v));
		s = number;
	}
	if (s == NULL)
		return meta_bad(d, pointer, "must be a number with a unit");
	if (parse(s, min, max, ret, &e) != 0)
		return meta_bad(d, pointer, "%s", e.msg);
	return 0;
}
