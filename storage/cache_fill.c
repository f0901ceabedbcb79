/* Filling an entry. Every step leaves the cache right if the process dies after it; the entry is charged before the first one.
 *   reserved      tmp/<entry> is there               taken back, since nobody holds the entry's lock
 *   downloaded    the same
 *   synced        the same
 *   renamed       objects/…/data without a mark      complete on the disk; verified at the next use, which marks it
 *   marked        complete; charged what was reserved until the next start looks
 *   unpacked      tmp/<entry> of a tree              taken back
 *   tree_moved    objects/…/data without a mark      not trusted; made again
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "storage/cache_parts.h"
#include "storage/fetch.h"

#define HASH_BYTES (256 * 1024)
#define FULL_BYTES (1 << 20) /* a disk with less is full, whatever failed */
#define FULL_INODES 8
#define GUESS_RATIO 4              /* a tree is charged so many times its archive, … */
#define GUESS_MAX_BYTES (64 << 20) /* … within this, … */
#define GUESS_BYTES (64 << 10)     /* … and this for its first directories, … */
#define GROW_MIN_BYTES (16 << 20)  /* … and then a quarter more than it has, within these */
#define GROW_MAX_BYTES (256 << 20)
#define GUESS_INODES 16
#define GROW_INODES 1000

/* --- the bytes --- */

int
cache_check_blob(int fd, const char *name, const atomic_bool *stop, struct err *e)
{
	struct sha256 *digest = sha256_new();
	uint8_t sum[SHA256_LEN];
	char hex[SHA256_HEX_LEN], *block = xmalloc(HASH_BYTES);
	ssize_t n = 0;
	int64_t at = 0;

	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	while ((stop == NULL || !atomic_load(stop)) && (n = pread(fd, block, HASH_BYTES, at)) > 0) {
		sha256_add(digest, block, (size_t)n);
		at += n;
	}
	free(block);
	sha256_end(digest, sum);
	if (stop != NULL && atomic_load(stop))
		return err_set(e, ERR_CANCELED, "canceled");
	if (n < 0)
		return err_set(e, ERR_INVALID, "read: %s", strerror(errno));
	hex_encode(sum, sizeof(sum), hex);
	return strncmp(hex, name, sizeof(hex) - 1) == 0 ? 0 : err_set(e, ERR_INVALID, "its SHA-256 is %s", hex);
}

/* Brings the object's bytes into fd and compares what came with what was promised. */
static int
download(const struct cache_want *w, int fd, const atomic_bool *stop, struct err *e)
{
	static const struct fetch_options o = {.durable = true};
	uint8_t digest[SHA256_LEN];
	char hex[SHA256_HEX_LEN];
	int rc = store_fetch(w->store, w->bucket, w->key, fd, w->size_bytes, &o, digest, NULL, stop, e);

	if (rc == 0 && strcmp(hex_encode(digest, sizeof(digest), hex), w->sha256) != 0)
		rc = err_set(e, ERR_INVALID, "the object's SHA-256 is %s, promised was %s", hex, w->sha256);
	return rc;
}

static int
sync_dir(struct cache *c, const char *path, struct err *e)
{
	int fd = openat(c->dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;

	if (fd < 0 || fsync(fd) != 0)
		rc = err_set(e, ERR_IO, "fsync %s/%s: %s", c->dir, path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return rc;
}

/* Moves tmp/<entry> to the entry's data. */
static int
publish(struct cache *c, const char *name, struct err *e)
{
	char entry[CACHE_NAME_LEN], data[CACHE_NAME_LEN], tmp[CACHE_NAME_LEN], group[16];

	cache_tmp_path(name, tmp);
	snprintf(group, sizeof(group), "objects/%.2s", name);
	cache_entry_path(name, "", entry);
	if ((mkdirat(c->dir_fd, group, 0700) != 0 && errno != EEXIST) || (mkdirat(c->dir_fd, entry, 0700) != 0 && errno != EEXIST))
		return err_set(e, errno == ENOSPC || errno == EDQUOT ? ERR_RETRY : ERR_IO, "make %s/%s: %s", c->dir, entry,
		    strerror(errno));
	if (renameat(c->dir_fd, tmp, c->dir_fd, cache_entry_path(name, "data", data)) != 0)
		return err_set(e, ERR_IO, "rename to %s/%s: %s", c->dir, data, strerror(errno));
	return 0;
}

/* Whether an entry that was let through for lack of room fits now that its size is known. */
static bool
is_transient(struct cache *c, const struct index_item *item, int64_t bytes)
{
	struct index_sums sums;

	return (item->flags & CACHE_TRANSIENT) != 0 && (index_sums(c, &sums, NULL) != 0 || sums.bytes + bytes > c->config.max_bytes);
}

/* Marks what is published as good in this boot, and charges what it really takes. */
static int
settle(struct cache *c, const char *name, struct err *e)
{
	char path[CACHE_NAME_LEN];
	struct cache_measure sum = {.bytes = CACHE_BLOCK_BYTES, .inodes = 1}; /* of the mark */
	struct cache_mark mark;
	struct index_item item = {0};
	struct stat st;
	int rc;

	(void)unlinkat(c->dir_fd, cache_entry_path(name, "mark", path), 0);
	cache_measure(c, cache_entry_path(name, "", path), &sum);
	mark = (struct cache_mark){.bytes = sum.bytes, .inodes = sum.inodes, .apparent_bytes = sum.apparent_bytes};
	memcpy(mark.boot_id, c->boot_id, sizeof(mark.boot_id));
	if ((rc = cache_write_mark(c, name, &mark, e)) != 0)
		return rc;
	/* What the mark takes itself is known now. */
	if (fstatat(c->dir_fd, cache_entry_path(name, "mark", path), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_blocks * INT64_C(512) != CACHE_BLOCK_BYTES) {
		mark.bytes += st.st_blocks * INT64_C(512) - CACHE_BLOCK_BYTES;
		if ((rc = cache_write_mark(c, name, &mark, e)) != 0)
			return rc;
	}
	fault_point("cache.marked");
	rc = index_find(c, name, &item, e);
	if (rc != 0 && rc != ERR_NOTFOUND)
		return rc;
	rc = index_charge(c, name, mark.bytes, mark.inodes, is_transient(c, &item, mark.bytes) ? CACHE_TRANSIENT : 0, rc == 0, e);
	fault_point("cache.charged");
	return rc;
}

/* --- a blob --- */

/* Makes the downloaded file the entry's data, durably. */
static int
publish_blob(struct cache *c, const char *name, int fd, struct err *e)
{
	char entry[CACHE_NAME_LEN], group[16];
	int rc;

	/* A failed fsync is final for these bytes: the caller removes them. */
	if (fchmod(fd, 0444) != 0 || fsync(fd) != 0)
		return err_set(e, errno == ENOSPC || errno == EDQUOT ? ERR_RETRY : ERR_IO, "fsync %s/tmp/%s: %s", c->dir, name,
		    strerror(errno));
	fault_point("cache.synced");
	if ((rc = publish(c, name, e)) != 0)
		return rc;
	fault_point("cache.renamed");
	snprintf(group, sizeof(group), "objects/%.2s", name);
	if ((rc = sync_dir(c, cache_entry_path(name, "", entry), e)) != 0 || (rc = sync_dir(c, group, e)) != 0 ||
	    (rc = sync_dir(c, "objects", e)) != 0)
		return rc;
	return settle(c, name, e);
}

static int
fetch_blob(struct cache *c, const char *name, const struct cache_want *w, const atomic_bool *stop, struct err *e)
{
	int fd = cache_reserve_file(c, name, w->size_bytes, e), rc = fd < 0 ? fd : 0;

	if (rc == 0) {
		fault_point("cache.reserved");
		rc = download(w, fd, stop, e);
	}
	if (rc == 0) {
		fault_point("cache.downloaded");
		rc = publish_blob(c, name, fd, e);
	}
	if (fd >= 0 && close(fd) != 0 && rc == 0)
		rc = err_set(e, ERR_IO, "close %s/tmp/%s: %s", c->dir, name, strerror(errno));
	if (rc != 0)
		cache_abandon(c, name);
	return rc;
}

/* What lies there from another boot, or was not marked before a crash, is good if its digest is. Returns 1 if so, 0 if it must
 * be fetched, or an error. What is damaged is put aside. */
static int
keep_blob(struct cache *c, const char *name, const atomic_bool *stop, struct err *e)
{
	char path[CACHE_NAME_LEN];
	int fd = openat(c->dir_fd, cache_entry_path(name, "data", path), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), rc;

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return cache_discard(c, cache_entry_path(name, "", path), e);
	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
		return err_set(e, ERR_RETRY, "open %s/%s: %s", c->dir, path, strerror(errno)); /* it may well be sound */
	rc = fd < 0 ? ERR_INVALID : cache_check_blob(fd, name, stop, e);
	if (fd >= 0)
		close(fd);
	fault_point("cache.verified");
	if (rc == 0)
		return (rc = settle(c, name, e)) != 0 ? rc : 1;
	if (rc != ERR_INVALID)
		return rc;
	index_note_damage(c);
	return cache_discard(c, cache_entry_path(name, "", path), e);
}

static bool
disk_is_full(struct cache *c)
{
	struct statvfs v;

	return fstatvfs(c->dir_fd, &v) == 0 && ((int64_t)v.f_bavail * (int64_t)v.f_frsize < FULL_BYTES ||
	    (v.f_files > 0 && v.f_favail < FULL_INODES));
}

int
cache_fill_blob(struct cache *c, const char *name, const struct cache_want *w, const atomic_bool *stop, bool *ret_miss,
    struct err *e)
{
	char path[CACHE_NAME_LEN];
	struct stat st;
	int rc = 0;

	/* A file of another size is not what was promised; it was this before it was damaged, or the promise is wrong. */
	if (fstatat(c->dir_fd, cache_entry_path(name, "data", path), &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	    st.st_size != w->size_bytes && cache_complete(c, name, -1, NULL) == 0)
		(void)unlinkat(c->dir_fd, cache_entry_path(name, "mark", path), 0);
	rc = keep_blob(c, name, stop, e);
	if (rc < 0)
		return rc;
	if (rc == 1) {
		rc = cache_complete(c, name, w->size_bytes, e);
		if (rc != ERR_NOTFOUND)
			return rc;
		return err_set(e, ERR_INVALID, "the object has another size than the %lld bytes that were promised",
		    (long long)w->size_bytes);
	}
	*ret_miss = true;
	rc = fetch_blob(c, name, w, stop, e);
	/* Bytes that are not the promised ones: once more, they may have been broken on the way. */
	if (rc == ERR_INVALID || (rc == ERR_RETRY && disk_is_full(c) && cache_emergency(c, w->size_bytes, NULL) == 0))
		rc = fetch_blob(c, name, w, stop, e);
	return rc;
}

/* --- a tree --- */

struct growth { /* of a tree while it is made */
	struct cache *c;
	const char *name;
	int64_t charged_bytes, charged_inodes;
};

static int
charge_ahead(struct growth *g, int64_t bytes, int64_t inodes, struct err *e)
{
	int rc = cache_reserve(g->c, g->name, bytes, inodes, e);

	if (rc == 0) {
		g->charged_bytes = bytes;
		g->charged_inodes = inodes;
	}
	fault_point("cache.tree_charged");
	return rc;
}

/* Keeps the charge ahead of what the extraction has written: it tells of every 16 MiB and every 1,000 entries. */
static int
grew(void *arg, int64_t disk_bytes, int64_t entries, struct err *e)
{
	struct growth *g = arg;
	int64_t step = disk_bytes / 4;

	step = step < GROW_MIN_BYTES ? GROW_MIN_BYTES : step > GROW_MAX_BYTES ? GROW_MAX_BYTES : step;
	if (disk_bytes + step / 2 <= g->charged_bytes && entries + CACHE_ENTRY_INODES <= g->charged_inodes)
		return 0;
	return charge_ahead(g, disk_bytes + step, entries + GROW_INODES, e);
}

/* Unpacks the blob at fd into tmp/<entry>, which is made for it. */
static int
unpack_into(struct cache *c, const char *name, int fd, int64_t blob_bytes, const atomic_bool *stop, struct err *e)
{
	struct growth g = {.c = c, .name = name};
	const struct extract_watch watch = {.grew = grew, .arg = &g};
	struct extract_limits limits = c->config.limits;
	struct extract_result r;
	char tmp[CACHE_NAME_LEN];
	int64_t guess;
	int dir_fd = -1, rc;

	limits.min_free_bytes = c->config.min_free_bytes;
	limits.min_free_inodes = c->config.min_free_inodes;
	guess = blob_bytes < GUESS_MAX_BYTES / GUESS_RATIO ? blob_bytes * GUESS_RATIO : GUESS_MAX_BYTES;
	if ((rc = charge_ahead(&g, guess + GUESS_BYTES, GUESS_INODES, e)) != 0)
		return rc;
	cache_tmp_path(name, tmp);
	if (mkdirat(c->dir_fd, tmp, 0755) != 0 ||
	    (dir_fd = openat(c->dir_fd, tmp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0 || fchmod(dir_fd, 0755) != 0 ||
	    (geteuid() == 0 && fchown(dir_fd, c->config.uid, c->config.gid) != 0))
		rc = err_set(e, errno == ENOSPC || errno == EDQUOT ? ERR_RETRY : ERR_IO, "make %s/%s: %s", c->dir, tmp, strerror(errno));
	else
		rc = extract_archive(fd, dir_fd, c->config.uid, c->config.gid, &limits, &watch, stop, &r, e);
	if (dir_fd >= 0)
		close(dir_fd);
	return rc;
}

static int
unpack(struct cache *c, const char *name, const char *blob, int64_t blob_bytes, const atomic_bool *stop, struct err *e)
{
	char tmp[CACHE_NAME_LEN], path[CACHE_NAME_LEN];
	int fd = open(blob, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc;

	if (fd < 0)
		return err_set(e, ERR_IO, "open %s: %s", blob, strerror(errno));
	cache_tmp_path(name, tmp);
	/* Left by a crash, or by an earlier boot, whose writes may not have reached the disk. */
	if ((rc = cache_discard(c, tmp, e)) == 0 && (rc = cache_discard(c, cache_entry_path(name, "", path), e)) == 0)
		rc = unpack_into(c, name, fd, blob_bytes, stop, e);
	/* Whatever the archive is refused for: is it still the one that was verified? */
	if (rc == ERR_INVALID && cache_check_blob(fd, name, stop, NULL) == ERR_INVALID)
		rc = err_set(e, ERR_CONFLICT, "%s was damaged in the cache", blob);
	close(fd);
	if (rc == 0) {
		fault_point("cache.unpacked");
		rc = publish(c, name, e);
	}
	if (rc == 0) {
		fault_point("cache.tree_moved");
		rc = settle(c, name, e);
	}
	if (rc != 0)
		cache_abandon(c, name);
	return rc;
}

/* Nobody is served it any more; it is fetched again. */
static void
condemn_blob(struct cache *c, const char *sha256)
{
	char name[CACHE_ENTRY_LEN], path[CACHE_NAME_LEN];

	cache_entry_name(sha256, false, name);
	(void)unlinkat(c->dir_fd, cache_entry_path(name, "mark", path), 0);
}

int
cache_fill_tree(struct cache *c, const char *name, const struct cache_want *w, const atomic_bool *stop, bool *ret_miss,
    struct err *e)
{
	bool refetched = false, emptied = false;
	int rc;

	for (;;) {
		struct cache_pin *blob = NULL;

		if ((rc = cache_pin_entry(c, w, false, stop, &blob, e)) != 0)
			return rc;
		*ret_miss = *ret_miss || blob->miss;
		rc = unpack(c, name, blob->path, w->size_bytes, stop, e);
		cache_release(blob);
		if (rc == ERR_CONFLICT && !refetched) {
			condemn_blob(c, w->sha256);
			refetched = true;
		} else if (rc == ERR_RETRY && !emptied && cache_emergency(c, w->size_bytes, NULL) == 0) {
			emptied = true; /* the disk got full while unpacking */
		} else {
			return rc == ERR_CONFLICT ? err_prefix(e, ERR_IO, "twice") : rc;
		}
	}
}
