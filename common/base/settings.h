/* settings.h - one table per program: every setting with its type, bounds, default, and text.
 *
 * Values come from (strongest first) the command line, the environment, the settings file, the default. `--help`,
 * docs/CONFIG.md and the drift check are printed from the table. Settings are read once, at start, into the program's
 * own struct by the field's offset; nothing else reads the environment.
 */
#ifndef BASE_SETTINGS_H
#define BASE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum setting_type {
	SETTING_TEXT,     /* char *, owned by the struct; never NULL */
	SETTING_INT,      /* int64_t */
	SETTING_SIZE,     /* int64_t bytes, num_size */
	SETTING_DURATION, /* int64_t ms, num_duration */
	SETTING_BOOL,     /* bool: true/false, yes/no, on/off, 1/0 */
	SETTING_CHOICE,   /* char *: one of the words in `choices` */
};

struct setting {
	const char *env;      /* name of the environment variable and of the key in the file, e.g. "DROVER_LISTEN" */
	const char *flag;     /* long option without dashes, e.g. "listen"; NULL: environment and file only */
	enum setting_type type;
	size_t offset;        /* offsetof the field in the program's struct */
	const char *def;      /* default in the same notation; "" for none */
	int64_t min, max;     /* bounds of the numeric types */
	const char *choices;  /* "a|b|c" for SETTING_CHOICE */
	bool secret;          /* never printed or logged */
	const char *text;     /* one sentence for people */
};

/* Rows for settings that several programs share: a table's `at` is a field of struct `program`. */
#define SETTING_ROW_FLAG(env, flag, program, at, def, text) \
	{env, flag, SETTING_TEXT, offsetof(program, at), def, 0, 0, NULL, false, text}
#define SETTING_ROW_TEXT(env, program, at, text) SETTING_ROW_FLAG(env, NULL, program, at, "", text)
#define SETTING_ROW_SECRET(env, program, at, text) {env, NULL, SETTING_TEXT, offsetof(program, at), "", 0, 0, NULL, true, text}
#define SETTING_ROW_BOOL(env, program, at, def, text) {env, NULL, SETTING_BOOL, offsetof(program, at), def, 0, 0, NULL, false, text}

struct settings_table {
	const char *program;           /* "drover-dispatcher" */
	const char *summary;           /* one line for --help */
	const struct setting *rows;
	size_t n;
	const char *file_env;          /* names the settings file, e.g. "DROVER_CONFIG"; NULL: none */
};

/* Fills *into (a zeroed struct of the program) from the table. argv: options "-name value", "--name=value", "-name=value",
 * "--name value" (booleans may stand alone); unknown options and stray words are errors unless ret_rest is not NULL: then the
 * first word that is no option ends the parse and *ret_rest is its index. The settings file holds NAME=value lines, '#' comments,
 * nothing else; if it sets a secret, others must not have any access to it, nor the group write access (ERR_DENIED). An
 * environment variable that is empty counts as not set; an empty value of the other sources is taken. "--" ends the options. On
 * failure the texts of *into are freed. Returns 0 or ERR_INVALID/ERR_DENIED/ERR_IO with the setting's name, its source and its
 * bounds in the message. */
int settings_load(const struct settings_table *t, void *into, int argc, char **argv, int *ret_rest, struct err *e);

/* Frees the texts of *into. */
void settings_release(const struct settings_table *t, void *into);

/* True if a word before "--" asks for help: -h, -help or --help. Ask before settings_load, to which it is unknown. */
bool settings_wants_help(int argc, char **argv);

/* Prints the option list for --help, or the Markdown table of docs/CONFIG.md. */
void settings_help(const struct settings_table *t, FILE *f);
void settings_markdown(const struct settings_table *t, FILE *f);

#endif
