#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/sandbox_wire.h"

/* Landlock by number: Debian 12's header ends at ABI 2. Source: Documentation/userspace-api/landlock.rst. */
#define SYS_LANDLOCK_CREATE 444
#define SYS_LANDLOCK_ADD 445
#define SYS_LANDLOCK_SELF 446
#define CREATE_VERSION 1u
#define RULE_PATH 1
#define RULE_PORT 2

#define FS_EXECUTE (1ull << 0)
#define FS_WRITE_FILE (1ull << 1)
#define FS_READ_FILE (1ull << 2)
#define FS_READ_DIR (1ull << 3)
#define FS_ALL_V1 ((1ull << 13) - 1)
#define FS_REFER (1ull << 13)     /* ABI 2 */
#define FS_TRUNCATE (1ull << 14)  /* ABI 3 */
#define FS_IOCTL_DEV (1ull << 15) /* ABI 5 */
#define NET_BIND_TCP (1ull << 0)  /* ABI 4 */
#define NET_CONNECT_TCP (1ull << 1)
#define SCOPE_ABSTRACT (1ull << 0) /* ABI 6 */
#define SCOPE_SIGNAL (1ull << 1)

#define FS_READ (FS_EXECUTE | FS_READ_FILE | FS_READ_DIR)

struct ruleset_attr {
	uint64_t fs, net, scoped;
};

struct path_attr {
	uint64_t access;
	int32_t fd;
} __attribute__((packed));

struct port_attr {
	uint64_t access, port;
};

static int
failed(struct err *e, const char *what)
{
	return err_set(e, ERR_IO, "sandbox: %s: %s", what, strerror(errno));
}

/* The kernel counts the processes of a uid, in a user namespace those of the uid there: right where that is the step's alone. A
 * control group counts exactly; uids may be shared by workers on one node, which must not hold each other up. */
static rlim_t
process_limit(const struct box *b)
{
	bool grouped = b->cgroup.version == 2 || (b->cgroup.version == 1 && b->cgroup.dirs[CGROUP_PIDS][0] != '\0');
	bool own_uid = b->caps.rung == RUNG_USER || (b->caps.rung == RUNG_ROOT && !grouped);

	return own_uid ? (rlim_t)b->limits.processes : RLIM_INFINITY;
}

int
box_set_limits(const struct box *b, struct err *e)
{
	const struct {
		int resource;
		rlim_t value;
	} limits[] = {
		/* Not 0, which a core_pattern that is a program of the host takes for "no limit"; 1 keeps that from being started. */
		{RLIMIT_CORE, 1}, {RLIMIT_FSIZE, (rlim_t)b->limits.file_bytes}, {RLIMIT_NOFILE, (rlim_t)b->limits.open_files},
		{RLIMIT_MEMLOCK, 64 * 1024}, {RLIMIT_MSGQUEUE, 0},
		{RLIMIT_NPROC, process_limit(b)},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rlimit now, r = {limits[i].value, limits[i].value};

		/* Never above what we were given ourselves. */
		if (getrlimit((__rlimit_resource_t)limits[i].resource, &now) == 0 && now.rlim_max < r.rlim_max)
			r.rlim_cur = r.rlim_max = now.rlim_max;
		if (setrlimit((__rlimit_resource_t)limits[i].resource, &r) != 0)
			return failed(e, "set a resource limit");
	}
	return 0;
}

int
box_drop_rights(const struct box *b, struct err *e)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};

	/* The bounding set first: dropping it needs the capability that is about to go. Fails where we have none: fine. */
	for (int cap = 0; cap <= 63; cap++)
		(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (b->caps.rung == RUNG_ROOT) {
		if (setgroups(0, NULL) != 0 || setresgid(b->gid, b->gid, b->gid) != 0 || setresuid(b->uid, b->uid, b->uid) != 0)
			return failed(e, "become the slot's user");
	}
	if (syscall(SYS_capset, &header, none) != 0)
		return failed(e, "drop capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return failed(e, "set no_new_privs");
	if (geteuid() == 0 || getegid() == 0)
		return err_set(e, ERR_IO, "sandbox: refused to run a tool as root: the worker needs CAP_SYS_ADMIN, or to be a plain user");
	return 0;
}

int
box_landlock_abi(void)
{
	long abi = syscall(SYS_LANDLOCK_CREATE, NULL, 0, CREATE_VERSION);

	return abi > 0 ? (int)abi : 0;
}

/* Allows `access` below path; what is not there needs no rule. Files take only the rights that files have. */
static int
allow(int ruleset, const char *path, uint64_t access, struct err *e)
{
	struct path_attr rule = {.access = access};
	struct stat st;
	int rc = 0;

	if (path[0] == '\0')
		return 0;
	rule.fd = open(path, O_PATH | O_CLOEXEC);
	if (rule.fd < 0)
		return errno == ENOENT ? 0 : failed(e, path);
	if (fstat(rule.fd, &st) == 0 && !S_ISDIR(st.st_mode))
		rule.access &= FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV;
	if (syscall(SYS_LANDLOCK_ADD, ruleset, RULE_PATH, &rule, 0) != 0)
		rc = failed(e, path);
	close(rule.fd);
	return rc;
}

/* Only web and name service when the workflow may use the network: never the cluster's own services on this host. */
static int
allow_ports(int ruleset, struct err *e)
{
	static const uint16_t ports[] = {53, 80, 443};

	for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
		struct port_attr rule = {.access = NET_CONNECT_TCP, .port = ports[i]};

		if (syscall(SYS_LANDLOCK_ADD, ruleset, RULE_PORT, &rule, 0) != 0)
			return failed(e, "allow a port");
	}
	return 0;
}

/* Inside its own root a program may read all there is; on the host's only what it needs. */
static int
allow_paths(const struct box *b, int ruleset, uint64_t all, struct err *e)
{
	static const char *const system[] = {"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/proc", "/opt"};
	static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"};
	bool own_root = b->caps.rung == RUNG_USER || b->caps.rung == RUNG_ROOT;
	const struct {
		const char *path;
		uint64_t access;
	} own[] = {
		{own_root ? SANDBOX_TARGET : b->paths.target, b->paths.target_read_only ? FS_READ : all},
		{own_root ? "" : b->paths.file, FS_READ}, {own_root ? SANDBOX_OUT : b->paths.out, all}, {own_root ? SANDBOX_SCRATCH : b->paths.scratch, all},
		{own_root ? "/" : b->paths.workflow, FS_READ}, {own_root ? "" : b->paths.params, FS_READ},
		{own_root ? "" : b->paths.toolchain, FS_READ}, {own_root ? "/tmp" : "", all}, {"/dev/shm", own_root ? all : 0},
	};

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		if (own[i].access != 0 && allow(ruleset, own[i].path, own[i].access, e) != 0)
			return ERR_IO;
	}
	/* Devices one by one: what else a container has in /dev is shared by all that run in it. */
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		if (allow(ruleset, devices[i], FS_READ_FILE | FS_WRITE_FILE | (all & (FS_IOCTL_DEV | FS_TRUNCATE)), e) != 0)
			return ERR_IO;
	}
	for (size_t i = 0; !own_root && i < sizeof(system) / sizeof(system[0]); i++) {
		if (allow(ruleset, system[i], FS_READ, e) != 0)
			return ERR_IO;
	}
	return 0;
}

int
box_landlock(const struct box *b, struct err *e)
{
	int abi = b->caps.landlock_abi, ruleset, rc;
	uint64_t all = FS_ALL_V1 | (abi >= 2 ? FS_REFER : 0) | (abi >= 3 ? FS_TRUNCATE : 0) | (abi >= 5 ? FS_IOCTL_DEV : 0);
	struct ruleset_attr attr = {.fs = all, .net = abi >= 4 ? NET_BIND_TCP | NET_CONNECT_TCP : 0,
	    .scoped = abi >= 6 ? SCOPE_ABSTRACT | SCOPE_SIGNAL : 0};
	size_t size = abi >= 6 ? sizeof(attr) : abi >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);

	if (abi == 0)
		return 0;
	/* In an empty network there is nothing to protect from, and tools may talk to themselves over loopback. */
	if (!b->egress && b->caps.netns)
		attr.net = 0;
	ruleset = (int)syscall(SYS_LANDLOCK_CREATE, &attr, size, 0);
	if (ruleset < 0)
		return failed(e, "make a Landlock ruleset");
	rc = allow_paths(b, ruleset, all, e);
	if (rc == 0 && attr.net != 0 && b->egress)
		rc = allow_ports(ruleset, e);
	if (rc == 0 && syscall(SYS_LANDLOCK_SELF, ruleset, 0) != 0)
		rc = failed(e, "apply the Landlock ruleset");
	close(ruleset);
	return rc;
}
