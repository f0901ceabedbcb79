#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/endpoints.h"
#include "cluster/nomad_priv.h"

static struct endpoints
three(void)
{
	struct endpoints l = {.n = 0};

	endpoints_add(&l, "http", "10.0.0.1", 9000, false);
	endpoints_add(&l, "http", "10.0.0.2", 9000, true);
	endpoints_add(&l, "https", "fe80::1", 9000, false);
	return l;
}

static void
what_cannot_be_used_is_left_out(void **state)
{
	struct endpoints l = three();

	(void)state;
	assert_int_equal(l.n, 3);
	assert_string_equal(l.items[2].url, "https://[fe80::1]:9000");
	endpoints_add(&l, "http", "10.0.0.1", 9000, false); /* again */
	endpoints_add(&l, "http", "", 9000, false);
	endpoints_add(&l, "http", NULL, 9000, false);
	endpoints_add(&l, "http", "10.0.0.9", 0, false);
	endpoints_add(&l, "http", "10.0.0.9", 65536, false);
	endpoints_add(&l, "http", "a b", 1, false);
	assert_int_equal(l.n, 3);
	assert_int_equal(endpoints_add_url(&l, "http://x/y?z"), -1);
	assert_int_equal(endpoints_add_url(&l, "http://x:1/"), 0);
	assert_string_equal(l.items[3].url, "http://x:1");
}

static void
near_ones_first_then_in_turn(void **state)
{
	struct endpoints l = three();
	char url[ENDPOINT_URL_MAX];

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(endpoints_pick(&l, 0, url, sizeof(url)), 0);
		assert_string_equal(url, "http://10.0.0.2:9000");
	}
	endpoints_failed(&l, "http://10.0.0.2:9000", 0);
	assert_int_equal(endpoints_pick(&l, 0, url, sizeof(url)), 0);
	assert_string_equal(url, "https://[fe80::1]:9000");
	assert_int_equal(endpoints_pick(&l, 0, url, sizeof(url)), 0);
	assert_string_equal(url, "http://10.0.0.1:9000");
	assert_int_equal(endpoints_pick(&l, AVOID_FIRST_MS, url, sizeof(url)), 0);
	assert_string_equal(url, "http://10.0.0.2:9000");
}

static void
repeated_failures_are_avoided_longer_and_one_outage_counts_once(void **state)
{
	struct endpoints l = {.n = 0};
	int64_t now = 0, last = 0;

	(void)state;
	endpoints_add_url(&l, "http://a:1");
	for (int i = 0; i < 10; i++) {
		int64_t avoid;

		for (int k = 0; k < 5; k++)
			endpoints_failed(&l, "http://a:1", now);
		avoid = l.items[0].avoid_until_mono_ms - now;
		assert_in_range(avoid, last, AVOID_MAX_MS);
		assert_true(i == 0 ? avoid == AVOID_FIRST_MS : avoid == AVOID_MAX_MS || avoid == 2 * last);
		last = avoid;
		now += avoid;
	}
	assert_int_equal(last, AVOID_MAX_MS);
	now += AVOID_MAX_MS + 1;
	endpoints_failed(&l, "http://a:1", now);
	assert_int_equal(l.items[0].avoid_until_mono_ms - now, AVOID_FIRST_MS);
}

static void
when_all_are_avoided_the_soonest_is_tried(void **state)
{
	struct endpoints l = three();
	char url[ENDPOINT_URL_MAX];

	(void)state;
	endpoints_failed(&l, "http://10.0.0.1:9000", 10);
	endpoints_failed(&l, "http://10.0.0.2:9000", 5);
	endpoints_failed(&l, "https://[fe80::1]:9000", 10);
	assert_int_equal(endpoints_pick(&l, 11, url, sizeof(url)), 0);
	assert_string_equal(url, "http://10.0.0.2:9000");
	l.n = 0;
	assert_int_equal(endpoints_pick(&l, 11, url, sizeof(url)), -1);
}

static void
a_new_list_remembers_failures_of_those_that_stay(void **state)
{
	struct endpoints l = three(), fresh = {.n = 0};

	(void)state;
	endpoints_failed(&l, "http://10.0.0.2:9000", 0);
	endpoints_add_url(&fresh, "http://10.0.0.7:9000");
	endpoints_add_url(&fresh, "http://10.0.0.2:9000");
	endpoints_replace(&l, &fresh);
	assert_int_equal(l.n, 2);
	assert_int_equal(l.items[0].failures, 0);
	assert_int_equal(l.items[1].failures, 1);
}

/* The texts are those that Nomad 1.11.3 was seen to answer. */
static void
nomad_is_judged_by_its_words(void **state)
{
	static const struct {
		int status;
		const char *body;
		int want;
	} cases[] = {
		{500, "Enforcing job modify index 1183: job exists with conflicting job modify index: 1185", ERR_CONFLICT},
		{500, "parameterized job not found", ERR_NOTFOUND},
		{500, "Dispatch did not provide required meta keys: [run]", ERR_INVALID},
		{500, "Payload exceeds maximum size; 16385 > 16384", ERR_INVALID},
		{500, "Specified job \"x\" is stopped", ERR_INVALID},
		{500, "No cluster leader", ERR_RETRY},
		{500, "rpc error: EOF", ERR_RETRY},
		{500, "something never seen", ERR_RETRY},
		{403, "Permission denied", ERR_DENIED},
		{404, "job not found", ERR_NOTFOUND},
		{400, "Failed to parse job: <nil>: Unset variable \"vertical\"", ERR_INVALID},
		{429, "", ERR_RETRY},
		{503, "", ERR_RETRY},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (nomad_verdict(cases[i].status, cases[i].body) != cases[i].want)
			fail_msg("%d %s: %s", cases[i].status, cases[i].body, err_word(nomad_verdict(cases[i].status, cases[i].body)));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_cannot_be_used_is_left_out), cmocka_unit_test(near_ones_first_then_in_turn),
		cmocka_unit_test(repeated_failures_are_avoided_longer_and_one_outage_counts_once),
		cmocka_unit_test(when_all_are_avoided_the_soonest_is_tried),
		cmocka_unit_test(a_new_list_remembers_failures_of_those_that_stay), cmocka_unit_test(nomad_is_judged_by_its_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
