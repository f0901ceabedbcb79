#include "worker/config.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "storage/extract_settings.h"

#define DAY_MS (24 * 3600 * INT64_C(1000))
#define TEXT(env, flag, field, def, text) {env, flag, SETTING_TEXT, offsetof(struct config, field), def, 0, 0, NULL, false, text}
#define SECRET(env, field, text) {env, NULL, SETTING_TEXT, offsetof(struct config, field), "", 0, 0, NULL, true, text}
#define CHOICE(env, flag, field, def, choices, text) \
	{env, flag, SETTING_CHOICE, offsetof(struct config, field), def, 0, 0, choices, false, text}
#define NUMBER(env, type, field, def, min, max, text) \
	{env, NULL, SETTING_##type, offsetof(struct config, field), def, min, max, NULL, false, text}

static const struct setting rows[] = {
	TEXT("DROVER_ADDR", "address", addr, "http://127.0.0.1:8700", "The dispatcher: http(s)://host:port, consul://drover-dispatcher or nomad://SERVICE."),
	SECRET("DROVER_TOKEN", token, "API token with scope worker."),
	TEXT("DROVER_CACERT", NULL, ca_cert, "", "CA certificate file to trust for the dispatcher."),
	TEXT("DROVER_SECRETS_PATH", NULL, secrets_path, "", "Nomad variable that holds DROVER_TOKEN, S3_ACCESS_KEY and S3_SECRET_KEY."),
	TEXT("DROVER_REQUEST", "once", once, ONCE_NO, "Serve this request for capacity with one run and exit; empty: a run dispatched by hand; '-': keep serving."),
	CHOICE("LOG_LEVEL", "log-level", log_level, "info", "debug|info|warn|error", "Least level that is logged."),

	TEXT("WORKER_VERTICAL", "vertical", vertical, "", "Vertical whose runs are taken."),
	CHOICE("WORKER_CLASS", "class", class_word, "normal", "normal|large", "Size of this worker."),
	TEXT("WORKER_HEALTH_LISTEN", NULL, health_listen, "", "Address and port of GET /v1/agent/health, which says whether this worker takes runs; empty: none."),
	NUMBER("MAX_CONCURRENT_ACTIVITIES", INT, slots, "5", 1, 32, "Runs at the same time; a worker for one request has one."),
	NUMBER("DRAIN_TIMEOUT", DURATION, drain_ms, "15s", 0, DAY_MS, "After SIGTERM runs may go on for so long before they are handed back; keep it 10 s below kill_timeout."),
	TEXT("DROVER_TOOLCHAINS", NULL, toolchains, "", "Folder with a toolchain per vertical; default ~/.cache/drover/toolchains."),
	TEXT("DROVER_TOOLBOX", NULL, toolbox, "", "Folder with verticals/NAME/vertical.yaml, whose tools are probed at start."),
	TEXT("HOME", NULL, home, "", "For the default of DROVER_TOOLCHAINS."),
	CHOICE("SANDBOX", NULL, sandbox, "require", "require|best-effort|none", "Refuse runs where tools cannot be confined, take what is there, or do not ask."),
	NUMBER("SANDBOX_UID_BASE", INT, uid_base, "64000", 1000, 4000000000, "As root: tools run as this user id plus their slot's number."),
	NUMBER("SANDBOX_PROCESSES", INT, processes_max, "512", 16, 100000, "Processes and threads of one step."),
	NUMBER("LOG_MAX", SIZE, log_max_bytes, "64MiB", 4096, INT64_C(1) << 33, "Log of one run; what is over is dropped."),
	NUMBER("ARTIFACTS_MAX_SIZE", SIZE, artifacts_max_bytes, "1GiB", 0, INT64_C(1) << 40, "Artifacts of one run together."),
	NUMBER("ARTIFACTS_MAX", INT, artifacts_max, "1000", 0, 100000, "Artifacts of one run; their list takes at most 2.5 MiB, some 10,000 common names."),

	TEXT("CACHE_DIR", "cache-dir", cache_dir, "/var/cache/drover", "Targets and bundles by content, and workspaces."),
	NUMBER("CACHE_MAX_SIZE", SIZE, cache_max_bytes, "10GB", 1 << 20, INT64_C(1) << 50, "Size of the cache; evicted from 95 % to 85 %."),
	NUMBER("CACHE_TTL", DURATION, cache_ttl_ms, "7d", 60000, 3650 * DAY_MS, "Unused for longer: evicted."),
	NUMBER("CACHE_MIN_FREE", SIZE, cache_min_free_bytes, "512MiB", 0, INT64_C(1) << 50, "Space of the file system that is left free."),
	NUMBER("CACHE_MIN_FREE_INODES", INT, cache_min_free_inodes, "5000", 0, INT64_C(1) << 40, "Inodes of the file system that are left free."),
	NUMBER("CACHE_SWEEP", DURATION, cache_sweep_ms, "30m", 1000, DAY_MS, "How often one of the node's workers evicts what is over CACHE_TTL and clears away what crashes left."),

	EXTRACT_SETTINGS(struct config, extract),
	STORE_SETTINGS(struct config, store),

	TEXT("DROVER_NODE", NULL, node, "", "Name of this node; default the host's."),
	TEXT("DROVER_NODE_ID", NULL, node_id, "", "Nomad's id of this node."),
	TEXT("NOMAD_ALLOC_ID", NULL, alloc_id, "", "Set by Nomad."),
	NUMBER("NOMAD_ALLOC_INDEX", INT, alloc_index, "-1", -1, 1000000, "Set by Nomad."),
	NUMBER("NOMAD_CPU_LIMIT", INT, cpu_limit_mhz, "0", 0, 1000000000, "Set by Nomad: what runs declare together may not be more; 0: runs are not weighed."),
	NUMBER("NOMAD_MEMORY_LIMIT", INT, memory_limit_mb, "0", 0, 1000000000, "Set by Nomad; the same for memory."),
	TEXT("NOMAD_JOB_ID", NULL, job_id, "", "Set by Nomad."),
	TEXT("NOMAD_SECRETS_DIR", NULL, secrets_dir, "", "Set by Nomad; holds the socket of its API."),
	TEXT("NOMAD_META_workflow", NULL, meta_workflow, "", "Workflow of a run dispatched by hand."),
	TEXT("NOMAD_META_target", NULL, meta_target, "", "Its target's id or digest."),
	TEXT("NOMAD_META_parameters", NULL, meta_parameters, "", "Its parameters, JSON."),
	NOMAD_SETTINGS(struct config, nomad),
	CONSUL_SETTINGS(struct config, consul),
};

const struct settings_table config_table = {
	.program = "drover-worker",
	.summary = "leases runs, executes their tools in a sandbox, and publishes what they found",
	.rows = rows,
	.n = sizeof(rows) / sizeof(rows[0]),
	.file_env = "DROVER_CONFIG",
};

bool
config_once(const struct config *c)
{
	return strcmp(c->once, ONCE_NO) != 0;
}

bool
config_by_hand(const struct config *c)
{
	return c->once[0] == '\0';
}

static int
cross_check(struct config *c, struct err *e)
{
	if (!vertical_name_valid(c->vertical)) {
		(void)err_set(e, ERR_INVALID, "WORKER_VERTICAL: '%.40s' is not the name of a vertical", c->vertical);
		return err_hint(e, "WORKER_VERTICAL=python, for example");
	}
	if (c->cache_dir[0] != '/')
		return err_set(e, ERR_INVALID, "CACHE_DIR: an absolute path");
	if (config_by_hand(c) && (c->meta_workflow[0] == '\0' || c->meta_target[0] == '\0' || c->job_id[0] == '\0')) {
		(void)err_set(e, ERR_INVALID, "no request and no workflow or target");
		return err_hint(e, "nomad job dispatch -meta workflow=NAME -meta target=ID %s", "drover-run-VERTICAL");
	}
	(void)run_class_parse(c->class_word, &c->class); /* the table allows its words only */
	if (config_once(c))
		c->slots = 1;
	return 0;
}

int
config_load(struct config *c, int argc, char **argv, struct err *e)
{
	int rc = settings_load(&config_table, c, argc, argv, NULL, e);

	if (rc != 0)
		return rc;
	if (c->toolchains[0] == '\0' && c->home[0] != '\0') {
		free(c->toolchains);
		c->toolchains = xasprintf("%s/.cache/drover/toolchains", c->home);
	}
	if (c->nomad.addr[0] == '\0' && c->secrets_dir[0] != '\0') {
		free(c->nomad.addr);
		c->nomad.addr = xasprintf("unix://%s/api.sock", c->secrets_dir);
	}
	rc = consul_settings_read_token(&c->consul, e);
	if (rc == 0)
		rc = cross_check(c, e);
	if (rc != 0)
		config_release(c);
	return rc;
}

void
config_release(struct config *c)
{
	settings_release(&config_table, c);
}

int
config_check_store(const struct config *c, struct err *e)
{
	int rc = store_settings_check(&c->store, e);

	if (rc != 0 && c->store.endpoint[0] != '\0' && c->store.dir[0] == '\0')
		return err_hint(e, "set them, or name the Nomad variable that holds them in DROVER_SECRETS_PATH");
	return rc == 0 ? 0 : err_hint(e, "the same as the dispatcher's");
}

void
config_node(const struct config *c, char *out, size_t out_len)
{
	char host[64] = "";

	if (c->node[0] == '\0')
		(void)gethostname(host, sizeof(host) - 1);
	(void)snprintf(out, out_len, "%.63s", c->node[0] != '\0' ? c->node : host);
}
