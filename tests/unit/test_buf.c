#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"

static void
grows_up_to_its_maximum_and_no_further(void **state)
{
	struct buf b = buf_make(100);

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_int_equal(buf_addc(&b, (char)('a' + i % 26)), 0);
	assert_int_equal(b.len, 100);
	assert_false(b.overflow);
	assert_int_equal(buf_addc(&b, '!'), ERR_TOOBIG);
	assert_true(b.overflow);
	assert_int_equal(b.len, 100);
	assert_true(b.cap <= 101);
	assert_int_equal(strlen(buf_str(&b)), 100);
	buf_release(&b);
}

static void
a_refused_addition_adds_nothing(void **state)
{
	struct buf b = buf_make(5);

	(void)state;
	assert_int_equal(buf_adds(&b, "abc"), 0);
	assert_int_equal(buf_adds(&b, "def"), ERR_TOOBIG);
	assert_int_equal(buf_addf(&b, "%d", 123), ERR_TOOBIG);
	assert_int_equal(buf_add(&b, "x", SIZE_MAX), ERR_TOOBIG);
	assert_string_equal(buf_str(&b), "abc");
	assert_int_equal(buf_addf(&b, "%d", 12), 0);
	assert_string_equal(buf_str(&b), "abc12");
	assert_true(b.overflow);
	buf_clear(&b);
	assert_false(b.overflow);
	assert_string_equal(buf_str(&b), "");
	buf_release(&b);
}

static void
holds_any_bytes(void **state)
{
	struct buf b = buf_make(1 << 20);
	char bytes[256];

	(void)state;
	for (int i = 0; i < 256; i++)
		bytes[i] = (char)i;
	for (int i = 0; i < 100; i++)
		assert_int_equal(buf_add(&b, bytes, sizeof(bytes)), 0);
	for (int i = 0; i < 100; i++)
		assert_memory_equal(b.data + 256 * i, bytes, sizeof(bytes));
	assert_int_equal(b.data[b.len], '\0');
	buf_release(&b);
	assert_int_equal(b.max, 1 << 20);
	assert_int_equal(buf_adds(&b, "again"), 0);
	buf_release(&b);
}

static void
consumes_from_the_front(void **state)
{
	struct buf b = buf_make(10);

	(void)state;
	buf_consume(&b, 0);
	buf_adds(&b, "0123456789");
	buf_consume(&b, 4);
	assert_string_equal(buf_str(&b), "456789");
	assert_int_equal(buf_adds(&b, "abcd"), 0);
	buf_consume(&b, 10);
	assert_string_equal(buf_str(&b), "");
	buf_release(&b);
}

static void
hands_its_string_over(void **state)
{
	struct buf b = buf_make(10);
	char *s;

	(void)state;
	assert_string_equal(buf_str(&b), "");
	s = buf_take(&b);
	assert_string_equal(s, "");
	free(s);
	buf_addf(&b, "%s-%d", "x", 1);
	s = buf_take(&b);
	assert_string_equal(s, "x-1");
	assert_int_equal(b.len, 0);
	assert_int_equal(b.max, 10);
	free(s);
	buf_release(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grows_up_to_its_maximum_and_no_further),
		cmocka_unit_test(a_refused_addition_adds_nothing),
		cmocka_unit_test(holds_any_bytes),
		cmocka_unit_test(consumes_from_the_front),
		cmocka_unit_test(hands_its_string_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
