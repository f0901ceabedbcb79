#include "dispatcher/config.h"

#include <stddef.h>
#include <string.h>

#include "dispatcher/retention.h"

#define DAY_MS (24 * 3600 * INT64_C(1000))
#define TEXT(env, flag, field, def, text) {env, flag, SETTING_TEXT, offsetof(struct config, field), def, 0, 0, NULL, false, text}
#define CHOICE(env, flag, field, def, choices, text) \
	{env, flag, SETTING_CHOICE, offsetof(struct config, field), def, 0, 0, choices, false, text}
#define BOOL(env, flag, field, def, text) {env, flag, SETTING_BOOL, offsetof(struct config, field), def, 0, 0, NULL, false, text}
#define NUMBER(env, type, field, def, min, max, text) \
	{env, NULL, SETTING_##type, offsetof(struct config, field), def, min, max, NULL, false, text}

static const struct setting rows[] = {
	TEXT("DROVER_LISTEN", "listen", listen, "127.0.0.1:8700", "Address and port of the API; port 0 takes any free one."),
	TEXT("DROVER_ADVERTISE", "advertise", advertise, "", "URL under which workers reach this dispatcher; empty: through Consul where it registers, else DROVER_LISTEN."),
	TEXT("DROVER_DATA_DIR", "data-dir", data_dir, "/var/lib/drover", "Holds the ledger, tokens and log tails; keep it on a durable disk."),
	TEXT("DROVER_TOOLBOX", "toolbox", toolbox, "", "Folder with verticals/ and workflows/; watched for changes."),
	TEXT("DROVER_JOBS_DIR", "jobs-dir", jobs_dir, "nomad-jobs", "Folder with the job files that are registered in Nomad."),
	TEXT("DROVER_TOKENS_FILE", NULL, tokens_file, "", "API tokens; by default tokens.json in DROVER_DATA_DIR."),
	CHOICE("LOG_LEVEL", "log-level", log_level, "info", "debug|info|warn|error", "Least level that is logged."),
	CHOICE("DROVER_NEW_LEDGER", NULL, new_ledger, "no", "no|yes", "Start on an empty ledger although Nomad remembers another one."),

	STORE_SETTINGS(struct config, store),

	CHOICE("DROVER_NOMAD", "nomad", nomad_mode, "auto", "auto|on|off", "Ask Nomad for workers; auto: when NOMAD_ADDR is set."),
	NOMAD_SETTINGS(struct config, nomad),

	CONSUL_SETTINGS(struct config, consul),
	BOOL("DROVER_CONSUL_REGISTER", NULL, consul_register, "true", "Register as drover-dispatcher where CONSUL_HTTP_ADDR is set."),

	TEXT("DROVER_DATACENTERS", NULL, datacenters, "*", "Datacenters of the jobs, separated by commas."),
	CHOICE("DROVER_DRIVER", NULL, driver, "", "|docker|raw_exec", "Task driver for all verticals; empty: each one's own."),
	TEXT("WORKER_COMMAND", NULL, worker_command, "drover-worker", "Path of drover-worker on the nodes (raw_exec)."),
	TEXT("CACHE_VOLUME", NULL, cache_volume, "", "Nomad host volume for the workers' cache."),
	TEXT("DOCKER_NETWORK", NULL, docker_network, "", "Network mode of docker tasks, such as host; empty: docker's own default."),
	TEXT("WORKER_ENV_FILE", NULL, worker_env_file, "", "NAME=value lines that are added to the workers' environment."),
	TEXT("DROVER_JOB_PREFIX", NULL, job_prefix, "drover", "First part of the names of jobs in Nomad."),
	NUMBER("NOMAD_CONNECTIONS", INT, nomad_connections, "4", 1, 16, "Calls to Nomad at the same time."),
	NUMBER("RECONCILE_INTERVAL", DURATION, reconcile_ms, "60s", 1000, 3600000, "Time between full listings of Nomad's jobs."),
	NUMBER("REQUEST_TTL", DURATION, request_ttl_ms, "10m", 5000, DAY_MS, "A one-shot that has not started by then is withdrawn."),
	NUMBER("DROVER_WINDOW", INT, window, "0", 0, 10000, "Most one-shots per vertical in Nomad; 0: as vertical.yaml says."),

	CHOICE("WORKER_SERVICE", NULL, worker_service, "auto", "auto|consul|nomad|off", "Where warm workers show their health as service drover-worker; auto: Consul where CONSUL_HTTP_ADDR is set, else Nomad."),
	NUMBER("WORKER_START_LIMIT", DURATION, start_limit_ms, "90s", 1000, 3600000, "A warm worker that has not registered by then has failed to start."),
	NUMBER("ROLL_LIMIT", DURATION, roll_limit_ms, "1h", 0, DAY_MS, "Runs of a worker group whose settings have changed may go on for so long; then they are handed back."),

	NUMBER("LEASE_TTL", DURATION, lease_ttl_ms, "30s", 1000, 600000, "A worker that is silent for so long has lost its runs."),
	NUMBER("ORPHAN_LIMIT", DURATION, orphan_ms, "10m", 1000, DAY_MS, "A worker that is cut off kills its tools after this time."),
	NUMBER("QUEUE_MAX", INT, queue_max, "100000", 1, 10000000, "Queued runs; further submissions are refused."),
	NUMBER("PRIORITY_AGE", DURATION, priority_age_ms, "1m", 1000, DAY_MS, "Waiting so long makes up for one point of priority."),
	NUMBER("SHARE_HALF_LIFE", DURATION, share_half_ms, "10m", 1000, 30 * DAY_MS, "After this, what a tenant has used counts half when shares are compared."),
	NUMBER("UNPLACEABLE_LIMIT", DURATION, unplaceable_ms, "0", 0, 30 * DAY_MS, "Runs that no node can serve fail after this time; 0: they wait for a node to come."),
	NUMBER("MAX_LOST", INT, max_lost, "5", 1, 100, "Lost attempts before a run is dead."),
	NUMBER("MAX_CRASHES", INT, max_crashes, "3", 1, 100, "Worker crashes with a run inside before it is dead."),
	NUMBER("MAX_INFRA", INT, max_infra, "8", 1, 100, "Attempts that infrastructure may spoil before a run is dead."),
	NUMBER("BACKOFF_BASE", DURATION, backoff_base_ms, "1s", 1, 3600000, "Upper bound of the first delay before a retry."),
	NUMBER("BACKOFF_CAP", DURATION, backoff_cap_ms, "5m", 1, DAY_MS, "Upper bound of every delay before a retry."),

	NUMBER("RUN_RETENTION", DURATION, run_retention_ms, "30d", 60000, 3650 * DAY_MS, "Finished runs are forgotten after this time."),
	NUMBER("TARGET_RETENTION", DURATION, target_retention_ms, "7d", DAY_MS, 3650 * DAY_MS, "Targets are removed after this time, in whole days."),
	NUMBER("RESULT_RETENTION", DURATION, result_retention_ms, "30d", DAY_MS, 3650 * DAY_MS, "Results are removed after this time, in whole days."),
	TEXT("WORKFLOW_RETENTION", NULL, workflow_retention, "", "How long results of some workflows are kept: WORKFLOW=TIME, separated by commas."),
	NUMBER("RETENTION_MAX", DURATION, retention_max_ms, "365d", 60000, 3650 * DAY_MS, "Longest time that a run may ask for its results."),
	NUMBER("ORPHAN_GRACE", DURATION, orphan_grace_ms, "1d", 1000, 365 * DAY_MS, "Objects without a row, and rows without an object, go after this time."),
	NUMBER("STALE_UPLOADS", DURATION, stale_uploads_ms, "2d", 1000, 365 * DAY_MS, "Unfinished uploads to the store that nothing was added to for so long are dropped."),
	NUMBER("JANITOR_INTERVAL", DURATION, janitor_ms, "5m", 10, DAY_MS, "Time between looks for what is to be removed."),
	NUMBER("UPLOAD_MAX", SIZE, upload_max_bytes, "10GB", 1, INT64_C(5) << 40, "Largest target."),
	NUMBER("UPLOAD_MEMORY", SIZE, upload_memory_bytes, "40MiB", 16 << 20, INT64_C(4) << 30, "Memory of all uploads together."),
	NUMBER("LOG_TAIL", SIZE, log_tail_bytes, "4MiB", 64 << 10, 1 << 30, "Live log that is kept per attempt."),
	NUMBER("CONNECTIONS_MAX", INT, connections_max, "2048", 16, 60000, "Open connections."),
	NUMBER("CONNECTIONS_PER_ADDRESS", INT, connections_per_address, "0", 0, 60000, "Open connections per client address; 0: no bound."),
	NUMBER("MIN_BODY_RATE", SIZE, min_body_rate_bytes, "1KiB", 0, 1 << 30, "Uploads slower than this many bytes a second are cut."),
};

const struct settings_table config_table = {
	.program = "drover-dispatcher",
	.summary = "keeps the queue of runs, gets capacity from Nomad, and serves the API",
	.rows = rows,
	.n = sizeof(rows) / sizeof(rows[0]),
	.file_env = "DROVER_CONFIG",
};

static int
cross_check(const struct config *c, struct err *e)
{
	int rc = store_settings_check(&c->store, e);

	if (rc != 0)
		return rc;
	if (strcmp(c->nomad_mode, "on") == 0 && c->nomad.addr[0] == '\0') {
		rc = err_set(e, ERR_INVALID, "DROVER_NOMAD=on needs NOMAD_ADDR");
	} else if (c->backoff_base_ms > c->backoff_cap_ms) {
		rc = err_set(e, ERR_INVALID, "BACKOFF_BASE is larger than BACKOFF_CAP");
	} else {
		rc = retention_check(c, e);
	}
	return rc;
}

int
config_load(struct config *c, int argc, char **argv, struct err *e)
{
	int rc = settings_load(&config_table, c, argc, argv, NULL, e);

	if (rc == 0)
		rc = consul_settings_read_token(&c->consul, e);
	return rc == 0 ? cross_check(c, e) : rc;
}

void
config_release(struct config *c)
{
	settings_release(&config_table, c);
}

bool
config_nomad_on(const struct config *c)
{
	return strcmp(c->nomad_mode, "off") != 0 && c->nomad.addr[0] != '\0';
}

bool
config_listens_on_loopback(const struct config *c)
{
	return strncmp(c->listen, "127.", 4) == 0 || strncmp(c->listen, "[::1]:", 6) == 0 ||
	    strncmp(c->listen, "localhost:", 10) == 0;
}
