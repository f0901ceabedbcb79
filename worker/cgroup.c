#include "worker/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/num.h"

#define ROOT "/sys/fs/cgroup"
#define PROBE_BYTES (64ll * 1024 * 1024)
#define LEAF "drover-worker" /* v2: where the worker itself moves, since inner groups must be empty */
#define REMOVE_TRIES 50
#define PREFIX "drover-"

static const char *const v1_controllers[CGROUP_DIRS_MAX] = {"memory", "pids", "cpu"};

/* Writes a short value to DIR/FILE. Returns 0 or -1. */
static int
put(const char *dir, const char *file, const char *value)
{
	char path[640];
	int fd, ok;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ok = write(fd, value, strlen(value)) == (ssize_t)strlen(value);
	close(fd);
	return ok ? 0 : -1;
}

static int
put_number(const char *dir, const char *file, int64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", (long long)value);
	return put(dir, file, text);
}

/* The number after "KEY " in DIR/FILE, or 0. */
static int64_t
get_number(const char *dir, const char *file, const char *key)
{
	struct buf b = buf_make(16384);
	char path[640], word[64], *line, *save = NULL;
	int64_t value = 0;
	size_t len = (size_t)snprintf(word, sizeof(word), "%s ", key);

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	if (file_read(AT_FDCWD, path, &b, NULL) == 0 && b.len > 0) {
		for (line = strtok_r(b.data, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
			if (strncmp(line, word, len) == 0)
				(void)num_int(line + len, 0, INT64_MAX, &value, NULL); /* not a number: 0 */
		}
	}
	buf_release(&b);
	return value;
}

/* Our own group's folder for a v1 controller, or for v2 (controller ""), from /proc/self/cgroup. Returns 0 or -1. */
static int
own_dir(const char *controller, char *out, size_t out_len)
{
	struct buf b = buf_make(65536);
	char *line, *save = NULL;
	int rc = -1;

	if (file_read(AT_FDCWD, "/proc/self/cgroup", &b, NULL) != 0 || b.len == 0)
		goto out;
	for (line = strtok_r(b.data, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		char *list = strchr(line, ':'), *path = list != NULL ? strchr(list + 1, ':') : NULL, *name, *save_name = NULL;

		if (path == NULL)
			continue;
		*path++ = '\0';
		if (controller[0] == '\0') { /* "0::/path" */
			if (list[1] == '\0' && snprintf(out, out_len, ROOT "%s", path) < (int)out_len)
				rc = 0;
			continue;
		}
		for (name = strtok_r(list + 1, ",", &save_name); name != NULL; name = strtok_r(NULL, ",", &save_name)) {
			if (strcmp(name, controller) == 0 && snprintf(out, out_len, ROOT "/%s%s", controller, path) < (int)out_len)
				rc = 0;
		}
	}
out:
	buf_release(&b);
	return rc;
}

static int
make_v1(const char *name, struct cgroup *g)
{
	for (size_t i = 0; i < CGROUP_DIRS_MAX; i++) {
		char own[400];

		if (own_dir(v1_controllers[i], own, sizeof(own)) != 0 ||
		    snprintf(g->dirs[i], sizeof(g->dirs[i]), "%s/" PREFIX "%d-%s", own, (int)getpid(), name) >= (int)sizeof(g->dirs[i]) ||
		    (mkdir(g->dirs[i], 0755) != 0 && errno != EEXIST))
			g->dirs[i][0] = '\0'; /* only memory is indispensable */
	}
	g->n = CGROUP_DIRS_MAX;
	return g->dirs[0][0] != '\0' ? 0 : -1;
}

/* A v2 group with processes of its own cannot give controllers to children: the worker moves into a leaf first. */
static int
make_v2(const char *name, struct cgroup *g)
{
	char own[400], leaf[512], *cut;

	if (own_dir("", own, sizeof(own)) != 0)
		return -1;
	cut = strstr(own, "/" LEAF);
	if (cut != NULL) {
		*cut = '\0'; /* we moved already */
	} else {
		snprintf(leaf, sizeof(leaf), "%s/" LEAF, own);
		if ((mkdir(leaf, 0755) != 0 && errno != EEXIST) || put_number(leaf, "cgroup.procs", getpid()) != 0)
			return -1;
	}
	if (put(own, "cgroup.subtree_control", "+memory +pids +cpu") != 0)
		return -1;
	g->n = 1;
	if (snprintf(g->dirs[0], sizeof(g->dirs[0]), "%s/" PREFIX "%d-%s", own, (int)getpid(), name) >= (int)sizeof(g->dirs[0]))
		return -1;
	return mkdir(g->dirs[0], 0755) == 0 || errno == EEXIST ? 0 : -1;
}

static int
set_limits(const struct cgroup *g, int64_t memory_bytes, int64_t cpu_millis, int64_t processes)
{
	if (g->version == 2) {
		(void)put_number(g->dirs[0], "memory.swap.max", 0); /* absent without swap accounting */
		return put_number(g->dirs[0], "memory.max", memory_bytes) == 0 &&
		    put_number(g->dirs[0], "pids.max", processes) == 0 &&
		    put_number(g->dirs[0], "cpu.weight", cpu_millis / 10 < 1 ? 1 : cpu_millis / 10 > 10000 ? 10000 : cpu_millis / 10) == 0
		    ? 0 : -1;
	}
	if (put_number(g->dirs[0], "memory.limit_in_bytes", memory_bytes) != 0)
		return -1;
	if (g->dirs[1][0] != '\0' && put_number(g->dirs[1], "pids.max", processes) != 0)
		return -1;
	if (g->dirs[2][0] != '\0')
		(void)put_number(g->dirs[2], "cpu.shares", cpu_millis * 1024 / 1000 < 2 ? 2 : cpu_millis * 1024 / 1000); /* a weight: best effort */
	return 0;
}

int
cgroup_make_bare(int version, const char *name, struct cgroup *ret, struct err *e)
{
	struct cgroup g = {.version = version};

	if ((version == 2 ? make_v2(name, &g) : make_v1(name, &g)) != 0) {
		err_set(e, ERR_IO, "make control group %s: %s", g.dirs[0], strerror(errno));
		cgroup_remove(&g);
		return ERR_IO;
	}
	*ret = g;
	return 0;
}

int
cgroup_limit(const struct cgroup *g, int64_t memory_bytes, int64_t cpu_millis, int64_t processes, struct err *e)
{
	if (set_limits(g, memory_bytes, cpu_millis, processes) == 0)
		return 0;
	return err_set(e, ERR_IO, "limit control group %s: %s", g->dirs[0], strerror(errno));
}

int
cgroup_make(int version, const char *name, int64_t memory_bytes, int64_t cpu_millis, int64_t processes,
    struct cgroup *ret, struct err *e)
{
	struct cgroup g;
	int rc = cgroup_make_bare(version, name, &g, e);

	if (rc == 0 && (rc = cgroup_limit(&g, memory_bytes, cpu_millis, processes, e)) != 0)
		cgroup_remove(&g);
	if (rc == 0)
		*ret = g;
	return rc;
}

int
cgroup_probe(void)
{
	char name[40];

	if (geteuid() != 0)
		return 0; /* a delegated v2 tree of a plain user is not supported */
	snprintf(name, sizeof(name), "probe-%d", (int)getpid());
	for (int version = 1; version <= 2; version++) {
		struct cgroup g;

		if (cgroup_make(version, name, PROBE_BYTES, 100, 16, &g, NULL) == 0) {
			cgroup_remove(&g);
			return version;
		}
	}
	return 0;
}

bool
cgroup_oom_killed(const struct cgroup *g)
{
	if (g->version == 0)
		return false;
	return get_number(g->dirs[0], g->version == 2 ? "memory.events" : "memory.oom_control", "oom_kill") > 0;
}

/* Removes what carries the number of a process that is not there any more; the kernel refuses where one still runs. */
static void
sweep_below(const char *own)
{
	DIR *d = opendir(own);
	struct dirent *entry;

	while (d != NULL && (entry = readdir(d)) != NULL) {
		const char *number = entry->d_name + strlen(PREFIX);
		char digits[16];
		int64_t pid;

		if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0)
			continue;
		snprintf(digits, sizeof(digits), "%.*s", (int)strcspn(number, "-"), number);
		if (num_int(digits, 1, INT32_MAX, &pid, NULL) == 0 && (pid == getpid() || (kill((pid_t)pid, 0) != 0 && errno == ESRCH)))
			(void)unlinkat(dirfd(d), entry->d_name, AT_REMOVEDIR);
	}
	if (d != NULL)
		closedir(d);
}

void
cgroup_sweep(int version)
{
	char own[400], *cut;

	for (size_t i = 0; version == 1 && i < CGROUP_DIRS_MAX; i++) {
		if (own_dir(v1_controllers[i], own, sizeof(own)) == 0)
			sweep_below(own);
	}
	if (version == 2 && own_dir("", own, sizeof(own)) == 0) {
		cut = strstr(own, "/" LEAF);
		if (cut != NULL)
			*cut = '\0';
		sweep_below(own);
	}
}

void
cgroup_remove(struct cgroup *g)
{
	for (size_t i = 0; i < g->n; i++) {
		if (g->dirs[i][0] == '\0')
			continue;
		if (g->version == 2)
			(void)put(g->dirs[i], "cgroup.kill", "1"); /* kernels before 5.14 have none */
		/* The kernel lets go of the last dead process a moment after it was reaped. */
		for (int k = 0; rmdir(g->dirs[i]) != 0 && errno == EBUSY && k < REMOVE_TRIES; k++)
			poll(NULL, 0, 2);
	}
	*g = (struct cgroup){.version = 0};
}
