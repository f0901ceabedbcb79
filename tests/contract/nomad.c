/* nomad.c - the dispatcher's side of Nomad against a real one: what the core is told when children run, end, crash, are stopped,
 * purged or cannot be placed, and when the server dies. The core is a recorder here: its functions write down what they hear. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>

#include "base/mem.h"
#include "dispatcher/cluster.h"
#include "net/http_client.h"
#include "nomad_agent.h"

#define LEDGER "11111111-2222-4333-8444-555555555555"
#define OTHER "99999999-2222-4333-8444-555555555555"
#define WAIT_MS 60000
#define HEARD_MAX 512

/* Behaves as its vertical is called. */
static const char worker_script[] =
    "#!/bin/sh\n"
    "case $WORKER_VERTICAL in\n"
    "ends) exit 0 ;;\n"
    "fails) exit 3 ;;\n"
    "dies) kill -9 $$ ;;\n"
    "waits) trap 'exit 0' TERM; while [ ! -e \"$GATE\" ]; do sleep 0.1; done ;;\n"
    "*) exec sleep 600 ;;\n"
    "esac\n";

static struct agent agent;
static struct nomad *operator; /* what people do with the nomad command */

/* --- the recorder --- */

static struct {
	struct loop *loop;
	struct core_child child[HEARD_MAX];
	size_t n_children;
	enum dispatch_result result;
	char dispatched[CORE_CHILD_MAX], why[REASON_MAX], away[REASON_MAX];
	size_t n_dispatched, n_purged, n_inquiries_failed, n_begun, n_ended;
	bool purged_ok, up;
	size_t n_away;
	bool (*until)(void);
	bool met;
} heard;

void
core_child(struct core *c, struct now now, const struct core_child *ch)
{
	(void)c, (void)now;
	assert_true(heard.n_children < HEARD_MAX);
	heard.child[heard.n_children++] = *ch;
}

void
core_dispatched(struct core *c, struct now now, uint64_t seq, enum dispatch_result r, const char *child, const char *why)
{
	(void)c, (void)now, (void)seq;
	heard.n_dispatched++;
	heard.result = r;
	snprintf(heard.dispatched, sizeof(heard.dispatched), "%s", child);
	snprintf(heard.why, sizeof(heard.why), "%s", why);
}

void
core_purged(struct core *c, struct now now, uint64_t seq, bool ok)
{
	(void)c, (void)now, (void)seq;
	heard.n_purged++;
	heard.purged_ok = ok;
}

void
core_inquiry_failed(struct core *c, struct now now, const char *child)
{
	(void)c, (void)now, (void)child;
	heard.n_inquiries_failed++;
}

void
core_listing_begin(struct core *c, struct now now)
{
	(void)c, (void)now;
	heard.n_begun++;
}

void
core_listing_end(struct core *c, struct now now)
{
	(void)c, (void)now;
	heard.n_ended++;
}

void
core_nomad_health(struct core *c, struct now now, bool reachable, const char *why)
{
	(void)c, (void)now;
	heard.up = reachable;
	heard.n_away += !reachable;
	snprintf(heard.away, sizeof(heard.away), "%s", why);
}

void
core_warm(struct core *c, struct now now, const struct core_warm *w)
{
	(void)c, (void)now, (void)w;
}

static void
turned(void *arg)
{
	(void)arg;
	if (heard.until != NULL && heard.until()) {
		heard.met = true;
		loop_stop(heard.loop);
	}
}

static void
too_late(void *arg)
{
	loop_stop(arg);
}

/* Runs the loop until the condition holds after something was heard. */
static void
hear(bool (*until)(void), const char *what)
{
	struct loop_timer t = {0};

	heard.until = until;
	heard.met = until();
	if (!heard.met) {
		loop_timer_set(heard.loop, &t, clock_mono_ms() + WAIT_MS, too_late, heard.loop);
		loop_run(heard.loop);
		loop_timer_clear(heard.loop, &t);
	}
	heard.until = NULL;
	if (!heard.met)
		fail_msg("not heard in time: %s (heard %zu facts, last state %d, dispatch %d '%s', away '%s')", what, heard.n_children,
		    heard.n_children > 0 ? (int)heard.child[heard.n_children - 1].state : -1, (int)heard.result, heard.why, heard.away);
}

static const struct core_child *
last(void)
{
	static const struct core_child none = {.seq = UINT64_MAX};

	return heard.n_children > 0 ? &heard.child[heard.n_children - 1] : &none;
}

static bool is_up(void) { return heard.up; }
static bool is_away(void) { return heard.n_away > 0; }
static bool has_answer(void) { return heard.n_dispatched > 0; }
static bool is_purged(void) { return heard.n_purged > 0; }
static bool is_running(void) { return last()->state == CHILD_RUNNING && heard.n_children > 0; }
static bool is_ended(void) { return last()->state == CHILD_ENDED && heard.n_children > 0; }
static bool is_gone(void) { return last()->state == CHILD_GONE && heard.n_children > 0; }
static bool is_whole(void) { return heard.n_children > 0 && !last()->partial; }
static bool is_whole_running(void) { return is_running() && !last()->partial; }
static bool is_stopped_end(void) { return is_ended() && last()->stopped; }
static bool is_unplaced(void) { return heard.n_children > 0 && last()->state == CHILD_PENDING && last()->why[0] != '\0'; }

/* The first child's allocation has ended, and another one runs. */
static bool
is_replaced(void)
{
	bool ended = false, running = false;

	for (size_t i = 0; i < heard.n_children; i++) {
		bool first = strcmp(heard.child[i].alloc, heard.child[0].alloc) == 0;

		ended |= first && heard.child[i].state == CHILD_ENDED;
		running |= !first && heard.child[i].state == CHILD_RUNNING;
	}
	return ended && running;
}

static bool second_listing(void) { return heard.n_ended > 1; }

/* --- a cluster for one test --- */

struct bed {
	struct cluster *cluster;
	struct cluster_config cfg;
	char prefix[32], command[300], gate[300];
	json_t *env;
	struct vertical v;
};

static void
bed_open(struct bed *b, const char *ledger)
{
	struct err e = {0};

	memset(&heard, 0, sizeof(heard));
	heard.loop = loop_new(&e);
	assert_non_null(heard.loop);
	loop_each_turn(heard.loop, turned, NULL);
	b->cfg = (struct cluster_config){.loop = heard.loop, .nomad = {.addr = agent.url}, .jobs_dir = "nomad-jobs", .ledger_uuid = ledger,
	    .datacenters = "*", .driver = "", .worker_command = b->command, .cache_volume = "", .worker_env = b->env,
	    .job_prefix = b->prefix, .connections = 2, .reconcile_ms = 600000};
	b->cluster = cluster_new(&b->cfg, &e);
	if (b->cluster == NULL)
		fail_msg("%s", e.msg);
	cluster_set_vertical(b->cluster, &b->v);
	hear(is_up, "Nomad is reachable");
}

static void
bed_close(struct bed *b)
{
	cluster_free(b->cluster);
	loop_free(heard.loop);
	b->cluster = NULL;
}

/* A cluster of its own job names, with one vertical that behaves as it is called. */
static struct bed *
bed_new(const char *vertical)
{
	static unsigned number;
	struct bed *b = xcalloc(1, sizeof(*b));

	snprintf(b->prefix, sizeof(b->prefix), "t%u", ++number);
	snprintf(b->command, sizeof(b->command), "%s/worker", agent.dir);
	snprintf(b->gate, sizeof(b->gate), "%s/gate-%s", agent.dir, b->prefix);
	b->env = json_pack("{s:s, s:s}", "GATE", b->gate, "QUOTED", "a \"b\" \\ ${x} %{y}");
	snprintf(b->v.name, sizeof(b->v.name), "%s", vertical);
	b->v.capacity = CAPACITY_JOB; /* one-shots alone; tests/cluster has the groups */
	b->v.driver = "raw_exec";
	b->v.cpu_millis[CLASS_NORMAL] = 100;
	b->v.memory_bytes[CLASS_NORMAL] = 32 << 20;
	bed_open(b, LEDGER);
	return b;
}

static void
stop_children(const struct bed *b)
{
	json_t *entries = NULL, *entry;
	uint64_t index;
	size_t i;

	assert_int_equal(nomad_list(operator, b->prefix, &entries, &index, NULL), 0);
	json_array_foreach(entries, i, entry)
		assert_int_equal(nomad_stop(operator, json_string_value(json_object_get(entry, "ID")), true, NULL), 0);
	json_decref(entries);
}

static void
bed_free(struct bed *b)
{
	if (b->cluster != NULL)
		bed_close(b);
	stop_children(b);
	json_decref(b->env);
	free(b);
}

static void
perform(struct bed *b, enum effect_kind kind, uint64_t seq, const char *child)
{
	struct effect e = {.kind = kind, .req = {.seq = seq, .priority = 50}};

	snprintf(e.req.vertical, sizeof(e.req.vertical), "%s", b->v.name);
	snprintf(e.req.child, sizeof(e.req.child), "%s", child);
	cluster_perform(b->cluster, &e);
}

/* Dispatches and waits for the answer; the child's id. */
static const char *
dispatch(struct bed *b, uint64_t seq)
{
	heard.n_dispatched = 0;
	perform(b, EFF_DISPATCH, seq, "");
	hear(has_answer, "an answer to the dispatch");
	assert_string_equal(heard.why, "");
	assert_int_equal(heard.result, DISPATCH_OK);
	return heard.dispatched;
}

static uint64_t
modify_index(const char *job)
{
	json_t *j = NULL;
	uint64_t index;

	assert_int_equal(nomad_job(operator, job, &j, NULL), 0);
	index = (uint64_t)json_integer_value(json_object_get(j, "JobModifyIndex"));
	json_decref(j);
	return index;
}

static void
post(const char *path)
{
	struct http_client *h = http_client_new(NULL);
	char *url = xasprintf("%s%s", agent.url, path);
	struct buf out = buf_make(65536);
	struct http_call c = {.method = "POST", .url = url, .body = "{}", .body_len = 2, .out = &out, .timeout_ms = 10000};

	assert_int_equal(http_perform(h, &c, NULL), 0);
	assert_int_equal(c.status, 200);
	buf_release(&out);
	free(url);
	http_client_free(h);
}

/* --- stories --- */

static void
a_child_runs_ends_and_is_purged(void **state)
{
	struct bed *b = bed_new("ends");
	json_t *job = NULL;
	char child[CORE_CHILD_MAX];

	(void)state;
	snprintf(child, sizeof(child), "%s", dispatch(b, 7));
	hear(is_ended, "the child's end");
	assert_string_equal(last()->child, child);
	assert_int_equal(last()->seq, 7);
	assert_false(last()->crash);
	assert_false(last()->stopped);
	assert_false(last()->alloc_stopped);
	assert_string_not_equal(last()->alloc, "");

	assert_int_equal(nomad_job(operator, child, &job, NULL), 0);
	assert_string_equal(json_string_value(json_object_get(json_object_get(job, "Meta"), "request")), LEDGER "-7");
	assert_int_equal(json_integer_value(json_object_get(job, "Priority")), 50);
	json_decref(job);
	perform(b, EFF_PURGE, 7, child);
	hear(is_purged, "the purge");
	assert_true(heard.purged_ok);
	assert_int_equal(nomad_job(operator, child, &job, NULL), ERR_NOTFOUND);
	bed_free(b);
}

static void
jobs_are_registered_only_when_something_differs(void **state)
{
	struct bed *b = bed_new("ends");
	char *id = xasprintf("%s-run-ends", b->prefix);
	uint64_t first;

	(void)state;
	(void)dispatch(b, 1);
	first = modify_index(id);
	bed_close(b);
	bed_open(b, LEDGER);
	(void)dispatch(b, 2);
	assert_int_equal(modify_index(id), first);
	b->v.memory_bytes[CLASS_NORMAL] *= 2;
	cluster_set_vertical(b->cluster, &b->v);
	(void)dispatch(b, 3);
	assert_true(modify_index(id) > first);
	free(id);
	bed_free(b);
}

static void
a_failed_worker_is_a_crash(void **state)
{
	static const struct {
		const char *vertical, *why;
	} cases[] = {{"fails", "exit code 3"}, {"dies", "signal 9"}};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct bed *b = bed_new(cases[i].vertical);

		(void)dispatch(b, 1);
		hear(is_ended, "the child's end");
		assert_true(last()->crash);
		assert_false(last()->oom);
		assert_non_null(strstr(last()->why, cases[i].why));
		bed_free(b);
	}
}

static void
an_operators_job_stop_is_told_as_such(void **state)
{
	struct bed *b = bed_new("sleeps");

	(void)state;
	(void)dispatch(b, 1);
	hear(is_running, "the child running");
	assert_true(last()->partial);
	assert_int_equal(nomad_stop(operator, heard.dispatched, false, NULL), 0);
	hear(is_stopped_end, "the stopped child's end");
	assert_false(last()->partial);
	assert_false(last()->alloc_stopped);
	assert_false(last()->crash);
	bed_free(b);
}

static void
a_stopped_allocation_is_not_a_stopped_job(void **state)
{
	struct bed *b = bed_new("sleeps");
	char first[40], *path;

	(void)state;
	(void)dispatch(b, 1);
	hear(is_running, "the child running");
	memcpy(first, last()->alloc, sizeof(first));
	path = xasprintf("/v1/allocation/%s/stop", first);
	post(path);
	free(path);
	hear(is_replaced, "its end, and its replacement");
	for (size_t i = 0; i < heard.n_children; i++) { /* both may come in either order */
		assert_false(heard.child[i].stopped);
		if (strcmp(heard.child[i].alloc, first) == 0 && heard.child[i].state == CHILD_ENDED) {
			assert_true(heard.child[i].alloc_stopped);
			assert_true(heard.child[i].partial);
		}
	}
	heard.n_children = 0;
	perform(b, EFF_INQUIRE, 1, heard.dispatched);
	hear(is_whole_running, "the answer to the inquiry");
	assert_int_equal(heard.n_children, 2); /* the old one's end, then the new one */
	assert_string_equal(heard.child[0].alloc, first);
	assert_true(heard.child[0].alloc_stopped);
	bed_free(b);
}

static void
what_cannot_be_placed_says_why(void **state)
{
	struct bed *b = bed_new("sleeps");

	(void)state;
	b->v.memory_bytes[CLASS_NORMAL] = (int64_t)900 << 30;
	cluster_set_vertical(b->cluster, &b->v);
	(void)dispatch(b, 1);
	hear(is_unplaced, "the placement failure");
	assert_non_null(strstr(last()->why, "no node has 921600 MB of memory"));
	heard.n_children = 0;
	perform(b, EFF_INQUIRE, 1, heard.dispatched);
	hear(is_whole, "the answer to the inquiry");
	assert_int_equal(last()->state, CHILD_PENDING);
	assert_non_null(strstr(last()->why, "no node has 921600 MB of memory"));
	/* Stopped before it ran: nothing else will ever tell its end. */
	assert_int_equal(nomad_stop(operator, heard.dispatched, false, NULL), 0);
	hear(is_stopped_end, "the end of the stopped child");
	bed_free(b);
}

static void
a_missing_driver_or_program_says_why(void **state)
{
	struct bed *b = bed_new("sleeps");

	(void)state;
	snprintf(b->command, sizeof(b->command), "/nonexistent/worker");
	b->v.memory_bytes[CLASS_NORMAL]++; /* below a MiB: only the command differs */
	bed_close(b);
	bed_open(b, LEDGER);
	(void)dispatch(b, 1);
	hear(is_ended, "the child's end");
	assert_true(last()->crash);
	assert_non_null(strstr(last()->why, "/nonexistent/worker"));
	b->v.driver = "docker";
	b->v.image = "none/such:1";
	cluster_set_vertical(b->cluster, &b->v);
	heard.n_children = 0;
	(void)dispatch(b, 2);
	hear(is_unplaced, "the placement failure");
	assert_non_null(strstr(last()->why, "driver"));
	bed_free(b);
}

static void
a_purged_child_is_gone(void **state)
{
	struct bed *b = bed_new("sleeps");

	(void)state;
	(void)dispatch(b, 1);
	hear(is_running, "the child running");
	assert_int_equal(nomad_stop(operator, heard.dispatched, true, NULL), 0);
	hear(is_gone, "that it is gone");
	assert_int_equal(last()->seq, 1);
	heard.n_children = 0;
	perform(b, EFF_INQUIRE, 1, heard.dispatched);
	hear(is_gone, "the answer to the inquiry");
	bed_free(b);
}

static void
the_same_token_gives_the_same_child(void **state)
{
	struct bed *b = bed_new("sleeps");
	char child[CORE_CHILD_MAX];

	(void)state;
	snprintf(child, sizeof(child), "%s", dispatch(b, 1));
	hear(is_running, "the child running");
	heard.n_children = 0;
	assert_string_equal(dispatch(b, 1), child);
	hear(is_running, "how the known child stands"); /* no event will tell it again */
	assert_string_equal(last()->child, child);
	assert_string_not_equal(dispatch(b, 2), child);
	bed_free(b);
}

static void
only_our_own_and_hand_made_children_are_told(void **state)
{
	struct bed *b = bed_new("sleeps");
	char *parent = xasprintf("%s-run-sleeps", b->prefix), foreign[CORE_CHILD_MAX], by_hand[CORE_CHILD_MAX];
	json_t *meta = json_pack("{s:s}", "request", OTHER "-5"), *none = json_pack("{s:s}", "workflow", "x");
	bool duplicate;

	(void)state;
	(void)dispatch(b, 1);
	hear(is_running, "the child running");
	assert_int_equal(nomad_dispatch(operator, parent, "a", meta, 50, foreign, sizeof(foreign), &duplicate, NULL), 0);
	assert_int_equal(nomad_dispatch(operator, parent, "b", none, 50, by_hand, sizeof(by_hand), &duplicate, NULL), 0);
	heard.n_children = 0;
	hear(is_running, "the hand-made child");
	for (int pass = 0; pass < 2; pass++) { /* by events, then by a listing */
		bool seen = false;

		for (size_t i = 0; i < heard.n_children; i++) {
			assert_string_not_equal(heard.child[i].child, foreign);
			if (strcmp(heard.child[i].child, by_hand) == 0) {
				seen = true;
				assert_int_equal(heard.child[i].seq, 0);
			}
		}
		assert_true(seen);
		if (pass == 0) {
			bed_close(b);
			bed_open(b, LEDGER);
			assert_int_equal(heard.n_begun, 1);
			assert_int_equal(heard.n_ended, 1);
			assert_int_equal(heard.n_children, 2);
		}
	}
	json_decref(meta);
	json_decref(none);
	free(parent);
	bed_free(b);
}

static bool is_refused(void) { return has_answer() && heard.result == DISPATCH_REFUSED; }

static void
a_parent_stopped_by_an_operator_stays_stopped_a_purged_one_comes_back(void **state)
{
	struct bed *b = bed_new("ends");
	char *parent = xasprintf("%s-run-ends", b->prefix);

	(void)state;
	(void)dispatch(b, 1);
	assert_string_equal(cluster_state(b->cluster), "ok");
	assert_int_equal(nomad_stop(operator, parent, false, NULL), 0);
	heard.n_dispatched = 0;
	perform(b, EFF_DISPATCH, 2, "");
	hear(is_refused, "the refusal");
	bed_close(b);
	bed_open(b, LEDGER);
	heard.n_dispatched = 0;
	perform(b, EFF_DISPATCH, 2, "");
	hear(is_refused, "the refusal");
	assert_non_null(strstr(heard.why, "nomad job start"));
	assert_non_null(strstr(cluster_state(b->cluster), "stopped by an operator"));
	assert_int_equal(nomad_stop(operator, parent, true, NULL), 0);
	bed_close(b);
	bed_open(b, LEDGER);
	(void)dispatch(b, 3);
	free(parent);
	bed_free(b);
}

static void
another_ledgers_jobs_are_noticed(void **state)
{
	struct bed *b = bed_new("ends");
	const char *names[] = {"ends"};
	struct err e = {0};

	(void)state;
	(void)dispatch(b, 1);
	assert_int_equal(cluster_check_ledger(&b->cfg, names, 1, &e), 0);
	b->cfg.ledger_uuid = OTHER;
	assert_int_equal(cluster_check_ledger(&b->cfg, names, 1, &e), ERR_CONFLICT);
	assert_non_null(strstr(e.msg, LEDGER));
	b->cfg.nomad.addr = "http://127.0.0.1:1";
	assert_int_equal(cluster_check_ledger(&b->cfg, names, 1, &e), ERR_RETRY);
	bed_free(b);
}

static void
a_refused_registration_says_why(void **state)
{
	struct bed *b = bed_new("ends");

	(void)state;
	bed_close(b);
	b->v.driver = "teleport"; /* the file's own validation */
	bed_open(b, LEDGER);
	heard.n_dispatched = 0;
	perform(b, EFF_DISPATCH, 1, "");
	hear(is_refused, "the refusal");
	assert_non_null(strstr(heard.why, "driver must be docker or raw_exec"));
	assert_non_null(strstr(cluster_state(b->cluster), "driver must be docker or raw_exec"));
	bed_free(b);
}

static void
nothing_is_lost_when_the_server_dies(void **state)
{
	struct bed *b = bed_new("waits");
	char child[CORE_CHILD_MAX];

	(void)state;
	snprintf(child, sizeof(child), "%s", dispatch(b, 1));
	hear(is_running, "the child running");
	agent_kill(&agent.server, SIGKILL);
	heard.n_away = 0;
	hear(is_away, "that Nomad is away");
	assert_non_null(strstr(heard.away, agent.url));
	assert_string_not_equal(cluster_state(b->cluster), "ok");
	agent_write(agent.dir, strrchr(b->gate, '/') + 1, "", 0600); /* the worker ends unseen */
	agent.server = agent_spawn(&agent, "server");
	heard.n_ended = 0;
	heard.n_children = 0;
	hear(is_up, "that Nomad is back");
	assert_string_equal(cluster_state(b->cluster), "ok");
	hear(is_ended, "the end of the child");
	assert_string_equal(last()->child, child);
	(void)dispatch(b, 2);
	bed_free(b);
}

static void
listings_come_on_a_timer(void **state)
{
	struct bed *b = bed_new("ends");

	(void)state;
	bed_close(b);
	b->cfg.reconcile_ms = 1000;
	memset(&heard, 0, sizeof(heard));
	heard.loop = loop_new(NULL);
	loop_each_turn(heard.loop, turned, NULL);
	b->cfg.loop = heard.loop;
	b->cluster = cluster_new(&b->cfg, NULL);
	assert_non_null(b->cluster);
	hear(second_listing, "the second listing");
	bed_free(b);
}

static int
start(void **state)
{
	struct nomad_config cfg;

	(void)state;
	if (agent_start(&agent) != 0)
		return -1;
	agent_write(agent.dir, "worker", worker_script, 0755);
	cfg = (struct nomad_config){.addr = agent.url};
	operator = nomad_new(&cfg);
	return 0;
}

static int
stop(void **state)
{
	(void)state;
	nomad_free(operator);
	agent_stop(&agent);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_child_runs_ends_and_is_purged),
		cmocka_unit_test(jobs_are_registered_only_when_something_differs),
		cmocka_unit_test(a_failed_worker_is_a_crash),
		cmocka_unit_test(an_operators_job_stop_is_told_as_such),
		cmocka_unit_test(a_stopped_allocation_is_not_a_stopped_job),
		cmocka_unit_test(what_cannot_be_placed_says_why),
		cmocka_unit_test(a_missing_driver_or_program_says_why),
		cmocka_unit_test(a_purged_child_is_gone),
		cmocka_unit_test(the_same_token_gives_the_same_child),
		cmocka_unit_test(only_our_own_and_hand_made_children_are_told),
		cmocka_unit_test(a_parent_stopped_by_an_operator_stays_stopped_a_purged_one_comes_back),
		cmocka_unit_test(another_ledgers_jobs_are_noticed),
		cmocka_unit_test(a_refused_registration_says_why),
		cmocka_unit_test(listings_come_on_a_timer),
		cmocka_unit_test(nothing_is_lost_when_the_server_dies),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
