/* s3_server.h - an S3 server of one's own for a contract test, MinIO or versitygw: free port, private directory, random password,
 * killed at the end, and with us if we are killed. */
#ifndef TESTS_CONTRACT_S3_SERVER_H
#define TESTS_CONTRACT_S3_SERVER_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "free_port.h"
#include "storage/object_store.h"

#define SERVER_USER "drover-test"
#define SERVER_READY_MS 60000

struct s3_server;

struct s3_program {
	const char *name;   /* of the program */
	const char *binary; /* in the folder of servers */
	const char *scheme;
	void (*exec)(const struct s3_server *m, const char *binary); /* returns only if it fails */
	const char *unfinished; /* shell: prints a line for each multipart upload below the data directory $1 */
};

struct s3_server {
	const struct s3_program *program;
	char dir[256], data[270], url[64], address[40], password[33];
	pid_t pid;
};

static inline void
exec_minio(const struct s3_server *m, const char *binary)
{
	setenv("MINIO_ROOT_USER", SERVER_USER, 1);
	setenv("MINIO_ROOT_PASSWORD", m->password, 1);
	setenv("MINIO_BROWSER", "off", 1);
	setenv("MINIO_UPDATE", "off", 1);
	setenv("CI", "true", 1); /* lets it run on the root disk */
	execl(binary, binary, "server", "--quiet", "--address", m->address, m->data, (char *)NULL);
}

static inline void
exec_versitygw(const struct s3_server *m, const char *binary)
{
	char sidecar[300];

	setenv("ROOT_ACCESS_KEY", SERVER_USER, 1);
	setenv("ROOT_SECRET_KEY", m->password, 1);
	/* Not every file system of a test machine has extended attributes. */
	snprintf(sidecar, sizeof(sidecar), "%s/sidecar", m->dir);
	mkdir(sidecar, 0700);
	mkdir(m->data, 0700);
	execl(binary, binary, "--quiet", "--keep-alive", "--port", m->address, "posix", "--sidecar", sidecar, m->data, (char *)NULL);
}

static const struct s3_program minio_program = {"MinIO", "minio-20260212", "http", exec_minio,
    "find \"$1/.minio.sys/multipart\" -name xl.meta"};
/* A part that is on its way while its upload is aborted may make versitygw's directory for it again, behind our back and its own:
 * what lies there says nothing about us. */
static const struct s3_program versitygw_program = {"versitygw", "versitygw-1.7.0", "http", exec_versitygw,
    "true"};

static inline const char *
server_binary(const struct s3_server *m, char path[PATH_MAX])
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

	if (cache != NULL && cache[0] != '\0')
		snprintf(path, PATH_MAX, "%s/drover/servers/%s", cache, m->program->binary);
	else
		snprintf(path, PATH_MAX, "%s/.cache/drover/servers/%s", home != NULL ? home : "/root", m->program->binary);
	return path;
}

/* Starts the process on m's directory and address; used again after server_kill to bring it back. */
static inline void
server_spawn(struct s3_server *m)
{
	char path[PATH_MAX], log[300];
	pid_t parent = getpid();

	server_binary(m, path);
	snprintf(log, sizeof(log), "%s/log", m->dir);
	m->pid = fork();
	if (m->pid != 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	dup2(fd, 1);
	dup2(fd, 2);
	m->program->exec(m, path);
	_exit(127);
}

static inline void
server_kill(struct s3_server *m)
{
	if (m->pid > 0) {
		kill(m->pid, SIGKILL);
		waitpid(m->pid, NULL, 0);
	}
	m->pid = 0;
}

static inline bool
server_wait(struct s3_server *m, struct object_store *s)
{
	int64_t until_mono_ms = clock_mono_ms() + SERVER_READY_MS;

	while (clock_mono_ms() < until_mono_ms && waitpid(m->pid, NULL, WNOHANG) == 0) {
		if (store_check(s, NULL) == 0)
			return true;
		nanosleep(&(struct timespec){0, 50000000}, NULL);
	}
	return false;
}

/* Fills *m and starts it; wait with server_wait. False (with a message) if there is no binary. */
static inline bool
server_start(struct s3_server *m, const struct s3_program *program)
{
	char path[PATH_MAX];
	uint8_t random[16];
	struct err e;

	*m = (struct s3_server){.program = program};
	if (access(server_binary(m, path), X_OK) != 0) {
		fprintf(stderr, "no %s at %s: build it with tools/servers/build.sh\n", program->name, path);
		return false;
	}
	if (file_temp_dir("drover-s3", m->dir, sizeof(m->dir), &e) != 0)
		return false;
	snprintf(m->data, sizeof(m->data), "%s/data", m->dir);
	random_bytes(random, sizeof(random));
	hex_encode(random, sizeof(random), m->password);
	snprintf(m->address, sizeof(m->address), "127.0.0.1:%d", free_port());
	snprintf(m->url, sizeof(m->url), "%s://%s", program->scheme, m->address);
	server_spawn(m);
	return true;
}

static inline void
server_end(struct s3_server *m)
{
	server_kill(m);
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
