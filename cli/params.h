/* params.h - parameters of a run from the command line: -p key=value, typed by the workflow's schema. Pure. */
#ifndef CLI_PARAMS_H
#define CLI_PARAMS_H

#include <jansson.h>

#include "base/err.h"

/* Adds one "key=value" to *params (an object). The schema's type of the key decides: a string stays text; anything else is read as
 * JSON where it is valid, else stays text (the server then says what is wrong). A list takes a JSON array, or grows by one item
 * with each repeated -p. schema may be NULL (unknown). ERR_INVALID: no '=', an empty key, a key twice. */
int params_add(json_t *params, const json_t *schema, const char *text, struct err *e);

#endif
