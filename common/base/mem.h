/* mem.h - small allocations, which do not fail.
 *
 * A daemon whose state is durable survives its own death better than a half-handled out-of-memory: these abort with a
 * log line. Sizes that come from outside are bounded before they get here. Any thread.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

/* As malloc, calloc, realloc, strdup, strndup and memdup would be, but never NULL (a size of 0 is taken as 1; x*alloc
 * abort on overflow of n * size as well). The caller frees with free(). xstrdup(NULL) is NULL. */
void *xmalloc(size_t size);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
void *xmemdup(const void *p, size_t len);

/* Copies a text into an array of size > 0 bytes, cut where it does not fit. What snprintf with "%s" does, at a tenth of its cost. */
void text_copy(char *out, size_t size, const char *text);

/* printf into a new string; the caller frees. */
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Overwrites secret bytes in a way that the compiler keeps. */
void mem_wipe(void *p, size_t len);

#endif
