/* cache_rig.h - a cache and a store in a private place, with a few objects in it: what the tests of the cache share. Include it
 * first. */
#ifndef TESTS_UNIT_CACHE_RIG_H
#define TESTS_UNIT_CACHE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "storage/cache.h"
#include "storage/cache_parts.h"
#include "storage/lru.h"
#include "tests/unit/tar_header.h"

#define OBJECT_BYTES 100000
#ifndef CACHE_BYTES /* a suite may want a larger one */
#define CACHE_BYTES (10 * OBJECT_BYTES)
#endif
#define OBJECTS 16 /* that a store may have; setup puts FIRST_OBJECTS there */
#define FIRST_OBJECTS 8

struct place {
	char dir[64], cache_dir[96], store_dir[80];
	struct object_store *store;
	struct cache *cache;
	char sha[OBJECTS][SHA256_HEX_LEN];
	int64_t size[OBJECTS];
};

static inline struct cache_config
config_of(const char *dir)
{
	return (struct cache_config){
		.dir = dir, .max_bytes = CACHE_BYTES, .ttl_ms = 60000, .min_free_bytes = 0, .uid = geteuid(), .gid = getegid(),
		.limits = extract_limits_default(),
	};
}

static inline void
put(struct place *p, size_t i, const void *data, size_t len)
{
	uint8_t digest[SHA256_LEN];
	char key[32];
	struct err e;

	snprintf(key, sizeof(key), "o%zu", i);
	sha256_of(data, len, digest);
	hex_encode(digest, sizeof(digest), p->sha[i]);
	p->size[i] = (int64_t)len;
	assert_int_equal(store_put_bytes(p->store, "targets", key, data, len, NULL, NULL, &e), 0);
}

static inline struct cache_want
want(struct place *p, size_t i)
{
	static char keys[OBJECTS][8];

	snprintf(keys[i], sizeof(keys[i]), "o%zu", i);
	return (struct cache_want){.store = p->store, .bucket = "targets", .key = keys[i], .sha256 = p->sha[i], .size_bytes = p->size[i]};
}

/* A tar of one file "hello". */
static inline size_t
small_tar(char out[2048])
{
	memset(out, 0, 2048);
	tar_header(out, "hello", '0', "", 0644, 2);
	memcpy(out + TAR_BLOCK, "hi", 2);
	return 2048;
}

static inline int
setup(void **state)
{
	struct place *p = xcalloc(1, sizeof(*p));
	struct cache_config c;
	struct err e;
	char *data = xmalloc(OBJECT_BYTES), tar[2048];

	if (file_temp_dir("cache", p->dir, sizeof(p->dir), &e) != 0)
		return -1;
	snprintf(p->cache_dir, sizeof(p->cache_dir), "%s/cache", p->dir);
	snprintf(p->store_dir, sizeof(p->store_dir), "%s/store", p->dir);
	c = config_of(p->cache_dir);
	p->store = store_dir_new(p->store_dir, &e);
	if (p->store == NULL || store_ensure_bucket(p->store, "targets", &e) != 0)
		return -1;
	put(p, 0, tar, small_tar(tar));
	for (size_t i = 1; i < FIRST_OBJECTS; i++) {
		memset(data, (int)('a' + i), OBJECT_BYTES);
		put(p, i, data, OBJECT_BYTES);
	}
	free(data);
	p->cache = cache_open(&c, &e);
	*state = p;
	return p->cache != NULL ? 0 : -1;
}

static inline int
teardown(void **state)
{
	struct place *p = *state;

	cache_close(p->cache);
	store_free(p->store);
	(void)file_remove_tree(AT_FDCWD, p->dir, NULL);
	free(p);
	return 0;
}

static inline struct cache_pin *
get(struct place *p, size_t i, bool tree)
{
	struct cache_want w = want(p, i);
	struct cache_pin *pin = NULL;
	struct err e = {0};

	w.tree = tree;
	if (cache_get(p->cache, &w, NULL, &pin, &e) != 0)
		fail_msg("cache_get: %s", e.msg);
	return pin;
}

static inline size_t
names_in(const struct place *p, const char *sub)
{
	char path[200];
	struct dirent *d;
	size_t n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/%s", p->cache_dir, sub);
	dir = opendir(path);
	assert_non_null(dir);
	while ((d = readdir(dir)) != NULL)
		n += d->d_name[0] != '.';
	closedir(dir);
	return n;
}

static inline bool
digest_is(const char *path, const char *sha)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = fd < 0 ? -1 : cache_check_blob(fd, sha, NULL, NULL);

	if (fd >= 0)
		close(fd);
	return rc == 0;
}

/* What must hold of a cache that was opened after a death: nothing is left of fills, the account is what is there. */
static inline void
check_account(struct place *p)
{
	struct index_sums before, after;

	assert_int_equal(names_in(p, "tmp"), 0);
	assert_int_equal(index_sums(p->cache, &before, NULL), 0);
	assert_int_equal(index_rebuild(p->cache, NULL), 0);
	assert_int_equal(index_sums(p->cache, &after, NULL), 0);
	assert_int_equal(before.entries, after.entries);
	assert_int_equal(before.bytes, after.bytes);
	assert_int_equal(before.inodes, after.inodes);
	assert_int_equal(before.filling, 0);
	assert_int_equal(before.transient_bytes, 0);
}

static inline void
reopen(struct place *p)
{
	struct cache_config c = config_of(p->cache_dir);
	struct err e = {0};

	cache_close(p->cache);
	p->cache = cache_open(&c, &e);
	if (p->cache == NULL)
		fail_msg("cache_open: %s", e.msg);
}

/* Serves right bytes, and sweeps everything away that nobody needs. */
static inline void
check_service(struct place *p, bool *ret_miss)
{
	struct cache_pin *tree = get(p, 0, true), *blob = get(p, 0, false);
	char path[256];
	struct stat st;
	struct err e;

	assert_true(digest_is(cache_pin_blob(blob), p->sha[0]));
	snprintf(path, sizeof(path), "%s/hello", cache_pin_tree(tree));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 2);
	*ret_miss = cache_pin_was_miss(tree);
	cache_release(tree);
	cache_release(blob);
	assert_int_equal(cache_sweep(p->cache, &e), 0);
	assert_int_equal(names_in(p, "trash"), 0);
	check_account(p);
}

/* As if the machine had been started anew since the entry was made. */
static inline void
age_boot(const struct place *p, const char *sha, const char *kind)
{
	char mark[256], text[160] = "";
	FILE *f;

	snprintf(mark, sizeof(mark), "%s/objects/%.2s/%s.%s/mark", p->cache_dir, sha, sha, kind);
	f = fopen(mark, "r+");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	memset(text, '0', 8);
	rewind(f);
	assert_true(fputs(text, f) >= 0);
	fclose(f);
}

/* Changes a byte in the middle of an entry's bytes, leaving its size and times. */
static inline void
damage(const struct place *p, size_t i)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/objects/%.2s/%s.blob/data", p->cache_dir, p->sha[i], p->sha[i]);
	assert_int_equal(chmod(path, 0600), 0);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "#", 1, p->size[i] / 2), 1);
	close(fd);
}

#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
