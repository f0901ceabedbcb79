/* pipe.h - a bounded ring of bytes between the loop, which never blocks, and one thread, which does. Each function says on which
 * side it may be called. */
#ifndef DISPATCHER_PIPE_H
#define DISPATCHER_PIPE_H

#include <stdbool.h>
#include <stddef.h>

struct pipe;

/* An empty ring of size bytes. */
struct pipe *pipe_new(size_t size);

/* Both sides must be done with it. NULL is allowed. */
void pipe_free(struct pipe *p);

/* Either side. No more bytes will be written; or: both sides give up, whatever is inside is dropped. */
void pipe_close(struct pipe *p);
void pipe_break(struct pipe *p);

/* Loop → thread: writes what fits and returns how much that was; *ret_stalled tells that it was not all: the thread's next
 * pipe_read_wait will say `room`. */
size_t pipe_write(struct pipe *p, const void *data, size_t len, bool *ret_stalled);

/* Thread: waits for bytes: > 0, 0 at the end, -1 broken. *ret_room: the writer was stalled and can go on now. */
long pipe_read_wait(struct pipe *p, void *out, size_t len, bool *ret_room);

/* Thread → loop: waits until all is in; false when broken. */
bool pipe_write_wait(struct pipe *p, const void *data, size_t len);

/* Loop: takes up to len bytes; 0: none at the moment, or (*ret_end) no more will come. */
size_t pipe_read(struct pipe *p, void *out, size_t len, bool *ret_end);

#endif
