/* Opening, pinning, and the locks; filling is in cache_fill.c, making room in cache_evict.c. */
#include "storage/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/num.h"
#include "storage/cache_parts.h"

#define LOCK_LOOK_MS 20 /* flock cannot be waited for and canceled at the same time */
#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

/* --- locks --- */

static void
nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = LOCK_LOOK_MS * 1000000L}, NULL);
}

/* One try. ERR_CONFLICT if it is held, ERR_NOTFOUND if the file was removed under us. */
static int
try_lock(int fd, int how, struct err *e)
{
	struct stat st;

	while (flock(fd, how | LOCK_NB) != 0)
		if (errno == EWOULDBLOCK)
			return err_set(e, ERR_CONFLICT, "the cache entry is in use");
		else if (errno != EINTR)
			return err_set(e, ERR_IO, "lock a cache entry: %s", strerror(errno));
	if (fstat(fd, &st) != 0)
		return err_set(e, ERR_IO, "lock a cache entry: %s", strerror(errno));
	return st.st_nlink > 0 ? 0 : ERR_NOTFOUND;
}

int
cache_lock(struct cache *c, const char *name, int how, bool wait, const atomic_bool *stop, struct err *e)
{
	char path[CACHE_NAME_LEN];

	snprintf(path, sizeof(path), "locks/%s", name);
	for (;;) {
		int fd = openat(c->dir_fd, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), rc;

		if (fd < 0)
			return err_set(e, errno == ENOSPC ? ERR_RETRY : ERR_IO, "open %s/%s: %s", c->dir, path, strerror(errno));
		while ((rc = try_lock(fd, how, e)) == ERR_CONFLICT && wait) {
			if (stop != NULL && atomic_load(stop)) {
				rc = err_set(e, ERR_CANCELED, "waiting for another download was canceled");
				break;
			}
			nap();
		}
		if (rc == 0)
			return fd;
		close(fd);
		if (rc != ERR_NOTFOUND)
			return rc;
	}
}

/* --- entries --- */

const char *
cache_entry_path(const char *sha256, const char *what, char out[CACHE_NAME_LEN])
{
	snprintf(out, CACHE_NAME_LEN, "objects/%.2s/%s%s%s", sha256, sha256, what[0] != '\0' ? "/" : "", what);
	return out;
}

bool
cache_has_blob(struct cache *c, const char *sha256, int64_t size_bytes)
{
	char path[CACHE_NAME_LEN];
	struct stat st;

	return fstatat(c->dir_fd, cache_entry_path(sha256, "blob", path), &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	    st.st_size == size_bytes;
}

bool
cache_read_mark(struct cache *c, const char *sha256, char boot_id[CACHE_BOOT_LEN], int64_t *ret_bytes)
{
	char path[CACHE_NAME_LEN];
	struct buf b = buf_make(128);
	bool ok = false;

	if (file_read(c->dir_fd, cache_entry_path(sha256, "tree.ok", path), &b, NULL) == 0 && b.len > CACHE_BOOT_LEN &&
	    b.data[CACHE_BOOT_LEN - 1] == ' ') {
		b.data[CACHE_BOOT_LEN - 1] = '\0';
		ok = num_int(b.data + CACHE_BOOT_LEN, 0, INT64_MAX, ret_bytes, NULL) == 0;
		memcpy(boot_id, b.data, CACHE_BOOT_LEN);
	}
	buf_release(&b);
	return ok;
}

bool
cache_has_tree(struct cache *c, const char *sha256)
{
	char path[CACHE_NAME_LEN], boot_id[CACHE_BOOT_LEN];
	struct stat st;
	int64_t bytes;

	return cache_read_mark(c, sha256, boot_id, &bytes) && strcmp(boot_id, c->boot_id) == 0 &&
	    fstatat(c->dir_fd, cache_entry_path(sha256, "tree", path), &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static bool
complete(struct cache *c, const struct cache_want *w)
{
	return cache_has_blob(c, w->sha256, w->size_bytes) && (!w->tree || cache_has_tree(c, w->sha256));
}

/* The clock of eviction. A failure only makes the entry look older. */
static void
touch(struct cache *c, const char *sha256)
{
	char path[CACHE_NAME_LEN];
	int fd = openat(c->dir_fd, cache_entry_path(sha256, "used", path), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return;
	(void)futimens(fd, NULL);
	close(fd);
}

/* --- the cache --- */

static int
read_boot_id(struct cache *c, struct err *e)
{
	struct buf b = buf_make(64);
	int rc = file_read(AT_FDCWD, BOOT_ID_FILE, &b, e);

	if (rc == 0 && b.len < CACHE_BOOT_LEN - 1)
		rc = err_set(e, ERR_IO, "%s is too short", BOOT_ID_FILE);
	if (rc == 0)
		memcpy(c->boot_id, b.data, CACHE_BOOT_LEN - 1);
	buf_release(&b);
	return rc;
}

static int
make_dirs(struct cache *c, struct err *e)
{
	static const char *const names[] = {"objects", "locks", "tmp", "trash"};
	int rc;

	if ((rc = file_mkdirs(c->dir, 0700, e)) != 0)
		return rc;
	c->dir_fd = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->dir_fd < 0)
		return err_set(e, ERR_IO, "open %s: %s", c->dir, strerror(errno));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (mkdirat(c->dir_fd, names[i], 0700) != 0 && errno != EEXIST)
			return err_set(e, ERR_IO, "make %s/%s: %s", c->dir, names[i], strerror(errno));
	return 0;
}

struct cache *
cache_open(const struct cache_config *config, struct err *e)
{
	struct cache *c = xcalloc(1, sizeof(*c));

	c->config = *config;
	c->config.dir = NULL;
	c->dir = xstrdup(config->dir);
	c->dir_fd = -1;
	if (config->max_bytes <= 0 || config->ttl_ms <= 0 || config->min_free_bytes < 0) {
		err_set(e, ERR_INVALID, "the cache's size, TTL or free space is out of bounds");
	} else if (config->dir[0] != '/') {
		err_set(e, ERR_INVALID, "the cache directory '%.100s' is not absolute", config->dir);
	} else if (read_boot_id(c, e) == 0 && make_dirs(c, e) == 0 && cache_sweep_tmp(c, e) == 0) {
		return c;
	}
	cache_close(c);
	return NULL;
}

void
cache_close(struct cache *c)
{
	if (c == NULL)
		return;
	if (c->dir_fd >= 0)
		close(c->dir_fd);
	free(c->dir);
	free(c);
}

/* --- pins --- */

static int
check_want(const struct cache *c, const struct cache_want *w, struct err *e)
{
	if (!hex_decode(w->sha256, SHA256_LEN, NULL))
		return err_set(e, ERR_INVALID, "'%.80s' is not a SHA-256 in lower-case hex", w->sha256);
	if (w->size_bytes < 0)
		return err_set(e, ERR_INVALID, "the size of the object is negative");
	if (w->size_bytes <= c->config.max_bytes)
		return 0;
	err_set(e, ERR_TOOBIG, "the object has %lld bytes, the cache may hold %lld", (long long)w->size_bytes,
	    (long long)c->config.max_bytes);
	err_hint(e, "raise CACHE_MAX_SIZE on this node");
	return ERR_TOOBIG;
}

/* Fills under the fill lock, unless someone else just did. */
static int
fill(struct cache *c, const struct cache_want *w, const atomic_bool *stop, bool *ret_miss, struct err *e)
{
	char name[CACHE_SHA_LEN + 8];
	int fd, rc = 0;

	snprintf(name, sizeof(name), "%s.fill", w->sha256);
	fd = cache_lock(c, name, LOCK_EX, true, stop, e);
	if (fd < 0)
		return fd;
	if (!complete(c, w)) {
		*ret_miss = !cache_has_blob(c, w->sha256, w->size_bytes);
		rc = cache_fill(c, w, stop, e);
	}
	close(fd);
	return rc;
}

int
cache_get(struct cache *c, const struct cache_want *w, const atomic_bool *stop, struct cache_pin **ret_pin, struct err *e)
{
	char path[CACHE_NAME_LEN];
	struct cache_pin *p;
	bool miss = false;
	int fd, rc;

	if ((rc = check_want(c, w, e)) != 0)
		return rc;
	/* From here on nobody can evict it, so what was seen complete stays. */
	fd = cache_lock(c, w->sha256, LOCK_SH, true, stop, e);
	if (fd < 0)
		return fd;
	if (!complete(c, w) && (rc = fill(c, w, stop, &miss, e)) != 0) {
		close(fd);
		return rc;
	}
	touch(c, w->sha256);
	atomic_fetch_add(miss ? &c->misses : &c->hits, 1);
	atomic_fetch_add(&c->pinned, 1);
	p = xcalloc(1, sizeof(*p));
	p->cache = c;
	p->lock_fd = fd;
	p->miss = miss;
	p->blob = xasprintf("%s/%s", c->dir, cache_entry_path(w->sha256, "blob", path));
	if (w->tree)
		p->tree = xasprintf("%s/%s", c->dir, cache_entry_path(w->sha256, "tree", path));
	*ret_pin = p;
	return 0;
}

const char *
cache_pin_blob(const struct cache_pin *p)
{
	return p->blob;
}

const char *
cache_pin_tree(const struct cache_pin *p)
{
	return p->tree;
}

bool
cache_pin_was_miss(const struct cache_pin *p)
{
	return p->miss;
}

int
cache_pin_fd(const struct cache_pin *p)
{
	return p->lock_fd;
}

void
cache_release(struct cache_pin *p)
{
	if (p == NULL)
		return;
	atomic_fetch_sub(&p->cache->pinned, 1);
	close(p->lock_fd);
	free(p->blob);
	free(p->tree);
	free(p);
}
