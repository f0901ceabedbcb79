/* stanza.h - the `scaling` block of a job, as Nomad's API returns it, as a policy of ours.
 *
 * Labelled blocks come as lists of one-key maps: "check":[{"queue":[{"source","query","strategy":[{"drover":[{…}]}]}]}]. Only
 * checks whose source is "drover" are ours; a job without any is somebody else's. docs/SCALING.md lists every key.
 */
#ifndef AUTOSCALE_STANZA_H
#define AUTOSCALE_STANZA_H

#include <jansson.h>

#include "autoscale/policy.h"
#include "base/err.h"

#define STANZA_NAME_MAX 128

struct stanza {
	bool ours;                      /* it has a check with source "drover" */
	char group[STANZA_NAME_MAX];    /* the task group that is scaled */
	char vertical[STANZA_NAME_MAX]; /* whose queue counts: the job's meta drover_vertical, else its id behind "-workers-" */
	int64_t count;                  /* desired */
	struct policy policy;           /* usable if stanza_read returned 0 and it is ours */
};

/* Reads a job. Returns 0; or ERR_INVALID: it is ours, and its policy is broken, with what is wrong and where. group, vertical and
 * count are set in both cases. */
int stanza_read(const json_t *job, struct stanza *ret, struct err *e);

#endif
