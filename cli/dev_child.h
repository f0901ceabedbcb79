/* dev_child.h - a supervised program of `drover dev`: started, logged to a file, started again when it dies. One thread. */
#ifndef CLI_DEV_CHILD_H
#define CLI_DEV_CHILD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/proc.h"

#define DEV_ENV_MAX 32

struct dev_child {
	char name[64];               /* "dispatcher", "worker-python"; also the log's name */
	char *program;               /* path, or a name for PATH */
	char *env[DEV_ENV_MAX + 1];  /* NAME=value, NULL-terminated */
	size_t n_env;
	char *log_path;
	struct proc proc;
	bool running;
	int64_t started_mono_ms, next_start_mono_ms; /* the latter while it does not run */
	uint32_t deaths;             /* in a row */
};

/* Prepares a child; nothing runs yet. logs: folder for its log. */
struct dev_child *dev_child_new(const char *name, const char *program, const char *logs);
void dev_child_free(struct dev_child *k);

/* Adds NAME=value to its environment; nothing where value is "". */
void dev_child_env(struct dev_child *k, const char *name, const char *value);

/* Starts it now; its output goes to the end of its log, which is set aside at 16 MiB. Returns 0 or as proc_start, ERR_IO. */
int dev_child_start(struct dev_child *k, struct err *e);

/* After its pidfd became readable: reaps it, says how it ended in text, and sets when it may start again (full jitter, 30 s at
 * most; a minute of life is forgiven). */
void dev_child_reap(struct dev_child *k, int64_t now_mono_ms, char *text, size_t text_len);

/* Asks it to end (SIGTERM to it alone). */
void dev_child_ask(const struct dev_child *k);

/* Asks it to end, and kills it with its group at the deadline or once a further signal came. */
void dev_child_stop(struct dev_child *k, int64_t deadline_mono_ms);

/* Prints the last lines of its log on stderr. */
void dev_child_print_log(const struct dev_child *k);

#endif
