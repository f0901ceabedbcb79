/* consul_entry.h - a program's own entry in Consul, kept up in the background. Loop thread. */
#ifndef CLUSTER_CONSUL_ENTRY_H
#define CLUSTER_CONSUL_ENTRY_H

#include "base/err.h"
#include "cluster/discover.h"
#include "net/loop.h"

struct consul_entry;

struct consul_entry_config { /* texts are copied, those of consul kept by reference */
	struct consul_config consul;
	const char *service, *id;
	const char *bound;     /* "host:port" where the program listens; Consul asks for /v1/agent/health there */
	const char *advertise; /* where others reach it, "host:port" or an http(s) URL of that; what is neither: bound */
	/* After each try that failed, the first that went well (code 0), and when the entry could not be taken away at the end. */
	void (*told)(const char *id, const struct err *e);
};

/* Registers it, and again every half minute: an agent that lost its state gets the entry again, one that is away is asked until it
 * answers. NULL: there is no Consul in the settings, or, which is told, no thread. */
struct consul_entry *consul_entry_new(struct loop *l, const struct consul_entry_config *config);

/* Deregisters. NULL is allowed. */
void consul_entry_free(struct consul_entry *c);

#endif
