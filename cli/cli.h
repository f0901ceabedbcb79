/* cli.h - what every command gets, and the ways in which it speaks and fails. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"
#include "cli/api.h"
#include "cli/options.h"
#include "cli/table.h"
#include "cli/terminal.h"

enum exit_code {
	EXIT_FINE = 0,
	EXIT_FINDINGS = 1,     /* a failed run, or findings at or above -fail-on */
	EXIT_USAGE = 2,        /* wrong usage, or the server could not be asked */
	EXIT_INTERRUPTED = 130 /* Ctrl-C */
};

struct cli {
	struct cli_settings settings;
	struct args args;
	struct terminal term;
	struct api *api; /* by cli_connect */
};

/* The table of all commands. */
extern const struct command cli_commands[];
extern const size_t cli_n_commands;

/* Prepares c->api. Returns 0 or ERR_INVALID. */
int cli_connect(struct cli *c, struct err *e);

/* Prints an error with its hint on stderr; returns the exit code for it (EXIT_USAGE, or EXIT_INTERRUPTED after a signal). */
int cli_fail(const struct err *e);

/* GETs a path and either prints the answer (-json) or hands it to show. Returns the exit code. */
int cli_show(struct cli *c, const char *path, int (*show)(struct cli *c, const json_t *answer));

/* Prints JSON on stdout, indented, as the API gave it. */
void cli_print_json(const json_t *v);

/* Prints and frees a table on stdout; `none` where it has no rows. */
void cli_print_table(struct cli *c, struct table *t, const char *none);

/* Prints "name   value" on stdout, aligned, the value made safe; nothing where it is "". style: SGR parameters or NULL. */
void cli_print_field(const struct cli *c, const char *name, const char *value, const char *style);

/* Prints --help of the program (command NULL) or of one command on stdout. */
void help_print(const struct command *command);

/* The commands that begin with this word ("cache"); false, and nothing is printed, if there are none. */
bool help_print_group(const char *first);

/* The commands, one function each: see commands.c for what they do. They return the exit code. */
int cmd_artifacts(struct cli *c);
int cmd_cache_gc(struct cli *c);
int cmd_cache_ls(struct cli *c);
int cmd_cache_rm(struct cli *c);
int cmd_cache_stat(struct cli *c);
int cmd_cache_verify(struct cli *c);
int cmd_cancel(struct cli *c);
int cmd_dev(struct cli *c);
int cmd_events(struct cli *c);
int cmd_explain(struct cli *c);
int cmd_findings(struct cli *c);
int cmd_init(struct cli *c);
int cmd_logs(struct cli *c);
int cmd_pause(struct cli *c);
int cmd_purge(struct cli *c);
int cmd_queue(struct cli *c);
int cmd_requeue(struct cli *c);
int cmd_resume(struct cli *c);
int cmd_run(struct cli *c);
int cmd_runs(struct cli *c);
int cmd_status(struct cli *c);
int cmd_storage_doctor(struct cli *c);
int cmd_storage_stat(struct cli *c);
int cmd_targets_list(struct cli *c);
int cmd_targets_rm(struct cli *c);
int cmd_targets_show(struct cli *c);
int cmd_version(struct cli *c);
int cmd_workers(struct cli *c);
int cmd_workflow_list(struct cli *c);
int cmd_workflow_push(struct cli *c);
int cmd_workflow_show(struct cli *c);
int cmd_workflow_validate(struct cli *c);

#endif
