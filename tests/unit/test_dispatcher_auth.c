#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "dispatcher/auth.h"

static char directory[256], path[300];

static int
setup(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(file_temp_dir("auth", directory, sizeof(directory), &e), 0);
	snprintf(path, sizeof(path), "%s/tokens.json", directory);
	return 0;
}

static int
teardown(void **state)
{
	struct err e;

	(void)state;
	return file_remove_tree(AT_FDCWD, directory, &e);
}

static void
write_file(const char *text, mode_t mode)
{
	struct err e;
	int fd = open(directory, O_RDONLY | O_DIRECTORY);

	assert_int_equal(file_replace(fd, "tokens.json", text, strlen(text), mode, &e), 0);
	close(fd);
	assert_int_equal(chmod(path, mode), 0);
}

static void
write_token(const char *token, const char *scopes)
{
	char text[512], hex[SHA256_HEX_LEN];
	uint8_t hash[SHA256_LEN];

	sha256_of(token, strlen(token), hash);
	hex_encode(hash, sizeof(hash), hex);
	snprintf(text, sizeof(text), "[{\"name\":\"n\",\"sha256\":\"%s\",\"scopes\":[%s],\"tenant\":\"red\"}]", hex, scopes);
	write_file(text, 0600);
}

static void
tokens_are_known_in_every_form(void **state)
{
	static const struct {
		const char *authorization, *x_token;
		int rc;
	} cases[] = {
		{"Bearer secret", NULL, 0}, {"bearer secret", NULL, 0}, {NULL, "secret", 0}, {"Basic YW55OnNlY3JldA==", NULL, 0},
		{"Bearer other", NULL, ERR_DENIED}, {NULL, NULL, ERR_DENIED}, {"Basic !!!", NULL, ERR_DENIED},
		{"Basic c2VjcmV0", NULL, ERR_DENIED}, {"Bearer ", NULL, ERR_DENIED}, {"Digest secret", NULL, ERR_DENIED},
	};
	struct auth *a = NULL;
	struct identity who;
	struct err e;

	(void)state;
	write_token("secret", "\"read\",\"worker\"");
	assert_int_equal(auth_new(path, &a, &e), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(auth_identify(a, cases[i].authorization, cases[i].x_token, &who, &e), cases[i].rc);
		if (cases[i].rc == 0) {
			assert_string_equal(who.tenant, "red");
			assert_int_equal(who.scopes, SCOPE_READ | SCOPE_WORKER);
		}
	}
	auth_free(a);
}

static void
bad_files_are_refused(void **state)
{
	static const char *const bad[] = {"", "{}", "[1]", "[{\"name\":\"n\",\"sha256\":\"zz\",\"scopes\":[\"read\"]}]",
		"[{\"name\":\"n\",\"sha256\":\"0000000000000000000000000000000000000000000000000000000000000000\",\"scopes\":[\"root\"]}]",
		"[{\"name\":\"n\",\"sha256\":\"0000000000000000000000000000000000000000000000000000000000000000\",\"scopes\":[]}]"};
	struct auth *a = NULL;
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		write_file(bad[i], 0600);
		assert_int_equal(auth_new(path, &a, &e), ERR_INVALID);
	}
	write_token("secret", "\"read\"");
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(auth_new(path, &a, &e), ERR_DENIED);
	assert_null(a);
}

static void
tokens_that_vanish_do_not_open_the_door(void **state)
{
	struct auth *a = NULL;
	struct identity who;
	struct err e;

	(void)state;
	assert_int_equal(auth_new(path, &a, &e), 0);
	assert_int_equal(auth_identify(a, NULL, NULL, &who, &e), 0);
	assert_int_equal(who.scopes, SCOPE_ALL);
	write_token("secret", "\"admin\"");
	assert_int_equal(auth_refresh(a, &e), 0);
	assert_int_equal(auth_identify(a, NULL, NULL, &who, &e), ERR_DENIED);
	write_file("[]", 0600);
	assert_int_equal(auth_refresh(a, &e), ERR_INVALID);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(auth_refresh(a, &e), ERR_IO);
	assert_int_equal(auth_identify(a, NULL, NULL, &who, &e), ERR_DENIED);
	assert_int_equal(auth_identify(a, NULL, "secret", &who, &e), 0);
	auth_free(a);
}

int
main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(tokens_are_known_in_every_form), CASE(bad_files_are_refused), CASE(tokens_that_vanish_do_not_open_the_door)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
