#include "cli/interrupt.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static atomic_bool came;
static int wake_fd = -1; /* readable once a signal came */

static void
on_signal(int signo)
{
	uint64_t one = 1;
	int saved = errno;

	(void)signo;
	atomic_store(&came, true);
	while (write(wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	errno = saved;
}

void
interrupt_catch(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, old;

	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (wake_fd < 0)
		abort();
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		/* What is ignored stays so: nohup, and background jobs of scripts. */
		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			(void)sigaction(signals[i], &sa, NULL);
}

const atomic_bool *
interrupt_flag(void)
{
	return &came;
}

bool
interrupted(void)
{
	return atomic_load(&came);
}

void
interrupt_clear(void)
{
	uint64_t n;

	atomic_store(&came, false);
	while (read(wake_fd, &n, sizeof(n)) < 0 && errno == EINTR)
		;
}

bool
interrupt_wait(int64_t ms, int fd)
{
	struct pollfd fds[] = {{.fd = wake_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};

	(void)poll(fds, 2, ms > INT_MAX ? INT_MAX : (int)ms);
	return (fds[1].revents & (POLLIN | POLLHUP)) != 0;
}

char
interrupt_ask(const char *question)
{
	char answer[64] = "";
	ssize_t n = 0;

	fputs(question, stderr);
	fflush(stderr);
	if (interrupt_wait(-1, STDIN_FILENO) && !interrupted())
		n = read(STDIN_FILENO, answer, sizeof(answer) - 1);
	if (n <= 0)
		fputc('\n', stderr);
	return n > 0 && answer[0] != '\n' ? answer[0] : '\0';
}

int
interrupt_fd(void)
{
	return wake_fd;
}
