/* dir_object.h - one object's file in the directory store, and the walk over all of them (for store_dir.c only).
 *
 * An object's file is its bytes, then a trailer of text lines ("etag VALUE", "meta NAME VALUE"), then a last line of
 * fixed length that holds the trailer's length. The layout's version is in that line. Blocking; any thread.
 */
#ifndef STORAGE_DIR_OBJECT_H
#define STORAGE_DIR_OBJECT_H

#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"
#include "storage/object_store.h"

/* Appends the trailer to a file that holds info->size_bytes of content, at its current end. Returns 0 or ERR_IO. */
int dir_object_seal(int fd, const struct object_info *info, struct err *e);

/* Opens the object at path below bucket_fd for reading and fills *ret_info. Returns the descriptor (>= 0), ERR_NOTFOUND or
 * ERR_IO (its trailer is damaged). */
int dir_object_open(int bucket_fd, const char *path, struct object_info *ret_info, struct err *e);

/* Opens the directory that holds path. Returns the descriptor or -1 with errno. */
int dir_object_open_parent(int bucket_fd, const char *path);

/* The file's time as the object's. */
int64_t dir_object_modified(const struct stat *st);

/* store_list over a bucket's directory. Files that vanish meanwhile are left out. */
int dir_object_list(int bucket_fd, const char *prefix,
    int (*each)(void *arg, const char *key, const struct object_info *info), void *arg, struct err *e);

#endif
