"""An archive of many files into a tree, by the confined helper, against the tools that people unpack with."""

import io
import os
import random
import shutil
import statistics
import tarfile
import time
import zipfile

from .rows import noise
from .workspace import file_system, run

FILES_PER_FOLDER = 40
MEAN_BYTES = 11000  # 20,000 files: about 220 MB
FILE_MAX = 400000
WORDS = 4000
ROUNDS = 5
OWNER = 64000  # as the worker's own; the peers' files stay root's

PEERS = {
    "tar.gz": ("extract_targz_ratio", "bsdtar -xf", lambda archive, to: ("bsdtar", "-xf", archive, "-C", to)),
    "zip": ("extract_zip_ratio", "unzip -q", lambda archive, to: ("unzip", "-q", archive, "-d", to)),
}


def text(chance, size):
    """Bytes that compress like source code, to about a third."""
    letters = "abcdefghijklmnopqrstuvwxyz_"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 11))) for _ in range(WORDS)]
    weights = [1 / (rank + 1) for rank in range(WORDS)]
    return " ".join(chance.choices(words, weights, k=size // 4)).encode()[:size]


def files(count):
    """(name, bytes) of so many files, most of them small; the same ones each time."""
    chance = random.Random(1)
    pool = text(chance, 4 << 20)
    for number in range(count):
        size = min(int(chance.lognormvariate(0, 1.1) * MEAN_BYTES / 1.83), FILE_MAX)
        start = chance.randrange(len(pool) - FILE_MAX)
        folder = number // FILES_PER_FOLDER
        yield f"source/package{folder // 10}/module{folder}/file{number}.c", pool[start : start + size]


def write_archives(folder, count):
    """{ending: path} of both, and how many bytes are in each."""
    paths = {ending: os.path.join(folder, f"extract.{ending}") for ending in PEERS}
    total = 0
    with tarfile.open(paths["tar.gz"], "w:gz", compresslevel=6) as tar, zipfile.ZipFile(
        paths["zip"], "w", zipfile.ZIP_DEFLATED, compresslevel=6
    ) as zipped:
        for name, data in files(count):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1700000000
            tar.addfile(member, io.BytesIO(data))
            zipped.writestr(name, data)
            total += len(data)
    return paths, total


def timed(at, *argv):
    """Seconds of the command that fills the directory, from its start to its end; the directory is removed."""
    began = time.monotonic()
    run(*argv)
    took = time.monotonic() - began
    shutil.rmtree(at)
    return took


def turn(world, at, archive, peer):
    """(ours, the peer's) seconds, each into a new directory."""
    pair = []
    for argv in ((world.driver("extract"), archive, at), peer(archive, at)):
        os.mkdir(at)
        os.chown(at, OWNER, OWNER)
        pair.append(timed(at, *argv))
    return pair


def measure(world, rows):
    with file_system(world, "ext4") as (mount, where):
        paths, total = write_archives(mount, world.sizes.tree_files)
        for ending, (name, peer_name, peer) in PEERS.items():
            pairs = [turn(world, os.path.join(mount, "tree"), paths[ending], peer) for _ in range(ROUNDS + 1)][1:]
            ours = [pair[0] for pair in pairs]
            rows.set(
                name,
                statistics.median(ours),
                f"median of {len(ours)}, turn by turn with {peer_name}: {world.sizes.tree_files:,} files, {total / 1e6:.0f} MB in "
                f"{os.path.getsize(paths[ending]) / 1e6:.0f} MB, on {where}; both from the process's start to its end",
                peer=statistics.median(pair[1] for pair in pairs),
                noise=noise(ours),
            )
