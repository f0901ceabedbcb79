#include "base/heap.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

#define HEAP_FIRST_ITEMS 16

struct heap
heap_make(bool (*less)(const void *, const void *), void (*set_pos)(void *, size_t))
{
	return (struct heap){.less = less, .set_pos = set_pos};
}

void
heap_release(struct heap *h)
{
	free(h->items);
	*h = heap_make(h->less, h->set_pos);
}

static void
place(struct heap *h, size_t pos, void *item)
{
	h->items[pos] = item;
	h->set_pos(item, pos);
}

static void
sift_up(struct heap *h, size_t pos)
{
	void *item = h->items[pos];

	while (pos > 0) {
		size_t parent = (pos - 1) / 2;

		if (!h->less(item, h->items[parent]))
			break;
		place(h, pos, h->items[parent]);
		pos = parent;
	}
	place(h, pos, item);
}

static void
sift_down(struct heap *h, size_t pos)
{
	void *item = h->items[pos];

	for (;;) {
		size_t child = 2 * pos + 1;

		if (child >= h->len)
			break;
		if (child + 1 < h->len && h->less(h->items[child + 1], h->items[child]))
			child++;
		if (!h->less(h->items[child], item))
			break;
		place(h, pos, h->items[child]);
		pos = child;
	}
	place(h, pos, item);
}

void
heap_push(struct heap *h, void *item)
{
	if (h->len == h->cap) {
		h->cap = h->cap == 0 ? HEAP_FIRST_ITEMS : h->cap * 2;
		h->items = xrealloc(h->items, h->cap * sizeof(h->items[0]));
	}
	h->items[h->len++] = item;
	sift_up(h, h->len - 1);
}

void *
heap_peek(const struct heap *h)
{
	return h->len > 0 ? h->items[0] : NULL;
}

void *
heap_pop(struct heap *h)
{
	void *item = heap_peek(h);

	if (item != NULL)
		heap_remove(h, 0);
	return item;
}

void
heap_remove(struct heap *h, size_t pos)
{
	void *item, *last;

	assert(pos < h->len);
	item = h->items[pos];
	last = h->items[--h->len];
	if (pos < h->len) {
		place(h, pos, last);
		heap_fix(h, pos);
	}
	h->set_pos(item, HEAP_NOWHERE);
}

void
heap_fix(struct heap *h, size_t pos)
{
	assert(pos < h->len);
	if (pos > 0 && h->less(h->items[pos], h->items[(pos - 1) / 2]))
		sift_up(h, pos);
	else
		sift_down(h, pos);
}
