/* Limits: what the tree may have, counted before it is made. Sizes come from the archive and may be anything. */
#include <errno.h>
#include <string.h>
#include <sys/vfs.h>

#include "base/clock.h"
#include "storage/extract_parts.h"

#define RATIO_FLOOR_BYTES (64LL << 20) /* below this no ratio is a danger */
#define TELL_BYTES (16LL << 20)        /* of growth after which the watch is told and the floors are looked at */
#define TELL_ENTRIES 1000
#define MIB (1LL << 20)
#define GIB (1LL << 30)

struct extract_limits
extract_limits_default(void)
{
	return (struct extract_limits){
		.max_archive_bytes = 16 * GIB, .max_bytes = 16 * GIB, .max_disk_bytes = 16 * GIB, .max_file_bytes = 8 * GIB,
		.max_entries = 500000, .max_ratio = 200, .max_depth = 64, .max_name_bytes = EXTRACT_PATH_MAX,
		.max_memory_bytes = 512 * MIB, .max_cpu_ms = 20 * 60 * 1000, .timeout_ms = 30 * 60 * 1000,
	};
}

bool
extract_limits_valid(const struct extract_limits *l)
{
	return l->max_archive_bytes > 0 && l->max_bytes > 0 && l->max_disk_bytes > 0 && l->max_file_bytes > 0 &&
	    l->max_entries > 0 && l->max_ratio > 0 && l->max_depth > 0 && l->max_depth <= EXTRACT_DEPTH_MAX &&
	    l->max_name_bytes > 0 && l->max_name_bytes <= EXTRACT_PATH_MAX && l->max_memory_bytes > 0 && l->max_cpu_ms > 0 &&
	    l->timeout_ms > 0 && l->min_free_bytes >= 0 && l->min_free_inodes >= 0;
}

/* Too little free: a matter of this node and this moment, not of the archive. */
static int
check_floors(const struct extract_count *c, struct err *e)
{
	const struct extract_limits *l = c->limits;
	const char *what = NULL;
	struct statfs fs;

	if (l->min_free_bytes == 0 && l->min_free_inodes == 0)
		return 0;
	if (fstatfs(c->dir_fd, &fs) != 0)
		return err_set(e, ERR_IO, "look at the free space: %s", strerror(errno));
	if ((int64_t)fs.f_bavail < l->min_free_bytes / (int64_t)fs.f_bsize)
		what = "space";
	else if (fs.f_files > 0 && (int64_t)fs.f_ffree < l->min_free_inodes) /* some file systems have no number of them */
		what = "inodes";
	if (what == NULL)
		return 0;
	err_set(e, ERR_RETRY, "the cache's disk has less free %s than is to be left", what);
	err_hint(e, EXTRACT_HINT_DISK);
	return ERR_RETRY;
}

int
extract_count_start(struct extract_count *c, struct err *e)
{
	if (c->in_bytes > c->limits->max_archive_bytes)
		return err_set(e, ERR_TOOBIG, "the archive has %lld bytes, %lld are allowed", (long long)c->in_bytes,
		    (long long)c->limits->max_archive_bytes);
	return check_floors(c, e);
}

int
extract_count_disk(struct extract_count *c, int64_t blocks, struct err *e)
{
	struct extract_result *m = &c->made;
	int rc;

	if (blocks > (c->limits->max_disk_bytes - m->disk_bytes) / EXTRACT_DISK_BLOCK)
		return err_set(e, ERR_TOOBIG, "the tree takes more than %lld bytes of the disk", (long long)c->limits->max_disk_bytes);
	m->disk_bytes += blocks * EXTRACT_DISK_BLOCK;
	if (clock_mono_ms() >= c->deadline_mono_ms)
		return err_set(e, ERR_TIMEOUT, "unpacking took longer than %lld ms", (long long)c->limits->timeout_ms);
	if (m->disk_bytes - c->told.disk_bytes < TELL_BYTES && m->entries - c->told.entries < TELL_ENTRIES)
		return 0;
	c->told = *m;
	if ((rc = check_floors(c, e)) != 0 || c->watch == NULL)
		return rc;
	return c->watch->grew(c->watch->arg, m->disk_bytes, m->entries, e);
}

int
extract_count_entries(struct extract_count *c, int64_t more, struct err *e)
{
	if (more > c->limits->max_entries - c->made.entries)
		return err_set(e, ERR_TOOBIG, "more than %lld entries", (long long)c->limits->max_entries);
	c->made.entries += more;
	return extract_count_disk(c, more, e);
}

int
extract_count_ratio(const struct extract_count *c, int64_t out_bytes, struct err *e)
{
	if (out_bytes <= RATIO_FLOOR_BYTES || out_bytes / c->limits->max_ratio <= c->in_bytes)
		return 0;
	return err_set(e, ERR_TOOBIG, "unpacked more than %lld times the size of the archive", (long long)c->limits->max_ratio);
}

int
extract_count_bytes(struct extract_count *c, int64_t file_bytes, int64_t more, struct err *e)
{
	if (file_bytes < 0 || more < 0)
		return err_set(e, ERR_INVALID, "the size is negative");
	if (file_bytes > c->limits->max_file_bytes)
		return err_set(e, ERR_TOOBIG, "the file has %lld bytes or more, %lld are allowed", (long long)file_bytes,
		    (long long)c->limits->max_file_bytes);
	if (more > c->limits->max_bytes - c->made.bytes)
		return err_set(e, ERR_TOOBIG, "all files together have more than %lld bytes", (long long)c->limits->max_bytes);
	c->made.bytes += more;
	return extract_count_ratio(c, c->made.bytes, e);
}
