#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap.h"

#define ITEMS 500

struct item {
	uint64_t key;
	size_t pos;
};

static bool
less(const void *a, const void *b)
{
	return ((const struct item *)a)->key < ((const struct item *)b)->key;
}

static void
set_pos(void *item, size_t pos)
{
	((struct item *)item)->pos = pos;
}

static uint64_t
next_random(uint64_t *x)
{
	*x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17; /* xorshift64, Marsaglia 2003 */
	return *x;
}

static void
assert_sound(const struct heap *h)
{
	for (size_t i = 0; i < h->len; i++) {
		assert_int_equal(((struct item *)h->items[i])->pos, i);
		if (i > 0)
			assert_false(less(h->items[i], h->items[(i - 1) / 2]));
	}
}

static void
an_empty_heap_gives_nothing(void **state)
{
	struct heap h = heap_make(less, set_pos);

	(void)state;
	assert_null(heap_peek(&h));
	assert_null(heap_pop(&h));
	heap_release(&h);
}

static void
gives_items_in_order(void **state)
{
	struct heap h = heap_make(less, set_pos);
	static struct item items[ITEMS];
	uint64_t x = 88172645463325252u, last = 0;

	(void)state;
	for (size_t i = 0; i < ITEMS; i++) {
		items[i].key = next_random(&x) % 100; /* many ties */
		heap_push(&h, &items[i]);
	}
	for (size_t i = 0; i < ITEMS; i++) {
		struct item *least = heap_peek(&h);

		assert_ptr_equal(heap_pop(&h), least);
		assert_true(least->key >= last);
		assert_true(least->pos == HEAP_NOWHERE);
		last = least->key;
	}
	assert_null(heap_pop(&h));
	heap_release(&h);
}

static void
stays_sound_whatever_is_moved_or_removed(void **state)
{
	struct heap h = heap_make(less, set_pos);
	static struct item items[ITEMS];
	uint64_t x = 88172645463325252u;
	size_t in = 0;

	(void)state;
	for (size_t i = 0; i < ITEMS; i++)
		items[i].pos = HEAP_NOWHERE;
	for (int step = 0; step < 20000; step++) {
		struct item *it = &items[next_random(&x) % ITEMS];

		if (it->pos == HEAP_NOWHERE) {
			it->key = next_random(&x);
			heap_push(&h, it);
			in++;
		} else if (next_random(&x) % 2 == 0) {
			it->key = next_random(&x);
			heap_fix(&h, it->pos);
		} else {
			heap_remove(&h, it->pos);
			assert_true(it->pos == HEAP_NOWHERE);
			in--;
		}
		assert_int_equal(h.len, in);
		if (step % 50 == 0)
			assert_sound(&h);
	}
	assert_sound(&h);
	heap_release(&h);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_heap_gives_nothing),
		cmocka_unit_test(gives_items_in_order),
		cmocka_unit_test(stays_sound_whatever_is_moved_or_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
