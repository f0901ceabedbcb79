#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dispatcher/core/plan.h"
#include "dispatcher/core/queue.h"

#define N 64

static double use[3];
static struct queue_tenant tenants[3];

static struct queue *
fresh(void)
{
	static struct queue q;

	queue_init(&q);
	for (size_t i = 0; i < 3; i++) {
		use[i] = 0;
		queue_tenant_init(&tenants[i], &use[i], i);
	}
	return &q;
}

static void
finish(struct queue *q)
{
	queue_release(q);
	for (size_t i = 0; i < 3; i++)
		queue_tenant_release(&tenants[i]);
}

static struct queue_entry
entry(size_t tenant, int64_t rank_ms, uint64_t order, enum queue_kind kind)
{
	return (struct queue_entry){&tenants[tenant], rank_ms, order, HEAP_NOWHERE, (uint8_t)kind};
}

/* Ten points of priority are worth ten times the time that one is worth: not more, so that nothing waits for ever. */
static void
waiting_makes_up_for_priority(void **state)
{
	(void)state;
	assert_true(queue_rank_ms(5000, 1, 1000) < queue_rank_ms(5000, 0, 1000));
	assert_true(queue_rank_ms(5000, 10, 1000) < queue_rank_ms(0, 4, 1000));
	assert_true(queue_rank_ms(5001, 10, 1000) > queue_rank_ms(0, 5, 1000));
	assert_true(queue_rank_ms(1700000000000, 100, 60000) > queue_rank_ms(1700000000000 - 6000001, 0, 60000));
}

static void
rank_comes_before_order(void **state)
{
	struct queue_entry a = entry(0, 200, 3, QUEUE_ANY), lower = entry(1, 100, 9, QUEUE_ANY), twin = entry(0, 200, 4, QUEUE_ANY);

	(void)state;
	assert_true(queue_before(&lower, &a) && queue_before(&a, &twin));
	assert_false(queue_before(&a, &lower) || queue_before(&twin, &a) || queue_before(&a, &a));
}

static void
a_worker_sees_only_its_kinds(void **state)
{
	struct queue *q = fresh();
	struct queue_entry job = entry(0, 1, 1, QUEUE_JOB), suspect = entry(0, 2, 2, QUEUE_ANY_SUSPECT), any = entry(0, 3, 3, QUEUE_ANY);

	(void)state;
	queue_add(q, &any);
	queue_add(q, &job);
	queue_add(q, &suspect);
	assert_ptr_equal(queue_best(q, QUEUE_ALL), &job);
	assert_ptr_equal(queue_best(q, QUEUE_ALL & ~QUEUE_BIT(QUEUE_JOB)), &suspect);
	assert_ptr_equal(queue_best(q, QUEUE_BIT(QUEUE_ANY) | QUEUE_BIT(QUEUE_WARM)), &any);
	assert_null(queue_best(q, QUEUE_BIT(QUEUE_WARM)));
	assert_null(queue_oldest(q, QUEUE_BIT(QUEUE_WARM)));
	assert_int_equal(queue_len(q, QUEUE_ALL), 3);
	assert_int_equal(queue_len(q, QUEUE_SUSPECTS), 1);
	finish(q);
}

static void
who_used_least_comes_first_and_the_oldest_is_known(void **state)
{
	struct queue *q = fresh();
	struct queue_entry a = entry(0, 1, 1, QUEUE_ANY), b = entry(1, 9, 2, QUEUE_WARM), b_old = entry(1, 8, 3, QUEUE_ANY),
	    c = entry(2, 5, 4, QUEUE_JOB);

	(void)state;
	queue_add(q, &a);
	queue_add(q, &b);
	queue_add(q, &b_old);
	queue_add(q, &c);
	assert_ptr_equal(queue_best(q, QUEUE_ALL), &a); /* equals: the tenant that came first */
	use[0] = 10;
	queue_tenant_moved(q, &tenants[0]);
	assert_ptr_equal(queue_best(q, QUEUE_ALL), &b_old);
	assert_ptr_equal(queue_best(q, QUEUE_BIT(QUEUE_ANY)), &b_old);
	use[1] = 11, use[2] = 12;
	queue_resort(q);
	assert_ptr_equal(queue_best(q, QUEUE_ALL), &a);
	assert_ptr_equal(queue_best(q, QUEUE_BIT(QUEUE_WARM) | QUEUE_BIT(QUEUE_JOB)), &b);
	assert_ptr_equal(queue_oldest(q, QUEUE_ALL & ~QUEUE_BIT(QUEUE_ANY)), &c);
	assert_ptr_equal(queue_oldest(q, QUEUE_ALL), &a);
	finish(q);
}

static void
order_and_position_agree_for_many(void **state)
{
	struct queue *q = fresh();
	struct queue_entry e[N];
	uint64_t x = 88172645463325252u; /* xorshift64, Marsaglia 2003 */
	size_t own, told[N];

	(void)state;
	for (size_t i = 0; i < N; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		e[i] = entry(x % 3, (int64_t)(x / 5 % 7), i, (enum queue_kind)(x / 35 % QUEUE_KINDS));
		queue_add(q, &e[i]);
	}
	queue_remove(q, &e[7]);
	assert_int_equal(e[7].pos, HEAP_NOWHERE);
	/* Every lease adds one to its tenant's use: a position told at first is the turn in which the run is taken. */
	for (size_t i = 0; i < N; i++)
		told[i] = i == 7 ? 0 : queue_position(q, &e[i], 1, &own);
	for (size_t turn = 1; turn < N; turn++) {
		struct queue_entry *best = queue_best(q, QUEUE_ALL);

		assert_int_equal(queue_position(q, best, 1, &own), 1);
		assert_in_range(told[best - e], turn > 2 ? turn - 2 : 1, turn + 2); /* equals may stand either way */
		queue_remove(q, best);
		use[best->tenant - tenants]++;
		queue_tenant_moved(q, best->tenant);
		assert_int_equal(queue_len(q, QUEUE_ALL), N - 1 - turn);
	}
	assert_null(queue_best(q, QUEUE_ALL));
	finish(q);
}

static bool
is(const void *arg, const struct queue_entry *e)
{
	return arg == e;
}

static void
looking_beside_stays_with_its_equals(void **state)
{
	struct queue *q = fresh();
	struct queue_entry best = entry(0, 0, 1, QUEUE_ANY), near = entry(0, 50, 2, QUEUE_ANY), far = entry(0, 51, 3, QUEUE_ANY);
	struct queue_entry other = entry(1, 0, 4, QUEUE_ANY), warm = entry(0, 0, 5, QUEUE_WARM);

	(void)state;
	queue_add(q, &best);
	queue_add(q, &near);
	queue_add(q, &far);
	queue_add(q, &other);
	queue_add(q, &warm);
	assert_ptr_equal(queue_beside(&best, 50, is, &near), &near);
	assert_null(queue_beside(&best, 50, is, &far));
	assert_null(queue_beside(&best, 50, is, &other));
	assert_null(queue_beside(&best, 50, is, &warm));
	finish(q);
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
		struct plan_input in = {.lanes = {cases[i].normal, cases[i].large}, .in_nomad = cases[i].in_nomad,
		    .window = cases[i].window};
		struct plan_output out = plan_one_shots(&in);

		if (out.ask[0] != cases[i].want[0] || out.ask[1] != cases[i].want[1])
			fail_msg("case %zu: asked for %zu and %zu", i, out.ask[0], out.ask[1]);
	}
}

static void
the_wait_is_estimated_from_what_is_before(void **state)
{
	static const struct {
		struct wait_input in;
		int64_t want_ms;
	} cases[] = {
		{{.place = 1, .capacity = 4, .service_ms = 1000}, 0},
		{{.place = 1, .busy = 3, .capacity = 4, .service_ms = 1000}, 0},
		{{.place = 1, .busy = 4, .capacity = 4, .service_ms = 1000}, 125},  /* one of four is halfway through, on average */
		{{.place = 4, .busy = 4, .capacity = 4, .service_ms = 1000}, 500},
		{{.place = 8, .busy = 4, .capacity = 4, .service_ms = 1000}, 1500},
		{{.place = 100000, .busy = 10, .capacity = 10, .service_ms = 60000}, 599970000},
		{{.place = 1, .capacity = 1, .delay_ms = 7000, .service_ms = 0}, 7000},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(wait_estimate_ms(&cases[i].in), cases[i].want_ms);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waiting_makes_up_for_priority),     cmocka_unit_test(rank_comes_before_order),
		cmocka_unit_test(a_worker_sees_only_its_kinds),      cmocka_unit_test(who_used_least_comes_first_and_the_oldest_is_known),
		cmocka_unit_test(order_and_position_agree_for_many), cmocka_unit_test(looking_beside_stays_with_its_equals),
		cmocka_unit_test(the_plan_divides_the_backlog),      cmocka_unit_test(the_wait_is_estimated_from_what_is_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
