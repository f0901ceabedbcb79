/* The parent's side of an extraction. The helper is not trusted once it runs: its answer is checked like any input. */
#include "storage/extract.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/proc.h"
#include "storage/extract_parts.h"
#include "storage/extract_wire.h"

#define STOP_LOOK_MS 100   /* how soon a cancel is seen */
#define GRACE_MS 2000      /* the helper tells its own timeout first */
#define TAR_MAGIC_AT 257
#define PROBE_BYTES 512

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
	if (!x->exited && (x->signo == SIGXCPU || x->signo == SIGKILL)) {
		err_set(e, ERR_TOOBIG, "unpacking used more than its %lld s of processor time or its memory",
		    (long long)(l->timeout_ms / 1000));
		err_hint(e, "submit less, or ask the operator to raise the limits of extraction");
		return ERR_TOOBIG;
	}
	if (!x->exited) {
		err_set(e, ERR_INVALID, "unpacking ended by signal %d: the archive is broken or hostile, or needs more than %lld MiB",
		    x->signo, (long long)(l->max_memory_bytes >> 20));
		err_hint(e, "pack it again with a common tool");
		return ERR_INVALID;
	}
	return err_set(e, ERR_IO, "the extraction helper ended with status %d and no answer", x->code);
}

/* Takes over an answer as far as it makes sense. */
static int
accept_reply(struct extract_wire_reply *r, const struct extract_limits *l, struct extract_result *ret_result, struct err *e)
{
	char *const texts[] = {r->err.msg, r->err.hint};
	const size_t sizes[] = {sizeof(r->err.msg), sizeof(r->err.hint)};

	if (r->magic != EXTRACT_WIRE_MAGIC || r->rc > 0 || r->rc < ERR_CANCELED ||
	    r->result.entries < 0 || r->result.entries > l->max_entries || r->result.bytes < 0 ||
	    r->result.bytes > l->max_bytes)
		return err_set(e, ERR_INVALID, "the extraction helper's answer makes no sense");
	for (size_t i = 0; i < 2; i++) {
		texts[i][sizes[i] - 1] = '\0';
		for (char *s = texts[i]; *s != '\0'; s++)
			if ((unsigned char)*s < 0x20 || *s == 0x7f)
				*s = '?';
	}
	log_debug(NULL, "extraction: result %d, guards %#x, %lld entries, %lld bytes, %lld ms", r->rc, (unsigned)r->guards,
	    (long long)r->result.entries, (long long)r->result.bytes, (long long)r->result.took_ms);
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
	struct proc_spec spec = {
		.argv = argv, .fds = {fd, reply_fd, STDERR_FILENO, dir_fd}, .new_group = true, .die_with_parent = true,
	};

	_Static_assert(sizeof(fields) / sizeof(fields[0]) == EXTRACT_WIRE_N_FIELDS, "fields");
	for (size_t i = 0; i < EXTRACT_WIRE_N_FIELDS; i++) {
		snprintf(text[i], sizeof(text[i]), "%lld", (long long)*fields[i]);
		argv[i + 2] = text[i];
	}
	return proc_start(&spec, ret_proc, e);
}

/* Waits for the helper's end; kills it at a cancel or when it is late. */
static int
await(struct proc *p, int64_t deadline_mono_ms, const atomic_bool *stop, struct proc_exit *ret_exit, struct err *e)
{
	struct err wait_err = {0};
	int rc, why = 0;

	do {
		if (why == 0 && stop != NULL && atomic_load(stop))
			why = ERR_CANCELED;
		else if (why == 0 && clock_mono_ms() >= deadline_mono_ms)
			why = ERR_TIMEOUT;
		if (why != 0)
			proc_kill(p, SIGKILL);
		rc = proc_wait(p, clock_mono_ms() + STOP_LOOK_MS, ret_exit, &wait_err);
	} while (rc == ERR_TIMEOUT);
	if (rc == 0 && why == ERR_CANCELED)
		return err_set(e, ERR_CANCELED, "unpacking was canceled");
	if (rc == 0 && why == ERR_TIMEOUT)
		return err_set(e, ERR_TIMEOUT, "unpacking took too long");
	return rc == 0 ? 0 : err_set(e, rc, "%s", wait_err.msg);
}

int
extract_archive(int fd, int dir_fd, uint32_t uid, uint32_t gid, const struct extract_limits *limits,
    const atomic_bool *stop, struct extract_result *ret_result, struct err *e)
{
	struct extract_wire_args a = {.uid = uid, .gid = gid, .limits = *limits};
	struct extract_wire_reply r;
	struct proc p;
	struct proc_exit x;
	int pipe_fds[2], rc;
	ssize_t n;

	if (!extract_limits_valid(limits))
		return err_set(e, ERR_INVALID, "a limit of extraction is missing or out of bounds");
	if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) != 0)
		return err_set(e, ERR_IO, "pipe: %s", strerror(errno));
	rc = start(fd, dir_fd, pipe_fds[1], &a, &p, e);
	close(pipe_fds[1]);
	if (rc == 0)
		rc = await(&p, clock_mono_ms() + limits->timeout_ms + GRACE_MS, stop, &x, e);
	if (rc == 0) {
		n = read(pipe_fds[0], &r, sizeof(r));
		rc = n == (ssize_t)sizeof(r) ? accept_reply(&r, limits, ret_result, e) : death(&x, limits, e);
	}
	close(pipe_fds[0]);
	return rc;
}
