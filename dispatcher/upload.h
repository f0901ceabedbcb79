/* upload.h - targets on their way into the object store: streamed in bounded memory, their digest taken on the way. Loop thread. */
#ifndef DISPATCHER_UPLOAD_H
#define DISPATCHER_UPLOAD_H

#include "dispatcher/call.h"

/* All uploads together use at most memory_bytes; those for which there is no room wait with their body unread. */
struct uploads *uploads_new(struct dispatcher *d, int64_t memory_bytes, struct err *e);

/* Breaks off what is under way and joins the threads. NULL is allowed. */
void uploads_free(struct uploads *u);

#endif
