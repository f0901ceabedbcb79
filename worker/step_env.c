#include "worker/step_env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "proto/json_out.h"

char **
step_env(const struct step_inputs *in)
{
	char **env = xcalloc(STEP_ENV_MAX + 1, sizeof(*env));
	size_t n = 0;

	if (in->target_dir != NULL)
		env[n++] = xasprintf("TARGET_DIR=%s", in->target_dir);
	else
		env[n++] = xasprintf("TARGET_FILE=%s", in->target_file);
	env[n++] = xasprintf("OUT=%s", in->out);
	env[n++] = xasprintf("SCRATCH=%s", in->scratch);
	env[n++] = xasprintf("PARAMS_FILE=%s", in->params);
	env[n++] = xasprintf("RUN_ID=%s", in->run);
	env[n++] = xasprintf("WORKFLOW_DIR=%s", in->workflow_dir);
	env[n++] = xasprintf("PATH=%s", in->path);
	env[n++] = xasprintf("HOME=%s", in->scratch);
	env[n++] = xasprintf("TMPDIR=%s/tmp", in->scratch);
	env[n++] = xstrdup("LANG=C.UTF-8");
	return env;
}

static const char *
env_value(char *const *env, const char *name, size_t len)
{
	for (; *env != NULL; env++) {
		if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
			return *env + len + 1;
	}
	return NULL;
}

static int
expand(const char *arg, char *const *env, char **ret, struct err *e)
{
	struct buf b = buf_make(STEP_ARG_MAX);
	const char *p = arg, *open;
	int rc = 0;

	while (rc == 0 && (open = strstr(p, "${")) != NULL) {
		size_t len = strcspn(open + 2, "}");
		const char *value = open[2 + len] == '}' ? env_value(env, open + 2, len) : NULL;

		if (value == NULL) {
			rc = err_set(e, ERR_INVALID, "'%.80s': ${%.*s} is not set for this run", arg, (int)(len < 40 ? len : 40), open + 2);
			break;
		}
		(void)buf_add(&b, p, (size_t)(open - p));
		(void)buf_adds(&b, value);
		p = open + len + 3;
	}
	if (rc == 0)
		(void)buf_adds(&b, p);
	if (rc == 0 && b.overflow)
		rc = err_set(e, ERR_INVALID, "'%.80s': longer than %d bytes", arg, STEP_ARG_MAX);
	if (rc == 0)
		*ret = buf_take(&b);
	buf_release(&b);
	return rc;
}

int
step_argv(char *const *argv, char *const *env, char ***ret, struct err *e)
{
	char **list = xcalloc(WORKFLOW_ARGV_MAX + 1, sizeof(*list));
	int rc = 0;

	for (size_t i = 0; rc == 0 && argv[i] != NULL && i < WORKFLOW_ARGV_MAX; i++)
		rc = expand(argv[i], env, &list[i], e);
	if (rc != 0)
		step_list_free(list);
	else
		*ret = list;
	return rc;
}

void
step_list_free(char **list)
{
	for (char **p = list; p != NULL && *p != NULL; p++)
		free(*p);
	free(list);
}

static bool
in_list(const int *list, size_t n, int code)
{
	for (size_t i = 0; i < n; i++) {
		if (list[i] == code)
			return true;
	}
	return false;
}

enum step_verdict
step_judge(const struct workflow_step *s, const struct sandbox_end *end, char *why, size_t why_len)
{
	bool known = end->exited && (in_list(s->ok, s->n_ok, end->code) || in_list(s->found, s->n_found, end->code));

	why[0] = '\0';
	/* A tool that copes with a killed child and ends well has done its work. */
	if (known)
		return in_list(s->found, s->n_found, end->code) ? STEP_FINDINGS : STEP_CLEAN;
	if (end->oom) {
		(void)snprintf(why, why_len, "ran out of memory");
		return STEP_OOM;
	}
	if (end->disk) {
		(void)snprintf(why, why_len, "wrote more than its limit to disk");
		return STEP_DISK;
	}
	if (end->exited)
		(void)snprintf(why, why_len, "exit code %d is neither ok nor findings", end->code);
	else
		(void)snprintf(why, why_len, "was killed by signal %d (%s)", end->signo, strsignal(end->signo));
	return STEP_FAULT;
}

char *
step_clean_text(char *out, size_t len, const char *text)
{
	size_t at = 0;
	uint32_t code;
	int n;

	for (; *text != '\0' && at + 1 < len; text += n > 0 ? n : 1) {
		n = utf8_decode(text, UTF8_TO_NUL, &code);
		if (n == 0) {
			out[at++] = '?';
		} else if (code < 0x20 || (code >= 0x7f && code < 0xa0)) { /* commands to some terminals */
			out[at++] = ' ';
		} else if (at + (size_t)n + 1 > len) {
			break;
		} else {
			memcpy(out + at, text, (size_t)n);
			at += (size_t)n;
		}
	}
	out[at] = '\0';
	return out;
}

json_t *
step_progress(const char *step, const char *line, size_t len)
{
	json_t *o = len <= PROGRESS_LINE_MAX && json_is_shallow(line, len) ? json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL) : NULL, *r = NULL;
	const char *type = json_string_value(json_object_get(o, "type")), *message = json_string_value(json_object_get(o, "message"));
	const json_t *percent = json_object_get(o, "percent");
	double number = json_is_number(percent) ? json_number_value(percent) : -1;
	char text[200];

	if (type != NULL && strcmp(type, "progress") == 0 && (percent == NULL || (number >= 0 && number <= 100)))
		r = json_pack("{s:s, s:o, s:s}", "step", step, "percent", percent == NULL ? json_null() : json_integer((json_int_t)number),
		    "message", step_clean_text(text, sizeof(text), message != NULL ? message : ""));
	json_decref(o);
	return r;
}
