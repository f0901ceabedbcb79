/* results.h - what a run left behind, fetched and shown: used by `run` as well as by the commands for it. */
#ifndef CLI_RESULTS_H
#define CLI_RESULTS_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/findings.h"

#define FINDINGS_BYTES_MAX (256 * 1024 * 1024)

/* Fetches a run's SARIF: its bytes into raw (max FINDINGS_BYTES_MAX), parsed in *ret (the caller decrefs). ERR_NOTFOUND: it has
 * none; ERR_CONFLICT: not final yet; ERR_PROTO: what came is no JSON or not complete. */
int results_findings(struct cli *c, const char *id, struct buf *raw, json_t **ret, struct err *e);

/* Writes bytes to a file whole or not at all; "-" is stdout; what is there and no plain file (/dev/null, a pipe) is written to. */
int results_save(const char *path, const struct buf *raw, struct err *e);

/* Whether results_save has a chance: the directory is there and may be written. */
int results_may_save(const char *path, struct err *e);

/* Prints the findings table on stdout: rows at or above `least`, at most limit of them (0: all), with a line that says how many
 * were left out. */
void results_print(struct cli *c, const struct findings *r, enum fail_on least, int64_t limit);

#endif
