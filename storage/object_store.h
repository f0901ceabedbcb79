/* object_store.h - where targets, results and bundles are kept: S3 or a directory, behind one interface.
 *
 * All calls block and may be made from any thread at the same time. Keys are UTF-8 without leading slash, empty, "." or
 * ".." segments, at most 1,024 bytes; a segment has at most 255 bytes where the server keeps files (MinIO), and no key
 * should be another one plus "/..." (MinIO does not list what is below an object). An object appears whole or not at all.
 * Every call has its own retries and bounds inside; `stop` (may be NULL) makes it end early with ERR_CANCELED.
 * One contract test suite (tests/contract) holds for both backends.
 */
#ifndef STORAGE_OBJECT_STORE_H
#define STORAGE_OBJECT_STORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define OBJECT_META_MAX 8

struct object_meta {
	char name[40];   /* lower case, [a-z0-9-]; S3: x-amz-meta-<name>; "sha256" holds our own digest in hex */
	char value[256]; /* printable ASCII; others are percent-encoded by the caller */
};

struct object_info {
	int64_t size_bytes;
	int64_t modified_real_ms;
	char etag[80]; /* opaque; for if_match only */
	struct object_meta meta[OBJECT_META_MAX];
	size_t n_meta;
};

struct object_source { /* where the bytes of a put come from */
	/* Fills up to len bytes; >0 bytes, 0 end, <0 an ERR_* that fails the put. Called by one thread at a time. */
	long (*read)(void *arg, void *out, size_t len, struct err *e);
	void *arg;
	int64_t size_bytes; /* -1: unknown */
};

struct put_options {
	const char *content_type;       /* may be NULL */
	const struct object_meta *meta; /* n_meta entries */
	size_t n_meta;
	bool if_absent;                 /* fail with ERR_CONFLICT if the key is there */
	const char *sha256;             /* where the source leaves the hex digest of its bytes by the time it ends: what goes in one
	                                 * request is then not hashed again to be signed. "" or NULL: nobody knows it */
	size_t part_bytes;              /* multipart piece; 0: the store's (S3_PUT_PART) */
	unsigned parallel;              /* parts in flight; 0: the store's (S3_PUT_PARALLEL). Memory: as many parts, at least 2 */
};

struct lifecycle_rule {
	const char *id;
	const char *prefix; /* "" all */
	unsigned expire_days;
};

struct object_store;
struct store_upkeep_ops; /* store_upkeep.h */

struct object_store_ops { /* one per backend; callers use the functions below */
	int (*ensure_bucket)(struct object_store *s, const char *bucket, struct err *e);
	int (*put)(struct object_store *s, const char *bucket, const char *key, struct object_source *src,
	    const struct put_options *o, struct object_info *ret_info, const atomic_bool *stop, struct err *e);
	int (*get)(struct object_store *s, const char *bucket, const char *key, int64_t offset, int64_t len, const char *if_match,
	    int (*write)(void *arg, const void *data, size_t len), void *arg, struct object_info *ret_info,
	    const atomic_bool *stop, struct err *e);
	/* Has fd share the object's blocks, where the file system can; *ret_done tells whether all of it is there. NULL: never. */
	int (*clone)(struct object_store *s, const char *bucket, const char *key, int fd, struct object_info *ret_info, bool *ret_done,
	    struct err *e);
	int (*head)(struct object_store *s, const char *bucket, const char *key, struct object_info *ret_info, struct err *e);
	int (*copy)(struct object_store *s, const char *bucket, const char *from, const char *to,
	    const struct object_meta *meta, size_t n_meta, struct err *e);
	int (*list)(struct object_store *s, const char *bucket, const char *prefix,
	    int (*each)(void *arg, const char *key, const struct object_info *info), void *arg, struct err *e);
	int (*remove)(struct object_store *s, const char *bucket, const char *key, struct err *e);
	int (*presign)(struct object_store *s, const char *bucket, const char *key, int64_t valid_s, char *url, size_t url_len,
	    struct err *e);
	int (*lifecycle_merge)(struct object_store *s, const char *bucket, const struct lifecycle_rule *rules, size_t n,
	    struct err *e);
	int (*check)(struct object_store *s, struct err *e);
	const struct store_upkeep_ops *upkeep; /* NULL: none of it */
	void (*free)(struct object_store *s);
};

#define STORE_PARALLEL_MAX 16

struct store_limits { /* of one transfer; 0: the default */
	unsigned fetch_parallel;  /* ranges in flight, see fetch.h */
	size_t fetch_range_bytes;
	unsigned put_parallel;    /* parts in flight */
	size_t put_part_bytes;
};

struct object_store { /* first member of each backend's struct */
	const struct object_store_ops *ops;
	const char *kind; /* "s3", "dir" */
	struct store_limits limits; /* no longer 0 */
};

/* Sets the limits, before the store is used by a second thread. A new store has the defaults. */
void store_set_limits(struct object_store *s, const struct store_limits *l);

/* Creates the bucket unless it is there. ERR_DENIED, ERR_RETRY, ERR_IO. */
int store_ensure_bucket(struct object_store *s, const char *bucket, struct err *e);

/* Stores an object from a stream, in constant memory; parts that fail are sent again, a put that fails leaves nothing (an
 * unfinished multipart upload is aborted). ret_info may be NULL. Returns 0, ERR_CONFLICT (if_absent), the source's error,
 * ERR_RETRY (the store is away or busy, retries are used up), ERR_DENIED, ERR_TOOBIG, ERR_CANCELED, ERR_IO. */
int store_put(struct object_store *s, const char *bucket, const char *key, struct object_source *src,
    const struct put_options *o, struct object_info *ret_info, const atomic_bool *stop, struct err *e);

/* store_put of bytes in memory. */
int store_put_bytes(struct object_store *s, const char *bucket, const char *key, const void *data, size_t len,
    const struct put_options *o, const atomic_bool *stop, struct err *e);

/* Reads len bytes (-1: to the end; fewer at the end; none from behind it) from offset and hands them to write in order (0 to go
 * on; an ERR_* aborts and is returned). if_match (may be NULL): the etag the object must have, else ERR_CONFLICT. *ret_info (may
 * be NULL) is set before the first bytes are handed out, and again at the end. A connection that breaks midway is resumed where
 * it stopped, under the same etag. Returns 0, ERR_NOTFOUND, ERR_CONFLICT, ERR_RETRY, ERR_DENIED, ERR_CANCELED, ERR_IO. */
int store_get(struct object_store *s, const char *bucket, const char *key, int64_t offset, int64_t len, const char *if_match,
    int (*write)(void *arg, const void *data, size_t len), void *arg, struct object_info *ret_info,
    const atomic_bool *stop, struct err *e);

/* store_get of a whole object into *out (its max is the bound: ERR_TOOBIG). */
int store_get_bytes(struct object_store *s, const char *bucket, const char *key, struct buf *out, struct err *e);

/* Size, time, etag and metadata; ERR_NOTFOUND if absent. */
int store_head(struct object_store *s, const char *bucket, const char *key, struct object_info *ret_info, struct err *e);

/* Copies inside a bucket without moving bytes through us (by parts above 5 GiB); meta replaces the metadata if n_meta > 0;
 * from == to re-dates an object. */
int store_copy(struct object_store *s, const char *bucket, const char *from, const char *to,
    const struct object_meta *meta, size_t n_meta, struct err *e);

/* Calls each for every key under prefix, in key order, with size, time and etag (metadata only where it comes for free); each
 * returns 0 to go on, else the walk ends with that value. */
int store_list(struct object_store *s, const char *bucket, const char *prefix,
    int (*each)(void *arg, const char *key, const struct object_info *info), void *arg, struct err *e);

/* Deletes; absent is fine. */
int store_remove(struct object_store *s, const char *bucket, const char *key, struct err *e);

/* A URL that anyone may GET for valid_s (1..604800) seconds; ERR_INVALID on a backend without URLs. */
int store_presign(struct object_store *s, const char *bucket, const char *key, int64_t valid_s, char *url, size_t url_len,
    struct err *e);

/* Merges rules by id into the bucket's lifecycle configuration, leaving others' rules alone, and reads it back. Returns 0,
 * ERR_NOTFOUND when the server has no lifecycle (501: the caller's own janitor must do it), or as above. */
int store_lifecycle_merge(struct object_store *s, const char *bucket, const struct lifecycle_rule *rules, size_t n,
    struct err *e);

/* Whether the store answers and lets us in (a cheap signed request). */
int store_check(struct object_store *s, struct err *e);

/* NULL is allowed. */
void store_free(struct object_store *s);

/* True if key is allowed (see above). */
bool store_key_valid(const char *key);

/* --- backends --- */

/* Where an S3 server is right now; both functions are called from any thread. */
struct s3_endpoints {
	int (*pick)(void *arg, char *url, size_t url_len, struct err *e); /* "http://10.0.0.7:9000"; ERR_RETRY: none known */
	void (*failed)(void *arg, const char *url);                        /* could not be reached: avoid it for a while */
	void *arg;
};

struct store_s3_config { /* texts are copied */
	struct s3_endpoints endpoints;
	const char *access_key, *secret_key, *session_token;
	const char *region;      /* "us-east-1" */
	bool virtual_host;       /* bucket in the host name; default path-style */
	const char *ca_cert;     /* may be NULL */
	bool skip_verify;
	int64_t retry_budget_ms; /* how long a request is tried again after its first failure, or since its last progress; 0: 30 s */
	int64_t stall_ms;         /* a transfer that moves less than min_speed_bytes on average for so long is broken off; 0: half of the
	                           * budget, at most 30 s */
	int64_t min_speed_bytes;  /* per second; 0: 1 KiB */
	bool no_md5;              /* over https: leave out the Content-MD5 by which the server checks what it stores */
	int64_t copy_limit_bytes; /* largest object that the server copies in one request; 0: 5 GiB */
	unsigned max_connections; /* kept open; 0: 8 */
};

/* Talks to nobody yet. NULL with *e (ERR_INVALID) if the settings cannot be right. */
struct object_store *store_s3_new(const struct store_s3_config *c, struct err *e);

/* A directory, one sub-directory per bucket; created with 0700. Sweeps what writers that died left. Several processes may use it
 * at once. No lifecycle of its own (see storage/lifecycle.h), no URLs. NULL with *e if the directory cannot be used. */
struct object_store *store_dir_new(const char *path, struct err *e);

#endif
