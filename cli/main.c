/* drover: the command line. */
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/interrupt.h"

/* Words that are asked for without a command, and in place of everything else. */
static bool
asks(int argc, char **argv, const char *word)
{
	return argc == 2 && argv[1][0] == '-' && strcmp(argv[1] + 1 + (argv[1][1] == '-'), word) == 0;
}

/* The command that --help is asked of: help needs no valid options beside it. */
static const struct command *
help_of(int argc, char **argv)
{
	const struct command *best = NULL;

	for (size_t i = 0; argc > 1 && i < cli_n_commands; i++) {
		const char *name = cli_commands[i].name;
		size_t len = strlen(argv[1]);

		if (strcmp(name, argv[1]) == 0 ||
		    (argc > 2 && strncmp(name, argv[1], len) == 0 && name[len] == ' ' && strcmp(name + len + 1, argv[2]) == 0))
			best = &cli_commands[i];
	}
	return best;
}

/* --help anywhere, or `drover help` and the words of a command. */
static void
show_help(int argc, char **argv)
{
	bool by_word = argc > 1 && strcmp(argv[1], "help") == 0;
	const struct command *command = help_of(argc - by_word, argv + by_word);

	if (command != NULL || argc - by_word < 2 || !help_print_group(argv[1 + by_word]))
		help_print(command);
}

static int
run(struct cli *c, int argc, char **argv)
{
	struct err e = {0};
	int rc = options_parse(cli_commands, cli_n_commands, argc, argv, &c->settings, &c->args, &e);

	if (rc == ERR_NOTFOUND) {
		help_print(NULL);
		return EXIT_USAGE;
	}
	if (rc != 0)
		return cli_fail(&e);
	terminal_look(&c->term, &c->settings);
	return c->args.command->run(c);
}

int
main(int argc, char **argv)
{
	struct cli c = {0};
	int code = EXIT_FINE;

	log_init("drover", LOG_WARN, false);
	(void)setlocale(LC_CTYPE, "C.UTF-8"); /* file names in packed targets are UTF-8 whatever the environment says */
	interrupt_catch();
	if (asks(argc, argv, "settings-markdown"))
		settings_markdown(&cli_settings_table, stdout);
	else if (asks(argc, argv, "version") || asks(argc, argv, "v"))
		printf("Drover v%s\n", DROVER_VERSION);
	else if (settings_wants_help(argc, argv) || (argc > 1 && strcmp(argv[1], "help") == 0))
		show_help(argc, argv);
	else
		code = run(&c, argc, argv);
	api_free(c.api);
	options_release(&c.settings);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "Error: the output could not be written\n");
		return code == EXIT_FINE ? EXIT_USAGE : code;
	}
	return code;
}
