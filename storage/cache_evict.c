/* Making room, and clearing away what crashes left. One process at a time does either (locks/evict). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "storage/cache_parts.h"
#include "storage/lru.h"

#define STAT_BLOCK 512
#define EVICT_LOCK "evict"

/* --- walking the directory --- */

/* Calls each for every name in path (below the cache), "." and ".." left out. A directory that is gone has no names. */
static int
each_name(struct cache *c, const char *path, int (*each)(struct cache *c, const char *name, void *arg), void *arg, struct err *e)
{
	int fd = openat(c->dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), rc = 0;
	struct dirent *d;
	DIR *dir;

	if (fd < 0 && errno == ENOENT)
		return 0;
	dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (dir == NULL) {
		rc = err_set(e, ERR_IO, "open %s/%s: %s", c->dir, path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return rc;
	}
	while (rc == 0 && (d = readdir(dir)) != NULL)
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			rc = each(c, d->d_name, arg);
	closedir(dir);
	return rc;
}

struct scan {
	struct lru_item *items;
	size_t n, cap;
	int64_t total_bytes; /* of entries and of downloads that are under way */
};

static int64_t
disk_bytes(struct cache *c, const char *path, int64_t *ret_mtime_ms)
{
	struct stat st;

	if (fstatat(c->dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return -1;
	if (ret_mtime_ms != NULL)
		*ret_mtime_ms = st.st_mtim.tv_sec * 1000LL + st.st_mtim.tv_nsec / 1000000;
	return st.st_blocks * (int64_t)STAT_BLOCK;
}

static int
scan_entry(struct cache *c, const char *name, void *arg)
{
	struct scan *s = arg;
	struct lru_item item = {0};
	char path[CACHE_NAME_LEN], boot_id[CACHE_BOOT_LEN];
	int64_t blob_bytes, tree_bytes = 0;

	if (!hex_decode(name, SHA256_LEN, NULL))
		return 0;
	snprintf(item.id, sizeof(item.id), "%s", name);
	blob_bytes = disk_bytes(c, cache_entry_path(name, "blob", path), &item.used_real_ms);
	/* An entry without bytes is what a crash left: it goes first (who is filling it right now holds its lock). */
	if (blob_bytes >= 0) {
		(void)disk_bytes(c, cache_entry_path(name, "used", path), &item.used_real_ms);
		if (!cache_read_mark(c, name, boot_id, &tree_bytes))
			tree_bytes = 0;
		item.bytes = blob_bytes + tree_bytes;
	}
	if (s->n == s->cap) {
		s->cap = s->cap > 0 ? 2 * s->cap : 64;
		s->items = xrealloc(s->items, s->cap * sizeof(*s->items));
	}
	s->total_bytes += item.bytes;
	s->items[s->n++] = item;
	return 0;
}

static int
scan_group(struct cache *c, const char *name, void *arg)
{
	char path[CACHE_NAME_LEN];

	if (strlen(name) != 2)
		return 0;
	snprintf(path, sizeof(path), "objects/%s", name);
	return each_name(c, path, scan_entry, arg, NULL);
}

static int
scan_tmp(struct cache *c, const char *name, void *arg)
{
	struct scan *s = arg;
	char path[CACHE_NAME_LEN];
	int64_t bytes;

	if (strlen(name) >= CACHE_NAME_LEN - 5)
		return 0;
	snprintf(path, sizeof(path), "tmp/%.90s", name);
	bytes = disk_bytes(c, path, NULL);
	s->total_bytes += bytes > 0 ? bytes : 0;
	return 0;
}

static int
scan(struct cache *c, struct scan *s, struct err *e)
{
	int rc = each_name(c, "objects", scan_group, s, e);

	return rc == 0 ? each_name(c, "tmp", scan_tmp, s, e) : rc;
}

/* --- removing --- */

static void
unlink_locks(struct cache *c, const char *sha256)
{
	char path[CACHE_NAME_LEN];

	snprintf(path, sizeof(path), "locks/%s.fill", sha256);
	unlinkat(c->dir_fd, path, 0);
	snprintf(path, sizeof(path), "locks/%s", sha256);
	unlinkat(c->dir_fd, path, 0);
}

static bool
evict(void *arg, const struct lru_item *item)
{
	struct cache *c = arg;
	char from[CACHE_NAME_LEN], to[CACHE_NAME_LEN], id[37];
	int fd = cache_lock(c, item->id, LOCK_EX, false, NULL, NULL);
	bool gone;

	if (fd < 0)
		return false;
	uuid_text(id);
	snprintf(to, sizeof(to), "trash/%s", id);
	gone = renameat(c->dir_fd, cache_entry_path(item->id, "", from), c->dir_fd, to) == 0 || errno == ENOENT;
	fault_point("cache.evicted");
	if (gone)
		unlink_locks(c, item->id);
	close(fd);
	if (gone)
		atomic_fetch_add(&c->evictions, 1);
	return gone;
}

static int
remove_trash(struct cache *c, const char *name, void *arg)
{
	int fd = openat(c->dir_fd, "trash", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)arg;
	/* What cannot be removed now is tried again by the next sweep. */
	if (fd >= 0) {
		(void)file_remove_tree(fd, name, NULL);
		close(fd);
	}
	return 0;
}

/* A name in tmp/ whose entry nobody holds was left by a dead process. */
static int
sweep_name(struct cache *c, const char *name, void *arg)
{
	char sha256[CACHE_SHA_LEN] = "";
	int tmp_fd, lock_fd;

	(void)arg;
	snprintf(sha256, sizeof(sha256), "%s", name);
	if (!hex_decode(sha256, SHA256_LEN, NULL))
		return 0;
	lock_fd = cache_lock(c, sha256, LOCK_EX, false, NULL, NULL);
	if (lock_fd < 0)
		return 0;
	tmp_fd = openat(c->dir_fd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tmp_fd >= 0) {
		(void)file_remove_tree(tmp_fd, name, NULL);
		close(tmp_fd);
	}
	close(lock_fd);
	return 0;
}

/* A lock file without an entry, of a download that failed. */
static int
sweep_lock(struct cache *c, const char *name, void *arg)
{
	char path[CACHE_NAME_LEN];
	int fd;

	(void)arg;
	if (!hex_decode(name, SHA256_LEN, NULL) || faccessat(c->dir_fd, cache_entry_path(name, "", path), F_OK, 0) == 0)
		return 0;
	fd = cache_lock(c, name, LOCK_EX, false, NULL, NULL);
	if (fd < 0)
		return 0;
	/* Somebody may have filled it between the look and the lock. */
	if (faccessat(c->dir_fd, path, F_OK, 0) != 0)
		unlink_locks(c, name);
	close(fd);
	return 0;
}

int
cache_sweep_tmp(struct cache *c, struct err *e)
{
	int fd = cache_lock(c, EVICT_LOCK, LOCK_EX, true, NULL, e), rc;

	if (fd < 0)
		return fd;
	if ((rc = each_name(c, "tmp", sweep_name, NULL, e)) == 0 && (rc = each_name(c, "locks", sweep_lock, NULL, e)) == 0)
		rc = each_name(c, "trash", remove_trash, NULL, e);
	close(fd);
	return rc;
}

/* --- room --- */

static int64_t
free_bytes(struct cache *c)
{
	struct statvfs v;

	return fstatvfs(c->dir_fd, &v) == 0 ? (int64_t)v.f_bavail * (int64_t)v.f_frsize : INT64_MAX;
}

static int64_t
at_most(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* How far down the total must come so that need_bytes more fit: the high mark starts it, the low mark ends it. */
static int64_t
target(struct cache *c, int64_t total_bytes, int64_t need_bytes, bool hard)
{
	int64_t high = c->config.max_bytes / 100 * CACHE_HIGH_PERCENT, low = c->config.max_bytes / 100 * CACHE_LOW_PERCENT;
	int64_t lack = need_bytes + c->config.min_free_bytes - free_bytes(c), goal = total_bytes;

	if (hard || total_bytes + need_bytes > high)
		goal = at_most(goal, low - need_bytes);
	if (hard)
		goal = at_most(goal, total_bytes - need_bytes);
	if (lack > 0)
		goal = at_most(goal, total_bytes - lack);
	return goal;
}

/* The caller holds the evict lock. */
static int
make_room(struct cache *c, int64_t need_bytes, bool hard, int64_t expired_before_real_ms, struct err *e)
{
	struct scan s = {0};
	struct lru_goal goal = {.expired_before_real_ms = expired_before_real_ms};
	int rc = scan(c, &s, e);

	if (rc == 0) {
		goal.total_bytes = s.total_bytes;
		goal.target_bytes = target(c, s.total_bytes, need_bytes, hard);
		s.total_bytes -= lru_evict(s.items, s.n, &goal, evict, c);
		rc = each_name(c, "trash", remove_trash, NULL, e);
	}
	free(s.items);
	if (rc == 0 && need_bytes > 0 && s.total_bytes + need_bytes > c->config.max_bytes) {
		err_set(e, ERR_RETRY, "the cache is full of entries in use: %lld bytes of %lld", (long long)s.total_bytes,
		    (long long)c->config.max_bytes);
		err_hint(e, "raise CACHE_MAX_SIZE, or run less at once on this node");
		return ERR_RETRY;
	}
	if (rc == 0 && need_bytes > 0 && free_bytes(c) - need_bytes < c->config.min_free_bytes) {
		err_set(e, ERR_RETRY, "the disk of %s has %lld bytes free, %lld more are needed", c->dir,
		    (long long)free_bytes(c), (long long)(need_bytes + c->config.min_free_bytes));
		err_hint(e, "free space on this node");
		return ERR_RETRY;
	}
	return rc;
}

int
cache_make_room(struct cache *c, int64_t need_bytes, bool hard, struct err *e)
{
	int fd = cache_lock(c, EVICT_LOCK, LOCK_EX, true, NULL, e), rc;

	if (fd < 0)
		return fd;
	rc = make_room(c, need_bytes, hard, INT64_MIN, e);
	close(fd);
	return rc;
}

/* Opens tmp/<name> and takes need_bytes from the disk for it. */
static int
allocate(struct cache *c, const char *name, int64_t need_bytes, struct err *e)
{
	char path[CACHE_NAME_LEN];
	int fd, rc;

	snprintf(path, sizeof(path), "tmp/%.90s", name);
	unlinkat(c->dir_fd, path, 0);
	fd = openat(c->dir_fd, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0 && (need_bytes == 0 || fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, need_bytes) == 0 || errno == EOPNOTSUPP ||
	    errno == ENOSYS))
		return fd;
	rc = err_set(e, errno == ENOSPC || errno == EDQUOT ? ERR_RETRY : ERR_IO, "reserve %lld bytes in %s/%s: %s",
	    (long long)need_bytes, c->dir, path, strerror(errno));
	if (fd >= 0) {
		close(fd);
		unlinkat(c->dir_fd, path, 0);
	}
	return rc;
}

int
cache_reserve(struct cache *c, const char *name, int64_t need_bytes, struct err *e)
{
	int lock_fd = cache_lock(c, EVICT_LOCK, LOCK_EX, true, NULL, e), fd;

	if (lock_fd < 0)
		return lock_fd;
	fd = make_room(c, need_bytes, false, INT64_MIN, e);
	if (fd == 0)
		fd = allocate(c, name, need_bytes, e);
	/* A quota, or bytes that the file system keeps for root, are not in what it calls free. */
	if (fd == ERR_RETRY && make_room(c, need_bytes, true, INT64_MIN, e) == 0)
		fd = allocate(c, name, need_bytes, e);
	close(lock_fd);
	return fd;
}

/* --- for the programs --- */

int
cache_sweep(struct cache *c, struct err *e)
{
	int fd, rc = cache_sweep_tmp(c, e);

	if (rc != 0)
		return rc;
	fd = cache_lock(c, EVICT_LOCK, LOCK_EX, true, NULL, e);
	if (fd < 0)
		return fd;
	rc = make_room(c, 0, false, clock_real_ms() - c->config.ttl_ms, e);
	close(fd);
	return rc;
}

void
cache_stats(struct cache *c, struct cache_stats *ret_stats)
{
	struct scan s = {0};

	(void)scan(c, &s, NULL);
	*ret_stats = (struct cache_stats){
		.bytes = s.total_bytes, .entries = (int64_t)s.n, .pinned = atomic_load(&c->pinned), .hits = atomic_load(&c->hits),
		.misses = atomic_load(&c->misses), .evictions = atomic_load(&c->evictions),
	};
	free(s.items);
}
