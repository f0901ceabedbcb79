"""The cache of a node as an operator and the dispatcher see it, and what it does to runs."""

import glob
import hashlib
import os
import random
import shutil
import subprocess

import pytest

from conftest import QUICK
from rig import Drover, binaries, wait
from rig.drover import pack
from rig.server import environment
from stories.steps import HOLD, REPORT, go_on, reached

LOOKS = 'wc -c < "${TARGET_FILE:-$TARGET_DIR/a.txt}"\n'


@pytest.fixture(name="place")
def place_fixture(embedded_rig, toolbox):
    """(drover, toolbox), without a worker."""
    drover = Drover(embedded_rig, toolbox, QUICK).start()
    yield drover, toolbox
    drover.close()


def cache(drover, *words, check=True, json=False):
    """`drover cache`, on the workers' directory."""
    call = drover.cli_json if json else drover.cli
    return call("cache", *words, "-cache-dir", drover.cache_folder, check=check)


def entries(drover):
    return {(entry["sha256"], entry["kind"]): entry for entry in cache(drover, "ls", "-limit", 0, json=True)["entries"]}


def finish(drover, workflow, target, kind="tree"):
    return drover.wait_run(drover.submit(workflow, target, kind)["id"], "completed")


def test_operator_looks_and_removes(place):
    drover, toolbox = place
    toolbox.add("holds", HOLD + REPORT)
    drover.add_worker("story", DRAIN_TIMEOUT="1s")
    content = pack({"a.txt": "planted\n"})
    target, digest = drover.upload(content), hashlib.sha256(content).hexdigest()
    run = drover.submit("holds", target)
    reached(drover, run["id"])
    listed = entries(drover)
    assert listed[digest, "tree"]["in_use"] and not listed[digest, "blob"]["in_use"]
    assert all(entry["verified"] and not entry["transient"] for entry in listed.values())
    assert "in use" in cache(drover, "ls").stdout
    refused = cache(drover, "rm", digest[:12], check=1)
    assert "in use by a run" in refused.stderr and "Hint:" in refused.stderr
    assert (digest, "tree") in entries(drover)
    go_on(drover, run["id"])
    drover.wait_run(run["id"], "completed")
    cache(drover, "rm", digest[:12])
    assert digest not in {sha for sha, _ in entries(drover)}
    assert cache(drover, "rm", digest[:12], check=2).stderr.startswith("Error: the cache holds nothing")
    assert "6 to 64 hex digits" in cache(drover, "rm", "../..", check=2).stderr
    stat = cache(drover, "stat", json=True)
    assert stat["bytes"] == sum(entry["bytes"] for entry in entries(drover).values()) and stat["evictions"] >= 1
    assert cache(drover, "gc", json=True)["swept_at"]


def test_operator_verifies(place):
    drover, toolbox = place
    toolbox.add("looks", LOOKS + REPORT)
    worker = drover.add_worker("story")
    content = pack({"a.txt": "planted\n"})
    target, digest = drover.upload(content), hashlib.sha256(content).hexdigest()
    finish(drover, "looks", target)
    worker.stop()
    assert cache(drover, "verify", json=True)["damaged"] == []
    blob, tree = (f"{drover.cache_folder}/objects/{digest[:2]}/{digest}.{kind}/data" for kind in ("blob", "tree"))
    os.chmod(blob, 0o600)
    with open(blob, "r+b") as file:
        file.seek(20)
        file.write(b"!")
    os.truncate(os.path.join(tree, "a.txt"), 1)
    os.makedirs(f"{drover.cache_folder}/objects/notes")
    seen = cache(drover, "verify", check=1, json=True)
    assert sorted(seen["damaged"]) == [f"{digest}.blob", f"{digest}.tree"]
    assert seen["foreign"] == ["notes"]
    assert cache(drover, "verify", json=True)["damaged"] == [], "what was damaged is gone"
    assert cache(drover, "stat", json=True)["damaged"] == 2
    worker.start()
    finish(drover, "looks", target)


def test_no_cache_is_told(place, tmp_path):
    drover, _ = place
    for folder in (tmp_path, tmp_path / "nowhere"):
        told = drover.cli("cache", "stat", "-cache-dir", folder, check=2).stderr
        assert "Error:" in told and "Hint:  -cache-dir or CACHE_DIR" in told
    assert "is no cache" in drover.cli("cache", "ls", check=2, env={"CACHE_DIR": str(tmp_path)}).stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: other users' caches (needs root)")
def test_owner_and_root_only(place):
    """Root goes on as the owner of the directory, so that the workers can still use it; others are told."""
    drover, _ = place
    folder = drover.cache_folder
    program = os.path.join(drover.folder, "drover")
    shutil.copy(binaries.drover("drover"), program)
    for path in (drover.folder, os.path.dirname(drover.folder)):
        os.chmod(path, 0o755)
    # A cache of user 1234, made by hand; its index is made by the first who looks.
    for name in ("", "objects", "locks", "tmp", "trash"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        os.chown(os.path.join(folder, name), 1234, 1234)
        os.chmod(os.path.join(folder, name), 0o700)
    cache(drover, "gc")
    for path, _, files in os.walk(folder):
        for name in files:
            assert os.stat(os.path.join(path, name)).st_uid == 1234, f"root left {name} behind"
    argv = [program, "cache", "stat", "-cache-dir", folder]
    env = environment(drover.rig, {"HOME": "/"})
    done = subprocess.run(argv, env=env, user=1234, group=1234, extra_groups=[], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(argv, env=env, user=4321, group=4321, extra_groups=[], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "as the user of the workers, or as root" in done.stderr


def test_foreign_owner_stops_the_worker_with_reason(place):
    drover, _ = place
    os.symlink("/tmp", os.path.join(drover.cache_folder, "objects"))
    with pytest.raises((AssertionError, wait.TimedOut)) as problem:
        drover.add_worker("story")
    assert "objects is not a directory" in str(problem.value)


@pytest.mark.parametrize("kind", ["tree", "file"])
def test_target_larger_than_the_cache(place, kind):
    """It is let through, also to two runs at once, and does not stay."""
    drover, toolbox = place
    toolbox.add("looks", LOOKS + HOLD + REPORT, target="any")
    drover.add_worker("story", CACHE_MAX_SIZE="1MiB", DRAIN_TIMEOUT="1s")
    noise = random.Random(7).randbytes(3 << 20)
    content = pack({"a.txt": noise}) if kind == "tree" else noise
    target = drover.upload(content)
    runs = [drover.submit("looks", target, kind)["id"] for _ in range(2)]
    for run in runs:
        reached(drover, run)
    digest = hashlib.sha256(content).hexdigest()
    stat = cache(drover, "stat", json=True)
    assert stat["transient_bytes"] >= 3 << 20 and stat["bytes"] <= 1 << 20
    assert stat["misses"] == 2, "one download of the target, one of the workflow"
    assert entries(drover)[digest, "tree" if kind == "tree" else "blob"]["transient"]
    for run in runs:
        go_on(drover, run)
        drover.wait_run(run, "completed")
        assert str(3 << 20) in drover.logs(run)
    stat = wait.until("it to be gone", lambda: (s := cache(drover, "stat", json=True))["transient_bytes"] == 0 and s)
    assert digest not in {sha for sha, _ in entries(drover)} and stat["bytes"] > 0, "the workflow stays"


def test_figures_reach_the_dispatcher(place):
    drover, toolbox = place
    toolbox.add("looks", LOOKS + REPORT)
    for _ in range(2):
        drover.add_worker("story", CACHE_MAX_SIZE="64MiB")
    target = drover.upload({"a.txt": "planted\n"})
    finish(drover, "looks", target)
    finish(drover, "looks", target)
    stat = cache(drover, "stat", json=True)

    def told():
        workers = drover.get("/v1/workers")["workers"]
        return workers if all(w["cache"] and w["cache"]["entries"] == 4 and w["cache"]["hits"] == 2 for w in workers) else None

    workers = wait.until("the workers to tell of their cache", told, 30)
    assert len({worker["cache"]["id"] for worker in workers}) == 1
    for worker in workers:
        figures = worker["cache"]
        assert figures["bytes"] == stat["bytes"] and figures["max_bytes"] == 64 << 20 and figures["holds"] == 2
        assert figures["free_bytes"] > 0 and figures["workspace_method"] in ("overlay", "overlay-userns", "reflink", "copy")
    # Two workers, one cache.
    assert drover.metric("drover_cache_bytes") == stat["bytes"]
    assert drover.metric("drover_cache_max_bytes") == 64 << 20
    assert drover.metric("drover_cache_entries") == 4
    assert drover.metric("drover_cache_hits_total") == 2 and drover.metric("drover_cache_misses_total") == 2
    assert drover.metric("drover_workers_workspaces", method=workers[0]["cache"]["workspace_method"]) == 2
    assert "64 MiB" in drover.cli("workers").stdout


def test_unused_entries_are_swept(place):
    """CACHE_TTL counts from the last use; one of the node's workers sweeps."""
    drover, toolbox = place
    toolbox.add("looks", LOOKS + REPORT)
    worker = drover.add_worker("story")
    finish(drover, "looks", drover.upload({"a.txt": "planted\n"}))
    worker.stop()
    marks = glob.glob(f"{drover.cache_folder}/objects/*/*/mark")
    assert len(marks) == 4
    for mark in marks[:2]:
        os.utime(mark, (1, 1))
    os.remove(f"{drover.cache_folder}/index")  # it is made again, with the clocks that the entries have
    worker.start()
    wait.until("the old ones to go", lambda: len(entries(drover)) == 2)
    assert glob.glob(f"{drover.cache_folder}/trash/*") == []
