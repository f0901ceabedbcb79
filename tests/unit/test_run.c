#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/run.h"

static void
words_go_both_ways(void **state)
{
	(void)state;
	for (int i = 0; i < RUN_STATES; i++) {
		enum run_state s = RUN_STATES;

		assert_true(run_state_parse(run_state_word((enum run_state)i), &s));
		assert_int_equal(s, i);
	}
	for (int i = 0; i < FAIL_CLASSES; i++) {
		enum fail_class f = FAIL_CLASSES;

		assert_true(fail_class_parse(fail_class_word((enum fail_class)i), &f));
		assert_int_equal(f, i);
	}
	for (int i = 0; i < RUN_CLASSES; i++) {
		enum run_class k = RUN_CLASSES;

		assert_true(run_class_parse(run_class_word((enum run_class)i), &k));
		assert_int_equal(k, i);
	}
}

static void
unknown_words_change_nothing(void **state)
{
	static const char *const words[] = {"Queued", "queued ", "done", "x"};

	(void)state;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		enum run_state s = RUN_CANCELED;
		enum fail_class f = FAIL_OOM;
		enum run_class k = CLASS_LARGE;

		assert_false(run_state_parse(words[i], &s) || fail_class_parse(words[i], &f) || run_class_parse(words[i], &k));
		assert_true(s == RUN_CANCELED && f == FAIL_OOM && k == CLASS_LARGE);
	}
}

static void
four_states_are_final(void **state)
{
	(void)state;
	assert_false(run_state_final(RUN_QUEUED) || run_state_final(RUN_RUNNING) || run_state_final(RUN_CANCELING));
	assert_true(run_state_final(RUN_COMPLETED) && run_state_final(RUN_FAILED));
	assert_true(run_state_final(RUN_TIMED_OUT) && run_state_final(RUN_CANCELED));
}

static void
fences_survive_their_text(void **state)
{
	static const struct fence cases[] = {{0, 0}, {1, 2}, {7, 100}, {UINT64_MAX, UINT64_MAX}};
	char text[FENCE_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fence f = {9, 9};

		assert_true(fence_parse(fence_text(cases[i], text), &f));
		assert_true(fence_equal(f, cases[i]));
	}
	assert_false(fence_equal((struct fence){1, 2}, (struct fence){2, 2}));
	assert_false(fence_equal((struct fence){1, 2}, (struct fence){1, 3}));
}

static void
broken_fences_are_refused(void **state)
{
	static const char *const bad[] = {
		"", "-", "1", "1-", "-1", "1-2-3", "1-2 ", " 1-2", "+1-2", "1--2", "01-2", "1-02", "0x1-2",
		"18446744073709551616-1", "1-99999999999999999999", "1-184467440737095516150",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct fence f = {3, 4};

		if (fence_parse(bad[i], &f))
			fail_msg("accepted '%s'", bad[i]);
		assert_true(f.epoch == 3 && f.seq == 4);
	}
}

static void
ids_are_made_as_they_are_checked(void **state)
{
	static const uint8_t bytes[8] = {0x00, 0x01, 0xab, 0xff, 0x10, 0x20, 0x30, 0x40};
	char id[RUN_ID_MAX], longest[WORKFLOW_NAME_MAX];

	(void)state;
	assert_string_equal(run_id_make("rust_fuzz", bytes, id), "rust_fuzz-0001abff10203040");
	assert_true(run_id_valid(id));
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_true(run_id_valid(run_id_make(longest, bytes, id)));
	assert_int_equal(strlen(id), sizeof(longest) - 1 + 17);
}

static void
names_are_checked(void **state)
{
	static const struct {
		bool (*valid)(const char *);
		const char *text;
		bool want;
	} cases[] = {
		{run_id_valid, "a-0123456789abcdef", true},       {run_id_valid, "a-b_c-0123456789abcdef", true},
		{run_id_valid, "a-0123456789abcdeF", false},      {run_id_valid, "a-0123456789abcde", false},
		{run_id_valid, "-0123456789abcdef", false},       {run_id_valid, "0123456789abcdef", false},
		{run_id_valid, "../x-0123456789abcdef", false},   {run_id_valid, "", false},
		{workflow_name_valid, "security_assessment", true}, {workflow_name_valid, "a", true},
		{workflow_name_valid, "9a", false},               {workflow_name_valid, "A", false},
		{workflow_name_valid, "a/b", false},              {workflow_name_valid, "a.b", false},
		{workflow_name_valid, "", false},                 {workflow_name_valid, "a\nb", false},
		{vertical_name_valid, "python", true},            {vertical_name_valid, "a-b", true},
		{vertical_name_valid, "a_b", false},              {vertical_name_valid, "-a", false},
		{vertical_name_valid, "abcdefghijklmnopqrstuvwxyzabcde", true},
		{vertical_name_valid, "abcdefghijklmnopqrstuvwxyzabcdef", false},
		{target_id_valid, "01234567-89ab-cdef-0123-456789abcdef", true},
		{target_id_valid, "01234567-89ab-cdef-0123-456789abcdeg", false},
		{target_id_valid, "01234567-89ab-cdef-0123-456789ABCDEF", false},
		{target_id_valid, "0123456789ab-cdef-0123-456789abcdef-", false}, {target_id_valid, "", false},
		{sha256_text_valid, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", true},
		{sha256_text_valid, "E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", false},
		{sha256_text_valid, "e3b0", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (cases[i].valid(cases[i].text) != cases[i].want)
			fail_msg("case %zu: '%s'", i, cases[i].text);
	}
}

static void
keys_are_where_everyone_looks(void **state)
{
	char out[1100];

	(void)state;
	assert_string_equal(key_target("01234567-89ab-cdef-0123-456789abcdef", out, sizeof(out)),
	    "01234567-89ab-cdef-0123-456789abcdef/target");
	assert_string_equal(key_result("a-0123456789abcdef", 3, RESULT_MANIFEST, out, sizeof(out)), "a-0123456789abcdef/3/results.json");
	assert_string_equal(key_bundle("e3b0", out, sizeof(out)), "bundles/e3b0.tar.zst");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_go_both_ways),       cmocka_unit_test(unknown_words_change_nothing),
		cmocka_unit_test(four_states_are_final),    cmocka_unit_test(fences_survive_their_text),
		cmocka_unit_test(broken_fences_are_refused), cmocka_unit_test(ids_are_made_as_they_are_checked),
		cmocka_unit_test(names_are_checked),        cmocka_unit_test(keys_are_where_everyone_looks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
