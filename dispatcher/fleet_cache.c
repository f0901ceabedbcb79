#include "dispatcher/fleet_cache.h"

#include <stdio.h>
#include <string.h>

#include "base/digest.h"

#define KEY_BYTES 8

static const struct {
	const char *name;
	size_t at;
} numbers[] = {
#define NUMBER(name) {#name, offsetof(struct fleet_cache, name)}
	NUMBER(bytes), NUMBER(max_bytes), NUMBER(entries), NUMBER(pinned_bytes), NUMBER(hits), NUMBER(misses), NUMBER(evictions),
	NUMBER(damaged), NUMBER(free_bytes),
#undef NUMBER
};
#define N_NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

static int64_t *
field(struct fleet_cache *c, size_t i)
{
	return (int64_t *)(void *)((char *)c + numbers[i].at);
}

static int
parse_text(const json_t *o, const char *name, char *out, size_t out_len, struct err *e)
{
	const json_t *v = json_object_get(o, name);
	const char *s = json_string_value(v);

	out[0] = '\0';
	if (v == NULL)
		return 0;
	if (s == NULL || strlen(s) >= out_len || strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(s))
		return err_set(e, ERR_INVALID, "cache: %s: a word of at most %zu letters, digits and dashes", name, out_len - 1);
	snprintf(out, out_len, "%s", s);
	return 0;
}

static int
parse_holds(const json_t *list, struct fleet_cache *ret, struct err *e)
{
	size_t i;
	json_t *v;

	if (list != NULL && (!json_is_array(list) || json_array_size(list) > FLEET_HOLDS_MAX))
		return err_set(e, ERR_INVALID, "cache: holds: a list of at most %d digests", FLEET_HOLDS_MAX);
	json_array_foreach(list, i, v)
	{
		uint8_t key[KEY_BYTES];

		if (!json_is_string(v) || !hex_decode(json_string_value(v), KEY_BYTES, key))
			return err_set(e, ERR_INVALID, "cache: holds: 16 hex digits each");
		for (size_t k = 0; k < KEY_BYTES; k++)
			ret->holds[ret->n_holds] = ret->holds[ret->n_holds] << 8 | key[k];
		ret->n_holds++;
	}
	return 0;
}

int
fleet_cache_parse(const json_t *o, struct fleet_cache *ret, struct err *e)
{
	int rc;

	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < N_NUMBERS; i++) {
		const json_t *v = json_object_get(o, numbers[i].name);

		if (v != NULL && (!json_is_integer(v) || json_integer_value(v) < 0))
			return err_set(e, ERR_INVALID, "cache: %s: a number from 0 on", numbers[i].name);
		*field(ret, i) = json_integer_value(v);
	}
	if ((rc = parse_text(o, "id", ret->id, sizeof(ret->id), e)) != 0 ||
	    (rc = parse_text(o, "workspace_method", ret->workspace_method, sizeof(ret->workspace_method), e)) != 0)
		return rc;
	return parse_holds(json_object_get(o, "holds"), ret, e);
}

json_t *
fleet_cache_json(const struct fleet_cache *c)
{
	struct fleet_cache copy = *c;
	json_t *o = json_pack("{s:s, s:s, s:I}", "id", c->id, "workspace_method", c->workspace_method, "holds", (json_int_t)c->n_holds);

	for (size_t i = 0; i < N_NUMBERS; i++)
		json_object_set_new(o, numbers[i].name, json_integer(*field(&copy, i)));
	return o;
}
