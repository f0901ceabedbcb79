#include "storage/cache_index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "storage/cache_index_file.h"
#include "storage/cache_parts.h"

#define TOUCH_MS 60000 /* how exact the clock of use is */
#define NEEDS_ROOM 1   /* of change_charge: no slot is free */

/* --- making it whole --- */

static uint32_t
cap_for(size_t n)
{
	uint32_t cap = INDEX_CAP_MIN;

	while (cap < n + n / 4 && cap < INDEX_CAP_MAX)
		cap *= 2;
	return cap;
}

static int
too_many(struct cache *c, struct err *e)
{
	err_set(e, ERR_RETRY, "%s has more than %u entries", c->dir, (unsigned)INDEX_CAP_MAX);
	err_hint(e, "lower CACHE_TTL or CACHE_MAX_SIZE, so that small objects do not pile up");
	return ERR_RETRY;
}

/* Makes everything from the directory. What a valid header counted so far is kept. */
static int
rebuild(struct cache *c, struct index_header *h, struct err *e)
{
	struct index_item *items = NULL;
	size_t n = 0;
	int rc = index_scan(c, &items, &n, e);

	if (!index_header_sound(h))
		*h = (struct index_header){.magic = INDEX_MAGIC};
	memcpy(h->boot_id, c->boot_id, sizeof(h->boot_id));
	if (rc == 0 && n > INDEX_CAP_MAX)
		rc = too_many(c, e);
	if (rc == 0)
		rc = index_write_all(c, h, items, (uint32_t)n, cap_for(n + 1), e);
	free(items);
	return rc;
}

/* --- the lock --- */

static int
open_file(struct cache *c, struct err *e)
{
	if (c->index_fd >= 0)
		close(c->index_fd);
	c->index_fd = openat(c->dir_fd, "index", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	return c->index_fd >= 0 ? 0 : index_io_error(c, "open", e);
}

/* Locks the file that bears the name now: somebody may have removed it, and the next one starts anew. */
static int
lock_file(struct cache *c, int64_t *ret_bytes, struct err *e)
{
	struct stat st, named;
	int rc;

	for (;;) {
		if (c->index_fd < 0 && (rc = open_file(c, e)) != 0)
			return rc;
		while (flock(c->index_fd, LOCK_EX) != 0)
			if (errno != EINTR)
				return index_io_error(c, "lock", e);
		if (fstat(c->index_fd, &st) != 0 || !S_ISREG(st.st_mode))
			return err_set(e, ERR_IO, "%s/index is not a regular file", c->dir);
		if (st.st_nlink > 0 && fstatat(c->dir_fd, "index", &named, AT_SYMLINK_NOFOLLOW) == 0 && named.st_ino == st.st_ino) {
			*ret_bytes = st.st_size;
			return 0;
		}
		close(c->index_fd);
		c->index_fd = -1;
	}
}

/* Does op under the lock, on an index that can be trusted; one that turns out broken on the way is made again, once. */
static int
with_index(struct cache *c, int (*op)(struct cache *c, struct index_header *h, void *arg, struct err *e), void *arg, struct err *e)
{
	struct index_header h = {0};
	int64_t bytes = 0;
	int rc;

	pthread_mutex_lock(&c->index_lock);
	rc = lock_file(c, &bytes, e);
	if (rc == 0 && !index_header_load(c, &h, bytes))
		rc = rebuild(c, &h, e);
	if (rc == 0 && (rc = op(c, &h, arg, e)) == ERR_PROTO && (rc = rebuild(c, &h, e)) == 0)
		rc = op(c, &h, arg, e);
	if (c->index_fd >= 0)
		(void)flock(c->index_fd, LOCK_UN);
	pthread_mutex_unlock(&c->index_lock);
	return rc == ERR_PROTO ? err_set(e, ERR_IO, "%s/index cannot be made right", c->dir) : rc;
}

/* --- operations --- */

struct charge {
	const char *name;
	int64_t bytes, inodes;
	unsigned flags;
	bool keep_place;
};

static int
change_charge(struct cache *c, struct index_header *h, const struct charge *a, struct err *e)
{
	struct index_found f = {0};
	int rc = index_slot_find(c, h, a->name, &f, e);
	bool is_new = rc == ERR_NOTFOUND, move = is_new || !a->keep_place || ((a->flags ^ f.slot.flags) & CACHE_TRANSIENT) != 0;

	if (rc != 0 && !is_new)
		return rc;
	if (is_new && h->free == 0)
		return NEEDS_ROOM;
	if ((rc = index_change_begin(c, h, e)) != 0)
		return rc;
	if (is_new)
		rc = index_slot_take(c, h, &f, e);
	else
		index_slot_count(h, &f.slot, -1);
	if (rc == 0 && move && !is_new)
		rc = index_use_unlink(c, h, &f.slot, e);
	if (rc != 0)
		return rc;
	f.slot.bytes = a->bytes;
	f.slot.inodes = a->inodes;
	f.slot.flags = (uint8_t)a->flags;
	if (move)
		f.slot.used_real_ms = clock_real_ms();
	index_slot_count(h, &f.slot, 1);
	if (move && (rc = index_use_link(c, h, f.no, &f.slot, (a->flags & CACHE_TRANSIENT) == 0, e)) != 0)
		return rc;
	return (rc = index_slot_store(c, h, f.no, &f.slot, e)) != 0 ? rc : index_change_end(c, h, e);
}

static int
grow(struct cache *c, struct index_header *h, struct err *e)
{
	struct index_item *items = xcalloc(h->n + 1, sizeof(*items));
	uint32_t n = 0;
	int rc = h->cap >= INDEX_CAP_MAX ? too_many(c, e) : index_load_all(c, h, items, &n, e);

	if (rc == 0)
		rc = index_write_all(c, h, items, n, h->cap * 2, e);
	free(items);
	return rc;
}

static int
op_charge(struct cache *c, struct index_header *h, void *arg, struct err *e)
{
	int rc = change_charge(c, h, arg, e);

	if (rc == NEEDS_ROOM && (rc = grow(c, h, e)) == 0)
		rc = change_charge(c, h, arg, e);
	return rc;
}

struct drop {
	const char *name;
	int (*evict)(struct cache *c, const char *name, struct err *e);
};

static int
op_drop(struct cache *c, struct index_header *h, void *arg, struct err *e)
{
	const struct drop *a = arg;
	struct index_found f = {0};
	int rc = index_slot_find(c, h, a->name, &f, e);

	if (rc == ERR_NOTFOUND)
		return a->evict != NULL ? a->evict(c, a->name, e) : 0;
	if (rc != 0 || (rc = index_change_begin(c, h, e)) != 0 || (a->evict != NULL && (rc = a->evict(c, a->name, e)) != 0) ||
	    (rc = index_slot_free(c, h, &f, e)) != 0)
		return rc;
	h->counts.evictions += a->evict != NULL;
	h->counts.evicted_bytes += a->evict != NULL ? f.slot.bytes : 0;
	return index_change_end(c, h, e);
}

struct lookup {
	const char *name;
	struct index_item *item;
};

static int
op_find(struct cache *c, struct index_header *h, void *arg, struct err *e)
{
	const struct lookup *a = arg;
	struct index_found f = {0};
	int rc = index_slot_find(c, h, a->name, &f, e);

	if (rc == 0)
		index_slot_describe(a->item, f.no, &f.slot);
	return rc;
}

struct use {
	const char *name;
	enum index_use use;
	bool moved;
};

static int
op_used(struct cache *c, struct index_header *h, void *arg, struct err *e)
{
	struct use *a = arg;
	struct index_found f = {0};
	int64_t now_real_ms = clock_real_ms();
	int rc = index_slot_find(c, h, a->name, &f, e);

	if (rc != 0 && rc != ERR_NOTFOUND)
		return rc;
	h->counts.hits += a->use == INDEX_HIT;
	h->counts.misses += a->use == INDEX_MISS;
	/* A clock that was set back counts as well: the time must not stay in the future. */
	a->moved = rc == 0 && (f.slot.flags & CACHE_TRANSIENT) == 0 &&
	    (a->use == INDEX_IN_USE || f.slot.used_real_ms > now_real_ms || now_real_ms - f.slot.used_real_ms >= TOUCH_MS);
	if (!a->moved) {
		if (a->use == INDEX_HIT || a->use == INDEX_MISS)
			(void)index_header_store(c, h, NULL); /* a count may be lost */
		return rc;
	}
	if ((rc = index_change_begin(c, h, e)) != 0 || (rc = index_use_unlink(c, h, &f.slot, e)) != 0)
		return rc;
	f.slot.used_real_ms = now_real_ms;
	if ((rc = index_use_link(c, h, f.no, &f.slot, true, e)) != 0 || (rc = index_slot_store(c, h, f.no, &f.slot, e)) != 0)
		return rc;
	return index_change_end(c, h, e);
}

struct walk {
	uint32_t after;
	struct index_item *items;
	size_t max, n;
};

static int
op_younger(struct cache *c, struct index_header *h, void *arg, struct err *e)
{
	struct walk *a = arg;
	struct index_slot s;
	uint32_t no = h->oldest;
	int rc;

	if (a->after != 0) {
		if ((rc = index_slot_load(c, h, a->after, &s, e)) != 0)
			return rc;
		no = s.used ? s.newer : 0;
	}
	if (no == 0)
		return ERR_NOTFOUND;
	if ((rc = index_slot_load(c, h, no, &s, e)) == 0)
		index_slot_describe(a->items, no, &s);
	return rc;
}

static int
op_youngest(struct cache *c, struct index_header *h, void *arg, struct err *e)
{
	struct walk *a = arg;
	int rc;

	a->n = 0;
	for (uint32_t no = h->newest; no != 0 && a->n < a->max;) {
		struct index_slot s;

		if ((rc = index_slot_load(c, h, no, &s, e)) != 0)
			return rc;
		index_slot_describe(&a->items[a->n++], no, &s);
		no = s.older;
	}
	return 0;
}

static int
op_rebuild(struct cache *c, struct index_header *h, void *arg, struct err *e)
{
	(void)arg;
	return rebuild(c, h, e);
}

static int
op_sums(struct cache *c, struct index_header *h, void *arg, struct err *e)
{
	(void)c;
	(void)e;
	*(struct index_sums *)arg = (struct index_sums){.entries = h->n, .bytes = h->bytes, .inodes = h->inodes, .filling = h->filling,
	    .transient_bytes = h->transient_bytes, .transient_inodes = h->transient_inodes, .counts = h->counts, .limits = h->limits,
	    .swept_real_ms = h->swept_real_ms, .generation = h->generation};
	return 0;
}

static int
op_limits(struct cache *c, struct index_header *h, void *arg, struct err *e)
{
	if (arg == NULL)
		return 0;
	h->limits = *(const struct index_limits *)arg;
	return index_header_store(c, h, e);
}

static int
op_damage(struct cache *c, struct index_header *h, void *arg, struct err *e)
{
	(void)arg;
	h->counts.damaged++;
	return index_header_store(c, h, e);
}

static int
op_swept(struct cache *c, struct index_header *h, void *arg, struct err *e)
{
	h->swept_real_ms = *(const int64_t *)arg;
	return index_header_store(c, h, e);
}

/* --- for the other files --- */

int
index_open(struct cache *c, const struct index_limits *limits, struct err *e)
{
	struct index_limits copy = limits != NULL ? *limits : (struct index_limits){0};

	return with_index(c, op_limits, limits != NULL ? &copy : NULL, e);
}

void
index_close(struct cache *c)
{
	if (c->index_fd >= 0)
		close(c->index_fd);
	c->index_fd = -1;
}

int
index_rebuild(struct cache *c, struct err *e)
{
	return with_index(c, op_rebuild, NULL, e);
}

int
index_sums(struct cache *c, struct index_sums *ret, struct err *e)
{
	return with_index(c, op_sums, ret, e);
}

int
index_charge(struct cache *c, const char *name, int64_t bytes, int64_t inodes, unsigned flags, bool keep_place, struct err *e)
{
	struct charge a = {name, bytes, inodes, flags, keep_place};

	return with_index(c, op_charge, &a, e);
}

int
index_drop(struct cache *c, const char *name, int (*evict)(struct cache *c, const char *name, struct err *e), struct err *e)
{
	struct drop a = {name, evict};

	return with_index(c, op_drop, &a, e);
}

int
index_find(struct cache *c, const char *name, struct index_item *ret, struct err *e)
{
	struct lookup a = {name, ret};

	return with_index(c, op_find, &a, e);
}

int
index_used(struct cache *c, const char *name, enum index_use use, bool *ret_moved, struct err *e)
{
	struct use a = {.name = name, .use = use};
	int rc = with_index(c, op_used, &a, e);

	if (ret_moved != NULL)
		*ret_moved = a.moved;
	return rc;
}

int
index_younger(struct cache *c, uint32_t after, struct index_item *ret, struct err *e)
{
	struct walk a = {.after = after, .items = ret};

	return with_index(c, op_younger, &a, e);
}

long
index_youngest(struct cache *c, struct index_item *items, size_t n, struct err *e)
{
	struct walk a = {.items = items, .max = n};
	int rc = with_index(c, op_youngest, &a, e);

	return rc == 0 ? (long)a.n : rc;
}

void
index_note_damage(struct cache *c)
{
	(void)with_index(c, op_damage, NULL, NULL);
}

void
index_note_sweep(struct cache *c, int64_t now_real_ms)
{
	(void)with_index(c, op_swept, &now_real_ms, NULL);
}
