/* drover-autoscale: configure, wire, loop, tear down; or simulate. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "autoscale/api.h"
#include "autoscale/config.h"
#include "autoscale/meters.h"
#include "autoscale/scaler.h"
#include "autoscale/simulate.h"
#include "base/log.h"
#include "cluster/consul_entry.h"

static int
complain(const struct err *e)
{
	fprintf(stderr, "drover-autoscale: %s\n", e->msg);
	if (e->hint[0] != '\0')
		fprintf(stderr, "  %s\n", e->hint);
	return e->code == ERR_INVALID ? 2 : 1;
}

/* Options that only print. */
static bool
prints_only(int argc, char **argv)
{
	static const struct {
		const char *option;
		void (*print)(const struct settings_table *t, FILE *f);
	} options[] = {{"help", settings_help}, {"h", settings_help}, {"settings-markdown", settings_markdown}};

	for (int i = 1; i < argc; i++) {
		const char *word = argv[i] + strspn(argv[i], "-");

		if (strcmp(word, "version") == 0) {
			printf("drover-autoscale %s\n", DROVER_VERSION);
			return true;
		}
		for (size_t k = 0; k < sizeof(options) / sizeof(options[0]); k++)
			if (strcmp(word, options[k].option) == 0) {
				options[k].print(&config_table, stdout);
				if (strcmp(word, "settings-markdown") != 0)
					printf("\ndrover-autoscale simulate -help: compare policies without a cluster\n");
				return true;
			}
	}
	return false;
}

static void
on_terminate(int signo, void *arg)
{
	log_info("autoscale", "%s: stopping", strsignal(signo));
	loop_stop(arg);
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
announce(struct loop *l, const struct config *c, const char *bound)
{
	char id[160];
	const struct consul_entry_config entry = {.consul = consul_settings_config(&c->consul), .service = "drover-autoscale", .id = id,
		.bound = bound, .advertise = c->advertise, .told = announced};

	snprintf(id, sizeof(id), "drover-autoscale-%.120s", c->advertise[0] != '\0' ? c->advertise : bound);
	return c->consul_register ? consul_entry_new(l, &entry) : NULL;
}

/* The signals are taken over by the loop before there is any other thread. */
static int
serve(const struct config *c, struct err *e)
{
	struct loop *l = loop_new(e);
	struct scaler *s = NULL;
	struct scale_api *api = NULL;
	struct consul_entry *entry = NULL;
	int rc = l == NULL ? e->code : 0;

	if (rc == 0 && ((rc = loop_signal(l, SIGTERM, on_terminate, l, e)) != 0 ||
	    (rc = loop_signal(l, SIGINT, on_terminate, l, e)) != 0))
		goto out;
	if (rc != 0 || (s = scaler_new(l, c, e)) == NULL || (api = scale_api_new(l, c, s, e)) == NULL) {
		rc = e->code;
		goto out;
	}
	entry = announce(l, c, scale_api_address(api));
	log_info("autoscale", "serving http://%s%s", scale_api_address(api), c->dry_run ? ", dry run" : "");
	loop_run(l);
out:
	consul_entry_free(entry);
	scale_api_free(api);
	scaler_free(s);
	loop_free(l);
	return rc;
}

int
main(int argc, char **argv)
{
	struct config c = {0};
	enum log_level level = LOG_INFO;
	struct err e = {0};
	int rc;

	if (argc > 1 && strcmp(argv[1], "simulate") == 0)
		return simulate_main(argc - 1, argv + 1);
	if (prints_only(argc, argv))
		return 0;
	if ((rc = config_load(&c, argc, argv, &e)) != 0) {
		config_release(&c);
		return complain(&e);
	}
	log_level_parse(c.log_level, &level);
	log_init("drover-autoscale", level, false);
	scale_meters_init();
	rc = serve(&c, &e);
	config_release(&c);
	return rc != 0 ? complain(&e) : 0;
}
