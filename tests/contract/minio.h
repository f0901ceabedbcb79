/* minio.h - a MinIO of one's own for a contract test: free port, private directory, random password, killed at the end, and with
 * us if we are killed. */
#ifndef TESTS_CONTRACT_MINIO_H
#define TESTS_CONTRACT_MINIO_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "storage/object_store.h"

#define MINIO_USER "drover-test"
#define MINIO_VERSION "minio-20260212"
#define MINIO_READY_MS 60000

struct minio {
	char dir[256], url[64], address[40], password[33];
	pid_t pid;
};

static inline int
free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port = 0;

	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && getsockname(fd, (struct sockaddr *)&a, &len) == 0)
		port = ntohs(a.sin_port);
	close(fd);
	return port;
}

static inline const char *
minio_binary(char path[PATH_MAX])
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

	if (cache != NULL && cache[0] != '\0')
		snprintf(path, PATH_MAX, "%s/drover/servers/" MINIO_VERSION, cache);
	else
		snprintf(path, PATH_MAX, "%s/.cache/drover/servers/" MINIO_VERSION, home != NULL ? home : "/root");
	return path;
}

/* Starts the process on m's directory and address; used again after minio_kill to bring it back. */
static inline void
minio_spawn(struct minio *m)
{
	char path[PATH_MAX], log[300], data[300];
	pid_t parent = getpid();

	minio_binary(path);
	snprintf(log, sizeof(log), "%s/log", m->dir);
	snprintf(data, sizeof(data), "%s/data", m->dir);
	m->pid = fork();
	if (m->pid != 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	dup2(fd, 1);
	dup2(fd, 2);
	setenv("MINIO_ROOT_USER", MINIO_USER, 1);
	setenv("MINIO_ROOT_PASSWORD", m->password, 1);
	setenv("MINIO_BROWSER", "off", 1);
	setenv("MINIO_UPDATE", "off", 1);
	setenv("CI", "true", 1); /* lets it run on the root disk */
	execl(path, path, "server", "--quiet", "--address", m->address, data, (char *)NULL);
	_exit(127);
}

static inline void
minio_kill(struct minio *m)
{
	if (m->pid > 0) {
		kill(m->pid, SIGKILL);
		waitpid(m->pid, NULL, 0);
	}
	m->pid = 0;
}

static inline bool
minio_wait(struct minio *m, struct object_store *s)
{
	int64_t until_mono_ms = clock_mono_ms() + MINIO_READY_MS;

	while (clock_mono_ms() < until_mono_ms && waitpid(m->pid, NULL, WNOHANG) == 0) {
		if (store_check(s, NULL) == 0)
			return true;
		nanosleep(&(struct timespec){0, 50000000}, NULL);
	}
	return false;
}

/* Fills *m and starts it; wait with minio_wait. False (with a message) if there is no binary. */
static inline bool
minio_start(struct minio *m)
{
	char path[PATH_MAX];
	uint8_t random[16];
	struct err e;

	if (access(minio_binary(path), X_OK) != 0) {
		fprintf(stderr, "no MinIO at %s: build it with tools/servers/build.sh\n", path);
		return false;
	}
	if (file_temp_dir("drover-minio", m->dir, sizeof(m->dir), &e) != 0)
		return false;
	random_bytes(random, sizeof(random));
	hex_encode(random, sizeof(random), m->password);
	snprintf(m->address, sizeof(m->address), "127.0.0.1:%d", free_port());
	snprintf(m->url, sizeof(m->url), "http://%s", m->address);
	minio_spawn(m);
	return true;
}

static inline void
minio_end(struct minio *m)
{
	minio_kill(m);
	if (m->dir[0] != '\0')
		file_remove_tree(AT_FDCWD, m->dir, NULL);
}

/* An endpoint list of one URL, which may be changed under way; counts what was said to have failed. */
struct one_endpoint {
	_Atomic(const char *) url;
	_Atomic int failed;
};

static inline int
one_pick(void *arg, char *url, size_t url_len, struct err *e)
{
	const char *u = ((struct one_endpoint *)arg)->url;

	if (u == NULL)
		return err_set(e, ERR_RETRY, "no endpoint is known");
	snprintf(url, url_len, "%s", u);
	return 0;
}

static inline void
one_failed(void *arg, const char *url)
{
	(void)url;
	((struct one_endpoint *)arg)->failed++;
}

#endif
