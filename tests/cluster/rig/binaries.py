"""Where the programs under test and the real servers are."""

import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILD_SCRIPT = os.path.join(ROOT, "tools", "servers", "build.sh")


def server(name):
    """Path of a server of tools/servers/servers.tsv; fails with the command that builds it."""
    found = subprocess.run([BUILD_SCRIPT, "--path", name], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr.strip()
    return found.stdout.strip()


def drover(name):
    """Path of drover, drover-dispatcher, …; DROVER_BIN chooses another build, such as the one with sanitizers."""
    folder = os.environ.get("DROVER_BIN") or os.path.join(ROOT, "build", "bin")
    path = os.path.abspath(os.path.join(folder, name))
    assert os.access(path, os.X_OK), f"{path} is not built: run make"
    return path
