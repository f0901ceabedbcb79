/* text.h - texts from elsewhere, made fit for a terminal: nothing that came from a server may move the cursor, hide or reorder
 * what a person reads. Pure. */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* Appends len bytes with control characters, invisible direction marks and invalid UTF-8 written as \xNN or \u{NNNN}. lines: '\n' and
 * '\t' stay; else runs of blanks become one space. Returns how many bytes were taken: fewer than len only where the last UTF-8
 * sequence may go on in the next piece (never more than 3 bytes are left, and none when `last`). */
size_t text_add_safe(struct buf *b, const char *s, size_t len, bool lines, bool last);

/* The same for a whole one-line text, as a new string. s may be NULL: "". */
char *text_safe(const char *s);

/* A file's name out of a URI reference, as a new string: %XX become bytes, except NUL; what is no escape stays as it is. */
char *text_from_uri(const char *uri);

/* Columns that a text takes on a terminal (wide characters count two, combining ones none). */
int text_width(const char *s);

/* Takes a line of at most width > 1 columns from the front of s, broken at a space where there is one: *ret_len bytes. Returns what
 * comes after it, without the space. */
const char *text_take_line(const char *s, int width, size_t *ret_len);

/* Appends s, cut with "…" to at most width columns; from_left: the end is kept. Returns the columns taken. */
int text_clip(struct buf *b, const char *s, int width, bool from_left);

#endif
