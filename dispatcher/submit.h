/* submit.h - a submission on its way: validated, its target found, its key looked up, given to the core. Loop thread. */
#ifndef DISPATCHER_SUBMIT_H
#define DISPATCHER_SUBMIT_H

#include "dispatcher/call.h"
#include "dispatcher/reuse.h"
#include "dispatcher/toolbox.h"

#define PRIORITY_DEFAULT 50
#define IDEMPOTENCY_KEY_MAX 128

/* Submissions that might be the same pass one at a time. Whoever holds the second gate waits for nothing more. */
enum gate { GATE_KEY, GATE_ALIKE, GATES };
#define GATE_NAME_MAX (TENANT_NAME_MAX + IDEMPOTENCY_KEY_MAX + 4)

struct submission {
	json_t *body;               /* owns what the pointers below point to */
	const char *workflow, *key, *reuse_in;
	json_t *target_in, *params_in, *labels, *concurrency_in;
	struct { const char *key, *mode; int64_t limit; } slots; /* of the concurrency key that was asked for; NULL: the workflow's */
	char *key_template;         /* the workflow's, where none was asked for */
	int64_t max_wait_ms;
	bool dry_run;               /* nothing is submitted: is this a submission that would be taken? */
	int64_t priority, timeout_ms, not_before_real_ms, reuse_max_age_ms;
	int64_t retention_ms;       /* of the results; 0: as the settings say */
	struct { const char *id, *name, *kind; } want;
	char digest[SHA256_HEX_LEN];          /* of the request, for the key */
	char tenant[TENANT_NAME_MAX];
	struct run_needs needs;
	json_t *spec;
	char *spec_text;         /* the same once the core has it; NULL before */
	struct ledger_target target;
	bool target_known, key_used;
	bool again;              /* the id derives from what it is about: another one with the same id is this one */
	bool joined;             /* … and was there before this one was given to the core */
	bool unasked;            /* whether the key is used was left to the ledger */
	struct err refusal;      /* why the run was not taken, while the key is looked up after all */
	char id[RUN_ID_MAX];                  /* of the run: new, derived (adopted), or the one under the key */
	char key_digest[SHA256_HEX_LEN];
	char child[CORE_CHILD_MAX];           /* adopted: the hand-made child, else "" */
	struct ledger_run existing;           /* that the key or the derived id led to */
	enum reuse reuse;
	char gates[GATES][GATE_NAME_MAX];     /* that this submission holds, "" none */
	struct call *waiting[GATES];          /* behind this one at each of them */
	struct call *next_waiting;            /* behind the same one as this */
	const char *any_tenant_target;        /* adopted: id, prefix or digest of a target of any tenant */
};

/* Route: POST /v1/runs. */
void submit_run(struct http_req *r, void *ctx);

/* Checks what was asked against the workflow and fills needs and spec (but the target). ERR_INVALID, ERR_NOTFOUND. */
int submission_check(struct dispatcher *d, struct submission *s, struct err *e);

/* The core has answered: nobody looks for it under its run's id any more. */
void submission_over(struct call *c);

/* Adds the target to the spec and gives the submission to the core; answered gets what it says, or at once that the dispatcher
 * stops. */
void submission_go(struct call *c, void (*answered)(struct call *c, const struct answer *a));

/* Frees what a submission owns. */
void submission_release(void *data);

#endif
