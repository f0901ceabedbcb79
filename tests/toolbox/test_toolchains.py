"""install.sh of the verticals: what it leaves, that a second call does nothing, and that readers never see half a one."""

import os
import re
import shutil
import subprocess

import pytest

from steps import REPOSITORY, toolchain

VERTICALS = REPOSITORY / "toolbox" / "verticals"
NAMES = sorted(path.parent.name for path in VERTICALS.glob("*/vertical.yaml"))
SECONDS_WHEN_INSTALLED = 10


def install(vertical, root, scripts=VERTICALS, path=None, timeout_s=600):
    environment = {**os.environ, "DROVER_TOOLCHAINS": str(root), **({"PATH": path} if path else {})}
    return subprocess.run(["/bin/sh", str(scripts / vertical / "install.sh")], env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=timeout_s, check=False)


def state(root):
    return {str(path.relative_to(root)): path.lstat().st_mtime_ns for path in root.rglob("*")}


@pytest.mark.parametrize("vertical", NAMES)
def test_probes_answer_from_the_toolchain_alone(vertical, tmp_path):
    environment = {"PATH": f"{toolchain(vertical)}:/usr/bin:/bin", "HOME": str(tmp_path)}
    probes = re.findall(r"probe: \[(.*)\]", (VERTICALS / vertical / "vertical.yaml").read_text(encoding="utf-8"))
    assert len(probes) >= 2
    for probe in probes:
        done = subprocess.run([word.strip().strip('"') for word in probe.split(",")], env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        assert done.returncode == 0 and re.search(r"\d+\.\d+\.\d+", done.stdout), (probe, done.stdout)


@pytest.mark.parametrize("vertical", NAMES)
def test_pins_are_what_is_installed(vertical):
    pins = {"python": {"bandit": "1.9.4", "semgrep": "1.182.0"}, "secrets": {"gitleaks": "8.30.1"}}[vertical]
    text = "".join(path.read_text(encoding="utf-8") for path in (VERTICALS / vertical).glob("*") if path.is_file())
    for tool, version in pins.items():
        assert version in text
        argv = [str(toolchain(vertical) / tool), "version" if tool == "gitleaks" else "--version"]
        shown = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, timeout=60,
                               env={**os.environ, "PATH": f"{toolchain(vertical)}:/usr/bin:/bin",
                                    "SEMGREP_ENABLE_VERSION_CHECK": "0"}).stdout
        assert version in shown


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The quick vertical, installed once into a place of its own."""
    root = tmp_path_factory.mktemp("install")
    done = install("secrets", root)
    assert done.returncode == 0, done.stdout
    return root


def test_second_call_changes_nothing(installed):
    before = state(installed)
    done = install("secrets", installed, timeout_s=SECONDS_WHEN_INSTALLED)
    assert done.returncode == 0 and "up to date" in done.stdout
    assert state(installed) == before


def test_everything_is_readable_and_relocatable(installed, tmp_path):
    for path in (installed / "secrets").resolve().rglob("*"):
        mode = path.stat().st_mode
        assert mode & 0o004 and (not path.is_dir() or mode & 0o001), path
        if path.parent.name == "bin" and path.is_file() and not path.is_symlink():
            assert not path.read_bytes().startswith(b"#!" + str(installed).encode())
    moved = tmp_path / "elsewhere"
    shutil.copytree((installed / "secrets").resolve(), moved, symlinks=True)
    for argv in ([moved / "bin" / "gitleaks", "version"], [moved / "bin" / "python3", "-m", "drover_step"]):
        assert subprocess.run(argv, stdout=subprocess.DEVNULL, timeout=60, check=False).returncode == 0


def test_half_an_installation_is_done_again(installed):
    (installed / "secrets").resolve().joinpath(".complete").unlink()
    (installed / "secrets").resolve().joinpath("bin", "gitleaks").unlink()
    done = install("secrets", installed)
    assert done.returncode == 0 and "installed in" in done.stdout
    assert (installed / "secrets" / "bin" / "gitleaks").exists()


def test_new_pins_replace_the_old_ones(installed, tmp_path):
    toolbox = tmp_path / "toolbox"
    shutil.copytree(REPOSITORY / "toolbox", toolbox)
    first = (installed / "secrets").resolve()
    versions = []
    for number in range(2):
        with open(toolbox / "lib" / "drover_step.py", "a", encoding="utf-8") as file:
            file.write(f"# change {number}\n")
        done = install("secrets", installed, scripts=toolbox / "verticals")
        assert done.returncode == 0, done.stdout
        versions.append((installed / "secrets").resolve())
    assert len({first, *versions}) == 3
    assert not first.exists() and all(version.exists() for version in versions)
    assert [p.name for p in (installed / ".versions").iterdir() if ".stage" in p.name] == []


@pytest.mark.parametrize("missing", ["go", "git"])
def test_missing_command_is_named_with_a_hint(missing, tmp_path):
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("sh", "cat", "cut", "sha256sum", "flock", "dirname", "mkdir", "mktemp", "readlink", "rm", "chmod", "go",
                 "git", "python3", "stat"):
        found = shutil.which(name)
        if name != missing and found:
            (commands / name).symlink_to(found)
    done = install("secrets", tmp_path / "root", path=str(commands))
    assert done.returncode == 1 and f"{missing} is missing" in done.stdout and "hint:" in done.stdout
    assert not (tmp_path / "root" / "secrets").exists()
    assert [p.name for p in (tmp_path / "root" / ".versions").iterdir()] == []


def test_failing_build_leaves_nothing(tmp_path):
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "go").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    (commands / "go").chmod(0o755)
    done = install("secrets", tmp_path / "root", path=f"{commands}:{os.environ['PATH']}")
    assert done.returncode == 1 and "could not build gitleaks" in done.stdout
    assert not (tmp_path / "root" / "secrets").exists()
    assert list((tmp_path / "root" / ".versions").iterdir()) == []
