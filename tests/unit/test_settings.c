#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/settings.h"

struct config {
	char *listen, *token, *mode;
	int64_t slots, cache_bytes, grace_ms;
	bool tls;
};

static const struct setting rows[] = {
	{"T_LISTEN", "listen", SETTING_TEXT, offsetof(struct config, listen), "127.0.0.1:1", 0, 0, NULL, false, "Where to listen."},
	{"T_TOKEN", NULL, SETTING_TEXT, offsetof(struct config, token), "", 0, 0, NULL, true, "The token."},
	{"T_MODE", "mode", SETTING_CHOICE, offsetof(struct config, mode), "warm", 0, 0, "warm|job", false, "How."},
	{"T_SLOTS", "slots", SETTING_INT, offsetof(struct config, slots), "5", 1, 64, NULL, false, "How many."},
	{"T_CACHE", "cache", SETTING_SIZE, offsetof(struct config, cache_bytes), "1Gi", 0, 1LL << 40, NULL, false, "How much."},
	{"T_GRACE", "grace", SETTING_DURATION, offsetof(struct config, grace_ms), "", 0, 60000, NULL, false, "How long."},
	{"T_TLS", "tls", SETTING_BOOL, offsetof(struct config, tls), "false", 0, 0, NULL, false, "Whether."},
};

static const struct settings_table table = {"t", "a test", rows, sizeof(rows) / sizeof(rows[0]), "T_CONFIG"};

static char dir[PATH_MAX], file[PATH_MAX + 16];
static struct config c;
static struct err e;

static int
fresh(void **state)
{
	(void)state;
	for (size_t i = 0; i < table.n; i++)
		unsetenv(rows[i].env);
	unsetenv("T_CONFIG");
	memset(&c, 0, sizeof(c));
	memset(&e, 0, sizeof(e));
	if (file_temp_dir("drover-test", dir, sizeof(dir), NULL) != 0)
		return -1;
	return file_join(file, sizeof(file), dir, "settings", NULL);
}

static int
done(void **state)
{
	(void)state;
	settings_release(&table, &c);
	return file_remove_tree(AT_FDCWD, dir, NULL);
}

/* Loads from a command line that is given as words with a NULL after them. */
static int
load(int *ret_rest, ...)
{
	char *argv[16] = {(char[]){"t"}};
	int argc = 1;
	va_list ap;

	va_start(ap, ret_rest);
	while ((argv[argc] = va_arg(ap, char *)) != NULL)
		argc++;
	va_end(ap);
	settings_release(&table, &c);
	return settings_load(&table, &c, argc, argv, ret_rest, &e);
}

static void
write_settings(const char *text, mode_t mode)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(file_replace(fd, "settings", text, strlen(text), mode, NULL), 0);
	close(fd);
	setenv("T_CONFIG", file, 1);
}

static void
defaults_hold_where_nothing_is_said(void **state)
{
	(void)state;
	assert_int_equal(load(NULL, NULL), 0);
	assert_string_equal(c.listen, "127.0.0.1:1");
	assert_string_equal(c.token, "");
	assert_string_equal(c.mode, "warm");
	assert_int_equal(c.slots, 5);
	assert_int_equal(c.cache_bytes, 1 << 30);
	assert_int_equal(c.grace_ms, 0);
	assert_false(c.tls);
}

static void
the_stronger_source_wins(void **state)
{
	(void)state;
	write_settings("# comment\n\n  T_SLOTS = 2 \r\nT_LISTEN=a=b #c\nT_MODE=job", 0644);
	setenv("T_MODE", "", 1); /* empty counts as not set */
	assert_int_equal(load(NULL, NULL), 0);
	assert_int_equal(c.slots, 2);
	assert_string_equal(c.listen, "a=b #c");
	assert_string_equal(c.mode, "job");
	setenv("T_SLOTS", "3", 1);
	assert_int_equal(load(NULL, NULL), 0);
	assert_int_equal(c.slots, 3);
	assert_int_equal(load(NULL, "-slots", "4", NULL), 0);
	assert_int_equal(c.slots, 4);
}

static void
options_have_four_forms(void **state)
{
	int rest = 0;

	(void)state;
	assert_int_equal(load(NULL, "-slots", "1", "--cache", "2Ki", "-grace=3s", "--listen=", "-tls", NULL), 0);
	assert_int_equal(c.slots, 1);
	assert_int_equal(c.cache_bytes, 2048);
	assert_int_equal(c.grace_ms, 3000);
	assert_string_equal(c.listen, "");
	assert_true(c.tls);
	assert_int_equal(load(NULL, "-tls", "--tls=off", NULL), 0); /* the last one counts */
	assert_false(c.tls);
	assert_int_equal(load(&rest, "-tls", "word", "-unknown", NULL), 0);
	assert_int_equal(rest, 2);
	assert_int_equal(load(&rest, "-tls", "--", "-x", NULL), 0);
	assert_int_equal(rest, 3);
	assert_int_equal(load(&rest, "-tls", NULL), 0);
	assert_int_equal(rest, 2);
}

static void
wrong_options_are_told(void **state)
{
	static const char *const cases[][3] = {
		{"-unknown", NULL, "unknown option -unknown"}, {"---slots", "1", "unknown option ---slots"},
		{"-slot", "1", "unknown option -slot"}, {"-slots", NULL, "option -slots needs a value"},
		{"-token", "x", "unknown option -token"}, {"word", NULL, "unexpected word 'word'"},
		{"-", NULL, "unexpected word '-'"},
		{"-slots", "65", "T_SLOTS (command line): '65' is not a whole number from 1 to 64"},
		{"-slots", "", "T_SLOTS (command line): '' is not a whole number from 1 to 64"},
		{"-mode", "wa", "T_MODE (command line): 'wa' is none of warm|job"},
		{"-mode", "warm|job", "T_MODE (command line): 'warm|job' is none of warm|job"},
		{"-tls=maybe", NULL, "T_TLS (command line): 'maybe' is neither true nor false"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(load(NULL, cases[i][0], cases[i][1], NULL), ERR_INVALID);
		assert_string_equal(e.msg, cases[i][2]);
		assert_null(c.listen); /* nothing is left behind */
	}
	setenv("T_GRACE", "61s", 1);
	assert_int_equal(load(NULL, NULL), ERR_INVALID);
	assert_non_null(strstr(e.msg, "T_GRACE (environment)"));
}

static void
wrong_files_are_told_with_their_line(void **state)
{
	static const char *const cases[][2] = {
		{"T_SLOTS=1\nT_WHAT=2\n", ":2: unknown setting T_WHAT"}, {"\n\nnonsense", ":3: not NAME=value"},
		{"T_SLOTS=1\nT_SLOTS=2", ":2: T_SLOTS is set twice"}, {"T_SLOTS=0", "T_SLOTS (settings file)"},
		{"export T_SLOTS=1", ":1: unknown setting export T_SLOTS"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		write_settings(cases[i][0], 0600);
		assert_int_equal(load(NULL, NULL), ERR_INVALID);
		assert_non_null(strstr(e.msg, cases[i][1]));
	}
	setenv("T_CONFIG", "/none/such", 1);
	assert_int_equal(load(NULL, NULL), ERR_IO);
	assert_non_null(strstr(e.msg, "T_CONFIG"));
}

static void
secrets_stay_secret(void **state)
{
	static const struct {
		mode_t mode;
		int rc;
	} cases[] = {{0600, 0}, {0400, 0}, {0640, 0}, {0644, ERR_DENIED}, {0602, ERR_DENIED}, {0660, ERR_DENIED}};
	char *text = NULL;
	size_t len;
	FILE *f;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		write_settings("T_TOKEN=hush", cases[i].mode);
		assert_int_equal(load(NULL, NULL), cases[i].rc);
		assert_null(strstr(e.msg, "hush"));
		if (cases[i].rc == 0)
			assert_string_equal(c.token, "hush");
	}
	write_settings("T_TOKEN=\nT_SLOTS=2", 0644); /* no secret in it */
	assert_int_equal(load(NULL, NULL), 0);

	f = open_memstream(&text, &len);
	settings_help(&table, f);
	settings_markdown(&table, f);
	fclose(f);
	for (size_t i = 0; i < table.n; i++)
		assert_non_null(strstr(text, rows[i].env));
	assert_non_null(strstr(text, "--slots, T_SLOTS  (number, 1 to 64; default 5)\n      How many.\n"));
	assert_non_null(strstr(text, "\n| `T_MODE` | `--mode` | choice | `warm` | warm\\|job | How. |\n"));
	assert_non_null(strstr(text, "\n| `T_TOKEN` |  | text, secret |  |  | The token. |\n"));
	free(text);
}

static void
help_is_asked_for_in_three_ways(void **state)
{
	char *yes[] = {"t", "-tls", "--help"}, *also[] = {"t", "-h"}, *no[] = {"t", "help", "--", "-help"};

	(void)state;
	assert_true(settings_wants_help(3, yes));
	assert_true(settings_wants_help(2, also));
	assert_false(settings_wants_help(4, no));
	assert_false(settings_wants_help(1, yes));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(defaults_hold_where_nothing_is_said, fresh, done),
		cmocka_unit_test_setup_teardown(the_stronger_source_wins, fresh, done),
		cmocka_unit_test_setup_teardown(options_have_four_forms, fresh, done),
		cmocka_unit_test_setup_teardown(wrong_options_are_told, fresh, done),
		cmocka_unit_test_setup_teardown(wrong_files_are_told_with_their_line, fresh, done),
		cmocka_unit_test_setup_teardown(secrets_stay_secret, fresh, done),
		cmocka_unit_test_setup_teardown(help_is_asked_for_in_three_ways, fresh, done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
