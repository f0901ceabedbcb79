#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "worker/sandbox_wire.h"

#define LOW_HALF 0xffffffff /* of an argument that the kernel takes as an int */

/* A list of what is denied, not of what is allowed: fuzzers and interpreters use almost everything else. What is here either
 * needs a capability that a tool does not have (a second lock on that door), or is a known way to attack the kernel. */
static const int denied[] = {
	/* mounts, roots and namespaces */
	SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(pivot_root), SCMP_SYS(chroot), SCMP_SYS(move_mount), SCMP_SYS(open_tree),
	SCMP_SYS(fsopen), SCMP_SYS(fsconfig), SCMP_SYS(fsmount), SCMP_SYS(fspick), SCMP_SYS(mount_setattr), SCMP_SYS(setns),
	SCMP_SYS(unshare),
	/* files by handle go around every path rule */
	SCMP_SYS(open_by_handle_at), SCMP_SYS(name_to_handle_at),
	/* large kernel surfaces that no tool needs */
	SCMP_SYS(bpf), SCMP_SYS(perf_event_open), SCMP_SYS(userfaultfd), SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter),
	SCMP_SYS(io_uring_register), SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(fanotify_init),
	SCMP_SYS(lookup_dcookie), SCMP_SYS(vmsplice),
	/* the machine */
	SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(delete_module),
	SCMP_SYS(reboot), SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(acct), SCMP_SYS(quotactl), SCMP_SYS(syslog),
	SCMP_SYS(vhangup), SCMP_SYS(iopl), SCMP_SYS(ioperm), SCMP_SYS(settimeofday), SCMP_SYS(clock_settime), SCMP_SYS(adjtimex),
	SCMP_SYS(clock_adjtime), SCMP_SYS(sethostname), SCMP_SYS(setdomainname), SCMP_SYS(nfsservctl),
	/* other processes' memory */
	SCMP_SYS(process_vm_writev), SCMP_SYS(kcmp), SCMP_SYS(pidfd_getfd),
};

/* Socket families that a program may make; the rest is attack surface. */
static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};

static bool
family_allowed(const struct box *b, int family)
{
	bool own_root = b->caps.rung == RUNG_USER || b->caps.rung == RUNG_ROOT;

	/* No Landlock keeps a program from connecting to a socket file that it can name, and only from ABI 6 on from an abstract
	 * one: where those of the host can be named, there are only socket pairs. */
	if (family == AF_UNIX)
		return own_root && (!b->egress || b->caps.landlock_abi >= 6);
	/* Where there is no network but the worker's. */
	if (!b->egress && !b->caps.netns)
		return false;
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		if (families[i] == family)
			return true;
	}
	return false;
}

/* Landlock's port rules see connect() on plain TCP alone: a multipath or SCTP socket, or data sent together with the opening of a
 * connection, would reach every port. */
static int
close_side_doors(scmp_filter_ctx ctx, const struct box *b)
{
	static const struct {
		int call;
		unsigned arg;
	} sends[] = {{SCMP_SYS(sendto), 3}, {SCMP_SYS(sendmsg), 2}, {SCMP_SYS(sendmmsg), 3}};
	static const int internet[] = {AF_INET, AF_INET6};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof(sends) / sizeof(sends[0]); i++) {
		struct scmp_arg_cmp fast_open = {sends[i].arg, SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, MSG_FASTOPEN};

		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EOPNOTSUPP), sends[i].call, 1, fast_open);
	}
	/* A family that is refused as a whole must not be refused in part: libseccomp takes that for a contradiction (EEXIST). */
	for (size_t i = 0; rc == 0 && i < sizeof(internet) / sizeof(internet[0]); i++) {
		if (!family_allowed(b, internet[i]))
			continue;
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPROTONOSUPPORT), SCMP_SYS(socket), 2,
		    SCMP_A0(SCMP_CMP_MASKED_EQ, LOW_HALF, (scmp_datum_t)internet[i]), SCMP_A2(SCMP_CMP_GT, IPPROTO_ICMPV6, 0));
		if (rc == 0)
			rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPROTONOSUPPORT), SCMP_SYS(socket), 2,
			    SCMP_A0(SCMP_CMP_MASKED_EQ, LOW_HALF, (scmp_datum_t)internet[i]), SCMP_A2(SCMP_CMP_MASKED_EQ, LOW_HALF, IPPROTO_DCCP));
	}
	return rc;
}

/* The families are numbered up to AF_MAX; the kernel looks at the low half of the argument, and so do we. */
static int
add_socket_rules(scmp_filter_ctx ctx, const struct box *b)
{
	int rc = close_side_doors(ctx, b);

	for (int family = 0; rc == 0 && family < AF_MAX; family++) {
		if (!family_allowed(b, family))
			rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(socket), 1,
			    SCMP_A0(SCMP_CMP_MASKED_EQ, LOW_HALF, (scmp_datum_t)family));
	}
	/* Of the kernel's own protocols, names and addresses only: not its audit, firewall or key tables. */
	if (rc == 0 && family_allowed(b, AF_NETLINK))
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPROTONOSUPPORT), SCMP_SYS(socket), 2,
		    SCMP_A0(SCMP_CMP_MASKED_EQ, LOW_HALF, AF_NETLINK), SCMP_A2(SCMP_CMP_GT, NETLINK_ROUTE, 0));
	return rc;
}

/* Where an old Landlock leaves gaps, or where nothing else bounds what can be had. */
static int
add_gap_rules(scmp_filter_ctx ctx, const struct box *b)
{
	static const struct {
		int call;
		unsigned arg;
	} opens[] = {{SCMP_SYS(open), 1}, {SCMP_SYS(openat), 2}};
	int rc = 0;

	/* Memory of files without a name is in no process's resident set: without a control group nobody would see it. */
	if (b->cgroup.version == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(memfd_create), 0);
	if (rc != 0 || b->caps.landlock_abi == 0 || b->caps.landlock_abi >= 3)
		return rc;
	/* Before ABI 3 who may read a file may cut it. */
	rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(truncate), 0);
	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(openat2), 0);
	for (size_t i = 0; rc == 0 && i < sizeof(opens) / sizeof(opens[0]); i++) {
		struct scmp_arg_cmp cut = {opens[i].arg, SCMP_CMP_MASKED_EQ, O_ACCMODE | O_TRUNC, O_RDONLY | O_TRUNC};

		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), opens[i].call, 1, cut);
	}
	return rc;
}

static int
add_rules(scmp_filter_ctx ctx, const struct box *b)
{
	static const unsigned long namespaces[] = {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS,
	    CLONE_NEWCGROUP};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof(denied) / sizeof(denied[0]); i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), denied[i], 0);
	for (size_t i = 0; rc == 0 && i < sizeof(namespaces) / sizeof(namespaces[0]); i++) {
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
		    SCMP_A0(SCMP_CMP_MASKED_EQ, namespaces[i], namespaces[i]));
	}
	/* clone3's flags are behind a pointer: the C library falls back to clone. */
	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	/* Typing into the terminal that started the worker. */
	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, LOW_HALF, TIOCSTI));
	if (rc == 0)
		rc = add_socket_rules(ctx, b);
	if (rc == 0)
		rc = add_gap_rules(ctx, b);
	return rc;
}

/* --- filters made ahead --- */

#define FILTER_MAX 4096 /* instructions: BPF_MAXINSNS of the kernel */

struct box_filter {
	struct sandbox_caps caps; /* of the frame it is for */
	bool egress;
	int cgroup;
	struct sock_fprog program;
};

static scmp_filter_ctx
build(const struct box *b, int *ret_rc)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);

	*ret_rc = ctx == NULL ? -ENOMEM : add_rules(ctx, b);
	return ctx;
}

/* The instructions as the library would load them, by way of a file: it writes them nowhere else. */
static bool
export(scmp_filter_ctx ctx, struct sock_fprog *ret)
{
	struct sock_filter *list = xcalloc(FILTER_MAX, sizeof(*list));
	int fd = memfd_create("filter", MFD_CLOEXEC);
	ssize_t n = fd >= 0 && seccomp_export_bpf(ctx, fd) == 0 ? pread(fd, list, FILTER_MAX * sizeof(*list), 0) : -1;

	if (fd >= 0)
		close(fd);
	*ret = (struct sock_fprog){.len = (unsigned short)(n > 0 ? (size_t)n / sizeof(*list) : 0), .filter = list};
	if (n > 0 && (size_t)n % sizeof(*list) == 0 && ret->len < FILTER_MAX)
		return true;
	free(list);
	return false;
}

const struct box_filter *
box_filter_make(const struct box *b)
{
	struct box_filter *f = xcalloc(1, sizeof(*f));
	scmp_filter_ctx ctx;
	int rc;

	*f = (struct box_filter){.caps = b->caps, .egress = b->egress, .cgroup = b->cgroup.version};
	ctx = build(b, &rc);
	if (rc != 0 || !export(ctx, &f->program)) {
		free(f);
		f = NULL;
	}
	seccomp_release(ctx);
	return f;
}

bool
box_filter_fits(const struct box_filter *f, const struct box *b)
{
	return f->caps.rung == b->caps.rung && f->caps.landlock_abi == b->caps.landlock_abi && f->caps.seccomp == b->caps.seccomp &&
	    f->caps.netns == b->caps.netns && f->egress == b->egress && f->cgroup == b->cgroup.version;
}

int
box_seccomp(const struct box *b, struct err *e)
{
	scmp_filter_ctx ctx;
	int rc;

	if (!b->caps.seccomp)
		return 0;
	if (b->filter != NULL)
		return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &b->filter->program) == 0 ? 0 :
		    err_set(e, ERR_IO, "sandbox: seccomp: %s", strerror(errno));
	ctx = build(b, &rc);
	if (rc == 0)
		rc = seccomp_load(ctx);
	seccomp_release(ctx);
	return rc == 0 ? 0 : err_set(e, ERR_IO, "sandbox: seccomp: %s", strerror(-rc));
}
