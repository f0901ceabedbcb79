/* utf8.h - UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF; and percent escapes, in which it
 * travels. Pure. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_CUT (-1)
#define UTF8_TO_NUL SIZE_MAX /* as len: the text ends with a NUL */

/* The character at s, of which len > 0 bytes are there. Returns its bytes (1..4) and *ret_code (may be NULL); 0 where it is none,
 * UTF8_CUT where it is only begun. With UTF8_TO_NUL what is cut is none. */
int utf8_decode(const char *s, size_t len, uint32_t *ret_code);

/* Whether the whole text is UTF-8. */
bool utf8_valid(const char *s);

/* Whether a character moves a terminal, or is not seen or turns text around, and so makes one name look like another: controls of
 * both sets, zero width, directions, line ends, byte order mark, tags. */
bool utf8_misleads(uint32_t code);

/* The byte that "%XX" at s (NUL-terminated) stands for, digits of either case; -1 if s begins none. */
int percent_byte(const char *s);

#endif
