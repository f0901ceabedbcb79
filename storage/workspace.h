/* workspace.h - the tree that a run sees: private and writable, or shared and read-only.
 *
 * `isolated` and `copy-on-write` use one ladder, tried once per worker: overlayfs (needs CAP_SYS_ADMIN) → overlayfs in the run's
 * user namespace (mounted by the sandbox) → reflink copy → parallel copy. Never hard links. `shared` is the cache's own tree, which
 * the sandbox shows read-only.
 *   CACHE_DIR/<target>/<run>/workspace/  isolated, copy-on-write: goes with the run
 *   CACHE_DIR/<target>/workspace         shared: a link to the cache's tree, kept until that is evicted
 *   CACHE_DIR/<target>/shared            copy-on-write: the same link, to what all runs have in common
 *   CACHE_DIR/ended/                     what ended runs have left, while it is deleted in the background
 * Links and not mounts: they need no rights, outlive no eviction (workspace_names.h), hold no file system, and mean the same in every
 * mount namespace. CACHE_DIR is 0700 and stays so: a run under another uid reaches its tree, out and scratch through the sandbox's
 * binds alone. Overlays show the cache's files as the run's own (idmapped mount), copies are given to it.
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

/* The words of settings, logs and reports. */
const char *workspace_mode_word(enum workspace_mode m);
const char *workspace_method_word(enum workspace_method m);

/* --- of a worker --- */

struct workspaces;

/* Before there are other threads: as root, gives the process a mount namespace of its own, into which the host's mounts still come, so
 * that the overlays of a worker that is killed go with it. Without the right to it nothing happens. */
void workspaces_own_mounts(void);

/* Sweeps what dead workers left in the cache directory (which exists), finds the best method by trying, from `first` on downwards.
 * Several workers may share the directory. NULL with *e (ERR_IO). Its functions may be called by several threads at a time. */
struct workspaces *workspaces_open(const char *cache_dir, enum workspace_method first, struct err *e);

/* Waits until deadline_mono_ms for what is still being deleted; the next start sweeps the rest. NULL is allowed. */
void workspaces_close(struct workspaces *w, int64_t deadline_mono_ms);

/* The method for trees of private runs; single files are copied (or reflinked). */
enum workspace_method workspaces_method(const struct workspaces *w);

/* How tools are confined. own_mounts: each has a mount namespace, in which it sees the cache's files read-only or not at all; else what
 * can be read of a target is looked after at each run. userns: as a plain user, so that the sandbox can mount an overlay for it; else the
 * next method down is used. To be called before the first run. */
void workspaces_confined(struct workspaces *w, bool own_mounts, bool userns);

/* How many runs of dead workers the start swept. */
int workspaces_swept(const struct workspaces *w);

/* --- of a run --- */

struct workspace {
	enum workspace_mode mode;
	enum workspace_method method;
	char run_dir[512];  /* CACHE_DIR/<target>/<run>: holds workspace/, out/, scratch/, and the overlay's parts */
	char tree[640];     /* the name under which the run's tree is known (or of the directory with the single file) */
	char source[640];   /* what the sandbox binds: the tree itself, without links on the way */
	char file[640];     /* a shared single file: what the sandbox binds, under its name, read-only; else "" */
	char out[640];      /* ${OUT} */
	char scratch[640];  /* ${SCRATCH} */
	char lower[640], upper[640], work[640]; /* for WORKSPACE_OVERLAY_USERNS: what the sandbox must mount on the tree */
	bool read_only;     /* the sandbox must bind it read-only */
	int lock_fd;
	int pin_fd;         /* of the cache's tree under an overlay, which is unmounted only after the run has ended; -1: none */
};

struct workspace_want {
	const char *target_id, *run_id;
	const struct cache_pin *pin; /* held until the workspace is closed */
	const char *file_name;       /* of a target that is one file */
	enum workspace_mode mode;
	uint32_t uid, gid;           /* own what the run may write (ignored unless root) */
	const atomic_bool *stop;     /* ends copying, which may take long; NULL: nothing does */
};

/* Prepares the run's directories from a pinned entry: kind tree → the unpacked tree by the mode's ladder; kind file → the blob named
 * file_name in the tree. A method that fails makes way for the next; ret_ws->method says which it was.
 * Returns 0 and fills *ret_ws; ERR_RETRY (disk full), ERR_INVALID (bad names), ERR_CONFLICT (the run is at work here already),
 * ERR_CANCELED, ERR_IO.
 * Leaves nothing behind on failure. */
int workspace_open(struct workspaces *w, const struct workspace_want *want, struct workspace *ret_ws, struct err *e);

/* Whether the run has had the whole target to look at, as far as another tool could have hidden some of it meanwhile. Returns 0, ERR_RETRY
 * (something was hidden, and is not any more) or ERR_IO. */
int workspace_check(struct workspaces *w, const struct workspace *ws, struct err *e);

/* Takes the run's directory out of sight; unmounting and deleting go on in the background, or here when too much of that is waiting
 * already. The caller may release its pin. May be repeated. Returns 0 or ERR_IO (what is left is swept at the next start). */
int workspace_close(struct workspaces *w, struct workspace *ws, struct err *e);

#endif
