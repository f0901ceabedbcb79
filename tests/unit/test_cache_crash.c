/* The cache after deaths in the middle, with an index that cannot be trusted, and with strange things in its directory. */
#include "cache_rig.h"

/* What must die in the middle is a process of its own: this program, under DROVER_FAULT. */
#define FILL_FLAG "--fill"   /* DIR SHA */
#define SWEEP_FLAG "--sweep" /* DIR */

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
		"cache.evicted", "cache.evicted:2", "cache.evict_counted", "cache.evict_counted:2", "cache.index_changed",
		"cache.index_changed:2", "cache.trash_removed", "cache.trash_removed:2",
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
	char *tar = xcalloc(1, TAR_BLOCK + BYTES + 1024), name[CACHE_ENTRY_LEN];
	struct index_item item;
	struct index_sums sums;

	tar_header(tar, "hello", '0', "", 0644, BYTES);
	for (size_t i = 0; i < BYTES; i += 4096)
		tar[TAR_BLOCK + i] = 'x'; /* no holes */
	put(p, 0, tar, TAR_BLOCK + BYTES + 1024);
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

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		IN_PLACE(the_index_keeps_the_order_of_use),
		IN_PLACE(the_index_grows_and_keeps_all),
		IN_PLACE(an_index_that_cannot_be_trusted_is_made_again),
		IN_PLACE(strange_things_in_the_directory_are_no_harm),
		IN_PLACE(folders_that_are_not_ours_are_refused),
		IN_PLACE(death_at_any_step_of_a_fill_leaves_a_right_cache),
		IN_PLACE(death_at_any_step_of_an_eviction_loses_the_entry_only),
		IN_PLACE(death_in_any_change_of_the_index_leaves_a_right_cache),
		IN_PLACE(a_tree_is_charged_while_it_grows),
		IN_PLACE(death_while_verifying_after_a_reboot_serves_nothing_unverified),
	};
	int status = extract_helper_main(argc, argv);

	if (status < 0)
		status = child(argc, argv);
	return status >= 0 ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
