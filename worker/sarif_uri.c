#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "worker/sarif.h"

#define URI_MAX 65536
#define SEGMENTS_MAX 512

/* Length of the prefix at the start of s, followed by '/' or the end; 0 if none is there. */
static size_t
prefix_length(const char *s, const char *const *prefixes)
{
	for (; *prefixes != NULL; prefixes++) {
		size_t len = strlen(*prefixes);

		if (len > 1 && strncmp(s, *prefixes, len) == 0 && (s[len] == '/' || s[len] == '\0'))
			return len;
	}
	return 0;
}

/* Length of "scheme:" at the start, 0 if there is none. One letter is a drive. */
static size_t
scheme_length(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+.-");

	return n > 1 && s[n] == ':' ? n + 1 : 0;
}

static void
add_encoded(struct buf *b, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c <= ' ' || c == 0x7f || strchr("\"<>^`{|}", c) != NULL || (c == '%' && (i + 2 >= len || percent_byte(s + i) < 0)))
			(void)buf_addf(b, "%%%02X", c);
		else
			(void)buf_addc(b, s[i]);
	}
}

/* Splits at '/', drops "" and ".", resolves "..". Returns how many segments, or -1 when it leaves its start. */
static int
split(const char *s, const char *starts[SEGMENTS_MAX], size_t lens[SEGMENTS_MAX])
{
	int n = 0;

	while (*s != '\0') {
		size_t len = strcspn(s, "/");

		if (len == 2 && s[0] == '.' && s[1] == '.') {
			if (n-- == 0)
				return -1;
		} else if (len > 0 && !(len == 1 && s[0] == '.')) {
			if (n == SEGMENTS_MAX)
				return -1;
			starts[n] = s;
			lens[n++] = len;
		}
		s += len + (s[len] == '/');
	}
	return n;
}

static char *
last_component(const char *s)
{
	const char *slash = strrchr(s, '/');
	struct buf b = buf_make(URI_MAX);

	s = slash != NULL ? slash + 1 : s;
	if (*s == '\0' || strcmp(s, "..") == 0 || strcmp(s, ".") == 0)
		s = "unknown";
	add_encoded(&b, s, strlen(s));
	return buf_take(&b);
}

char *
sarif_relative(const char *uri, const char *const *prefixes)
{
	const char *starts[SEGMENTS_MAX], *s;
	size_t lens[SEGMENTS_MAX], skip = scheme_length(uri);
	struct buf b = buf_make(URI_MAX);
	char *copy, *r;
	int n;

	if (skip > 0 && (skip != 5 || strncasecmp(uri, "file:", 5) != 0))
		return xstrdup(uri);
	copy = xstrndup(uri + skip, URI_MAX / 3);
	for (char *p = copy; *p != '\0'; p++)
		*p = *p == '\\' ? '/' : *p;
	s = copy;
	if (s[0] == '/' && s[1] == '/') /* an authority: "//host/path", "///path" */
		s += 2 + strcspn(s + 2, "/");
	n = prefix_length(s, prefixes) > 0 ? split(s + prefix_length(s, prefixes), starts, lens) : s[0] == '/' ? -1 : split(s, starts, lens);
	for (int i = 0; i < n; i++) {
		(void)buf_adds(&b, i > 0 ? "/" : "");
		add_encoded(&b, starts[i], lens[i]);
	}
	r = n > 0 && !b.overflow ? buf_take(&b) : n == 0 ? xstrdup(".") : last_component(s);
	buf_release(&b);
	free(copy);
	return r;
}

char *
sarif_path(const char *uri)
{
	char *path = xstrdup(uri), *out = path;

	for (const char *p = uri; *p != '\0'; p++) {
		int byte = percent_byte(p);

		*out++ = byte > 0 ? (char)byte : *p;
		p += byte > 0 ? 2 : 0;
	}
	*out = '\0';
	return path;
}

char *
sarif_text(const char *text, const char *const *prefixes)
{
	struct buf b = buf_make(strlen(text) + 1);
	const char *p = text;

	while (*p != '\0') {
		size_t len = *p == '/' ? prefix_length(p, prefixes) : 0;

		if (len == 0)
			(void)buf_addc(&b, *p++);
		else
			p += len + (p[len] == '/');
	}
	return buf_take(&b);
}
