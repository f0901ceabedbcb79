#include "proto/json_out.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* --- strings --- */

static void
add_unit(struct buf *b, uint32_t unit)
{
	static const char hex[] = "0123456789ABCDEF";
	const char text[] = {'\\', 'u', hex[unit >> 12 & 15], hex[unit >> 8 & 15], hex[unit >> 4 & 15], hex[unit & 15]};

	buf_add(b, text, sizeof(text));
}

/* One character that cannot stand for itself; how many bytes of s it takes. */
static size_t
add_escaped(struct buf *b, const char *s, size_t n)
{
	static const char short_for[] = "b\bf\fn\nr\rt\t\"\"\\\\"; /* letter and character */
	uint32_t c;
	int len;

	for (size_t i = 0; i + 1 < sizeof(short_for); i += 2) {
		if (s[0] == short_for[i + 1]) {
			const char text[] = {'\\', short_for[i]};

			buf_add(b, text, 2);
			return 1;
		}
	}
	len = utf8_decode(s, n, &c);
	if (len <= 0) {
		buf_addc(b, '?');
		return 1;
	}
	if (c < 0x10000) {
		add_unit(b, c);
	} else {
		add_unit(b, 0xd800 + ((c - 0x10000) >> 10));
		add_unit(b, 0xdc00 + ((c - 0x10000) & 0x3ff));
	}
	return (size_t)len;
}

static void
add_string(struct buf *b, const char *s, size_t n)
{
	size_t plain = 0;

	buf_addc(b, '"');
	while (plain < n) {
		unsigned char c = (unsigned char)s[plain];

		if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
			plain++;
			continue;
		}
		buf_add(b, s, plain);
		s += plain;
		n -= plain;
		plain = add_escaped(b, s, n);
		s += plain;
		n -= plain;
		plain = 0;
	}
	buf_add(b, s, plain);
	buf_addc(b, '"');
}

/* --- members --- */

/* What goes before a value: a comma unless it is the first in its bracket, and its key. */
static void
begin(struct buf *b, const char *key)
{
	/* An opening bracket at the end of a string is followed by its quote. */
	if (b->len > 0 && b->data[b->len - 1] != '{' && b->data[b->len - 1] != '[')
		buf_addc(b, ',');
	if (key != NULL) {
		add_string(b, key, strlen(key));
		buf_addc(b, ':');
	}
}

static void
add_int(struct buf *b, int64_t n)
{
	char digits[24], *at = digits + sizeof(digits);
	uint64_t rest = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;

	do {
		*--at = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest > 0);
	if (n < 0)
		*--at = '-';
	buf_add(b, at, (size_t)(digits + sizeof(digits) - at));
}

void
json_out_open(struct buf *b, const char *key, char bracket)
{
	begin(b, key);
	buf_addc(b, bracket);
}

void
json_out_close(struct buf *b, char bracket)
{
	buf_addc(b, bracket);
}

void
json_out_text(struct buf *b, const char *key, const char *text)
{
	begin(b, key);
	if (text == NULL)
		buf_add(b, "null", 4);
	else
		add_string(b, text, strlen(text));
}

void
json_out_int(struct buf *b, const char *key, int64_t n)
{
	begin(b, key);
	add_int(b, n);
}

void
json_out_bool(struct buf *b, const char *key, bool yes)
{
	begin(b, key);
	buf_adds(b, yes ? "true" : "false");
}

void
json_out_raw(struct buf *b, const char *key, const char *json, size_t len)
{
	begin(b, key);
	buf_add(b, json, len);
}

/* Numbers with a fraction are few: jansson knows how to write them. */
static void
add_real(struct buf *b, const json_t *v)
{
	char *text = json_dumps(v, JSON_ENCODE_ANY);

	if (text == NULL)
		abort(); /* only without memory */
	buf_adds(b, text);
	free(text);
}

void
json_out_value(struct buf *b, const char *key, const json_t *v)
{
	const char *name;
	json_t *in;
	size_t i;

	begin(b, key);
	switch (v == NULL ? JSON_NULL : json_typeof(v)) {
	case JSON_OBJECT:
		buf_addc(b, '{');
		json_object_foreach((json_t *)v, name, in)
			json_out_value(b, name, in);
		buf_addc(b, '}');
		break;
	case JSON_ARRAY:
		buf_addc(b, '[');
		json_array_foreach(v, i, in)
			json_out_value(b, NULL, in);
		buf_addc(b, ']');
		break;
	case JSON_STRING:
		add_string(b, json_string_value(v), json_string_length(v));
		break;
	case JSON_INTEGER:
		add_int(b, json_integer_value(v));
		break;
	case JSON_REAL:
		add_real(b, v);
		break;
	case JSON_TRUE:
		buf_add(b, "true", 4);
		break;
	case JSON_FALSE:
		buf_add(b, "false", 5);
		break;
	default:
		buf_add(b, "null", 4);
		break;
	}
}

/* --- looking into a text --- */

struct json_shape
json_shape(const char *text, size_t len)
{
	struct json_shape shape = {0};
	size_t depth = 0;
	bool quoted = false;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (quoted && c == '\\')
			i++;
		else if (c == '"')
			quoted = !quoted;
		else if (quoted)
			continue;
		else if (c == '{' || c == '[') {
			shape.containers++;
			depth++;
			shape.depth = depth > shape.depth ? depth : shape.depth;
		} else if (c == '}' || c == ']')
			depth -= depth > 0;
		else if (c == ',' || c == ':')
			shape.values++;
	}
	return shape;
}

bool
json_is_shallow(const char *text, size_t len)
{
	return json_shape(text, len).depth <= JSON_DEPTH_MAX;
}

static const char *
skip_space(const char *p)
{
	return p + strspn(p, " \t\r\n");
}

/* Past the string whose quote stands at p; NULL: it does not end. */
static const char *
skip_string(const char *p)
{
	for (p++; *p != '"'; p++) {
		if (*p == '\\' && p[1] != '\0')
			p++;
		else if (*p == '\0')
			return NULL;
	}
	return p + 1;
}

/* Past the value at p; NULL: it does not end. */
static const char *
skip_value(const char *p)
{
	size_t depth = 0;

	do {
		if (*p == '"') {
			p = skip_string(p);
			if (p == NULL)
				return NULL;
			continue;
		}
		if (*p == '\0')
			return NULL;
		depth += *p == '{' || *p == '[';
		depth -= *p == '}' || *p == ']';
		p++;
	} while (depth > 0 || strchr(",}] \t\r\n", *p) == NULL);
	return p;
}

static struct json_part *
part_of(struct json_part *parts, size_t n, const char *name, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (strncmp(parts[i].key, name, len) == 0 && parts[i].key[len] == '\0')
			return &parts[i];
	return NULL;
}

void
json_members(const char *json, struct json_part *parts, size_t n)
{
	const char *p = skip_space(json);
	size_t found = 0;

	if (*p != '{')
		return;
	for (p = skip_space(p + 1); *p == '"' && found < n; p = skip_space(p + (*p == ','))) {
		const char *name = p + 1, *value;
		struct json_part *part;

		if ((p = skip_string(p)) == NULL)
			return;
		part = part_of(parts, n, name, (size_t)(p - 1 - name));
		p = skip_space(p);
		if (*p != ':')
			return;
		value = skip_space(p + 1);
		if ((p = skip_value(value)) == NULL)
			return;
		if (part != NULL && part->value == NULL) {
			part->value = value;
			part->len = (size_t)(p - value);
			found++;
		}
		p = skip_space(p);
	}
}

const char *
json_member(const char *json, const char *key, size_t *ret_len)
{
	struct json_part part = {.key = key};

	json_members(json, &part, 1);
	if (part.value != NULL)
		*ret_len = part.len;
	return part.value;
}
