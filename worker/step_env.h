/* step_env.h - what a step is given and how its end is judged: environment, arguments, exit codes, progress lines. Pure. */
#ifndef WORKER_STEP_ENV_H
#define WORKER_STEP_ENV_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "proto/workflow.h"
#include "worker/sandbox.h"

#define STEP_ENV_MAX 16
#define STEP_ARG_MAX (64 * 1024) /* bytes of one argument after replacement */
#define PROGRESS_LINE_MAX 4096

struct step_inputs { /* paths as the step sees them */
	const char *target_dir, *target_file; /* exactly one, the other NULL */
	const char *out, *scratch, *params, *run, *workflow_dir, *path;
};

/* The whole environment, NULL-terminated "NAME=value"; free with step_list_free. Nothing of the worker's own gets in. */
char **step_env(const struct step_inputs *in);

/* The arguments with ${NAME} replaced from env; "$$" and other dollars stay as they are. Returns 0 and *ret (step_list_free), or
 * ERR_INVALID (a name that env does not hold; no closing brace; too long). */
int step_argv(char *const *argv, char *const *env, char ***ret, struct err *e);

/* NULL is allowed. */
void step_list_free(char **list);

/* What the end of a program means for its step. */
enum step_verdict { STEP_CLEAN, STEP_FINDINGS, STEP_FAULT, STEP_OOM, STEP_DISK };

/* why (160 bytes): a sentence unless clean or findings. */
enum step_verdict step_judge(const struct workflow_step *s, const struct sandbox_end *end, char *why, size_t why_len);

/* One line of descriptor 3: {"step","percent","message"} (new reference) from a line of type "progress", with bounds and without
 * control characters; NULL for anything else. */
json_t *step_progress(const char *step, const char *line, size_t len);

/* Copies text as at most len - 1 bytes of printable UTF-8: control characters become blanks, broken sequences '?'. Returns out. */
char *step_clean_text(char *out, size_t len, const char *text);

#endif
