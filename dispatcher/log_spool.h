/* log_spool.h - the tail of each attempt's log, on disk: chunks addressed by their offset, so that a repeated one does no harm.
 *
 * An attempt's log is kept in segments of half the bound, named by the offset of their first byte; when a segment is full, the
 * one before the last is removed. Blocking; one thread at a time.
 */
#ifndef DISPATCHER_LOG_SPOOL_H
#define DISPATCHER_LOG_SPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct log_spool;

/* Keeps logs below directory (created), up to tail_bytes of each attempt. */
int log_spool_new(const char *directory, int64_t tail_bytes, struct log_spool **ret, struct err *e);
void log_spool_free(struct log_spool *s);

/* Adds len bytes of which the first has this offset; what is there already is skipped. *ret_next: the offset that is wanted next
 * (smaller than offset + len where bytes are missing before: the caller sends from there). Returns 0 or ERR_IO. */
int log_spool_append(struct log_spool *s, const char *run, unsigned attempt, int64_t offset, const void *data, size_t len,
    int64_t *ret_next, struct err *e);

/* Reads up to len bytes from *offset on, which is moved up to the oldest byte that is kept. *ret_len 0: nothing more yet.
 * ERR_NOTFOUND: nothing is kept of this attempt. */
int log_spool_read(struct log_spool *s, const char *run, unsigned attempt, int64_t *offset, void *out, size_t len,
    size_t *ret_len, struct err *e);

/* Removes all of a run's logs. */
int log_spool_remove(struct log_spool *s, const char *run, struct err *e);

/* Calls each for every run that has logs, with the time of the last change. */
int log_spool_each(struct log_spool *s, void (*each)(void *arg, const char *run, int64_t changed_real_ms), void *arg, struct err *e);

#endif
