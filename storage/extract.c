/* The parent's side of an extraction. The helper is not trusted once it runs: its answer is checked like any input. */
#include "storage/extract.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/proc.h"
#include "storage/extract_parts.h"
#include "storage/extract_wire.h"

#define STOP_LOOK_MS 100   /* how soon a cancel is seen */
#define GRACE_MS 2000      /* the helper tells its own timeout first */
#define TAR_MAGIC_AT 257
#define PROBE_BYTES 512

struct talk { /* with the helper */
	int fd; /* of the pipe; -1 at its end */
	struct extract_wire_reply reply;
	size_t have; /* bytes of it that have come */
	bool answered;
};

enum target_kind
extract_probe(int fd)
{
	static const struct {
		size_t at, len;
		const char *magic;
	} kinds[] = {
		{0, 4, "PK\003\004"}, {0, 4, "PK\005\006"}, {0, 3, "\x1f\x8b\x08"}, {0, 3, "BZh"}, {0, 6, "\xfd" "7zXZ\0"},
		{0, 4, "\x28\xb5\x2f\xfd"}, {TAR_MAGIC_AT, 5, "ustar"},
	};
	char head[PROBE_BYTES];
	ssize_t n = pread(fd, head, sizeof(head), 0);

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (n >= (ssize_t)(kinds[i].at + kinds[i].len) && memcmp(head + kinds[i].at, kinds[i].magic, kinds[i].len) == 0)
			return TARGET_ARCHIVE;
	return TARGET_FILE;
}

/* What a helper that died without an answer means. */
static int
death(const struct proc_exit *x, const struct extract_limits *l, struct err *e)
{
	if (x->exited)
		return err_set(e, ERR_IO, "the extraction helper ended with status %d and no answer", x->code);
	if (x->signo == SIGKILL) {
		err_set(e, ERR_RETRY, "the extraction helper was killed");
		err_hint(e, "see whether the node or its cgroup ran out of memory");
		return ERR_RETRY;
	}
	if (x->signo == SIGXCPU) {
		err_set(e, ERR_TOOBIG, "unpacking took more than %lld s of processor time", (long long)(l->max_cpu_ms / 1000));
		err_hint(e, "submit less, or ask the operator to raise the limits of extraction");
		return ERR_TOOBIG;
	}
	err_set(e, ERR_INVALID, "unpacking ended by signal %d: the archive is broken or hostile, or needs more than %lld MiB",
	    x->signo, (long long)(l->max_memory_bytes >> 20));
	err_hint(e, "pack it again with a common tool");
	return ERR_INVALID;
}

/* Whether what the helper says may be true; its texts are made harmless. */
static bool
sensible(struct extract_wire_reply *r, const struct extract_limits *l)
{
	char *const texts[] = {r->err.msg, r->err.hint};
	const size_t sizes[] = {sizeof(r->err.msg), sizeof(r->err.hint)};

	if (r->magic != EXTRACT_WIRE_MAGIC || r->rc > EXTRACT_WIRE_GROWING || r->rc < ERR_CANCELED ||
	    r->result.entries < 0 || r->result.entries > l->max_entries || r->result.bytes < 0 ||
	    r->result.bytes > l->max_bytes || r->result.disk_bytes < 0 || r->result.disk_bytes > l->max_disk_bytes)
		return false;
	for (size_t i = 0; i < 2; i++) {
		texts[i][sizes[i] - 1] = '\0';
		for (char *s = texts[i]; *s != '\0'; s++)
			if ((unsigned char)*s < 0x20 || *s == 0x7f)
				*s = '?';
	}
	return true;
}

/* Takes over the final answer. */
static int
accept_reply(const struct extract_wire_reply *r, struct extract_result *ret_result, struct err *e)
{
	log_debug(NULL, "extraction: result %d, guards %#x, %lld entries, %lld bytes, %lld on disk, %lld ms", r->rc,
	    (unsigned)r->guards, (long long)r->result.entries, (long long)r->result.bytes, (long long)r->result.disk_bytes,
	    (long long)r->result.took_ms);
	if (r->rc != 0) {
		err_set(e, r->rc, "%s", r->err.msg);
		if (r->err.hint[0] != '\0')
			err_hint(e, "%s", r->err.hint);
		return r->rc;
	}
	*ret_result = r->result;
	return 0;
}

static int
start(int fd, int dir_fd, int reply_fd, struct extract_wire_args *a, struct proc *ret_proc, struct err *e)
{
	int64_t *const fields[] = EXTRACT_WIRE_FIELDS(a);
	char text[EXTRACT_WIRE_N_FIELDS][24];
	const char *argv[EXTRACT_WIRE_N_FIELDS + 3] = {"/proc/self/exe", EXTRACT_WIRE_FLAG};
	const char *env[2] = {fault_environment(), NULL};
	struct proc_spec spec = {
		/* What a helper that was taken over writes must not get into our log. */
		.argv = argv, .env = env, .fds = {fd, reply_fd, EXTRACT_SANITIZED ? STDERR_FILENO : -1, dir_fd}, .new_group = true,
		.die_with_parent = true,
	};

	_Static_assert(sizeof(fields) / sizeof(fields[0]) == EXTRACT_WIRE_N_FIELDS, "fields");
	for (size_t i = 0; i < EXTRACT_WIRE_N_FIELDS; i++) {
		snprintf(text[i], sizeof(text[i]), "%lld", (long long)*fields[i]);
		argv[i + 2] = text[i];
	}
	return proc_start(&spec, ret_proc, e);
}

/* Reads what there is to read now. Returns 0, ERR_INVALID for nonsense, or what watch says of the growth. */
static int
listen_now(struct talk *t, const struct extract_limits *l, const struct extract_watch *watch, struct err *e)
{
	int rc;

	while (t->fd >= 0) {
		ssize_t n = read(t->fd, (char *)&t->reply + t->have, sizeof(t->reply) - t->have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return 0;
		if (n == 0) {
			t->fd = -1;
			return 0;
		}
		t->have += (size_t)n;
		if (t->have < sizeof(t->reply))
			continue;
		if (t->answered || !sensible(&t->reply, l))
			return err_set(e, ERR_INVALID, "the extraction helper's answer makes no sense");
		if (t->reply.rc != EXTRACT_WIRE_GROWING) {
			t->answered = true;
			return 0;
		}
		t->have = 0;
		if (watch != NULL && (rc = watch->grew(watch->arg, t->reply.result.disk_bytes, t->reply.result.entries, e)) != 0)
			return rc;
	}
	return 0;
}

/* Waits for the helper's end; kills it when something is wrong with it or when it is no longer wanted. */
static int
await(struct proc *p, struct talk *t, const struct extract_limits *l, const struct extract_watch *watch, const atomic_bool *stop,
    struct proc_exit *ret_exit, struct err *e)
{
	int64_t deadline_mono_ms = clock_mono_ms() + l->timeout_ms + GRACE_MS;
	struct err wait_err = {0};
	int rc, why = 0;

	do {
		struct pollfd news[2] = {{.fd = p->pidfd, .events = POLLIN}, {.fd = t->fd, .events = POLLIN}};

		if (poll(news, 2, STOP_LOOK_MS) < 0 && errno != EINTR && why == 0)
			why = err_set(e, ERR_IO, "poll: %s", strerror(errno));
		if (why == 0)
			why = listen_now(t, l, watch, e);
		if (why == 0 && stop != NULL && atomic_load(stop))
			why = err_set(e, ERR_CANCELED, "unpacking was canceled");
		if (why == 0 && clock_mono_ms() >= deadline_mono_ms)
			why = err_set(e, ERR_TIMEOUT, "unpacking took longer than %lld ms", (long long)l->timeout_ms);
		if (why != 0) {
			t->fd = -1;
			proc_kill(p, SIGKILL);
		}
		rc = proc_wait(p, clock_mono_ms(), ret_exit, &wait_err);
	} while (rc == ERR_TIMEOUT);
	if (rc != 0)
		return err_set(e, rc, "%s", wait_err.msg);
	/* Its last words may have come between our last look and its end. */
	return why == 0 ? listen_now(t, l, watch, e) : why;
}

/* Removes all that is in the directory; false where something is and remove is not asked for. */
static bool
empty(int dir_fd, bool remove)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	bool clean = d != NULL;

	if (d == NULL && fd >= 0)
		close(fd);
	for (struct dirent *n; d != NULL && (n = readdir(d)) != NULL && clean;)
		if (strcmp(n->d_name, ".") != 0 && strcmp(n->d_name, "..") != 0)
			clean = remove && file_remove_tree(dir_fd, n->d_name, NULL) == 0;
	if (d != NULL)
		closedir(d);
	return clean;
}

/* With the pipe at hand: from the helper's start to its answer. */
static int
extract_through(int pipe_fds[2], int fd, int dir_fd, struct extract_wire_args *a, const struct extract_watch *watch,
    const atomic_bool *stop, struct extract_result *ret_result, struct err *e)
{
	struct talk t = {.fd = pipe_fds[0]};
	struct proc p;
	struct proc_exit x;
	int rc = start(fd, dir_fd, pipe_fds[1], a, &p, e);

	close(pipe_fds[1]);
	if (rc != 0)
		return rc;
	fault_point("extract.started");
	rc = await(&p, &t, &a->limits, watch, stop, &x, e);
	fault_point("extract.ended");
	if (rc != 0)
		return rc;
	return t.answered ? accept_reply(&t.reply, ret_result, e) : death(&x, &a->limits, e);
}

int
extract_archive(int fd, int dir_fd, uint32_t uid, uint32_t gid, const struct extract_limits *limits,
    const struct extract_watch *watch, const atomic_bool *stop, struct extract_result *ret_result, struct err *e)
{
	struct extract_wire_args a = {.uid = uid, .gid = gid, .limits = *limits};
	int pipe_fds[2], rc;

	if (!extract_limits_valid(limits))
		return err_set(e, ERR_INVALID, "a limit of extraction is missing or out of bounds");
	/* What is there already may be a link that leads out. */
	if (!empty(dir_fd, false))
		return err_set(e, ERR_CONFLICT, "the directory to unpack into is not empty");
	if (pipe2(pipe_fds, O_CLOEXEC) != 0)
		return err_set(e, ERR_IO, "pipe: %s", strerror(errno));
	/* Our end alone: the helper waits where we are slow to take note of what it made. */
	if (fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK) != 0) {
		rc = err_set(e, ERR_IO, "pipe: %s", strerror(errno));
		close(pipe_fds[1]);
	} else {
		rc = extract_through(pipe_fds, fd, dir_fd, &a, watch, stop, ret_result, e);
	}
	close(pipe_fds[0]);
	if (rc != 0 && !empty(dir_fd, true))
		log_warn(NULL, "what an extraction left behind could not be removed: %s", strerror(errno));
	return rc;
}
