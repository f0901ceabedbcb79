#include "storage/cache_flight.h"

#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/map.h"

#define NOTE_MAGIC 0x464c5431u

struct note { /* the file's content; of this boot, by processes of this program */
	uint32_t magic;
	int32_t rc;
	char boot_id[40];
	uint64_t object;
	int64_t failed_mono_us;
	struct err err;
};

static uint64_t
object_of(const struct cache_want *w)
{
	static const uint64_t seed[2] = {0x666c, 0x6967};

	return map_hash(seed, w->bucket, strlen(w->bucket)) ^ map_hash(seed, w->key, strlen(w->key));
}

int
flight_board(struct cache *c, const char *name, const struct cache_want *w, const atomic_bool *stop, struct flight *ret,
    struct err *e)
{
	char lock[CACHE_ENTRY_LEN + 8];

	*ret = (struct flight){.cache = c, .arrived_mono_us = clock_mono_us(), .object = object_of(w)};
	(void)snprintf(lock, sizeof(lock), "%s.fill", name);
	ret->fd = cache_lock_entry(c, lock, LOCK_EX, stop, e);
	return ret->fd >= 0 ? 0 : ret->fd;
}

int
flight_verdict(const struct flight *f, struct err *e)
{
	struct note n;

	if (pread(f->fd, &n, sizeof(n), 0) != (ssize_t)sizeof(n) || n.magic != NOTE_MAGIC || n.rc >= 0 || n.object != f->object ||
	    n.failed_mono_us <= f->arrived_mono_us || strncmp(n.boot_id, f->cache->boot_id, sizeof(n.boot_id)) != 0)
		return 0;
	n.err.msg[sizeof(n.err.msg) - 1] = n.err.hint[sizeof(n.err.hint) - 1] = '\0';
	if (e != NULL)
		*e = n.err;
	return n.rc;
}

void
flight_note(const struct flight *f, int rc, const struct err *e)
{
	struct note n = {.magic = NOTE_MAGIC, .rc = rc, .object = f->object, .failed_mono_us = clock_mono_us()};

	if (rc == 0 || rc == ERR_CANCELED || e == NULL)
		return;
	(void)snprintf(n.boot_id, sizeof(n.boot_id), "%s", f->cache->boot_id);
	n.err = *e;
	/* Without it the others find out by themselves. */
	if (pwrite(f->fd, &n, sizeof(n), 0) < 0)
		return;
}

void
flight_land(struct flight *f)
{
	close(f->fd);
	f->fd = -1;
}
