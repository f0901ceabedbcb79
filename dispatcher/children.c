#include "dispatcher/children.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/num.h"

#define UUID_LEN 36

static const char *
text(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s != NULL ? s : "";
}

static bool
copy(char *out, size_t out_len, const char *s)
{
	return snprintf(out, out_len, "%s", s) < (int)out_len;
}

/* Nomad's words may hold line breaks of a driver's error. */
static void
copy_line(char *out, size_t out_len, const char *s)
{
	(void)copy(out, out_len, s);
	for (char *p = out; *p != '\0'; p++) {
		if ((unsigned char)*p < 0x20)
			*p = ' ';
	}
}

bool
job_fact_read(const json_t *job, struct job_fact *ret)
{
	*ret = (struct job_fact){.child = text(job, "ParentID")[0] != '\0', .stopped = json_is_true(json_object_get(job, "Stop")),
	    .dead = strcmp(text(job, "Status"), "dead") == 0};
	/* A request that is too long to be a token of ours is none. */
	if (!copy(ret->request, sizeof(ret->request), text(json_object_get(job, "Meta"), "request")))
		ret->request[0] = '\0';
	return copy(ret->id, sizeof(ret->id), text(job, "ID")) && ret->id[0] != '\0';
}

uint64_t
request_seq(const char *token, const char *ledger_uuid, bool *foreign)
{
	size_t len = strlen(ledger_uuid);
	int64_t seq = 0;

	*foreign = false;
	if (strncmp(token, ledger_uuid, len) == 0 && token[len] == '-' && num_int(token + len + 1, 1, INT64_MAX, &seq, NULL) == 0)
		return (uint64_t)seq;
	*foreign = strlen(token) > UUID_LEN + 1 && token[8] == '-' && token[13] == '-' && token[18] == '-' && token[23] == '-' &&
	    token[UUID_LEN] == '-' && num_int(token + UUID_LEN + 1, 1, INT64_MAX, &seq, NULL) == 0;
	return 0;
}

/* --- allocations --- */

struct ending { /* how the tasks of an allocation ended */
	bool told, killed, oom;
	bool crash;          /* the latest of them: nobody wanted it, and it was no exit with 0 */
	int64_t at_real_ms;  /* when the latest of them was */
	int64_t exit_code, signal;
	const char *failure; /* driver's or set-up's words, "" none */
	const char *last;    /* what the latest event of the start says */
};

/* Events that tell why a task does not start, and those that a start goes through and that a person may be waiting for. */
static const struct {
	const char *type;
	bool failure;
} telling[] = {
	{"Driver Failure", true}, {"Setup Failure", true}, {"Failed Artifact Download", true}, {"Failed Validation", true},
	{"Driver", false}, {"Template", false}, {"Downloading Artifacts", false},
};

static void
read_event(const json_t *event, struct ending *end)
{
	const json_t *details = json_object_get(event, "Details");
	const char *type = text(event, "Type"), *says = text(event, "DisplayMessage");

	if (strcmp(type, "Terminated") == 0) {
		end->told = true;
		(void)num_int(text(details, "exit_code"), INT32_MIN, INT32_MAX, &end->exit_code, NULL); /* absent: as it was, 0 */
		(void)num_int(text(details, "signal"), 0, INT32_MAX, &end->signal, NULL);
		end->oom = strcmp(text(details, "oom_killed"), "true") == 0;
		end->at_real_ms = json_integer_value(json_object_get(event, "Time")) / 1000000;
		end->crash = !end->killed && (end->exit_code != 0 || end->signal != 0);
	}
	if (strcmp(type, "Started") == 0)
		end->killed = false; /* what is said of the process before is not about this one */
	end->killed |= strcmp(type, "Killing") == 0 || strcmp(type, "Killed") == 0 || strcmp(type, "Restart Signaled") == 0;
	for (size_t i = 0; i < sizeof(telling) / sizeof(telling[0]); i++) {
		if (strcmp(type, telling[i].type) != 0)
			continue;
		if (telling[i].failure)
			end->failure = says;
		end->last = says;
	}
}

static struct ending
read_tasks(const json_t *alloc)
{
	struct ending end = {.failure = "", .last = ""};
	json_t *tasks = json_object_get(alloc, "TaskStates"), *task, *event;
	const char *name;
	size_t i;

	json_object_foreach(tasks, name, task) {
		json_array_foreach(json_object_get(task, "Events"), i, event)
			read_event(event, &end);
	}
	return end;
}

static const struct {
	const char *word;
	enum child_state state;
	const char *why;
} statuses[] = {
	{"pending", CHILD_STARTING, ""},
	{"running", CHILD_RUNNING, ""},
	{"unknown", CHILD_UNKNOWN, "its node is disconnected"},
	{"complete", CHILD_ENDED, ""},
	{"failed", CHILD_ENDED, ""},
	{"lost", CHILD_ENDED, "its node was lost"},
};

#define WORKER_UNUSABLE 2 /* drover-worker ends with it where it could not begin */

static void
say_exit(struct alloc_fact *f, const struct ending *end)
{
	if (end->signal != 0)
		snprintf(f->why, sizeof(f->why), "its worker was killed by signal %d", (int)end->signal);
	else
		snprintf(f->why, sizeof(f->why), "its worker ended with exit code %d%s", (int)end->exit_code,
		    end->exit_code == WORKER_UNUSABLE ? ": its settings, its credentials or the way to us; its log says which" : "");
}

static void
explain(struct alloc_fact *f, const struct ending *end)
{
	if (f->state == CHILD_STARTING && end->told)
		say_exit(f, end);
	else if (f->state == CHILD_STARTING)
		copy_line(f->why, sizeof(f->why), end->last);
	if (f->state != CHILD_ENDED || f->lost)
		return;
	f->oom = end->oom;
	/* After a stop that Nomad made, the exit code is the answer to a signal and no fault of the worker's. */
	f->crash = !f->unwanted && !end->killed && (!end->told || end->exit_code != 0 || end->signal != 0);
	if (end->failure[0] != '\0')
		copy_line(f->why, sizeof(f->why), end->failure);
	else if (f->oom)
		(void)copy(f->why, sizeof(f->why), "out of memory");
	else if (f->crash)
		say_exit(f, end);
}

bool
alloc_fact_read(const json_t *alloc, struct alloc_fact *ret)
{
	const char *status = text(alloc, "ClientStatus");
	struct ending end = read_tasks(alloc);

	*ret = (struct alloc_fact){.create_index = (uint64_t)json_integer_value(json_object_get(alloc, "CreateIndex")),
	    .modify_index = (uint64_t)json_integer_value(json_object_get(alloc, "ModifyIndex")),
	    .unwanted = strcmp(text(alloc, "DesiredStatus"), "run") != 0};
	if (!copy(ret->id, sizeof(ret->id), text(alloc, "ID")) || !copy(ret->job, sizeof(ret->job), text(alloc, "JobID")))
		return false;
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		if (strcmp(status, statuses[i].word) != 0)
			continue;
		ret->state = statuses[i].state;
		(void)copy(ret->why, sizeof(ret->why), statuses[i].why);
		ret->lost = strcmp(status, "lost") == 0;
		explain(ret, &end);
		ret->died_real_ms = end.at_real_ms;
		ret->died_crash = end.crash && !ret->unwanted;
		ret->died_oom = end.oom;
		return ret->id[0] != '\0' && ret->job[0] != '\0';
	}
	return false;
}

/* --- placement --- */

/* "N nodes: what; " for each entry of a map from what to N. */
static void
add_counts(struct buf *b, const json_t *map, const char *suffix)
{
	const char *what;
	json_t *count;

	json_object_foreach((json_t *)map, what, count) {
		long long n = (long long)json_integer_value(count);

		buf_addf(b, "%s%lld node%s: %.100s%s", b->len > 0 ? "; " : "", n, n == 1 ? "" : "s", what, suffix);
	}
}

/* Whether it was turned down by every node that was looked at for what the node is, not for what runs there. */
static bool
fits_nowhere(const json_t *metric)
{
	return json_integer_value(json_object_get(metric, "NodesEvaluated")) == json_integer_value(json_object_get(metric, "NodesFiltered"));
}

static bool
lacks_room(const json_t *metric)
{
	const json_t *dimensions = json_object_get(metric, "DimensionExhausted");

	return json_object_get(dimensions, "cpu") != NULL || json_object_get(dimensions, "memory") != NULL ||
	    json_object_get(dimensions, "disk") != NULL;
}

bool
placement_read(const json_t *eval, struct placement *ret)
{
	struct buf b = buf_make(1024);
	json_t *groups = json_object_get(eval, "FailedTGAllocs"), *metric;
	const char *group;

	*ret = (struct placement){.never = false};
	json_object_foreach(groups, group, metric) {
		const json_t *quotas = json_object_get(metric, "QuotaExhausted");

		add_counts(&b, json_object_get(metric, "ConstraintFiltered"), "");
		add_counts(&b, json_object_get(metric, "DimensionExhausted"), " exhausted");
		for (size_t i = 0; i < json_array_size(quotas); i++)
			buf_addf(&b, "%squota: %.100s", b.len > 0 ? "; " : "", json_string_value(json_array_get(quotas, i)));
		ret->never = ret->never || (json_array_size(quotas) == 0 && fits_nowhere(metric));
		ret->exhausted = ret->exhausted || (json_array_size(quotas) == 0 && lacks_room(metric));
		if (b.len == 0 && json_integer_value(json_object_get(metric, "NodesEvaluated")) == 0)
			buf_adds(&b, "no node is eligible in these datacenters and this node pool");
		if (b.len == 0)
			buf_adds(&b, "no node has room");
	}
	copy_line(ret->why, sizeof(ret->why), buf_str(&b));
	buf_release(&b);
	return json_object_size(groups) > 0;
}
