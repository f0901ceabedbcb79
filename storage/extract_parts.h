/* extract_parts.h - what the files extract*.c share; nobody else includes it. All of it runs in the helper, one thread.
 *
 * An archive's names never reach the kernel as they are: extract_name_clean makes a path of plain components, and
 * extract_tree walks it one component at a time, O_NOFOLLOW, from the root's descriptor.
 */
#ifndef STORAGE_EXTRACT_PARTS_H
#define STORAGE_EXTRACT_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/extract.h"

#define EXTRACT_PATH_MAX 4096  /* ceiling of limits.max_name_bytes */
#define EXTRACT_DEPTH_MAX 256  /* ceiling of limits.max_depth: one descriptor per level */
#define EXTRACT_COMPONENT_MAX 255
#define EXTRACT_QUOTE_LEN 112

#define EXTRACT_DISK_BLOCK 4096 /* what disk_bytes is counted in */
#define EXTRACT_HINT_DISK "free space on the cache's disk, or give CACHE_DIR a larger one"

#if defined(__SANITIZE_ADDRESS__)
#define EXTRACT_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EXTRACT_SANITIZED 1
#endif
#endif
#ifndef EXTRACT_SANITIZED
#define EXTRACT_SANITIZED 0
#endif

/* True if every limit is set and inside what the walk can keep. */
bool extract_limits_valid(const struct extract_limits *l);

/* --- limits --- */

struct extract_count { /* the first fields are filled by the walk, the others are 0 at first */
	const struct extract_limits *limits;
	const struct extract_watch *watch; /* may be NULL */
	int dir_fd;
	int64_t in_bytes; /* of the archive */
	int64_t deadline_mono_ms;
	struct extract_result made, told;
};

/* Before anything is made. Returns 0, ERR_TOOBIG, ERR_RETRY (below a floor), ERR_IO. */
int extract_count_start(struct extract_count *c, struct err *e);

/* Count what is about to be made; from time to time look at the floors and tell the watch. _disk: blocks of
 * EXTRACT_DISK_BLOCK, _entries: entries with a block each, _bytes: `more` bytes of a file of file_bytes by now.
 * Return 0, ERR_TOOBIG, ERR_INVALID (negative), ERR_TIMEOUT, ERR_RETRY, ERR_IO, or what the watch returned. */
int extract_count_disk(struct extract_count *c, int64_t blocks, struct err *e);
int extract_count_entries(struct extract_count *c, int64_t more, struct err *e);
int extract_count_bytes(struct extract_count *c, int64_t file_bytes, int64_t more, struct err *e);

/* Whether the archive may become so many bytes. Returns 0 or ERR_TOOBIG. */
int extract_count_ratio(const struct extract_count *c, int64_t out_bytes, struct err *e);

/* --- names --- */

/* Writes name for a person: quoted, cut, everything that is not printable ASCII or plain UTF-8 escaped. Returns out. */
const char *extract_quote(const char *name, char out[EXTRACT_QUOTE_LEN]);

/* Makes out (EXTRACT_PATH_MAX + 1 bytes) of an entry's raw name: components joined by single slashes, "" for the root itself.
 * Returns 0 and the number of components, or ERR_INVALID / ERR_TOOBIG with the rule in *e. */
int extract_name_clean(const char *raw, const struct extract_limits *l, char *out, unsigned *ret_parts, struct err *e);

/* Whether a symbolic link at the clean path `link` may hold target: relative and, read as text, inside the root. *ret_verify is
 * set where text is no proof (".." after a name, which may be a link itself): then the made link must be resolved.
 * Returns 0 or ERR_INVALID. */
int extract_link_check(const char *link, const char *target, bool *ret_verify, struct err *e);

/* --- zip --- */

struct extract_zip; /* opaque: the directory of a zip that was found sound */

/* Compares the two headers of every file of the zip open at fd, and sees to it that files do not overlap. Returns 0 and
 * *ret_zip (extract_zip_free; fd stays the caller's), ERR_INVALID, ERR_TOOBIG. */
int extract_zip_open(int fd, int64_t size, const struct extract_limits *l, struct extract_zip **ret_zip, struct err *e);
void extract_zip_free(struct extract_zip *z); /* NULL is allowed */

/* How many files the zip has. */
int64_t extract_zip_files(const struct extract_zip *z);

/* Name of the next file in the order of their places in the zip, which is libarchive's. theirs: what libarchive has for it,
 * NULL if nothing. Valid until the next call; NULL after the last, or if theirs is of another file. */
const char *extract_zip_next(struct extract_zip *z, const char *theirs);

/* --- the tree being made --- */

struct extract_tree; /* opaque: the root and the open directories from it to where the last entry was */

/* dir_fd stays the caller's. Never NULL; free accepts NULL. made counts the directories made on the way. Names are opened by
 * openat2, which the kernel keeps below dir_fd, or where it has none (Linux < 5.6) component by component, no link followed. */
struct extract_tree *extract_tree_new(int dir_fd);
void extract_tree_free(struct extract_tree *t);
int64_t extract_tree_dirs_made(const struct extract_tree *t);

/* Make one entry; paths are clean. File modes are 0644 and the archive's x bits, directories 0755. extract_tree_file returns a
 * descriptor (>= 0) open for writing; the others 0. extract_tree_link sets the size of the file that got another name.
 * ERR_INVALID (name taken, path through a file, link target is no file of this archive), ERR_RETRY (disk full), ERR_IO. */
int extract_tree_dir(struct extract_tree *t, const char *path, struct err *e);
int extract_tree_file(struct extract_tree *t, const char *path, unsigned mode, struct err *e);
int extract_tree_link(struct extract_tree *t, const char *path, const char *target, int64_t *ret_size, struct err *e);
int extract_tree_symlink(struct extract_tree *t, const char *path, const char *target, struct err *e);

/* Counts the directories made that no entry of their own stands for (own_dirs do): they cost as much. Errors of
 * extract_count_entries. */
int extract_tree_count_dirs(struct extract_tree *t, int64_t own_dirs, struct extract_count *c, struct err *e);

/* Resolves a made link for real. Returns 0, or ERR_INVALID (the link is removed) if that leaves the root or leads nowhere. */
int extract_tree_verify(struct extract_tree *t, const char *path, struct err *e);

/* The code for an errno of a write: ERR_RETRY for a full disk, ERR_TOOBIG for a file limit, else ERR_IO; message in *e. */
int extract_errno(struct err *e, const char *what);

/* --- symbolic links, made last --- */

struct extract_links; /* opaque */

/* Never NULL. */
struct extract_links *extract_links_new(void);
void extract_links_free(struct extract_links *k); /* NULL is allowed */

/* Keeps a link (texts are copied), if its target is none that leads out by its text. Returns 0, ERR_INVALID, ERR_TOOBIG (all texts
 * together have more than max_bytes). */
int extract_links_keep(struct extract_links *k, const char *path, const char *target, int64_t max_bytes, struct err *e);

/* Makes them all and counts the directories on their way. On failure *ret_path is the link's (valid until free). Returns 0, or what
 * extract_tree_symlink, _verify and _count_dirs return. */
int extract_links_make(const struct extract_links *k, struct extract_tree *t, int64_t own_dirs, struct extract_count *c,
    const char **ret_path, struct err *e);

/* --- confinement --- */

enum extract_guard { /* what holds, as bits; told to the parent */
	GUARD_LIMITS = 1, GUARD_NETNS = 2, GUARD_UID = 4, GUARD_LANDLOCK = 8, GUARD_SECCOMP = 16, GUARD_CHROOT = 32
};

/* Gives up whatever the walk does not need: limits, network, uid, file system outside dir_fd, system calls. As a plain user
 * GUARD_NETNS, GUARD_CHROOT and GUARD_UID cannot be had; GUARD_SECCOMP (which leaves no sockets) and GUARD_LIMITS always hold.
 * Returns the guards that hold (>= 0), or ERR_DENIED when root could not become uid/gid or there is no seccomp, ERR_IO. Cannot
 * be undone. */
int extract_confine(int dir_fd, uint32_t uid, uint32_t gid, const struct extract_limits *l, struct err *e);

#endif
