/* report.h - the words in which an outcome travels, for report.c and publish.c. */
#ifndef WORKER_REPORT_H
#define WORKER_REPORT_H

#include <jansson.h>

#include "worker/job_parts.h"

/* "completed", "failed", "timed_out", "canceled" or "handed_back". */
const char *report_outcome(const struct job *j);

/* {"error","warning","note","total"}, or null where no step has left a report (new reference). */
json_t *report_findings(const struct job *j);

/* How the tools were confined, and how their target was given to them: sandbox_json with "workspace": {"mode","method"} (new reference). */
json_t *report_sandbox(const struct job *j);

#endif
