/* ship.h - one thread that carries the logs of all runs to the dispatcher while they grow.
 *
 * Best effort: the whole log is an artefact of the run anyway. A chunk is repeated until it is acknowledged, or refused for good.
 */
#ifndef WORKER_SHIP_H
#define WORKER_SHIP_H

#include <stdint.h>

#include "worker/run_log.h"

struct worker;
struct ship;
struct shipment;

/* Starts the thread; it uses w->link. ship_free ends it; all shipments must have been closed. NULL-safe. */
struct ship *ship_new(const struct worker *w);
void ship_free(struct ship *s);

/* Begins to carry l (kept, not owned) under the fence; the texts are copied. Never NULL. */
struct shipment *ship_open(struct ship *s, const char *run, const char *fence, struct run_log *l);

/* Tells that the log has grown. */
void ship_poke(struct shipment *p);

/* Waits until everything has arrived, was refused, or deadline_mono_ms passes; then forgets the shipment. NULL-safe. */
void ship_close(struct shipment *p, int64_t deadline_mono_ms);

#endif
