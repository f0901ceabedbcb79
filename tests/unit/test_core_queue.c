#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dispatcher/core/plan.h"
#include "dispatcher/core/queue.h"

#define N 64

static struct queue_entry
entry(int priority, int64_t created_real_ms, uint64_t order, enum queue_kind kind)
{
	return (struct queue_entry){priority, created_real_ms, order, HEAP_NOWHERE, kind};
}

static void
priority_comes_before_age_before_order(void **state)
{
	struct queue_entry a = entry(50, 200, 3, QUEUE_ANY), older = entry(50, 100, 9, QUEUE_ANY);
	struct queue_entry urgent = entry(51, 900, 9, QUEUE_ANY), twin = entry(50, 200, 4, QUEUE_ANY);

	(void)state;
	assert_true(queue_before(&urgent, &older) && queue_before(&older, &a) && queue_before(&a, &twin));
	assert_false(queue_before(&older, &urgent) || queue_before(&a, &older) || queue_before(&twin, &a) || queue_before(&a, &a));
}

static void
a_worker_sees_only_its_kinds(void **state)
{
	struct queue q;
	struct queue_entry job = entry(90, 1, 1, QUEUE_JOB), suspect = entry(80, 1, 2, QUEUE_ANY_SUSPECT), any = entry(10, 1, 3, QUEUE_ANY);

	(void)state;
	queue_init(&q);
	queue_add(&q, &any);
	queue_add(&q, &job);
	queue_add(&q, &suspect);
	assert_ptr_equal(queue_best(&q, QUEUE_ALL), &job);
	assert_ptr_equal(queue_best(&q, QUEUE_ALL & ~QUEUE_BIT(QUEUE_JOB)), &suspect);
	assert_ptr_equal(queue_best(&q, QUEUE_BIT(QUEUE_ANY) | QUEUE_BIT(QUEUE_WARM)), &any);
	assert_null(queue_best(&q, QUEUE_BIT(QUEUE_WARM)));
	assert_int_equal(queue_len(&q, QUEUE_ALL), 3);
	assert_int_equal(queue_len(&q, QUEUE_SUSPECTS), 1);
	queue_release(&q);
}

static void
order_and_rank_agree_for_many(void **state)
{
	struct queue_entry e[N];
	struct queue q;
	uint64_t x = 88172645463325252u; /* xorshift64, Marsaglia 2003 */

	(void)state;
	queue_init(&q);
	for (size_t i = 0; i < N; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		e[i] = entry((int)(x % 5), (int64_t)(x / 5 % 7), i, (enum queue_kind)(x / 35 % QUEUE_KINDS));
		queue_add(&q, &e[i]);
	}
	queue_remove(&q, &e[7]);
	assert_int_equal(e[7].pos, HEAP_NOWHERE);
	for (size_t left = N - 1; left > 0; left--) {
		struct queue_entry *best = queue_best(&q, QUEUE_ALL);

		assert_int_equal(queue_rank(&q, best), 1);
		for (size_t i = 0; i < N; i++)
			assert_false(e[i].pos != HEAP_NOWHERE && queue_before(&e[i], best));
		queue_remove(&q, best);
		assert_int_equal(queue_len(&q, QUEUE_ALL), left - 1);
	}
	queue_release(&q);
}

static void
the_plan_divides_the_backlog(void **state)
{
	static const struct {
		struct plan_lane normal, large;
		size_t in_nomad, window;
		size_t want[RUN_CLASSES];
	} cases[] = {
		/*      any job idle starting coming */
		{.normal = {0, 0, 0, 0, 0}, .window = 8},
		{.normal = {3, 0, 0, 0, 0}, .window = 8, .want = {3, 0}},
		{.normal = {3, 0, 2, 0, 0}, .window = 8, .want = {1, 0}},
		{.normal = {3, 0, 9, 0, 0}, .window = 8},
		{.normal = {0, 2, 9, 0, 0}, .window = 8, .want = {2, 0}},       /* idle warm slots are no use to them */
		{.normal = {3, 2, 9, 0, 1}, .window = 8, .in_nomad = 1, .want = {1, 0}},
		{.normal = {3, 0, 0, 0, 5}, .window = 8, .in_nomad = 5},
		{.normal = {100000, 0, 0, 0, 0}, .window = 8, .want = {8, 0}},
		{.normal = {100000, 0, 0, 0, 0}, .window = 8, .in_nomad = 7, .want = {1, 0}},
		{.normal = {100000, 0, 0, 0, 8}, .window = 8, .in_nomad = 8},
		{.normal = {100, 0, 0, 0, 0}, .window = 2, .in_nomad = 5},      /* the window was made smaller */
		{.normal = {5, 0, 2, 2, 0}, .window = 8, .want = {1, 0}},
		{.normal = {5, 1, 2, 9, 0}, .window = 8, .want = {1, 0}},    /* nor are those that start */
		{.normal = {9, 0, 0, 0, 0}, .large = {9, 0, 0, 0, 0}, .window = 4, .want = {2, 2}},
		{.normal = {9, 0, 0, 0, 0}, .large = {1, 0, 0, 0, 0}, .window = 4, .want = {3, 1}},
		{.normal = {1, 0, 0, 0, 0}, .large = {9, 0, 0, 0, 0}, .window = 4, .want = {1, 3}},
		{.normal = {5, 0, 0, 0, 0}, .window = 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct plan_input in = {.lanes = {cases[i].normal, cases[i].large}, .in_nomad = cases[i].in_nomad, .window = cases[i].window};
		struct plan_output out = plan_one_shots(&in);

		if (out.ask[0] != cases[i].want[0] || out.ask[1] != cases[i].want[1])
			fail_msg("case %zu: asked for %zu and %zu", i, out.ask[0], out.ask[1]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(priority_comes_before_age_before_order), cmocka_unit_test(a_worker_sees_only_its_kinds),
		cmocka_unit_test(order_and_rank_agree_for_many),          cmocka_unit_test(the_plan_divides_the_backlog),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
