#include "dispatcher/dispatcher.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "cluster/consul_entry.h"
#include "dispatcher/buckets.h"
#include "dispatcher/call.h"
#include "dispatcher/events.h"
#include "dispatcher/fleet.h"
#include "dispatcher/janitor.h"
#include "dispatcher/log_spool.h"
#include "dispatcher/meters.h"
#include "dispatcher/nomad_side.h"
#include "dispatcher/routes.h"
#include "dispatcher/targets.h"
#include "dispatcher/toolbox.h"
#include "dispatcher/upload.h"
#include "dispatcher/watch.h"

#define EVENTS_KEPT 8192
#define READ_THREADS 2
#define STORE_THREADS 4
#define DOWNLOAD_THREADS 8
#define HEADER_MAX (16 * 1024)
#define WRITE_QUEUE_MAX (256 * 1024)
#define IDLE_MS 120000
#define BRIEF_MS 1500         /* of retries while the store is away */
#define HOUSEKEEPING_MS 10000 /* tokens re-read, forgotten workers dropped */
#define STOP_STEP_MS 20
#define STOP_MAX_MS 3000      /* for writes under way; the rest of the 5 s is for threads to end */
#define STOP_FLUSH_MS 100     /* for answers to leave */

/* --- opening --- */

static int
open_auth(struct dispatcher *d, struct err *e)
{
	const struct config *c = d->config;
	char path[4096];
	int rc = 0;

	if (c->tokens_file[0] != '\0')
		snprintf(path, sizeof(path), "%s", c->tokens_file);
	else
		rc = file_join(path, sizeof(path), c->data_dir, "tokens.json", e);
	if (rc == 0)
		rc = auth_new(path, &d->auth, e);
	if (rc == 0 && auth_count(d->auth) == 0 && !config_listens_on_loopback(c)) {
		rc = err_set(e, ERR_DENIED, "no API tokens in %s: without them only a loopback address may be served, not %s", path,
		    c->listen);
		err_hint(e, "make the first tokens with: drover init");
	}
	return rc;
}

static int
open_store(struct dispatcher *d, struct err *e)
{
	const struct config *c = d->config;
	struct consul_config consul = consul_settings_config(&c->consul);
	struct nomad_config nomad = nomad_settings_config(&c->nomad);
	struct s3_endpoints at = {.pick = discover_pick_s3, .failed = discover_failed_s3};
	int rc;

	if (c->store.endpoint[0] != '\0' &&
	    (rc = discover_new(c->store.endpoint, &consul, &nomad, NULL, &d->endpoints, e)) != 0)
		return err_prefix(e, rc, "S3_ENDPOINT");
	at.arg = d->endpoints;
	if ((d->store = store_settings_open(&c->store, &at, e)) == NULL ||
	    (d->brief = store_settings_open_brief(&c->store, &at, BRIEF_MS, e)) == NULL)
		return e->code;
	return 0;
}

static int
open_pools(struct dispatcher *d, struct err *e)
{
	const struct {
		struct work_pool **at;
		const char *name;
		unsigned threads;
	} pools[] = {{&d->reads, "read", READ_THREADS}, {&d->stores, "store", STORE_THREADS},
		{&d->downloads, "download", DOWNLOAD_THREADS}, {&d->logs, "logs", 1}};

	for (size_t i = 0; i < sizeof(pools) / sizeof(pools[0]); i++)
		if ((*pools[i].at = work_pool_new(d->loop, pools[i].name, pools[i].threads, e)) == NULL)
			return e->code;
	return 0;
}

static struct core *
make_core(const struct dispatcher *d)
{
	const struct config *c = d->config;
	struct core_config cc = {
		.epoch = d->ledger->epoch, .next_seq = d->ledger->last_seq + 1, .cluster = config_nomad_on(c),
		.lease_ttl_ms = c->lease_ttl_ms, .request_ttl_ms = c->request_ttl_ms, .max_queued = (size_t)c->queue_max,
		.max_lost = (unsigned)c->max_lost, .max_crashes = (unsigned)c->max_crashes, .max_infra = (unsigned)c->max_infra,
		.backoff_base_ms = c->backoff_base_ms, .backoff_cap_ms = c->backoff_cap_ms, .manifests = true,
		.priority_age_ms = c->priority_age_ms, .share_half_ms = c->share_half_ms,
		.unplaceable_ms = c->unplaceable_ms,
	};

	random_bytes(&cc.seed, sizeof(cc.seed));
	return core_new(&cc);
}

static void
restore_run(void *arg, const struct run_row *row)
{
	core_restore_run(arg, row);
}

static void
restore_pause(void *arg, const struct pause_row *row)
{
	core_restore_pause(arg, row);
}

static void
restore_mark(void *arg, const struct mark_row *row)
{
	core_restore_mark(arg, row);
}

static void
restore_request(void *arg, const struct request_row *row)
{
	core_restore_request(arg, row);
}

static int
open_ledger(struct dispatcher *d, struct err *e)
{
	struct ledger_queue_config q = {.loop = d->loop, .health = effects_health,
		.deposed = effects_deposed, .arg = d};
	int64_t began_ms = clock_mono_ms();
	int rc;

	if ((rc = ledger_sqlite_open(d->config->data_dir, &d->ledger, e)) != 0)
		return rc;
	d->core = make_core(d);
	if ((rc = ledger_pauses(d->ledger, restore_pause, d->core, e)) != 0 ||
	    (rc = ledger_marks(d->ledger, restore_mark, d->core, e)) != 0)
		return rc;
	if ((rc = ledger_restore(d->ledger, restore_run, restore_request, d->core, e)) != 0)
		return rc;
	q.ledger = d->ledger;
	if ((d->writes = ledger_queue_new(&q, e)) == NULL)
		return e->code;
	d->ledger_writable = true;
	metrics_set(METER_LEDGER_WRITABLE, NULL, 1);
	log_info("ledger", "epoch %llu, read in %lld ms", (unsigned long long)d->ledger->epoch,
	    (long long)(clock_mono_ms() - began_ms));
	return 0;
}

static void
make_parts(struct dispatcher *d)
{
	d->calls = calls_new();
	d->answer = buf_make(ANSWER_MAX_BYTES);
	d->events = events_new(d->ledger->epoch, EVENTS_KEPT);
	d->watchers = watchers_new();
	d->fleet = fleet_new();
	d->submissions = map_new();
	d->keys = map_new();
	d->target_cache = target_cache_new();
	d->buckets = buckets_new(d);
}

static void
housekeeping(void *arg)
{
	struct dispatcher *d = arg;
	struct err e = {0};

	if (auth_refresh(d->auth, &e) != 0)
		log_warn("tokens", "the old ones stay: %s", e.msg);
	fleet_sweep(d->fleet, d->core, clock_now());
	loop_timer_set(d->loop, &d->tokens_timer, clock_mono_ms() + HOUSEKEEPING_MS, housekeeping, d);
}

static void
on_hangup(int signo, void *arg)
{
	(void)signo;
	housekeeping(arg);
}

static void
on_terminate(int signo, void *arg)
{
	log_info("dispatcher", "%s: stopping", strsignal(signo));
	dispatcher_stop(arg);
}

/* Before the first thread: each inherits what is blocked, and none shall take a signal that is meant for the loop. */
static int
open_loop(struct dispatcher *d, struct err *e)
{
	int rc;

	if ((d->loop = loop_new(e)) == NULL)
		return e->code;
	if ((rc = loop_signal(d->loop, SIGTERM, on_terminate, d, e)) == 0 &&
	    (rc = loop_signal(d->loop, SIGINT, on_terminate, d, e)) == 0)
		rc = loop_signal(d->loop, SIGHUP, on_hangup, d, e);
	return rc;
}

int
dispatcher_open(struct dispatcher *d, const struct config *c, struct err *e)
{
	char logs[4096];
	int rc;

	d->config = c;
	if ((rc = file_mkdirs(c->data_dir, 0700, e)) != 0 || (rc = open_auth(d, e)) != 0 || (rc = open_loop(d, e)) != 0)
		return rc;
	if ((rc = open_store(d, e)) != 0 || (rc = open_pools(d, e)) != 0 || (rc = open_ledger(d, e)) != 0)
		return rc;
	make_parts(d);
	if ((rc = file_join(logs, sizeof(logs), c->data_dir, "logs", e)) != 0 ||
	    (rc = log_spool_new(logs, c->log_tail_bytes, &d->spool, e)) != 0 || (rc = nomad_side_open(d, e)) != 0)
		return rc;
	if ((d->uploads = uploads_new(d, c->upload_memory_bytes, e)) == NULL || (d->toolbox = toolbox_new(d, e)) == NULL)
		return e->code;
	return 0;
}

/* --- serving --- */

static int
write_address(struct dispatcher *d, struct err *e)
{
	const char *address = http_server_address(d->http);
	int fd = open(d->config->data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	rc = file_replace(fd, "address", address, strlen(address), 0644, e);
	close(fd);
	return rc;
}

static void
announced(const char *id, const struct err *e)
{
	if (e->code != 0)
		log_warn("consul", "%s: %s", id, e->msg);
	else
		log_info("consul", "registered as %s", id);
}

/* In Consul, if the settings want it. */
static struct consul_entry *
announce(const struct dispatcher *d)
{
	char id[80];
	const struct consul_entry_config entry = {.consul = consul_settings_config(&d->config->consul), .service = "drover-dispatcher",
		.id = id, .bound = http_server_address(d->http), .advertise = d->config->advertise, .told = announced};

	snprintf(id, sizeof(id), "drover-dispatcher-%s", d->ledger->uuid);
	return d->config->consul_register ? consul_entry_new(d->loop, &entry) : NULL;
}

int
dispatcher_serve(struct dispatcher *d, struct err *e)
{
	const struct config *c = d->config;
	struct http_server_config h = {
		.listen = c->listen, .max_connections = (unsigned)c->connections_max,
		.max_per_address = (unsigned)c->connections_per_address, .idle_timeout_ms = IDLE_MS,
		.min_body_bytes_per_s = c->min_body_rate_bytes, .header_max_bytes = HEADER_MAX,
		.write_queue_max_bytes = WRITE_QUEUE_MAX,
	};
	int rc;

	routes_set(&h, d);
	if ((d->http = http_server_new(d->loop, &h, e)) == NULL)
		return e->code;
	core_start(d->core, clock_now());
	loop_each_turn(d->loop, effects_perform, d);
	d->janitor = janitor_new(d);
	housekeeping(d);
	d->entry = announce(d);
	if ((rc = write_address(d, e)) != 0)
		return rc;
	log_info("dispatcher", "serving http://%s", http_server_address(d->http));
	return 0;
}

/* --- ending --- */

static void
finish(void *arg)
{
	loop_stop(((struct dispatcher *)arg)->loop);
}

static void
stop_step(void *arg)
{
	struct dispatcher *d = arg;
	int64_t now = clock_mono_ms();

	/* Submissions whose commit is under way get their answer; what waits for workers or events does not. */
	calls_dismiss(d);
	if (ledger_queue_pending(d->writes) == 0 || now >= d->stop_began_mono_ms + STOP_MAX_MS)
		loop_timer_set(d->loop, &d->stop_timer, now + STOP_FLUSH_MS, finish, d);
	else
		loop_timer_set(d->loop, &d->stop_timer, now + STOP_STEP_MS, stop_step, d);
}

void
dispatcher_stop(struct dispatcher *d)
{
	if (d->stopping)
		return;
	d->stopping = true;
	d->stop_began_mono_ms = clock_mono_ms();
	if (d->http != NULL)
		http_server_quiesce(d->http);
	watch_dismiss(d);
	atomic_store(&d->ends, true);
	loop_timer_set(d->loop, &d->stop_timer, 0, stop_step, d);
}

static void
remove_address(const struct dispatcher *d)
{
	char path[4096];

	if (d->http != NULL && file_join(path, sizeof(path), d->config->data_dir, "address", NULL) == 0)
		unlink(path);
}

/* What was still waiting ends without an answer. */
static void
drop_calls(struct dispatcher *d)
{
	if (d->calls != NULL)
		calls_drop(d);
}

void
dispatcher_close(struct dispatcher *d)
{
	remove_address(d);
	consul_entry_free(d->entry);
	http_server_free(d->http);
	uploads_free(d->uploads);
	toolbox_free(d->toolbox);
	work_pool_free(d->reads);
	work_pool_free(d->logs);
	work_pool_free(d->stores);
	work_pool_free(d->downloads);
	ledger_queue_free(d->writes);
	cluster_free(d->cluster);
	drop_calls(d);
	janitor_free(d->janitor);
	core_free(d->core);
	ledger_free(d->ledger);
	buckets_free(d->buckets);
	log_spool_free(d->spool);
	store_free(d->brief);
	store_free(d->store);
	discover_free(d->endpoints);
	json_decref(d->worker_env);
	watchers_free(d->watchers);
	fleet_free(d->fleet);
	events_free(d->events);
	target_cache_free(d->target_cache);
	map_free(d->submissions);
	map_free(d->keys);
	calls_free(d->calls);
	buf_release(&d->answer);
	auth_free(d->auth);
	loop_free(d->loop);
}
