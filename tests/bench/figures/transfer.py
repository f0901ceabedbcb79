"""fetch_1g_ratio, fetch_1g_nosync_ratio, fetch_small_per_s, put_1g_ratio: the storage library between files and MinIO, against s5cmd.

Both are programs that are started, and their start counts. Turn by turn; before each turn what it will write is removed and all
disks are synced, so that nobody pays for another's writes. The object is one that our uploads stored.
"""

import contextlib
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import time

from rig import binaries
from rig.process import environment

from .rows import noise
from .upload import PIECE

BUCKET = "bench-transfer"
SMALL_BYTES = 64 << 10
THREADS = 16  # of the program that fetches small objects
ROUNDS, QUICK_ROUNDS = 5, 2


def median(values):
    return statistics.median(values)


class Transfers:
    def __init__(self, world):
        self.folder = os.path.join(world.rig.folder, "transfer")
        os.makedirs(self.folder)
        minio = world.rig.minio
        self.url = minio.url
        keys = {"AWS_ACCESS_KEY_ID": minio.access_key, "AWS_SECRET_ACCESS_KEY": minio.secret_key, "AWS_REGION": "us-east-1"}
        self.env = environment(world.rig, keys)
        self.drive = world.driver("transfer")
        self.s5cmd = binaries.server("s5cmd")
        minio.s3().make_bucket(BUCKET)

    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self, *argv):
        """How long it took in seconds, and what it said."""
        began = time.monotonic()
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, check=False)
        took_s = time.monotonic() - began
        assert done.returncode == 0, f"{os.path.basename(argv[0])}: {done.stderr.strip() or done.returncode}"
        return took_s, done.stdout

    def ours(self, what, *args):
        took_s, out = self.run(self.drive, what, self.url, BUCKET, *(str(arg) for arg in args))
        return took_s, json.loads(out)

    def theirs(self, *args):
        return self.run(self.s5cmd, "--log", "error", "--endpoint-url", self.url, "cp", *args)[0]

    @contextlib.contextmanager
    def clean(self, *names):
        """Paths that are not there before and after, and disks that have nothing to write."""
        paths = [self.path(name) for name in names]
        os.sync()
        try:
            yield paths
        finally:
            for path in paths:
                shutil.rmtree(path, ignore_errors=True)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)


class Object:
    """A file of random bytes, and the object that it becomes."""

    def __init__(self, transfers, name, size_bytes):
        self.name = name
        self.size_bytes = size_bytes
        self.file = transfers.path(f"{name}.bin")
        digest = hashlib.sha256()
        with open(self.file, "wb") as file:
            for _ in range(size_bytes // PIECE):
                piece = os.urandom(PIECE)
                digest.update(piece)
                file.write(piece)
        self.sha256 = digest.hexdigest()
        transfers.ours("put", name, self.file, self.sha256)

    @property
    def args(self):
        return self.name, self.size_bytes, self.sha256


def fetch_round(t, obj, times):
    source = f"s3://{BUCKET}/{obj.name}"
    with t.clean("cache") as (cache,):
        times["durable"].append(t.ours("cache", *obj.args, cache)[0])
    with t.clean("file") as (file,):
        took_s = t.theirs(source, file)
        times["peer_copy"].append(took_s)
        took_s += t.run("sync")[0]
        took_s += t.run("openssl", "dgst", "-sha256", file)[0]
        times["peer_durable"].append(took_s)
    with t.clean("file") as (file,):
        times["verified"].append(t.ours("fetch", *obj.args, file)[0])
    with t.clean("file") as (file,):
        times["peer_copy"].append(t.theirs(source, file))


def measure_fetch(t, rows, obj, rounds, variant):
    times = {"durable": [], "verified": [], "peer_copy": [], "peer_durable": []}
    fetch_round(t, obj, {name: [] for name in times})  # page cache and directories that the others find
    for _ in range(rounds):
        fetch_round(t, obj, times)
    with t.clean("file") as (file,):
        phases = t.ours("phases", *obj.args, file)[1]
    hash_s, fsync_s = phases["hash_ns"] / 1e9, phases["fsync_ns"] / 1e9
    took = {name: median(values) for name, values in times.items()}
    size = f"{obj.size_bytes >> 20} MiB"
    rows.set(
        "fetch_1g_ratio",
        took["durable"],
        f"median of {rounds} cold cache_get of {size}, a new process and an empty cache each; peer: s5cmd cp, then sync, then openssl dgst "
        "-sha256; hash_share and fsync_share: both done alone, of the time of ours (they overlap with the transfer)",
        variant=variant,
        peer=took["peer_durable"],
        noise=noise(times["durable"]),
        hash_share=hash_s / took["durable"],
        fsync_share=fsync_s / took["durable"],
        peer_copy_s=took["peer_copy"],
    )
    rows.set(
        "fetch_1g_nosync_ratio",
        took["verified"],
        f"median of {rounds} fetches of {size} into a file, SHA-256 verified; peer: s5cmd cp alone, unverified",
        variant=variant,
        peer=took["peer_copy"],
        noise=noise(times["verified"]),
        hash_share=hash_s / took["verified"],
        memory_peak_mb=phases["peak_kb"] * 1024 / 1e6,
    )


def measure_put(t, rows, obj, rounds):
    ours, theirs = [], []
    for i in range(rounds + 1):
        with t.clean():
            took = [t.ours("put", "put-ours", obj.file, obj.sha256)[0]]
        with t.clean():
            took.append(t.theirs(obj.file, f"s3://{BUCKET}/put-theirs"))
        if i > 0:
            ours.append(took[0])
            theirs.append(took[1])
    rows.set(
        "put_1g_ratio",
        median(ours),
        f"median of {rounds} store_put of a file of {obj.size_bytes >> 20} MiB in the page cache; peer: s5cmd cp of it; every part signed",
        peer=median(theirs),
        noise=noise(ours),
    )


def measure_small(t, rows, count, rounds):
    names = [f"{i:05}" for i in range(count)]
    files = t.path("small")
    os.makedirs(files)
    with open(t.path("list"), "w", encoding="ascii") as listing:
        for name in names:
            data = os.urandom(SMALL_BYTES)
            with open(os.path.join(files, name), "wb") as file:
                file.write(data)
            listing.write(f"small/{name} {SMALL_BYTES} {hashlib.sha256(data).hexdigest()}\n")
    t.theirs(files + "/", f"s3://{BUCKET}/small/")
    durable, verified, theirs = [], [], []
    for _ in range(rounds):
        with t.clean("cache") as (cache,):
            durable.append(count / t.ours("caches", t.path("list"), THREADS, cache)[0])
        with t.clean("files") as (folder,):
            os.makedirs(folder)
            theirs.append(count / t.theirs(f"s3://{BUCKET}/small/*", folder + "/"))
        with t.clean("files") as (folder,):
            os.makedirs(folder)
            verified.append(count / t.ours("many", t.path("list"), THREADS, folder)[0])
    rows.set(
        "fetch_small_per_s",
        median(durable),
        f"median of {rounds}: {count} objects of 64 KiB by cache_get from {THREADS} threads, each verified and durable; peer: s5cmd cp "
        "of the same prefix, neither; nosync_per_s: ours verified, not synced",
        peer=median(theirs),
        noise=noise(durable),
        nosync_per_s=median(verified),
    )


def measure(world, rows):
    t = Transfers(world)
    rounds = QUICK_ROUNDS if world.quick else ROUNDS
    large = Object(t, "large", world.sizes.upload_bytes)
    measure_fetch(t, rows, large, rounds, "")
    measure_put(t, rows, large, rounds)
    os.unlink(large.file)
    medium = Object(t, "medium", min(64 << 20, world.sizes.upload_bytes))
    measure_fetch(t, rows, medium, 2 * rounds, "64m")
    measure_small(t, rows, 100 if world.quick else 1000, rounds)
    shutil.rmtree(t.folder)
