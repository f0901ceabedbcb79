/* findings.h - findings out of a SARIF report, for tables and verdicts. Fails closed: what cannot be read is an error, never
 * "no findings". Pure. */
#ifndef CLI_FINDINGS_H
#define CLI_FINDINGS_H

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"
#include "cli/render.h"

struct finding { /* texts point into the report; may be "" */
	const char *level; /* "error", "warning", "note", "none"; a word that is none of them reads "error" */
	const char *rule, *file, *message, *tool;
	json_int_t line;   /* 0: none */
};

struct findings {
	struct finding *rows; /* by severity, then as in the file */
	size_t n;
	struct level_counts counts;
	size_t failed_runs;      /* tools that did not run to their end: invocations without success */
};

/* Reads a report; the JSON must outlive it. Returns 0 (release it) or ERR_INVALID: not SARIF 2.1.0, or of a wrong shape. */
int findings_read(const json_t *sarif, struct findings *ret, struct err *e);
void findings_release(struct findings *r);

#endif
