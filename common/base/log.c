#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"

#define LINE_BYTES 4096 /* PIPE_BUF on Linux: one write of a whole line never mixes with another process's line */
#define TAIL_BYTES 8    /* kept free for the mark of a cut and the end of the line */

_Static_assert(LINE_BYTES <= PIPE_BUF, "a line is written atomically");

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static struct {
	const char *program;
	enum log_level least;
	bool json;
} settings = {.program = "drover", .least = LOG_INFO, .json = true};

struct line {
	char text[LINE_BYTES];
	size_t len;
	bool cut;
};

void
log_init(const char *program, enum log_level least, bool json)
{
	settings.program = program;
	settings.least = least;
	settings.json = json;
}

bool
log_level_parse(const char *s, enum log_level *ret_level)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++)
		if (strcmp(s, level_names[i]) == 0) {
			*ret_level = (enum log_level)i;
			return true;
		}
	return false;
}

/* Adds a piece whole or, for want of room, not at all; nothing is added after a piece that was left out. */
static void
add(struct line *l, const char *s, size_t n)
{
	if (l->cut || n > LINE_BYTES - TAIL_BYTES - l->len) {
		l->cut = true;
		return;
	}
	memcpy(l->text + l->len, s, n);
	l->len += n;
}

static void
adds(struct line *l, const char *s)
{
	add(l, s, strlen(s));
}

/* Adds text from anywhere: valid in a JSON string, and harmless on a terminal. */
static void
add_escaped(struct line *l, const char *s)
{
	char code[12];

	while (*s != '\0' && !l->cut) {
		uint32_t point;
		int n = utf8_decode(s, UTF8_TO_NUL, &point);

		if (n == 0) { /* a byte that is not UTF-8: kept readable as \xNN, the backslash escaped where JSON needs it */
			snprintf(code, sizeof(code), settings.json ? "\\\\x%02x" : "\\x%02x", (unsigned char)*s);
			adds(l, code);
			n = 1;
		} else if (utf8_misleads(point) && point <= 0xffff) {
			snprintf(code, sizeof(code), "\\u%04x", (unsigned)point);
			adds(l, code);
		} else if (settings.json && (point == '"' || point == '\\')) {
			code[0] = '\\';
			code[1] = (char)point;
			add(l, code, 2);
		} else {
			add(l, s, (size_t)n);
		}
		s += n;
	}
}

static void
add_field(struct line *l, const char *before, const char *value)
{
	adds(l, before);
	add_escaped(l, value);
}

static void
end_line(struct line *l)
{
	const char *end = settings.json ? "\"}\n" : "\n";

	if (l->cut) {
		memcpy(l->text + l->len, "...", 3);
		l->len += 3;
	}
	memcpy(l->text + l->len, end, strlen(end));
	l->len += strlen(end);
}

void
log_at(enum log_level level, const char *object, const char *fmt, ...)
{
	int saved_errno = errno;
	char message[LINE_BYTES], stamp[CLOCK_TEXT_LEN], object_cut[256];
	struct line l = {.len = 0};
	va_list ap;

	if (level < settings.least)
		return;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	/* An object from outside must leave room for the message. */
	snprintf(object_cut, sizeof(object_cut), "%s", object == NULL ? "" : object);
	clock_text(clock_real_ms(), stamp);

	add_field(&l, settings.json ? "{\"time\":\"" : "", stamp);
	add_field(&l, settings.json ? "\",\"level\":\"" : " ", level_names[level]);
	add_field(&l, settings.json ? "\",\"program\":\"" : " ", settings.program);
	if (object != NULL)
		add_field(&l, settings.json ? "\",\"object\":\"" : " ", object_cut);
	add_field(&l, settings.json ? "\",\"message\":\"" : ": ", message);
	end_line(&l);
	while (write(STDERR_FILENO, l.text, l.len) < 0 && errno == EINTR)
		;
	errno = saved_errno;
}
