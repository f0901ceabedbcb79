/* Filling an entry. Every step leaves the cache right if the process dies after it:
 *   reserved      tmp/<sha>.blob is there            swept, since nobody holds the entry's lock
 *   downloaded    the same
 *   synced        the same
 *   renamed       objects/…/blob                     complete: its digest was verified and its bytes are on the disk
 *   unpacked      tmp/<sha>.tree                     swept
 *   tree_moved    objects/…/tree without tree.ok     not trusted; made again
 *   marked        complete
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "storage/cache_parts.h"
#include "storage/fetch.h"

#define TREE_ENTRY_BYTES 4096 /* what an inode and its last block cost, about */

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

/* Makes objects/<aa>/<sha256>. */
static int
make_entry_dir(struct cache *c, const char *sha256, struct err *e)
{
	char path[CACHE_NAME_LEN], group[16];

	snprintf(group, sizeof(group), "objects/%.2s", sha256);
	cache_entry_path(sha256, "", path);
	if ((mkdirat(c->dir_fd, group, 0700) != 0 && errno != EEXIST) ||
	    (mkdirat(c->dir_fd, path, 0700) != 0 && errno != EEXIST))
		return err_set(e, errno == ENOSPC ? ERR_RETRY : ERR_IO, "make %s/%s: %s", c->dir, path, strerror(errno));
	return 0;
}

/* Makes the downloaded file the entry's blob, durably. */
static int
publish_blob(struct cache *c, const char *sha256, const char *tmp, int fd, struct err *e)
{
	char entry[CACHE_NAME_LEN], blob[CACHE_NAME_LEN], group[16];
	int rc;

	snprintf(group, sizeof(group), "objects/%.2s", sha256);
	/* A failed fsync is final for these bytes: the caller removes them. */
	if (fchmod(fd, 0444) != 0 || fsync(fd) != 0)
		return err_set(e, ERR_IO, "fsync %s/%s: %s", c->dir, tmp, strerror(errno));
	fault_point("cache.synced");
	if ((rc = make_entry_dir(c, sha256, e)) != 0)
		return rc;
	if (renameat(c->dir_fd, tmp, c->dir_fd, cache_entry_path(sha256, "blob", blob)) != 0)
		return err_set(e, ERR_IO, "rename to %s/%s: %s", c->dir, blob, strerror(errno));
	fault_point("cache.renamed");
	if ((rc = sync_dir(c, cache_entry_path(sha256, "", entry), e)) != 0 || (rc = sync_dir(c, group, e)) != 0)
		return rc;
	return sync_dir(c, "objects", e);
}

static int
fetch_blob(struct cache *c, const struct cache_want *w, const atomic_bool *stop, struct err *e)
{
	char name[CACHE_NAME_LEN], tmp[CACHE_NAME_LEN + 4];
	int fd, rc;

	snprintf(name, sizeof(name), "%s.blob", w->sha256);
	snprintf(tmp, sizeof(tmp), "tmp/%s", name);
	fd = cache_reserve(c, name, w->size_bytes, e);
	if (fd < 0)
		return fd;
	fault_point("cache.reserved");
	rc = download(w, fd, stop, e);
	if (rc == 0) {
		fault_point("cache.downloaded");
		rc = publish_blob(c, w->sha256, tmp, fd, e);
	}
	if (close(fd) != 0 && rc == 0)
		rc = err_set(e, ERR_IO, "close %s/%s: %s", c->dir, tmp, strerror(errno));
	if (rc != 0)
		unlinkat(c->dir_fd, tmp, 0);
	return rc;
}

/* Puts an entry's file or tree aside under a name of its own; it is deleted with the trash. */
static int
discard(struct cache *c, const char *sha256, const char *what, struct err *e)
{
	char from[CACHE_NAME_LEN], to[CACHE_NAME_LEN], id[37];

	uuid_text(id);
	snprintf(to, sizeof(to), "trash/%s", id);
	if (renameat(c->dir_fd, cache_entry_path(sha256, what, from), c->dir_fd, to) == 0 || errno == ENOENT)
		return 0;
	return err_set(e, ERR_IO, "rename %s/%s: %s", c->dir, from, strerror(errno));
}

/* Makes the unpacked tree the entry's own; the mark comes last. */
static int
publish_tree(struct cache *c, const char *sha256, const char *tmp, const struct extract_result *r, struct err *e)
{
	char entry[CACHE_NAME_LEN], tree[CACHE_NAME_LEN], mark[96];
	int rc, dir_fd, len;

	/* Left by a crash or by an earlier boot, whose writes may not have reached the disk. */
	if ((rc = discard(c, sha256, "tree.ok", e)) != 0 || (rc = discard(c, sha256, "tree", e)) != 0)
		return rc;
	if (renameat(c->dir_fd, tmp, c->dir_fd, cache_entry_path(sha256, "tree", tree)) != 0)
		return err_set(e, ERR_IO, "rename to %s/%s: %s", c->dir, tree, strerror(errno));
	fault_point("cache.tree_moved");
	len = snprintf(mark, sizeof(mark), "%s %lld", c->boot_id, (long long)(r->bytes + r->entries * TREE_ENTRY_BYTES));
	dir_fd = openat(c->dir_fd, cache_entry_path(sha256, "", entry), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return err_set(e, ERR_IO, "open %s/%s: %s", c->dir, entry, strerror(errno));
	rc = file_replace(dir_fd, "tree.ok", mark, (size_t)len, 0444, e);
	close(dir_fd);
	fault_point("cache.marked");
	return rc;
}

/* Unpacks the blob at fd into tmp, which is made for it. */
static int
unpack_into(struct cache *c, int fd, int64_t blob_bytes, const char *tmp, const atomic_bool *stop, struct extract_result *ret_r,
    struct err *e)
{
	struct extract_limits limits = c->config.limits;
	int dir_fd = -1, rc;

	/* A tree that the cache cannot hold is refused while it is made. */
	if (limits.max_bytes > c->config.max_bytes - blob_bytes)
		limits.max_bytes = c->config.max_bytes > blob_bytes ? c->config.max_bytes - blob_bytes : 1;
	if (mkdirat(c->dir_fd, tmp, 0755) != 0 ||
	    (dir_fd = openat(c->dir_fd, tmp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0 || fchmod(dir_fd, 0755) != 0 ||
	    (geteuid() == 0 && fchown(dir_fd, c->config.uid, c->config.gid) != 0))
		rc = err_set(e, errno == ENOSPC ? ERR_RETRY : ERR_IO, "make %s/%s: %s", c->dir, tmp, strerror(errno));
	else
		rc = extract_archive(fd, dir_fd, c->config.uid, c->config.gid, &limits, NULL, stop, ret_r, e);
	if (dir_fd >= 0)
		close(dir_fd);
	return rc;
}

static int
make_tree(struct cache *c, const struct cache_want *w, const atomic_bool *stop, struct err *e)
{
	char blob[CACHE_NAME_LEN], tmp[CACHE_NAME_LEN];
	struct extract_result r = {0};
	int fd, rc;

	snprintf(tmp, sizeof(tmp), "tmp/%s.tree", w->sha256);
	if ((rc = file_remove_tree(c->dir_fd, tmp, e)) != 0)
		return rc;
	fd = openat(c->dir_fd, cache_entry_path(w->sha256, "blob", blob), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_set(e, ERR_IO, "open %s/%s: %s", c->dir, blob, strerror(errno));
	rc = unpack_into(c, fd, w->size_bytes, tmp, stop, &r, e);
	close(fd);
	if (rc == 0) {
		fault_point("cache.unpacked");
		rc = publish_tree(c, w->sha256, tmp, &r, e);
	}
	if (rc != 0)
		(void)file_remove_tree(c->dir_fd, tmp, NULL);
	else
		(void)cache_make_room(c, 0, false, NULL); /* the tree's size is known only now; others go, or nothing can */
	return rc;
}

int
cache_fill(struct cache *c, const struct cache_want *w, const atomic_bool *stop, struct err *e)
{
	int rc = 0;

	if (!cache_has_blob(c, w->sha256, w->size_bytes)) {
		rc = fetch_blob(c, w, stop, e);
		/* Bytes that are not the promised ones: once more, they may have been broken on the way. */
		if (rc == ERR_INVALID)
			rc = fetch_blob(c, w, stop, e);
	}
	if (rc == 0 && w->tree && !cache_has_tree(c, w->sha256)) {
		rc = make_tree(c, w, stop, e);
		/* The disk got full while unpacking. */
		if (rc == ERR_RETRY && cache_make_room(c, 0, true, NULL) == 0)
			rc = make_tree(c, w, stop, e);
	}
	return rc;
}
