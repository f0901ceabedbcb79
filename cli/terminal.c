#include "cli/terminal.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/threads.h"
#include "cli/text.h"

#define WIDTH_DEFAULT 80
#define WIDTH_MIN 20
#define WIDTH_MAX 1000
#define FRAME_MS 100
#define TEXT_MAX 4096

static int
width_of(int fd)
{
	struct winsize w;

	return ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 0;
}

void
terminal_look(struct terminal *t, const struct cli_settings *s)
{
	bool dumb = s->term[0] == '\0' || strcmp(s->term, "dumb") == 0;
	int64_t columns = 0;

	t->out_tty = isatty(STDOUT_FILENO) == 1;
	t->err_tty = isatty(STDERR_FILENO) == 1 && !dumb;
	t->color = t->out_tty && !dumb && !s->no_color && s->no_color_common[0] == '\0';
	t->width = t->out_tty ? width_of(STDOUT_FILENO) : 0;
	/* A pipe gets whole cells unless someone asks for a width. */
	if (t->width == 0 && num_int(s->columns, WIDTH_MIN, WIDTH_MAX, &columns, NULL) == 0)
		t->width = (int)columns;
	if (t->width == 0 && t->out_tty)
		t->width = WIDTH_DEFAULT;
}

int
terminal_err_width(void)
{
	int w = width_of(STDERR_FILENO);

	return w > 0 ? w : WIDTH_DEFAULT;
}

struct live {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stop;
	char text[TEXT_MAX];
	int64_t started_mono_ms;
	unsigned frame;
};

/* Draws the line; the lock is held. */
static void
draw(struct live *l)
{
	static const char *const spinner[] = {"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"};
	struct buf b = buf_make(TEXT_MAX * 2);
	int64_t elapsed_ms = (clock_mono_ms() - l->started_mono_ms) / 1000 * 1000;
	char took[32];
	int width = terminal_err_width();

	num_format_duration(elapsed_ms, took, sizeof(took));
	buf_addf(&b, "\r\033[K%s ", spinner[l->frame++ % (sizeof(spinner) / sizeof(spinner[0]))]);
	/* One column stays free: a full line would wrap on some terminals. */
	(void)text_clip(&b, l->text, width - 6 - (int)strlen(took), false);
	buf_addf(&b, "  %s", took);
	fputs(buf_str(&b), stderr);
	fflush(stderr);
	buf_release(&b);
}

static void *
live_run(void *arg)
{
	struct live *l = arg;

	pthread_mutex_lock(&l->lock);
	while (!l->stop) {
		if (l->text[0] != '\0')
			draw(l);
		(void)cond_wait_until(&l->changed, &l->lock, clock_mono_ms() + FRAME_MS);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

struct live *
live_start(const struct terminal *t, bool wanted)
{
	struct live *l;

	if (!t->err_tty || !wanted)
		return NULL;
	l = xcalloc(1, sizeof(*l));
	l->started_mono_ms = clock_mono_ms();
	pthread_mutex_init(&l->lock, NULL);
	cond_init_mono(&l->changed);
	if (thread_try(&l->thread, "live", live_run, l) != 0) {
		pthread_mutex_destroy(&l->lock);
		pthread_cond_destroy(&l->changed);
		free(l);
		return NULL; /* a line less to look at */
	}
	return l;
}

void
live_set(struct live *l, const char *text)
{
	if (l == NULL)
		return;
	pthread_mutex_lock(&l->lock);
	snprintf(l->text, sizeof(l->text), "%s", text);
	pthread_mutex_unlock(&l->lock);
}

void
live_say(struct live *l, const char *fmt, ...)
{
	va_list ap;

	if (l != NULL) {
		pthread_mutex_lock(&l->lock);
		fputs("\r\033[K", stderr);
	}
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	fflush(stderr);
	if (l != NULL)
		pthread_mutex_unlock(&l->lock);
}

void
live_stop(struct live *l)
{
	if (l == NULL)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_signal(&l->changed);
	pthread_mutex_unlock(&l->lock);
	pthread_join(l->thread, NULL);
	fputs("\r\033[K", stderr);
	fflush(stderr);
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->changed);
	free(l);
}
