#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

static void
texts_and_instants_agree(void **state)
{
	static const struct {
		int64_t ms;
		const char *text;
	} cases[] = {
		{1, "1970-01-01T00:00:00.001Z"}, {-1, "1969-12-31T23:59:59.999Z"}, {951827696789, "2000-02-29T12:34:56.789Z"},
		{1795261447123, "2026-11-21T11:44:07.123Z"}, {253402300799999, "9999-12-31T23:59:59.999Z"},
		{-62167219200000, "0000-01-01T00:00:00.000Z"},
	};
	char text[CLOCK_TEXT_LEN];
	int64_t ms;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_string_equal(clock_text(cases[i].ms, text), cases[i].text);
		assert_int_equal(clock_parse(cases[i].text, &ms, NULL), 0);
		assert_int_equal(ms, cases[i].ms);
	}
}

static void
no_time_and_impossible_years_have_no_text(void **state)
{
	static const int64_t none[] = {0, 253402300800000, -62167219200001, INT64_MAX, INT64_MIN};
	char text[CLOCK_TEXT_LEN];

	(void)state;
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_string_equal(clock_text(none[i], text), "");
}

static void
reads_what_others_write(void **state)
{
	static const struct {
		const char *text;
		int64_t ms;
	} cases[] = {{"1970-01-01T00:00:01Z", 1000}, {"1970-01-01T00:00:01.5Z", 1500}, {"1970-01-01T00:00:01.123456789Z", 1123},
	    {"1970-01-01T00:00:00.0009Z", 0}, {"2016-12-31T23:59:60Z", 1483228800000}, {"2024-02-29T00:00:00Z", 1709164800000}};
	int64_t ms;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(clock_parse(cases[i].text, &ms, NULL), 0);
		assert_int_equal(ms, cases[i].ms);
	}
}

static void
refuses_everything_else(void **state)
{
	static const char *const bad[] = {"", "now", "2026-11-21", "2026-11-21T11:44:07", "2026-11-21T11:44:07.Z",
	    "2026-11-21T11:44:07.1", "2026-11-21T11:44:07z", "2026-11-21T11:44:07+01:00", "2026-11-21T11:44:07Zx",
	    "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-02-29T00:00:00Z", "2026-04-31T00:00:00Z",
	    "2026-01-00T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:61Z",
	    "2026-1-01T00:00:00Z", " 2026-01-01T00:00:00Z", "-026-01-01T00:00:00Z", "2026-01-01 00:00:00Z"};
	int64_t ms = 42;
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(clock_parse(bad[i], &ms, &e), ERR_INVALID);
		assert_int_equal(e.code, ERR_INVALID);
	}
	assert_int_equal(ms, 42);
}

static void
every_instant_survives_its_text(void **state)
{
	uint64_t x = 88172645463325252u; /* xorshift64, Marsaglia 2003 */
	char text[CLOCK_TEXT_LEN];
	int64_t back;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		int64_t ms = (int64_t)(x % 315569519999999u) - 62167219200000;
		assert_int_equal(clock_parse(clock_text(ms, text), &back, NULL), 0);
		assert_int_equal(back, ms);
	}
}

static void
the_monotonic_clock_does_not_go_back(void **state)
{
	int64_t before_us = clock_mono_us(), before_ms = clock_mono_ms();
	struct now now = clock_now();

	(void)state;
	assert_true(before_us / 1000 <= before_ms && before_ms <= now.mono_ms && now.mono_ms <= clock_mono_ms());
	assert_true(now.real_ms > 1700000000000 && now.real_ms <= clock_real_ms() + 1000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_and_instants_agree),
		cmocka_unit_test(no_time_and_impossible_years_have_no_text),
		cmocka_unit_test(reads_what_others_write),
		cmocka_unit_test(refuses_everything_else),
		cmocka_unit_test(every_instant_survives_its_text),
		cmocka_unit_test(the_monotonic_clock_does_not_go_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
