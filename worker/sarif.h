/* sarif.h - reports of tools, untrusted: checked, normalised, and merged into one SARIF 2.1.0 file that GitHub takes too. Pure. */
#ifndef WORKER_SARIF_H
#define WORKER_SARIF_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SARIF_BYTES_MAX (64 * 1024 * 1024) /* of one report */
#define SARIF_RUNS_MAX 20                  /* GitHub's limits per file, run, and run again */
#define SARIF_RESULTS_MAX 25000
#define SARIF_RULES_MAX 25000
#define SARIF_FINGERPRINT "drover/v1"

struct sarif_counts {
	int64_t error, warning, note, total; /* total includes level "none" */
};

struct sarif_context {
	const char *step;             /* names the run (automationDetails) */
	const char *const *prefixes;  /* NULL-terminated: where the target lay; removed from file names */
	/* Text of line `line` (from 1) of the target's file `path`, for fingerprints: up to len - 1 bytes into out. False: unknown.
	 * NULL: fingerprints go without it. */
	bool (*line_of)(void *arg, const char *path, int64_t line, char *out, size_t len);
	void *arg;
};

/* Parses one report and brings it into our form: version and runs checked; each run one tool with a name; file names relative
 * to the target with '/' (what lies elsewhere loses its location's directory); levels explicit; a stable fingerprint per result
 * from rule, path, the line's content and the number of equal ones; no more results than GitHub takes, the least severe left out first
 * and counted in a notification. What GitHub and our readers do not use (code flows, fixes, host data) is dropped. Adds to *counts. Returns 0 and *ret (new reference), or ERR_INVALID (not SARIF), ERR_TOOBIG. */
int sarif_normalise(const struct sarif_context *c, const char *text, size_t len, json_t **ret, struct sarif_counts *counts,
    struct err *e);

/* Marks all runs of a normalised report as not successful, with the reason. */
void sarif_mark_failed(json_t *report, const char *reason);

/* A report with one run of no results, for a step that failed without one (new reference). */
json_t *sarif_failed_run(const char *step, const char *reason);

/* An empty file (new reference), and the addition of all runs of a normalised report to it, up to SARIF_RUNS_MAX. Returns how many
 * runs were left out. */
json_t *sarif_new(void);
size_t sarif_add(json_t *file, const json_t *report);

/* Whether one of its runs says that the tool did not do its work. */
bool sarif_says_failed(const json_t *report);

/* --- sarif_uri.c; all return new strings --- */

/* A file name of a report as a URI relative to the target: "file://" and prefixes removed, '\\' turned, "." and ".." resolved,
 * what no URI may hold percent-encoded. What lies outside of the target is cut down to its last component; URIs of other
 * schemes stay. */
char *sarif_relative(const char *uri, const char *const *prefixes);

/* The path that a relative URI stands for (percent-decoded; NUL bytes end it). */
char *sarif_path(const char *uri);

/* Text without the places where the target lay ("/drover/target/a.py" becomes "a.py"). */
char *sarif_text(const char *text, const char *const *prefixes);

#endif
