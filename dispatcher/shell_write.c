#include "dispatcher/shell_write.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"

struct shell_op {
	struct ledger_write write;
	struct ledger_op op;
	struct ledger_target target;
	struct ledger_bundle bundle;
	char run[RUN_ID_MAX];
	struct call *call;
	void (*done)(struct call *c, const struct ledger_txn *t);
};

static void
told(struct ledger_write *w, void *arg)
{
	struct shell_op *s = arg;

	if (w->txn.result == LEDGER_FAILED && s->call == NULL)
		log_warn("ledger", "%s", w->txn.err.msg);
	if (s->call != NULL)
		s->call->held = false;
	if (s->done != NULL)
		s->done(s->call, &w->txn);
	free(s->bundle.metadata);
	free(s);
}

void
shell_write(struct dispatcher *d, const struct ledger_op *op, struct call *c,
    void (*done)(struct call *c, const struct ledger_txn *t))
{
	struct shell_op *s = xcalloc(1, sizeof(*s));

	s->op = *op;
	if (op->target != NULL) {
		s->target = *op->target;
		s->op.target = &s->target;
	}
	if (op->bundle != NULL) {
		s->bundle = *op->bundle;
		s->bundle.metadata = xstrdup(op->bundle->metadata);
		s->op.bundle = &s->bundle;
	}
	if (op->run != NULL) {
		(void)snprintf(s->run, sizeof(s->run), "%s", op->run);
		s->op.run = s->run;
	}
	if (c != NULL)
		c->held = true;
	s->call = c;
	s->done = done;
	s->write.txn.ops = &s->op;
	s->write.txn.n_ops = 1;
	s->write.done = told;
	s->write.arg = s;
	ledger_queue_push(d->writes, &s->write);
}
