/* drover-dispatcher: configure, wire, loop, tear down. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"
#include "dispatcher/config.h"
#include "dispatcher/dispatcher.h"
#include "dispatcher/meters.h"

#define OTHER_DESCRIPTORS 256 /* of the ledger, the object store, the toolbox, Nomad */

static void
complain(const struct err *e)
{
	fprintf(stderr, "drover-dispatcher: %s\n", e->msg);
	if (e->hint[0] != '\0')
		fprintf(stderr, "  %s\n", e->hint);
}

/* Options that only print. */
static bool
prints_only(int argc, char **argv)
{
	static const struct {
		const char *option;
		void (*print)(const struct settings_table *t, FILE *f);
	} options[] = {{"help", settings_help}, {"settings-markdown", settings_markdown}};

	for (int i = 1; i < argc; i++) {
		const char *word = argv[i] + strspn(argv[i], "-");

		if (strcmp(word, "version") == 0) {
			printf("drover-dispatcher %s\n", DROVER_VERSION);
			return true;
		}
		for (size_t k = 0; k < sizeof(options) / sizeof(options[0]); k++)
			if (strcmp(word, options[k].option) == 0) {
				options[k].print(&config_table, stdout);
				return true;
			}
	}
	return false;
}

/* The soft limit is low for the sake of programs that use select, and lower than CONNECTIONS_MAX. */
static void
raise_descriptor_limit(const struct config *c)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) != 0)
		return;
	r.rlim_cur = r.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &r);
	if (r.rlim_max < (rlim_t)c->connections_max + OTHER_DESCRIPTORS)
		log_warn("dispatcher", "at most %llu descriptors: too few for CONNECTIONS_MAX=%lld (ulimit -n)", (unsigned long long)r.rlim_max,
		    (long long)c->connections_max);
}

int
main(int argc, char **argv)
{
	struct config config = {0};
	struct dispatcher d = {0};
	enum log_level level = LOG_INFO;
	struct err e = {0};
	int rc;

	if (prints_only(argc, argv))
		return 0;
	if ((rc = config_load(&config, argc, argv, &e)) != 0) {
		complain(&e);
		config_release(&config);
		return 2;
	}
	log_level_parse(config.log_level, &level);
	log_init("drover-dispatcher", level, false);
	meters_init();
	raise_descriptor_limit(&config);
	if ((rc = dispatcher_open(&d, &config, &e)) == 0 && (rc = dispatcher_serve(&d, &e)) == 0)
		loop_run(d.loop);
	if (rc != 0)
		complain(&e);
	dispatcher_close(&d);
	config_release(&config);
	return rc != 0 || d.failed ? 1 : 0;
}
