/* sandbox.h - running one step's program with a hostile target, so that it sees its own files, uses no more than its share, and
 * leaves nothing running (DESIGN §7).
 *
 *   rung 3  the worker is root: own pid, mount, net, ipc and uts namespaces, a root of its own, one uid per slot, cgroup
 *   rung 1  plain user: the same inside a user namespace, memory watched instead of a cgroup
 *   rung 2  inside a container that lets us make no namespaces: the files by Landlock, sockets by seccomp
 *   rung 0  none of it works here (refused unless SANDBOX=none)
 * On every rung: no_new_privs, no capabilities, Landlock where the kernel has it, seccomp, rlimits, a cleared environment, and the
 * whole process tree killed at the end, also what called setsid.
 *
 * The step is started by a helper: drover-sandbox beside the current executable, or that itself, with argv "--sandbox",
 * single-threaded, which sets everything up and becomes the parent (and in its pid namespace the init) of the program. Helpers may be
 * kept in stock: started, with namespaces and root built as far as they do not depend on the program. Each serves one program and ends
 * with it; nothing of one is ever another's. Blocking; any thread, but one sandbox is used by one thread at a time.
 */
#ifndef WORKER_SANDBOX_H
#define WORKER_SANDBOX_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/proc.h"

#define SANDBOX_PATHS_MAX 16

/* Where things are inside on rungs 1 and 3; on rung 2 the host's paths are used. */
#define SANDBOX_TARGET "/drover/target"
#define SANDBOX_OUT "/drover/out"
#define SANDBOX_SCRATCH "/drover/scratch"
#define SANDBOX_WORKFLOW "/drover/workflow"
#define SANDBOX_PARAMS "/drover/params.json"

enum sandbox_rung { RUNG_NONE, RUNG_USER, RUNG_CONTAINER, RUNG_ROOT };

struct sandbox_caps { /* what works here; probed once at start by trying it */
	enum sandbox_rung rung;
	int landlock_abi;   /* 0: none */
	bool seccomp;
	bool netns;         /* an empty network is possible */
	int cgroup;         /* 0 none, 1, 2: version in which limits can be set */
	char why[256];      /* why not a better rung */
};

struct sandbox_paths { /* host paths; "" where absent */
	const char *target;        /* the tree, or the directory that holds the single file */
	const char *file, *file_name; /* a target that is one file: bound read-only as file_name in place of target; NULL: none */
	bool target_read_only;
	const char *lower, *work; /* overlay to be mounted on target in the user namespace; NULL: it is ready */
	const char *upper;        /* of an overlay: where what is written to target ends up; NULL: in target */
	const char *out, *scratch; /* writable */
	const char *workflow;      /* the bundle, read-only */
	const char *params;        /* file, read-only */
	const char *toolchain;     /* read-only, seen at the same path inside */
};

struct sandbox_limits { /* all > 0 but disk_bytes */
	int64_t memory_bytes, cpu_millis, processes, file_bytes, open_files;
	int64_t grace_ms; /* between SIGTERM and SIGKILL when stopped */
	int64_t disk_bytes; /* all that it writes to out, scratch and target, looked at about twice a second; 0: no limit */
};

struct sandbox_stock;

struct sandbox_spec {
	const struct sandbox_caps *caps;
	struct sandbox_stock *stock;  /* NULL: everything is built now */
	const char *name;             /* for the cgroup of what is built now: "<run>-<step>" */
	const char *const *argv;      /* NULL-terminated; argv[0] by PATH of env, inside */
	const char *const *env;       /* NULL-terminated, complete */
	struct sandbox_paths paths;
	struct sandbox_limits limits;
	uid_t uid;                    /* rung 3: who the program is */
	gid_t gid;
	bool egress;                  /* may use the network */
	int out_fd, err_fd;           /* stdout and stderr; not closed */
	int progress_fd;              /* becomes descriptor 3; -1: none */
};

struct sandbox_end {
	bool exited;      /* code is valid; else killed by signo */
	int code, signo;
	bool oom;         /* over memory_bytes */
	bool disk;        /* over disk_bytes */
	bool stopped;     /* sandbox_stop was called before it ended by itself */
	int64_t user_ms, system_ms, max_rss_bytes;
};

struct sandbox;

/* Tries what works; takes some milliseconds. */
void sandbox_probe(struct sandbox_caps *ret);

/* As in the API: {"rung":3,"features":["pidns",…],"why":"…"}. New reference. */
json_t *sandbox_json(const struct sandbox_caps *c);

/* The path inside for a host path of spec->paths ("/drover/out" or the host's own on rung 2). */
const char *sandbox_inside(const struct sandbox_caps *c, const char *inside, const char *host);

/* Starts the program. Returns 0 and *ret, or ERR_NOTFOUND (no such program inside), ERR_INVALID, ERR_IO. */
int sandbox_start(const struct sandbox_spec *spec, struct sandbox **ret, struct err *e);

/* Asks the program to end: SIGTERM to all of it, SIGKILL after grace_ms. May be repeated, also after the end. */
void sandbox_stop(struct sandbox *s);

/* Waits for the end until deadline_mono_ms. Returns 0 (everything of it is gone, *ret_end filled), ERR_TIMEOUT (still running), or
 * ERR_IO (the helper failed; everything of it is gone as well). */
int sandbox_wait(struct sandbox *s, int64_t deadline_mono_ms, struct sandbox_end *ret_end, struct err *e);

/* Kills what still runs, waits for it, removes the cgroup. NULL is allowed. */
void sandbox_free(struct sandbox *s);

/* A stock of n helpers for programs without network, made by a thread of its own, for these caps and this toolchain ("": none; both
 * copied): other programs are not served from it. renewed: whether others take the place of those that were taken or are too old. Free
 * it after the last sandbox. NULL-safe free. */
struct sandbox_stock *sandbox_stock_new(const struct sandbox_caps *caps, const char *toolchain, unsigned n, bool renewed);

/* How many there are. */
unsigned sandbox_stock_ready(struct sandbox_stock *k);
void sandbox_stock_free(struct sandbox_stock *k);

/* If argv asks for the helper ("--sandbox"), runs it and returns its exit status (>= 0); else -1. Call first in main. */
int sandbox_helper_main(int argc, char **argv);

#endif
