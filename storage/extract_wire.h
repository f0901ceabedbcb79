/* extract_wire.h - what passes between extract.c (parent) and extract_helper.c, two ends of the same executable. */
#ifndef STORAGE_EXTRACT_WIRE_H
#define STORAGE_EXTRACT_WIRE_H

#include <stdint.h>

#include "base/err.h"
#include "storage/extract.h"

#define EXTRACT_WIRE_FLAG "--extract"
#define EXTRACT_WIRE_MAGIC 0x44524558u

struct extract_wire_args { /* argv[2..], decimal, in the order of EXTRACT_WIRE_FIELDS */
	int64_t uid, gid;
	struct extract_limits limits;
};

#define EXTRACT_WIRE_FIELDS(a) \
	{ \
		&(a)->uid, &(a)->gid, &(a)->limits.max_archive_bytes, &(a)->limits.max_bytes, &(a)->limits.max_disk_bytes, \
		&(a)->limits.max_file_bytes, &(a)->limits.max_entries, &(a)->limits.max_ratio, &(a)->limits.max_depth, \
		&(a)->limits.max_name_bytes, &(a)->limits.max_memory_bytes, &(a)->limits.max_cpu_ms, &(a)->limits.timeout_ms, \
		&(a)->limits.min_free_bytes, &(a)->limits.min_free_inodes \
	}
#define EXTRACT_WIRE_N_FIELDS 15

#define EXTRACT_WIRE_GROWING 1 /* as rc: not the end, result says what there is by now */

struct extract_wire_reply { /* several that say GROWING, then one; each below PIPE_BUF, so it is written whole */
	uint32_t magic;
	int32_t rc;     /* 0, ERR_* or EXTRACT_WIRE_GROWING */
	int32_t guards; /* enum extract_guard bits */
	struct extract_result result;
	struct err err;
};

_Static_assert(sizeof(struct extract_wire_reply) < 4096, "a reply fits the pipe at once");

#endif
