/* hash_pipe.h - the digest of a stream, computed by a thread of its own while another takes and writes the bytes.
 *
 * One thread fills blocks and pushes them in order; the pipe's thread adds them to a digest. Between drain and the next push the
 * digest belongs to the pushing thread. Memory: HASH_PIPE_BLOCKS blocks. All functions are the pushing thread's.
 */
#ifndef STORAGE_HASH_PIPE_H
#define STORAGE_HASH_PIPE_H

#include <stddef.h>

#include "base/digest.h"

#define HASH_PIPE_BLOCK_BYTES ((size_t)64 * 1024)
#define HASH_PIPE_BLOCKS 16

struct hash_pipe;

/* Starts the thread; digest is the caller's and outlives the pipe. NULL where there is no other thread to be had. */
struct hash_pipe *hash_pipe_new(struct sha256 *digest);

/* The block to be filled next, HASH_PIPE_BLOCK_BYTES; the same until it is pushed. Waits while all are on their way. */
char *hash_pipe_block(struct hash_pipe *p);

/* Hands over the first len bytes of that block. */
void hash_pipe_push(struct hash_pipe *p, size_t len);

/* Waits until all that was pushed is in the digest. */
void hash_pipe_drain(struct hash_pipe *p);

/* Drains, and ends the thread. NULL is allowed. */
void hash_pipe_free(struct hash_pipe *p);

#endif
