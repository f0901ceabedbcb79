/* store_upkeep.h - what keeps a store in order: unfinished uploads, old versions, others' lifecycle rules, what the server can do.
 *
 * All calls block and may be made from any thread at the same time, as those of object_store.h. A backend that has none of a
 * thing (a directory has no versions) says so by its plain answer, never by a failure.
 */
#ifndef STORAGE_STORE_UPKEEP_H
#define STORAGE_STORE_UPKEEP_H

#include "storage/object_store.h"

#define STORE_KEY_MAX 1025 /* of a key, with NUL */
#define STORE_UPLOAD_ID_MAX 1024

struct store_upload { /* begun, and neither completed nor aborted */
	char key[STORE_KEY_MAX];
	char id[STORE_UPLOAD_ID_MAX]; /* the server's */
	int64_t begun_real_ms;
};

struct lifecycle_view { /* a bucket's expiry rules as the server tells them now */
	bool same;             /* the rules that were asked about are there, just as they shall be */
	size_t foreign;        /* rules of others */
	unsigned foreign_days; /* the soonest expiry among those of others that reach into our prefixes; 0: none does */
	char foreign_id[64];   /* whose that is */
};

enum store_right { STORE_MAY_LIST, STORE_MAY_WRITE, STORE_MAY_READ, STORE_MAY_REMOVE, STORE_MAY_SEE_RULES, STORE_RIGHTS };

struct store_probe { /* what a bucket's server is and can */
	char server[64];          /* as it names itself; "" unknown */
	bool clock_known;
	int64_t clock_ahead_ms;   /* of ours; 1 s is within the measure */
	int64_t free_bytes;       /* -1: it does not tell */
	bool versioned;           /* the bucket keeps, or once kept, old versions */
	bool lifecycle;           /* expires objects by itself */
	bool conditional_put;     /* if_absent is kept */
	bool multipart_copy;      /* objects above 5 GiB can be copied inside */
	bool checks_digests;      /* a put whose x-amz-checksum does not fit is refused */
	struct {
		int rc;
		char why[200];
	} rights[STORE_RIGHTS];
};

struct store_upkeep_ops { /* of a backend that has these things; NULL in object_store_ops: it has none */
	int (*list_after)(struct object_store *s, const char *bucket, const char *prefix, const char *after,
	    int (*each)(void *arg, const char *key, const struct object_info *info), void *arg, struct err *e);
	int (*uploads)(struct object_store *s, const char *bucket, int (*each)(void *arg, const struct store_upload *u), void *arg,
	    struct err *e);
	int (*abort_upload)(struct object_store *s, const char *bucket, const struct store_upload *u, int64_t before_real_ms,
	    struct err *e);
	int (*versioned)(struct object_store *s, const char *bucket, bool *ret, struct err *e);
	int (*remove_versions)(struct object_store *s, const char *bucket, const char *key, struct err *e);
	int (*lifecycle_view)(struct object_store *s, const char *bucket, const struct lifecycle_rule *rules, size_t n,
	    struct lifecycle_view *ret, struct err *e);
	int (*probe)(struct object_store *s, const char *bucket, const char *key, struct store_probe *p, struct err *e);
};

/* store_list of the keys that come behind `after` ("": all), which need not exist: a walk can go on where it stopped. */
int store_list_after(struct object_store *s, const char *bucket, const char *prefix, const char *after,
    int (*each)(void *arg, const char *key, const struct object_info *info), void *arg, struct err *e);

/* Calls each for the bucket's unfinished uploads; each returns 0 to go on. MinIO tells those that were begun since
 * it was started (and drops all by itself after a day). What store_list returns. */
int store_uploads(struct object_store *s, const char *bucket, int (*each)(void *arg, const struct store_upload *u), void *arg,
    struct err *e);

/* Aborts an upload unless one of its parts came since before_real_ms: ERR_CONFLICT, it is in flight. Gone already is fine. */
int store_abort_upload(struct object_store *s, const char *bucket, const struct store_upload *u, int64_t before_real_ms,
    struct err *e);

/* Whether the bucket keeps old versions of its objects, or once did. */
int store_versioned(struct object_store *s, const char *bucket, bool *ret, struct err *e);

/* Removes an object with all its versions and delete markers; absent is fine. ERR_DENIED where the rights do not reach to versions
 * (s3:ListBucketVersions, s3:DeleteObjectVersion). */
int store_remove_versions(struct object_store *s, const char *bucket, const char *key, struct err *e);

/* What became of rules that were merged, and who else expires objects here. ERR_NOTFOUND: the server has no lifecycle. */
int store_lifecycle_view(struct object_store *s, const char *bucket, const struct lifecycle_rule *rules, size_t n,
    struct lifecycle_view *ret, struct err *e);

/* Tries out rights and features with small objects below drover/probe/, which it removes again. Returns 0 also where rights are
 * missing (they are in *ret), or ERR_RETRY: the store is away. */
int store_probe(struct object_store *s, const char *bucket, struct store_probe *ret, struct err *e);

#endif
