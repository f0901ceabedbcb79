/* The sandbox on the real kernel, on every rung that this user can have: root runs rung 3 itself and the others as nobody. */
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "tests/unit/sandbox_rig.h"

#define MiB (1024ll * 1024)
#define GRACE_MS 300

struct outcome {
	int rc;
	struct err err;
	struct sandbox_end end;
	struct buf out;
};

/* Where the program sees what the host has at base/NAME. */
static const char *
inside(const char *place, const char *name)
{
	return sandbox_inside(&caps, place, at(name));
}

/* Until it has said something, which it does when it is ready for what comes. */
static void
hear(struct sandbox *s, int fd, struct outcome *o)
{
	int64_t deadline_mono_ms = clock_mono_ms() + END_WAIT_MS;
	struct pollfd said = {.fd = fd, .events = POLLIN};
	char piece[4096];
	ssize_t n;

	while (poll(&said, 1, 0) == 0) {
		assert_true(clock_mono_ms() < deadline_mono_ms);
		assert_int_equal(sandbox_wait(s, clock_mono_ms() + 20, &o->end, &o->err), ERR_TIMEOUT);
	}
	n = read(fd, piece, sizeof(piece));
	assert_true(n > 0);
	buf_add(&o->out, piece, (size_t)n);
}

/* Runs a shell line in a sandbox, of that stock if it has one; stop: sandbox_stop once it has said something. */
static struct outcome
run_from(struct sandbox_stock *from, const char *line, bool read_only, int64_t memory, bool stop)
{
	const char *const argv[] = {"/bin/sh", "-c", line, NULL};
	char out_env[400], target_env[400], scratch_env[400];
	const char *const env[] = {"PATH=/usr/bin:/bin", out_env, target_env, scratch_env, NULL};
	struct sandbox_spec spec = {.caps = &caps, .stock = from, .name = "unit-test", .argv = argv, .env = env,
	    .paths = {.target = at("target"), .target_read_only = read_only, .out = at("out"), .scratch = at("scratch"),
	        .workflow = at("workflow"), .params = at("params.json"), .toolchain = at("toolchain")},
	    .limits = {.memory_bytes = memory, .cpu_millis = 1000, .processes = 64, .file_bytes = 16 * MiB, .open_files = 128,
	        .grace_ms = GRACE_MS},
	    .uid = NOBODY, .gid = NOBODY, .progress_fd = -1};
	struct outcome o = {.out = buf_make(65536)};
	struct sandbox *s = NULL;
	int p[2];
	char piece[4096];
	ssize_t n;

	snprintf(out_env, sizeof(out_env), "OUT=%s", inside(SANDBOX_OUT, "out"));
	snprintf(target_env, sizeof(target_env), "TARGET_DIR=%s", inside(SANDBOX_TARGET, "target"));
	snprintf(scratch_env, sizeof(scratch_env), "SCRATCH=%s", inside(SANDBOX_SCRATCH, "scratch"));
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	spec.out_fd = spec.err_fd = p[1];
	o.rc = sandbox_start(&spec, &s, &o.err);
	close(p[1]);
	if (o.rc == 0) {
		if (stop) {
			hear(s, p[0], &o);
			sandbox_stop(s);
		}
		o.rc = sandbox_wait(s, clock_mono_ms() + END_WAIT_MS, &o.end, &o.err);
		while ((n = read(p[0], piece, sizeof(piece))) > 0)
			buf_add(&o.out, piece, (size_t)n);
	}
	close(p[0]);
	sandbox_free(s);
	return o;
}

static struct outcome
run(const char *line, bool read_only, int64_t memory, bool stop)
{
	return run_from(stocked(), line, read_only, memory, stop);
}

static void
expect(const char *line, int code, const char *output)
{
	struct outcome o = run(line, false, 256 * MiB, false);

	if (o.rc != 0)
		fail_msg("'%s': %s", line, o.err.msg);
	if (!o.end.exited || o.end.code != code || (output != NULL && strcmp(buf_str(&o.out), output) != 0))
		fail_msg("'%s': exited %d code %d signal %d, said \"%s\"", line, o.end.exited, o.end.code, o.end.signo, buf_str(&o.out));
	buf_release(&o.out);
}

static void
programs_run_and_their_end_is_told(void **state)
{
	struct outcome o;

	(void)state;
	expect("echo hello; exit 7", 7, "hello\n");
	o = run("kill -SEGV $$", false, 256 * MiB, false);
	assert_int_equal(o.rc, 0);
	assert_false(o.end.exited);
	assert_int_equal(o.end.signo, SIGSEGV);
	buf_release(&o.out);
}

static void
a_program_that_is_not_there_is_told(void **state)
{
	const char *const argv[] = {"no-such-tool", NULL}, *const env[] = {"PATH=/usr/bin:/bin", NULL};
	struct sandbox_spec spec = {.caps = &caps, .stock = stocked(), .name = "missing", .argv = argv, .env = env,
	    .limits = {64 * MiB, 1000, 64, MiB, 64, 100, 0}, .uid = NOBODY, .gid = NOBODY, .out_fd = -1, .err_fd = -1, .progress_fd = -1};
	struct sandbox *s = NULL;
	struct sandbox_end end;
	struct err e = {0};

	(void)state;
	assert_int_equal(sandbox_start(&spec, &s, &e), 0);
	assert_int_equal(sandbox_wait(s, clock_mono_ms() + 30000, &end, &e), ERR_NOTFOUND);
	assert_non_null(strstr(e.msg, "no-such-tool"));
	sandbox_free(s);
}

static void
it_sees_its_own_files_and_no_others(void **state)
{
	char line[1024];

	(void)state;
	put(at("secret"), "credentials");
	expect("cat \"$TARGET_DIR/a.txt\"", 0, "target a");
	expect("echo result > \"$OUT/r\" && echo tmp > \"$SCRATCH/t\"", 0, "");
	assert_int_equal(access(at("out/r"), F_OK), 0);
	snprintf(line, sizeof(line), "cat %s 2>/dev/null || echo hidden", at("secret"));
	expect(line, 0, "hidden\n");
	snprintf(line, sizeof(line), "(echo x > %s/stolen; echo x > /etc/stolen) 2>/dev/null; ls %s/stolen /etc/stolen 2>/dev/null; true",
	    base, base);
	expect(line, 0, "");
	expect("cat /proc/1/environ 2>/dev/null | tr '\\0' '\\n' | grep -c CREDENTIAL_IN_ENV; true", 0, "0\n");
	expect("cat /etc/shadow 2>/dev/null; true", 0, "");
}

static void
it_has_no_rights(void **state)
{
	(void)state;
	expect("id -u | grep -qv '^0$' && echo plain", 0, "plain\n");
	expect("grep -h -E '^(CapEff|CapPrm|CapBnd|NoNewPrivs)' /proc/self/status | tr -d '\\t' | tr '\\n' ' '", 0,
	    caps.rung == RUNG_CONTAINER ? NULL : "CapPrm:0000000000000000 CapEff:0000000000000000 CapBnd:0000000000000000 NoNewPrivs:1 ");
	expect("grep -h -E '^(CapEff|NoNewPrivs)' /proc/self/status | tr -d '\\t' | tr '\\n' ' '", 0,
	    "CapEff:0000000000000000 NoNewPrivs:1 ");
	expect("unshare -U true 2>/dev/null || echo refused", 0, "refused\n");
	expect("mount -t tmpfs x /tmp 2>/dev/null || echo refused", 0, "refused\n");
}

static void
the_target_can_be_read_only(void **state)
{
	struct outcome o;

	(void)state;
	o = run("(echo x > \"$TARGET_DIR/new\") 2>/dev/null || echo refused; chmod 777 \"$TARGET_DIR/a.txt\" 2>/dev/null; "
	    "(echo y >> \"$TARGET_DIR/a.txt\") 2>/dev/null || echo refused", true, 256 * MiB, false);
	assert_int_equal(o.rc, 0);
	assert_string_equal(buf_str(&o.out), "refused\nrefused\n");
	assert_int_not_equal(access(at("target/new"), F_OK), 0);
	buf_release(&o.out);
}

static void
it_cannot_reach_the_network(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(a);
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char line[300];

	(void)state;
	assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(s, 1), 0);
	assert_int_equal(getsockname(s, (struct sockaddr *)&a, &len), 0);
	snprintf(line, sizeof(line), "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", %d), 2)' 2>/dev/null && echo reached || echo not",
	    ntohs(a.sin_port));
	expect(line, 0, "not\n");
	close(s);
}

/* Whether any process of the machine has the mark among its arguments. */
static bool
lives(const char *mark)
{
	DIR *d = opendir("/proc");
	struct dirent *entry;
	bool found = false;

	assert_non_null(d);
	while ((entry = readdir(d)) != NULL) {
		struct buf b = buf_make(65536);
		char path[300];

		snprintf(path, sizeof(path), "/proc/%s/cmdline", entry->d_name);
		if (strspn(entry->d_name, "0123456789") > 0 && file_read(AT_FDCWD, path, &b, NULL) == 0 && b.len > 0)
			found = found || memmem(b.data, b.len, mark, strlen(mark)) != NULL;
		buf_release(&b);
	}
	closedir(d);
	return found;
}

static void
nothing_outlives_it(void **state)
{
	char line[300], mark[64];

	(void)state;
	snprintf(mark, sizeof(mark), "4%d.%d", (int)getpid(), (int)caps.rung);
	snprintf(line, sizeof(line), "setsid sleep %s & (setsid sleep %s &) ; sleep 0.2; echo started", mark, mark);
	expect(line, 0, "started\n");
	assert_false(lives(mark));
}

static void
too_much_memory_ends_it_and_is_told(void **state)
{
	struct outcome o;

	(void)state;
	o = run("python3 -c 'import time; x = bytearray(200 * 1024 * 1024); time.sleep(5)'", false, 64 * MiB, false);
	if (o.rc != 0)
		fail_msg("%s", o.err.msg);
	assert_true(o.end.oom);
	assert_false(o.end.exited && o.end.code == 0);
	buf_release(&o.out);
}

static void
stopping_gives_a_grace_and_then_kills(void **state)
{
	struct outcome o;
	int64_t began_mono_ms;

	(void)state;
	o = run("trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.05; done", false, 256 * MiB, true);
	assert_int_equal(o.rc, 0);
	assert_true(o.end.stopped);
	assert_non_null(strstr(buf_str(&o.out), "told\n"));
	assert_int_equal(o.end.code, 3);
	buf_release(&o.out);
	began_mono_ms = clock_mono_ms();
	o = run("trap '' TERM; echo ready; while :; do sleep 0.05; done", false, 256 * MiB, true);
	assert_int_equal(o.rc, 0);
	assert_false(o.end.exited);
	assert_int_equal(o.end.signo, SIGKILL);
	buf_release(&o.out);
	assert_in_range(clock_mono_ms() - began_mono_ms, GRACE_MS, 8000);
}

static void
output_files_are_bounded(void **state)
{
	struct outcome o;
	struct stat st;

	(void)state;
	o = run("head -c 40000000 /dev/zero > \"$OUT/big\" 2>/dev/null; echo $?", false, 256 * MiB, false);
	assert_int_equal(o.rc, 0);
	assert_string_not_equal(buf_str(&o.out), "0\n");
	assert_int_equal(stat(at("out/big"), &st), 0);
	assert_int_equal(st.st_size, 16 * MiB);
	buf_release(&o.out);
}

/* How many of our children, by all threads, were forked by the stock's mother, or are she; signo is sent to each (0: none). */
static unsigned
signal_stock(int signo)
{
	DIR *threads = opendir("/proc/self/task");
	struct dirent *d;
	unsigned n = 0;

	assert_non_null(threads);
	while ((d = readdir(threads)) != NULL) {
		char path[300], line[64] = "";
		FILE *list;
		int pid, fd;

		snprintf(path, sizeof(path), "/proc/self/task/%.40s/children", d->d_name);
		list = d->d_name[0] != '.' ? fopen(path, "re") : NULL;
		while (list != NULL && fscanf(list, "%d", &pid) == 1) {
			snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
			fd = open(path, O_RDONLY | O_CLOEXEC);
			/* "init", what is left of the path, the argument */
			if (fd >= 0 && read(fd, line, sizeof(line)) > 0 && line[0] == 'i' &&
			    memmem(line, sizeof(line), "-mother", 7) != NULL) {
				n++;
				(void)kill(pid, signo);
			}
			if (fd >= 0)
				close(fd);
		}
		if (list != NULL)
			fclose(list);
	}
	closedir(threads);
	return n;
}

/* Who takes mother and helpers all away finds new ones. What is taken out of the stock in the moment of dying fails. */
static void
a_killed_stock_is_made_again(void **state)
{
	(void)state;
	if (stocked() == NULL)
		return;
	for (int i = 0; i < 3; i++) {
		int64_t deadline_mono_ms = clock_mono_ms() + 30000;
		bool served = false;

		assert_true(signal_stock(SIGKILL) >= 2);
		while (!served) {
			struct outcome o = run("echo served", false, 256 * MiB, false);

			served = o.rc == 0 && strcmp(buf_str(&o.out), "served\n") == 0;
			buf_release(&o.out);
			assert_true(served || clock_mono_ms() < deadline_mono_ms);
		}
		while (signal_stock(0) < 2) { /* she and one helper at least */
			(void)stocked();
			assert_true(clock_mono_ms() < deadline_mono_ms);
		}
		expect("echo again", 0, "again\n");
	}
}

/* For a worker that runs one thing: nothing takes the place of what was taken, and later programs find a sandbox all the same. */
static void
a_stock_that_is_not_renewed_serves_once(void **state)
{
	int64_t deadline_mono_ms = clock_mono_ms() + 10000;
	struct sandbox_stock *one;

	(void)state;
	if (stocked() == NULL)
		return;
	one = sandbox_stock_new(&caps, at("toolchain"), 1, false);
	while (sandbox_stock_ready(one) < 1)
		assert_true(clock_mono_ms() < deadline_mono_ms);
	for (int i = 0; i < 10; i++) {
		struct outcome o = run_from(one, "echo once", false, 256 * MiB, false);

		assert_int_equal(o.rc, 0);
		assert_string_equal(buf_str(&o.out), "once\n");
		buf_release(&o.out);
		assert_int_equal(sandbox_stock_ready(one), 0);
	}
	sandbox_stock_free(one);
}

static int
set_up(void **state)
{
	static const char *const dirs[] = {"target", "out", "scratch", "workflow", "toolchain"};
	struct err e = {0};

	(void)state;
	if (file_temp_dir("drover-sandbox", base, sizeof(base), &e) != 0)
		fail_msg("%s", e.msg);
	/* Others must pass through to what is theirs, as in a cache directory. */
	assert_int_equal(chmod(base, 0711), 0);
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		assert_int_equal(mkdir(at(dirs[i]), 0755), 0);
		if (geteuid() == 0)
			assert_int_equal(chown(at(dirs[i]), NOBODY, NOBODY), 0);
	}
	put(at("target/a.txt"), "target a");
	put(at("params.json"), "{}");
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
	cmocka_unit_test(programs_run_and_their_end_is_told), cmocka_unit_test(a_program_that_is_not_there_is_told),
	cmocka_unit_test(it_sees_its_own_files_and_no_others), cmocka_unit_test(it_has_no_rights),
	cmocka_unit_test(the_target_can_be_read_only), cmocka_unit_test(it_cannot_reach_the_network),
	cmocka_unit_test(nothing_outlives_it), cmocka_unit_test(too_much_memory_ends_it_and_is_told),
	cmocka_unit_test(stopping_gives_a_grace_and_then_kills), cmocka_unit_test(output_files_are_bounded),
	cmocka_unit_test(a_killed_stock_is_made_again), cmocka_unit_test(a_stock_that_is_not_renewed_serves_once),
};

int
main(int argc, char **argv)
{
	int rc = sandbox_helper_main(argc, argv);

	if (rc >= 0)
		return rc;
	setenv("CREDENTIAL_IN_ENV", "secret", 1);
	return sandbox_suite_run(&(const struct sandbox_suite){tests, sizeof(tests) / sizeof(tests[0]), set_up, tear_down});
}
