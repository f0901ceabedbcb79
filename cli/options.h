/* options.h - the command line: settings that every command shares, and the words and options of one command.
 *
 * Options take one dash or two, "-name value" or "-name=value", anywhere after the command; "--" ends them.
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/settings.h"
#include "cluster/cluster_settings.h"

struct cli_settings { /* described by their rows in options.c */
	char *address, *token, *ca_cert, *ca_path, *client_cert, *client_key, *tls_server_name;
	bool skip_verify, json, no_color;
	char *no_color_common, *term, *columns, *home, *data_home, *path, *temp_dir, *toolchains, *toolbox, *cache_dir;
	struct consul_settings consul;
	struct nomad_settings nomad;
};

extern const struct settings_table cli_settings_table;

struct option {
	const char *name, *alias; /* without dashes; alias may be NULL */
	const char *value;        /* what it takes, for help ("FILE"); NULL: a switch */
	bool many;                /* may be given more than once */
	const char *text;
};

struct cli;

struct command {
	const char *name;         /* one word or two: "workflow list" */
	const char *usage;        /* its words: "WORKFLOW TARGET" */
	int min_words, max_words; /* -1: any number */
	const char *summary;
	const struct option *options;
	size_t n_options;
	int (*run)(struct cli *c); /* returns the exit code */
};

#define ARGS_MAX 512

struct args {
	const struct command *command;
	const char *words[ARGS_MAX]; /* of argv */
	int n_words;
	struct {
		const struct option *option;
		const char *value;
	} given[ARGS_MAX];
	int n_given;
};

/* Finds the command in argv, takes its words and options into *a, and the shared settings into *s (also on failure release it).
 * Returns 0; ERR_NOTFOUND when no command is named (a->command is NULL, settings are loaded), ERR_INVALID with a hint. */
int options_parse(const struct command *commands, size_t n, int argc, char **argv, struct cli_settings *s, struct args *a,
    struct err *e);
void options_release(struct cli_settings *s);

/* What was given for one of the command's options (its name, not the alias): the switch; the last value or NULL; the i-th
 * value or NULL. */
bool args_has(const struct args *a, const char *name);
const char *args_value(const struct args *a, const char *name);
const char *args_nth(const struct args *a, const char *name, int i);

/* The value as a number within bounds or as a duration; *ret is left alone where the option was not given. ERR_INVALID. */
int args_int(const struct args *a, const char *name, int64_t min, int64_t max, int64_t *ret, struct err *e);
int args_duration(const struct args *a, const char *name, int64_t min, int64_t max, int64_t *ret_ms, struct err *e);

#endif
