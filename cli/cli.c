#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/interrupt.h"
#include "cli/text.h"

#define TABLE_BYTES_MAX (256 * 1024 * 1024)

int
cli_connect(struct cli *c, struct err *e)
{
	return c->api != NULL ? 0 : api_new(&c->settings, &c->api, e);
}

int
cli_fail(const struct err *e)
{
	char *msg = text_safe(e->msg), *hint = text_safe(e->hint);

	fflush(stdout);
	if (interrupted()) {
		fprintf(stderr, "Interrupted\n");
	} else {
		fprintf(stderr, "Error: %s\n", msg);
		if (hint[0] != '\0')
			fprintf(stderr, "Hint:  %s\n", hint);
	}
	free(msg);
	free(hint);
	return interrupted() ? EXIT_INTERRUPTED : EXIT_USAGE;
}

int
cli_show(struct cli *c, const char *path, int (*show)(struct cli *c, const json_t *answer))
{
	json_t *answer = NULL;
	struct err e = {0};
	int code = EXIT_FINE;

	if (cli_connect(c, &e) != 0 || api_get(c->api, path, &answer, &e) != 0)
		code = cli_fail(&e);
	else if (c->settings.json)
		cli_print_json(answer);
	else
		code = show(c, answer);
	json_decref(answer);
	return code;
}

void
cli_print_json(const json_t *v)
{
	/* ASCII escapes: valid for every reader, and nothing in it can act on a terminal. */
	(void)json_dumpf(v, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	fputc('\n', stdout);
}

void
cli_print_table(struct cli *c, struct table *t, const char *none)
{
	struct buf b = buf_make(TABLE_BYTES_MAX);

	if (table_rows(t) == 0)
		buf_addf(&b, "%s\n", none);
	else
		table_render(t, c->term.width, c->term.color, &b);
	fputs(buf_str(&b), stdout);
	buf_release(&b);
	table_free(t);
}

void
cli_print_field(const struct cli *c, const char *name, const char *value, const char *style)
{
	char *safe;

	if (value[0] == '\0')
		return;
	safe = text_safe(value);
	if (c->term.color && style != NULL)
		printf("%-12s \033[%sm%s\033[0m\n", name, style, safe);
	else
		printf("%-12s %s\n", name, safe);
	free(safe);
}
