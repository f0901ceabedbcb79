/* Settings from a file, an environment variable and the command line, parts of the input between NULs: file, variable, words. */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/settings.h"

#define WORDS_MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct config {
	char *text, *secret, *choice;
	int64_t number, size_bytes, time_ms;
	bool flag;
};

static const struct setting rows[] = {
	{"F_TEXT", "text", SETTING_TEXT, offsetof(struct config, text), "x", 0, 0, NULL, false, "Text."},
	{"F_SECRET", NULL, SETTING_TEXT, offsetof(struct config, secret), "", 0, 0, NULL, true, "Secret."},
	{"F_CHOICE", "choice", SETTING_CHOICE, offsetof(struct config, choice), "warm", 0, 0, "warm|job", false, "Choice."},
	{"F_NUMBER", "number", SETTING_INT, offsetof(struct config, number), "5", 1, 64, NULL, false, "Number."},
	{"F_SIZE", "size", SETTING_SIZE, offsetof(struct config, size_bytes), "1Gi", 0, INT64_C(1) << 40, NULL, false, "Size."},
	{"F_TIME", "time", SETTING_DURATION, offsetof(struct config, time_ms), "5s", 0, 60000, NULL, false, "Time."},
	{"F_FLAG", "flag", SETTING_BOOL, offsetof(struct config, flag), "false", 0, 0, NULL, false, "Flag."},
};

static const struct settings_table table = {"fuzz", "a harness", rows, sizeof(rows) / sizeof(rows[0]), "F_CONFIG"};

static void
check(bool holds)
{
	if (!holds)
		abort();
}

/* The file as a path: the settings file is opened by its name. */
static int
file_of(const char *text, size_t len, char *path, size_t path_len)
{
	int fd = memfd_create("settings", MFD_CLOEXEC);

	check(fd >= 0 && fchmod(fd, 0600) == 0 && write(fd, text, len) == (ssize_t)len);
	snprintf(path, path_len, "/proc/self/fd/%d", fd);
	return fd;
}

static void
load(int argc, char **argv)
{
	struct config c = {.text = NULL};
	struct err e = {0};
	int rest = 0;

	if (settings_load(&table, &c, argc, argv, &rest, &e) != 0) {
		check(e.code != 0 && e.msg[0] != '\0');
		return;
	}
	check(c.number >= 1 && c.number <= 64 && c.size_bytes >= 0 && c.size_bytes <= INT64_C(1) << 40);
	check(c.time_ms >= 0 && c.time_ms <= 60000);
	check(strcmp(c.choice, "warm") == 0 || strcmp(c.choice, "job") == 0);
	check(c.text != NULL && c.secret != NULL && rest >= 1 && rest <= argc);
	settings_release(&table, &c);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy = malloc(size + 1), *at = copy, *end = copy + size, path[64], *argv[WORDS_MAX + 2];
	size_t file_len;
	int argc = 1, fd;

	check(copy != NULL);
	memcpy(copy, data, size);
	*end = '\0';
	file_len = strnlen(at, size);
	fd = file_of(at, file_len, path, sizeof(path));
	setenv("F_CONFIG", path, 1);
	at += file_len < (size_t)(end - at) ? file_len + 1 : file_len;
	for (size_t i = 0; i < table.n; i++)
		unsetenv(rows[i].env);
	if (at < end) {
		setenv(rows[(unsigned char)*at % table.n].env, at + 1, 1);
		at += strlen(at);
	}
	argv[0] = (char[]){"fuzz"};
	while (at < end && argc <= WORDS_MAX) {
		argv[argc++] = ++at;
		at += strlen(at);
	}
	argv[argc] = NULL;
	load(argc, argv);
	close(fd);
	free(copy);
	return 0;
}
