/* map.h - a hash map from strings to pointers. Not thread-safe; each map is keyed with a random seed (SipHash), so that
 * names from outside cannot make it slow. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map;

/* An empty map; map_free frees the map and its copies of the keys, not the values. map_free(NULL) is allowed. */
struct map *map_new(void);
void map_free(struct map *m);

/* Sets key (copied) to value (not owned, not NULL); returns the value that it replaces, or NULL. */
void *map_put(struct map *m, const char *key, void *value);

/* The value of key, or NULL. */
void *map_get(const struct map *m, const char *key);

/* Removes key and returns its value, or NULL. */
void *map_remove(struct map *m, const char *key);

/* Number of keys. */
size_t map_count(const struct map *m);

/* Walks all entries in no particular order: start with *cursor = 0; true while an entry was set in *ret_key and
 * *ret_value (both may be NULL pointers if not wanted). The entry just returned may be removed; nothing may be added. */
bool map_next(const struct map *m, size_t *cursor, const char **ret_key, void **ret_value);

/* SipHash-2-4 of len bytes under a 128-bit seed: the map's own hash, here for its test vectors. Pure. */
uint64_t map_hash(const uint64_t seed[2], const void *data, size_t len);

#endif
