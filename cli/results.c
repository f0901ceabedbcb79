#include "cli/results.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/text.h"

static int
add_bytes(void *arg, const void *data, size_t len)
{
	return buf_add(arg, data, len);
}

int
results_findings(struct cli *c, const char *id, struct buf *raw, json_t **ret, struct err *e)
{
	struct buf path = buf_make(4096);
	struct api_call call = {.method = "GET", .path = api_path(&path, "/v1/run/", id, "/findings"), .write_fn = add_bytes,
		.arg = raw};
	json_error_t je;
	int rc = api_do(c->api, &call, e);

	if (rc == 0) {
		*ret = json_loadb(buf_str(raw), raw->len, JSON_REJECT_DUPLICATES, &je);
		if (*ret == NULL)
			rc = err_set(e, ERR_PROTO, "the findings of %.95s cannot be read: line %d: %.100s", id, je.line, je.text);
	}
	buf_release(&path);
	return rc;
}

static bool
is_special(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

static int
write_to(const char *path, const struct buf *raw, struct err *e)
{
	int fd = strcmp(path, "-") == 0 ? STDOUT_FILENO : open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY), rc;

	if (fd < 0)
		return err_set(e, ERR_IO, "%.200s: %s", path, strerror(errno));
	fflush(stdout);
	rc = file_write_all(fd, raw->data, raw->len, e);
	if (fd != STDOUT_FILENO && close(fd) != 0 && rc == 0)
		rc = err_set(e, ERR_IO, "%.200s: %s", path, strerror(errno));
	return rc;
}

int
results_save(const char *path, const struct buf *raw, struct err *e)
{
	char *for_dir, *for_name;
	int dir, rc;

	if (strcmp(path, "-") == 0 || is_special(path))
		return write_to(path, raw, e);
	for_dir = xstrdup(path);
	for_name = xstrdup(path);
	dir = open(dirname(for_dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		rc = err_set(e, ERR_IO, "%.200s: %s", path, strerror(errno));
	else
		rc = file_replace(dir, basename(for_name), raw->data, raw->len, 0644, e);
	if (dir >= 0)
		close(dir);
	free(for_dir);
	free(for_name);
	return rc;
}

int
results_may_save(const char *path, struct err *e)
{
	char *copy = xstrdup(path);
	struct stat st;
	int rc = 0;

	if (strcmp(path, "-") == 0)
		goto out;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		rc = err_set(e, ERR_INVALID, "%.200s is a directory", path);
	else if (!is_special(path) && access(dirname(copy), W_OK | X_OK) != 0)
		rc = err_set(e, ERR_IO, "%.200s cannot be written: %s", path, strerror(errno));
out:
	free(copy);
	return rc;
}

void
results_print(struct cli *c, const struct findings *r, enum fail_on least, int64_t limit)
{
	static const struct column columns[] = {
		{"SEVERITY", 0, level_style},
		{"RULE", TABLE_SHRINK, NULL},
		{"PLACE", TABLE_SHRINK | TABLE_CLIP_LEFT, NULL},
		{"MESSAGE", TABLE_SHRINK, NULL},
		{"TOOL", 0, NULL},
	};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	int64_t left_out = 0;

	for (size_t i = 0; i < r->n; i++) {
		const struct finding *row = &r->rows[i];
		struct level_counts one = {.error = strcmp(row->level, "error") == 0, .warning = strcmp(row->level, "warning") == 0,
			.note = strcmp(row->level, "note") == 0, .total = 1};
		char *file, *place;

		if (!fail_on_reached(least, &one))
			continue;
		if (limit > 0 && table_rows(t) >= (size_t)limit) {
			left_out++;
			continue;
		}
		file = text_from_uri(row->file);
		place = row->line > 0 ? xasprintf("%s:%lld", file, (long long)row->line) : xstrdup(file);
		table_add(t, (const char *const[]){row->level, row->rule, place, row->message, row->tool});
		free(place);
		free(file);
	}
	cli_print_table(c, t, "No findings.");
	if (left_out > 0)
		printf("… and %lld more\n", (long long)left_out);
}
