"""worker_mem_peak_mb: what a worker and its helpers have in memory at most while they do all that there is to do with storage."""

import os
import tarfile

from rig import binaries

from .instruments import Sampler, memory_mb, tree_of
from .rows import noise


def ours_mb(pid):
    """Private memory of the worker and of the helpers that it makes of itself; the tools that run inside are not ours."""
    program = os.stat(binaries.drover("drover-worker"))
    total = 0.0
    for each in tree_of(pid):
        try:
            if os.path.samestat(os.stat(f"/proc/{each}/exe"), program):
                total += memory_mb(each, descendants=False)[0]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended between two looks
    return total


def large_file(path, size_bytes):
    with open(path, "wb") as file:
        for _ in range(size_bytes // (1 << 20)):
            file.write(os.urandom(1 << 20))


def many_files(path, count):
    """A tar.gz of so many small files in folders of 100."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for i in range(count):
            name = f"d{i // 100:03}/f{i:05}.txt"
            member = tarfile.TarInfo(name)
            member.size = 11000
            with open("/dev/urandom", "rb") as file:
                tar.addfile(member, file)


def add_workflows(toolbox):
    """"peak-file" makes its target an artifact; "peak-tree" reads all of its files."""
    resources = {"cpu": "500m", "memory": "512Mi", "timeout": "10m", "disk": "4GiB"}
    for name, script in (
        ("peak-file", ["sh", "-c", 'cp "$1" "$OUT/kept"', "peak", "${TARGET_FILE}"]),
        ("peak-tree", ["sh", "-c", 'find "$1" -type f | wc -l >"$OUT/kept"', "peak", "${TARGET_DIR}"]),
    ):
        toolbox.add(name, "", steps=[{"name": "main", "run": script}], artifacts=["kept"], resources=resources)


def measure(world, rows, drover, toolbox):
    add_workflows(toolbox)
    folder = world.rig.folder
    file, tree = os.path.join(folder, "peak.bin"), os.path.join(folder, "peak.tar.gz")
    large_file(file, world.sizes.upload_bytes)
    many_files(tree, world.sizes.tree_files)
    peaks = {}
    worker = drover.add_worker("story", **world.rig.env(), **drover.bucket_settings())
    try:
        for name, path, kind in (("peak-file", file, "file"), ("peak-tree", tree, "tree")):
            sent = world.tools.send_file(drover.address, "/v1/targets", path, [f"X-Drover-Filename: {os.path.basename(path)}"])
            assert sent > 0
            target = next(t for t in drover.get("/v1/targets", limit=1000)["targets"] if t["filename"] == os.path.basename(path))
            with Sampler(lambda: ours_mb(worker.process.pid), 0.01) as memory:
                run = drover.submit(name, target, kind=kind)
                ended = drover.wait_run(run["id"], timeout_s=300)
            assert ended["state"] == "completed", f"{name}: {ended['state']}: {ended.get('reason')}"
            peaks[name] = memory
    finally:
        worker.stop()
        os.unlink(file)
        os.unlink(tree)
    samples = [sample for memory in peaks.values() for sample in memory.samples]
    rows.set(
        "worker_mem_peak_mb",
        max(samples),
        f"most of {len(samples)} samples 10 ms apart of the private memory of a warm worker and its own helpers (tools left out): "
        f"a target of {world.sizes.upload_bytes >> 20} MiB fetched cold and published as an artifact, and a tar.gz of "
        f"{world.sizes.tree_files} files fetched, unpacked and laid out as a workspace",
        noise=noise(samples),
        file_mb=peaks["peak-file"].max,
        tree_mb=peaks["peak-tree"].max,
    )
