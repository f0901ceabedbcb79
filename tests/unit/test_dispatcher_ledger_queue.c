#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "dispatcher/ledger_queue.h"
#include "dispatcher/meters.h"

/* A ledger that breaks while it commits, and cannot be read at first. */
struct broken {
	struct ledger base;
	size_t commits, reads;
	uint64_t last; /* number that it turns out to hold */
};

static int
broken_commit(struct ledger *l, struct ledger_txn **txns, size_t n, struct err *e)
{
	struct broken *b = (struct broken *)l;

	if (b->commits++ > 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		txns[i]->result = LEDGER_UNKNOWN;
	return err_set(e, ERR_IO, "the disk went away");
}

static int
broken_last(struct ledger *l, uint64_t *ret, struct err *e)
{
	struct broken *b = (struct broken *)l;

	if (b->reads++ == 0)
		return err_set(e, ERR_IO, "it is still away");
	*ret = b->last;
	return 0;
}

static const struct ledger_ops ops = {.commit = broken_commit, .last_number = broken_last};

struct heard {
	struct loop *loop;
	enum ledger_result result;
	size_t n, downs, ups, downs_before_result;
};

static void
on_done(struct ledger_write *w, void *arg)
{
	struct heard *h = arg;

	h->downs_before_result = h->downs;
	h->result = w->txn.result;
	h->n++;
}

static void
on_health(void *arg, bool writable, const char *why)
{
	struct heard *h = arg;

	if (writable) {
		h->ups++;
		loop_stop(h->loop);
	} else {
		h->downs++;
		assert_string_equal(why, "the disk went away");
	}
}

static void
on_deposed(void *arg)
{
	(void)arg;
	fail();
}

/* What cannot be known is told to nobody until it was read back: then all of the group is there, or none of it. */
static void
an_unknown_commit_is_read_back(void **state)
{
	static const struct {
		uint64_t last;
		enum ledger_result want;
	} cases[] = {{1, LEDGER_OK}, {0, LEDGER_FAILED}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct broken ledger = {.base.ops = &ops, .last = cases[i].last};
		struct ledger_write write = {.done = on_done};
		struct heard h = {.n = 0};
		struct ledger_queue_config c = {.ledger = &ledger.base, .health = on_health, .deposed = on_deposed, .arg = &h};
		struct ledger_queue *q;
		struct err e = {0};

		c.loop = h.loop = loop_new(&e);
		assert_non_null(h.loop);
		q = ledger_queue_new(&c, &e);
		assert_non_null(q);
		write.arg = &h;
		ledger_queue_push(q, &write);
		assert_int_equal(ledger_queue_pending(q), 1);
		loop_run(h.loop);
		assert_int_equal(h.n, 1);
		assert_int_equal(h.result, cases[i].want);
		assert_int_equal(h.downs_before_result, 1);
		assert_int_equal(h.ups, 1); /* by the probe, once it can write again */
		assert_int_equal(ledger.reads, 3);
		assert_int_equal(ledger_queue_pending(q), 0);
		ledger_queue_free(q);
		loop_free(h.loop);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(an_unknown_commit_is_read_back)};

	meters_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
