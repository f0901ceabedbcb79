/* announce.h - the autoscaler's own entry in Consul, kept up in the background. Loop thread. */
#ifndef AUTOSCALE_ANNOUNCE_H
#define AUTOSCALE_ANNOUNCE_H

#include "autoscale/config.h"
#include "net/loop.h"

struct announce;

/* Registers service drover-autoscale at the bound address (or AUTOSCALE_ADVERTISE) if the settings want it; NULL if they do not.
 * A Consul that is away is asked again until it answers. */
struct announce *announce_new(struct loop *l, const struct config *c, const char *bound);

/* Deregisters. NULL is allowed. */
void announce_free(struct announce *a);

#endif
