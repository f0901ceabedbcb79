/* backlog.h - the dispatcher's view of queue and workers, and its drain marks, over HTTP. Blocking; one struct backlog per thread. */
#ifndef AUTOSCALE_BACKLOG_H
#define AUTOSCALE_BACKLOG_H

#include <jansson.h>
#include <stdatomic.h>

#include "autoscale/config.h"
#include "autoscale/stanza.h"
#include "base/err.h"
#include "cluster/discover.h"

struct backlog_worker {
	char alloc[40];
	int64_t slots, leases, committing;
	bool drained;
};

struct backlog_vertical {
	char vertical[STANZA_NAME_MAX];
	int64_t ready, running, one_shots, oldest_ms, arrivals_total, service_ms, slots, idle_slots;
	size_t n_workers;
	struct backlog_worker *workers; /* owned */
};

struct backlog_snapshot {
	uint64_t index;               /* X-Drover-Index: for the next blocking read */
	size_t n;
	struct backlog_vertical *verticals; /* owned */
};

struct backlog;

/* A client; everything is kept by reference. backlog_free(NULL) is allowed. */
struct backlog *backlog_new(const struct config *c, struct discover *d, const atomic_bool *stop);
void backlog_free(struct backlog *q);

/* Reads all verticals; with index > 0 waits until something changed or wait_ms is over. ERR_RETRY, ERR_DENIED, … */
int backlog_read(struct backlog *q, uint64_t index, int64_t wait_ms, struct backlog_snapshot *ret, struct err *e);
void backlog_snapshot_release(struct backlog_snapshot *s);

/* NULL where the vertical is not known. */
const struct backlog_vertical *backlog_find(const struct backlog_snapshot *s, const char *vertical);

/* A copy, to be freed like its original: with backlog_vertical_release. */
struct backlog_vertical backlog_vertical_copy(const struct backlog_vertical *v);
void backlog_vertical_release(struct backlog_vertical *v);

struct drain_state { /* of one allocation, after marks were set */
	char alloc[40];
	bool busy; /* holds a lease or is being given one */
};

/* Replaces our draining marks of a vertical by one on each of these allocations (none: takes them back) for ttl_s. states (n
 * entries, may be NULL) tells who is busy; allocations without a worker are not. */
int backlog_drain(struct backlog *q, const char *vertical, char (*allocs)[40], size_t n, int64_t ttl_s, struct drain_state *states,
    struct err *e);

/* Marks these for good beside that, durably, with whoever comes to their indexes in the group: only if none of them is busy,
 * else ERR_CONFLICT. version: the job's modify index, on which the scale call is conditional. None: the job is beyond that
 * version, and who comes to the indexes of marks up to it is another matter. */
int backlog_condemn(struct backlog *q, const char *vertical, char (*allocs)[40], const int64_t *indexes, size_t n, uint64_t version,
    int64_t ttl_s, struct err *e);

/* Parses the answer of GET /v1/scale. Pure; for backlog_read and tests. */
int backlog_parse(const json_t *o, struct backlog_snapshot *ret, struct err *e);

#endif
