#include "cli/run_history.h"

#include <stdio.h>

#include "cli/render.h"

void
run_history_print(struct cli *c, const json_t *history)
{
	static const struct column columns[] = {{"AT", 0, NULL}, {"STATE", 0, state_style}, {"ATTEMPT", TABLE_RIGHT, NULL},
		{"REASON", TABLE_SHRINK | TABLE_OPTIONAL | TABLE_WRAP, NULL}};
	struct table *t;
	size_t i;
	json_t *moment;

	if (json_array_size(history) == 0)
		return;
	t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	json_array_foreach(history, i, moment)
	{
		char attempt[24];

		snprintf(attempt, sizeof(attempt), "%lld", (long long)json_number(moment, "attempt"));
		table_add(t, (const char *const[]){json_text(moment, "at"), json_text(moment, "state"), attempt,
		    json_text(moment, "reason")});
	}
	printf("\n");
	cli_print_table(c, t, "");
}
