/* A whole object from a server that misbehaves: never a wrong byte, never more asked for again than what broke, and an end in time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "s3_object_peer.h"
#include "storage/fetch.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))
#define MIB ((int64_t)1024 * 1024)
#define BUDGET_MS 2000
#define STALL_MS 300
#define ERROR(code) "<?xml version=\"1.0\"?><Error><Code>" code "</Code><Message>m</Message></Error>"

static struct object_peer peer;
static struct object_store *store;
static char dir[256], path[300];
static int fd;
static struct err e;

static int
pick(void *arg, char *url, size_t url_len, struct err *err)
{
	(void)arg, (void)err;
	snprintf(url, url_len, "%s", peer.url);
	return 0;
}

static void
begin(int64_t size, struct peer_rule *rules, size_t n)
{
	const struct store_s3_config c = {.endpoints = {pick, NULL, NULL}, .access_key = "key", .secret_key = "secret",
	    .retry_budget_ms = BUDGET_MS, .stall_ms = STALL_MS, .min_speed_bytes = 4096};

	object_peer_start(&peer, size, rules, n);
	assert_non_null(store = store_s3_new(&c, &e));
	assert_int_equal(file_temp_dir("drover-fetch", dir, sizeof(dir), &e), 0);
	snprintf(path, sizeof(path), "%s/file", dir);
	assert_true((fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) >= 0);
	memset(&e, 0, sizeof(e));
}

static void
end(void)
{
	store_free(store);
	object_peer_end(&peer);
	close(fd);
	file_remove_tree(AT_FDCWD, dir, NULL);
}

/* The digest of the object's bytes from offset 0. */
static void
digest_of(int64_t size, int version, uint8_t out[SHA256_LEN])
{
	struct sha256 *s = sha256_new();
	uint8_t block[4096];

	for (int64_t at = 0; at < size;) {
		size_t n = 0;

		for (; n < sizeof(block) && at < size; n++, at++)
			block[n] = peer_byte(at, version);
		sha256_add(s, block, n);
	}
	sha256_end(s, out);
}

static int
fetch(int64_t size, unsigned parallel, uint8_t sum[SHA256_LEN])
{
	const struct fetch_options o = {.parallel = parallel, .range_bytes = (size_t)MIB};
	struct object_info info;

	return store_fetch(store, "bucket", "x", fd, size, &o, sum, &info, NULL, &e);
}

/* Fetches and looks at every byte in the file, and at the digest. */
static void
assert_fetches(unsigned parallel)
{
	uint8_t got[SHA256_LEN], want[SHA256_LEN], block[4096];
	struct stat st;
	int rc = fetch(peer.size, parallel, got);

	if (rc != 0)
		print_error("%s\n", e.msg);
	assert_int_equal(rc, 0);
	digest_of(peer.size, peer.version, want);
	assert_memory_equal(got, want, SHA256_LEN);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, peer.size);
	for (int64_t at = 0; at < peer.size; at += (int64_t)sizeof(block)) {
		ssize_t n = pread(fd, block, sizeof(block), at);

		for (ssize_t i = 0; i < n; i++)
			if (block[i] != peer_byte(at + i, peer.version))
				fail_msg("byte %lld", (long long)(at + i));
	}
}

/* Bytes of the object that the server was asked for, all requests together. */
static int64_t
asked_bytes(void)
{
	int64_t sum = 0;

	for (size_t i = 0; i < peer.n_log; i++)
		sum += (peer.log[i].end < 0 ? peer.size - 1 : peer.log[i].end) - peer.log[i].offset + 1;
	return sum;
}

static void
what_is_small_is_one_request(void **state)
{
	static const int64_t sizes[] = {0, 1, 65536, MIB - 1, MIB};

	(void)state;
	for (size_t i = 0; i < N(sizes); i++) {
		begin(sizes[i], NULL, 0);
		assert_fetches(4);
		object_peer_end(&peer);
		assert_int_equal(peer.n_log, 1);
		assert_int_equal(peer.log[0].end, -1);
		end();
	}
}

static void
a_fast_line_needs_one_connection(void **state)
{
	(void)state;
	begin(12 * MIB + 345, NULL, 0);
	assert_fetches(1);
	object_peer_end(&peer);
	assert_int_equal(peer.n_threads, 1);
	assert_int_equal(asked_bytes(), peer.size);
	for (size_t i = 1; i < peer.n_log; i++)
		assert_string_equal(peer.log[i].if_match, "\"v1\"");
	end();
}

/* A slow one gets company: ranges in parallel, each asked for once, all under the first answer's etag. */
static void
a_slow_line_gets_company(void **state)
{
	(void)state;
	begin(16 * MIB + 345, NULL, 0);
	peer.pause_ms = 5;
	assert_fetches(4);
	object_peer_end(&peer);
	assert_in_range(peer.open_max, 2, 4);
	assert_in_range(peer.n_threads, 2, 4); /* connections are kept */
	assert_int_equal(asked_bytes(), peer.size);
	assert_string_equal(peer.log[0].if_match, "");
	for (size_t i = 1; i < peer.n_log; i++)
		assert_string_equal(peer.log[i].if_match, "\"v1\"");
	end();
}

/* What breaks in a range is asked for from where it broke; nothing else is asked for twice. */
static void
only_what_broke_comes_again(void **state)
{
	static const struct {
		enum peer_fault fault;
		int64_t offset, arg;
		const char *text;
	} cases[] = {
		{PEER_RESET, 0, 300000, NULL}, {PEER_RESET, 3 * MIB, 300000, NULL}, {PEER_RESET, 5 * MIB, -1, NULL},
		{PEER_TRUNCATE, 0, 70000, NULL}, {PEER_TRUNCATE, 7 * MIB, 999999, NULL}, {PEER_STALL, 0, 100000, NULL},
		{PEER_STALL, 4 * MIB, 0, NULL}, {PEER_TRICKLE, 3 * MIB, 200000, NULL},
		{PEER_STATUS, 3 * MIB, 503, ERROR("SlowDown")}, {PEER_STATUS, 3 * MIB, 429, ERROR("TooManyRequests")},
		{PEER_STATUS, 0, 500, ERROR("InternalError")}, {PEER_STATUS, 3 * MIB, 502, "<html>"}, {PEER_STATUS, 3 * MIB, 504, NULL},
		{PEER_STATUS, 3 * MIB, 400, ERROR("RequestTimeout")},
	};

	(void)state;
	for (size_t i = 0; i < N(cases); i++) {
		struct peer_rule rule = {cases[i].offset, 2, cases[i].fault, cases[i].arg, cases[i].text, NULL};
		int64_t came = 0;

		begin(10 * MIB + 17, &rule, 1);
		peer.pause_ms = 3;
		assert_fetches(4);
		object_peer_end(&peer);
		assert_true(rule.times < 2);
		/* What was sent is the object once, plus what was on its way when a connection was given up (buffers of the
		 * kernel). */
		for (size_t k = 0; k < peer.n_log; k++)
			came += peer.log[k].sent;
		assert_in_range(came, peer.size, peer.size + (cases[i].fault == PEER_STATUS ? 0 : 2 * 65536));
		for (size_t k = 1; k < peer.n_log; k++)
			assert_true(peer.log[k].offset > 0 || peer.log[k].status == 0 || rule.offset == 0);
		end();
	}
}

/* While one range is stuck the others do not run away from it: what is ahead of the hashing is bounded. */
static void
nobody_runs_far_ahead(void **state)
{
	enum { RANGE = 64 * 1024, STUCK = 150, WINDOW = 64, RANGES = 400 };
	const struct fetch_options o = {.parallel = 4, .range_bytes = RANGE};
	struct peer_rule rule = {STUCK * RANGE, 1, PEER_STALL, 0, NULL, NULL};
	uint8_t got[SHA256_LEN], want[SHA256_LEN];
	size_t asked = 0;

	(void)state;
	begin(RANGES * RANGE, &rule, 1);
	peer.pause_ms = 1;
	assert_int_equal(store_fetch(store, "bucket", "x", fd, peer.size, &o, got, NULL, NULL, &e), 0);
	digest_of(peer.size, peer.version, want);
	assert_memory_equal(got, want, SHA256_LEN);
	object_peer_end(&peer);
	for (size_t k = 0; k < peer.n_log && asked < 2; k++) {
		asked += peer.log[k].offset >= STUCK * RANGE && peer.log[k].offset < (STUCK + 1) * RANGE;
		if (asked < 2)
			assert_true(peer.log[k].offset < (STUCK + WINDOW) * RANGE);
	}
	assert_true(asked == 2 || rule.times == 1); /* one stream alone may have passed there in a longer request */
	end();
}

/* What no second request can mend ends at once, and says why. */
static void
what_is_final_ends_it(void **state)
{
	static const struct {
		enum peer_fault fault;
		int64_t offset, arg;
		const char *text;
		int rc;
	} cases[] = {
		{PEER_STATUS, 0, 403, ERROR("AccessDenied"), ERR_DENIED}, {PEER_STATUS, 0, 404, ERROR("NoSuchKey"), ERR_NOTFOUND},
		{PEER_STATUS, 4 * MIB, 404, ERROR("NoSuchKey"), ERR_NOTFOUND}, {PEER_STATUS, 0, 301, NULL, ERR_PROTO},
		{PEER_STATUS, 3 * MIB, 307, NULL, ERR_PROTO}, {PEER_STATUS, 0, 403, ERROR("SignatureDoesNotMatch"), ERR_DENIED},
		{PEER_LIE_TOTAL, 0, 10 * MIB + 1, NULL, ERR_INVALID}, {PEER_LIE_TOTAL, 0, MIB, NULL, ERR_INVALID},
		{PEER_ALL, 3 * MIB, 0, NULL, ERR_PROTO}, {PEER_ELSEWHERE, 3 * MIB, 1, NULL, ERR_PROTO},
	};

	(void)state;
	for (size_t i = 0; i < N(cases); i++) {
		struct peer_rule rule = {cases[i].offset, 1000, cases[i].fault, cases[i].arg, cases[i].text,
		    "Location: http://127.0.0.1:1/\r\n"};
		int64_t start_mono_ms = clock_mono_ms();
		uint8_t sum[SHA256_LEN];

		begin(10 * MIB, &rule, 1);
		peer.pause_ms = 3;
		assert_int_equal(fetch(peer.size, 4, sum), cases[i].rc);
		assert_true(e.code == cases[i].rc && e.msg[0] != '\0');
		assert_in_range(clock_mono_ms() - start_mono_ms, 0, BUDGET_MS);
		end();
	}
}

/* Trouble that does not end is given up when the budget is used up, wherever it is; a trickle is trouble. */
static void
what_does_not_end_is_given_up(void **state)
{
	static const struct {
		enum peer_fault fault;
		int64_t offset, arg;
	} cases[] = {
		{PEER_STATUS, 0, 503}, {PEER_STATUS, 3 * MIB, 503}, {PEER_RESET, 3 * MIB, -1}, {PEER_STALL, 3 * MIB, 0},
		{PEER_TRICKLE, -1, 0},
	};

	(void)state;
	for (size_t i = 0; i < N(cases); i++) {
		struct peer_rule rule = {cases[i].offset, 1000, cases[i].fault, cases[i].arg, NULL, NULL};
		int64_t start_mono_ms = clock_mono_ms();
		uint8_t sum[SHA256_LEN];

		begin(6 * MIB, &rule, 1);
		peer.pause_ms = 3;
		assert_int_equal(fetch(peer.size, 4, sum), ERR_RETRY);
		assert_in_range(clock_mono_ms() - start_mono_ms, BUDGET_MS / 4, 3 * BUDGET_MS);
		object_peer_end(&peer);
		assert_true(peer.n_log < 400);
		end();
	}
}

/* Bytes that broke on the way cannot be seen by us, but by who knows the digest. */
static void
a_broken_byte_changes_the_digest(void **state)
{
	static const int64_t offsets[] = {0, 4 * MIB};

	(void)state;
	for (size_t i = 0; i < N(offsets); i++) {
		struct peer_rule rule = {offsets[i], 1, PEER_CORRUPT, 500000, NULL, NULL};
		uint8_t got[SHA256_LEN], want[SHA256_LEN];

		begin(8 * MIB, &rule, 1);
		peer.pause_ms = 3;
		assert_int_equal(fetch(peer.size, 4, got), 0);
		assert_int_equal(rule.times, 0);
		digest_of(peer.size, 1, want);
		assert_memory_not_equal(got, want, SHA256_LEN);
		end();
	}
}

/* Replaced midway: begun anew, and the file holds one of the two, whole. Also on servers that heed no If-Match. */
static void
a_replaced_object_is_begun_anew(void **state)
{
	static const struct {
		enum peer_fault fault;
		int64_t offset;
		int times, rc;
	} cases[] = {
		{PEER_REPLACE, 5 * MIB, 1, 0}, {PEER_REPLACE, MIB, 2, 0}, {PEER_LIE_ETAG, 5 * MIB, 1, 0},
		{PEER_REPLACE, 5 * MIB, 100, ERR_RETRY}, {PEER_LIE_ETAG, 5 * MIB, 100, ERR_RETRY},
	};

	(void)state;
	for (size_t i = 0; i < N(cases); i++) {
		struct peer_rule rule = {cases[i].offset, cases[i].times, cases[i].fault, 0, NULL, NULL};
		uint8_t sum[SHA256_LEN];
		int begun = 0;

		begin(9 * MIB, &rule, 1);
		peer.pause_ms = 3;
		if (cases[i].rc == 0)
			assert_fetches(4);
		else
			assert_int_equal(fetch(peer.size, 4, sum), cases[i].rc);
		object_peer_end(&peer);
		for (size_t k = 0; k < peer.n_log; k++)
			begun += peer.log[k].offset == 0;
		assert_int_equal(begun, cases[i].rc == 0 ? cases[i].times + 1 : 1 + FETCH_RESTARTS);
		end();
	}
}

static void
a_file_without_room_is_told_before_the_transfer(void **state)
{
	struct peer_rule missing = {0, 1, PEER_STATUS, 404, ERROR("NoSuchKey"), NULL};
	struct stat st;
	struct rlimit before, small = {0};
	uint8_t sum[SHA256_LEN];

	(void)state;
	begin(8 * MIB, NULL, 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = (struct rlimit){(rlim_t)MIB, before.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(fetch(peer.size, 4, sum), ERR_IO);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(peer.n_log, 0);
	end();
	/* Before the first answer its blocks are its own. */
	begin(8 * MIB, &missing, 1);
	assert_int_equal(fetch(peer.size, 4, sum), ERR_NOTFOUND);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_blocks * INT64_C(512) >= peer.size);
	end();
}

static void *
stop_soon(void *arg)
{
	/* As soon as several ranges are under way. */
	for (bool busy = false; !busy; sched_yield()) {
		pthread_mutex_lock(&peer.lock);
		busy = peer.open_max >= 2;
		pthread_mutex_unlock(&peer.lock);
	}
	atomic_store((atomic_bool *)arg, true);
	return NULL;
}

static void
who_stops_is_heard(void **state)
{
	const struct fetch_options o = {.parallel = 4, .range_bytes = (size_t)MIB};
	atomic_bool stop = false;
	uint8_t sum[SHA256_LEN];
	int64_t start_mono_ms;
	pthread_t t;

	(void)state;
	begin(400 * MIB, NULL, 0);
	peer.pause_ms = 20;
	start_mono_ms = clock_mono_ms();
	assert_int_equal(pthread_create(&t, NULL, stop_soon, &stop), 0);
	assert_int_equal(store_fetch(store, "bucket", "x", fd, peer.size, &o, sum, NULL, &stop, &e), ERR_CANCELED);
	assert_in_range(clock_mono_ms() - start_mono_ms, 0, 5000); /* at its speed it would last half a minute */
	pthread_join(t, NULL);
	end();
}

/* Whatever the object's size: connections and blocks, no ranges. */
static void
memory_does_not_grow_with_the_object(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	(void)state;
	skip(); /* its shadow counts too */
#else
	struct rusage before, after;
	uint8_t sum[SHA256_LEN];

	(void)state;
	begin(4 * MIB, NULL, 0);
	peer.pause_ms = 1;
	assert_int_equal(fetch(peer.size, 4, sum), 0); /* code and libraries are there now */
	end();
	getrusage(RUSAGE_SELF, &before);
	begin(192 * MIB, NULL, 0);
	peer.pause_ms = 1;
	assert_int_equal(fetch(peer.size, 4, sum), 0);
	assert_true(peer.open_max > 1);
	end();
	getrusage(RUSAGE_SELF, &after);
	assert_in_range(after.ru_maxrss - before.ru_maxrss, 0, 6 * 1024);
#endif
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_does_not_grow_with_the_object), cmocka_unit_test(what_is_small_is_one_request),
		cmocka_unit_test(a_fast_line_needs_one_connection), cmocka_unit_test(a_slow_line_gets_company),
		cmocka_unit_test(only_what_broke_comes_again), cmocka_unit_test(nobody_runs_far_ahead),
		cmocka_unit_test(what_is_final_ends_it), cmocka_unit_test(what_does_not_end_is_given_up),
		cmocka_unit_test(a_broken_byte_changes_the_digest), cmocka_unit_test(a_replaced_object_is_begun_anew),
		cmocka_unit_test(a_file_without_room_is_told_before_the_transfer), cmocka_unit_test(who_stops_is_heard),
	};

	return cmocka_run_group_tests_name("fetch", tests, NULL, NULL);
}
