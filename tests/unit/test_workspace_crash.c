/* Workers that die over a workspace, and what the others make of it. */
#include "tests/unit/workspace_rig.h"

#define CHILD_FLAG "--open" /* DIR SHA METHOD: opens a workspace under DROVER_FAULT and waits */

static int
child(int argc, char **argv)
{
	struct place p = {0};
	struct workspace_want want = {.target_id = "target", .run_id = "run", .mode = WORKSPACE_COPY_ON_WRITE, .uid = RUN_UID,
	    .gid = RUN_UID};
	struct workspace ws;
	struct err e = {0};

	if (argc != 5 || strcmp(argv[1], CHILD_FLAG) != 0)
		return -1;
	workspaces_own_mounts();
	snprintf(p.sha, sizeof(p.sha), "%s", argv[3]);
	if (open_place(&p, argv[2], &e) != 0)
		return 10;
	p.spaces = workspaces_open(p.cache_dir, strcmp(argv[4], "overlay") == 0 ? WORKSPACE_OVERLAY : WORKSPACE_COPY, &e);
	want.pin = p.tree;
	if (p.spaces == NULL || workspace_open(p.spaces, &want, &ws, &e) != 0)
		return 11;
	if (workspace_close(p.spaces, &ws, &e) != 0)
		return 12;
	workspaces_close(p.spaces, clock_mono_ms() + WAIT_MS);
	return 0;
}

/* A worker in a process of its own, which dies at the fault. */
static void
die_at(struct place *p, const char *fault, const char *method)
{
	char env[64];
	const char *argv[] = {"/proc/self/exe", CHILD_FLAG, p->dir, p->sha, method, NULL}, *envp[] = {env, NULL};
	struct proc_spec spec = {.argv = argv, .env = envp, .fds = {-1, 1, 2, -1}};
	struct buf out = buf_make(4096), err_out = buf_make(4096);
	struct proc_exit x = {0};

	snprintf(env, sizeof(env), "DROVER_FAULT=%s", fault);
	assert_int_equal(proc_run(&spec, 30000, &out, &err_out, &x, NULL), 0);
	if (x.exited || x.signo != SIGKILL)
		fail_msg("%s was not reached (%d)", fault, x.code);
	buf_release(&out);
	buf_release(&err_out);
}

static void
what_a_dead_process_left_is_swept(void **state)
{
	static const char *const faults[] = {"workspace.locked", "workspace.made", "workspace.name_remembered", "workspace.filled",
	    "workspace.unmounted", "workspace.taken", "workspace.deleting", "workspace.mapped", "workspace.mounted", "workspace.mapped:2",
	    "workspace.mounted:2"}; /* the first time it is a trial */
	static const char *const methods[] = {"overlay", "copy"};
	struct place *p = *state;
	bool overlays = possible(p, WORKSPACE_OVERLAY);
	struct workspace live;
	struct err e = {0};

	assert_int_equal(open_run(p, "live", NULL, WORKSPACE_ISOLATED, WORKSPACE_COPY, &live, &e), 0);
	for (size_t i = 0; i < 2 * sizeof(faults) / sizeof(faults[0]); i++) {
		const char *method = methods[i % 2], *fault = faults[i / 2];
		bool mounting = strstr(fault, "mapped") != NULL || strstr(fault, "mounted") == fault + strlen("workspace.");
		int dir;

		if (mounting && (i % 2 == 1 || !overlays))
			continue; /* copies mount nothing */
		dir = open(p->cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		(void)unlink(under(p->cache_dir, "target/shared"));
		die_at(p, fault, method);
		workspaces_close(p->spaces, clock_mono_ms() + WAIT_MS);
		p->spaces = workspaces_open(p->cache_dir, WORKSPACE_COPY, &e);
		assert_non_null(p->spaces);
		/* Of what dies behind the run's back, the run itself may be done. */
		if (strcmp(fault, "workspace.deleting") != 0 && strcmp(fault, "workspace.unmounted") != 0)
			assert_int_equal(workspaces_swept(p->spaces), 1);
		assert_int_not_equal(faccessat(dir, "target/run", F_OK, 0), 0);
		assert_int_not_equal(faccessat(dir, "target/run.lock", F_OK, 0), 0);
		assert_true(holds(under(live.tree, "d/hello"), "hi")); /* its owner lives */
		assert_true(is_tidy(p));
		assert_true(cache_is_clean(p));
		close(dir);
	}
	p->spaces = workspaces_open(p->cache_dir, WORKSPACE_COPY, &e);
	assert_int_equal(workspace_close(p->spaces, &live, &e), 0);
	assert_int_equal(workspaces_swept(p->spaces), 0);
	assert_true(is_tidy(p));
	assert_true(cache_is_clean(p));
}

/* The run comes to another worker of the node before any start has swept what the dead one left of it. */
static void
a_run_whose_worker_died_begins_anew(void **state)
{
	static const char *const faults[] = {"workspace.locked", "workspace.made", "workspace.filled"};
	struct place *p = *state;
	struct workspace_want want = {.target_id = "target", .run_id = "run", .pin = p->tree, .uid = RUN_UID, .gid = RUN_UID};

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		struct workspace ws;
		struct err e = {0};

		p->spaces = workspaces_open(p->cache_dir, WORKSPACE_COPY, &e);
		assert_non_null(p->spaces);
		die_at(p, faults[i], "copy");
		assert_int_equal(access(under(p->cache_dir, "target/run.lock"), F_OK), 0);
		if (workspace_open(p->spaces, &want, &ws, &e) != 0)
			fail_msg("%s: %s", faults[i], e.msg);
		assert_true(holds(under(ws.tree, "d/hello"), "hi"));
		assert_int_equal(workspace_close(p->spaces, &ws, &e), 0);
		assert_true(is_tidy(p));
	}
}

/* As after a reboot: locks and mounts are gone, files are not. And as left by a worker that shares our mounts: overlays are there. */
static void
mounts_of_the_dead_are_swept(void **state)
{
	struct place *p = *state;
	struct workspace ws;
	struct err e = {0};

	if (!possible(p, WORKSPACE_OVERLAY))
		return;
	for (int reboot = 0; reboot < 2; reboot++) {
		assert_int_equal(open_run(p, "run", NULL, WORKSPACE_ISOLATED, WORKSPACE_OVERLAY, &ws, &e), 0);
		assert_int_equal(use_as_run(&ws), 0);
		if (reboot) {
			assert_int_equal(umount2(ws.tree, 0), 0);
			assert_int_equal(umount2(ws.tree, 0), 0); /* what was mapped for it lies under it */
		}
		close(ws.lock_fd);
		workspaces_close(p->spaces, clock_mono_ms() + WAIT_MS);
		p->spaces = workspaces_open(p->cache_dir, WORKSPACE_COPY, &e);
		assert_non_null(p->spaces);
		assert_int_equal(workspaces_swept(p->spaces), 1);
		assert_int_not_equal(access(under(p->cache_dir, "target"), F_OK), 0);
		assert_true(is_tidy(p));
		assert_true(cache_is_clean(p));
	}
}

/* What another worker is deleting is left to it; what it left when it died is not. */
static void
workers_do_not_hinder_each_other(void **state)
{
	static const char name[] = "ended/00000000-0000-0000-0000-000000000000";
	struct place *p = *state;
	int fd;

	assert_true(possible(p, WORKSPACE_COPY)); /* makes ended/ */
	assert_int_equal(mkdir(under(p->cache_dir, name), 0700), 0);
	fd = open(under(p->cache_dir, name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	assert_true(possible(p, WORKSPACE_COPY));
	assert_int_equal(access(under(p->cache_dir, name), F_OK), 0);
	close(fd);
	assert_true(possible(p, WORKSPACE_COPY));
	assert_true(is_tidy(p));
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		IN_PLACE(what_a_dead_process_left_is_swept), IN_PLACE(a_run_whose_worker_died_begins_anew),
		IN_PLACE(mounts_of_the_dead_are_swept), IN_PLACE(workers_do_not_hinder_each_other),
	};
	int status = extract_helper_main(argc, argv);

	if (status < 0)
		status = child(argc, argv);
	if (status >= 0)
		return status;
	workspaces_own_mounts();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
