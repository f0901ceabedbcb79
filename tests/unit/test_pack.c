#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/file.h"
#include "storage/extract.h"
#include "storage/pack.h"

static char base[256];
static size_t left_out_n;
static char left_out_last[256];

static void
note_left_out(void *arg, const char *path, const char *why)
{
	(void)arg, (void)why;
	left_out_n++;
	snprintf(left_out_last, sizeof(left_out_last), "%s", path);
}

static const struct pack_options options = {.max_bytes = 1 << 20, .max_entries = 1000, .left_out = note_left_out};

static int
into_buf(void *arg, const void *data, size_t len)
{
	return buf_add(arg, data, len);
}

static void
put(const char *name, const char *text, mode_t mode)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", base, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	fchmod(fd, mode);
	close(fd);
}

static void
make_dir(const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", base, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

static void
make_link(const char *target, const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", base, name);
	assert_int_equal(symlink(target, path), 0);
}

static int
set_up(void **state)
{
	(void)state;
	left_out_n = 0;
	return file_temp_dir("drover-pack", base, sizeof(base), NULL);
}

static int
tear_down(void **state)
{
	(void)state;
	return file_remove_tree(AT_FDCWD, base, NULL);
}

static struct buf
pack(int want_rc, struct pack_result *r, struct err *e)
{
	struct buf b = buf_make(4 << 20);
	int rc = pack_tree(base, &options, into_buf, &b, r, e);

	if (rc != want_rc)
		fail_msg("pack_tree: %d (%s), not %d", rc, e->msg, want_rc);
	return b;
}

static void
the_same_tree_gives_the_same_bytes(void **state)
{
	struct pack_result r;
	struct err e = {0};
	struct buf one, two;
	struct timespec old[2] = {{1000, 0}, {1000, 0}};

	(void)state;
	put("b", "bee", 0600);
	make_dir("dir");
	put("dir/run.sh", "#!", 0700);
	make_link("../b", "dir/link");
	one = pack(0, &r, &e);
	assert_int_equal(r.entries, 4);
	assert_int_equal(r.bytes, 5);
	/* Same names and bytes, other times and private modes. */
	put("c", "x", 0600);
	{
		char path[512];

		snprintf(path, sizeof(path), "%s/c", base);
		unlink(path);
		snprintf(path, sizeof(path), "%s/b", base);
		chmod(path, 0640);
		assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
	}
	two = pack(0, &r, &e);
	assert_int_equal(one.len, two.len);
	assert_memory_equal(one.data, two.data, one.len);
	buf_release(&two);
	put("b", "boo", 0600);
	two = pack(0, &r, &e);
	assert_true(one.len != two.len || memcmp(one.data, two.data, one.len) != 0);
	buf_release(&one);
	buf_release(&two);
}

static void
what_was_packed_is_unpacked_again(void **state)
{
	struct extract_limits limits = extract_limits_default();
	struct extract_result x;
	struct pack_result r;
	struct err e = {0};
	struct buf b, text = buf_make(64);
	char dir[256], path[512];
	int fd, dir_fd;
	struct stat st;

	(void)state;
	make_dir("a");
	put("a/t\xc3\xa4st file", "content", 0644);
	put("a/tool", "#!", 0755);
	b = pack(0, &r, &e);
	assert_int_equal(file_temp_dir("drover-unpack", dir, sizeof(dir), &e), 0);
	snprintf(path, sizeof(path), "%s.tar", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(file_write_all(fd, b.data, b.len, &e), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(extract_probe(fd), TARGET_ARCHIVE);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (extract_walk(fd, dir_fd, &limits, NULL, &x, &e) != 0)
		fail_msg("%s", e.msg);
	assert_int_equal(file_read(dir_fd, "a/t\xc3\xa4st file", &text, &e), 0);
	assert_string_equal(buf_str(&text), "content");
	assert_int_equal(fstatat(dir_fd, "a/tool", &st, 0), 0);
	assert_true(st.st_mode & 0100);
	unlink(path);
	close(fd);
	close(dir_fd);
	file_remove_tree(AT_FDCWD, dir, NULL);
	buf_release(&b);
	buf_release(&text);
}

static void
what_cannot_travel_is_left_out_and_told(void **state)
{
	static const char *const out[] = {"/etc/passwd", "../x", "a/../../x", ""};
	struct pack_result r;
	struct err e = {0};
	char path[512];

	(void)state;
	put("keep", "x", 0644);
	make_link("keep", "fine");
	for (size_t i = 0; i < 3; i++) {
		struct buf b;

		make_link(out[i], "link");
		left_out_n = 0;
		b = pack(0, &r, &e);
		assert_int_equal(left_out_n, 1);
		assert_string_equal(left_out_last, "link");
		assert_int_equal(r.entries, 2);
		buf_release(&b);
		snprintf(path, sizeof(path), "%s/link", base);
		unlink(path);
	}
	snprintf(path, sizeof(path), "%s/fifo", base);
	assert_int_equal(mkfifo(path, 0600), 0);
	{
		struct buf b = pack(0, &r, &e);

		assert_string_equal(left_out_last, "fifo");
		buf_release(&b);
	}
}

static void
the_ignore_file_is_honoured(void **state)
{
	struct pack_result r;
	struct err e = {0};
	struct buf b;

	(void)state;
	put(".droverignore", "node_modules/\n*.o\n", 0644);
	put("a.c", "x", 0644);
	put("a.o", "x", 0644);
	make_dir("node_modules");
	put("node_modules/big", "x", 0644);
	make_dir(".git");
	put(".git/HEAD", "ref", 0644);
	b = pack(0, &r, &e);
	assert_int_equal(r.entries, 4); /* .droverignore a.c .git .git/HEAD */
	assert_int_equal(r.ignored, 2);
	assert_int_equal(left_out_n, 0);
	buf_release(&b);
}

static void
limits_and_wrong_places_are_told(void **state)
{
	struct pack_options small = options;
	struct pack_result r;
	struct err e = {0};
	struct buf b = pack(ERR_INVALID, &r, &e); /* nothing in it */

	(void)state;
	buf_release(&b);
	put("f", "0123456789", 0644);
	small.max_bytes = 9;
	b = buf_make(1 << 20);
	assert_int_equal(pack_tree(base, &small, into_buf, &b, &r, &e), ERR_TOOBIG);
	small = options;
	small.max_entries = 0;
	assert_int_equal(pack_tree(base, &small, into_buf, &b, &r, &e), ERR_TOOBIG);
	put("bad\xff", "x", 0644);
	assert_int_equal(pack_tree(base, &options, into_buf, &b, &r, &e), ERR_INVALID);
	assert_non_null(strstr(e.msg, "UTF-8"));
	assert_int_equal(pack_tree("/nonexistent/x", &options, into_buf, &b, &r, &e), ERR_NOTFOUND);
	assert_int_equal(pack_tree("/dev/null", &options, into_buf, &b, &r, &e), ERR_INVALID);
	buf_release(&b);
	put(".droverignore", "bad*\n", 0644);
	b = buf_make(10); /* a receiver that is full */
	assert_int_equal(pack_tree(base, &options, into_buf, &b, &r, &e), ERR_TOOBIG);
	buf_release(&b);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_same_tree_gives_the_same_bytes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_was_packed_is_unpacked_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_cannot_travel_is_left_out_and_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_ignore_file_is_honoured, set_up, tear_down),
		cmocka_unit_test_setup_teardown(limits_and_wrong_places_are_told, set_up, tear_down),
	};
	int rc = extract_helper_main(argc, argv);

	return rc >= 0 ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
