/* drive_transfer: what the storage library alone does with a large object, or with many small ones.
 *
 *   drive_transfer cache  ENDPOINT BUCKET KEY SIZE SHA256 CACHE_DIR    cache_get into an empty cache: verified and durable
 *   drive_transfer fetch  ENDPOINT BUCKET KEY SIZE SHA256 FILE         store_fetch into a file: verified, not synced
 *   drive_transfer phases ENDPOINT BUCKET KEY SIZE SHA256 FILE         the same, and then hashing and fsync of FILE alone
 *   drive_transfer many   ENDPOINT BUCKET LIST THREADS DIR             store_fetch of each "KEY SIZE SHA256" line of LIST into DIR
 *   drive_transfer caches ENDPOINT BUCKET LIST THREADS CACHE_DIR       cache_get of each
 *   drive_transfer put    ENDPOINT BUCKET KEY FILE SHA256              store_put of a file, its digest known as our uploads know it
 *
 * Keys from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; FETCH_PARALLEL, FETCH_RANGE, PUT_PARALLEL and PUT_PART change the
 * limits. One line of JSON: wall_ns from before the store is made until all is done, like a program that is started.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/digest.h"
#include "storage/cache.h"
#include "storage/fetch.h"
#include "storage/object_store.h"

static int64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void
die(const char *what, const struct err *e)
{
	fprintf(stderr, "drive_transfer: %s: %s\n", what, e != NULL ? e->msg : strerror(errno));
	exit(1);
}

static int64_t
number(const char *s)
{
	char *end;
	long long n;

	errno = 0;
	n = s != NULL ? strtoll(s, &end, 10) : 0;
	if (s != NULL && (errno != 0 || *end != '\0' || n < 0))
		die("not a number", NULL);
	return n;
}

/* --- the store --- */

static int
pick(void *arg, char *url, size_t url_len, struct err *e)
{
	(void)e;
	snprintf(url, url_len, "%s", (const char *)arg);
	return 0;
}

static struct object_store *
open_store(char *endpoint)
{
	struct store_s3_config c = {.endpoints = {pick, NULL, endpoint}, .access_key = getenv("AWS_ACCESS_KEY_ID"),
	    .secret_key = getenv("AWS_SECRET_ACCESS_KEY")};
	struct store_limits limits = {.fetch_parallel = (unsigned)number(getenv("FETCH_PARALLEL")),
	    .fetch_range_bytes = (size_t)number(getenv("FETCH_RANGE")), .put_parallel = (unsigned)number(getenv("PUT_PARALLEL")),
	    .put_part_bytes = (size_t)number(getenv("PUT_PART"))};
	struct object_store *s;
	struct err e;

	if ((s = store_s3_new(&c, &e)) == NULL)
		die("store", &e);
	store_set_limits(s, &limits);
	return s;
}

static struct cache *
open_cache(const char *dir)
{
	const struct cache_config c = {.dir = dir, .max_bytes = (int64_t)1 << 40, .ttl_ms = 3600000};
	struct cache *cache;
	struct err e;

	if ((cache = cache_open(&c, &e)) == NULL)
		die(dir, &e);
	return cache;
}

/* --- one object --- */

static void
fetch_verified(struct object_store *s, const char *bucket, const char *key, int64_t size, const char *sha256, int fd)
{
	uint8_t sum[SHA256_LEN];
	char hex[SHA256_HEX_LEN];
	struct err e;

	if (store_fetch(s, bucket, key, fd, size, NULL, sum, NULL, NULL, &e) != 0)
		die(key, &e);
	if (strcmp(hex_encode(sum, sizeof(sum), hex), sha256) != 0) {
		errno = EBADMSG;
		die(key, NULL);
	}
}

static void
get_cached(struct cache *c, struct object_store *s, const char *bucket, const char *key, int64_t size, const char *sha256)
{
	const struct cache_want want = {.store = s, .bucket = bucket, .key = key, .sha256 = sha256, .size_bytes = size};
	struct cache_pin *pin;
	struct err e;

	if (cache_get(c, &want, NULL, &pin, &e) != 0)
		die(key, &e);
	if (!cache_pin_was_miss(pin)) {
		errno = EEXIST;
		die("not a cold cache", NULL);
	}
	cache_release(pin);
}

static int
open_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		die(path, NULL);
	return fd;
}

static int64_t
hash_ns(int fd)
{
	static char block[256 * 1024];
	struct sha256 *digest = sha256_new();
	uint8_t sum[SHA256_LEN];
	int64_t began = now_ns();
	off_t at = 0;
	ssize_t n;

	for (; (n = pread(fd, block, sizeof(block), at)) > 0; at += n)
		sha256_add(digest, block, (size_t)n);
	if (n < 0)
		die("read", NULL);
	sha256_end(digest, sum);
	return now_ns() - began;
}

/* --- many objects --- */

struct line {
	char key[200], sha256[SHA256_HEX_LEN];
	long long size;
};

struct many {
	struct object_store *s;
	struct cache *cache; /* NULL: into files */
	const char *bucket, *dir;
	struct line *lines;
	size_t n;
	atomic_size_t next;
};

static void *
many_run(void *arg)
{
	struct many *m = arg;
	char path[4096];
	size_t i;

	while ((i = atomic_fetch_add(&m->next, 1)) < m->n) {
		const struct line *l = &m->lines[i];
		int fd;

		if (m->cache != NULL) {
			get_cached(m->cache, m->s, m->bucket, l->key, l->size, l->sha256);
			continue;
		}
		snprintf(path, sizeof(path), "%s/%zu", m->dir, i);
		fd = open_file(path);
		fetch_verified(m->s, m->bucket, l->key, l->size, l->sha256, fd);
		close(fd);
	}
	return NULL;
}

static void
read_list(struct many *m, const char *path)
{
	FILE *f = fopen(path, "re");
	struct line l;

	if (f == NULL)
		die(path, NULL);
	while (fscanf(f, "%199s %lld %64s", l.key, &l.size, l.sha256) == 3) {
		m->lines = realloc(m->lines, (m->n + 1) * sizeof(l));
		if (m->lines == NULL)
			die(path, NULL);
		m->lines[m->n++] = l;
	}
	fclose(f);
}

static void
many_threads(struct many *m, size_t n)
{
	pthread_t threads[64];

	if (n == 0 || n > sizeof(threads) / sizeof(threads[0]))
		die("threads", NULL);
	for (size_t i = 0; i < n; i++)
		if ((errno = pthread_create(&threads[i], NULL, many_run, m)) != 0)
			die("thread", NULL);
	for (size_t i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}

/* --- put --- */

static long
read_file(void *arg, void *out, size_t len, struct err *e)
{
	ssize_t n = read(*(int *)arg, out, len);

	return n >= 0 ? (long)n : err_set(e, ERR_IO, "read: %s", strerror(errno));
}

static void
put_file(struct object_store *s, const char *bucket, const char *key, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct object_source src = {read_file, &fd, 0};
	struct stat st;
	struct err e;

	if (fd < 0 || fstat(fd, &st) != 0)
		die(path, NULL);
	src.size_bytes = st.st_size;
	if (store_put(s, bucket, key, &src, NULL, NULL, NULL, &e) != 0)
		die(key, &e);
	close(fd);
}

/* --- the whole --- */

/* Of this program alone: what getrusage tells began with the process that forked it. */
static long
peak_kb(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[200];
	long kb = 0;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "VmHWM: %ld kB", &kb) == 1)
			break;
	if (f != NULL)
		fclose(f);
	return kb;
}

static void
report(int64_t wall_ns, int64_t hashing_ns, int64_t fsync_ns)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	printf("{\"wall_ns\":%lld,\"hash_ns\":%lld,\"fsync_ns\":%lld,\"cpu_ns\":%lld,\"peak_kb\":%ld}\n", (long long)wall_ns,
	    (long long)hashing_ns, (long long)fsync_ns,
	    ((long long)u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000 +
	    ((long long)u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000, peak_kb());
}

int
main(int argc, char **argv)
{
	int64_t began = now_ns(), hashing_ns = 0, fsync_ns = 0, took_ns;
	struct many m = {.n = 0};
	struct object_store *s;
	const char *what;
	int fd;

	if (argc < 7)
		return fputs("usage: see the head of drive_transfer.c\n", stderr), 2;
	what = argv[1];
	s = open_store(argv[2]);
	m.s = s;
	m.bucket = argv[3];
	if (strcmp(what, "cache") == 0 && argc == 8) {
		m.cache = open_cache(argv[7]);
		get_cached(m.cache, s, argv[3], argv[4], number(argv[5]), argv[6]);
		took_ns = now_ns() - began;
	} else if ((strcmp(what, "fetch") == 0 || strcmp(what, "phases") == 0) && argc == 8) {
		fd = open_file(argv[7]);
		fetch_verified(s, argv[3], argv[4], number(argv[5]), argv[6], fd);
		took_ns = now_ns() - began;
		if (what[0] == 'p') {
			hashing_ns = hash_ns(fd);
			fsync_ns = -now_ns();
			if (fsync(fd) != 0)
				die("fsync", NULL);
			fsync_ns += now_ns();
		}
		close(fd);
	} else if (strcmp(what, "many") == 0 || strcmp(what, "caches") == 0) {
		read_list(&m, argv[4]);
		m.dir = argv[6];
		m.cache = what[0] == 'c' ? open_cache(argv[6]) : NULL;
		many_threads(&m, (size_t)number(argv[5]));
		took_ns = now_ns() - began;
		free(m.lines);
	} else if (strcmp(what, "put") == 0) {
		put_file(s, argv[3], argv[4], argv[5]);
		took_ns = now_ns() - began;
	} else {
		return fputs("usage: see the head of drive_transfer.c\n", stderr), 2;
	}
	cache_close(m.cache);
	store_free(s);
	report(took_ns, hashing_ns, fsync_ns);
	return 0;
}
