"""Find and remove everything that a rig left: processes, mounts, control groups, containers, files.

Tasks of Nomad survive their agent, and tools may start sessions of their own, so a process tree is not enough. A
process is ours when its environment carries our marker, its control group is ours, it works below our folder, or
something that is ours started it. Nothing else is ever touched.
"""

import dataclasses
import glob
import json
import os
import shutil
import signal
import subprocess

from . import wait
from .process import MARKER


@dataclasses.dataclass(frozen=True)
class Claim:
    """By what things are known as ours."""

    mark: str  # NAME=value in the environment of processes
    folder: str
    cgroup: str  # how the names of Nomad's control groups begin where it lets us choose (cgroup v2)

    def cgroup_names(self):
        """What names of our control groups begin with; with cgroup v1 they are the ids of our allocations."""
        allocs = glob.glob(f"{self.folder}/d/alloc/*-*") + glob.glob(f"{self.folder}/*/d/alloc/*-*")
        return [self.cgroup] + [os.path.basename(path) for path in allocs]


def rig_claim(rig_id, folder):
    return Claim(f"{MARKER}={rig_id}", folder, f"drover-rig-{rig_id}")


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _parent(pid):
    # The command name may hold blanks and brackets: fields count from the last bracket.
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _is_zombie(pid):
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return not fields or fields[0] in (b"Z", b"X")


def _below(path, folder):
    return path == folder or path.startswith(folder + "/")


def _bears_mark(pid, claim, groups):
    if claim.mark.encode() in _read(f"/proc/{pid}/environ").split(b"\0"):
        return True
    cgroup = _read(f"/proc/{pid}/cgroup")
    if any(group.encode() in cgroup for group in groups):
        return True
    return any(_below(_link(f"/proc/{pid}/{link}"), claim.folder) for link in ("cwd", "root", "exe"))


def _own_line():
    """This process and its ancestors."""
    line = set()
    pid = os.getpid()
    while pid > 0:
        line.add(pid)
        pid = _parent(pid)
    return line


def processes(claim):
    """Live processes that are ours: {pid: command line}."""
    spared = _own_line()
    pids = {int(name) for name in os.listdir("/proc") if name.isdigit()} - spared
    groups = claim.cgroup_names()
    ours = {pid for pid in pids if _bears_mark(pid, claim, groups)}
    parents = {pid: _parent(pid) for pid in pids}
    grew = True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in ours} - ours
        ours |= more
        grew = bool(more)
    return {
        pid: _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode("utf-8", "replace").strip()
        for pid in ours
        if not _is_zombie(pid)
    }


def _pidfd(pid):
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def kill_processes(claim, timeout_s=20.0):
    """SIGKILL to all of them until none is left."""

    def none_left():
        # Descriptors first, then a second look: what both name is the same process, and it gets the signal.
        pidfds = {pid: _pidfd(pid) for pid in processes(claim)}
        again = processes(claim) if pidfds else {}
        for pid, pidfd in pidfds.items():
            if pidfd is None:
                continue
            try:
                if pid in again:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            finally:
                os.close(pidfd)
        return not pidfds

    wait.until(f"processes with {claim.mark} to die", none_left, timeout_s)


def mounts(folder):
    """Mount points below the folder, deepest first."""
    found = []
    for line in _read("/proc/self/mountinfo").decode("utf-8", "replace").splitlines():
        point = line.split(" ")[4].encode().decode("unicode_escape")
        if _below(point, folder):
            found.append(point)
    return sorted(found, key=len, reverse=True)


def unmount(folder):
    for point in mounts(folder):
        subprocess.run(["umount", "-l", point], check=False, stderr=subprocess.DEVNULL)


def cgroups(names):
    """Folders of control groups with such names in every hierarchy (v1 and v2), parents first."""
    tops = [
        top
        for name in names
        for pattern in (f"{name}*", f"*/{name}*", f"*/nomad/{name}*")
        for top in glob.glob(f"/sys/fs/cgroup/{pattern}")
    ]
    return [folder for top in tops for folder, _, _ in os.walk(top)]


def remove_cgroups(names):
    for folder in reversed(cgroups(names)):
        try:
            os.rmdir(folder)
        except OSError:
            pass


def containers(docker, folder):
    """Ids of containers, running or not, that use files below the folder."""
    listed = docker("ps", "-aq", check=False)
    ids = listed.stdout.split() if listed.returncode == 0 else []
    if not ids:
        return []
    found = docker("inspect", *ids, check=False)
    return [
        container["Id"]
        for container in json.loads(found.stdout or "[]")
        if any(_below(mount.get("Source", ""), folder) for mount in container.get("Mounts", []))
    ]


def leftovers(claim, docker=None, groups=None):
    """What is there that should not be, as lines of text; empty when all is clean.

    groups   names of control groups, when the folder that tells them is gone already
    """
    lines = [f"process {pid}: {command}" for pid, command in processes(claim).items()]
    lines += [f"mount {point}" for point in mounts(claim.folder)]
    lines += [f"control group {path}" for path in cgroups(groups or claim.cgroup_names())]
    if docker:
        lines += [f"container {name}" for name in containers(docker, claim.folder)]
    if os.path.exists(claim.folder):
        lines.append(f"folder {claim.folder}")
    return lines


def everything(claim, docker=None, keep_files=False):
    """Remove all that leftovers() would find."""
    if docker:
        ids = containers(docker, claim.folder)
        if ids:
            docker("rm", "-f", *ids, check=False)
    kill_processes(claim)
    unmount(claim.folder)
    remove_cgroups(claim.cgroup_names())
    if not keep_files:
        shutil.rmtree(claim.folder, ignore_errors=True)
