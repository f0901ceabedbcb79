/* render.h - the small things that commands show: ages, states, progress, and the verdict on findings. Pure. */
#ifndef CLI_RENDER_H
#define CLI_RENDER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* What makes a run count as failed for its exit code, from the strictest to none. */
enum fail_on { FAIL_ON_NONE, FAIL_ON_ERROR, FAIL_ON_WARNING, FAIL_ON_NOTE, FAIL_ON_INFO };

struct level_counts {
	int64_t error, warning, note, total; /* total includes level "none" */
};

/* Member of an object as text ("" where it is absent or no text), and as number (0). Never NULL; valid as long as o. */
const char *json_text(const json_t *o, const char *key);
int64_t json_number(const json_t *o, const char *key);

/* "error", "warning", "note", "info" or "all" (any finding), "none". ERR_INVALID with the words. */
int fail_on_parse(const char *word, enum fail_on *ret, struct err *e);

/* Whether the counts hold a finding at or above the threshold. */
bool fail_on_reached(enum fail_on f, const struct level_counts *n);

/* Counts of a run's "findings" member; false where it has none. */
bool level_counts_read(const json_t *findings, struct level_counts *ret);

/* "3 errors, 1 warning", "no findings". Returns out. */
char *level_counts_text(const struct level_counts *n, char *out, size_t out_len);

/* "12s ago", "in 3m" for an RFC 3339 time; "" for "". Returns out. */
char *render_age(const char *time, int64_t now_real_ms, char *out, size_t out_len);

/* SGR parameters for a run's state, a finding's level; NULL: plain. */
const char *state_style(const char *state);
const char *level_style(const char *level);

/* "uploading app.tar.zst  [#####-----] 51%  12 MiB of 24 MiB  3.1 MiB/s  4s left", cut to width columns; total 0: unknown. */
void render_progress(struct buf *b, const char *what, int64_t done, int64_t total, int64_t elapsed_ms, int width);

/* One line on what a run is doing: state, why it waits, step with percent and message. Safe for a terminal; no end of line. */
void render_run_line(struct buf *b, const json_t *run);

#endif
