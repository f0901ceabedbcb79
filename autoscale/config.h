/* config.h - the autoscaler's settings. Names and meanings are in the table of config.c; `drover-autoscale --help` prints it. */
#ifndef AUTOSCALE_CONFIG_H
#define AUTOSCALE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/settings.h"
#include "cluster/cluster_settings.h"

struct config {
	char *addr, *token, *ca_cert, *api_token, *listen, *advertise, *log_level, *job_prefix, *lock_path;
	bool dry_run, consul_register;
	int64_t lock_ttl_ms, drain_ttl_ms, drain_patience_ms;
	struct nomad_settings nomad;
	struct consul_settings consul;
};

/* The table, for --help, docs and the drift check. */
extern const struct settings_table config_table;

/* Reads and checks everything; config_release also after a failure. */
int config_load(struct config *c, int argc, char **argv, struct err *e);
void config_release(struct config *c);

#endif
