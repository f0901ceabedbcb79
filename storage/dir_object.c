#include "storage/dir_object.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/num.h"
#include "storage/dir_name.h"

#define FOOT_MAGIC "\ndrover-object-1 "
#define FOOT_DIGITS 6
#define FOOT_BYTES (sizeof(FOOT_MAGIC) - 1 + FOOT_DIGITS + 1)
#define TRAILER_MAX_BYTES (OBJECT_META_MAX * (sizeof(struct object_meta) + 8) + 128)
#define PIECE_MAX 256

/* --- the trailer --- */

int
dir_object_seal(int fd, const struct object_info *info, struct err *e)
{
	struct buf b = buf_make(TRAILER_MAX_BYTES + FOOT_BYTES);
	int rc;

	buf_addf(&b, "etag %s\n", info->etag);
	for (size_t i = 0; i < info->n_meta; i++)
		buf_addf(&b, "meta %s %s\n", info->meta[i].name, info->meta[i].value);
	buf_addf(&b, FOOT_MAGIC "%0*zu\n", FOOT_DIGITS, b.len);
	rc = b.overflow ? err_set(e, ERR_TOOBIG, "too much metadata") : 0;
	if (rc == 0 && lseek(fd, info->size_bytes, SEEK_SET) < 0)
		rc = err_set(e, ERR_IO, "seek: %s", strerror(errno));
	if (rc == 0)
		rc = file_write_all(fd, b.data, b.len, e);
	buf_release(&b);
	return rc;
}

static bool
pread_all(int fd, char *out, size_t len, int64_t offset)
{
	while (len > 0) {
		ssize_t n = pread(fd, out, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		out += n;
		len -= (size_t)n;
		offset += n;
	}
	return true;
}

/* text is NUL-terminated and is cut up. */
static bool
parse_trailer(char *text, struct object_info *info)
{
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		if (strncmp(line, "etag ", 5) == 0) {
			snprintf(info->etag, sizeof(info->etag), "%s", line + 5);
		} else if (strncmp(line, "meta ", 5) == 0) {
			char *name = line + 5, *blank = strchr(name, ' ');
			struct object_meta *m = &info->meta[info->n_meta];

			if (blank == NULL || info->n_meta == OBJECT_META_MAX)
				return false;
			*blank = '\0';
			snprintf(m->name, sizeof(m->name), "%s", name);
			snprintf(m->value, sizeof(m->value), "%s", blank + 1);
			info->n_meta++;
		}
	}
	return info->etag[0] != '\0';
}

static bool
read_trailer(int fd, int64_t file_bytes, struct object_info *info)
{
	char foot[FOOT_BYTES + 1] = "", text[TRAILER_MAX_BYTES + 1];
	int64_t len;

	if (file_bytes < (int64_t)FOOT_BYTES || !pread_all(fd, foot, FOOT_BYTES, file_bytes - (int64_t)FOOT_BYTES))
		return false;
	foot[FOOT_BYTES - 1] = '\0'; /* its newline */
	if (strncmp(foot, FOOT_MAGIC, sizeof(FOOT_MAGIC) - 1) != 0 ||
	    num_int(foot + sizeof(FOOT_MAGIC) - 1, 1, TRAILER_MAX_BYTES, &len, NULL) != 0 ||
	    len > file_bytes - (int64_t)FOOT_BYTES)
		return false;
	info->size_bytes = file_bytes - (int64_t)FOOT_BYTES - len;
	if (!pread_all(fd, text, (size_t)len, info->size_bytes))
		return false;
	text[len] = '\0';
	return parse_trailer(text, info);
}

int64_t
dir_object_modified(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000;
}

int
dir_object_open(int bucket_fd, const char *path, struct object_info *ret_info, struct err *e)
{
	struct object_info info = {.size_bytes = 0};
	struct stat st;
	int fd = openat(bucket_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return err_set(e, errno == ENOENT || errno == ENOTDIR ? ERR_NOTFOUND : ERR_IO, "open %.200s: %s", path,
		    strerror(errno));
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || !read_trailer(fd, st.st_size, &info)) {
		close(fd);
		return err_set(e, ERR_IO, "%.200s is damaged: it has no trailer", path);
	}
	info.modified_real_ms = dir_object_modified(&st);
	*ret_info = info;
	return fd;
}

int
dir_object_open_parent(int bucket_fd, const char *path)
{
	char dir[DIR_NAME_PATH_MAX];
	const char *slash = strrchr(path, '/');

	snprintf(dir, sizeof(dir), "%.*s", slash == NULL ? 1 : (int)(slash - path), slash == NULL ? "." : path);
	return openat(bucket_fd, dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* --- the walk --- */

struct entry {
	char *name;  /* in the directory */
	char *piece; /* of the key */
	bool dir;
};

struct level { /* one directory's entries; read whole, so that its descriptor is closed before going down */
	struct entry *entries;
	size_t n, cap;
};

struct walk {
	int bucket_fd;
	const char *prefix;
	int (*each)(void *arg, const char *key, const struct object_info *info);
	void *arg;
	struct err *e;
	char path[DIR_NAME_PATH_MAX]; /* of the directory we are in, with its slash */
	char key[DIR_NAME_PATH_MAX];  /* the key as far as it is known there */
};

static int
entry_compare(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return strcmp(x->piece, y->piece);
}

static void
level_release(struct level *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->entries[i].name);
		free(l->entries[i].piece);
	}
	free(l->entries);
}

/* Only what can lie under the prefix is taken in. */
static bool
wanted(const struct walk *w, const char *piece)
{
	size_t key_len = strlen(w->key), prefix_len = strlen(w->prefix), piece_len = strlen(piece), n;

	if (prefix_len <= key_len)
		return true; /* the directory itself was checked */
	n = prefix_len - key_len < piece_len ? prefix_len - key_len : piece_len;
	return memcmp(w->prefix + key_len, piece, n) == 0;
}

static int
level_read(const struct walk *w, struct level *l)
{
	int fd = openat(w->bucket_fd, w->path[0] == '\0' ? "." : w->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;

	if (dir == NULL) {
		int rc = errno == ENOENT ? 0 : err_set(w->e, ERR_IO, "list %.200s: %s", w->path, strerror(errno));

		if (fd >= 0)
			close(fd);
		return rc;
	}
	while ((d = readdir(dir)) != NULL) {
		char piece[PIECE_MAX];
		bool is_dir;

		if (!dir_name_piece(d->d_name, piece, sizeof(piece), &is_dir) || !wanted(w, piece))
			continue;
		if (l->n == l->cap) {
			l->cap = l->cap == 0 ? 64 : 2 * l->cap;
			l->entries = xrealloc(l->entries, l->cap * sizeof(l->entries[0]));
		}
		l->entries[l->n++] = (struct entry){xstrdup(d->d_name), xstrdup(piece), is_dir};
	}
	closedir(dir);
	if (l->n > 0)
		qsort(l->entries, l->n, sizeof(l->entries[0]), entry_compare);
	return 0;
}

static int
show(struct walk *w)
{
	struct object_info info;
	int fd;

	if (strncmp(w->key, w->prefix, strlen(w->prefix)) != 0)
		return 0;
	fd = dir_object_open(w->bucket_fd, w->path, &info, w->e);
	if (fd < 0)
		return fd == ERR_NOTFOUND ? 0 : fd;
	close(fd);
	return w->each(w->arg, w->key, &info);
}

/* Depth is bounded by what a key can hold: 512 segments. */
static int
walk_level(struct walk *w)
{
	struct level l = {.entries = NULL};
	size_t path_len = strlen(w->path), key_len = strlen(w->key);
	int rc = level_read(w, &l);

	for (size_t i = 0; rc == 0 && i < l.n; i++) {
		const struct entry *d = &l.entries[i];

		/* Deeper or longer than any key: not made by us. */
		if (path_len + strlen(d->name) + 2 > sizeof(w->path) || key_len + strlen(d->piece) >= sizeof(w->key))
			continue;
		snprintf(w->path + path_len, sizeof(w->path) - path_len, "%s%s", d->name, d->dir ? "/" : "");
		snprintf(w->key + key_len, sizeof(w->key) - key_len, "%s", d->piece);
		rc = d->dir ? walk_level(w) : show(w);
		w->path[path_len] = '\0';
		w->key[key_len] = '\0';
	}
	level_release(&l);
	return rc;
}

int
dir_object_list(int bucket_fd, const char *prefix,
    int (*each)(void *arg, const char *key, const struct object_info *info), void *arg, struct err *e)
{
	struct walk w = {.bucket_fd = bucket_fd, .prefix = prefix, .each = each, .arg = arg, .e = e};

	return walk_level(&w);
}
