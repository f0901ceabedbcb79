#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/retry.h"

static const struct retry_policy fast = {.max_attempts = 6, .base_ms = 100, .cap_ms = 1000, .budget_ms = 0};

static void
ceiling_doubles_until_the_cap(void **state)
{
	static const struct {
		uint32_t attempt;
		int64_t longest_ms;
	} cases[] = {{1, 100}, {2, 200}, {3, 400}, {4, 800}, {5, 1000}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* The draw is modulo ceiling + 1: the ceiling itself is drawn, the next value wraps to no delay. */
		assert_int_equal(retry_next(&fast, cases[i].attempt, 0, (uint64_t)cases[i].longest_ms), cases[i].longest_ms);
		assert_int_equal(retry_next(&fast, cases[i].attempt, 0, (uint64_t)cases[i].longest_ms + 1), 0);
	}
}

static void
gives_up_after_the_last_attempt(void **state)
{
	(void)state;
	assert_true(retry_next(&fast, 5, 0, 0) >= 0);
	assert_int_equal(retry_next(&fast, 6, 0, 0), -1);
	assert_int_equal(retry_next(&fast, UINT32_MAX, 0, 0), -1);
}

static void
never_sleeps_past_the_budget(void **state)
{
	struct retry_policy p = fast;

	(void)state;
	p.budget_ms = 500;
	assert_int_equal(retry_next(&p, 1, 400, 100), 100);
	assert_int_equal(retry_next(&p, 1, 401, 100), -1);
	assert_int_equal(retry_next(&p, 1, UINT64_MAX, 0), -1);
}

static void
every_delay_is_within_its_bound(void **state)
{
	struct retry_policy p = {.max_attempts = RETRY_MAX_ATTEMPTS, .base_ms = 3, .cap_ms = RETRY_MAX_MS, .budget_ms = 0};
	uint64_t x = 88172645463325252u; /* xorshift64, Marsaglia 2003 */

	(void)state;
	for (uint32_t attempt = 1; attempt < p.max_attempts; attempt++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		int64_t d = retry_next(&p, attempt, 0, x);
		assert_in_range(d, 0, p.cap_ms);
	}
}

static void
invalid_policies_are_told(void **state)
{
	static const struct retry_policy bad[] = {
		{0, 1, 1, 0}, {RETRY_MAX_ATTEMPTS + 1, 1, 1, 0}, {1, 0, 1, 0}, {1, 2, 1, 0}, {1, 1, RETRY_MAX_MS + 1, 0},
	};

	(void)state;
	assert_true(retry_policy_valid(&fast));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(retry_policy_valid(&bad[i]));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ceiling_doubles_until_the_cap), cmocka_unit_test(gives_up_after_the_last_attempt),
		cmocka_unit_test(never_sleeps_past_the_budget), cmocka_unit_test(every_delay_is_within_its_bound),
		cmocka_unit_test(invalid_policies_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
