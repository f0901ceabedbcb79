#include "worker/sandbox_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

static json_t *
texts(const char *const *list)
{
	json_t *a = json_array();

	for (size_t i = 0; list[i] != NULL; i++)
		json_array_append_new(a, json_string(list[i]));
	return a;
}

static const char *
or_empty(const char *s)
{
	return s != NULL ? s : "";
}

/* Paths by name, so that writing and reading cannot disagree. */
static const struct {
	const char *name;
	size_t offset;
} path_fields[] = {
	{"target", offsetof(struct sandbox_paths, target)}, {"file", offsetof(struct sandbox_paths, file)},
	{"file_name", offsetof(struct sandbox_paths, file_name)}, {"lower", offsetof(struct sandbox_paths, lower)},
	{"upper", offsetof(struct sandbox_paths, upper)}, {"work", offsetof(struct sandbox_paths, work)},
	{"out", offsetof(struct sandbox_paths, out)}, {"scratch", offsetof(struct sandbox_paths, scratch)},
	{"workflow", offsetof(struct sandbox_paths, workflow)}, {"params", offsetof(struct sandbox_paths, params)},
	{"toolchain", offsetof(struct sandbox_paths, toolchain)},
};

#define N_PATHS (sizeof(path_fields) / sizeof(path_fields[0]))

static const struct {
	const char *name;
	size_t offset;
} limit_fields[] = {
	{"memory_bytes", offsetof(struct sandbox_limits, memory_bytes)}, {"cpu_millis", offsetof(struct sandbox_limits, cpu_millis)},
	{"processes", offsetof(struct sandbox_limits, processes)}, {"file_bytes", offsetof(struct sandbox_limits, file_bytes)},
	{"open_files", offsetof(struct sandbox_limits, open_files)}, {"grace_ms", offsetof(struct sandbox_limits, grace_ms)},
	{"disk_bytes", offsetof(struct sandbox_limits, disk_bytes)},
};

#define N_LIMITS (sizeof(limit_fields) / sizeof(limit_fields[0]))

/* --- messages: a head with the descriptors, then JSON --- */

struct head {
	uint32_t magic, len;
	uint32_t has; /* bits by enum box_fd; the descriptors come in that order */
};

static int
send_head(int link, const struct head *h, const int *fds, size_t n, struct err *e)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(BOX_FDS * sizeof(int))];
	} control = {.bytes = {0}};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)h, .iov_len = sizeof(*h)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t sent;

	if (n > 0) {
		struct cmsghdr *c;

		m.msg_control = control.bytes;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	do
		sent = sendmsg(link, &m, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent == (ssize_t)sizeof(*h) ? 0 : err_set(e, ERR_IO, "sandbox: its helper does not listen: %s", strerror(errno));
}

/* Takes the JSON. fds by enum box_fd, -1: none; NULL: none at all. */
static int
send_message(int link, json_t *json, const int *fds, struct err *e)
{
	char *text = json_dumps(json, JSON_COMPACT);
	struct head h = {.magic = BOX_MAGIC};
	int present[BOX_FDS], rc;
	size_t n = 0;

	json_decref(json);
	if (text == NULL)
		return err_set(e, ERR_INVALID, "sandbox: an argument or name is not valid UTF-8");
	h.len = (uint32_t)strlen(text);
	for (size_t i = 0; fds != NULL && i < BOX_FDS; i++) {
		if (fds[i] < 0)
			continue;
		h.has |= 1u << i;
		present[n++] = fds[i];
	}
	rc = send_head(link, &h, present, n, e);
	if (rc == 0)
		rc = file_write_all(link, text, h.len, e);
	free(text);
	return rc;
}

int
box_send_frame(int link, const struct sandbox_caps *caps, bool egress, const char *toolchain, const struct cgroup *g, struct err *e)
{
	json_t *groups = json_array();

	for (size_t i = 0; i < g->n; i++)
		json_array_append_new(groups, json_string(g->dirs[i]));
	return send_message(link, json_pack("{s:o, s:i, s:i, s:i, s:b, s:b, s:b, s:s}", "groups", groups, "cgroup", g->version, "rung",
	    (int)caps->rung, "landlock", caps->landlock_abi, "seccomp", caps->seccomp, "netns", caps->netns, "egress", egress, "toolchain",
	    or_empty(toolchain)), NULL, e);
}

int
box_send_order(int link, const struct sandbox_spec *s, int target_fd, struct err *e)
{
	const int fds[BOX_FDS] = {[BOX_OUT] = s->out_fd, [BOX_ERR] = s->err_fd, [BOX_PROGRESS] = s->progress_fd, [BOX_TARGET] = target_fd};
	json_t *o = json_object(), *paths = json_object(), *limits = json_object();

	for (size_t i = 0; i < N_PATHS; i++) {
		const char *p = *(const char *const *)((const char *)&s->paths + path_fields[i].offset);

		json_object_set_new(paths, path_fields[i].name, json_string(or_empty(p)));
	}
	for (size_t i = 0; i < N_LIMITS; i++) {
		int64_t v = *(const int64_t *)((const char *)&s->limits + limit_fields[i].offset);

		json_object_set_new(limits, limit_fields[i].name, json_integer(v));
	}
	json_object_set_new(o, "argv", texts(s->argv));
	json_object_set_new(o, "env", texts(s->env));
	json_object_set_new(o, "paths", paths);
	json_object_set_new(o, "limits", limits);
	json_object_set_new(o, "read_only", json_boolean(s->paths.target_read_only));
	json_object_set_new(o, "uid", json_integer(s->uid));
	json_object_set_new(o, "gid", json_integer(s->gid));
	return send_message(link, o, fds, e);
}

/* Takes the descriptors of a message over by what they are. */
static int
take_fds(struct msghdr *m, uint32_t has, int fds[BOX_FDS], struct err *e)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(m);
	size_t n = c != NULL && c->cmsg_type == SCM_RIGHTS ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0, at = 0;
	int got[BOX_FDS];

	if (n > BOX_FDS || (m->msg_flags & MSG_CTRUNC) != 0)
		return err_set(e, ERR_INVALID, "the sandbox's order came with too many descriptors");
	if (n > 0)
		memcpy(got, CMSG_DATA(c), n * sizeof(int));
	for (size_t i = 0; i < BOX_FDS; i++)
		fds[i] = (has & (1u << i)) != 0 && at < n ? got[at++] : -1;
	return at == n && (unsigned)__builtin_popcount(has) == n ? 0 : err_set(e, ERR_INVALID, "the sandbox's order lacks descriptors");
}

static int
receive_head(int link, struct head *h, int fds[BOX_FDS], struct err *e)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(BOX_FDS * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = h, .iov_len = sizeof(*h)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	ssize_t n;

	do
		n = recvmsg(link, &m, MSG_CMSG_CLOEXEC | MSG_WAITALL);
	while (n < 0 && errno == EINTR);
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return ERR_CANCELED;
	if (n != (ssize_t)sizeof(*h) || h->magic != BOX_MAGIC || h->len > BOX_ORDER_MAX)
		return err_set(e, ERR_INVALID, "the sandbox's order cannot be read");
	return take_fds(&m, h->has, fds, e);
}

static int
receive_message(int link, json_t **ret, int fds[BOX_FDS], struct err *e)
{
	struct head h;
	size_t got = 0;
	ssize_t n = 1;
	char *text;
	int rc = receive_head(link, &h, fds, e);

	if (rc != 0)
		return rc;
	text = xmalloc(h.len + 1);
	while (got < h.len && ((n = read(link, text + got, h.len - got)) > 0 || (n < 0 && errno == EINTR)))
		got += n > 0 ? (size_t)n : 0;
	*ret = got == h.len ? json_loadb(text, got, 0, NULL) : NULL;
	free(text);
	return *ret != NULL ? 0 : err_set(e, ERR_INVALID, "the sandbox's order is not whole");
}

/* A NULL-terminated array of the texts of a JSON list; the texts stay the list's. NULL if it is not one. */
static char **
text_array(const json_t *list)
{
	size_t n = json_array_size(list);
	char **out = xcalloc(n + 1, sizeof(*out));

	for (size_t i = 0; i < n; i++) {
		out[i] = (char *)(uintptr_t)json_string_value(json_array_get(list, i));
		if (out[i] == NULL) {
			free(out);
			return NULL;
		}
	}
	return out;
}

static int64_t
number(const json_t *o, const char *name)
{
	return json_integer_value(json_object_get(o, name));
}

int
box_receive_frame(int link, struct box *b, struct err *e)
{
	const json_t *groups;
	int rc;

	*b = (struct box){.fds = {-1, -1, -1, -1}};
	rc = receive_message(link, &b->frame, b->fds, e);
	if (rc != 0)
		return rc;
	groups = json_object_get(b->frame, "groups");
	b->cgroup.version = (int)number(b->frame, "cgroup");
	for (; b->cgroup.n < json_array_size(groups) && b->cgroup.n < CGROUP_DIRS_MAX; b->cgroup.n++)
		snprintf(b->cgroup.dirs[b->cgroup.n], sizeof(b->cgroup.dirs[0]), "%s", or_empty(json_string_value(json_array_get(groups, b->cgroup.n))));
	b->caps.rung = (enum sandbox_rung)number(b->frame, "rung");
	b->caps.landlock_abi = (int)number(b->frame, "landlock");
	b->caps.seccomp = json_is_true(json_object_get(b->frame, "seccomp"));
	b->caps.netns = json_is_true(json_object_get(b->frame, "netns"));
	b->egress = json_is_true(json_object_get(b->frame, "egress"));
	b->paths.toolchain = or_empty(json_string_value(json_object_get(b->frame, "toolchain")));
	return 0;
}

int
box_receive_order(int link, struct box *b, struct err *e)
{
	const json_t *paths, *limits;
	int rc = receive_message(link, &b->json, b->fds, e);

	if (rc != 0)
		return rc;
	paths = json_object_get(b->json, "paths");
	limits = json_object_get(b->json, "limits");
	b->argv = text_array(json_object_get(b->json, "argv"));
	b->env = text_array(json_object_get(b->json, "env"));
	for (size_t i = 0; i < N_PATHS; i++)
		*(const char **)((char *)&b->paths + path_fields[i].offset) = or_empty(json_string_value(json_object_get(paths, path_fields[i].name)));
	for (size_t i = 0; i < N_LIMITS; i++)
		*(int64_t *)((char *)&b->limits + limit_fields[i].offset) = number(limits, limit_fields[i].name);
	b->paths.target_read_only = json_is_true(json_object_get(b->json, "read_only"));
	b->uid = (uid_t)number(b->json, "uid");
	b->gid = (gid_t)number(b->json, "gid");
	b->has_progress = b->fds[BOX_PROGRESS] >= 0;
	if (b->argv == NULL || b->argv[0] == NULL || b->env == NULL || b->limits.memory_bytes <= 0)
		return err_set(e, ERR_INVALID, "the sandbox's order is not complete");
	return 0;
}

void
box_release(struct box *b)
{
	free(b->argv);
	free(b->env);
	json_decref(b->frame);
	json_decref(b->json);
	*b = (struct box){0};
}
