#include "cli/render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/num.h"
#include "cli/text.h"

#define BAR_COLUMNS 20
#define LINE_MAX_BYTES 4096

const char *
json_text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s == NULL ? "" : s;
}

int64_t
json_number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

int
fail_on_parse(const char *word, enum fail_on *ret, struct err *e)
{
	static const struct {
		const char *word;
		enum fail_on value;
	} words[] = {{"none", FAIL_ON_NONE}, {"error", FAIL_ON_ERROR}, {"warning", FAIL_ON_WARNING}, {"note", FAIL_ON_NOTE},
		{"info", FAIL_ON_INFO}, {"all", FAIL_ON_INFO}};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(words[i].word, word) == 0) {
			*ret = words[i].value;
			return 0;
		}
	(void)err_set(e, ERR_INVALID, "'%.40s' is no level", word);
	(void)err_hint(e, "error, warning, note, info, all or none");
	return ERR_INVALID;
}

bool
fail_on_reached(enum fail_on f, const struct level_counts *n)
{
	const int64_t reached[] = {
		[FAIL_ON_NONE] = 0,
		[FAIL_ON_ERROR] = n->error,
		[FAIL_ON_WARNING] = n->error + n->warning,
		[FAIL_ON_NOTE] = n->error + n->warning + n->note,
		[FAIL_ON_INFO] = n->total,
	};

	return reached[f] > 0;
}

bool
level_counts_read(const json_t *findings, struct level_counts *ret)
{
	if (!json_is_object(findings) || !json_is_integer(json_object_get(findings, "total")))
		return false;
	*ret = (struct level_counts){.error = json_number(findings, "error"), .warning = json_number(findings, "warning"),
		.note = json_number(findings, "note"), .total = json_number(findings, "total")};
	return true;
}

char *
level_counts_text(const struct level_counts *n, char *out, size_t out_len)
{
	const struct {
		const char *one, *many;
		int64_t n;
	} parts[] = {{"error", "errors", n->error}, {"warning", "warnings", n->warning}, {"note", "notes", n->note},
		{"other", "others", n->total - n->error - n->warning - n->note}};
	size_t len = 0;

	snprintf(out, out_len, "no findings");
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && len < out_len; i++)
		if (parts[i].n > 0)
			len += (size_t)snprintf(out + len, out_len - len, "%s%lld %s", len > 0 ? ", " : "", (long long)parts[i].n,
			    parts[i].n == 1 ? parts[i].one : parts[i].many);
	return out;
}

char *
render_age(const char *time, int64_t now_real_ms, char *out, size_t out_len)
{
	char text[32];
	int64_t at;

	out[0] = '\0';
	if (time[0] == '\0' || clock_parse(time, &at, NULL) != 0)
		return out;
	if (at > now_real_ms + 1000)
		snprintf(out, out_len, "in %s", num_format_duration(at - now_real_ms, text, sizeof(text)));
	else if (now_real_ms - at < 1000)
		snprintf(out, out_len, "now");
	else
		snprintf(out, out_len, "%s ago", num_format_duration((now_real_ms - at) / 1000 * 1000, text, sizeof(text)));
	return out;
}

static const char *
style_of(const char *const (*styles)[2], size_t n, const char *word)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(styles[i][0], word) == 0)
			return styles[i][1];
	return NULL;
}

const char *
state_style(const char *state)
{
	static const char *const styles[][2] = {{"completed", "32"}, {"failed", "31"}, {"timed_out", "31"}, {"canceled", "33"},
		{"canceling", "33"}, {"running", "36"}};

	return style_of(styles, sizeof(styles) / sizeof(styles[0]), state);
}

const char *
level_style(const char *level)
{
	static const char *const styles[][2] = {{"error", "31"}, {"warning", "33"}, {"note", "36"}};

	return style_of(styles, sizeof(styles) / sizeof(styles[0]), level);
}

void
render_progress(struct buf *b, const char *what, int64_t done, int64_t total, int64_t elapsed_ms, int width)
{
	struct buf line = buf_make(LINE_MAX_BYTES);
	char have[32], all[32], rate[32], left[32];
	int64_t per_s = elapsed_ms > 0 ? (int64_t)((double)done * 1000 / (double)elapsed_ms) : 0;

	buf_addf(&line, "%.200s  ", what);
	if (total > 0) {
		int filled = (int)(BAR_COLUMNS * (double)done / (double)total);

		buf_addc(&line, '[');
		for (int i = 0; i < BAR_COLUMNS; i++)
			buf_addc(&line, i < filled ? '#' : '-');
		buf_addf(&line, "] %d%%  %s of %s", (int)(100 * (double)done / (double)total),
		    num_format_size(done, have, sizeof(have)), num_format_size(total, all, sizeof(all)));
	} else {
		buf_adds(&line, num_format_size(done, have, sizeof(have)));
	}
	if (per_s > 0)
		buf_addf(&line, "  %s/s", num_format_size(per_s, rate, sizeof(rate)));
	if (per_s > 0 && total > done)
		buf_addf(&line, "  %s left", num_format_duration(((total - done) / per_s + 1) * 1000, left, sizeof(left)));
	(void)text_clip(b, buf_str(&line), width, false);
	buf_release(&line);
}

void
render_run_line(struct buf *b, const json_t *run)
{
	const json_t *waiting = json_object_get(run, "waiting"), *progress = json_object_get(run, "progress");
	struct buf raw = buf_make(LINE_MAX_BYTES);
	char *safe;

	buf_adds(&raw, json_text(run, "state"));
	if (json_number(run, "attempt") > 1)
		buf_addf(&raw, " (attempt %lld)", (long long)json_number(run, "attempt"));
	if (json_is_object(waiting) && json_text(waiting, "text")[0] != '\0')
		buf_addf(&raw, ": %s", json_text(waiting, "text"));
	if (json_is_object(progress)) {
		if (json_text(progress, "step")[0] != '\0')
			buf_addf(&raw, ": %s", json_text(progress, "step"));
		if (json_is_number(json_object_get(progress, "percent")))
			buf_addf(&raw, " %d%%", (int)json_number_value(json_object_get(progress, "percent")));
		if (json_text(progress, "message")[0] != '\0')
			buf_addf(&raw, ", %s", json_text(progress, "message"));
	}
	safe = text_safe(buf_str(&raw));
	buf_adds(b, safe);
	free(safe);
	buf_release(&raw);
}
