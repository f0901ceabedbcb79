/* leader.h - which of several autoscalers acts: whoever holds the lock of a Nomad variable.
 *
 * The lock is renewed three times per TTL. It counts as held only until a TTL after the last renewal began, so that the other
 * one, which Nomad lets in later than that, never acts at the same time. Loop thread, but for leader_held.
 */
#ifndef AUTOSCALE_LEADER_H
#define AUTOSCALE_LEADER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cluster/nomad.h"
#include "net/loop.h"

struct leader;

/* Starts to compete for the lock at path ("-": held always). holder: what the variable shall say of us. changed(arg, held) is
 * called in the loop when that changes. NULL with *e when there is no thread. */
struct leader *leader_new(struct loop *l, const struct nomad_config *nomad, const char *path, int64_t ttl_ms, const char *holder,
    void (*changed)(void *arg, bool held), void *arg, struct err *e);

/* Whether we hold it now. Any thread; ask right before every change. */
bool leader_held(const struct leader *l);

/* Why not, for people; "" if held or not known yet. */
const char *leader_why(const struct leader *l);

/* Gives the lock back. NULL is allowed. */
void leader_free(struct leader *l);

#endif
