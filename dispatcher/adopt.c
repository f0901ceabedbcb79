#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "dispatcher/fleet.h"
#include "dispatcher/meters.h"
#include "dispatcher/submit.h"
#include "dispatcher/workers_api.h"
#include "proto/json_out.h"

/* A hand-made `nomad job dispatch` becomes a run: its worker announces it here, and leases it afterwards. The id derives from
 * the child's, so that a repeated announcement (also by a child that Nomad started again) finds the same run. */

struct adoption {
	struct submission submission; /* first: what submission_go expects */
	const char *worker, *job_id, *target, *parameters;
	json_t *parsed;
};

#define A(field) offsetof(struct adoption, field)
static const struct field fields[] = {
	{"worker", FIELD_TEXT, A(worker), true, 1, WORKER_ID_MAX - 1},
	{"job_id", FIELD_TEXT, A(job_id), true, 1, CORE_CHILD_MAX - 1},
	{"workflow", FIELD_TEXT, A(submission.workflow), true, 1, WORKFLOW_NAME_MAX - 1},
	{"target", FIELD_TEXT, A(target), true, 4, SHA256_HEX_LEN - 1},
	{"parameters", FIELD_TEXT, A(parameters), false, 0, 128 * 1024},
};

static void
adoption_release(void *data)
{
	struct adoption *a = data;

	json_decref(a->parsed);
	submission_release(&a->submission);
}

static void
reply_run(struct call *c)
{
	struct adoption *a = c->data;

	call_reply(c, 200, json_pack("{s:s}", "run", a->submission.id));
}

static void
answered(struct call *c, const struct answer *ans)
{
	struct adoption *a = c->data;

	submission_over(c);
	if (ans->err.code != 0 && !c->duplicate && core_find(c->d->core, a->submission.id) == NULL) {
		call_reply_err(c, &ans->err);
		return;
	}
	if (!a->submission.joined)
		metrics_add(METER_SUBMITTED, a->submission.workflow, 1);
	reply_run(c);
}

/* Kind of a target that was named by hand: what the workflow takes, else by its name. */
static const char *
kind_of(const struct workflow *w, const char *filename)
{
	static const char *const packed[] = {".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2", ".zip"};
	size_t len = strlen(filename);

	if (w->target != TARGET_ANY)
		return w->target == TARGET_TREE_ONLY ? "tree" : "file";
	for (size_t i = 0; i < sizeof(packed) / sizeof(packed[0]); i++)
		if (len > strlen(packed[i]) && strcmp(filename + len - strlen(packed[i]), packed[i]) == 0)
			return "tree";
	return "file";
}

static int
look_up(struct dispatcher *d, void *data, struct err *e)
{
	struct adoption *a = data;
	struct submission *s = &a->submission;
	struct err none;

	s->key_used = ledger_run_find(d->ledger, s->id, NULL, &s->existing, &none) == 0;
	return s->key_used ? 0 : ledger_target_find(d->ledger, a->target, NULL, &s->target, e);
}

static void
looked_up(struct call *c)
{
	struct adoption *a = c->data;
	struct submission *s = &a->submission;
	const struct toolbox_workflow *w = toolbox_find(c->d->toolbox, s->workflow);

	if (c->rc != 0 || c->r == NULL) {
		call_reply_err(c, &c->err);
		return;
	}
	if (s->key_used) {
		reply_run(c);
		return;
	}
	s->want.kind = w == NULL ? "file" : kind_of(w->workflow, s->target.filename);
	snprintf(s->tenant, sizeof(s->tenant), "%s", s->target.tenant);
	if (submission_check(c->d, s, &c->err) != 0)
		call_reply_err(c, &c->err);
	else
		submission_go(c, answered);
}

static int
check(struct call *c, struct adoption *a, struct err *e)
{
	const struct fleet_worker *w = fleet_worker(c->d->fleet, a->worker);
	json_error_t je;

	if (w == NULL)
		return err_set(e, ERR_NOTFOUND, "worker %s is not known: register first", a->worker);
	if (strcmp(w->job_id, a->job_id) != 0)
		return err_set(e, ERR_INVALID, "worker %s does not run in job %.64s", a->worker, a->job_id);
	if (!workflow_name_valid(a->submission.workflow))
		return err_set(e, ERR_INVALID, "'%.64s' is not a workflow's name", a->submission.workflow);
	if (a->parameters == NULL || a->parameters[0] == '\0')
		return 0;
	if (!json_is_shallow(a->parameters, strlen(a->parameters)))
		return err_set(e, ERR_INVALID, "parameters: nested more than %d deep", JSON_DEPTH_MAX);
	a->parsed = json_loads(a->parameters, JSON_REJECT_DUPLICATES, &je);
	if (!json_is_object(a->parsed))
		return err_set(e, ERR_INVALID, "parameters: not a JSON object");
	a->submission.params_in = a->parsed;
	return 0;
}

void
worker_adopt(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct adoption), adoption_release);
	struct adoption *a = c->data;
	struct submission *s = &a->submission;
	struct err e = {0};
	uint8_t hash[SHA256_LEN];

	s->priority = PRIORITY_DEFAULT;
	if (call_body(c, fields, sizeof(fields) / sizeof(fields[0]), a, &s->body, &e) != 0 || check(c, a, &e) != 0) {
		call_reply_err(c, &e);
		return;
	}
	sha256_of(a->job_id, strlen(a->job_id), hash);
	run_id_make(s->workflow, hash, s->id);
	snprintf(s->child, sizeof(s->child), "%s", a->job_id);
	call_work(c, c->d->reads, look_up, looked_up);
}
