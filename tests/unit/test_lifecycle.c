/* When what is stored has to go: decided from times alone, so that a month passes in a loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "storage/lifecycle.h"

#define DAY LIFECYCLE_DAY_MS
#define HOUR (DAY / 24)
#define BEGAN (20000 * DAY + 7 * HOUR + 12345)

static void
time_decides_unless_somebody_needs_it(void **state)
{
	const int64_t week = 7 * DAY;

	(void)state;
	assert_int_equal(lifecycle_fate(BEGAN, BEGAN + week, week, false), LIFECYCLE_KEEP);
	assert_int_equal(lifecycle_fate(BEGAN + week, BEGAN + week, week, false), LIFECYCLE_KEEP);
	assert_int_equal(lifecycle_fate(BEGAN + week + 1, BEGAN + week, week, false), LIFECYCLE_END);
	assert_int_equal(lifecycle_fate(BEGAN + week - DAY, BEGAN + week, week, true), LIFECYCLE_KEEP);
	assert_int_equal(lifecycle_fate(BEGAN + week - DAY + 1, BEGAN + week, week, true), LIFECYCLE_RENEW);
	assert_int_equal(lifecycle_fate(BEGAN + 10 * week, BEGAN + week, week, true), LIFECYCLE_RENEW);
	/* With a day of retention a day ahead would be always. */
	assert_int_equal(lifecycle_fate(BEGAN, BEGAN + DAY, DAY, true), LIFECYCLE_KEEP);
	assert_int_equal(lifecycle_fate(BEGAN + DAY / 2 + 1, BEGAN + DAY, DAY, true), LIFECYCLE_RENEW);
}

static void
rules_count_whole_days_from_midnight(void **state)
{
	(void)state;
	assert_int_equal(lifecycle_rule_fires_real_ms(20000 * DAY, 7), 20008 * DAY);
	assert_int_equal(lifecycle_rule_fires_real_ms(20000 * DAY + 1, 7), 20008 * DAY);
	assert_int_equal(lifecycle_rule_fires_real_ms(20001 * DAY - 1, 7), 20008 * DAY);
	assert_int_equal(lifecycle_rule_days(7 * DAY), 8);
	assert_int_equal(lifecycle_rule_days(7 * DAY + 1), 9);
	assert_int_equal(lifecycle_rule_days(90 * DAY), 91);
}

/* A run that waits for ninety days, a dispatcher that looks as seldom as its settings allow and is away for a day at the worst
 * moment: the rule never sees the object old. */
static void
what_a_waiting_run_needs_never_falls_to_the_rule(void **state)
{
	static const int64_t retentions[] = {DAY, 2 * DAY, 7 * DAY, 30 * DAY};

	(void)state;
	for (size_t r = 0; r < sizeof(retentions) / sizeof(retentions[0]); r++) {
		for (int64_t start = BEGAN; start < BEGAN + DAY; start += HOUR + 17) {
			int64_t dated = start, expires = start + retentions[r];
			unsigned renewed = 0;

			for (int64_t now = start; now < start + 90 * DAY; now += DAY) {
				assert_true(now < lifecycle_rule_fires_real_ms(dated, lifecycle_rule_days(retentions[r])));
				if (lifecycle_fate(now, expires, retentions[r], true) == LIFECYCLE_RENEW) {
					dated = now;
					expires = now + retentions[r];
					renewed++;
				}
			}
			assert_true(renewed >= 90 * DAY / retentions[r] - 1 && renewed <= 90);
		}
	}
}

static void
orphans_have_their_grace(void **state)
{
	(void)state;
	assert_false(lifecycle_orphaned(BEGAN, BEGAN, DAY));
	assert_false(lifecycle_orphaned(BEGAN + DAY - 1, BEGAN, DAY));
	assert_true(lifecycle_orphaned(BEGAN + DAY, BEGAN, DAY));
	assert_false(lifecycle_orphaned(BEGAN, BEGAN + 5 * DAY, DAY)); /* the server's clock is ahead */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(time_decides_unless_somebody_needs_it), cmocka_unit_test(rules_count_whole_days_from_midnight),
		cmocka_unit_test(what_a_waiting_run_needs_never_falls_to_the_rule), cmocka_unit_test(orphans_have_their_grace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
