"""The images of the verticals as they are shipped: built without a registry, and a scan in them.

The base is a Debian 12 root: debootstrap makes one, once, in ~/.cache/drover (or DROVER_TEST_BASE names a tar of one). Needs a
Docker engine, root and a package mirror; without them the tests are skipped with the reason.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from rig import Drover, binaries, wait

sys.path.insert(0, os.path.join(binaries.ROOT, "tests", "toolbox"))
import compare_findings  # noqa: E402 - a script that is a module as well

EXAMPLES = os.path.join(binaries.ROOT, "examples")
VERTICAL = "python"
WORKFLOW = "security_assessment"
BASE = "drover-test-base:bookworm"
IMAGE = "drover/vertical-python:1.0.0"  # as vertical.yaml has it
BUILD_S, SCAN_S = 1500, 280

pytestmark = pytest.mark.timeout(BUILD_S + SCAN_S)


def missing(why):
    """Skip, or fail where DROVER_NEED_DOCKER=1 says that an engine is there."""
    (pytest.fail if os.environ.get("DROVER_NEED_DOCKER") == "1" else pytest.skip)(why)


def base_root(folder):
    """A tar of a Debian 12 root."""
    given = os.environ.get("DROVER_TEST_BASE")
    kept = given or os.path.expanduser("~/.cache/drover/bookworm-root.tar")
    if os.path.exists(kept):
        return kept
    if not shutil.which("debootstrap", path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
        pytest.skip("no debootstrap and no DROVER_TEST_BASE: nothing to build the images from")
    root = os.path.join(folder, "bookworm")
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", "bookworm", root], capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"debootstrap made no root, is a mirror reachable? {done.stdout[-500:]}{done.stderr[-500:]}")
    subprocess.run(["tar", "-C", root, "-cf", kept + ".new", "."], check=True)
    os.replace(kept + ".new", kept)
    shutil.rmtree(root)
    return kept


def import_base(engine, folder):
    """The root as an image that trusts what this machine trusts: its package mirrors may need that. An engine keeps it."""
    if engine("image", "inspect", BASE, check=False).returncode == 0:
        return
    context = os.path.join(folder, "base")
    os.makedirs(context)
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", os.path.join(context, "host-ca.pem"))
    with open(base_root(folder), "rb") as tar:
        engine("import", "-", f"{BASE}-plain", input=tar.read())
    lines = f"FROM {BASE}-plain\nCOPY host-ca.pem /etc/host-ca.pem\nENV PIP_CERT=/etc/host-ca.pem\n"
    with open(os.path.join(context, "Dockerfile"), "w", encoding="utf-8") as file:
        file.write(lines)
    engine("build", "-q", "-t", BASE, context)


@pytest.fixture(name="image", scope="module")
def image_fixture(session_rig):
    """The vertical's image, built as its Dockerfile says from a context as .dockerignore leaves it."""
    engine = session_rig.docker
    if engine is None:
        missing(session_rig.no_docker)
    if os.geteuid() != 0:
        missing("only root can make a Debian root")
    folder = os.path.join(session_rig.folder, "image")
    context = os.path.join(folder, "context")
    shutil.copytree(os.path.join(binaries.ROOT, "toolbox"), os.path.join(context, "toolbox"))
    os.makedirs(os.path.join(context, "build", "bin"))
    for program in ("drover-worker", "drover-sandbox"):
        shutil.copy(binaries.drover(program), os.path.join(context, "build", "bin", program))
    import_base(engine, folder)
    file = os.path.join(context, "toolbox", "verticals", VERTICAL, "Dockerfile")
    engine("build", "--network", "host", "--build-arg", f"BASE={BASE}", "-f", file, "-t", IMAGE, context)
    yield IMAGE
    engine("rmi", "-f", IMAGE, check=False)


def project_files():
    root = os.path.join(EXAMPLES, "sample-project")
    paths = (os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)
    files = {}
    for path in paths:
        with open(path, "rb") as file:
            files[os.path.relpath(path, root)] = file.read()
    return files


def tools_of(drover):
    """What the one worker that came says it has; empty until it is there."""
    workers = drover.get("/v1/workers")["workers"]
    return workers[0]["tools"] if workers else {}


def test_tools_are_there_for_any_user(session_rig, image):
    """Each tool answers its probe in the vertical's toolchain, as a user who owns nothing on a root that cannot be written."""
    script = (
        "set -e; t=/opt/drover/toolchains/python; test -r $t/vertical.yaml; PATH=$t/bin:$PATH; export PATH; id -u; "
        "bandit --version; semgrep --disable-version-check --version; python3 -m drover_step; drover-worker -version"
    )
    rights = ["--user", "65534:65534", "--cap-drop", "all", "--read-only", "--tmpfs", "/tmp", "--env", "HOME=/tmp"]
    done = session_rig.docker("run", "--rm", "--network", "host", *rights, "--entrypoint", "sh", image, "-c", script)
    assert done.stdout.splitlines()[0] == "65534"
    assert "bandit " in done.stdout and "drover-worker " in done.stdout


def test_sample_project_in_the_shipped_image(session_rig, image):
    """Nomad starts the shipped image without any capability; the scan finds exactly what was planted, confined on rung 2."""
    rig = session_rig
    os.chmod(rig.client.cache_folder, 0o777)
    settings = {"DROVER_DRIVER": "docker", "DOCKER_NETWORK": "host", "CACHE_VOLUME": "drover-cache", "WORKER_ENV_FILE": ""}
    drover = Drover(rig, None, settings)
    try:
        drover.start()
        run = drover.submit(WORKFLOW, drover.upload(project_files()))
        tools = wait.until("the worker to say what it has", lambda: tools_of(drover), SCAN_S)
        assert {"bandit", "semgrep", "drover_step"} <= set(tools), tools
        run = drover.wait_run(run["id"], timeout_s=SCAN_S)
        assert run["state"] == "completed", drover.logs(run["id"])[-4000:]
        assert run["sandbox"]["rung"] == 2, run["sandbox"]
        report = drover.findings(run["id"])
        assert all(i["executionSuccessful"] for part in report["runs"] for i in part.get("invocations", []))
        sarif = os.path.join(drover.folder, "found.sarif")
        with open(sarif, "w", encoding="utf-8") as file:
            json.dump(report, file)
        expected = compare_findings.read_expected(os.path.join(EXAMPLES, "sample-project.expected.json"), WORKFLOW)
        missed, false = compare_findings.compare(expected, compare_findings.read_sarif(sarif))
        assert not missed and not false, compare_findings.describe(missed, false)
    finally:
        drover.close()
