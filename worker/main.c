#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"
#include "net/loop.h"
#include "storage/extract.h"
#include "worker/agent.h"
#include "worker/config.h"
#include "worker/worker.h"

#define ARENAS_MAX 2 /* many threads that mostly wait: they share what they free */

static void
on_signal(int signo, void *arg)
{
	(void)signo;
	agent_drain(arg);
}

static int
complain(const struct err *e)
{
	log_error(NULL, "%s%s%s", e->msg, e->hint[0] != '\0' ? " - " : "", e->hint);
	return 2;
}

/* Everything after the settings. The signals are taken over by the loop before there is any other thread. */
static int
serve(struct worker *w, struct err *e)
{
	struct loop *l = loop_new(e);
	struct agent *a = NULL;
	int rc = l == NULL ? 2 : 0;
	sigset_t both;

	sigemptyset(&both);
	sigaddset(&both, SIGTERM);
	sigaddset(&both, SIGINT);
	pthread_sigmask(SIG_BLOCK, &both, NULL);
	if (rc == 0 && (worker_open(w, e) != 0 || (a = agent_new(w, l, e)) == NULL || loop_signal(l, SIGTERM, on_signal, a, e) != 0 ||
	    loop_signal(l, SIGINT, on_signal, a, e) != 0))
		rc = complain(e);
	if (rc == 0) {
		loop_run(l);
		rc = agent_status(a);
	}
	agent_free(a);
	loop_free(l);
	worker_close(w);
	return rc;
}

int
main(int argc, char **argv)
{
	static struct worker w;
	enum log_level level = LOG_INFO;
	struct err e = {0};
	int rc;

	if ((rc = extract_helper_main(argc, argv)) >= 0 || (rc = sandbox_helper_main(argc, argv)) >= 0)
		return rc;
	(void)signal(SIGPIPE, SIG_IGN);
	(void)mallopt(M_ARENA_MAX, ARENAS_MAX);
	/* The worker's memory holds credentials: no tool that escapes to its user may look into it, and no core file shows it. */
	(void)prctl(PR_SET_DUMPABLE, 0);
	log_init("drover-worker", LOG_INFO, isatty(STDERR_FILENO) == 0);
	if (settings_wants_help(argc, argv)) {
		settings_help(&config_table, stdout);
		return 0;
	}
	if (argc == 2 && strcmp(argv[1], "-settings-markdown") == 0) {
		settings_markdown(&config_table, stdout);
		return 0;
	}
	if (argc == 2 && (strcmp(argv[1], "-version") == 0 || strcmp(argv[1], "--version") == 0)) {
		(void)puts("drover-worker " DROVER_VERSION);
		return 0;
	}
	if (config_load(&w.config, argc, argv, &e) != 0)
		return complain(&e);
	workspaces_own_mounts();
	(void)log_level_parse(w.config.log_level, &level);
	log_init("drover-worker", level, isatty(STDERR_FILENO) == 0);
	rc = serve(&w, &e);
	config_release(&w.config);
	return rc;
}
