/* list.h - doubly linked lists inside the core's structs: order is the order of adding, so that a seed replays exactly.
 * A head is a link that stands for no element; an element that is in no list points at itself. */
#ifndef DISPATCHER_CORE_LIST_H
#define DISPATCHER_CORE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct link {
	struct link *prev, *next;
};

/* The struct that a link (or timer) is embedded in. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Walks a list whose current element may be removed meanwhile. */
#define list_each(head, it, after) \
	for (struct link *it = (head)->next, *after = it->next; it != (head); it = after, after = it->next)

/* Makes l an empty head, or an element in no list. */
static inline void
list_init(struct link *l)
{
	l->prev = l->next = l;
}

static inline bool
list_empty(const struct link *head)
{
	return head->next == head;
}

/* Adds l, which is in no list, at the end; before an element, if that is given in place of the head. */
static inline void
list_add(struct link *head, struct link *l)
{
	l->prev = head->prev;
	l->next = head;
	head->prev->next = l;
	head->prev = l;
}

/* Takes l out of the list it is in, if any. */
static inline void
list_remove(struct link *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	list_init(l);
}

#endif
