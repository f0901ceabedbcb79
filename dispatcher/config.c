#include "dispatcher/config.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

#define DAY_MS (24 * 3600 * INT64_C(1000))
#define TEXT(env, flag, field, def, text) {env, flag, SETTING_TEXT, offsetof(struct config, field), def, 0, 0, NULL, false, text}
#define SECRET(env, field, text) {env, NULL, SETTING_TEXT, offsetof(struct config, field), "", 0, 0, NULL, true, text}
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

	TEXT("STORE_DIR", "store-dir", store_dir, "", "Directory that stands in for S3 (embedded use)."),
	TEXT("S3_ENDPOINT", "s3-endpoint", s3_endpoint, "", "http(s)://host:port, consul://SERVICE or nomad://SERVICE."),
	TEXT("S3_ACCESS_KEY", NULL, s3_access_key, "", "Access key of the object store."),
	SECRET("S3_SECRET_KEY", s3_secret_key, "Secret key of the object store."),
	SECRET("S3_SESSION_TOKEN", s3_session_token, "Session token of temporary credentials."),
	TEXT("S3_REGION", NULL, s3_region, "us-east-1", "Region that requests are signed for."),
	TEXT("S3_BUCKET", NULL, s3_targets, "targets", "Bucket of the targets."),
	TEXT("S3_RESULTS_BUCKET", NULL, s3_results, "results", "Bucket of the results."),
	TEXT("S3_TOOLBOX_BUCKET", NULL, s3_toolbox, "toolbox", "Bucket of the workflow bundles."),
	TEXT("S3_CA_CERT", NULL, s3_ca_cert, "", "CA certificate file to trust for S3."),
	BOOL("S3_SKIP_VERIFY", NULL, s3_skip_verify, "false", "Trust any TLS certificate of the object store."),
	BOOL("S3_VIRTUAL_HOST", NULL, s3_virtual_host, "false", "Bucket in the host name in place of the path."),

	CHOICE("DROVER_NOMAD", "nomad", nomad, "auto", "auto|on|off", "Ask Nomad for workers; auto: when NOMAD_ADDR is set."),
	TEXT("NOMAD_ADDR", NULL, nomad_addr, "", "Nomad's API."),
	TEXT("NOMAD_REGION", NULL, nomad_region, "", "Nomad region."),
	TEXT("NOMAD_NAMESPACE", NULL, nomad_namespace, "", "Nomad namespace."),
	SECRET("NOMAD_TOKEN", nomad_token, "Nomad ACL token."),
	SECRET("NOMAD_HTTP_AUTH", nomad_http_auth, "user:password for a proxy in front of Nomad."),
	TEXT("NOMAD_CACERT", NULL, nomad_cacert, "", "CA certificate file to trust for Nomad."),
	TEXT("NOMAD_CAPATH", NULL, nomad_capath, "", "Directory of CA certificates to trust for Nomad."),
	TEXT("NOMAD_CLIENT_CERT", NULL, nomad_client_cert, "", "Client certificate for Nomad."),
	TEXT("NOMAD_CLIENT_KEY", NULL, nomad_client_key, "", "Key of the client certificate for Nomad."),
	TEXT("NOMAD_TLS_SERVER_NAME", NULL, nomad_tls_server_name, "", "Name that Nomad's certificate must have."),
	BOOL("NOMAD_SKIP_VERIFY", NULL, nomad_skip_verify, "false", "Trust any TLS certificate of Nomad."),

	TEXT("CONSUL_HTTP_ADDR", NULL, consul_addr, "", "Consul's API."),
	SECRET("CONSUL_HTTP_TOKEN", consul_token, "Consul ACL token."),
	TEXT("CONSUL_HTTP_TOKEN_FILE", NULL, consul_token_file, "", "File that holds the Consul ACL token."),
	SECRET("CONSUL_HTTP_AUTH", consul_http_auth, "user:password for a proxy in front of Consul."),
	BOOL("CONSUL_HTTP_SSL", NULL, consul_ssl, "false", "Use https where CONSUL_HTTP_ADDR has no scheme."),
	BOOL("CONSUL_HTTP_SSL_VERIFY", NULL, consul_ssl_verify, "true", "Check Consul's TLS certificate."),
	TEXT("CONSUL_CACERT", NULL, consul_cacert, "", "CA certificate file to trust for Consul."),
	TEXT("CONSUL_CAPATH", NULL, consul_capath, "", "Directory of CA certificates to trust for Consul."),
	TEXT("CONSUL_CLIENT_CERT", NULL, consul_client_cert, "", "Client certificate for Consul."),
	TEXT("CONSUL_CLIENT_KEY", NULL, consul_client_key, "", "Key of the client certificate for Consul."),
	TEXT("CONSUL_TLS_SERVER_NAME", NULL, consul_tls_server_name, "", "Name that Consul's certificate must have."),
	TEXT("CONSUL_NAMESPACE", NULL, consul_namespace, "", "Consul namespace (Enterprise)."),
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

	NUMBER("LEASE_TTL", DURATION, lease_ttl_ms, "30s", 1000, 600000, "A worker that is silent for so long has lost its runs."),
	NUMBER("ORPHAN_LIMIT", DURATION, orphan_ms, "10m", 1000, DAY_MS, "A worker that is cut off kills its tools after this time."),
	NUMBER("QUEUE_MAX", INT, queue_max, "100000", 1, 10000000, "Queued runs; further submissions are refused."),
	NUMBER("MAX_LOST", INT, max_lost, "5", 1, 100, "Lost attempts before a run is dead."),
	NUMBER("MAX_CRASHES", INT, max_crashes, "3", 1, 100, "Worker crashes with a run inside before it is dead."),
	NUMBER("MAX_INFRA", INT, max_infra, "8", 1, 100, "Attempts that infrastructure may spoil before a run is dead."),
	NUMBER("BACKOFF_BASE", DURATION, backoff_base_ms, "1s", 1, 3600000, "Upper bound of the first delay before a retry."),
	NUMBER("BACKOFF_CAP", DURATION, backoff_cap_ms, "5m", 1, DAY_MS, "Upper bound of every delay before a retry."),

	NUMBER("RUN_RETENTION", DURATION, run_retention_ms, "30d", 60000, 3650 * DAY_MS, "Finished runs are forgotten after this time."),
	NUMBER("TARGET_RETENTION", DURATION, target_retention_ms, "7d", DAY_MS, 3650 * DAY_MS, "Targets are removed after this time, in whole days."),
	NUMBER("RESULT_RETENTION", DURATION, result_retention_ms, "30d", DAY_MS, 3650 * DAY_MS, "Results are removed after this time, in whole days."),
	NUMBER("JANITOR_INTERVAL", DURATION, janitor_ms, "5m", 10, DAY_MS, "Time between looks for what is to be removed."),
	NUMBER("UPLOAD_MAX", SIZE, upload_max_bytes, "10GB", 1, INT64_C(5) << 40, "Largest target."),
	NUMBER("UPLOAD_MEMORY", SIZE, upload_memory_bytes, "24MiB", 12 << 20, INT64_C(4) << 30, "Memory of all uploads together."),
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
read_token_file(struct config *c, struct err *e)
{
	struct buf b = buf_make(4096);
	int rc;

	if (c->consul_token[0] != '\0' || c->consul_token_file[0] == '\0')
		return 0;
	rc = file_read(AT_FDCWD, c->consul_token_file, &b, e);
	if (rc == 0) {
		free(c->consul_token);
		c->consul_token = xstrndup(buf_str(&b), strcspn(buf_str(&b), " \r\n"));
	}
	buf_release(&b);
	return rc == 0 ? 0 : err_prefix(e, rc, "CONSUL_HTTP_TOKEN_FILE");
}

static int
cross_check(const struct config *c, struct err *e)
{
	int rc = 0;

	if ((c->store_dir[0] != '\0') == (c->s3_endpoint[0] != '\0')) {
		rc = err_set(e, ERR_INVALID, "exactly one of S3_ENDPOINT and STORE_DIR must be set");
		err_hint(e, "S3_ENDPOINT=http://minio:9000 for a cluster, STORE_DIR=/some/folder for one machine");
	} else if (c->s3_endpoint[0] != '\0' && (c->s3_access_key[0] == '\0' || c->s3_secret_key[0] == '\0')) {
		rc = err_set(e, ERR_INVALID, "S3_ENDPOINT needs S3_ACCESS_KEY and S3_SECRET_KEY");
	} else if (strcmp(c->nomad, "on") == 0 && c->nomad_addr[0] == '\0') {
		rc = err_set(e, ERR_INVALID, "DROVER_NOMAD=on needs NOMAD_ADDR");
	} else if (c->backoff_base_ms > c->backoff_cap_ms) {
		rc = err_set(e, ERR_INVALID, "BACKOFF_BASE is larger than BACKOFF_CAP");
	}
	return rc;
}

int
config_load(struct config *c, int argc, char **argv, struct err *e)
{
	int rc = settings_load(&config_table, c, argc, argv, NULL, e);

	if (rc == 0)
		rc = read_token_file(c, e);
	return rc == 0 ? cross_check(c, e) : rc;
}

void
config_release(struct config *c)
{
	settings_release(&config_table, c);
}

struct nomad_config
config_nomad(const struct config *c)
{
	return (struct nomad_config){
		.addr = c->nomad_addr, .region = c->nomad_region, .namespace = c->nomad_namespace, .token = c->nomad_token,
		.http_auth = c->nomad_http_auth, .ca_cert = c->nomad_cacert, .ca_path = c->nomad_capath,
		.client_cert = c->nomad_client_cert, .client_key = c->nomad_client_key,
		.tls_server_name = c->nomad_tls_server_name, .skip_verify = c->nomad_skip_verify,
	};
}

struct consul_config
config_consul(const struct config *c)
{
	return (struct consul_config){
		.addr = c->consul_addr, .token = c->consul_token, .http_auth = c->consul_http_auth, .ca_cert = c->consul_cacert,
		.ca_path = c->consul_capath, .client_cert = c->consul_client_cert, .client_key = c->consul_client_key,
		.tls_server_name = c->consul_tls_server_name, .namespace = c->consul_namespace, .ssl = c->consul_ssl,
		.skip_verify = !c->consul_ssl_verify,
	};
}

bool
config_nomad_on(const struct config *c)
{
	return strcmp(c->nomad, "off") != 0 && c->nomad_addr[0] != '\0';
}

bool
config_listens_on_loopback(const struct config *c)
{
	return strncmp(c->listen, "127.", 4) == 0 || strncmp(c->listen, "[::1]:", 6) == 0 ||
	    strncmp(c->listen, "localhost:", 10) == 0;
}
