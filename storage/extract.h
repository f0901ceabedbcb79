/* extract.h - unpacking a hostile archive into an empty directory, in a confined helper process.
 *
 * tar (ustar, GNU, PAX, sparse) plain or with gzip, bzip2, xz, zstd (one of them, once), and zip. Headers are walked by us;
 * paths are entered one component at a time (O_NOFOLLOW), symbolic links made last and only where they stay inside; devices,
 * fifos, sockets, absolute names, "..", names that are not UTF-8, whiteouts, duplicates, encrypted entries, a zip whose two
 * names of a file differ, hard links to anything but a regular file that came before are refused. Modes become 0755 for
 * directories, 0644 and the x bits for files; owners, attributes and ACLs are dropped, times kept within 1970..2100. Bytes
 * after the end of an archive are ignored, as tar and unzip do. The first refusal ends the extraction: ERR_INVALID names the
 * entry and the rule, and the caller removes the directory.
 */
#ifndef STORAGE_EXTRACT_H
#define STORAGE_EXTRACT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct extract_limits { /* 0 is not a limit but an error, except for the floors: fill all; extract_limits_default() */
	int64_t max_archive_bytes; /* the archive itself */
	int64_t max_bytes;         /* apparent size of all files together: holes count, a hard link counts like a copy */
	int64_t max_disk_bytes;    /* what the tree takes on a disk: see extract_result */
	int64_t max_file_bytes;    /* of one file, apparent */
	int64_t max_entries;       /* files, directories (also those that only names imply) and links */
	int64_t max_ratio;         /* output over input, checked above 64 MiB of output */
	int64_t max_depth;         /* directories below each other */
	int64_t max_name_bytes;    /* whole path; one component is at most 255 */
	int64_t max_memory_bytes;  /* address space of the helper */
	int64_t max_cpu_ms;        /* processor time of the helper; the kernel counts whole seconds */
	int64_t timeout_ms;
	int64_t min_free_bytes, min_free_inodes; /* of the file system, left alone: below it ERR_RETRY; 0: none */
};

struct extract_result {
	int64_t entries, bytes; /* as the limits count them */
	int64_t disk_bytes;     /* blocks of 4 KiB that data was written to, and one for each entry */
	int64_t took_ms;
};

/* Told how much there is while the tree grows, about every 16 MiB and every 1,000 entries. A result that is not 0 (with *e
 * filled) ends the extraction, which returns it. */
struct extract_watch {
	int (*grew)(void *arg, int64_t disk_bytes, int64_t entries, struct err *e);
	void *arg;
};

/* The defaults of the worker's EXTRACT_* settings, without floors. */
struct extract_limits extract_limits_default(void);

/* Kinds by content, never by name. */
enum target_kind { TARGET_FILE, TARGET_ARCHIVE };

/* Looks at the first bytes of the file (fd is read with pread): an archive that extract takes, or a plain file. An APK, JAR or
 * IPA is a zip: whether it is unpacked is the caller's choice. */
enum target_kind extract_probe(int fd);

/* Unpacks the archive open at fd (read from its start) into the empty directory dir_fd, using a helper process that runs the
 * current executable with argv "--extract" (its main calls extract_helper_main first of all). As root the helper takes
 * the uid/gid given (must own dir_fd); otherwise they are ignored. watch may be NULL; it is called by this thread while the
 * helper goes on. Blocks; worker threads only. After a failure the directory is empty again.
 * Returns 0 and *ret_result, ERR_INVALID (hostile, broken or not an archive), ERR_TOOBIG (over a limit), ERR_TIMEOUT,
 * ERR_CANCELED, ERR_RETRY (disk full, below a floor, or the helper was killed), ERR_CONFLICT (dir_fd is not empty), ERR_DENIED
 * (the helper could not be confined), ERR_IO, or what watch returned. */
int extract_archive(int fd, int dir_fd, uint32_t uid, uint32_t gid, const struct extract_limits *limits,
    const struct extract_watch *watch, const atomic_bool *stop, struct extract_result *ret_result, struct err *e);

/* If argv asks for the helper ("--extract"), runs it and ends the process; else returns -1. Call first in main; a status >= 0 is
 * for main to return. */
int extract_helper_main(int argc, char **argv);

/* The walk itself, without process or confinement, for the helper and for fuzzing: same limits and errors, except for those
 * on memory and processor time; what it made before a failure stays. */
int extract_walk(int fd, int dir_fd, const struct extract_limits *limits, const struct extract_watch *watch,
    struct extract_result *ret_result, struct err *e);

#endif
