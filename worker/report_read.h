/* report_read.h - the SARIF file that a step has left in ${OUT}. */
#ifndef WORKER_REPORT_READ_H
#define WORKER_REPORT_READ_H

#include <jansson.h>

#include "base/err.h"
#include "worker/job_parts.h"
#include "worker/sarif.h"

/* Reads ${OUT}/<step>.sarif, which the tool owns and may have made into anything, and normalises it. Returns 0 and *ret (new
 * reference), ERR_NOTFOUND (there is none), ERR_INVALID, ERR_TOOBIG, ERR_IO. */
int report_read(struct job *j, const char *step, json_t **ret, struct sarif_counts *counts, struct err *e);

#endif
