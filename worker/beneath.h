/* beneath.h - opening what a tool has left, without being led elsewhere: no symbolic link is followed, nothing but a regular file
 * is opened, and a fifo does not hold us up. Any thread. */
#ifndef WORKER_BENEATH_H
#define WORKER_BENEATH_H

#include "base/buf.h"
#include "base/err.h"

/* Opens the regular file `path` below dir_fd for reading. Returns the descriptor (close-on-exec), or -1 with errno. */
int beneath_open_file(int dir_fd, const char *path);

/* Reads the regular file `name` of the directory dir. Returns 0, ERR_NOTFOUND (none, or not a regular file), ERR_TOOBIG, ERR_IO. */
int beneath_read(const char *dir, const char *name, struct buf *b, struct err *e);

#endif
