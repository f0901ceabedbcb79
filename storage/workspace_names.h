/* workspace_names.h - the names in CACHE_DIR/<target>/ under which an entry of the cache is kept in sight: relative symbolic links,
 * remembered in the entry as names/<target>, so that they go with it. Blocking; any thread. */
#ifndef STORAGE_WORKSPACE_NAMES_H
#define STORAGE_WORKSPACE_NAMES_H

#include "base/err.h"

#define WORKSPACE_NAME_SHARED "workspace" /* of mode shared */
#define WORKSPACE_NAME_LOWER "shared"     /* of mode copy-on-write */

/* Makes CACHE_DIR/<target_id>/<name> a link to the tree, an absolute path of CACHE_DIR whose parent is the entry's directory. The caller
 * pins the entry and keeps CACHE_DIR/<target_id>/ from being removed. Returns 0, ERR_RETRY (disk full) or ERR_IO. */
int workspace_name_make(const char *cache_dir, const char *target_id, const char *name, const char *tree, struct err *e);

/* Removes all names of an entry, whose directory is `entry` below the open cache directory. To be called before the entry is renamed or
 * removed, by who holds it exclusively. */
void workspace_names_drop(int cache_dir_fd, const char *entry);

#endif
