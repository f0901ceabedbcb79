/* heap.h - a binary min-heap of pointers that tells each element where it stands, so that it can be removed or moved.
 * Knows nothing of what it holds. Not thread-safe. */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>

#define HEAP_NOWHERE ((size_t)-1)

struct heap {
	void **items;
	size_t len, cap;
	bool (*less)(const void *a, const void *b);  /* strict order; ties must be broken by the caller for determinism */
	void (*set_pos)(void *item, size_t pos);     /* told on every move; HEAP_NOWHERE when it leaves */
};

/* An empty heap with its two callbacks; heap_release frees the array only. */
struct heap heap_make(bool (*less)(const void *, const void *), void (*set_pos)(void *, size_t));
void heap_release(struct heap *h);

/* Adds an item (not owned). */
void heap_push(struct heap *h, void *item);

/* The least item, or NULL when empty; heap_pop also removes it. */
void *heap_peek(const struct heap *h);
void *heap_pop(struct heap *h);

/* Removes the item at pos, or puts it right after its order changed. pos must be what set_pos told. */
void heap_remove(struct heap *h, size_t pos);
void heap_fix(struct heap *h, size_t pos);

#endif
