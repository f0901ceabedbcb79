/* Making room, and clearing away what crashes left. One process at a time decides (locks/evict); deleting is done without. */
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
#include "base/num.h"
#include "storage/cache_parts.h"
#include "storage/lru.h"
#include "storage/workspace_names.h"

#define EVICT_LOCK "evict"
#define FILLING_LOOK 1024 /* fills that died are among the youngest entries */

/* --- taking out of service --- */

int
cache_discard(struct cache *c, const char *path, struct err *e)
{
	char to[CACHE_NAME_LEN], id[37];

	uuid_text(id);
	snprintf(to, sizeof(to), "trash/%s", id);
	if (renameat(c->dir_fd, path, c->dir_fd, to) == 0 || errno == ENOENT)
		return 0;
	return err_set(e, errno == ENOSPC || errno == EDQUOT ? ERR_RETRY : ERR_IO, "rename %s/%s: %s", c->dir, path, strerror(errno));
}

/* Moves everything of the entry to the trash. Called in the middle of a change of the index: a death here makes it anew. */
static int
discard_entry(struct cache *c, const char *name, struct err *e)
{
	char path[CACHE_NAME_LEN];
	int rc = cache_discard(c, cache_entry_path(name, "", path), e);

	fault_point("cache.evicted");
	if (rc != 0)
		return rc;
	return cache_discard(c, cache_tmp_path(name, path), e);
}

static void
unlink_locks(struct cache *c, const char *name)
{
	char path[CACHE_NAME_LEN];

	snprintf(path, sizeof(path), "locks/%.71s.fill", name);
	(void)unlinkat(c->dir_fd, path, 0);
	snprintf(path, sizeof(path), "locks/%.71s", name);
	(void)unlinkat(c->dir_fd, path, 0);
}

int
cache_evict(struct cache *c, const char *name, struct err *e)
{
	int fd = cache_lock(c, name, LOCK_EX, false, NULL, e), rc;
	char path[CACHE_NAME_LEN];

	if (fd < 0)
		return fd;
	workspace_names_drop(c->dir_fd, cache_entry_path(name, "", path));
	rc = index_drop(c, name, discard_entry, e);
	fault_point("cache.evict_counted");
	if (rc == 0)
		unlink_locks(c, name);
	close(fd);
	return rc;
}

void
cache_abandon(struct cache *c, const char *name)
{
	char path[CACHE_NAME_LEN];
	struct cache_measure sum = {0};

	(void)cache_discard(c, cache_tmp_path(name, path), NULL);
	/* Published, and failed after that: it may be good, the next one looks. */
	cache_measure(c, cache_entry_path(name, "", path), &sum);
	if (sum.inodes > 0)
		(void)index_charge(c, name, sum.bytes, sum.inodes, 0, true, NULL);
	else
		(void)index_drop(c, name, NULL, NULL);
	(void)cache_empty_trash(c, NULL);
}

/* --- trash --- */

static int
remove_trash(struct cache *c, const char *name, void *arg)
{
	if (atomic_load(&c->hurry))
		return ERR_CANCELED;
	/* What cannot be removed now, or is being removed by someone else, is tried again by the next one. */
	(void)file_remove_tree(*(const int *)arg, name, NULL);
	fault_point("cache.trash_removed");
	return 0;
}

int
cache_empty_trash(struct cache *c, struct err *e)
{
	int fd = openat(c->dir_fd, "trash", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), rc;

	if (fd < 0)
		return err_set(e, ERR_IO, "open %s/trash: %s", c->dir, strerror(errno));
	rc = cache_each_name(c, "trash", remove_trash, &fd, e);
	close(fd);
	return rc == ERR_CANCELED ? 0 : rc;
}

/* --- after crashes --- */

/* A name in tmp/ whose entry nobody holds was left by a dead process. */
static int
sweep_name(struct cache *c, const char *name, void *arg)
{
	char path[CACHE_NAME_LEN];
	struct cache_mark mark;
	int fd, rc;

	(void)arg;
	if (!cache_entry_valid(name, NULL) || (fd = cache_lock(c, name, LOCK_EX, false, NULL, NULL)) < 0)
		return 0;
	(void)cache_discard(c, cache_tmp_path(name, path), NULL);
	rc = cache_read_mark(c, name, &mark, NULL);
	if (rc == 0)
		(void)index_charge(c, name, mark.bytes, mark.inodes, 0, true, NULL);
	else if (rc == ERR_NOTFOUND)
		(void)index_drop(c, name, NULL, NULL);
	close(fd);
	return 0;
}

/* Slots of fills that died before or after their file in tmp/. */
static void
sweep_filling(struct cache *c)
{
	struct index_item *items = xcalloc(FILLING_LOOK, sizeof(*items));
	long n = index_youngest(c, items, FILLING_LOOK, NULL);

	for (long i = 0; i < n; i++) {
		char path[CACHE_NAME_LEN];
		struct cache_measure sum = {0};
		int fd;

		if ((items[i].flags & CACHE_FILLING) == 0 || (fd = cache_lock(c, items[i].name, LOCK_EX, false, NULL, NULL)) < 0)
			continue;
		cache_measure(c, cache_entry_path(items[i].name, "", path), &sum);
		if (sum.inodes > 0)
			(void)index_charge(c, items[i].name, sum.bytes, sum.inodes, items[i].flags & CACHE_TRANSIENT, true, NULL);
		else
			(void)index_drop(c, items[i].name, NULL, NULL);
		close(fd);
	}
	free(items);
}

/* A lock file without an entry, of a download that failed. */
static int
sweep_lock(struct cache *c, const char *lock, void *arg)
{
	char name[CACHE_ENTRY_LEN], path[CACHE_NAME_LEN];
	int fd;

	(void)arg;
	snprintf(name, sizeof(name), "%.69s", lock); /* "<entry>" of "<entry>.fill" as well */
	if (!cache_entry_valid(name, NULL) || faccessat(c->dir_fd, cache_entry_path(name, "", path), F_OK, 0) == 0)
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
	struct index_sums sums;
	int rc = cache_each_name(c, "tmp", sweep_name, NULL, e);

	if (rc == 0 && (rc = index_sums(c, &sums, e)) == 0 && sums.filling > 0)
		sweep_filling(c);
	return rc;
}

/* --- room --- */

static void
look_at_disk(struct cache *c, struct lru_state *s)
{
	struct statvfs v;

	s->free_bytes = s->free_inodes = INT64_MAX;
	if (fstatvfs(c->dir_fd, &v) != 0)
		return;
	s->free_bytes = (int64_t)v.f_bavail * (int64_t)v.f_frsize;
	if (v.f_files > 0) /* btrfs has no fixed number */
		s->free_inodes = (int64_t)v.f_favail;
}

static struct lru_state
state_now(struct cache *c, int64_t total_bytes)
{
	struct lru_state s = {.total_bytes = total_bytes, .max_bytes = c->config.max_bytes, .min_free_bytes = c->config.min_free_bytes,
	    .min_free_inodes = c->config.min_free_inodes};

	look_at_disk(c, &s);
	return s;
}

/* Evicts the longest unused until lack is made good, and all that were not used since `expired`. The caller holds the evict lock.
 * Each entry is looked at once at most: one in use counts as used now. */
static int
evict_down(struct cache *c, struct lru_lack lack, int64_t expired_before_real_ms, int64_t entries, struct err *e)
{
	int64_t now_real_ms = clock_real_ms();
	struct index_item item;
	uint32_t after = 0;
	int rc = 0;

	for (int64_t seen = 0; seen < entries && (rc = index_younger(c, after, &item, e)) == 0; seen++) {
		bool transient = (item.flags & CACHE_TRANSIENT) != 0, stays = lack.bytes <= 0 && lack.inodes <= 0 && !transient;

		/* Used when the clock was ahead: from now on it counts from now. Those behind it may be older than it seems to be. */
		if (stays && item.used_real_ms > now_real_ms) {
			if ((rc = index_used(c, item.name, INDEX_TOUCH, NULL, e)) != 0 && rc != ERR_NOTFOUND)
				return rc;
			continue;
		}
		if (stays && item.used_real_ms >= expired_before_real_ms)
			break;
		rc = cache_evict(c, item.name, e);
		if (rc == 0) {
			lack.bytes -= item.bytes;
			lack.inodes -= item.inodes;
		} else if (rc == ERR_CONFLICT && transient) {
			after = item.no; /* stays at the old end */
		} else if (rc != ERR_CONFLICT || ((rc = index_used(c, item.name, INDEX_IN_USE, NULL, e)) != 0 && rc != ERR_NOTFOUND)) {
			return rc;
		}
	}
	return rc == ERR_NOTFOUND || rc == ERR_CONFLICT ? 0 : rc;
}

static int
below_floor(struct cache *c, const struct lru_state *s, int64_t need_bytes, int64_t need_inodes, struct err *e)
{
	char has[32], needs[32], stays[32];

	if (s->free_bytes < INT64_MAX && s->free_bytes - need_bytes < s->min_free_bytes) {
		err_set(e, ERR_RETRY, "the disk of %s has %s free, %s more are needed and %s are to stay free", c->dir,
		    num_format_size(s->free_bytes, has, sizeof(has)), num_format_size(need_bytes, needs, sizeof(needs)),
		    num_format_size(s->min_free_bytes, stays, sizeof(stays)));
		err_hint(e, "free space on this node, or lower CACHE_MIN_FREE");
		return ERR_RETRY;
	}
	if (s->free_inodes < INT64_MAX && s->free_inodes - need_inodes < s->min_free_inodes) {
		err_set(e, ERR_RETRY, "the disk of %s has %lld inodes free, %lld more are needed and %lld are to stay free", c->dir,
		    (long long)s->free_inodes, (long long)need_inodes, (long long)s->min_free_inodes);
		err_hint(e, "remove files on this node, or lower CACHE_MIN_FREE_INODES");
		return ERR_RETRY;
	}
	return 0;
}

struct need {
	int64_t bytes, inodes; /* of the entry altogether */
	int64_t more_bytes, more_inodes; /* than it is charged now */
	bool known, transient; /* whether it has a slot */
};

/* Makes room and charges, in one go for all processes. */
static int
take(struct cache *c, const char *name, const struct need *n, struct err *e)
{
	struct index_sums sums;
	struct lru_state s;
	int fd = cache_lock(c, EVICT_LOCK, LOCK_EX, true, NULL, e), rc;
	bool transient;

	if (fd < 0)
		return fd;
	if ((rc = index_sums(c, &sums, e)) == 0) {
		s = state_now(c, sums.bytes);
		rc = evict_down(c, lru_lack(&s, n->more_bytes, n->more_inodes, false), INT64_MIN, sums.entries, e);
	}
	if (rc == 0 && (rc = index_sums(c, &sums, e)) == 0) {
		transient = n->transient || sums.bytes + n->more_bytes > c->config.max_bytes;
		rc = index_charge(c, name, n->bytes, n->inodes, CACHE_FILLING | (transient ? CACHE_TRANSIENT : 0), n->known, e);
	}
	close(fd);
	return rc;
}

/* Creates tmp/<name> with bytes taken from the disk. */
static int
allocate(struct cache *c, const char *name, int64_t bytes, struct err *e)
{
	char path[CACHE_NAME_LEN];
	int fd, rc;

	if ((rc = cache_discard(c, cache_tmp_path(name, path), e)) != 0)
		return rc;
	fd = openat(c->dir_fd, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0 && (bytes == 0 || fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, bytes) == 0 || errno == EOPNOTSUPP || errno == ENOSYS))
		return fd;
	rc = err_set(e, errno == ENOSPC || errno == EDQUOT ? ERR_RETRY : ERR_IO, "reserve %lld bytes in %s/%s: %s", (long long)bytes,
	    c->dir, path, strerror(errno));
	if (errno == ENOSPC || errno == EDQUOT)
		err_hint(e, "free space on this node");
	if (fd >= 0) {
		close(fd);
		(void)unlinkat(c->dir_fd, path, 0);
	}
	return rc;
}

/* Looks at the floors and, if file, allocates, one process at a time. */
static int
claim(struct cache *c, const char *name, const struct need *n, bool file, struct err *e)
{
	int fd = cache_lock(c, EVICT_LOCK, LOCK_EX, true, NULL, e), rc;
	struct lru_state s;

	if (fd < 0)
		return fd;
	s = state_now(c, 0);
	rc = below_floor(c, &s, n->more_bytes, n->more_inodes, e);
	if (rc == 0 && file)
		rc = allocate(c, name, n->bytes, e);
	close(fd);
	return rc;
}

static int
reserve(struct cache *c, const char *name, int64_t need_bytes, int64_t need_inodes, bool file, struct err *e)
{
	struct need n = {.bytes = need_bytes, .inodes = need_inodes, .more_bytes = need_bytes, .more_inodes = need_inodes};
	struct index_item item;
	int rc = index_find(c, name, &item, e);

	if (rc != 0 && rc != ERR_NOTFOUND)
		return rc;
	if (rc == 0) {
		n.known = true;
		n.transient = (item.flags & CACHE_TRANSIENT) != 0;
		n.more_bytes -= item.bytes;
		n.more_inodes -= item.inodes;
	}
	if ((rc = take(c, name, &n, e)) != 0 || (rc = cache_empty_trash(c, e)) != 0)
		return rc;
	fault_point("cache.charged_before");
	rc = claim(c, name, &n, file, e);
	/* A quota, or bytes that the file system keeps for root, are not in what it calls free. */
	if (rc == ERR_RETRY && cache_emergency(c, n.more_bytes, NULL) == 0)
		rc = claim(c, name, &n, file, e);
	return rc;
}

int
cache_reserve(struct cache *c, const char *name, int64_t need_bytes, int64_t need_inodes, struct err *e)
{
	return reserve(c, name, need_bytes, need_inodes, false, e);
}

int
cache_reserve_file(struct cache *c, const char *name, int64_t need_bytes, struct err *e)
{
	int64_t rounded = (need_bytes + CACHE_BLOCK_BYTES - 1) / CACHE_BLOCK_BYTES * CACHE_BLOCK_BYTES;
	int fd = reserve(c, name, rounded + (CACHE_ENTRY_INODES - 1) * CACHE_BLOCK_BYTES, CACHE_ENTRY_INODES, true, e);

	return fd;
}

/* Evicts under the evict lock, then deletes without it. */
static int
make_room(struct cache *c, int64_t need_bytes, bool hard, int64_t expired_before_real_ms, struct err *e)
{
	struct index_sums sums;
	int fd = cache_lock(c, EVICT_LOCK, LOCK_EX, true, NULL, e), rc;

	if (fd < 0)
		return fd;
	if ((rc = index_sums(c, &sums, e)) == 0) {
		struct lru_state s = state_now(c, sums.bytes);

		rc = evict_down(c, lru_lack(&s, need_bytes, 0, hard), expired_before_real_ms, sums.entries, e);
	}
	close(fd);
	return rc == 0 ? cache_empty_trash(c, e) : rc;
}

int
cache_emergency(struct cache *c, int64_t need_bytes, struct err *e)
{
	return make_room(c, need_bytes, true, INT64_MIN, e);
}

/* --- for the programs --- */

int
cache_sweep(struct cache *c, struct err *e)
{
	int64_t now_real_ms = clock_real_ms();
	int rc = cache_sweep_tmp(c, e);

	if (rc == 0 && (rc = cache_each_name(c, "locks", sweep_lock, NULL, e)) == 0)
		rc = make_room(c, 0, false, now_real_ms - c->config.ttl_ms, e);
	if (rc == 0)
		index_note_sweep(c, now_real_ms);
	return rc;
}

int
cache_sweep_if_due(struct cache *c, int64_t every_ms, struct err *e)
{
	int64_t now_real_ms = clock_real_ms();
	struct index_sums sums;
	int rc = index_sums(c, &sums, e);

	if (rc != 0)
		return rc;
	if (sums.swept_real_ms > now_real_ms || now_real_ms - sums.swept_real_ms >= every_ms)
		return cache_sweep(c, e);
	/* Who used it last could not remove it: its overlay was still mounted. */
	if (sums.transient_bytes > 0)
		return make_room(c, 0, false, INT64_MIN, e);
	return cache_empty_trash(c, e);
}

void
cache_hurry(struct cache *c)
{
	atomic_store(&c->hurry, true);
}

void
cache_stats(struct cache *c, struct cache_stats *ret_stats)
{
	struct index_sums sums = {0};
	struct lru_state s = state_now(c, 0);
	struct stat st = {0};

	(void)index_sums(c, &sums, NULL);
	(void)fstatat(c->dir_fd, "objects", &st, AT_SYMLINK_NOFOLLOW);
	*ret_stats = (struct cache_stats){.bytes = sums.bytes, .entries = sums.entries, .transient_bytes = sums.transient_bytes,
	    .hits = sums.counts.hits, .misses = sums.counts.misses, .evictions = sums.counts.evictions,
	    .evicted_bytes = sums.counts.evicted_bytes, .damaged = sums.counts.damaged, .max_bytes = c->config.max_bytes,
	    .ttl_ms = c->config.ttl_ms, .min_free_bytes = c->config.min_free_bytes, .min_free_inodes = c->config.min_free_inodes,
	    .free_bytes = s.free_bytes, .free_inodes = s.free_inodes, .pinned = atomic_load(&c->pinned),
	    .pinned_bytes = atomic_load(&c->pinned_bytes), .swept_real_ms = sums.swept_real_ms, .generation = sums.generation};
	snprintf(ret_stats->id, sizeof(ret_stats->id), "%llx-%llx", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
}
