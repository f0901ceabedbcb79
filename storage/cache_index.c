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
#include "base/digest.h"
#include "base/fault.h"
#include "base/map.h"
#include "base/mem.h"
#include "storage/cache_index_file.h"
#include "storage/cache_parts.h"

#define TOUCH_MS 60000 /* how exact the clock of use is */
#define NEEDS_ROOM 1   /* of change_charge: no slot is free */

/* --- records of the file --- */

static int
io_error(struct cache *c, const char *what, struct err *e)
{
	int why = errno;

	return err_set(e, why == ENOSPC || why == EDQUOT ? ERR_RETRY : ERR_IO, "%s %s/index: %s", what, c->dir, strerror(why));
}

static int
load(struct cache *c, void *into, size_t len, int64_t at, struct err *e)
{
	ssize_t n = pread(c->index_fd, into, len, at);

	if (n < 0)
		return io_error(c, "read", e);
	return n == (ssize_t)len ? 0 : err_set(e, ERR_PROTO, "%s/index is too short", c->dir);
}

static int
store(struct cache *c, const void *from, size_t len, int64_t at, struct err *e)
{
	ssize_t n = pwrite(c->index_fd, from, len, at);

	if (n == (ssize_t)len)
		return 0;
	if (n >= 0)
		errno = ENOSPC;
	return io_error(c, "write", e);
}

static int64_t
bucket_at(uint32_t b)
{
	return INDEX_HEADER_BYTES + (int64_t)b * (int64_t)sizeof(uint32_t);
}

static int64_t
slot_at(const struct index_header *h, uint32_t no)
{
	return bucket_at(h->cap) + (int64_t)(no - 1) * (int64_t)sizeof(struct index_slot);
}

static int
load_slot(struct cache *c, const struct index_header *h, uint32_t no, struct index_slot *s, struct err *e)
{
	if (no == 0 || no > h->cap)
		return err_set(e, ERR_PROTO, "%s/index points nowhere", c->dir);
	return load(c, s, sizeof(*s), slot_at(h, no), e);
}

static int
store_slot(struct cache *c, const struct index_header *h, uint32_t no, const struct index_slot *s, struct err *e)
{
	return store(c, s, sizeof(*s), slot_at(h, no), e);
}

static uint64_t
checksum(const struct index_header *h)
{
	static const uint64_t seed[2] = {0x64726f766572, 0x696e646578};

	return map_hash(seed, h, offsetof(struct index_header, checksum));
}

static int
store_header(struct cache *c, struct index_header *h, struct err *e)
{
	h->checksum = checksum(h);
	return store(c, h, sizeof(*h), 0, e);
}

static bool
header_valid(const struct cache *c, const struct index_header *h, int64_t file_bytes)
{
	return memcmp(h->magic, INDEX_MAGIC, sizeof(h->magic)) == 0 && h->checksum == checksum(h) && h->dirty == 0 &&
	    strcmp(h->boot_id, c->boot_id) == 0 && h->cap >= INDEX_CAP_MIN && h->cap <= INDEX_CAP_MAX && h->n <= h->cap &&
	    file_bytes >= slot_at(h, h->cap + 1);
}

static int
change_begin(struct cache *c, struct index_header *h, struct err *e)
{
	h->dirty = 1;
	return store_header(c, h, e);
}

static int
change_end(struct cache *c, struct index_header *h, struct err *e)
{
	fault_point("cache.index_changed");
	h->dirty = 0;
	h->generation++;
	return store_header(c, h, e);
}

/* --- writing it whole --- */

static void
fill_slot(struct index_slot *s, const char *name)
{
	char hex[SHA256_HEX_LEN];
	bool tree = false;

	memset(s, 0, sizeof(*s));
	(void)cache_entry_valid(name, &tree);
	memcpy(hex, name, SHA256_HEX_LEN - 1);
	hex[SHA256_HEX_LEN - 1] = '\0';
	(void)hex_decode(hex, SHA256_LEN, s->sha);
	s->used = 1;
	s->tree = tree;
}

static uint32_t
bucket_of(const struct index_header *h, const struct index_slot *s)
{
	uint32_t first;

	memcpy(&first, s->sha, sizeof(first));
	return (first ^ s->tree) % h->cap;
}

static void
count(struct index_header *h, const struct index_slot *s, int sign)
{
	if (s->flags & CACHE_TRANSIENT) {
		h->transient_bytes += sign * s->bytes;
		h->transient_inodes += sign * s->inodes;
	} else {
		h->bytes += sign * s->bytes;
		h->inodes += sign * s->inodes;
	}
	h->filling += sign * ((s->flags & CACHE_FILLING) != 0);
}

/* Lays items (oldest first) out anew in a file of cap slots; the header's counts and limits stay. */
static int
write_all(struct cache *c, struct index_header *h, const struct index_item *items, uint32_t n, uint32_t cap, struct err *e)
{
	struct index_slot *slots = xcalloc(cap, sizeof(*slots));
	uint32_t *buckets = xcalloc(cap, sizeof(*buckets));
	int rc;

	h->cap = cap;
	h->n = n;
	h->oldest = n > 0 ? 1 : 0;
	h->newest = n;
	h->free = n < cap ? n + 1 : 0;
	h->bytes = h->inodes = h->transient_bytes = h->transient_inodes = h->filling = 0;
	for (uint32_t i = 0; i < cap; i++) {
		struct index_slot *s = &slots[i];

		if (i >= n) {
			s->next = i + 1 < cap ? i + 2 : 0;
			continue;
		}
		fill_slot(s, items[i].name);
		s->flags = (uint8_t)items[i].flags;
		s->bytes = items[i].bytes;
		s->inodes = items[i].inodes;
		s->used_real_ms = items[i].used_real_ms;
		s->older = i;
		s->newer = i + 1 < n ? i + 2 : 0;
		s->next = buckets[bucket_of(h, s)];
		buckets[bucket_of(h, s)] = i + 1;
		count(h, s, 1);
	}
	rc = fallocate(c->index_fd, 0, 0, slot_at(h, cap + 1)) == 0 || errno == EOPNOTSUPP ? 0 : io_error(c, "grow", e);
	if (rc == 0 && (rc = change_begin(c, h, e)) == 0 && (rc = store(c, buckets, cap * sizeof(*buckets), bucket_at(0), e)) == 0 &&
	    (rc = store(c, slots, cap * sizeof(*slots), slot_at(h, 1), e)) == 0)
		rc = change_end(c, h, e);
	free(slots);
	free(buckets);
	return rc;
}

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

	if (memcmp(h->magic, INDEX_MAGIC, sizeof(h->magic)) != 0 || h->checksum != checksum(h))
		*h = (struct index_header){.magic = INDEX_MAGIC};
	memcpy(h->boot_id, c->boot_id, sizeof(h->boot_id));
	if (rc == 0 && n > INDEX_CAP_MAX)
		rc = too_many(c, e);
	if (rc == 0)
		rc = write_all(c, h, items, (uint32_t)n, cap_for(n + 1), e);
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
	return c->index_fd >= 0 ? 0 : io_error(c, "open", e);
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
				return io_error(c, "lock", e);
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
	if (rc == 0 && (load(c, &h, sizeof(h), 0, NULL) != 0 || !header_valid(c, &h, bytes)))
		rc = rebuild(c, &h, e);
	if (rc == 0 && (rc = op(c, &h, arg, e)) == ERR_PROTO && (rc = rebuild(c, &h, e)) == 0)
		rc = op(c, &h, arg, e);
	if (c->index_fd >= 0)
		(void)flock(c->index_fd, LOCK_UN);
	pthread_mutex_unlock(&c->index_lock);
	return rc == ERR_PROTO ? err_set(e, ERR_IO, "%s/index cannot be made right", c->dir) : rc;
}

/* --- lists --- */

struct found {
	uint32_t no, before; /* before: in the bucket's chain; 0: the bucket itself */
	struct index_slot slot;
};

/* ERR_NOTFOUND leaves f->slot with the key alone. */
static int
find(struct cache *c, const struct index_header *h, const char *name, struct found *f, struct err *e)
{
	struct index_slot key;
	uint32_t no = 0, before = 0;
	int rc;

	fill_slot(&key, name);
	f->slot = key;
	if ((rc = load(c, &no, sizeof(no), bucket_at(bucket_of(h, &key)), e)) != 0)
		return rc;
	for (uint32_t steps = 0; no != 0; steps++) {
		struct index_slot s;

		if (steps > h->cap)
			return err_set(e, ERR_PROTO, "%s/index goes in circles", c->dir);
		if ((rc = load_slot(c, h, no, &s, e)) != 0)
			return rc;
		if (s.used && s.tree == key.tree && memcmp(s.sha, key.sha, sizeof(s.sha)) == 0) {
			*f = (struct found){.no = no, .before = before, .slot = s};
			return 0;
		}
		before = no;
		no = s.next;
	}
	return ERR_NOTFOUND;
}

/* Sets one link of a neighbour. which: offset of the link. */
static int
relink(struct cache *c, const struct index_header *h, uint32_t no, size_t which, uint32_t to, struct err *e)
{
	if (no == 0 || no > h->cap)
		return err_set(e, ERR_PROTO, "%s/index points nowhere", c->dir);
	return store(c, &to, sizeof(to), slot_at(h, no) + (int64_t)which, e);
}

#define LINK(h, no, field, to, e) relink(c, h, no, offsetof(struct index_slot, field), to, e)

static int
unlink_use(struct cache *c, struct index_header *h, const struct index_slot *s, struct err *e)
{
	int rc = 0;

	if (s->older != 0)
		rc = LINK(h, s->older, newer, s->newer, e);
	else
		h->oldest = s->newer;
	if (rc != 0)
		return rc;
	if (s->newer != 0)
		return LINK(h, s->newer, older, s->older, e);
	h->newest = s->older;
	return 0;
}

/* At the young end, or at the old one. */
static int
link_use(struct cache *c, struct index_header *h, uint32_t no, struct index_slot *s, bool young, struct err *e)
{
	uint32_t neighbour = young ? h->newest : h->oldest;
	int rc = 0;

	s->older = young ? neighbour : 0;
	s->newer = young ? 0 : neighbour;
	if (neighbour != 0)
		rc = young ? LINK(h, neighbour, newer, no, e) : LINK(h, neighbour, older, no, e);
	if (young || neighbour == 0)
		h->newest = no;
	if (!young || neighbour == 0)
		h->oldest = no;
	return rc;
}

static void
describe(struct index_item *item, uint32_t no, const struct index_slot *s)
{
	char hex[SHA256_HEX_LEN];

	*item = (struct index_item){.no = no, .flags = s->flags, .bytes = s->bytes, .inodes = s->inodes,
	    .used_real_ms = s->used_real_ms};
	(void)cache_entry_name(hex_encode(s->sha, sizeof(s->sha), hex), s->tree, item->name);
}

/* --- operations --- */

struct charge {
	const char *name;
	int64_t bytes, inodes;
	unsigned flags;
	bool keep_place;
};

/* Takes a slot off the free list into the name's chain. */
static int
take_slot(struct cache *c, struct index_header *h, struct found *f, struct err *e)
{
	int64_t bucket = bucket_at(bucket_of(h, &f->slot));
	struct index_slot spare;
	int rc;

	f->no = h->free;
	if ((rc = load_slot(c, h, f->no, &spare, e)) != 0 || (rc = load(c, &f->slot.next, sizeof(uint32_t), bucket, e)) != 0)
		return rc;
	if (spare.used)
		return err_set(e, ERR_PROTO, "%s/index gives a slot twice", c->dir);
	h->free = spare.next;
	h->n++;
	return store(c, &f->no, sizeof(f->no), bucket, e);
}

static int
change_charge(struct cache *c, struct index_header *h, const struct charge *a, struct err *e)
{
	struct found f = {0};
	int rc = find(c, h, a->name, &f, e);
	bool is_new = rc == ERR_NOTFOUND, move = is_new || !a->keep_place || ((a->flags ^ f.slot.flags) & CACHE_TRANSIENT) != 0;

	if (rc != 0 && !is_new)
		return rc;
	if (is_new && h->free == 0)
		return NEEDS_ROOM;
	if ((rc = change_begin(c, h, e)) != 0)
		return rc;
	if (is_new)
		rc = take_slot(c, h, &f, e);
	else
		count(h, &f.slot, -1);
	if (rc == 0 && move && !is_new)
		rc = unlink_use(c, h, &f.slot, e);
	if (rc != 0)
		return rc;
	f.slot.bytes = a->bytes;
	f.slot.inodes = a->inodes;
	f.slot.flags = (uint8_t)a->flags;
	if (move)
		f.slot.used_real_ms = clock_real_ms();
	count(h, &f.slot, 1);
	if (move && (rc = link_use(c, h, f.no, &f.slot, (a->flags & CACHE_TRANSIENT) == 0, e)) != 0)
		return rc;
	return (rc = store_slot(c, h, f.no, &f.slot, e)) != 0 ? rc : change_end(c, h, e);
}

/* All slots from the oldest on, as items. */
static int
load_all(struct cache *c, const struct index_header *h, struct index_item *items, uint32_t *ret_n, struct err *e)
{
	uint32_t n = 0;
	int rc;

	for (uint32_t no = h->oldest; no != 0; n++) {
		struct index_slot s;

		if (n == h->n)
			return err_set(e, ERR_PROTO, "%s/index goes in circles", c->dir);
		if ((rc = load_slot(c, h, no, &s, e)) != 0)
			return rc;
		describe(&items[n], no, &s);
		no = s.newer;
	}
	*ret_n = n;
	return 0;
}

static int
grow(struct cache *c, struct index_header *h, struct err *e)
{
	struct index_item *items = xcalloc(h->n + 1, sizeof(*items));
	uint32_t n = 0;
	int rc = h->cap >= INDEX_CAP_MAX ? too_many(c, e) : load_all(c, h, items, &n, e);

	if (rc == 0)
		rc = write_all(c, h, items, n, h->cap * 2, e);
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
	struct found f = {0};
	int rc = find(c, h, a->name, &f, e);

	if (rc == ERR_NOTFOUND)
		return a->evict != NULL ? a->evict(c, a->name, e) : 0;
	if (rc != 0 || (rc = change_begin(c, h, e)) != 0 || (a->evict != NULL && (rc = a->evict(c, a->name, e)) != 0) ||
	    (rc = unlink_use(c, h, &f.slot, e)) != 0)
		return rc;
	rc = f.before != 0 ? LINK(h, f.before, next, f.slot.next, e) :
	                     store(c, &f.slot.next, sizeof(uint32_t), bucket_at(bucket_of(h, &f.slot)), e);
	if (rc != 0)
		return rc;
	count(h, &f.slot, -1);
	h->n--;
	h->counts.evictions += a->evict != NULL;
	h->counts.evicted_bytes += a->evict != NULL ? f.slot.bytes : 0;
	f.slot = (struct index_slot){.next = h->free};
	h->free = f.no;
	return (rc = store_slot(c, h, f.no, &f.slot, e)) != 0 ? rc : change_end(c, h, e);
}

struct lookup {
	const char *name;
	struct index_item *item;
};

static int
op_find(struct cache *c, struct index_header *h, void *arg, struct err *e)
{
	const struct lookup *a = arg;
	struct found f = {0};
	int rc = find(c, h, a->name, &f, e);

	if (rc == 0)
		describe(a->item, f.no, &f.slot);
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
	struct found f = {0};
	int64_t now_real_ms = clock_real_ms();
	int rc = find(c, h, a->name, &f, e);

	if (rc != 0 && rc != ERR_NOTFOUND)
		return rc;
	h->counts.hits += a->use == INDEX_HIT;
	h->counts.misses += a->use == INDEX_MISS;
	/* A clock that was set back counts as well: the time must not stay in the future. */
	a->moved = rc == 0 && (f.slot.flags & CACHE_TRANSIENT) == 0 &&
	    (a->use == INDEX_IN_USE || f.slot.used_real_ms > now_real_ms || now_real_ms - f.slot.used_real_ms >= TOUCH_MS);
	if (!a->moved) {
		if (a->use == INDEX_HIT || a->use == INDEX_MISS)
			(void)store_header(c, h, NULL); /* a count may be lost */
		return rc;
	}
	if ((rc = change_begin(c, h, e)) != 0 || (rc = unlink_use(c, h, &f.slot, e)) != 0)
		return rc;
	f.slot.used_real_ms = now_real_ms;
	if ((rc = link_use(c, h, f.no, &f.slot, true, e)) != 0 || (rc = store_slot(c, h, f.no, &f.slot, e)) != 0)
		return rc;
	return change_end(c, h, e);
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
		if ((rc = load_slot(c, h, a->after, &s, e)) != 0)
			return rc;
		no = s.used ? s.newer : 0;
	}
	if (no == 0)
		return ERR_NOTFOUND;
	if ((rc = load_slot(c, h, no, &s, e)) == 0)
		describe(a->items, no, &s);
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

		if ((rc = load_slot(c, h, no, &s, e)) != 0)
			return rc;
		describe(&a->items[a->n++], no, &s);
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
	return store_header(c, h, e);
}

static int
op_damage(struct cache *c, struct index_header *h, void *arg, struct err *e)
{
	(void)arg;
	h->counts.damaged++;
	return store_header(c, h, e);
}

static int
op_swept(struct cache *c, struct index_header *h, void *arg, struct err *e)
{
	h->swept_real_ms = *(const int64_t *)arg;
	return store_header(c, h, e);
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
