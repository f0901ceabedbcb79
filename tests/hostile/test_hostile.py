"""Every archive of archives.py against the real, confined helper."""

import json
import os
import stat
import subprocess
import time
from pathlib import Path

import pytest

from archives import CASES

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(os.environ.get("DROVER_BUILD", ROOT / "build")) / "tests" / "extract_driver"
LONGEST_S = 30  # of one case; the bombs take the longest
# Sanitizers need the address space that the helper's memory limit takes away, so it is not set there.
SANITIZED = bool(os.environ.get("DROVER_SANITIZE"))


def everything_below(top: Path) -> set[str]:
    found = set()
    for folder, dirs, files in os.walk(top):
        found |= {os.path.relpath(os.path.join(folder, name), top) for name in dirs + files}
    return found


@pytest.fixture
def nest(tmp_path):
    """A root among witnesses: what an escape would touch."""
    root = tmp_path / "a" / "b" / "root"
    root.mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(root, 12345, 12345)
    for folder in (tmp_path, tmp_path / "a", tmp_path / "a" / "b"):
        (folder / "evil").write_text("untouched")
    return tmp_path, root


def check_safe(root: Path):
    for folder, dirs, files in os.walk(root):
        for name in dirs + files:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            assert stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode) or stat.S_ISLNK(info.st_mode), path
            assert not info.st_mode & 0o7000 or stat.S_ISLNK(info.st_mode), path
            assert not os.listxattr(path, follow_symlinks=False), path
            if stat.S_ISDIR(info.st_mode):
                assert info.st_mode & 0o700 == 0o700, path
            if stat.S_ISREG(info.st_mode):
                assert info.st_mode & 0o600 == 0o600, path
            if stat.S_ISLNK(info.st_mode):
                target = os.path.realpath(path)
                assert target == str(root) or target.startswith(str(root) + "/"), path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_verdict(case, nest):
    if SANITIZED and case.name == "xz_dictionary":
        pytest.skip("no memory limit in a sanitizer build")
    top, root = nest
    archive = top / "archive"
    archive.write_bytes(case.make())
    outside = everything_below(top)
    limits = [f"{name}={value}" for name, value in case.limits.items()]
    started = time.monotonic()
    done = subprocess.run([DRIVER, archive, root, *limits], capture_output=True, timeout=LONGEST_S, check=False)
    assert time.monotonic() - started < LONGEST_S
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    line = done.stdout.decode()
    assert all(character.isprintable() or character == "\n" for character in line), "an error that moves the terminal"
    verdict = json.loads(line)

    allowed = (case.verdict,) if isinstance(case.verdict, str) else case.verdict
    assert verdict["code"] in allowed, verdict
    if verdict["code"] != "ok":
        assert case.rule in verdict["msg"], verdict
        assert verdict["msg"] and verdict["hint"], verdict
    elif case.tree is not None:
        assert everything_below(root) == case.tree
    check_safe(root)
    inside = {os.path.join("a/b/root", name) for name in everything_below(root)}
    assert everything_below(top) - inside == outside, "something was made outside"
    for folder in (top, top / "a", top / "a" / "b"):
        assert (folder / "evil").read_text() == "untouched"
    assert not os.path.exists("/tmp/drover-evil")
