/* config.h - the dispatcher's settings. Names and meanings are in the table of config.c; `drover-dispatcher --help` prints it. */
#ifndef DISPATCHER_CONFIG_H
#define DISPATCHER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/settings.h"
#include "cluster/cluster_settings.h"
#include "storage/store_settings.h"

struct config {
	char *listen, *advertise, *data_dir, *toolbox, *jobs_dir, *tokens_file, *log_level, *new_ledger;
	struct store_settings store;
	char *nomad_mode;
	struct nomad_settings nomad;
	struct consul_settings consul;
	bool consul_register;
	char *datacenters, *driver, *worker_command, *cache_volume, *docker_network, *worker_env_file, *worker_service, *job_prefix;
	int64_t nomad_connections, reconcile_ms, request_ttl_ms, window, start_limit_ms, roll_limit_ms;
	int64_t lease_ttl_ms, orphan_ms, queue_max, max_lost, max_crashes, max_infra, backoff_base_ms, backoff_cap_ms;
	int64_t priority_age_ms, share_half_ms, unplaceable_ms;
	int64_t run_retention_ms, target_retention_ms, result_retention_ms, retention_max_ms, janitor_ms, orphan_grace_ms, stale_uploads_ms;
	char *workflow_retention;
	int64_t upload_max_bytes, upload_memory_bytes, log_tail_bytes;
	int64_t connections_max, connections_per_address, min_body_rate_bytes;
};

/* The table, for --help, docs and the drift check. */
extern const struct settings_table config_table;

/* Reads and cross-checks everything; config_release also after a failure. A CONSUL_HTTP_TOKEN_FILE is read here. */
int config_load(struct config *c, int argc, char **argv, struct err *e);
void config_release(struct config *c);

/* Whether workers are asked of Nomad. */
bool config_nomad_on(const struct config *c);

/* True if the listen address is one of this machine's loopback addresses. */
bool config_listens_on_loopback(const struct config *c);

#endif
