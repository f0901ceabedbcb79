"""Every archive of archives.py against the real, confined helper."""

import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from archives import CASES, cases_formats
from blocks import DIRECTORY, entry, tar

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(os.environ.get("DROVER_BUILD", ROOT / "build")) / "tests" / "extract_driver"
LONGEST_S = 30  # of one case; the bombs take the longest
# Sanitizers need the address space that the helper's memory limit takes away, so it is not set there.
SANITIZED = bool(os.environ.get("DROVER_SANITIZE"))
NEED_MEMORY_LIMIT = ("xz_dictionary", "zstd_window_memory")


def everything_below(top: Path) -> set[str]:
    found = set()
    for folder, dirs, files in os.walk(top):
        found |= {os.path.relpath(os.path.join(folder, name), top) for name in dirs + files}
    return found


def content(root: Path, name: str):
    path = root / name
    if path.is_symlink():
        return f"-> {os.readlink(path)}"
    return DIRECTORY if path.is_dir() else path.read_bytes()


@pytest.fixture
def nest():
    """A root among witnesses: what an escape would touch. In memory, for there are hundreds."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name:
        top = Path(name)
        top.chmod(0o755)
        root = top / "a" / "b" / "root"
        root.mkdir(parents=True)
        if os.geteuid() == 0:
            os.chown(root, 12345, 12345)
        for folder in (top, top / "a", top / "a" / "b"):
            (folder / "evil").write_text("untouched")
        yield top, root


def extract(archive: Path, root: Path, limits=None):
    """The driver's verdict, checked for what holds of every verdict."""
    started = time.monotonic()
    done = subprocess.run(
        [DRIVER, archive, root, *[f"{name}={value}" for name, value in (limits or {}).items()]],
        capture_output=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert time.monotonic() - started < LONGEST_S
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    line = done.stdout.decode()
    assert all(character.isprintable() or character == "\n" for character in line), "an error that moves the terminal"
    verdict = json.loads(line)
    if verdict["code"] != "ok":
        assert verdict["msg"] and verdict["hint"], verdict
        assert everything_below(root) == set(), "a refusal left something behind"
    return verdict


def check_safe(root: Path):
    for folder, dirs, files in os.walk(root):
        for name in dirs + files:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            assert stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode) or stat.S_ISLNK(info.st_mode), path
            if stat.S_ISLNK(info.st_mode):
                target = os.path.realpath(path)
                assert target == str(root) or target.startswith(str(root) + "/"), path
                continue
            assert info.st_mode in (stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFREG | 0o755), path
            assert os.geteuid() != 0 or (info.st_uid, info.st_gid) == (12345, 12345), path
            assert not os.listxattr(path, follow_symlinks=False), path
            assert stat.S_ISDIR(info.st_mode) or 0 <= info.st_mtime <= 4102444800, path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_verdict(case, nest):
    if SANITIZED and case.name in NEED_MEMORY_LIMIT:
        pytest.skip("no memory limit in a sanitizer build")
    top, root = nest
    archive = top / "archive"
    archive.write_bytes(case.make())
    outside = everything_below(top)
    verdict = extract(archive, root, case.limits)

    assert verdict["code"] == case.verdict, verdict
    if verdict["code"] != "ok":
        assert case.rule in verdict["msg"], verdict
    elif isinstance(case.tree, dict):
        assert {name: content(root, name) for name in everything_below(root)} == case.tree
    elif case.tree is not None:
        assert everything_below(root) == case.tree
    if case.name != "tar_name_4096":  # nothing here has names for what is below
        check_safe(root)
    inside = {os.path.join("a/b/root", name) for name in everything_below(root)}
    assert everything_below(top) - inside == outside, "something was made outside"
    for folder in (top, top / "a", top / "a" / "b"):
        assert (folder / "evil").read_text() == "untouched"
    assert not os.path.exists("/tmp/drover-evil")


def test_names_of_cases_are_unique():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


def cuts(data: bytes) -> list[int]:
    """Every second block of a tar, 60 places of others, each with the bytes around, all of the last bytes."""
    step = 1024 if len(data) > 20000 else max(1, len(data) // 60)
    blocks = range(0, len(data), step)
    return sorted({*blocks, *[at + 1 for at in blocks], *range(max(0, len(data) - 40), len(data))} - {len(data)})


@pytest.mark.parametrize("label", cases_formats.WHOLES)
def test_cut_off(label, nest):
    """Cut anywhere, an archive is refused, or what is missing is behind the last entry and the tree is whole."""
    top, root = nest
    data = cases_formats.WHOLES[label]()
    refused = 0
    for at in cuts(data):
        archive = top / "archive"
        archive.write_bytes(data[:at])
        verdict = extract(archive, root)
        if verdict["code"] == "ok":
            assert {name: content(root, name) for name in everything_below(root)} == cases_formats.MANY, at
            for name in cases_formats.MANY:
                (root / name).unlink()
        else:
            assert verdict["code"] == "invalid", (at, verdict)
            refused += 1
    assert refused > len(cuts(data)) * 0.6


# --- deaths and full disks ---

DYING = ["extract.confined", "extract.entry", "extract.entry:3", "extract.data", "extract.data:5", "extract.links", "extract.walked"]


@pytest.mark.parametrize("place", DYING)
def test_helper_killed_at(place, nest, monkeypatch):
    """Killed anywhere, the helper leaves nothing, and the same archive may be tried again."""
    top, root = nest
    archive = top / "archive"
    archive.write_bytes(cases_formats.WHOLES["gzip"]())
    monkeypatch.setenv("DROVER_FAULT", place)
    assert extract(archive, root)["code"] == "retry"
    monkeypatch.delenv("DROVER_FAULT")
    assert extract(archive, root)["code"] == "ok"


@pytest.mark.parametrize("place", ["extract.started", "extract.ended"])
def test_parent_killed_at(place, nest, monkeypatch):
    """Killed anywhere, the parent leaves no helper behind; what is in the directory is for the next start to sweep."""
    top, root = nest
    archive = top / "archive"
    archive.write_bytes(cases_formats.WHOLES["gzip"]())
    monkeypatch.setenv("DROVER_FAULT", place)
    done = subprocess.run([DRIVER, archive, root], capture_output=True, timeout=LONGEST_S, check=False)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + LONGEST_S
    while helpers_in(root) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not helpers_in(root)
    check_safe(root)


def helpers_in(root: Path) -> list[str]:
    """Processes that have the directory open."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.path.realpath(f"/proc/{pid}/fd/3") == str(root):
                found.append(pid)
        except OSError:
            continue
    return found


@pytest.fixture(params=["size=1m", "nr_inodes=40"])
def small_disk(request, nest):
    """The root on a file system that is too small."""
    top, root = nest
    options = f"{request.param},uid=12345,gid=12345,mode=755"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", root], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("mounting needs root")
    yield top, root
    subprocess.run(["umount", root], check=True)


def test_disk_full(small_disk):
    top, root = small_disk
    archive = top / "archive"
    archive.write_bytes(tar(*[entry(f"d/f{i}", bytes([i]) * 50000) for i in range(50)]))
    verdict = extract(archive, root)
    assert verdict["code"] == "retry", verdict
    assert "No space left" in verdict["msg"] and "CACHE_DIR" in verdict["hint"], verdict
    archive.write_bytes(tar(entry("small", b"x")))
    assert extract(archive, root)["code"] == "ok"


def test_a_plain_user_may_extract(nest):
    """With the guards that need no root; test_extract_helper.c tells which."""
    top, root = nest
    if os.geteuid() != 0:
        pytest.skip("the other tests show it")
    (top / "archive").write_bytes(cases_formats.WHOLES["zip"]())
    as_user = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
    driver = shutil.copy(DRIVER, top)  # the build may be where only root may look
    done = subprocess.run([*as_user, driver, top / "archive", root], capture_output=True, timeout=LONGEST_S, check=False)
    assert json.loads(done.stdout)["code"] == "ok", done
    assert {name: content(root, name) for name in everything_below(root)} == cases_formats.MANY
