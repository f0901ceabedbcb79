/* workspace.h - the tree that a run sees: private and writable, or shared and read-only.
 *
 * `isolated` and `copy-on-write` use one ladder, probed once per cache directory: overlayfs (needs CAP_SYS_ADMIN) → overlayfs in
 * the run's user namespace (set up by the sandbox from what workspace_plan says) → reflink copy → parallel copy. Never hard
 * links. `shared` is the cache's tree itself; the sandbox binds it read-only.
 *   CACHE_DIR/<target>/<run>/workspace/     isolated (removed afterwards)
 *   CACHE_DIR/<target>/workspace/           shared: where the sandbox shows ws->tree, in the run's own mount namespace
 * CACHE_DIR is 0700 and stays so: a run under another uid reaches its tree, out and scratch through the sandbox's binds alone.
 * Overlays show the cache's files as the run's own (idmapped mount), copies are given to it.
 * A run's directory is owned by a lock file; what a dead process left is swept at start by lock ownership.
 * Blocking; worker threads only.
 */
#ifndef STORAGE_WORKSPACE_H
#define STORAGE_WORKSPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "storage/cache.h"

enum workspace_mode { WORKSPACE_ISOLATED, WORKSPACE_SHARED, WORKSPACE_COPY_ON_WRITE };
enum workspace_method { WORKSPACE_OVERLAY, WORKSPACE_OVERLAY_USERNS, WORKSPACE_REFLINK, WORKSPACE_COPY, WORKSPACE_DIRECT };

struct workspace {
	enum workspace_mode mode;
	enum workspace_method method;
	char run_dir[512];  /* CACHE_DIR/<target>/<run>: holds workspace/, out/, scratch/, and the overlay's parts */
	char tree[640];     /* where the run sees its tree (or the directory with the single file) */
	char out[640];      /* ${OUT} */
	char scratch[640];  /* ${SCRATCH} */
	char lower[640], upper[640], work[640]; /* for WORKSPACE_OVERLAY_USERNS: what the sandbox must mount on tree */
	bool read_only;     /* the sandbox must bind tree read-only */
	int lock_fd;
};

/* Best method that works for this cache directory, by trying it. Also a word for logs: workspace_method_word. */
enum workspace_method workspace_probe(const char *cache_dir);
const char *workspace_method_word(enum workspace_method m);

/* Prepares the run's directories from a pinned entry: kind tree → the unpacked tree by the mode's ladder; kind file → a private
 * copy (or reflink) of the blob named file_name in tree/. uid/gid own what the run may write (ignored unless root).
 * Returns 0 and fills *ret_ws; ERR_RETRY (disk full), ERR_INVALID (bad names), ERR_IO. Leaves nothing behind on failure. */
int workspace_open(const char *cache_dir, const char *target_id, const char *run_id, const struct cache_pin *pin,
    const char *file_name, enum workspace_mode mode, enum workspace_method method, uint32_t uid, uint32_t gid,
    struct workspace *ret_ws, struct err *e);

/* Unmounts and removes everything of the run. May be repeated. Returns 0 or ERR_IO (what is left is swept at the next start). */
int workspace_close(struct workspace *ws, struct err *e);

/* Removes the directories of runs whose owner is dead (their lock can be taken). Returns how many, or ERR_IO. */
int workspace_sweep(const char *cache_dir, struct err *e);

#endif
