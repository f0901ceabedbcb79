#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"

/* Every test works in a directory of its own, which is the working directory too. */
static char dir[PATH_MAX];
static int dirfd_;

static int
enter_directory(void **state)
{
	(void)state;
	if (file_temp_dir("drover-test", dir, sizeof(dir), NULL) != 0)
		return -1;
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dirfd_ < 0 ? -1 : chdir(dir);
}

static int
leave_directory(void **state)
{
	(void)state;
	close(dirfd_);
	return chdir("/") != 0 || file_remove_tree(AT_FDCWD, dir, NULL) != 0 || access(dir, F_OK) == 0 ? -1 : 0;
}

static size_t
count_entries(const char *path)
{
	DIR *d = opendir(path);
	size_t n = 0;

	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n - 2;
}

static void
write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(file_write_all(fd, text, strlen(text), NULL), 0);
	close(fd);
}

static void
replaces_whole_files(void **state)
{
	struct buf b = buf_make(100);
	struct stat st;
	mode_t mask = umask(077);

	(void)state;
	assert_int_equal(file_replace(dirfd_, "f", "old", 3, 0644, NULL), 0);
	assert_int_equal(file_replace(dirfd_, "f", "newer", 5, 0640, NULL), 0);
	umask(mask);
	assert_int_equal(file_read(dirfd_, "f", &b, NULL), 0);
	assert_string_equal(buf_str(&b), "newer");
	assert_int_equal(stat("f", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(count_entries("."), 1);
	buf_release(&b);
}

static void
a_replacement_that_fails_leaves_nothing(void **state)
{
	static const char *const names[] = {"", ".", "..", "a/b", "/a"};
	char long_name[NAME_MAX + 1];
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(file_replace(dirfd_, names[i], "x", 1, 0600, &e), ERR_INVALID);
	memset(long_name, 'n', NAME_MAX);
	long_name[NAME_MAX] = '\0';
	assert_int_equal(file_replace(dirfd_, long_name, "x", 1, 0600, &e), ERR_INVALID);
	assert_int_equal(mkdir("d", 0755), 0);
	assert_int_equal(file_replace(dirfd_, "d", "x", 1, 0600, &e), ERR_IO); /* a directory is not replaced */
	assert_int_equal(count_entries("."), 1);
}

static void
reads_up_to_the_limit(void **state)
{
	static char large[100000];
	struct buf b = buf_make(10);
	struct err e;

	(void)state;
	write_file("ten", "0123456789");
	write_file("eleven", "0123456789x");
	assert_int_equal(mkfifo("fifo", 0600), 0);
	assert_int_equal(file_read(dirfd_, "ten", &b, NULL), 0);
	assert_int_equal(b.len, 10);
	buf_clear(&b);
	buf_adds(&b, "was");
	assert_int_equal(file_read(dirfd_, "eleven", &b, &e), ERR_TOOBIG);
	assert_int_equal(file_read(dirfd_, "none", &b, &e), ERR_NOTFOUND);
	assert_int_equal(file_read(dirfd_, ".", &b, &e), ERR_IO);
	assert_int_equal(file_read(dirfd_, "fifo", &b, &e), ERR_IO); /* and does not wait for a writer */
	assert_string_equal(buf_str(&b), "was");
	buf_release(&b);

	/* The limit is noticed only after a good part was read: that part goes again. */
	b = buf_make(sizeof(large) - 2);
	memset(large, 'x', sizeof(large) - 1);
	write_file("large", large);
	buf_adds(&b, "was");
	assert_int_equal(file_read(dirfd_, "large", &b, &e), ERR_TOOBIG);
	assert_string_equal(buf_str(&b), "was");
	buf_release(&b);
}

static void
makes_directories_on_the_way(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(file_mkdirs("a/b//c/", 0755, &e), 0);
	assert_int_equal(file_mkdirs("a/b/c/d", 0755, &e), 0);
	assert_int_equal(access("a/b/c/d", F_OK), 0);
	assert_int_equal(file_mkdirs("/", 0755, &e), 0);
	write_file("f", "");
	assert_int_equal(file_mkdirs("f", 0755, &e), ERR_IO);
	assert_int_equal(file_mkdirs("f/g", 0755, &e), ERR_IO);
	assert_int_equal(file_mkdirs("", 0755, &e), ERR_IO);
}

static void
joins_with_one_slash(void **state)
{
	static const char *const cases[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a//", "/b", "a/b"}, {"/", "b", "/b"},
	    {"", "b", "b"}};
	char out[8];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(file_join(out, sizeof(out), cases[i][0], cases[i][1], NULL), 0);
		assert_string_equal(out, cases[i][2]);
	}
	assert_int_equal(file_join(out, sizeof(out), "1234", "56", NULL), 0);
	assert_int_equal(file_join(out, sizeof(out), "1234", "567", NULL), ERR_TOOBIG);
}

static void
one_at_a_time_holds_a_lock(void **state)
{
	struct err e;
	int first = file_lock("lock", &e), again;

	(void)state;
	assert_true(first >= 0);
	assert_true((fcntl(first, F_GETFD) & FD_CLOEXEC) != 0);
	assert_int_equal(file_lock("lock", &e), ERR_CONFLICT);
	close(first);
	again = file_lock("lock", &e);
	assert_true(again >= 0);
	close(again);
	assert_int_equal(file_lock("none/lock", &e), ERR_IO);
}

static void
removes_a_tree_but_nothing_behind_links(void **state)
{
	(void)state;
	assert_int_equal(file_mkdirs("outside/kept", 0755, NULL), 0);
	write_file("outside/file", "x");
	assert_int_equal(file_mkdirs("tree/a/b/c", 0755, NULL), 0);
	assert_int_equal(file_mkdirs("tree/d", 0755, NULL), 0);
	write_file("tree/a/b/file", "x");
	assert_int_equal(mkfifo("tree/d/fifo", 0600), 0);
	assert_int_equal(symlink("../../outside", "tree/a/link"), 0);
	assert_int_equal(symlink(dir, "tree/absolute"), 0);
	assert_int_equal(symlink("outside", "link"), 0);
	assert_int_equal(file_remove_tree(dirfd_, "tree", NULL), 0);
	assert_int_equal(file_remove_tree(dirfd_, "link", NULL), 0);
	assert_int_equal(file_remove_tree(dirfd_, "tree", NULL), 0); /* not there: fine */
	assert_int_equal(count_entries("."), 1);
	assert_int_equal(count_entries("outside"), 2);
	assert_int_equal(file_remove_tree(dirfd_, "outside/file", NULL), 0);
	assert_int_equal(count_entries("outside"), 1);
}

static void
directories_without_permission_are_no_refuge(void **state)
{
	uid_t uid = geteuid();

	(void)state;
	/* Root may do everything, which would prove nothing. */
	if (uid == 0) {
		assert_int_equal(chown(".", 65534, 65534), 0);
		assert_int_equal(seteuid(65534), 0);
	}
	assert_int_equal(file_mkdirs("tree/a/b", 0755, NULL), 0);
	write_file("tree/a/b/f", "");
	write_file("tree/a/f", "");
	assert_int_equal(chmod("tree/a/b", 0), 0);
	assert_int_equal(chmod("tree/a", 0500), 0);
	assert_int_equal(chmod("tree", 0), 0);
	assert_int_equal(file_remove_tree(dirfd_, "tree", NULL), 0);
	assert_int_equal(count_entries("."), 0);
	if (uid == 0)
		assert_int_equal(seteuid(0), 0);
}

static void
a_very_deep_tree_needs_few_descriptors(void **state)
{
	struct rlimit few, before;
	int fd = dup(dirfd_);

	(void)state;
	for (int depth = 0; depth < 6000; depth++) { /* far beyond PATH_MAX */
		int next;

		assert_int_equal(mkdirat(fd, "directory", 0755), 0);
		assert_int_equal(mkdirat(fd, "beside", 0755), 0);
		next = openat(fd, "directory", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(fd);
		fd = next;
	}
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){.rlim_cur = (rlim_t)fd + 8, .rlim_max = before.rlim_max};
	close(fd);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(file_remove_tree(dirfd_, "directory", NULL), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(count_entries("."), 1);
}

#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, enter_directory, leave_directory)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIRECTORY(replaces_whole_files),
		IN_DIRECTORY(a_replacement_that_fails_leaves_nothing),
		IN_DIRECTORY(reads_up_to_the_limit),
		IN_DIRECTORY(makes_directories_on_the_way),
		IN_DIRECTORY(joins_with_one_slash),
		IN_DIRECTORY(one_at_a_time_holds_a_lock),
		IN_DIRECTORY(removes_a_tree_but_nothing_behind_links),
		IN_DIRECTORY(directories_without_permission_are_no_refuge),
		IN_DIRECTORY(a_very_deep_tree_needs_few_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
