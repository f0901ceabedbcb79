#include "worker/sandbox.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "worker/cgroup.h"
#include "worker/sandbox_wire.h"

#define PROBE_TIMEOUT_MS 5000
#define KILL_WAIT_MS 10000 /* after SIGKILL: the kernel frees what a killed tree held */

struct sandbox {
	struct proc proc;          /* the helper */
	struct cgroup cgroup;
	int link;                  /* socket to it */
	int64_t grace_ms;
	pthread_mutex_t lock;      /* stop may come from another thread than wait */
	bool running, stopped;     /* under lock */
};

/* Hands the order over and closes our side of that direction. */
static int
send_order(int link, const struct sandbox_spec *spec, const struct cgroup *g, struct err *e)
{
	json_t *order = box_write(spec, g);
	char *text = json_dumps(order, JSON_COMPACT);
	int rc;

	json_decref(order);
	if (text == NULL)
		return err_set(e, ERR_INVALID, "sandbox: an argument or name is not valid UTF-8");
	rc = file_write_all(link, text, strlen(text), e);
	if (rc == 0 && shutdown(link, SHUT_WR) != 0)
		rc = err_set(e, ERR_IO, "sandbox: %s", strerror(errno));
	free(text);
	return rc;
}

/* The environment of the helper itself holds nothing that the tool could find in /proc. */
static int
start_helper(const struct sandbox_spec *spec, struct sandbox *s, struct err *e)
{
	static const char *const argv[] = {"/proc/self/exe", "--sandbox", NULL};
	static const char *const env[] = {"PATH=/usr/bin:/bin", NULL};
	struct proc_spec p = {.argv = argv, .env = env, .fds = {-1, spec->out_fd, spec->err_fd, spec->progress_fd},
	    .new_group = true, .die_with_parent = true};
	int pair[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return err_set(e, ERR_IO, "sandbox: socket: %s", strerror(errno));
	p.fds[0] = pair[1];
	rc = proc_start(&p, &s->proc, e);
	close(pair[1]);
	if (rc == 0) {
		s->running = true;
		s->link = pair[0];
		rc = send_order(s->link, spec, &s->cgroup, e);
	} else {
		close(pair[0]);
	}
	return rc;
}

int
sandbox_start(const struct sandbox_spec *spec, struct sandbox **ret, struct err *e)
{
	struct sandbox *s = xcalloc(1, sizeof(*s));
	char name[160], *p = name;
	int rc = 0;

	s->link = -1;
	s->grace_ms = spec->limits.grace_ms;
	pthread_mutex_init(&s->lock, NULL);
	for (const char *n = spec->name; *n != '\0' && p < name + sizeof(name) - 1; n++)
		*p++ = strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", *n) != NULL ? *n : '_';
	*p = '\0';
	if (spec->caps->cgroup != 0)
		rc = cgroup_make(spec->caps->cgroup, name, spec->limits.memory_bytes, spec->limits.cpu_millis, spec->limits.processes,
		    &s->cgroup, e);
	if (rc == 0)
		rc = start_helper(spec, s, e);
	if (rc != 0) {
		sandbox_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

void
sandbox_stop(struct sandbox *s)
{
	pthread_mutex_lock(&s->lock);
	/* To the helper alone, not its group: it passes the wish on and gives the program its time. */
	if (s->running && !s->stopped)
		(void)kill(s->proc.pid, SIGTERM);
	s->stopped = true;
	pthread_mutex_unlock(&s->lock);
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
	pthread_mutex_lock(&s->lock);
	s->running = false;
	pthread_mutex_unlock(&s->lock);
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
	pthread_mutex_destroy(&s->lock);
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
