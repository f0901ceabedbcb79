/* run_history.h - what a run went through, as a table. */
#ifndef CLI_RUN_HISTORY_H
#define CLI_RUN_HISTORY_H

#include "cli/cli.h"

/* Prints the moments that the API gave, nothing where there are none. */
void run_history_print(struct cli *c, const json_t *history);

#endif
