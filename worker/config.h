/* config.h - the worker's settings. */
#ifndef WORKER_CONFIG_H
#define WORKER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/settings.h"
#include "cluster/cluster_settings.h"
#include "proto/run.h"
#include "storage/extract.h"
#include "storage/store_settings.h"

/* Value of `once` where the worker was not asked to end after one run: "" is a request too, a hand-made dispatch. */
#define ONCE_NO "-"

struct config { /* fields are described by their rows in config.c */
	char *addr, *token, *ca_cert, *secrets_path, *once, *log_level;
	char *vertical, *health_listen, *class_word, *toolchains, *toolbox, *home, *sandbox;
	int64_t slots, uid_base, drain_ms, log_max_bytes, artifacts_max_bytes, artifacts_max, processes_max;
	char *cache_dir;
	int64_t cache_max_bytes, cache_ttl_ms, cache_min_free_bytes, cache_min_free_inodes, cache_sweep_ms;
	struct extract_limits extract;
	struct store_settings store;
	char *node, *node_id, *alloc_id, *job_id, *secrets_dir, *meta_workflow, *meta_target, *meta_parameters;
	int64_t alloc_index, cpu_limit_mhz, memory_limit_mb;
	struct nomad_settings nomad;
	struct consul_settings consul;
	enum run_class class;
};

extern const struct settings_table config_table;

/* Reads and checks all settings. Returns 0 (free with config_release) or ERR_INVALID with the setting's name. What may still come
 * from a Nomad variable (see secrets.h) is not missed here. */
int config_load(struct config *c, int argc, char **argv, struct err *e);
void config_release(struct config *c);

/* Whether the worker ends after one run, and whether someone dispatched it by hand. */
bool config_once(const struct config *c);
bool config_by_hand(const struct config *c);

/* What must be known once credentials have been read: exactly one store, with its keys. Returns 0 or ERR_INVALID. */
int config_check_store(const struct config *c, struct err *e);

/* Name of the node for people: DROVER_NODE, else the host's. */
void config_node(const struct config *c, char *out, size_t out_len);

#endif
