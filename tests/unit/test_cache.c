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
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "storage/cache.h"
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
	struct stat st;
	char path[256];

	assert_false(cache_pin_was_miss(tree));
	snprintf(path, sizeof(path), "%s/hello", cache_pin_tree(tree));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 2);
	cache_release(blob);
	cache_release(tree);
}

static void
a_tree_of_another_boot_is_made_again(void **state)
{
	struct place *p = *state;
	struct cache_pin *pin = get(p, 0, true);
	char path[256], mark[128], *entry;
	struct stat st;
	FILE *f;

	entry = xstrndup(cache_pin_tree(pin), strlen(cache_pin_tree(pin)) - strlen("/tree"));
	snprintf(path, sizeof(path), "%s/tree/hello", entry);
	assert_int_equal(truncate(path, 0), 0); /* as a lost write would leave it */
	cache_release(pin);
	snprintf(mark, sizeof(mark), "%s/tree.ok", entry);
	assert_int_equal(unlink(mark), 0);
	f = fopen(mark, "w");
	assert_true(fprintf(f, "00000000-0000-0000-0000-000000000000 4098") > 0);
	fclose(f);
	pin = get(p, 0, true);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 2);
	cache_release(pin);
	free(entry);
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
	w.size_bytes = CACHE_BYTES + 1;
	assert_int_equal(cache_get(p->cache, &w, NULL, &pin, &e), ERR_TOOBIG);
	assert_non_null(strstr(e.hint, "CACHE_MAX_SIZE"));
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
	char path[64], target[512], name[80];
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *d;
	size_t n = 0;

	assert_non_null(dir);
	snprintf(name, sizeof(name), "%s.fill", sha);
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
	struct counted c = {.s = {.ops = &ops, .kind = "counted"}, .real = p->store};
	struct getter g[8];
	pthread_t threads[8];

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

	snprintf(path, sizeof(path), "%s/locks/%s.fill", p->cache_dir, p->sha[1]);
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
	if (argc == 3)
		return cache_sweep(p.cache, &e) == 0 ? 0 : 11;
	snprintf(p.sha[0], sizeof(p.sha[0]), "%s", argv[3]);
	p.size[0] = 2048;
	w = want(&p, 0);
	w.tree = true;
	return cache_get(p.cache, &w, NULL, &pin, &e) == 0 ? 0 : 12;
}

/* Runs the child to its end under a fault; true if the fault killed it. */
static bool
dies_at(const char *fault, const char *flag, struct place *p, const char *sha)
{
	char env[64];
	const char *argv[] = {"/proc/self/exe", flag, p->dir, sha, NULL}, *envp[] = {env, NULL};
	struct proc_spec spec = {.argv = argv, .env = envp, .fds = {-1, 1, 2, -1}};
	struct buf out = buf_make(4096), err_out = buf_make(4096);
	struct proc_exit x = {0};

	snprintf(env, sizeof(env), "DROVER_FAULT=%s", fault);
	assert_int_equal(proc_run(&spec, 30000, &out, &err_out, &x, NULL), 0);
	buf_release(&out);
	buf_release(&err_out);
	return !x.exited && x.signo == SIGKILL;
}

static void
death_at_any_step_leaves_a_right_cache(void **state)
{
	static const char *const faults[] = {
		"cache.reserved", "cache.downloaded", "cache.synced", "cache.renamed", "cache.unpacked", "cache.tree_moved",
		"cache.marked",
	};
	struct place *p = *state;

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		struct cache_config c = config_of(p->cache_dir);
		struct cache_pin *pin;
		struct err e;
		char path[256];
		struct stat st;

		cache_close(p->cache);
		assert_int_equal(file_remove_tree(AT_FDCWD, p->cache_dir, NULL), 0);
		assert_true(dies_at(faults[i], FILL_FLAG, p, p->sha[0]));
		p->cache = cache_open(&c, &e);
		assert_non_null(p->cache);
		assert_int_equal(names_in(p, "tmp"), 0);
		pin = get(p, 0, true);
		assert_true(digest_is(cache_pin_blob(pin), p->sha[0]));
		snprintf(path, sizeof(path), "%s/hello", cache_pin_tree(pin));
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_size, 2);
		/* What was complete before the death is not fetched again. */
		assert_int_equal(cache_pin_was_miss(pin), i < 3);
		cache_release(pin);
		assert_int_equal(cache_sweep(p->cache, &e), 0);
		assert_int_equal(names_in(p, "trash"), 0);
		assert_int_equal(names_in(p, "tmp"), 0);
	}
}

static void
death_while_evicting_loses_the_entry_only(void **state)
{
	struct place *p = *state;
	struct cache_pin *pin = get(p, 0, true);
	struct err e;

	assert_false(dies_at("cache.evicted", SWEEP_FLAG, p, NULL)); /* pinned: there is nothing to evict */
	assert_true(digest_is(cache_pin_blob(pin), p->sha[0]));
	cache_release(pin);
	assert_true(dies_at("cache.evicted", SWEEP_FLAG, p, NULL));
	assert_int_equal(names_in(p, "trash"), 1);
	pin = get(p, 0, true);
	assert_true(cache_pin_was_miss(pin));
	assert_int_equal(cache_sweep(p->cache, &e), 0);
	assert_int_equal(names_in(p, "trash"), 0);
	assert_true(digest_is(cache_pin_blob(pin), p->sha[0]));
	cache_release(pin);
}

static void
a_sweep_leaves_a_live_download_alone(void **state)
{
	static const struct object_store_ops ops = {.get = counted_get};
	struct place *p = *state;
	struct counted c = {.s = {.ops = &ops, .kind = "counted"}, .real = p->store};
	struct getter g = {.cache = p->cache, .want = want(p, 1), .rc = -1};
	pthread_t thread;
	struct err e;

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

/* --- eviction --- */

static void
set_used(struct place *p, size_t i, int64_t seconds_ago)
{
	char path[256];
	struct timespec t[2] = {{.tv_sec = time(NULL) - seconds_ago}, {.tv_sec = time(NULL) - seconds_ago}};

	snprintf(path, sizeof(path), "%s/objects/%.2s/%s/used", p->cache_dir, p->sha[i], p->sha[i]);
	assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
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

static void
a_cache_full_of_pins_says_so(void **state)
{
	struct place *p = *state;
	struct cache_pin *pins[3], *more = NULL;
	struct cache_want w;
	struct err e = {0};

	small_cache(p, 3);
	for (size_t i = 0; i < 2; i++)
		pins[i] = get(p, i + 1, false);
	w = want(p, 3);
	assert_int_equal(cache_get(p->cache, &w, NULL, &more, &e), ERR_RETRY);
	assert_non_null(strstr(e.msg, "in use"));
	assert_true(digest_is(cache_pin_blob(pins[0]), p->sha[1]));
	assert_true(digest_is(cache_pin_blob(pins[1]), p->sha[2]));
	cache_release(pins[0]);
	pins[0] = get(p, 3, false);
	cache_release(pins[0]);
	cache_release(pins[1]);
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
	assert_int_equal(names_in(p, "locks"), 3); /* of entry 2 and the evictor's own */
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

static bool
evict_even(void *arg, const struct lru_item *item)
{
	char *order = arg;

	strcat(order, item->id);
	return (item->id[0] - '0') % 2 == 0;
}

static void
lru_goes_by_age_until_the_goal(void **state)
{
	static const struct {
		struct lru_goal goal;
		const char *offered;
		int64_t freed;
	} cases[] = {
		{{40, 40, 0}, "", 0}, {{40, 39, 0}, "12", 10}, {{40, 30, 0}, "12", 10}, {{40, 25, 0}, "1234", 20},
		{{40, 0, 0}, "1234", 20}, {{40, 40, 3}, "12", 10}, {{40, 40, 100}, "1234", 20},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct lru_item items[] = {{"3", 10, 3}, {"1", 10, 1}, {"4", 10, 4}, {"2", 10, 2}};
		char order[8] = "";

		assert_int_equal(lru_evict(items, 4, &cases[i].goal, evict_even, order), cases[i].freed);
		assert_string_equal(order, cases[i].offered);
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
		IN_PLACE(death_at_any_step_leaves_a_right_cache), IN_PLACE(death_while_evicting_loses_the_entry_only),
		IN_PLACE(a_sweep_leaves_a_live_download_alone), IN_PLACE(the_longest_unused_goes_and_the_pinned_stays),
		IN_PLACE(a_cache_full_of_pins_says_so), IN_PLACE(unused_for_longer_than_the_ttl_is_swept),
		IN_PLACE(a_disk_without_free_space_is_told), cmocka_unit_test(lru_goes_by_age_until_the_goal),
	};
	int status = extract_helper_main(argc, argv);

	if (status < 0)
		status = child(argc, argv);
	return status >= 0 ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
