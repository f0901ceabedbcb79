#include "base/map.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/mem.h"

#define MAP_FIRST_SLOTS 16 /* a power of two, as every later size */

/* One slot of an open-addressed table with linear probing. A removed key leaves `gone` set, so that probes go on past it
 * and a walk may remove the entry it stands on. */
struct slot {
	char *key; /* owned; NULL: free or gone */
	void *value;
	uint64_t hash;
	bool gone;
};

struct map {
	struct slot *slots;
	size_t n_slots;
	size_t count; /* keys */
	size_t used;  /* keys and gone ones: at least a quarter of the slots stays free, so that probes end */
	uint64_t seed[2];
};

static uint64_t
rotate(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static void
sip_round(uint64_t v[4])
{
	v[0] += v[1], v[2] += v[3];
	v[1] = rotate(v[1], 13) ^ v[0], v[3] = rotate(v[3], 16) ^ v[2];
	v[0] = rotate(v[0], 32);
	v[2] += v[1], v[0] += v[3];
	v[1] = rotate(v[1], 17) ^ v[2], v[3] = rotate(v[3], 21) ^ v[0];
	v[2] = rotate(v[2], 32);
}

/* SipHash-2-4: J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF", 2012. */
uint64_t
map_hash(const uint64_t seed[2], const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t v[4] = {seed[0] ^ 0x736f6d6570736575u, seed[1] ^ 0x646f72616e646f6du, seed[0] ^ 0x6c7967656e657261u,
	    seed[1] ^ 0x7465646279746573u};
	uint64_t last = (uint64_t)(len & 0xff) << 56;

	for (; len >= 8; len -= 8, p += 8) {
		uint64_t word = 0;

		for (unsigned i = 0; i < 8; i++)
			word |= (uint64_t)p[i] << 8 * i;
		v[3] ^= word;
		sip_round(v), sip_round(v);
		v[0] ^= word;
	}
	for (unsigned i = 0; i < len; i++)
		last |= (uint64_t)p[i] << 8 * i;
	v[3] ^= last;
	sip_round(v), sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	sip_round(v), sip_round(v), sip_round(v), sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct map *
map_new(void)
{
	struct map *m = xcalloc(1, sizeof(*m));

	m->n_slots = MAP_FIRST_SLOTS;
	m->slots = xcalloc(m->n_slots, sizeof(m->slots[0]));
	random_bytes(m->seed, sizeof(m->seed));
	return m;
}

void
map_free(struct map *m)
{
	if (m == NULL)
		return;
	for (size_t i = 0; i < m->n_slots; i++)
		free(m->slots[i].key);
	free(m->slots);
	free(m);
}

/* The slot that holds key, or NULL. */
static struct slot *
find(const struct map *m, const char *key, uint64_t hash)
{
	for (size_t i = hash & (m->n_slots - 1);; i = (i + 1) & (m->n_slots - 1)) {
		struct slot *s = &m->slots[i];

		if (s->key == NULL && !s->gone)
			return NULL;
		if (s->key != NULL && s->hash == hash && strcmp(s->key, key) == 0)
			return s;
	}
}

/* Puts an owned key, known to be absent, into the first slot that is not in use. */
static void
insert(struct map *m, char *key, void *value, uint64_t hash)
{
	size_t i = hash & (m->n_slots - 1);

	while (m->slots[i].key != NULL)
		i = (i + 1) & (m->n_slots - 1);
	if (!m->slots[i].gone)
		m->used++;
	m->slots[i] = (struct slot){.key = key, .value = value, .hash = hash};
	m->count++;
}

/* A new table without the gone keys, of twice the size if the living ones need it. */
static void
rebuild(struct map *m)
{
	struct slot *old = m->slots;
	size_t n_old = m->n_slots;

	if (m->count >= n_old / 2)
		m->n_slots *= 2;
	m->slots = xcalloc(m->n_slots, sizeof(m->slots[0]));
	m->count = m->used = 0;
	for (size_t i = 0; i < n_old; i++)
		if (old[i].key != NULL)
			insert(m, old[i].key, old[i].value, old[i].hash);
	free(old);
}

void *
map_put(struct map *m, const char *key, void *value)
{
	uint64_t hash = map_hash(m->seed, key, strlen(key));
	struct slot *s = find(m, key, hash);
	void *before = NULL;

	assert(value != NULL);
	if (s != NULL) {
		before = s->value;
		s->value = value;
		return before;
	}
	if (m->used + 1 > m->n_slots / 4 * 3)
		rebuild(m);
	insert(m, xstrdup(key), value, hash);
	return NULL;
}

void *
map_get(const struct map *m, const char *key)
{
	struct slot *s = find(m, key, map_hash(m->seed, key, strlen(key)));

	return s != NULL ? s->value : NULL;
}

void *
map_remove(struct map *m, const char *key)
{
	struct slot *s = find(m, key, map_hash(m->seed, key, strlen(key)));
	void *value;

	if (s == NULL)
		return NULL;
	value = s->value;
	free(s->key);
	*s = (struct slot){.gone = true};
	m->count--;
	return value;
}

size_t
map_count(const struct map *m)
{
	return m->count;
}

bool
map_next(const struct map *m, size_t *cursor, const char **ret_key, void **ret_value)
{
	while (*cursor < m->n_slots) {
		const struct slot *s = &m->slots[(*cursor)++];

		if (s->key == NULL)
			continue;
		if (ret_key != NULL)
			*ret_key = s->key;
		if (ret_value != NULL)
			*ret_value = s->value;
		return true;
	}
	return false;
}
