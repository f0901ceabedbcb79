/* buf.h - a growing byte buffer that is born with a maximum.
 *
 * Unbounded growth is impossible by construction: an addition that would pass `max` is refused whole and the buffer
 * remembers it (`overflow`), so that a writer may check once at its end. `data` is always NUL-terminated once anything
 * was added; the NUL is not counted in `len`.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct buf {
	char *data;    /* NULL until the first addition; owned by the buffer */
	size_t len;    /* bytes used, <= max */
	size_t cap;    /* bytes allocated */
	size_t max;    /* bytes allowed, > 0 */
	bool overflow; /* an addition was refused */
};

/* An empty buffer that may hold up to max_bytes. Allocates nothing. */
struct buf buf_make(size_t max_bytes);

/* Frees the content; the buffer is empty and usable again with the same maximum. */
void buf_release(struct buf *b);

/* Empties the buffer but keeps its memory; clears `overflow`. */
void buf_clear(struct buf *b);

/* Append bytes, a string, one character, printf output. Return 0, or ERR_TOOBIG (nothing was added). */
int buf_add(struct buf *b, const void *data, size_t len);
int buf_adds(struct buf *b, const char *s);
int buf_addc(struct buf *b, char c);
int buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int buf_vaddf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

/* Removes n <= len bytes from the front. */
void buf_consume(struct buf *b, size_t n);

/* Hands the string over to the caller, who frees it; the buffer is empty again. Never NULL. */
char *buf_take(struct buf *b);

/* The content as a string, "" where nothing was added; valid until the next change. */
const char *buf_str(const struct buf *b);

#endif
