#include "net/http_route.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/mem.h"

/* --- decoding --- */

/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
static bool
is_utf8(const unsigned char *s)
{
	while (*s != '\0') {
		uint32_t cp, least;
		size_t more;

		if (*s < 0x80) {
			s++;
			continue;
		}
		if ((*s & 0xe0) == 0xc0) {
			more = 1, least = 0x80, cp = *s & 0x1f;
		} else if ((*s & 0xf0) == 0xe0) {
			more = 2, least = 0x800, cp = *s & 0x0f;
		} else if ((*s & 0xf8) == 0xf0) {
			more = 3, least = 0x10000, cp = *s & 0x07;
		} else {
			return false;
		}
		for (s++; more > 0; more--, s++) {
			if ((*s & 0xc0) != 0x80)
				return false;
			cp = cp << 6 | (*s & 0x3f);
		}
		if (cp < least || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
			return false;
	}
	return true;
}

char *
http_decode(const char *s, size_t len)
{
	char *out = xmalloc(len + 1);
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		int hi, lo;

		out[n] = s[i];
		if (s[i] == '%') {
			hi = i + 2 < len ? hex_digit(s[i + 1]) : -1;
			lo = i + 2 < len ? hex_digit(s[i + 2]) : -1;
			if (hi < 0 || lo < 0)
				goto bad;
			out[n] = (char)(hi << 4 | lo);
			i += 2;
		}
		if (out[n++] == '\0')
			goto bad;
	}
	out[n] = '\0';
	if (is_utf8((const unsigned char *)out))
		return out;
bad:
	free(out);
	return NULL;
}

/* --- matching --- */

void
http_params_release(struct http_params *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->at[i].value);
	p->n = 0;
}

/* Adds a parameter; false if its value is malformed. */
static bool
add_param(struct http_params *p, const char *name, size_t name_len, const char *raw, size_t raw_len)
{
	char *value = http_decode(raw, raw_len);

	if (value == NULL)
		return false;
	assert(p->n < HTTP_PARAMS_MAX);
	p->at[p->n].name = name;
	p->at[p->n].name_len = name_len;
	p->at[p->n].value = value;
	p->n++;
	return true;
}

/* Matches a path with a pattern, segment by segment. Returns 0, 404, or 400 (matches, but holds malformed text). */
static int
match(const char *pattern, const char *path, struct http_params *params)
{
	int rc = 0;

	while (*pattern == '/' && *path == '/') {
		size_t want_len, len;

		pattern++, path++;
		want_len = strcspn(pattern, "/");
		len = *pattern == '*' ? strlen(path) : strcspn(path, "/");
		if (*pattern == ':' || *pattern == '*') {
			if (len == 0)
				return 404;
			if (!add_param(params, pattern + 1, want_len - 1, path, len))
				rc = 400;
		} else if (want_len != len || memcmp(pattern, path, len) != 0) {
			return 404;
		}
		pattern += want_len;
		path += len;
	}
	return *pattern == '\0' && *path == '\0' ? rc : 404;
}

int
http_route_find(const struct http_route *routes, size_t n, const char *method, const char *path,
    const struct http_route **ret_route, struct http_params *params, struct buf *allow)
{
	int rc = 404;

	if (strcmp(method, "HEAD") == 0)
		method = "GET";
	for (size_t i = 0; i < n; i++) {
		int m;

		http_params_release(params);
		m = match(routes[i].path, path, params);
		if (m == 404)
			continue;
		if (strcmp(routes[i].method, method) == 0) {
			*ret_route = &routes[i];
			return m;
		}
		rc = 405;
		buf_addf(allow, "%s%s%s", allow->len > 0 ? ", " : "", routes[i].method,
		    strcmp(routes[i].method, "GET") == 0 ? ", HEAD" : "");
	}
	http_params_release(params);
	return rc;
}
