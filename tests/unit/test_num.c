#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"

typedef int parser(const char *, int64_t, int64_t, int64_t *, struct err *);

struct good {
	const char *text;
	int64_t value;
};

static void
check_good(parser *parse, const struct good *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int64_t value = -42, v = cases[i].value;

		if (parse(cases[i].text, INT64_MIN, INT64_MAX, &value, NULL) != 0 || value != v)
			fail_msg("'%s' gives %lld", cases[i].text, (long long)value);
		/* The bounds include their ends, and only these. */
		assert_int_equal(parse(cases[i].text, v, v, &value, NULL), 0);
		if (v < INT64_MAX)
			assert_int_equal(parse(cases[i].text, v + 1, INT64_MAX, &value, NULL), ERR_INVALID);
		if (v > INT64_MIN)
			assert_int_equal(parse(cases[i].text, INT64_MIN, v - 1, &value, NULL), ERR_INVALID);
	}
}

static void
check_bad(parser *parse, const char *const *texts, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int64_t value = 42;
		struct err e = {0};

		if (parse(texts[i], INT64_MIN, INT64_MAX, &value, &e) != ERR_INVALID)
			fail_msg("'%s' is taken as %lld", texts[i], (long long)value);
		assert_int_equal(value, 42);
		assert_int_equal(e.code, ERR_INVALID);
	}
}

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void
whole_numbers(void **state)
{
	static const struct good good[] = {{"0", 0}, {"-0", 0}, {"+7", 7}, {"007", 7}, {"9223372036854775807", INT64_MAX},
	    {"-9223372036854775808", INT64_MIN}};
	static const char *const bad[] = {"", "-", "+", " 1", "1 ", "1.0", "0x10", "--1", "1e3", "9223372036854775808",
	    "-9223372036854775809", "99999999999999999999999", "1\n"};

	(void)state;
	check_good(num_int, good, COUNT(good));
	check_bad(num_int, bad, COUNT(bad));
}

static void
sizes(void **state)
{
	static const struct good good[] = {{"0", 0}, {"5", 5}, {"5B", 5}, {"1kB", 1000}, {"2MB", 2000000}, {"1.5GB", 1500000000},
	    {"1TB", 1000000000000}, {"64Ki", 65536}, {"64KiB", 65536}, {"1Mi", 1048576}, {"1.5Gi", 1610612736},
	    {"0.5TiB", 549755813888}, {"0.1Ki", 102}, {"0.000001MB", 1}, {"8388607Ti", 8388607LL << 40}};
	static const char *const bad[] = {"", "B", "Ki", "-1", "+1", "1K", "1k", "1M", "1mb", "1KB", "1 Ki", "1.5", "1.5B", "1.Ki",
	    ".5Ki", "1..5Ki", "1.0000001Ki", "8388608Ti", "9223372036854775808", "1KiBx", "1Kib", "1,5Ki"};

	(void)state;
	check_good(num_size, good, COUNT(good));
	check_bad(num_size, bad, COUNT(bad));
}

static void
durations(void **state)
{
	static const struct good good[] = {{"0", 0}, {"0s", 0}, {"250ms", 250}, {"90s", 90000}, {"1h30m", 5400000},
	    {"1d2h3m4s5ms", 93784005}, {"1m1ms", 60001}, {"106751991167d", 106751991167LL * 86400000}};
	static const char *const bad[] = {"", "5", "s", "-1s", "1.5h", "1m1h", "1s1s", "1h 30m", "1w", "1H", "00", "1h30",
	    "106751991168d", "106751991167d24h", "1mss"};

	(void)state;
	check_good(num_duration, good, COUNT(good));
	check_bad(num_duration, bad, COUNT(bad));
}

static void
processors(void **state)
{
	static const struct good good[] = {{"500m", 500}, {"0", 0}, {"2", 2000}, {"1.5", 1500}, {"0.001", 1}, {"0.25", 250}};
	static const char *const bad[] = {"", "m", "-1", "1.5m", "1 ", "2c", "9223372036854775807"};

	(void)state;
	check_good(num_cpu, good, COUNT(good));
	check_bad(num_cpu, bad, COUNT(bad));
}

static void
errors_name_text_and_bounds(void **state)
{
	int64_t value;
	struct err e;

	(void)state;
	num_int("x", 1, 9, &value, &e);
	assert_string_equal(e.msg, "'x' is not a whole number from 1 to 9");
	num_size("x", 1024, 1 << 30, &value, &e);
	assert_non_null(strstr(e.msg, "from 1 KiB to 1 GiB"));
	num_duration("x", 1500, 3600000, &value, &e);
	assert_non_null(strstr(e.msg, "from 1s 500ms to 1h"));
}

static void
formats_for_people(void **state)
{
	static const struct good sizes_[] = {{"0 B", 0}, {"1023 B", 1023}, {"1 KiB", 1024}, {"1.5 KiB", 1536},
	    {"1 MiB", 1048575}, {"1.5 GiB", 1610612736}, {"-2 KiB", -2048}, {"8 EiB", INT64_MAX}, {"-8 EiB", INT64_MIN}};
	static const struct good durations_[] = {{"0s", 0}, {"1ms", 1}, {"1s", 1000}, {"1s 1ms", 1001}, {"2m 3s", 123456},
	    {"1h", 3600001}, {"1d 23h", 172799999}, {"-1s", -1000}};
	char out[32];

	(void)state;
	for (size_t i = 0; i < COUNT(sizes_); i++)
		assert_string_equal(num_format_size(sizes_[i].value, out, sizeof(out)), sizes_[i].text);
	for (size_t i = 0; i < COUNT(durations_); i++)
		assert_string_equal(num_format_duration(durations_[i].value, out, sizeof(out)), durations_[i].text);
	assert_string_equal(num_format_size(1536, out, 4), "1.5");
	num_format_duration(INT64_MIN, out, sizeof(out));
	assert_int_equal(out[0], '-');
}

static void
every_number_survives_its_text(void **state)
{
	uint64_t x = 88172645463325252u; /* xorshift64, Marsaglia 2003 */
	char text[32];

	(void)state;
	for (int i = 0; i < 20000; i++) {
		int64_t value, back;

		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		value = (int64_t)x >> (x % 63);
		snprintf(text, sizeof(text), "%lld", (long long)value);
		assert_int_equal(num_int(text, INT64_MIN, INT64_MAX, &back, NULL), 0);
		assert_int_equal(back, value);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_numbers),
		cmocka_unit_test(sizes),
		cmocka_unit_test(durations),
		cmocka_unit_test(processors),
		cmocka_unit_test(errors_name_text_and_bounds),
		cmocka_unit_test(formats_for_people),
		cmocka_unit_test(every_number_survives_its_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
