#include "base/buf.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

#define BUF_FIRST_BYTES 64

struct buf
buf_make(size_t max_bytes)
{
	assert(max_bytes > 0 && max_bytes < SIZE_MAX / 2); /* room for the NUL, and doubling cannot overflow */
	return (struct buf){.max = max_bytes};
}

void
buf_release(struct buf *b)
{
	free(b->data);
	*b = (struct buf){.max = b->max};
}

void
buf_clear(struct buf *b)
{
	b->len = 0;
	b->overflow = false;
	if (b->data != NULL)
		b->data[0] = '\0';
}

/* Makes room for len more bytes and the NUL, or refuses and remembers. */
static int
reserve(struct buf *b, size_t len)
{
	size_t need, cap = b->cap == 0 ? BUF_FIRST_BYTES : b->cap;

	assert(b->len <= b->max);
	if (len > b->max - b->len) {
		b->overflow = true;
		return ERR_TOOBIG;
	}
	need = b->len + len + 1;
	if (need <= b->cap)
		return 0;
	while (cap < need)
		cap *= 2;
	if (cap > b->max + 1)
		cap = b->max + 1;
	b->data = xrealloc(b->data, cap);
	b->cap = cap;
	return 0;
}

int
buf_add(struct buf *b, const void *data, size_t len)
{
	if (reserve(b, len) != 0)
		return ERR_TOOBIG;
	if (len > 0)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
	return 0;
}

int
buf_adds(struct buf *b, const char *s)
{
	return buf_add(b, s, strlen(s));
}

int
buf_addc(struct buf *b, char c)
{
	return buf_add(b, &c, 1);
}

int
buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = buf_vaddf(b, fmt, ap);
	va_end(ap);
	return rc;
}

int
buf_vaddf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	int len;

	va_copy(again, ap);
	len = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (len < 0) { /* longer than INT_MAX */
		b->overflow = true;
		return ERR_TOOBIG;
	}
	if (reserve(b, (size_t)len) != 0)
		return ERR_TOOBIG;
	vsnprintf(b->data + b->len, (size_t)len + 1, fmt, ap);
	b->len += (size_t)len;
	return 0;
}

void
buf_consume(struct buf *b, size_t n)
{
	assert(n <= b->len);
	if (n == 0)
		return;
	memmove(b->data, b->data + n, b->len - n + 1);
	b->len -= n;
}

char *
buf_take(struct buf *b)
{
	char *s = b->data != NULL ? b->data : xstrdup("");

	*b = (struct buf){.max = b->max};
	return s;
}

const char *
buf_str(const struct buf *b)
{
	return b->data != NULL ? b->data : "";
}
