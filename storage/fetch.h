/* fetch.h - a whole object into an open file, verified as it comes.
 *
 * The calling thread streams from the front and writes; another hashes what was written while it is hot in the processor's cache
 * (hash_pipe.h). Where the first mostly waits for bytes, helpers fetch ranges ahead of it by connections of their own, all under the
 * etag that the first answer showed, each written where it belongs; what they brought is hashed out of the page cache when the front
 * gets there, so that hashing always overlaps with the transfer, and every byte is hashed once. Where the network is faster than one
 * thread takes and hashes its bytes, more connections would only cost processor time that the node's tools need. A range that breaks
 * goes on where it stopped (store_get); an object that is replaced midway is begun anew, FETCH_RESTARTS times. Smaller objects are one
 * request, hashed in passing.
 *
 * Memory: a connection's buffer (512 KiB) and a block (64 KiB) for each range in flight, 1 MiB on the way to the digest; never a
 * whole range.
 */
#ifndef STORAGE_FETCH_H
#define STORAGE_FETCH_H

#include "base/digest.h"
#include "storage/object_store.h"

#define FETCH_RESTARTS 2

struct fetch_options {
	unsigned parallel;  /* ranges in flight, at most STORE_PARALLEL_MAX; 0: the store's (S3_FETCH_PARALLEL) */
	size_t range_bytes; /* 0: the store's (S3_FETCH_RANGE) */
	bool durable;       /* the caller will fsync: have the disk begin while bytes still come */
};

/* Writes the object's size_bytes to fd from offset 0 (the file gets exactly that size, allocated first where the file system
 * can) and their SHA-256 to sha256. fd is open for reading and writing, nobody else uses it, and stays the caller's; on
 * failure its content is nothing to rely on. o and ret_info may be NULL. Blocks; any thread. Returns 0, ERR_INVALID (the
 * object has another size), ERR_NOTFOUND, ERR_RETRY (store away, disk full, replaced again and again), ERR_DENIED, ERR_PROTO,
 * ERR_CANCELED, ERR_IO. */
int store_fetch(struct object_store *s, const char *bucket, const char *key, int fd, int64_t size_bytes,
    const struct fetch_options *o, uint8_t sha256[SHA256_LEN], struct object_info *ret_info, const atomic_bool *stop,
    struct err *e);

#endif
