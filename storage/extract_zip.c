/* A zip names each file twice, in front of its data and in the directory at the end. Tools disagree on which counts, so an
 * archive that says two things could show one tree to us and another to someone else: it is refused. */
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/mem.h"
#include "storage/extract_parts.h"

#define END_BYTES 22
#define END64_BYTES 56
#define LOCATOR_BYTES 20
#define COMMENT_MAX 65535
#define CENTRAL_BYTES 46
#define LOCAL_BYTES 30
#define NONE16 0xffffu
#define NONE32 0xffffffffu

struct directory {
	int64_t at, bytes, shift; /* shift: bytes in front of the zip, which its offsets do not count */
};

static uint64_t
le(const unsigned char *p, unsigned bytes)
{
	uint64_t v = 0;

	while (bytes-- > 0)
		v = v << 8 | p[bytes];
	return v;
}

static bool
read_at(int fd, void *out, size_t len, int64_t at)
{
	return at >= 0 && pread(fd, out, len, at) == (ssize_t)len;
}

/* Position of the end record, looked for from the back as all do; -1 if there is none. */
static int64_t
find_end(int fd, int64_t size, unsigned char end[END_BYTES])
{
	int64_t len = size < END_BYTES + COMMENT_MAX ? size : END_BYTES + COMMENT_MAX, found = -1;
	unsigned char *tail = xmalloc((size_t)len + 1);

	if (read_at(fd, tail, (size_t)len, size - len))
		for (int64_t i = len - END_BYTES; i >= 0 && found < 0; i--)
			if (memcmp(tail + i, "PK\005\006", 4) == 0) {
				memcpy(end, tail + i, END_BYTES);
				found = size - len + i;
			}
	free(tail);
	return found;
}

static bool
find_directory(int fd, int64_t size, struct directory *d)
{
	unsigned char end[END_BYTES], locator[LOCATOR_BYTES], end64[END64_BYTES];
	int64_t at = find_end(fd, size, end), offset;

	if (at < 0)
		return false;
	d->bytes = (int64_t)le(end + 12, 4);
	offset = (int64_t)le(end + 16, 4);
	if (le(end + 10, 2) == NONE16 || d->bytes == NONE32 || offset == NONE32) {
		if (!read_at(fd, locator, sizeof(locator), at - LOCATOR_BYTES) || memcmp(locator, "PK\006\007", 4) != 0 ||
		    !read_at(fd, end64, sizeof(end64), (int64_t)le(locator + 8, 8)) || memcmp(end64, "PK\006\006", 4) != 0)
			return false;
		at = (int64_t)le(locator + 8, 8);
		d->bytes = (int64_t)le(end64 + 40, 8);
		offset = (int64_t)le(end64 + 48, 8);
	}
	d->at = at - d->bytes;
	d->shift = d->at - offset;
	return d->bytes >= 0 && offset >= 0 && d->at >= 0 && d->shift >= 0 && d->at <= size - d->bytes;
}

/* The local header's offset; where 32 bits are too few, it is in the extra field behind the sizes that are. */
static int64_t
local_offset(const unsigned char *central, const unsigned char *extra, size_t extra_len)
{
	size_t skip = (le(central + 24, 4) == NONE32 ? 8u : 0u) + (le(central + 20, 4) == NONE32 ? 8u : 0u);

	if (le(central + 42, 4) != NONE32)
		return (int64_t)le(central + 42, 4);
	for (size_t i = 0; i + 4 <= extra_len; i += 4 + (size_t)le(extra + i + 2, 2))
		if (le(extra + i, 2) == 1 && le(extra + i + 2, 2) >= skip + 8 && i + 4 + skip + 8 <= extra_len)
			return (int64_t)(le(extra + i + 4 + skip, 8) & INT64_MAX);
	return -1;
}

/* Compares one directory entry (at p, with left bytes) to its local header. Returns its length, or ERR_INVALID. */
static int64_t
check_entry(int fd, const struct directory *d, const unsigned char *p, int64_t left, struct err *e)
{
	unsigned char local[LOCAL_BYTES + EXTRACT_PATH_MAX];
	size_t name_len, extra_len;
	int64_t len, at;

	if (left < CENTRAL_BYTES || memcmp(p, "PK\001\002", 4) != 0)
		return err_set(e, ERR_INVALID, "the zip's directory is broken");
	name_len = (size_t)le(p + 28, 2);
	extra_len = (size_t)le(p + 30, 2);
	len = CENTRAL_BYTES + (int64_t)name_len + (int64_t)extra_len + (int64_t)le(p + 32, 2);
	if (len > left)
		return err_set(e, ERR_INVALID, "the zip's directory is broken");
	if (name_len > EXTRACT_PATH_MAX)
		return err_set(e, ERR_TOOBIG, "a name in the zip has %zu bytes", name_len);
	at = local_offset(p, p + CENTRAL_BYTES + name_len, extra_len);
	if (at < 0 || at > INT64_MAX - d->shift || !read_at(fd, local, LOCAL_BYTES + name_len, at + d->shift) ||
	    memcmp(local, "PK\003\004", 4) != 0)
		return err_set(e, ERR_INVALID, "the zip's directory leads nowhere");
	if (le(local + 26, 2) != name_len || memcmp(local + LOCAL_BYTES, p + CENTRAL_BYTES, name_len) != 0)
		return err_set(e, ERR_INVALID, "the zip's two names of a file differ");
	return len;
}

int
extract_zip_check(int fd, int64_t size, const struct extract_limits *l, bool *ret_empty, struct err *e)
{
	struct directory d;
	unsigned char *all;
	int64_t at = 0, n = 0, len = 0;

	if (!find_directory(fd, size, &d))
		return err_set(e, ERR_INVALID, "the zip has no directory at its end: it was cut off");
	if (d.bytes > l->max_memory_bytes / 4)
		return err_set(e, ERR_TOOBIG, "the zip's directory has %lld bytes", (long long)d.bytes);
	all = xmalloc((size_t)d.bytes + 1);
	if (!read_at(fd, all, (size_t)d.bytes, d.at))
		len = err_set(e, ERR_INVALID, "the zip's directory is broken");
	while (len >= 0 && at < d.bytes) {
		len = check_entry(fd, &d, all + at, d.bytes - at, e);
		at += len > 0 ? len : 0;
		if (len > 0 && ++n > l->max_entries)
			len = err_set(e, ERR_TOOBIG, "more than %lld entries", (long long)l->max_entries);
	}
	free(all);
	*ret_empty = n == 0;
	return len < 0 ? (int)len : 0;
}
