"""From a cached target of many files to a run's workspace and back, by each method, against what cp and rm need for the same tree."""

import contextlib
import io
import os
import random
import statistics
import subprocess
import tarfile
import time

from .rows import noise

FILES_PER_FOLDER = 100
MEAN_BYTES = 11000  # 20,000 files: about 220 MB, like a checkout with its dependencies
ROUNDS = 5
IMAGE_BYTES = 3 << 30
MEMORY = "/dev/shm"


def write_tree(path, files):
    """A tar of so many files; the same one each time."""
    chance = random.Random(1)
    pool = chance.randbytes(1 << 20)
    with tarfile.open(path, "w") as archive:
        for number in range(files):
            size = min(int(chance.expovariate(1 / MEAN_BYTES)), 1 << 18)
            start = chance.randrange(len(pool) - (1 << 18))
            folder = number // FILES_PER_FOLDER
            member = tarfile.TarInfo(f"package{folder % 20}/module{folder}/file{number}.py")
            member.size = size
            archive.addfile(member, io.BytesIO(pool[start : start + size]))


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv[0]}: {done.stderr.strip() or done.returncode}"


@contextlib.contextmanager
def file_system(world, kind):
    """A new file system of the kind, in memory where there is room: the disk's write-back would be the same for both, and hide the rest."""
    room = os.statvfs(MEMORY) if os.path.isdir(MEMORY) else None
    base = MEMORY if room and room.f_bavail * room.f_frsize > 2 * IMAGE_BYTES else world.rig.folder
    image = os.path.join(base, f"drover-bench-{os.getpid()}.{kind}")
    at = os.path.join(world.rig.folder, f"fs-{kind}")
    os.makedirs(at)
    try:
        with open(image, "wb") as file:
            file.truncate(IMAGE_BYTES)
        run(f"mkfs.{kind}", "-q", image)
        run("mount", "-o", "loop", image, at)
        try:
            yield at, f"{kind} on a loop device {'in memory' if base == MEMORY else 'on the disk'}"
        finally:
            run("umount", at)
    finally:
        os.unlink(image)
        os.rmdir(at)


class Workspaces:
    """Runs of one target in a folder, by one method."""

    def __init__(self, world, folder, archive, method):
        self._folder = folder
        self._process = subprocess.Popen(
            [world.driver("workspace"), folder, archive, method], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        words = self._process.stdout.readline().split()
        if not words:
            raise LookupError(f"{method}: {self._process.stderr.read().strip()}")
        self._tree = words[2]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
        self._process.stderr.close()

    def cycle(self, used=False):
        """Seconds until ready, until the report may go, until all of it is deleted."""
        self._process.stdin.write("use\n" if used else "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"workspace: {self._process.stderr.read().strip()}"
        return tuple(int(word) / 1e6 for word in line.split())

    def copy(self):
        """Seconds of `cp -a`, and of `rm -rf`."""
        to = os.path.join(self._folder, "copy")
        began = time.monotonic()
        run("cp", "-a", "--reflink=never", self._tree, to)
        copied = time.monotonic()
        run("rm", "-rf", to)
        return copied - began, time.monotonic() - copied


def turns(spaces, used=False):
    """(ours, peer) of all rounds, turn by turn; the first of each finds caches cold and is dropped."""
    pairs = [(spaces.cycle(used), spaces.copy()) for _ in range(ROUNDS + 1)][1:]
    return [ours for ours, _ in pairs], [peer for _, peer in pairs]


def median(values, place):
    return statistics.median(value[place] for value in values)


def measure_overlay(world, rows, at, archive, what):
    with Workspaces(world, at, archive, "overlay") as spaces:
        empty, copies = turns(spaces)
        used, more = turns(spaces, used=True)
    copies += more
    ready = [1000 * value[0] for value in empty + used]
    rows.set(
        "workspace_overlay_ms",
        statistics.median(ready),
        f"median of {len(ready)}: {what}; idmapped overlay, mounted by the calls that a worker as root makes",
        noise=noise(ready),
        cp_ms=1000 * median(copies, 0),
    )
    cycle = [value[0] + value[2] for value in used]
    rows.set(
        "workspace_cycle_ratio",
        statistics.median(cycle),
        f"median of {len(cycle)}: {what}; overlay ready, and from the end of a run that read every file and wrote to every hundredth "
        "until the last of it is deleted; peer: cp -a --reflink=never and rm -rf, turn by turn",
        peer=median(copies, 0) + median(copies, 1),
        noise=noise(cycle),
        report_held_up_ms=1000 * median(used, 1),
        untouched_s=statistics.median(value[0] + value[2] for value in empty),
    )


def measure_copy(world, rows, name, method, at, archive, what):
    with Workspaces(world, at, archive, method) as spaces:
        ours, copies = turns(spaces)
    ready = [value[0] for value in ours]
    rows.set(
        name,
        statistics.median(ready),
        f"median of {len(ready)}: {what}; peer: cp -a --reflink=never, turn by turn",
        peer=median(copies, 0),
        noise=noise(ready),
        cycle_s=statistics.median(value[0] + value[2] for value in ours),
        peer_cycle_s=median(copies, 0) + median(copies, 1),
    )


def measure(world, rows):
    if os.geteuid() != 0:
        for name in ("workspace_overlay_ms", "workspace_reflink_ratio", "workspace_copy_ratio", "workspace_cycle_ratio"):
            rows.lack(name, "file systems of its own, to have it alone, need root", excused=True)
        return
    archive = os.path.join(world.rig.folder, "workspace.tar")
    write_tree(archive, world.sizes.tree_files)
    size = f"{world.sizes.tree_files:,} files, {os.path.getsize(archive) / 1e6:.0f} MB"
    try:
        with file_system(world, "ext4") as (at, where):
            measure_overlay(world, rows, at, archive, f"{size}, {where}")
            measure_copy(world, rows, "workspace_copy_ratio", "copy", at, archive, f"{size}, {where}")
        with file_system(world, "xfs") as (at, where):
            measure_copy(world, rows, "workspace_reflink_ratio", "reflink", at, archive, f"{size}, {where}")
    finally:
        os.unlink(archive)
