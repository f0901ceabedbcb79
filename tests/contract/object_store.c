/* The object store's contract, held against both backends: a directory, and two real servers that this program starts, MinIO
 * and versitygw.
 * DROVER_STORE=dir, =s3 or =versitygw runs it on one of them only. */
#include <pthread.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include "net/http_client.h"
#include "storage/fetch.h"
#include "store_rig.h"

/* --- tests --- */

static void
sizes_come_back_as_they_went(void **state)
{
	static const int64_t sizes[] = {0, 1, 4095, 65536, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 10 * MIB, 10 * MIB + 1, 17 * MIB};
	const struct put_options o = {.part_bytes = (size_t)(5 * MIB), .parallel = 2};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(put_pattern("sizes/x", sizes[i / 2], i % 2 == 0, &o, (uint8_t)i), 0);
		assert_pattern("sizes/x", sizes[i / 2], (uint8_t)i);
	}
	assert_int_equal(unfinished_uploads(), 0);
}

static void
a_long_stream_of_unknown_size(void **state)
{
	(void)state;
	assert_int_equal(put_pattern("stream", 40 * MIB + 12345, false, NULL, 9), 0);
	assert_pattern("stream", 40 * MIB + 12345, 9);
}

static void
an_overwritten_object_is_new(void **state)
{
	struct object_info first, second;

	(void)state;
	assert_int_equal(put_pattern("over", 100, true, NULL, 1), 0);
	assert_int_equal(store_head(store, BUCKET, "over", &first, NULL), 0);
	assert_int_equal(put_pattern("over", 50, true, NULL, 2), 0);
	assert_int_equal(store_head(store, BUCKET, "over", &second, NULL), 0);
	assert_pattern("over", 50, 2);
	assert_string_not_equal(first.etag, second.etag);
	assert_true(second.modified_real_ms > clock_real_ms() - 60000 && second.modified_real_ms < clock_real_ms() + 60000);
}

/* 1,024 bytes in segments that file systems below a server can hold. */
static const char *
long_key(char out[1025])
{
	memset(out, 'k', 1024);
	for (size_t i = 200; i < 1024; i += 201)
		out[i] = '/';
	out[1023] = 'z';
	out[1024] = '\0';
	return out;
}

struct keys {
	const char *const *want;
	size_t n, at;
};

static int
keys_each(void *arg, const char *key, const struct object_info *info)
{
	struct keys *k = arg;

	assert_true(k->at < k->n);
	assert_string_equal(key, k->want[k->at++]);
	assert_int_equal(info->size_bytes, strlen(key));
	assert_true(info->etag[0] != '\0');
	return 0;
}

static void
odd_keys_come_back_in_order(void **state)
{
	char whole[1025];
	const char *keys[] = { /* in the order of their bytes */
		"odd/ blank", "odd/!", "odd/%2F", "odd/&amp;<x>", "odd/'q'\"", "odd/(1)", "odd/*", "odd/+plus+", "odd/..x", "odd/.hidden",
		"odd/=", "odd/?q=1&b#f", "odd/@at", "odd/a", "odd/a b", "odd/a+b", "odd/a-b", "odd/a0", "odd/b/c", "odd/b/c-d",
		"odd/~tilde", "odd/\xc3\xa9t\xc3\xa9", "odd/\xf0\x9f\x90\x91",
	};
	size_t n = sizeof(keys) / sizeof(keys[0]);
	struct keys k = {keys, n, 0};

	(void)state;
	for (size_t i = n; i-- > 0;)
		assert_int_equal(store_put_bytes(store, BUCKET, keys[i], keys[i], strlen(keys[i]), NULL, NULL, NULL), 0);
	assert_int_equal(store_list(store, BUCKET, "odd/", keys_each, &k, NULL), 0);
	assert_int_equal(k.at, n);
	for (size_t i = 0; i < n; i++) {
		struct buf b = buf_make(1024);

		assert_int_equal(store_get_bytes(store, BUCKET, keys[i], &b, NULL), 0);
		assert_string_equal(buf_str(&b), keys[i]);
		buf_release(&b);
		assert_int_equal(store_remove(store, BUCKET, keys[i], NULL), 0);
		assert_false(is_there(keys[i]));
	}
	assert_int_equal(store_put_bytes(store, BUCKET, long_key(whole), "x", 1, NULL, NULL, NULL), 0);
	assert_true(is_there(whole));
	assert_int_equal(store_remove(store, BUCKET, whole, NULL), 0);
}

static void
a_key_may_begin_another(void **state)
{
	const char *keys[] = {"pre/a", "pre/a/b", "pre/a/b/c"};
	struct keys k = {keys, 3, 0};

	(void)state;
	/* versitygw keeps files, and refuses. */
	if (is_versitygw()) {
		assert_int_equal(store_put_bytes(store, BUCKET, keys[1], "x", 1, NULL, NULL, NULL), 0);
		assert_int_equal(store_put_bytes(store, BUCKET, keys[0], "x", 1, NULL, NULL, NULL), ERR_CONFLICT);
		return;
	}
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(store_put_bytes(store, BUCKET, keys[2 - i], keys[2 - i], strlen(keys[2 - i]), NULL, NULL, NULL), 0);
	/* MinIO stores them but does not list what is below an object. */
	if (!is_s3()) {
		assert_int_equal(store_list(store, BUCKET, "pre/", keys_each, &k, NULL), 0);
		assert_int_equal(k.at, 3);
	}
	assert_int_equal(store_remove(store, BUCKET, "pre/a", NULL), 0);
	assert_false(is_there("pre/a"));
	assert_true(is_there("pre/a/b/c"));
}

static void
bad_names_are_refused_before_anything_happens(void **state)
{
	static const char *const bad[] = {"", "/a", "a/", "a//b", ".", "a/..", "../a", "a/./b", "\xff", "a\xc0\xaf", "\xed\xa0\x80"};
	char toolong[1026];
	struct err e;

	(void)state;
	memset(toolong, 'a', 1025);
	toolong[1025] = '\0';
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(store_put_bytes(store, BUCKET, bad[i], "x", 1, NULL, NULL, &e), ERR_INVALID);
	assert_int_equal(store_remove(store, BUCKET, toolong, &e), ERR_INVALID);
	assert_true(e.hint[0] != '\0');
	assert_int_equal(store_ensure_bucket(store, "../up", &e), ERR_INVALID);
	assert_int_equal(store_ensure_bucket(store, "UPPER", &e), ERR_INVALID);
}

static void
metadata_comes_back(void **state)
{
	const struct object_meta meta[] = {{"sha256", "abc123"}, {"name", "a = b; c, %20 \"q\""}, {"empty-not", "0"}};
	const struct object_meta bad = {"Upper", "x"}, line = {"x", "a\nb"};
	struct put_options o = {.content_type = "text/plain", .meta = meta, .n_meta = 3, .part_bytes = (size_t)(5 * MIB)};
	struct object_info info;

	(void)state;
	for (int big = 0; big < 2; big++) {
		unsigned found = 0;

		assert_int_equal(put_pattern("meta", big ? 6 * MIB : 10, true, &o, 3), 0);
		assert_int_equal(store_head(store, BUCKET, "meta", &info, NULL), 0);
		assert_int_equal(info.n_meta, 3);
		for (size_t i = 0; i < 3; i++)
			for (size_t k = 0; k < 3; k++)
				found += strcmp(info.meta[i].name, meta[k].name) == 0 && strcmp(info.meta[i].value, meta[k].value) == 0;
		assert_int_equal(found, 3);
	}
	o.n_meta = 1;
	o.meta = &bad;
	assert_int_equal(store_put_bytes(store, BUCKET, "meta2", "x", 1, &o, NULL, NULL), ERR_INVALID);
	o.meta = &line;
	assert_int_equal(store_put_bytes(store, BUCKET, "meta2", "x", 1, &o, NULL, NULL), ERR_INVALID);
}

struct race {
	uint8_t seed;
	int64_t size;
	int rc;
};

static void *
race_run(void *arg)
{
	const struct put_options o = {.if_absent = true, .part_bytes = (size_t)(5 * MIB), .parallel = 1};
	struct race *r = arg;

	r->rc = put_pattern("race", r->size, true, &o, r->seed);
	return NULL;
}

static void
of_many_that_want_to_be_first_one_is(void **state)
{
	(void)state;
	for (int big = 0; big < 2; big++) {
		struct race r[6];
		pthread_t t[6];
		/* versitygw looks first and stores afterwards: of several at the same moment the last one wins. */
		bool racy = is_versitygw();
		int won = 0;

		assert_int_equal(store_remove(store, BUCKET, "race", NULL), 0);
		for (uint8_t i = 0; i < 6; i++) {
			r[i] = (struct race){i, big ? 6 * MIB : 1000, 0};
			assert_int_equal(pthread_create(&t[i], NULL, race_run, &r[i]), 0);
		}
		for (int i = 0; i < 6; i++)
			pthread_join(t[i], NULL);
		for (int i = 0; i < 6; i++) {
			assert_true(r[i].rc == 0 || r[i].rc == ERR_CONFLICT);
			won += r[i].rc == 0;
			if (r[i].rc == 0 && !racy)
				assert_pattern("race", r[i].size, r[i].seed);
		}
		assert_true(racy ? won >= 1 : won == 1);
	}
	assert_int_equal(unfinished_uploads(), 0);
}

static void
a_source_that_fails_leaves_nothing(void **state)
{
	static const struct {
		int64_t size, announced, fail_at;
		int rc;
	} cases[] = {
		{1000, 1000, 1, ERR_INVALID}, {30 * MIB, 30 * MIB, 17 * MIB, ERR_INVALID}, {30 * MIB, -1, 17 * MIB, ERR_INVALID},
		{999, 1000, 0, ERR_INVALID}, {1001, 1000, 0, ERR_INVALID}, {12 * MIB, 13 * MIB, 0, ERR_INVALID},
		{12 * MIB + 1, 12 * MIB, 0, ERR_INVALID}, {30 * MIB, 30 * MIB, 17 * MIB, ERR_CANCELED},
	};
	const struct put_options o = {.part_bytes = (size_t)(5 * MIB)};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		atomic_bool stop = false;
		struct pattern p = {.size = cases[i].size, .fail_at = cases[i].fail_at,
		    .stop = cases[i].rc == ERR_CANCELED ? &stop : NULL};
		struct object_source src = {pattern_read, &p, cases[i].announced};
		struct err e = {.code = 0};

		assert_int_equal(store_put(store, BUCKET, "broken", &src, &o, NULL, &stop, &e), cases[i].rc);
		assert_true(e.msg[0] != '\0');
		assert_false(is_there("broken"));
		assert_int_equal(unfinished_uploads(), 0);
	}
}

static void
ranges_give_just_their_bytes(void **state)
{
	static const struct {
		int64_t offset, len, want;
	} cases[] = {
		{0, -1, 1000}, {0, 1, 1}, {10, 20, 20}, {999, 1, 1}, {999, 5, 1}, {500, -1, 500}, {0, 0, 0}, {1000, -1, 0},
		{2000, 5, 0}, {0, 5000, 1000},
	};

	(void)state;
	assert_int_equal(put_pattern("range", 1000, true, NULL, 5), 0);
	assert_int_equal(put_pattern("range0", 0, true, NULL, 5), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct check c = {.at = cases[i].offset, .seed = 5};
		struct object_info info = {.size_bytes = -7};

		assert_int_equal(store_get(store, BUCKET, "range", cases[i].offset, cases[i].len, NULL, check_write, &c, &info,
		    NULL, NULL), 0);
		assert_false(c.wrong);
		assert_int_equal(c.n, cases[i].want);
		assert_int_equal(info.size_bytes, 1000);
		c = (struct check){.at = 0};
		assert_int_equal(store_get(store, BUCKET, "range0", cases[i].offset, cases[i].len, NULL, check_write, &c, &info,
		    NULL, NULL), 0);
		assert_int_equal(c.n, 0);
		assert_int_equal(info.size_bytes, 0);
	}
	assert_int_equal(store_get(store, BUCKET, "range", -1, 5, NULL, check_write, NULL, NULL, NULL, NULL), ERR_INVALID);
}

static int
refuse_write(void *arg, const void *data, size_t len)
{
	(void)data, (void)len;
	++*(int *)arg;
	return ERR_TOOBIG;
}

static void
whole_objects_come_into_files(void **state)
{
	static const int64_t sizes[] = {0, 1, 4096, 65537, MIB, 5 * MIB + 17};
	const struct put_options put = {.part_bytes = (size_t)(5 * MIB)};
	const struct fetch_options o = {.parallel = 3, .range_bytes = (size_t)MIB, .durable = true};
	uint8_t sum[SHA256_LEN], want[SHA256_LEN];
	char dir[256];
	struct err e;
	int at, fd;

	(void)state;
	assert_int_equal(file_temp_dir("drover-fetch", dir, sizeof(dir), &e), 0);
	assert_true((at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
	assert_true((fd = openat(at, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600)) >= 0);
	for (uint8_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct object_info info;
		struct buf b = buf_make((size_t)sizes[i] + 1);

		assert_int_equal(put_pattern("fetch", sizes[i], true, &put, i), 0);
		assert_int_equal(store_fetch(store, BUCKET, "fetch", fd, sizes[i], &o, sum, &info, NULL, &e), 0);
		assert_int_equal(info.size_bytes, sizes[i]);
		assert_int_equal(file_read(at, "f", &b, &e), 0); /* earlier ones leave nothing behind the end */
		assert_int_equal(b.len, sizes[i]);
		for (int64_t k = 0; k < sizes[i]; k++)
			if ((uint8_t)b.data[k] != pattern_byte(k, i))
				fail_msg("byte %lld of %lld", (long long)k, (long long)sizes[i]);
		sha256_of(b.data, b.len, want);
		assert_memory_equal(sum, want, SHA256_LEN);
		assert_int_equal(store_fetch(store, BUCKET, "fetch", fd, sizes[i] + 1, &o, sum, NULL, NULL, &e), ERR_INVALID);
		buf_release(&b);
	}
	assert_int_equal(store_fetch(store, BUCKET, "absent", fd, 1, NULL, sum, NULL, NULL, &e), ERR_NOTFOUND);
	close(fd);
	close(at);
	file_remove_tree(AT_FDCWD, dir, NULL);
}

static void
reads_can_be_refused(void **state)
{
	struct object_info info;
	struct check c = {.seed = 1};
	atomic_bool stop = true;
	struct buf small = buf_make(10);
	int calls = 0;

	(void)state;
	assert_int_equal(put_pattern("refuse", 300000, true, NULL, 1), 0);
	assert_int_equal(store_head(store, BUCKET, "refuse", &info, NULL), 0);
	assert_int_equal(store_get(store, BUCKET, "refuse", 0, -1, info.etag, check_write, &c, NULL, NULL, NULL), 0);
	assert_int_equal(c.n, 300000);
	assert_int_equal(put_pattern("refuse", 300000, true, NULL, 2), 0);
	c = (struct check){.at = 0};
	assert_int_equal(store_get(store, BUCKET, "refuse", 0, -1, info.etag, check_write, &c, NULL, NULL, NULL), ERR_CONFLICT);
	assert_int_equal(store_get(store, BUCKET, "refuse", 0, 0, info.etag, check_write, &c, NULL, NULL, NULL), ERR_CONFLICT);
	assert_int_equal(store_get(store, BUCKET, "nothing", 0, -1, NULL, check_write, &c, NULL, NULL, NULL), ERR_NOTFOUND);
	assert_int_equal(store_get(store, BUCKET, "refuse", 0, -1, NULL, check_write, &c, NULL, &stop, NULL), ERR_CANCELED);
	assert_int_equal(c.n, 0);
	assert_int_equal(store_get(store, BUCKET, "refuse", 0, -1, NULL, refuse_write, &calls, NULL, NULL, NULL), ERR_TOOBIG);
	assert_int_equal(calls, 1);
	assert_int_equal(store_get_bytes(store, BUCKET, "refuse", &small, NULL), ERR_TOOBIG);
	buf_release(&small);
	assert_int_equal(store_head(store, BUCKET, "nothing", &info, NULL), ERR_NOTFOUND);
	assert_int_equal(store_remove(store, BUCKET, "nothing", NULL), 0);
}

#define MANY 2100

static int
many_each(void *arg, const char *key, const struct object_info *info)
{
	char want[40];
	int *at = arg;

	(void)info;
	snprintf(want, sizeof(want), "many/%05d", (*at)++);
	assert_string_equal(key, want);
	return *at == MANY + 1 ? 77 : 0;
}

static int
end_each(void *arg, const char *key, const struct object_info *info)
{
	(void)arg, (void)key, (void)info;
	return 77;
}

static void
long_lists_are_paged(void **state)
{
	char key[40];
	int at = 0, none = 0;

	(void)state;
	for (int i = 0; i < MANY; i++) {
		snprintf(key, sizeof(key), "many/%05d", i);
		assert_int_equal(store_put_bytes(store, BUCKET, key, "x", 1, NULL, NULL, NULL), 0);
	}
	assert_int_equal(store_list(store, BUCKET, "many/", many_each, &at, NULL), 0);
	assert_int_equal(at, MANY);
	at = 1000;
	assert_int_equal(store_list(store, BUCKET, "many/01", many_each, &at, NULL), 0);
	assert_int_equal(at, 2000);
	assert_int_equal(store_list(store, BUCKET, "", end_each, NULL, NULL), 77);
	assert_int_equal(store_list(store, BUCKET, "no-such/", count_each, &none, NULL), 0);
	assert_int_equal(none, 0);
}

static void
copies_take_bytes_and_metadata(void **state)
{
	const struct object_meta meta = {"color", "red"}, other = {"color", "blue"};
	const struct put_options o = {.meta = &meta, .n_meta = 1, .part_bytes = (size_t)(5 * MIB)};
	struct object_info before, after;

	(void)state;
	assert_int_equal(put_pattern("copy from+x", 6 * MIB, true, &o, 8), 0);
	assert_int_equal(store_copy(store, BUCKET, "copy from+x", "copy/to \xc3\xa9", NULL, 0, NULL), 0);
	assert_pattern("copy/to \xc3\xa9", 6 * MIB, 8);
	assert_int_equal(store_head(store, BUCKET, "copy/to \xc3\xa9", &after, NULL), 0);
	assert_string_equal(after.meta[0].value, "red");
	assert_int_equal(store_copy(store, BUCKET, "copy from+x", "copy/to2", &other, 1, NULL), 0);
	assert_int_equal(store_head(store, BUCKET, "copy/to2", &after, NULL), 0);
	assert_int_equal(after.n_meta, 1);
	assert_string_equal(after.meta[0].value, "blue");
	assert_int_equal(store_copy(store, BUCKET, "absent", "copy/to3", NULL, 0, NULL), ERR_NOTFOUND);

	/* Onto itself: dated anew, everything else as it was. Servers give times in seconds. */
	assert_int_equal(store_head(store, BUCKET, "copy from+x", &before, NULL), 0);
	while (clock_real_ms() / 1000 <= before.modified_real_ms / 1000)
		nanosleep(&(struct timespec){0, 20000000}, NULL);
	assert_int_equal(store_copy(store, BUCKET, "copy from+x", "copy from+x", NULL, 0, NULL), 0);
	assert_int_equal(store_head(store, BUCKET, "copy from+x", &after, NULL), 0);
	assert_true(after.modified_real_ms > before.modified_real_ms);
	assert_int_equal(after.n_meta, 1);
	assert_string_equal(after.meta[0].value, "red");
	assert_pattern("copy from+x", 6 * MIB, 8);
}

static void
buckets_can_be_made_twice_and_stores_asked(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(store_ensure_bucket(store, "second-bucket", &e), 0);
	assert_int_equal(store_ensure_bucket(store, "second-bucket", &e), 0);
	assert_int_equal(store_check(store, &e), 0);
	assert_int_equal(store_put_bytes(store, "no-such-bucket", "a", "x", 1, NULL, NULL, &e), ERR_NOTFOUND);
	store_free(NULL);
}

/* --- only a directory --- */

static void
dir_sweeps_what_a_crash_left(void **state)
{
	char stray[400], live[400];
	struct err e;
	struct object_store *again;
	int fd;

	(void)state;
	snprintf(stray, sizeof(stray), "%s/" BUCKET "/.tmp/stray", store_path);
	snprintf(live, sizeof(live), "%s/" BUCKET "/.tmp/live", store_path);
	close(open(stray, O_CREAT | O_WRONLY, 0600));
	assert_true((fd = file_lock(live, &e)) >= 0);
	assert_non_null(again = store_dir_new(store_path, &e));
	store_free(again);
	assert_int_equal(access(stray, F_OK), -1);
	assert_int_equal(access(live, F_OK), 0);
	close(fd);
	unlink(live);
}

static void
dir_refuses_what_it_cannot(void **state)
{
	const struct lifecycle_rule rule = {"t", "", 7};
	char url[100];
	struct err e;

	(void)state;
	assert_int_equal(store_presign(store, BUCKET, "a", 60, url, sizeof(url), &e), ERR_INVALID);
	assert_int_equal(store_lifecycle_merge(store, BUCKET, &rule, 1, &e), ERR_NOTFOUND);
	assert_null(store_dir_new("/proc/no-such", &e));
}

static void
dir_orders_keys_that_are_cut(void **state)
{
	static const char *const ends[] = {"", "-z", "/a", "/b", "0", "nnn"};
	char keys[6][200], cut[81];
	const char *want[6];
	struct keys k = {want, 6, 0};

	(void)state;
	memset(cut, 'n', 80);
	cut[80] = '\0';
	for (int i = 0; i < 6; i++)
		snprintf(keys[i], sizeof(keys[i]), "cut/%s%s", cut, ends[i]);
	for (int i = 5; i >= 0; i--) {
		want[i] = keys[i];
		assert_int_equal(store_put_bytes(store, BUCKET, keys[i], keys[i], strlen(keys[i]), NULL, NULL, NULL), 0);
	}
	assert_int_equal(store_list(store, BUCKET, "cut/nn", keys_each, &k, NULL), 0);
	assert_int_equal(k.at, 6);
}

/* --- only S3 --- */

static int
plain_get(const char *url, struct buf *out)
{
	struct http_client *h = http_client_new(NULL);
	struct http_call c = {.method = "GET", .url = url, .out = out};
	int rc = http_perform(h, &c, NULL);

	http_client_free(h);
	return rc == 0 ? c.status : rc;
}

static void
s3_urls_need_no_credentials(void **state)
{
	static const char key[] = "sign/a +b=%~*\xc3\xa9";
	struct buf out = buf_make(1000000);
	char url[2000];

	(void)state;
	assert_int_equal(store_put_bytes(store, BUCKET, key, "hello", 5, NULL, NULL, NULL), 0);
	assert_int_equal(store_presign(store, BUCKET, key, 60, url, sizeof(url), NULL), 0);
	assert_int_equal(plain_get(url, &out), 200);
	assert_string_equal(buf_str(&out), "hello");
	*strrchr(url, '=') = 'x'; /* no signature any more */
	assert_int_not_equal(plain_get(url, &out), 200);
	assert_int_equal(store_presign(store, BUCKET, key, 60, url, 50, NULL), ERR_TOOBIG);
	assert_int_equal(store_presign(store, BUCKET, key, 604801, url, sizeof(url), NULL), ERR_INVALID);
	buf_release(&out);
}

static void
s3_lifecycle_leaves_foreign_rules_alone(void **state)
{
	const struct lifecycle_rule foreign = {"foreign", "logs/", 90};
	const struct lifecycle_rule ours[] = {{"drover-targets", "targets/", 7}, {"drover-results", "results/<&>", 30}};
	const struct lifecycle_rule later[] = {{"drover-targets", "targets/", 14}};
	char path[400], cmd[600], text[20];
	FILE *f;

	(void)state;
	/* It has none, and says so: who calls sweeps by himself. */
	if (is_versitygw()) {
		assert_int_equal(store_lifecycle_merge(store, BUCKET, ours, 2, NULL), ERR_NOTFOUND);
		return;
	}
	assert_int_equal(store_lifecycle_merge(store, BUCKET, &foreign, 1, NULL), 0);
	assert_int_equal(store_lifecycle_merge(store, BUCKET, ours, 2, NULL), 0);
	assert_int_equal(store_lifecycle_merge(store, BUCKET, ours, 2, NULL), 0);
	assert_int_equal(store_lifecycle_merge(store, BUCKET, later, 1, NULL), 0);
	/* The server's own record shows all three. */
	snprintf(path, sizeof(path), "%s/data/.minio.sys/buckets/" BUCKET "/.metadata.bin/xl.meta", server.dir);
	snprintf(cmd, sizeof(cmd), "grep -ao -e '<ID>foreign</ID>' -e '<Days>90</Days>' -e '<Days>14</Days>' -e '<Days>30</Days>' '%s'"
	    " | wc -l", path);
	assert_non_null(f = popen(cmd, "r"));
	assert_non_null(fgets(text, sizeof(text), f));
	pclose(f);
	assert_string_equal(text, "4\n");
}

static void
s3_says_no_to_wrong_credentials(void **state)
{
	struct store_s3_config c = s3_config();
	struct object_store *s;
	struct err e;

	(void)state;
	c.secret_key = "wrong-wrong-wrong";
	assert_non_null(s = store_s3_new(&c, &e));
	assert_int_equal(store_check(s, &e), ERR_DENIED);
	assert_int_equal(store_put_bytes(s, BUCKET, "a", "x", 1, NULL, NULL, &e), ERR_DENIED);
	assert_true(e.hint[0] != '\0');
	assert_null(strstr(e.msg, c.secret_key));
	store_free(s);
	c.access_key = "nobody";
	assert_non_null(s = store_s3_new(&c, &e));
	assert_int_equal(store_check(s, &e), ERR_DENIED);
	store_free(s);
	c.access_key = "";
	assert_null(store_s3_new(&c, &e));
}

static void
s3_large_copies_go_by_parts(void **state)
{
	const struct object_meta meta = {"color", "red"};
	const struct put_options o = {.meta = &meta, .n_meta = 1};
	struct store_s3_config c = s3_config();
	struct object_store *s;
	struct object_info info;

	(void)state;
	c.copy_limit_bytes = 5 * MIB;
	assert_non_null(s = store_s3_new(&c, NULL));
	assert_int_equal(put_pattern("big", 12 * MIB + 5, true, &o, 4), 0);
	assert_int_equal(store_copy(s, BUCKET, "big", "big2", NULL, 0, NULL), 0);
	assert_pattern("big2", 12 * MIB + 5, 4);
	assert_int_equal(store_head(s, BUCKET, "big2", &info, NULL), 0);
	assert_int_equal(info.n_meta, 1);
	assert_string_equal(info.meta[0].value, "red");
	assert_int_equal(unfinished_uploads(), 0);
	store_free(s);
}

static void
s3_away_is_told_within_the_budget(void **state)
{
	struct store_s3_config c = s3_config();
	struct object_store *s;
	struct err e;
	int64_t start_mono_ms;

	(void)state;
	c.retry_budget_ms = 1500;
	assert_non_null(s = store_s3_new(&c, &e));
	server_kill(&server);
	start_mono_ms = clock_mono_ms();
	assert_int_equal(store_put_bytes(s, BUCKET, "away", "x", 1, NULL, NULL, &e), ERR_RETRY);
	assert_in_range(clock_mono_ms() - start_mono_ms, 0, 4000);
	assert_int_equal(store_check(s, &e), ERR_RETRY);
	assert_true(endpoint.failed > 0);
	store_free(s);
	server_spawn(&server);
	assert_true(server_wait(&server, store));
}

struct moving { /* kills MinIO in the middle of a read and brings it back elsewhere */
	struct pattern p;
	bool moved;
};

static long
moving_read(void *arg, void *out, size_t len, struct err *e)
{
	static char url[64];
	struct moving *m = arg;

	if (!m->moved && m->p.at > 18 * MIB) {
		m->moved = true;
		server_kill(&server);
		snprintf(server.address, sizeof(server.address), "127.0.0.1:%d", free_port());
		snprintf(url, sizeof(url), "http://%s", server.address);
		server_spawn(&server);
		endpoint.url = url;
	}
	return pattern_read(&m->p, out, len, e);
}

static void
s3_may_move_in_the_middle_of_a_put(void **state)
{
	const struct put_options o = {.part_bytes = (size_t)(5 * MIB)};
	struct moving m = {.p = {.size = 30 * MIB, .seed = 6}};
	struct object_source src = {moving_read, &m, -1};
	struct store_s3_config c = s3_config();
	struct object_store *s;
	struct err e = {.code = 0};
	int rc;

	(void)state;
	c.retry_budget_ms = 60000;
	assert_non_null(s = store_s3_new(&c, &e));
	rc = store_put(s, BUCKET, "moved", &src, &o, NULL, NULL, &e);
	if (rc != 0)
		print_error("%s\n", e.msg);
	assert_int_equal(rc, 0);
	assert_true(m.moved);
	assert_pattern("moved", 30 * MIB, 6);
	store_free(s);
}

/* On a file system of its own, because the test machine's may not share blocks. */
static bool
mount_xfs(const char *dir)
{
	char cmd[1200];

	snprintf(cmd, sizeof(cmd), "cd '%s' && truncate -s 320M image && mkfs.xfs -q -m reflink=1 image && mkdir fs && mount -o loop image fs",
	    dir);
	return geteuid() == 0 && system(cmd) == 0;
}

static void
dir_shares_blocks_where_it_can(void **state)
{
	const int64_t size = 9 * MIB + 4097;
	struct object_store *global = store, *mine;
	char dir[256], root[300], file[300];
	uint8_t sum[SHA256_LEN], want[SHA256_LEN];
	struct statvfs before, after;
	struct err e;
	uint8_t *data;
	int fd;

	(void)state;
	assert_int_equal(file_temp_dir("drover-reflink", dir, sizeof(dir), &e), 0);
	if (!mount_xfs(dir)) {
		file_remove_tree(AT_FDCWD, dir, NULL);
		skip();
	}
	snprintf(root, sizeof(root), "%s/fs/store", dir);
	snprintf(file, sizeof(file), "%s/fs/file", dir);
	assert_non_null(mine = store = store_dir_new(root, &e));
	assert_int_equal(store_ensure_bucket(mine, BUCKET, &e), 0);
	assert_int_equal(put_pattern("shared", size, true, NULL, 3), 0);
	store = global;
	assert_true((fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600)) >= 0);
	sync();
	/* From here on it lives as long as what is open in it, whatever fails. */
	snprintf(file, sizeof(file), "%s/fs", dir);
	assert_int_equal(umount2(file, MNT_DETACH), 0);
	assert_int_equal(fstatvfs(fd, &before), 0);
	assert_int_equal(store_fetch(mine, BUCKET, "shared", fd, size, NULL, sum, NULL, NULL, &e), 0);
	assert_int_equal(fsync(fd), 0);
	sync();
	assert_int_equal(fstatvfs(fd, &after), 0);
	assert_true((int64_t)((before.f_bfree - after.f_bfree) * after.f_frsize) < size / 4);
	data = malloc((size_t)size);
	assert_non_null(data);
	assert_int_equal(pread(fd, data, (size_t)size, 0), size);
	for (int64_t i = 0; i < size; i++)
		if (data[i] != pattern_byte(i, 3))
			fail_msg("byte %lld", (long long)i);
	sha256_of(data, (size_t)size, want);
	assert_memory_equal(sum, want, SHA256_LEN);
	free(data);
	close(fd);
	store_free(mine);
	file_remove_tree(AT_FDCWD, dir, NULL);
}

/* --- both runs --- */

static const struct CMUnitTest dir_tests[] = {
	cmocka_unit_test(dir_sweeps_what_a_crash_left), cmocka_unit_test(dir_refuses_what_it_cannot),
	cmocka_unit_test(dir_orders_keys_that_are_cut), cmocka_unit_test(dir_shares_blocks_where_it_can),
};
static const struct CMUnitTest s3_tests[] = {
	cmocka_unit_test(s3_urls_need_no_credentials), cmocka_unit_test(s3_lifecycle_leaves_foreign_rules_alone),
	cmocka_unit_test(s3_says_no_to_wrong_credentials), cmocka_unit_test(s3_large_copies_go_by_parts),
	cmocka_unit_test(s3_away_is_told_within_the_budget), cmocka_unit_test(s3_may_move_in_the_middle_of_a_put),
};
static const struct CMUnitTest both_tests[] = {
	cmocka_unit_test(buckets_can_be_made_twice_and_stores_asked), cmocka_unit_test(sizes_come_back_as_they_went),
	cmocka_unit_test(a_long_stream_of_unknown_size), cmocka_unit_test(an_overwritten_object_is_new),
	cmocka_unit_test(odd_keys_come_back_in_order), cmocka_unit_test(a_key_may_begin_another),
	cmocka_unit_test(bad_names_are_refused_before_anything_happens), cmocka_unit_test(metadata_comes_back),
	cmocka_unit_test(of_many_that_want_to_be_first_one_is), cmocka_unit_test(a_source_that_fails_leaves_nothing),
	cmocka_unit_test(ranges_give_just_their_bytes), cmocka_unit_test(whole_objects_come_into_files),
	cmocka_unit_test(reads_can_be_refused), cmocka_unit_test(long_lists_are_paged), cmocka_unit_test(copies_take_bytes_and_metadata),
};

int
main(void)
{
	return run_suite(&(const struct suite){"object store", both_tests, dir_tests, s3_tests, sizeof(both_tests) / sizeof(both_tests[0]),
	    sizeof(dir_tests) / sizeof(dir_tests[0]), sizeof(s3_tests) / sizeof(s3_tests[0])});
}
