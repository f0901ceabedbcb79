#include "worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "worker/sandbox_stock.h"
#include "worker/sandbox_wire.h"

#define PROBE_TIMEOUT_MS 5000
#define HELPER "drover-sandbox"
#define KILL_WAIT_MS 10000 /* after SIGKILL: the kernel frees what a killed tree held */

/* Hands a cgroup's name: what is not allowed in it is replaced. */
static void
plain_name(const char *name, char out[160])
{
	char *p = out;

	for (; *name != '\0' && p < out + 159; name++)
		*p++ = strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", *name) != NULL ? *name : '_';
	*p = '\0';
}

/* The small program beside ours starts faster than ours; where it is not installed, ours does the same. */
static void
helper_path(char out[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - sizeof(HELPER));
	char *slash;

	if (n > 0) {
		out[n] = '\0';
		slash = strrchr(out, '/');
		memcpy(slash + 1, HELPER, sizeof(HELPER));
		if (access(out, X_OK) == 0)
			return;
	}
	(void)snprintf(out, PATH_MAX, "/proc/self/exe");
}

/* The environment of the helper itself holds nothing that the tool could find in /proc. */
int
helper_exec(const char *role, int link, struct proc *ret, struct err *e)
{
	static const char *const env[] = {"PATH=/usr/bin:/bin", NULL};
	char path[PATH_MAX];
	const char *const argv[] = {path, role, NULL};
	const struct proc_spec p = {.argv = argv, .env = env, .fds = {link, -1, -1, -1}, .new_group = true, .die_with_parent = true};

	helper_path(path);
	return proc_start(&p, ret, e);
}

static int
start_helper(struct sandbox *s, const struct sandbox_caps *caps, bool egress, const char *toolchain, struct mother *mother, struct err *e)
{
	int pair[2], rc = ERR_RETRY;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return err_set(e, ERR_IO, "sandbox: socket: %s", strerror(errno));
	if (mother != NULL)
		rc = mother_fork(mother, pair[1], &s->proc, NULL);
	if (rc != 0)
		rc = helper_exec(BOX_HELPER, pair[1], &s->proc, e);
	close(pair[1]);
	if (rc != 0) {
		close(pair[0]);
		return rc;
	}
	s->running = true;
	s->link = pair[0];
	return box_send_frame(s->link, caps, egress, toolchain, &s->cgroup, e);
}

int
sandbox_prepare(const struct sandbox_caps *caps, bool egress, const char *toolchain, const char *name, struct mother *mother,
    struct sandbox **ret, struct err *e)
{
	struct sandbox *s = xcalloc(1, sizeof(*s));
	char plain[160];
	int rc = 0;

	s->link = -1;
	plain_name(name, plain);
	if (caps->cgroup != 0)
		rc = cgroup_make_bare(caps->cgroup, plain, &s->cgroup, e);
	if (rc == 0)
		rc = start_helper(s, caps, egress, toolchain, mother, e);
	if (rc != 0) {
		sandbox_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

/* The workspace may be a mount that is younger than the helper's namespace: it is handed over. -1 where the path does (plain users'
 * mounts are made inside), or where the kernel refuses, which then says why itself. */
static int
open_target(const struct sandbox_spec *spec)
{
	const struct sandbox_paths *p = &spec->paths;

	if (spec->caps->rung != RUNG_ROOT || p->target == NULL || p->target[0] == '\0' || (p->lower != NULL && p->lower[0] != '\0') ||
	    (p->file != NULL && p->file[0] != '\0'))
		return -1;
	return (int)syscall(SYS_open_tree, AT_FDCWD, p->target, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
}

static int
give_order(struct sandbox *s, const struct sandbox_spec *spec, struct err *e)
{
	int target = open_target(spec), rc = box_send_order(s->link, spec, target, e);

	if (target >= 0)
		close(target);
	/* A helper that could not build its frame does not listen any more: how it ended says why. */
	if (rc == ERR_IO) {
		(void)shutdown(s->link, SHUT_WR);
		rc = 0;
	}
	s->ordered = rc == 0;
	return rc;
}

int
sandbox_start(const struct sandbox_spec *spec, struct sandbox **ret, struct err *e)
{
	const struct sandbox_limits *l = &spec->limits;
	struct sandbox *s = spec->stock != NULL ? stock_take(spec->stock, spec) : NULL;
	int rc = 0;

	if (s == NULL)
		rc = sandbox_prepare(spec->caps, spec->egress, spec->paths.toolchain, spec->name, stock_mother(spec->stock), &s, e);
	if (rc != 0)
		return rc;
	s->grace_ms = l->grace_ms;
	if (s->cgroup.version != 0)
		rc = cgroup_limit(&s->cgroup, l->memory_bytes, l->cpu_millis, l->processes, e);
	if (rc == 0)
		rc = give_order(s, spec, e);
	if (rc == 0)
		*ret = s;
	else
		sandbox_free(s);
	return rc;
}

void
sandbox_stop(struct sandbox *s)
{
	/* To the helper alone, not its group: it passes the wish on and gives the program its time. */
	if (s->running && !s->stopped)
		(void)kill(s->proc.pid, SIGTERM);
	s->stopped = true;
}

/* What the helper said before it ended; false if it said nothing whole. */
static bool
read_end(int link, struct box_end *m)
{
	size_t got = 0;
	ssize_t n;

	while (got < sizeof(*m) && ((n = read(link, (char *)m + got, sizeof(*m) - got)) > 0 || (n < 0 && errno == EINTR)))
		got += n > 0 ? (size_t)n : 0;
	return got == sizeof(*m) && m->magic == BOX_MAGIC;
}

int
sandbox_wait(struct sandbox *s, int64_t deadline_mono_ms, struct sandbox_end *ret_end, struct err *e)
{
	struct proc_exit x;
	struct box_end m;
	int rc;

	rc = proc_wait(&s->proc, deadline_mono_ms, &x, e);
	if (rc != 0)
		return rc;
	s->running = false;
	if (!read_end(s->link, &m)) {
		if (cgroup_oom_killed(&s->cgroup)) { /* it met the helper itself: same cause, same verdict */
			*ret_end = (struct sandbox_end){.signo = SIGKILL, .oom = true, .stopped = s->stopped};
			return 0;
		}
		return err_set(e, ERR_IO, "the sandbox's helper ended without a word (%s %d)", x.exited ? "exit code" : "signal",
		    x.exited ? x.code : x.signo);
	}
	if (m.failed != 0)
		return err_set(e, m.failed, "%.*s", (int)sizeof(m.text), m.text);
	*ret_end = (struct sandbox_end){.exited = m.exited, .code = m.code, .signo = m.signo,
	    .oom = m.oom || cgroup_oom_killed(&s->cgroup), .disk = m.disk, .stopped = s->stopped, .user_ms = m.user_ms, .system_ms = m.system_ms,
	    .max_rss_bytes = m.max_rss_bytes};
	return 0;
}

void
sandbox_free(struct sandbox *s)
{
	struct proc_exit x;

	if (s == NULL)
		return;
	if (s->link >= 0 && !s->ordered) { /* in place of an order */
		close(s->link);
		s->link = -1;
	}
	if (s->running) {
		/* First the way that waits for everything inside; SIGKILL on the helper leaves that to the kernel. */
		sandbox_stop(s);
		if (proc_wait(&s->proc, clock_mono_ms() + s->grace_ms + KILL_WAIT_MS, &x, NULL) == ERR_TIMEOUT) {
			(void)kill(s->proc.pid, SIGKILL);
			(void)proc_wait(&s->proc, clock_mono_ms() + KILL_WAIT_MS, &x, NULL);
		}
	}
	if (s->link >= 0)
		close(s->link);
	cgroup_remove(&s->cgroup);
	free(s);
}

const char *
sandbox_inside(const struct sandbox_caps *c, const char *inside, const char *host)
{
	return c->rung == RUNG_USER || c->rung == RUNG_ROOT ? inside : host;
}

/* --- probing: each rung is tried with the very code that will run steps --- */

static int
try_caps(const struct sandbox_caps *caps, struct err *e)
{
	static const char *const argv[] = {"true", NULL};
	static const char *const env[] = {"PATH=/usr/bin:/bin", NULL};
	struct sandbox_spec spec = {.caps = caps, .name = "probe", .argv = argv, .env = env,
	    .limits = {.memory_bytes = 64 << 20, .cpu_millis = 1000, .processes = 64, .file_bytes = 1 << 20, .open_files = 64,
	        .grace_ms = 100},
	    .uid = 65534, .gid = 65534, .out_fd = -1, .err_fd = -1, .progress_fd = -1};
	struct sandbox *s = NULL;
	struct sandbox_end end = {.exited = false};
	char name[40];
	int rc;

	snprintf(name, sizeof(name), "probe-%d", (int)getpid());
	spec.name = name;
	rc = sandbox_start(&spec, &s, e);
	if (rc == 0)
		rc = sandbox_wait(s, clock_mono_ms() + PROBE_TIMEOUT_MS, &end, e);
	if (rc == 0 && (!end.exited || end.code != 0))
		rc = err_set(e, ERR_IO, "sandbox: a trial program did not run");
	sandbox_free(s);
	return rc;
}

void
sandbox_probe(struct sandbox_caps *ret)
{
	static const enum sandbox_rung order[] = {RUNG_ROOT, RUNG_USER, RUNG_CONTAINER};
	struct sandbox_caps c = {.landlock_abi = box_landlock_abi(), .seccomp = true, .cgroup = cgroup_probe()};
	struct err e = {0};

	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		if ((order[i] == RUNG_ROOT) != (geteuid() == 0))
			continue; /* root runs tools under another uid; nobody else can */
		c.rung = order[i];
		c.netns = order[i] != RUNG_CONTAINER;
		/* Without namespaces Landlock is what keeps a tool from the host's files: not a rung without it. */
		if (order[i] == RUNG_CONTAINER && c.landlock_abi == 0)
			continue;
		if (try_caps(&c, &e) == 0) {
			*ret = c;
			return;
		}
		snprintf(c.why, sizeof(c.why), "%.255s", e.msg);
	}
	c.rung = RUNG_NONE;
	c.netns = false;
	*ret = c;
}

json_t *
sandbox_json(const struct sandbox_caps *c)
{
	bool spaces = c->rung == RUNG_USER || c->rung == RUNG_ROOT;
	const struct {
		bool there;
		const char *name;
	} features[] = {
		{spaces, "pidns"}, {spaces, "mntns"}, {spaces && c->netns, "netns"}, {c->rung == RUNG_USER, "userns"},
		{c->rung == RUNG_ROOT, "uid"}, {c->cgroup == 1, "cgroup1"}, {c->cgroup == 2, "cgroup2"},
		{c->landlock_abi > 0, "landlock"}, {c->seccomp, "seccomp"},
	};
	json_t *list = json_array();

	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		if (features[i].there)
			json_array_append_new(list, json_string(features[i].name));
	}
	return json_pack("{s:i, s:o, s:s}", "rung", (int)c->rung, "features", list, "why", c->why);
}
