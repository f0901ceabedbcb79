"""The shipped workflows on the sample project, compared with the list of what must be found: both missed and false."""

import json
import os
import sys

import pytest

from rig import Drover
from rig.binaries import ROOT

sys.path.insert(0, os.path.join(ROOT, "tests", "toolbox"))
import compare_findings  # noqa: E402 - a script that is a module as well

EXAMPLES = os.path.join(ROOT, "examples")


@pytest.fixture(name="shipped", scope="module")
def shipped_fixture(embedded_rig):
    """A dispatcher with the repository's own toolbox, and a worker for each vertical."""
    drover = Drover(embedded_rig).start()
    for vertical in ("python", "secrets"):
        drover.add_worker(vertical)
    yield drover
    drover.close()


def check(drover, run, sarif_path, workflow):
    with open(sarif_path, encoding="utf-8") as file:
        report = json.load(file)
    assert all(i["executionSuccessful"] for part in report["runs"] for i in part.get("invocations", []))
    expected = compare_findings.read_expected(os.path.join(EXAMPLES, "sample-project.expected.json"), workflow)
    missed, false = compare_findings.compare(expected, compare_findings.read_sarif(sarif_path))
    assert not missed and not false, compare_findings.describe(missed, false)
    assert run["findings"]["total"] == len(expected)


@pytest.mark.parametrize("workflow", ["security_assessment", "gitleaks_detection"])
def test_sample_project(shipped, workflow, tmp_path):
    """As an analyst does it: one command, whose SARIF file holds exactly what was planted."""
    sarif = os.path.join(shipped.folder, f"{workflow}.sarif")
    done = shipped.cli("run", workflow, os.path.join(EXAMPLES, "sample-project"), "--wait", "--sarif", sarif, timeout_s=280)
    assert "error" in done.stdout
    run = next(run for run in shipped.runs() if run["workflow"] == workflow)
    check(shipped, shipped.run(run["id"]), sarif, workflow)


def test_fail_on_decides_the_exit_code(shipped):
    project = os.path.join(EXAMPLES, "sample-project")
    shipped.cli("run", "gitleaks_detection", project, "--wait", "--fail-on", "error", check=1, timeout_s=280)
