#include "worker/report_read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "worker/beneath.h"

#define PREFIXES 4
#define READ_MAX_BYTES (INT64_C(512) << 20) /* of the target, for all fingerprints of a report */

/* Lines of the target for fingerprints, in the order in which reports ask for them: one file is kept open. */
struct lines {
	int tree_fd;
	char *path;  /* of the file below; NULL: none yet */
	FILE *file;  /* NULL: it cannot be read */
	int64_t at;  /* number of the line that comes next */
	int64_t left_bytes; /* that may still be read: reports choose files and lines as they like */
};

static void
lines_close(struct lines *l)
{
	if (l->file != NULL)
		(void)fclose(l->file);
	free(l->path);
	l->file = NULL;
	l->path = NULL;
}

static void
lines_open(struct lines *l, const char *path)
{
	int fd;

	lines_close(l);
	l->path = xstrdup(path);
	l->at = 1;
	fd = beneath_open_file(l->tree_fd, path);
	if (fd >= 0 && (l->file = fdopen(fd, "r")) == NULL)
		close(fd);
}

/* Reads one line; what is over len - 1 bytes is dropped. False at the end. */
static bool
next_line(struct lines *l, char *out, size_t len)
{
	size_t n = 0;
	int c = EOF;

	while (l->left_bytes-- > 0 && (c = getc_unlocked(l->file)) != EOF && c != '\n') {
		if (n + 1 < len)
			out[n++] = (char)c;
	}
	out[n] = '\0';
	l->at++;
	return l->left_bytes > 0 && (c != EOF || n > 0);
}

static bool
line_of(void *arg, const char *path, int64_t line, char *out, size_t len)
{
	struct lines *l = arg;

	if (l->path == NULL || strcmp(l->path, path) != 0 || line < l->at)
		lines_open(l, path);
	if (l->file == NULL)
		return false;
	while (l->at < line) {
		if (!next_line(l, out, len))
			return false;
	}
	return next_line(l, out, len);
}

int
report_read(struct job *j, const char *step, json_t **ret, struct sarif_counts *counts, struct err *e)
{
	const char *prefixes[PREFIXES] = {SANDBOX_TARGET, j->ws.tree, cache_pin_tree(j->target), NULL};
	struct lines lines = {.tree_fd = open(j->terms.tree ? cache_pin_tree(j->target) : j->ws.tree,
	    O_RDONLY | O_DIRECTORY | O_CLOEXEC), .left_bytes = READ_MAX_BYTES};
	struct sarif_context c = {.step = step, .prefixes = prefixes, .line_of = line_of, .arg = &lines};
	struct buf text = buf_make(SARIF_BYTES_MAX);
	char name[80];
	int rc;

	(void)snprintf(name, sizeof(name), "%.64s.sarif", step);
	rc = beneath_read(j->ws.out, name, &text, e);
	if (rc == ERR_NOTFOUND)
		(void)err_set(e, rc, "it ended well but left no %s in ${OUT}", name);
	if (rc == 0 && (rc = sarif_normalise(&c, buf_str(&text), text.len, ret, counts, e)) != 0)
		(void)err_prefix(e, rc, "%s", name);
	lines_close(&lines);
	if (lines.tree_fd >= 0)
		close(lines.tree_fd);
	buf_release(&text);
	return rc;
}
