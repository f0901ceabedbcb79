"""upload_1g_ratio, upload_mem_growth_mb: one large target through the dispatcher into MinIO, and by s5cmd straight into it.

Each upload has other bytes, or the dispatcher would rightly not store them again. Through the dispatcher the SHA-256 is
part of it, and of the comparison; "unannounced" also has the copy from the staging key, which the store makes.
"""

import hashlib
import os
import statistics
import subprocess
import time

from rig import binaries
from rig.process import environment

from .instruments import Sampler, memory_mb
from .rows import noise

BUCKET = "bench-direct"
PIECE = 4 << 20


class Source:
    """A file of random bytes whose beginning changes with every next()."""

    def __init__(self, path, size_bytes):
        self.path = path
        with open(path, "wb") as file:
            for _ in range(size_bytes // PIECE):
                file.write(os.urandom(PIECE))
            file.flush()
            os.fsync(file.fileno())

    def next(self):
        """New bytes; their SHA-256."""
        with open(self.path, "r+b") as file:
            file.write(os.urandom(64))
            file.flush()
            # Its write-back must not fall into the time of the upload.
            os.fsync(file.fileno())
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()


def direct_s(world, source):
    source.next()
    minio = world.rig.minio
    env = environment(
        world.rig, {"AWS_ACCESS_KEY_ID": minio.access_key, "AWS_SECRET_ACCESS_KEY": minio.secret_key, "AWS_REGION": "us-east-1"}
    )
    argv = [binaries.server("s5cmd"), "--endpoint-url", minio.url, "cp", source.path, f"s3://{BUCKET}/direct"]
    began = time.monotonic()
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    took_s = time.monotonic() - began
    assert done.returncode == 0, f"s5cmd: {done.stderr.strip()}"
    minio.s3().delete(BUCKET, "direct")
    return took_s


def through_s(world, drover, source, announced):
    """One upload; (seconds, how much the dispatcher's private memory grew at most in MB)."""
    sha256 = source.next()
    headers = [f"X-Drover-Sha256: {sha256}"] if announced else []
    before = memory_mb(drover.process.pid)[0]
    with Sampler(lambda: memory_mb(drover.process.pid)[0], 0.02) as memory:
        took_s = world.tools.send_file(drover.address, "/v1/targets", source.path, headers)
    found = [target for target in drover.get("/v1/targets", limit=1000)["targets"] if target["sha256"] == sha256]
    assert len(found) == 1, f"{len(found)} targets have the digest of the upload"
    drover.call("DELETE", f"/v1/target/{found[0]['id']}").expect(200, 204)
    return took_s, memory.max - before


def measure(world, rows, drover):
    source = Source(os.path.join(world.rig.folder, "upload.bin"), world.sizes.upload_bytes)
    world.rig.minio.s3().make_bucket(BUCKET)
    direct, announced, unannounced, growth = [], [], [], []
    for i in range(world.sizes.uploads + 1):
        took = [direct_s(world, source), *through_s(world, drover, source, True), *through_s(world, drover, source, False)]
        growth += [took[2], took[4]]
        # The first of each makes connections, directories and page cache that the others find; growth counts from the start.
        if i > 0:
            for times, took_s in zip((direct, announced, unannounced), (took[0], took[1], took[3])):
                times.append(took_s)
    os.unlink(source.path)
    peer = statistics.median(direct)
    size = f"{world.sizes.upload_bytes >> 20} MiB"
    against = f"peer: s5cmd cp to the same MinIO, other bytes each time, alternating ({min(direct):.2f}…{max(direct):.2f} s)"
    rows.set(
        "upload_1g_ratio",
        statistics.median(announced),
        f"median of {len(announced)} PUT /v1/targets of {size}, SHA-256 announced and verified on the way; {against}",
        peer=peer,
        noise=noise(announced),
    )
    rows.set(
        "upload_1g_ratio",
        statistics.median(unannounced),
        f"median of {len(unannounced)}, SHA-256 computed and the object copied from its staging key by the store; {against}",
        variant="unannounced",
        peer=peer,
        noise=noise(unannounced),
    )
    rows.set(
        "upload_mem_growth_mb",
        max(growth),
        f"most of {len(growth)} uploads of {size}: private memory, sampled every 20 ms, minus that before",
        noise=noise(growth),
    )
