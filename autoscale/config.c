#include "autoscale/config.h"

#include <stddef.h>

#define HOUR_MS (3600 * INT64_C(1000))
#define TEXT(env, flag, field, def, text) {env, flag, SETTING_TEXT, offsetof(struct config, field), def, 0, 0, NULL, false, text}
#define BOOL(env, flag, field, def, text) {env, flag, SETTING_BOOL, offsetof(struct config, field), def, 0, 0, NULL, false, text}
#define DURATION(env, field, def, min, max, text) \
	{env, NULL, SETTING_DURATION, offsetof(struct config, field), def, min, max, NULL, false, text}

static const struct setting rows[] = {
	TEXT("DROVER_ADDR", "address", addr, "http://127.0.0.1:8700", "The dispatcher: http(s)://host:port, consul://drover-dispatcher or nomad://SERVICE."),
	{"DROVER_TOKEN", NULL, SETTING_TEXT, offsetof(struct config, token), "", 0, 0, NULL, true, "API token with scope manage."},
	TEXT("DROVER_CACERT", NULL, ca_cert, "", "CA certificate file to trust for the dispatcher."),
	TEXT("AUTOSCALE_LISTEN", "listen", listen, "127.0.0.1:8710", "Address and port of /metrics, /v1/decisions and /v1/agent/health; port 0 takes any free one."),
	{"AUTOSCALE_TOKEN", NULL, SETTING_TEXT, offsetof(struct config, api_token), "", 0, 0, NULL, true, "Token that /metrics and /v1/decisions ask for; without one they are for loopback addresses only."},
	TEXT("AUTOSCALE_ADVERTISE", NULL, advertise, "", "host:port by which others reach it, for Consul; empty: AUTOSCALE_LISTEN."),
	{"LOG_LEVEL", "log-level", SETTING_CHOICE, offsetof(struct config, log_level), "info", 0, 0, "debug|info|warn|error", false, "Least level that is logged."},
	BOOL("AUTOSCALE_DRY_RUN", "dry-run", dry_run, "false", "Decide and tell, but change nothing."),
	TEXT("DROVER_JOB_PREFIX", NULL, job_prefix, "drover", "First part of the names of jobs in Nomad: PREFIX-workers-VERTICAL are looked at."),
	TEXT("AUTOSCALE_LOCK", NULL, lock_path, "drover/autoscale", "Nomad variable whose lock makes one of several autoscalers the one that acts; '-': none, there is one only."),
	DURATION("AUTOSCALE_LOCK_TTL", lock_ttl_ms, "15s", 10000, HOUR_MS, "A leader that cannot renew its lock stops after this time; another follows after about two and a half times it."),
	DURATION("AUTOSCALE_DRAIN_TTL", drain_ttl_ms, "15s", 2000, HOUR_MS, "Workers that were kept free for a scale-in take work again this long after the autoscaler has gone."),
	DURATION("AUTOSCALE_DRAIN_PATIENCE", drain_patience_ms, "2s", 0, HOUR_MS, "After this wait for all workers of a scale-in, those of the highest indexes that are idle go first."),
	NOMAD_SETTINGS(struct config, nomad),
	CONSUL_SETTINGS(struct config, consul),
	BOOL("DROVER_CONSUL_REGISTER", NULL, consul_register, "true", "Register as drover-autoscale where CONSUL_HTTP_ADDR is set."),
};

const struct settings_table config_table = {
	.program = "drover-autoscale",
	.summary = "keeps as many warm workers as the queue needs, and never takes one away that is at work",
	.rows = rows,
	.n = sizeof(rows) / sizeof(rows[0]),
	.file_env = "DROVER_CONFIG",
};

int
config_load(struct config *c, int argc, char **argv, struct err *e)
{
	int rc = settings_load(&config_table, c, argc, argv, NULL, e);

	return rc == 0 ? consul_settings_read_token(&c->consul, e) : rc;
}

void
config_release(struct config *c)
{
	settings_release(&config_table, c);
}
