/* The cache on small disks of its own: full ones, ones without inodes, and ones that lose their power. Needs root, for loop mounts;
 * without it all is skipped, and says so. */
#define CACHE_BYTES (INT64_C(1) << 30)
#include "cache_rig.h"

#include <errno.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#define MIB (1 << 20)
#define SHUTDOWN _IOR('X', 125, uint32_t) /* XFS_IOC_GOINGDOWN, EXT4_IOC_SHUTDOWN: made for tests like this */
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

/* What must die in the middle, and what looks after it in another boot, is a process of its own: this program. */
#define FILL_FLAG "--fill"     /* DIR CACHE_DIR SHA SIZE */
#define SERVED_FLAG "--served" /* the same, after a reboot: ends with 0 (kept), 1 (fetched again) or 2 (wrong) */

static struct { /* of the test at hand */
	char at[96], image[96];
	const char *options;
	bool mounted;
} disk;

static int
command(const char *const argv[])
{
	struct proc_spec spec = {.argv = argv, .fds = {-1, 1, 2, -1}};
	struct buf out = buf_make(65536), err_out = buf_make(65536);
	struct proc_exit x = {0};
	int rc = proc_run(&spec, 60000, &out, &err_out, &x, NULL);

	if (rc != 0 || !x.exited || x.code != 0)
		print_message("%s: %s%s\n", argv[0], buf_str(&out), buf_str(&err_out));
	buf_release(&out);
	buf_release(&err_out);
	return rc == 0 && x.exited ? x.code : -1;
}

#define COMMAND(...) command((const char *const[]){__VA_ARGS__, NULL})

/* A tar of `files` files of `bytes` each, named after their number. */
static char *
make_tar(size_t files, size_t bytes, size_t *ret_len)
{
	size_t each = TAR_BLOCK + (bytes + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
	char *tar = xcalloc(1, files * each + 1024);

	for (size_t i = 0; i < files; i++) {
		char *h = tar + i * each, name[24];

		snprintf(name, sizeof(name), "f%zu", i);
		tar_header(h, name, '0', "", 0644, (unsigned)bytes);
		memset(h + TAR_BLOCK, (int)('a' + i % 26), bytes);
	}
	*ret_len = files * each + 1024;
	return tar;
}

static bool
is_root(void)
{
	if (geteuid() == 0)
		return true;
	print_message("NOT TESTED: disks of our own (mounting needs root)\n");
	return false;
}

/* A new file system in a file, mounted at disk.at. */
static bool
mount_disk(const char *mkfs, const char *size, const char *const extra[4])
{
	const char *argv[] = {mkfs, "-q", extra[0], extra[1], extra[2], extra[3], disk.image, NULL, NULL, NULL, NULL};
	size_t n = 2;

	/* What is not asked for by an fsync is better lost: the journal must not move by itself. */
	disk.options = strcmp(mkfs, "mkfs.ext4") == 0 ? "loop,commit=300" : strcmp(mkfs, "mkfs.xfs") == 0 ? "loop,nouuid" : "loop";
	for (size_t i = 0; i < 4; i++)
		if (extra[i] != NULL)
			argv[n++] = extra[i];
	argv[n++] = disk.image;
	argv[n] = NULL;
	if (COMMAND("truncate", "-s", size, disk.image) != 0 || command(argv) != 0 ||
	    COMMAND("mount", "-o", disk.options, disk.image, disk.at) != 0) {
		print_message("NOT TESTED: %s on a loop device\n", mkfs);
		return false;
	}
	return disk.mounted = true;
}

static int
set_up_disk(void **state)
{
	struct place *p = xcalloc(1, sizeof(*p));
	struct err e;

	if (file_temp_dir("disk", p->dir, sizeof(p->dir), &e) != 0)
		return -1;
	snprintf(p->store_dir, sizeof(p->store_dir), "%.60s/store", p->dir);
	snprintf(disk.at, sizeof(disk.at), "%.60s/disk", p->dir);
	snprintf(disk.image, sizeof(disk.image), "%.60s/image", p->dir);
	snprintf(p->cache_dir, sizeof(p->cache_dir), "%.80s/cache", disk.at);
	p->store = store_dir_new(p->store_dir, &e);
	disk.mounted = false;
	*state = p;
	return p->store != NULL && store_ensure_bucket(p->store, "targets", &e) == 0 && mkdir(disk.at, 0755) == 0 ? 0 : -1;
}

static int
tear_down_disk(void **state)
{
	struct place *p = *state;
	int rc = 0;

	cache_close(p->cache);
	store_free(p->store);
	if (disk.mounted && (rc = umount(disk.at)) != 0)
		(void)umount2(disk.at, MNT_DETACH); /* something of it is still open */
	(void)file_remove_tree(AT_FDCWD, p->dir, NULL);
	free(p);
	return rc;
}

static int
try_get(struct place *p, size_t i, bool tree, struct cache_pin **ret_pin, struct err *e)
{
	struct cache_want w = want(p, i);

	w.tree = tree;
	*ret_pin = NULL;
	return cache_get(p->cache, &w, NULL, ret_pin, e);
}

static void
check_all(struct place *p)
{
	assert_int_equal(names_in(p, "trash"), 0);
	check_account(p);
}

static void
put_noise(struct place *p, size_t n, size_t bytes)
{
	char *data = xmalloc(bytes);

	for (size_t i = 0; i < n; i++) {
		random_bytes(data, bytes);
		put(p, i, data, bytes);
	}
	free(data);
}

/* --- full disks --- */

/* CACHE_MAX_SIZE is larger than the disk: what is unused makes way, what is used stays, and nothing is half there. */
static void
a_full_disk_evicts_and_then_refuses(void **state)
{
	struct place *p = *state;
	struct cache_pin *pins[OBJECTS] = {NULL};
	struct err e = {0};
	size_t held = 0;
	int rc = 0;

	if (!is_root() || !mount_disk("mkfs.ext4", "24M", (const char *const[4]){"-m", "0", NULL, NULL}))
		skip();
	put_noise(p, OBJECTS, 3 * MIB);
	reopen(p);
	for (size_t i = 0; i < OBJECTS; i++) {
		struct cache_pin *pin;

		rc = try_get(p, i, false, &pin, &e);
		if (rc != 0)
			fail_msg("object %zu: %s", i, e.msg);
		assert_true(digest_is(cache_pin_blob(pin), p->sha[i]));
		cache_release(pin);
	}
	check_all(p);
	rc = 0;
	while (held < OBJECTS && (rc = try_get(p, held, false, &pins[held], &e)) == 0)
		held++;
	assert_int_equal(rc, ERR_RETRY);
	assert_non_null(strstr(e.msg, "3 MiB more are needed"));
	assert_true(held >= 4 && held < 8);
	for (size_t i = 0; i < held; i++)
		assert_true(digest_is(cache_pin_blob(pins[i]), p->sha[i]));
	check_all(p);
	cache_release(pins[0]);
	assert_int_equal(try_get(p, held, false, &pins[0], &e), 0);
	for (size_t i = 0; i < held; i++)
		cache_release(pins[i]);
	check_all(p);
}

/* Somebody else fills the disk while the cache holds entries: one emergency eviction, and if that is not enough an error that
 * lets another host try. */
static void
others_bytes_make_entries_go(void **state)
{
	struct place *p = *state;
	struct cache_pin *pin;
	struct err e = {0};
	struct statvfs v;
	char path[160];
	int fd, rc;

	if (!is_root() || !mount_disk("mkfs.ext4", "24M", (const char *const[4]){"-m", "0", NULL, NULL}))
		skip();
	put_noise(p, 3, 3 * MIB);
	reopen(p);
	assert_int_equal(try_get(p, 0, false, &pin, &e), 0);
	cache_release(pin);
	snprintf(path, sizeof(path), "%s/filler", disk.at);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(statvfs(disk.at, &v), 0);
	assert_int_equal(posix_fallocate(fd, 0, (off_t)(v.f_bavail * v.f_frsize) - MIB), 0);
	assert_int_equal(try_get(p, 1, false, &pin, &e), 0);
	rc = try_get(p, 2, false, &(struct cache_pin *){NULL}, &e);
	assert_int_equal(rc, ERR_RETRY);
	assert_true(digest_is(cache_pin_blob(pin), p->sha[1]));
	cache_release(pin);
	close(fd);
	unlink(path);
	check_all(p);
	assert_int_equal(try_get(p, 2, false, &pin, &e), 0);
	cache_release(pin);
}

static void
a_disk_without_inodes_evicts_and_then_refuses(void **state)
{
	struct place *p = *state;
	struct cache_pin *pins[OBJECTS] = {NULL};
	struct err e = {0};
	size_t held = 0;
	int rc = 0;

	/* 11 are the file system's, 8 the cache's own; an entry takes 3, two locks, and at times a group. */
	if (!is_root() || !mount_disk("mkfs.ext4", "16M", (const char *const[4]){"-N", "64", NULL, NULL}))
		skip();
	put_noise(p, OBJECTS, 4096);
	reopen(p);
	for (size_t i = 0; i < OBJECTS; i++) {
		struct cache_pin *pin;

		if ((rc = try_get(p, i, false, &pin, &e)) != 0)
			fail_msg("object %zu: %s", i, e.msg);
		assert_true(digest_is(cache_pin_blob(pin), p->sha[i]));
		cache_release(pin);
	}
	check_all(p);
	rc = 0;
	while (held < OBJECTS && (rc = try_get(p, held, false, &pins[held], &e)) == 0)
		held++;
	assert_int_equal(rc, ERR_RETRY);
	assert_true(held >= 3);
	for (size_t i = 0; i < held; i++) {
		assert_true(digest_is(cache_pin_blob(pins[i]), p->sha[i]));
		cache_release(pins[i]);
	}
	assert_int_equal(try_get(p, held, false, &pins[0], &e), 0);
	cache_release(pins[0]);
	check_all(p);
}

/* A file system that makes inodes as it needs them counts none: that is no lack of them. */
static void
a_disk_without_a_number_of_inodes_has_enough(void **state)
{
	struct place *p = *state;
	struct cache_config c = config_of(p->cache_dir);
	struct cache_pin *pin = NULL;
	struct cache_stats s;
	struct statvfs v;
	struct err e = {0};

	if (!is_root() || !mount_disk("mkfs.btrfs", "256M", (const char *const[4]){NULL, NULL, NULL, NULL}))
		skip();
	assert_int_equal(statvfs(disk.at, &v), 0);
	assert_int_equal(v.f_files, 0);
	put_noise(p, 1, MIB);
	c.min_free_inodes = 5000;
	p->cache = cache_open(&c, &e);
	assert_non_null(p->cache);
	assert_int_equal(try_get(p, 0, false, &pin, &e), 0);
	cache_release(pin);
	assert_int_equal(cache_sweep(p->cache, &e), 0);
	cache_stats(p->cache, &s);
	assert_int_equal(s.entries, 1);
}

/* A tree that outgrows the disk while it is unpacked, by bytes and by inodes. */
static void
a_tree_that_does_not_fit_leaves_nothing(void **state)
{
	static const struct {
		size_t files, bytes;
	} cases[] = {{12, 2 * MIB}, {4000, 10}};
	struct place *p = *state;

	if (!is_root() || !mount_disk("mkfs.ext4", "40M", (const char *const[4]){"-N", "2000", "-m", "0"}))
		skip();
	reopen(p);
	for (size_t i = 0; i < 2; i++) {
		struct cache_pin *pin = NULL;
		struct cache_stats s;
		struct err e = {0};
		size_t len;
		char *tar = make_tar(cases[i].files, cases[i].bytes, &len);

		put(p, i, tar, len);
		free(tar);
		assert_int_equal(try_get(p, i, true, &pin, &e), ERR_RETRY);
		assert_null(pin);
		check_all(p);
		cache_stats(p->cache, &s);
		assert_true(s.entries <= 1); /* the archive may stay */
	}
	{
		struct cache_pin *pin = NULL;
		struct err e = {0};
		size_t len;
		char *tar = make_tar(100, 4096, &len);

		put(p, 2, tar, len);
		free(tar);
		assert_int_equal(try_get(p, 2, true, &pin, &e), 0);
		cache_release(pin);
		check_all(p);
	}
}

/* --- power loss --- */

static int
child(int argc, char **argv)
{
	struct place p = {0};
	struct cache_pin *pin = NULL;
	struct err e = {0};
	char path[256];
	struct stat st;
	bool kept, served;

	if (argc != 6 || (strcmp(argv[1], FILL_FLAG) != 0 && strcmp(argv[1], SERVED_FLAG) != 0))
		return -1;
	if (strcmp(argv[1], SERVED_FLAG) == 0) {
		/* Another boot: for this process alone. */
		snprintf(path, sizeof(path), "%.60s/boot_id", argv[2]);
		if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
		    mount(path, BOOT_ID, NULL, MS_BIND, NULL) != 0)
			return 20;
	}
	snprintf(p.store_dir, sizeof(p.store_dir), "%.60s/store", argv[2]);
	snprintf(p.cache_dir, sizeof(p.cache_dir), "%.95s", argv[3]);
	snprintf(p.sha[0], sizeof(p.sha[0]), "%.64s", argv[4]);
	p.size[0] = atoll(argv[5]);
	p.store = store_dir_new(p.store_dir, &e);
	reopen(&p);
	if (try_get(&p, 0, false, &pin, &e) != 0)
		return 21;
	kept = !cache_pin_was_miss(pin);
	served = digest_is(cache_pin_blob(pin), p.sha[0]);
	cache_release(pin);
	if (try_get(&p, 0, true, &pin, &e) != 0)
		return 22;
	for (int i = 0; served && i < 20; i++) {
		snprintf(path, sizeof(path), "%s/f%d", cache_pin_tree(pin), i);
		served = stat(path, &st) == 0 && st.st_size == 100000;
	}
	cache_release(pin);
	cache_close(p.cache);
	store_free(p.store);
	return !served ? 2 : kept ? 0 : 1;
}

static int
run_self(struct place *p, const char *flag, const char *cache_dir, const char *fault, bool *ret_killed)
{
	char env[64], size[24];
	const char *argv[] = {"/proc/self/exe", flag, p->dir, cache_dir, p->sha[0], size, NULL}, *envp[] = {env, NULL};
	struct proc_spec spec = {.argv = argv, .env = envp, .fds = {-1, 1, 2, -1}};
	struct buf out = buf_make(65536), err_out = buf_make(65536);
	struct proc_exit x = {0};

	snprintf(size, sizeof(size), "%lld", (long long)p->size[0]);
	snprintf(env, sizeof(env), "DROVER_FAULT=%s", fault);
	assert_int_equal(proc_run(&spec, 60000, &out, &err_out, &x, NULL), 0);
	if (x.exited && x.code != 0)
		print_message("%s", buf_str(&err_out));
	buf_release(&out);
	buf_release(&err_out);
	*ret_killed = !x.exited && x.signo == SIGKILL;
	return x.exited ? x.code : -1;
}

/* The file system writes nothing more, not even its log: what the disk has at that instant is all that the next boot finds. That is
 * a copy, because whoever has made a mount namespace meanwhile keeps the old one alive. */
static void
power_cycle(void)
{
	char next[sizeof(disk.image)];
	uint32_t without_log = 2;
	int fd = open(disk.at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, SHUTDOWN, &without_log), 0);
	close(fd);
	assert_int_equal(umount(disk.at), 0);
	disk.mounted = false;
	snprintf(next, sizeof(next), "%.90s+", disk.image);
	assert_int_equal(COMMAND("cp", "--sparse=always", disk.image, next), 0);
	assert_int_equal(unlink(disk.image), 0);
	snprintf(disk.image, sizeof(disk.image), "%s", next);
	assert_int_equal(COMMAND("mount", "-o", disk.options, disk.image, disk.at), 0);
	disk.mounted = true;
}

/* The power goes at a step of a fill, and the next boot mounts what is there. */
static void
lose_power(struct place *p, const char *fault, bool durable)
{
	bool killed;
	int verdict;

	assert_int_equal(file_remove_tree(AT_FDCWD, p->cache_dir, NULL), 0);
	assert_int_equal(COMMAND("sync", "-f", disk.at), 0);
	(void)run_self(p, FILL_FLAG, p->cache_dir, fault, &killed);
	assert_true(killed);
	power_cycle();
	verdict = run_self(p, SERVED_FLAG, p->cache_dir, "none", &killed);
	if (verdict > 1 || verdict < 0)
		fail_msg("power lost at %s: verdict %d", fault, verdict);
	if (durable && verdict != 0)
		fail_msg("power lost at %s: what was published is gone", fault);
}

static void
check_power_loss(struct place *p)
{
	/* From the directories' fsync on the blob outlives everything. */
	static const struct {
		const char *fault;
		bool durable;
	} cases[] = {
		{"cache.reserved", false}, {"cache.downloaded", false}, {"cache.synced", false}, {"cache.renamed", false},
		{"cache.marked", true}, {"cache.charged", true}, {"cache.unpacked", true}, {"cache.tree_moved", true},
		{"cache.marked:2", true}, {"cache.charged:2", true},
	};
	char path[128];
	size_t len;
	char *tar = make_tar(20, 100000, &len);
	FILE *f;

	put(p, 0, tar, len);
	free(tar);
	snprintf(path, sizeof(path), "%.60s/boot_id", p->dir);
	f = fopen(path, "w");
	assert_true(f != NULL && fputs("11111111-2222-3333-4444-555555555555\n", f) >= 0);
	fclose(f);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		lose_power(p, cases[i].fault, cases[i].durable);
}

static void
power_loss_on_ext4_serves_nothing_wrong(void **state)
{
	struct place *p = *state;

	if (!is_root() || !mount_disk("mkfs.ext4", "64M", (const char *const[4]){NULL, NULL, NULL, NULL}))
		skip();
	check_power_loss(p);
}

static void
power_loss_on_xfs_serves_nothing_wrong(void **state)
{
	struct place *p = *state;

	if (!is_root() || !mount_disk("mkfs.xfs", "320M", (const char *const[4]){NULL, NULL, NULL, NULL}))
		skip();
	check_power_loss(p);
}

int
main(int argc, char **argv)
{
#define ON_DISK(test) cmocka_unit_test_setup_teardown(test, set_up_disk, tear_down_disk)
	const struct CMUnitTest tests[] = {
		ON_DISK(a_full_disk_evicts_and_then_refuses), ON_DISK(others_bytes_make_entries_go),
		ON_DISK(a_disk_without_inodes_evicts_and_then_refuses), ON_DISK(a_disk_without_a_number_of_inodes_has_enough),
		ON_DISK(a_tree_that_does_not_fit_leaves_nothing),
		ON_DISK(power_loss_on_ext4_serves_nothing_wrong), ON_DISK(power_loss_on_xfs_serves_nothing_wrong),
	};
	int status = extract_helper_main(argc, argv);

	if (status < 0)
		status = child(argc, argv);
	return status >= 0 ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
