#include "net/http_route.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

/* --- decoding --- */

char *
http_decode(const char *s, size_t len)
{
	char *out = xmalloc(len + 1);
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		int byte = s[i] != '%' ? (unsigned char)s[i] : i + 2 < len ? percent_byte(s + i) : -1;

		if (byte <= 0)
			goto bad;
		i += s[i] == '%' ? 2 : 0;
		out[n++] = (char)byte;
	}
	out[n] = '\0';
	if (utf8_valid(out))
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
