/* routes.h - every route of the API, in one table. */
#ifndef DISPATCHER_ROUTES_H
#define DISPATCHER_ROUTES_H

#include "dispatcher/dispatcher.h"

/* Fills in routes, authorisation and accounting of a server. */
void routes_set(struct http_server_config *c, struct dispatcher *d);

#endif
