/* The settings that several programs share: what they become, where Consul's token comes from, which stores are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "cluster/cluster_settings.h"
#include "storage/store_settings.h"

struct program {
	struct nomad_settings nomad;
	struct consul_settings consul;
	struct store_settings store;
};

static const struct setting rows[] = {
	NOMAD_SETTINGS(struct program, nomad), CONSUL_SETTINGS(struct program, consul), STORE_SETTINGS(struct program, store),
};
static const struct settings_table table = {"t", "a test", rows, sizeof(rows) / sizeof(rows[0]), NULL};

static char dir[PATH_MAX], path[PATH_MAX + 16];
static struct program p;
static struct err e;

static int
fresh(void **state)
{
	(void)state;
	for (size_t i = 0; i < table.n; i++)
		unsetenv(rows[i].env);
	memset(&p, 0, sizeof(p));
	memset(&e, 0, sizeof(e));
	if (file_temp_dir("drover-test", dir, sizeof(dir), NULL) != 0)
		return -1;
	return file_join(path, sizeof(path), dir, "token", NULL);
}

static int
done(void **state)
{
	(void)state;
	settings_release(&table, &p);
	return file_remove_tree(AT_FDCWD, dir, NULL);
}

static void
load(void)
{
	char *argv[] = {"t", NULL};

	assert_int_equal(settings_load(&table, &p, 1, argv, NULL, &e), 0);
}

/* Every text setting gets its own name as its value: a row that fills another's field, or none, is seen. */
static void
every_setting_reaches_its_client(void **state)
{
	struct nomad_config n;
	struct consul_config c;

	(void)state;
	for (size_t i = 0; i < table.n; i++)
		if (rows[i].type == SETTING_TEXT || rows[i].type == SETTING_BOOL)
			setenv(rows[i].env, rows[i].type == SETTING_TEXT ? rows[i].env : "true", 1);
	load();
	n = nomad_settings_config(&p.nomad);
	c = consul_settings_config(&p.consul);
	const struct {
		const char *is, *shall;
	} texts[] = {
		{n.addr, "NOMAD_ADDR"}, {n.region, "NOMAD_REGION"}, {n.namespace, "NOMAD_NAMESPACE"}, {n.token, "NOMAD_TOKEN"},
		{n.http_auth, "NOMAD_HTTP_AUTH"}, {n.ca_cert, "NOMAD_CACERT"}, {n.ca_path, "NOMAD_CAPATH"},
		{n.client_cert, "NOMAD_CLIENT_CERT"}, {n.client_key, "NOMAD_CLIENT_KEY"},
		{n.tls_server_name, "NOMAD_TLS_SERVER_NAME"}, {c.addr, "CONSUL_HTTP_ADDR"}, {c.token, "CONSUL_HTTP_TOKEN"},
		{c.http_auth, "CONSUL_HTTP_AUTH"}, {c.ca_cert, "CONSUL_CACERT"}, {c.ca_path, "CONSUL_CAPATH"},
		{c.client_cert, "CONSUL_CLIENT_CERT"}, {c.client_key, "CONSUL_CLIENT_KEY"},
		{c.tls_server_name, "CONSUL_TLS_SERVER_NAME"}, {c.namespace, "CONSUL_NAMESPACE"},
		{p.consul.token_file, "CONSUL_HTTP_TOKEN_FILE"}, {p.store.dir, "STORE_DIR"}, {p.store.endpoint, "S3_ENDPOINT"},
		{p.store.access_key, "S3_ACCESS_KEY"}, {p.store.secret_key, "S3_SECRET_KEY"},
		{p.store.session_token, "S3_SESSION_TOKEN"}, {p.store.region, "S3_REGION"}, {p.store.targets, "S3_BUCKET"},
		{p.store.results, "S3_RESULTS_BUCKET"}, {p.store.toolbox, "S3_TOOLBOX_BUCKET"}, {p.store.ca_cert, "S3_CA_CERT"},
	};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_string_equal(texts[i].is, texts[i].shall);
	assert_true(n.skip_verify && c.ssl && p.store.skip_verify && p.store.virtual_host);
	assert_false(c.skip_verify); /* CONSUL_HTTP_SSL_VERIFY says the opposite */
}

/* Nothing is trusted unseen unless someone says so, and credentials are secrets. */
static void
defaults_are_safe(void **state)
{
	static const char *const secrets[] = {"NOMAD_TOKEN", "NOMAD_HTTP_AUTH", "CONSUL_HTTP_TOKEN", "CONSUL_HTTP_AUTH",
	    "S3_SECRET_KEY", "S3_SESSION_TOKEN"};
	size_t marked = 0;

	(void)state;
	load();
	assert_false(nomad_settings_config(&p.nomad).skip_verify || consul_settings_config(&p.consul).skip_verify ||
	    p.store.skip_verify);
	for (size_t i = 0; i < table.n; i++)
		for (size_t k = 0; k < sizeof(secrets) / sizeof(secrets[0]); k++)
			marked += rows[i].secret && strcmp(rows[i].env, secrets[k]) == 0;
	assert_int_equal(marked, sizeof(secrets) / sizeof(secrets[0]));
}

static void
put_token(const char *content)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(file_write_all(fd, content, strlen(content), &e), 0);
	assert_int_equal(close(fd), 0);
}

static void
token_file(void **state)
{
	static const struct {
		const char *token, *content, *want;
	} cases[] = {
		{"", "from-the-file\n", "from-the-file"},
		{"", "crlf\r\nsecond line\n", "crlf"},
		{"", "", ""},
		{"given", "from-the-file\n", "given"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		put_token(cases[i].content);
		setenv("CONSUL_HTTP_TOKEN_FILE", path, 1);
		setenv("CONSUL_HTTP_TOKEN", cases[i].token, 1);
		load();
		assert_int_equal(consul_settings_read_token(&p.consul, &e), 0);
		assert_string_equal(consul_settings_config(&p.consul).token, cases[i].want);
		settings_release(&table, &p);
	}
	unsetenv("CONSUL_HTTP_TOKEN");
	assert_int_equal(unlink(path), 0);
	load();
	assert_int_not_equal(consul_settings_read_token(&p.consul, &e), 0);
	assert_non_null(strstr(e.msg, "CONSUL_HTTP_TOKEN_FILE"));
}

static void
one_store_with_its_keys(void **state)
{
	static const struct {
		const char *dir, *endpoint, *access, *secret;
		int want;
	} cases[] = {
		{"/d", "", "", "", 0},
		{"", "http://h:1", "a", "s", 0},
		{"", "", "", "", ERR_INVALID},
		{"/d", "http://h:1", "a", "s", ERR_INVALID},
		{"", "http://h:1", "", "s", ERR_INVALID},
		{"", "http://h:1", "a", "", ERR_INVALID},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		setenv("STORE_DIR", cases[i].dir, 1);
		setenv("S3_ENDPOINT", cases[i].endpoint, 1);
		setenv("S3_ACCESS_KEY", cases[i].access, 1);
		setenv("S3_SECRET_KEY", cases[i].secret, 1);
		load();
		assert_int_equal(store_settings_check(&p.store, &e), cases[i].want);
		settings_release(&table, &p);
	}
}

static void
a_folder_opens(void **state)
{
	const struct s3_endpoints none = {0};
	struct object_store *s;

	(void)state;
	setenv("STORE_DIR", dir, 1);
	load();
	s = store_settings_open(&p.store, &none, &e);
	assert_non_null(s);
	assert_int_equal(store_ensure_bucket(s, p.store.targets, &e), 0);
	store_free(s);
	assert_int_equal(file_join(path, sizeof(path), dir, "targets", NULL), 0);
	assert_int_equal(access(path, R_OK), 0);
}

/* Each number is another one, so that a row that fills another's field is seen. */
static void
limits_reach_the_store(void **state)
{
	static const char *const refused[][2] = {{"S3_FETCH_PARALLEL", "0"}, {"S3_FETCH_PARALLEL", "17"}, {"S3_FETCH_RANGE", "1000"},
	    {"S3_PUT_PART", "4MiB"}, {"S3_PUT_PARALLEL", "0"}, {"S3_STALL_TIMEOUT", "1ms"}, {"S3_MIN_SPEED", "0"}};
	struct s3_endpoints none = {0};
	struct object_store *s;
	char *argv[] = {"t", NULL};

	(void)state;
	setenv("STORE_DIR", dir, 1);
	setenv("S3_FETCH_PARALLEL", "5", 1);
	setenv("S3_FETCH_RANGE", "3MiB", 1);
	setenv("S3_PUT_PARALLEL", "6", 1);
	setenv("S3_PUT_PART", "7MiB", 1);
	setenv("S3_STALL_TIMEOUT", "8s", 1);
	setenv("S3_MIN_SPEED", "9KiB", 1);
	setenv("S3_RETRY_BUDGET", "10s", 1);
	load();
	assert_int_equal(p.store.stall_ms, 8000);
	assert_int_equal(p.store.min_speed_bytes, 9216);
	assert_int_equal(p.store.retry_ms, 10000);
	assert_true(p.store.upload_md5);
	assert_non_null(s = store_settings_open(&p.store, &none, &e));
	assert_int_equal(s->limits.fetch_parallel, 5);
	assert_int_equal(s->limits.fetch_range_bytes, 3 << 20);
	assert_int_equal(s->limits.put_parallel, 6);
	assert_int_equal(s->limits.put_part_bytes, 7 << 20);
	store_free(s);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		char was[64];

		snprintf(was, sizeof(was), "%s", getenv(refused[i][0]));
		setenv(refused[i][0], refused[i][1], 1);
		settings_release(&table, &p);
		assert_int_equal(settings_load(&table, &p, 1, argv, NULL, &e), ERR_INVALID);
		assert_non_null(strstr(e.msg, refused[i][0]));
		setenv(refused[i][0], was, 1);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_setting_reaches_its_client, fresh, done),
		cmocka_unit_test_setup_teardown(defaults_are_safe, fresh, done),
		cmocka_unit_test_setup_teardown(token_file, fresh, done),
		cmocka_unit_test_setup_teardown(one_store_with_its_keys, fresh, done),
		cmocka_unit_test_setup_teardown(a_folder_opens, fresh, done),
		cmocka_unit_test_setup_teardown(limits_reach_the_store, fresh, done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
