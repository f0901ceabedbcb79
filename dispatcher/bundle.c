#include "dispatcher/bundle.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "storage/object_store.h"

#define METADATA "metadata.yaml"
#define DEPTH_MAX 16
#define NAME_MAX_BYTES 512

struct member {
	char *name;   /* relative, with slashes */
	bool exec;
	char *data;
	size_t len;
};

struct members {
	struct member *m;
	size_t n, bytes;
};

static void
members_release(struct members *s)
{
	for (size_t i = 0; i < s->n; i++) {
		free(s->m[i].name);
		free(s->m[i].data);
	}
	free(s->m);
	*s = (struct members){NULL, 0, 0};
}

/* Adds a file (data is taken over). */
static int
members_add(struct members *s, const char *name, bool exec, char *data, size_t len, struct err *e)
{
	int rc = 0;

	if (!store_key_valid(name) || strlen(name) > NAME_MAX_BYTES)
		rc = err_set(e, ERR_INVALID, "'%.100s' cannot be a name in a bundle", name);
	else if (s->n == BUNDLE_FILES_MAX)
		rc = err_set(e, ERR_TOOBIG, "more than %d files", BUNDLE_FILES_MAX);
	else if (s->bytes + len > BUNDLE_MAX_UNPACKED)
		rc = err_set(e, ERR_TOOBIG, "more than %d bytes of files", BUNDLE_MAX_UNPACKED);
	if (rc != 0) {
		free(data);
		return rc;
	}
	s->m = xrealloc(s->m, (s->n + 1) * sizeof(s->m[0]));
	s->m[s->n++] = (struct member){xstrdup(name), exec, data, len};
	s->bytes += len;
	return 0;
}

/* --- from a folder --- */

static int read_folder(int dirfd, const char *prefix, unsigned depth, struct members *s, struct err *e);

static int
read_entry(int dirfd, const char *name, const char *path, unsigned depth, struct members *s, struct err *e)
{
	struct stat st;
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), rc;
	struct buf b = buf_make(BUNDLE_MAX_UNPACKED);

	if (fd < 0 || fstat(fd, &st) != 0) {
		rc = err_set(e, errno == ELOOP ? ERR_INVALID : ERR_IO, "%s: %s", path,
		    errno == ELOOP ? "symbolic links are not taken" : strerror(errno));
	} else if (S_ISDIR(st.st_mode)) {
		rc = read_folder(fd, path, depth + 1, s, e);
	} else if (!S_ISREG(st.st_mode)) {
		rc = err_set(e, ERR_INVALID, "%s: neither a file nor a folder", path);
	} else if ((rc = file_read(dirfd, name, &b, e)) == 0) {
		size_t len = b.len;

		rc = members_add(s, path, (st.st_mode & 0100) != 0, buf_take(&b), len, e);
	}
	buf_release(&b);
	if (fd >= 0)
		close(fd);
	return rc;
}

static int
read_folder(int dirfd, const char *prefix, unsigned depth, struct members *s, struct err *e)
{
	DIR *dir = fdopendir(dup(dirfd));
	struct dirent *entry;
	int rc = 0;

	if (dir == NULL)
		return err_set(e, ERR_IO, "%s: %s", prefix, strerror(errno));
	if (depth > DEPTH_MAX)
		rc = err_set(e, ERR_TOOBIG, "%s: folders more than %d deep", prefix, DEPTH_MAX);
	while (rc == 0 && (errno = 0, (entry = readdir(dir)) != NULL)) {
		char path[NAME_MAX_BYTES + 300];

		/* What editors and interpreters leave behind is no part of a workflow. */
		if (entry->d_name[0] == '.' || strcmp(entry->d_name, "__pycache__") == 0)
			continue;
		snprintf(path, sizeof(path), "%.*s%s%s", NAME_MAX_BYTES, prefix, prefix[0] != '\0' ? "/" : "", entry->d_name);
		rc = read_entry(dirfd, entry->d_name, path, depth, s, e);
	}
	if (rc == 0 && errno != 0)
		rc = err_set(e, ERR_IO, "%s: %s", prefix, strerror(errno));
	closedir(dir);
	return rc;
}

/* --- from a tar --- */

static int
tar_file(struct archive *a, struct archive_entry *entry, struct members *s, struct err *e)
{
	const char *name = archive_entry_pathname_utf8(entry);
	struct buf b = buf_make(BUNDLE_MAX_UNPACKED);
	char piece[16384];
	la_ssize_t n;
	size_t len;

	if (name == NULL)
		return err_set(e, ERR_INVALID, "a name that is not UTF-8");
	if (strncmp(name, "./", 2) == 0)
		name += 2;
	if (archive_entry_filetype(entry) == AE_IFDIR)
		return 0;
	if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) != NULL)
		return err_set(e, ERR_INVALID, "%.100s: neither a file nor a folder", name);
	while ((n = archive_read_data(a, piece, sizeof(piece))) > 0)
		if (buf_add(&b, piece, (size_t)n) != 0) {
			buf_release(&b);
			return err_set(e, ERR_TOOBIG, "more than %d bytes of files", BUNDLE_MAX_UNPACKED);
		}
	len = b.len;
	if (n < 0) {
		buf_release(&b);
		return err_set(e, ERR_INVALID, "%.100s: %.150s", name, archive_error_string(a));
	}
	return members_add(s, name, (archive_entry_perm(entry) & 0100) != 0, buf_take(&b), len, e);
}

static int
read_tar(const void *tar, size_t len, struct members *s, struct err *e)
{
	struct archive *a = archive_read_new();
	struct archive_entry *entry;
	int rc = 0, got = ARCHIVE_OK;

	archive_read_support_format_tar(a);
	archive_read_support_filter_gzip(a);
	archive_read_support_filter_zstd(a);
	if (archive_read_open_memory(a, tar, len) != ARCHIVE_OK) {
		rc = err_set(e, ERR_INVALID, "not a tar: %.150s", archive_error_string(a));
		err_hint(e, "send a tar of the workflow's folder, plain or packed with gzip or zstd");
	}
	while (rc == 0 && (got = archive_read_next_header(a, &entry)) == ARCHIVE_OK)
		rc = tar_file(a, entry, s, e);
	if (rc == 0 && got != ARCHIVE_EOF)
		rc = err_set(e, ERR_INVALID, "a broken tar: %.150s", archive_error_string(a));
	archive_read_free(a);
	return rc;
}

/* --- packing --- */

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct member *)a)->name, ((const struct member *)b)->name);
}

static la_ssize_t
packed_write(struct archive *a, void *arg, const void *data, size_t len)
{
	(void)a;
	return buf_add(arg, data, len) == 0 ? (la_ssize_t)len : -1;
}

static int
pack(const struct members *s, struct buf *out, struct err *e)
{
	struct archive *a = archive_write_new();
	struct archive_entry *entry = archive_entry_new();
	int rc = 0;

	archive_write_set_format_ustar(a);
	archive_write_add_filter_zstd(a);
	archive_write_set_bytes_per_block(a, 0);
	if (archive_write_open(a, out, NULL, packed_write, NULL) != ARCHIVE_OK)
		rc = ERR_IO;
	for (size_t i = 0; rc == 0 && i < s->n; i++) {
		const struct member *m = &s->m[i];

		archive_entry_clear(entry);
		archive_entry_set_pathname_utf8(entry, m->name);
		archive_entry_set_filetype(entry, AE_IFREG);
		archive_entry_set_perm(entry, m->exec ? 0755 : 0644);
		archive_entry_set_size(entry, (la_int64_t)m->len);
		archive_entry_set_mtime(entry, 0, 0);
		if (archive_write_header(a, entry) < ARCHIVE_WARN || archive_write_data(a, m->data, m->len) != (la_ssize_t)m->len)
			rc = ERR_IO;
	}
	if (archive_write_close(a) != ARCHIVE_OK && rc == 0)
		rc = ERR_IO;
	if (rc != 0 && out->overflow)
		rc = err_set(e, ERR_TOOBIG, "more than %d bytes once packed", BUNDLE_MAX_BYTES);
	else if (rc != 0)
		err_set(e, rc, "packing failed: %.150s", archive_error_string(a) == NULL ? "" : archive_error_string(a));
	archive_entry_free(entry);
	archive_write_free(a);
	return rc;
}

static int
finish(const char *name, struct members *s, struct bundle *ret, struct err *e)
{
	const struct member key = {.name = (char *)METADATA};
	const struct member *meta;
	struct bundle b = {.packed = buf_make(BUNDLE_MAX_BYTES)};
	uint8_t hash[SHA256_LEN];
	int rc;

	if (s->n > 0)
		qsort(s->m, s->n, sizeof(s->m[0]), by_name);
	for (size_t i = 1; i < s->n; i++)
		if (strcmp(s->m[i].name, s->m[i - 1].name) == 0)
			return err_set(e, ERR_INVALID, "%.100s: there twice", s->m[i].name);
	if ((meta = s->n == 0 ? NULL : bsearch(&key, s->m, s->n, sizeof(key), by_name)) == NULL)
		return err_set(e, ERR_INVALID, METADATA ": is missing");
	if (meta->len > WORKFLOW_FILE_MAX)
		return err_set(e, ERR_INVALID, METADATA ": more than %d bytes", WORKFLOW_FILE_MAX);
	if ((rc = workflow_parse(METADATA, name, meta->data == NULL ? "" : meta->data, meta->len, &b.workflow, e)) == 0 &&
	    (rc = pack(s, &b.packed, e)) == 0) {
		b.metadata = xstrndup(meta->data, meta->len);
		sha256_of(b.packed.data, b.packed.len, hash);
		hex_encode(hash, sizeof(hash), b.sha256);
		*ret = b;
		return 0;
	}
	bundle_release(&b);
	return rc;
}

int
bundle_from_folder(int dirfd, const char *name, struct bundle *ret, struct err *e)
{
	struct members s = {NULL, 0, 0};
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), rc;

	if (fd < 0)
		return err_set(e, errno == ENOENT ? ERR_NOTFOUND : ERR_IO, "%s: %s", name, strerror(errno));
	rc = read_folder(fd, "", 0, &s, e);
	close(fd);
	if (rc == 0)
		rc = finish(name, &s, ret, e);
	members_release(&s);
	return rc;
}

int
bundle_from_tar(const char *name, const void *tar, size_t len, struct bundle *ret, struct err *e)
{
	struct members s = {NULL, 0, 0};
	int rc = read_tar(tar, len, &s, e);

	if (rc == 0)
		rc = finish(name, &s, ret, e);
	members_release(&s);
	return rc;
}

void
bundle_release(struct bundle *b)
{
	workflow_free(b->workflow);
	free(b->metadata);
	buf_release(&b->packed);
	b->workflow = NULL;
	b->metadata = NULL;
}
