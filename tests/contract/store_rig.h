/* store_rig.h - the store under test, one backend after the other, and objects whose bytes follow from their offsets. */
#ifndef TESTS_CONTRACT_STORE_RIG_H
#define TESTS_CONTRACT_STORE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "s3_server.h"
#include "storage/object_store.h"

#define BUCKET "contract"
#define MIB ((int64_t)1024 * 1024)

static struct object_store *store;
static struct s3_server server;
static struct one_endpoint endpoint;
static char store_path[256];

static inline bool
is_s3(void)
{
	return strcmp(store->kind, "s3") == 0;
}

static inline bool
is_versitygw(void)
{
	return is_s3() && server.program == &versitygw_program;
}

static inline struct store_s3_config
s3_config(void)
{
	return (struct store_s3_config){.endpoints = {one_pick, one_failed, &endpoint}, .access_key = SERVER_USER,
	    .secret_key = server.password, .retry_budget_ms = 5000};
}

/* --- sources and sinks --- */

struct pattern { /* bytes that depend on their offset; can fail or stop the put midway */
	int64_t size, at, fail_at;
	uint8_t seed;
	atomic_bool *stop;
};

static inline uint8_t
pattern_byte(int64_t at, uint8_t seed)
{
	return (uint8_t)(at * 31 + (at >> 8) * 7 + (at >> 20) + seed);
}

static inline long
pattern_read(void *arg, void *out, size_t len, struct err *e)
{
	struct pattern *p = arg;
	uint8_t *o = out;

	if (p->fail_at > 0 && p->at >= p->fail_at) {
		if (p->stop == NULL)
			return err_set(e, ERR_INVALID, "the source broke");
		atomic_store(p->stop, true);
	}
	/* Odd pieces, so that part boundaries never fall on them. */
	if (len > 70001)
		len = 70001;
	if ((int64_t)len > p->size - p->at)
		len = (size_t)(p->size - p->at);
	for (size_t i = 0; i < len; i++)
		o[i] = pattern_byte(p->at + (int64_t)i, p->seed);
	p->at += (int64_t)len;
	return (long)len;
}

struct check {
	int64_t at, n;
	uint8_t seed;
	bool wrong;
};

static inline int
check_write(void *arg, const void *data, size_t len)
{
	struct check *c = arg;

	for (size_t i = 0; i < len; i++)
		c->wrong |= ((const uint8_t *)data)[i] != pattern_byte(c->at + (int64_t)i, c->seed);
	c->at += (int64_t)len;
	c->n += (int64_t)len;
	return 0;
}

static inline int
put_pattern(const char *key, int64_t size, bool say_size, const struct put_options *o, uint8_t seed)
{
	struct pattern p = {.size = size, .seed = seed};
	struct object_source src = {pattern_read, &p, say_size ? size : -1};
	struct object_info info;
	struct err e = {.code = 0};
	int rc = store_put(store, BUCKET, key, &src, o, &info, NULL, &e);

	if (rc == 0)
		assert_int_equal(info.size_bytes, size);
	else if (rc != ERR_CONFLICT)
		print_error("put %s: %s\n", key, e.msg);
	return rc;
}

static inline void
assert_pattern(const char *key, int64_t size, uint8_t seed)
{
	struct check c = {.seed = seed};
	struct object_info info;

	assert_int_equal(store_get(store, BUCKET, key, 0, -1, NULL, check_write, &c, &info, NULL, NULL), 0);
	assert_false(c.wrong);
	assert_int_equal(c.n, size);
	assert_int_equal(info.size_bytes, size);
}

static inline bool
is_there(const char *key)
{
	struct object_info info;
	int rc = store_head(store, BUCKET, key, &info, NULL);

	assert_true(rc == 0 || rc == ERR_NOTFOUND);
	return rc == 0;
}

static inline int
count_each(void *arg, const char *key, const struct object_info *info)
{
	(void)key, (void)info;
	++*(int *)arg;
	return 0;
}

/* Multipart uploads that nobody finished, as the server sees them. */
static inline int
unfinished_uploads(void)
{
	char cmd[700];
	FILE *f;
	int n = 0;

	if (!is_s3())
		return 0;
	/* From behind, because MinIO's API lists them by exact key only. */
	snprintf(cmd, sizeof(cmd), "set -- '%s'; %s | wc -l", server.data, server.program->unfinished);
	f = popen(cmd, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%d", &n), 1);
	pclose(f);
	return n;
}

/* --- one backend after the other --- */

struct suite { /* tests of both backends, and those of one alone (n 0: none) */
	const char *name;
	const struct CMUnitTest *both, *dir, *s3;
	size_t n_both, n_dir, n_s3;
};

static inline int
run_groups(const struct suite *s, const char *backend, const struct CMUnitTest *own, size_t n_own)
{
	char name[96];
	int failed;

	(void)snprintf(name, sizeof(name), "%s, %s", s->name, backend);
	failed = _cmocka_run_group_tests(name, s->both, s->n_both, NULL, NULL);
	(void)snprintf(name, sizeof(name), "%s alone, %s", s->name, backend);
	return failed + (n_own > 0 ? _cmocka_run_group_tests(name, own, n_own, NULL, NULL) : 0);
}

static inline int
run_dir(const struct suite *s)
{
	struct err e;
	int failed = 1;

	if (file_temp_dir("drover-store", store_path, sizeof(store_path), &e) == 0 &&
	    (store = store_dir_new(store_path, &e)) != NULL && store_ensure_bucket(store, BUCKET, &e) == 0)
		failed = run_groups(s, "directory", s->dir, s->n_dir);
	store_free(store);
	file_remove_tree(AT_FDCWD, store_path, NULL);
	return failed;
}

static inline int
run_s3(const struct suite *s, const struct s3_program *program)
{
	struct store_s3_config c;
	struct err e = {.code = 0};
	int failed = 1;

	if (!server_start(&server, program))
		return 1;
	endpoint.url = server.url;
	c = s3_config();
	store = store_s3_new(&c, &e);
	if (store == NULL || !server_wait(&server, store) || store_ensure_bucket(store, BUCKET, &e) != 0)
		fprintf(stderr, "%s in %s: %s\n", program->name, server.dir, e.msg);
	else
		failed = run_groups(s, program->name, s->s3, s->n_s3);
	store_free(store);
	server_end(&server);
	return failed;
}

/* The suite on all backends, or on the one that DROVER_STORE names (dir, s3, versitygw). Returns main's status. */
static inline int
run_suite(const struct suite *s)
{
	const char *only = getenv("DROVER_STORE");
	int failed = 0;

	if (only == NULL || strcmp(only, "dir") == 0)
		failed += run_dir(s);
	if (only == NULL || strcmp(only, "s3") == 0)
		failed += run_s3(s, &minio_program);
	if (only == NULL || strcmp(only, "versitygw") == 0)
		failed += run_s3(s, &versitygw_program);
	return failed != 0;
}

#endif
