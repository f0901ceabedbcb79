/* dir_name.h - how the directory store names files after keys (for store_dir*.c only).
 *
 * A key's segments become directories and a file, each percent-encoded except for [A-Za-z0-9_-] and inner dots:
 *   "runs/7/report.json"  ->  runs@/7@/report.json
 * '@' marks a directory that stands for a segment, so that "a" and "a/b" can both be objects; a segment of 80 bytes or more is
 * cut into directories of 80 bytes marked '+'; a rest of nothing is the file "=". Encoded names never begin with a dot and
 * never hold '@', '+' or '=': what begins with a dot is the store's own. Pure.
 */
#ifndef STORAGE_DIR_NAME_H
#define STORAGE_DIR_NAME_H

#include <stdbool.h>
#include <stddef.h>

#define DIR_NAME_PATH_MAX 3584 /* a valid key's path, its NUL included */

/* Writes the relative path of the object `key` (valid). */
void dir_name_path(const char *key, char out[DIR_NAME_PATH_MAX]);

/* Writes the piece of key that a directory entry stands for: an object's segment, a directory's segment and '/', or a
 * cut segment's 80 bytes. Entries in the order of these pieces are in the order of their keys. False if the name is
 * not one of ours. */
bool dir_name_piece(const char *entry, char *out, size_t out_len, bool *ret_dir);

#endif
