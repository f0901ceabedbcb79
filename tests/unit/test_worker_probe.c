#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "worker/beneath.h"
#include "worker/probe.h"

static char dir[256];

static int
set_up(void **state)
{
	(void)state;
	return file_temp_dir("drover-test", dir, sizeof(dir), NULL);
}

static int
tear_down(void **state)
{
	(void)state;
	return file_remove_tree(AT_FDCWD, dir, NULL);
}

/* Writes a file below dir, with its folders. */
static void
put(const char *name, const char *text, mode_t mode)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	*strrchr(path, '/') = '\0';
	assert_int_equal(file_mkdirs(path, 0755, NULL), 0);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

#define VERTICAL "name: demo\ndescription: d\nimage: i\ndriver: raw_exec\nslots: 1\nwindow: 1\nclasses:\n  normal: {cpu: 100m, memory: 64Mi}\n  large: {cpu: 200m, memory: 128Mi}\n" \
	"tools:\n  - name: good\n    probe: [\"good\", \"--version\"]\n"

/* A tool that counts how often it was asked. */
static void
make_tool(const char *version, int exit_code)
{
	char script[600];

	snprintf(script, sizeof(script), "#!/bin/sh\necho asked >> %s/asked\necho '%s'\nexit %d\n", dir, version, exit_code);
	put("tc/demo/bin/good", script, 0755);
}

static int64_t
asked(void)
{
	char path[512];
	struct stat st;

	snprintf(path, sizeof(path), "%s/asked", dir);
	return stat(path, &st) == 0 ? st.st_size / (int64_t)strlen("asked\n") : 0;
}

static void
probe_these(const json_t *only, const char *version, size_t missing)
{
	char toolchains[300], toolbox[300];
	struct config c = {.vertical = (char *)"demo", .toolchains = toolchains, .toolbox = toolbox, .cache_dir = dir};
	struct tools t;
	struct err e = {0};

	snprintf(toolchains, sizeof(toolchains), "%s/tc", dir);
	snprintf(toolbox, sizeof(toolbox), "%s/box", dir);
	if (tools_probe(&c, only, &t, &e) != 0)
		fail_msg("%s", e.msg);
	assert_int_equal(json_array_size(t.missing), missing);
	if (version != NULL)
		assert_string_equal(json_string_value(json_object_get(t.found, "good")), version);
	else
		assert_null(json_object_get(t.found, "good"));
	tools_release(&t);
}

static void
probe(const char *version, size_t missing)
{
	probe_these(NULL, version, missing);
}

static void
good_probes_are_remembered_until_the_program_changes(void **state)
{
	(void)state;
	put("box/verticals/demo/vertical.yaml", VERTICAL, 0644);
	make_tool("good 1.0", 0);
	probe("good 1.0", 0);
	assert_int_equal(asked(), 1);
	probe("good 1.0", 0);
	assert_int_equal(asked(), 1);
	make_tool("good 10.0", 0);
	probe("good 10.0", 0);
	assert_int_equal(asked(), 2);
}

static void
failed_probes_are_not(void **state)
{
	(void)state;
	put("box/verticals/demo/vertical.yaml", VERTICAL, 0644);
	make_tool("broken", 1);
	probe(NULL, 1);
	probe(NULL, 1);
	assert_int_equal(asked(), 2);
	put("box/verticals/demo/vertical.yaml", VERTICAL "  - name: absent\n    probe: [\"not-there-at-all\"]\n", 0644);
	make_tool("good", 0);
	probe("good", 1);
}

/* Neither is a tool called that nobody asks about, nor is what one of them says taken for all. */
static void
some_tools_are_probed_without_the_others(void **state)
{
	json_t *absent = json_pack("[s]", "absent"), *good = json_pack("[s]", "good");

	(void)state;
	put("box/verticals/demo/vertical.yaml", VERTICAL "  - name: absent\n    probe: [\"not-there-at-all\"]\n", 0644);
	make_tool("good", 0);
	probe_these(absent, NULL, 1);
	assert_int_equal(asked(), 0);
	probe_these(good, "good", 0);
	assert_int_equal(asked(), 1);
	probe("good", 1);
	assert_int_equal(asked(), 2);
	json_decref(absent);
	json_decref(good);
}

static void
vertical_may_come_with_its_toolchain_or_not_at_all(void **state)
{
	(void)state;
	make_tool("good\x1b 2\nsecond line", 0);
	probe(NULL, 0);
	assert_int_equal(asked(), 0);
	put("tc/demo/vertical.yaml", VERTICAL, 0644);
	probe("good? 2", 0);
}

static void
only_regular_files_are_read(void **state)
{
	struct buf b = buf_make(8);
	char path[512];
	int fd;

	(void)state;
	put("out/good", "12345678", 0644);
	put("out/long", "123456789", 0644);
	put("secret", "x", 0644);
	snprintf(path, sizeof(path), "%s/out/link", dir);
	assert_int_equal(symlink("../secret", path), 0);
	snprintf(path, sizeof(path), "%s/out/fifo", dir);
	assert_int_equal(mkfifo(path, 0644), 0);
	snprintf(path, sizeof(path), "%s/out/folder", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/out", dir);
	assert_int_equal(beneath_read(path, "good", &b, NULL), 0);
	assert_string_equal(buf_str(&b), "12345678");
	buf_clear(&b);
	assert_int_equal(beneath_read(path, "long", &b, NULL), ERR_TOOBIG);
	buf_clear(&b);
	assert_int_equal(beneath_read(path, "link", &b, NULL), ERR_NOTFOUND);
	assert_int_equal(beneath_read(path, "fifo", &b, NULL), ERR_NOTFOUND);
	assert_int_equal(beneath_read(path, "folder", &b, NULL), ERR_NOTFOUND);
	assert_int_equal(beneath_read(path, "absent", &b, NULL), ERR_NOTFOUND);
	fd = open(path, O_RDONLY | O_DIRECTORY);
	assert_int_equal(beneath_open_file(fd, "../secret"), -1);
	close(fd);
	buf_release(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(good_probes_are_remembered_until_the_program_changes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(failed_probes_are_not, set_up, tear_down),
		cmocka_unit_test_setup_teardown(some_tools_are_probed_without_the_others, set_up, tear_down),
		cmocka_unit_test_setup_teardown(vertical_may_come_with_its_toolchain_or_not_at_all, set_up, tear_down),
		cmocka_unit_test_setup_teardown(only_regular_files_are_read, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
