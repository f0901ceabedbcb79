#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/num.h"
#include "worker/sandbox_wire.h"

#define PROCESSES_MAX 65536

struct process {
	pid_t pid, parent;
	int64_t resident_pages;
	bool below;
};

/* The n-th (from 0) blank-separated word of s as a number, or -1. */
static int64_t
word_number(char *s, int n)
{
	char *save = NULL, *word = strtok_r(s, " ", &save);
	int64_t v = -1;

	while (word != NULL && n-- > 0)
		word = strtok_r(NULL, " ", &save);
	if (word == NULL || num_int(word, 0, INT64_MAX, &v, NULL) != 0)
		return -1;
	return v;
}

/* Reads /proc/PID/stat: parent is the second field after the name, which may itself hold blanks and brackets; resident pages
 * the twenty-second. False if the process is gone. */
static bool
read_process(pid_t pid, struct process *ret)
{
	struct buf b = buf_make(4096);
	char path[64], *after, *copy;
	bool ok = false;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (file_read(AT_FDCWD, path, &b, NULL) == 0 && b.len > 0 && (after = strrchr(b.data, ')')) != NULL) {
		copy = xstrdup(after + 2);
		*ret = (struct process){.pid = pid, .parent = (pid_t)word_number(copy, 1)};
		free(copy);
		copy = xstrdup(after + 2);
		ret->resident_pages = word_number(copy, 21);
		free(copy);
		ok = ret->parent >= 0;
	}
	buf_release(&b);
	return ok;
}

/* All processes that can be seen; the caller frees. */
static struct process *
read_all(size_t *ret_n)
{
	struct process *all = xcalloc(PROCESSES_MAX, sizeof(*all));
	DIR *d = opendir("/proc");
	struct dirent *entry;
	size_t n = 0;

	while (d != NULL && n < PROCESSES_MAX && (entry = readdir(d)) != NULL) {
		int64_t pid;

		if (num_int(entry->d_name, 1, INT32_MAX, &pid, NULL) == 0 && read_process((pid_t)pid, &all[n]))
			n++;
	}
	if (d != NULL)
		closedir(d);
	*ret_n = n;
	return all;
}

static bool
is_below(const struct process *all, size_t n, pid_t pid, pid_t root)
{
	if (pid == root)
		return true;
	for (size_t i = 0; i < n; i++) {
		if (all[i].pid == pid)
			return all[i].below;
	}
	return false;
}

/* Marks everything below root; repeated until nothing changes, since children may be listed before their parents. */
static struct process *
read_below(pid_t root, size_t *ret_n)
{
	struct process *all = read_all(ret_n);
	bool changed = true;

	while (changed) {
		changed = false;
		for (size_t i = 0; i < *ret_n; i++) {
			if (!all[i].below && all[i].pid != root && is_below(all, *ret_n, all[i].parent, root))
				all[i].below = changed = true;
		}
	}
	return all;
}

int64_t
tree_resident_bytes(pid_t root, size_t *ret_processes)
{
	size_t n;
	struct process *all = read_below(root, &n);
	int64_t pages = 0;

	*ret_processes = 0;
	for (size_t i = 0; i < n; i++) {
		*ret_processes += all[i].below;
		pages += all[i].below && all[i].resident_pages > 0 ? all[i].resident_pages : 0;
	}
	free(all);
	return pages * sysconf(_SC_PAGESIZE);
}

/* Returns how many got the signal. */
static size_t
signal_below(int signo)
{
	size_t n, sent = 0;
	struct process *all = read_below(getpid(), &n);

	for (size_t i = 0; i < n; i++)
		sent += all[i].below && kill(all[i].pid, signo) == 0;
	free(all);
	return sent;
}

void
tree_signal(int signo)
{
	(void)signal_below(signo);
}

void
tree_kill_all(void)
{
	/* A process may fork between the listing and the kill; what it leaves comes to us, the subreaper, and is met next round. */
	for (;;) {
		pid_t reaped;

		(void)signal_below(SIGKILL);
		while ((reaped = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (reaped < 0 && errno == ECHILD)
			return;
		poll(NULL, 0, 1);
	}
}
