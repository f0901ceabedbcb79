/* The index's file: records, the chains of its buckets, the list of use, free slots. What they mean is cache_index.c's. */
#include "storage/cache_index_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fault.h"
#include "base/map.h"
#include "base/mem.h"
#include "storage/cache_parts.h"

/* --- records --- */

int
index_io_error(struct cache *c, const char *what, struct err *e)
{
	int why = errno;

	return err_set(e, why == ENOSPC || why == EDQUOT ? ERR_RETRY : ERR_IO, "%s %s/index: %s", what, c->dir, strerror(why));
}

static int
load(struct cache *c, void *into, size_t len, int64_t at, struct err *e)
{
	ssize_t n = pread(c->index_fd, into, len, at);

	if (n < 0)
		return index_io_error(c, "read", e);
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
	return index_io_error(c, "write", e);
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

int
index_slot_load(struct cache *c, const struct index_header *h, uint32_t no, struct index_slot *s, struct err *e)
{
	if (no == 0 || no > h->cap)
		return err_set(e, ERR_PROTO, "%s/index points nowhere", c->dir);
	return load(c, s, sizeof(*s), slot_at(h, no), e);
}

int
index_slot_store(struct cache *c, const struct index_header *h, uint32_t no, const struct index_slot *s, struct err *e)
{
	return store(c, s, sizeof(*s), slot_at(h, no), e);
}

static uint64_t
checksum(const struct index_header *h)
{
	static const uint64_t seed[2] = {0x64726f766572, 0x696e646578};

	return map_hash(seed, h, offsetof(struct index_header, checksum));
}

int
index_header_store(struct cache *c, struct index_header *h, struct err *e)
{
	h->checksum = checksum(h);
	return store(c, h, sizeof(*h), 0, e);
}

bool
index_header_sound(const struct index_header *h)
{
	return memcmp(h->magic, INDEX_MAGIC, sizeof(h->magic)) == 0 && h->checksum == checksum(h);
}

bool
index_header_load(struct cache *c, struct index_header *h, int64_t file_bytes)
{
	return load(c, h, sizeof(*h), 0, NULL) == 0 && index_header_sound(h) && h->dirty == 0 && strcmp(h->boot_id, c->boot_id) == 0 &&
	    h->cap >= INDEX_CAP_MIN && h->cap <= INDEX_CAP_MAX && h->n <= h->cap && file_bytes >= slot_at(h, h->cap + 1);
}

int
index_change_begin(struct cache *c, struct index_header *h, struct err *e)
{
	h->dirty = 1;
	return index_header_store(c, h, e);
}

int
index_change_end(struct cache *c, struct index_header *h, struct err *e)
{
	fault_point("cache.index_changed");
	h->dirty = 0;
	h->generation++;
	return index_header_store(c, h, e);
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

void
index_slot_count(struct index_header *h, const struct index_slot *s, int sign)
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

int
index_write_all(struct cache *c, struct index_header *h, const struct index_item *items, uint32_t n, uint32_t cap, struct err *e)
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
		index_slot_count(h, s, 1);
	}
	rc = fallocate(c->index_fd, 0, 0, slot_at(h, cap + 1)) == 0 || errno == EOPNOTSUPP ? 0 : index_io_error(c, "grow", e);
	if (rc == 0 && (rc = index_change_begin(c, h, e)) == 0 && (rc = store(c, buckets, cap * sizeof(*buckets), bucket_at(0), e)) == 0 &&
	    (rc = store(c, slots, cap * sizeof(*slots), slot_at(h, 1), e)) == 0)
		rc = index_change_end(c, h, e);
	free(slots);
	free(buckets);
	return rc;
}

/* --- lists --- */

int
index_slot_find(struct cache *c, const struct index_header *h, const char *name, struct index_found *f, struct err *e)
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
		if ((rc = index_slot_load(c, h, no, &s, e)) != 0)
			return rc;
		if (s.used && s.tree == key.tree && memcmp(s.sha, key.sha, sizeof(s.sha)) == 0) {
			*f = (struct index_found){.no = no, .before = before, .slot = s};
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

int
index_use_unlink(struct cache *c, struct index_header *h, const struct index_slot *s, struct err *e)
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

int
index_use_link(struct cache *c, struct index_header *h, uint32_t no, struct index_slot *s, bool young, struct err *e)
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

void
index_slot_describe(struct index_item *item, uint32_t no, const struct index_slot *s)
{
	char hex[SHA256_HEX_LEN];

	*item = (struct index_item){.no = no, .flags = s->flags, .bytes = s->bytes, .inodes = s->inodes,
	    .used_real_ms = s->used_real_ms};
	(void)cache_entry_name(hex_encode(s->sha, sizeof(s->sha), hex), s->tree, item->name);
}

int
index_slot_take(struct cache *c, struct index_header *h, struct index_found *f, struct err *e)
{
	int64_t bucket = bucket_at(bucket_of(h, &f->slot));
	struct index_slot spare;
	int rc;

	f->no = h->free;
	if ((rc = index_slot_load(c, h, f->no, &spare, e)) != 0 || (rc = load(c, &f->slot.next, sizeof(uint32_t), bucket, e)) != 0)
		return rc;
	if (spare.used)
		return err_set(e, ERR_PROTO, "%s/index gives a slot twice", c->dir);
	h->free = spare.next;
	h->n++;
	return store(c, &f->no, sizeof(f->no), bucket, e);
}

int
index_slot_free(struct cache *c, struct index_header *h, const struct index_found *f, struct err *e)
{
	struct index_slot unused = {.next = h->free};
	int rc = index_use_unlink(c, h, &f->slot, e);

	if (rc != 0)
		return rc;
	rc = f->before != 0 ? LINK(h, f->before, next, f->slot.next, e) :
	                      store(c, &f->slot.next, sizeof(uint32_t), bucket_at(bucket_of(h, &f->slot)), e);
	if (rc != 0)
		return rc;
	index_slot_count(h, &f->slot, -1);
	h->n--;
	h->free = f->no;
	return index_slot_store(c, h, f->no, &unused, e);
}

int
index_load_all(struct cache *c, const struct index_header *h, struct index_item *items, uint32_t *ret_n, struct err *e)
{
	uint32_t n = 0;
	int rc;

	for (uint32_t no = h->oldest; no != 0; n++) {
		struct index_slot s;

		if (n == h->n)
			return err_set(e, ERR_PROTO, "%s/index goes in circles", c->dir);
		if ((rc = index_slot_load(c, h, no, &s, e)) != 0)
			return rc;
		index_slot_describe(&items[n], no, &s);
		no = s.newer;
	}
	*ret_n = n;
	return 0;
}
