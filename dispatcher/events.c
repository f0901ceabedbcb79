#include "dispatcher/events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Indexes stay exact as JSON numbers: 2^21 epochs of 2^32 events each. */
#define EPOCH_SHIFT 32

struct events {
	struct event *ring;
	size_t size, n;
	uint64_t first; /* index of the oldest event kept */
	uint64_t next;  /* index of the next one */
};

struct events *
events_new(uint64_t epoch, size_t size)
{
	struct events *ev = xcalloc(1, sizeof(*ev));

	ev->size = size;
	ev->ring = xcalloc(size, sizeof(ev->ring[0]));
	ev->first = ev->next = (epoch << EPOCH_SHIFT) + 1;
	return ev;
}

void
events_free(struct events *ev)
{
	if (ev == NULL)
		return;
	for (size_t i = 0; i < ev->size; i++)
		free(ev->ring[i].reason);
	free(ev->ring);
	free(ev);
}

const struct event *
events_add(struct events *ev, const struct run_row *row, int64_t at_real_ms)
{
	struct event *slot = &ev->ring[ev->next % ev->size];

	free(slot->reason);
	*slot = (struct event){.index = ev->next++, .at_real_ms = at_real_ms, .state = row->state, .attempt = row->attempt};
	text_copy(slot->run, sizeof(slot->run), row->id);
	text_copy(slot->workflow, sizeof(slot->workflow), row->workflow);
	text_copy(slot->tenant, sizeof(slot->tenant), row->tenant);
	slot->reason = xstrdup(row->reason);
	if (ev->n < ev->size)
		ev->n++;
	else
		ev->first++;
	return slot;
}

uint64_t
events_index(const struct events *ev)
{
	return ev->next - 1;
}

const struct event *
events_after(const struct events *ev, uint64_t index, bool *ret_gap)
{
	uint64_t at = index + 1;

	if (ret_gap != NULL)
		*ret_gap = at < ev->first;
	if (at < ev->first)
		at = ev->first;
	return at < ev->next ? &ev->ring[at % ev->size] : NULL;
}

bool
events_changed(const struct events *ev, uint64_t index, const char *run)
{
	size_t len = strlen(run);

	if (index + 1 < ev->first)
		return true;
	for (uint64_t at = ev->next - 1; at > index && at >= ev->first; at--)
		if (strncmp(ev->ring[at % ev->size].run, run, len) == 0)
			return true;
	return false;
}
