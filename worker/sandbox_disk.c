/* How much a step has written: no quota of the kernel's is at hand everywhere, so its folders are looked through while it runs. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/num.h"
#include "worker/sandbox_wire.h"

#define NAME_BYTES 1024 /* charged for every name: empty files fill a disk as well */
#define DEPTH_MAX 200   /* one open directory each; deeper than any honest tree */
#define LOOK_UP_EVERY 512
#define PAUSE_MS 500

/* Whether the worker wants us to stop. */
static bool
called(void)
{
	sigset_t pending;

	return sigpending(&pending) == 0 && sigismember(&pending, SIGTERM) == 1;
}

/* A directory of the program's own, whose mode it may have changed to hide what is in it. */
static int
open_dir(int dirfd, const char *name)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dirfd, name, flags);

	if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, 0700, AT_SYMLINK_NOFOLLOW) == 0)
		fd = openat(dirfd, name, flags);
	return fd;
}

/* The sum never wraps: what is too deep counts as more than any limit. */
static void
charge(struct disk_watch *w, int64_t bytes)
{
	w->sum_bytes = bytes > INT64_MAX - w->sum_bytes ? INT64_MAX : w->sum_bytes + bytes;
}

/* Adds up what is below; takes fd. Stops as soon as the sum is over the limit. */
static void
add_up(struct disk_watch *w, int fd, int depth)
{
	DIR *d = fdopendir(fd);
	struct dirent *entry;

	if (d == NULL) {
		close(fd);
		return;
	}
	rewinddir(d);
	while (w->sum_bytes <= w->stop_at_bytes && !w->called && (entry = readdir(d)) != NULL) {
		struct stat st;
		int sub;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (++w->entries % LOOK_UP_EVERY == 0)
			w->called = called();
		if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue; /* gone */
		charge(w, (int64_t)st.st_blocks * 512 + NAME_BYTES);
		if (!S_ISDIR(st.st_mode))
			continue;
		if (depth == DEPTH_MAX)
			w->sum_bytes = INT64_MAX; /* nothing is looked for deeper, so nothing may be put there */
		else if ((sub = open_dir(dirfd(d), entry->d_name)) >= 0)
			add_up(w, sub, depth + 1);
	}
	closedir(d);
}

/* A file that is open in several processes is charged once, as far as we remember. */
static bool
seen_before(struct disk_watch *w, const struct stat *st)
{
	for (size_t i = 0; i < w->n_seen; i++) {
		if (w->seen[i].dev == st->st_dev && w->seen[i].ino == st->st_ino)
			return true;
	}
	if (w->n_seen < DISK_SEEN_MAX)
		w->seen[w->n_seen++] = (struct disk_file){.dev = st->st_dev, .ino = st->st_ino};
	return false;
}

/* Files of one process that have no name (any more): no folder shows them. */
static void
add_nameless(struct disk_watch *w, int proc_fd, const char *pid)
{
	char path[280];
	struct dirent *entry;
	DIR *d;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/fd", pid);
	fd = openat(proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd >= 0 ? fdopendir(fd) : NULL;
	while (d != NULL && w->sum_bytes <= w->stop_at_bytes && (entry = readdir(d)) != NULL) {
		struct stat st;

		if (fstatat(dirfd(d), entry->d_name, &st, 0) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 0 && !seen_before(w, &st))
			charge(w, (int64_t)st.st_blocks * 512);
	}
	if (d != NULL)
		closedir(d);
	else if (fd >= 0)
		close(fd);
}

/* Inside a pid namespace all processes but us are the program's. */
static void
add_open_files(struct disk_watch *w)
{
	DIR *d = opendir("/proc");
	struct dirent *entry;

	w->n_seen = 0;
	while (d != NULL && (entry = readdir(d)) != NULL) {
		int64_t pid;

		if (num_int(entry->d_name, 1, INT32_MAX, &pid, NULL) == 0 && pid != getpid())
			add_nameless(w, dirfd(d), entry->d_name);
	}
	if (d != NULL)
		closedir(d);
}

/* The sum of all folders, or -1 when the worker calls. */
static int64_t
measure(struct disk_watch *w, int64_t stop_at_bytes)
{
	w->sum_bytes = 0;
	w->stop_at_bytes = stop_at_bytes;
	w->called = false;
	for (size_t i = 0; i < DISK_FOLDERS_MAX; i++) {
		int fd = w->fds[i] >= 0 ? openat(w->fds[i], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

		if (fd >= 0)
			add_up(w, fd, 0);
	}
	if (w->inside)
		add_open_files(w);
	return w->called ? -1 : w->sum_bytes;
}

void
disk_open(struct disk_watch *w, const struct box *b, const char *root)
{
	const struct sandbox_paths *p = &b->paths;
	const char *layer = p->upper[0] != '\0' ? p->upper : p->target;
	const char *const paths[DISK_FOLDERS_MAX] = {p->out, p->scratch, p->target_read_only ? "" : layer};

	*w = (struct disk_watch){.limit_bytes = b->limits.disk_bytes};
	for (size_t i = 0; i < DISK_FOLDERS_MAX; i++) {
		char at[1200];
		bool wanted = w->limit_bytes > 0 && paths[i][0] != '\0' && snprintf(at, sizeof(at), "%s%s", root, paths[i]) < (int)sizeof(at);

		w->fds[i] = wanted ? open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	}
	if (w->limit_bytes > 0)
		w->before_bytes = measure(w, INT64_MAX);
	w->inside = b->caps.rung == RUNG_USER || b->caps.rung == RUNG_ROOT; /* from now on: the program's processes, not the host's */
	/* A tree too deep to look into is over every limit, whoever made it: it must not raise this step's. */
	if (w->before_bytes < 0 || w->before_bytes == INT64_MAX)
		w->before_bytes = 0;
}

bool
disk_is_over(struct disk_watch *w)
{
	int64_t now_mono_ms = clock_mono_ms(), written;

	if (w->limit_bytes == 0 || now_mono_ms < w->next_mono_ms)
		return false;
	written = measure(w, w->before_bytes + w->limit_bytes) - w->before_bytes;
	/* At most a tenth of our time goes into looking. */
	w->next_mono_ms = clock_mono_ms() + PAUSE_MS + 9 * (clock_mono_ms() - now_mono_ms);
	return written > w->limit_bytes;
}
