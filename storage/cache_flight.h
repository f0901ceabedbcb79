/* cache_flight.h - one fill at a time for an entry, and one error for all who waited for it. Only the files cache*.c include it.
 *
 * Who comes while somebody fills waits for as long as that process lives. A fill that failed is not tried by each of them in
 * turn: the one who failed leaves its error in the fill lock's file, and who came before that took it over. Who comes later
 * tries again. */
#ifndef STORAGE_CACHE_FLIGHT_H
#define STORAGE_CACHE_FLIGHT_H

#include <stdatomic.h>
#include <stdint.h>

#include "storage/cache_parts.h"

struct flight {
	struct cache *cache;
	int fd; /* holds the fill lock */
	int64_t arrived_mono_us;
	uint64_t object; /* stands for bucket and key: what is missing under one key may be there under another */
};

/* Takes the entry's fill lock, waiting for who has it. 0 (then end with flight_land), ERR_CANCELED, ERR_RETRY, ERR_IO. */
int flight_board(struct cache *c, const char *name, const struct cache_want *w, const atomic_bool *stop, struct flight *ret,
    struct err *e);

/* The error of a fill of the same object that ended while we waited; 0 if there was none. */
int flight_verdict(const struct flight *f, struct err *e);

/* Leaves our error for those who wait; being canceled is our own matter. */
void flight_note(const struct flight *f, int rc, const struct err *e);

/* Lets the lock go. */
void flight_land(struct flight *f);

#endif
