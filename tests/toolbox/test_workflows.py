"""The workflows against the sample project's list, and against everything that makes a failed scan look clean."""

import json
import os
import re
import shutil
import subprocess

import pytest

import compare_findings
import steps
from steps import CLEAN, EXPECTED, FAILED, FINDINGS, SAMPLE, STEPS, TOOLCHAINS, WORKFLOWS, rules_of, run_step

ALL_STEPS = [(workflow, step) for workflow, steps in STEPS.items() for step in steps]
NOBODY = 65534
UNANALYSED = "unanalysed-file"
# Shaped like a token of a code host, random otherwise; put together here so that this file holds none.
TOKEN = "glpat-" + "a8Zk2LmQ9xVb3NcW7RtY"


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("workflow", STEPS)
def test_sample_project_gives_exactly_the_expected_findings(workflow, tmp_path):
    found = []
    for step in STEPS[workflow]:
        outcome = run_step(workflow, step, SAMPLE, tmp_path / step)
        assert outcome.code == (FINDINGS if outcome.findings else CLEAN), outcome.log
        found += outcome.findings
    expected = compare_findings.read_expected(EXPECTED, workflow)
    assert expected
    missed, false = compare_findings.compare(expected, found)
    assert not missed and not false, "\n" + compare_findings.describe(missed, false)


@pytest.mark.parametrize("workflow, step", ALL_STEPS)
def test_report_is_portable_sarif(workflow, step, tmp_path):
    outcome = run_step(workflow, step, SAMPLE, tmp_path / "run")
    text = json.dumps(outcome.report)
    for place in (str(SAMPLE), str(tmp_path), str(WORKFLOWS), str(TOOLCHAINS)):
        assert place not in text and place not in outcome.log
    run = outcome.report["runs"][0]
    assert run["invocations"][0]["executionSuccessful"] is True
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("note", "warning", "error") and result["message"]["text"]
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert not uri.startswith(("/", "file:")) and ".." not in uri.split("/")
        assert (SAMPLE / uri).is_file()


@pytest.mark.parametrize("workflow, step", ALL_STEPS)
def test_progress_goes_from_start_to_end(workflow, step, tmp_path):
    outcome = run_step(workflow, step, SAMPLE, tmp_path / "run")
    percents = [record["percent"] for record in outcome.progress]
    assert percents[0] == 0 and percents[-1] == 100 and percents == sorted(percents)
    assert all(record["type"] == "progress" and record["step"] == step for record in outcome.progress)
    by_hand = run_step(workflow, step, SAMPLE, tmp_path / "by-hand", with_progress=False)
    assert (by_hand.code, by_hand.findings) == (outcome.code, outcome.findings)


@pytest.mark.parametrize("workflow, step", ALL_STEPS)
def test_missing_target_fails(workflow, step, tmp_path):
    outcome = run_step(workflow, step, tmp_path / "nowhere", tmp_path / "run")
    assert outcome.code == FAILED and "TARGET_DIR" in outcome.log and outcome.report is None


@pytest.mark.parametrize("workflow, step", ALL_STEPS)
def test_empty_target_is_clean(workflow, step, target, tmp_path):
    outcome = run_step(workflow, step, target, tmp_path / "run")
    assert outcome.code == CLEAN and outcome.report["runs"][0]["results"] == [], outcome.log


@pytest.mark.parametrize("workflow, step", [s for s in ALL_STEPS if s[1] not in ("sensitive_files", "history")])
@pytest.mark.parametrize("code", [1, 3, 127, "segfault"])
def test_failing_tool_fails_the_step(workflow, step, code, target, tmp_path):
    write(target, "a.py", "eval(input())\n")
    action = "kill -SEGV $$" if code == "segfault" else f"exit {code}"
    tool = write(tmp_path / "bin", step, f"#!/bin/sh\necho it broke >&2\n{action}\n")
    tool.chmod(0o755)
    outcome = run_step(workflow, step, target, tmp_path / "run", path_first=tmp_path / "bin")
    assert outcome.code == FAILED and outcome.findings == []
    assert outcome.report["runs"][0]["invocations"][0]["executionSuccessful"] is False
    assert outcome.progress[-1]["message"].startswith("failed")


@pytest.mark.parametrize("workflow, step, tool", [("security_assessment", "bandit", "bandit"),
                                                  ("security_assessment", "semgrep", "semgrep"),
                                                  ("gitleaks_detection", "gitleaks", "gitleaks")])
@pytest.mark.parametrize("report", ["", "{", None])
def test_tool_that_ends_well_without_a_report_fails_the_step(workflow, step, tool, report, target, tmp_path):
    write(target, "a.py", "eval(input())\n")
    body = "#!/bin/sh\n" if report is None else (
        f"#!/bin/sh\nprintf '%s' '{report}' | tee $SCRATCH/{step}.json > $SCRATCH/ignored\n")
    write(tmp_path / "bin", tool, body).chmod(0o755)
    outcome = run_step(workflow, step, target, tmp_path / "run", path_first=tmp_path / "bin")
    assert outcome.code == FAILED and "report" in outcome.log


FAKE_TOOL = """#!/usr/bin/python3
import re, sys
line = " ".join(sys.argv)
if "version" in sys.argv:
    sys.exit(0)
open(re.search(r"--(?:report-path|json-output|output)[= ](\\S+)", line).group(1), "w").write('''%s''')
sys.exit(%d)
"""
CLEAN_REPORT = {"bandit": {"errors": [], "results": []}, "gitleaks": [],
                "semgrep": {"errors": [], "results": [], "paths": {"scanned": []}, "version": "0.0.0"}}
FINDING_CODE = {"bandit": 1, "semgrep": 1, "gitleaks": 42}


@pytest.mark.parametrize("step, code, result", [(step, code, result) for step in CLEAN_REPORT for code, result in (
    (0, CLEAN), (FINDING_CODE[step], FAILED), (3, FAILED))])
def test_clean_report_counts_only_with_the_clean_exit_code(step, code, result, target, tmp_path):
    """Beside the two failures stands the control: the same report with exit code 0 is clean."""
    write(target, "a.py", "eval(input())\n")
    write(tmp_path / "bin", step, FAKE_TOOL % (json.dumps(CLEAN_REPORT[step]), code)).chmod(0o755)
    workflow = next(workflow for workflow, name in ALL_STEPS if name == step)
    outcome = run_step(workflow, step, target, tmp_path / "run", path_first=tmp_path / "bin")
    assert outcome.code == result, outcome.log


@pytest.mark.parametrize("step", ["bandit", "semgrep"])
def test_file_with_a_syntax_error_is_a_finding(step, target, tmp_path):
    write(target, "broken.py", "eval(x)\n" + "(" * 50 + "\n")
    write(target, "fine.py", "eval(input())\n")
    outcome = run_step("security_assessment", step, target, tmp_path / "run")
    assert outcome.code == FINDINGS
    assert (UNANALYSED, "broken.py") in rules_of(outcome)
    assert str(target) not in json.dumps(outcome.report)
    assert any(file == "fine.py" for _, _, file, _ in outcome.findings)
    strict = run_step("security_assessment", step, target, tmp_path / "strict", {"unparsable": "fail"})
    assert strict.code == FAILED and "broken.py" in strict.log and strict.findings


def test_bandit_that_parses_nothing_fails(target, tmp_path):
    write(target, "broken.py", "def f(:\n")
    outcome = run_step("security_assessment", "bandit", target, tmp_path / "run")
    assert outcome.code == FAILED and "none of 1" in outcome.log


def test_partly_parsed_file_is_noted(target, tmp_path):
    write(target, "a.js", "function ( { eval(x)")
    outcome = run_step("security_assessment", "semgrep", target, tmp_path / "run")
    assert outcome.code == FINDINGS and (UNANALYSED, "a.js") in rules_of(outcome)


@pytest.mark.parametrize("step", ["bandit", "semgrep"])
def test_file_too_large_is_a_finding(step, target, tmp_path):
    write(target, "large.py", "x = 1  # " + "x" * 5_000_001 + "\n")
    outcome = run_step("security_assessment", step, target, tmp_path / "run")
    assert outcome.code == FINDINGS and rules_of(outcome) == {(UNANALYSED, "large.py")}


@pytest.mark.parametrize("rules", ["rules:\n- id: x\n  languages: [python]\n  severity: ERROR\n  message: m\n"
                                   "  metadata: {cwe: 'CWE-1: x', title: x}\n  pattern: 'foo('\n", "rules: [", ""])
def test_broken_rule_fails_the_step(rules, target, tmp_path):
    write(target, "a.py", "eval(input())\nfoo(1)\n")
    copy = tmp_path / "workflow"
    shutil.copytree(WORKFLOWS / "security_assessment", copy)
    write(copy / "rules", "broken.yaml", rules)
    outcome = run_step("security_assessment", "semgrep", target, tmp_path / "run", workflow_dir=copy)
    assert outcome.code == FAILED, outcome.log


@pytest.fixture(scope="module")
def open_toolchains(tmp_path_factory):
    """Copies of the toolchains that any uid can reach, for root's tests; a worker binds them instead."""
    folder = tmp_path_factory.mktemp("toolchains")
    if os.geteuid() == 0:
        for vertical in ("python", "secrets"):
            shutil.copytree((TOOLCHAINS / vertical).resolve(), folder / vertical, symlinks=True)
        let_others_in(folder)
    return folder


def let_others_in(folder):
    """Opens pytest's private folders above this one, as far as they are ours."""
    for place in (folder, *folder.parents):
        if place.stat().st_uid == os.geteuid() and not place.stat().st_mode & 0o001:
            place.chmod(place.stat().st_mode | 0o011)


@pytest.mark.parametrize("workflow, step", [s for s in ALL_STEPS if s[1] != "history"])
def test_unreadable_file_is_a_finding(workflow, step, target, tmp_path, open_toolchains, monkeypatch):
    """Root reads everything, so root has nobody run the step."""
    write(target, "secret.py", "eval(input())\n").chmod(0)
    write(target, "fine.py", "x = 1\n")
    copy, uid = tmp_path / "workflow", None
    shutil.copytree(WORKFLOWS / workflow, copy)
    if os.geteuid() == 0:
        monkeypatch.setattr(steps, "TOOLCHAINS", open_toolchains)
        let_others_in(tmp_path)
        uid = NOBODY
    outcome = run_step(workflow, step, target, tmp_path / "run", workflow_dir=copy, uid=uid)
    assert outcome.code == FINDINGS, outcome.log
    assert (UNANALYSED, "secret.py") in rules_of(outcome)


@pytest.mark.parametrize("workflow, step, name, text, rule", [
    ("security_assessment", "bandit", "one.py", "eval(input())\n", "B307"),
    ("security_assessment", "semgrep", "one.py", "eval(input())\n", "python-code-injection"),
    ("security_assessment", "sensitive_files", ".env", "DB_PASSWORD=Kielbound-1887\n", "dotenv-secret"),
    ("gitleaks_detection", "gitleaks", "one.txt", f"token: {TOKEN}\n", "gitlab-pat"),
])
def test_single_file_target(workflow, step, name, text, rule, target, tmp_path):
    write(target, "beside.py", text)
    outcome = run_step(workflow, step, write(target, name, text), tmp_path / "run")
    assert outcome.code == FINDINGS and rules_of(outcome) == {(rule, name)}, outcome.log


@pytest.mark.parametrize("workflow, step", ALL_STEPS)
def test_single_file_that_is_not_for_the_tool_is_clean(workflow, step, target, tmp_path):
    outcome = run_step(workflow, step, write(target, "notes.txt", "nothing here\n"), tmp_path / "run")
    assert outcome.code == CLEAN, outcome.log


def test_names_of_any_kind(target, tmp_path):
    for name in ("with space.py", "ünï.py", "per%20cent.py", "-dash.py", "new\nline.py"):
        write(target, name, "eval(input())\n")
    expected = {("B307", name) for name in ("with space.py", "ünï.py", "per%20cent.py", "-dash.py", "new\nline.py")}
    assert rules_of(run_step("security_assessment", "bandit", target, tmp_path / "run")) == expected


def test_parameter_exclude(target, tmp_path):
    for name in ("a.py", "vendor/b.py", "src/vendor/c.py", "src/d.min.py"):
        write(target, name, f"eval(input())\ntoken = '{TOKEN}'\n")
    cases = [
        (["vendor"], {"a.py", "src/d.min.py"}),
        (["/vendor"], {"a.py", "src/vendor/c.py", "src/d.min.py"}),
        (["vendor/**"], {"a.py", "src/vendor/c.py", "src/d.min.py"}),
        (["**/vendor/*.py"], {"a.py", "src/d.min.py"}),
        (["*.min.py"], {"a.py", "vendor/b.py", "src/vendor/c.py"}),
        (["src/"], {"a.py", "vendor/b.py"}),
    ]
    for number, (patterns, left) in enumerate(cases):
        for workflow, step in (s for s in ALL_STEPS if s[1] in ("bandit", "semgrep", "gitleaks")):
            outcome = run_step(workflow, step, target, tmp_path / f"{step}-{number}", {"exclude": patterns})
            assert {file for _, _, file, _ in outcome.findings} == left, (step, patterns)


@pytest.mark.parametrize("threshold, levels", [("note", {"note", "warning", "error"}), ("warning", {"warning", "error"}),
                                               ("error", {"error"})])
def test_parameter_severity_threshold(threshold, levels, tmp_path):
    outcome = run_step("security_assessment", "bandit", SAMPLE, tmp_path / "run", {"severity_threshold": threshold})
    assert {result["level"] for result in outcome.report["runs"][0]["results"]} == levels


def test_parameter_tools(tmp_path):
    outcome = run_step("security_assessment", "bandit", SAMPLE, tmp_path / "run", {"tools": ["semgrep"]})
    assert outcome.code == CLEAN and "not selected" in json.dumps(outcome.report)


@pytest.mark.parametrize("step, line, rule", [("bandit", "eval(input())  # nosec\n", "B307"),
                                              ("semgrep", "eval(input())  # nosemgrep\n", "python-code-injection")])
def test_parameter_honour_suppressions(step, line, rule, target, tmp_path):
    write(target, "a.py", line)
    assert run_step("security_assessment", step, target, tmp_path / "yes").code == CLEAN
    outcome = run_step("security_assessment", step, target, tmp_path / "no", {"honour_suppressions": False})
    assert rules_of(outcome) == {(rule, "a.py")}


def test_settings_of_the_target_do_not_weaken_the_scan(target, tmp_path):
    write(target, "tests/a.py", f"eval(input())\nkey = '{TOKEN}'\n")
    write(target, ".bandit", "[bandit]\nskips = B307\nexclude = tests\n")
    write(target, ".semgrepignore", "tests/\n")
    write(target, ".gitignore", "tests/\n")
    write(target, ".gitleaks.toml", "[allowlist]\npaths = ['.*']\n")
    write(target, ".gitleaksignore", "tests/a.py:gitlab-pat:2\n")
    subprocess.run(["git", "init", "-q", str(target)], check=True)
    for workflow, step, rule in (("security_assessment", "bandit", "B307"),
                                 ("security_assessment", "semgrep", "python-code-injection"),
                                 ("gitleaks_detection", "gitleaks", "gitlab-pat")):
        assert rules_of(run_step(workflow, step, target, tmp_path / step)) == {(rule, "tests/a.py")}
    yes = run_step("gitleaks_detection", "gitleaks", target, tmp_path / "honoured", {"honour_suppressions": True})
    assert yes.code == CLEAN


def git(folder, *arguments):
    settings = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *settings, *arguments], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def repository(target):
    """A secret that was committed and then removed."""
    git(target, "init", "-q")
    write(target, "deploy.txt", f"token: {TOKEN}\n")
    git(target, "add", "-A")
    git(target, "commit", "-qm", f"first, with {TOKEN}")
    (target / "deploy.txt").unlink()
    write(target, "readme.txt", "nothing\n")
    git(target, "add", "-A")
    git(target, "commit", "-qm", "second")
    return target


@pytest.mark.parametrize("packed", [False, True])
def test_history_finds_what_was_removed(packed, repository, tmp_path):
    if packed:
        git(repository, "gc", "-q")
    outcome = run_step("gitleaks_detection", "history", repository, tmp_path / "run")
    assert outcome.findings == [("gitleaks", "gitlab-pat", "deploy.txt", 1)]
    assert re.fullmatch("[0-9a-f]{40}", outcome.report["runs"][0]["results"][0]["properties"]["commit"])
    assert run_step("gitleaks_detection", "gitleaks", repository, tmp_path / "dir").code == CLEAN
    off = run_step("gitleaks_detection", "history", repository, tmp_path / "off", {"scan_history": False})
    assert off.code == CLEAN and "not asked for" in off.log


def test_secrets_never_leave_redacted_form(repository, tmp_path):
    write(repository, "now.txt", f"token: {TOKEN}\n")
    for step in STEPS["gitleaks_detection"]:
        outcome = run_step("gitleaks_detection", step, repository, tmp_path / step)
        assert outcome.code == FINDINGS
        # Gitleaks' own report of the history quotes commit messages; it stays in scratch.
        below = tmp_path / step / ("out" if step == "history" else "")
        assert not [p for p in below.rglob("*") if p.is_file() and TOKEN.encode() in p.read_bytes()]
        assert TOKEN not in json.dumps(outcome.report) + json.dumps(outcome.progress) + outcome.log


def test_damaged_history_fails(repository, tmp_path):
    blob = subprocess.run(["git", "-C", str(repository), "rev-parse", "HEAD~1:deploy.txt"], check=True,
                          stdout=subprocess.PIPE, text=True).stdout.strip()
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    outcome = run_step("gitleaks_detection", "history", repository, tmp_path / "run")
    assert outcome.code == FAILED and "missing" in outcome.log


def test_repository_configuration_starts_no_program(repository, tmp_path):
    witness = tmp_path / "witness"
    program = write(tmp_path, "program", f"#!/bin/sh\ntouch {witness}\ncat \"$1\"\n")
    program.chmod(0o755)
    write(repository, ".gitattributes", "*.txt diff=evil\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "attributes")
    for key in ("diff.evil.textconv", "core.fsmonitor", "gpg.program", "core.pager"):
        git(repository, "config", key, str(program))
    git(repository, "config", "log.showSignature", "true")
    witness.unlink(missing_ok=True)
    outcome = run_step("gitleaks_detection", "history", repository, tmp_path / "run")
    assert outcome.code == FINDINGS and not witness.exists()


def test_compare_findings_sees_missed_and_false(tmp_path):
    expected = [("t", "r", "a.py", 1), ("t", "r", "b.py", 2)]
    assert compare_findings.compare(expected, expected) == ([], [])
    missed, false = compare_findings.compare(expected, [expected[0], expected[0], ("t", "r", "b.py", 3)])
    assert missed == [expected[1]] and false == [expected[0], ("t", "r", "b.py", 3)]


def test_compare_findings_as_a_script(tmp_path):
    run_step("security_assessment", "sensitive_files", SAMPLE, tmp_path / "run")
    argv = ["--expected", str(EXPECTED), "--workflow", "security_assessment"]
    sarif = str(tmp_path / "run" / "out" / "sensitive_files.sarif")
    assert compare_findings.main([*argv, "--tool", "sensitive_files", sarif]) == 0
    assert compare_findings.main([*argv, sarif]) == 1
    assert compare_findings.main([*argv, str(tmp_path / "none.sarif")]) == 2
