/* probe.h - which tools of its vertical a worker really has, and in which versions. */
#ifndef WORKER_PROBE_H
#define WORKER_PROBE_H

#include <jansson.h>

#include "base/err.h"
#include "worker/config.h"

struct tools {
	json_t *found;      /* object: name → version */
	json_t *missing;    /* array of names */
	char toolchain[512]; /* real path of the vertical's toolchain; "" where the tools are the system's */
	char path[640];     /* PATH that finds them */
};

/* Finds the toolchain and runs the probes of vertical.yaml (of DROVER_TOOLBOX, else of the toolchain; none: nothing is probed),
 * all at the same time, at most 60 s. Good results are kept in CACHE_DIR until the toolchain or a probed program changes, so that
 * a worker for one run does not pay for them. only: an array of names; NULL: all tools, and the log says of each that is missing
 * why. Blocks. Returns 0 (release with tools_release) or ERR_INVALID (vertical.yaml). */
int tools_probe(const struct config *c, const json_t *only, struct tools *ret, struct err *e);
void tools_release(struct tools *t);

#endif
