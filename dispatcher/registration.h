/* registration.h - the dispatcher's own entry in Consul, kept up in the background. Loop thread. */
#ifndef DISPATCHER_REGISTRATION_H
#define DISPATCHER_REGISTRATION_H

#include "dispatcher/dispatcher.h"

/* Registers service drover-dispatcher if the settings want it; a Consul that is away is asked again until it answers. */
void registration_open(struct dispatcher *d);

/* Deregisters; its work in d->stores may still run. */
void registration_close(struct dispatcher *d);

/* Once d->stores has ended. */
void registration_free(struct dispatcher *d);

#endif
