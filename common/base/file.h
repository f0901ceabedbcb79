/* file.h - whole files and trees. Any thread; blocking: never call from an event loop. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* Replaces the file `name` inside the open directory `dirfd` by `len` bytes at `data`, with `mode`, so that after a crash
 * or power loss the name holds either all of the old bytes or all of the new ones: written beside it, fsynced, renamed,
 * and the directory fsynced. `name` is a plain file name. On failure the old file stands and nothing else is left; only
 * if the very last step fails (fsync of the directory, ERR_IO) the new file stands, but may not outlive a power loss.
 * Returns 0, ERR_INVALID (name empty, too long, or with a slash) or ERR_IO. */
int file_replace(int dirfd, const char *name, const void *data, size_t len, mode_t mode, struct err *e);

/* Reads a whole file into *b (its max is the limit). path is relative to dirfd (AT_FDCWD allowed).
 * Returns 0, ERR_NOTFOUND, ERR_TOOBIG or ERR_IO. */
int file_read(int dirfd, const char *path, struct buf *b, struct err *e);

/* Writes all bytes to fd, through short writes and EINTR. Returns 0 or ERR_IO. */
int file_write_all(int fd, const void *data, size_t len, struct err *e);

/* mkdir -p with mode for what is new. Returns 0 or ERR_IO. */
int file_mkdirs(const char *path, mode_t mode, struct err *e);

/* Removes a tree below dirfd without ever following a symbolic link or leaving it; directories without permission are made
 * accessible first. A name that is not there is fine. Returns 0 or ERR_IO (as much as possible was removed). */
int file_remove_tree(int dirfd, const char *name, struct err *e);

/* Creates a private directory (0700) in $TMPDIR or /tmp named prefix-XXXXXX; path in out. Returns 0 or ERR_IO. */
int file_temp_dir(const char *prefix, char *out, size_t out_len, struct err *e);

/* Opens (creating, 0600) and locks a file exclusively without waiting; the lock dies with the descriptor.
 * Returns the descriptor (>= 0, close-on-exec), ERR_CONFLICT when someone else holds it, or ERR_IO. */
int file_lock(const char *path, struct err *e);

/* Joins two parts with one slash; ERR_TOOBIG if it does not fit. */
int file_join(char *out, size_t out_len, const char *dir, const char *name, struct err *e);

#endif
