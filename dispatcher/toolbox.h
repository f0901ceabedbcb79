/* toolbox.h - the workflows and verticals that can be run: read from a watched folder, or pushed; each workflow's bundle is
 * published by its digest. Reading, packing and publishing happen in a thread; everything here is for the loop thread.
 */
#ifndef DISPATCHER_TOOLBOX_H
#define DISPATCHER_TOOLBOX_H

#include <jansson.h>

#include "dispatcher/call.h"
#include "proto/workflow.h"

struct toolbox;

struct toolbox_workflow { /* valid until the next turn of the loop */
	struct workflow *workflow;
	char bundle[SHA256_HEX_LEN];
	int64_t bundle_bytes;
	int64_t loaded_real_ms;
	bool pushed;
};

/* Starts to watch config->toolbox ("": pushed workflows only) and reads it for the first time in the background. */
struct toolbox *toolbox_new(struct dispatcher *d, struct err *e);
void toolbox_free(struct toolbox *t);

/* NULL when there is none. */
const struct toolbox_workflow *toolbox_find(const struct toolbox *t, const char *name);
const struct vertical *toolbox_vertical(const struct toolbox *t, const char *name);

/* Whether all that the folder holds is there: not before it was read for the first time, nor while some of it cannot be read, or its
 * bundles not be stored. */
bool toolbox_whole(const struct toolbox *t);

/* What to say of a workflow that toolbox_find does not find: ERR_NOTFOUND; ERR_RETRY where it may be there once the toolbox is whole. */
int toolbox_lacks(const struct toolbox *t, const char *name, struct err *e);

/* Why the vertical shall have no group of warm workers, as far as the folder says so: NULL while it could not be read, and for a
 * vertical whose file is broken. Static text; t may be NULL. */
const char *toolbox_no_group(const struct toolbox *t, const char *vertical);

/* "ok", or why nothing can be run; valid until the next turn. */
const char *toolbox_state(const struct toolbox *t);

/* Whether a bundle is that of a current workflow (and must be kept). */
bool toolbox_uses(const struct toolbox *t, const char *bundle);

/* The API's view: {"workflows":[…],"broken":[…]}, and one workflow. New references. */
json_t *toolbox_list_json(const struct toolbox *t);
json_t *toolbox_workflow_json(const struct toolbox_workflow *w);

/* Takes a pushed tar for a workflow; answers the call. */
void toolbox_push(struct call *c, const char *name, const void *tar, size_t len);

#endif
