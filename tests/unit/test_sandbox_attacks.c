/* A hostile tool on every rung: each attack of sandbox_attacks.h is run in the sandbox, and what it did is looked at from
 * outside. This program puts itself where the sandbox shows a toolchain. */
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "tests/unit/sandbox_attacks.h"
#include "tests/unit/sandbox_rig.h"
#include "worker/beneath.h"
#include "worker/cgroup.h"

#define MEMORY (64 * MiB)

static int exe_fd; /* of this program */

struct outcome {
	int rc;
	struct err err;
	struct sandbox_end end;
	char said[4096];
};

struct options { /* of one attack; zero: the plain way */
	bool read_only, egress;
	const char *extra; /* one more NAME=VALUE */
	int64_t disk_bytes, memory_bytes;
};

/* Starts an attack; its mark in /proc is a third argument. */
static int
start(const char *name, const char *mark, const struct options *o, int out_fd, struct sandbox **ret, struct err *e)
{
	char out[400], target[400], scratch[400], victim[400], host_socket[400], host_abstract[400];
	const char *const argv[] = {at("toolchain/attack"), "attack", name, mark, NULL};
	const char *const env[] = {"PATH=/usr/bin:/bin", out, target, scratch, victim, host_socket, host_abstract,
	    o->extra != NULL ? o->extra : "NONE=", NULL};
	struct sandbox_spec spec = {.caps = &caps, .stock = stocked(), .name = "attack", .argv = argv, .env = env,
	    .paths = {.target = at("target"), .target_read_only = o->read_only, .out = at("out"), .scratch = at("scratch"),
	        .workflow = at("workflow"), .params = at("params.json"), .toolchain = at("toolchain")},
	    .limits = {.memory_bytes = o->memory_bytes > 0 ? o->memory_bytes : MEMORY, .cpu_millis = 1000, .processes = PROCESSES, .open_files = 128, .grace_ms = 200,
	        .file_bytes = 512 * MiB, .disk_bytes = o->disk_bytes},
	    .uid = NOBODY, .gid = NOBODY, .egress = o->egress, .out_fd = out_fd, .err_fd = out_fd, .progress_fd = -1};

	snprintf(out, sizeof(out), "OUT=%s", sandbox_inside(&caps, SANDBOX_OUT, at("out")));
	snprintf(target, sizeof(target), "TARGET_DIR=%s", sandbox_inside(&caps, SANDBOX_TARGET, at("target")));
	snprintf(scratch, sizeof(scratch), "SCRATCH=%s", sandbox_inside(&caps, SANDBOX_SCRATCH, at("scratch")));
	snprintf(victim, sizeof(victim), "HOST_VICTIM=%s", at("victim"));
	snprintf(host_socket, sizeof(host_socket), "HOST_SOCKET=%s", at("socket"));
	snprintf(host_abstract, sizeof(host_abstract), "HOST_ABSTRACT=%.100s", at("abstract"));
	return sandbox_start(&spec, ret, e);
}

static struct outcome
attack(const char *name, struct options o)
{
	struct outcome r = {.rc = 0};
	struct sandbox *s = NULL;
	size_t len = 0;
	ssize_t n;
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	r.rc = start(name, NULL, &o, p[1], &s, &r.err);
	close(p[1]);
	if (r.rc == 0)
		r.rc = sandbox_wait(s, clock_mono_ms() + END_WAIT_MS, &r.end, &r.err);
	while (r.rc == 0 && len < sizeof(r.said) - 1 && (n = read(p[0], r.said + len, sizeof(r.said) - 1 - len)) > 0)
		len += (size_t)n;
	close(p[0]);
	sandbox_free(s);
	return r;
}

static void
refused(const char *name, struct options o)
{
	struct outcome r = attack(name, o);

	if (r.rc != 0)
		fail_msg("%s: %s", name, r.err.msg);
	if (!r.end.exited || r.end.code != 0)
		fail_msg("%s: exited %d code %d signal %d: %s", name, r.end.exited, r.end.code, r.end.signo, r.said);
}

static bool
own_root(void)
{
	return caps.rung == RUNG_USER || caps.rung == RUNG_ROOT;
}

static void
others_are_out_of_reach(void **state)
{
	(void)state;
	refused("others_memory", (struct options){0});
	if (caps.landlock_abi >= 6)
		refused("others_signals", (struct options){0});
	if (own_root())
		refused("signals_to_init", (struct options){0});
	refused("descriptors", (struct options){0});
}

static void
a_read_only_target_stays(void **state)
{
	struct stat st;

	(void)state;
	refused("read_only_target", (struct options){.read_only = true});
	if (own_root())
		refused("read_only_modes", (struct options){.read_only = true});
	assert_int_equal(stat(at("target/a.txt"), &st), 0);
	assert_int_equal(st.st_size, 8);
	refused("own_folders_stay", (struct options){0});
}

static void
nothing_is_followed_out_of_out(void **state)
{
	static const char *const traps[] = {"link", "fifo", "zero", "dirlink/precious", "dirlink"};
	int dir;

	(void)state;
	refused("traps_in_out", (struct options){0});
	dir = open(at("out"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0);
	for (size_t i = 0; i < sizeof(traps) / sizeof(traps[0]); i++)
		assert_true(beneath_open_file(dir, traps[i]) < 0);
	close(dir);
	assert_int_equal(file_remove_tree(AT_FDCWD, at("out"), NULL), 0);
	assert_int_equal(file_remove_tree(AT_FDCWD, at("scratch"), NULL), 0);
	assert_int_equal(access(at("victim/precious"), F_OK), 0);
}

static void
the_kernel_is_out_of_reach(void **state)
{
	(void)state;
	refused("calls", (struct options){0});
	refused("other_abis", (struct options){0});
	refused("socket_kinds", (struct options){0});
	refused("socket_kinds", (struct options){.egress = true});
	refused("limits_are_hard", (struct options){0});
}

/* A listening socket of the given address; its port in *ret_port when it is of the internet. */
static int
listen_at(const struct sockaddr *a, socklen_t len, int *ret_port)
{
	int s = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in in;
	socklen_t in_len = sizeof(in);

	assert_true(s >= 0);
	assert_int_equal(bind(s, a, len), 0);
	assert_int_equal(listen(s, 8), 0);
	if (ret_port != NULL) {
		assert_int_equal(getsockname(s, (struct sockaddr *)&in, &in_len), 0);
		*ret_port = ntohs(in.sin_port);
	}
	return s;
}

static void
the_hosts_services_are_out_of_reach(void **state)
{
	struct sockaddr_un file = {.sun_family = AF_UNIX}, abstract = {.sun_family = AF_UNIX};
	struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	char port_env[32];
	int a, b, c, port;

	(void)state;
	snprintf(file.sun_path, sizeof(file.sun_path), "%.100s", at("socket"));
	snprintf(abstract.sun_path + 1, sizeof(abstract.sun_path) - 1, "%.100s", at("abstract")); /* one of all in this network */
	a = listen_at((struct sockaddr *)&file, sizeof(file), NULL);
	assert_int_equal(chmod(at("socket"), 0777), 0);
	b = listen_at((struct sockaddr *)&abstract, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(abstract.sun_path + 1)),
	    NULL);
	c = listen_at((struct sockaddr *)&loopback, sizeof(loopback), &port);
	snprintf(port_env, sizeof(port_env), "HOST_PORT=%d", port);
	refused("host_sockets", (struct options){0});
	refused("host_sockets", (struct options){.egress = true});
	if (caps.landlock_abi >= 4)
		refused("host_ports", (struct options){.egress = true, .extra = port_env});
	close(a);
	close(b);
	close(c);
}

/* Debian 12's kernel has ABI 2: no rule for truncation, abstract sockets or ports. */
static void
an_old_landlock_leaves_no_gap(void **state)
{
	int abi = caps.landlock_abi;

	(void)state;
	if (abi < 2)
		return;
	caps.landlock_abi = 2;
	refused("read_only_target", (struct options){.read_only = true});
	the_hosts_services_are_out_of_reach(state);
	caps.landlock_abi = abi;
}

static void
a_fork_bomb_is_bounded(void **state)
{
	struct outcome r = attack("fork_bomb", (struct options){.memory_bytes = 65536 * MiB});

	(void)state;
	assert_int_equal(r.rc, 0);
	if (caps.rung == RUNG_CONTAINER)
		assert_int_equal(r.end.signo, SIGKILL);
	else if (!r.end.exited || r.end.code != 0)
		fail_msg("signal %d: %s", r.end.signo, r.said);
}

static void
memory_that_no_process_maps_counts(void **state)
{
	static const char *const names[] = {"memory_files", "memory_tmp", "memory_segments"};

	(void)state;
	/* A container's own limit counts them there. */
	for (size_t i = 0; i < (own_root() ? 3 : 1); i++) {
		struct outcome r = attack(names[i], (struct options){0});

		assert_int_equal(r.rc, 0);
		if (r.end.exited || r.end.signo != SIGKILL)
			fail_msg("%s: %s", names[i], r.said);
	}
}

/* Tools use them (JITs, fuzzers): only where nothing bounds what is in there they are refused. */
static void
files_in_memory_are_for_those_whose_memory_is_bounded(void **state)
{
	struct outcome r = attack("memory_file", (struct options){0});

	(void)state;
	assert_int_equal(r.rc, 0);
	assert_string_equal(r.said, caps.cgroup != 0 ? "made" : "refused");
}

static void
the_disk_is_bounded_over_all_files(void **state)
{
	static const char *const names[] = {"disk_out", "disk_target", "disk_hidden", "disk_names", "disk_deep", "disk_nameless"};
	struct outcome r;
	struct err e;

	(void)state;
	/* Whose the open files are can only be said in a pid namespace. */
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) - !own_root(); i++) {
		r = attack(names[i], (struct options){.disk_bytes = 20 * MiB});
		assert_int_equal(r.rc, 0);
		if (!r.end.disk || r.end.signo != SIGKILL)
			fail_msg("%s: disk %d, signal %d", names[i], r.end.disk, r.end.signo);
	}
	if (file_remove_tree(AT_FDCWD, at("scratch/d"), &e) != 0) /* too deep: over every limit, for later steps as well */
		fail_msg("%s", e.msg);
	r = attack("descriptors", (struct options){.disk_bytes = 20 * MiB}); /* else what was there before does not count */
	assert_int_equal(r.rc, 0);
	assert_false(r.end.disk);
}

/* How many processes of the machine have the mark among their arguments. */
static int
living(const char *mark)
{
	DIR *d = opendir("/proc");
	struct dirent *entry;
	int n = 0;

	assert_non_null(d);
	while ((entry = readdir(d)) != NULL) {
		struct buf b = buf_make(65536);
		char path[300];

		snprintf(path, sizeof(path), "/proc/%s/cmdline", entry->d_name);
		if (strspn(entry->d_name, "0123456789") > 0 && file_read(AT_FDCWD, path, &b, NULL) == 0 && b.len > 0)
			n += memmem(b.data, b.len, mark, strlen(mark)) != NULL;
		buf_release(&b);
	}
	closedir(d);
	return n;
}

static void
await_living(const char *mark, bool any)
{
	int64_t deadline_mono_ms = clock_mono_ms() + 30000;

	while ((living(mark) > 0) != any) {
		if (clock_mono_ms() > deadline_mono_ms)
			fail_msg("%d of %s live", living(mark), mark);
		poll(NULL, 0, 10);
	}
}

static void
nothing_outlives_the_step_or_its_worker(void **state)
{
	struct options linger = {.extra = "LINGER=1"}, plain = {0};
	struct sandbox *s = NULL;
	struct sandbox_end end;
	struct err e = {0};
	char mark[64];
	int status;
	pid_t worker;

	(void)state;
	snprintf(mark, sizeof(mark), "mark-%d-%d", (int)getpid(), (int)caps.rung);
	assert_int_equal(start("survivor", mark, &plain, -1, &s, &e), 0);
	assert_int_equal(sandbox_wait(s, clock_mono_ms() + 10000, &end, &e), 0);
	assert_int_equal(living(mark), 0);
	sandbox_free(s);
	worker = fork();
	if (worker == 0) {
		(void)start("survivor", mark, &linger, -1, &s, &e);
		for (;;)
			pause();
	}
	await_living(mark, true);
	assert_int_equal(kill(worker, SIGKILL), 0);
	assert_int_equal(waitpid(worker, &status, 0), worker);
	await_living(mark, false);
}

static void
groups_of_dead_workers_are_swept(void **state)
{
	static const char *const names[] = {"drover-999999999-left", "drover-other"};
	struct cgroup g;
	char path[700], *slash;
	struct err e = {0};

	(void)state;
	if (caps.cgroup == 0)
		return;
	assert_int_equal(cgroup_make(caps.cgroup, "alive", MEMORY, 1000, 16, &g, &e), 0);
	snprintf(path, sizeof(path), "%s", g.dirs[0]);
	slash = strrchr(path, '/') + 1;
	for (size_t i = 0; i < 2; i++) {
		snprintf(slash, 100, "%s", names[i]);
		assert_int_equal(mkdir(path, 0755), 0);
	}
	cgroup_sweep(caps.cgroup);
	assert_int_equal(rmdir(path), 0); /* of another's making */
	snprintf(slash, 100, "%s", names[0]);
	assert_int_equal(access(path, F_OK), -1);
	cgroup_remove(&g);
}

/* SANDBOX=none, or best-effort where no rung works: still no root, and the step's own folders can be written. */
static void
without_a_rung_tools_run_as_a_plain_user(void **state)
{
	enum sandbox_rung rung = caps.rung;
	bool netns = caps.netns;
	struct outcome r;

	(void)state;
	caps.rung = RUNG_NONE;
	caps.netns = false;
	r = attack("write_out", (struct options){0});
	caps.rung = rung;
	caps.netns = netns;
	if (geteuid() == 0) {
		assert_int_equal(r.rc, ERR_IO);
		assert_non_null(strstr(r.err.msg, "as root"));
	} else {
		if (r.rc != 0)
			fail_msg("%s", r.err.msg);
		assert_int_equal(r.end.code, 0);
		assert_int_equal(access(at("out/written"), F_OK), 0);
	}
}

/* Whether the process has a child: a helper has, in its pid namespace; the one that only forks helpers has none. */
static bool
has_child(const char *pid)
{
	struct buf b = buf_make(4096);
	char path[80];
	bool has;

	snprintf(path, sizeof(path), "/proc/%.20s/task/%.20s/children", pid, pid);
	has = file_read(AT_FDCWD, path, &b, NULL) == 0 && b.len > 0;
	buf_release(&b);
	return has;
}

/* Our children that are helpers. */
static pid_t
find_helper(void)
{
	char path[64], text[64];
	DIR *d = opendir("/proc");
	struct dirent *entry;
	pid_t found = 0;

	assert_non_null(d);
	while (found == 0 && (entry = readdir(d)) != NULL) {
		struct buf b = buf_make(4096);
		const char *after;

		snprintf(path, sizeof(path), "/proc/%.20s/stat", entry->d_name);
		snprintf(text, sizeof(text), " %d ", (int)getpid());
		if (strspn(entry->d_name, "0123456789") > 0 && file_read(AT_FDCWD, path, &b, NULL) == 0 && b.len > 0 &&
		    (after = strrchr(b.data, ')')) != NULL && strncmp(after + 3, text, strlen(text)) == 0 && has_child(entry->d_name))
			found = (pid_t)atoi(entry->d_name);
		buf_release(&b);
	}
	closedir(d);
	return found;
}

static void
a_killed_helper_takes_all_with_it(void **state)
{
	struct options linger = {.extra = "LINGER=1"};
	struct sandbox *s = NULL;
	struct sandbox_end end;
	struct err e = {0};
	char mark[64];

	(void)state;
	if (!own_root())
		return; /* without a pid namespace only the program itself goes with it */
	snprintf(mark, sizeof(mark), "helper-%d-%d", (int)getpid(), (int)caps.rung);
	assert_int_equal(start("survivor", mark, &linger, -1, &s, &e), 0);
	await_living(mark, true);
	assert_int_equal(kill(find_helper(), SIGKILL), 0);
	assert_int_equal(sandbox_wait(s, clock_mono_ms() + 10000, &end, &e), ERR_IO);
	await_living(mark, false);
	sandbox_free(s);
}

static int
set_up(void **state)
{
	static const char *const dirs[] = {"target", "out", "scratch", "workflow", "toolchain", "victim"};
	struct err e = {0};
	int fd;

	(void)state;
	if (file_temp_dir("drover-attacks", base, sizeof(base), &e) != 0)
		fail_msg("%s", e.msg);
	assert_int_equal(chmod(base, 0711), 0);
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		assert_int_equal(mkdir(at(dirs[i]), 0755), 0);
		if (geteuid() == 0)
			assert_int_equal(chown(at(dirs[i]), NOBODY, NOBODY), 0);
	}
	put(at("target/a.txt"), "target a");
	if (geteuid() == 0)
		assert_int_equal(chown(at("target/a.txt"), NOBODY, NOBODY), 0);
	put(at("params.json"), "{}");
	put(at("secret"), "secret");
	put(at("victim/precious"), "precious");
	fd = open(at("toolchain/attack"), O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	assert_true(fd >= 0);
	assert_int_equal(lseek(exe_fd, 0, SEEK_SET), 0);
	while (sendfile(fd, exe_fd, NULL, 1 << 20) > 0)
		;
	close(fd);
	stock = from_stock ? sandbox_stock_new(&caps, at("toolchain"), 2, true) : NULL;
	stock_owner = getpid();
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	sandbox_stock_free(stock);
	stock = NULL;
	return file_remove_tree(AT_FDCWD, base, NULL);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test_setup_teardown(others_are_out_of_reach, set_up, tear_down),
	cmocka_unit_test_setup_teardown(a_read_only_target_stays, set_up, tear_down),
	cmocka_unit_test_setup_teardown(nothing_is_followed_out_of_out, set_up, tear_down),
	cmocka_unit_test_setup_teardown(the_kernel_is_out_of_reach, set_up, tear_down),
	cmocka_unit_test_setup_teardown(the_hosts_services_are_out_of_reach, set_up, tear_down),
	cmocka_unit_test_setup_teardown(an_old_landlock_leaves_no_gap, set_up, tear_down),
	cmocka_unit_test_setup_teardown(a_fork_bomb_is_bounded, set_up, tear_down),
	cmocka_unit_test_setup_teardown(memory_that_no_process_maps_counts, set_up, tear_down),
	cmocka_unit_test_setup_teardown(files_in_memory_are_for_those_whose_memory_is_bounded, set_up, tear_down),
	cmocka_unit_test_setup_teardown(the_disk_is_bounded_over_all_files, set_up, tear_down),
	cmocka_unit_test_setup_teardown(nothing_outlives_the_step_or_its_worker, set_up, tear_down),
	cmocka_unit_test_setup_teardown(a_killed_helper_takes_all_with_it, set_up, tear_down),
	cmocka_unit_test_setup_teardown(without_a_rung_tools_run_as_a_plain_user, set_up, tear_down),
	cmocka_unit_test(groups_of_dead_workers_are_swept),
};

int
main(int argc, char **argv)
{
	int rc = sandbox_helper_main(argc, argv);

	if (rc < 0 && (rc = attack_main(argc, argv)) >= 0)
		_exit(rc); /* a sanitizer's leak check needs calls that the sandbox denies */
	if (rc >= 0)
		return rc;
	exe_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	return sandbox_suite_run(&(const struct sandbox_suite){tests, sizeof(tests) / sizeof(tests[0]), NULL, NULL});
}
