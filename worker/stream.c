#include "worker/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "worker/step_env.h"

#define N_STREAMS 3
#define PROGRESS 2        /* its index */
#define READ_BYTES 16384
#define DRAIN_READS 64    /* at the end: a grandchild that still writes does not keep us */
#define PROGRESS_PER_S 50

struct one {
	int read_fd, write_fd;         /* -1: closed */
	char line[PROGRESS_LINE_MAX];  /* the line that is not complete yet */
	size_t len;
	bool too_long;                 /* the rest of this line is dropped */
};

struct streams {
	struct one all[N_STREAMS];
	const char *step;
	struct run_log *log;
	void (*on_progress)(void *arg, json_t *progress);
	void (*on_log)(void *arg);
	void *arg;
	int64_t second_mono_s; /* of the progress that was counted last */
	unsigned in_second;
};

struct streams *
streams_open(const char *step, struct run_log *log, void (*on_progress)(void *arg, json_t *progress),
    void (*on_log)(void *arg), void *arg, struct err *e)
{
	struct streams *s = xcalloc(1, sizeof(*s));
	int pair[2];

	*s = (struct streams){.step = step, .log = log, .on_progress = on_progress, .on_log = on_log, .arg = arg};
	for (int i = 0; i < N_STREAMS; i++)
		s->all[i].read_fd = s->all[i].write_fd = -1;
	for (int i = 0; i < N_STREAMS; i++) {
		if (pipe2(pair, O_CLOEXEC) != 0 || fcntl(pair[0], F_SETFL, O_NONBLOCK) != 0) {
			(void)err_set(e, ERR_IO, "pipe: %s", strerror(errno));
			streams_close(s);
			return NULL;
		}
		s->all[i].read_fd = pair[0];
		s->all[i].write_fd = pair[1];
	}
	return s;
}

int
streams_child_fd(const struct streams *s, int index)
{
	return s->all[index].write_fd;
}

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void
streams_started(struct streams *s)
{
	for (int i = 0; i < N_STREAMS; i++)
		close_fd(&s->all[i].write_fd);
}

static void
take_progress(struct streams *s, const char *line, size_t len)
{
	int64_t second = clock_mono_ms() / 1000;
	json_t *p;

	if (second != s->second_mono_s) {
		s->second_mono_s = second;
		s->in_second = 0;
	}
	if (s->in_second++ >= PROGRESS_PER_S)
		return;
	p = step_progress(s->step, line, len);
	if (p != NULL)
		s->on_progress(s->arg, p);
	json_decref(p);
}

static void
end_line(struct streams *s, int i)
{
	struct one *o = &s->all[i];

	if (i != PROGRESS)
		run_log_echo(s->log, s->step, o->line, o->len);
	else if (!o->too_long)
		take_progress(s, o->line, o->len);
	o->len = 0;
	o->too_long = false;
}

static void
take(struct streams *s, int i, const char *data, size_t len)
{
	struct one *o = &s->all[i];

	if (i != PROGRESS) {
		run_log_add(s->log, data, len);
		s->on_log(s->arg);
	}
	while (len > 0) {
		const char *end = memchr(data, '\n', len);
		size_t n = end != NULL ? (size_t)(end - data) : len, room = sizeof(o->line) - o->len;

		memcpy(o->line + o->len, data, n < room ? n : room);
		o->len += n < room ? n : room;
		o->too_long = o->too_long || n > room;
		if (end != NULL)
			end_line(s, i);
		data += n + (end != NULL);
		len -= n + (end != NULL);
	}
}

/* Reads once. False when there is nothing now; closes the stream at its end. */
static bool
read_one(struct streams *s, int i)
{
	char data[READ_BYTES];
	ssize_t n = read(s->all[i].read_fd, data, sizeof(data));

	if (n > 0) {
		take(s, i, data, (size_t)n);
		return true;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		close_fd(&s->all[i].read_fd);
	return false;
}

int
streams_pump(struct streams *s, int wake_fd, int64_t deadline_mono_ms)
{
	for (;;) {
		struct pollfd p[N_STREAMS + 1] = {{.fd = wake_fd, .events = POLLIN}};
		int64_t left_ms = deadline_mono_ms - clock_mono_ms();
		bool open = false;

		for (int i = 0; i < N_STREAMS; i++) {
			p[i + 1] = (struct pollfd){.fd = s->all[i].read_fd, .events = POLLIN};
			open = open || s->all[i].read_fd >= 0;
		}
		if (!open)
			return 0;
		if (left_ms <= 0)
			return ERR_TIMEOUT;
		if (poll(p, N_STREAMS + 1, left_ms < 60000 ? (int)left_ms : 60000) <= 0)
			continue;
		if (p[0].revents != 0)
			return ERR_CANCELED;
		for (int i = 0; i < N_STREAMS; i++) {
			if (p[i + 1].revents != 0)
				(void)read_one(s, i);
		}
	}
}

void
streams_close(struct streams *s)
{
	if (s == NULL)
		return;
	for (int i = 0; i < N_STREAMS; i++) {
		for (int n = 0; n < DRAIN_READS && s->all[i].read_fd >= 0 && read_one(s, i); n++)
			;
		if (s->all[i].len > 0)
			end_line(s, i);
		close_fd(&s->all[i].read_fd);
		close_fd(&s->all[i].write_fd);
	}
	free(s);
}
