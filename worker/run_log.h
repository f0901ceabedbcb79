/* run_log.h - the log of one run: a bounded file without a name, which is published at the end and shipped while it grows.
 *
 * The job's thread writes; the thread of ship.h reads. The file dies with the process, so that nothing is left to sweep.
 */
#ifndef WORKER_RUN_LOG_H
#define WORKER_RUN_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct run_log;

/* An empty log; once it is longer than 64 KiB it lies in a file of dir's file system (dir is kept). echo_fd (-1: none) also gets
 * every line, "OWNER NAME | text", as far as its reader keeps up: a full pipe there never holds a run up. owner (may be "") is
 * kept. Returns NULL with *e (ERR_IO). NULL-safe free. */
struct run_log *run_log_new(const char *dir, int64_t max_bytes, int echo_fd, const char *owner, struct err *e);
void run_log_free(struct run_log *l);

/* Appends bytes; what is over max_bytes is dropped, and one line says so. */
void run_log_add(struct run_log *l, const void *data, size_t len);

/* Appends a line of our own, "drover: …", and echoes it. */
void run_log_say(struct run_log *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Echoes one line (without its newline) of the step `name`, without its control characters; nothing any more once the log is cut. */
void run_log_echo(struct run_log *l, const char *name, const char *line, size_t len);

/* The file (the same descriptor from beginning to end; read it with pread) and how much of it is there. Any thread. */
int run_log_fd(const struct run_log *l);
int64_t run_log_size(const struct run_log *l);

#endif
