#include "cli/text.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

#define SAFE_MAX (16 * 1024 * 1024)

struct range {
	uint32_t first, last;
};

static bool
in_ranges(const struct range *r, size_t n, uint32_t c)
{
	for (size_t i = 0; i < n; i++)
		if (c >= r[i].first && c <= r[i].last)
			return true;
	return false;
}

size_t
text_add_safe(struct buf *b, const char *s, size_t len, bool lines, bool last)
{
	size_t i = 0;

	while (i < len) {
		uint32_t c = 0;
		int n = utf8_decode(s + i, len - i, &c);

		if (n < 0 && !last)
			break;
		if (n > 0 && (c == '\n' || c == '\t') && lines)
			buf_addc(b, (char)c);
		else if (n > 0 && (c == ' ' || c == '\n' || c == '\t' || c == '\r') && !lines)
			buf_adds(b, b->len > 0 && b->data[b->len - 1] == ' ' ? "" : " ");
		else if (n > 0 && !utf8_misleads(c))
			buf_add(b, s + i, (size_t)n);
		else if (n > 1)
			buf_addf(b, "\\u{%x}", c);
		else
			buf_addf(b, "\\x%02x", (unsigned char)s[i]);
		i += n > 0 ? (size_t)n : 1;
	}
	return i;
}

char *
text_safe(const char *s)
{
	struct buf b = buf_make(SAFE_MAX);

	if (s != NULL)
		(void)text_add_safe(&b, s, strlen(s), false, true);
	return buf_take(&b);
}

static int
columns(uint32_t c)
{
	static const struct range none[] = {{0x300, 0x36f}, {0x1ab0, 0x1aff}, {0x20d0, 0x20ff}, {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}};
	static const struct range wide[] = {{0x1100, 0x115f}, {0x2e80, 0x303e}, {0x3041, 0xa4cf}, {0xac00, 0xd7a3}, {0xf900, 0xfaff},
		{0xfe30, 0xfe6f}, {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1faff}, {0x20000, 0x3fffd}};

	if (in_ranges(none, sizeof(none) / sizeof(none[0]), c))
		return 0;
	return in_ranges(wide, sizeof(wide) / sizeof(wide[0]), c) ? 2 : 1;
}

/* The next character of a NUL-terminated text: its bytes, and its columns in *ret_columns. */
static size_t
step(const char *s, int *ret_columns)
{
	uint32_t c = 0;
	int n = utf8_decode(s, UTF8_TO_NUL, &c);

	*ret_columns = n > 0 ? columns(c) : 1;
	return n > 0 ? (size_t)n : 1;
}

int
text_width(const char *s)
{
	int width = 0, w;

	while (*s != '\0') {
		s += step(s, &w);
		width += w;
	}
	return width;
}

char *
text_from_uri(const char *uri)
{
	char *name = xstrdup(uri), *out = name;

	while (*uri != '\0') {
		int byte = percent_byte(uri);

		*out++ = byte > 0 ? (char)byte : *uri;
		uri += byte > 0 ? 3 : 1;
	}
	*out = '\0';
	return name;
}

const char *
text_take_line(const char *s, int width, size_t *ret_len)
{
	size_t at = 0, space = 0, n;
	int used = 0, w;

	for (; s[at] != '\0'; at += n, used += w) {
		n = step(s + at, &w);
		if (s[at] == ' ')
			space = at;
		if (used + w > width)
			break;
	}
	if (s[at] != '\0' && space > 0)
		at = space;
	*ret_len = at;
	return s + at + strspn(s + at, " ");
}

int
text_clip(struct buf *b, const char *s, int width, bool from_left)
{
	int full = text_width(s), used = 0, w;

	if (full <= width) {
		buf_adds(b, s);
		return full;
	}
	if (width <= 0)
		return 0;
	if (from_left) {
		for (; full > width - 1; full -= w)
			s += step(s, &w);
		buf_adds(b, "…");
		buf_adds(b, s);
		return full + 1;
	}
	for (;;) {
		size_t n = step(s, &w);

		if (used + w > width - 1)
			break;
		buf_add(b, s, n);
		s += n;
		used += w;
	}
	buf_adds(b, "…");
	return used + 1;
}
