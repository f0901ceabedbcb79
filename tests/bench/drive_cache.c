/* drive_cache: what a node's cache does for many runs, and what evicting costs.
 *
 *   drive_cache run ENDPOINT BUCKET KEY SIZE SHA256 CACHE_DIR ID   one run of a worker of its own: prints "ready", waits for a line,
 *       pins the unpacked target and opens a workspace on it, prints {"fetched_bytes", "gets", "miss", "wall_ns", "method"}, waits for
 *       another line, and lets go
 *   drive_cache evict CACHE_DIR ENTRIES BATCH   fills an empty cache with ENTRIES small entries, makes its index, prints
 *       {"make_us_per_entry"}, and for each line that it reads evicts BATCH entries at once and prints {"us_per_entry",
 *       "cpu_us_per_entry"}
 *
 * Keys from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/digest.h"
#include "storage/cache.h"
#include "storage/cache_parts.h"
#include "storage/workspace.h"

static int64_t
clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t
now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static void
die(const char *what, const struct err *e)
{
	fprintf(stderr, "drive_cache: %s: %s\n", what, e != NULL ? e->msg : strerror(errno));
	exit(1);
}

static int64_t
number(const char *s)
{
	char *end;
	long long n;

	errno = 0;
	n = strtoll(s, &end, 10);
	if (errno != 0 || *end != '\0' || n < 0)
		die("not a number", NULL);
	return n;
}

static struct cache *
open_cache(const char *dir)
{
	const struct cache_config c = {.dir = dir, .max_bytes = (int64_t)1 << 40, .ttl_ms = 3600000, .uid = geteuid(), .gid = getegid(),
	    .limits = extract_limits_default()};
	struct cache *cache;
	struct err e;

	if ((cache = cache_open(&c, &e)) == NULL)
		die(dir, &e);
	return cache;
}

/* --- one run --- */

struct counted { /* a store that counts what it was sent */
	struct object_store s;
	struct object_store *real;
	_Atomic int64_t gets, bytes;
};

struct counting {
	struct counted *store;
	int (*write)(void *arg, const void *data, size_t len);
	void *arg;
};

static int
count_bytes(void *arg, const void *data, size_t len)
{
	struct counting *c = arg;

	c->store->bytes += (int64_t)len;
	return c->write(c->arg, data, len);
}

static int
counted_get(struct object_store *s, const char *bucket, const char *key, int64_t offset, int64_t len, const char *if_match,
    int (*write_cb)(void *arg, const void *data, size_t n), void *arg, struct object_info *info, const atomic_bool *stop,
    struct err *e)
{
	struct counted *c = (struct counted *)(void *)s;
	struct counting with = {c, write_cb, arg};

	c->gets++;
	return store_get(c->real, bucket, key, offset, len, if_match, count_bytes, &with, info, stop, e);
}

static int
pick(void *arg, char *url, size_t url_len, struct err *e)
{
	(void)e;
	snprintf(url, url_len, "%s", (const char *)arg);
	return 0;
}

static void
wait_for_line(void)
{
	char line[16];

	if (fgets(line, sizeof(line), stdin) == NULL)
		exit(1);
}

static int
run(char **argv)
{
	struct store_s3_config config = {.endpoints = {pick, NULL, argv[0]}, .access_key = getenv("AWS_ACCESS_KEY_ID"),
	    .secret_key = getenv("AWS_SECRET_ACCESS_KEY")};
	static struct object_store_ops ops;
	struct counted store;
	struct cache_want want = {.store = &store.s, .bucket = argv[1], .key = argv[2], .size_bytes = number(argv[3]),
	    .sha256 = argv[4], .tree = true};
	struct workspace_want place = {.target_id = "target", .run_id = argv[6], .mode = WORKSPACE_ISOLATED,
	    .uid = geteuid(), .gid = getegid()};
	struct workspace ws;
	struct workspaces *spaces;
	struct cache_pin *pin;
	struct cache *cache;
	struct err e;
	int64_t began_ns;

	workspaces_own_mounts();
	memset(&store, 0, sizeof(store));
	if ((store.real = store_s3_new(&config, &e)) == NULL)
		die("store", &e);
	store.s = *store.real;
	ops = *store.real->ops;
	ops.get = counted_get;
	store.s.ops = &ops;
	cache = open_cache(argv[5]);
	if ((spaces = workspaces_open(argv[5], WORKSPACE_OVERLAY, &e)) == NULL)
		die("workspaces", &e);
	puts("ready");
	fflush(stdout);
	wait_for_line();
	began_ns = now_ns();
	if (cache_get(cache, &want, NULL, &pin, &e) != 0)
		die("cache_get", &e);
	place.pin = pin;
	if (workspace_open(spaces, &place, &ws, &e) != 0)
		die("workspace_open", &e);
	printf("{\"fetched_bytes\": %lld, \"gets\": %lld, \"miss\": %s, \"wall_ns\": %lld, \"method\": \"%s\"}\n", (long long)store.bytes,
	    (long long)store.gets, cache_pin_was_miss(pin) ? "true" : "false", (long long)(now_ns() - began_ns),
	    workspace_method_word(ws.method));
	fflush(stdout);
	wait_for_line();
	if (workspace_close(spaces, &ws, &e) != 0)
		die("workspace_close", &e);
	cache_release(pin);
	workspaces_close(spaces, now_ns() / 1000000 + 10000);
	cache_close(cache);
	store_free(store.real);
	return 0;
}

/* --- evicting --- */

static void
write_small(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		die(path, NULL);
	close(fd);
}

/* An entry as a fill leaves it, locks included. */
static void
make_entry(const char *dir, int64_t i, const char *boot_id)
{
	char path[400], name[CACHE_ENTRY_LEN], hex[SHA256_HEX_LEN], mark[160];
	uint8_t sum[SHA256_LEN];

	sha256_of(&i, sizeof(i), sum);
	cache_entry_name(hex_encode(sum, sizeof(sum), hex), false, name);
	snprintf(path, sizeof(path), "%.200s/objects/%.2s", dir, name);
	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		die(path, NULL);
	snprintf(path, sizeof(path), "%.200s/objects/%.2s/%s", dir, name, name);
	if (mkdir(path, 0700) != 0)
		die(path, NULL);
	snprintf(path, sizeof(path), "%.200s/objects/%.2s/%s/data", dir, name, name);
	write_small(path, "");
	snprintf(path, sizeof(path), "%.200s/objects/%.2s/%s/mark", dir, name, name);
	snprintf(mark, sizeof(mark), "%.36s 8192 3 0\n", boot_id);
	write_small(path, mark);
	snprintf(path, sizeof(path), "%.200s/locks/%s", dir, name);
	write_small(path, "");
	snprintf(path, sizeof(path), "%.200s/locks/%s.fill", dir, name);
	write_small(path, "");
}

static int
evict(char **argv)
{
	int64_t entries = number(argv[1]), batch = number(argv[2]), began_ns, cpu_ns;
	struct cache *cache = open_cache(argv[0]);
	char boot_id[64] = "", line[16];
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
	struct cache_stats s;
	struct err e = {0};

	if (f == NULL || fgets(boot_id, sizeof(boot_id), f) == NULL)
		die("boot_id", NULL);
	fclose(f);
	for (int64_t i = 0; i < entries; i++)
		make_entry(argv[0], i, boot_id);
	began_ns = now_ns();
	if (index_rebuild(cache, &e) != 0)
		die("index", &e);
	printf("{\"make_us_per_entry\": %.3f}\n", (double)(now_ns() - began_ns) / 1e3 / (double)entries);
	fflush(stdout);
	cache_stats(cache, &s);
	if (s.entries != entries)
		die("the index has another number of entries", NULL);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		int64_t before = s.evictions;

		began_ns = now_ns();
		cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
		if (cache_emergency(cache, batch * (s.bytes / s.entries), &e) != 0)
			die("evict", &e);
		began_ns = now_ns() - began_ns;
		cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns;
		cache_stats(cache, &s);
		if (s.evictions - before < batch)
			die("fewer were evicted", NULL);
		printf("{\"us_per_entry\": %.3f, \"cpu_us_per_entry\": %.3f}\n", (double)began_ns / 1e3 / (double)(s.evictions - before),
		    (double)cpu_ns / 1e3 / (double)(s.evictions - before));
		fflush(stdout);
	}
	cache_close(cache);
	return 0;
}

int
main(int argc, char **argv)
{
	int status = extract_helper_main(argc, argv);

	if (status >= 0)
		return status;
	if (argc == 9 && strcmp(argv[1], "run") == 0)
		return run(argv + 2);
	if (argc == 5 && strcmp(argv[1], "evict") == 0)
		return evict(argv + 2);
	fprintf(stderr, "usage: drive_cache run|evict ... (see the source)\n");
	return 2;
}
