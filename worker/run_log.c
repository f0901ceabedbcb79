#include "worker/run_log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/num.h"

#define LINE_MAX_BYTES 2048
#define MEMORY_BYTES (64 * 1024) /* a longer log goes to the disk: most never need a file there to be made and deleted */
#define COPY_BYTES 16384
#define ECHO_MAX 3500 /* below PIPE_BUF: lines of several runs do not mix */

struct run_log {
	int fd, echo_fd;
	const char *dir, *owner;
	bool in_memory;
	int64_t max_bytes;
	_Atomic int64_t size_bytes;
	bool cut; /* the limit, or a full disk, was met */
};

static int
open_nameless(const char *dir)
{
	char path[512];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
		return fd;
	(void)snprintf(path, sizeof(path), "%s/log-XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		(void)unlink(path);
	return fd;
}

struct run_log *
run_log_new(const char *dir, int64_t max_bytes, int echo_fd, const char *owner, struct err *e)
{
	struct run_log *l;
	int fd = memfd_create("run.log", MFD_CLOEXEC);
	bool in_memory = fd >= 0;

	if (!in_memory)
		fd = open_nameless(dir);
	if (fd < 0) {
		(void)err_set(e, ERR_IO, "log file in %s: %s", dir, strerror(errno));
		return NULL;
	}
	l = xcalloc(1, sizeof(*l));
	l->fd = fd;
	l->in_memory = in_memory;
	l->dir = dir;
	l->echo_fd = echo_fd;
	l->owner = owner;
	l->max_bytes = max_bytes;
	return l;
}

void
run_log_free(struct run_log *l)
{
	if (l == NULL)
		return;
	close(l->fd);
	free(l);
}

/* Moves the log to the disk, to go on under the same descriptor: whoever reads meanwhile reads the same from both. */
static int
move_to_disk(struct run_log *l)
{
	char block[COPY_BYTES];
	int64_t at = 0;
	ssize_t n;
	int fd = open_nameless(l->dir), rc = fd < 0 ? -1 : 0;

	while (rc == 0 && (n = pread(l->fd, block, sizeof(block), at)) != 0) {
		rc = n < 0 ? -1 : file_write_all(fd, block, (size_t)n, NULL);
		at += n;
	}
	if (rc == 0 && dup3(fd, l->fd, O_CLOEXEC) < 0)
		rc = -1;
	if (fd >= 0)
		close(fd);
	l->in_memory = l->in_memory && rc != 0;
	return rc;
}

static void
append(struct run_log *l, const void *data, size_t len)
{
	if (l->in_memory && l->size_bytes + (int64_t)len > MEMORY_BYTES && move_to_disk(l) != 0)
		l->cut = true;
	else if (file_write_all(l->fd, data, len, NULL) == 0)
		l->size_bytes += (int64_t)len;
	else
		l->cut = true; /* a full disk costs the log, not the run */
}

void
run_log_add(struct run_log *l, const void *data, size_t len)
{
	char size[32], note[96];
	int64_t room = l->max_bytes - l->size_bytes;

	if (l->cut || len == 0)
		return;
	append(l, data, (int64_t)len <= room ? len : (size_t)room);
	if ((int64_t)len <= room || l->cut)
		return;
	l->cut = true;
	(void)snprintf(note, sizeof(note), "\ndrover: the log is cut here, at its limit of %s (LOG_MAX)\n",
	    num_format_size(l->max_bytes, size, sizeof(size)));
	append(l, note, strlen(note));
}

static void
echo(const struct run_log *l, const char *name, const char *line, size_t len)
{
	struct pollfd p = {.fd = l->echo_fd, .events = POLLOUT};
	char out[ECHO_MAX + 256];
	int n;

	if (l->echo_fd < 0 || poll(&p, 1, 0) != 1 || (p.revents & POLLOUT) == 0)
		return;
	n = snprintf(out, sizeof(out), "%.100s%s%.64s | %.*s\n", l->owner, l->owner[0] != '\0' ? " " : "", name, (int)(len < ECHO_MAX ? len : ECHO_MAX), line);
	/* What a tool writes must not command the terminal of the one who looks at it, nor pretend to be another line. */
	for (char *c = out; n > 0 && *c != '\0' && c[1] != '\0'; c++)
		*c = ((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f ? '?' : *c;
	if (n > 0)
		(void)file_write_all(l->echo_fd, out, (size_t)n < sizeof(out) ? (size_t)n : sizeof(out) - 1, NULL);
}

void
run_log_echo(struct run_log *l, const char *name, const char *line, size_t len)
{
	/* A flood ends with the log itself: it would push what others say out of the node's logs. */
	if (!l->cut)
		echo(l, name, line, len);
}

void
run_log_say(struct run_log *l, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text) - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if (n >= (int)sizeof(text) - 1)
		n = (int)sizeof(text) - 2;
	echo(l, "drover", text, (size_t)n);
	text[n++] = '\n';
	run_log_add(l, "drover: ", strlen("drover: "));
	run_log_add(l, text, (size_t)n);
}

int
run_log_fd(const struct run_log *l)
{
	return l->fd;
}

int64_t
run_log_size(const struct run_log *l)
{
	return l->size_bytes;
}
