/* lifecycle.h - expiry done by us, for stores that have none of their own (a directory; servers that answer 501). */
#ifndef STORAGE_LIFECYCLE_H
#define STORAGE_LIFECYCLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "storage/object_store.h"

struct lifecycle_sweep_options { /* all zero: no exceptions */
	/* True for a key that must stay although it is old (a live run needs it). NULL: none. Called on the sweeping thread. */
	bool (*keep)(void *arg, const char *key);
	void *arg;
	const atomic_bool *stop;
};

/* True if an object of that age falls under one of the rules: its prefix matches and it is older than expire_days. */
bool lifecycle_expired(const struct lifecycle_rule *rules, size_t n, const char *key, int64_t modified_real_ms,
    int64_t now_real_ms);

/* Removes every expired object of the bucket. An object that was dated anew since it was listed stays. Blocks; worker threads
 * only; several sweeps at once are harmless. *ret_removed (may be NULL) counts also when the sweep fails midway.
 * Returns 0, ERR_CANCELED, or what the store's list, head and remove return. */
int lifecycle_sweep(struct object_store *s, const char *bucket, const struct lifecycle_rule *rules, size_t n,
    int64_t now_real_ms, const struct lifecycle_sweep_options *o, int64_t *ret_removed, struct err *e);

#endif
