/* What is really there: walks over the cache's directories, from which the index is made. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/map.h"
#include "base/mem.h"
#include "storage/cache_index_file.h"
#include "storage/cache_parts.h"

#define STAT_BLOCK 512
#define DEPTH_MAX 256 /* more than extraction makes */

/* Opens a directory for reading; NULL with errno. */
static DIR *
open_dir(int at_fd, const char *path)
{
	int fd = openat(at_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), why;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

	if (dir == NULL && fd >= 0) {
		why = errno;
		close(fd);
		errno = why;
	}
	return dir;
}

static bool
is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

int
cache_each_name(struct cache *c, const char *path, int (*each)(struct cache *c, const char *name, void *arg), void *arg,
    struct err *e)
{
	DIR *dir = open_dir(c->dir_fd, path);
	struct dirent *d;
	int rc = 0;

	if (dir == NULL)
		return errno == ENOENT ? 0 : err_set(e, ERR_IO, "open %s/%s: %s", c->dir, path, strerror(errno));
	while (rc == 0 && (d = readdir(dir)) != NULL)
		if (!is_dot(d->d_name))
			rc = each(c, d->d_name, arg);
	closedir(dir);
	return rc;
}

/* --- measuring --- */

static void
measure(int at_fd, const char *name, int depth, struct cache_measure *sum)
{
	struct dirent *d;
	struct stat st;
	DIR *dir;

	if (fstatat(at_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return;
	/* All links of a file are in its tree: each brings its part. */
	sum->bytes += st.st_blocks * (int64_t)STAT_BLOCK / (S_ISDIR(st.st_mode) ? 1 : (int64_t)st.st_nlink);
	sum->inodes++;
	if (!S_ISDIR(st.st_mode))
		sum->apparent_bytes += st.st_size;
	if (!S_ISDIR(st.st_mode) || depth >= DEPTH_MAX || (dir = open_dir(at_fd, name)) == NULL)
		return;
	while ((d = readdir(dir)) != NULL)
		if (!is_dot(d->d_name))
			measure(dirfd(dir), d->d_name, depth + 1, sum);
	closedir(dir);
}

void
cache_measure(struct cache *c, const char *path, struct cache_measure *sum)
{
	measure(c->dir_fd, path, 0, sum);
}

/* --- all entries --- */

struct scan {
	struct index_item *items;
	size_t n, cap;
	struct map *seen; /* names of entries: a fill under way may have both an entry and a file in tmp/ */
};

static struct index_item *
add(struct scan *s, const char *name)
{
	struct index_item *item;

	if (s->n == s->cap) {
		s->cap = s->cap > 0 ? 2 * s->cap : 256;
		s->items = xrealloc(s->items, s->cap * sizeof(*s->items));
	}
	item = &s->items[s->n++];
	*item = (struct index_item){.inodes = 0};
	snprintf(item->name, sizeof(item->name), "%s", name);
	return item;
}

static int
scan_entry(struct cache *c, const char *name, void *arg)
{
	struct scan *s = arg;
	struct cache_measure sum = {0};
	struct cache_mark mark;
	struct index_item *item;
	char path[CACHE_NAME_LEN];
	struct stat st;

	if (!cache_entry_valid(name, NULL) || fstatat(c->dir_fd, cache_entry_path(name, "", path), &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    !S_ISDIR(st.st_mode))
		return 0;
	item = add(s, name);
	map_put(s->seen, name, s);
	item->used_real_ms = st.st_mtim.tv_sec * 1000LL;
	if (fstatat(c->dir_fd, cache_entry_path(name, "mark", path), &st, AT_SYMLINK_NOFOLLOW) == 0)
		item->used_real_ms = st.st_mtim.tv_sec * 1000LL + st.st_mtim.tv_nsec / 1000000;
	/* Walking every tree would take as long as making it: what it was measured to be is on its mark. */
	if (cache_read_mark(c, name, &mark, NULL) == 0) {
		sum.bytes = mark.bytes;
		sum.inodes = mark.inodes;
	} else {
		cache_measure(c, cache_entry_path(name, "", path), &sum);
	}
	item->bytes = sum.bytes;
	item->inodes = sum.inodes;
	item->flags = c->config.max_bytes > 0 && sum.bytes > c->config.max_bytes ? CACHE_TRANSIENT : 0;
	return 0;
}

static int
scan_group(struct cache *c, const char *name, void *arg)
{
	char path[CACHE_NAME_LEN];

	if (strlen(name) != 2)
		return 0;
	snprintf(path, sizeof(path), "objects/%.2s", name);
	/* What cannot be opened is none of ours. */
	(void)cache_each_name(c, path, scan_entry, arg, NULL);
	return 0;
}

static int
scan_tmp(struct cache *c, const char *name, void *arg)
{
	struct scan *s = arg;
	struct cache_measure sum = {0};
	struct index_item *item;
	char path[CACHE_NAME_LEN];
	struct stat st;

	if (!cache_entry_valid(name, NULL) || map_get(s->seen, name) != NULL ||
	    fstatat(c->dir_fd, cache_tmp_path(name, path), &st, AT_SYMLINK_NOFOLLOW) != 0)
		return 0;
	cache_measure(c, path, &sum);
	item = add(s, name);
	item->flags = CACHE_FILLING;
	item->bytes = sum.bytes;
	item->inodes = sum.inodes + CACHE_ENTRY_INODES;
	item->used_real_ms = st.st_mtim.tv_sec * 1000LL;
	return 0;
}

static int
by_use(const void *a, const void *b)
{
	const struct index_item *x = a, *y = b;

	if (x->used_real_ms != y->used_real_ms)
		return x->used_real_ms < y->used_real_ms ? -1 : 1;
	return strcmp(x->name, y->name);
}

int
index_scan(struct cache *c, struct index_item **ret_items, size_t *ret_n, struct err *e)
{
	struct scan s = {.seen = map_new()};
	int rc = cache_each_name(c, "objects", scan_group, &s, e);

	if (rc == 0)
		rc = cache_each_name(c, "tmp", scan_tmp, &s, e);
	map_free(s.seen);
	if (rc != 0) {
		free(s.items);
		return rc;
	}
	if (s.n > 0)
		qsort(s.items, s.n, sizeof(*s.items), by_use);
	*ret_items = s.items;
	*ret_n = s.n;
	return 0;
}
