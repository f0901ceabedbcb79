/* stream.h - what a step writes while it runs: stdout and stderr into the run's log, descriptor 3 as progress. */
#ifndef WORKER_STREAM_H
#define WORKER_STREAM_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "worker/run_log.h"

struct streams;

/* Three pipes. on_progress gets each valid progress object (borrowed), at most 50 a second; on_log tells that the log has grown. */
struct streams *streams_open(const char *step, struct run_log *log, void (*on_progress)(void *arg, json_t *progress),
    void (*on_log)(void *arg), void *arg, struct err *e);

/* The ends that the program gets as its descriptors 1, 2 and 3 (index 0, 1, 2); streams_started closes them here. */
int streams_child_fd(const struct streams *s, int index);
void streams_started(struct streams *s);

/* Reads until all are at their end (returns 0), wake_fd becomes readable (ERR_CANCELED), or deadline_mono_ms (ERR_TIMEOUT). */
int streams_pump(struct streams *s, int wake_fd, int64_t deadline_mono_ms);

/* Takes what is still in the pipes without waiting, flushes the last lines, closes all. NULL is allowed. */
void streams_close(struct streams *s);

#endif
