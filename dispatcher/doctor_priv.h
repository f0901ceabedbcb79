/* doctor_priv.h - what doctor.c (the route and its report) and doctor_checks.c (the checks, in a thread) share. */
#ifndef DISPATCHER_DOCTOR_PRIV_H
#define DISPATCHER_DOCTOR_PRIV_H

#include "dispatcher/call.h"
#include "dispatcher/sweep.h"

#define DOCTOR_ROWS_MAX 1000 /* rows without an object that one call repairs */

enum doctor_state { DOCTOR_OK, DOCTOR_FINDING, DOCTOR_REPAIRED, DOCTOR_SKIPPED };

struct doctor {
	/* asked */
	bool repair;
	int64_t verify;      /* targets whose bytes are read again */
	int64_t limit_ms;
	const atomic_bool *stop;
	/* the thread's */
	int64_t deadline_mono_ms, began_mono_ms;
	json_t *checks, *server; /* of the report; the call frees them */
	int64_t findings, repaired;
	bool incomplete;     /* the time was over before the end */
	struct ledger_target *rows; /* whose object is gone: the loop removes them */
	size_t n_rows, rows_seen;
};

/* Adds a line to the report. hint may be NULL. */
void doctor_say(struct doctor *h, const char *check, const char *bucket, enum doctor_state state, const char *hint, const char *fmt,
    ...) __attribute__((format(printf, 6, 7)));

/* All checks, in a thread; returns 0 (what is wrong is in the report). */
int doctor_run(struct dispatcher *d, void *data, struct err *e);

#endif
