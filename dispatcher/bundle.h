/* bundle.h - a workflow's folder as one content-addressed archive (libarchive is visible in bundle.c alone). Any thread, blocking.
 *
 * The archive is canonical: sorted names, no owners, no times, modes 0644 and 0755, tar in zstd; the same files give the same bytes.
 */
#ifndef DISPATCHER_BUNDLE_H
#define DISPATCHER_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "proto/workflow.h"

#define BUNDLE_MAX_BYTES (16 * 1024 * 1024)      /* packed */
#define BUNDLE_MAX_UNPACKED (64 * 1024 * 1024)
#define BUNDLE_FILES_MAX 2000

struct bundle {
	struct workflow *workflow;
	char *metadata;             /* text of metadata.yaml */
	struct buf packed;
	char sha256[SHA256_HEX_LEN];
};

/* Reads, validates and packs the folder dirfd/name, whose name is the workflow's. Symbolic links and special files are refused.
 * ERR_INVALID with file (and line, for metadata.yaml) and reason; ERR_TOOBIG; ERR_IO. */
int bundle_from_folder(int dirfd, const char *name, struct bundle *ret, struct err *e);

/* The same from a tar (plain, gzip or zstd) of the folder's contents. */
int bundle_from_tar(const char *name, const void *tar, size_t len, struct bundle *ret, struct err *e);

/* Frees what it holds; a zeroed one is fine. */
void bundle_release(struct bundle *b);

#endif
