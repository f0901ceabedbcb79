/* hold.h - what holds runs back, as tables: pauses, breakers, and what Nomad was asked for and has not given yet. An empty list
 * prints nothing. */
#ifndef CLI_HOLD_H
#define CLI_HOLD_H

#include "cli/cli.h"

/* Arrays as in GET /v1/queue and GET /v1/run/:id/explain. */
void hold_print_pauses(struct cli *c, const json_t *pauses);
void hold_print_breakers(struct cli *c, const json_t *breakers);
void hold_print_requests(struct cli *c, const json_t *requests);

#endif
