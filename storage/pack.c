#include "storage/pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/glob.h"
#include "base/mem.h"

#define DEPTH_MAX 200 /* above what extraction takes: the clear refusal comes from there */
#define PATH_BYTES_MAX 8192
#define PIECE 262144
#define IGNORE_FILE ".droverignore"
#define IGNORE_MAX 65536
#define ZSTD_LEVEL "3"

struct packer {
	const struct pack_options *o;
	struct archive *a;
	struct ignore *ignore;
	struct buf path;     /* relative path of the entry at hand */
	struct pack_result r;
	char *piece;         /* PIECE bytes */
	int (*write)(void *, const void *, size_t);
	void *arg;
	int write_rc;        /* what write ended with */
	bool failed;         /* nothing more is handed to it */
	struct err *e;
};

static int pack_dir(struct packer *p, int dir_fd, unsigned depth);

/* After a failure the rest is swallowed, so that libarchive can be closed in the ordinary way: archive_write_fail leaks. */
static la_ssize_t
on_write(struct archive *a, void *arg, const void *data, size_t len)
{
	struct packer *p = arg;

	(void)a;
	if (!p->failed && (p->write_rc = p->write(p->arg, data, len)) != 0)
		p->failed = true;
	return (la_ssize_t)len;
}

static int
archive_failed(struct packer *p)
{
	const char *why = archive_error_string(p->a);

	if (p->write_rc != 0)
		return p->write_rc;
	return err_set(p->e, ERR_IO, "pack %s: %s", buf_str(&p->path), why != NULL ? why : "failed");
}

static void
leave_out(struct packer *p, const char *why)
{
	if (p->o->left_out != NULL)
		p->o->left_out(p->o->arg, buf_str(&p->path), why);
}

/* Whether a link's target, taken from the directory of the link at `path`, stays inside the tree by its letters. */
static bool
link_stays_inside(const char *path, const char *target)
{
	long depth = 0;

	if (target[0] == '/' || target[0] == '\0')
		return false;
	for (const char *s = path; (s = strchr(s, '/')) != NULL; s++)
		depth++;
	while (*target != '\0') {
		const char *end = strchrnul(target, '/');

		if (end - target == 2 && target[0] == '.' && target[1] == '.')
			depth--;
		else if (end > target && !(end - target == 1 && target[0] == '.'))
			depth++;
		if (depth < 0)
			return false;
		target = *end != '\0' ? end + 1 : end;
	}
	return true;
}

static struct archive_entry *
make_entry(struct packer *p, mode_t type, mode_t mode)
{
	struct archive_entry *en = archive_entry_new();

	archive_entry_set_pathname_utf8(en, buf_str(&p->path));
	archive_entry_set_filetype(en, type);
	archive_entry_set_perm(en, mode);
	archive_entry_set_mtime(en, 0, 0);
	archive_entry_set_uid(en, 0);
	archive_entry_set_gid(en, 0);
	p->r.entries++;
	return en;
}

static int
put_header(struct packer *p, struct archive_entry *en)
{
	int rc = archive_write_header(p->a, en) < ARCHIVE_WARN || p->failed ? archive_failed(p) : 0;

	archive_entry_free(en);
	return rc;
}

static int
put_zeroes(struct packer *p, int64_t n)
{
	memset(p->piece, 0, PIECE);
	while (n > 0) {
		la_ssize_t put = archive_write_data(p->a, p->piece, n < PIECE ? (size_t)n : PIECE);

		if (put <= 0 || p->failed)
			return archive_failed(p);
		n -= put;
	}
	return 0;
}

static int
pack_file(struct packer *p, int fd, const struct stat *st)
{
	struct archive_entry *en = make_entry(p, AE_IFREG, st->st_mode & 0111 ? 0755 : 0644);
	int64_t left = st->st_size;
	int rc;

	p->r.bytes += left;
	archive_entry_set_size(en, left);
	if (p->r.bytes > p->o->max_bytes) {
		archive_entry_free(en);
		return err_set(p->e, ERR_TOOBIG, "the tree has more than %lld bytes", (long long)p->o->max_bytes);
	}
	rc = put_header(p, en);
	while (rc == 0 && left > 0) {
		ssize_t n = read(fd, p->piece, left < PIECE ? (size_t)left : PIECE);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(p->e, ERR_IO, "read %s: %s", buf_str(&p->path), strerror(errno));
		if (n == 0)
			return put_zeroes(p, left); /* it shrank meanwhile */
		if (archive_write_data(p->a, p->piece, (size_t)n) != n || p->failed)
			return archive_failed(p);
		left -= n;
		if (p->o->stop != NULL && atomic_load(p->o->stop))
			return err_set(p->e, ERR_CANCELED, "packing was stopped");
	}
	return rc;
}

static int
pack_link(struct packer *p, int dir_fd, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir_fd, name, target, sizeof(target) - 1);
	struct archive_entry *en;

	if (n < 0)
		return err_set(p->e, ERR_IO, "read link %s: %s", buf_str(&p->path), strerror(errno));
	target[n] = '\0';
	if (!link_stays_inside(buf_str(&p->path), target) || mbstowcs(NULL, target, 0) == (size_t)-1) {
		leave_out(p, "a link that leads out of the tree");
		return 0;
	}
	en = make_entry(p, AE_IFLNK, 0777);
	archive_entry_set_symlink_utf8(en, target);
	return put_header(p, en);
}

/* A file or directory that was opened; a name that changed its kind meanwhile is judged by what was opened. */
static int
pack_opened(struct packer *p, int fd, unsigned depth)
{
	struct stat st;
	int rc;

	if (fstat(fd, &st) != 0)
		return err_set(p->e, ERR_IO, "look at %s: %s", buf_str(&p->path), strerror(errno));
	if (S_ISREG(st.st_mode))
		return pack_file(p, fd, &st);
	rc = put_header(p, make_entry(p, AE_IFDIR, 0755));
	return rc == 0 ? pack_dir(p, fd, depth + 1) : rc;
}

static int
pack_name(struct packer *p, int dir_fd, const char *name, unsigned depth)
{
	struct stat st;
	int fd, rc;

	if (p->r.entries >= p->o->max_entries)
		return err_set(p->e, ERR_TOOBIG, "the tree has more than %lld entries", (long long)p->o->max_entries);
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? 0 : err_set(p->e, ERR_IO, "look at %s: %s", buf_str(&p->path), strerror(errno));
	if (ignore_match(p->ignore, buf_str(&p->path), S_ISDIR(st.st_mode))) {
		p->r.ignored++;
		return 0;
	}
	if (mbstowcs(NULL, name, 0) == (size_t)-1) {
		err_set(p->e, ERR_INVALID, "%s: the name is not valid UTF-8", buf_str(&p->path));
		return err_hint(p->e, "rename it, or name a pattern for it in " IGNORE_FILE), ERR_INVALID;
	}
	if (S_ISLNK(st.st_mode))
		return pack_link(p, dir_fd, name);
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		leave_out(p, "neither file, directory nor link");
		return 0;
	}
	fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_set(p->e, errno == EACCES ? ERR_DENIED : ERR_IO, "open %s: %s", buf_str(&p->path), strerror(errno));
	rc = pack_opened(p, fd, depth);
	close(fd);
	return rc;
}

static int
by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int
no_dots(const struct dirent *d)
{
	return strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

static int
pack_dir(struct packer *p, int dir_fd, unsigned depth)
{
	struct dirent **names = NULL;
	size_t base = p->path.len;
	int rc = 0, n;

	if (depth > DEPTH_MAX)
		return err_set(p->e, ERR_TOOBIG, "%.200s: directories nested more than %d deep", buf_str(&p->path), DEPTH_MAX);
	n = scandirat(dir_fd, ".", &names, no_dots, by_bytes);
	if (n < 0)
		return err_set(p->e, ERR_IO, "read directory %s: %s", buf_str(&p->path), strerror(errno));
	for (int i = 0; i < n && rc == 0; i++) {
		if (buf_addf(&p->path, "%s%s", base > 0 ? "/" : "", names[i]->d_name) != 0)
			rc = err_set(p->e, ERR_TOOBIG, "a path is longer than %d bytes", PATH_BYTES_MAX);
		else
			rc = pack_name(p, dir_fd, names[i]->d_name, depth);
		p->path.len = base;
		p->path.data[base] = '\0';
	}
	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
	return rc;
}

static int
read_ignore(struct packer *p, int dir_fd)
{
	struct buf b = buf_make(IGNORE_MAX);
	int rc = file_read(dir_fd, IGNORE_FILE, &b, p->e);

	if (rc == ERR_NOTFOUND)
		rc = 0;
	else if (rc == 0 && (rc = ignore_parse(buf_str(&b), &p->ignore, p->e)) != 0)
		err_prefix(p->e, rc, IGNORE_FILE);
	buf_release(&b);
	return rc;
}

static int
open_archive(struct packer *p)
{
	p->a = archive_write_new();
	if (archive_write_add_filter_zstd(p->a) != ARCHIVE_OK || archive_write_set_format_pax_restricted(p->a) != ARCHIVE_OK ||
	    archive_write_set_filter_option(p->a, "zstd", "compression-level", ZSTD_LEVEL) != ARCHIVE_OK ||
	    archive_write_set_bytes_in_last_block(p->a, 1) != ARCHIVE_OK ||
	    archive_write_open(p->a, p, NULL, on_write, NULL) != ARCHIVE_OK)
		return archive_failed(p);
	return 0;
}

int
pack_tree(const char *dir, const struct pack_options *o, int (*write)(void *arg, const void *data, size_t len), void *arg,
    struct pack_result *ret, struct err *e)
{
	struct packer p = {.o = o, .path = buf_make(PATH_BYTES_MAX), .write = write, .arg = arg, .e = e};
	/* libarchive converts names by the thread's locale, and in the C locale it loses those that are not ASCII. */
	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0), before;
	int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	if (utf8 == (locale_t)0) {
		if (dir_fd >= 0)
			close(dir_fd);
		return err_set(e, ERR_IO, "this system has no locale C.UTF-8");
	}
	before = uselocale(utf8);
	if (dir_fd < 0) {
		rc = errno == ENOENT ? ERR_NOTFOUND : errno == ENOTDIR ? ERR_INVALID : errno == EACCES ? ERR_DENIED : ERR_IO;
		err_set(e, rc, "open %s: %s", dir, strerror(errno));
		goto out;
	}
	p.piece = xmalloc(PIECE);
	rc = read_ignore(&p, dir_fd);
	if (rc == 0)
		rc = open_archive(&p);
	if (rc == 0)
		rc = pack_dir(&p, dir_fd, 0);
	if (rc == 0 && p.r.entries == 0)
		rc = err_set(e, ERR_INVALID, "%s: there is nothing in it", dir);
	if (rc == 0 && (archive_write_close(p.a) != ARCHIVE_OK || p.failed))
		rc = archive_failed(&p);
	p.failed = true;
	archive_write_free(p.a);
	ignore_free(p.ignore);
	buf_release(&p.path);
	free(p.piece);
	close(dir_fd);
out:
	uselocale(before);
	freelocale(utf8);
	if (rc == 0)
		*ret = p.r;
	return rc;
}
