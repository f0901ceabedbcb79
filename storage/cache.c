/* Opening, pinning, and the locks; filling is in cache_fill.c, making room in cache_evict.c. */
#include "storage/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/num.h"
#include "storage/cache_flight.h"
#include "storage/cache_parts.h"

#define LOCK_LOOK_MS 20 /* flock cannot be waited for and canceled at the same time */
#define MARK_BYTES 160 /* four numbers of 20 digits are more than there are */
#define OBJECT_MAX_BYTES (INT64_C(1) << 50) /* no store takes as much; sums with it do not overflow */
#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

static const char *const folders[] = {"objects", "locks", "tmp", "trash"};
#define N_FOLDERS (sizeof(folders) / sizeof(folders[0]))

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
		int fd = openat(c->dir_fd, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600), rc;

		if (fd < 0)
			return err_set(e, errno == ENOSPC || errno == EDQUOT ? ERR_RETRY : ERR_IO, "open %s/%s: %s", c->dir, path,
			    strerror(errno));
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

int
cache_lock_entry(struct cache *c, const char *name, int how, const atomic_bool *stop, struct err *e)
{
	int fd = cache_lock(c, name, how, true, stop, e);

	/* Not even an inode for the lock's file. */
	if (fd == ERR_RETRY && cache_emergency(c, CACHE_BLOCK_BYTES, NULL) == 0)
		fd = cache_lock(c, name, how, true, stop, e);
	return fd;
}

/* --- entries --- */

const char *
cache_entry_name(const char *sha256, bool tree, char out[CACHE_ENTRY_LEN])
{
	snprintf(out, CACHE_ENTRY_LEN, "%.64s.%s", sha256, tree ? "tree" : "blob");
	return out;
}

bool
cache_entry_valid(const char *name, bool *ret_tree)
{
	char hex[CACHE_SHA_LEN];
	bool tree;

	if (strlen(name) != CACHE_SHA_LEN - 1 + 5)
		return false;
	memcpy(hex, name, CACHE_SHA_LEN - 1);
	hex[CACHE_SHA_LEN - 1] = '\0';
	tree = strcmp(name + CACHE_SHA_LEN - 1, ".tree") == 0;
	if (ret_tree != NULL)
		*ret_tree = tree;
	return hex_decode(hex, SHA256_LEN, NULL) && (tree || strcmp(name + CACHE_SHA_LEN - 1, ".blob") == 0);
}

const char *
cache_entry_path(const char *name, const char *what, char out[CACHE_NAME_LEN])
{
	snprintf(out, CACHE_NAME_LEN, "objects/%.2s/%.70s%s%.20s", name, name, what[0] != '\0' ? "/" : "", what);
	return out;
}

const char *
cache_tmp_path(const char *name, char out[CACHE_NAME_LEN])
{
	snprintf(out, CACHE_NAME_LEN, "tmp/%.71s", name);
	return out;
}

/* "<boot id> <number> <number> <number>\n", NUL-terminated without its newline. */
static bool
parse_mark(char *text, struct cache_mark *ret)
{
	int64_t *const numbers[] = {&ret->bytes, &ret->inodes, &ret->apparent_bytes};
	char *at = text + CACHE_BOOT_LEN;
	bool ok = strlen(text) > CACHE_BOOT_LEN && text[CACHE_BOOT_LEN - 1] == ' ';

	if (ok)
		memcpy(ret->boot_id, text, CACHE_BOOT_LEN - 1);
	ret->boot_id[CACHE_BOOT_LEN - 1] = '\0';
	for (size_t i = 0; ok && i < 3; i++) {
		size_t len = strcspn(at, " ");
		bool last = at[len] == '\0';

		at[len] = '\0';
		ok = num_int(at, 0, INT64_MAX, numbers[i], NULL) == 0 && last == (i == 2);
		at += len + !last;
	}
	return ok;
}

int
cache_read_mark(struct cache *c, const char *name, struct cache_mark *ret, struct err *e)
{
	char path[CACHE_NAME_LEN], text[MARK_BYTES];
	int fd = openat(c->dir_fd, cache_entry_path(name, "mark", path), O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n = fd >= 0 ? pread(fd, text, sizeof(text), 0) : -1;

	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
		return err_set(e, ERR_RETRY, "open %s/%s: %s", c->dir, path, strerror(errno));
	if (fd >= 0)
		close(fd);
	if (n <= 0 || text[n - 1] != '\n')
		return ERR_NOTFOUND;
	text[n - 1] = '\0';
	return parse_mark(text, ret) ? 0 : ERR_NOTFOUND;
}

int
cache_write_mark(struct cache *c, const char *name, const struct cache_mark *m, struct err *e)
{
	char path[CACHE_NAME_LEN], text[MARK_BYTES];
	int len = snprintf(text, sizeof(text), "%.36s %lld %lld %lld\n", m->boot_id, (long long)m->bytes, (long long)m->inodes,
	    (long long)m->apparent_bytes);
	int fd, rc;

	/* In one write: whoever reads meanwhile finds none, and then looks again under the fill lock. */
	fd = openat(c->dir_fd, cache_entry_path(name, "mark", path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0 && write(fd, text, (size_t)len) == len) {
		close(fd);
		return 0;
	}
	rc = err_set(e, errno == ENOSPC || errno == EDQUOT ? ERR_RETRY : ERR_IO, "write %s/%s: %s", c->dir, path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return rc;
}

int
cache_complete(struct cache *c, const char *name, int64_t size_bytes, struct err *e)
{
	char path[CACHE_NAME_LEN];
	struct cache_mark mark;
	struct stat st;
	bool tree = false;
	int rc = cache_entry_valid(name, &tree) ? cache_read_mark(c, name, &mark, e) : ERR_NOTFOUND;

	if (rc != 0)
		return rc;
	return strcmp(mark.boot_id, c->boot_id) == 0 &&
	    fstatat(c->dir_fd, cache_entry_path(name, "data", path), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    (tree ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode) && (size_bytes < 0 || st.st_size == size_bytes)) ? 0 : ERR_NOTFOUND;
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
open_dir(struct cache *c, struct err *e)
{
	c->dir_fd = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->dir_fd >= 0)
		return 0;
	return err_set(e, errno == ENOENT ? ERR_NOTFOUND : errno == EACCES ? ERR_DENIED : ERR_IO, "open %s: %s", c->dir,
	    strerror(errno));
}

/* The folders must be real ones and ours: what lies in them is trusted. */
static int
check_folder(struct cache *c, const char *name, struct err *e)
{
	struct stat st;

	if (fstatat(c->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return err_set(e, errno == ENOENT ? ERR_NOTFOUND : ERR_IO, "%s/%s: %s", c->dir, name, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(e, ERR_INVALID, "%s/%s is not a directory", c->dir, name);
	if (st.st_uid == geteuid())
		return 0;
	err_set(e, ERR_DENIED, "%s/%s belongs to user %u, we are %u", c->dir, name, (unsigned)st.st_uid, (unsigned)geteuid());
	err_hint(e, "all workers of a node that share a cache run as one user; give the others a CACHE_DIR of their own");
	return ERR_DENIED;
}

static int
make_dirs(struct cache *c, struct err *e)
{
	int rc;

	if ((rc = file_mkdirs(c->dir, 0700, e)) != 0 || (rc = open_dir(c, e)) != 0)
		return rc;
	for (size_t i = 0; i < N_FOLDERS; i++) {
		if (mkdirat(c->dir_fd, folders[i], 0700) != 0 && errno != EEXIST)
			return err_set(e, errno == ENOSPC ? ERR_RETRY : ERR_IO, "make %s/%s: %s", c->dir, folders[i], strerror(errno));
		if ((rc = check_folder(c, folders[i], e)) != 0)
			return rc;
	}
	return 0;
}

static struct cache *
new_cache(const char *dir)
{
	struct cache *c = xcalloc(1, sizeof(*c));

	c->dir = xstrdup(dir);
	c->dir_fd = c->index_fd = -1;
	pthread_mutex_init(&c->index_lock, NULL);
	return c;
}

struct cache *
cache_open(const struct cache_config *config, struct err *e)
{
	struct cache *c = new_cache(config->dir);
	struct index_limits limits = {config->max_bytes, config->ttl_ms, config->min_free_bytes, config->min_free_inodes};

	c->config = *config;
	c->config.dir = NULL;
	if (config->max_bytes <= 0 || config->ttl_ms <= 0 || config->min_free_bytes < 0 || config->min_free_inodes < 0) {
		err_set(e, ERR_INVALID, "the cache's size, TTL or floors are out of bounds");
	} else if (config->dir[0] != '/') {
		err_set(e, ERR_INVALID, "the cache directory '%.100s' is not absolute", config->dir);
	} else if (read_boot_id(c, e) == 0 && make_dirs(c, e) == 0 && index_open(c, &limits, e) == 0 && cache_sweep_tmp(c, e) == 0) {
		return c;
	}
	cache_close(c);
	return NULL;
}

/* Root's files would be out of the workers' reach: it becomes who they are. */
static int
become_owner(struct cache *c, struct err *e)
{
	struct stat st;

	if (fstatat(c->dir_fd, "objects", &st, AT_SYMLINK_NOFOLLOW) != 0) {
		if (errno == EACCES)
			return err_set(e, ERR_DENIED, "%s: %s", c->dir, strerror(errno));
		err_set(e, ERR_NOTFOUND, "%s is no cache", c->dir);
		return err_hint(e, "-cache-dir or CACHE_DIR names the directory that the workers of this machine use");
	}
	if (geteuid() == 0 && st.st_uid != 0 && (setgroups(0, NULL) != 0 || setresgid(st.st_gid, st.st_gid, st.st_gid) != 0 ||
	    setresuid(st.st_uid, st.st_uid, st.st_uid) != 0))
		return err_set(e, ERR_IO, "become user %u: %s", (unsigned)st.st_uid, strerror(errno));
	return 0;
}

static int
open_existing(struct cache *c, struct err *e)
{
	struct index_sums sums;
	int rc;

	if ((rc = read_boot_id(c, e)) != 0 || (rc = open_dir(c, e)) != 0 || (rc = become_owner(c, e)) != 0)
		return rc;
	for (size_t i = 0; i < N_FOLDERS; i++)
		if ((rc = check_folder(c, folders[i], e)) != 0)
			return rc;
	if ((rc = index_open(c, NULL, e)) != 0 || (rc = index_sums(c, &sums, e)) != 0)
		return rc;
	c->config = (struct cache_config){.max_bytes = sums.limits.max_bytes > 0 ? sums.limits.max_bytes : INT64_MAX,
	    .ttl_ms = sums.limits.ttl_ms > 0 ? sums.limits.ttl_ms : INT64_MAX / 2, .min_free_bytes = sums.limits.min_free_bytes,
	    .min_free_inodes = sums.limits.min_free_inodes, .limits = extract_limits_default()};
	return 0;
}

struct cache *
cache_open_existing(const char *dir, struct err *e)
{
	struct cache *c = new_cache(dir);
	int rc = open_existing(c, e);

	if (rc == 0)
		return c;
	if (rc == ERR_DENIED && e != NULL && e->hint[0] == '\0')
		err_hint(e, "run it as the user of the workers, or as root");
	else if (rc == ERR_NOTFOUND && e != NULL && e->hint[0] == '\0')
		err_hint(e, "-cache-dir or CACHE_DIR names the directory that the workers of this machine use");
	cache_close(c);
	return NULL;
}

void
cache_close(struct cache *c)
{
	if (c == NULL)
		return;
	index_close(c);
	if (c->dir_fd >= 0)
		close(c->dir_fd);
	pthread_mutex_destroy(&c->index_lock);
	free(c->dir);
	free(c);
}

/* --- pins --- */

static int
check_want(const struct cache_want *w, struct err *e)
{
	if (!hex_decode(w->sha256, SHA256_LEN, NULL))
		return err_set(e, ERR_INVALID, "'%.80s' is not a SHA-256 in lower-case hex", w->sha256);
	if (w->size_bytes < 0 || w->size_bytes > OBJECT_MAX_BYTES)
		return err_set(e, ERR_INVALID, "the size of the object is out of bounds");
	return 0;
}

/* Fills under the fill lock, unless someone else just did or just failed. */
static int
fill(struct cache *c, const char *name, const struct cache_want *w, bool tree, const atomic_bool *stop, bool *ret_miss,
    struct err *e)
{
	struct err own = {0};
	struct flight f;
	int64_t size_bytes = tree ? -1 : w->size_bytes;
	int rc;

	e = e != NULL ? e : &own; /* the others want to know it, whoever asked us */
	if ((rc = flight_board(c, name, w, stop, &f, e)) != 0)
		return rc;
	rc = cache_complete(c, name, size_bytes, e);
	if (rc == ERR_NOTFOUND) {
		rc = flight_verdict(&f, e);
		if (rc == 0) {
			rc = (tree ? cache_fill_tree : cache_fill_blob)(c, name, w, stop, ret_miss, e);
			flight_note(&f, rc, e);
		}
	}
	flight_land(&f);
	return rc;
}

/* The clock of eviction. A failure only makes the entry look older. */
static void
note_use(struct cache *c, const char *name, enum index_use use)
{
	char path[CACHE_NAME_LEN];
	bool moved = false;
	int rc = index_used(c, name, use, &moved, NULL);

	if (rc == ERR_NOTFOUND) {
		struct cache_mark mark;

		/* Somebody took the index's word from it: the mark knows what it is charged. */
		if (cache_read_mark(c, name, &mark, NULL) == 0)
			(void)index_charge(c, name, mark.bytes, mark.inodes, 0, false, NULL);
		moved = true;
	}
	if (moved)
		(void)utimensat(c->dir_fd, cache_entry_path(name, "mark", path), NULL, AT_SYMLINK_NOFOLLOW);
}

int
cache_pin_entry(struct cache *c, const struct cache_want *w, bool tree, const atomic_bool *stop, struct cache_pin **ret_pin,
    struct err *e)
{
	char name[CACHE_ENTRY_LEN], path[CACHE_NAME_LEN];
	struct index_item item = {0};
	struct cache_pin *p;
	bool miss = false;
	int fd, rc;

	cache_entry_name(w->sha256, tree, name);
	/* From here on nobody can evict it, so what was seen complete stays. */
	fd = cache_lock_entry(c, name, LOCK_SH, stop, e);
	if (fd < 0)
		return fd;
	rc = cache_complete(c, name, tree ? -1 : w->size_bytes, e);
	if (rc == ERR_NOTFOUND)
		rc = fill(c, name, w, tree, stop, &miss, e);
	if (rc != 0) {
		close(fd);
		return rc;
	}
	/* The archive of a tree that was asked for is nobody's hit. */
	note_use(c, name, tree != w->tree ? INDEX_TOUCH : miss ? INDEX_MISS : INDEX_HIT);
	(void)index_find(c, name, &item, NULL);
	atomic_fetch_add(&c->pinned, 1);
	atomic_fetch_add(&c->pinned_bytes, item.bytes);
	p = xcalloc(1, sizeof(*p));
	p->cache = c;
	memcpy(p->name, name, sizeof(name));
	p->lock_fd = fd;
	p->bytes = item.bytes;
	p->miss = miss;
	p->path = xasprintf("%s/%s", c->dir, cache_entry_path(name, "data", path));
	*ret_pin = p;
	return 0;
}

int
cache_get(struct cache *c, const struct cache_want *w, const atomic_bool *stop, struct cache_pin **ret_pin, struct err *e)
{
	int rc = check_want(w, e);

	return rc != 0 ? rc : cache_pin_entry(c, w, w->tree, stop, ret_pin, e);
}

static bool
pins_tree(const struct cache_pin *p)
{
	bool tree = false;

	(void)cache_entry_valid(p->name, &tree);
	return tree;
}

const char *
cache_pin_blob(const struct cache_pin *p)
{
	return pins_tree(p) ? NULL : p->path;
}

const char *
cache_pin_tree(const struct cache_pin *p)
{
	return pins_tree(p) ? p->path : NULL;
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
	struct cache *c;
	struct index_item item;

	if (p == NULL)
		return;
	c = p->cache;
	atomic_fetch_sub(&c->pinned, 1);
	atomic_fetch_sub(&c->pinned_bytes, p->bytes);
	close(p->lock_fd);
	if (index_find(c, p->name, &item, NULL) == 0 && (item.flags & CACHE_TRANSIENT) && cache_evict(c, p->name, NULL) == 0)
		(void)cache_empty_trash(c, NULL);
	free(p->path);
	free(p);
}
