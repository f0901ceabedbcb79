#include "worker/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/threads.h"
#include "worker/cache_keeper.h"
#include "worker/caps_memo.h"
#include "worker/secrets.h"
#include "worker/ship.h"

#define BRIEF_MS 1500 /* of retries where nobody may be kept waiting */
#define TIDY_MS 20000 /* at the end, for deleting what the last runs have left */
#define STOCK 2 /* sandboxes that wait for their program: one for a lone run, one while that is replaced */
#define STOCK_ONCE 1 /* for the first step of the only run */
#define LANDLOCK_SCOPE_ABI 6 /* from here on signals to processes outside of the ruleset can be refused */

/* One part of the start; they do not depend on each other. */
struct part {
	const char *name;
	int (*run)(struct worker *w, struct err *e);
	struct worker *w;
	pthread_t thread;
	int rc;
	struct err e;
};

static int
open_store(struct worker *w, struct err *e)
{
	const struct config *c = &w->config;
	struct s3_endpoints at = {.pick = discover_pick_s3, .failed = discover_failed_s3};
	int rc = config_check_store(c, e);

	if (rc != 0)
		return rc;
	if (c->store.endpoint[0] != '\0' && (rc = discover_new(c->store.endpoint, &w->consul, &w->nomad, w->node, &w->s3_at, e)) != 0)
		return err_prefix(e, rc, "S3_ENDPOINT");
	at.arg = w->s3_at;
	w->store = store_settings_open(&c->store, &at, e);
	w->brief = w->store != NULL ? store_settings_open_brief(&c->store, &at, BRIEF_MS, e) : NULL;
	return w->brief != NULL ? 0 : ERR_INVALID;
}

/* Addresses and credentials: the dispatcher's catalogue is asked while Nomad answers for the credentials. */
static int
open_links(struct worker *w, struct err *e)
{
	int rc = discover_new(w->config.addr, &w->consul, &w->nomad, w->node, &w->dispatcher_at, e);

	if (rc != 0)
		return err_prefix(e, rc, "DROVER_ADDR");
	if ((rc = secrets_read(&w->config, e)) != 0 || (rc = open_store(w, e)) != 0)
		return rc;
	w->link = link_new(w->dispatcher_at, w->config.token, w->config.ca_cert);
	w->ship = ship_new(w);
	return 0;
}

static int
open_cache(struct worker *w, struct err *e)
{
	const struct config *c = &w->config;
	struct cache_config cc = {.dir = c->cache_dir, .max_bytes = c->cache_max_bytes, .ttl_ms = c->cache_ttl_ms,
	    .min_free_bytes = c->cache_min_free_bytes, .min_free_inodes = c->cache_min_free_inodes, .uid = (uint32_t)c->uid_base,
	    .gid = (uint32_t)c->uid_base, .limits = c->extract};

	w->cache = cache_open(&cc, e);
	if (w->cache == NULL)
		return err_prefix(e, ERR_INVALID, "CACHE_DIR");
	w->spaces = workspaces_open(c->cache_dir, WORKSPACE_OVERLAY, e);
	if (w->spaces == NULL)
		return ERR_IO;
	if (workspaces_swept(w->spaces) > 0)
		log_info(w->id, "removed the workspaces of %d runs whose worker had died", workspaces_swept(w->spaces));
	return 0;
}

static int
look_at_sandbox(struct worker *w, struct err *e)
{
	(void)e;
	(void)caps_find(w->config.cache_dir, &w->caps);
	return 0;
}

static int
look_at_tools(struct worker *w, struct err *e)
{
	return tools_probe(&w->config, NULL, &w->tools, e);
}

static void *
run_part(void *arg)
{
	struct part *p = arg;

	p->rc = p->run(p->w, &p->e);
	return NULL;
}

static void
fill_names(struct worker *w)
{
	const struct config *c = &w->config;
	uint8_t random[4];
	char tail[9];

	random_bytes(random, sizeof(random));
	config_node(c, w->node, sizeof(w->node));
	(void)snprintf(w->id, sizeof(w->id), "%.40s-%s", c->alloc_id[0] != '\0' ? c->alloc_id : w->node,
	    hex_encode(random, sizeof(random), tail));
	w->consul = consul_settings_config(&c->consul);
	w->nomad = nomad_settings_config(&c->nomad);
	w->give_up_mono_ms = INT64_MAX;
	w->started_real_ms = clock_real_ms();
}

/* In a container all tools share one uid: without Landlock's signal scope one run could stop another's processes, and ours. */
static void
bound_slots(struct worker *w)
{
	if (w->caps.rung != RUNG_CONTAINER || w->caps.landlock_abi >= LANDLOCK_SCOPE_ABI || w->config.slots == 1)
		return;
	log_warn(w->id, "one slot in place of %lld: this kernel cannot keep runs in one container apart (Landlock ABI %d, needs %d)",
	    (long long)w->config.slots, w->caps.landlock_abi, LANDLOCK_SCOPE_ABI);
	w->config.slots = 1;
}

/* Once the sandbox and the tools are known. */
static void
fill_stock(struct worker *w)
{
	bool once = config_once(&w->config);

	if (w->caps.rung != RUNG_NONE)
		w->stock = sandbox_stock_new(&w->caps, w->tools.toolchain, once ? STOCK_ONCE : STOCK, !once);
}

int
worker_open(struct worker *w, struct err *e)
{
	struct part parts[] = {{.name = "links", .run = open_links}, {.name = "cache", .run = open_cache},
	    {.name = "sandbox", .run = look_at_sandbox}, {.name = "tools", .run = look_at_tools}};
	const size_t n = sizeof(parts) / sizeof(parts[0]);
	int rc = 0;

	fill_names(w);
	for (size_t i = 0; i < n; i++) {
		parts[i].w = w;
		thread_start(&parts[i].thread, parts[i].name, run_part, &parts[i]);
	}
	/* Those that wait longest were started first and are waited for last. */
	for (size_t i = n; i-- > 0;) {
		pthread_join(parts[i].thread, NULL);
		if (rc == 0 && parts[i].rc != 0) {
			rc = parts[i].rc;
			*e = parts[i].e;
		}
		if (rc == 0 && parts[i].run == look_at_sandbox)
			fill_stock(w); /* the tools are known too; Nomad and the disk may take a while yet */
	}
	if (rc == 0) {
		bound_slots(w);
		workspaces_confined(w->spaces, w->caps.rung == RUNG_ROOT || w->caps.rung == RUNG_USER, w->caps.rung == RUNG_USER);
		w->keeper = cache_keeper_new(w->cache, w->id, workspace_method_word(workspaces_method(w->spaces)), w->config.cache_sweep_ms);
	}
	return rc;
}

void
worker_close(struct worker *w)
{
	int64_t tidy_until_mono_ms = clock_mono_ms() + TIDY_MS;

	sandbox_stock_free(w->stock);
	ship_free(w->ship);
	link_free(w->link);
	workspaces_close(w->spaces, tidy_until_mono_ms < w->give_up_mono_ms ? tidy_until_mono_ms : w->give_up_mono_ms);
	store_free(w->brief);
	store_free(w->store);
	discover_free(w->s3_at);
	discover_free(w->dispatcher_at);
	cache_keeper_free(w->keeper);
	cache_close(w->cache);
	tools_release(&w->tools);
}

json_t *
worker_registration(const struct worker *w)
{
	const struct config *c = &w->config;

	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:O, s:O, s:o}", "worker", w->id, "vertical",
	    c->vertical, "class", run_class_word(c->class), "mode", config_once(c) ? "once" : "loop", "request",
	    config_once(c) ? c->once : "", "slots", (json_int_t)c->slots, "job_id", c->job_id, "alloc_id", c->alloc_id, "alloc_index",
	    (json_int_t)c->alloc_index, "cpu_millis", (json_int_t)c->cpu_limit_mhz, "memory_bytes", (json_int_t)c->memory_limit_mb * 1048576,
	    "started_ms", (json_int_t)w->started_real_ms, "node", w->node, "node_id", c->node_id, "version", DROVER_VERSION, "tools", w->tools.found,
	    "missing", w->tools.missing, "sandbox", sandbox_json(&w->caps));
}
