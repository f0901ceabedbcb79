/* drive_workspace DIR TAR METHOD [MODE]: workspaces of one target, made and ended by the worker's own calls.
 *
 * Unpacks TAR into a cache in DIR, says "ready METHOD TREE", and then for each line on stdin opens and closes a workspace and prints one
 * line: microseconds until it is ready, until its tear-down lets the report go, and until the last of it is deleted. Line "use": in
 * between every file is read and every hundredth is written. A worker's user ids are used. METHOD: overlay, reflink, copy. */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "storage/extract.h"
#include "storage/workspace.h"

#define UID_BASE 64000 /* the default of SANDBOX_UID_BASE */
#define BUCKET "bench"
#define WAIT_MS 60000

static int
die(const struct err *e)
{
	fprintf(stderr, "drive_workspace: %s\n", e->msg);
	return 1;
}

struct reading {
	int fd;
	struct sha256 *digest;
};

static long
read_tar(void *arg, void *out, size_t len, struct err *e)
{
	struct reading *r = arg;
	ssize_t n = read(r->fd, out, len);

	if (n < 0)
		return err_set(e, ERR_IO, "cannot read the archive");
	sha256_add(r->digest, out, (size_t)n);
	return n;
}

/* Stores the archive and pins its unpacked tree. */
static int
pin_tree(struct cache *cache, struct object_store *store, const char *tar, struct cache_pin **ret_pin, struct err *e)
{
	struct reading reading = {.fd = open(tar, O_RDONLY | O_CLOEXEC)};
	struct object_source src = {.read = read_tar, .arg = &reading};
	struct cache_want want = {.store = store, .bucket = BUCKET, .key = "target", .tree = true};
	struct put_options options = {0};
	struct object_info info;
	struct stat st;
	uint8_t digest[SHA256_LEN];
	char hex[SHA256_HEX_LEN];
	int rc;

	if (reading.fd < 0 || fstat(reading.fd, &st) != 0)
		return err_set(e, ERR_IO, "cannot open %s", tar);
	reading.digest = sha256_new();
	src.size_bytes = st.st_size;
	if ((rc = store_ensure_bucket(store, BUCKET, e)) == 0)
		rc = store_put(store, BUCKET, "target", &src, &options, &info, NULL, e);
	close(reading.fd);
	sha256_end(reading.digest, digest);
	if (rc != 0)
		return rc;
	want.sha256 = hex_encode(digest, sizeof(digest), hex);
	want.size_bytes = st.st_size;
	return cache_get(cache, &want, NULL, ret_pin, e);
}

/* What a tool does that looks at everything and changes a little. */
static int
use_file(const char *path, const struct stat *st, int type, struct FTW *at)
{
	static unsigned long turn;
	char block[65536];
	int fd;

	(void)st;
	(void)at;
	if (type != FTW_F)
		return 0;
	fd = open(path, ++turn % 100 == 0 ? O_RDWR : O_RDONLY);
	while (fd >= 0 && read(fd, block, sizeof(block)) > 0)
		;
	if (fd < 0 || (turn % 100 == 0 && write(fd, "x", 1) != 1))
		return -1;
	return close(fd);
}

static int
cycle(const char *cache_dir, enum workspace_method method, struct cache_pin *pin, enum workspace_mode mode, bool use, struct err *e)
{
	struct workspaces *w = workspaces_open(cache_dir, method, e);
	struct workspace_want want = {.target_id = "target", .run_id = "run", .pin = pin, .mode = mode, .uid = UID_BASE + 1, .gid = UID_BASE};
	struct workspace ws;
	int64_t began_us, ready_us, closing_us, closed_us;

	if (w == NULL)
		return ERR_IO;
	began_us = clock_mono_us();
	if (workspace_open(w, &want, &ws, e) != 0)
		return ERR_IO;
	ready_us = clock_mono_us();
	if (ws.method != method && mode != WORKSPACE_SHARED)
		return err_set(e, ERR_IO, "the method is %s", workspace_method_word(ws.method));
	if (use && nftw(ws.source, use_file, 16, FTW_PHYS) != 0)
		return err_set(e, ERR_IO, "cannot use %s", ws.source);
	closing_us = clock_mono_us();
	if (workspace_close(w, &ws, e) != 0)
		return ERR_IO;
	closed_us = clock_mono_us();
	workspaces_close(w, clock_mono_ms() + WAIT_MS);
	printf("%lld %lld %lld\n", (long long)(ready_us - began_us), (long long)(closed_us - closing_us),
	    (long long)(clock_mono_us() - closing_us));
	fflush(stdout);
	return 0;
}

static int
serve(const char *dir, const char *tar, enum workspace_method method, enum workspace_mode mode, struct err *e)
{
	char cache_dir[512], store_dir[512], line[16];
	struct cache_config c = {.dir = cache_dir, .max_bytes = INT64_C(1) << 40, .ttl_ms = 86400000, .uid = geteuid() == 0 ? UID_BASE : geteuid(),
	    .gid = geteuid() == 0 ? UID_BASE : getegid(), .limits = extract_limits_default()};
	struct object_store *store;
	struct cache *cache;
	struct cache_pin *pin = NULL;
	int rc = ERR_IO;

	snprintf(cache_dir, sizeof(cache_dir), "%s/cache", dir);
	snprintf(store_dir, sizeof(store_dir), "%s/store", dir);
	store = store_dir_new(store_dir, e);
	cache = cache_open(&c, e);
	if (store != NULL && cache != NULL)
		rc = pin_tree(cache, store, tar, &pin, e);
	if (rc == 0) {
		printf("ready %s %s\n", workspace_method_word(method), cache_pin_tree(pin));
		fflush(stdout);
		while (rc == 0 && fgets(line, sizeof(line), stdin) != NULL)
			rc = cycle(cache_dir, method, pin, mode, strcmp(line, "use\n") == 0, e);
	}
	cache_release(pin);
	cache_close(cache);
	store_free(store);
	return rc;
}

int
main(int argc, char **argv)
{
	enum workspace_method method = WORKSPACE_OVERLAY;
	enum workspace_mode mode = WORKSPACE_COPY_ON_WRITE;
	struct err e = {0};
	int rc = extract_helper_main(argc, argv);

	if (rc >= 0)
		return rc;
	if (argc < 4) {
		fprintf(stderr, "usage: drive_workspace DIR TAR METHOD [MODE]\n");
		return 2;
	}
	while (method < WORKSPACE_DIRECT && strcmp(workspace_method_word(method), argv[3]) != 0)
		method++;
	while (argc > 4 && mode > WORKSPACE_ISOLATED && strcmp(workspace_mode_word(mode), argv[4]) != 0)
		mode--;
	workspaces_own_mounts();
	return serve(argv[1], argv[2], method, mode, &e) == 0 ? 0 : die(&e);
}
