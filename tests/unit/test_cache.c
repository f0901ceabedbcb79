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

#define OBJECT_BYTES 100000
#define CACHE_BYTES (10 * OBJECT_BYTES)

/* What must die in the middle is a process of its own: this program, under DROVER_FAULT. */
#define FILL_FLAG "--fill"   /* DIR SHA */
#define SWEEP_FLAG "--sweep" /* DIR */

struct place {
	char dir[64], cache_dir[80], store_dir[80];
	struct object_store *store;
	struct cache *cache;
	char sha[8][SHA256_HEX_LEN];
	int64_t size[8];
};

static struct cache_config
config_of(const char *dir)
{
	return (struct cache_config){
		.dir = dir, .max_bytes = CACHE_BYTES, .ttl_ms = 60000, .min_free_bytes = 0, .uid = geteuid(), .gid = getegid(),
		.limits = extract_limits_default(),
	};
}

static void
put(struct place *p, size_t i, const void *data, size_t len)
{
	uint8_t digest[SHA256_LEN];
	char key[32];
	struct err e;

	snprintf(key, sizeof(key), "o%zu", i);
	sha256_of(data, len, digest);
	hex_encode(digest, sizeof(digest), p->sha[i]);
	p->size[i] = (int64_t)len;
	assert_int_equal(store_put_bytes(p->store, "targets", key, data, len, NULL, &e), 0);
}

static struct cache_want
want(struct place *p, size_t i)
{
	static char keys[8][8];

	snprintf(keys[i], sizeof(keys[i]), "o%zu", i);
	return (struct cache_want){.store = p->store, .bucket = "targets", .key = keys[i], .sha256 = p->sha[i], .size_bytes = p->size[i]};
}

/* A tar of one file "hello". */
static size_t
small_tar(char out[2048])
{
	unsigned sum = 0;

	memset(out, 0, 2048);
	snprintf(out, 100, "hello");
	snprintf(out + 100, 8, "%07o", 0644);
	snprintf(out + 124, 12, "%011o", 2);
	snprintf(out + 136, 12, "%011o", 1000000000);
	memset(out + 148, ' ', 8);
	out[156] = '0';
	memcpy(out + 257, "ustar\00000", 8);
	for (size_t i = 0; i < 512; i++)
		sum += (unsigned char)out[i];
	snprintf(out + 148, 8, "%06o", sum);
	memcpy(out + 512, "hi", 2);
	return 2048;
}

static int
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
	for (size_t i = 1; i < 8; i++) {
		memset(data, (int)('a' + i), OBJECT_BYTES);
		put(p, i, data, OBJECT_BYTES);
	}
	free(data);
	p->cache = cache_open(&c, &e);
	*state = p;
	return p->cache != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
	struct place *p = *state;

	cache_close(p->cache);
	store_free(p->store);
	(void)file_remove_tree(AT_FDCWD, p->dir, NULL);
	free(p);
	return 0;
}

static struct cache_pin *
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

static size_t
names_in(const struct place *p, const char *sub)
{
	char path[160];
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

static bool
digest_is(const char *path, const char *sha)
{
	struct buf b = buf_make(OBJECT_BYTES * 2);
	uint8_t digest[SHA256_LEN];
	char hex[SHA256_HEX_LEN];
	bool ok = file_read(AT_FDCWD, path, &b, NULL) == 0;

	sha256_of(buf_str(&b), b.len, digest);
	buf_release(&b);
	return ok && strcmp(hex_encode(digest, sizeof(digest), hex), sha) == 0;
}

/* --- filling --- */

static void
the_second_get_is_a_hit(void **state)
{
	struct place *p = *state;
	struct cache_pin *a = get(p, 1, false), *b = get(p, 1, false);
	struct cache_stats s;

	assert_true(cache_pin_was_miss(a));
	assert_false(cache_pin_was_miss(b));
	assert_true(digest_is(cache_pin_blob(a), p->sha[1]));
	assert_null(cache_pin_tree(a));
	cache_stats(p->cache, &s);
	assert_int_equal(s.hits, 1);
	assert_int_equal(s.misses, 1);
	assert_int_equal(s.pinned, 2);
	assert_int_equal(s.entries, 1);
	assert_true(s.bytes >= OBJECT_BYTES);
	cache_release(a);
	cache_release(b);
	assert_int_equal(names_in(p, "tmp"), 0);
}

static void
a_tree_is_unpacked_beside_the_blob_in_use(void **state)
{
	struct place *p = *state;
	struct cache_pin *blob = get(p, 0, false), *tree = get(p, 0, true); /* must not wait for the first pin */
	struct cache_stats s;
	struct stat st;
	char path[256];

	assert_false(cache_pin_was_miss(tree));
	assert_null(cache_pin_blob(tree));
	assert_null(cache_pin_tree(blob));
	snprintf(path, sizeof(path), "%s/hello", cache_pin_tree(tree));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 2);
	cache_stats(p->cache, &s);
	assert_int_equal(s.entries, 2); /* both are charged */
	cache_release(blob);
	cache_release(tree);
}

/* As if the machine had been started anew since the entry was made. */
static void
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

static void
a_tree_of_another_boot_is_made_again(void **state)
{
	struct place *p = *state;
	struct cache_pin *pin = get(p, 0, true);
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "%s/hello", cache_pin_tree(pin));
	assert_int_equal(truncate(path, 0), 0); /* as a lost write would leave it */
	cache_release(pin);
	age_boot(p, p->sha[0], "tree");
	pin = get(p, 0, true);
	assert_false(cache_pin_was_miss(pin));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 2);
	cache_release(pin);
}

/* Changes a byte in the middle of an entry's bytes, leaving its size and times. */
static void
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

static void
a_blob_of_another_boot_is_verified_once(void **state)
{
	struct place *p = *state;
	struct cache_stats s;
	struct cache_pin *pin;

	cache_release(get(p, 1, false));
	cache_release(get(p, 2, false));
	age_boot(p, p->sha[1], "blob");
	age_boot(p, p->sha[2], "blob");
	damage(p, 2);
	pin = get(p, 1, false);
	assert_false(cache_pin_was_miss(pin));
	assert_true(digest_is(cache_pin_blob(pin), p->sha[1]));
	cache_release(pin);
	pin = get(p, 2, false);
	assert_true(cache_pin_was_miss(pin)); /* damaged: fetched again */
	assert_true(digest_is(cache_pin_blob(pin), p->sha[2]));
	cache_release(pin);
	damage(p, 1); /* verified in this boot: not read again */
	cache_release(pin = get(p, 1, false));
	cache_stats(p->cache, &s);
	assert_int_equal(s.damaged, 1);
	assert_int_equal(s.entries, 2);
}

static void
a_vanished_or_cut_entry_is_a_miss(void **state)
{
	struct place *p = *state;
	struct cache_pin *pin;
	char path[256];

	cache_release(get(p, 1, false));
	snprintf(path, sizeof(path), "%s/objects/%.2s", p->cache_dir, p->sha[1]);
	assert_int_equal(file_remove_tree(AT_FDCWD, path, NULL), 0);
	cache_release(get(p, 2, false));
	snprintf(path, sizeof(path), "%s/objects/%.2s/%s.blob/data", p->cache_dir, p->sha[2], p->sha[2]);
	assert_int_equal(truncate(path, 10), 0);
	for (size_t i = 1; i <= 2; i++) {
		pin = get(p, i, false);
		assert_true(cache_pin_was_miss(pin));
		assert_true(digest_is(cache_pin_blob(pin), p->sha[i]));
		cache_release(pin);
	}
}

static void
an_archive_that_was_damaged_is_fetched_again_for_its_tree(void **state)
{
	struct place *p = *state;
	struct cache_pin *pin;
	struct stat st;
	char path[256];
	int fd;

	cache_release(get(p, 0, false));
	snprintf(path, sizeof(path), "%s/objects/%.2s/%s.blob/data", p->cache_dir, p->sha[0], p->sha[0]);
	assert_int_equal(chmod(path, 0600), 0);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "garbage", 7, 148), 7); /* the header's checksum */
	close(fd);
	pin = get(p, 0, true);
	assert_true(cache_pin_was_miss(pin));
	snprintf(path, sizeof(path), "%s/hello", cache_pin_tree(pin));
	assert_int_equal(stat(path, &st), 0);
	cache_release(pin);
}

static void
what_was_not_promised_is_refused(void **state)
{
	struct place *p = *state;
	struct cache_pin *pin = NULL;
	struct cache_want w = want(p, 1);
	struct err e = {0};

	w.sha256 = p->sha[2];
	assert_int_equal(cache_get(p->cache, &w, NULL, &pin, &e), ERR_INVALID);
	assert_non_null(strstr(e.msg, "SHA-256"));
	w = want(p, 1);
	w.size_bytes--;
	assert_int_equal(cache_get(p->cache, &w, NULL, &pin, &e), ERR_INVALID);
	w.size_bytes += 2;
	assert_int_equal(cache_get(p->cache, &w, NULL, &pin, &e), ERR_INVALID);
	w = want(p, 1);
	w.key = "absent";
	assert_int_equal(cache_get(p->cache, &w, NULL, &pin, &e), ERR_NOTFOUND);
	w = want(p, 1);
	w.tree = true; /* no archive */
	assert_int_equal(cache_get(p->cache, &w, NULL, &pin, &e), ERR_INVALID);
	w.sha256 = "../../etc";
	assert_int_equal(cache_get(p->cache, &w, NULL, &pin, &e), ERR_INVALID);
	assert_null(pin);
	assert_int_equal(names_in(p, "tmp"), 0);
	assert_int_equal(cache_sweep(p->cache, &e), 0);
	assert_int_equal(names_in(p, "trash"), 0);
}

/* --- one download --- */

struct counted { /* a store that counts and, until `open`, holds its downloads */
	struct object_store s;
	struct object_store *real;
	atomic_int gets;
	atomic_bool open;
};

static int
counted_get(struct object_store *s, const char *bucket, const char *key, int64_t offset, int64_t len, const char *if_match,
    int (*write_cb)(void *arg, const void *data, size_t n), void *arg, struct object_info *info, const atomic_bool *stop,
    struct err *e)
{
	struct counted *c = (struct counted *)(void *)s;

	atomic_fetch_add(&c->gets, 1);
	while (!atomic_load(&c->open))
		usleep(1000);
	return store_get(c->real, bucket, key, offset, len, if_match, write_cb, arg, info, stop, e);
}

struct getter {
	struct cache *cache;
	struct cache_want want;
	int rc;
};

static void *
get_and_release(void *arg)
{
	struct getter *g = arg;
	struct cache_pin *pin = NULL;

	g->rc = cache_get(g->cache, &g->want, NULL, &pin, NULL);
	cache_release(pin);
	return NULL;
}

/* How many of our threads have the entry's fill lock open: they hold it or wait for it. */
static size_t
at_fill_lock(const char *sha)
{
	char path[64], target[512], name[96];
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *d;
	size_t n = 0;

	assert_non_null(dir);
	snprintf(name, sizeof(name), "%s.blob.fill", sha);
	while ((d = readdir(dir)) != NULL) {
		ssize_t len;

		snprintf(path, sizeof(path), "/proc/self/fd/%.20s", d->d_name);
		len = readlink(path, target, sizeof(target) - 1);
		target[len > 0 ? len : 0] = '\0';
		n += strstr(target, name) != NULL;
	}
	closedir(dir);
	return n;
}

static void
many_threads_download_once(void **state)
{
	static const struct object_store_ops ops = {.get = counted_get};
	struct place *p = *state;
	struct counted c = {.s = *p->store, .real = p->store};
	struct getter g[8];
	pthread_t threads[8];

	c.s.ops = &ops;
	for (size_t i = 0; i < 8; i++) {
		g[i] = (struct getter){.cache = p->cache, .want = want(p, 1), .rc = -1};
		g[i].want.store = &c.s;
		assert_int_equal(pthread_create(&threads[i], NULL, get_and_release, &g[i]), 0);
	}
	/* Nobody's download ends before all have come to it. */
	while (atomic_load(&c.gets) == 0 || (atomic_load(&c.gets) == 1 && at_fill_lock(p->sha[1]) < 8))
		usleep(1000);
	atomic_store(&c.open, true);
	for (size_t i = 0; i < 8; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(g[i].rc, 0);
	}
	assert_int_equal(atomic_load(&c.gets), 1);
}

static int
failing_get(struct object_store *s, const char *bucket, const char *key, int64_t offset, int64_t len, const char *if_match,
    int (*write_cb)(void *arg, const void *data, size_t n), void *arg, struct object_info *info, const atomic_bool *stop,
    struct err *e)
{
	struct counted *c = (struct counted *)(void *)s;

	(void)bucket, (void)key, (void)offset, (void)len, (void)if_match, (void)write_cb, (void)arg, (void)info, (void)stop;
	atomic_fetch_add(&c->gets, 1);
	while (!atomic_load(&c->open))
		usleep(1000);
	return err_set(e, ERR_RETRY, "the store is away");
}

/* Those who waited take the error over; who comes later tries again. */
static void
a_failed_download_fails_all_who_waited(void **state)
{
	static const struct object_store_ops ops = {.get = failing_get};
	struct place *p = *state;
	struct counted c = {.s = *p->store, .real = p->store};
	struct getter g[8];
	pthread_t threads[8];
	int gets;

	c.s.ops = &ops;
	for (size_t i = 0; i < 8; i++) {
		g[i] = (struct getter){.cache = p->cache, .want = want(p, 1), .rc = 0};
		g[i].want.store = &c.s;
		assert_int_equal(pthread_create(&threads[i], NULL, get_and_release, &g[i]), 0);
	}
	while (atomic_load(&c.gets) == 0 || at_fill_lock(p->sha[1]) < 8)
		usleep(1000);
	gets = atomic_load(&c.gets);
	atomic_store(&c.open, true);
	for (size_t i = 0; i < 8; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(g[i].rc, ERR_RETRY);
	}
	assert_int_equal(atomic_load(&c.gets), gets);
	get_and_release(&g[0]);
	assert_int_equal(g[0].rc, ERR_RETRY);
	assert_int_equal(atomic_load(&c.gets), gets + 1);
	cache_release(get(p, 1, false));
}

static void
a_wait_for_another_download_can_be_canceled(void **state)
{
	struct place *p = *state;
	struct cache_want w = want(p, 1);
	struct cache_pin *pin = NULL;
	atomic_bool stop = true;
	struct err e;
	char path[200];
	int fd;

	snprintf(path, sizeof(path), "%s/locks/%s.blob.fill", p->cache_dir, p->sha[1]);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(cache_get(p->cache, &w, &stop, &pin, &e), ERR_CANCELED);
	close(fd);
}

/* --- death in the middle --- */

static int
child(int argc, char **argv)
{
	struct place p = {0};
	struct cache_config c;
	struct cache_pin *pin;
	struct cache_want w;
	struct err e = {0};

	if (argc < 3 || (strcmp(argv[1], FILL_FLAG) != 0 && strcmp(argv[1], SWEEP_FLAG) != 0))
		return -1;
	snprintf(p.cache_dir, sizeof(p.cache_dir), "%.60s/cache", argv[2]);
	snprintf(p.store_dir, sizeof(p.store_dir), "%.60s/store", argv[2]);
	c = config_of(p.cache_dir);
	c.ttl_ms = 1;
	p.store = store_dir_new(p.store_dir, &e);
	p.cache = cache_open(&c, &e);
	if (p.store == NULL || p.cache == NULL)
		return 10;
	if (argc < 5)
		return cache_sweep(p.cache, &e) == 0 ? 0 : 11;
	snprintf(p.sha[0], sizeof(p.sha[0]), "%s", argv[3]);
	p.size[0] = atoll(argv[4]);
	w = want(&p, 0);
	w.tree = true;
	return cache_get(p.cache, &w, NULL, &pin, &e) == 0 ? 0 : 12;
}

/* Runs the child to its end under a fault; true if the fault killed it. */
static bool
dies_at(const char *fault, const char *flag, struct place *p, const char *sha)
{
	char env[64], size[24];
	const char *argv[] = {"/proc/self/exe", flag, p->dir, sha, sha != NULL ? size : NULL, NULL}, *envp[] = {env, NULL};
	struct proc_spec spec = {.argv = argv, .env = envp, .fds = {-1, 1, 2, -1}};
	struct buf out = buf_make(4096), err_out = buf_make(4096);
	struct proc_exit x = {0};

	snprintf(size, sizeof(size), "%lld", (long long)p->size[0]);
	snprintf(env, sizeof(env), "DROVER_FAULT=%s", fault);
	assert_int_equal(proc_run(&spec, 30000, &out, &err_out, &x, NULL), 0);
	buf_release(&out);
	buf_release(&err_out);
	return !x.exited && x.signo == SIGKILL;
}

/* What must hold of a cache that was opened after a death: nothing is left of fills, the account is what is there. */
static void
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

static void
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
static void
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

static void
death_at_any_step_of_a_fill_leaves_a_right_cache(void **state)
{
	/* What was complete before the death is not fetched again. */
	static const struct {
		const char *fault;
		bool miss;
	} cases[] = {
		{"cache.charged_before", true}, {"cache.reserved", true}, {"cache.downloaded", true}, {"cache.synced", true},
		{"cache.renamed", false}, {"cache.marked", false}, {"cache.charged", false}, {"cache.tree_charged", false},
		{"cache.unpacked", false}, {"cache.tree_moved", false}, {"cache.marked:2", false}, {"cache.charged:2", false},
	};
	struct place *p = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool miss;

		cache_close(p->cache);
		p->cache = NULL;
		assert_int_equal(file_remove_tree(AT_FDCWD, p->cache_dir, NULL), 0);
		assert_true(dies_at(cases[i].fault, FILL_FLAG, p, p->sha[0]));
		reopen(p);
		check_account(p);
		check_service(p, &miss);
		assert_int_equal(miss, cases[i].miss);
	}
}

static void
death_in_any_change_of_the_index_leaves_a_right_cache(void **state)
{
	struct place *p = *state;
	size_t deaths = 0;

	for (size_t i = 1; i < 64; i++) {
		char fault[40];
		bool miss;

		snprintf(fault, sizeof(fault), "cache.index_changed:%zu", i);
		cache_close(p->cache);
		p->cache = NULL;
		assert_int_equal(file_remove_tree(AT_FDCWD, p->cache_dir, NULL), 0);
		if (!dies_at(fault, FILL_FLAG, p, p->sha[0]))
			break;
		deaths++;
		reopen(p);
		check_account(p);
		check_service(p, &miss);
	}
	assert_true(deaths >= 5); /* making it, charging and settling both entries */
}

static void
death_at_any_step_of_an_eviction_loses_the_entry_only(void **state)
{
	static const char *const faults[] = {
		"cache.evicted", "cache.evicted:2", "cache.evict_counted", "cache.evict_counted:2", "cache.index_changed", "cache.index_changed:2",
		"cache.trash_removed", "cache.trash_removed:2",
	};
	struct place *p = *state;

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		struct cache_pin *tree = get(p, 0, true), *blob = get(p, 0, false);
		bool miss;

		if (i == 0) {
			assert_false(dies_at(faults[i], SWEEP_FLAG, p, NULL)); /* in use: there is nothing to evict */
			assert_true(digest_is(cache_pin_blob(blob), p->sha[0]));
		}
		cache_release(tree);
		cache_release(blob);
		assert_true(dies_at(faults[i], SWEEP_FLAG, p, NULL));
		reopen(p);
		check_account(p);
		check_service(p, &miss);
	}
}

/* What is being unpacked is charged meanwhile, not only when it is there. */
static void
a_tree_is_charged_while_it_grows(void **state)
{
	enum { BYTES = 88 << 20 }; /* more than is charged at first */
	struct place *p = *state;
	char head[2048], *tar = xcalloc(1, 512 + BYTES + 1024), name[CACHE_ENTRY_LEN];
	struct index_item item;
	struct index_sums sums;

	(void)small_tar(head);
	memcpy(tar, head, 512);
	memcpy(tar + 124, "00540000000", 12);
	memset(tar + 148, ' ', 8);
	{
		unsigned sum = 0;

		for (size_t i = 0; i < 512; i++)
			sum += (unsigned char)tar[i];
		snprintf(tar + 148, 8, "%06o", sum);
	}
	for (size_t i = 0; i < BYTES; i += 4096)
		tar[512 + i] = 'x'; /* no holes */
	put(p, 0, tar, 512 + BYTES + 1024);
	free(tar);
	assert_true(dies_at("cache.unpacked", FILL_FLAG, p, p->sha[0]));
	assert_int_equal(index_find(p->cache, cache_entry_name(p->sha[0], true, name), &item, NULL), 0);
	assert_true(item.bytes >= BYTES - (16 << 20));
	assert_true((item.flags & CACHE_FILLING) && (item.flags & CACHE_TRANSIENT));
	reopen(p);
	assert_int_equal(index_find(p->cache, name, &item, NULL), ERR_NOTFOUND);
	assert_int_equal(names_in(p, "tmp"), 0);
	assert_int_equal(index_sums(p->cache, &sums, NULL), 0);
	assert_int_equal(sums.filling, 0);
}

static void
death_while_verifying_after_a_reboot_serves_nothing_unverified(void **state)
{
	struct place *p = *state;
	bool miss;

	cache_release(get(p, 0, true));
	age_boot(p, p->sha[0], "blob");
	age_boot(p, p->sha[0], "tree");
	damage(p, 0);
	assert_true(dies_at("cache.verified", FILL_FLAG, p, p->sha[0]));
	reopen(p);
	check_service(p, &miss);
	assert_true(miss);
}

static void
a_sweep_leaves_a_live_download_alone(void **state)
{
	static const struct object_store_ops ops = {.get = counted_get};
	struct place *p = *state;
	struct counted c = {.s = *p->store, .real = p->store};
	struct getter g = {.cache = p->cache, .want = want(p, 1), .rc = -1};
	pthread_t thread;
	struct err e;

	c.s.ops = &ops;
	g.want.store = &c.s;
	assert_int_equal(pthread_create(&thread, NULL, get_and_release, &g), 0);
	while (atomic_load(&c.gets) == 0)
		usleep(1000);
	assert_int_equal(names_in(p, "tmp"), 1);
	assert_int_equal(cache_sweep(p->cache, &e), 0);
	assert_int_equal(names_in(p, "tmp"), 1);
	atomic_store(&c.open, true);
	pthread_join(thread, NULL);
	assert_int_equal(g.rc, 0);
}

/* --- the index --- */

static const char *
numbered(size_t i, char name[CACHE_ENTRY_LEN])
{
	uint8_t digest[SHA256_LEN];
	char hex[SHA256_HEX_LEN];

	sha256_of(&i, sizeof(i), digest);
	return cache_entry_name(hex_encode(digest, sizeof(digest), hex), i % 2, name);
}

/* The order from the oldest on, as numbers below n; where they end. */
static size_t
order_of(struct place *p, size_t n, size_t *ret)
{
	struct index_item item;
	char name[CACHE_ENTRY_LEN];
	uint32_t after = 0;
	size_t found = 0;

	while (index_younger(p->cache, after, &item, NULL) == 0) {
		assert_true(found < n);
		for (ret[found] = 0; ret[found] < n && strcmp(numbered(ret[found], name), item.name) != 0; ret[found]++)
			;
		after = item.no;
		found++;
	}
	return found;
}

static void
the_index_keeps_the_order_of_use(void **state)
{
	struct place *p = *state;
	struct index_sums sums;
	struct index_item item;
	char name[CACHE_ENTRY_LEN];
	size_t order[6];
	bool moved;

	for (size_t i = 0; i < 5; i++)
		assert_int_equal(index_charge(p->cache, numbered(i, name), 10, 1, 0, false, NULL), 0);
	assert_int_equal(order_of(p, 6, order), 5);
	assert_memory_equal(order, ((size_t[]){0, 1, 2, 3, 4}), 5 * sizeof(order[0]));
	/* Noted to the minute: too soon for another place. */
	assert_int_equal(index_used(p->cache, numbered(1, name), INDEX_HIT, &moved, NULL), 0);
	assert_false(moved);
	assert_int_equal(index_used(p->cache, numbered(1, name), INDEX_IN_USE, &moved, NULL), 0);
	assert_true(moved);
	assert_int_equal(index_charge(p->cache, numbered(0, name), 30, 3, 0, true, NULL), 0);
	assert_int_equal(index_charge(p->cache, numbered(5, name), 100, 5, CACHE_TRANSIENT, false, NULL), 0);
	assert_int_equal(index_drop(p->cache, numbered(3, name), NULL, NULL), 0);
	assert_int_equal(index_drop(p->cache, numbered(3, name), NULL, NULL), 0);
	assert_int_equal(order_of(p, 6, order), 5);
	assert_memory_equal(order, ((size_t[]){5, 0, 2, 4, 1}), 5 * sizeof(order[0]));
	assert_int_equal(index_sums(p->cache, &sums, NULL), 0);
	assert_int_equal(sums.bytes, 60);
	assert_int_equal(sums.inodes, 6);
	assert_int_equal(sums.transient_bytes, 100);
	assert_int_equal(sums.counts.hits, 1);
	assert_int_equal(index_find(p->cache, numbered(3, name), &item, NULL), ERR_NOTFOUND);
	assert_int_equal(index_used(p->cache, numbered(3, name), INDEX_MISS, NULL, NULL), ERR_NOTFOUND);
	/* What was let through fits by now: an entry like others, the youngest. */
	assert_int_equal(index_charge(p->cache, numbered(5, name), 100, 5, 0, true, NULL), 0);
	assert_int_equal(order_of(p, 6, order), 5);
	assert_memory_equal(order, ((size_t[]){0, 2, 4, 1, 5}), 5 * sizeof(order[0]));
	assert_int_equal(index_sums(p->cache, &sums, NULL), 0);
	assert_int_equal(sums.bytes, 160);
	assert_int_equal(sums.transient_bytes, 0);
}

static void
the_index_grows_and_keeps_all(void **state)
{
	enum { MANY = 5000 };
	struct place *p = *state;
	struct index_sums sums;
	struct index_item item;
	char name[CACHE_ENTRY_LEN];
	uint32_t after = 0;

	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(index_charge(p->cache, numbered(i, name), (int64_t)i, 1, 0, false, NULL), 0);
	for (size_t i = 0; i < MANY; i += 2)
		assert_int_equal(index_drop(p->cache, numbered(i, name), NULL, NULL), 0);
	for (size_t i = 1; i < MANY; i += 2) {
		assert_int_equal(index_younger(p->cache, after, &item, NULL), 0);
		assert_string_equal(item.name, numbered(i, name));
		assert_int_equal(item.bytes, i);
		assert_int_equal(index_find(p->cache, name, &item, NULL), 0);
		after = item.no;
	}
	assert_int_equal(index_younger(p->cache, after, &item, NULL), ERR_NOTFOUND);
	assert_int_equal(index_sums(p->cache, &sums, NULL), 0);
	assert_int_equal(sums.entries, MANY / 2);
	assert_int_equal(sums.bytes, (int64_t)MANY / 2 * (MANY / 2));
	/* Slots that were given back are taken again. */
	for (size_t i = 0; i < MANY; i += 2)
		assert_int_equal(index_charge(p->cache, numbered(i, name), 0, 1, 0, false, NULL), 0);
	assert_int_equal(index_sums(p->cache, &sums, NULL), 0);
	assert_int_equal(sums.entries, MANY);
}

/* --- what others did to the directory --- */

static void
write_file(const struct place *p, const char *name, const void *data, size_t len)
{
	char path[200];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", p->cache_dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (long)len);
	close(fd);
}

static void
an_index_that_cannot_be_trusted_is_made_again(void **state)
{
	struct place *p = *state;
	char path[200], garbage[2000];
	struct index_sums sums;

	cache_release(get(p, 0, true));
	cache_release(get(p, 1, false));
	snprintf(path, sizeof(path), "%s/index", p->cache_dir);
	for (int i = 0; i < 6; i++) {
		bool miss;
		int fd = -1;

		random_bytes(garbage, sizeof(garbage));
		if (i == 0) {
			assert_int_equal(unlink(path), 0);
		} else if (i == 1) {
			assert_int_equal(truncate(path, 0), 0);
		} else if (i == 2) {
			assert_int_equal(truncate(path, 600), 0); /* a whole header, and nothing behind it */
		} else if (i == 3) {
			write_file(p, "index", garbage, sizeof(garbage));
		} else {
			/* A right header before slots and buckets that lie: links into nowhere, or in circles. */
			if (i == 5)
				memset(garbage, 1, sizeof(garbage));
			fd = open(path, O_WRONLY | O_CLOEXEC);
			for (off_t at = 512; at < 90000; at += (off_t)sizeof(garbage))
				assert_int_equal(pwrite(fd, garbage, sizeof(garbage), at), (long)sizeof(garbage));
			close(fd);
		}
		for (size_t k = 2; k < 5; k++)
			cache_release(get(p, k, false));
		assert_int_equal(index_sums(p->cache, &sums, NULL), 0);
		assert_true(sums.entries >= 3);
		reopen(p);
		if (i >= 4) /* a lie that nobody came across */
			assert_int_equal(index_rebuild(p->cache, NULL), 0);
		check_account(p);
		check_service(p, &miss);
		assert_false(miss);
	}
}

static void
strange_things_in_the_directory_are_no_harm(void **state)
{
	struct place *p = *state;
	char path[200];
	bool miss;

	write_file(p, "objects/note", "x", 1);
	write_file(p, "tmp/note", "x", 1);
	write_file(p, "trash/note", "x", 1);
	write_file(p, "locks/note", "x", 1);
	snprintf(path, sizeof(path), "%s/objects/zz", p->cache_dir);
	assert_int_equal(symlink("/etc", path), 0);
	/* Where an entry belongs lies something else. */
	snprintf(path, sizeof(path), "%s/objects/%.2s", p->cache_dir, p->sha[0]);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/objects/%.2s/%s.blob", p->cache_dir, p->sha[0], p->sha[0]);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/objects/%.2s/%s.blob/data", p->cache_dir, p->sha[0], p->sha[0]);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	snprintf(path, sizeof(path), "%s/objects/%.2s/%s.tree", p->cache_dir, p->sha[0], p->sha[0]);
	assert_int_equal(symlink("/etc", path), 0);
	snprintf(path, sizeof(path), "%s/tmp/%s.blob", p->cache_dir, p->sha[0]);
	assert_int_equal(mkfifo(path, 0600), 0);
	{
		struct cache_config c = config_of(p->cache_dir);
		struct cache_pin *pin;
		struct stat st;

		cache_close(p->cache);
		p->cache = cache_open(&c, NULL);
		assert_non_null(p->cache);
		pin = get(p, 0, true);
		cache_release(pin);
		pin = get(p, 0, false);
		assert_true(digest_is(cache_pin_blob(pin), p->sha[0]));
		assert_int_equal(lstat(cache_pin_blob(pin), &st), 0);
		assert_true(S_ISREG(st.st_mode));
		cache_release(pin);
	}
	assert_int_equal(access("/etc/passwd", F_OK), 0);
	assert_int_equal(cache_sweep(p->cache, NULL), 0);
	snprintf(path, sizeof(path), "%s/tmp/note", p->cache_dir);
	assert_int_equal(unlink(path), 0); /* left alone */
	check_service(p, &miss);
}

static void
folders_that_are_not_ours_are_refused(void **state)
{
	struct place *p = *state;
	struct cache_config c = config_of(p->cache_dir);
	char path[200], to[200];
	struct err e = {0};

	cache_close(p->cache);
	p->cache = NULL;
	snprintf(path, sizeof(path), "%s/objects", p->cache_dir);
	snprintf(to, sizeof(to), "%s/elsewhere", p->cache_dir);
	assert_int_equal(rename(path, to), 0);
	assert_int_equal(symlink(to, path), 0);
	assert_null(cache_open(&c, &e));
	assert_int_equal(e.code, ERR_INVALID);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rename(to, path), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 1234, 1234), 0);
		assert_null(cache_open(&c, &e));
		assert_int_equal(e.code, ERR_DENIED);
		assert_true(e.hint[0] != '\0');
		assert_int_equal(chown(path, 0, 0), 0);
	}
	p->cache = cache_open(&c, &e);
	assert_non_null(p->cache);
}

/* --- eviction --- */

/* Sets an entry's clock; the index learns of it when it is made again. */
static void
set_used(struct place *p, size_t i, int64_t seconds_ago)
{
	char path[256];
	struct timespec t[2] = {{.tv_sec = time(NULL) - seconds_ago}, {.tv_sec = time(NULL) - seconds_ago}};

	snprintf(path, sizeof(path), "%s/objects/%.2s/%s.blob/mark", p->cache_dir, p->sha[i], p->sha[i]);
	assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
	assert_int_equal(index_rebuild(p->cache, NULL), 0);
}

static struct cache *
small_cache(struct place *p, int64_t objects)
{
	struct cache_config c = config_of(p->cache_dir);
	struct err e;

	c.max_bytes = objects * OBJECT_BYTES;
	cache_close(p->cache);
	p->cache = cache_open(&c, &e);
	assert_non_null(p->cache);
	return p->cache;
}

static void
the_longest_unused_goes_and_the_pinned_stays(void **state)
{
	struct place *p = *state;
	struct cache_pin *pinned, *other;
	struct cache_stats s;

	small_cache(p, 4);
	for (size_t i = 1; i <= 3; i++)
		cache_release(get(p, i, false));
	set_used(p, 1, 30);
	set_used(p, 2, 10);
	set_used(p, 3, 20);
	pinned = get(p, 1, false);
	set_used(p, 1, 30); /* oldest, but in use */
	other = get(p, 4, false);
	cache_stats(p->cache, &s);
	assert_true(s.bytes <= 4 * OBJECT_BYTES);
	assert_true(digest_is(cache_pin_blob(pinned), p->sha[1]));
	cache_release(pinned);
	cache_release(other);
	other = get(p, 2, false);
	assert_false(cache_pin_was_miss(other)); /* younger than 3 */
	cache_release(other);
	other = get(p, 3, false);
	assert_true(cache_pin_was_miss(other));
	cache_release(other);
}

/* What does not fit is let through, shared, and gone with its last user; nothing else is pushed out for it. */
static void
what_does_not_fit_is_let_through(void **state)
{
	struct place *p = *state;
	struct cache_pin *a, *b;
	struct cache_stats s;
	char *large = xcalloc(1, 2 * OBJECT_BYTES);

	small_cache(p, 4);
	cache_release(get(p, 1, false));
	cache_close(p->cache);
	p->cache = NULL;
	{
		struct cache_config c = config_of(p->cache_dir);

		c.max_bytes = OBJECT_BYTES + OBJECT_BYTES / 2;
		p->cache = cache_open(&c, NULL);
		assert_non_null(p->cache);
	}
	put(p, 7, large, 2 * OBJECT_BYTES);
	free(large);
	a = get(p, 7, false);
	b = get(p, 7, false);
	assert_true(cache_pin_was_miss(a));
	assert_false(cache_pin_was_miss(b));
	assert_true(digest_is(cache_pin_blob(a), p->sha[7]));
	cache_stats(p->cache, &s);
	assert_true(s.bytes >= OBJECT_BYTES && s.bytes < OBJECT_BYTES + 16384); /* entry 1 stayed */
	assert_true(s.transient_bytes >= 2 * OBJECT_BYTES);
	cache_release(a);
	assert_true(digest_is(cache_pin_blob(b), p->sha[7]));
	cache_release(b);
	cache_stats(p->cache, &s);
	assert_int_equal(s.transient_bytes, 0);
	assert_int_equal(s.entries, 1);
	assert_int_equal(names_in(p, "trash"), 0);
	b = get(p, 1, false);
	assert_false(cache_pin_was_miss(b));
	cache_release(b);
}

static void
a_cache_full_of_pins_lets_more_through(void **state)
{
	struct place *p = *state;
	struct cache_pin *pins[3];
	struct cache_stats s;

	small_cache(p, 3);
	for (size_t i = 0; i < 2; i++)
		pins[i] = get(p, i + 1, false);
	pins[2] = get(p, 3, false);
	cache_stats(p->cache, &s);
	assert_true(s.bytes <= 3 * OBJECT_BYTES);
	assert_true(s.transient_bytes >= OBJECT_BYTES);
	for (size_t i = 0; i < 3; i++)
		assert_true(digest_is(cache_pin_blob(pins[i]), p->sha[i + 1]));
	for (size_t i = 0; i < 3; i++)
		cache_release(pins[i]);
	cache_stats(p->cache, &s);
	assert_int_equal(s.entries, 2);
	assert_int_equal(s.transient_bytes, 0);
}

static void
unused_for_longer_than_the_ttl_is_swept(void **state)
{
	struct place *p = *state;
	struct cache_stats s;
	struct err e;

	cache_release(get(p, 1, false));
	cache_release(get(p, 2, false));
	set_used(p, 1, 61);
	set_used(p, 2, 50);
	assert_int_equal(cache_sweep(p->cache, &e), 0);
	cache_stats(p->cache, &s);
	assert_int_equal(s.entries, 1);
	assert_int_equal(s.evictions, 1);
	assert_int_equal(names_in(p, "locks"), 3); /* two of entry 2, and the evictor's own */
}

static void
a_disk_without_free_space_is_told(void **state)
{
	struct place *p = *state;
	struct cache_config c = config_of(p->cache_dir);
	struct cache_want w = want(p, 1);
	struct cache_pin *pin = NULL;
	struct err e = {0};

	cache_close(p->cache);
	c.min_free_bytes = INT64_MAX / 2;
	p->cache = cache_open(&c, &e);
	assert_int_equal(cache_get(p->cache, &w, NULL, &pin, &e), ERR_RETRY);
	assert_non_null(strstr(e.msg, "free"));
	assert_int_equal(names_in(p, "tmp"), 0);
}

static void
a_disk_without_free_inodes_is_told(void **state)
{
	struct place *p = *state;
	struct cache_config c = config_of(p->cache_dir);
	struct cache_want w = want(p, 1);
	struct cache_pin *pin = NULL;
	struct statvfs v;
	struct err e = {0};

	assert_int_equal(statvfs(p->dir, &v), 0);
	if (v.f_files == 0)
		skip();
	cache_close(p->cache);
	c.min_free_inodes = INT64_MAX / 2;
	p->cache = cache_open(&c, &e);
	assert_int_equal(cache_get(p->cache, &w, NULL, &pin, &e), ERR_RETRY);
	assert_non_null(strstr(e.msg, "inodes"));
	assert_int_equal(names_in(p, "tmp"), 0);
}

static void
lack_is_what_marks_and_floors_ask_for(void **state)
{
	static const struct {
		struct lru_state s;
		int64_t bytes, inodes;
		bool hard;
		struct lru_lack lack;
	} cases[] = {
		{{950, 1000, INT64_MAX, 0, INT64_MAX, 0}, 0, 0, false, {0, 0}},        /* at the high mark */
		{{951, 1000, INT64_MAX, 0, INT64_MAX, 0}, 0, 0, false, {101, 0}},      /* over it: to the low one */
		{{900, 1000, INT64_MAX, 0, INT64_MAX, 0}, 100, 1, false, {150, 0}},
		{{900, 1000, INT64_MAX, 0, INT64_MAX, 0}, 1001, 1, false, {0, 0}},     /* never fits: pushes nobody out */
		{{100, 1000, 500, 400, INT64_MAX, 0}, 200, 1, false, {100, 0}},        /* the floor counts what comes */
		{{100, 1000, 300, 400, INT64_MAX, 0}, 200, 1, false, {300, 0}},
		{{100, 1000, 300, 400, INT64_MAX, 0}, 0, 0, false, {100, 0}},
		{{100, 1000, INT64_MAX, 400, 10, 8}, 0, 5, false, {0, 3}},
		{{100, 1000, INT64_MAX, 400, 4, 8}, 0, 5, false, {0, 9}},
		{{900, 1000, INT64_MAX, 0, INT64_MAX, 0}, 10, 0, true, {60, 0}},
		{{100, 1000, INT64_MAX, 0, INT64_MAX, 0}, 10, 0, true, {10, 0}},       /* the disk was full all the same */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct lru_lack lack = lru_lack(&cases[i].s, cases[i].bytes, cases[i].inodes, cases[i].hard);

		assert_int_equal(lack.bytes, cases[i].lack.bytes);
		assert_int_equal(lack.inodes, cases[i].lack.inodes);
	}
}

int
main(int argc, char **argv)
{
#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		IN_PLACE(the_second_get_is_a_hit), IN_PLACE(a_tree_is_unpacked_beside_the_blob_in_use),
		IN_PLACE(a_tree_of_another_boot_is_made_again), IN_PLACE(what_was_not_promised_is_refused),
		IN_PLACE(many_threads_download_once), IN_PLACE(a_wait_for_another_download_can_be_canceled),
		IN_PLACE(the_index_keeps_the_order_of_use), IN_PLACE(the_index_grows_and_keeps_all),
		IN_PLACE(a_failed_download_fails_all_who_waited), IN_PLACE(an_index_that_cannot_be_trusted_is_made_again),
		IN_PLACE(strange_things_in_the_directory_are_no_harm), IN_PLACE(folders_that_are_not_ours_are_refused),
		IN_PLACE(death_at_any_step_of_a_fill_leaves_a_right_cache), IN_PLACE(death_at_any_step_of_an_eviction_loses_the_entry_only),
		IN_PLACE(death_in_any_change_of_the_index_leaves_a_right_cache),
		IN_PLACE(a_tree_is_charged_while_it_grows),
		IN_PLACE(death_while_verifying_after_a_reboot_serves_nothing_unverified),
		IN_PLACE(a_sweep_leaves_a_live_download_alone), IN_PLACE(the_longest_unused_goes_and_the_pinned_stays),
		IN_PLACE(a_cache_full_of_pins_lets_more_through), IN_PLACE(what_does_not_fit_is_let_through), IN_PLACE(unused_for_longer_than_the_ttl_is_swept),
		IN_PLACE(a_disk_without_free_space_is_told), IN_PLACE(a_disk_without_free_inodes_is_told),
		IN_PLACE(a_blob_of_another_boot_is_verified_once), IN_PLACE(a_vanished_or_cut_entry_is_a_miss),
		IN_PLACE(an_archive_that_was_damaged_is_fetched_again_for_its_tree), cmocka_unit_test(lack_is_what_marks_and_floors_ask_for),
	};
	int status = extract_helper_main(argc, argv);

	if (status < 0)
		status = child(argc, argv);
	return status >= 0 ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
