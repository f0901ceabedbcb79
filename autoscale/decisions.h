/* decisions.h - the last decisions, for /v1/decisions. Loop thread. */
#ifndef AUTOSCALE_DECISIONS_H
#define AUTOSCALE_DECISIONS_H

#include <jansson.h>

#include "autoscale/round.h"

#define DECISIONS_KEPT 512

struct decisions {
	json_t *ring[DECISIONS_KEPT];
	size_t next, n;
};

/* A round as JSON: time, job, what was decided, why, and all numbers (new reference). */
json_t *decision_json(const struct round *r, int64_t at_real_ms);

/* Takes a decision (ownership passes). */
void decisions_add(struct decisions *d, json_t *one);

/* The newest first, at most limit (new reference). */
json_t *decisions_list(const struct decisions *d, size_t limit);

/* Frees what is kept. */
void decisions_release(struct decisions *d);

#endif
