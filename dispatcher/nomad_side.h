/* nomad_side.h - wires the cluster (cluster.h) into the dispatcher. Loop thread. */
#ifndef DISPATCHER_NOMAD_SIDE_H
#define DISPATCHER_NOMAD_SIDE_H

#include "dispatcher/dispatcher.h"

/* Starts the Nomad side if the settings want it. ERR_CONFLICT when the ledger is new but Nomad remembers another one. */
int nomad_side_open(struct dispatcher *d, struct err *e);

/* The environment of workers that Nomad starts: an object of strings. What is secret is not in it: workers have it from a Nomad
 * variable. New reference. */
int nomad_worker_env(const struct config *c, json_t **ret, struct err *e);

#endif
