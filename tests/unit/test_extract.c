#include "extract_rig.h"

#include <sys/statvfs.h>

#include "storage/extract_parts.h"
#include "storage/extract_settings.h"

static const char *
repeat(const char *piece, size_t n)
{
	static char out[3 * EXTRACT_PATH_MAX];

	out[0] = '\0';
	for (size_t i = 0, len = strlen(piece); i < n; i++)
		memcpy(out + i * len, piece, len + 1);
	return out;
}

/* --- names --- */

static void
names_are_cleaned_or_refused(void **state)
{
	static const struct {
		const char *raw, *clean; /* NULL: refused */
		int rc;
	} cases[] = {
		{"a", "a", 0}, {"./a//b/./c", "a/b/c", 0}, {"a/", "a", 0}, {".", "", 0}, {"./", "", 0}, {"a\\..\\b", "a\\..\\b", 0},
		{"caf\xc3\xa9", "caf\xc3\xa9", 0}, {"...", "...", 0}, {"a/..b", "a/..b", 0},
		{"", NULL, ERR_INVALID}, {"/a", NULL, ERR_INVALID}, {"..", NULL, ERR_INVALID}, {"a/../b", NULL, ERR_INVALID},
		{"a/..", NULL, ERR_INVALID}, {"caf\xe9", NULL, ERR_INVALID}, {"\xc0\xaf", NULL, ERR_INVALID},
		{"\xed\xa0\x80", NULL, ERR_INVALID}, {".wh.a", NULL, ERR_INVALID}, {"d/.wh..wh..opq", NULL, ERR_INVALID},
	};
	struct extract_limits l = extract_limits_default();
	char out[EXTRACT_PATH_MAX + 1];
	unsigned parts;
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(extract_name_clean(cases[i].raw, &l, out, &parts, &e), cases[i].rc);
		if (cases[i].clean != NULL)
			assert_string_equal(out, cases[i].clean);
	}
}

static void
names_have_limits(void **state)
{
	struct extract_limits l = extract_limits_default();
	char out[EXTRACT_PATH_MAX + 1];
	unsigned parts;
	struct err e;

	(void)state;
	assert_int_equal(extract_name_clean(repeat("n", 255), &l, out, &parts, &e), 0);
	assert_int_equal(extract_name_clean(repeat("n", 256), &l, out, &parts, &e), ERR_TOOBIG);
	assert_int_equal(extract_name_clean(repeat("d/", 65), &l, out, &parts, &e), 0); /* 64 directories and a name */
	assert_int_equal(parts, 65);
	assert_int_equal(extract_name_clean(repeat("d/", 66), &l, out, &parts, &e), ERR_TOOBIG);
	l.max_depth = EXTRACT_DEPTH_MAX;
	assert_int_equal(extract_name_clean(repeat("0123456789abcde/", 256), &l, out, &parts, &e), 0);
	assert_int_equal(extract_name_clean(repeat("0123456789abcdef/", 256), &l, out, &parts, &e), ERR_TOOBIG);
}

static void
links_stay_inside(void **state)
{
	static const struct {
		const char *link, *target;
		int rc;
		bool verify;
	} cases[] = {
		{"a", "b", 0, false}, {"d/a", "../b", 0, false}, {"d/e/a", "../../b/c", 0, false}, {"a", ".", 0, false},
		{"d/a", "..", 0, false}, {"a", "b/../c", 0, true}, {"d/a", "b/../../c", 0, true},
		{"a", "..", ERR_INVALID, false}, {"a", "../b", ERR_INVALID, false}, {"d/a", "../../b", ERR_INVALID, false},
		{"a", "b/../../c", ERR_INVALID, false}, {"a", "/etc/passwd", ERR_INVALID, false}, {"a", "", ERR_INVALID, false},
		{"a", "caf\xe9", ERR_INVALID, false},
	};
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool verify = false;

		assert_int_equal(extract_link_check(cases[i].link, cases[i].target, &verify, &e), cases[i].rc);
		assert_int_equal(verify, cases[i].verify);
	}
}

static void
quoted_names_cannot_move_a_terminal(void **state)
{
	static const struct {
		const char *raw, *quoted;
	} cases[] = {
		{"plain", "\"plain\""}, {"a\nb", "\"a\\x0ab\""}, {"\033[2J", "\"\\x1b[2J\""}, {"caf\xc3\xa9", "\"caf\xc3\xa9\""},
		{"\xff", "\"\\xff\""}, {"a\"b\\", "\"a\\x22b\\x5c\""}, {"\xc2\x9b" "31m", "\"\\xc2\\x9b31m\""},
	};
	char q[EXTRACT_QUOTE_LEN];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(extract_quote(cases[i].raw, q), cases[i].quoted);
	assert_string_equal(extract_quote(repeat("n", 5000), q) + 49, "...\"");
	assert_true(strlen(extract_quote(repeat("\n", 5000), q)) < EXTRACT_QUOTE_LEN);
}

static void
a_tree_comes_out_with_safe_modes(void **state)
{
	struct place *p = *state;
	struct extract_result r;
	struct stat st, linked;
	struct err e;
	char text[64];

	tar_entry(p, "./", '5', NULL, NULL, 0755);
	tar_entry(p, "link", '2', "d/file", NULL, 0777); /* before its target: made last */
	tar_entry(p, "d/", '5', NULL, NULL, 0);
	tar_entry(p, "d/file", '0', NULL, "hello", 07777);
	tar_entry(p, "hard", '1', "d/file", NULL, 0);
	tar_entry(p, "new/deep/file", '0', NULL, "x", 0);
	tar_end(p);
	assert_int_equal(unpack(p, NULL, NULL, &r, &e), 0);
	assert_int_equal(r.entries, 8); /* with two directories that only a name implies */
	assert_int_equal(r.bytes, 5 + 5 + 1); /* a hard link counts like a copy */
	assert_int_equal(fstatat(p->dir_fd, "d", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0755);
	assert_int_equal(fstatat(p->dir_fd, "d/file", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0755);
	assert_int_equal(st.st_mtime, 1000000000);
	assert_int_equal(st.st_uid, geteuid() == 0 ? PLACE_UID : geteuid());
	assert_int_equal(fstatat(p->dir_fd, "hard", &linked, 0), 0);
	assert_int_equal(linked.st_ino, st.st_ino);
	assert_int_equal(fstatat(p->dir_fd, "new/deep/file", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0644);
	assert_int_equal(readlinkat(p->dir_fd, "link", text, sizeof(text)), 6);
}

static void
an_empty_archive_is_an_empty_tree(void **state)
{
	struct place *p = *state;
	struct extract_result r = {.entries = -1};
	struct err e;

	tar_end(p);
	assert_int_equal(unpack(p, NULL, NULL, &r, &e), 0);
	assert_int_equal(r.entries, 0);
	p->tar.len = 0;
	assert_int_equal(unpack(p, NULL, NULL, &r, &e), ERR_INVALID);
	assert_true(e.hint[0] != '\0');
}

static void
refusals_name_entry_and_rule(void **state)
{
	static const struct {
		const char *name;
		char type;
		const char *link, *data;
		int rc;
		const char *rule;
	} cases[] = {
		{"../out", '0', NULL, "x", ERR_INVALID, "\"..\" component"}, {"/abs", '0', NULL, "x", ERR_INVALID, "absolute"},
		{"dev", '3', NULL, NULL, ERR_INVALID, "character device"}, {"disk", '4', NULL, NULL, ERR_INVALID, "block device"},
		{"pipe", '6', NULL, NULL, ERR_INVALID, "fifo"}, {"l", '2', "../../etc", NULL, ERR_INVALID, "outside"},
		{"l", '2', "/etc/passwd", NULL, ERR_INVALID, "absolute"}, {"h", '1', "nothing", NULL, ERR_INVALID, "came before"},
		{"h", '1', "../h", NULL, ERR_INVALID, "\"..\" component"}, {"first", '0', NULL, "x", ERR_INVALID, "there already"},
		{"first/below", '0', NULL, "x", ERR_INVALID, "not a directory"}, {"first", '2', "dir", NULL, ERR_INVALID, "already"},
		{"caf\xe9", '0', NULL, "x", ERR_INVALID, "UTF-8"}, {".wh.x", '0', NULL, "x", ERR_INVALID, "whiteout"},
		{"via", '2', "dir/self/..", NULL, ERR_INVALID, "inside"},
	};
	struct place *p = *state;
	struct extract_result r;
	struct err e;
	char dir[8];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* Each in a directory of its own, since a refusal leaves what came before it to the caller. */
		int top = p->dir_fd;

		snprintf(dir, sizeof(dir), "%zu", i);
		assert_int_equal(mkdirat(top, dir, 0755), 0);
		p->dir_fd = openat(top, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(geteuid() != 0 || fchown(p->dir_fd, PLACE_UID, PLACE_UID) == 0);
		buf_clear(&p->tar);
		tar_entry(p, "first", '0', NULL, "x", 0644);
		tar_entry(p, "dir/self", '2', "../dir", NULL, 0777);
		tar_entry(p, cases[i].name, cases[i].type, cases[i].link, cases[i].data, 0644);
		tar_end(p);
		if (cases[i].rule != NULL && strcmp(cases[i].name, "via") == 0) {
			/* Inside in truth as well: dir/self is dir, its parent the root. */
			assert_int_equal(unpack(p, NULL, NULL, &r, &e), 0);
		} else {
			assert_int_equal(unpack(p, NULL, NULL, &r, &e), cases[i].rc);
			assert_non_null(strstr(e.msg, cases[i].rule));
			assert_non_null(strstr(e.msg, "entry \""));
			assert_true(e.hint[0] != '\0');
		}
		close(p->dir_fd);
		p->dir_fd = top;
	}
}

static void
a_link_through_a_link_that_leaves_is_found(void **state)
{
	struct place *p = *state;
	struct extract_result r;
	struct err e;

	/* As text p/q/up/.. is p/q; in truth up is the root, and what is above it exists. */
	tar_entry(p, "p/q/up", '2', "../..", NULL, 0777);
	tar_entry(p, "p/q/out", '2', "up/..", NULL, 0777);
	tar_end(p);
	assert_int_equal(unpack(p, NULL, NULL, &r, &e), ERR_INVALID);
	assert_non_null(strstr(e.msg, "p/q/out"));
}

static void
limits_are_kept(void **state)
{
	static const struct {
		size_t offset;
		int64_t least; /* that lets the archive pass */
	} cases[] = {
		{offsetof(struct extract_limits, max_bytes), 8}, {offsetof(struct extract_limits, max_file_bytes), 5},
		{offsetof(struct extract_limits, max_entries), 4}, {offsetof(struct extract_limits, max_depth), 1},
		{offsetof(struct extract_limits, max_name_bytes), 6},
	};
	struct place *p = *state;
	struct extract_result r;
	struct err e;
	char dir[8];

	tar_entry(p, "d/file", '0', NULL, "hello", 0644); /* with d: two entries, and d has none of its own */
	tar_entry(p, "d/x", '0', NULL, "abc", 0644);
	tar_entry(p, "e", '5', NULL, NULL, 0644);
	tar_end(p);
	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		struct extract_limits l = extract_limits_default();
		int64_t *value = (int64_t *)(void *)((char *)&l + cases[i / 2].offset);
		int top = p->dir_fd;

		snprintf(dir, sizeof(dir), "%zu", i);
		assert_int_equal(mkdirat(top, dir, 0755), 0);
		p->dir_fd = openat(top, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(geteuid() != 0 || fchown(p->dir_fd, PLACE_UID, PLACE_UID) == 0);
		*value = cases[i / 2].least - (int64_t)(i % 2);
		if (cases[i / 2].offset == offsetof(struct extract_limits, max_depth) && i % 2 == 1)
			*value = 0; /* no limit at all is an error of the caller */
		assert_int_equal(unpack(p, &l, NULL, &r, &e), i % 2 == 0 ? 0 : *value == 0 ? ERR_INVALID : ERR_TOOBIG);
		close(p->dir_fd);
		p->dir_fd = top;
	}
}

/* Too little left on the disk is the node's matter, whichever of both it is: elsewhere the same archive may do. */
static void
what_is_to_stay_free_stays_free(void **state)
{
	struct place *p = *state;
	struct extract_limits space = extract_limits_default(), inodes = extract_limits_default();
	struct extract_result r;
	struct statvfs v;
	struct err e;

	tar_entry(p, "a", '0', NULL, "hello", 0644);
	tar_end(p);
	space.min_free_bytes = inodes.min_free_inodes = INT64_MAX / 2;
	assert_int_equal(unpack(p, &space, NULL, &r, &e), ERR_RETRY);
	assert_non_null(strstr(e.msg, "less free space"));
	assert_int_equal(fstatvfs(p->dir_fd, &v), 0);
	if (v.f_files > 0) { /* some file systems have no number of them */
		assert_int_equal(unpack(p, &inodes, NULL, &r, &e), ERR_RETRY);
		assert_non_null(strstr(e.msg, "less free inodes"));
	}
	assert_int_equal(faccessat(p->dir_fd, "a", F_OK, 0), -1);
}

static void
a_cut_archive_is_refused(void **state)
{
	static const size_t lengths[] = {100, 512, 700, 1024, 1200};
	struct place *p = *state;
	struct extract_result r;
	struct err e;

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		buf_clear(&p->tar);
		tar_entry(p, "a", '0', NULL, "hello", 0644);
		tar_entry(p, "b", '0', NULL, "hello", 0644);
		tar_end(p);
		p->tar.len = lengths[i];
		assert_int_equal(unpack(p, NULL, NULL, &r, &e), ERR_INVALID);
		unlinkat(p->dir_fd, "a", 0);
		unlinkat(p->dir_fd, "b", 0);
	}
}

static void
a_cancel_ends_the_helper(void **state)
{
	struct place *p = *state;
	struct extract_result r;
	struct err e;
	atomic_bool stop = true;

	tar_entry(p, "a", '0', NULL, "hello", 0644);
	tar_end(p);
	assert_int_equal(unpack(p, NULL, &stop, &r, &e), ERR_CANCELED);
}

static void
kinds_are_told_by_content(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		enum target_kind kind;
	} cases[] = {
		{"", 0, TARGET_FILE}, {"PK\003\004", 4, TARGET_ARCHIVE}, {"PK\005\006", 4, TARGET_ARCHIVE}, {"PK", 2, TARGET_FILE},
		{"\x1f\x8b\x08\x00", 4, TARGET_ARCHIVE}, {"BZh9", 4, TARGET_ARCHIVE}, {"\xfd" "7zXZ\0", 6, TARGET_ARCHIVE},
		{"\x28\xb5\x2f\xfd", 4, TARGET_ARCHIVE}, {"#mtree\n", 7, TARGET_FILE}, {"7z\xbc\xaf", 4, TARGET_FILE},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = memfd_create("probe", MFD_CLOEXEC);

		assert_int_equal(file_write_all(fd, cases[i].bytes, cases[i].len, NULL), 0);
		assert_int_equal(extract_probe(fd), cases[i].kind);
		close(fd);
	}
}

struct program {
	struct extract_limits limits;
};

static void
settings_and_defaults_agree(void **state)
{
	static const struct setting rows[] = {EXTRACT_SETTINGS(struct program, limits)};
	static const struct settings_table table = {"t", "a test", rows, sizeof(rows) / sizeof(rows[0]), NULL};
	const struct extract_limits l = extract_limits_default();
	/* All but the two floors, which are the cache's settings. */
	const size_t n_fields = sizeof(l) / sizeof(int64_t) - 2;
	struct program p = {{0}};
	char *argv[] = {"t", NULL};
	struct err e;

	(void)state;
	for (size_t i = 0; i < table.n; i++)
		unsetenv(rows[i].env);
	assert_int_equal(settings_load(&table, &p, 1, argv, NULL, &e), 0);
	assert_memory_equal(&p.limits, &l, sizeof(l));
	assert_int_equal(table.n, n_fields);
	for (size_t i = 0; i < table.n; i++)
		for (size_t k = 0; k < i; k++)
			assert_int_not_equal(rows[i].offset, rows[k].offset);
	settings_release(&table, &p);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_cleaned_or_refused), cmocka_unit_test(names_have_limits),
		cmocka_unit_test(links_stay_inside), cmocka_unit_test(quoted_names_cannot_move_a_terminal),
		cmocka_unit_test_setup_teardown(a_tree_comes_out_with_safe_modes, place_setup, place_teardown),
		cmocka_unit_test_setup_teardown(an_empty_archive_is_an_empty_tree, place_setup, place_teardown),
		cmocka_unit_test_setup_teardown(refusals_name_entry_and_rule, place_setup, place_teardown),
		cmocka_unit_test_setup_teardown(a_link_through_a_link_that_leaves_is_found, place_setup, place_teardown),
		cmocka_unit_test_setup_teardown(limits_are_kept, place_setup, place_teardown),
		cmocka_unit_test_setup_teardown(what_is_to_stay_free_stays_free, place_setup, place_teardown),
		cmocka_unit_test_setup_teardown(a_cut_archive_is_refused, place_setup, place_teardown),
		cmocka_unit_test_setup_teardown(a_cancel_ends_the_helper, place_setup, place_teardown),
		cmocka_unit_test(kinds_are_told_by_content), cmocka_unit_test(settings_and_defaults_agree),
	};
	int helper = extract_helper_main(argc, argv);

	return helper >= 0 ? helper : cmocka_run_group_tests(tests, NULL, NULL);
}
