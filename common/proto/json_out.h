/* json_out.h - JSON as text, written straight into a buffer: for answers and rows that are made thousands of times a second, where
 * a tree of values in between costs more than all the rest.
 *
 * Everything comes out compact and in ASCII (\uXXXX beyond it). A comma is put where one is needed: the buffer must hold nothing
 * but this JSON from the first opening bracket on. Key NULL: an element of an array, or the outermost value. What would pass the
 * buffer's maximum sets its `overflow`. Any thread.
 */
#ifndef PROTO_JSON_OUT_H
#define PROTO_JSON_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/buf.h"

/* How deep objects and lists may be nested in what others send: reading, writing and freeing them goes down the stack, and a thread's is
 * small (base/threads.h). Some 900 would be too many. */
#define JSON_DEPTH_MAX 100

struct json_shape {
	size_t depth;      /* of nesting: 1, an object or a list without others in it */
	size_t containers; /* objects and lists */
	size_t values;     /* commas and colons, so about as many */
};

/* What len bytes, which may be JSON or not, would become: to be judged before they are parsed. */
struct json_shape json_shape(const char *text, size_t len);

/* Whether len bytes, which may be JSON or not, are nested no deeper than that. To be asked before they are parsed. */
bool json_is_shallow(const char *text, size_t len);

/* Opens an object ('{') or an array ('['); the bracket that closes it. */
void json_out_open(struct buf *b, const char *key, char bracket);
void json_out_close(struct buf *b, char bracket);

/* A string; NULL: null. Bytes that are not UTF-8 become '?'. */
void json_out_text(struct buf *b, const char *key, const char *text);

/* A whole number / true or false. */
void json_out_int(struct buf *b, const char *key, int64_t n);
void json_out_bool(struct buf *b, const char *key, bool yes);

/* A value and all that is in it; NULL: null. */
void json_out_value(struct buf *b, const char *key, const json_t *v);

/* len bytes that are JSON already. */
void json_out_raw(struct buf *b, const char *key, const char *json, size_t len);

/* The value of a key of the outermost object in a JSON text that was written by us, as it stands there: its first byte in *ret_len
 * bytes; NULL when the text has none, or is no object. What stands inside the value is not looked at beyond brackets and quotes. */
const char *json_member(const char *json, const char *key, size_t *ret_len);

struct json_part {
	const char *key;
	const char *value; /* NULL before, and where there is none */
	size_t len;
};

/* The same for several keys in one walk through the text. */
void json_members(const char *json, struct json_part *parts, size_t n);

#endif
