/* events.h - the recent past: a bounded ring of what happened to runs, numbered so that readers can go on where they stopped.
 * Pure apart from memory. */
#ifndef DISPATCHER_EVENTS_H
#define DISPATCHER_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dispatcher/core/core.h"

struct events;

struct event {
	uint64_t index;    /* rises by one; starts anew, higher, with each epoch */
	int64_t at_real_ms;
	char run[RUN_ID_MAX], workflow[WORKFLOW_NAME_MAX], tenant[TENANT_NAME_MAX];
	enum run_state state;
	unsigned attempt;
	char *reason;      /* of the ring */
};

/* A ring of `size` events whose first index is above those of every earlier epoch. */
struct events *events_new(uint64_t epoch, size_t size);
void events_free(struct events *ev);

/* Adds what a run's row says; the oldest event is dropped when the ring is full. Returns it (valid until the next). */
const struct event *events_add(struct events *ev, const struct run_row *row, int64_t at_real_ms);

/* Index of the newest event; where there is none, the number before the first. */
uint64_t events_index(const struct events *ev);

/* The first event after index, NULL when there is none; *ret_gap (may be NULL): events between were dropped. */
const struct event *events_after(const struct events *ev, uint64_t index, bool *ret_gap);

/* Whether run (prefix of an id) may have changed after index: true also where the ring does not reach back that far. */
bool events_changed(const struct events *ev, uint64_t index, const char *run);

#endif
