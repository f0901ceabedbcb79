/* workspace_parts.h - what the files workspace*.c share; nobody else includes it. */
#ifndef STORAGE_WORKSPACE_PARTS_H
#define STORAGE_WORKSPACE_PARTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "storage/workspace.h"

#define WORKSPACE_LOCK_SUFFIX ".lock"
#define WORKSPACE_ID_MAX 128

#define MAPPINGS_MAX 128 /* one a slot, of which there are at most 64, and one for the trial */

struct ending; /* workspace_end.c */

/* User namespaces that map the owner of the cache's trees to a slot's user. Making one takes a fork of the whole process: they
 * are kept. */
struct mappings {
	pthread_mutex_t mutex;
	unsigned n;
	struct mapping {
		uint32_t from_uid, to_uid, from_gid, to_gid;
		int fd;
	} list[MAPPINGS_MAX];
};

struct workspaces {
	char *cache_dir;
	enum workspace_method method;
	struct ending *ending;
	struct mappings mappings;
	int swept;
	bool exposed; /* tools can reach the cache's files as their owner */
};

/* Whether a target's or run's id can be the name of a directory in the cache directory. */
bool workspace_id_valid(const char *s);

/* --- ending (workspace_end.c) --- */

/* Makes CACHE_DIR/ended/, and the thread that deletes what is in it as soon as there is something. NULL with *e: ERR_IO. */
struct ending *ending_new(const char *cache_dir, struct err *e);

/* As workspaces_close. NULL is allowed. */
void ending_free(struct ending *n, int64_t deadline_mono_ms);

/* Takes away run_dir, which may be gone already; it is unmounted, and pin_fd (-1: none) closed after that, in the background.
 * The caller holds the run's lock. Returns 0 or ERR_IO. */
int ending_take(struct ending *n, const char *run_dir, int pin_fd, struct err *e);

/* The same in the foreground, without the rename. Closes pin_fd. */
int ending_take_now(const char *run_dir, int pin_fd, struct err *e);

/* The end of a run's lock, and of the target's directory if it was the last. */
void ending_drop_lock(const char *run_dir, int lock_fd);

/* Takes away the directories of runs whose owner is dead (their lock can be taken). Returns how many, or ERR_IO. */
int ending_sweep(struct ending *n, const char *cache_dir, struct err *e);

/* --- copying (workspace_copy.c) --- */

struct copy_options {
	bool reflink;      /* share blocks where the file system can; else copy bytes */
	bool chown;        /* give everything to uid/gid */
	uint32_t uid, gid;
	const atomic_bool *stop; /* may be NULL */
};

/* Copies the tree at from_fd into the empty directory to_fd, with several threads; holes, hard links as files of their own,
 * symbolic links, modes (owner may always write) and times are kept. ERR_RETRY (disk full), ERR_CANCELED, ERR_IO. */
int copy_tree(int from_fd, int to_fd, const struct copy_options *o, struct err *e);

/* Copies one file to a new name in to_dir_fd. Same errors. */
int copy_file(int from_fd, int to_dir_fd, const char *name, uint32_t mode, const struct copy_options *o, struct err *e);

/* Whether blocks can be shared between files of the directory. */
bool copy_reflink_works(int dir_fd);

/* --- mending (workspace_mend.c) --- */

/* Makes the tree or file at path, which lies in the cache directory, readable for its owner again. Returns how many modes it
 * changed, or ERR_IO. */
int workspace_mend(const char *cache_dir, const char *path, struct err *e);

/* --- mounting (workspace_mount.c) --- */

/* Mounts lower and upper at tree. Files of lower appear as uid's where they belong to someone else: by an idmapped mount, also
 * at tree, which the overlay then covers; unmount_all takes both. ERR_IO when the kernel cannot. */
int overlay_mount(struct mappings *m, const char *lower, const char *upper, const char *work, const char *tree, uint32_t uid,
    uint32_t gid, struct err *e);

/* Unmounts whatever is mounted at path, as often as something is. False if it is still in the way. */
bool unmount_all(const char *path);

/* Whether overlays can be mounted in the empty directory dir of a run: by us (as root; the caller unmounts), or in a user
 * namespace of our own (tried in a child). */
bool overlay_works(struct mappings *m, const char *dir);
bool overlay_userns_works(struct mappings *m, const char *dir);

/* Closes what is kept. */
void mappings_release(struct mappings *m);

#endif
