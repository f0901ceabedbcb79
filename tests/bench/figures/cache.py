"""single_flight_bytes_ratio: what 64 runs at once fetch of one target. evict_us_per_entry: from a large and a small cache."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import statistics
import subprocess
import tarfile
import tempfile

from rig.process import environment

from .rows import noise

BUCKET = "bench-cache"
RUNS = 64
FILES = 16
TARGET_BYTES, QUICK_TARGET_BYTES = 1 << 30, 64 << 20
LARGE, QUICK_LARGE = 100_000, 10_000
SMALL = 1_000
BATCH, ROUNDS, QUICK_ROUNDS = 50, 15, 5


class Driver:
    """A drive_cache that is told by lines what to do, and answers with lines."""

    def __init__(self, world, env, *args):
        argv = [world.driver("cache"), *(str(arg) for arg in args)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self._process = subprocess.Popen(argv, env=env, text=True, **pipes)

    def say(self):
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def hear(self):
        line = self._process.stdout.readline()
        assert line, f"drive_cache: {self._process.stderr.read().strip()}"
        return line.strip()

    def end(self):
        _, problem = self._process.communicate()
        assert self._process.returncode == 0, f"drive_cache: {problem.strip()}"

    def kill(self):
        self._process.kill()
        self._process.communicate()


def make_target(path, size_bytes):
    """A tar of random files; its digest."""
    with tarfile.open(path, "w") as tar:
        for i in range(FILES):
            member = tarfile.TarInfo(f"file{i}")
            member.size = size_bytes // FILES
            tar.addfile(member, io.BytesIO(os.urandom(member.size)))
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def measure_single_flight(world, rows, folder, quick):
    minio = world.rig.minio
    minio.s3().make_bucket(BUCKET)
    keys = {"AWS_ACCESS_KEY_ID": minio.access_key, "AWS_SECRET_ACCESS_KEY": minio.secret_key, "AWS_REGION": "us-east-1"}
    env = environment(world.rig, keys)
    path, cache = os.path.join(folder, "target.tar"), os.path.join(folder, "cache")
    sha256 = make_target(path, QUICK_TARGET_BYTES if quick else TARGET_BYTES)
    size = os.path.getsize(path)
    put = [world.driver("transfer"), "put", minio.url, BUCKET, "target", path, sha256]
    subprocess.run(put, env=env, check=True, capture_output=True)
    os.unlink(path)
    runs = [Driver(world, env, "run", minio.url, BUCKET, "target", size, sha256, cache, f"run-{i}") for i in range(RUNS)]
    try:
        for run in runs:
            assert run.hear() == "ready"
        for run in runs:
            run.say()
        seen = [json.loads(run.hear()) for run in runs]
        for run in runs:
            run.say()
            run.end()
    except BaseException:
        for run in runs:
            with contextlib.suppress(OSError):
                run.kill()
        raise
    fetched = sum(run["fetched_bytes"] for run in seen)
    assert sum(run["miss"] for run in seen) == 1, f"{sum(run['miss'] for run in seen)} runs fetched"
    rows.set(
        "single_flight_bytes_ratio",
        fetched / (1 << 20),
        f"{RUNS} processes, let go at once, each pin the unpacked target and open a workspace of its own ({seen[0]['method']}) in "
        "one cache; bytes of bodies that their S3 clients were sent, summed up; peer: the target's size",
        peer=size / (1 << 20),
        gets=sum(run["gets"] for run in seen),
        all_ready_s=max(run["wall_ns"] for run in seen) / 1e9,
    )


def measure_eviction(world, rows, folder, quick):
    large, rounds = (QUICK_LARGE, QUICK_ROUNDS) if quick else (LARGE, ROUNDS)
    env = environment(world.rig)
    drivers = {n: Driver(world, env, "evict", os.path.join(folder, f"cache-{n}"), n, BATCH) for n in (large, SMALL)}
    times, wall = {n: [] for n in drivers}, {n: [] for n in drivers}
    try:
        made = {n: json.loads(driver.hear())["make_us_per_entry"] for n, driver in drivers.items()}
        for _ in range(rounds):
            for n, driver in drivers.items():
                driver.say()
                answer = json.loads(driver.hear())
                times[n].append(answer["cpu_us_per_entry"])
                wall[n].append(answer["us_per_entry"])
        for driver in drivers.values():
            driver.end()
    except BaseException:
        for driver in drivers.values():
            with contextlib.suppress(OSError):
                driver.kill()
        raise
    rows.set(
        "evict_us_per_entry",
        statistics.median(times[large]),
        f"processor time (all there is on a tmpfs, which the caches are on), median of {rounds} evictions of {BATCH} entries at once "
        f"from {large:,}, files deleted; peer: from {SMALL:,}, turn by turn",
        peer=statistics.median(times[SMALL]),
        noise=noise(times[large]),
        wall_us=statistics.median(wall[large]),
        wall_peer_us=statistics.median(wall[SMALL]),
        index_made_us_per_entry=made[large],
    )


def measure(world, rows):
    quick = world.quick
    folder = os.path.join(world.rig.folder, "cache-bench")
    os.makedirs(folder)
    try:
        measure_single_flight(world, rows, folder, quick)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else folder
    with tempfile.TemporaryDirectory(prefix="drover-bench-", dir=memory) as folder:
        measure_eviction(world, rows, folder, quick)
