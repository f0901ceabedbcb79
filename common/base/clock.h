/* clock.h - the two clocks, told apart by name everywhere: `_mono` for deadlines and distances, `_real` for people. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CLOCK_TEXT_LEN 25 /* "2026-11-21T11:44:07.123Z" and its NUL */

/* The same instant on both clocks. Deadlines use mono_ms only; real_ms may jump. */
struct now {
	int64_t mono_ms; /* CLOCK_MONOTONIC, milliseconds */
	int64_t real_ms; /* CLOCK_REALTIME, milliseconds since 1970 UTC */
};

/* Reads both clocks. Any thread. */
struct now clock_now(void);

/* Milliseconds of the monotonic and of the real-time clock; microseconds of the monotonic one. */
int64_t clock_mono_ms(void);
int64_t clock_real_ms(void);
int64_t clock_mono_us(void);

/* Writes RFC 3339 UTC with milliseconds into out; "" for 0. Returns out. */
char *clock_text(int64_t real_ms, char out[CLOCK_TEXT_LEN]);

/* Reads RFC 3339 UTC ("…Z", fraction optional). Returns 0 or ERR_INVALID. */
int clock_parse(const char *s, int64_t *ret_real_ms, struct err *e);

#endif
