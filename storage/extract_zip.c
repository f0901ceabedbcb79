/* A zip says everything twice, in front of each file's data and in the directory at the end. Tools disagree on which counts, so
 * an archive that says two things, or whose files share bytes, could show one tree to us and another to someone else, or a small
 * file many times: it is refused. Layout: PKWARE's APPNOTE.TXT 6.3, sections 4.3 to 4.5. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "storage/extract_parts.h"

#define END_BYTES 22
#define END64_BYTES 56
#define LOCATOR_BYTES 20
#define COMMENT_MAX 65535
#define CENTRAL_BYTES 46
#define LOCAL_BYTES 30
#define EXTRA_MAX 65535
#define NONE16 0xffffu
#define NONE32 0xffffffffu
#define FLAGS_ENCRYPTED 0x2041u /* encrypted, strongly encrypted, directory encrypted */
#define FLAG_DESCRIPTOR 8u      /* sizes follow the data */
#define EXTRA_ZIP64 1u
#define HOST_UNIX 3
#define EXTRA_UNICODE_PATH 0x7075u
#define UNICODE_NAME_AT 5 /* in that field, behind a version and the old name's CRC */

struct extra { /* a field of an entry's extra data */
	const unsigned char *p;
	size_t len;
};

struct span { /* of the file: a local header and its data */
	int64_t start, end;
	const unsigned char *central; /* its entry in the directory */
	struct extra unicode_path;
};

struct directory {
	int64_t at, bytes, n;
};

struct member { /* what one of the two headers of a file says */
	unsigned flags, method;
	uint32_t crc;
	int64_t packed, size, offset; /* the offset is in the directory alone */
	struct extra unicode_path;
};

struct extract_zip {
	int fd;
	int64_t size;
	struct directory d;
	unsigned char *central; /* the directory's bytes */
	struct span *spans;
	int64_t n, next;
	char name[EXTRACT_PATH_MAX + 1];
	unsigned char local[LOCAL_BYTES + EXTRACT_PATH_MAX + EXTRA_MAX];
};

static uint64_t
le(const unsigned char *p, unsigned bytes)
{
	uint64_t v = 0;

	while (bytes-- > 0)
		v = v << 8 | p[bytes];
	return v;
}

/* Eight bytes that are a size or position; -1 for what no file can have. */
static int64_t
le63(const unsigned char *p)
{
	uint64_t v = le(p, 8);

	return v <= INT64_MAX ? (int64_t)v : -1;
}

static bool
read_at(int fd, void *out, size_t len, int64_t at)
{
	return at >= 0 && pread(fd, out, len, at) == (ssize_t)len;
}

/* Position of the end record, looked for from the back as all do; -1 if there is none. */
static int64_t
find_end(const struct extract_zip *z, unsigned char end[END_BYTES])
{
	int64_t len = z->size < END_BYTES + COMMENT_MAX ? z->size : END_BYTES + COMMENT_MAX, found = -1;
	unsigned char *tail = xmalloc((size_t)len + 1);

	if (read_at(z->fd, tail, (size_t)len, z->size - len))
		for (int64_t i = len - END_BYTES; i >= 0 && found < 0; i--)
			if (memcmp(tail + i, "PK\005\006", 4) == 0) {
				memcpy(end, tail + i, END_BYTES);
				found = z->size - len + i;
			}
	free(tail);
	return found;
}

/* Whether a field of the short end record says the same as the long one. */
static bool
agrees(const unsigned char *field, unsigned bytes, int64_t long_value)
{
	uint64_t v = le(field, bytes);

	return v == (bytes == 2 ? NONE16 : NONE32) || (long_value >= 0 && v == (uint64_t)long_value);
}

/* Whether the directory lies where the end record says, right in front of it, and nothing is on other disks. */
static bool
find_directory(struct extract_zip *z)
{
	unsigned char end[END_BYTES], locator[LOCATOR_BYTES], end64[END64_BYTES];
	int64_t at = find_end(z, end), offset;
	struct directory *d = &z->d;

	if (at < 0 || at + END_BYTES + (int64_t)le(end + 20, 2) > z->size)
		return false;
	d->n = (int64_t)le(end + 10, 2);
	d->bytes = (int64_t)le(end + 12, 4);
	offset = (int64_t)le(end + 16, 4);
	if (read_at(z->fd, locator, sizeof(locator), at - LOCATOR_BYTES) && memcmp(locator, "PK\006\007", 4) == 0) {
		int64_t at64 = le63(locator + 8);

		if (!read_at(z->fd, end64, sizeof(end64), at64) || memcmp(end64, "PK\006\006", 4) != 0 ||
		    le63(end64 + 4) != at - LOCATOR_BYTES - at64 - 12 || le(end64 + 16, 8) != 0 || le63(end64 + 24) != le63(end64 + 32))
			return false;
		d->n = le63(end64 + 32);
		d->bytes = le63(end64 + 40);
		offset = le63(end64 + 48);
		if (!agrees(end + 10, 2, d->n) || !agrees(end + 12, 4, d->bytes) || !agrees(end + 16, 4, offset))
			return false;
		at = at64;
	} else if (le(end + 4, 4) != 0 || le(end + 8, 2) != le(end + 10, 2)) {
		return false;
	}
	d->at = offset;
	return d->n >= 0 && d->bytes >= 0 && offset >= 0 && d->bytes <= at && offset == at - d->bytes;
}

/* The first field with this id; p is NULL where there is none. */
static struct extra
find_extra(struct extra all, unsigned id)
{
	while (all.len >= 4) {
		size_t len = (size_t)le(all.p + 2, 2);

		if (len > all.len - 4)
			break;
		if (le(all.p, 2) == id)
			return (struct extra){all.p + 4, len};
		all.p += 4 + len;
		all.len -= 4 + len;
	}
	return (struct extra){NULL, 0};
}

/* Puts in what did not fit into 32 bits, in the order of the format. False where it is missing. */
static bool
take_zip64(struct member *m, struct extra all)
{
	struct extra long_values = find_extra(all, EXTRA_ZIP64);
	int64_t *const fields[] = {&m->size, &m->packed, &m->offset};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (*fields[i] != NONE32)
			continue;
		if (long_values.len < 8 || (*fields[i] = le63(long_values.p)) < 0)
			return false;
		long_values.p += 8;
		long_values.len -= 8;
	}
	return true;
}

/* p: where a header of either kind has its flags. */
static bool
take_member(struct member *m, const unsigned char *p, int64_t offset, struct extra all)
{
	*m = (struct member){.flags = (unsigned)le(p, 2), .method = (unsigned)le(p + 2, 2), .crc = (uint32_t)le(p + 8, 4),
	    .packed = (int64_t)le(p + 12, 4), .size = (int64_t)le(p + 16, 4), .offset = offset,
	    .unicode_path = find_extra(all, EXTRA_UNICODE_PATH)};
	return take_zip64(m, all);
}

static bool
same_bytes(struct extra a, struct extra b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

/* A second name in Unicode is for names that are not: it may not be another name. */
static bool
names_agree(const unsigned char *name, size_t len, const struct member *central, const struct member *local)
{
	char text[EXTRACT_PATH_MAX + 1];
	struct extra u = central->unicode_path;

	if (u.p == NULL && local->unicode_path.p == NULL)
		return true;
	memcpy(text, name, len);
	text[len] = '\0';
	if (!utf8_valid(text))
		return u.len > UNICODE_NAME_AT && same_bytes(u, local->unicode_path) &&
		    memchr(u.p + UNICODE_NAME_AT, '\0', u.len - UNICODE_NAME_AT) == NULL;
	for (int i = 0; i < 2; i++, u = local->unicode_path)
		if (u.p != NULL && (u.len < UNICODE_NAME_AT || u.len - UNICODE_NAME_AT != len ||
		    memcmp(u.p + UNICODE_NAME_AT, name, len) != 0))
			return false;
	return true;
}

static int
check_method(const struct member *m, struct err *e)
{
	static const unsigned taken[] = {0, 8, 12, 93, 95}; /* stored, deflate, bzip2, zstd, xz */

	if ((m->flags & FLAGS_ENCRYPTED) != 0) {
		err_set(e, ERR_INVALID, "a file in the zip is encrypted");
		err_hint(e, "pack it again without a password");
		return ERR_INVALID;
	}
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		if (m->method == taken[i])
			return 0;
	err_set(e, ERR_INVALID, "a file in the zip is compressed by method %u", m->method);
	err_hint(e, "pack it again with deflate, bzip2, xz or zstd");
	return ERR_INVALID;
}

/* Compares what the directory says of a file to what stands in front of its data. */
static int
check_local(struct extract_zip *z, const unsigned char *name, size_t name_len, const struct member *c, struct err *e)
{
	size_t head = LOCAL_BYTES + name_len, extra_len;
	struct member l;
	int64_t end;
	int rc;

	if (!read_at(z->fd, z->local, head, c->offset) || memcmp(z->local, "PK\003\004", 4) != 0)
		return err_set(e, ERR_INVALID, "the zip's directory leads nowhere");
	extra_len = (size_t)le(z->local + 28, 2);
	if (le(z->local + 26, 2) != name_len || memcmp(z->local + LOCAL_BYTES, name, name_len) != 0 ||
	    memchr(name, '\0', name_len) != NULL)
		return err_set(e, ERR_INVALID, "the zip's two names of a file differ");
	if (extra_len > 0 && !read_at(z->fd, z->local + head, extra_len, c->offset + (int64_t)head))
		return err_set(e, ERR_INVALID, "the zip is broken: a file's header is cut off");
	if (!take_member(&l, z->local + 6, 0, (struct extra){z->local + head, extra_len}))
		return err_set(e, ERR_INVALID, "the zip's 64-bit sizes are missing");
	if (!names_agree(name, name_len, c, &l))
		return err_set(e, ERR_INVALID, "the zip's two names of a file differ");
	if ((rc = check_method(c, e)) != 0 || (rc = check_method(&l, e)) != 0)
		return rc;
	if (l.method != c->method ||
	    ((l.flags & FLAG_DESCRIPTOR) == 0 && (l.crc != c->crc || l.packed != c->packed || l.size != c->size)))
		return err_set(e, ERR_INVALID, "the zip says two things about a file");
	end = c->offset + (int64_t)(head + extra_len);
	if (end > z->d.at || c->packed > z->d.at - end)
		return err_set(e, ERR_INVALID, "a file in the zip ends behind the last one");
	z->spans[z->n++] = (struct span){c->offset, end + c->packed, name - CENTRAL_BYTES, c->unicode_path};
	return 0;
}

/* What a Unix zip says a file is; others cannot say. */
static int
check_kind(const unsigned char *p, struct err *e)
{
	unsigned type = (unsigned)le(p + 40, 2) & S_IFMT;

	if (p[5] != HOST_UNIX || type == 0 || type == S_IFREG || type == S_IFDIR || type == S_IFLNK)
		return 0;
	return err_set(e, ERR_INVALID, "a file in the zip is a device, fifo or socket");
}

/* Checks one directory entry (at p, with left bytes). Returns its length, or ERR_INVALID, ERR_TOOBIG. */
static int64_t
check_entry(struct extract_zip *z, const unsigned char *p, int64_t left, struct err *e)
{
	size_t name_len, extra_len;
	struct member m;
	int64_t len;
	int rc;

	if (left < CENTRAL_BYTES || memcmp(p, "PK\001\002", 4) != 0)
		return err_set(e, ERR_INVALID, "the zip's directory is broken");
	name_len = (size_t)le(p + 28, 2);
	extra_len = (size_t)le(p + 30, 2);
	len = CENTRAL_BYTES + (int64_t)name_len + (int64_t)extra_len + (int64_t)le(p + 32, 2);
	if (len > left || le(p + 34, 2) != 0)
		return err_set(e, ERR_INVALID, "the zip's directory is broken");
	if (name_len > EXTRACT_PATH_MAX)
		return err_set(e, ERR_TOOBIG, "a name in the zip has %zu bytes", name_len);
	if (!take_member(&m, p + 8, (int64_t)le(p + 42, 4), (struct extra){p + CENTRAL_BYTES + name_len, extra_len}))
		return err_set(e, ERR_INVALID, "the zip's 64-bit sizes are missing");
	if (m.size > 0 && name_len > 0 && p[CENTRAL_BYTES + name_len - 1] == '/')
		return err_set(e, ERR_INVALID, "a directory in the zip has data");
	if ((rc = check_kind(p, e)) != 0 || (rc = check_local(z, p + CENTRAL_BYTES, name_len, &m, e)) != 0)
		return rc;
	return len;
}

static int
by_start(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* The files begin where the zip does and follow one another; gaps (descriptors, alignment, signatures) are common. */
static int
check_spans(struct extract_zip *z, struct err *e)
{
	qsort(z->spans, (size_t)z->n, sizeof(*z->spans), by_start);
	if (z->n > 0 && z->spans[0].start != 0)
		return err_set(e, ERR_INVALID, "the zip begins with bytes that are not in its directory");
	for (int64_t i = 1; i < z->n; i++)
		if (z->spans[i].start < z->spans[i - 1].end)
			return err_set(e, ERR_INVALID, "files in the zip overlap");
	return 0;
}

static int
check_all(struct extract_zip *z, struct err *e)
{
	int64_t at = 0, len;

	for (int64_t i = 0; i < z->d.n; i++, at += len)
		if ((len = check_entry(z, z->central + at, z->d.bytes - at, e)) < 0)
			return (int)len;
	if (at != z->d.bytes)
		return err_set(e, ERR_INVALID, "the zip's directory is broken");
	return check_spans(z, e);
}

static int
read_directory(struct extract_zip *z, const struct extract_limits *l, struct err *e)
{
	if (!find_directory(z))
		return err_set(e, ERR_INVALID, "the zip has no sound directory at its end: it may have been cut off");
	if (z->d.bytes > l->max_memory_bytes / 4)
		return err_set(e, ERR_TOOBIG, "the zip's directory has %lld bytes", (long long)z->d.bytes);
	if (z->d.n > l->max_entries)
		return err_set(e, ERR_TOOBIG, "more than %lld entries", (long long)l->max_entries);
	z->central = xmalloc((size_t)z->d.bytes + 1);
	/* As many as there can be, whatever the count says. */
	z->spans = xmalloc((size_t)(z->d.bytes / CENTRAL_BYTES + 1) * sizeof(*z->spans));
	if (!read_at(z->fd, z->central, (size_t)z->d.bytes, z->d.at))
		return err_set(e, ERR_INVALID, "the zip's directory is broken");
	return check_all(z, e);
}

int
extract_zip_open(int fd, int64_t size, const struct extract_limits *l, struct extract_zip **ret_zip, struct err *e)
{
	struct extract_zip *z = xcalloc(1, sizeof(*z));
	int rc;

	z->fd = fd;
	z->size = size;
	rc = read_directory(z, l, e);
	if (rc == 0)
		*ret_zip = z;
	else
		extract_zip_free(z);
	return rc;
}

void
extract_zip_free(struct extract_zip *z)
{
	if (z == NULL)
		return;
	free(z->central);
	free(z->spans);
	free(z);
}

int64_t
extract_zip_files(const struct extract_zip *z)
{
	return z->n;
}

static bool
plain_ascii(const char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s >= 0x80 || *s == '\\')
			return false;
	return true;
}

const char *
extract_zip_next(struct extract_zip *z, const char *theirs)
{
	const struct span *s;
	size_t len;

	if (z->next >= z->n)
		return NULL;
	s = &z->spans[z->next++];
	len = (size_t)le(s->central + 28, 2);
	memcpy(z->name, s->central + CENTRAL_BYTES, len);
	z->name[len] = '\0';
	/* Two headers may agree on a name in an old character set, and on what it is in Unicode. */
	if (!utf8_valid(z->name) && s->unicode_path.len > UNICODE_NAME_AT &&
	    s->unicode_path.len - UNICODE_NAME_AT <= EXTRACT_PATH_MAX) {
		len = s->unicode_path.len - UNICODE_NAME_AT;
		memcpy(z->name, s->unicode_path.p + UNICODE_NAME_AT, len);
		z->name[len] = '\0';
	}
	/* Old tools of Windows write backslashes; elsewhere they are part of a name. */
	if (s->central[5] != HOST_UNIX && strchr(z->name, '/') == NULL)
		for (char *c = z->name; (c = strchr(c, '\\')) != NULL;)
			*c++ = '/';
	return theirs != NULL && plain_ascii(z->name) && plain_ascii(theirs) && strcmp(theirs, z->name) != 0 ? NULL : z->name;
}
