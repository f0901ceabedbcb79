/* run_filter.h - the options that say which runs are meant, for listing them and for what is done to many. */
#ifndef CLI_RUN_FILTER_H
#define CLI_RUN_FILTER_H

#include <jansson.h>

#include "base/err.h"
#include "cli/options.h"

/* Adds to filter the texts of the options that were given, as the API takes them. ERR_INVALID. */
int run_filter_read(const struct args *a, json_t *filter, struct err *e);

#endif
