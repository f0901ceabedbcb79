/* --help, from the tables of commands, options and settings. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/text.h"

#define HELP_COLUMNS 80
#define COMMAND_COLUMNS 20
#define OPTION_COLUMNS 26

/* The text in lines of HELP_COLUMNS; the first one begins in column `at` already, the others are moved there. */
static void
print_words(int at, const char *text)
{
	size_t len;
	const char *rest = text_take_line(text, HELP_COLUMNS - at, &len);

	printf("%.*s\n", (int)len, text);
	while (*(text = rest) != '\0') {
		rest = text_take_line(text, HELP_COLUMNS - at, &len);
		printf("%*s%.*s\n", at, "", (int)len, text);
	}
}

/* What is told about in one column, what is told beside it. */
static void
print_row(int columns, const char *head, const char *text)
{
	printf("  %-*s ", columns, head);
	print_words(columns + 3, text);
}

static void
print_option(const char *name, const char *alias, const char *value, const char *text)
{
	char head[80];

	snprintf(head, sizeof(head), "-%s%s%s%s%s", name, alias != NULL ? ", -" : "", alias != NULL ? alias : "",
	    value != NULL ? " " : "", value != NULL ? value : "");
	print_row(OPTION_COLUMNS, head, text);
}

static void
print_shared(void)
{
	char text[256];

	printf("\nOptions of every command:\n");
	for (size_t i = 0; i < cli_settings_table.n; i++) {
		const struct setting *s = &cli_settings_table.rows[i];

		if (s->flag == NULL)
			continue;
		snprintf(text, sizeof(text), "%s (%s)", s->text, s->env);
		print_option(s->flag, NULL, s->type == SETTING_BOOL ? NULL : "TEXT", text);
	}
}

/* Whether the command is one of group `first`: "cache ls" of "cache". */
static bool
is_of(const struct command *command, const char *first)
{
	size_t len = strlen(first);

	return strncmp(command->name, first, len) == 0 && command->name[len] == ' ';
}

/* Those of a group, under a title if there are any; NULL: all. True if there were any. */
static bool
print_commands(const char *title, const char *group)
{
	bool any = false;

	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct command *c = &cli_commands[i];

		if ((group != NULL && !is_of(c, group)) || strcmp(c->name, "targets list") == 0) /* the same as `targets` */
			continue;
		if (!any)
			printf("%s:\n", title);
		any = true;
		print_row(COMMAND_COLUMNS, c->name, c->summary);
	}
	return any;
}

static void
print_program(void)
{
	printf("Usage: drover COMMAND [options] [words]\n\n");
	(void)print_commands("Commands", NULL);
	print_shared();
	printf("\nOptions take one dash or two. `drover COMMAND --help` says more.\n");
	print_words(0, "Exit codes: 0 fine, 1 a failed run or findings at or above -fail-on, 2 usage or connection, 130 Ctrl-C.");
}

void
help_print(const struct command *command)
{
	if (command == NULL) {
		print_program();
		return;
	}
	printf("Usage: drover %s%s%s%s\n\n%c%s.\n", command->name, command->n_options > 0 ? " [options]" : "",
	    command->usage[0] != '\0' ? " " : "", command->usage, toupper(command->summary[0]), command->summary + 1);
	if (command->n_options > 0)
		printf("\nOptions:\n");
	for (size_t i = 0; i < command->n_options; i++) {
		const struct option *o = &command->options[i];

		print_option(o->name, o->alias, o->value, o->text);
	}
	(void)print_commands("\nMore of it", command->name);
	print_shared();
}

bool
help_print_group(const char *first)
{
	if (!print_commands("Commands", first))
		return false;
	printf("\n`drover %s COMMAND --help` says more.\n", first);
	return true;
}
