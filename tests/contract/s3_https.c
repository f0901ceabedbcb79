/* S3 over https: versitygw with a certificate of our own making. What is sent there is not signed byte by byte, so that its
 * Content-MD5 has to be right: the server refuses others, and writes down the headers that it got. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "s3_server.h"

#define PART_BYTES ((size_t)5 * 1024 * 1024)

static struct s3_server server;
static struct one_endpoint endpoint;
static char cert[300], key[300];

static void
exec_versitygw_tls(const struct s3_server *m, const char *binary)
{
	char sidecar[300];

	setenv("ROOT_ACCESS_KEY", SERVER_USER, 1);
	setenv("ROOT_SECRET_KEY", m->password, 1);
	snprintf(sidecar, sizeof(sidecar), "%s/sidecar", m->dir);
	mkdir(sidecar, 0700);
	mkdir(m->data, 0700);
	execl(binary, binary, "--debug", "--keep-alive", "--cert", cert, "--key", key, "--port", m->address, "posix", "--sidecar", sidecar,
	    m->data, (char *)NULL);
}

static const struct s3_program tls_program = {"versitygw", "versitygw-1.7.0", "https", exec_versitygw_tls, "true"};

static struct object_store *
store_new(bool trusts, bool no_md5)
{
	const struct store_s3_config c = {.endpoints = {one_pick, one_failed, &endpoint}, .access_key = SERVER_USER,
	    .secret_key = server.password, .retry_budget_ms = 5000, .ca_cert = trusts ? cert : NULL, .no_md5 = no_md5};

	return store_s3_new(&c, NULL);
}

static bool
log_has(const char *text)
{
	char path[300];
	struct buf b = buf_make(64u * 1024 * 1024);
	bool has;

	snprintf(path, sizeof(path), "%s/log", server.dir);
	assert_int_equal(file_read(AT_FDCWD, path, &b, NULL), 0);
	has = memmem(b.data, b.len, text, strlen(text)) != NULL;
	buf_release(&b);
	return has;
}

static const char *
md5_text(const void *data, size_t len, char out[32])
{
	uint8_t sum[MD5_LEN];

	md5_of(data, len, sum);
	return base64_encode(sum, sizeof(sum), out);
}

static void
what_is_stored_carries_its_md5(void **state)
{
	const struct put_options o = {.part_bytes = PART_BYTES};
	size_t len = 2 * PART_BYTES + 3;
	char *data = xmalloc(len), text[32];
	struct object_store *s = store_new(true, false);
	struct buf back = buf_make(len);
	struct err e = {.code = 0};

	(void)state;
	for (size_t i = 0; i < len; i++)
		data[i] = (char)(i * 7 + i / 1000);
	assert_int_equal(store_ensure_bucket(s, "https", &e), 0);
	assert_int_equal(store_put_bytes(s, "https", "whole", "hello", 5, NULL, NULL, &e), 0);
	assert_int_equal(store_put_bytes(s, "https", "parts", data, len, &o, NULL, &e), 0);
	assert_int_equal(store_get_bytes(s, "https", "parts", &back, &e), 0);
	assert_int_equal(back.len, len);
	assert_memory_equal(back.data, data, len);
	assert_true(log_has("UNSIGNED-PAYLOAD"));
	assert_true(log_has(md5_text("hello", 5, text)));
	for (size_t at = 0; at < len; at += PART_BYTES)
		assert_true(log_has(md5_text(data + at, len - at < PART_BYTES ? len - at : PART_BYTES, text)));
	buf_release(&back);
	store_free(s);
	free(data);
}

static void
md5_can_be_left_out(void **state)
{
	struct object_store *s = store_new(true, true);
	char text[32];
	struct err e = {.code = 0};

	(void)state;
	assert_int_equal(store_put_bytes(s, "https", "bare", "without", 7, NULL, NULL, &e), 0);
	assert_false(log_has(md5_text("without", 7, text)));
	store_free(s);
}

static void
strangers_are_not_trusted(void **state)
{
	struct object_store *s = store_new(false, false);
	struct err e = {.code = 0};

	(void)state;
	assert_int_equal(store_put_bytes(s, "https", "x", "x", 1, NULL, NULL, &e), ERR_DENIED);
	assert_non_null(strstr(e.hint, "certificate"));
	store_free(s);
}

static bool
make_certificate(const char *dir)
{
	char cmd[1200];

	snprintf(cert, sizeof(cert), "%s/cert.pem", dir);
	snprintf(key, sizeof(key), "%s/key.pem", dir);
	snprintf(cmd, sizeof(cmd), "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=drover-test "
	    "-addext subjectAltName=IP:127.0.0.1 -keyout '%s' -out '%s' 2>/dev/null", key, cert);
	return system(cmd) == 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_stored_carries_its_md5), cmocka_unit_test(md5_can_be_left_out),
		cmocka_unit_test(strangers_are_not_trusted),
	};
	struct object_store *s = NULL;
	char dir[256];
	int failed = 1;

	if (file_temp_dir("drover-tls", dir, sizeof(dir), NULL) != 0 || !make_certificate(dir) || !server_start(&server, &tls_program))
		return 1;
	endpoint.url = server.url;
	s = store_new(true, false);
	if (s != NULL && server_wait(&server, s))
		failed = cmocka_run_group_tests_name("S3 over https", tests, NULL, NULL);
	else
		fprintf(stderr, "versitygw in %s does not answer\n", server.dir);
	store_free(s);
	server_end(&server);
	file_remove_tree(AT_FDCWD, dir, NULL);
	return failed;
}
