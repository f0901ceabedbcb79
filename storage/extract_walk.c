/* The walk: libarchive reads headers and data, we decide and create. libarchive's own disk writer is not used: it makes devices
 * and links to anywhere, changes directory and asks the umask for each file.
 *
 * Names are the archive's bytes. That takes the C locale: in others libarchive turns them into normal form C, and what came as
 * two files is one. Where it then has no text for a name (a zip's), ours from the zip's directory is taken. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "storage/extract_parts.h"

#define READ_BYTES (256 * 1024)
#define MTIME_MAX 4102444800LL         /* 2100-01-01 */
#define TAR_BLOCK 512
#define EMPTY_TAR_MAX 65536

struct piece { /* of a file's data */
	const void *data;
	size_t len;
	int64_t at;
};

struct walk {
	struct archive *a;
	struct extract_tree *tree;
	const struct extract_limits *limits;
	struct extract_count count;
	int fd;
	struct extract_zip *zip; /* NULL for a tar */
	struct extract_links *links;
	int64_t own_dirs; /* made for an entry of their own */
	char path[EXTRACT_PATH_MAX + 1]; /* of the entry at hand */
};

/* --- libarchive --- */

static int
broken(struct err *e, const char *what, const char *hint)
{
	err_set(e, ERR_INVALID, "%s", what);
	err_hint(e, "%s", hint);
	return ERR_INVALID;
}

static int
read_error(struct walk *w, struct err *e)
{
	const char *text = archive_error_string(w->a);
	char q[EXTRACT_QUOTE_LEN];

	if (archive_errno(w->a) == ENOMEM) {
		err_set(e, ERR_TOOBIG, "reading the archive needs more than %lld MiB of memory",
		    (long long)(w->limits->max_memory_bytes >> 20));
		err_hint(e, "pack it again with a smaller dictionary (xz -6)");
		return ERR_TOOBIG;
	}
	if (archive_errno(w->a) == EIO)
		return err_set(e, ERR_IO, "read the archive: %s", strerror(EIO));
	err_set(e, ERR_INVALID, "broken or not an archive%s%s", text != NULL ? ": " : "", text != NULL ? extract_quote(text, q) : "");
	err_hint(e, "tar and zip are taken, plain or with gzip, bzip2, xz or zstd");
	return ERR_INVALID;
}

static bool
starts_like_zip(int fd)
{
	char head[4];

	return pread(fd, head, sizeof(head), 0) == (ssize_t)sizeof(head) &&
	    (memcmp(head, "PK\003\004", 4) == 0 || memcmp(head, "PK\005\006", 4) == 0);
}

/* What starts as a zip must be a whole one. */
static int
open_zip(struct walk *w, struct err *e)
{
	int rc = extract_zip_open(w->fd, w->count.in_bytes, w->limits, &w->zip, e);

	if (rc != 0 && e != NULL && e->hint[0] == '\0')
		err_hint(e, "upload it again, or pack it again with a common tool");
	return rc;
}

/* Only what we mean to take: other formats and filters hold most of libarchive's past flaws, run programs, or (mtree) read
 * files of this host. The first bytes alone tell zip from tar: no file is both. */
static int
open_archive(struct walk *w, struct err *e)
{
	struct stat st;
	int rc;

	if (fstat(w->fd, &st) != 0 || lseek(w->fd, 0, SEEK_SET) != 0)
		return err_set(e, ERR_IO, "open the archive: %s", strerror(errno));
	w->count.in_bytes = st.st_size;
	if ((rc = extract_count_start(&w->count, e)) != 0 || (starts_like_zip(w->fd) && (rc = open_zip(w, e)) != 0))
		return rc;
	w->a = archive_read_new();
	if (w->a == NULL)
		return err_set(e, ERR_IO, "open the archive: out of memory");
	if (w->zip != NULL) {
		/* Not the streaming reader: it would take a zip without its directory, cut off, for whole. */
		archive_read_support_format_zip_seekable(w->a);
		return 0;
	}
	archive_read_support_filter_gzip(w->a);
	archive_read_support_filter_bzip2(w->a);
	archive_read_support_filter_xz(w->a);
	archive_read_support_filter_zstd(w->a);
	archive_read_support_format_tar(w->a);
	return 0;
}

/* --- entries --- */

static int
write_at(int fd, const char *data, size_t len, int64_t at, struct err *e)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, data, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return extract_errno(e, "write a file");
		data += n;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Takes one piece of a file: `counted` bytes of it are accounted for, its blocks before `next_block` are on the disk. */
static int
take_piece(struct walk *w, int fd, const struct piece *p, int64_t *counted, int64_t *next_block, struct err *e)
{
	int64_t end, first = p->at / EXTRACT_DISK_BLOCK, blocks;
	int rc;

	if (p->at > INT64_MAX - EXTRACT_DISK_BLOCK - (int64_t)p->len)
		return err_set(e, ERR_INVALID, "the file ends beyond all bounds");
	end = p->at + (int64_t)p->len;
	if (end > *counted) {
		if ((rc = extract_count_bytes(&w->count, end, end - *counted, e)) != 0)
			return rc;
		*counted = end;
	}
	if (first < *next_block)
		first = *next_block;
	blocks = (end + EXTRACT_DISK_BLOCK - 1) / EXTRACT_DISK_BLOCK - first;
	if (blocks > 0)
		*next_block = first + blocks;
	if ((rc = extract_count_disk(&w->count, blocks > 0 ? blocks : 0, e)) != 0)
		return rc;
	return write_at(fd, p->data, p->len, p->at, e);
}

/* Bytes of data that a sparse file is said to have; -1 for other files. */
static int64_t
sparse_bytes(struct archive_entry *entry)
{
	la_int64_t at, len;
	int64_t sum = 0;

	if (archive_entry_sparse_reset(entry) == 0)
		return -1;
	while (archive_entry_sparse_next(entry, &at, &len) == ARCHIVE_OK)
		sum = len > INT64_MAX - sum ? INT64_MAX : sum + len;
	return sum;
}

/* Copies the entry's data. Its size was accounted for where the header told it (declared >= 0). */
static int
copy_data(struct walk *w, struct archive_entry *entry, int fd, int64_t declared, struct err *e)
{
	int64_t end = 0, counted = declared > 0 ? declared : 0, next_block = 0, sparse = sparse_bytes(entry), came = 0;
	struct piece p;
	la_int64_t at;
	int rc, got;

	while ((got = archive_read_data_block(w->a, &p.data, &p.len, &at)) == ARCHIVE_OK) {
		p.at = at;
		if (p.at < end)
			return err_set(e, ERR_INVALID, "the pieces of a sparse file overlap");
		if (declared >= 0 && (p.at > declared || (int64_t)p.len > declared - p.at))
			return err_set(e, ERR_INVALID, "the file has more bytes than its header says");
		if ((rc = take_piece(w, fd, &p, &counted, &next_block, e)) != 0)
			return rc;
		fault_point("extract.data");
		end = p.at + (int64_t)p.len;
		came += (int64_t)p.len;
	}
	/* A warning here means data that cannot be trusted: a wrong checksum, an unknown compression. */
	if (got != ARCHIVE_EOF)
		return read_error(w, e);
	if (sparse >= 0 && came != sparse)
		return err_set(e, ERR_INVALID, "the sparse file has other pieces than its header says");
	if (end < declared && ftruncate(fd, declared) != 0)
		return extract_errno(e, "size a file");
	return 0;
}

/* The time of change is part of what tools may look at; absurd ones (before 1970, after 2100) break some of them. */
static void
keep_mtime(int fd, struct archive_entry *entry)
{
	time_t t = archive_entry_mtime_is_set(entry) ? archive_entry_mtime(entry) : 0;
	struct timespec times[2] = {{.tv_sec = t < 0 ? 0 : t > MTIME_MAX ? MTIME_MAX : t}, {0}};

	times[1] = times[0];
	(void)futimens(fd, times); /* nothing depends on it */
}

static int
make_file(struct walk *w, struct archive_entry *entry, struct err *e)
{
	int64_t declared = archive_entry_size_is_set(entry) ? archive_entry_size(entry) : -1;
	int rc, fd;

	if (archive_entry_size_is_set(entry) && (rc = extract_count_bytes(&w->count, declared, declared, e)) != 0)
		return rc;
	fd = extract_tree_file(w->tree, w->path, archive_entry_perm(entry), e);
	if (fd < 0)
		return fd;
	rc = copy_data(w, entry, fd, declared, e);
	if (rc == 0)
		keep_mtime(fd, entry);
	if (close(fd) != 0 && rc == 0)
		rc = extract_errno(e, "close a file");
	return rc;
}

static int
make_hard_link(struct walk *w, struct archive_entry *entry, struct err *e)
{
	const char *raw = archive_entry_hardlink(entry);
	char target[EXTRACT_PATH_MAX + 1];
	unsigned parts;
	int64_t bytes;
	int rc;

	if (archive_entry_size_is_set(entry) && archive_entry_size(entry) > 0)
		return err_set(e, ERR_INVALID, "the hard link carries data");
	if ((rc = extract_name_clean(raw, w->limits, target, &parts, e)) != 0)
		return err_prefix(e, rc, "target of the hard link");
	if (parts == 0)
		return err_set(e, ERR_INVALID, "the hard link's target is not a file that came before it");
	if ((rc = extract_tree_link(w->tree, w->path, target, &bytes, e)) != 0)
		return rc;
	/* A link costs nothing here, but a copy of the tree may cost its size. */
	return extract_count_bytes(&w->count, bytes, bytes, e);
}

static int
keep_symlink(struct walk *w, struct archive_entry *entry, struct err *e)
{
	const char *target = archive_entry_symlink(entry);

	if (target == NULL)
		return err_set(e, ERR_INVALID, "the link's target cannot be read");
	return extract_links_keep(w->links, w->path, target, w->limits->max_memory_bytes / 4, e);
}

static const char *
type_word(unsigned type)
{
	static const struct {
		unsigned type;
		const char *word;
	} words[] = {{AE_IFCHR, "a character device"}, {AE_IFBLK, "a block device"}, {AE_IFIFO, "a fifo"}, {AE_IFSOCK, "a socket"}};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (words[i].type == type)
			return words[i].word;
	return "of no known type";
}

/* A directory that is there already is fine: most tools pack one before what is in it, some once more behind. */
static int
make_dir(struct walk *w, struct err *e)
{
	int64_t before = extract_tree_dirs_made(w->tree);
	int rc = extract_tree_dir(w->tree, w->path, e);

	/* Counted as an entry already. */
	w->own_dirs += extract_tree_dirs_made(w->tree) > before;
	return rc;
}

static int
make_kind(struct walk *w, struct archive_entry *entry, struct err *e)
{
	unsigned type = archive_entry_filetype(entry);

	if (archive_entry_hardlink(entry) != NULL)
		return make_hard_link(w, entry, e);
	if (type == AE_IFREG)
		return make_file(w, entry, e);
	if (type == AE_IFDIR)
		return make_dir(w, e);
	if (type == AE_IFLNK)
		return keep_symlink(w, entry, e);
	return err_set(e, ERR_INVALID, "it is %s", type_word(type));
}

static int
make_entry(struct walk *w, struct archive_entry *entry, const char *raw, struct err *e)
{
	unsigned parts;
	int rc;

	fault_point("extract.entry");
	if (raw == NULL)
		return err_set(e, ERR_INVALID, "the name cannot be read");
	if ((rc = extract_name_clean(raw, w->limits, w->path, &parts, e)) != 0 ||
	    (rc = extract_count_entries(&w->count, 1, e)) != 0)
		return rc;
	if (archive_entry_is_encrypted(entry)) {
		err_set(e, ERR_INVALID, "the entry is encrypted");
		err_hint(e, "pack it again without a password");
		return ERR_INVALID;
	}
	if (parts == 0)
		return archive_entry_filetype(entry) == AE_IFDIR ? 0 : err_set(e, ERR_INVALID, "the name is that of the root");
	if ((rc = make_kind(w, entry, e)) != 0)
		return rc;
	return extract_tree_count_dirs(w->tree, w->own_dirs, &w->count, e);
}

static int
name_entry(int rc, const char *raw, struct err *e)
{
	char q[EXTRACT_QUOTE_LEN];

	err_prefix(e, rc, "entry %s", extract_quote(raw != NULL ? raw : "?", q));
	if (e != NULL && e->hint[0] == '\0' && rc == ERR_INVALID)
		err_hint(e, "an archive may hold files, directories and links that stay inside it; remove the entry and pack again");
	return rc;
}

/* --- the whole --- */

/* Zeros are a tar without entries; much else begins with zeros too (images of disks). */
static int
check_empty(struct walk *w, struct err *e)
{
	char head[EMPTY_TAR_MAX];
	ssize_t n = pread(w->fd, head, sizeof(head), 0);

	for (ssize_t i = 0; i < n; i++)
		if (head[i] != 0)
			n = -1;
	return n == w->count.in_bytes ? 0 : broken(e, "nothing is in the archive, or it is none", "pack it again with a common tool");
}

/* A plain tar that was cut between two entries looks whole to libarchive; its end mark, a block of zeros, tells. */
static int
check_end(struct walk *w, struct err *e)
{
	static const char zeros[TAR_BLOCK];
	char block[TAR_BLOCK];

	if ((archive_format(w->a) & ARCHIVE_FORMAT_BASE_MASK) != ARCHIVE_FORMAT_TAR || archive_filter_count(w->a) != 1)
		return 0;
	if (w->count.made.entries == 0)
		return check_empty(w, e);
	/* Where the next header would be. */
	if (pread(w->fd, block, TAR_BLOCK, archive_read_header_position(w->a)) == TAR_BLOCK && memcmp(block, zeros, TAR_BLOCK) == 0)
		return 0;
	return broken(e, "the archive ends without its end mark: it was cut off", "upload it again, or pack it again");
}

/* What is decompressed but is no file's data (padding, headers) counts against the ratio too, as does a filter in a filter. */
static int
check_stream(struct walk *w, struct err *e)
{
	int rc;

	if (archive_filter_count(w->a) > 2)
		return broken(e, "the archive is compressed more than once", "pack it once, with one compression");
	rc = extract_count_ratio(&w->count, archive_filter_bytes(w->a, 0), e);
	return rc == 0 ? 0 : name_entry(rc, "(padding)", e);
}

static int
walk_entries(struct walk *w, struct err *e)
{
	struct archive_entry *entry;
	const char *raw, *path;
	int rc, got;

	if (archive_read_open_fd(w->a, w->fd, READ_BYTES) != ARCHIVE_OK)
		return read_error(w, e);
	/* A warning is a name that is not ASCII, which we take as it is, or a header of which a part makes no sense: others may read
	 * another archive there. */
	while ((got = archive_read_next_header(w->a, &entry)) == ARCHIVE_OK || got == ARCHIVE_WARN) {
		if (got == ARCHIVE_WARN && archive_errno(w->a) != EILSEQ)
			return read_error(w, e);
		if ((rc = check_stream(w, e)) != 0)
			return rc;
		raw = w->zip != NULL ? extract_zip_next(w->zip, archive_entry_pathname(entry)) : archive_entry_pathname(entry);
		if ((rc = make_entry(w, entry, raw, e)) != 0)
			return name_entry(rc, raw, e);
	}
	if (got != ARCHIVE_EOF)
		return read_error(w, e);
	if ((rc = check_stream(w, e)) != 0 || (rc = check_end(w, e)) != 0)
		return rc;
	fault_point("extract.links");
	rc = extract_links_make(w->links, w->tree, w->own_dirs, &w->count, &path, e);
	return rc == 0 ? 0 : name_entry(rc, path, e);
}

static int
walk(struct walk *w, struct err *e)
{
	int rc = open_archive(w, e);

	/* libarchive knows no zip without files. */
	return rc != 0 || (w->zip != NULL && extract_zip_files(w->zip) == 0) ? rc : walk_entries(w, e);
}

int
extract_walk(int fd, int dir_fd, const struct extract_limits *limits, const struct extract_watch *watch,
    struct extract_result *ret_result, struct err *e)
{
	int64_t start_mono_ms = clock_mono_ms();
	struct walk w = {.limits = limits, .fd = fd, .count = {.limits = limits, .watch = watch, .dir_fd = dir_fd}};
	int rc;

	if (!extract_limits_valid(limits))
		return err_set(e, ERR_INVALID, "a limit of extraction is missing or out of bounds");
	w.count.deadline_mono_ms = start_mono_ms + limits->timeout_ms;
	w.tree = extract_tree_new(dir_fd);
	w.links = extract_links_new();
	rc = walk(&w, e);
	if (rc == 0) {
		w.count.made.took_ms = clock_mono_ms() - start_mono_ms;
		*ret_result = w.count.made;
	}
	if ((rc == ERR_TOOBIG || rc == ERR_TIMEOUT) && e != NULL && e->hint[0] == '\0')
		err_hint(e, "submit less, or ask the operator to raise the limits of extraction");
	if (w.a != NULL)
		archive_read_free(w.a);
	extract_zip_free(w.zip);
	extract_tree_free(w.tree);
	extract_links_free(w.links);
	return rc;
}
