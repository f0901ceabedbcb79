/* s3_xml.h - the XML that S3 servers answer with, and the little that we send.
 *
 * A tolerant, bounded reader for documents from a server: no DTD (refused), no entities but the five of XML and numeric
 * ones, names compared without their namespace prefix, no recursion, limits on depth and text. Pure; any thread.
 */
#ifndef STORAGE_S3_XML_H
#define STORAGE_S3_XML_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "storage/object_store.h"
#include "storage/store_upkeep.h"

#define S3_XML_MAX_BYTES (16u * 1024 * 1024) /* of a document */
#define S3_XML_MAX_TEXT 8192u                /* of one element's text */
#define S3_XML_MAX_PATH 256u                 /* "ListBucketResult/Contents/Key" */

/* Called at the end of each element, inner ones first.
 *   path  names from the root down, joined by '/'
 *   text  the text since the last tag, entities decoded: for a leaf its content; NUL-terminated, valid during the call
 *   raw   the element as it stands in the document, from its '<' to its last '>'
 * Returns 0 to go on; anything else ends the walk with that value. */
typedef int s3_xml_each(void *arg, const char *path, const char *text, const char *raw, size_t raw_len);

/* Walks a document. Returns 0, what each returned, ERR_PROTO (not well formed, a DTD, over a limit). */
int s3_xml_walk(const char *data, size_t len, s3_xml_each *each, void *arg, struct err *e);

/* Appends text with the characters that XML reserves escaped. */
void s3_xml_escape(struct buf *b, const char *text);

struct s3_error { /* "" where the answer said nothing */
	char code[64];
	char message[192];
};

/* True if the document is an <Error>, then *ret_error is filled; false (and untouched) for anything else, broken ones too. */
bool s3_xml_error(const char *data, size_t len, struct s3_error *ret_error);

/* Finds the text of the first element at path, "" if there is none. Returns 0, ERR_PROTO (broken, or over out_len). */
int s3_xml_find(const char *data, size_t len, const char *path, char *out, size_t out_len, struct err *e);

/* Reads one page of ListObjectsV2, keys decoded where it says that they are encoded: each for every key in order; the token of
 * the next page in *ret_token (emptied first; stays empty on the last page). Returns 0, what each returned, ERR_PROTO. */
int s3_xml_list(const char *data, size_t len, int (*each)(void *arg, const char *key, const struct object_info *info),
    void *arg, struct buf *ret_token, struct err *e);

/* Merges rules into a lifecycle configuration (len 0: there is none): rules of other ids stay as they are, byte for byte.
 * Sets *ret_changed and, where something changed, fills *out with the new document. Returns 0, ERR_PROTO (the current one
 * cannot be read) or ERR_TOOBIG (more than 1,000 rules, or out's maximum). */
int s3_xml_lifecycle_merge(const char *data, size_t len, const struct lifecycle_rule *rules, size_t n, struct buf *out,
    bool *ret_changed, struct err *e);

/* What a lifecycle configuration (len 0: there is none) says about our rules, and who else expires objects below their prefixes.
 * Returns 0 or ERR_PROTO. */
int s3_xml_lifecycle_view(const char *data, size_t len, const struct lifecycle_rule *rules, size_t n, struct lifecycle_view *ret,
    struct err *e);

#endif
