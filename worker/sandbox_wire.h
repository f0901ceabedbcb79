/* sandbox_wire.h - what sandbox.c and its helper process say to each other, over a socket that is the helper's descriptor 0: first
 * the frame, what does not depend on the program, so that the helper can build it ahead of time; then the order, with the
 * program's descriptors; then exactly one struct box_end comes back. A socket that is closed in place of the order ends the helper.
 * Between the files sandbox*.c alone. */
#ifndef WORKER_SANDBOX_WIRE_H
#define WORKER_SANDBOX_WIRE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "worker/cgroup.h"
#include "worker/sandbox.h"

#define BOX_ORDER_MAX (1024 * 1024)
#define BOX_MAGIC 0x626f7831 /* "box1" */

enum box_fd { BOX_OUT, BOX_ERR, BOX_PROGRESS, BOX_TARGET, BOX_FDS }; /* BOX_TARGET: a mount, see sandbox.c */

#define BOX_HELPER "--sandbox"
#define BOX_MOTHER "--sandbox-mother"

struct box_filter; /* a compiled seccomp filter */

struct box { /* frame and order, in the helper; texts are owned by the JSON */
	json_t *frame, *json;
	int fds[BOX_FDS];   /* came with the order; -1: none */
	struct sandbox_caps caps;
	char **argv, **env; /* arrays owned */
	struct sandbox_paths paths;
	struct sandbox_limits limits;
	struct cgroup cgroup;
	uid_t uid;
	gid_t gid;
	bool egress, has_progress;
	const struct box_filter *filter; /* made ahead for just this frame; NULL: made when it is needed */
};

struct box_end {
	uint32_t magic;
	int32_t failed;     /* 0, or an ERR_* of the set-up with text */
	char text[240];
	int32_t exited, code, signo, oom, disk;
	int64_t user_ms, system_ms, max_rss_bytes;
};

/* Sends the frame / the order, with its descriptors (fds[BOX_TARGET] may be -1). Returns 0, ERR_INVALID (not UTF-8) or ERR_IO. */
int box_send_frame(int link, const struct sandbox_caps *caps, bool egress, const char *toolchain, const struct cgroup *g, struct err *e);
int box_send_order(int link, const struct sandbox_spec *s, int target_fd, struct err *e);

/* The helper's side: zeroes *b and reads the frame; adds the order. Blocks. Returns 0, ERR_CANCELED (the worker has let go), ERR_INVALID
 * or ERR_IO; box_release in each case. */
int box_receive_frame(int link, struct box *b, struct err *e);
int box_receive_order(int link, struct box *b, struct err *e);
void box_release(struct box *b);

/* --- sandbox_mother.c: --- */

/* In the helper: takes the socket of the next helper from link. Returns it, or -1 when nobody wants any more. */
int mother_next(int link);

/* Forks a helper, which becomes a child of the worker, and tells it its number. Returns 0 in the helper, else what fork returns. */
int mother_give_birth(int link, pid_t worker);

/* --- sandbox_mount.c: a root of its own (rungs 1 and 3), in a fresh mount namespace. Returns 0 or ERR_IO. --- */

/* What the frame says, with the host's root still at BOX_OLD_ROOT; and the rest, by the order, without it. */
#define BOX_OLD_ROOT "/.old"
int box_prepare_root(const struct box *b, struct err *e);
int box_finish_root(const struct box *b, struct err *e);

/* Brings the loopback interface of a fresh network namespace up. Best effort. */
void box_loopback_up(void);

/* --- sandbox_confine.c: the last steps in the process that becomes the program; each only takes away. 0 or ERR_IO. --- */
int box_set_limits(const struct box *b, struct err *e);
int box_drop_rights(const struct box *b, struct err *e);
int box_landlock(const struct box *b, struct err *e);
int box_landlock_abi(void);

/* --- sandbox_seccomp.c --- */
int box_seccomp(const struct box *b, struct err *e);

/* The filter for this frame, kept for helpers that will get the same; NULL where none can be made. For the life of the process. */
const struct box_filter *box_filter_make(const struct box *b);

/* Whether it is the one that b's frame asks for. */
bool box_filter_fits(const struct box_filter *f, const struct box *b);

/* --- sandbox_disk.c: how much the program has written to its folders --- */
#define DISK_FOLDERS_MAX 3

#define DISK_SEEN_MAX 1024

struct disk_file {
	dev_t dev;
	ino_t ino;
};

struct disk_watch {
	int fds[DISK_FOLDERS_MAX]; /* -1: none */
	int64_t limit_bytes;       /* 0: nothing is watched */
	int64_t before_bytes;      /* what was there before the program */
	int64_t next_mono_ms;
	/* Of the measuring that goes on. */
	int64_t sum_bytes, stop_at_bytes;
	size_t entries;
	bool called;
	bool inside;               /* a pid namespace: what its processes hold open counts as well */
	struct disk_file seen[DISK_SEEN_MAX];
	size_t n_seen;
};

/* Opens the folders while the host's paths are still known (below root, "" or BOX_OLD_ROOT), and takes the measure of what is there. */
void disk_open(struct disk_watch *w, const struct box *b, const char *root);

/* Whether more than the limit was written since; looks only now and then. A SIGTERM that waits (blocked) cuts it short. */
bool disk_is_over(struct disk_watch *w);

/* --- sandbox_tree.c: processes below us, for rungs without a pid namespace or a cgroup --- */

/* Resident bytes of all processes below (not of) the process `root`, and how many there are; 0 when /proc cannot be read. */
int64_t tree_resident_bytes(pid_t root, size_t *ret_processes);

/* Kills all processes below us with SIGKILL and reaps them, until none is left (we must be a subreaper). */
void tree_kill_all(void);

/* Sends a signal to all processes below us. */
void tree_signal(int signo);

#endif
