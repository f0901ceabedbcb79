#include "dispatcher/log_spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/num.h"
#include "proto/run.h"

#define SEGMENTS_MAX 8 /* that are looked at; two are kept */

struct log_spool {
	char *directory;
	int dir_fd;
	int64_t segment_bytes;
};

struct segments { /* of one attempt, oldest first */
	int64_t first[SEGMENTS_MAX];
	size_t n;
	int64_t end; /* offset after the last byte */
	int dir_fd;
};

int
log_spool_new(const char *directory, int64_t tail_bytes, struct log_spool **ret, struct err *e)
{
	struct log_spool *s;
	int rc = file_mkdirs(directory, 0700, e), fd;

	if (rc != 0)
		return rc;
	if ((fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return err_set(e, ERR_IO, "open %s: %s", directory, strerror(errno));
	s = xcalloc(1, sizeof(*s));
	s->directory = xstrdup(directory);
	s->dir_fd = fd;
	s->segment_bytes = tail_bytes / 2;
	*ret = s;
	return 0;
}

void
log_spool_free(struct log_spool *s)
{
	if (s == NULL)
		return;
	close(s->dir_fd);
	free(s->directory);
	free(s);
}

static int
by_offset(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void
list_segments(int dir_fd, struct segments *g)
{
	DIR *dir = fdopendir(dup(dir_fd));
	struct dirent *entry;
	char name[32];
	struct stat st;

	g->n = 0;
	g->end = 0;
	if (dir == NULL)
		return;
	rewinddir(dir);
	while ((entry = readdir(dir)) != NULL && g->n < SEGMENTS_MAX)
		if (num_int(entry->d_name, 0, INT64_MAX, &g->first[g->n], NULL) == 0)
			g->n++;
	closedir(dir);
	qsort(g->first, g->n, sizeof(g->first[0]), by_offset);
	if (g->n == 0)
		return;
	snprintf(name, sizeof(name), "%lld", (long long)g->first[g->n - 1]);
	g->end = g->first[g->n - 1] + (fstatat(dir_fd, name, &st, 0) == 0 ? st.st_size : 0);
}

/* Opens an attempt's folder; made if wanted. */
static int
open_attempt(struct log_spool *s, const char *run, unsigned attempt, bool make, struct segments *ret, struct err *e)
{
	char path[RUN_ID_MAX + 16];

	snprintf(path, sizeof(path), "%s/%u", run, attempt);
	if (make && ((mkdirat(s->dir_fd, run, 0700) != 0 && errno != EEXIST) ||
	                (mkdirat(s->dir_fd, path, 0700) != 0 && errno != EEXIST)))
		return err_set(e, ERR_IO, "log of %s: %s", path, strerror(errno));
	ret->dir_fd = openat(s->dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ret->dir_fd < 0)
		return err_set(e, errno == ENOENT ? ERR_NOTFOUND : ERR_IO, "log of %s: %s", path, strerror(errno));
	list_segments(ret->dir_fd, ret);
	return 0;
}

static int
open_segment(const struct segments *g, int64_t first, int flags)
{
	char name[32];

	snprintf(name, sizeof(name), "%lld", (long long)first);
	return openat(g->dir_fd, name, flags | O_CLOEXEC, 0600);
}

static int
write_piece(struct segments *g, int64_t segment_bytes, const char *data, size_t len, struct err *e)
{
	char name[32];
	int fd, rc;

	if (g->n == 0 || g->end - g->first[g->n - 1] >= segment_bytes) {
		if (g->n >= 2) { /* the new one and the last one stay */
			for (size_t i = 0; i + 1 < g->n; i++) {
				snprintf(name, sizeof(name), "%lld", (long long)g->first[i]);
				unlinkat(g->dir_fd, name, 0);
			}
			g->first[0] = g->first[g->n - 1];
			g->n = 1;
		}
		g->first[g->n++] = g->end;
	}
	if ((fd = open_segment(g, g->first[g->n - 1], O_WRONLY | O_CREAT | O_APPEND)) < 0)
		return err_set(e, ERR_IO, "log: %s", strerror(errno));
	rc = file_write_all(fd, data, len, e);
	close(fd);
	g->end += rc == 0 ? (int64_t)len : 0;
	return rc;
}

int
log_spool_append(struct log_spool *s, const char *run, unsigned attempt, int64_t offset, const void *data, size_t len,
    int64_t *ret_next, struct err *e)
{
	const char *at = data;
	struct segments g;
	int rc = open_attempt(s, run, attempt, true, &g, e);

	if (rc != 0)
		return rc;
	/* A first chunk from the middle: the beginning was in a spool that is gone. */
	if (g.n == 0)
		g.end = offset;
	if (offset <= g.end && offset + (int64_t)len > g.end) {
		at += g.end - offset;
		len -= (size_t)(g.end - offset);
		while (rc == 0 && len > 0) {
			int64_t used = g.n == 0 ? 0 : (g.end - g.first[g.n - 1]) % s->segment_bytes;
			size_t piece = len < (size_t)(s->segment_bytes - used) ? len : (size_t)(s->segment_bytes - used);

			rc = write_piece(&g, s->segment_bytes, at, piece, e);
			at += piece;
			len -= piece;
		}
		/* The folder tells of the last change (log_spool_each), and appending to a file leaves its time alone. */
		(void)utimensat(s->dir_fd, run, NULL, 0);
	}
	*ret_next = g.end;
	close(g.dir_fd);
	return rc;
}

int
log_spool_read(struct log_spool *s, const char *run, unsigned attempt, int64_t *offset, void *out, size_t len,
    size_t *ret_len, struct err *e)
{
	struct segments g;
	ssize_t n = 0;
	size_t i;
	int rc = open_attempt(s, run, attempt, false, &g, e), fd;

	*ret_len = 0;
	if (rc != 0)
		return rc;
	if (g.n > 0 && *offset < g.first[0])
		*offset = g.first[0];
	for (i = g.n; i > 0 && g.first[i - 1] > *offset; i--)
		continue;
	if (i > 0 && *offset < g.end) {
		if ((fd = open_segment(&g, g.first[i - 1], O_RDONLY)) >= 0) {
			n = pread(fd, out, len, *offset - g.first[i - 1]);
			close(fd);
		}
		if (fd < 0 || n < 0)
			rc = err_set(e, ERR_IO, "log of %s: %s", run, strerror(errno));
		else
			*ret_len = (size_t)n;
	}
	close(g.dir_fd);
	return rc;
}

int
log_spool_remove(struct log_spool *s, const char *run, struct err *e)
{
	return file_remove_tree(s->dir_fd, run, e);
}

int
log_spool_each(struct log_spool *s, void (*each)(void *arg, const char *run, int64_t changed_real_ms), void *arg, struct err *e)
{
	DIR *dir = opendir(s->directory);
	struct dirent *entry;
	struct stat st;

	if (dir == NULL)
		return err_set(e, ERR_IO, "open %s: %s", s->directory, strerror(errno));
	while ((entry = readdir(dir)) != NULL)
		if (run_id_valid(entry->d_name) && fstatat(dirfd(dir), entry->d_name, &st, 0) == 0)
			each(arg, entry->d_name, (int64_t)st.st_mtim.tv_sec * 1000);
	closedir(dir);
	return 0;
}
