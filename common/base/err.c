#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Makes a cut or foreign text one clean line: no control characters, no UTF-8 sequence cut in half at the end. */
static void
tidy(char *s, size_t room)
{
	size_t len = strlen(s), tail = 0;

	for (char *p = s; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	if (len + 1 < room)
		return;
	while (tail < 3 && tail < len && ((unsigned char)s[len - 1 - tail] & 0xc0) == 0x80)
		tail++;
	if (tail < len && (unsigned char)s[len - 1 - tail] >= 0xc0) {
		unsigned char lead = (unsigned char)s[len - 1 - tail];
		size_t want = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;

		if (tail < want)
			s[len - 1 - tail] = '\0';
	}
}

int
err_set(struct err *e, int code, const char *fmt, ...)
{
	char msg[sizeof(e->msg)]; /* apart, because the arguments may be the old message */
	va_list ap;

	if (e == NULL)
		return code;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	tidy(msg, sizeof(msg));
	e->code = code;
	memcpy(e->msg, msg, sizeof(msg));
	e->hint[0] = '\0';
	return code;
}

int
err_hint(struct err *e, const char *fmt, ...)
{
	char hint[sizeof(e->hint)];
	va_list ap;

	if (e == NULL)
		return 0;
	va_start(ap, fmt);
	vsnprintf(hint, sizeof(hint), fmt, ap);
	va_end(ap);
	tidy(hint, sizeof(hint));
	memcpy(e->hint, hint, sizeof(hint));
	return e->code;
}

int
err_prefix(struct err *e, int code, const char *fmt, ...)
{
	char prefix[sizeof(e->msg)], both[2 * sizeof(e->msg) + 2];
	va_list ap;

	if (e == NULL)
		return code;
	va_start(ap, fmt);
	vsnprintf(prefix, sizeof(prefix), fmt, ap);
	va_end(ap);
	snprintf(both, sizeof(both), "%s: %s", prefix, e->msg);
	both[sizeof(e->msg) - 1] = '\0';
	tidy(both, sizeof(e->msg));
	e->code = code;
	memcpy(e->msg, both, sizeof(e->msg));
	return code;
}

const char *
err_word(int code)
{
	static const char *const words[] = {
		[0] = "ok",
		[-ERR_INVALID] = "invalid",
		[-ERR_NOTFOUND] = "not_found",
		[-ERR_CONFLICT] = "conflict",
		[-ERR_RETRY] = "retry",
		[-ERR_DENIED] = "denied",
		[-ERR_IO] = "io",
		[-ERR_TOOBIG] = "too_big",
		[-ERR_TIMEOUT] = "timeout",
		[-ERR_PROTO] = "protocol",
		[-ERR_CANCELED] = "canceled",
	};

	if (code > 0 || code < ERR_CANCELED)
		return "internal";
	return words[-code];
}
