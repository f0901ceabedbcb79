/* err.h - the one way in which functions fail.
 *
 * A fallible function returns 0, or one of the negative codes below, chosen by what its caller should do next.
 * Detail for people goes into a caller-owned struct err; a function that fails fills it once, at the place where the
 * reason is known, and every caller above passes it on.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

enum {
	ERR_INVALID = -1,   /* the input is wrong: do not repeat it */
	ERR_NOTFOUND = -2,  /* it is not there */
	ERR_CONFLICT = -3,  /* someone else was first: read again, then decide */
	ERR_RETRY = -4,     /* may work later: see base/retry.h */
	ERR_DENIED = -5,    /* not allowed */
	ERR_IO = -6,        /* the system failed: errno's text is in the message */
	ERR_TOOBIG = -7,    /* over a limit of ours; the message names the limit */
	ERR_TIMEOUT = -8,   /* the deadline passed; whether it was done is unknown */
	ERR_PROTO = -9,     /* the other side broke the protocol */
	ERR_CANCELED = -10, /* someone asked us to stop */
};

struct err {
	int code;       /* as returned */
	char msg[320];  /* for a person, no newline, secrets redacted */
	char hint[200]; /* what the person can do about it; may be empty */
};

/* Fills *e (which may be NULL) with code and a printf-style message, cut to fit; clears the hint; returns code. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Adds a printf-style hint to *e (which may be NULL); returns e->code (0 where e is NULL). */
int err_hint(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts a printf-style prefix and ": " before the message of *e (which may be NULL), cut to fit; returns code. */
int err_prefix(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The word that the API and logs use for a code: "invalid", "not_found", "conflict", "retry", "denied", "io", "too_big",
 * "timeout", "protocol", "canceled"; "ok" for 0, "internal" for anything else. Static storage. */
const char *err_word(int code);

#endif
