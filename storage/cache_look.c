/* What tools ask of a cache, beside live workers. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "storage/cache_parts.h"

#define PREFIX_MIN 6
#define HOLDS_BLOB_AND_TREE 2

/* All slots, the youngest first; the caller frees. Returns how many or an error. */
static long
all_items(struct cache *c, struct index_item **ret_items, struct err *e)
{
	struct index_sums sums;
	int rc = index_sums(c, &sums, e);

	if (rc != 0)
		return rc;
	*ret_items = xcalloc((size_t)sums.entries + 1, sizeof(**ret_items));
	return index_youngest(c, *ret_items, (size_t)sums.entries, e);
}

static void
describe(struct cache *c, const struct index_item *item, struct cache_entry *entry)
{
	struct cache_mark mark;
	int fd = cache_lock(c, item->name, LOCK_EX, false, NULL, NULL);

	*entry = (struct cache_entry){.bytes = item->bytes, .inodes = item->inodes, .used_real_ms = item->used_real_ms,
	    .in_use = fd < 0, .filling = (item->flags & CACHE_FILLING) != 0, .transient = (item->flags & CACHE_TRANSIENT) != 0};
	(void)cache_entry_valid(item->name, &entry->tree);
	memcpy(entry->sha256, item->name, CACHE_SHA_LEN - 1);
	entry->verified = cache_read_mark(c, item->name, &mark, NULL) == 0 && strcmp(mark.boot_id, c->boot_id) == 0;
	if (fd >= 0)
		close(fd);
}

int
cache_list(struct cache *c, int (*each)(void *arg, const struct cache_entry *entry), void *arg, struct err *e)
{
	struct index_item *items = NULL;
	long n = all_items(c, &items, e);
	int rc = n < 0 ? (int)n : 0;

	for (long i = 0; rc == 0 && i < n; i++) {
		struct cache_entry entry;

		describe(c, &items[i], &entry);
		rc = each(arg, &entry);
	}
	free(items);
	return rc;
}

size_t
cache_holds(struct cache *c, uint64_t *keys, size_t n)
{
	struct index_item *items = xcalloc(n * HOLDS_BLOB_AND_TREE + 1, sizeof(*items));
	long found = index_youngest(c, items, n * HOLDS_BLOB_AND_TREE, NULL);
	size_t held = 0;

	for (long i = 0; i < found && held < n; i++) {
		uint64_t key = 0;
		bool known = false;

		if (items[i].flags & CACHE_FILLING)
			continue;
		for (int k = 0; k < 16; k++)
			key = key << 4 | (uint64_t)(items[i].name[k] <= '9' ? items[i].name[k] - '0' : items[i].name[k] - 'a' + 10);
		for (size_t k = 0; k < held && !known; k++)
			known = keys[k] == key;
		if (!known)
			keys[held++] = key;
	}
	free(items);
	return held;
}

/* --- removing --- */

static bool
has_prefix(const struct index_item *item, const char *prefix, size_t len)
{
	return strncmp(item->name, prefix, len) == 0;
}

int
cache_remove(struct cache *c, const char *prefix, struct err *e)
{
	struct index_item *items = NULL;
	size_t len = strlen(prefix);
	const char *first = NULL;
	int removed = 0, rc = 0;
	long n;

	if (len < PREFIX_MIN || len > CACHE_SHA_LEN - 1 || strspn(prefix, "0123456789abcdef") != len)
		return err_set(e, ERR_INVALID, "'%.80s' is not the beginning of a digest: %d to 64 hex digits", prefix, PREFIX_MIN);
	n = all_items(c, &items, e);
	if (n < 0)
		rc = (int)n;
	for (long i = 0; rc == 0 && i < n; i++) {
		if (!has_prefix(&items[i], prefix, len))
			continue;
		if (first != NULL && strncmp(first, items[i].name, CACHE_SHA_LEN - 1) != 0)
			rc = err_set(e, ERR_INVALID, "several digests begin with %s", prefix);
		first = items[i].name;
	}
	if (rc == 0 && first == NULL)
		rc = err_set(e, ERR_NOTFOUND, "the cache holds nothing that begins with %s", prefix);
	for (long i = 0; rc == 0 && i < n; i++) {
		if (!has_prefix(&items[i], prefix, len))
			continue;
		rc = cache_evict(c, items[i].name, e);
		removed += rc == 0;
		if (rc == ERR_CONFLICT) {
			err_set(e, rc, "%.64s is in use by a run", items[i].name);
			err_hint(e, "try again when its runs have ended: drover runs -state running");
		}
	}
	free(items);
	(void)cache_empty_trash(c, NULL);
	return rc == 0 ? removed : rc;
}

/* --- verifying --- */

struct verify {
	void (*each)(void *arg, const char *name, enum cache_verdict verdict);
	void *arg;
	const atomic_bool *stop;
	int damaged;
};

/* Without its mark it is served to nobody, and verified or made again before the next use. */
static void
put_out_of_service(struct cache *c, const char *name)
{
	char path[CACHE_NAME_LEN];

	index_note_damage(c);
	(void)unlinkat(c->dir_fd, cache_entry_path(name, "mark", path), 0);
	(void)cache_evict(c, name, NULL);
}

static enum cache_verdict
verify_tree(struct cache *c, const char *name)
{
	char path[CACHE_NAME_LEN];
	struct cache_mark mark;
	struct cache_measure sum = {0};

	if (cache_complete(c, name, -1, NULL) != 0 || cache_read_mark(c, name, &mark, NULL) != 0)
		return CACHE_SKIPPED;
	cache_measure(c, cache_entry_path(name, "data", path), &sum);
	/* The entry's directory and the mark are charged as well. */
	return sum.inodes + 2 == mark.inodes && sum.apparent_bytes == mark.apparent_bytes ? CACHE_SOUND : CACHE_DAMAGED;
}

static enum cache_verdict
verify_blob(struct cache *c, const char *name, const atomic_bool *stop)
{
	char path[CACHE_NAME_LEN];
	int fd = openat(c->dir_fd, cache_entry_path(name, "data", path), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), rc;

	if (fd < 0)
		return errno == ENOENT ? CACHE_SKIPPED : CACHE_DAMAGED;
	rc = cache_check_blob(fd, name, stop, NULL);
	close(fd);
	return rc == 0 ? CACHE_SOUND : rc == ERR_CANCELED ? CACHE_SKIPPED : CACHE_DAMAGED;
}

static int
verify_entry(struct cache *c, const char *name, void *arg)
{
	struct verify *v = arg;
	enum cache_verdict verdict;
	bool tree;
	int fd;

	if (v->stop != NULL && atomic_load(v->stop))
		return ERR_CANCELED;
	if (!cache_entry_valid(name, &tree)) {
		v->each(v->arg, name, CACHE_FOREIGN);
		return 0;
	}
	/* As a user of it, so that it stays while it is read. */
	fd = cache_lock(c, name, LOCK_SH, false, NULL, NULL);
	if (fd < 0) {
		v->each(v->arg, name, CACHE_SKIPPED);
		return 0;
	}
	verdict = tree ? verify_tree(c, name) : verify_blob(c, name, v->stop);
	close(fd);
	if (verdict == CACHE_DAMAGED) {
		put_out_of_service(c, name);
		v->damaged++;
	}
	v->each(v->arg, name, verdict);
	return 0;
}

static int
verify_group(struct cache *c, const char *name, void *arg)
{
	struct verify *v = arg;
	char path[CACHE_NAME_LEN];

	snprintf(path, sizeof(path), "objects/%.40s", name);
	if (strlen(name) == 2 && strspn(name, "0123456789abcdef") == 2)
		return cache_each_name(c, path, verify_entry, v, NULL) == ERR_CANCELED ? ERR_CANCELED : 0;
	v->each(v->arg, name, CACHE_FOREIGN);
	return 0;
}

int
cache_verify(struct cache *c, void (*each)(void *arg, const char *name, enum cache_verdict verdict), void *arg,
    const atomic_bool *stop, struct err *e)
{
	struct verify v = {.each = each, .arg = arg, .stop = stop};
	int rc = cache_sweep_tmp(c, e);

	if (rc == 0 && (rc = index_rebuild(c, e)) == 0)
		rc = cache_each_name(c, "objects", verify_group, &v, e);
	if (rc == ERR_CANCELED)
		return err_set(e, rc, "canceled");
	(void)cache_empty_trash(c, NULL);
	return rc == 0 ? v.damaged : rc;
}
