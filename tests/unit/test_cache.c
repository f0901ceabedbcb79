/* The cache as its users see it: filling, one download for many, eviction. */
#include "cache_rig.h"

#include <sys/resource.h>

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
	assert_int_equal(s.misses, 1);
	assert_int_equal(s.hits, 1); /* what was asked for; that the tree's making looked at its archive is nobody's hit */
	cache_release(blob);
	cache_release(tree);
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
	w.size_bytes = INT64_MAX; /* sums with it would overflow */
	assert_int_equal(cache_get(p->cache, &w, NULL, &pin, &e), ERR_INVALID);
	assert_non_null(strstr(e.msg, "bounds"));
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

struct breaking { /* a store that breaks a byte of so many downloads */
	struct object_store s;
	struct object_store *real;
	int times, gets;
	int (*write)(void *arg, const void *data, size_t n);
	void *arg;
};

static int
break_byte(void *arg, const void *data, size_t len)
{
	struct breaking *b = arg;
	char *copy = xmemdup(data, len);
	int rc;

	copy[0] ^= 1;
	rc = b->write(b->arg, copy, len);
	free(copy);
	return rc;
}

static int
breaking_get(struct object_store *s, const char *bucket, const char *key, int64_t offset, int64_t len, const char *if_match,
    int (*write_cb)(void *arg, const void *data, size_t n), void *arg, struct object_info *info, const atomic_bool *stop,
    struct err *e)
{
	struct breaking *b = (struct breaking *)(void *)s;

	b->gets++;
	b->write = write_cb;
	b->arg = arg;
	if (b->gets > b->times)
		return store_get(b->real, bucket, key, offset, len, if_match, write_cb, arg, info, stop, e);
	return store_get(b->real, bucket, key, offset, len, if_match, break_byte, b, info, stop, e);
}

/* Bytes that broke on the way come whole the next time; twice, and they are wrong where they come from. */
static void
what_broke_on_the_way_is_fetched_once_more(void **state)
{
	static const struct object_store_ops ops = {.get = breaking_get};
	struct place *p = *state;

	for (int times = 1; times <= 2; times++) {
		struct breaking b = {.s = *p->store, .real = p->store, .times = times};
		struct cache_want w = want(p, (size_t)times);
		struct cache_pin *pin = NULL;
		struct err e = {0};

		b.s.ops = &ops;
		w.store = &b.s;
		assert_int_equal(cache_get(p->cache, &w, NULL, &pin, &e), times == 1 ? 0 : ERR_INVALID);
		assert_int_equal(b.gets, 2);
		assert_true(pin == NULL || digest_is(cache_pin_blob(pin), p->sha[times]));
		cache_release(pin);
	}
}

/* A process that has no descriptor left sees nothing of an entry, which another run may be using: it is not taken for damaged. */
static void
without_descriptors_nothing_is_thrown_away(void **state)
{
	struct place *p = *state;
	struct cache_want w = want(p, 1);
	struct cache_pin *pin = NULL;
	struct rlimit before, none;
	struct cache_stats s;
	struct err e = {0};
	char name[CACHE_ENTRY_LEN], mark[160];
	bool miss = false;
	int fd, rc;

	assert_int_equal(cache_get(p->cache, &w, NULL, &pin, &e), 0);
	cache_entry_name(w.sha256, false, name);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = (rlim_t)fd;
	close(fd);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	rc = cache_complete(p->cache, name, -1, &e);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(rc, ERR_RETRY);
	snprintf(mark, sizeof(mark), "%.*s/mark", (int)(strrchr(cache_pin_blob(pin), '/') - cache_pin_blob(pin)), cache_pin_blob(pin));
	assert_int_equal(unlink(mark), 0); /* as of another boot: its bytes have to be looked at */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	rc = cache_fill_blob(p->cache, name, &w, NULL, &miss, &e);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(rc, ERR_RETRY);
	assert_int_equal(access(cache_pin_blob(pin), R_OK), 0);
	cache_stats(p->cache, &s);
	assert_int_equal(s.damaged, 0);
	cache_release(pin);
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

static void
a_sweep_leaves_a_live_download_alone(void **state)
{
	static const struct object_store_ops ops = {.get = counted_get};
	struct place *p = *state;
	struct counted c = {.s = *p->store, .real = p->store};
	struct getter g = {.cache = p->cache, .want = want(p, 1), .rc = -1};
	uint64_t held[4];
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
	assert_int_equal(cache_holds(p->cache, held, 4), 0); /* nobody shall be preferred for what is only coming */
	atomic_store(&c.open, true);
	pthread_join(thread, NULL);
	assert_int_equal(g.rc, 0);
	assert_int_equal(cache_holds(p->cache, held, 4), 1);
}

/* --- tools --- */

static void
note_verdict(void *arg, const char *name, enum cache_verdict verdict)
{
	(void)name;
	*(int *)arg += verdict == CACHE_SOUND;
}

/* An account that went wrong, by whatever: verifying makes it anew from what is there. */
static void
verifying_rights_the_account(void **state)
{
	struct place *p = *state;
	struct index_sums before, after;
	char name[CACHE_ENTRY_LEN];
	int sound = 0;

	cache_release(get(p, 1, false));
	cache_release(get(p, 2, false));
	assert_int_equal(index_sums(p->cache, &before, NULL), 0);
	cache_entry_name(p->sha[1], false, name);
	assert_int_equal(index_charge(p->cache, name, 7, 1, 0, true, NULL), 0);
	cache_entry_name(p->sha[2], false, name);
	assert_int_equal(index_drop(p->cache, name, NULL, NULL), 0);
	assert_int_equal(cache_verify(p->cache, note_verdict, &sound, NULL, NULL), 0);
	assert_int_equal(sound, 2);
	assert_int_equal(index_sums(p->cache, &after, NULL), 0);
	assert_int_equal(after.entries, before.entries);
	assert_int_equal(after.bytes, before.bytes);
	assert_int_equal(after.inodes, before.inodes);
}

/* Two contents whose digests begin alike: who names only that much has named neither. */
static void
a_digest_that_is_not_told_apart_removes_nothing(void **state)
{
	struct place *p = *state;
	char seen[8192][SHA256_HEX_LEN], hex[SHA256_HEX_LEN], prefix[7];
	uint32_t first = 0, second = 0;
	uint8_t digest[SHA256_LEN];
	struct cache_stats s;
	struct err e = {0};

	for (uint32_t i = 0; second == 0 && i < 65536; i++) { /* the first pair is among some five thousand */
		sha256_of(&i, sizeof(i), digest);
		hex_encode(digest, sizeof(digest), hex);
		for (uint32_t k = 0; second == 0 && k < i && k < 8192; k++)
			if (memcmp(seen[k], hex, 6) == 0) {
				first = k;
				second = i;
			}
		if (i < 8192)
			memcpy(seen[i], hex, sizeof(hex));
	}
	assert_true(second > 0);
	put(p, 1, &first, sizeof(first));
	put(p, 2, &second, sizeof(second));
	cache_release(get(p, 1, false));
	cache_release(get(p, 2, false));
	snprintf(prefix, sizeof(prefix), "%.6s", p->sha[1]);
	assert_int_equal(cache_remove(p->cache, prefix, &e), ERR_INVALID);
	assert_non_null(strstr(e.msg, "several"));
	cache_stats(p->cache, &s);
	assert_int_equal(s.entries, 2);
	assert_int_equal(cache_remove(p->cache, p->sha[1], &e), 1);
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

/* Waits until the clock has moved on by what a TTL of a millisecond takes. */
static void
let_it_expire(void)
{
	int64_t from_real_ms = clock_real_ms();

	while (clock_real_ms() < from_real_ms + 3)
		;
}

/* An entry that was used when the clock was ahead must not keep those behind it for ever, nor itself. */
static void
a_clock_that_was_ahead_keeps_nothing(void **state)
{
	struct place *p = *state;
	struct cache_config c = config_of(p->cache_dir);
	struct cache_stats s;
	struct err e = {0};

	cache_close(p->cache);
	c.ttl_ms = 1;
	p->cache = cache_open(&c, &e);
	assert_non_null(p->cache);
	cache_release(get(p, 1, false));
	set_used(p, 1, -24 * 3600);
	cache_release(get(p, 2, false));
	/* Whoever comes by first dates it, which may be this sweep. */
	for (int i = 0; i < 2; i++) {
		let_it_expire();
		assert_int_equal(cache_sweep(p->cache, &e), 0);
	}
	cache_stats(p->cache, &s);
	assert_int_equal(s.entries, 0);
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
		{{100, 1000, INT64_MAX, 0, INT64_MAX, 0}, -50, -50, false, {0, 0}},    /* made again, smaller: no floor to count from */
		{{100, 1000, 300, 400, 4, 8}, -150, -5, false, {0, 0}},                /* what it gives back is enough */
		{{100, 1000, 300, 400, 4, 8}, -50, -2, false, {50, 2}},
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
	const struct CMUnitTest tests[] = {
		IN_PLACE(the_second_get_is_a_hit),
		IN_PLACE(a_tree_is_unpacked_beside_the_blob_in_use),
		IN_PLACE(a_tree_of_another_boot_is_made_again),
		IN_PLACE(what_was_not_promised_is_refused),
		IN_PLACE(what_broke_on_the_way_is_fetched_once_more),
		IN_PLACE(verifying_rights_the_account),
		IN_PLACE(a_digest_that_is_not_told_apart_removes_nothing),
		IN_PLACE(without_descriptors_nothing_is_thrown_away),
		IN_PLACE(many_threads_download_once),
		IN_PLACE(a_wait_for_another_download_can_be_canceled),
		IN_PLACE(a_failed_download_fails_all_who_waited),
		IN_PLACE(a_sweep_leaves_a_live_download_alone),
		IN_PLACE(the_longest_unused_goes_and_the_pinned_stays),
		IN_PLACE(a_cache_full_of_pins_lets_more_through),
		IN_PLACE(what_does_not_fit_is_let_through),
		IN_PLACE(unused_for_longer_than_the_ttl_is_swept),
		IN_PLACE(a_clock_that_was_ahead_keeps_nothing),
		IN_PLACE(a_disk_without_free_space_is_told),
		IN_PLACE(a_disk_without_free_inodes_is_told),
		IN_PLACE(a_blob_of_another_boot_is_verified_once),
		IN_PLACE(a_vanished_or_cut_entry_is_a_miss),
		IN_PLACE(an_archive_that_was_damaged_is_fetched_again_for_its_tree),
		cmocka_unit_test(lack_is_what_marks_and_floors_ask_for),
	};
	int status = extract_helper_main(argc, argv);

	return status >= 0 ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
