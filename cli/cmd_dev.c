/* drover dev: everything on one machine. A dispatcher with SQLite and a directory store, a looping worker per vertical that a loaded
 * workflow needs, all supervised; nothing is left at the end. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/dev_child.h"
#include "cli/dev_place.h"
#include "cli/interrupt.h"
#include "cli/render.h"
#include "cli/text.h"
#include "proto/run.h"

#define CHILDREN_MAX 64
#define READY_MS 30000
#define READY_POLL_MS 50
#define LISTED_MS 2000   /* for the first workflows, once the API answers */
#define LOOK_MS 2000     /* between looks for new verticals and missing tools */
#define DEATHS_MAX 5    /* of the dispatcher in a row, each within a minute */
#define STOP_WORKERS_MS 10000
#define STOP_DISPATCHER_MS 10000
#define DRAIN "2s"

struct dev {
	struct cli *c;
	struct dev_place place;
	struct cli_settings settings; /* ours, with the address of our dispatcher; texts by reference */
	struct api *api;
	struct dev_child *children[CHILDREN_MAX]; /* the first is the dispatcher */
	size_t n;
	int64_t slots;
	const char *sandbox;
	char warned[CHILDREN_MAX][VERTICAL_NAME_MAX]; /* verticals whose missing tools were told */
	size_t n_warned;
};

/* --- children --- */

static struct dev_child *
add_child(struct dev *d, const char *name, const char *program)
{
	char *beside = xasprintf("%s/%s", d->place.bin, program);
	struct dev_child *k = dev_child_new(name, access(beside, X_OK) == 0 ? beside : program, d->place.logs);

	free(beside);
	dev_child_env(k, "PATH", d->settings.path);
	dev_child_env(k, "HOME", d->settings.home);
	dev_child_env(k, "TMPDIR", d->settings.temp_dir);
	dev_child_env(k, "DROVER_TOOLCHAINS", d->settings.toolchains);
	dev_child_env(k, "DROVER_TOOLBOX", d->place.toolbox);
	dev_child_env(k, "STORE_DIR", d->place.store);
	d->children[d->n++] = k;
	return k;
}

static int
start_dispatcher(struct dev *d, struct err *e)
{
	struct dev_child *k = add_child(d, "dispatcher", "drover-dispatcher");

	dev_child_env(k, "DROVER_LISTEN", d->place.listen);
	dev_child_env(k, "DROVER_DATA_DIR", d->place.data);
	dev_child_env(k, "DROVER_NOMAD", "off");
	return dev_child_start(k, e);
}

static bool
has_worker(const struct dev *d, const char *name)
{
	for (size_t i = 1; i < d->n; i++)
		if (strcmp(d->children[i]->name, name) == 0)
			return true;
	return false;
}

static void
start_worker(struct dev *d, const char *vertical)
{
	struct dev_child *k;
	struct err e = {0};
	char name[64], slots[24];

	snprintf(name, sizeof(name), "worker-%s", vertical);
	if (d->n == CHILDREN_MAX || !vertical_name_valid(vertical) || has_worker(d, name))
		return;
	snprintf(slots, sizeof(slots), "%lld", (long long)d->slots);
	k = add_child(d, name, "drover-worker");
	dev_child_env(k, "DROVER_ADDR", d->place.url);
	dev_child_env(k, "DROVER_TOKEN", d->settings.token);
	dev_child_env(k, "WORKER_VERTICAL", vertical);
	dev_child_env(k, "CACHE_DIR", d->place.cache);
	dev_child_env(k, "MAX_CONCURRENT_ACTIVITIES", slots);
	dev_child_env(k, "DRAIN_TIMEOUT", DRAIN);
	dev_child_env(k, "SANDBOX", d->sandbox);
	if (dev_child_start(k, &e) != 0) {
		fprintf(stderr, "%s does not start: %s\n", name, e.msg);
		k->next_start_mono_ms = clock_mono_ms() + LOOK_MS;
	}
}

/* --- what the dispatcher says --- */

static void
start_workers(struct dev *d)
{
	json_t *answer = NULL, *w;
	size_t i;

	if (api_get(d->api, "/v1/workflows", &answer, NULL) == 0)
		json_array_foreach(json_object_get(answer, "workflows"), i, w)
			start_worker(d, json_text(w, "vertical"));
	json_decref(answer);
}

static bool
warn_first(struct dev *d, const char *vertical)
{
	for (size_t i = 0; i < d->n_warned; i++)
		if (strcmp(d->warned[i], vertical) == 0)
			return false;
	if (d->n_warned == CHILDREN_MAX)
		return false;
	snprintf(d->warned[d->n_warned++], VERTICAL_NAME_MAX, "%s", vertical);
	return true;
}

/* Tools that a worker did not find are told once, with what puts them there. */
static void
tell_missing(struct dev *d)
{
	json_t *answer = NULL, *w, *tool;
	size_t i, k;

	if (api_get(d->api, "/v1/workers", &answer, NULL) != 0) {
		json_decref(answer);
		return;
	}
	json_array_foreach(json_object_get(answer, "workers"), i, w)
	{
		const char *vertical = json_text(w, "vertical");

		if (json_array_size(json_object_get(w, "missing")) == 0 || !vertical_name_valid(vertical) || !warn_first(d, vertical))
			continue;
		fprintf(stderr, "Vertical %s lacks tools:", vertical);
		json_array_foreach(json_object_get(w, "missing"), k, tool)
		{
			char *safe = text_safe(json_string_value(tool));

			fprintf(stderr, " %s", safe);
			free(safe);
		}
		fprintf(stderr, "\nInstall them with %s/verticals/%s/install.sh\n", d->place.toolbox, vertical);
	}
	json_decref(answer);
}

/* Whether it has read the toolbox: lists a workflow, be it broken. */
static bool
lists_workflows(struct dev *d)
{
	json_t *answer = NULL;
	bool any = api_get(d->api, "/v1/workflows", &answer, NULL) == 0 &&
	    json_array_size(json_object_get(answer, "workflows")) + json_array_size(json_object_get(answer, "broken")) > 0;

	json_decref(answer);
	return any;
}

/* Waits until the dispatcher takes submissions, and a moment for its workflows: a toolbox may be empty. */
static int
wait_ready(struct dev *d, struct err *e)
{
	int64_t deadline = clock_mono_ms() + READY_MS, listed_by = INT64_MAX;
	struct dev_child *k = d->children[0];
	char how[128];

	while (!interrupted()) {
		json_t *answer = NULL;
		struct err last = {0};
		int rc = api_get(d->api, "/v1/agent/health", &answer, &last);

		json_decref(answer);
		if (rc == 0 && (lists_workflows(d) || clock_mono_ms() >= listed_by))
			return 0;
		if (rc == 0 && listed_by == INT64_MAX)
			listed_by = clock_mono_ms() + LISTED_MS;
		if (rc != 0 && clock_mono_ms() > deadline)
			return err_set(e, ERR_TIMEOUT, "the dispatcher is not ready after %d s: %.200s", READY_MS / 1000, last.msg);
		if (interrupt_wait(READY_POLL_MS, k->proc.pidfd)) {
			dev_child_reap(k, clock_mono_ms(), how, sizeof(how));
			return err_set(e, ERR_IO, "%s", how);
		}
	}
	return err_set(e, ERR_CANCELED, "interrupted");
}

/* --- supervision --- */

/* Reaps who died, starts again whose time has come. ERR_IO when the dispatcher dies again and again: nothing goes without it. */
static int
tend(struct dev *d, struct err *e)
{
	char how[128];
	struct err problem = {0};

	for (size_t i = 0; i < d->n; i++) {
		struct dev_child *k = d->children[i];
		int64_t now = clock_mono_ms();

		if (k->running) {
			dev_child_reap(k, now, how, sizeof(how));
			if (how[0] != '\0' && i == 0 && k->deaths >= DEATHS_MAX)
				return err_set(e, ERR_IO, "%s, %u times in a row", how, k->deaths);
			if (how[0] != '\0')
				fprintf(stderr, "%s; it starts again (log: %s)\n", how, k->log_path);
		}
		if (!k->running && now >= k->next_start_mono_ms && dev_child_start(k, &problem) != 0) {
			fprintf(stderr, "%s does not start: %s\n", k->name, problem.msg);
			k->next_start_mono_ms = now + LOOK_MS;
		}
	}
	return 0;
}

static void
wait_for_events(struct dev *d)
{
	struct pollfd fds[CHILDREN_MAX + 1] = {{.fd = interrupt_fd(), .events = POLLIN}};
	int64_t now = clock_mono_ms(), until = now + LOOK_MS;

	for (size_t i = 0; i < d->n; i++) {
		fds[i + 1] = (struct pollfd){.fd = d->children[i]->running ? d->children[i]->proc.pidfd : -1, .events = POLLIN};
		if (!d->children[i]->running && d->children[i]->next_start_mono_ms < until)
			until = d->children[i]->next_start_mono_ms;
	}
	(void)poll(fds, d->n + 1, until > now ? (int)(until - now) : 0);
}

static int
supervise(struct dev *d, struct err *e)
{
	int64_t next_look = clock_mono_ms();
	int rc;

	while (!interrupted()) {
		wait_for_events(d);
		if (interrupted())
			break;
		if ((rc = tend(d, e)) != 0)
			return rc;
		if (clock_mono_ms() < next_look)
			continue;
		start_workers(d);
		tell_missing(d);
		next_look = clock_mono_ms() + LOOK_MS;
	}
	return 0;
}

static void
stop_all(struct dev *d)
{
	int64_t deadline;

	interrupt_clear(); /* a further signal is impatience */
	deadline = clock_mono_ms() + STOP_WORKERS_MS;
	for (size_t i = 1; i < d->n; i++)
		dev_child_ask(d->children[i]);
	for (size_t i = 1; i < d->n; i++)
		dev_child_stop(d->children[i], deadline);
	if (d->n > 0)
		dev_child_stop(d->children[0], clock_mono_ms() + STOP_DISPATCHER_MS);
	for (size_t i = 0; i < d->n; i++)
		dev_child_free(d->children[i]);
	d->n = 0;
}

/* --- the command --- */

static void
announce(const struct dev *d)
{
	const struct dev_place *p = &d->place;
	json_t *whole;

	if (d->c->settings.json) {
		whole = json_pack("{s:s, s:s, s:s, s:s}", "address", p->url, "data_dir", p->dir, "logs", p->logs,
		    "toolbox", p->toolbox);
		(void)json_dumpf(whole, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
		fputc('\n', stdout);
		json_decref(whole);
	} else {
		printf("Drover runs on this machine alone, without Nomad%s.\n\n", p->ephemeral ? "; all data goes when it ends" : "");
		cli_print_field(d->c, "Address", p->url, "1");
		cli_print_field(d->c, "Data", p->dir, NULL);
		cli_print_field(d->c, "Logs", p->logs, NULL);
		cli_print_field(d->c, "Toolbox", p->toolbox, NULL);
		for (size_t i = 1; i < d->n; i++)
			cli_print_field(d->c, i == 1 ? "Workers" : "", d->children[i]->name + strlen("worker-"), NULL);
		printf("\n  export DROVER_ADDR=%s\n\nCtrl-C ends it.\n", p->url);
	}
	fflush(stdout);
}

static int
read_options(struct dev *d, struct err *e)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	const char *sandbox = args_value(&d->c->args, "sandbox");

	d->slots = processors >= 4 ? processors / 2 : 1;
	d->slots = d->slots > 64 ? 64 : d->slots;
	d->sandbox = sandbox != NULL ? sandbox : "require";
	if (strcmp(d->sandbox, "require") != 0 && strcmp(d->sandbox, "best-effort") != 0 && strcmp(d->sandbox, "none") != 0)
		return err_set(e, ERR_INVALID, "-sandbox: require, best-effort or none");
	return args_int(&d->c->args, "slots", 1, 64, &d->slots, e);
}

int
cmd_dev(struct cli *c)
{
	struct dev d = {.c = c, .settings = c->settings, .place = {.lock = -1}};
	struct err e = {0};
	int rc, code = EXIT_FINE;

	rc = read_options(&d, &e);
	if (rc == 0)
		rc = dev_place_take(c, &d.place, &e);
	d.settings.address = d.place.url;
	if (rc == 0)
		rc = api_new(&d.settings, &d.api, &e);
	if (rc == 0)
		rc = start_dispatcher(&d, &e);
	if (rc == 0)
		rc = wait_ready(&d, &e);
	if (rc == 0) {
		start_workers(&d);
		announce(&d);
		rc = supervise(&d, &e);
	}
	if (rc != 0) {
		if (d.n > 0 && !interrupted())
			dev_child_print_log(d.children[0]);
		code = cli_fail(&e);
	}
	stop_all(&d);
	api_free(d.api);
	dev_place_release(&d.place);
	return code;
}
