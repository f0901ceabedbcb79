/* nomad_agent.h - a Nomad of one's own for a contract test: a server and a client in processes of their own (a client that starts
 * together with its server may be refused and then waits), free ports, private directory, killed at the end, and with us. */
#ifndef TESTS_CONTRACT_NOMAD_AGENT_H
#define TESTS_CONTRACT_NOMAD_AGENT_H

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "cluster/nomad.h"
#include "free_port.h"

#define NOMAD_VERSION "nomad-1.11.3"
#define NOMAD_READY_MS 60000

struct agent {
	char dir[200], url[64], cgroup[64];
	int ports[6]; /* server's http, rpc, serf; client's */
	pid_t server, client;
};

static inline void
agent_write(const char *dir, const char *name, const char *text, mode_t mode)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	if (fd < 0 || file_write_all(fd, text, strlen(text), NULL) != 0)
		exit(2);
	close(fd);
}

/* Starts one of the two; again after agent_kill to bring it back. */
static inline pid_t
agent_spawn(const struct agent *a, const char *role)
{
	char binary[PATH_MAX], config[PATH_MAX], log[PATH_MAX];
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	pid_t pid;
	int fd;

	if (cache != NULL && cache[0] != '\0')
		snprintf(binary, sizeof(binary), "%s/drover/servers/" NOMAD_VERSION, cache);
	else
		snprintf(binary, sizeof(binary), "%s/.cache/drover/servers/" NOMAD_VERSION, home != NULL ? home : "/root");
	snprintf(config, sizeof(config), "%s/%s.json", a->dir, role);
	snprintf(log, sizeof(log), "%s/%s.log", a->dir, role);
	pid = fork();
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	dup2(fd, 1);
	dup2(fd, 2);
	execl(binary, "nomad", "agent", "-config", config, (char *)NULL);
	_exit(127);
}

static inline void
agent_kill(pid_t *pid, int signo)
{
	if (*pid <= 0)
		return;
	kill(*pid, signo);
	waitpid(*pid, NULL, 0);
	*pid = 0;
}

/* Waits until the server answers and has a leader; 0, or -1 when it did not in time. */
static inline int
agent_wait(const struct agent *a)
{
	struct nomad_config cfg = {.addr = a->url};
	struct nomad *n = nomad_new(&cfg);
	int64_t until = clock_mono_ms() + NOMAD_READY_MS;
	struct timespec pause = {.tv_nsec = 50000000};
	int rc;

	while ((rc = nomad_ping(n, NULL)) != 0 && clock_mono_ms() < until)
		nanosleep(&pause, NULL); /* between two questions: it has no event for us before it answers */
	nomad_free(n);
	return rc == 0 ? 0 : -1;
}

static inline void
agent_configure(const struct agent *a)
{
	char text[4096];
	const char *common = "{\"name\":\"%s\",\"data_dir\":\"%s/%s\",\"bind_addr\":\"127.0.0.1\",\"advertise\":{\"http\":\"127.0.0.1\","
	    "\"rpc\":\"127.0.0.1\",\"serf\":\"127.0.0.1\"},\"ports\":{\"http\":%d,\"rpc\":%d,\"serf\":%d},\"disable_update_check\":true,"
	    "\"leave_on_interrupt\":false,\"leave_on_terminate\":false,\"consul\":{\"address\":\"127.0.0.1:9\",\"auto_advertise\":false,"
	    "\"server_auto_join\":false,\"client_auto_join\":false},";
	int n = snprintf(text, sizeof(text), common, "server", a->dir, "s", a->ports[0], a->ports[1], a->ports[2]);

	snprintf(text + n, sizeof(text) - (size_t)n, "\"server\":{\"enabled\":true,\"bootstrap_expect\":1,\"raft_multiplier\":1,"
	    "\"heartbeat_grace\":\"2s\",\"min_heartbeat_ttl\":\"3s\"}}");
	agent_write(a->dir, "server.json", text, 0600);
	n = snprintf(text, sizeof(text), common, "client", a->dir, "c", a->ports[3], a->ports[4], a->ports[5]);
	snprintf(text + n, sizeof(text) - (size_t)n, "\"client\":{\"enabled\":true,\"servers\":[\"127.0.0.1:%d\"],"
	    "\"network_interface\":\"lo\",\"cpu_total_compute\":64000,\"memory_total_mb\":65536,\"cgroup_parent\":\"%s\","
	    "\"options\":{\"fingerprint.denylist\":\"env_aws,env_gce,env_azure,env_digitalocean\",\"driver.denylist\":\"docker\"}},"
	    "\"plugin\":{\"raw_exec\":{\"config\":{\"enabled\":true}}}}", a->ports[1], a->cgroup);
	agent_write(a->dir, "client.json", text, 0600);
}

static inline int
agent_start(struct agent *a)
{
	for (size_t i = 0; i < 6; i++)
		a->ports[i] = free_port();
	snprintf(a->url, sizeof(a->url), "http://127.0.0.1:%d", a->ports[0]);
	snprintf(a->cgroup, sizeof(a->cgroup), "/drover-test-%d", (int)getpid());
	if (file_temp_dir("drover-nomad", a->dir, sizeof(a->dir), NULL) != 0)
		return -1;
	agent_configure(a);
	a->server = agent_spawn(a, "server");
	if (agent_wait(a) != 0)
		return -1;
	a->client = agent_spawn(a, "client");
	return 0;
}

/* Tasks outlive their client: kills whatever names our private directory in its arguments or environment. */
static inline void
agent_kill_tasks(const struct agent *a)
{
	static const char *const files[] = {"cmdline", "environ"};
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	while (proc != NULL && (entry = readdir(proc)) != NULL) {
		for (size_t i = 0; i < 2 && entry->d_name[0] >= '1' && entry->d_name[0] <= '9'; i++) {
			struct buf b = buf_make(1 << 20);
			char path[320];

			snprintf(path, sizeof(path), "/proc/%s/%s", entry->d_name, files[i]);
			if (file_read(AT_FDCWD, path, &b, NULL) == 0 && b.len > 0 && memmem(b.data, b.len, a->dir, strlen(a->dir)) != NULL)
				kill((pid_t)strtol(entry->d_name, NULL, 10), SIGKILL);
			buf_release(&b);
		}
	}
	if (proc != NULL)
		closedir(proc);
}

static inline void
agent_unmount(const struct agent *a)
{
	struct buf b = buf_make(1 << 20);
	char *rest, *line;

	if (file_read(AT_FDCWD, "/proc/self/mounts", &b, NULL) == 0) {
		for (rest = b.data; (line = strsep(&rest, "\n")) != NULL;) {
			char *at = strstr(line, a->dir);

			if (at != NULL)
				umount2(strsep(&at, " "), MNT_DETACH);
		}
	}
	buf_release(&b);
}

static inline void
agent_stop(struct agent *a)
{
	agent_kill(&a->client, SIGKILL);
	agent_kill(&a->server, SIGKILL);
	agent_kill_tasks(a);
	agent_unmount(a);
	(void)file_remove_tree(AT_FDCWD, a->dir, NULL);
}

#endif
