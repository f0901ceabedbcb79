#include "cli/dev_child.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/retry.h"
#include "cli/interrupt.h"
#include "cli/text.h"

#define LOG_MAX (16 * 1024 * 1024)
#define LOG_SHOWN 2048
#define FORGIVEN_MS 60000

struct dev_child *
dev_child_new(const char *name, const char *program, const char *logs)
{
	struct dev_child *k = xcalloc(1, sizeof(*k));

	snprintf(k->name, sizeof(k->name), "%s", name);
	k->program = xstrdup(program);
	k->log_path = xasprintf("%s/%s.log", logs, name);
	k->proc.pidfd = -1;
	return k;
}

void
dev_child_free(struct dev_child *k)
{
	if (k == NULL)
		return;
	assert(!k->running);
	for (size_t i = 0; i < k->n_env; i++)
		free(k->env[i]);
	free(k->program);
	free(k->log_path);
	free(k);
}

void
dev_child_env(struct dev_child *k, const char *name, const char *value)
{
	assert(k->n_env < DEV_ENV_MAX);
	if (value[0] != '\0')
		k->env[k->n_env++] = xasprintf("%s=%s", name, value);
}

static int
open_log(const struct dev_child *k, struct err *e)
{
	struct stat st;
	char *old = xasprintf("%s.1", k->log_path);
	int fd;

	if (stat(k->log_path, &st) == 0 && st.st_size > LOG_MAX)
		(void)rename(k->log_path, old);
	free(old);
	fd = open(k->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd >= 0 ? fd : err_set(e, ERR_IO, "%.200s: %s", k->log_path, strerror(errno));
}

int
dev_child_start(struct dev_child *k, struct err *e)
{
	const char *const argv[] = {k->program, NULL};
	int log = open_log(k, e), rc;
	struct proc_spec spec = {.argv = argv, .env = (const char *const *)k->env, .fds = {-1, log, log, -1}, .new_group = true,
		.die_with_parent = true};

	if (log < 0)
		return log;
	rc = proc_start(&spec, &k->proc, e);
	close(log);
	k->running = rc == 0;
	k->started_mono_ms = clock_mono_ms();
	return rc;
}

void
dev_child_reap(struct dev_child *k, int64_t now_mono_ms, char *text, size_t text_len)
{
	static const struct retry_policy policy = {.max_attempts = RETRY_MAX_ATTEMPTS, .base_ms = 500, .cap_ms = 30000};
	struct proc_exit how = {0};
	struct err e = {0};
	uint64_t random;

	text[0] = '\0';
	if (proc_wait(&k->proc, now_mono_ms, &how, &e) == ERR_TIMEOUT)
		return;
	k->running = false;
	k->deaths = now_mono_ms - k->started_mono_ms > FORGIVEN_MS ? 1 : k->deaths + 1;
	random_bytes(&random, sizeof(random));
	k->next_start_mono_ms = now_mono_ms +
	    retry_next(&policy, k->deaths < RETRY_MAX_ATTEMPTS ? k->deaths : RETRY_MAX_ATTEMPTS - 1, 0, random);
	if (how.exited)
		snprintf(text, text_len, "%s ended with exit code %d", k->name, how.code);
	else
		snprintf(text, text_len, "%s was killed by signal %d (%s)", k->name, how.signo, strsignal(how.signo));
}

void
dev_child_ask(const struct dev_child *k)
{
	/* Without its group: what it runs is for it to end. */
	if (k->running)
		proc_kill(&(struct proc){.pid = k->proc.pid, .pidfd = k->proc.pidfd}, SIGTERM);
}

void
dev_child_stop(struct dev_child *k, int64_t deadline_mono_ms)
{
	struct proc_exit how;

	if (!k->running)
		return;
	dev_child_ask(k);
	while (clock_mono_ms() < deadline_mono_ms && !interrupted())
		if (interrupt_wait(deadline_mono_ms - clock_mono_ms(), k->proc.pidfd))
			break;
	proc_kill(&k->proc, SIGKILL);
	(void)proc_wait(&k->proc, -1, &how, NULL);
	k->running = false;
}

void
dev_child_print_log(const struct dev_child *k)
{
	struct buf safe = buf_make(LOG_SHOWN * 8);
	char tail[LOG_SHOWN];
	int fd = open(k->log_path, O_RDONLY | O_CLOEXEC);
	off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
	ssize_t n;

	if (fd < 0)
		goto out;
	n = pread(fd, tail, sizeof(tail), size > LOG_SHOWN ? size - LOG_SHOWN : 0);
	if (n > 0)
		(void)text_add_safe(&safe, tail, (size_t)n, true, true);
	fprintf(stderr, "--- end of %s\n%s", k->log_path, buf_str(&safe));
	close(fd);
out:
	buf_release(&safe);
}
