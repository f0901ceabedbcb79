"""Runs one step of a workflow the way a worker does: its environment, its toolchain, progress on descriptor 3."""

import json
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import compare_findings

REPOSITORY = Path(__file__).resolve().parents[2]
WORKFLOWS = REPOSITORY / "toolbox" / "workflows"
SAMPLE = REPOSITORY / "examples" / "sample-project"
EXPECTED = REPOSITORY / "examples" / "sample-project.expected.json"
TOOLCHAINS = Path(os.environ.get("DROVER_TOOLCHAINS") or Path.home() / ".cache" / "drover" / "toolchains")

CLEAN, FAILED, FINDINGS = 0, 2, 10
VERTICAL = {"security_assessment": "python", "gitleaks_detection": "secrets"}
STEPS = {"security_assessment": ("bandit", "semgrep", "sensitive_files"), "gitleaks_detection": ("gitleaks", "history")}
STEP_TIMEOUT_S = 300


class Outcome(NamedTuple):
    """What a step left behind. `report` is None when it wrote none."""
    code: int
    log: str
    progress: list
    report: dict
    findings: list


def toolchain(vertical):
    """The bin folder of a vertical's toolchain; it must hold the step library of this tree."""
    binaries = TOOLCHAINS / vertical / "bin"
    hint = f"run toolbox/verticals/{vertical}/install.sh"
    assert (binaries / "python3").exists(), f"the toolchain of vertical {vertical} is not installed: {hint}"
    installed = list((TOOLCHAINS / vertical).glob("lib/python3*/site-packages/drover_step.py"))
    ours = REPOSITORY / "toolbox" / "lib" / "drover_step.py"
    assert installed and installed[0].read_bytes() == ours.read_bytes(), f"the toolchain {vertical} is stale: {hint}"
    return binaries


def run_step(workflow, step, target, folder, params=None, *, workflow_dir=None, with_progress=True, path_first=None,
             uid=None):
    """Runs a step on a folder or a file. `folder` is private to the call; `path_first` goes before the toolchain."""
    out, scratch, params_file = folder / "out", folder / "scratch", folder / "params.json"
    out.mkdir(parents=True)
    scratch.mkdir()
    params_file.write_text(json.dumps(params or {}), encoding="utf-8")
    if uid is not None:
        for place in (out, scratch):
            os.chown(place, uid, uid)
    workflow_dir = workflow_dir or WORKFLOWS / workflow
    path = [str(toolchain(VERTICAL[workflow])), "/usr/bin", "/bin"]
    environment = {
        "PATH": ":".join(([str(path_first)] if path_first else []) + path), "HOME": str(scratch), "OUT": str(out),
        "SCRATCH": str(scratch), "PARAMS_FILE": str(params_file), "RUN_ID": f"{workflow}-0000000000000001",
        "WORKFLOW_DIR": str(workflow_dir), "PYTHONDONTWRITEBYTECODE": "1",
        "TARGET_FILE" if Path(target).is_file() else "TARGET_DIR": str(target),
    }
    command = ["python3", str(workflow_dir / f"{step}_step.py")]
    progress_path = folder / "progress"
    shell = ["sh", "-c", 'exec "$@" 3>"$0"', str(progress_path)] if with_progress else []
    if with_progress:
        progress_path.touch(mode=0o666)
        progress_path.chmod(0o666)
    done = subprocess.run(shell + command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=STEP_TIMEOUT_S, check=False, user=uid, group=uid,
                          extra_groups=[] if uid is not None else None)
    lines = progress_path.read_text(encoding="utf-8").splitlines() if with_progress else []
    sarif = out / f"{step}.sarif"
    report = json.loads(sarif.read_text(encoding="utf-8")) if sarif.exists() else None
    return Outcome(done.returncode, done.stdout.decode("utf-8", "replace"), [json.loads(line) for line in lines], report,
                   compare_findings.read_sarif(sarif) if report else [])


def rules_of(outcome):
    """The set of (rule, file) of a step's findings."""
    return {(rule, file) for _, rule, file, _ in outcome.findings}
