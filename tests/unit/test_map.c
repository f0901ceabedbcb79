#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/map.h"

#define KEYS 5000

static void
the_hash_is_siphash(void **state)
{
	/* Vectors of the authors' reference implementation: key 00..0f, input 00..(len-1). */
	static const struct {
		size_t len;
		uint64_t hash;
	} cases[] = {{0, 0x726fdb47dd0e0e31u}, {1, 0x74f839c593dc67fdu}, {7, 0xab0200f58b01d137u}, {8, 0x93f5f5799a932462u},
	    {15, 0xa129ca6149be45e5u}, {63, 0x958a324ceb064572u}};
	static const uint64_t seed[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
	unsigned char input[64];

	(void)state;
	for (unsigned i = 0; i < sizeof(input); i++)
		input[i] = (unsigned char)i;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_true(map_hash(seed, input, cases[i].len) == cases[i].hash);
}

static void
puts_gets_replaces_and_removes(void **state)
{
	struct map *m = map_new();
	char key[] = "key";
	int one, two;

	(void)state;
	assert_null(map_get(m, "key"));
	assert_null(map_remove(m, "key"));
	assert_null(map_put(m, key, &one));
	key[0] = 'X'; /* the map has a copy */
	assert_ptr_equal(map_get(m, "key"), &one);
	assert_null(map_get(m, key));
	assert_ptr_equal(map_put(m, "key", &two), &one);
	assert_int_equal(map_count(m), 1);
	assert_null(map_put(m, "", &one));
	assert_ptr_equal(map_get(m, ""), &one);
	assert_ptr_equal(map_remove(m, "key"), &two);
	assert_null(map_get(m, "key"));
	assert_int_equal(map_count(m), 1);
	map_free(m);
	map_free(NULL);
}

/* Against an array that is right by its simplicity. */
static void
behaves_as_a_plain_table_does(void **state)
{
	static int marks[KEYS];
	static bool present[KEYS];
	struct map *m = map_new();
	uint64_t x = 88172645463325252u; /* xorshift64, Marsaglia 2003 */
	size_t count = 0;
	char key[32];

	(void)state;
	for (int step = 0; step < 100000; step++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		size_t i = x % KEYS, range = 1 + (size_t)step / 4 % KEYS; /* from few keys to many and back to few */
		i %= range;
		snprintf(key, sizeof(key), "key-%zu", i);
		assert_ptr_equal(map_get(m, key), present[i] ? &marks[i] : NULL);
		if (x >> 40 & 1) {
			assert_ptr_equal(map_put(m, key, &marks[i]), present[i] ? &marks[i] : NULL);
			count += !present[i];
			present[i] = true;
		} else {
			assert_ptr_equal(map_remove(m, key), present[i] ? &marks[i] : NULL);
			count -= present[i];
			present[i] = false;
		}
		assert_int_equal(map_count(m), count);
	}
	map_free(m);
}

static void
a_walk_meets_every_entry_once_and_may_remove_it(void **state)
{
	static int seen[KEYS];
	struct map *m = map_new();
	size_t cursor = 0, met = 0;
	const char *key;
	void *value;
	char text[32];

	(void)state;
	for (size_t i = 0; i < KEYS; i++) {
		snprintf(text, sizeof(text), "%zu", i);
		map_put(m, text, &seen[i]);
	}
	while (map_next(m, &cursor, &key, &value)) {
		snprintf(text, sizeof(text), "%td", (int *)value - seen);
		assert_string_equal(text, key);
		++*(int *)value;
		if (met++ % 2 == 0)
			assert_ptr_equal(map_remove(m, text), value);
	}
	for (size_t i = 0; i < KEYS; i++)
		assert_int_equal(seen[i], 1);
	assert_int_equal(map_count(m), KEYS / 2);
	for (cursor = met = 0; map_next(m, &cursor, NULL, NULL); met++)
		;
	assert_int_equal(met, KEYS / 2);
	map_free(m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_hash_is_siphash),
		cmocka_unit_test(puts_gets_replaces_and_removes),
		cmocka_unit_test(behaves_as_a_plain_table_does),
		cmocka_unit_test(a_walk_meets_every_entry_once_and_may_remove_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
